"""What is installed in a managed environment is what was locked, when it is built and whenever it is used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from refusals import raises_code

from defectbench.base.errors import EnvironmentBuildError
from defectbench.models import environment as module
from defectbench.models.environment import ensure_environment, list_environments, remove_environment
from defectbench.models.manifest import read_manifest


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Instead of by uv, an environment is made with one small package in it; its site-packages."""
    monkeypatch.setenv("DEFECTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "find_uv", lambda: "uv")

    def uv(command: list[str], name: str, progress: object) -> None:
        if command[1] == "venv":
            venv.create(command[-1], symlinks=True)
            return
        site = next(Path(command[command.index("--python") + 1]).parents[1].glob("lib/python*/site-packages"))
        for file, text in {"small/__init__.py": "a = 1\n", "small/data.txt": "x", "small-1.0.dist-info/RECORD": "small,1\n"}.items():
            (site / file).parent.mkdir(exist_ok=True)
            (site / file).write_text(text)
            os.utime(site / file, (1, 1))

    monkeypatch.setattr(module, "_uv", uv)
    python = ensure_environment("ase").python
    return next(python.parents[1].glob("lib/python*/site-packages"))


def test_use_alone_changes_nothing(packages: Path) -> None:
    (packages / "small" / "__pycache__").mkdir()
    (packages / "small" / "__pycache__" / "x.pyc").write_bytes(b"")
    (packages / "small" / "kernels.cache").write_text("")
    ensure_environment("ase")


CHANGES = {
    "small/__init__.py": ("edited", lambda path: path.write_text("a = 2\n")),
    "small/more.py": ("added", lambda path: path.write_text("")),
    "small-1.0.dist-info/RECORD": ("another version", lambda path: path.write_text("small,2\n")),
    "other/__init__.py": ("another package", lambda path: (path.parent.mkdir(), path.write_text(""))),
    "start.pth": ("run at every start", lambda path: path.write_text("import os\n")),
}


@pytest.mark.parametrize("file", CHANGES)
def test_a_changed_environment_is_refused_by_name_and_built_again_when_removed(packages: Path, file: str) -> None:
    CHANGES[file][1](packages / file)
    with raises_code("environment-changed", file.split("/")[0], "environments remove ase"):
        ensure_environment("ase")
    remove_environment("ase")
    ensure_environment("ase")


def test_a_removed_package_is_noticed(packages: Path) -> None:
    (packages / "small" / "__init__.py").unlink()
    with raises_code("environment-changed", "small"):
        ensure_environment("ase")


def test_another_interpreter_is_noticed(packages: Path, tmp_path: Path) -> None:
    folder = packages.parents[2]
    python, other = folder / "bin" / "python", tmp_path / "other"
    before = python.readlink()
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    python.unlink()
    python.symlink_to(other)
    with raises_code("environment-changed", "bin/python"):
        ensure_environment("ase")
    python.unlink()
    python.symlink_to(before)
    ensure_environment("ase")
    (folder / "pyvenv.cfg").write_text((folder / "pyvenv.cfg").read_text() + "include-system-site-packages = true\n")
    with raises_code("environment-changed", "pyvenv.cfg"):
        ensure_environment("ase")


def test_an_environment_of_an_earlier_version_is_not_built_again(packages: Path) -> None:
    marker = packages.parents[2] / module.MARKER
    content = json.loads(marker.read_text())
    content["manifest"] = {name: what for name, what in content["manifest"].items() if name not in ("pyvenv.cfg", "bin/python")}
    marker.write_text(json.dumps(content))
    ensure_environment("ase")


def test_an_environment_without_a_manifest_counts_as_not_built(packages: Path) -> None:
    (packages.parents[2] / module.MARKER).write_text('{"name": "ase", "packages": {}}')
    assert not next(s for s in list_environments() if s.name == "ase").built
    ensure_environment("ase")
    assert next(s for s in list_environments() if s.name == "ase").built
    assert read_manifest(packages.parents[2])


@pytest.mark.parametrize("variable", ["", "UV_TORCH_BACKEND", "UV_FIND_LINKS", "PIP_FIND_LINKS", "no GPU"])
def test_files_are_installed_by_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """All of them; only torch is taken by its version where the user chose a build of it."""
    for name in ("UV_TORCH_BACKEND", "UV_FIND_LINKS", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module, "gpus", list if variable == "no GPU" else lambda: ["a GPU"])
    if variable not in ("", "no GPU"):
        monkeypatch.setenv(variable, "cpu")
    calls: list[list[str]] = []
    monkeypatch.setattr(module, "_uv", lambda command, _name, _progress: calls.append(command))
    module._install("uv", "sevennet", tmp_path, lambda _line: None)
    assert {"--require-hashes", "--no-deps"} <= set(calls[0])
    listed = Path(calls[0][-1]).read_text()
    assert ("torch==" in listed, "nvidia-" in listed, "triton" in listed) == (not variable,) * 3
    assert "sevenn==" in listed
    assert len(calls) == (2 if variable else 1)
    if variable:
        assert calls[1][-1].startswith("torch==")
        assert "--no-deps" not in calls[1]


def small_wheel(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "small-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("small.py", "")
        archive.writestr("small-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: small\nVersion: 1.0\n")
        archive.writestr("small-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("small-1.0.dist-info/RECORD", "")


@pytest.mark.parametrize("name", ["pyproject.toml", "uv.toml"])
def test_a_configuration_where_the_command_runs_is_not_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    small_wheel(tmp_path / "wheels")
    (tmp_path / name).write_text(f"[{'tool.uv.' if name == 'pyproject.toml' else ''}pip]\nfind-links = ['./wheels']\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UV_FIND_LINKS", "")
    command = [module.find_uv(), "pip", "install", "--python", sys.executable, "--target", "out", "--no-index", "small"]
    with pytest.raises(EnvironmentBuildError):
        module._uv(command, "x", lambda _line: None)
    assert not Path("out/small.py").exists()
    monkeypatch.setenv("UV_FIND_LINKS", "wheels")  # what the user says holds
    module._uv(command, "x", lambda _line: None)
    assert Path("out/small.py").exists()


def test_a_wheel_of_another_content_is_refused_by_uv(tmp_path: Path) -> None:
    """The option does what is wanted of it, without a network."""
    small_wheel(tmp_path)
    (tmp_path / "list.txt").write_text(f"small==1.0 \\\n    --hash=sha256:{'0' * 64}\n")
    command = [module.find_uv(), "pip", "install", "--python", sys.executable, "--target", str(tmp_path / "out"), "--no-index"]
    command += ["--find-links", str(tmp_path), "--require-hashes", "--no-deps", "-r", str(tmp_path / "list.txt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "hash" in done.stderr.lower()
