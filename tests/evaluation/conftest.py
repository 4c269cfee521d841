"""A user's own model in a folder of its own, and runs of the command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import defectbench


@pytest.fixture
def toy(tmp_path) -> Callable[..., Path]:
    """Writes a model YAML for the Einstein toy; keywords are the factory's arguments, ``charge`` says how a charge reaches it."""
    host = defectbench.load_dataset("sb2se3-vacancies").path / "host.extxyz"

    def write(name: str = "toy", charge: str = "none", **arguments: object) -> Path:
        shutil.copy(Path(__file__).with_name("toys.py"), tmp_path / "toys.py")
        shutil.copy(host, tmp_path / "host.extxyz")
        definition = {
            "id": name,
            "name": f"Toy {name}",
            "adapter": "ase_calculator",
            "arguments": {"factory": "toys:einstein", "host": str(tmp_path / "host.extxyz"), **arguments},
            "level_of_theory": "PBE",
            "charge": {"how": charge},
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(definition))
        return path

    return write


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
