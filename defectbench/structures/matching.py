"""Symmetry-aware comparison of two relaxed defect structures in one fixed supercell.

The root mean square deviation (RMSD) of a candidate from a reference is

    RMSD = min over g, P, t of sqrt( (1/N) sum_i | g(x_P(i)) + t - y_i |^2 )

with g an operation of the host supercell's space group (its pure translations included), P a permutation within each
species, t a rigid translation, and every difference taken to its minimum image. The cell is fixed, nothing is scaled.

How the minimum is found. Both structures are first laid onto the host sites (:func:`host_translation`), so that an
arbitrary origin does not matter. For fixed g and P the best t is the mean difference, and since a permutation does not change
a sum of positions, every such t lies on the lattice ``(mean(y) - mean(g(x))) + L/N``, L being the supercell's lattice: a handful
of points within ``R = |cell diagonal|/N`` of the alignment (a vacancy that sits elsewhere in the cell shifts the mean by less
than that). At each point the best permutation is a linear assignment (Crouse 2016, doi:10.1109/TAES.2016.140952, through
scipy). So the minimum over that ball is exact, not the end of a descent. Two bounds skip most of the work without changing the
result: a sum of nearest-neighbour distances is never above an assignment, and a stationary t costs at least
``(cost at t') - |t - t'|^2``.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from defectbench.errors import DefectbenchError

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.intp]

LOCAL_RADIUS = 5.0
"""Å: atoms of the reference within this distance of the defect make up the local RMSD."""

DEFAULT_SYMPREC = 0.05
"""Å: tolerance for the host's symmetry; DFT-relaxed hosts are symmetric to about 0.01 Å."""

_CELL_TOLERANCE = 1e-3
_OTHER_CELL = "cannot compare structures in different cells (lattice vectors differ by more than 0.001 Å); matching keeps the cell fixed"
_CACHE_SIZE = 8192


class MatchingError(DefectbenchError):
    """Two structures that cannot be compared: other composition, other cell, or atoms that do not fit the host."""


