"""Cheap lower bounds of the deviation of two defect structures, for each operation of the host: most operations need no more.

A large supercell of high symmetry has thousands of operations (MgO with 216 atoms: 5,184), most of which carry the defect to another
place. Two quantities that no host operation changes tell so without comparing all atoms:

* the *emptiness* of a host site: its distance from the nearest atom of its species. An operation carries a site that is empty by H in the
  candidate to a site of the reference; an atom of the reference that strays from that site by h is at least H − h from every atom. The
  emptiest sites of both structures give either one pair of atoms as far apart as the two sites, or two such atoms.
* the *stray* of an atom: its distance from the nearest host site of its species. An atom that strays by h is at least h − h′ from
  every atom that strays by h′; only the few atoms that stray most have to be compared one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from defectbench.structures.placement import ABSENT, OnHost
from defectbench.structures.symmetry import Operations, _species

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.intp]

STRAYS = 6
"""How many of the atoms that stray most are compared one by one."""


def _origins(operations: Operations, site: int) -> Integers:
    """Which site each operation carries to a site: (M,)."""
    return np.asarray((operations.partners == site).argmax(axis=1))


def _hole_bounds(mine: OnHost, theirs: OnHost, sites: Integers, operations: Operations, slack: float) -> Floats:
    """From the emptiest site of one species in each structure: (M,), Å²."""
    p, q = (int(sites[np.argmax(found.emptiness[sites])]) for found in (mine, theirs))
    if not (0.5 < mine.emptiness[p] < ABSENT and 0.5 < theirs.emptiness[q] < ABSENT):
        return np.zeros(len(operations))
    reached, origin = operations.partners[:, p], _origins(operations, q)
    first = np.maximum(mine.emptiness[p] - theirs.emptiness[reached] - slack, 0.0)
    second = np.maximum(theirs.emptiness[q] - mine.emptiness[origin] - slack, 0.0)
    together = np.maximum(operations.distances[reached, q] - theirs.emptiness[reached] - mine.emptiness[origin] - slack, 0.0)
    # as one pair of atoms, or each paired with another atom
    return np.asarray(np.minimum(np.maximum(together, np.maximum(first, second)) ** 2, first**2 + second**2))


def _stray_bounds(mine: OnHost, theirs: OnHost, atoms: Integers, others: Integers, operations: Operations, slack: float) -> Floats:
    """From the atom of one species that strays most in each structure: (M,), Å²."""
    if len(atoms) < 2:
        return np.zeros(len(operations))
    i, *rest = atoms[np.argsort(-mine.stray[atoms], kind="stable")]
    j, *other_rest = others[np.argsort(-theirs.stray[others], kind="stable")]
    first = np.full(len(operations), max(mine.stray[i] - theirs.stray[other_rest[0]] - slack, 0.0))
    second = np.full(len(operations), max(theirs.stray[j] - mine.stray[rest[0]] - slack, 0.0))
    image = operations.images(mine.positions[[i]])[:, 0]
    away = np.sqrt(operations.lattice.squared_distance_bounds(image, theirs.positions[[j]])[:, 0])
    return np.asarray(np.minimum(np.maximum(away - slack, 0.0) ** 2, first**2 + second**2))


def operation_bounds(mine: OnHost, theirs: OnHost, operations: Operations, radius: float) -> Floats:
    """For each operation a lower bound of the mean squared deviation: (M,), Å².

    Args:
        mine: the candidate, N atoms.
        theirs: the reference, N atoms of the same species.
        operations: of the host.
        radius: longest translation after the operation that has to be allowed for, Å.
    """
    slack = radius + 2.0 * operations.symprec  # the host itself is symmetric to symprec
    separate = {number: _hole_bounds(mine, theirs, sites, operations, slack) for number, sites in operations.species}
    for number, atoms in _species(mine.numbers):
        found = _stray_bounds(mine, theirs, atoms, np.flatnonzero(theirs.numbers == number), operations, slack)
        separate[number] = np.maximum(separate.get(number, 0.0), found)
    bounds = np.asarray(sum(separate.values()))  # no atom is of two species
    own, goal = (np.argsort(-found.stray, kind="stable")[: STRAYS + 1] for found in (mine, theirs))
    rest, other_rest = float(mine.stray[own[-1]]), float(theirs.stray[goal[-1]])
    own, goal = own[:-1], goal[:-1]
    images = operations.images(mine.positions[own])
    distances = np.sqrt(operations.lattice.squared_distance_bounds(images, theirs.positions[goal]))
    distances[:, mine.numbers[own][:, None] != theirs.numbers[goal][None, :]] = np.inf
    to_own = np.minimum(distances.min(axis=1), theirs.stray[goal] - rest)
    to_goal = np.minimum(distances.min(axis=2), mine.stray[own] - other_rest)
    for nearest in (to_own, to_goal):
        bounds = np.maximum(bounds, (np.maximum(nearest - slack, 0.0) ** 2).sum(axis=1))
    return np.asarray(bounds / len(mine.numbers))
