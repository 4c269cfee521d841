"""Is the model's energy surface over the bond distortions that of DFT?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from defectbench.calculations.calculation import Calculation
from defectbench.labels import sort_key
from defectbench.structures.matching import Operations, match, match_within
from defectbench.tasks.base import MetricDefinition, MetricValue, PlanInput, ScoringInput, Task, TaskResult
from defectbench.tasks.landscape import (
    SUCCESS_RMSD,
    Placed,
    PlacedState,
    ReferenceState,
    capped,
    distortion_of,
    mean_with_interval,
    operations_of,
    place_all,
    rounded,
)

if TYPE_CHECKING:
    from pathlib import Path

ENERGY_CAP = 1.0
"""eV: an energy error counts up to this in averages, and a miss counts as this."""

ENERGY_RESOLUTION = 0.01
"""eV: energies are rounded to this before they are ranked, so that convergence noise is a tie and not an order."""

MINIMUM_CONFIGURATIONS = 3
"""A curve needs at least this many configurations with DFT."""

METRICS = (
    MetricDefinition(
        "curve_error", "curve error", "eV", "lower", 0.0, 0.3,
        "Mean absolute error of energies over the configurations, each curve relative to its own minimum; a miss counts as 1 eV.",
    ),
    MetricDefinition(
        "rank_correlation", "rank correlation", "1", "higher", 1.0, 0.0,
        "Spearman correlation of the model's and DFT's energies over the configurations, mean over charge states; a miss counts as -1.",
    ),
    MetricDefinition(
        "ground_state_fraction", "reach the ground state", "1", "higher", 1.0, 0.0,
        "Fraction of all configurations that the model relaxes into DFT's ground state (RMSD 0.1 Å). DFT's own fraction is a baseline.",
    ),
    MetricDefinition(
        "same_minimum", "same minimum as DFT", "1", "higher", 1.0, 0.0,
        "Fraction of the configurations with DFT that the model relaxes into the minimum that DFT reaches from the same start.",
    ),
)  # fmt: skip

DESCRIPTION = (
    "Energy of the relaxed configurations against the bond distortion they started from, model and DFT, each relative to its own minimum; "
    "every configuration marked by its RMSD to the DFT ground state. Scored by the error of the curve, the rank correlation, and where "
    "configurations end."
)


def calculations(_plan: PlanInput) -> Sequence[Calculation]:
    """Nothing besides the relaxations of the starts."""
    return ()


def rank_correlation(model: Sequence[float], reference: Sequence[float]) -> float | None:
    """Spearman's rank correlation of energies (eV) rounded to 10 meV, ties by average rank (Spearman 1904, doi:10.2307/1412159).

    Returns:
        None if the reference does not vary; 0 if only the model does not.
    """
    from scipy.stats import rankdata

    first, second = (np.round(np.asarray(values, dtype=float) / ENERGY_RESOLUTION) for values in (model, reference))
    a, b = rankdata(first), rankdata(second)
    if np.ptp(b) == 0:
        return None
    if np.ptp(a) == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def same_minimum_as_reference(placed: Placed, reference: ReferenceState, operations: Operations) -> bool | None:
    """Whether a configuration ends where DFT ends from the same start; None if DFT has not relaxed that start."""
    minimum = reference.minima.get(placed.configuration)
    if minimum is None:
        return None
    if not placed.converged or placed.atoms is None:
        return False
    return match_within(placed.atoms, minimum.atoms, operations, SUCCESS_RMSD) is not None


def _state_row(state: PlacedState, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The scores of one charge state from its configurations' rows."""
    reference = state.reference
    common = [r for r in rows if r["dft_energy"] is not None and r["status"] != "not selected"]
    done = [r for r in common if r["status"] == "converged"]
    row: dict[str, Any] = {
        "defect": reference.defect,
        "charge": reference.charge,
        "configurations": len(state.placed),
        "converged": len(state.converged),
        "dft_configurations": len(reference.minima),
        "common": len(common),
        "common_converged": len(done),
        "curve_error": None,
        "rank_correlation": None,
        "ground_state_fraction": rounded(sum(bool(r["in_ground_state"]) for r in rows) / len(state.placed)),
        "dft_ground_state_fraction": rounded(sum(i == 0 for i in reference.membership.values()) / len(reference.membership)),
        "same_minimum": rounded(sum(bool(r["same_minimum_as_dft"]) for r in common) / len(common)) if common else None,
        "flat_curve_error": None,
        "reason": None,
    }
    if len(common) < MINIMUM_CONFIGURATIONS:
        row["reason"] = f"DFT has relaxed {len(common)} of the selected configurations; a curve needs {MINIMUM_CONFIGURATIONS}"
        return row
    errors = [r["energy_error"] for r in common]
    row["curve_error"] = rounded(float(np.mean([capped(e, ENERGY_CAP) for e in errors])))
    lowest = min(r["dft_energy"] for r in common)
    row["flat_curve_error"] = rounded(float(np.mean([min(r["dft_energy"] - lowest, ENERGY_CAP) for r in common])))
    fraction = len(done) / len(common)
    everything = rank_correlation([r["dft_energy"] for r in common], [r["dft_energy"] for r in common])
    if everything is None:
        row["reason"] = "DFT's energies agree within 10 meV, so they have no order to correlate with"
        return row
    found = rank_correlation([r["energy"] for r in done], [r["dft_energy"] for r in done]) if len(done) >= 2 else -1.0
    row["rank_correlation"] = rounded(fraction * (0.0 if found is None else found) - (1.0 - fraction))
    return row


