"""Are the model's energies and forces those of DFT, at DFT's own geometries?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from defectbench.base.states import ChargeState
from defectbench.calculations.plan import PlanInput
from defectbench.scoring.frames import ReferenceFrame, selected_frames
from defectbench.scoring.intervals import capped, rounded, slope, slope_row
from defectbench.scoring.landscape import operations_of, reference_state
from defectbench.scoring.metrics import Metrics, NotAvailable
from defectbench.scoring.task import MetricValue, ScoringInput, TaskResult, read_metrics
from defectbench.structures.lattice import local_atoms
from defectbench.tasks.parity.rows import ForceBin, FrameRow, LevelRow, RelativeEnergyRow, StateRow

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    from defectbench.calculations.requests import Calculation
    from defectbench.datasets.dataset import Dataset, ReferenceMinimum

    Floats = NDArray[np.float64]


FORCE_MISS = 1.0
"""eV/Å: a frame without a result counts as if every force component were off by this, or by DFT's rms if that is larger."""

ENERGY_MISS = 0.1
"""eV/atom: a frame without a result counts as if its energy were off by this, or by the largest distance of DFT's from their mean."""

RELATIVE_ENERGY_CAP = 1.0
"""eV: an error of a relative energy counts up to this, and a missing one counts as this."""

HISTOGRAM_LINEAR = 0.1
"""eV/Å: bins of the histogram of forces are of equal width below this, and grow with the force above it."""

HISTOGRAM_STEP = 0.25
"""Width of a bin, times :data:`HISTOGRAM_LINEAR`, at small forces."""

METRICS, WEIGHT = read_metrics(Path(__file__).with_name("metrics.yaml"))

DESCRIPTION = (
    "Energies and forces of the model on frames of the DFT relaxations, per charge state and level of theory: errors of forces near the "
    "defect and far from it, of energies after one constant per charge state and after one over all charge states, of the energies of "
    "minima relative to each other, and the slopes (softening). At most 24 frames per charge state, spread evenly over its relaxations."
)


def calculations(plan: PlanInput) -> list[Calculation]:
    """Single points of the chosen DFT frames and of DFT's minima."""
    out = [plan.ask.single_point(f.atoms, f.charge) for f in selected_frames(plan.dataset, plan.states)]
    for state in plan.states:
        minima = distinct_minima(plan.dataset, state.defect, state.charge)
        if len(minima) > 1:
            out += [plan.ask.single_point(m.atoms, state.charge) for m in minima]
    return out


def distinct_minima(dataset: Dataset, defect: str, charge: int) -> tuple[ReferenceMinimum, ...]:
    """DFT's minima of a charge state, each structure once, the ground state first; none without a reference."""
    found = reference_state(dataset, defect, charge, operations_of(dataset))
    return () if found is None else found.distinct


@dataclass(frozen=True, eq=False)
class Pair:
    """A frame with DFT's and the model's values.

    Attributes:
        frame: the DFT frame.
        near: (N,), atoms within 5 Å of the defect.
        forces: the model's, (N, 3), eV/Å; None without a result.
        energy: the model's, eV; None without a result.
        reason: why there is no result.
    """

    frame: ReferenceFrame
    near: NDArray[np.bool_]
    forces: Floats | None
    energy: float | None
    reason: str | None

    @property
    def energy_per_atom(self) -> float | None:
        """Model minus DFT energy per atom, eV; None without a result."""
        return None if self.energy is None else (self.energy - self.frame.energy) / len(self.frame.atoms)


def pairs(scoring: ScoringInput, level: str | None = None) -> list[Pair]:
    """All frames of the selected states with the model's results; of one level, or of all."""
    out = []
    for frame in selected_frames(scoring.dataset, scoring.states, None if level is None else [level]):
        near = local_atoms(frame.atoms, scoring.dataset.defect_position(frame.defect, frame.atoms))
        found = scoring.answers.energy_and_forces(frame.atoms, frame.charge)
        if isinstance(found, str):
            out.append(Pair(frame, near, None, None, found))
        else:
            out.append(Pair(frame, near, found[1], found[0], None))
    return out


