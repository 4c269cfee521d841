"""Separation of descriptors by charge."""

from __future__ import annotations

from defectbench.scoring.task import Task
from defectbench.tasks.descriptors import figure, score

TASK = Task(
    name="descriptors",
    title="Separation of descriptors by charge",
    description=score.DESCRIPTION,
    metrics=score.METRICS,
    weight=score.WEIGHT,
    calculations=score.calculations,
    score=score.score,
    draw=figure.draw,
)