def score(scoring: ScoringInput) -> TaskResult:
    """Scores the curves; see ``docs/metrics.md`` for every definition."""
    operations = operations_of(scoring.dataset)
    table: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    starts_in_ground: list[float] = []
    for state in place_all(scoring):
        reference = state.reference
        starts = scoring.dataset.starts(reference.defect, reference.charge)
        placed = {p.configuration: p for p in state.placed}
        common = [p for p in state.converged if p.configuration in reference.minima]
        # the zero of each curve: over everything for the picture, over what both have for the error
        model_zero = min((p.energy for p in state.converged if p.energy is not None), default=None)
        common_zero = min((p.energy for p in common if p.energy is not None), default=None)
        selected = [name for name in reference.minima if name in placed]
        dft_common_zero = min((reference.minima[name].energy for name in selected), default=None)
        mine: list[dict[str, Any]] = []
        for name in sorted({*placed, *reference.minima}, key=sort_key):
            p, minimum = placed.get(name), reference.minima.get(name)
            dft_fit = match(minimum.atoms, reference.ground.atoms, operations, reference.centre) if minimum else None
            energy = p.energy if p is not None and p.converged else None
            error: float | None = None
            if energy is not None and minimum is not None and common_zero is not None and dft_common_zero is not None:
                error = abs((energy - common_zero) - (minimum.energy - dft_common_zero))
            mine.append(
                {
                    "defect": reference.defect,
                    "charge": reference.charge,
                    "configuration": name,
                    "distortion": distortion_of(name),
                    "status": p.outcome if p is not None else "not selected",
                    "energy": rounded(energy, 6),
                    "relative_energy": None if energy is None or model_zero is None else rounded(energy - model_zero),
                    "dft_energy": rounded(minimum.energy, 6) if minimum else None,
                    "dft_relative_energy": rounded(minimum.energy - reference.ground.energy) if minimum else None,
                    "energy_error": rounded(error),
                    "rmsd": rounded(p.fit.rmsd) if p is not None and p.converged and p.fit is not None else None,
                    "dft_rmsd": rounded(dft_fit.rmsd) if dft_fit else None,
                    "in_ground_state": None if p is None else p.converged and p.fit is not None and p.fit.rmsd <= SUCCESS_RMSD,
                    "same_minimum_as_dft": None if p is None else same_minimum_as_reference(p, reference, operations),
                    "reason": p.reason if p is not None else None,
                }
            )
        table += mine
        rows.append(_state_row(state, mine))
        for name in placed:
            if name in starts:
                near = match_within(starts[name], reference.ground.atoms, operations, SUCCESS_RMSD)
                starts_in_ground.append(float(near is not None))
    return TaskResult(
        task="pes",
        metrics=_metrics(rows, table),
        rows=tuple(rows),
        baselines=_baselines(rows, starts_in_ground),
        notes=tuple(_notes(rows)),
        tables={"configurations": tuple(table)},
    )


def _aggregate(name: str, values: Sequence[float], reason: str) -> MetricValue:
    value, interval = mean_with_interval(values)
    # without a value there is no DFT to compare with: misses of the model have values
    return MetricValue(name, value, interval, reason if value is None else None, applies=value is not None)


