"""Is the model's energy surface over the bond distortions that of DFT?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from math import comb
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from defectbench.base.states import ChargeState, sort_key
from defectbench.calculations.plan import PlanInput
from defectbench.calculations.requests import Calculation
from defectbench.scoring.agreement import average_ranks, closeness, energy_reproduced
from defectbench.scoring.intervals import Label, capped, mean_with_interval, rounded, slope, slope_row
from defectbench.scoring.landscape import (
    MatchedConfiguration,
    MatchedState,
    ReferenceState,
    distance,
    distortion_of,
    fits,
    match_states,
    operations_of,
    place_of,
)
from defectbench.scoring.metrics import NO_STATES, Metrics, NotAvailable
from defectbench.scoring.task import MetricValue, ScoringInput, TaskResult, read_metrics
from defectbench.structures.lattice import MatchingError
from defectbench.structures.matching import match
from defectbench.structures.symmetry import Operations
from defectbench.tasks.pes.rows import ConfigurationRow, StateRow

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    from defectbench.datasets.dataset import Dataset, ReferenceMinimum

    Floats = NDArray[np.float64]


ENERGY_CAP = 1.0
"""eV: an energy error counts up to this in averages, and a miss counts as this."""

ENERGY_RESOLUTION = 0.01
"""eV: energies closer than this are ties when they are ranked, so that convergence noise does not rank them."""

MINIMUM_CONFIGURATIONS = 3
"""A curve needs at least this many of the selected configurations with DFT; a slope as many that converged with the model too."""

MINIMUM_RANKED = 5
"""A rank correlation needs at least this many: the order of three is right once in six by chance."""

MINIMUM_RANKED_CONVERGED = 3
"""Where DFT has enough for a rank, a model with fewer converged ones among them missed it."""

MOST_PLACINGS = 100_000
"""More ways than this to place missing energies among the known ones are not tried: then they go to the two ends only."""

METRICS, WEIGHT = read_metrics(Path(__file__).with_name("metrics.yaml"))

DESCRIPTION = (
    "Energies of the relaxed configurations against the bond distortion they started from, for the model and DFT, each relative to its own "
    "minimum. Scored are the error of the curve, the rank correlation, and the minima in which the configurations end. The slope of the "
    "model's energies against DFT's (softening) is given for information."
)


def calculations(_plan: PlanInput) -> Sequence[Calculation]:
    """Nothing besides the relaxations of the starts."""
    return ()


def _ties(energies: Sequence[float]) -> NDArray[np.int64]:
    """The number of each energy's tie, by ascending energy: all within 10 meV of the lowest of a tie belong to it."""
    values = np.asarray(energies, dtype=float)
    out = np.zeros(len(values), dtype=np.int64)
    lowest, number = -np.inf, -1
    for i in np.argsort(values, kind="stable"):
        if values[i] - lowest > ENERGY_RESOLUTION - 1e-6:
            lowest, number = values[i], number + 1
        out[i] = number
    return out


