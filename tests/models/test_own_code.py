"""The identity of a user's own calculator changes with all of its code and files, and with nothing else."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from refusals import raises_code

from defectbench.base.files import sha256_of
from defectbench.models.environment import PythonEnvironment
from defectbench.models.registry import definition_folder, load_model
from defectbench.models.resolved import resolve_model
from defectbench.models.schema import ModelDefinition

HERE = PythonEnvironment(Path(sys.executable), "current", {}, "0" * 64)


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("PYTHONPATH", raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A module with a helper beside it and a package below, and a file of parameters."""
    out = tmp_path / "mine"
    for name in ("my_module.py", "helper.py", "parts/__init__.py", "parts/inner.py", "plain-folder/late.py"):
        write(out / name, f"name = {name!r}")
    write(out / "w.pt", "weights")
    return out


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def fields(factory: str = "my_module:make", **arguments: Any) -> dict[str, Any]:
    return {"id": "m", "name": "m", "adapter": "ase_calculator", "level_of_theory": "none", "arguments": {"factory": factory, **arguments}}


def identity(folder: Path, factory: str = "my_module:make", environment: PythonEnvironment | None = HERE, **arguments: Any) -> str:
    path = write(folder / "mine.yaml", yaml.safe_dump(fields(factory, **arguments)))
    return resolve_model(load_model(path), folder=definition_folder(path), environment=environment, trust_code=True).identity


def without_yaml(factory: str, environment: PythonEnvironment = HERE, **arguments: Any) -> str:
    return resolve_model(ModelDefinition.model_validate(fields(factory, **arguments)), environment=environment, trust_code=True).identity


@pytest.mark.parametrize("file", ["my_module.py", "helper.py", "parts/inner.py", "plain-folder/late.py", "parts/new.py"])
@pytest.mark.parametrize("factory", ["my_module:make", "parts.inner:make"])
def test_any_edited_module_of_the_folder_makes_another_model(folder: Path, factory: str, file: str) -> None:
    before = identity(folder, factory)
    write(folder / file, "edited = True")
    assert identity(folder, factory) != before


def test_a_renamed_module_makes_another_model(folder: Path) -> None:
    before = identity(folder)
    (folder / "helper.py").rename(folder / "other.py")
    assert identity(folder) != before


@pytest.mark.parametrize(
    "file",
    [
        ".git/hook.py",
        ".hidden.py",
        "__pycache__/helper.py",
        "node_modules/x/setup.py",
        "environment/pyvenv.cfg",
        "conda/conda-meta/history",
        "../cache/worker/launch.py",
        "results.txt",
    ],
)
def test_what_is_no_code_of_the_user_s_is_left_out(folder: Path, file: str) -> None:
    before = identity(folder)
    write(folder / file, "")
    write((folder / file).parent / "lib" / "some.txt", "")
    if "environment/" in file or "conda/" in file:
        write(folder / file.split("/")[0] / "lib" / "tool.py", "")
    assert identity(folder) == before


def test_a_cache_inside_the_folder_is_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFECTBENCH_CACHE", str(folder / "kept"))
    before = identity(folder)
    write(folder / "kept" / "worker" / "launch.py", "")
    assert identity(folder) == before


def test_it_does_not_matter_where_the_folder_lies_nor_where_the_command_runs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = identity(folder, checkpoint="w.pt")
    shutil.copytree(folder, tmp_path / "elsewhere" / "copy")
    assert identity(tmp_path / "elsewhere" / "copy", checkpoint="w.pt") == before
    monkeypatch.chdir(folder)
    assert identity(folder, checkpoint="w.pt") == before


def test_linked_code_counts_and_links_in_a_circle_end(folder: Path, tmp_path: Path) -> None:
    elsewhere = write(tmp_path / "shared" / "library.py", "a = 1").parent
    (folder / "library").symlink_to(elsewhere)
    (folder / "again").symlink_to(folder)
    (folder / "up").symlink_to(tmp_path)
    before = identity(folder)
    write(tmp_path / "unrelated.py", "")
    assert identity(folder) == before
    write(elsewhere / "library.py", "a = 2")
    assert identity(folder) != before


@pytest.mark.parametrize("value", ["w.pt", "./w.pt", ["w.pt", 3], {"deep": {"deeper": ["w.pt"]}}])
def test_the_content_of_a_file_in_the_arguments_counts(folder: Path, value: Any) -> None:
    before = identity(folder, checkpoint=value)
    assert identity(folder, checkpoint=value) == before
    write(folder / "w.pt", "other weights")
    assert identity(folder, checkpoint=value) != before


