"""Configuration-coordinate diagrams between the ground states of neighbouring charges.

After Alkauskas, Yan, Van de Walle, Phys. Rev. B 90, 075202 (2014), doi:10.1103/PhysRevB.90.075202. The path is the straight line between
the reference's ground states R_q and R_q′ (the second mapped onto the first, see
:mod:`defectbench.structures.configuration_coordinate`), so model and reference are asked at the same structures. For each of the
two charges the curve E_q(Q) is sampled; its own end point is where the reference has its minimum, by construction. From a curve:

* the relaxation energy ΔE_relax(q) = E_q(other end) − E_q(own end),
* the effective ħΩ of a parabola through the points within half a path of the own end (position of the minimum free),
* the Huang–Rhys factor S = ΔE_relax / ħΩ.

Reference energies on the path are the reference's frames of that charge at the structures that models are asked for (:data:`FRACTIONS`),
whatever configuration they are stored under: single points stored as an unconverged configuration of both charges, such as
``Path_+1_+0``. Each charge's own end point is its ground state and need not be stored again. Model and reference are compared at the
fractions that the reference has, nowhere else: a parabola through other points of the same anharmonic curve is another parabola. Where
there are none, the comparison ends at the end points: where the model's minima lie along the path, and ΔQ between the model's own
ground states.

A model that fails at any of the structures has no known curve: the lowest of the remaining points need not be its minimum, nor does what
remains tell its error. Such a curve is a miss; only its relaxation energy is taken if both ends are there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from defectbench.base.errors import DatasetError
from defectbench.base.states import format_charge
from defectbench.calculations.plan import PlanInput
from defectbench.scoring.intervals import capped, rounded
from defectbench.scoring.landscape import MatchedState, match_states, operations_of
from defectbench.scoring.metrics import Metrics, NotAvailable
from defectbench.scoring.task import MetricValue, ScoringInput, TaskResult, read_metrics
from defectbench.structures.configuration_coordinate import ConfigurationPath, configuration_path, path_structures
from defectbench.tasks.ccd.rows import CurveRow, DiagramRow, PointRow
from defectbench.thermodynamics import find_corrections, formation_energy, thermodynamic_reference
from defectbench.thermodynamics.curves import SHORTEST_PATH, CurveProperties, curve_properties

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from defectbench.calculations.requests import Calculation
    from defectbench.datasets.dataset import Dataset
    from defectbench.structures.symmetry import Operations

    Floats = NDArray[np.float64]


FRACTIONS = (-0.3, -0.15, 0.0, 0.25, 0.5, 0.75, 1.0, 1.15, 1.3)
"""Where along the path energies are asked for; 0 is the ground state of the more positive charge, 1 that of the more negative one."""


ON_PATH = 0.02
"""Of ΔQ: a reference frame no farther than this from the line is a point of the path; harmonically its energy is off by 0.0004 ΔE_relax."""


SAME_FRACTION = 0.001
"""A frame of the path this near to one of :data:`FRACTIONS` is a frame at it; harmonically its energy is off by 0.002 ΔE_relax at most."""


@dataclass(frozen=True, eq=False)
class Diagram:
    """The path between the ground states of two neighbouring charges.

    Attributes:
        defect: name.
        upper: the more positive charge: fraction 0.
        lower: the more negative charge: fraction 1.
        path: straight line between the reference's ground states.
    """

    defect: str
    upper: int
    lower: int
    path: ConfigurationPath

    @property
    def usable(self) -> bool:
        """Whether the two end points are different structures."""
        return self.path.delta_q >= SHORTEST_PATH

    def own_end(self, charge: int) -> float:
        """The fraction at which a charge has its reference minimum."""
        return 0.0 if charge == self.upper else 1.0


def diagrams(dataset: Dataset, states: Iterable[tuple[str, int]]) -> tuple[Diagram, ...]:
    """The diagrams between all pairs of neighbouring charges (differing by one) of which both have a reference ground state.

    Args:
        dataset: the reference.
        states: (defect, charge) to consider.

    Raises:
        MatchingError: two ground states of a defect differ in composition.
    """
    operations = operations_of(dataset)
    wanted: dict[str, list[int]] = {}
    for defect, charge in states:
        if dataset.has_reference(defect, charge):
            wanted.setdefault(defect, []).append(charge)
    out = []
    for defect in dataset.defects:
        for upper, lower in pairwise(sorted(set(wanted.get(defect, [])), reverse=True)):
            first, second = dataset.ground_state(defect, upper), dataset.ground_state(defect, lower)
            if upper - lower == 1 and first is not None and second is not None:
                out.append(Diagram(defect, upper, lower, configuration_path(first.atoms, second.atoms, operations)))
    return tuple(out)


def reference_points(dataset: Dataset, diagram: Diagram, charge: int) -> dict[float, float]:
    """Fraction → reference energy (eV) of one charge at those :data:`FRACTIONS` that the dataset has: its minimum and frames on the line.

    Frames are taken in the frame of the more positive charge's ground state, in which the path is. Where several frames are at one
    fraction, the one nearest to the path's structure is taken.
    """
    ground = dataset.ground_state(diagram.defect, charge)
    found = [] if ground is None else [(0.0, diagram.own_end(charge), ground.energy)]
    length = diagram.path.delta_q
    for configuration in dataset.configurations(diagram.defect, charge):
        for frame in dataset.frames(diagram.defect, charge, configuration):
            if np.array_equal(frame.numbers, diagram.path.start.numbers):
                fraction, aside = diagram.path.project(frame)
                at = min(FRACTIONS, key=lambda f: abs(f - fraction))
                if aside <= ON_PATH * length and abs(fraction - at) <= SAME_FRACTION:
                    found.append((float(np.hypot(aside, (fraction - at) * length)), at, float(frame.get_potential_energy())))
    out: dict[float, float] = {}
    for _, fraction, energy in sorted(found):
        out.setdefault(fraction, energy)
    return dict(sorted(out.items()))


METRICS, WEIGHT = read_metrics(Path(__file__).with_name("metrics.yaml"))

ENERGY_CAP = 1.0
"""eV: energy errors count up to this in averages, and a miss counts as this."""


def calculations(plan: PlanInput) -> list[Calculation]:
    """Single points of both charges at :data:`FRACTIONS` of every path (one curve for a model that takes no charge)."""
    return [
        plan.ask.single_point(atoms, charge)
        for diagram in diagrams(plan.dataset, [(s.defect, s.charge) for s in plan.states])
        if diagram.usable
        for atoms in path_structures(diagram.path, FRACTIONS)
        for charge in (diagram.upper, diagram.lower)
    ]


@dataclass(frozen=True)
class ScoredCurve:
    """One charge's curve along one path, model and reference.

    Attributes:
        path: (defect, upper, lower): the two curves of one path are not independent.
        charge: in units of +e.
        own_end: 0 or 1.
        model: fraction → energy by the model, eV.
        reference: fraction → reference energy, eV; only the own end if the dataset has no energies on the path.
        properties: of the model's curve, all points.
        common_properties: of the model's curve at the fractions that the reference has.
        reference_properties: of the reference's, as far as its points go.
        curve_error: mean absolute difference of the curves where the reference has points (own end excluded), each relative to
            its own end, eV; None if there are none or points of the model are missing.
        reason: why points of the model are missing.
    """

    path: tuple[str, int, int]
    charge: int
    own_end: float
    model: Mapping[float, float]
    reference: Mapping[float, float]
    properties: CurveProperties
    common_properties: CurveProperties
    reference_properties: CurveProperties
    curve_error: float | None
    reason: str | None

    @property
    def compared(self) -> bool:
        """Whether the reference has energies on the path besides the own end."""
        return len(self.reference) > 1

    @property
    def shown(self) -> CurveProperties:
        """What a table says of the model: from the reference's fractions where that has a parabola, else from all points."""
        return self.properties if self.reference_properties.fit is None else self.common_properties