def rank_correlation(model: Sequence[float], reference: Sequence[float]) -> float | None:
    """Spearman's rank correlation of energies (eV), those within 10 meV tied, ties by average rank (Spearman 1904, doi:10.2307/1412159).

    Returns:
        None if the reference's energies agree within 10 meV; 0 if only the model's do.
    """
    a, b = average_ranks(_ties(model)), average_ranks(_ties(reference))
    if np.ptp(b) == 0:
        return None
    if np.ptp(a) == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def worst_rank_correlation(model: Mapping[str, float], reference: Mapping[str, float]) -> float | None:
    """:func:`rank_correlation` where the model lacks some energies, which take the places that make it smallest.

    All places are tried, between the known energies and level with them; of two that are lacking, the higher by DFT is never above. Those
    in one place are tried level with each other and in order. Where that is more than :data:`MOST_PLACINGS`, only the two ends are tried:
    below and above all known energies, which is worst unless many of these are level.

    Args:
        model: configuration → energy, eV; at least one of the reference's.
        reference: configuration → DFT energy, eV.

    Returns:
        None if the reference's energies agree within 10 meV.
    """
    dft = average_ranks(_ties(list(reference.values())))
    if np.ptp(dft) == 0:
        return None
    names = list(reference)
    known = [i for i, name in enumerate(names) if name in model]
    lacking = sorted((i for i, name in enumerate(names) if name not in model), key=lambda i: -dft[i])
    ties = _ties([model[names[i]] for i in known])
    # ties are whole numbers; what is lacking lies on one of them, or halfway between two
    levels = np.arange(-0.5, ties.max() + 1.0, 0.5)
    if comb(len(levels) + len(lacking) - 1, len(lacking)) > MOST_PLACINGS:
        levels = levels[[0, -1]]
    places = np.array(list(combinations_with_replacement(levels, len(lacking))))
    in_order = places + (places % 1.0) * 0.5 * np.arange(len(lacking)) / max(len(lacking), 1)
    places = np.concatenate([places, in_order])
    energies = np.empty((len(places), len(names)))
    energies[:, known] = ties
    energies[:, lacking] = places
    ranks = average_ranks(energies)
    ranks -= ranks.mean(axis=1, keepdims=True)
    size = np.sqrt((ranks**2).sum(axis=1) * ((dft - dft.mean()) ** 2).sum())
    return float(np.divide(ranks @ (dft - dft.mean()), size, out=np.zeros(len(ranks)), where=size > 0).min())


@dataclass(frozen=True)
class CurveScore:
    """How energies predicted for the configurations of one charge state compare with DFT's.

    Attributes:
        common: number of the selected configurations that DFT has.
        predicted: number of these that have a prediction.
        errors: configuration → error of its energy, eV, each curve relative to its own lowest; None for a miss.
        rank: rank correlation, misses in the worst places; None if there is nothing to correlate.
        slope: of predicted against DFT energies; None if there is none.
        sums: what :func:`defectbench.scoring.intervals.slope` needs.
        reason: why there is no curve error or no rank, or why the rank is a miss.
    """

    common: int
    predicted: int
    errors: Mapping[str, float | None]
    rank: float | None
    slope: float | None
    sums: Floats | None
    reason: str | None

    @property
    def error(self) -> float | None:
        """Mean error, eV, a miss counted as 1 eV; None for fewer than three configurations with DFT."""
        if self.common < MINIMUM_CONFIGURATIONS:
            return None
        return float(np.mean([capped(e, ENERGY_CAP) for e in self.errors.values()]))

    def reproduced(self, nearness: Mapping[str, float]) -> dict[str, float]:
        """Configuration → how far its energy is right, −1 to 1 (:func:`energy_reproduced`), as far as its structure is DFT's.

        Args:
            nearness: configuration → how near its structure is to the minimum that DFT reaches from it, 0 to 1.
        """
        return {name: energy_reproduced(error, nearness.get(name, 0.0)) for name, error in self.errors.items()}


def compare_curves(predicted: Mapping[str, float], reference: Mapping[str, float], below: Mapping[str, float] | None = None) -> CurveScore:
    """Compares predicted energies with DFT's, each relative to its own lowest.

    Args:
        predicted: configuration → energy, eV; a configuration of the reference that is missing is a miss, one too many is ignored.
        reference: configuration → DFT energy, eV, of the selected configurations that DFT has relaxed.
        below: last energies, eV, of misses that were on their way below all others: the model's lowest is down there.
    """
    done = [name for name in reference if name in predicted]
    falling = [energy for name, energy in (below or {}).items() if name in reference]
    zero = min([*(predicted[name] for name in done), *falling], default=0.0)
    dft_zero = min(reference.values(), default=0.0)
    errors = {name: abs((predicted[name] - zero) - (e - dft_zero)) if name in predicted else None for name, e in reference.items()}
    model, dft = [predicted[name] for name in done], [reference[name] for name in done]
    sums = slope_row(model, dft) if len(done) >= MINIMUM_CONFIGURATIONS else None
    rank, reason = _rank(predicted, reference)
    return CurveScore(len(reference), len(done), errors, rank, None if sums is None else slope(sums[None]), sums, reason)


