"""Pre-screening for a structure search."""

from __future__ import annotations

from defectbench.scoring.task import Task
from defectbench.tasks.search import figure, score

TASK = Task(
    name="search",
    title="Pre-screening for a structure search",
    description=score.DESCRIPTION,
    metrics=score.METRICS,
    weight=score.WEIGHT,
    calculations=score.calculations,
    score=score.score,
    draw=figure.draw,
)
