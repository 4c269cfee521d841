"""The figure of the task ``transition_levels``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from defectbench.scoring.task import ScoringInput, TaskResult
from defectbench.thermodynamics import (
    reservoir,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


DRAWN_AS_THEY_ARE = 0.5
"""eV: with a larger common shift than this, a figure shows the model's levels aligned, and says so."""


def draw(scoring: ScoringInput, result: TaskResult, model: str, folder: Path) -> list[Path]:
    """Draws ``transition_levels.png`` and ``.svg``: stable levels per defect, reference beside the model's own and basin levels.

    Raises:
        RunError: the folder cannot be written.
    """
    levels = result.tables.get("levels", ())
    if not levels:
        return []
    from defectbench.plotting import style

    dft = scoring.dataset.level
    defects = list(dict.fromkeys(str(row["defect"]) for row in levels))
    shift = result.metric("level_shift").value
    own = any(row["own_ev"] is not None for row in levels)
    moved = shift if own and shift is not None and abs(shift) > DRAWN_AS_THEY_ARE else 0.0
    series = [("reference", dft, style.COLOURS["reference"], 0.0)]
    if own:
        text = "own energies" + (f", moved by {-moved:+.2f} eV".replace("-", "\N{MINUS SIGN}") if moved else "")
        series.append(("own", f"{model}: {text}", style.COLOURS["model"], moved))
    series.append(("basin", f"{model}: {dft} energies of its basins", style.COLOURS["miss"], 0.0))
    from_vbm = levels[0]["zero"] == "valence band maximum"
    gap = reservoir(scoring.dataset.level_of_theory()).gap if from_vbm else None
    heights = {
        (defect, which): {
            str(row["level"])[1:]: float(row[f"{which}_ev"]) - offset
            for row in levels
            if row["defect"] == defect and row[f"stable_{which}"] and row[f"{which}_ev"] is not None
        }
        for defect in defects
        for which, _, _, offset in series
    }
    drawn = [height for found in heights.values() for height in found.values()] or [0.0]
    low, high = min(drawn), max(drawn)
    if from_vbm:
        low, high = min(low, 0.0), max(high, gap if gap is not None else high)
    margin = 0.1 * max(high - low, 0.3)
    low, high = low - margin, high + 1.5 * margin
    width = len(series) + 1
    with style.figure(max(style.COLUMN_WIDTH, 0.8 + 0.62 * width * len(defects)), 2.9) as made:
        axes = made.add_subplot()
        for column, defect in enumerate(defects):
            for place, (which, _, colour, _) in enumerate(series):
                left = column * width + place
                found = heights[defect, which]
                texts = _apart(list(found.values()), 0.05 * (high - low))
                for (name, height), text_height in zip(found.items(), texts, strict=True):
                    axes.plot([left + 0.05, left + 0.5], [height, height], color=colour, lw=1.6, solid_capstyle="butt")
                    axes.plot([left + 0.5, left + 0.56], [height, text_height], color=colour, lw=0.4)
                    axes.text(left + 0.58, text_height, name, ha="left", va="center", size=5.5, color=colour)
                if not found:
                    axes.text(
                        left + 0.5, 0.02, "none", transform=axes.get_xaxis_transform(), ha="center", va="bottom", size=6, color=colour
                    )
        for _, label, colour, _ in series:
            axes.plot([], [], color=colour, lw=1.6, label=label)
        if from_vbm:
            for bottom, top in ((low - 1.0, 0.0), *([(gap, high + 1.0)] if gap is not None else [])):
                axes.axhspan(bottom, top, color="0.9", lw=0, zorder=0)
        axes.set_ylim(low, high)
        axes.set_xlim(-0.5, width * len(defects) - 0.5)
        axes.set_xticks([column * width + len(series) / 2 for column in range(len(defects))], [style.defect_text(d) for d in defects])
        axes.tick_params(axis="x", length=0)
        axes.set_ylabel("Fermi level above the VBM (eV)" if from_vbm else "Fermi level, relative (eV)")
        made.legend(loc="outside upper left", ncols=1)
        return style.save(made, folder, "transition_levels")


def _apart(heights: Sequence[float], distance: float) -> list[float]:
    """Heights of labels: those nearer than ``distance`` are moved apart, each group around its middle."""
    groups: list[list[int]] = []
    for i in np.argsort(heights, kind="stable"):
        groups.append([int(i)])
        while len(groups) > 1 and _placed(groups[-1], heights, distance)[0] - _placed(groups[-2], heights, distance)[-1] < distance - 1e-12:
            last = groups.pop()
            groups[-1] += last
    out = [0.0] * len(heights)
    for group in groups:
        for i, height in zip(group, _placed(group, heights, distance), strict=True):
            out[i] = height
    return out


def _placed(group: Sequence[int], heights: Sequence[float], distance: float) -> list[float]:
    """Evenly spaced heights around the mean of a group."""
    middle = float(np.mean([heights[i] for i in group]))
    return [middle + distance * (k - (len(group) - 1) / 2) for k in range(len(group))]