def force_sums(pair: Pair, mask: NDArray[np.bool_] | None = None) -> Floats:
    """(Σ squared error, Σ |error|, Σ model·DFT, Σ DFT², number) over the force components of a frame, or of the atoms of a mask.

    The errors of a frame count up to those of a frame without a result.
    """
    reference = pair.frame.forces if mask is None else pair.frame.forces[mask]
    squared, count = float((reference**2).sum()), reference.size
    missed = max(FORCE_MISS, np.sqrt(squared / count)) if count else FORCE_MISS
    most = missed**2 * count, missed * count
    if pair.forces is None:
        return np.array([*most, 0.0, squared, count])
    model = pair.forces if mask is None else pair.forces[mask]
    error = model - reference
    errors = min(float((error**2).sum()), most[0]), min(float(np.abs(error).sum()), most[1])
    return np.array([*errors, float((model * reference).sum()), squared, count])


def _rmse(table: Floats) -> float:
    total = table.sum(axis=0)
    return float(np.sqrt(total[0] / total[-1]))


def _mae(table: Floats) -> float:
    total = table.sum(axis=0)
    return float(total[1] / total[-1])


def _softening(table: Floats) -> float:
    """Mean over rows (charge states) of |1 − slope| up to 1; a row in which DFT has no forces counts as 0."""
    slopes = np.divide(table[:, 2], table[:, 3], out=np.ones(len(table)), where=table[:, 3] > 0)
    return float(np.mean(np.minimum(np.abs(1.0 - slopes), 1.0)))


def fitted_constant(values: Floats, cap: float) -> float:
    """The constant c for which Σ min((x − c)², cap²) is smallest (truncated least squares).

    It is the mean where all values are near it, else the mean of those that it fits, so that one value far off does not spoil the others.

    Args:
        values: at least one.
        cap: positive.
    """
    x = np.sort(values)
    sums = np.concatenate([[0.0], np.cumsum(x)])
    first, last = np.triu_indices(len(x))
    means = (sums[last + 1] - sums[first]) / (last + 1 - first)
    candidates = np.concatenate([[x.mean()], means])  # the plain mean first: it wins a tie
    costs = np.minimum((x[None] - candidates[:, None]) ** 2, cap**2).sum(axis=1)
    return float(candidates[int(np.argmin(np.round(costs, 12)))])


def energy_errors(chosen: Sequence[Pair], by_charge: bool) -> list[float | None]:
    """Energy errors per atom (eV) after one constant is subtracted: of each charge state, or of each defect over all charge states.

    The constant is the mean error, without outliers (:func:`fitted_constant`). A frame without a result counts as 0.1 eV/atom, or
    as the largest distance of DFT's energies from their mean in the group if that is more, and no error counts as more. A frame that is
    the only one of its group has no error (None): subtracting its own mean would leave nothing.
    """
    groups: dict[tuple[str, int | None], list[int]] = {}
    for i, pair in enumerate(chosen):
        groups.setdefault((pair.frame.defect, pair.frame.charge if by_charge else None), []).append(i)
    out = np.full(len(chosen), np.nan)
    for indices in groups.values():
        if len(indices) < 2:
            continue
        known = [i for i in indices if chosen[i].energy is not None]
        reference = np.array([chosen[i].frame.energy / len(chosen[i].frame.atoms) for i in indices])
        missed = max(ENERGY_MISS, float(np.abs(reference - reference.mean()).max()))
        out[indices] = missed
        if known:
            values = np.array([chosen[i].energy_per_atom for i in known], dtype=float)
            out[known] = np.clip(values - fitted_constant(values, missed), -missed, missed)
    return [None if np.isnan(x) else float(x) for x in out]


def slope_sums(chosen: Sequence[Pair], *, misses: bool = False) -> tuple[Floats, list[object]]:
    """For each charge state (0, 0, Σ model·DFT, Σ DFT², number) of energies less their mean, eV², and its label.

    States whose DFT energies differ by less than 10 meV are left out, and those whose answers allow no slope; with ``misses`` the latter
    have slope 0.
    """
    rows: list[Floats] = []
    labels: list[object] = []
    states: dict[tuple[str, int], list[Pair]] = {}
    for pair in chosen:
        states.setdefault((pair.frame.defect, pair.frame.charge), []).append(pair)
    for state, items in states.items():
        energies = [p.frame.energy for p in items]
        flat = slope_row([0.0] * len(items), energies)
        known = [(p.energy, p.frame.energy) for p in items if p.energy is not None]
        row = slope_row([model for model, _ in known], [dft for _, dft in known])
        row = flat if row is None and misses else row
        if flat is not None and row is not None:
            rows.append(row)
            labels.append(state)
    return np.array(rows).reshape(-1, 5), labels


