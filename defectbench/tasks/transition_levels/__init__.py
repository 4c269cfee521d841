"""Charge transition levels."""

from __future__ import annotations

from defectbench.scoring.task import Task
from defectbench.tasks.transition_levels import figure, score

TASK = Task(
    name="transition_levels",
    title="Charge transition levels",
    description=score.DESCRIPTION,
    metrics=score.METRICS,
    weight=score.WEIGHT,
    informed=("every level at their mean", "ideal start only", "another charge's geometry"),
    calculations=score.calculations,
    score=score.score,
    draw=figure.draw,
)
