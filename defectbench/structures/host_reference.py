"""Matching after the model's own host relaxation is subtracted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from defectbench.structures.lattice import LOCAL_RADIUS
from defectbench.structures.matching import Match, match
from defectbench.structures.placement import host_translation
from defectbench.structures.symmetry import Operations, _species

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.intp]


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
    origins = operations.images(np.zeros((1, 3)))
    turns = operations.images(np.eye(3)) - origins  # rows: images of the Cartesian unit vectors
    fields = np.empty((len(operations), *base.shape))
    fields[np.arange(len(operations))[:, None], operations.partners] = base @ turns
    distinct = fields[:0]
    while len(fields):
        first = fields[:1]
        distinct = np.concatenate([distinct, first])
        fields = fields[((fields - first) ** 2).sum(axis=-1).max(axis=1) >= tolerance**2]
    return list(distinct)


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

    (Model's defect − model's host) against (reference's defect − reference's host) is the same as the model's defect minus the host's
    drift against the reference's defect. The drift is laid onto the host sites by matching, not by index, and the best of its equivalent
    orientations (:func:`host_fields`) is taken.

    Returns:
        The match, and the candidate with the host's drift subtracted.

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
