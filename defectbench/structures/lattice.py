"""Displacements, distances and atoms around a point in a periodic cell; the minimum image itself is the worker's."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from defectbench.base.errors import DefectbenchError
from defectbench.worker.lattice import Reduced, reduced

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.intp]


LOCAL_RADIUS = 5.0
"""Å: atoms of the reference within this distance of the defect make up the local RMSD."""

_CELL_TOLERANCE = 1e-3
_OTHER_CELL = "cannot compare structures in different cells (lattice vectors differ by more than 0.001 Å); matching keeps the cell fixed"
_CACHE_SIZE = 8192


class MatchingError(DefectbenchError):
    """Two structures that cannot be compared: other composition, other cell, or atoms that do not fit the host."""

    code = "no-match"


@dataclass(frozen=True, eq=False)
class Lattice(Reduced):
    """A lattice for minimum-image arithmetic, in a Minkowski-reduced basis: distances beside what a worker needs."""

    @classmethod
    def of(cls, cell: ArrayLike) -> Lattice:
        """The lattice of a cell given as rows in Å; raises :class:`MatchingError` for a cell without volume."""
        rows = np.array(cell, dtype=float)
        if rows.shape != (3, 3) or not np.all(np.isfinite(rows)) or abs(np.linalg.det(rows)) < 1e-6:
            raise MatchingError("structures are compared in three-dimensional periodic cells; this cell has no volume")
        found = reduced(rows)
        return cls(found.cell, found.inverse, found.orthogonal, found.inradius)

    @cached_property
    def diagonal(self) -> float:
        """Longest body diagonal of the reduced cell, Å."""
        signs = np.array([[1, 1, 1], [1, 1, -1], [1, -1, 1], [-1, 1, 1]])
        return float(np.linalg.norm(signs @ self.cell, axis=1).max())

    @cached_property
    def _squared_lengths(self) -> Floats:
        return np.asarray((self.cell**2).sum(axis=1))

    def squared_distances(self, first: Floats, second: Floats) -> Floats:
        """Squared minimum-image distances between points (…, n, 3) and (m, 3): (…, n, m), Å²."""
        if not self.orthogonal:
            differences = self.minimum_image(first[..., :, None, :] - second)
            return np.asarray(np.einsum("...k,...k->...", differences, differences))
        axes = (first.ndim - 1, *range(first.ndim - 1))
        a, b = (first @ self.inverse).transpose(axes), (second @ self.inverse).T
        difference = a[..., None] - b.reshape(3, *(1,) * (first.ndim - 1), -1)
        difference -= np.rint(difference)
        return np.asarray(np.einsum("k...,k...,k->...", difference, difference, self._squared_lengths))

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


def _content(*arrays: ArrayLike) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        block = np.ascontiguousarray(array)
        digest.update(str((block.dtype.str, block.shape)).encode())
        digest.update(block.tobytes())
    return digest.digest()


def minimum_image(vectors: Floats, cell: ArrayLike) -> Floats:
    """The shortest periodic images of Cartesian vectors.

    >>> minimum_image(np.array([[4.5, 0.0, -3.0]]), np.diag([5.0, 5.0, 5.0])).round(3).tolist()
    [[-0.5, 0.0, 2.0]]

    Args:
        vectors: (…, 3), Å.
        cell: lattice vectors as rows, (3, 3), Å.

    Raises:
        MatchingError: the cell has no volume.
    """
    return Lattice.of(cell).minimum_image(vectors)


def shortest_distance(atoms: Atoms) -> float:
    """Shortest distance between two atoms of a periodic structure, Å; infinite for fewer than two.

    Distances of an atom from its own images are those of the cell and do not count.

    Raises:
        MatchingError: the cell has no volume.
    """
    if len(atoms) < 2:
        return float("inf")
    first, second = np.triu_indices(len(atoms), 1)
    vectors = minimum_image(atoms.positions[second] - atoms.positions[first], atoms.cell.array)
    return float(np.sqrt(np.einsum("ik,ik->i", vectors, vectors).min()))


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
        raise MatchingError(
            "cannot compare atom by atom: the two structures list different species or another order; use match()", code="other-composition"
        )
    if np.max(np.abs(candidate.cell.array - reference.cell.array)) > _CELL_TOLERANCE:
        raise MatchingError(_OTHER_CELL, code="other-cell")
    out = minimum_image(candidate.positions - reference.positions, reference.cell.array)
    return out - out.mean(axis=0) if remove_shift else out


def root_mean_square(vectors: ArrayLike) -> float:
    """sqrt(mean |v|²) of vectors (N, 3)."""
    array = np.asarray(vectors, dtype=float)
    return float(np.sqrt(np.mean(np.sum(array**2, axis=1))))
