"""The figure of the task ``descriptors``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from defectbench.base.states import format_charge
from defectbench.plotting.charges import charge_colours
from defectbench.scoring.task import FigureContext, TaskResult
from defectbench.tasks.descriptors.rows import FrameRow, StateRow

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.collections import PathCollection
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def draw(result: TaskResult, context: FigureContext, folder: Path) -> list[Path]:
    """Draws the first two principal components, a panel per defect, coloured by charge."""
    from matplotlib.ticker import MaxNLocator

    from defectbench.plotting import style

    # of defects with more than one charge to separate
    table = [r for r in result.table("frames", FrameRow) if r["silhouette"] is not None]
    defects = list(dict.fromkeys(r["defect"] for r in table))
    if not defects:
        return []
    colours = charge_colours(sorted({r["charge"] for r in table}))
    columns = min(3, len(defects))
    lines = -(-len(defects) // columns)
    width = style.COLUMN_WIDTH if columns == 1 else style.PAGE_WIDTH
    with style.figure(width, 0.95 + 2.4 * lines) as made:
        grid = made.subplots(lines, columns, squeeze=False)
        for axes in grid.flat[len(defects) :]:
            axes.set_axis_off()
        handles: dict[str, PathCollection] = {}
        for defect, axes in zip(defects, grid.flat, strict=False):
            rows = [r for r in table if r["defect"] == defect]
            share = next(r for r in result.table("states", StateRow) if r["defect"] == defect)
            for charge in sorted({r["charge"] for r in rows}):
                here = [r for r in rows if r["charge"] == charge]
                x, y = [r["component_1"] for r in here], [r["component_2"] for r in here]
                text = format_charge(charge)
                handles[text] = axes.scatter(x, y, s=14, color=colours[charge], edgecolor="white", linewidth=0.3, label=text)
            axes.set_xlabel(f"component 1 ({100 * share['explained_1']:.0f} %)")
            axes.set_ylabel(f"component 2 ({100 * share['explained_2']:.0f} %)")
            axes.ticklabel_format(style="sci", axis="both", scilimits=(-3, 4))
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.yaxis.set_major_locator(MaxNLocator(5))
            values = [value for r in rows if (value := r["silhouette"]) is not None]
            title = style.defect_text(defect) + (f", silhouette {np.mean(values):.2f}".replace("-", "\N{MINUS SIGN}") if values else "")
            axes.set_title(title)
        ordered = sorted(handles, key=lambda text: int(text.replace("\N{MINUS SIGN}", "-")))
        marks = [handles[text] for text in ordered]
        made.legend(marks, ordered, loc="outside lower left", ncols=len(ordered), title="charge (e)", title_fontsize=6.5)
        style.headline(made, sentence(result, context), context.source)
        return style.save(made, folder, "descriptors")


def sentence(result: TaskResult, context: FigureContext) -> str:
    """The finding: what charge does to the descriptors."""
    if context.charge_class == "charge-blind":
        return f"{context.model} takes no charge: only DFT's different structures separate its descriptors by charge."
    gain = result.metric("silhouette_gain")
    if gain.value is None:
        return f"The effect of charge on the descriptors of {context.model} is unknown: {gain.reason}."
    change = f"{round(gain.value, 2) + 0.0:+.2f}".replace("-", "\N{MINUS SIGN}")
    return f"{context.model}: charge changes the separation of its descriptors (silhouette) by {change}."