def _rank(predicted: Mapping[str, float], reference: Mapping[str, float]) -> tuple[float | None, str | None]:
    """Rank correlation with misses, and why there is none or why it is a miss."""
    n, done = len(reference), sum(name in predicted for name in reference)
    if n < MINIMUM_RANKED:
        needs = f"a rank needs {MINIMUM_RANKED}" if n >= MINIMUM_CONFIGURATIONS else f"a curve needs {MINIMUM_CONFIGURATIONS}"
        return None, f"DFT has relaxed {n} of the selected configurations; {needs}"
    if np.ptp(list(reference.values())) < ENERGY_RESOLUTION:
        return None, "DFT's energies agree within 10 meV, so they have no order to correlate with"
    if done < MINIMUM_RANKED_CONVERGED:
        return -1.0, f"only {done} of the {n} configurations with DFT converged, so the rank is a miss (-1)"
    return worst_rank_correlation(predicted, reference), None


def same_minimum_as_reference(relaxed: MatchedConfiguration, reference: ReferenceState, operations: Operations) -> float | None:
    """How near a configuration ends to where DFT ends from the same start, 0 to 1; None if DFT has not relaxed that start."""
    minimum = reference.minima.get(relaxed.configuration)
    if minimum is None:
        return None
    if not relaxed.converged or relaxed.atoms is None:
        return 0.0
    return _nearness(relaxed.atoms, minimum.atoms, reference, operations)


def _nearness(atoms: Atoms, minimum: Atoms, reference: ReferenceState, operations: Operations) -> float:
    try:
        return closeness(distance(match(atoms, minimum, operations, reference.centre)))
    except MatchingError:
        return 0.0


@dataclass(frozen=True)
class Guess:
    """What one predicts for a charge state without a model.

    Attributes:
        curve: its energies against DFT's.
        in_ground_state: for each selected configuration how near its structure is to the DFT ground state, 0 to 1.
        same_minimum: configuration with DFT → how near its structure is to the minimum that DFT reaches from it, 0 to 1.
        charge: the charge state that it was taken from; None if from none.
    """

    curve: CurveScore
    in_ground_state: tuple[float, ...]
    same_minimum: Mapping[str, float]
    charge: int | None


def _near(
    structures: Mapping[str, Atoms], minima: Mapping[str, ReferenceMinimum], reference: ReferenceState, operations: Operations
) -> dict[str, float]:
    """Name → how near its structure is to that minimum, 0 to 1; a name without a structure is a miss."""
    return {n: _nearness(structures[n], m.atoms, reference, operations) if n in structures else 0.0 for n, m in minima.items()}


def _in_ground_state(atoms: Atoms | None, reference: ReferenceState, operations: Operations) -> float:
    """How near a structure is to a DFT ground state, 0 to 1, as for the model's; no structure is a miss."""
    if atoms is None:
        return 0.0
    try:
        return place_of(fits(atoms, reference, operations), reference).ground
    except MatchingError:
        return 0.0


def unrelaxed_guess(dataset: Dataset, reference: ReferenceState, names: Sequence[str], operations: Operations) -> Guess:
    """No atom moves from its start, and all energies are equal."""
    starts = dataset.starts(reference.defect, reference.charge)
    common = {name: reference.minima[name] for name in names if name in reference.minima}
    return Guess(
        curve=compare_curves(dict.fromkeys(names, 0.0), {name: m.energy for name, m in common.items()}),
        in_ground_state=tuple(_in_ground_state(starts.get(name), reference, operations) for name in names),
        same_minimum=_near(starts, common, reference, operations),
        charge=None,
    )


