"""The tables of the task ``transition_levels``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Literal

from defectbench.scoring.intervals import rounded
from defectbench.tasks.transition_levels.defects import DefectThermodynamics, why_missing
from defectbench.tasks.transition_levels.rows import AxisRow, LevelRow, StateRow
from defectbench.thermodynamics import (
    LevelDiagram,
    ThermodynamicReference,
    effective_u,
    level_diagram,
    pairwise_level,
    stability_depths,
)
from defectbench.thermodynamics.comparison import Comparison

Guess = Literal["ideal_start_only", "another_charges_geometry"]
"""Baselines that have basins, and so levels."""


def state_rows(defect: DefectThermodynamics, own: Comparison, basin: Comparison, gap: float | None) -> Iterable[StateRow]:
    """One row per charge state: ground states, formation energies, stability and U."""
    reference = defect.reference
    depths = [_depths(defect.energies(which)) for which in ("reference", "own", "basin")]
    in_gap = None if gap is None else reference.stable_within(0.0, gap)
    u = {which: _u_of(defect.energies(which)) for which in ("reference", "own", "basin")}
    for charge, state in defect.states.items():
        matched = defect.matched[charge]
        ground = matched.ground
        yield {
            "defect": defect.defect,
            "charge": charge,
            "reference_configuration": matched.reference.ground.configuration,
            "model_configuration": ground.configuration if ground else None,
            "formation_energy_reference_ev": rounded(state.reference) if defect.absolute[0] else None,
            "formation_energy_own_ev": rounded(state.own) if defect.absolute[1] else None,
            "basin_energy_ev": rounded(_minus(state.basin, state.reference)),
            "stable_reference": charge in reference.stable,
            "stable_own": charge in own.diagram.stable if own.diagram and state.own is not None else None,
            "stable_basin": charge in basin.diagram.stable if basin.diagram and state.basin is not None else None,
            "stable_in_gap_reference": None if in_gap is None else charge in in_gap,
            "stability_reference_ev": rounded(depths[0].get(charge)),
            "stability_own_ev": rounded(depths[1].get(charge)),
            "stability_basin_ev": rounded(depths[2].get(charge)),
            "u_reference_ev": rounded(u["reference"].get(charge)),
            "u_own_ev": rounded(u["own"].get(charge)),
            "u_basin_ev": rounded(u["basin"].get(charge)),
            "corrections": defect.corrections.status,
            "reason": defect.reasons.get(charge),
        }


def level_rows(
    defect: DefectThermodynamics,
    own: Comparison,
    basin: Comparison,
    guesses: Mapping[Guess, Mapping[int, float | None]],
    shift: float | None,
    zero: str,
) -> Iterable[LevelRow]:
    """Every pairwise level with both predictions, the error budget, and the errors of the baselines that have basins."""
    reference = defect.reference
    guessed = {name: level_diagram(have) for name, g in guesses.items() if (have := {q: e for q, e in g.items() if e is not None})}
    fixed = {charge: energy for charge, energy in defect.energies("at_reference").items() if energy is not None}
    successive = set(pairwise(reference.charges))
    stable = [{(x.upper, x.lower) for x in d.stable_levels} if d else None for d in (reference, own.diagram, basin.diagram)]

    def error_of(guess: Guess, pair: tuple[int, int], fermi_level: float) -> float | None:
        return rounded(_minus(_value(guessed.get(guess), pair), fermi_level))

    for level in reference.levels:
        pair = (level.upper, level.lower)
        mine, basins = (_value(c.diagram, pair) for c in (own, basin))
        at_reference = pairwise_level(*pair, fixed).fermi_level if set(pair) <= set(fixed) else None
        total, geometry, energy = (_minus(x, level.fermi_level) for x in (mine, basins, at_reference))
        coupling = total - geometry - energy if total is not None and geometry is not None and energy is not None else None
        yield {
            "defect": defect.defect,
            "level": level.label,
            "upper": level.upper,
            "lower": level.lower,
            "successive": pair in successive,
            "stable_reference": pair in (stable[0] or ()),
            "stable_own": pair in stable[1] if stable[1] is not None and mine is not None else None,
            "stable_basin": pair in stable[2] if stable[2] is not None and basins is not None else None,
            "reference_ev": rounded(level.fermi_level),
            "own_ev": rounded(mine),
            "own_error_ev": rounded(total),
            "own_aligned_error_ev": rounded(_minus(total, shift)),
            "basin_ev": rounded(basins),
            "basin_error_ev": rounded(geometry),
            "at_reference_geometry_ev": rounded(at_reference),
            "geometry_part_ev": rounded(geometry) if total is not None else None,
            "energy_part_ev": rounded(energy),
            "coupling_part_ev": rounded(coupling),
            "ideal_start_only_error_ev": error_of("ideal_start_only", pair, level.fermi_level),
            "another_charges_geometry_error_ev": error_of("another_charges_geometry", pair, level.fermi_level),
            "zero": zero,
            "corrections": defect.corrections.status,
            "reason": why_missing(defect, pair),
        }


def axis_row(reference: ThermodynamicReference) -> AxisRow:
    """What the Fermi level is measured from, and the band gap above it; None where the dataset does not have it."""
    known = reference.vbm is not None
    return {
        "zero": "valence band maximum" if known else "lowest stable reference level",
        "gap_ev": rounded(reference.gap) if known else None,
    }


def _minus(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second


def _u_of(energies: Mapping[int, float | None]) -> dict[int, float]:
    have = {charge: energy for charge, energy in energies.items() if energy is not None}
    return effective_u(have) if have else {}


def _depths(energies: Mapping[int, float | None]) -> dict[int, float]:
    """By how much each charge is stable, eV, without the extreme ones, which are stable whatever their energies."""
    have = {charge: energy for charge, energy in energies.items() if energy is not None}
    if len(have) < len(energies):
        return {}
    return {charge: depth for charge, depth in stability_depths(have).items() if math.isfinite(depth)}


def _value(diagram: LevelDiagram | None, pair: tuple[int, int]) -> float | None:
    level = diagram.level(*pair) if diagram is not None else None
    return None if level is None else level.fermi_level
