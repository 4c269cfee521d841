"""Ground-state structures."""

from __future__ import annotations

from defectbench.scoring.task import Task
from defectbench.tasks.relax import figure, score

TASK = Task(
    name="relax",
    title="Ground-state structures",
    description=score.DESCRIPTION,
    metrics=score.METRICS,
    weight=score.WEIGHT,
    informed=("other_charge",),
    calculations=score.calculations,
    score=score.score,
    draw=figure.draw,
)