def score_curve(scoring: ScoringInput, diagram: Diagram, charge: int) -> ScoredCurve:
    """Collects and analyses one curve."""
    model: dict[float, float] = {}
    reason: str | None = None
    for fraction, atoms in zip(FRACTIONS, path_structures(diagram.path, FRACTIONS), strict=True):
        energy, why = scoring.answers.energy(atoms, charge)
        if energy is None:
            reason = reason or why
        else:
            model[fraction] = energy
    return compared_curve(diagram, charge, model, reference_points(scoring.dataset, diagram, charge), FRACTIONS, reason)


def compared_curve(
    diagram: Diagram,
    charge: int,
    model: Mapping[float, float],
    reference: Mapping[float, float],
    asked: Sequence[float],
    reason: str | None = None,
) -> ScoredCurve:
    """Analyses a curve and compares it with the reference's at the fractions that this has.

    Args:
        diagram: the path.
        charge: in units of +e.
        model: fraction → energy, eV, ascending.
        reference: fraction → energy, eV, ascending.
        asked: fractions of which none may be missing in ``model``; they include those of ``reference``.
        reason: why some are.
    """
    own_end, length = diagram.own_end(charge), diagram.path.delta_q
    missing = [fraction for fraction in asked if fraction not in model]
    common = {fraction: model[fraction] for fraction in reference if fraction in model}
    whole, part = (_known(curve_properties(list(c), list(c.values()), own_end, length), len(missing)) for c in (model, common))
    error: float | None = None
    others = [fraction for fraction in reference if fraction != own_end]
    if others and not missing and own_end in reference:
        error = float(np.mean([abs(model[f] - model[own_end] - (reference[f] - reference[own_end])) for f in others]))
    return ScoredCurve(
        path=(diagram.defect, diagram.upper, diagram.lower),
        charge=charge,
        own_end=own_end,
        model=model,
        reference=reference,
        properties=whole,
        common_properties=part,
        reference_properties=curve_properties(list(reference), list(reference.values()), own_end, length),
        curve_error=error,
        reason=reason,
    )


