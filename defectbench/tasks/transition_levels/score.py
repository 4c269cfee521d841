"""Charge transition levels of the model against the reference: from its own energies, and from the basins it finds.

Two answers that are never mixed:

* *own*: levels from the model's own energies E_m(q) of its own ground states. Only for models whose energy hears the charge.
* *basin*: levels from the **reference** energies of the reference minima that the model's ground states fall into. It asks
  only for geometry, so every model has it, and for a charge-blind model it is the only fair one.

Band edges, finite-size corrections and chemical potentials are the dataset's for both sides, so they cancel from every error. A
level needs energy differences between charges of one defect only; composition-dependent zeros of a model's energy (atomic reference
energies) drop out. What does not drop out is a term λ·q: the zero of the electrostatic potential, in which codes, pseudopotentials and
hence training data differ. It moves all levels by one constant. So errors are given as they are and again after the
one constant per dataset that suits the model best is taken off (*aligned*). A constant chosen *per charge* would be a fit of the levels
themselves: a model's zero must be the same function of charge for all structures, and no such freedom is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from defectbench.base.errors import DatasetError
from defectbench.base.states import charge_label
from defectbench.calculations.plan import PlanInput
from defectbench.scoring.intervals import bootstrap_interval, mean_with_interval, rounded
from defectbench.scoring.landscape import PlacedState, nearest_minimum, operations_of, place_all
from defectbench.scoring.single_points import stored_energy
from defectbench.scoring.task import MetricDefinition, MetricValue, ScoringInput, TaskResult
from defectbench.thermodynamics import (
    DefectCorrections,
    LevelDiagram,
    Reservoir,
    effective_u,
    exchange_energy,
    exchanged_atoms,
    find_corrections,
    level_diagram,
    pairwise_level,
    reservoir,
    stability_depths,
)
from defectbench.thermodynamics.comparison import Comparison, Curve, compare

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from defectbench.calculations.requests import Calculation
    from defectbench.datasets.dataset import Dataset

    Floats = NDArray[np.float64]


LEVEL_CAP = 1.0
"""eV: an error of a level counts up to this in averages, and a level that the model lacks counts as this."""

LEVEL_TOLERANCE = 0.1
"""eV: a level this near to the reference counts as right."""


_OWN = "from the model's own energies"
_BASIN = "from the reference energies of the basins that the model's ground states fall into"
_MISS = f"an error counts up to {LEVEL_CAP:g} eV, a missing level as {LEVEL_CAP:g} eV"

METRICS = (
    MetricDefinition(
        "level_mae", "Level MAE", "eV", "lower", 0.02, 0.5,
        f"Mean absolute error of the levels between successive charges, {_OWN}; {_MISS}.",
    ),
    MetricDefinition(
        "level_max_error", "Largest level error", "eV", "lower", 0.05, 1.0,
        f"Largest absolute error of those levels, {_OWN}; at least {LEVEL_CAP:g} eV if one is missing.",
    ),
    MetricDefinition(
        "levels_right", "Levels within 0.1 eV", "1", "higher", 1.0, 0.0,
        f"Fraction of those levels within 0.1 eV, {_OWN}; a missing level is wrong.",
    ),
    MetricDefinition(
        "level_aligned_mae", "Aligned level MAE", "eV", "lower", 0.02, 0.5,
        f"The same mean error after one constant, the zero of the potential, is taken off all levels of the dataset; {_MISS}.",
    ),
    MetricDefinition(
        "level_shift", "Level shift", "eV", "none", None, None,
        "The constant that alignment takes off: the median error of the levels.",
    ),
    MetricDefinition(
        "sequence_right", "Stable charges right", "1", "higher", 1.0, 0.0,
        f"Fraction of defects whose stable charges along the Fermi level are the reference's, by at least 10 meV, {_OWN}.",
    ),
    MetricDefinition(
        "negative_u_right", "Negative U right", "1", "higher", 1.0, 0.5,
        f"Fraction of charges with both neighbours whose effective U has the right sign by 10 meV or more, {_OWN}; a missing one is wrong.",
    ),
    MetricDefinition(
        "gap_sequence_right", "Stable charges in the gap right", "1", "none", None, None,
        f"The same as the stable charges, for Fermi levels in the band gap, {_OWN} as they are: with the model's zero of the potential.",
    ),
    MetricDefinition(
        "energy_part_mae", "Energy part", "eV", "none", None, None,
        "Error budget: mean absolute error of levels from the model's energies at the reference geometries.",
    ),
    MetricDefinition(
        "geometry_part_mae", "Geometry part", "eV", "none", None, None,
        "Error budget: mean absolute error of levels from the reference energies of the model's basins (found ones only).",
    ),
    MetricDefinition(
        "formation_energy_mae", "Formation energy MAE", "eV", "none", None, None,
        "Mean absolute error of formation energies at the valence band maximum: the model's defect and host, the dataset's potentials.",
    ),
    MetricDefinition(
        "basin_level_mae", "Basin level MAE", "eV", "lower", 0.02, 0.5,
        f"Mean absolute error of levels {_BASIN}; {_MISS}.",
    ),
    MetricDefinition(
        "basin_level_max_error", "Largest basin level error", "eV", "none", None, None,
        f"Largest absolute error of levels {_BASIN}; at least {LEVEL_CAP:g} eV if one is missing.",
    ),
    MetricDefinition(
        "basin_levels_right", "Basin levels within 0.1 eV", "1", "higher", 1.0, 0.0,
        f"Fraction of levels within 0.1 eV {_BASIN}; a missing one is wrong.",
    ),
    MetricDefinition(
        "basin_sequence_right", "Basin stable charges right", "1", "none", None, None,
        f"Fraction of defects with the reference's stable charges, by at least 10 meV, {_BASIN}.",
    ),
    MetricDefinition(
        "basin_gap_sequence_right", "Basin stable charges in the gap right", "1", "none", None, None,
        f"The same for Fermi levels in the band gap, {_BASIN}.",
    ),
    MetricDefinition(
        "basins_found", "Basins found", "1", "none", None, None,
        "Fraction of charge states whose model ground state lies in the basin of a reference minimum.",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class DefectThermodynamics:
    """One defect's charge states with everything that their levels need.

    Attributes:
        defect: name.
        states: charge → energies, by ascending charge; at least two.
        placed: charge → the model's configurations on the reference.
        corrections: the ones used.
        constant: E_bulk + Σ n μ of the reference in eV, None without them: ``reference − constant`` is the formation energy.
        own_constant: the same with the model's own host energy.
        reasons: charge → why the model has no ground state or basin.
    """

    defect: str
    states: Mapping[int, Curve]
    placed: Mapping[int, PlacedState]
    corrections: DefectCorrections
    constant: float | None
    own_constant: float | None
    reasons: Mapping[int, str]

    def energies(self, which: str) -> dict[int, float | None]:
        """Charge → energy of one kind: ``reference``, ``own``, ``basin`` or ``at_reference``."""
        return {charge: getattr(curve, which) for charge, curve in self.states.items()}

    @property
    def reference(self) -> LevelDiagram:
        """The reference's levels."""
        return level_diagram({charge: curve.reference for charge, curve in self.states.items()})