def relative_energies(scoring: ScoringInput) -> tuple[RelativeEnergyRow, ...]:
    """One row for each distinct DFT minimum above the ground state of its charge state: its relative energy by DFT and the model, eV."""
    rows: list[RelativeEnergyRow] = []
    for state in sorted(scoring.states, key=lambda s: (s.defect, s.charge)):
        minima = distinct_minima(scoring.dataset, state.defect, state.charge)
        if len(minima) < 2:
            continue
        ground = minima[0]
        zero = energy_of(scoring, ground.atoms, state.charge)
        for minimum in minima[1:]:
            here = energy_of(scoring, minimum.atoms, state.charge)
            model = None if isinstance(zero, str) or isinstance(here, str) else here - zero
            reference = minimum.energy - ground.energy
            rows.append(
                {
                    "defect": state.defect,
                    "charge": state.charge,
                    "configuration": minimum.configuration,
                    "ground_state": ground.configuration,
                    "dft_relative_energy": rounded(reference, 6),
                    "relative_energy": rounded(model, 6),
                    "error": None if model is None else rounded(abs(model - reference), 6),
                    "reason": here if isinstance(here, str) else zero if isinstance(zero, str) else None,
                }
            )
    return tuple(rows)


def energy_of(scoring: ScoringInput, atoms: Atoms, charge: int) -> float | str:
    """The model's energy (eV) of a planned structure, or why there is none."""
    found = scoring.answers.energy_and_forces(atoms, charge)
    return found if isinstance(found, str) else found[0]


def _state_row(
    chosen: Sequence[Pair], per_charge: Sequence[float | None], all_charges: Sequence[float | None], relative: Sequence[float]
) -> StateRow:
    frame = chosen[0].frame
    sums = np.array([force_sums(p) for p in chosen])
    near = np.array([force_sums(p, p.near) for p in chosen])
    far = np.array([force_sums(p, ~p.near) for p in chosen])
    energies, _ = slope_sums(chosen)
    known = [p for p in chosen if p.energy_per_atom is not None]
    return {
        "level": frame.level,
        "defect": frame.defect,
        "charge": frame.charge,
        "frames": len(chosen),
        "relaxations": len({p.frame.relaxation for p in chosen}),
        "failed": len(chosen) - len(known),
        "force_rmse": rounded(_rmse(sums), 6),
        "force_mae": rounded(_mae(sums), 6),
        "force_rmse_near": rounded(_rmse(near), 6) if near[:, -1].sum() else None,
        "force_rmse_far": rounded(_rmse(far), 6) if far[:, -1].sum() else None,
        "dft_force_rms": rounded(float(np.sqrt(sums[:, 3].sum() / sums[:, -1].sum())), 6),
        "force_slope": rounded(slope(sums)),
        "energy_rmse": rounded(_root_mean_square(per_charge), 7),
        "energy_rmse_all_charges": rounded(_root_mean_square(all_charges), 7),
        "energy_mae": rounded(_mean_absolute(per_charge), 7),
        "energy_offset": rounded(float(np.mean([p.energy_per_atom for p in known])), 6) if known else None,
        "energy_slope": rounded(slope(energies)) if len(energies) else None,
        "relative_energy_mae": rounded(float(np.mean(relative)), 6) if len(relative) else None,
        "reason": next((p.reason for p in chosen if p.reason), None),
    }


def _root_mean_square(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.sqrt(np.mean(np.square(known)))) if known else None


def _mean_absolute(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(np.abs(known))) if known else None


def score(scoring: ScoringInput) -> TaskResult:
    """Scores energies and forces on DFT frames; see ``docs/metrics.md`` for every definition."""
    everything = pairs(scoring)
    relative = relative_energies(scoring)
    rows: list[StateRow] = []
    frames: list[FrameRow] = []
    for level in scoring.dataset.levels:
        chosen = [p for p in everything if p.frame.level == level]
        per_charge, all_charges = energy_errors(chosen, by_charge=True), energy_errors(chosen, by_charge=False)
        for state in sorted({(p.frame.defect, p.frame.charge) for p in chosen}):
            here = [i for i, p in enumerate(chosen) if (p.frame.defect, p.frame.charge) == state]
            errors = (
                _relative_errors([r for r in relative if (r["defect"], r["charge"]) == state]) if level == scoring.dataset.level else []
            )
            rows.append(_state_row([chosen[i] for i in here], [per_charge[i] for i in here], [all_charges[i] for i in here], errors))
        frames += [_frame_row(p, a, b) for p, a, b in zip(chosen, per_charge, all_charges, strict=True)]
    reference = [p for p in everything if p.frame.level == scoring.dataset.level]
    metrics = _metrics(scoring, reference, relative)
    levels = [_level_row(scoring.dataset.level, reference, metrics)] if reference else []
    for level in scoring.dataset.levels[1:]:
        chosen = [p for p in everything if p.frame.level == level]
        if chosen:
            levels.append(_level_row(level, chosen, _metrics(scoring, chosen, ())))
    return TaskResult(
        task="parity",
        metrics=metrics,
        rows=tuple(rows),
        baselines=_baselines(reference, relative),
        notes=tuple(_notes(scoring, everything)),
        tables={
            "levels": tuple(levels),
            "frames": tuple(frames),
            "relative_energies": relative,
            "force_histogram": tuple(force_histogram(reference)),
        },
    )