def other_charge_guess(dataset: Dataset, reference: ReferenceState, names: Sequence[str], operations: Operations) -> Guess | None:
    """The DFT minima of another charge of the same defect, name by name; None if no other charge has any.

    Of all other charges that one is taken whose guess is best: by the curve reproduced and same minimum.
    A configuration that DFT has not relaxed at that charge is a miss.
    """
    common = {name: reference.minima[name] for name in names if name in reference.minima}
    found = []
    for charge in dataset.charges(reference.defect):
        minima = {} if charge == reference.charge else dataset.minima(reference.defect, charge)
        if minima:
            structures = {name: m.atoms for name, m in minima.items()}
            curve = compare_curves({name: m.energy for name, m in minima.items()}, {name: m.energy for name, m in common.items()})
            same = _near(structures, common, reference, operations)
            found.append((_worth(curve, same), -abs(charge - reference.charge), charge, curve, same, structures))
    if not found:
        return None
    _, _, charge, curve, same, structures = max(found, key=lambda item: item[:3])
    in_ground = tuple(_in_ground_state(structures.get(name), reference, operations) for name in names)
    return Guess(curve, in_ground, same, charge)


def _worth(curve: CurveScore, same: Mapping[str, float]) -> float:
    """Twice the curve reproduced, as it weighs, and same minimum."""
    if not curve.errors:
        return 0.0
    return 2.0 * max(0.0, float(np.mean(list(curve.reproduced(same).values())))) + float(np.mean(list(same.values())))


class _Guessed(NamedTuple):
    """A baseline's columns; None where it has no value."""

    curve_error: float | None
    rank_correlation: float | None
    ground_state_fraction: float | None
    same_minimum: float | None


def _columns(guess: Guess | None) -> _Guessed:
    if guess is None:
        return _Guessed(None, None, None, None)
    return _Guessed(
        rounded(guess.curve.error),
        rounded(guess.curve.rank),
        rounded(float(np.mean(guess.in_ground_state))) if guess.in_ground_state else None,
        rounded(float(np.mean(list(guess.same_minimum.values())))) if guess.same_minimum else None,
    )


def score(scoring: ScoringInput) -> TaskResult:
    """Scores the curves; see ``docs/metrics.md`` for every definition."""
    states = [_scored_state(scoring, state, operations_of(scoring.dataset)) for state in match_states(scoring)]
    rows = tuple(s.row for s in states)
    table = tuple(row for s in states for row in s.configurations)
    return TaskResult(
        task="pes",
        metrics=_metrics(rows, table, [s.curve for s in states]),
        rows=rows,
        baselines=_baselines(rows, [s.unrelaxed for s in states], [s.other_charge for s in states if s.other_charge]),
        notes=tuple(_notes(rows)),
        tables={"configurations": table},
    )


@dataclass(frozen=True)
class _ScoredState:
    """One charge state: its rows, and what the aggregates need that no row holds."""

    row: StateRow
    configurations: tuple[ConfigurationRow, ...]
    curve: CurveScore
    unrelaxed: Guess
    other_charge: Guess | None


def _scored_state(scoring: ScoringInput, state: MatchedState, operations: Operations) -> _ScoredState:
    dataset, reference = scoring.dataset, state.reference
    names = [c.configuration for c in state.configurations]
    energies = {c.configuration: c.energy for c in state.converged if c.energy is not None}
    # only starts that ran are compared: a DFT landscape that is still incomplete, or a smaller suite, must not shift the curve
    common = {name: m.energy for name, m in reference.minima.items() if name in names}
    below = {} if state.below is None or state.below.energy is None else {state.below.configuration: state.below.energy}
    curve = compare_curves(energies, common, below)
    configurations = tuple(_configuration_rows(state, curve, energies, operations))
    same = {r["configuration"]: float(r["same_minimum_as_dft"]) for r in configurations if r["same_minimum_as_dft"] is not None}
    reproduced = curve.reproduced(same) if curve.common >= MINIMUM_CONFIGURATIONS else {}
    for r in configurations:
        r["energy_reproduced"] = rounded(reproduced.get(r["configuration"]))
    unrelaxed = unrelaxed_guess(dataset, reference, names, operations)
    other = other_charge_guess(dataset, reference, names, operations)
    still, neighbour = _columns(unrelaxed), _columns(other)
    row: StateRow = {
        "defect": reference.defect,
        "charge": reference.charge,
        "configurations": len(state.configurations),
        "converged": len(state.converged),
        "dft_configurations": len(reference.minima),
        "common": curve.common,
        "common_converged": curve.predicted,
        "curve_error": rounded(curve.error),
        "rank_correlation": rounded(curve.rank),
        "ground_state_fraction": rounded(sum(r["in_ground_state"] or 0.0 for r in configurations) / len(state.configurations)),
        "dft_ground_state_fraction": rounded(sum(i < reference.grounds for i in reference.membership.values()) / len(reference.membership)),
        "same_minimum": rounded(float(np.mean(list(same.values())))) if same else None,
        "curve_reproduced": rounded(float(np.mean(list(reproduced.values())))) if reproduced else None,
        "energy_slope": rounded(curve.slope),
        "unrelaxed_curve_error": still.curve_error,
        "unrelaxed_rank_correlation": still.rank_correlation,
        "unrelaxed_ground_state_fraction": still.ground_state_fraction,
        "unrelaxed_same_minimum": still.same_minimum,
        "other_charge": other.charge if other else None,
        "other_charge_curve_error": neighbour.curve_error,
        "other_charge_rank_correlation": neighbour.rank_correlation,
        "other_charge_ground_state_fraction": neighbour.ground_state_fraction,
        "other_charge_same_minimum": neighbour.same_minimum,
        "reason": curve.reason,
    }
    return _ScoredState(row, configurations, curve, unrelaxed, other)


