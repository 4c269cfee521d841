"""Symmetry-aware comparison of two relaxed defect structures in one fixed supercell.

The root mean square deviation (RMSD) of a candidate from a reference is

    RMSD = min over g, P, t of sqrt( (1/N) sum_i | g(x_P(i)) + t - y_i |^2 )

with g an operation of the host supercell's space group (its pure translations included), P a permutation within each
species, t a rigid translation, and every difference taken to its minimum image. The cell is fixed, nothing is scaled.

How the minimum is found. Both structures are first laid onto the host sites (:mod:`~defectbench.structures.placement`), so that an
arbitrary origin does not matter. For fixed g and P the best t is the mean difference, and since a permutation does not change
a sum of positions, every such t lies on the lattice ``(mean(y) - mean(g(x))) + L/N``, L being the supercell's lattice: a handful
of points within ``R = |cell diagonal|/N`` of the alignment (a vacancy that sits elsewhere in the cell shifts the mean by less
than that). At each point the best permutation is a linear assignment (Crouse 2016, doi:10.1109/TAES.2016.140952, through
scipy). So the minimum over that ball is exact, not the end of a descent.

Most of the work is skipped without changing the result. An operation carries host sites to host sites, so the atom that belongs to the
site where an atom arrives is its nearest, unless one of them strays far. The sum of these distances is a lower bound at every
translation, and where it holds for all atoms it is the assignment. Other atoms are followed one by one. Where the host has many
operations, :mod:`~defectbench.structures.bounds` first leaves out those that carry the defect elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from defectbench.structures import placement
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
from defectbench.structures.placement import OnHost, on_host
from defectbench.structures.symmetry import Operations, _operations_cache

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


_match_cache = _Cache(_CACHE_SIZE)


def clear_results() -> None:
    """Forgets alignments and matches, but not what is known of the host (for timing)."""
    placement.clear_caches()
    _match_cache.clear()


def clear_caches() -> None:
    """Forgets all cached operations, alignments and matches (for timing)."""
    clear_results()
    _operations_cache.clear()


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
"""Atoms near each atom whose distances are followed over the translations, where more than one can be the nearest."""


@dataclass(frozen=True, eq=False)
class _Image:
    """The candidate after one operation.

    Attributes:
        operation: its index.
        bound: no translation and permutation brings the mean square below this, Å².
        positions: (N, 3), Å.
        sites: (N,), the host site that each atom belongs to.
        clear: (N,), whether the reference's atom on that site is the nearest wherever the translation goes.
        sum: of the squared distances of the clear atoms from these, Å².
        vector: sum of the vectors from these to the clear atoms, (3,), Å.
    """

    operation: int
    bound: float
    positions: Floats
    sites: Integers
    clear: NDArray[np.bool_]
    sum: float
    vector: Floats


class _Pair:
    """A candidate and a reference, both on the host: what comparing them under one operation after the other needs."""

    def __init__(self, candidate: OnHost, reference: OnHost, operations: Operations, prune: bool) -> None:
        self.operations, self.lattice, self.count, self.prune = operations, operations.lattice, len(reference.numbers), prune
        self.candidate, self.reference = candidate, reference
        self.target, self.middle = reference.positions, reference.positions.mean(axis=0)
        ends = [*np.flatnonzero(np.diff(reference.numbers)) + 1, self.count]
        self.blocks = [slice(begin, end) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
        self.radius = self.lattice.diagonal / self.count

    def chunks(self) -> Iterator[tuple[float, Iterator[_Image]]]:
        """Operations in parts, the most promising first: a bound that holds from there on, and the images in the order of theirs."""
        total = len(self.operations)
        far, size = np.zeros(total), total
        if self.prune and total > _FEW:
            far, size = operation_bounds(self.candidate, self.reference, self.operations, self.radius), _CHUNK
        order = np.argsort(far, kind="stable")
        for begin in range(0, total, size):
            part = order[begin : begin + size]
            yield float(far[part[0]]), self._images(part)

    def _images(self, part: Integers) -> Iterator[_Image]:
        """The candidate's images by some operations, each atom beside the one that belongs to the host site that it comes to."""
        operations, mine, theirs, reach = self.operations, self.candidate, self.reference, self.radius + 1e-9
        images = operations.images(mine.positions, part)
        sites = operations.partners[part][:, mine.site]  # an atom without a site gets any, and is not clear
        places = self.lattice.minimum_image(images - operations.host_positions[sites])
        vectors = places - theirs.offset[sites]
        lengths = np.sqrt(np.einsum("gnk,gnk->gn", vectors, vectors))
        others = theirs.others[sites] - np.sqrt(np.einsum("gnk,gnk->gn", places, places))
        clear = (lengths + 2.0 * reach <= others) & (lengths + reach < self.lattice.inradius) & (mine.site >= 0)
        least = np.where(mine.site >= 0, np.maximum(np.minimum(lengths, others) - reach, 0.0), 0.0)
        vectors[~clear] = 0.0
        sums, totals = (np.where(clear, lengths, 0.0) ** 2).sum(axis=1), vectors.sum(axis=1)
        # no translation brings the sum of the clear ones below that about their mean
        about_mean = sums - (totals**2).sum(axis=1) / np.maximum(clear.sum(axis=1), 1)
        bounds_of = (about_mean + (np.where(clear, 0.0, least) ** 2).sum(axis=1)) / self.count
        for i in np.argsort(bounds_of, kind="stable"):
            yield _Image(int(part[i]), float(bounds_of[i]), images[i], sites[i], clear[i], float(sums[i]), totals[i])

    def best(self, image: _Image, ceiling: float) -> _Minimum | None:
        """The minimum over translations and permutations of one image, if it is below ``ceiling`` (mean square, Å²)."""
        middle = self.lattice.minimum_image(self.middle - image.positions.mean(axis=0))
        points = _translations(middle, self.count, self.lattice)
        if not self.prune:
            return self._assigned(image, points, np.zeros(len(points)), ceiling)
        unclear = np.flatnonzero(~image.clear)
        sums = image.sum + points @ (2.0 * image.vector) + (self.count - len(unclear)) * (points**2).sum(axis=1)
        if len(unclear):
            return self._assigned(image, points, (sums + self._followed(image, unclear, points)) / self.count, ceiling)
        if not self.candidate.one_each:
            return self._assigned(image, points, sums / self.count, ceiling)
        point = int(sums.argmin())  # each atom has one of its own, wherever the translation goes: nothing is left to assign
        value = float(sums[point]) / self.count
        if value >= ceiling:
            return None
        permutation = np.empty(self.count, dtype=np.intp)
        permutation[self.reference.occupant[image.sites]] = np.arange(self.count)
        return _Minimum(value, image.operation, points[point], permutation)

    def _assigned(self, image: _Image, points: Floats, lower: Floats, ceiling: float) -> _Minimum | None:
        """The best of assignments at the translations whose lower bound is below the ceiling."""
        from scipy.optimize import linear_sum_assignment

        found: _Minimum | None = None
        for point in np.argsort(lower, kind="stable"):
            if self.prune and lower[point] >= ceiling:
                break
            cost = self._squared_distances(image.positions + points[point])
            permutation = np.empty(self.count, dtype=np.intp)
            squared = 0.0
            for block in self.blocks:
                rows, columns = linear_sum_assignment(cost[block, block])
                squared += float(cost[block, block][rows, columns].sum())
                permutation[block.start + columns] = block.start + rows
            squared /= self.count
            if squared < ceiling:
                ceiling = squared
                found = _Minimum(squared, image.operation, points[point], permutation)
        return found

    def _squared_distances(self, positions: Floats) -> Floats:
        """Between the candidate's image and the reference, (N, N), Å²; infinite between species."""
        out = np.full((self.count, self.count), np.inf)
        for block in self.blocks:
            out[block, block] = self.lattice.squared_distances(positions[block], self.target[block])
        return out

    def _followed(self, image: _Image, unclear: Integers, points: Floats) -> Floats:
        """Lower bounds of the sum of squared distances of some atoms from their nearest, at each translation: (K,), Å².

        The few nearest are followed; all others stay at least the translation's length outside.
        """
        reach, positions = self.radius + 1e-9, image.positions[unclear]
        lengths = np.sqrt(self.lattice.squared_distances(positions, self.target))
        lengths[self.candidate.numbers[unclear][:, None] != self.reference.numbers] = np.inf
        kept = min(_NEIGHBOURS, self.count - 1)
        order = np.argpartition(lengths, kept, axis=1)[:, : kept + 1]
        lengths = np.take_along_axis(lengths, order, axis=1)
        rank = np.argsort(lengths, axis=1)
        order, lengths = np.take_along_axis(order, rank, axis=1), np.take_along_axis(lengths, rank, axis=1)
        outside, order, lengths = lengths[:, kept], order[:, :kept], lengths[:, :kept]
        vectors = self.lattice.minimum_image(positions[:, None, :] - self.target[order])
        near = vectors @ (2.0 * points.T) + (lengths**2)[:, :, None] + (points**2).sum(axis=1)  # (n, kept, K)
        wide = lengths + reach >= self.lattice.inradius  # there another image may come nearer
        near[wide] = np.minimum(near[wide], np.maximum(lengths[wide] - reach, 0.0)[:, None] ** 2)
        return np.asarray(np.minimum(near.min(axis=1), (np.maximum(outside - reach, 0.0) ** 2)[:, None]).sum(axis=0))


