"""Response to charge."""

from __future__ import annotations

from defectbench.scoring.task import Task
from defectbench.tasks.charge_response import figure, score

TASK = Task(
    name="charge_response",
    title="Response to charge",
    description=score.DESCRIPTION,
    metrics=score.METRICS,
    weight=score.WEIGHT,
    calculations=score.calculations,
    score=score.score,
    draw=figure.draw,
)
