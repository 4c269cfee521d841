"""The tutorials do what they say, from the first command to the last."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from toy_runs import write_toy

import defectbench

TUTORIALS = Path(__file__).parents[2] / "docs" / "tutorials"


@pytest.fixture
def follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Runs the blocks of a page in an empty folder; returns what each printed. A toy takes the place of the model, which takes minutes."""
    monkeypatch.setenv("PATH", os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)

    def run(page: str, models: Mapping[str, str], languages: str = "bash|python") -> list[str]:
        printed = []
        for language, block in re.findall(rf"```({languages})\n(.*?)```", (TUTORIALS / page).read_text(encoding="utf-8"), re.DOTALL):
            for said, toy in models.items():
                block = block.replace(f"--model {said} ", f"--model {toy} --trust-code ")
            command = ["bash", "-euo", "pipefail", "-c", block] if language == "bash" else [sys.executable, "-c", block]
            ended = subprocess.run(command, capture_output=True, text=True, check=False)
            assert ended.returncode == 0, block + ended.stdout + ended.stderr
            printed.append(ended.stdout)
        return printed

    return run


def toy(folder: Path, **arguments: object) -> Path:
    folder.mkdir()
    return write_toy(folder, **arguments)


@pytest.mark.slow
def test_a_shakenbreak_folder(follow, tmp_path):
    follow("shakenbreak.md", {"chgnet-0.3.0": str(toy(tmp_path / "toy"))})
    dataset = defectbench.load_dataset("./my-defects")
    assert dataset.states == (("V_Sb1", -1), ("V_Sb1", 1))
    entry = defectbench.load_entry("my-results")
    assert entry.record.dataset.id == "my-defects"
    assert {c.status for c in entry.record.configurations} == {"converged"}
    assert Path("my-results/tables/relax_states.csv").is_file()


@pytest.mark.slow
def test_a_fine_tuned_model(follow, tmp_path):
    tuned = "chgnet-0.3.0 --model-weights fine-tuned.pth.tar --trust-weights --name my-chgnet"
    models = {tuned: str(toy(tmp_path / "tuned", name="tuned", spring=20.0)), "chgnet-0.3.0": str(toy(tmp_path / "toy"))}
    printed = follow("fine-tuned.md", models, "bash")
    assert ["exit code 1" in text for text in printed] == [False, True, True, True]
    assert Path("gate.md").is_file()
    assert Path("gate.xml").is_file()
    assert defectbench.compare("mine", "released").passed


@pytest.mark.model
def test_the_notebook(tmp_path):
    client = pytest.importorskip("nbclient")
    import nbformat

    notebook = nbformat.read(TUTORIALS / "evaluate.ipynb", as_version=4)
    client.NotebookClient(notebook, resources={"metadata": {"path": tmp_path}}, timeout=600).execute()
    (entry,) = (tmp_path / "chgnet").glob("entry.json")
    assert json.loads(entry.read_text(encoding="utf-8"))["model"]["id"] == "chgnet-0.3.0"
