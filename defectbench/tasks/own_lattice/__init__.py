"""The model's own lattice."""

from __future__ import annotations

from defectbench.scoring.task import Task
from defectbench.tasks.own_lattice import figure, score

TASK = Task(
    name="own_lattice",
    title="Is the lattice constant to blame?",
    description=score.DESCRIPTION,
    metrics=score.METRICS,
    weight=score.WEIGHT,
    calculations=score.calculations,
    score=score.score,
    draw=figure.draw,
    on_request=True,
)