@dataclass(frozen=True, eq=False)
class Lattice:
    """A lattice for minimum-image arithmetic, in a Minkowski-reduced basis.

    Attributes:
        cell: the reduced lattice vectors as rows, (3, 3), Å; they span the same lattice as the cell given.
        inverse: inverse of ``cell``.
        orthogonal: the reduced vectors are orthogonal, so that rounding fractional differences is exact.
        inradius: half the smallest distance between lattice planes, Å; a rounded difference shorter than this is minimal.
    """

    cell: Floats
    inverse: Floats
    orthogonal: bool
    inradius: float

    @classmethod
    def of(cls, cell: ArrayLike) -> Lattice:
        """The lattice of a cell given as rows in Å; raises :class:`MatchingError` for a cell without volume."""
        from ase.geometry import minkowski_reduce

        rows = np.array(cell, dtype=float)
        if rows.shape != (3, 3) or not np.all(np.isfinite(rows)) or abs(np.linalg.det(rows)) < 1e-6:
            raise MatchingError("structures are compared in three-dimensional periodic cells; this cell has no volume")
        reduced = np.asarray(minkowski_reduce(rows)[0], dtype=float)
        gram = reduced @ reduced.T
        orthogonal = bool(np.all(np.abs(gram - np.diag(np.diag(gram))) < 1e-8 * np.max(np.diag(gram))))
        inverse = np.linalg.inv(reduced)
        spacing = 1.0 / np.linalg.norm(inverse, axis=0)
        return cls(reduced, inverse, orthogonal, float(spacing.min()) / 2.0)

    @property
    def diagonal(self) -> float:
        """Longest body diagonal of the reduced cell, Å."""
        signs = np.array([[1, 1, 1], [1, 1, -1], [1, -1, 1], [-1, 1, 1]])
        return float(np.linalg.norm(signs @ self.cell, axis=1).max())

    def minimum_image(self, differences: Floats) -> Floats:
        """The shortest equivalents of Cartesian differences (…, 3), Å."""
        fractional = differences @ self.inverse
        out = np.asarray((fractional - np.rint(fractional)) @ self.cell)
        if self.orthogonal:
            return out
        long = np.einsum("...k,...k->...", out, out) > self.inradius**2
        if np.any(long):
            shifts = np.array([(i, j, k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)], dtype=float) @ self.cell
            images = out[long][:, None, :] + shifts
            best = np.einsum("msk,msk->ms", images, images).argmin(axis=1)
            out[long] = images[np.arange(len(best)), best]
        return out

    def squared_distances(self, first: Floats, second: Floats) -> Floats:
        """Squared minimum-image distances between points (…, n, 3) and (m, 3): (…, n, m), Å²."""
        if not self.orthogonal:
            differences = self.minimum_image(first[..., :, None, :] - second)
            return np.asarray(np.einsum("...k,...k->...", differences, differences))
        lengths = np.linalg.norm(self.cell, axis=1)
        a, b = (first @ self.inverse), (second @ self.inverse)
        total: Floats | None = None
        for axis in range(3):
            difference = a[..., :, None, axis] - b[:, axis]
            difference -= np.rint(difference)
            difference *= lengths[axis]
            difference *= difference
            if total is None:
                total = difference
            else:
                total += difference
        assert total is not None
        return total

    def squared_distance_bounds(self, first: Floats, second: Floats) -> Floats:
        """Lower bounds of :meth:`squared_distances`, exact up to the inradius: cheap in skewed cells, the same in orthogonal ones.

        A vector shorter than half of every spacing of lattice planes is what rounding gives; so a longer rounded one has no image
        shorter than that.
        """
        if self.orthogonal:
            return self.squared_distances(first, second)
        a, b, metric = first @ self.inverse, second @ self.inverse, self.cell @ self.cell.T
        parts: list[Floats] = []
        total: Floats | None = None
        for axis in range(3):
            difference = a[..., :, None, axis] - b[:, axis]
            difference -= np.rint(difference)
            weighted = metric[axis, axis] * difference
            for other, part in enumerate(parts):
                weighted += (2.0 * metric[axis, other]) * part
            weighted *= difference
            total = weighted if total is None else total + weighted
            parts.append(difference)
        assert total is not None
        return np.asarray(np.minimum(total, self.inradius**2))


@dataclass(frozen=True, eq=False)
class Operations:
    """The space-group operations of a host supercell, and what aligning to that host needs.

    Attributes:
        rotations: (M, 3, 3) integer matrices W on fractional coordinates of ``cell``.
        translations: (M, 3) fractional translations w: an operation takes x to W x + w.
        symprec: tolerance they were found with, Å.
        space_group: international symbol of the host.
        cell: the host's cell as rows, (3, 3), Å.
        host_numbers: atomic numbers of the host, (N,).
        host_positions: Cartesian positions of the host, (N, 3), Å.
        lattice: for minimum images.
        key: hash of the content, for caches.
    """

    rotations: NDArray[np.int64]
    translations: Floats
    symprec: float
    space_group: str
    cell: Floats
    host_numbers: NDArray[np.int64]
    host_positions: Floats
    lattice: Lattice
    key: str
    inverse_cell: Floats = field(repr=False)

    def __len__(self) -> int:
        return len(self.rotations)

    def apply(self, index: int, positions: ArrayLike) -> Floats:
        """Operation ``index`` on Cartesian positions (n, 3), Å."""
        fractional = np.asarray(positions, dtype=float) @ self.inverse_cell
        return np.asarray((fractional @ self.rotations[index].T + self.translations[index]) @ self.cell)

    def images(self, positions: ArrayLike) -> Floats:
        """All images of Cartesian positions (n, 3): (M, n, 3), Å."""
        fractional = np.asarray(positions, dtype=float) @ self.inverse_cell
        moved = np.einsum("gab,nb->gna", self.rotations.astype(float), fractional) + self.translations[:, None, :]
        return np.asarray(moved @ self.cell)