def _level_row(level: str, chosen: Sequence[Pair], metrics: Sequence[MetricValue]) -> LevelRow:
    """The aggregates over all charge states at one level of theory, with their intervals; relative energies at the reference level only."""
    row: LevelRow = {
        "level": level,
        "charge_states": len({(p.frame.defect, p.frame.charge) for p in chosen}),
        "relaxations": len({p.frame.relaxation for p in chosen}),
        "frames": len(chosen),
    }
    for metric in metrics:
        low, high = metric.interval or (None, None)
        row |= {metric.name: rounded(metric.value, 7), f"{metric.name}_low": rounded(low, 7), f"{metric.name}_high": rounded(high, 7)}
    return row


def _frame_row(pair: Pair, per_charge: float | None, all_charges: float | None) -> FrameRow:
    sums = force_sums(pair)[None]
    return {
        "level": pair.frame.level,
        "defect": pair.frame.defect,
        "charge": pair.frame.charge,
        "configuration": pair.frame.configuration,
        "frame": pair.frame.index,
        "atoms": len(pair.frame.atoms),
        "dft_energy": rounded(pair.frame.energy, 6),
        "energy": rounded(pair.energy, 6),
        "energy_error": rounded(per_charge, 7),
        "energy_error_all_charges": rounded(all_charges, 7),
        "force_rmse": rounded(_rmse(sums), 6),
        "dft_force_rms": rounded(float(np.sqrt(sums[0, 3] / sums[0, -1])), 6),
        "reason": pair.reason,
    }


def force_histogram(chosen: Sequence[Pair]) -> list[ForceBin]:
    """How often DFT and the model give which force components (eV/Å): non-empty bins with their centres.

    Bins are even in asinh(F / :data:`HISTOGRAM_LINEAR`): narrow at small forces, where minima are, wide at large ones.
    """
    counts: Counter[tuple[bool, int, int]] = Counter()
    for pair in chosen:
        if pair.forces is not None:
            places = [np.rint(np.arcsinh(f / HISTOGRAM_LINEAR) / HISTOGRAM_STEP).astype(int) for f in (pair.frame.forces, pair.forces)]
            near = np.repeat(pair.near, 3).tolist()
            counts.update(zip(near, places[0].ravel().tolist(), places[1].ravel().tolist(), strict=True))

    def centre(place: int) -> float:
        return round(HISTOGRAM_LINEAR * float(np.sinh(place * HISTOGRAM_STEP)), 5)

    return [{"near": near, "dft": centre(x), "model": centre(y), "components": number} for (near, x, y), number in sorted(counts.items())]


def _relative_errors(rows: Sequence[RelativeEnergyRow]) -> list[float]:
    return [capped(r["error"], RELATIVE_ENERGY_CAP) for r in rows]


