"""The figure of the task ``search``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from defectbench.scoring.task import ScoringInput, TaskResult

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def draw(_scoring: ScoringInput, result: TaskResult, model: str, folder: Path) -> list[Path]:
    """Draws recall against the number of DFT relaxations a charge state: the model, ShakeNBreak's order, random choice."""
    from matplotlib.ticker import MaxNLocator

    from defectbench.plotting import style

    rows = result.tables["curve"]
    if not rows:
        return []
    values: Mapping[str, float | None] = {m.name: m.value for m in result.metrics}
    with style.figure(style.COLUMN_WIDTH, 2.5) as made:
        axes = made.subplots()
        n = [r["relaxations"] for r in rows]
        for key, label, colour, line in (
            ("random_recall", "random choice", "muted", ":"),
            ("order_recall", "ShakeNBreak order", "reference", "--"),
            ("recall", model, "model", "-"),
        ):
            where: Any = {} if key == "random_recall" else {"drawstyle": "steps-post"}
            axes.plot(n, [r[key] for r in rows], line, color=style.COLOURS[colour], label=label, linewidth=1.2, clip_on=False, **where)
        passed = [r["failed"] + r["unique_minima"] for r in result.rows]
        mean = float(np.mean(passed))
        axes.plot(
            [mean],
            [values["unique_recall"] or 0.0],
            "o",
            color=style.COLOURS["model"],
            markersize=4,
            label="all that it passes on",
            zorder=4,
        )
        axes.set_xlim(0, max(n))
        axes.set_ylim(-0.02, 1.04)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("DFT relaxations a charge state")
        axes.set_ylabel("ground states found")
        states = len(result.rows)
        gained = values["saved_at_full_recall"] or 0.0
        axes.set_title(f"{states} charge state{'s' if states > 1 else ''}; {100 * gained:.0f} % of the avoidable saved at full recall")
        made.legend(loc="outside lower center", ncols=2)
        return style.save(made, folder, "search")