@dataclass(frozen=True, eq=False)
class Match:
    """How a candidate lies on a reference at the minimum.

    Attributes:
        rmsd: Å, over all atoms.
        local_rmsd: Å, over atoms whose reference position is within the local radius of the defect; None without a centre, or
            if no atom is there.
        max_displacement: largest displacement of an atom, Å.
        operation: index of the host operation applied to the candidate.
        permutation: (N,), the candidate's atom that lies on reference atom i.
        translation: (3,), Å, added after the operation.
        displacements: (N, 3), Å, candidate minus reference, in the order of the reference.
    """

    rmsd: float
    local_rmsd: float | None
    max_displacement: float
    operation: int
    permutation: Integers
    translation: Floats
    displacements: Floats


class _Cache:
    """A small least-recently-used cache (results are pure functions of their keys)."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: OrderedDict[Any, Any] = OrderedDict()

    def get(self, key: Any) -> Any:
        found = self._items.get(key)
        if found is not None:
            self._items.move_to_end(key)
        return found

    def put(self, key: Any, value: Any) -> None:
        self._items[key] = value
        while len(self._items) > self._size:
            self._items.popitem(last=False)

    def clear(self) -> None:
        self._items.clear()


_operations_cache = _Cache(32)
_alignment_cache = _Cache(_CACHE_SIZE)
_match_cache = _Cache(_CACHE_SIZE)


def clear_caches() -> None:
    """Forgets all cached operations, alignments and matches (for timing)."""
    for cache in (_operations_cache, _alignment_cache, _match_cache):
        cache.clear()


def _content(*arrays: ArrayLike) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        block = np.ascontiguousarray(array)
        digest.update(str((block.dtype.str, block.shape)).encode())
        digest.update(block.tobytes())
    return digest.digest()


def host_operations(host: Atoms, symprec: float = DEFAULT_SYMPREC) -> Operations:
    """The space-group operations of a perfect host supercell, its pure translations included; cached by content.

    Found by spglib (Togo, Shinohara, Tanaka 2024, doi:10.1080/27660400.2024.2384822). Operations that would change the fixed cell are
    dropped, and each translation is corrected so that the operation maps the host onto itself without a mean shift.

    Args:
        host: perfect supercell, N atoms.
        symprec: Å.

    Raises:
        MatchingError: no symmetry could be found (bad cell, atoms on top of each other).
    """
    import spglib

    numbers = np.asarray(host.numbers, dtype=np.int64)
    positions = np.array(host.positions, dtype=float)
    cell = np.array(host.cell.array, dtype=float)
    cache_key = (_content(numbers, positions, cell), symprec)
    found = _operations_cache.get(cache_key)
    if isinstance(found, Operations):
        return found
    lattice = Lattice.of(cell)
    inverse = np.linalg.inv(cell)
    description: Any = (cell, positions @ inverse, numbers)
    advice = f"no symmetry found for the host at symprec {symprec} Å; check its cell and positions"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            symmetry = spglib.get_symmetry(description, symprec=symprec)
            space_group = spglib.get_spacegroup(description, symprec=symprec)
    except getattr(spglib, "SpglibError", ValueError):
        raise MatchingError(advice) from None
    if symmetry is None:
        raise MatchingError(advice)
    rotations, translations = np.asarray(symmetry["rotations"], dtype=np.int64), np.asarray(symmetry["translations"], dtype=float)
    metric = cell @ cell.T
    keep = [
        i
        for i, rotation in enumerate(rotations)
        if np.max(np.abs(rotation.T @ metric @ rotation - metric)) <= 2.0 * max(_CELL_TOLERANCE, 1e-8) * float(np.sqrt(metric.max()))
    ]
    rotations, translations = rotations[keep], translations[keep]
    same = numbers[:, None] == numbers[None, :]
    for i, (rotation, translation) in enumerate(zip(rotations, translations, strict=True)):
        image = ((positions @ inverse) @ rotation.T + translation) @ cell
        distances = np.where(same, lattice.squared_distances(image, positions), np.inf)
        partner = distances.argmin(axis=1)
        shift = lattice.minimum_image(positions[partner] - image).mean(axis=0)
        translations[i] = translation + shift @ inverse
    operations = Operations(
        rotations=rotations,
        translations=translations - np.floor(translations),
        symprec=symprec,
        space_group=str(space_group or "P1"),
        cell=cell,
        host_numbers=numbers,
        host_positions=positions,
        lattice=lattice,
        key=_content(numbers, positions, cell, np.array([symprec])).hex(),
        inverse_cell=inverse,
    )
    _operations_cache.put(cache_key, operations)
    return operations


def _species(numbers: NDArray[np.int64]) -> list[tuple[int, Integers]]:
    return [(int(number), np.flatnonzero(numbers == number)) for number in np.unique(numbers)]


def _fit_to_host(
    positions: Floats, blocks: Sequence[tuple[Integers, Integers]], operations: Operations, start: Floats
) -> tuple[float, Floats]:
    """Alternates assignment to host sites and removal of the mean; (rms, translation)."""
    from scipy.optimize import linear_sum_assignment

    lattice, translation = operations.lattice, start
    value = np.inf
    for _ in range(8):
        moved = positions + translation
        pieces = []
        for own, sites in blocks:
            cost = lattice.squared_distances(moved[own], operations.host_positions[sites])
            rows, columns = linear_sum_assignment(cost)
            pieces.append(lattice.minimum_image(operations.host_positions[sites[columns]] - moved[own[rows]]))
        differences = np.concatenate(pieces)
        mean = differences.mean(axis=0)
        now = float(np.sqrt(np.mean(np.sum((differences - mean) ** 2, axis=1))))
        translation = translation + mean
        if now >= value - 1e-10:
            return min(now, value), translation
        value = now
    return value, translation


def host_translation(numbers: NDArray[np.int64], positions: Floats, operations: Operations) -> Floats:
    """The translation (3,), Å, that lays a defect structure onto the host sites.

    The given origin is kept if the structure already fits (rms to host sites below 0.5 Å). Else starts come from the peaks of the
    cross-correlation of the two atomic densities (on a Fourier grid of about 1 Å), and the one that fits best is taken. Either way the mean
    displacement from the host sites is removed. Equivalent alignments differ by a host operation, which matching goes through anyway.
    """
    key = (operations.key, _content(numbers, positions))
    found = _alignment_cache.get(key)
    if found is not None:
        return np.asarray(found)
    host_species = dict(_species(operations.host_numbers))
    empty = np.zeros(0, dtype=np.intp)
    blocks = [(own, host_species.get(number, empty)) for number, own in _species(numbers)]
    blocks = [(own, sites) for own, sites in blocks if len(sites)]
    if not blocks:
        raise MatchingError("the structure shares no species with the host it is matched in")
    value, best = _fit_to_host(positions, blocks, operations, np.zeros(3))
    if value > 0.5:
        for start in _correlation_peaks(positions, blocks, operations):
            now, translation = _fit_to_host(positions, blocks, operations, start)
            if now < value - 1e-9:
                value, best = now, translation
    best.setflags(write=False)
    _alignment_cache.put(key, best)
    return best


def _correlation_peaks(
    positions: Floats, blocks: Sequence[tuple[Integers, Integers]], operations: Operations, count: int = 12, resolution: float = 2.0
) -> list[Floats]:
    """Translations at the highest peaks of the cross-correlation of structure and host, at least 0.6 Å apart."""
    lattice = operations.lattice
    lengths = np.linalg.norm(lattice.cell, axis=1)
    limits = [max(2, round(length / resolution)) for length in lengths]
    shape = [4 * limit for limit in limits]

    def factor(points: Floats) -> NDArray[np.complex128]:
        fractional = points @ lattice.inverse
        waves = [np.exp(2j * np.pi * fractional[:, k, None] * np.arange(-limits[k], limits[k] + 1)) for k in range(3)]
        first = (waves[0][:, :, None] * waves[1][:, None, :]).reshape(len(points), -1)
        return np.asarray((first.T @ waves[2]).reshape([2 * limit + 1 for limit in limits]))

    product = np.zeros([2 * limit + 1 for limit in limits], dtype=complex)
    for own, sites in blocks:
        product += np.conj(factor(operations.host_positions[sites])) * factor(positions[own])
    product[tuple(limits)] = 0.0
    grid = np.zeros(shape, dtype=complex)
    index = np.ix_(*[np.arange(-limit, limit + 1) % size for limit, size in zip(limits, shape, strict=True)])
    grid[index] = product
    # sum over G of conj(host) * own * exp(2 pi i G t) is largest where own + t lies on the host
    density = np.real(np.fft.ifftn(grid))
    order = np.argsort(density, axis=None)[::-1]
    chosen: list[Floats] = []
    for flat in order[: 60 * count]:
        triple = np.array(np.unravel_index(int(flat), density.shape), dtype=float) / np.array(shape, dtype=float)
        point = lattice.minimum_image(triple @ lattice.cell)
        if all(np.linalg.norm(lattice.minimum_image(point - other)) > 0.6 for other in chosen):
            chosen.append(point)
            if len(chosen) == count:
                break
    return chosen


def _check(candidate: Atoms, reference: Atoms, operations: Operations) -> None:
    first, second = candidate.get_chemical_formula(), reference.get_chemical_formula()
    if first != second:
        raise MatchingError(
            f"cannot compare structures of different composition ({first} and {second}); give the same defect in the same supercell"
        )
    if np.max(np.abs(candidate.cell.array - reference.cell.array)) > _CELL_TOLERANCE:
        raise MatchingError(_OTHER_CELL)
    if np.max(np.abs(reference.cell.array - operations.cell)) > _CELL_TOLERANCE:
        raise MatchingError(
            "the structures' cell is not the host supercell's (lattice vectors differ by more than 0.001 Å); use the dataset's own host"
        )
    if not (np.all(np.isfinite(candidate.positions)) and np.all(np.isfinite(reference.positions))):
        raise MatchingError("cannot compare structures with positions that are not finite numbers")


def _translations(centre: Floats, atoms: int, lattice: Lattice) -> Floats:
    """All points of ``centre + L/atoms`` within the search radius of the origin, nearest first: (K, 3), Å."""
    radius = lattice.diagonal / atoms
    base = np.rint(-(centre @ lattice.inverse) * atoms)
    reach = int(np.ceil(radius * atoms * np.linalg.norm(lattice.inverse, axis=0).max())) + 1
    steps = np.arange(-reach, reach + 1)
    offsets = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    points = centre + (base + offsets) @ lattice.cell / atoms
    norms = np.linalg.norm(points, axis=1)
    order = np.argsort(norms, kind="stable")
    return np.asarray(points[order][norms[order] <= radius + 1e-9])


@dataclass(frozen=True, eq=False)
class _Minimum:
    squared: float
    operation: int
    translation: Floats
    permutation: Integers


def _search(
    candidate: Atoms, reference: Atoms, operations: Operations, limit: float, prune: bool
) -> tuple[_Minimum | None, Floats, Floats]:
    """The minimum over operations, translations and permutations below ``limit`` (mean square, Å²), and the two alignments."""
    from scipy.optimize import linear_sum_assignment

    lattice, count = operations.lattice, len(reference)
    numbers, reference_numbers = np.asarray(candidate.numbers, dtype=np.int64), np.asarray(reference.numbers, dtype=np.int64)
    own = [indices for _, indices in _species(numbers)]
    goal = [indices for _, indices in _species(reference_numbers)]
    shift_candidate = host_translation(numbers, np.array(candidate.positions), operations)
    shift_reference = host_translation(reference_numbers, np.array(reference.positions), operations)
    images = operations.images(candidate.positions + shift_candidate)
    target = reference.positions + shift_reference
    radius = lattice.diagonal / count

    def nearest(blocks: Sequence[Floats]) -> Floats:
        """Mean of nearest-neighbour squared distances from (K, n, n) blocks: (K,), a lower bound for the assignment."""
        return np.asarray(sum(np.maximum(b.min(axis=1).sum(axis=-1), b.min(axis=2).sum(axis=-1)) for b in blocks)) / count

    bounds = np.zeros(len(operations))
    if prune:
        bounds = nearest([lattice.squared_distance_bounds(images[:, o], target[g]) for o, g in zip(own, goal, strict=True)])
    best: _Minimum | None = None
    ceiling = limit
    for operation in np.argsort(bounds, kind="stable"):
        image = images[operation]
        if prune and bounds[operation] - radius**2 >= ceiling:
            break  # sorted: no later operation can be better
        points = _translations(lattice.minimum_image(target.mean(axis=0) - image.mean(axis=0)), count, lattice)
        blocks = [lattice.squared_distance_bounds(image[o] + points[:, None, :], target[g]) for o, g in zip(own, goal, strict=True)]
        lower = nearest(blocks) if prune else np.zeros(len(points))
        for point in np.argsort(lower, kind="stable"):
            if prune and lower[point] >= ceiling:
                break
            permutation = np.empty(count, dtype=np.intp)
            squared = 0.0
            for o, g, block in zip(own, goal, blocks, strict=True):
                cost = block[point] if lattice.orthogonal else lattice.squared_distances(image[o] + points[point], target[g])
                rows, columns = linear_sum_assignment(cost)
                squared += float(cost[rows, columns].sum())
                permutation[g[columns]] = o[rows]
            squared /= count
            if squared < ceiling:
                ceiling = squared
                best = _Minimum(squared, int(operation), points[point], permutation)
    return best, shift_candidate, shift_reference


def match(
    candidate: Atoms,
    reference: Atoms,
    operations: Operations,
    centre: ArrayLike | None = None,
    local_radius: float = LOCAL_RADIUS,
    *,
    prune: bool = True,
) -> Match:
    """Lays a candidate on a reference as well as the host's symmetry allows; see the module's text for the definition.

    Args:
        candidate: N atoms.
        reference: N atoms of the same composition in the same cell.
        operations: of the host supercell (:func:`host_operations`).
        centre: the defect's position (3,), Å, in the reference's frame; needed for the local RMSD.
        local_radius: Å.
        prune: skip what lower bounds exclude; False tries everything (same result, for tests).

    Raises:
        MatchingError: composition or cell differ, or positions are not finite.
    """
    found = _match(candidate, reference, operations, np.inf, centre, local_radius, prune)
    assert found is not None
    return found


def match_within(
    candidate: Atoms,
    reference: Atoms,
    operations: Operations,
    tolerance: float,
    centre: ArrayLike | None = None,
    local_radius: float = LOCAL_RADIUS,
) -> Match | None:
    """Like :func:`match`, but None, and faster, if the RMSD is above ``tolerance`` (Å)."""
    return _match(candidate, reference, operations, tolerance**2 * (1 + 1e-12) + 1e-24, centre, local_radius, True)


def _match(
    candidate: Atoms, reference: Atoms, operations: Operations, limit: float, centre: ArrayLike | None, local_radius: float, prune: bool
) -> Match | None:
    _check(candidate, reference, operations)
    key = (operations.key, prune, _content(candidate.numbers, candidate.positions), _content(reference.numbers, reference.positions))
    found = _match_cache.get(key)
    if found is None and limit < np.inf and _match_cache.get((*key, limit)) is not None:
        return None
    if found is None:
        minimum, shift_candidate, shift_reference = _search(candidate, reference, operations, limit, prune)
        if minimum is None:
            _match_cache.put((*key, limit), "above")
            return None
        image = operations.apply(minimum.operation, candidate.positions + shift_candidate) + minimum.translation - shift_reference
        displacements = operations.lattice.minimum_image(image[minimum.permutation] - reference.positions)
        # the same as one translation after the operation on the candidate as it was given
        linear = operations.apply(minimum.operation, shift_candidate[None])[0] - operations.apply(minimum.operation, np.zeros((1, 3)))[0]
        found = (minimum.operation, minimum.permutation, minimum.translation + linear - shift_reference, displacements)
        _match_cache.put(key, found)
    operation, permutation, translation, displacements = found
    squares = np.einsum("ik,ik->i", displacements, displacements)
    if squares.mean() > limit:
        return None
    local: float | None = None
    if centre is not None:
        near = local_atoms(reference, centre, local_radius, operations.lattice)
        local = float(np.sqrt(squares[near].mean())) if np.any(near) else None
    return Match(
        rmsd=float(np.sqrt(squares.mean())),
        local_rmsd=local,
        max_displacement=float(np.sqrt(squares.max())),
        operation=operation,
        permutation=permutation.copy(),
        translation=translation.copy(),
        displacements=displacements.copy(),
    )


def local_atoms(reference: Atoms, centre: ArrayLike, radius: float = LOCAL_RADIUS, lattice: Lattice | None = None) -> NDArray[np.bool_]:
    """Which atoms lie within ``radius`` (Å, minimum image) of ``centre`` (3,): a mask (N,)."""
    lattice = lattice or Lattice.of(reference.cell.array)
    differences = lattice.minimum_image(reference.positions - np.asarray(centre, dtype=float))
    return np.asarray(np.einsum("ik,ik->i", differences, differences) <= radius**2)


def displacements(candidate: Atoms, reference: Atoms, remove_shift: bool = True) -> Floats:
    """Minimum-image displacements atom by atom, candidate minus reference, (N, 3), Å: no symmetry, no permutation.

    Args:
        candidate: N atoms.
        reference: N atoms, the same species in the same order, the same cell.
        remove_shift: subtract the mean displacement.

    Raises:
        MatchingError: species differ in kind or order, or the cells differ.
    """
    if not np.array_equal(candidate.numbers, reference.numbers):
        raise MatchingError("cannot compare atom by atom: the two structures list different species or another order; use match()")
    if np.max(np.abs(candidate.cell.array - reference.cell.array)) > _CELL_TOLERANCE:
        raise MatchingError(_OTHER_CELL)
    out = Lattice.of(reference.cell.array).minimum_image(candidate.positions - reference.positions)
    return out - out.mean(axis=0) if remove_shift else out


def root_mean_square(vectors: ArrayLike) -> float:
    """sqrt(mean |v|²) of vectors (N, 3)."""
    array = np.asarray(vectors, dtype=float)
    return float(np.sqrt(np.mean(np.sum(array**2, axis=1))))


def displacement_rmsd(candidate: Atoms, reference: Atoms) -> float:
    """The plain RMSD, Å: atom by atom, minimum image, mean displacement removed. Never below :func:`match`'s but for its search radius."""
    return root_mean_square(displacements(candidate, reference))


