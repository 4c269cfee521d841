"""The figure of the task ``pes``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from defectbench.scoring.landscape import SUCCESS_RMSD
from defectbench.scoring.task import ScoringInput, TaskResult

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


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

    from defectbench.plotting import style

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
