"""The figure of the task ``cost``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from defectbench.scoring.task import FigureContext, TaskResult
from defectbench.tasks.cost.rows import MachineRow, RelaxationRow

if TYPE_CHECKING:
    from pathlib import Path


def draw(result: TaskResult, context: FigureContext, folder: Path) -> list[Path]:
    """Draws the time per force call of every relaxation, and relaxation times over the number of force calls."""
    from matplotlib.ticker import LogLocator, NullFormatter

    from defectbench.plotting import style

    table = result.table("relaxations", RelaxationRow)
    median = result.metric("seconds_per_call").value
    if not table or median is None:
        return []
    about = result.table("machine", MachineRow)[0]
    machine = about["gpus"] or about["processor"] or "machine not recorded"
    sizes = sorted({r["atoms"] for r in table})
    atoms = f"{sizes[0]} atoms" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]} atoms"
    with style.figure(style.PAGE_WIDTH, 2.5) as made:
        left, right = made.subplots(1, 2)
        calls = np.array([r["seconds_per_call"] for r in table])
        left.hist(calls, bins=min(20, max(5, len(calls) // 3)), color=style.COLOURS["model"], linewidth=0)
        left.axvline(median, color=style.COLOURS["reference"], linestyle="--", linewidth=0.8, label="median")
        left.set_xlim(0, 1.1 * float(calls.max()))
        left.set_xlabel("seconds per force call")
        left.set_ylabel("number of relaxations")
        left.legend(loc="upper left")
        force_calls = np.array([r["force_calls"] for r in table])
        ends = np.array([force_calls.min(), force_calls.max()]) * np.array([0.8, 1.25])
        right.plot(ends, median * ends, "--", color=style.COLOURS["reference"], linewidth=0.8, label="median time per force call")
        for status, colour, mark in (("converged", "model", "o"), ("unconverged", "host_referenced", "s"), ("failed", "miss", "X")):
            here = [r for r in table if r["status"] == status]
            if here:
                x, y = [r["force_calls"] for r in here], [r["seconds"] for r in here]
                right.scatter(x, y, s=12, marker=mark, color=style.COLOURS[colour], linewidth=0, label=status)
        # one relaxation that ran into the step limit takes ten times as long as the others
        right.set_xscale("log")
        right.set_yscale("log")
        for axis in (right.xaxis, right.yaxis):
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
        right.set_xlabel("force calls per relaxation")
        right.set_ylabel("seconds per relaxation")
        right.legend(loc="upper left")
        sentence = f"A force call of {context.model} on {atoms} takes {median:.2g} s ({about['clock']} time, {machine}; median)."
        style.headline(made, sentence, context.source)
        return style.save(made, folder, "cost")