def _metrics(scoring: ScoringInput, chosen: Sequence[Pair], relative: Sequence[RelativeEnergyRow]) -> tuple[MetricValue, ...]:
    groups = [(p.frame.defect, p.frame.charge) for p in chosen]
    none = _lack(f"{scoring.dataset.id} has no {scoring.dataset.level} frames with forces for the selected charge states")
    metrics = Metrics(METRICS, empty=none)

    sums = np.array([force_sums(p) for p in chosen]).reshape(-1, 5)
    metrics.statistic("force_rmse", sums, _rmse, labels=groups, summed=True)
    metrics.statistic("force_mae", sums, _mae, labels=groups, summed=True)
    metrics.statistic("force_slope", sums, slope, labels=groups, summed=True)
    metrics.statistic("force_softening", sums, _softening, labels=groups, summed=True)
    for name, masks in (("force_rmse_near", [p.near for p in chosen]), ("force_rmse_far", [~p.near for p in chosen])):
        table = np.array([force_sums(p, m) for p, m in zip(chosen, masks, strict=True)]).reshape(-1, 5)
        here = table[:, -1] > 0
        labels = [g for g, h in zip(groups, here, strict=True) if h]
        metrics.statistic(
            name, table[here], _rmse, labels=labels, summed=True, empty=_lack("no atoms at that distance") if chosen else none
        )

    for name, by_charge in (("energy_rmse", True), ("energy_rmse_all_charges", False)):
        found = [(e, g) for e, g in zip(energy_errors(chosen, by_charge), groups, strict=True) if e is not None]
        table = np.array([[e**2, abs(e), 0.0, 0.0, 1.0] for e, _ in found]).reshape(-1, 5)
        with_error = [g for _, g in found]
        alone = _lack(f"no {'charge state' if by_charge else 'defect'} has two frames") if chosen else none
        metrics.statistic(name, table, _rmse, labels=with_error, summed=True, empty=alone)
        if by_charge:
            metrics.statistic("energy_mae", table, _mae, labels=with_error, summed=True, empty=alone)
    energies, energy_states = slope_sums(chosen)
    counted, counted_states = slope_sums(chosen, misses=True)
    flat = _lack("the frames of no charge state differ in energy") if chosen else none
    failed = _lack("the model failed on all frames that differ in energy")
    metrics.statistic("energy_slope", energies, slope, labels=energy_states, summed=True, empty=failed if len(counted) else flat)
    metrics.statistic("energy_softening", counted, _softening, labels=counted_states, summed=True, empty=flat)

    single = _lack("no selected charge state has two distinct DFT minima") if scoring.states else none
    metrics.mean("relative_energy_mae", _relative_errors(relative), labels=[(r["defect"], r["charge"]) for r in relative], empty=single)
    metrics.mean("failed", [float(p.energy is None) for p in chosen], labels=groups)
    return metrics.done()


def _lack(reason: str) -> NotAvailable:
    """Something that cannot be asked of this dataset or selection."""
    return NotAvailable(reason, applies=False)


def _baselines(chosen: Sequence[Pair], relative: Sequence[RelativeEnergyRow]) -> dict[str, dict[str, float | None]]:
    """A model that gives no forces and one energy for everything."""
    if not chosen and not relative:
        return {}
    flat = [Pair(p.frame, p.near, np.zeros_like(p.frame.forces), 0.0, None) for p in chosen]
    found: dict[str, float | None] = {}
    if flat:
        sums = np.array([force_sums(p) for p in flat])
        found |= {"force_rmse": _rmse(sums), "force_mae": _mae(sums), "force_softening": 1.0}
        for name, masks in (("force_rmse_near", [p.near for p in flat]), ("force_rmse_far", [~p.near for p in flat])):
            table = np.array([force_sums(p, m) for p, m in zip(flat, masks, strict=True)])
            found[name] = _rmse(table) if table[:, -1].sum() else None
        per_charge = energy_errors(flat, by_charge=True)
        found |= {
            "energy_rmse": _root_mean_square(per_charge),
            "energy_mae": _mean_absolute(per_charge),
            "energy_rmse_all_charges": _root_mean_square(energy_errors(flat, by_charge=False)),
            "energy_softening": 1.0 if len(slope_sums(flat)[0]) else None,
        }
    if relative:
        found["relative_energy_mae"] = float(np.mean([min(r["dft_relative_energy"], RELATIVE_ENERGY_CAP) for r in relative]))
    return {"no forces, one energy": found}


def _notes(scoring: ScoringInput, everything: Sequence[Pair]) -> list[str]:
    notes = []
    with_frames = {(p.frame.defect, p.frame.charge) for p in everything if p.frame.level == scoring.dataset.level}
    without = [str(ChargeState(s.defect, s.charge)) for s in scoring.states if (s.defect, s.charge) not in with_frames]
    if without:
        notes.append(f"No {scoring.dataset.level} frames with forces: {', '.join(without)}.")
    others = [level for level in scoring.dataset.levels[1:] if not any(p.frame.level == level for p in everything)]
    if others:
        notes.append(f"No frames at {', '.join(others)}.")
    if len({p.frame.level for p in everything}) > 1:
        notes.append(f"Metrics are those of {scoring.dataset.level}. The tables also have the other levels, with the same model energies.")
    failed = sum(p.energy is None for p in everything)
    if failed:
        notes.append(
            f"{failed} of {len(everything)} frames have no result and count as misses ({FORCE_MISS:g} eV/Å per force component or more)."
        )
    if scoring.charge_class == "charge-blind" and everything:
        notes.append(
            "The model takes no charge, so it has one energy surface for all charge states; "
            "its all-charge error therefore includes the full charging energy."
        )
    return notes
