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
CHOSEN = ("--configurations", "Unperturbed,Dimer", "--task", "relax,parity", "--no-figures")


def evaluate(model: str, output: Path, workers: int, *more: object):
    arguments = ["evaluate", "--model", model, "--output", output, "--workers", workers, *CHOSEN, *more]
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("released") / "chgnet-0.3.0"
    assert evaluate("chgnet-0.3.0", folder, 2).exit_code == 0
    return folder


def test_an_older_version_fails_the_gate(released, tmp_path):
    found = evaluate("chgnet-0.2.0", tmp_path / "old", 2, "--baseline", released, "--report", tmp_path / "gate.json")
    assert isinstance(found.exception, RunError)
    assert (found.exception.code, found.exception.exit_code) == ("worse", 1)
    assert not json.loads((tmp_path / "gate.json").read_text())["passed"]
    assert defectbench.compare(tmp_path / "old", released).passed


def test_a_rerun_with_another_number_of_workers_passes(released, tmp_path):
    again = evaluate("chgnet-0.3.0", tmp_path / "again", 1, "--baseline", released)
    assert again.exit_code == 0, again.exception
    found = defectbench.compare(released, tmp_path / "again")
    assert found.passed
    assert found.count("worse") == found.count("better") == 0