def host_referenced(candidate: Atoms, candidate_host: Atoms, reference_host: Atoms, host_indices: ArrayLike) -> Atoms:
    """The candidate with the model's own host error taken off, to be matched against the reference as usual.

    Compares displacement fields: (model's defect − model's host) against (reference's defect − reference's host) is the same as
    the model's defect minus the host's drift against the reference's defect. The drift's rigid part is kept out.

    Args:
        candidate: the model's relaxed defect, n atoms.
        candidate_host: the model's relaxed host, N atoms in the order of ``reference_host``.
        reference_host: N atoms.
        host_indices: (n,), the host site each atom of the candidate came from; −1 for an added atom, which is left where it is.

    Raises:
        MatchingError: the hosts differ in species, order or cell, or the indices do not fit.
    """
    indices = np.asarray(host_indices, dtype=int)
    if indices.shape != (len(candidate),) or np.any(indices >= len(reference_host)) or np.any(indices < -1):
        raise MatchingError(f"host indices must be {len(candidate)} numbers from -1 to {len(reference_host) - 1}, one per atom")
    drift = displacements(candidate_host, reference_host)
    out: Atoms = candidate.copy()
    out.calc = None
    kept = indices >= 0
    positions = np.array(out.positions)
    positions[kept] -= drift[indices[kept]]
    out.positions = positions
    return out