def calculations(plan: PlanInput) -> list[Calculation]:
    """Single points of the reference ground state of every selected charge state, for the error budget."""
    out = []
    for state in plan.states:
        ground = plan.dataset.ground_state(state.defect, state.charge)
        if ground is not None:
            out.append(plan.calculation("single_point", ground.atoms, state.charge))
    return out


@dataclass(frozen=True)
class Collected:
    """All defects of a scoring, and what must be said about them.

    Attributes:
        defects: those with at least two charge states.
        reservoir: of the reference level.
        zero: eV, what E_F = 0 is on the scale of the total energies: the valence band maximum, or without one the reference's lowest level.
        notes: sentences.
    """

    defects: tuple[DefectThermodynamics, ...]
    reservoir: Reservoir
    zero: float
    notes: tuple[str, ...]


def collect(scoring: ScoringInput) -> Collected:
    """Reference, own, basin and at-reference energies of every defect with two or more charge states."""
    level = scoring.dataset.level_of_theory()
    store = reservoir(level)
    notes: list[str] = []
    grouped: dict[str, list[PlacedState]] = {}
    for placed in place_all(scoring):
        grouped.setdefault(placed.reference.defect, []).append(placed)
    corrections: dict[str, DefectCorrections] = {}
    for defect in list(grouped):
        charges = [p.reference.charge for p in grouped[defect]]
        if len(charges) < 2:
            notes.append(f"{defect}: only {charge_label(charges[0])} has a reference among the selected states; a level needs two charges.")
            del grouped[defect]
            continue
        try:
            corrections[defect] = find_corrections(level, defect, charges)
        except DatasetError as error:
            notes.append(f"No levels of {defect}: {error}.")
            del grouped[defect]
    uncorrected = [defect for defect in grouped if corrections[defect].status == "uncorrected"]
    if uncorrected:
        notes.append(
            f"Uncorrected: the dataset stores no finite-size corrections for {', '.join(uncorrected)}. They would move reference and model "
            "levels alike; errors do not depend on them, levels, stable charges and the sign of U do."
        )
    zero = store.vbm
    if zero is None:
        stable = [
            item.fermi_level
            for defect, states in grouped.items()
            for item in level_diagram(
                {p.reference.charge: corrections[defect].added_to(p.reference.charge, p.reference.ground.energy) for p in states}
            ).stable_levels
        ]
        zero = min(stable, default=0.0)
        notes.append(
            "The dataset has no valence band maximum: levels are relative to the reference's lowest stable one. "
            "Differences between levels, and all errors, are meaningful; positions in the gap are not."
        )
    if store.missing:
        notes.append(f"No formation energies: the dataset has no {', no '.join(store.missing)}.")
    host = [h.relaxation.energy for h in scoring.host if h.relaxation.status == "converged" and h.relaxation.energy is not None]
    defects = tuple(
        _one_defect(scoring, defect, states, corrections[defect], store, zero, min(host, default=None))
        for defect, states in grouped.items()
    )
    return Collected(defects, store, zero, tuple(notes))


