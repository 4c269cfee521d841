"""A user's own model in a folder of its own, finished runs of it, and runs of the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from toy_runs import SMALL, FinishedRun, run_here, write_toy

import defectbench


@pytest.fixture
def toy(tmp_path) -> Callable[..., Path]:
    return lambda name="toy", charge="none", **arguments: write_toy(tmp_path, name, charge, **arguments)


@pytest.fixture(scope="session")
def real_run(tmp_path_factory) -> FinishedRun:
    """A run through worker processes, with figures."""
    home = tmp_path_factory.mktemp("real")
    model = write_toy(home)
    done = defectbench.evaluate(model, trust_code=True, **SMALL, output=home / "run", environment=sys.executable)
    return FinishedRun(model, home / "run", done)


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> FinishedRun:
    """The same in this process, without figures."""
    home = tmp_path_factory.mktemp("finished")
    model = write_toy(home)
    return FinishedRun(model, home / "run", run_here(model, home / "run"))


@pytest.fixture
def command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs ``defectbench …`` in a process of its own."""

    def run(*arguments: object, timeout: float = 120, **options: object) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "defectbench", *map(str, arguments)]
        return subprocess.run(
            line, capture_output=True, text=True, timeout=timeout, check=False, env=os.environ | {"COLUMNS": "200"}, **options
        )

    return run


@pytest.fixture
def read_json() -> Callable[[Path], dict]:
    return lambda path: json.loads(path.read_text())


@pytest.fixture(scope="session")
def dataset():
    return defectbench.load_dataset("sb2se3-vacancies")