def _known(properties: CurveProperties, missing: int) -> CurveProperties:
    """What is known of a curve: with points missing nothing but its relaxation energy."""
    if not missing:
        return properties
    text = "the energy at one point of the path is missing" if missing == 1 else f"the energies at {missing} points of the path are missing"
    return CurveProperties(properties.relaxation_energy, None, None, None, None, f"{text}: the curve is a miss")


def one_curve_for_both(pairs: Iterable[tuple[Diagram, ScoredCurve, ScoredCurve]]) -> list[ScoredCurve]:
    """The best that one curve for both charges does, where the reference has energies on the path: the reference's own of one of them.

    It is perfect for that charge and wrong for the other. On each path the charge is taken whose curve has the smaller mean error
    over both, so that no charge-blind model is measured against a baseline that guessed worse than it could have.

    Args:
        pairs: diagrams with the scored curves of both charges.

    Returns:
        Two curves a path, for paths on which the reference has both charges at both ends; over the fractions that both charges have.
    """
    out: list[ScoredCurve] = []
    for diagram, upper, lower in pairs:
        common = [fraction for fraction in upper.reference if fraction in lower.reference]
        if not {0.0, 1.0} <= set(common):
            continue
        references = {c.charge: {f: c.reference[f] for f in common} for c in (upper, lower)}
        choices = [
            [compared_curve(diagram, charge, curve, reference, common) for charge, reference in references.items()]
            for curve in references.values()
        ]
        out += min(choices, key=lambda curves: sum(capped(c.curve_error, ENERGY_CAP) for c in curves))
    return out


def score(scoring: ScoringInput) -> TaskResult:
    """Curves, their properties, and ΔQ between the model's own ground states. Pure."""
    placed = {(p.reference.defect, p.reference.charge): p for p in match_states(scoring)}
    found = diagrams(scoring.dataset, [(s.defect, s.charge) for s in scoring.states])
    one_curve = scoring.charge_class in ("charge-blind", "energy-only")
    rows: list[CurveRow] = []
    points: list[PointRow] = []
    pairs: list[tuple[tuple[str, int, int], float | None]] = []
    curves: list[ScoredCurve] = []
    both: list[tuple[Diagram, ScoredCurve, ScoredCurve]] = []
    notes: list[str] = []
    operations = operations_of(scoring.dataset)
    for diagram in found:
        name = f"{diagram.defect} {format_charge(diagram.upper)}/{format_charge(diagram.lower)}"
        states = [placed.get((diagram.defect, q)) for q in (diagram.upper, diagram.lower)]
        # one surface has one set of minima: different starts of different charges must not look like a change with charge
        own, why = (0.0, None) if one_curve else _own_path(states[0], states[1], operations)
        error = abs(own - diagram.path.delta_q) / diagram.path.delta_q if own is not None and diagram.usable else None
        if not diagram.usable:
            notes.append(f"{name}: the two ground states are the same structure (ΔQ {diagram.path.delta_q:.2f} amu^½ Å); no diagram.")
            continue
        pairs.append(((diagram.defect, diagram.upper, diagram.lower), error))
        for charge in (diagram.upper, diagram.lower):
            curve = score_curve(scoring, diagram, charge)
            curves.append(curve)
            rows.append(_row(diagram, curve, own, error, one_curve, "; ".join(filter(None, (why, curve.reason, curve.shown.reason)))))
            points += _points(diagram, curve)
        both.append((diagram, curves[-2], curves[-1]))
    if scoring.charge_class == "charge-blind":
        notes.append("The model is charge-blind: it has one curve for both charges, and at most one of the two can be bound.")
    elif scoring.charge_class == "energy-only":
        notes.append("The model's forces do not respond to charge: the two curves of a diagram are one curve, shifted.")
    if curves and not any(curve.compared for curve in curves):
        notes.append(
            "The dataset has no energies along the paths: only the positions of the minima and ΔQ are compared. "
            "Relaxation energies, ħΩ and Huang–Rhys factors are the model's, without a reference."
        )
    compared, broken = sum(c.compared for c in curves), sum(len(c.model) < len(FRACTIONS) for c in curves)
    if 0 < compared < len(curves):
        notes.append(
            f"The dataset has energies along the path for {compared} of {len(curves)} curves; energies are compared for these only."
        )
    if broken:
        notes.append(f"The model failed at points of {broken} of {len(curves)} curves: they count as misses.")
    if not found:
        notes.append("No two neighbouring charges of a defect have a reference among the selected states.")
    return TaskResult(
        task="ccd",
        metrics=_metrics(pairs, curves),
        rows=tuple(rows),
        baselines={"one curve for both charges": _baseline(both)} if curves else {},
        notes=tuple(notes),
        tables={"points": tuple(points), "diagrams": tuple(_diagram_row(scoring, *item) for item in both)},
    )