def _metrics(rows: Sequence[Mapping[str, Any]], table: Sequence[Mapping[str, Any]]) -> tuple[MetricValue, ...]:
    scored = {(r["defect"], r["charge"]) for r in rows if r["curve_error"] is not None}
    common = [r for r in table if r["dft_energy"] is not None and r["status"] != "not selected"]
    curve = [capped(r["energy_error"], ENERGY_CAP) for r in common if (r["defect"], r["charge"]) in scored]
    nothing = "no charge state with a reference was selected"
    few = f"no charge state has DFT for {MINIMUM_CONFIGURATIONS} of the selected configurations" if rows else nothing
    return (
        _aggregate("curve_error", curve, few),
        _aggregate("rank_correlation", [r["rank_correlation"] for r in rows if r["rank_correlation"] is not None], few),
        _aggregate("ground_state_fraction", [float(r["in_ground_state"]) for r in table if r["in_ground_state"] is not None], nothing),
        _aggregate("same_minimum", [float(r["same_minimum_as_dft"]) for r in common], few if not rows else "DFT has none of the starts"),
    )


def _baselines(rows: Sequence[Mapping[str, Any]], starts_in_ground: Sequence[float]) -> dict[str, dict[str, float | None]]:
    flat = [(r["flat_curve_error"], r["common"]) for r in rows if r["flat_curve_error"] is not None]
    weight = sum(n for _, n in flat)
    total = sum(r["dft_configurations"] for r in rows)
    reached = sum(round(r["dft_ground_state_fraction"] * r["dft_configurations"]) for r in rows)
    return {
        "flat or unrelaxed": {
            "curve_error": sum(e * n for e, n in flat) / weight if weight else None,
            "rank_correlation": 0.0 if flat else None,
            "ground_state_fraction": float(np.mean(starts_in_ground)) if starts_in_ground else None,
        },
        "DFT": {"ground_state_fraction": reached / total if total else None},
    }


def _notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for r in rows:
        if r["reason"]:
            by_reason.setdefault(r["reason"], []).append(f"{r['defect']} {r['charge']:+d}")
    notes = [f"{', '.join(states)}: {reason}." for reason, states in by_reason.items()]
    missed = sum(r["common"] - r["common_converged"] for r in rows)
    if missed:
        notes.append(f"{missed} configurations that DFT has did not converge with the model and count as misses ({ENERGY_CAP:g} eV).")
    return notes


_SHORT = {"Unperturbed": "Unpert.", "Published": "Publ."}

_ENERGY_TOP = 3.0
"""eV: energies above this are drawn as arrows at the top."""


