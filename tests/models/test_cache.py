"""What lies in the cache, its removal, and environments that are not built for the device."""

from __future__ import annotations

from pathlib import Path

import pytest
from refusals import check_refusal, raises_code
from typer.testing import CliRunner

from defectbench.cli import app
from defectbench.models import environment
from defectbench.models.cache import cache_contents
from defectbench.models.environment import built_for, create_environment, ensure_environment


def version(folder: Path, text: str) -> Path:
    path = folder / "lib" / "python3.11" / "site-packages" / "torch" / "version.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"from typing import Optional\n__version__ = '2.13.0'\n{text}\n")
    return folder


@pytest.mark.parametrize(
    ("text", "backend"),
    [
        ("cuda: Optional[str] = None\nhip: Optional[str] = None", "cpu"),
        ("cuda: Optional[str] = '12.6'\nhip: Optional[str] = None", "cu126"),
        ("cuda = '13.0'", "cu130"),
        ("cuda: Optional[str] = None\nhip: Optional[str] = '6.3.42134'", "rocm6.3"),
    ],
)
def test_what_an_environment_is_built_for_is_read_from_its_torch(tmp_path, text, backend):
    assert built_for(version(tmp_path, text)) == backend
    assert built_for(tmp_path / "nothing") is None


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch, cache: Path) -> list[list[str]]:
    """uv's commands; it builds for CPUs unless another build is asked for."""
    commands: list[list[str]] = []

    def uv(command: list[str], name: str, progress: object) -> None:
        commands.append(command)
        folder = cache / "environments" / f"{name}-{environment.pins_sha256(name)[:12]}"
        cuda = "'12.6'" if "cu126" in command else "None"
        version(folder, f"cuda: Optional[str] = {cuda}")
        (folder / "bin").mkdir(exist_ok=True)
        (folder / "bin" / "python").touch()

    monkeypatch.setattr(environment, "_uv", uv)
    monkeypatch.setattr(environment, "find_uv", lambda: "uv")
    monkeypatch.setattr(environment, "gpus", list)
    for variable in ("UV_TORCH_BACKEND", "UV_FIND_LINKS", "PIP_FIND_LINKS"):
        monkeypatch.delenv(variable, raising=False)
    found = environment.PythonEnvironment(Path("python"), "mace", {}, "")
    monkeypatch.setattr(environment, "inspect_environment", lambda *_: found)
    return commands


def test_an_environment_for_cpus_is_not_used_on_a_gpu_and_is_built_again_on_demand(builds):
    with raises_code("cpu-environment", "mace", "cuda"):
        ensure_environment("mace", device="cuda")
    assert builds == []
    ensure_environment("mace")
    with raises_code("cpu-environment", "mace", "--torch-backend"):
        ensure_environment("mace", device="cuda")
    count = len(builds)
    create_environment("mace", torch_backend="cu126")
    assert "cu126" in builds[-1]
    assert len(builds) > count
    ensure_environment("mace", device="cuda")
    count = len(builds)
    create_environment("mace", torch_backend="cu126")
    create_environment("mace")
    assert len(builds) == count


def test_the_cache_is_shown_and_cleared_kind_by_kind(cache):
    (cache / "weights" / "some").mkdir(parents=True)
    (cache / "weights" / "some" / "file").write_bytes(b"x" * 1000)
    (cache / "datasets").mkdir()
    (cache / "datasets" / "file").write_bytes(b"x")
    assert {kind.name: (kind.size, kind.files) for kind in cache_contents() if kind.files} == {"weights": (1000, 1), "datasets": (1, 1)}
    assert "weights" in CliRunner().invoke(app, ["cache"], catch_exceptions=False).stdout
    assert CliRunner().invoke(app, ["cache", "clear", "weights"], input="n\n").exit_code == 1
    assert (cache / "weights" / "some" / "file").exists()
    assert CliRunner().invoke(app, ["cache", "clear", "weights"], input="y\n").exit_code == 0
    assert not (cache / "weights").exists()
    assert (cache / "datasets" / "file").exists()
    assert CliRunner().invoke(app, ["cache", "clear", "datasets", "--yes"]).exit_code == 0
    check_refusal(CliRunner().invoke(app, ["cache", "clear", "all"]).exception, "unknown-kind")
    assert CliRunner().invoke(app, ["cache"], catch_exceptions=False).exit_code == 0
