"""Energies and forces on DFT frames."""

from __future__ import annotations

from defectbench.scoring.task import Task
from defectbench.tasks.parity import figure, score

TASK = Task(
    name="parity",
    title="Energies and forces on DFT frames",
    description=score.DESCRIPTION,
    metrics=score.METRICS,
    weight=score.WEIGHT,
    calculations=score.calculations,
    score=score.score,
    draw=figure.draw,
)
