"""What the pages say is so."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np

import defectbench

DOCS = Path(__file__).parents[1] / "docs"


def test_the_tables_of_metrics_are_those_that_the_tasks_declare():
    script = Path(__file__).parents[1] / "scripts" / "generate_docs.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


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
