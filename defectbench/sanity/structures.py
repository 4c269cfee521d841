"""Perfect crystals, and interstitials and vacancies in them, made from lattice vectors alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.build import bulk
from numpy.typing import ArrayLike, NDArray

from defectbench.structures.lattice import minimum_image

SI_LATTICE = 5.4
"""Å; every structure is scaled to the model's own lattice before it relaxes, so that a start need not be exact."""

SITE_RADIUS = 0.9
"""Å: a lattice site without an atom nearer than this is vacant; the atoms of a split interstitial are about 1.2 Å from their site."""

SYMMETRY_TOLERANCE = 0.15
"""Å: how far atoms may be from a symmetric place; forces of 0.03 eV/Å leave soft modes that far off."""


def crystal(element: str, repetitions: int) -> Atoms:
    """A perfect crystal of repeated cubic cells.

    Example:
        >>> [len(crystal(element, n)) for element, n in (("Si", 2), ("Si", 3), ("W", 4))]
        [64, 216, 128]
    """
    cell = bulk(element, cubic=True, a=SI_LATTICE) if element == "Si" else bulk(element, cubic=True)
    out: Atoms = cell * (repetitions, repetitions, repetitions)
    return out


def tetrahedral_site(host: Atoms, cells: int, offset: Sequence[float] = (0.0, 0.0, 0.0)) -> NDArray[np.float64]:
    """A tetrahedral site of diamond, (3,), Å; ``offset`` in units of the cubic cell leads to others.

    Args:
        host: of :func:`crystal`.
        cells: its repetitions.
        offset: from the first such site.
    """
    lattice = host.cell.array / cells
    return np.asarray((np.array([0.5, 0.5, 0.5]) + np.array(offset)) @ lattice, dtype=float)


def nearest_atom(host: Atoms, place: ArrayLike) -> int:
    """Index of the atom of a crystal that is nearest to a place (3,), Å; of equally near ones the first."""
    distances = np.linalg.norm(minimum_image(host.positions - np.asarray(place, float), host.cell), axis=1)
    return int(np.argmin(np.round(distances, 6)))


def with_interstitials(host: Atoms, places: Sequence[ArrayLike]) -> Atoms:
    """The crystal with further atoms at places (3,), Å, at its end."""
    out: Atoms = host.copy()
    for place in places:
        out += Atoms(host.get_chemical_symbols()[0], positions=[np.asarray(place, float)])
    return out


def split(host: Atoms, site: int, direction: Sequence[int], length: float, shift: Sequence[float] = (0.0, 0.0, 0.0)) -> Atoms:
    """A split interstitial (dumbbell): two atoms share one site, along a direction, ``length`` (Å) apart, both moved by ``shift`` (Å).

    The atom of the site is moved against the direction, the further one stands at the end of the list.

    Example:
        >>> made = split(crystal("W", 2), 0, (1, 1, 1), 2.0)
        >>> len(made), float(round(made.get_distance(0, -1, mic=True), 6))
        (17, 2.0)
    """
    half = 0.5 * length * np.array(direction, float) / np.linalg.norm(direction)
    out = with_interstitials(host, [host.positions[site] + half + shift])
    out.positions[site] += np.array(shift) - half
    return out


def vacancy(host: Atoms) -> Atoms:
    """The crystal without its first atom."""
    return host[1:]


def vacant_sites(atoms: Atoms, host: Atoms) -> int:
    """How many sites of a crystal have no atom within :data:`SITE_RADIUS`; a common shift of all atoms is subtracted.

    In silicon a tetrahedral interstitial leaves none vacant, a split one leaves one.

    Args:
        atoms: of the crystal, in any cell that is not far from the host's; its atoms are those of the host, in the host's order, and
            then others.
        host: the perfect crystal.
    """
    scaled = host.copy()
    scaled.set_cell(atoms.cell, scale_atoms=True)
    shift = np.median(minimum_image(atoms.positions[: len(host)] - scaled.positions, atoms.cell), axis=0)
    distances = np.linalg.norm(minimum_image(atoms.positions - (scaled.positions + shift)[:, None], atoms.cell), axis=2)
    return int((distances.min(axis=1) > SITE_RADIUS).sum())


def point_group(atoms: Atoms) -> str:
    """The point group of a periodic structure in Hermann–Mauguin's symbols; ``m`` is C1h.

    Example:
        >>> point_group(crystal("W", 2)), point_group(split(crystal("W", 2), 0, (1, 1, 1), 2.0))
        ('m-3m', '-3m')
    """
    import warnings

    import spglib

    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            found = spglib.get_symmetry_dataset(cell, symprec=SYMMETRY_TOLERANCE)
    except getattr(spglib, "SpglibError", ValueError):  # atoms nearer to each other than the tolerance
        found = None
    return "1" if found is None else str(found.pointgroup)
