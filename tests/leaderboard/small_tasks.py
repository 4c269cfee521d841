"""Small tasks on which entries are made by hand."""

from __future__ import annotations

from defectbench.scoring.task import MetricDefinition, Task


def _task(name, weight, *metrics):
    return Task(name, f"The {name} task", "", metrics, lambda _: (), lambda _: None, lambda *_: [], weight)


RELAX = _task(
    "relax",
    3,
    MetricDefinition("rmsd", "RMSD", "Å", "lower", 0.0, 0.2, "how far off", weight=1),
    MetricDefinition("strict_success", "strict success", "1", "higher", 1.0, 0.0, "how many found", weight=2),
    MetricDefinition("steps", "steps", "1", "none", None, None, "how long"),
)
PES = _task("pes", 2, MetricDefinition("curve_error", "curve error", "eV", "lower", 0.0, 0.3, "not run", weight=1))
COST = _task("cost", 0, MetricDefinition("seconds_per_call", "time", "s", "none", None, None, "a call", "none"))
