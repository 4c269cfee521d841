"""The figure of the task ``transition_levels``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from defectbench.base.states import format_charge
from defectbench.base.tables import number_in, numbers
from defectbench.scoring.task import FigureContext, TaskResult
from defectbench.tasks.transition_levels.rows import AxisRow, LevelRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DRAWN_AS_THEY_ARE = 0.5
"""eV: with a larger common shift than this, the figure shows the model's levels aligned, and says so."""

_BAR = 0.8
_TEXT_HEIGHT = 0.05
"""Of the axis: a range of Fermi levels below this has no room for its charge."""


def draw(result: TaskResult, context: FigureContext, folder: Path) -> list[Path]:
    """Draws the stable charges along the Fermi level, per defect: reference, the model's own energies, its basins.

    Raises:
        RunError: the folder cannot be written.
    """
    levels = result.table("levels", LevelRow)
    if not levels:
        return []
    from defectbench.plotting import style

    defects = list(dict.fromkeys(row["defect"] for row in levels))
    own = any(row["own_ev"] is not None for row in levels)
    shift = result.metric("level_shift").value or 0.0
    moved = shift if own and abs(shift) > DRAWN_AS_THEY_ARE else 0.0
    series = [("reference", context.level, style.COLOURS["reference"], 0.0)]
    if own:
        text = "own energies" + (f", moved by {-moved:+.2f} eV".replace("-", "\N{MINUS SIGN}") if moved else "")
        series.append(("own", f"{context.model}: {text}", style.COLOURS["model"], moved))
    series.append(("basin", f"{context.model}: {context.level} energies of its basins", style.COLOURS["miss"], 0.0))
    stable = {
        (defect, which): sorted(
            (height - offset, row["upper"], row["lower"])
            for row in levels
            if row["defect"] == defect and stable_by(row, which) and (height := number_in(row, f"{which}_ev")) is not None
        )
        for defect in defects
        for which, _, _, offset in series
    }
    axis = next(iter(result.table("axis", AxisRow)), AxisRow(zero=levels[0]["zero"], gap_ev=None))
    from_vbm, gap = axis["zero"] == "valence band maximum", axis["gap_ev"]
    drawn = [height for found in stable.values() for height, _, _ in found]
    if from_vbm:
        drawn += [0.0, *([] if gap is None else [gap])]
    low, high = min(drawn, default=0.0), max(drawn, default=0.0)
    margin = max(0.12 * (high - low), 0.15)
    low, high = low - margin, high + margin
    width = len(series) + 0.6
    with style.figure(max(style.COLUMN_WIDTH, 0.9 + 0.36 * width * len(defects)), 3.3) as made:
        axes = made.add_subplot()
        for column, defect in enumerate(defects):
            for place, (which, _, colour, _) in enumerate(series):
                _column(axes, column * width + place, stable[defect, which], (low, high), colour)
        for _, label, colour, _ in series:
            axes.plot([], [], color=colour, lw=1.6, label=label)
        if from_vbm:
            axes.axhline(0.0, color=style.COLOURS["muted"], lw=0.6, ls="--", zorder=0)
            axes.text(1.0, 0.0, " VBM", transform=axes.get_yaxis_transform(), va="center", size=6, color=style.COLOURS["muted"])
            if gap is not None:
                axes.axhline(gap, color=style.COLOURS["muted"], lw=0.6, ls="--", zorder=0)
                axes.text(1.0, gap, " CBM", transform=axes.get_yaxis_transform(), va="center", size=6, color=style.COLOURS["muted"])
        axes.set_ylim(low, high)
        axes.set_xlim(-0.8, width * (len(defects) - 1) + len(series) - 0.2)
        centre = (len(series) - 1) / 2
        axes.set_xticks([column * width + centre for column in range(len(defects))], [style.defect_text(d) for d in defects])
        axes.tick_params(axis="x", length=0)
        axes.set_ylabel("Fermi level above the VBM (eV)" if from_vbm else "Fermi level above the lowest DFT level (eV)")
        made.legend(loc="outside lower left", ncols=1)
        style.headline(made, sentence(result, context), context.source)
        return style.save(made, folder, "transition_levels")


def stable_by(row: LevelRow, which: str) -> bool:
    """Whether a level lies between stable charges by ``reference``, ``own`` or ``basin`` energies."""
    return bool({"reference": row["stable_reference"], "own": row["stable_own"], "basin": row["stable_basin"]}[which])


def _column(axes: Axes, x: float, levels: Sequence[tuple[float, int, int]], limits: tuple[float, float], colour: str) -> None:
    """One bar: the levels as lines, and between them the charge that is stable there."""
    if not levels:
        axes.text(x, sum(limits) / 2, "no level found", rotation=90, ha="center", va="center", size=6, color=colour, style="italic")
        return
    axes.bar(x, limits[1] - limits[0], _BAR, limits[0], color=colour, alpha=0.1, linewidth=0)
    axes.hlines([height for height, _, _ in levels], x - _BAR / 2, x + _BAR / 2, color=colour, linewidth=1.4)
    edges = [limits[0], *(height for height, _, _ in levels), limits[1]]
    charges = [levels[0][1], *(lower for _, _, lower in levels)]
    for charge, (bottom, top) in zip(charges, pairwise(edges), strict=True):
        if top - bottom > _TEXT_HEIGHT * (limits[1] - limits[0]):
            axes.text(x, (bottom + top) / 2, format_charge(charge), ha="center", va="center", size=6, color=colour)


def sentence(result: TaskResult, context: FigureContext) -> str:
    """The finding: how far the levels are off, by the model's own energies and by the reference's energies of its basins."""

    levels = result.table("levels", LevelRow)

    def error(which: str, name: str) -> str:
        if not any(value is not None for value in numbers(levels, f"{which}_ev")):
            return "are missing"
        value = result.metric(name).value
        return "are off" if value is None else "are off by 1 eV or more" if value > 0.995 else f"are off by {value:.2f} eV on average"

    basin = f"the levels of its basins {error('basin', 'basin_level_mae')}"
    if context.charge_class == "charge-blind":
        return f"{context.model} takes no charge, so it has no levels of its own energies; {basin}."
    if all(row["own_ev"] is None for row in levels):
        return f"{context.model} has no levels of its own energies; {basin}."
    return f"{context.model}: the levels of its own energies {error('own', 'level_mae')}, {basin}."
