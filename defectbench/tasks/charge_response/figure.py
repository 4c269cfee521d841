"""The figure of the task ``charge_response``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from defectbench.base.states import format_charge
from defectbench.scoring.task import FigureContext, TaskResult
from defectbench.tasks.charge_response.rows import ResponseRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LOOKS = {
    "ground states": ("displacements between ground states", "reproduced"),
    "one start": ("displacements from one start", "same_start_reproduced"),
    "forces": ("change of forces at one geometry", "force_reproduced"),
}
_BY_DEFINITION = ("ground states", "one start")


def draw(result: TaskResult, context: FigureContext, folder: Path) -> list[Path]:
    """Draws how much of DFT's response the model reproduces, a point per pair of charge states and configuration.

    A charge-blind model has no figure: its response is zero by definition. Of an energy-only model only the forces are drawn.

    Raises:
        RunError: the folder cannot be written.
    """
    from defectbench.plotting import style

    one_surface = context.charge_class == "energy-only"
    rows = [r for r in result.table("states", ResponseRow) if not (one_surface and r["look"] in _BY_DEFINITION)]
    looks = [look for look in _LOOKS if any(r["look"] == look for r in rows)]
    if context.charge_class == "charge-blind" or not looks:
        return []
    columns = list(dict.fromkeys((r["defect"], r["charge"], r["other_charge"]) for r in rows))
    columns.sort()
    with style.figure(style.COLUMN_WIDTH if len(looks) == 1 else style.PAGE_WIDTH, 3.3) as made:
        panels = made.subplots(1, len(looks), squeeze=False, sharey=True)[0]
        for axes, look in zip(panels, looks, strict=True):
            name, metric = _LOOKS[look]
            _panel(axes, [r for r in rows if r["look"] == look], columns)
            value = result.metric(metric).value
            axes.set_title(name + ("" if value is None else f"\n{value:.2f} reproduced".replace("-", "\N{MINUS SIGN}")))
        panels[0].set_ylabel("fraction of DFT's response")
        for height, text in ((1.0, "DFT"), (0.0, "no response")):
            at = panels[-1].get_yaxis_transform()
            panels[-1].text(1.02, height, text, transform=at, va="center", size=6, color=style.COLOURS["muted"])
        shown = panels[0]
        handles = [
            *shown.plot([], [], "o", ms=3, color=style.COLOURS["model"], label=f"{context.model}, area: size of DFT's response"),
        ]
        if any(r["reproduced"] is None for r in rows):
            handles += shown.plot([], [], "X", ms=4, color=style.COLOURS["miss"], label="miss")
        made.legend(handles=handles, loc="outside lower left", ncols=2)
        style.headline(made, _sentence(result, context, one_surface), context.source)
        return style.save(made, folder, "charge_response")


def _panel(axes: Axes, rows: Sequence[ResponseRow], columns: Sequence[tuple[str, int, int]]) -> None:
    from defectbench.plotting import style

    here = [c for c in columns if any((r["defect"], r["charge"], r["other_charge"]) == c for r in rows)]
    largest = max(r["dft_response"] for r in rows)
    for place, column in enumerate(here):
        found = [r for r in rows if (r["defect"], r["charge"], r["other_charge"]) == column]
        x = place + np.linspace(-0.3, 0.3, len(found)) if len(found) > 1 else [float(place)]
        for at, row in zip(x, found, strict=True):
            if row["reproduced"] is None:
                axes.scatter(at, -1.0, s=24, marker="X", color=style.COLOURS["miss"], linewidth=0, zorder=3)
            else:
                size = 4.0 + 36.0 * row["dft_response"] / largest
                axes.scatter(at, row["reproduced"], s=size, color=style.COLOURS["model"], linewidth=0, alpha=0.7, zorder=3)
    for height in (1.0, 0.0):
        axes.axhline(height, color=style.COLOURS["muted"], linewidth=0.6, linestyle="--", zorder=1)
    axes.set_ylim(-1.1, 1.15)
    axes.set_xlim(-0.6, len(here) - 0.4)
    several = len({defect for defect, _, _ in here}) > 1
    texts = [
        (f"{style.defect_text(defect)} " if several else "") + f"{format_charge(first)} to {format_charge(second)}"
        for defect, first, second in here
    ]
    axes.set_xticks(range(len(here)), texts, rotation=45, ha="right", rotation_mode="anchor")


def _sentence(result: TaskResult, context: FigureContext, one_surface: bool) -> str:
    def part(name: str) -> str:
        value = result.metric(name).value
        return "an unknown part" if value is None else f"{value:.0%}".replace("-", "\N{MINUS SIGN}")

    forces = f"{part('force_reproduced')} of the change of DFT's forces with charge"
    if one_surface:
        return f"{context.model} reproduces {forces}; its charge states share the same minima, so no atom moves."
    return f"{context.model} reproduces {part('reproduced')} of DFT's displacements between ground states and {forces}."
