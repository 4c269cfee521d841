"""The tutorials do what they say, from the first command to the last."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import defectbench
from defectbench.models.environment import ensure_environment

pytestmark = pytest.mark.model

TUTORIALS = Path(__file__).parents[1] / "docs" / "tutorials"


@pytest.fixture
def follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Runs the blocks of a page in an empty folder; returns what each printed."""
    monkeypatch.setenv("PATH", os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)

    def run(page: str, python: Path = Path(sys.executable)) -> list[str]:
        printed = []
        for language, block in re.findall(r"```(bash|python)\n(.*?)```", (TUTORIALS / page).read_text(encoding="utf-8"), re.DOTALL):
            command = ["bash", "-euo", "pipefail", "-c", block] if language == "bash" else [str(python), "-c", block]
            ended = subprocess.run(command, capture_output=True, text=True, check=False)
            assert ended.returncode == 0, block + ended.stdout + ended.stderr
            printed.append(ended.stdout)
        return printed

    return run


def test_a_shakenbreak_folder(follow):
    follow("shakenbreak.md")
    dataset = defectbench.load_dataset("./my-defects")
    assert dataset.states == (("V_Sb1", -1), ("V_Sb1", 1))
    entry = defectbench.load_entry("my-results")
    assert entry.record.dataset.id == "my-defects"
    assert {c.status for c in entry.record.configurations} == {"converged"}
    assert Path("my-results/tables/relax_states.csv").is_file()


def test_a_fine_tuned_model(follow):
    printed = follow("fine-tuned.md", ensure_environment("chgnet").python)
    assert ["exit code 1" in text for text in printed[2:]] == [True, True, True]
    assert Path("gate.md").is_file()
    assert Path("gate.xml").is_file()
    assert defectbench.compare("mine", "released").passed


def test_the_notebook(tmp_path):
    client = pytest.importorskip("nbclient", reason="needs the extra 'docs'")
    import nbformat

    notebook = nbformat.read(TUTORIALS / "evaluate.ipynb", as_version=4)
    client.NotebookClient(notebook, resources={"metadata": {"path": tmp_path}}, timeout=600).execute()
    (entry,) = (tmp_path / "chgnet").glob("entry.json")
    assert json.loads(entry.read_text(encoding="utf-8"))["model"]["id"] == "chgnet-0.3.0"
