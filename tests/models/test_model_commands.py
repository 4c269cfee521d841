from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from refusals import raises_code
from typer.testing import CliRunner

from defectbench.cli import app
from defectbench.entries.evaluated import Evaluated, evaluated

FAKES = Path(__file__).resolve().parents[1] / "worker" / "fake_models.py"


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.output


def test_models_list(cache: Path) -> None:
    output = run("models", "list")
    assert "sevennet-0" in output
    assert "0.29 M" in output


def test_models_list_fits_80_columns(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = tmp_path / "leaderboards" / "some-data" / "qet-matq" / "entry.json"
    entry.parent.mkdir(parents=True)
    entry.touch()
    (entry.parent / "tables").mkdir()
    costs = {"metrics": [{"name": "milliseconds_per_atom", "value": 1.75}]}
    (entry.parent / "tables" / "cost.json").write_text(json.dumps(costs))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["models", "list"], env={"COLUMNS": "80"})
    lines = [line.rstrip() for line in result.output.splitlines() if not line.startswith(("size:", "*", "ms per atom:"))]
    assert max(map(len, lines)) <= 80
    assert next(line for line in lines if "qet-matq" in line).split()[-2:] == ["1.8", "1"]
    assert next(line for line in lines if "chgnet-0.3.0" in line).split()[-2:] == ["–", "–"]
    for broken in ("{", "{}", '{"metrics": [{"name": "milliseconds_per_atom", "value": null}]}'):
        (entry.parent / "tables" / "cost.json").write_text(broken)
        assert evaluated(tmp_path / "leaderboards") == {"qet-matq": Evaluated(1, None)}


def test_models_show(cache: Path) -> None:
    output = run("models", "show", "qet-matq")
    assert "total_charge" in output
    assert "d53162dc7d3a7038d9b7f2dc39d67869a9a1925561a10c4b9ca65a641f9213a9" in output
    assert "requires --trust-weights" in run("models", "show", "grace-2l-omat")
    with raises_code("unknown-model"):
        run("models", "show", "qet")


def test_environments(cache: Path) -> None:
    assert "mattersim" in run("environments", "list")
    assert "nothing to remove" in run("environments", "remove", "mace")
    with raises_code("unknown-environment"):
        run("environments", "create", "current")


def write(folder: Path, arguments: str, how: str) -> str:
    shutil.copy(FAKES, folder)
    path = folder / "mine.yaml"
    path.write_text(
        f"{{id: mine, name: mine, adapter: ase_calculator, level_of_theory: none, charge: {{how: {how}}}, "
        f"arguments: {{factory: 'fake_models:springs', {arguments}}}}}"
    )
    return str(path)


def test_models_check(cache: Path, tmp_path: Path) -> None:
    output = run("models", "check", write(tmp_path, "energy_per_charge: 0.5", "'info:charge'"), "--environment", "current", "--trust-code")
    assert "mine is energy-only" in output
    assert "passed" in output
    assert "failed" not in output
    assert "−3: -1.5000" in output


def test_models_check_refuses_a_lost_charge(cache: Path, tmp_path: Path) -> None:
    with raises_code("charge-contradiction"):
        run("models", "check", write(tmp_path, "key: charge", "'info:another'"), "--environment", "current", "--trust-code")


def test_models_check_knows_the_devices(cache: Path, tmp_path: Path) -> None:
    refused = CliRunner().invoke(app, ["models", "check", "chgnet-0.3.0", "--device", "gpu"])
    assert refused.exit_code == 2
    with raises_code("empty-value", "--environment"):
        run("models", "check", "chgnet-0.3.0", "--environment", "")
