"""Cheap lower bounds of the deviation of two defect structures, for each operation of the host: most operations need no more.

A large supercell of high symmetry has thousands of operations (MgO with 216 atoms: 5,184), most of which carry the defect to another
place. Two quantities that no host operation changes tell so without comparing all atoms:

* the *emptiness* of a host site: its distance from the nearest atom of its species. An operation carries a site that is empty by H in the
  candidate to a site that is empty by H′ in the reference; the reference's atom there is then at least H − H′ from every atom. The
  emptiest sites of both structures give either one pair of atoms as far apart as the two sites, or two such atoms.
* the *stray* of an atom: its distance from the nearest host site of its species. An atom that strays by h is at least h − h′ from
  every atom that strays by h′; only the few atoms that stray most have to be compared one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from defectbench.structures.lattice import _CACHE_SIZE, _Cache, _content
from defectbench.structures.symmetry import Operations, _species

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.intp]

STRAYS = 6
"""How many of the atoms that stray most are compared one by one."""
_ABSENT = 1e3
"""Å; the distance from a species that is not there."""


@dataclass(frozen=True, eq=False)
class Occupation:
    """How a structure occupies the host's sites.

    Attributes:
        emptiness: (number of host sites,), Å.
        stray: (number of atoms,), Å.
    """

    emptiness: Floats
    stray: Floats


_occupation_cache = _Cache(_CACHE_SIZE)
_site_cache = _Cache(64)


def clear_caches() -> None:
    """Forgets occupations and images of sites."""
    _occupation_cache.clear()
    _site_cache.clear()


def occupation(numbers: NDArray[np.int64], positions: Floats, operations: Operations) -> Occupation:
    """Emptiness of the host's sites and stray of the atoms of a structure that lies on the host; cached by content."""
    key = (operations.key, _content(numbers, positions))
    found = _occupation_cache.get(key)
    if isinstance(found, Occupation):
        return found
    emptiness = np.full(len(operations.host_numbers), _ABSENT)
    stray = np.full(len(numbers), _ABSENT)
    host_species = dict(_species(operations.host_numbers))
    for number, own in _species(numbers):
        if (sites := host_species.get(number)) is not None:
            squared = operations.lattice.squared_distances(positions[own], operations.host_positions[sites])
            stray[own] = np.sqrt(squared.min(axis=1))
            emptiness[sites] = np.sqrt(squared.min(axis=0))
    out = Occupation(emptiness, stray)
    _occupation_cache.put(key, out)
    return out


def _site_images(operations: Operations, site: int, *, inverse: bool) -> Integers:
    """Which site each operation (or its inverse) carries a site to: (M,)."""
    key = (operations.key, site, inverse)
    found = _site_cache.get(key)
    if found is not None:
        return np.asarray(found)
    fractional = operations.host_positions[site] @ operations.inverse_cell
    if inverse:
        back = np.linalg.inv(operations.rotations.astype(float))
        moved = np.einsum("gab,gb->ga", back, fractional - operations.translations)
    else:
        moved = operations.rotations @ fractional + operations.translations
    same = np.flatnonzero(operations.host_numbers == operations.host_numbers[site])
    squared = operations.lattice.squared_distances(moved @ operations.cell, operations.host_positions[same])
    out: Integers = np.asarray(same[squared.argmin(axis=1)])
    _site_cache.put(key, out)
    return out


