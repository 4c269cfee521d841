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
``(cost at t') - |t - t'|^2``. Where the host has many operations, :mod:`~defectbench.structures.bounds` first leaves out those that
carry the defect elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from defectbench.structures import bounds
from defectbench.structures.bounds import operation_bounds
from defectbench.structures.lattice import (
    _CACHE_SIZE,
    _CELL_TOLERANCE,
    _OTHER_CELL,
    LOCAL_RADIUS,
    Lattice,
    MatchingError,
    _Cache,
    _content,
    displacements,
    local_atoms,
    root_mean_square,
)
from defectbench.structures.symmetry import Operations, _fit_to_host, _operations_cache, _species

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.intp]


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


_alignment_cache = _Cache(_CACHE_SIZE)
_match_cache = _Cache(_CACHE_SIZE)


def clear_results() -> None:
    """Forgets alignments and matches, but not what is known of the host (for timing)."""
    _alignment_cache.clear()
    _match_cache.clear()


def clear_caches() -> None:
    """Forgets all cached operations, alignments and matches (for timing)."""
    clear_results()
    _operations_cache.clear()
    bounds.clear_caches()


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
        raise MatchingError("the structure shares no species with the host it is matched in", code="other-composition")
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
    if not np.array_equal(np.sort(candidate.numbers), np.sort(reference.numbers)):
        first, second = candidate.get_chemical_formula(), reference.get_chemical_formula()
        raise MatchingError(
            f"cannot compare structures of different composition ({first} and {second}); give the same defect in the same supercell",
            code="other-composition",
        )
    if np.max(np.abs(candidate.cell.array - reference.cell.array)) > _CELL_TOLERANCE:
        raise MatchingError(_OTHER_CELL, code="other-cell")
    if np.max(np.abs(reference.cell.array - operations.cell)) > _CELL_TOLERANCE:
        raise MatchingError(
            "the structures' cell is not the host supercell's (lattice vectors differ by more than 0.001 Å); use the dataset's own host",
            code="other-cell",
        )
    if not (np.all(np.isfinite(candidate.positions)) and np.all(np.isfinite(reference.positions))):
        raise MatchingError("cannot compare structures with positions that are not finite numbers", code="not-finite")


def _translations(centre: Floats, atoms: int, lattice: Lattice) -> Floats:
    """All points of ``centre + L/atoms`` within the search radius of the origin, nearest first: (K, 3), Å."""
    base = np.rint(-(centre @ lattice.inverse) * atoms)
    points = centre + base @ lattice.cell / atoms + _grid(lattice.cell.tobytes(), atoms)
    norms = np.sqrt((points**2).sum(axis=1))
    order = np.argsort(norms, kind="stable")
    return np.asarray(points[order][norms[order] <= lattice.diagonal / atoms + 1e-9])


@lru_cache(maxsize=64)
def _grid(cell: bytes, atoms: int) -> Floats:
    """All points of ``L/atoms`` that can come within the search radius when the origin moves by less than their spacing: (K, 3), Å."""
    lattice = Lattice.of(np.frombuffer(cell).reshape(3, 3))
    radius = lattice.diagonal / atoms
    reach = int(np.ceil(lattice.diagonal * np.linalg.norm(lattice.inverse, axis=0).max())) + 1
    steps = np.arange(-reach, reach + 1)
    points = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3) @ lattice.cell / atoms
    return np.asarray(points[np.linalg.norm(points, axis=1) <= 1.5 * radius + 1e-9])


@dataclass(frozen=True, eq=False)
class _Minimum:
    squared: float
    operation: int
    translation: Floats
    permutation: Integers


_FEW = 64
"""Hosts with no more operations need no bounds before all atoms are compared."""
_CHUNK = 8
"""Of more operations, this many are compared together."""
_NEIGHBOURS = 2
"""Atoms near each atom whose distances are followed over the translations."""


