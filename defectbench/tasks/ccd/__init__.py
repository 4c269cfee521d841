"""Configuration-coordinate diagrams."""

from __future__ import annotations

from defectbench.scoring.task import Task
from defectbench.tasks.ccd import figure, score

TASK = Task(
    name="ccd",
    title="Configuration-coordinate diagrams",
    description=(
        "Energies of two neighbouring charges along the straight path between their ground states: mass-weighted ΔQ, relaxation "
        "energies, effective frequencies and Huang–Rhys factors, against the reference's energies on the path where the dataset has "
        "them, else against its end points. A charge-blind model has one curve for both charges, whose minimum cannot be at both ends."
    ),
    metrics=score.METRICS,
    weight=score.WEIGHT,
    informed=("one curve for both charges",),
    calculations=score.calculations,
    score=score.score,
    draw=figure.draw,
)
