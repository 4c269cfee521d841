"""Symmetry operations of the host's supercell."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from defectbench.structures.lattice import _CELL_TOLERANCE, Lattice, MatchingError, _Cache, _content

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.intp]


DEFAULT_SYMPREC = 0.05
"""Å: tolerance for the host's symmetry; DFT-relaxed hosts are symmetric to about 0.01 Å."""


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
        partners: (M, N), the site that each operation carries each site of the host to.
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
    partners: Integers
    lattice: Lattice
    key: str
    inverse_cell: Floats = field(repr=False)

    def __len__(self) -> int:
        return len(self.rotations)

    @cached_property
    def species(self) -> list[tuple[int, Integers]]:
        """Atomic number and sites of each species of the host."""
        return _species(self.host_numbers)

    @cached_property
    def distances(self) -> Floats:
        """Between the host's sites, (N, N), Å."""
        return np.sqrt(self.lattice.squared_distances(self.host_positions, self.host_positions))

    def apply(self, index: int, positions: ArrayLike) -> Floats:
        """Operation ``index`` on Cartesian positions (n, 3), Å."""
        fractional = np.asarray(positions, dtype=float) @ self.inverse_cell
        return np.asarray((fractional @ self.rotations[index].T + self.translations[index]) @ self.cell)

    def images(self, positions: ArrayLike, chosen: Integers | slice = slice(None)) -> Floats:
        """The images of Cartesian positions (n, 3) by the chosen operations (default: all): (M, n, 3), Å."""
        fractional = np.asarray(positions, dtype=float) @ self.inverse_cell
        turned = (fractional @ self._turns[:, chosen].reshape(3, -1)).reshape(len(fractional), -1, 3)
        return np.asarray((turned.transpose(1, 0, 2) + self.translations[chosen][:, None, :]) @ self.cell)

    @cached_property
    def _turns(self) -> Floats:
        """The rotations for fractional coordinates as rows: (3, M, 3)."""
        return np.ascontiguousarray(self.rotations.transpose(2, 0, 1), dtype=float)


_operations_cache = _Cache(32)


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
    partners = _partners(positions @ inverse, rotations, translations)
    for i, (rotation, translation, partner) in enumerate(zip(rotations, translations, partners, strict=True)):
        image = ((positions @ inverse) @ rotation.T + translation) @ cell
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
        partners=partners,
        lattice=lattice,
        key=_content(numbers, positions, cell, np.array([symprec])).hex(),
        inverse_cell=inverse,
    )
    _operations_cache.put(cache_key, operations)
    return operations


def _partners(fractional: Floats, rotations: NDArray[np.int64], translations: Floats) -> Integers:
    """Which atom each operation carries each atom of the host to: (M, N). Images lie so near to atoms that any metric finds them."""
    from scipy.spatial import cKDTree

    def wrapped(points: Floats) -> Floats:
        inside = points - np.floor(points)
        return np.where(inside >= 1.0, 0.0, inside)  # what is just below 0 becomes 1.0

    tree = cKDTree(wrapped(fractional), boxsize=np.ones(3))
    out = [tree.query(wrapped(fractional @ rotation.T + shift))[1] for rotation, shift in zip(rotations, translations, strict=True)]
    return np.asarray(out, dtype=np.intp)


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
            columns = cost.argmin(axis=1)
            rows = np.arange(len(own))
            if len(set(columns.tolist())) < len(own):  # two atoms want one site
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