class _Pair:
    """A candidate and a reference, both on the host: what comparing them under one operation after the other needs."""

    def __init__(self, candidate: Atoms, reference: Atoms, operations: Operations, prune: bool) -> None:
        self.operations, self.lattice, self.count, self.prune = operations, operations.lattice, len(reference), prune
        self.numbers = np.asarray(candidate.numbers, dtype=np.int64)
        self.reference_numbers = np.asarray(reference.numbers, dtype=np.int64)
        self.blocks = [(own, goal) for (_, own), (_, goal) in zip(_species(self.numbers), _species(self.reference_numbers), strict=True)]
        self.shift = host_translation(self.numbers, np.array(candidate.positions), operations)
        self.reference_shift = host_translation(self.reference_numbers, np.array(reference.positions), operations)
        self.moved = candidate.positions + self.shift
        self.target = reference.positions + self.reference_shift
        self.radius = self.lattice.diagonal / self.count

    def chunks(self) -> Iterator[tuple[float, list[tuple[int, float, Floats]]]]:
        """Operations in parts, the most promising first: a bound that holds from there on, and (operation, bound, image) in order."""
        total = len(self.operations)
        far = np.zeros(total)
        if self.prune and total > _FEW:
            far = operation_bounds(self.numbers, self.moved, self.reference_numbers, self.target, self.operations, self.radius)
        order = np.argsort(far, kind="stable")
        size = _CHUNK if total > _FEW else _FEW
        for begin in range(0, total, size):
            part = order[begin : begin + size]
            images = self.operations.images(self.moved, part)
            bounds_of = np.zeros(len(part))
            if self.prune:
                pairs = [self.lattice.squared_distance_bounds(images[:, o], self.target[g]) for o, g in self.blocks]
                nearest = sum(np.maximum(b.min(axis=1).sum(axis=-1), b.min(axis=2).sum(axis=-1)) for b in pairs)
                bounds_of = np.asarray(nearest) / self.count
            yield float(far[part[0]]), [(int(part[i]), float(bounds_of[i]), images[i]) for i in np.argsort(bounds_of, kind="stable")]

    def best(self, operation: int, image: Floats, ceiling: float) -> _Minimum | None:
        """The minimum over translations and permutations after one operation, if it is below ``ceiling`` (mean square, Å²)."""
        from scipy.optimize import linear_sum_assignment

        points = _translations(self.lattice.minimum_image(self.target.mean(axis=0) - image.mean(axis=0)), self.count, self.lattice)
        lower = self._point_bounds(image, points) if self.prune else np.zeros(len(points))
        found: _Minimum | None = None
        for point in np.argsort(lower, kind="stable"):
            if self.prune and lower[point] >= ceiling:
                break
            permutation = np.empty(self.count, dtype=np.intp)
            squared = 0.0
            for own, goal in self.blocks:
                cost = self.lattice.squared_distances(image[own] + points[point], self.target[goal])
                rows, columns = linear_sum_assignment(cost)
                squared += float(cost[rows, columns].sum())
                permutation[goal[columns]] = own[rows]
            squared /= self.count
            if squared < ceiling:
                ceiling = squared
                found = _Minimum(squared, operation, points[point], permutation)
        return found

    def _point_bounds(self, image: Floats, points: Floats) -> Floats:
        """Mean of nearest-neighbour squared distances at each translation (K,): a lower bound for the assignment.

        Only the few atoms nearest without translation are followed; all others stay at least the translation's length outside.
        """
        reach = self.radius + 1e-9
        total, squares = np.zeros(len(points)), (points**2).sum(axis=1)
        for own, goal in self.blocks:
            sums = []
            squared = self.lattice.squared_distances(image[own], self.target[goal])
            kept = min(_NEIGHBOURS, len(own))
            for table, sign, first, second in (
                (squared, 1.0, image[own], self.target[goal]),
                (squared.T, -1.0, self.target[goal], image[own]),
            ):
                order = np.argpartition(table, kept - 1, axis=0)[:kept]  # (kept, n): the nearest of the first to each of the second
                vectors = self.lattice.minimum_image(first[order] - second[None, :, :])
                lengths = np.sqrt((vectors**2).sum(axis=-1))
                outside = np.maximum(lengths.max(axis=0) - reach, 0.0) ** 2 if kept < len(own) else np.full(len(own), np.inf)
                near = vectors @ ((2.0 * sign) * points.T) + (lengths**2)[:, :, None] + squares  # (kept, n, K)
                wide = lengths + reach >= self.lattice.inradius  # there another image may come nearer
                if np.any(wide):
                    near[wide] = np.minimum(near[wide], np.maximum(lengths[wide] - reach, 0.0)[:, None] ** 2)
                sums.append(np.minimum(near.min(axis=0), outside[:, None]).sum(axis=0))
            total += np.maximum(*sums)
        return total / self.count