def _configuration_rows(
    state: MatchedState, curve: CurveScore, energies: Mapping[str, float], operations: Operations
) -> Iterable[ConfigurationRow]:
    """One row per start that the model or DFT has relaxed; energies relative to the lowest of all."""
    reference = state.reference
    relaxed = {c.configuration: c for c in state.configurations}
    lowest = min(energies.values(), default=None)
    for name in sorted({*relaxed, *reference.minima}, key=sort_key):
        mine, minimum, energy = relaxed.get(name), reference.minima.get(name), energies.get(name)
        dft_fit = match(minimum.atoms, reference.ground.atoms, operations, reference.centre) if minimum else None
        fit = mine.fit if mine is not None and mine.converged else None
        yield {
            "defect": reference.defect,
            "charge": reference.charge,
            "configuration": name,
            "distortion": distortion_of(name),
            "status": mine.outcome if mine is not None else "not selected",
            "energy": rounded(energy, 6),
            "relative_energy": None if energy is None or lowest is None else rounded(energy - lowest),
            "dft_energy": rounded(minimum.energy, 6) if minimum else None,
            "dft_relative_energy": rounded(minimum.energy - reference.ground.energy) if minimum else None,
            "energy_error": rounded(curve.errors.get(name)),
            "rmsd": rounded(fit.rmsd) if fit else None,
            "dft_rmsd": rounded(dft_fit.rmsd) if dft_fit else None,
            # a relaxation that did not converge is in no basin; a start that did not run has no answer
            "in_ground_state": None if mine is None else rounded(mine.place.ground if mine.converged and mine.place else 0.0),
            "same_minimum_as_dft": None if mine is None else rounded(same_minimum_as_reference(mine, reference, operations)),
            "reason": mine.reason if mine is not None else None,
            "energy_reproduced": None,  # known when all configurations of the curve are
        }


def _curve_errors(curves: Iterable[CurveScore]) -> list[float | None]:
    """Errors (eV) of all configurations of the states that have a curve; None for a miss."""
    return [e for c in curves if c.common >= MINIMUM_CONFIGURATIONS for e in c.errors.values()]


def _labels(rows: Iterable[ConfigurationRow]) -> list[Label]:
    return [(r["defect"], r["charge"]) for r in rows]


