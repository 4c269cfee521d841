"""The figure of the task ``descriptors``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from defectbench.plotting.charges import charge_colours
from defectbench.scoring.task import ScoringInput, TaskResult

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def draw(_scoring: ScoringInput, result: TaskResult, model: str, folder: Path) -> list[Path]:
    """Draws the first two principal components, a panel per defect, coloured by charge."""
    from matplotlib.ticker import MaxNLocator

    from defectbench.plotting import style

    table = result.tables["frames"]
    defects = list(dict.fromkeys(r["defect"] for r in table))
    if not defects:
        return []
    colours = charge_colours(sorted({r["charge"] for r in table}))
    columns = min(3, len(defects))
    lines = -(-len(defects) // columns)
    width = style.COLUMN_WIDTH if columns == 1 else style.PAGE_WIDTH
    with style.figure(width, 0.55 + 2.4 * lines) as made:
        grid = made.subplots(lines, columns, squeeze=False)
        for axes in grid.flat[len(defects) :]:
            axes.set_axis_off()
        handles: dict[str, Any] = {}
        for defect, axes in zip(defects, grid.flat, strict=False):
            rows = [r for r in table if r["defect"] == defect]
            share = next(r for r in result.rows if r["defect"] == defect)
            for charge in sorted({r["charge"] for r in rows}):
                here = [r for r in rows if r["charge"] == charge]
                x, y = [r["component_1"] for r in here], [r["component_2"] for r in here]
                text = style.charge_text(charge)
                handles[text] = axes.scatter(x, y, s=14, color=colours[charge], edgecolor="white", linewidth=0.3, label=text)
            axes.set_xlabel(f"component 1 ({100 * share['explained_1']:.0f} %)")
            axes.set_ylabel(f"component 2 ({100 * share['explained_2']:.0f} %)")
            axes.ticklabel_format(style="sci", axis="both", scilimits=(-3, 4))
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.yaxis.set_major_locator(MaxNLocator(5))
            values = [r["silhouette"] for r in rows if r["silhouette"] is not None]
            title = style.defect_text(defect) + (f", silhouette {np.mean(values):.2f}".replace("-", "\N{MINUS SIGN}") if values else "")
            axes.set_title(title)
        ordered = sorted(handles, key=lambda text: int(text.replace("\N{MINUS SIGN}", "-")))
        title = f"{model}: charge (e)"
        made.legend([handles[t] for t in ordered], ordered, loc="outside lower center", ncols=len(ordered), title=title, title_fontsize=6.5)
        return style.save(made, folder, "descriptors")