def _search(pair: _Pair, limit: float) -> _Minimum | None:
    """The minimum over operations, translations and permutations below ``limit`` (mean square, Å²)."""
    best: _Minimum | None = None
    ceiling = limit
    for bound, part in pair.chunks():
        if pair.prune and bound >= ceiling:
            break  # sorted: no later operation can be better
        for operation, near, image in part:
            if pair.prune and near - pair.radius**2 >= ceiling:
                break
            found = pair.best(operation, image, ceiling)
            if found is not None:
                best, ceiling = found, found.squared
    return best


def _limit(tolerance: float) -> float:
    return float(tolerance**2 * (1 + 1e-12) + 1e-24)


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
    return _match(candidate, reference, operations, _limit(tolerance), centre, local_radius, True)


def matches_within(candidate: Atoms, reference: Atoms, operations: Operations, tolerance: float) -> list[Match]:
    """The best match by each operation alone, as far as its RMSD is not above ``tolerance`` (Å), in the order of the operations.

    Raises:
        MatchingError: composition or cell differ, or positions are not finite.
    """
    _check(candidate, reference, operations)
    limit, pair, found = _limit(tolerance), _Pair(candidate, reference, operations, True), []
    for bound, part in pair.chunks():
        if bound >= limit:
            break
        for operation, near, image in part:
            if near - pair.radius**2 >= limit:
                break
            minimum = pair.best(operation, image, limit)
            if minimum is not None:
                one = _match_of(_laid(pair, minimum, candidate, reference), reference, None, LOCAL_RADIUS)
                found += [one] if one.rmsd**2 <= limit else []
    return sorted(found, key=lambda one: one.operation)


def _match(
    candidate: Atoms, reference: Atoms, operations: Operations, limit: float, centre: ArrayLike | None, local_radius: float, prune: bool
) -> Match | None:
    _check(candidate, reference, operations)
    key = (operations.key, prune, _content(candidate.numbers, candidate.positions), _content(reference.numbers, reference.positions))
    found = _match_cache.get(key)
    if found is None and limit < np.inf and _match_cache.get((*key, limit)) is not None:
        return None
    if found is None:
        pair = _Pair(candidate, reference, operations, prune)
        minimum = _search(pair, limit)
        if minimum is None:
            _match_cache.put((*key, limit), "above")
            return None
        found = _laid(pair, minimum, candidate, reference)
        _match_cache.put(key, found)
    out = _match_of(found, reference, centre, local_radius, operations.lattice)
    return None if np.einsum("ik,ik->i", out.displacements, out.displacements).mean() > limit else out


_Laid = tuple[int, "Integers", "Floats", "Floats"]
"""Operation, permutation, translation and displacements of a match."""


def _laid(pair: _Pair, minimum: _Minimum, candidate: Atoms, reference: Atoms) -> _Laid:
    operations = pair.operations
    image = operations.apply(minimum.operation, candidate.positions + pair.shift) + minimum.translation - pair.reference_shift
    displacements = operations.lattice.minimum_image(image[minimum.permutation] - reference.positions)
    # the same as one translation after the operation on the candidate as it was given
    linear = operations.apply(minimum.operation, pair.shift[None])[0] - operations.apply(minimum.operation, np.zeros((1, 3)))[0]
    return minimum.operation, minimum.permutation, minimum.translation + linear - pair.reference_shift, displacements


def _match_of(found: _Laid, reference: Atoms, centre: ArrayLike | None, local_radius: float, lattice: Lattice | None = None) -> Match:
    operation, permutation, translation, displacements = found
    squares = np.einsum("ik,ik->i", displacements, displacements)
    local: float | None = None
    if centre is not None:
        near = local_atoms(reference, centre, local_radius, lattice)
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


def displacement_rmsd(candidate: Atoms, reference: Atoms) -> float:
    """The plain RMSD, Å: atom by atom, minimum image, mean displacement removed. At least :func:`match`'s, up to its search radius."""
    return root_mean_square(displacements(candidate, reference))