def _one_defect(
    scoring: ScoringInput,
    defect: str,
    states: Sequence[PlacedState],
    corrections: DefectCorrections,
    store: Reservoir,
    zero: float,
    model_host_energy: float | None,
) -> DefectThermodynamics:
    hears = scoring.charge_class != "charge-blind"
    curves: dict[int, Curve] = {}
    reasons: dict[int, str] = {}
    for state in sorted(states, key=lambda s: s.reference.charge):
        charge, ground = state.reference.charge, state.ground

        def line(energy: float | None, charge: int = charge) -> float | None:
            return None if energy is None else corrections.added_to(charge, energy) + charge * zero

        basin: float | None = None
        if ground is None:
            reasons[charge] = state.reason or "no ground state"
        elif ground.minimum is None:
            reasons[charge] = "the model's ground state lies in no reference minimum's basin"
        else:
            basin = state.reference.distinct[ground.minimum].energy
        single: float | None = None
        if hears:
            single, why = stored_energy(scoring, state.reference.ground.atoms, charge)
            if why is not None:
                reasons[charge] = "; ".join(filter(None, (reasons.get(charge), f"reference geometry: {why}")))
        curves[charge] = Curve(
            reference=corrections.added_to(charge, state.reference.ground.energy) + charge * zero,
            own=line(ground.energy) if hears and ground is not None else None,
            basin=line(basin),
            at_reference=line(single),
        )
    exchanged: float | None = None
    if not store.missing:
        exchanged = exchange_energy(exchanged_atoms(scoring.dataset.defect(defect)), store.conditions[0].potentials)
    return DefectThermodynamics(
        defect=defect,
        states=curves,
        placed={s.reference.charge: s for s in states},
        corrections=corrections,
        constant=store.host_energy + exchanged if exchanged is not None and store.host_energy is not None else None,
        own_constant=model_host_energy + exchanged if exchanged is not None and model_host_energy is not None else None,
        reasons=reasons,
    )


