"""Level diagrams of a model held against those of the reference."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from defectbench.thermodynamics import (
    LevelDiagram,
    effective_u,
    level_diagram,
    pairwise_level,
    stability_depths,
)

DECISION_MARGIN = 0.01
"""eV: what decides stability and the sign of U must exceed this.

Relaxations that stop at 0.03 eV/Å leave a few meV. A model whose energies are linear in the charge has all levels in one place, no
charge below the line through the others and U = 0; without a margin such noise would decide, and be right by chance. Where the
reference itself is undecided by this margin, nothing is asked.
"""


@dataclass(frozen=True)
class Comparison:
    """A prediction of one defect's levels against the reference's.

    Attributes:
        errors: (upper, lower) → predicted minus reference level, eV, for successive charges; None where one energy is missing.
        sequence_right: whether the stable charges along the whole Fermi level axis are the reference's (:func:`sequence_right`).
        gap_sequence_right: the same in the band gap; None without one.
        negative_u_right: one truth value per charge with both neighbours (:func:`negative_u_right`).
        diagram: the predicted levels of the charges that have an energy; None if none has.
    """

    errors: Mapping[tuple[int, int], float | None]
    sequence_right: bool | None
    gap_sequence_right: bool | None
    negative_u_right: tuple[bool, ...]
    diagram: LevelDiagram | None


def sequence_right(
    reference: Mapping[int, float], predicted: Mapping[int, float], low: float = -math.inf, high: float = math.inf
) -> bool | None:
    """Whether the charges that are stable over a range of Fermi levels are the reference's, by :data:`DECISION_MARGIN`.

    Every charge that is stable in the reference must be so by at least the margin in the prediction, every one that is not must miss it
    by at least the margin (:func:`~defectbench.thermodynamics.stability_depths`). Charges whose stability the reference itself leaves
    undecided by the margin are not asked for; nor, over the whole axis, the two extreme ones, which are stable whatever their energies.

    Args:
        reference: charge → energy at E_F = 0, eV.
        predicted: the same for the prediction, of the charges that it has.
        low: lower end of the range, eV.
        high: upper end of the range, eV.

    Returns:
        False too if a charge has no predicted energy; None if the reference decides nothing.
    """
    depths = stability_depths(reference, low, high)
    decided = {charge: depth > 0.0 for charge, depth in depths.items() if DECISION_MARGIN <= abs(depth) < math.inf}
    if not decided:
        return None
    if set(reference) - set(predicted):
        return False
    found = stability_depths({charge: predicted[charge] for charge in reference}, low, high)
    return all(found[q] >= DECISION_MARGIN if stable else found[q] <= -DECISION_MARGIN for q, stable in decided.items())


def negative_u_right(reference: float, predicted: float | None) -> bool:
    """Whether an effective U has the reference's sign, by :data:`DECISION_MARGIN`; either is right where the reference is undecided by it.

    Args:
        reference: U_eff, eV.
        predicted: the same of the prediction; None if it has none, which is wrong.
    """
    if predicted is None:
        return False
    if abs(reference) < DECISION_MARGIN:
        return True
    return abs(predicted) >= DECISION_MARGIN and (predicted < 0.0) == (reference < 0.0)


def compare(reference: Mapping[int, float], predicted: Mapping[int, float | None], gap: float | None = None) -> Comparison:
    """Levels between successive charges, stable charges and signs of U of a prediction against the reference's.

    Args:
        reference: charge → energy at E_F = 0, eV.
        predicted: the same for the prediction; None where it has no energy.
        gap: band gap above E_F = 0, eV; None if E_F = 0 is not the valence band maximum or the conduction band minimum is unknown.
    """
    charges = sorted(reference, reverse=True)
    have = {charge: energy for charge in charges if (energy := predicted.get(charge)) is not None}
    errors: dict[tuple[int, int], float | None] = {}
    for upper, lower in pairwise(charges):
        complete = upper in have and lower in have
        errors[upper, lower] = (
            pairwise_level(upper, lower, have).fermi_level - pairwise_level(upper, lower, reference).fermi_level if complete else None
        )
    found = effective_u(have) if have else {}
    return Comparison(
        errors=errors,
        sequence_right=sequence_right(reference, have),
        gap_sequence_right=None if gap is None else sequence_right(reference, have, 0.0, gap),
        negative_u_right=tuple(negative_u_right(u, found.get(charge)) for charge, u in effective_u(reference).items()),
        diagram=level_diagram(have) if have else None,
    )