def _own_path(first: MatchedState | None, second: MatchedState | None, operations: Operations) -> tuple[float | None, str | None]:
    """ΔQ between the model's own ground states, amu^½ Å; or why there is none."""
    structures = []
    for state in (first, second):
        if state is None or state.ground is None or state.ground.atoms is None:
            return None, f"a charge has no ground state of the model's own: {(state.reason if state else None) or 'not calculated'}"
        structures.append(state.ground.atoms)
    return configuration_path(structures[0], structures[1], operations).delta_q, None


def _baseline(pairs: Sequence[tuple[Diagram, ScoredCurve, ScoredCurve]]) -> dict[str, float | None]:
    """What a model with one curve for both charges reaches at best (:func:`one_curve_for_both`)."""
    out: dict[str, float | None] = {"delta_q_error": 1.0, "minimum_offset": 0.5, "curves_bound": 0.5}
    names = ("curve_mae", "relaxation_energy_mae", "frequency_error", "huang_rhys_error")
    return out | {m.name: m.value for m in _metrics([], one_curve_for_both(pairs)) if m.name in names and m.value is not None}


def _row(diagram: Diagram, curve: ScoredCurve, own: float | None, error: float | None, one_curve: bool, reason: str) -> CurveRow:
    model, reference = curve.shown, curve.reference_properties
    return {
        "defect": diagram.defect,
        "charge": curve.charge,
        "upper": diagram.upper,
        "lower": diagram.lower,
        "delta_q_reference": rounded(diagram.path.delta_q, 4),
        "delta_q_own": rounded(own, 4),
        "delta_q_error": rounded(error),
        "minimum_at": rounded(curve.properties.minimum, 4),
        "minimum_reference": curve.own_end,
        "relaxation_energy_ev": rounded(model.relaxation_energy),
        "relaxation_energy_reference_ev": rounded(reference.relaxation_energy),
        "hbar_omega_mev": rounded(None if model.hbar_omega is None else 1000.0 * model.hbar_omega, 3),
        "hbar_omega_reference_mev": rounded(None if reference.hbar_omega is None else 1000.0 * reference.hbar_omega, 3),
        "huang_rhys": rounded(model.huang_rhys, 3),
        "huang_rhys_reference": rounded(reference.huang_rhys, 3),
        "fit_rms_ev": rounded(model.fit.rms if model.fit is not None else None),
        "curve_error_ev": rounded(curve.curve_error),
        "points": len(curve.model),
        "reference_points": len(curve.reference),
        "one_curve": one_curve,
        "reason": reason or None,
    }


def _diagram_row(scoring: ScoringInput, diagram: Diagram, upper: ScoredCurve, lower: ScoredCurve) -> DiagramRow:
    """One diagram: how far the minimum of the lower charge lies above that of the upper one, with the Fermi level at the VBM."""
    ends = [upper.reference.get(0.0), lower.reference.get(1.0)]
    own = [upper.model.get(0.0), lower.model.get(1.0)] if scoring.charge_class != "charge-blind" else [None, None]
    return {
        "defect": diagram.defect,
        "upper": diagram.upper,
        "lower": diagram.lower,
        "delta_q_reference": rounded(diagram.path.delta_q, 4),
        "separation_reference_ev": rounded(_separation(scoring.dataset, diagram, *ends)),
        "separation_model_ev": rounded(_separation(scoring.dataset, diagram, *own)),
        "reference_on_path": upper.compared or lower.compared,
    }