def _hole_bounds(mine: Occupation, theirs: Occupation, sites: Integers, operations: Operations, slack: float) -> Floats:
    """From the emptiest site of one species in each structure: (M,), Å²."""
    p, q = (int(sites[np.argmax(found.emptiness[sites])]) for found in (mine, theirs))
    if not (0.5 < mine.emptiness[p] < _ABSENT and 0.5 < theirs.emptiness[q] < _ABSENT):
        return np.zeros(len(operations))
    reached, origin = _site_images(operations, p, inverse=False), _site_images(operations, q, inverse=True)
    first = np.maximum(mine.emptiness[p] - theirs.emptiness[reached] - slack, 0.0)
    second = np.maximum(theirs.emptiness[q] - mine.emptiness[origin] - slack, 0.0)
    places = operations.host_positions
    away = np.sqrt(operations.lattice.squared_distance_bounds(places[reached], places[[q]])[:, 0])
    together = np.maximum(away - theirs.emptiness[reached] - mine.emptiness[origin] - slack, 0.0)
    # as one pair of atoms, or each paired with another atom
    return np.asarray(np.minimum(np.maximum(together, np.maximum(first, second)) ** 2, first**2 + second**2))


def _stray_bounds(
    mine: Occupation,
    theirs: Occupation,
    atoms: Integers,
    others: Integers,
    positions: Floats,
    reference_positions: Floats,
    operations: Operations,
    slack: float,
) -> Floats:
    """From the atom of one species that strays most in each structure: (M,), Å²."""
    if len(atoms) < 2:
        return np.zeros(len(operations))
    i, *rest = atoms[np.argsort(-mine.stray[atoms], kind="stable")]
    j, *other_rest = others[np.argsort(-theirs.stray[others], kind="stable")]
    first = np.full(len(operations), max(mine.stray[i] - theirs.stray[other_rest[0]] - slack, 0.0))
    second = np.full(len(operations), max(theirs.stray[j] - mine.stray[rest[0]] - slack, 0.0))
    image = operations.images(positions[[i]])[:, 0]
    away = np.sqrt(operations.lattice.squared_distance_bounds(image, reference_positions[[j]])[:, 0])
    return np.asarray(np.minimum(np.maximum(away - slack, 0.0) ** 2, first**2 + second**2))


def operation_bounds(
    numbers: NDArray[np.int64],
    positions: Floats,
    reference_numbers: NDArray[np.int64],
    reference_positions: Floats,
    operations: Operations,
    radius: float,
) -> Floats:
    """For each operation a lower bound of the mean squared deviation: (M,), Å².

    Args:
        numbers: of the candidate, (N,).
        positions: of the candidate on the host, (N, 3), Å.
        reference_numbers: of the reference, (N,).
        reference_positions: of the reference on the host, (N, 3), Å.
        operations: of the host.
        radius: longest translation after the operation that has to be allowed for, Å.
    """
    mine = occupation(numbers, positions, operations)
    theirs = occupation(reference_numbers, reference_positions, operations)
    slack = radius + 2.0 * operations.symprec  # the host itself is symmetric to symprec
    bounds = np.zeros(len(operations))
    separate = {}
    for number, sites in _species(operations.host_numbers):
        separate[number] = _hole_bounds(mine, theirs, sites, operations, slack)
    for number, atoms in _species(numbers):
        others = np.flatnonzero(reference_numbers == number)
        found = _stray_bounds(mine, theirs, atoms, others, positions, reference_positions, operations, slack)
        separate[number] = np.maximum(separate.get(number, 0.0), found)
    bounds = np.asarray(sum(separate.values()))  # no atom is of two species
    own, goal = (np.argsort(-found.stray, kind="stable")[: STRAYS + 1] for found in (mine, theirs))
    rest, other_rest = float(mine.stray[own[-1]]), float(theirs.stray[goal[-1]])
    own, goal = own[:-1], goal[:-1]
    images = operations.images(positions[own])
    distances = np.sqrt(operations.lattice.squared_distance_bounds(images, reference_positions[goal]))
    distances[:, numbers[own][:, None] != reference_numbers[goal][None, :]] = np.inf
    to_own = np.minimum(distances.min(axis=1), theirs.stray[goal] - rest)
    to_goal = np.minimum(distances.min(axis=2), mine.stray[own] - other_rest)
    for nearest in (to_own, to_goal):
        bounds = np.maximum(bounds, (np.maximum(nearest - slack, 0.0) ** 2).sum(axis=1))
    return np.asarray(bounds / len(numbers))
