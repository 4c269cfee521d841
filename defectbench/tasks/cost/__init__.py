"""Cost."""

from __future__ import annotations

from defectbench.scoring.task import Task
from defectbench.tasks.cost import figure, score

TASK = Task(
    name="cost",
    title="Cost",
    description=score.DESCRIPTION,
    metrics=score.METRICS,
    weight=score.WEIGHT,
    calculations=score.calculations,
    score=score.score,
    draw=figure.draw,
)