def _metrics(rows: Sequence[StateRow], table: Sequence[ConfigurationRow], curves: Sequence[CurveScore]) -> tuple[MetricValue, ...]:
    def needs(count: int) -> NotAvailable:
        """Without a value there is no DFT to compare with: misses of the model have values."""
        text = f"no charge state has DFT results for {count} of the selected starts"
        return NotAvailable(text if count > 1 else "DFT has relaxed none of the selected starts", applies=False) if rows else NO_STATES

    out = Metrics(METRICS)
    curved = [r for r in table if r["energy_reproduced"] is not None]
    out.mean("curve_reproduced", (r["energy_reproduced"] for r in curved), labels=_labels(curved), empty=needs(MINIMUM_CONFIGURATIONS))
    errors = (r["energy_error"] for r in curved)
    out.mean("curve_error", errors, cap=ENERGY_CAP, labels=_labels(curved), empty=needs(MINIMUM_CONFIGURATIONS))
    order = needs(MINIMUM_RANKED)
    if any(c.common >= MINIMUM_RANKED for c in curves):
        order = NotAvailable("DFT's energies agree within 10 meV in every charge state, so they have no order", applies=False)
    ranked = [(c.rank, (r["defect"], r["charge"])) for c, r in zip(curves, rows, strict=True) if c.rank is not None]
    out.mean("rank_correlation", (rank for rank, _ in ranked), labels=[label for _, label in ranked], empty=order)
    ran = [r for r in table if r["in_ground_state"] is not None]
    out.mean("ground_state_fraction", (r["in_ground_state"] for r in ran), labels=_labels(ran))
    same = [r for r in table if r["same_minimum_as_dft"] is not None]
    out.mean("same_minimum", (r["same_minimum_as_dft"] for r in same), labels=_labels(same), empty=needs(1))
    steep = needs(MINIMUM_CONFIGURATIONS)
    if any(c.common >= MINIMUM_CONFIGURATIONS for c in curves):
        text = f"no charge state has {MINIMUM_CONFIGURATIONS} configurations that DFT and the model both relaxed, 10 meV apart"
        steep = NotAvailable(text, applies=False)
    sums = [(c.sums, (r["defect"], r["charge"])) for c, r in zip(curves, rows, strict=True) if c.sums is not None]
    out.statistic("energy_slope", np.array([s for s, _ in sums]), slope, labels=[label for _, label in sums], summed=True, empty=steep)
    return out.done()


def _guessed(guesses: Sequence[Guess]) -> dict[str, float | None]:
    """A baseline's values of the metrics, over the states for which it exists."""

    def mean(values: Iterable[float]) -> float | None:
        return mean_with_interval(values)[0]

    sums = [g.curve.sums for g in guesses if g.curve.sums is not None]
    curves = [g.curve.reproduced(g.same_minimum) for g in guesses if g.curve.common >= MINIMUM_CONFIGURATIONS]
    return {
        "curve_reproduced": mean(value for curve in curves for value in curve.values()),
        "curve_error": mean(capped(e, ENERGY_CAP) for e in _curve_errors(g.curve for g in guesses)),
        "rank_correlation": mean(g.curve.rank for g in guesses if g.curve.rank is not None),
        "ground_state_fraction": mean(x for g in guesses for x in g.in_ground_state),
        "same_minimum": mean(x for g in guesses for x in g.same_minimum.values()),
        "energy_slope": slope(np.array(sums)) if sums else None,
    }


def _baselines(rows: Sequence[StateRow], flat: Sequence[Guess], others: Sequence[Guess]) -> dict[str, dict[str, float | None]]:
    total = sum(r["dft_configurations"] for r in rows)
    reached = sum(round(r["dft_ground_state_fraction"] * r["dft_configurations"]) for r in rows)
    return {
        "flat or unrelaxed": _guessed(flat),
        "other_charge": _guessed(others),
        "DFT": {"ground_state_fraction": reached / total if total else None},
    }


def _notes(rows: Sequence[StateRow]) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for r in rows:
        if r["reason"]:
            by_reason.setdefault(r["reason"], []).append(str(ChargeState(r["defect"], r["charge"])))
    notes = [f"{', '.join(states)}: {reason}." for reason, states in by_reason.items()]
    if missed := sum(r["common"] - r["common_converged"] for r in rows):
        notes.append(f"{missed} configurations with DFT did not converge with the model. Each counts as a miss ({ENERGY_CAP:g} eV).")
    if alone := [str(ChargeState(r["defect"], r["charge"])) for r in rows if r["other_charge"] is None]:
        notes.append(f"The baseline 'other charge' is missing for {', '.join(alone)}: no other charge state has a DFT minimum.")
    if rows:
        notes.append("The slope of forces on DFT frames (softening) is 'force slope' of the task parity.")
    return notes