def host_fields(candidate_host: Atoms, reference_host: Atoms, operations: Operations, tolerance: float = 0.005) -> list[Floats]:
    """The drift of a model's host as displacement fields on the reference sites, in all orientations the symmetry allows.

    A host that breaks its symmetry may do so in another, equivalent way beside a defect. A drift that keeps the symmetry has one field.

    Args:
        candidate_host: the model's relaxed host, N atoms.
        reference_host: N atoms; the host of ``operations``.
        operations: of the reference host.
        tolerance: Å; fields that differ by less on every atom are one.

    Returns:
        Distinct fields (N, 3), Å, in the order of the reference, without a mean.

    Raises:
        MatchingError: the hosts differ in composition or cell.
    """
    base = match(candidate_host, reference_host, operations).displacements
    base = base - base.mean(axis=0)
    positions, numbers = np.asarray(reference_host.positions, dtype=float), np.asarray(reference_host.numbers)
    apart = numbers[:, None] != numbers[None, :]
    images = operations.images(positions)
    origins = operations.images(np.zeros((1, 3)))
    unit = operations.images(np.eye(3)) - origins  # rows: images of the Cartesian unit vectors
    fields: list[Floats] = []
    for image, turn in zip(images, unit, strict=True):
        distances = operations.lattice.squared_distances(image, positions)
        distances[apart] = np.inf
        field = np.empty_like(base)
        field[distances.argmin(axis=1)] = base @ turn
        if not any(np.max(np.linalg.norm(field - other, axis=1)) < tolerance for other in fields):
            fields.append(field)
    return fields


