"""A tiny dataset (two hydrogen atoms left by a vacancy) and a CP2K that is none, for the reference workflow."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "scripts" / "reference")]


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The tiny dataset's folder."""
    from tiny_dataset import write_tiny_dataset

    return write_tiny_dataset(tmp_path / "tiny")


@pytest.fixture
def fake_cp2k(tmp_path: Path) -> Path:
    """A program that reads ``input.inp`` and writes what CP2K would, for two atoms on a spring; see ``fake_cp2k.py``."""
    path = tmp_path / "bin" / "stand-in"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{HERE / "fake_cp2k.py"}" "$@"\n', encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("FAKE_CP2K") or name == "DEFECTBENCH_REFERENCE_WORK"]:
        monkeypatch.delenv(name)
