"""The figure of the task ``ccd``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from defectbench.scoring.task import ScoringInput, TaskResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def draw(scoring: ScoringInput, result: TaskResult, model: str, folder: Path) -> list[Path]:
    """Draws ``ccd.png`` and ``.svg``: energy against Q, a panel per pair of charges, each curve relative to its own end point.

    Raises:
        RunError: the folder cannot be written.
    """
    points = result.tables.get("points", ())
    if not points:
        return []
    from defectbench.plotting import style

    pairs = list(dict.fromkeys((str(p["defect"]), int(p["upper"]), int(p["lower"])) for p in points))
    columns = min(4, len(pairs))
    lines = -(-len(pairs) // columns)
    one_curve = bool(result.rows and result.rows[0]["one_curve"])
    colours = (style.COLOURS["miss"], style.COLOURS["model"])
    dft = scoring.dataset.level
    with style.figure(max(style.COLUMN_WIDTH, 1.75 * columns), 0.45 + 1.75 * lines) as made:
        panels = made.subplots(lines, columns, squeeze=False)
        for axes in panels.flat[len(pairs) :]:
            axes.set_axis_off()
        for axes, (defect, upper, lower) in zip(panels.flat, pairs, strict=False):
            mine = [p for p in points if (p["defect"], p["upper"], p["lower"]) == (defect, upper, lower)]
            heights: list[float] = []
            for charge, colour in zip((upper, lower), colours, strict=True):
                curve = [p for p in mine if p["charge"] == charge]
                sampled = [(p["q_amu_angstrom"], p["model_ev"]) for p in curve if p["model_ev"] is not None]
                known = [(p["q_amu_angstrom"], p["reference_ev"]) for p in curve if p["reference_ev"] is not None]
                if one_curve and charge == lower:
                    sampled = []
                if sampled:
                    axes.plot(*zip(*sampled, strict=True), "o-", ms=2.2, color=style.COLOURS["muted"] if one_curve else colour, zorder=2)
                if known:
                    axes.plot(*zip(*known, strict=True), "s", ms=3.6, mfc="none", mew=0.8, color=colour, zorder=3)
                end = next((p["q_amu_angstrom"] for p in curve if p["fraction"] == (0.0 if charge == upper else 1.0)), None)
                if end is not None:
                    text = style.charge_text(charge)
                    axes.annotate(text, (end, 0.0), (0, -4), textcoords="offset points", ha="center", va="top", color=colour)
                heights += [height for _, height in (*sampled, *known)]
            axes.axhline(0.0, color="0.85", lw=0.6, zorder=0)
            low, high = min(heights, default=0.0), max(heights, default=1.0)
            axes.set_ylim(low - 0.2 * (high - low) - 0.001, high + 0.06 * (high - low) + 0.001)
            axes.set_title(f"{style.defect_text(defect)}  {style.charge_text(upper)}/{style.charge_text(lower)}")
        made.supxlabel("$Q$ (amu$^{1/2}$ Å)", size=7.5)
        made.supylabel("energy (eV)", size=7.5)
        shown = panels.flat[0]
        curve_colour = style.COLOURS["muted"] if one_curve else "0.25"
        kind = " (one curve for both charges)" if one_curve else ""
        handles = [
            *shown.plot([], [], "o-", ms=2.2, color=curve_colour, label=f"{model}{kind}"),
            *shown.plot([], [], "s", ms=3.6, mfc="none", mew=0.8, color="0.25", label=dft),
        ]
        made.legend(handles=handles, loc="outside upper left", ncols=2)
        return style.save(made, folder, "ccd")
