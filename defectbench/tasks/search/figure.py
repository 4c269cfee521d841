"""The figure of the task ``search``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from defectbench.scoring.task import FigureContext, TaskResult

if TYPE_CHECKING:
    from pathlib import Path


def draw(result: TaskResult, context: FigureContext, folder: Path) -> list[Path]:
    """Draws recall against the number of DFT relaxations per charge state: the model, ShakeNBreak's order, random choice."""
    from matplotlib.ticker import MaxNLocator

    from defectbench.plotting import style

    rows = result.tables["curve"]
    if not rows:
        return []
    with style.figure(style.COLUMN_WIDTH, 3.0) as made:
        axes = made.subplots()
        n = [r["relaxations"] for r in rows]
        for key, label, colour, line in (
            ("random_recall", "random choice (expected)", "muted", ":"),
            ("recall", context.model, "model", "-"),
            ("order_recall", "ShakeNBreak order", "reference", "--"),
        ):
            where: Any = {} if key == "random_recall" else {"drawstyle": "steps-post"}
            axes.plot(n, [r[key] for r in rows], line, color=style.COLOURS[colour], label=label, linewidth=1.2, clip_on=False, **where)
        handed_over = float(np.mean([r["failed"] + r["unique_minima"] for r in result.rows]))
        found = float(np.mean([r["found_by_unique"] for r in result.rows]))
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
    found = [r["needed"] for r in result.rows if r["needed"] is not None]
    if len(found) < states:
        lost = "so no DFT relaxation can be skipped without losing one"
        return f"{context.model} hands {len(found)} of {states} ground states over to DFT, {lost}."
    every = "the ground state" if states == 1 else f"all {states} ground states"
    return (
        f"{context.model} finds {every} within {max(found)} DFT relaxations per charge state, "
        f"which saves {100 * (saved or 0.0):.0f} % of the avoidable ones."
    )
