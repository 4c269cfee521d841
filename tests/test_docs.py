"""What the pages say is so."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import defectbench
from defectbench.tasks import get_tasks

DOCS = Path(__file__).parents[1] / "docs"
TASKS = get_tasks(None)


def section(task: str) -> str:
    """The section of the page that defines a task's metrics: from the heading that names the task to the next one of its rank or above."""
    found = []
    for page in ("metrics.md", "thermodynamics.md"):
        text = (DOCS / page).read_text(encoding="utf-8")
        for heading in re.finditer(rf"^(##+) (?:The metrics of )?`{task}`$", text, flags=re.MULTILINE):
            rest = text[heading.end() :]
            end = re.search(rf"^#{{2,{len(heading[1])}}} ", rest, flags=re.MULTILINE)
            found.append(rest[: end.start()] if end else rest)
    assert len(found) == 1, f"{task}: {len(found)} sections"
    return found[0]


@pytest.mark.parametrize("task", TASKS, ids=[task.name for task in TASKS])
def test_every_metric_stands_in_the_table_of_its_task(task):
    text = section(task.name)
    first_cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| ")]
    listed = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}
    assert {metric.name for metric in task.metrics} <= listed


@pytest.mark.parametrize("task", [task for task in TASKS if task.name in ("transition_levels", "ccd")], ids=lambda task: task.name)
def test_anchors_of_thermodynamics_are_those_that_score(task):
    rows = [line.split("|")[1:4] for line in section(task.name).splitlines() if line.startswith("| `")]
    stated = {name: anchors.split(" eV")[0].strip() for names, _, anchors in rows for name in re.findall(r"`(\w+)`", names)}
    declared = {m.name: "information" if m.direction == "none" else f"{m.good:g} → {m.bad:g}" for m in task.metrics}
    assert stated == declared


def test_the_response_of_dft_forces_to_charge_that_the_classes_are_measured_by():
    dataset = defectbench.load_dataset("sb2se3-vacancies")
    frames = {q: dataset.frames("V_Sb1", q, "Start_Unperturbed")[0] for q in dataset.charges("V_Sb1")}
    forces = [frame.get_forces() for _, frame in sorted(frames.items())]
    changes = [float(np.linalg.norm(b - a, axis=1).max()) for a, b in pairwise(forces)]
    largest = [float(np.linalg.norm([a, b], axis=2).max()) for a, b in pairwise(forces)]
    shares = [100.0 * change / force for change, force in zip(changes, largest, strict=True)]
    text = " ".join((DOCS / "models.md").read_text(encoding="utf-8").split())
    assert f"changes by {min(changes):.2f} to {max(changes):.2f} eV/Å per charge" in text
    assert f"{min(shares):.0f} to {max(shares):.0f} % of the largest force" in text
