"""Runs that are killed at random moments: the same command resumes, and nothing finished is lost or calculated again."""

from __future__ import annotations

import importlib.util
import os
import random
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "kill_trials.py"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_kills_do_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("kill_trials", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "kill_trials", script)
    spec.loader.exec_module(script)
    seed = random.SystemRandom().randrange(10**6)
    outcomes = script.Trials(tmp_path, seed).run({"calculations": 1, "workers": 1, "creation": 1, "writes": 1})
    assert all(one.kills == 1 and one.faults == 0 for one in outcomes.values()), f"seed {seed}\n{script.table(outcomes)}"
