"""Energy surfaces over bond distortions."""

from __future__ import annotations

from defectbench.scoring.task import Task
from defectbench.tasks.pes import figure, score

TASK = Task(
    name="pes",
    title="Energy surfaces over bond distortions",
    description=score.DESCRIPTION,
    metrics=score.METRICS,
    weight=score.WEIGHT,
    informed=("other_charge", "DFT"),
    calculations=score.calculations,
    score=score.score,
    draw=figure.draw,
)
