"""The figure of the task ``search``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from defectbench.scoring.task import FigureContext, TaskResult
from defectbench.tasks.search.rows import CurveRow, StateRow

if TYPE_CHECKING:
    from pathlib import Path


def draw(result: TaskResult, context: FigureContext, folder: Path) -> list[Path]:
    """Draws recall against the number of DFT relaxations per charge state: the model, ShakeNBreak's order, random choice."""
    from matplotlib.ticker import MaxNLocator

    from defectbench.plotting import style

    rows, states = result.table("curve", CurveRow), result.table("states", StateRow)
    if not rows:
        return []
    with style.figure(style.COLUMN_WIDTH, 3.0) as made:
        axes = made.subplots()
        n = [r["relaxations"] for r in rows]
        for recall, label, colour, line in (
            ([r["random_recall"] for r in rows], "random choice (expected)", "muted", ":"),
            ([r["recall"] for r in rows], context.model, "model", "-"),
            ([r["order_recall"] for r in rows], "ShakeNBreak order", "reference", "--"),
        ):
            where: Any = {} if colour == "muted" else {"drawstyle": "steps-post"}
            axes.plot(n, recall, line, color=style.COLOURS[colour], label=label, linewidth=1.2, clip_on=False, **where)
        handed_over = float(np.mean([r["failed"] + r["unique_minima"] for r in states]))
        found = float(np.mean([r["found_by_unique"] for r in states]))
        label = "all it hands over (mean)"
        axes.plot([handed_over], [found], "o", color=style.COLOURS["model"], markersize=4, label=label, zorder=4, clip_on=False)
        axes.set_xlim(0, max(n))
        axes.set_ylim(-0.02, 1.04)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("DFT relaxations per charge state")
        axes.set_ylabel("fraction of ground states found")
        made.legend(loc="outside lower left", ncols=2)
        style.headline(made, sentence(result, context), context.source)
        return style.save(made, folder, "search")


def sentence(result: TaskResult, context: FigureContext) -> str:
    """The finding: whether all ground states are found, and what that saves."""
    states, saved = len(result.rows), result.metric("saved_at_full_recall").value
    found = [needed for r in result.table("states", StateRow) if (needed := r["needed"]) is not None]
    if len(found) < states:
        lost = "so no DFT relaxation can be skipped without losing one"
        return f"{context.model} hands {len(found)} of {states} ground states over to DFT, {lost}."
    every = "the ground state" if states == 1 else f"all {states} ground states"
    return (
        f"{context.model} finds {every} within {max(found)} DFT relaxations per charge state, "
        f"which saves {100 * (saved or 0.0):.0f} % of the avoidable ones."
    )
