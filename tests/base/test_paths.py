"""Paths with ``~``, wherever a user gives one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from refusals import raises_code

from defectbench.base.downloads import RemoteFile, cache_folder, fetch
from defectbench.base.paths import full_path, user_path
from defectbench.datasets.catalogue import load_dataset, validate_dataset
from defectbench.datasets.importing.assemble import read_host_file
from defectbench.datasets.importing.labelled_extxyz import import_extxyz
from defectbench.datasets.importing.shakenbreak import import_shakenbreak
from defectbench.models.environment import ensure_environment
from defectbench.models.registry import definition_folder, load_model
from defectbench.models.resolved import resolve_model

NOBODY = "~nobody-of-this-name/there"


def test_home_folders_and_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert user_path("~/link") == tmp_path / "link"
    assert full_path("~/link/a") == (tmp_path / "real" / "a").resolve()
    assert user_path("a/~b") == Path("a/~b")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with raises_code("bad-path", "~/circle"):
        full_path("~/circle")


def test_a_working_directory_that_is_gone_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with raises_code("bad-path", "'a'"):
        full_path("a")


@pytest.mark.parametrize(
    "use",
    [
        user_path,
        full_path,
        load_dataset,
        validate_dataset,
        read_host_file,
        lambda path: import_extxyz([path], "host.extxyz", "out"),
        lambda path: import_extxyz(["a.extxyz"], path, "out"),
        lambda path: import_extxyz(["a.extxyz"], "host.extxyz", path),
        lambda path: import_extxyz(["a.extxyz"], "host.extxyz", "out", starts=[path]),
        lambda path: import_shakenbreak(path, "host.extxyz", "out"),
        lambda path: load_model(f"{path}.yaml"),
        lambda path: definition_folder(f"{path}.yaml"),
        lambda path: resolve_model(load_model("sevennet-0"), weights=path),
        ensure_environment,
    ],
)
def test_a_user_that_does_not_exist_is_one_line(use: Callable[[str], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with raises_code("bad-path", "~nobody-of-this-name"):
        use(NOBODY)


@pytest.mark.parametrize("variable", ["DEFECTBENCH_CACHE", "DEFECTBENCH_MIRROR"])
def test_in_the_environment_too(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFECTBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv(variable, NOBODY)
    with raises_code("bad-path", "~nobody-of-this-name"):
        fetch(RemoteFile("https://example.org/a", "0" * 64, "a", "dataset"))
    monkeypatch.setenv("DEFECTBENCH_CACHE", "~")
    assert cache_folder() == Path.home().resolve()
