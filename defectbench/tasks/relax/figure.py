"""The figure of the task ``relax``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from defectbench.scoring.landscape import (
    RMSD_CAP,
    SUCCESS_RMSD,
)
from defectbench.scoring.task import ScoringInput, TaskResult

if TYPE_CHECKING:
    from pathlib import Path


def draw(scoring: ScoringInput, result: TaskResult, model: str, folder: Path) -> list[Path]:
    """Draws the RMSD of each charge state, global above and local below, with threshold, baselines and failures."""
    from defectbench.plotting import style

    rows, configurations = result.rows, result.tables.get("configurations", ())
    if not rows:
        return []
    places: dict[tuple[str, int], float] = {}
    groups: dict[str, list[float]] = {}
    at = 0.0
    for row in rows:
        if groups and row["defect"] not in groups:
            at += 0.7
        places[row["defect"], row["charge"]] = at
        groups.setdefault(row["defect"], []).append(at)
        at += 1.0
    width = min(max(style.COLUMN_WIDTH, 0.9 + 0.3 * at), 2 * style.PAGE_WIDTH)
    level = scoring.dataset.level
    with style.figure(width, 4.1) as made:
        panels = made.subplots(2, 1, sharex=True)
        for axes, column, name in zip(panels, ("rmsd", "local_rmsd"), ("RMSD (Å)", "local RMSD (Å)"), strict=True):
            keys = [column, f"unrelaxed_{column}", f"other_charge_{column}", f"host_referenced_{column}"]
            shown = [r[k] for r in rows for k in keys if r[k] is not None]
            shown += [c[column] for c in configurations if c[column] is not None and c["status"] == "converged"]
            top = min(max([0.35, *(1.12 * v for v in shown)]), RMSD_CAP * 1.15)
            axes.axhspan(0, SUCCESS_RMSD, color=style.COLOURS["good"], alpha=0.16, linewidth=0, label="success (≤ 0.1 Å)")
            faint = [c for c in configurations if c["status"] == "converged" and c[column] is not None]
            axes.scatter(
                [places[c["defect"], c["charge"]] - 0.36 for c in faint],
                [min(c[column], top * 0.97) for c in faint],
                s=5,
                color=style.COLOURS["muted"],
                alpha=0.55,
                linewidth=0,
                label="every configuration",
            )
            for prefix, marker, colour, label, shift in (
                ("unrelaxed_", "_", style.COLOURS["unrelaxed"], "unrelaxed start", 0.0),
                ("other_charge_", "1", style.COLOURS["other_charge"], "DFT, other charge", -0.2),
                ("host_referenced_", "D", style.COLOURS["host_referenced"], "host-referenced", 0.22),
            ):
                have = [r for r in rows if r[f"{prefix}{column}"] is not None]
                x = [places[r["defect"], r["charge"]] + shift for r in have]
                y = [min(r[f"{prefix}{column}"], top * 0.97) for r in have]
                if marker == "D":
                    axes.scatter(x, y, s=15, marker=marker, facecolor="none", edgecolor=colour, linewidth=0.9, label=label, zorder=3)
                else:
                    axes.scatter(x, y, s=100 if marker == "_" else 45, marker=marker, color=colour, linewidth=1.2, label=label, zorder=3)
            have = [r for r in rows if r[column] is not None]
            axes.scatter(
                [places[r["defect"], r["charge"]] for r in have],
                [min(r[column], top * 0.97) for r in have],
                s=24,
                color=style.COLOURS["model"],
                label=f"{model}: ground state",
                zorder=4,
            )
            missed = [places[r["defect"], r["charge"]] for r in rows if r[column] is None]
            high, colour = [top * 0.93] * len(missed), style.COLOURS["miss"]
            axes.scatter(missed, high, s=30, marker="X", color=colour, linewidth=0, label="no ground state", zorder=4)
            axes.set_ylim(0, top)
            axes.set_ylabel(name)
            for boundary in (min(group) for group in list(groups.values())[1:]):
                axes.axvline(boundary - 0.85, color=style.COLOURS["muted"], linewidth=0.5)
        bottom = panels[1]
        bottom.set_xticks([places[r["defect"], r["charge"]] for r in rows], [style.charge_text(r["charge"]) for r in rows])
        bottom.set_xlim(-0.6, at - 0.4)
        for defect, group in groups.items():
            middle, above = (group[0] + group[-1]) / 2, panels[0].get_xaxis_transform()
            panels[0].text(middle, 1.02, style.defect_text(defect), transform=above, ha="center", va="bottom")
        bottom.set_xlabel("charge state (e)")
        handles, labels = panels[0].get_legend_handles_labels()
        if not any(r["rmsd"] is None for r in rows):
            handles, labels = handles[:-1], labels[:-1]
        order = [labels.index(f"{model}: ground state"), *(i for i, text in enumerate(labels) if text != f"{model}: ground state")]
        made.legend(
            [handles[i] for i in order],
            [labels[i] for i in order],
            loc="outside upper left",
            ncols=2 if width < 5 else 4,
            title=f"against the {level} ground state",
            alignment="left",
            title_fontsize=6.5,
        )
        return style.save(made, folder, "relax")
