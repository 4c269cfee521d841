"""The figure of the task ``cost``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from defectbench.scoring.task import ScoringInput, TaskResult
from defectbench.tasks.cost.score import machine

if TYPE_CHECKING:
    from pathlib import Path


def draw(scoring: ScoringInput, result: TaskResult, model: str, folder: Path) -> list[Path]:
    """Draws the time of a force call of every relaxation, and relaxation times over the number of force calls."""
    from defectbench.plotting import style

    table = result.tables["relaxations"]
    if not table:
        return []
    values = {m.name: m.value for m in result.metrics}
    with style.figure(style.PAGE_WIDTH, 2.3) as made:
        left, right = made.subplots(1, 2)
        calls = np.array([r["seconds_per_call"] for r in table])
        left.hist(calls, bins=min(30, max(5, len(calls) // 3)), color=style.COLOURS["model"], linewidth=0)
        left.axvline(values["seconds_per_call"] or 0.0, color=style.COLOURS["reference"], linestyle="--", linewidth=0.8)
        left.set_xlim(0, 1.1 * float(calls.max()))
        left.set_xlabel("seconds a force call")
        left.set_ylabel("relaxations")
        left.set_title(f"{model}: median {values['seconds_per_call'] or 0.0:.3g} s, {table[0]['atoms']} atoms")
        for status, colour, mark in (("converged", "model", "o"), ("unconverged", "host_referenced", "s"), ("failed", "miss", "X")):
            here = [r for r in table if r["status"] == status]
            if here:
                x, y = [r["force_calls"] for r in here], [r["seconds"] for r in here]
                right.scatter(x, y, s=12, marker=mark, color=style.COLOURS[colour], linewidth=0, label=status)
        right.set_xlim(left=0)
        right.set_ylim(bottom=0)
        right.set_xlabel("force calls")
        right.set_ylabel("seconds a relaxation")
        right.set_title(str(machine(scoring)["gpus"] or machine(scoring)["processor"] or "machine not recorded"))
        right.legend()
        return style.save(made, folder, "cost")