def test_a_file_is_also_found_from_where_the_worker_runs(folder: Path) -> None:
    before = identity(folder, checkpoint="run.pt", absolute=str(Path.cwd() / "absolute.pt"))
    write(Path("run.pt"), "a")
    first = identity(folder, checkpoint="run.pt", absolute=str(Path.cwd() / "absolute.pt"))
    write(Path("absolute.pt"), "b")
    assert len({before, first, identity(folder, checkpoint="run.pt", absolute=str(Path.cwd() / "absolute.pt"))}) == 3


def test_arguments_that_are_no_files_are_left_alone(folder: Path) -> None:
    values = {
        "part": "parts",
        "text": "float64",
        "long": "x" * 5000,
        "user": "~nobody-of-this-name/x",
        "null": "a\0b",
        "n": 3,
        "none": None,
    }
    assert identity(folder, **values) == identity(folder, **values)


def test_the_content_of_a_folder_in_the_arguments_counts(folder: Path) -> None:
    write(folder / "data" / "first" / "w.pt", "weights")
    before = identity(folder, data="data")
    assert identity(folder, data="data") == before
    write(folder / "data" / "first" / "w.pt", "other weights")
    swapped = identity(folder, data="data")
    (folder / "data" / "first").rename(folder / "data" / "second")
    assert len({before, swapped, identity(folder, data="data")}) == 3


def test_hidden_files_of_a_folder_and_links_back_to_it_do_not(folder: Path) -> None:
    write(folder / "data" / "w.pt", "weights")
    before = identity(folder, data="data")
    write(folder / "data" / ".log", "")
    (folder / "data" / "up").symlink_to(folder / "data")
    assert identity(folder, data="data") == before


def test_a_folder_of_very_many_files_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("defectbench.models.own_code.MOST_FILES", 2)
    for name in ("a", "b", "c"):
        write(folder / "data" / name, "")
    with raises_code("bad-model-yaml", "2 files"):
        identity(folder, data="data")


def test_a_file_that_cannot_be_read_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> str:
        if path.suffix == ".pt":
            raise PermissionError(13, "Permission denied")
        return sha256_of(path)

    monkeypatch.setattr("defectbench.models.own_code.sha256_of", refuse)
    with raises_code("unreadable-file", "w.pt", "Permission denied"):
        identity(folder, checkpoint="w.pt")


@pytest.mark.parametrize("with_yaml", [True, False])
def test_a_package_elsewhere_is_hashed_whole(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_yaml: bool) -> None:
    write(tmp_path / "code" / "package" / "__init__.py", "")
    inner = write(tmp_path / "code" / "package" / "inner" / "model.py", "a = 1")
    write(tmp_path / "code" / "unrelated.py", "")

    def ask() -> str:
        return identity(folder, "package.calculator:make") if with_yaml else without_yaml("package.calculator:make")

    missing = ask()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "code"))
    before = ask()
    write(folder / "my_module.py", "no part of it")
    write(tmp_path / "code" / "unrelated.py", "b = 2")
    assert ask() == before != missing
    write(inner, "a = 2")
    assert ask() not in (before, missing)


def test_a_definition_without_a_yaml_has_its_modules_hashed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(folder))
    before = without_yaml("my_module:make")
    write(folder / "helper.py", "edited = True")
    assert without_yaml("my_module:make") != before
    write(Path("w.pt"), "weights")
    before = without_yaml("my_module:make", checkpoint="w.pt")
    write(Path("w.pt"), "other weights")
    assert without_yaml("my_module:make", checkpoint="w.pt") != before


def test_only_what_the_worker_can_import_is_looked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not from the current folder, and from PYTHONPATH only where the worker sees it."""
    monkeypatch.chdir(folder)
    before = without_yaml("my_module:make")
    write(folder / "my_module.py", "edited = True")
    assert without_yaml("my_module:make") == before
    monkeypatch.setenv("PYTHONPATH", str(folder))
    assert without_yaml("my_module:make") != before
    other = PythonEnvironment(Path(sys.executable), "/some/other", {}, HERE.pins_sha256)
    assert without_yaml("my_module:make", other) == before


def test_an_interpreter_that_does_not_run_is_left_to_the_worker(tmp_path: Path) -> None:
    assert without_yaml("my_module:make", PythonEnvironment(tmp_path / "no-python", "x", {}, "0" * 64))
