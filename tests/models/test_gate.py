"""The gate on real models: CHGNet 0.2.0 is worse than 0.3.0, and a model is not worse than itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import defectbench
from defectbench.base.errors import RunError
from defectbench.cli import app

pytestmark = pytest.mark.model
ENTRIES = Path(__file__).parents[2] / "leaderboards"
CHOSEN = ("--configurations", "Unperturbed,Dimer", "--task", "relax", "--no-figures", "--workers", "2")


def test_an_older_version_fails_the_gate(tmp_path):
    """Against the published entry, which holds more: what both share is compared. ``.ci/run`` has 0.3.0 pass the same gate."""
    arguments = ["evaluate", "--model", "chgnet-0.2.0", "--output", tmp_path / "old", *CHOSEN]
    arguments += ["--baseline", "chgnet-0.3.0", "--entries", ENTRIES, "--report", tmp_path / "gate.json"]
    found = CliRunner().invoke(app, [str(a) for a in arguments])
    assert isinstance(found.exception, RunError)
    assert (found.exception.code, found.exception.exit_code) == ("worse", 1)
    assert not json.loads((tmp_path / "gate.json").read_text())["passed"]
    assert defectbench.compare(tmp_path / "old", ENTRIES / "sb2se3-vacancies" / "chgnet-0.3.0").passed