def _separation(dataset: Dataset, diagram: Diagram, first: float | None, second: float | None) -> float | None:
    """Formation energy of the lower charge less that of the upper one at the VBM, eV; None without energies, band edge or corrections."""
    level = dataset.level_of_theory()
    vbm = thermodynamic_reference(level).vbm
    if vbm is None or first is None or second is None:
        return None
    try:
        corrections = find_corrections(level, diagram.defect, (diagram.upper, diagram.lower))
    except DatasetError:  # of one charge only
        return None
    ends = ((diagram.upper, first), (diagram.lower, second))
    upper, lower = (formation_energy(charge, energy, 0.0, 0.0, vbm, corrections.of(charge)) for charge, energy in ends)
    return lower - upper


def _points(diagram: Diagram, curve: ScoredCurve) -> Iterable[PointRow]:
    """Sampled energies relative to the curve's own end."""
    zero_model, zero_reference = curve.model.get(curve.own_end), curve.reference.get(curve.own_end)
    for fraction in sorted({*curve.model, *curve.reference}):
        model, reference = curve.model.get(fraction), curve.reference.get(fraction)
        yield {
            "defect": diagram.defect,
            "upper": diagram.upper,
            "lower": diagram.lower,
            "charge": curve.charge,
            "fraction": rounded(fraction, 4),
            "q_amu_angstrom": rounded(fraction * diagram.path.delta_q, 4),
            "model_ev": rounded(model - zero_model if model is not None and zero_model is not None else None),
            "reference_ev": rounded(reference - zero_reference if reference is not None and zero_reference is not None else None),
        }


def _metrics(pairs: Sequence[tuple[tuple[str, int, int], float | None]], curves: Sequence[ScoredCurve]) -> tuple[MetricValue, ...]:
    """Means, with intervals drawn over paths: both curves of one stay together.

    Args:
        pairs: (path, relative error of the model's own ΔQ) of each diagram.
        curves: of all diagrams.
    """
    metrics = Metrics(METRICS, empty=_lack("no two neighbouring charges have different reference ground states"))

    def mean(name: str, values: Iterable[tuple[object, float | None]], cap: float, empty: NotAvailable | None = None) -> None:
        found = list(values)
        metrics.mean(name, [value for _, value in found], cap=cap, labels=[path for path, _ in found], empty=empty)

    compared = [c for c in curves if c.compared]
    mean("delta_q_error", pairs, 1.0)
    mean("minimum_offset", ((c.path, _offset(c)) for c in curves), 1.0)
    mean("curves_bound", ((c.path, float(c.properties.bound)) for c in curves), 1.0)
    mean("curve_mae", ((c.path, c.curve_error) for c in compared), ENERGY_CAP, _lack("the dataset has no energies along the paths"))
    mean(
        "relaxation_energy_mae",
        (
            (c.path, _difference(c.common_properties.relaxation_energy, r))
            for c in compared
            if (r := c.reference_properties.relaxation_energy) is not None
        ),
        ENERGY_CAP,
        _lack("the dataset has no energies at the other charge's end point"),
    )
    mean(
        "frequency_error",
        ((c.path, _relative(c.common_properties.hbar_omega, r)) for c in compared if (r := c.reference_properties.hbar_omega)),
        1.0,
        _lack("the dataset has too few energies along the paths for a frequency"),
    )
    mean(
        "huang_rhys_error",
        ((c.path, _relative(c.common_properties.huang_rhys, r)) for c in compared if (r := c.reference_properties.huang_rhys)),
        1.0,
        _lack("the dataset has too few energies along the paths for a Huang–Rhys factor"),
    )
    return metrics.done()


def _lack(reason: str) -> NotAvailable:
    """Something that the dataset does not have."""
    return NotAvailable(reason, applies=False)


def _offset(curve: ScoredCurve) -> float | None:
    return _difference(curve.properties.minimum, curve.own_end)


def _difference(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else abs(first - second)


def _relative(value: float | None, reference: float) -> float | None:
    return None if value is None else abs(value - reference) / reference