def score(scoring: ScoringInput) -> TaskResult:
    """Levels, stable charges, negative U and the error budget. Pure."""
    found = collect(scoring)
    notes = list(found.notes)
    blind = scoring.charge_class == "charge-blind"
    if blind:
        notes.append("The model is charge-blind: it has no levels from its own energies; the basin columns use reference energies only.")
    elif scoring.charge_class == "energy-only":
        notes.append(
            "The model's energies hear the charge but its forces do not: its own levels are given, "
            "at geometries that do not depend on the charge."
        )
    if not blind:
        notes.append(
            "Own levels take the model's charge-dependent energies as they are, with the dataset's band edges and corrections. A model "
            "trained on another code's charged cells has another zero of the potential: the aligned errors are without that one constant."
        )
    if found.reservoir.conditions and not found.reservoir.missing:
        notes.append(
            f"Formation energies at the valence band maximum, {found.reservoir.conditions[0].name}; the model's with its own host energy. "
            "They compare only if the model shares the dataset's level of theory and elemental references."
        )
    gap = found.reservoir.gap
    own = {d.defect: compare(_reference(d), d.energies("own"), gap) for d in found.defects}
    basin = {d.defect: compare(_reference(d), d.energies("basin"), gap) for d in found.defects}
    fixed = {d.defect: compare(_reference(d), d.energies("at_reference")) for d in found.defects}
    shift = _shift(own.values())
    why = None if found.defects else _Lack("no defect has two charge states with a reference", False)
    deaf = _Lack("charge-blind: the model's energy does not depend on the charge, so it has no levels of its own", True) if blind else None
    none_found = _Lack("the model has none of the levels", True)
    values = [
        *_level_metrics("", own.values(), why or deaf, gap),
        *_level_metrics("basin_", basin.values(), why, gap),
        _aggregate("energy_part_mae", _found(_errors(fixed.values())), why or deaf, none_found),
        _aggregate("geometry_part_mae", _found(_errors(basin.values())), why, none_found),
        _formation_metric(found, why or deaf),
        _aggregate("basins_found", (float(curve.basin is not None) for d in found.defects for curve in d.states.values()), why, _NO_LEVELS),
    ]
    by_name = {value.name: value for value in values}
    return TaskResult(
        task="transition_levels",
        metrics=tuple(by_name[m.name] for m in METRICS),
        rows=tuple(row for d in found.defects for row in _state_rows(d, own[d.defect], basin[d.defect], gap)),
        baselines=baselines(scoring, found),
        notes=tuple(notes),
        tables={
            "levels": tuple(
                row
                for d in found.defects
                for row in _level_rows(
                    d,
                    own[d.defect],
                    basin[d.defect],
                    _basin_guesses(scoring.dataset, d, found.zero),
                    shift,
                    found.reservoir.vbm is not None,
                )
            )
        },
    )


@dataclass(frozen=True)
class _Lack:
    """Why there is no value, and whether that is the model's failure (``applies``) or the dataset's."""

    reason: str
    applies: bool


def _reference(defect: DefectThermodynamics) -> dict[int, float]:
    return {charge: curve.reference for charge, curve in defect.states.items()}


def _errors(comparisons: Iterable[Comparison]) -> list[float | None]:
    return [error for comparison in comparisons for error in comparison.errors.values()]


def _shift(comparisons: Iterable[Comparison]) -> float | None:
    """The constant in all errors: their median, which minimises the mean absolute rest; None for fewer than two levels."""
    found = [error for error in _errors(comparisons) if error is not None]
    return float(np.median(found)) if len(found) > 1 else None


def _none(name: str, lack: _Lack) -> MetricValue:
    return MetricValue(name, None, None, lack.reason, lack.applies)


def _aggregate(name: str, values: Iterable[float], lack: _Lack | None, empty: _Lack) -> MetricValue:
    """The mean with its interval; without values ``empty`` says why."""
    if lack is not None:
        return _none(name, lack)
    mean, interval = mean_with_interval(values)
    return _none(name, empty) if mean is None else MetricValue(name, mean, interval)


_NO_LEVELS = _Lack("there are no levels", False)


_UNDECIDED = _Lack("no charge whose stability the reference decides by 10 meV (the two extreme charges are always stable)", False)


def _level_metrics(prefix: str, comparisons: Iterable[Comparison], lack: _Lack | None, gap: float | None) -> list[MetricValue]:
    """The metrics that own and basin levels have in common, and for own levels (no prefix) those that only they have."""
    comparisons = list(comparisons)
    errors = _errors(comparisons)
    have = [abs(e) for e in errors if e is not None]
    if lack is not None or not errors:
        largest = _none(f"{prefix}level_max_error", lack or _NO_LEVELS)
    else:
        largest = MetricValue(f"{prefix}level_max_error", max([*have, LEVEL_CAP] if len(have) < len(errors) else have))
    sequences = [float(c.sequence_right) for c in comparisons if c.sequence_right is not None]
    in_gap = [float(c.gap_sequence_right) for c in comparisons if c.gap_sequence_right is not None]
    no_gap = _Lack("the dataset has no band gap (valence band maximum and conduction band minimum)", False) if gap is None else None
    out = [
        _aggregate(f"{prefix}level_mae", (_capped(e) for e in errors), lack, _NO_LEVELS),
        largest,
        _aggregate(f"{prefix}levels_right", (float(e is not None and abs(e) <= LEVEL_TOLERANCE) for e in errors), lack, _NO_LEVELS),
        _aggregate(f"{prefix}sequence_right", sequences, lack, _UNDECIDED),
        _aggregate(f"{prefix}gap_sequence_right", in_gap, lack or no_gap, _UNDECIDED),
    ]
    if prefix:
        return out
    found = np.array([math.nan if e is None else e for e in errors])
    alone = lack
    if lack is None and len(have) < 2:
        alone = _Lack("fewer than two levels: alignment would leave nothing", applies=len(errors) > 1)
    if alone is not None:
        out += [_none("level_aligned_mae", alone), _none("level_shift", alone)]
    else:
        out.append(MetricValue("level_aligned_mae", _aligned_mae(found), bootstrap_interval(found, _aligned_mae)))
        there = found[~np.isnan(found)]
        out.append(MetricValue("level_shift", _median(there), bootstrap_interval(there, _median)))
    decided = [float(hit) for c in comparisons for hit in c.negative_u_right]
    out.append(_aggregate("negative_u_right", decided, lack, _Lack("no charge state has both neighbours", False)))
    return out