def without_field(candidate: Atoms, reference_host: Atoms, field: ArrayLike, operations: Operations) -> Atoms:
    """A defect structure minus a host's displacement field; each atom goes with the displaced host site nearest to it.

    Args:
        candidate: n atoms, in any order and origin.
        reference_host: N atoms.
        field: (N, 3), Å, on the reference host's sites.
        operations: of the reference host.

    Returns:
        The corrected structure in the host's frame; atoms beyond the number of sites (interstitials) stay where they are.
    """
    from scipy.optimize import linear_sum_assignment

    vectors = np.asarray(field, dtype=float)
    out: Atoms = candidate.copy()
    out.calc = None
    numbers = np.asarray(candidate.numbers, dtype=np.int64)
    positions = candidate.positions + host_translation(numbers, np.array(candidate.positions), operations)
    displaced = reference_host.positions + vectors
    sites_of = dict(_species(np.asarray(reference_host.numbers, dtype=np.int64)))
    for number, own in _species(numbers):
        sites = sites_of.get(number)
        if sites is None:
            continue
        rows, columns = linear_sum_assignment(operations.lattice.squared_distances(positions[own], displaced[sites]))
        positions[own[rows]] -= vectors[sites[columns]]
    out.positions = positions
    return out


def match_host_referenced(
    candidate: Atoms,
    reference: Atoms,
    candidate_host: Atoms,
    reference_host: Atoms,
    operations: Operations,
    centre: ArrayLike | None = None,
    local_radius: float = LOCAL_RADIUS,
) -> tuple[Match, Atoms]:
    """The match of displacement fields, defect minus own host, whatever the order of atoms, origin or symmetry image of each.

    Like :func:`host_referenced` followed by :func:`match`, but the drift is laid onto the host sites by matching, not by index, and the
    best of its equivalent orientations (:func:`host_fields`) is taken.

    Returns:
        The match, and the candidate with the host's drift taken off.

    Raises:
        MatchingError: see :func:`match`.
    """
    best: tuple[Match, Atoms] | None = None
    for drift in host_fields(candidate_host, reference_host, operations):
        corrected = without_field(candidate, reference_host, drift, operations)
        found = match(corrected, reference, operations, centre, local_radius)
        if best is None or found.rmsd < best[0].rmsd - 1e-10:
            best = (found, corrected)
    assert best is not None
    return best