def _search(pair: _Pair, limit: float) -> _Minimum | None:
    """The minimum over operations, translations and permutations below ``limit`` (mean square, Å²)."""
    best: _Minimum | None = None
    ceiling = limit
    for bound, images in pair.chunks():
        if pair.prune and bound >= ceiling:
            break  # sorted: no later operation can be better
        for image in images:
            if pair.prune and image.bound >= ceiling:
                break
            found = pair.best(image, ceiling)
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
    limit, found = _limit(tolerance), []
    mine, theirs = (on_host(one, _content(one.numbers, one.positions), operations) for one in (candidate, reference))
    pair = _Pair(mine, theirs, operations, True)
    for bound, images in pair.chunks():
        if bound >= limit:
            break
        for image in images:
            if image.bound >= limit:
                break
            minimum = pair.best(image, limit)
            if minimum is not None:
                one = _match_of(_laid(pair, minimum, candidate, reference), reference, None, LOCAL_RADIUS)
                found += [one] if one.rmsd**2 <= limit else []
    return sorted(found, key=lambda one: one.operation)


def _match(
    candidate: Atoms, reference: Atoms, operations: Operations, limit: float, centre: ArrayLike | None, local_radius: float, prune: bool
) -> Match | None:
    _check(candidate, reference, operations)
    contents = [_content(one.numbers, one.positions) for one in (candidate, reference)]
    key = (operations.key, prune, *contents)
    found = _match_cache.get(key)
    if found is None and limit < np.inf and _match_cache.get((*key, limit)) is not None:
        return None
    if found is None:
        laid = [on_host(one, content, operations) for one, content in zip((candidate, reference), contents, strict=True)]
        pair = _Pair(laid[0], laid[1], operations, prune)
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
    operations, shift = pair.operations, pair.candidate.shift
    image = operations.apply(minimum.operation, candidate.positions + shift) + minimum.translation - pair.reference.shift
    permutation = np.empty(pair.count, dtype=np.intp)
    permutation[pair.reference.order] = pair.candidate.order[minimum.permutation]
    displacements = operations.lattice.minimum_image(image[permutation] - reference.positions)
    # the same as one translation after the operation on the candidate as it was given
    linear = operations.apply(minimum.operation, shift[None])[0] - operations.apply(minimum.operation, np.zeros((1, 3)))[0]
    return minimum.operation, permutation, minimum.translation + linear - pair.reference.shift, displacements


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