def _aligned_mae(errors: Floats) -> float:
    """Mean absolute error after the constant that suits these errors best is taken off them; a missing one (NaN) counts as the cap."""
    there = errors[~np.isnan(errors)]
    rest = np.minimum(np.abs(there - (_median(there) if len(there) else 0.0)), LEVEL_CAP)
    return float((rest.sum() + LEVEL_CAP * (len(errors) - len(there))) / len(errors))


def _median(values: Floats) -> float:
    return float(np.median(values))


def _capped(error: float | None) -> float:
    return LEVEL_CAP if error is None else min(abs(error), LEVEL_CAP)


def _found(errors: Iterable[float | None]) -> list[float]:
    return [abs(e) for e in errors if e is not None]


def _formation_metric(found: Collected, lack: _Lack | None) -> MetricValue:
    if found.reservoir.missing:
        lack = _Lack(f"the dataset has no {', no '.join(found.reservoir.missing)}", False)
    errors = [
        curve.own - d.own_constant - (curve.reference - d.constant)
        for d in found.defects
        for curve in d.states.values()
        if curve.own is not None and d.own_constant is not None and d.constant is not None
    ]
    return _aggregate("formation_energy_mae", _found(errors), lack, _Lack("the model has no ground state, or no converged host", True))


def baselines(scoring: ScoringInput, found: Collected | None = None) -> dict[str, dict[str, float | None]]:
    """What is reached without a model: see the labels.

    ``every level at their mean``: one number for all levels. ``ideal start only``: the reference minimum that DFT itself reaches
    from ``Unperturbed``, no structure searching. ``another charge's geometry``: the basin that the next charge's ground state falls into.
    """
    found = found or collect(scoring)
    references = {d.defect: _reference(d) for d in found.defects}
    levels = [
        pairwise_level(*pair, references[d.defect]).fermi_level for d in found.defects for pair in pairwise(sorted(d.states, reverse=True))
    ]
    if not levels:
        return {}
    mean = float(np.mean(levels))
    guesses: dict[str, tuple[str, Callable[[DefectThermodynamics], dict[int, float | None]]]] = {
        "every level at their mean": ("", lambda d: {q: -mean * q for q in d.states}),
        "ideal start only": ("basin_", lambda d: _basin_guesses(scoring.dataset, d, found.zero)["ideal_start_only"]),
        "another charge's geometry": ("basin_", lambda d: _basin_guesses(scoring.dataset, d, found.zero)["another_charges_geometry"]),
    }
    out: dict[str, dict[str, float | None]] = {}
    for label, (prefix, guess) in guesses.items():
        comparisons = [compare(references[d.defect], guess(d), found.reservoir.gap) for d in found.defects]
        values = _level_metrics(prefix, comparisons, None, found.reservoir.gap)
        out[label] = {
            value.name: value.value for value in values if value.name != "level_shift" and (value.value is not None or value.applies)
        }
    return out


def _basin_guesses(dataset: Dataset, defect: DefectThermodynamics, zero: float) -> dict[str, dict[int, float | None]]:
    """Line energies of the two baselines that have basins, by the prefix of their columns."""
    return {"ideal_start_only": _ideal_only(defect, zero), "another_charges_geometry": _another_charge(dataset, defect, zero)}


def _ideal_only(defect: DefectThermodynamics, zero: float) -> dict[int, float | None]:
    out: dict[int, float | None] = {}
    for charge, placed in defect.placed.items():
        minimum = placed.reference.minima.get("Unperturbed")
        out[charge] = None if minimum is None else defect.corrections.added_to(charge, minimum.energy) + charge * zero
    return out


