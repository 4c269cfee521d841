"""Charge transition levels of the model against the reference: from its own energies, and from the basins it finds.

Two answers that are never mixed:

* *own*: levels from the model's own energies E_m(q) of its own ground states. Only for models whose energy responds to charge.
* *basin*: levels from the **reference** energies of the reference minima that the model's ground states fall into. It asks
  only for geometry, so every model has it, and for a charge-blind model it is the only fair one.

Band edges, finite-size corrections and chemical potentials are the dataset's for both sides, so they cancel from every error. A
level needs energy differences between charges of one defect only; composition-dependent zeros of a model's energy (atomic reference
energies) drop out. What does not drop out is a term λ·q: the zero of the electrostatic potential, in which codes, pseudopotentials and
hence training data differ. It moves all levels by one constant. So errors are given as they are, and again after the
one constant per dataset that suits the model best is subtracted (*aligned*). A constant chosen *per charge* would be a fit of the levels
themselves: a model's zero must be the same function of charge for all structures, and no such freedom is given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from defectbench.calculations.plan import PlanInput
from defectbench.scoring.agreement import energy_reproduced
from defectbench.scoring.intervals import Label
from defectbench.scoring.landscape import fits, operations_of, place_of
from defectbench.scoring.metrics import Metrics, NotAvailable
from defectbench.scoring.task import ScoringInput, TaskResult, read_metrics
from defectbench.tasks.transition_levels.defects import DefectSet, collect
from defectbench.tasks.transition_levels.tables import Guess, axis_row, level_rows, state_rows
from defectbench.thermodynamics import pairwise_level
from defectbench.thermodynamics.comparison import Comparison, compare

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from defectbench.calculations.requests import Calculation
    from defectbench.datasets.dataset import Dataset

    Floats = NDArray[np.float64]


LEVEL_CAP = 1.0
"""eV: an error of a level counts up to this in averages, and a level that the model lacks counts as this."""

LEVEL_TOLERANCE = 0.1
"""eV: a level this near to the reference counts as right."""

METRICS, WEIGHT = read_metrics(Path(__file__).with_name("metrics.yaml"))

DESCRIPTION = (
    "Formation energies, charge transition levels, stable charges along the Fermi level and negative U. Model and reference share the "
    "dataset's band edges, corrections and chemical potentials. Models whose energy responds to charge are scored by their own energies. "
    "Every model is also scored by the reference energies of the basins that it finds, in columns of their own. The error of each level "
    "is split into a geometry part, an energy part and the rest."
)

_NO_LEVELS = NotAvailable("there are no levels", applies=False)
_NONE_FOUND = NotAvailable("the model has none of the levels", applies=True)
_UNDECIDED = NotAvailable(
    "no charge whose stability the reference decides by 10 meV (the two extreme charges are always stable)", applies=False
)


def calculations(plan: PlanInput) -> list[Calculation]:
    """Single points of the reference ground state of every selected charge state, for the error budget."""
    out = []
    for state in plan.states:
        ground = plan.dataset.ground_state(state.defect, state.charge)
        if ground is not None:
            out.append(plan.ask.single_point(ground.atoms, state.charge))
    return out


def score(scoring: ScoringInput) -> TaskResult:
    """Levels of every defect with two or more charge states; the metrics are in ``docs/thermodynamics.md``."""
    found = collect(scoring)
    gap = found.reference.gap
    own, basin, fixed, lying = (
        {d.defect: compare(d.reference_energies, d.energies(which), gap) for d in found.defects}
        for which in ("own", "basin", "at_reference", "lies_at")
    )
    blind = None
    if scoring.charge_class == "charge-blind":
        blind = NotAvailable("charge-blind: the model's energy does not depend on the charge, so it has no levels of its own", applies=True)
    nothing = None if found.defects else NotAvailable("no defect has two charge states with a reference", applies=False)
    metrics = Metrics(METRICS, empty=_NONE_FOUND)
    found_of, known_of = (
        {d.defect: {q: getattr(s, name) for q, s in d.states.items()} for d in found.defects} for name in ("found", "known")
    )
    add_levels(metrics, "", own, gap, nothing or blind)
    add_levels(metrics, "basin_", basin, gap, nothing)
    add_reproduced(metrics, "", own, found_of, nothing or blind)
    add_reproduced(metrics, "basin_", lying, known_of, nothing)
    for name, which, lacking in (("energy_part_mae", fixed, nothing or blind), ("geometry_part_mae", basin, nothing)):
        there = [(abs(e), label) for e, label in _errors(which) if e is not None]
        metrics.mean(name, [e for e, _ in there], labels=[label for _, label in there], lacking=lacking)
    add_formation_energies(metrics, found, nothing or blind)
    states = [(float(s.basin is not None), (d.defect, q)) for d in found.defects for q, s in d.states.items()]
    metrics.mean("basins_found", [x for x, _ in states], labels=[label for _, label in states], lacking=nothing, empty=_NO_LEVELS)
    axis = axis_row(found.reference)
    shift = _shift(own)
    guesses: dict[str, dict[Guess, dict[int, float | None]]] = {
        d.defect: {
            "ideal_start_only": d.ideal_start_only(),
            "another_charges_geometry": d.another_charges_geometry(scoring.dataset),
        }
        for d in found.defects
    }
    levels = [row for d in found.defects for row in level_rows(d, own[d.defect], basin[d.defect], guesses[d.defect], shift, axis["zero"])]
    return TaskResult(
        task="transition_levels",
        metrics=metrics.done(),
        rows=tuple(row for d in found.defects for row in state_rows(d, own[d.defect], basin[d.defect], gap)),
        baselines=baselines(scoring.dataset, found, guesses),
        notes=(*found.notes, *_notes(scoring.charge_class, found)),
        tables={"levels": tuple(levels), "axis": (axis,)},
    )


def baselines(
    dataset: Dataset, found: DefectSet, guesses: Mapping[str, Mapping[Guess, Mapping[int, float | None]]]
) -> dict[str, dict[str, float | None]]:
    """What is reached without a model: see the labels.

    ``unrelaxed``: where the ``Unperturbed`` start lies among the reference minima. Informed by DFT are the others. ``every level at their
    mean``: one number for all levels; left out where there is one level only, because the mean is it. ``ideal start only``: the
    reference minimum that DFT itself reaches from ``Unperturbed``, no structure searching. ``another charge's geometry``: the basin that
    the next charge's ground state falls into.

    Args:
        dataset: the reference.
        found: the defects.
        guesses: defect → name of the last two → charge → energy, eV.
    """
    levels = [
        pairwise_level(*pair, d.reference_energies).fermi_level for d in found.defects for pair in pairwise(sorted(d.states, reverse=True))
    ]
    if not levels:
        return {}
    mean = float(np.mean(levels))
    flat: dict[str, Mapping[int, float | None]] = {d.defect: {q: -mean * q for q in d.states} for d in found.defects}
    return {
        "unrelaxed": _unrelaxed(dataset, found),
        **({"every level at their mean": _baseline(found, "", flat)} if len(levels) > 1 else {}),
        "ideal start only": _baseline(found, "basin_", {d: g["ideal_start_only"] for d, g in guesses.items()}),
        "another charge's geometry": _baseline(found, "basin_", {d: g["another_charges_geometry"] for d, g in guesses.items()}),
    }


def _baseline(found: DefectSet, prefix: str, guess: Mapping[str, Mapping[int, float | None]]) -> dict[str, float | None]:
    comparisons = {d.defect: compare(d.reference_energies, guess[d.defect], found.reference.gap) for d in found.defects}
    names = {prefix + name for name in _LEVEL_METRICS} | (set() if prefix else set(_OWN_METRICS))
    metrics = Metrics([m for m in METRICS if m.name in names])
    add_levels(metrics, prefix, comparisons, found.reference.gap, None)
    add_reproduced(metrics, prefix, comparisons, {d.defect: dict.fromkeys(d.states, 1.0) for d in found.defects}, None)
    return {v.name: v.value for v in metrics.done() if v.name != "level_shift" and (v.value is not None or v.applies)}


def _unrelaxed(dataset: Dataset, found: DefectSet) -> dict[str, float | None]:
    """The metric that asks where structures lie, for the ``Unperturbed`` starts; nothing if a charge state has none."""
    comparisons: dict[str, Comparison] = {}
    known: dict[str, dict[int, float]] = {}
    operations = operations_of(dataset)
    for d in found.defects:
        energies: dict[int, float | None] = {}
        for charge, matched in d.matched.items():
            start = dataset.starts(d.defect, charge).get("Unperturbed")
            if start is None:
                return {}
            here = place_of(fits(start, matched.reference, operations), matched.reference)
            energies[charge] = d.of_minimum(charge, matched.reference.ground.energy + here.energy)
            known.setdefault(d.defect, {})[charge] = here.known
        comparisons[d.defect] = compare(d.reference_energies, energies, found.reference.gap)
    metrics = Metrics([m for m in METRICS if m.name == "basin_levels_reproduced"])
    add_reproduced(metrics, "basin_", comparisons, known, None)
    return {v.name: v.value for v in metrics.done()}


_LEVEL_METRICS = ("level_mae", "level_max_error", "levels_right", "levels_reproduced", "sequence_right", "gap_sequence_right")
_OWN_METRICS = ("level_aligned_mae", "aligned_levels_reproduced", "level_shift", "negative_u_right")


def add_reproduced(
    metrics: Metrics,
    prefix: str,
    comparisons: Mapping[str, Comparison],
    nearness: Mapping[str, Mapping[int, float]],
    lacking: NotAvailable | None,
) -> None:
    """Adds how far levels are right, each as far as the structures of its two charges are (and aligned, for own levels: no prefix).

    Args:
        metrics: to add to.
        prefix: of the metrics' names.
        comparisons: by defect.
        nearness: defect → charge → how near the model's structure is, 0 to 1.
        lacking: why there is no value.
    """
    errors = _errors(comparisons)
    weights = [math.sqrt(nearness[defect][upper] * nearness[defect][lower]) for defect, (upper, lower) in (label for _, label in errors)]
    labels = [label for _, label in errors]
    values = [energy_reproduced(e, w) for (e, _), w in zip(errors, weights, strict=True)]
    metrics.mean(f"{prefix}levels_reproduced", values, labels=labels, lacking=lacking, empty=_NO_LEVELS)
    if prefix:
        return
    rows = np.array([(math.nan if e is None else e, w) for (e, _), w in zip(errors, weights, strict=True)]).reshape(-1, 2)
    metrics.statistic("aligned_levels_reproduced", rows, _aligned_reproduced, labels=labels, lacking=lacking or _alone(errors))


def _aligned_reproduced(rows: Floats) -> float:
    """Mean of how far levels are right, of (error or NaN, weight), after the constant that suits these errors best is subtracted."""
    there = rows[~np.isnan(rows[:, 0]), 0]
    shift = float(np.median(there)) if len(there) else 0.0
    return float(np.mean([energy_reproduced(None if math.isnan(e) else e - shift, w) for e, w in rows]))


def _alone(errors: Sequence[tuple[float | None, Label]]) -> NotAvailable | None:
    """Why levels cannot be aligned; None if they can."""
    if sum(e is not None for e, _ in errors) >= 2:
        return None
    return NotAvailable("fewer than two levels: alignment would leave nothing", applies=len(errors) > 1)


def add_levels(
    metrics: Metrics, prefix: str, comparisons: Mapping[str, Comparison], gap: float | None, lacking: NotAvailable | None
) -> None:
    """Adds the metrics that own and basin levels have in common, and for own levels (no prefix) those that only they have."""
    labelled = _errors(comparisons)
    errors, labels = [e for e, _ in labelled], [label for _, label in labelled]
    have = [abs(e) for e in errors if e is not None]
    missing = len(have) < len(errors)
    if lacking is not None or not errors:
        metrics.lacking(f"{prefix}level_max_error", lacking or _NO_LEVELS)
    else:
        metrics.value(f"{prefix}level_max_error", max([*have, LEVEL_CAP] if missing else have))
    metrics.mean(
        f"{prefix}level_mae",
        [None if e is None else abs(e) for e in errors],
        cap=LEVEL_CAP,
        labels=labels,
        lacking=lacking,
        empty=_NO_LEVELS,
    )
    right = [float(e is not None and abs(e) <= LEVEL_TOLERANCE) for e in errors]
    metrics.mean(f"{prefix}levels_right", right, labels=labels, lacking=lacking, empty=_NO_LEVELS)
    sequences = [float(c.sequence_right) for c in comparisons.values() if c.sequence_right is not None]
    metrics.mean(f"{prefix}sequence_right", sequences, lacking=lacking, empty=_UNDECIDED)
    no_gap = NotAvailable("the dataset has no band gap (valence band maximum and conduction band minimum)", applies=False)
    in_gap = [float(c.gap_sequence_right) for c in comparisons.values() if c.gap_sequence_right is not None]
    metrics.mean(f"{prefix}gap_sequence_right", in_gap, lacking=lacking or (no_gap if gap is None else None), empty=_UNDECIDED)
    if prefix:
        return
    alone = lacking or _alone(labelled)
    found = np.array([math.nan if e is None else e for e in errors])
    metrics.statistic("level_aligned_mae", found, _aligned_mae, labels=labels, lacking=alone)
    known = [label for e, label in labelled if e is not None]
    metrics.statistic("level_shift", found[~np.isnan(found)], lambda values: float(np.median(values)), labels=known, lacking=alone)
    decided = [float(hit) for c in comparisons.values() for hit in c.negative_u_right]
    neighbours = NotAvailable("no charge state has both neighbours", applies=False)
    metrics.mean("negative_u_right", decided, lacking=lacking, empty=neighbours)


def add_formation_energies(metrics: Metrics, found: DefectSet, lacking: NotAvailable | None) -> None:
    """Adds the mean absolute error of the formation energies, over the charge states that have one."""
    if found.reference.missing:
        lacking = NotAvailable(f"the dataset has no {', no '.join(found.reference.missing)}", applies=False)
    errors = [
        (abs(s.own - s.reference), (d.defect, q))
        for d in found.defects
        if all(d.absolute)
        for q, s in d.states.items()
        if s.own is not None
    ]
    empty = NotAvailable("the model has no ground state, or no converged host", applies=True)
    metrics.mean("formation_energy_mae", [e for e, _ in errors], labels=[label for _, label in errors], lacking=lacking, empty=empty)


def _errors(comparisons: Mapping[str, Comparison]) -> list[tuple[float | None, tuple[str, tuple[int, int]]]]:
    """(error, (defect, (upper, lower))) of every level, eV."""
    return [(error, (defect, pair)) for defect, comparison in comparisons.items() for pair, error in comparison.errors.items()]


def _shift(comparisons: Mapping[str, Comparison]) -> float | None:
    """The constant in all errors: their median, which minimises the mean absolute rest; None for fewer than two levels."""
    found = [error for error, _ in _errors(comparisons) if error is not None]
    return float(np.median(found)) if len(found) > 1 else None


def _aligned_mae(errors: Floats) -> float:
    """Mean absolute error after the constant that suits these errors best is subtracted; a missing one (NaN) counts as the cap."""
    there = errors[~np.isnan(errors)]
    rest = np.minimum(np.abs(there - (float(np.median(there)) if len(there) else 0.0)), LEVEL_CAP)
    return float((rest.sum() + LEVEL_CAP * (len(errors) - len(there))) / len(errors))


def _notes(charge_class: str, found: DefectSet) -> list[str]:
    notes = []
    if charge_class == "charge-blind":
        notes.append("The model is charge-blind: it has no levels of its own energies. The basin columns use reference energies only.")
    elif charge_class == "energy-only":
        notes.append(
            "The model's energies respond to charge, its forces do not: own levels are given, "
            "at geometries that do not depend on the charge."
        )
    if charge_class != "charge-blind":
        notes.append(
            "Own levels use the model's energies as they are, with the dataset's band edges and corrections. A model trained on another "
            "code's charged cells has another zero of the potential; aligned errors are without that one constant."
        )
    if found.reference.conditions and not found.reference.missing:
        notes.append(
            f"Formation energies are at the valence band maximum, {found.reference.conditions[0].name}; "
            "the model's use its own host energy. "
            "They are comparable only if the model shares the dataset's level of theory and elemental references."
        )
    return notes
