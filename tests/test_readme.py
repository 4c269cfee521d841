"""The README's commands do what it says."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def blocks() -> list[str]:
    return re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)


def test_both_commands_set_up_an_environment_of_their_own():
    main, tests = blocks()[:2]
    assert main.startswith("python3 -m venv .venv && .venv/bin/pip install -q . && .venv/bin/defectbench evaluate ")
    assert tests.strip() == "python3 -m venv .venv && .venv/bin/pip install -q '.[tests]' && .venv/bin/pytest"


@pytest.mark.model
def test_the_main_command_from_start_to_end(tmp_path):
    arguments = shlex.split(blocks()[0].split("defectbench", 1)[1])
    assert arguments == ["evaluate", "--model", "sevennet-0", "--suite", "quick"]
    fewer = ["--defect", "V_Sb1", "--configurations", "Unperturbed", "--task", "relax"]  # all of it takes ten minutes
    line = [sys.executable, "-m", "defectbench", *arguments, *fewer]
    ended = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "200"})
    assert ended.returncode == 0, ended.stderr
    (folder,) = (tmp_path / "defectbench-results" / "sevennet-0").iterdir()
    entry = json.loads((folder / "entry.json").read_text())
    assert entry["model"]["name"] in ended.stdout
    assert entry["certificate"]["charge_class"] == "charge-blind"
    assert all(c["status"] == "converged" for c in entry["configurations"])
    rmsd = next(m for m in entry["tasks"]["relax"]["metrics"] if m["name"] == "rmsd")
    assert 0.05 < rmsd["value"] < 1.0
    for name in ("relax.png", "relax.svg"):
        assert (folder / "figures" / name).stat().st_size > 10_000
    assert "defectbench-results" in ended.stdout