def _another_charge(dataset: Dataset, defect: DefectThermodynamics, zero: float) -> dict[int, float | None]:
    operations = operations_of(dataset)
    charges = sorted(defect.placed)
    out: dict[int, float | None] = {}
    for index, charge in enumerate(charges):
        other = charges[index + 1] if index + 1 < len(charges) else charges[index - 1]
        reference = defect.placed[charge].reference
        basin, _ = nearest_minimum(defect.placed[other].reference.ground.atoms, reference, operations)
        out[charge] = None if basin is None else defect.corrections.added_to(charge, reference.distinct[basin].energy) + charge * zero
    return out


def _minus(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second


def _state_rows(defect: DefectThermodynamics, own: Comparison, basin: Comparison, gap: float | None) -> Iterable[dict[str, Any]]:
    reference = defect.reference
    depths = [_depths(defect.energies(which)) for which in ("reference", "own", "basin")]
    in_gap = None if gap is None else reference.stable_within(0.0, gap)
    u_reference = effective_u(_reference(defect))
    u_own = _u_of(defect.energies("own"))
    u_basin = _u_of(defect.energies("basin"))
    for charge, curve in defect.states.items():
        placed = defect.placed[charge]
        ground = placed.ground
        yield {
            "defect": defect.defect,
            "charge": charge,
            "reference_configuration": placed.reference.ground.configuration,
            "model_configuration": ground.configuration if ground else None,
            "formation_energy_reference_ev": rounded(_minus(curve.reference, defect.constant)),
            "formation_energy_own_ev": rounded(_minus(curve.own, defect.own_constant)),
            "basin_energy_ev": rounded(_minus(curve.basin, curve.reference)),
            "stable_reference": charge in reference.stable,
            "stable_own": charge in own.diagram.stable if own.diagram and curve.own is not None else None,
            "stable_basin": charge in basin.diagram.stable if basin.diagram and curve.basin is not None else None,
            "stable_in_gap_reference": None if in_gap is None else charge in in_gap,
            "stability_reference_ev": rounded(depths[0].get(charge)),
            "stability_own_ev": rounded(depths[1].get(charge)),
            "stability_basin_ev": rounded(depths[2].get(charge)),
            "u_reference_ev": rounded(u_reference.get(charge)),
            "u_own_ev": rounded(u_own.get(charge)),
            "u_basin_ev": rounded(u_basin.get(charge)),
            "corrections": defect.corrections.status,
            "reason": defect.reasons.get(charge),
        }


def _u_of(energies: Mapping[int, float | None]) -> dict[int, float]:
    have = {charge: energy for charge, energy in energies.items() if energy is not None}
    return effective_u(have) if have else {}


def _depths(energies: Mapping[int, float | None]) -> dict[int, float]:
    """By how much each charge is stable, eV, for those that some Fermi level could unseat: not the extreme ones."""
    have = {charge: energy for charge, energy in energies.items() if energy is not None}
    if len(have) < len(energies):
        return {}
    return {charge: depth for charge, depth in stability_depths(have).items() if math.isfinite(depth)}


def _level_rows(
    defect: DefectThermodynamics,
    own: Comparison,
    basin: Comparison,
    guesses: Mapping[str, Mapping[int, float | None]],
    shift: float | None,
    from_vbm: bool,
) -> Iterable[dict[str, Any]]:
    """Every pairwise level with both predictions, the error budget, and the errors of the baselines that have basins."""
    reference = defect.reference
    guessed = {name: level_diagram(have) for name, g in guesses.items() if (have := {q: e for q, e in g.items() if e is not None})}
    fixed = {charge: energy for charge, energy in defect.energies("at_reference").items() if energy is not None}
    successive = set(pairwise(reference.charges))
    stable = [{(x.upper, x.lower) for x in d.stable_levels} if d else None for d in (reference, own.diagram, basin.diagram)]
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
            **{f"{name}_error_ev": rounded(_minus(_value(guessed.get(name), pair), level.fermi_level)) for name in guesses},
            "zero": "valence band maximum" if from_vbm else "lowest stable reference level",
            "corrections": defect.corrections.status,
            "reason": "; ".join(f"{charge_label(q)}: {defect.reasons[q]}" for q in pair if q in defect.reasons) or None,
        }


def _value(diagram: LevelDiagram | None, pair: tuple[int, int]) -> float | None:
    level = diagram.level(*pair) if diagram is not None else None
    return None if level is None else level.fermi_level
