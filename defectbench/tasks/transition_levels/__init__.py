"""Charge transition levels."""

from __future__ import annotations

from defectbench.scoring.task import Task
from defectbench.tasks.transition_levels import figure, score

TASK = Task(
    name="transition_levels",
    title="Charge transition levels",
    description=(
        "Formation energies, thermodynamic charge transition levels, stable charges along the Fermi level and negative U, from lower "
        "envelopes over the configurations. The dataset's band edges, corrections and chemical potentials serve model and reference "
        "alike. Models whose energy hears the charge are scored by their own energies; every model, charge-blind ones included, by the "
        "reference energies of the basins that it finds, in columns of their own. Each level's error is split into a geometry part, an "
        "energy part and the rest."
    ),
    metrics=score.METRICS,
    calculations=score.calculations,
    score=score.score,
    draw=figure.draw,
)