def _place_on_axis(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """x of each configuration: its distortion in per cent, or a labelled place to the right of the distortion axis."""
    beside = [r["configuration"] for r in rows if r["distortion"] is None]
    places = {name: 83.0 + 21.0 * number for number, name in enumerate(beside)}
    return places | {r["configuration"]: r["distortion"] for r in rows if r["distortion"] is not None}


def draw(scoring: ScoringInput, result: TaskResult, model: str, folder: Path) -> list[Path]:
    """Draws energy against distortion, a panel per charge state; marks coloured by the RMSD to the DFT ground state."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.lines import Line2D

    from defectbench.tasks import style

    states = [(r["defect"], r["charge"]) for r in result.rows]
    if not states:
        return []
    configurations = result.tables["configurations"]
    level = scoring.dataset.level
    columns = min(3, len(states))
    lines = -(-len(states) // columns)
    width = style.COLUMN_WIDTH if columns == 1 else style.PAGE_WIDTH
    colours, scale = style.rmsd_colours()
    with style.figure(width, 0.85 + 1.95 * lines) as made:
        grid = made.subplots(lines, columns, squeeze=False)
        for axes in grid.flat[len(states) :]:
            axes.set_axis_off()
        for number, ((defect, charge), axes) in enumerate(zip(states, grid.flat, strict=False)):
            rows = [r for r in configurations if r["defect"] == defect and r["charge"] == charge]
            x = _place_on_axis(rows)
            energies = [r[k] for r in rows for k in ("relative_energy", "dft_relative_energy") if r[k] is not None]
            top = min(max([0.25, *(1.18 * e for e in energies)]), _ENERGY_TOP)
            for energy_key, rmsd_key, line, marks, edge, size in (
                ("dft_relative_energy", "dft_rmsd", "--", ("s", "X"), style.COLOURS["reference"], 34),
                ("relative_energy", "rmsd", "-", ("o", "x"), style.COLOURS["model"], 18),
            ):
                have = [r for r in rows if r[energy_key] is not None and r[rmsd_key] is not None]
                curve = sorted((r for r in have if r["distortion"] is not None), key=lambda r: r["distortion"])
                axes.plot([x[r["configuration"]] for r in curve], [r[energy_key] for r in curve], line, color=edge, linewidth=0.8, zorder=2)
                for good, mark in zip((True, False), marks, strict=True):
                    chosen = [r for r in have if (r[rmsd_key] <= SUCCESS_RMSD) == good and r[energy_key] <= top]
                    values = [r[rmsd_key] for r in chosen]
                    outline = {"linewidth": 1.3} if mark == "x" else {"edgecolor": edge, "linewidth": 0.6}
                    axes.scatter(
                        [x[r["configuration"]] for r in chosen],
                        [r[energy_key] for r in chosen],
                        s=size,
                        marker=mark,
                        c=values,
                        cmap=colours,
                        norm=scale,
                        zorder=3,
                        clip_on=False,
                        **outline,
                    )
                high = [r for r in have if r[energy_key] > top]
                axes.scatter([x[r["configuration"]] for r in high], [0.97 * top] * len(high), s=18, marker="^", color=edge, zorder=3)
            missed = [r for r in rows if r["status"] not in ("converged", "not selected")]
            misses = [x[r["configuration"]] for r in missed]
            axes.scatter(misses, [0.92 * top] * len(misses), s=12, marker="v", color=style.COLOURS["miss"], zorder=3)
            axes.set_ylim(-0.06 * top, top)
            beside = {r["configuration"]: x[r["configuration"]] for r in rows if r["distortion"] is None}
            distorted = [r["distortion"] for r in rows if r["distortion"] is not None]
            ticks = [-60, -30, 0, 30, 60] if distorted else []
            texts = [*(str(t).replace("-", "\N{MINUS SIGN}") for t in ticks), *(_SHORT.get(name, name) for name in beside)]
            axes.set_xticks([*ticks, *beside.values()], texts)
            for label, at in zip(axes.get_xticklabels(), [*ticks, *beside.values()], strict=True):
                if distorted and at in beside.values():
                    label.set_rotation(50)
                    label.set_rotation_mode("anchor")
                    label.set_horizontalalignment("right")
                    label.set_fontsize(5.5)
            if distorted and beside:
                axes.axvline(71, color=style.COLOURS["muted"], linewidth=0.5)
            axes.set_xlim(-68 if distorted else 70, max([68.0, *(at + 10 for at in beside.values())]))
            axes.set_title(f"{style.defect_text(defect)}, $q$ = {style.charge_text(charge)}", pad=3)
            if number % columns == 0:
                axes.set_ylabel("relative energy (eV)")
            if number + columns >= len(states) and distorted:
                axes.set_xlabel("bond distortion (%)")
        bar = made.colorbar(ScalarMappable(scale, colours), ax=grid, shrink=min(0.8, 1.7 / lines), aspect=25, pad=0.015, extend="max")
        bar.set_label(f"RMSD to the {level} ground state (Å)")
        bar.outline.set_linewidth(0.5)
        grey = style.COLOURS["muted"]
        handles = [
            Line2D([], [], color=style.COLOURS["model"], marker="o", markerfacecolor=grey, markersize=4, label=f"{model}, RMSD ≤ 0.1 Å"),
            Line2D([], [], color=style.COLOURS["model"], marker="x", markeredgecolor=grey, markersize=4, label=f"{model}, RMSD > 0.1 Å"),
            Line2D([], [], color="black", linestyle="--", marker="s", markerfacecolor=grey, markersize=4, label=f"{level}, RMSD ≤ 0.1 Å"),
            Line2D([], [], color="black", linestyle="--", marker="X", markerfacecolor=grey, markersize=4, label=f"{level}, RMSD > 0.1 Å"),
            Line2D([], [], color=style.COLOURS["miss"], linestyle="", marker="v", markersize=4, label="failed or not converged"),
        ]
        made.legend(handles=handles, loc="outside upper left", ncols=1 if columns == 1 else 3)
        return style.save(made, folder, "pes")


TASK = Task(
    name="pes",
    title="Energy surfaces over bond distortions",
    description=DESCRIPTION,
    metrics=METRICS,
    calculations=calculations,
    score=score,
    draw=draw,
)
