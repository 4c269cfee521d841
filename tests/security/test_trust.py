"""A model definition from anywhere runs nothing, builds nothing and downloads nothing before the user has said to trust it."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from refusals import check_refusal, raises_code
from typer.testing import CliRunner

import defectbench
from defectbench.base.downloads import sha256_of
from defectbench.calculations.preparation import network_note
from defectbench.cli import app
from defectbench.models.registry import load_model
from defectbench.models.resolved import resolve_model
from defectbench.models.schema import ModelDefinition
from defectbench.models.trust import known_hashes, require_trust

CASES = Path(os.environ.get("DEFECTBENCH_SHARED", "/nowhere")) / "cases"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEFECTBENCH_CACHE", str(tmp_path / "cache"))


def definition(**fields: Any) -> dict[str, Any]:
    return {"id": "a", "name": "a", "adapter": "ase_calculator", "level_of_theory": "PBE", "arguments": {"factory": "os:system"}, **fields}


def write(**fields: Any) -> Path:
    path = Path("m.yaml")
    path.write_text(yaml.safe_dump(definition(**fields)))
    return path


@pytest.fixture
def interpreter() -> Path:
    """A file that leaves a trace when it is run."""
    path = Path("x")
    path.write_text("#!/bin/sh\ntouch RAN\n")
    path.chmod(0o755)
    return path


class Malicious:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.system, ("touch RAN",)


STRANGE: dict[str, tuple[dict[str, Any], list[str]]] = {
    "factory": ({"arguments": {"factory": "os:system", "command": "touch RAN"}}, ["--trust-code"]),
    "environment": ({"adapter": "mace", "arguments": {}, "environment": "./x"}, ["--trust-code"]),
    "both": ({"environment": "./x"}, ["--trust-code"]),
    "weights": ({"adapter": "mace", "arguments": {}, "weights": {"source": "path", "files": [{"path": "w.pt"}]}}, ["--trust-weights"]),
    "everything": (
        {"environment": "./x", "weights": {"source": "path", "files": [{"path": "w.pt"}]}},
        ["--trust-code", "--trust-weights"],
    ),
}


@pytest.mark.parametrize("command", [["models", "check"], ["evaluate", "--model"]])
@pytest.mark.parametrize("kind", STRANGE)
def test_a_strange_definition_is_refused_and_nothing_runs(kind: str, command: list[str], interpreter: Path) -> None:
    fields, options = STRANGE[kind]
    Path("w.pt").write_bytes(pickle.dumps(Malicious()))
    if files := fields.get("weights", {}).get("files"):  # a hash that only the stranger states is no trust
        fields = {**fields, "weights": {"source": "path", "files": [{**files[0], "sha256": sha256_of(Path("w.pt"))}]}}
    done = CliRunner().invoke(app, [*command, str(write(**fields))])
    check_refusal(done.exception, "untrusted-model", *options)
    message = str(done.exception)
    assert message.count("--trust-") == len(options)
    if "environment" in fields:
        assert "./x" in message
    if fields.get("adapter") != "mace":
        assert "os:system" in message
    assert not Path("RAN").exists()
    assert not Path("cache").exists()
    assert not Path("defectbench-results").exists()
    with raises_code("untrusted-model", *options):
        defectbench.evaluate("m.yaml")


def test_the_message_names_the_file_that_would_run() -> None:
    Path("mine.py").write_text("")
    model = load_model(write(arguments={"factory": "mine:make"}))
    with raises_code("untrusted-model", Path("mine.py").resolve(), "mine:make"):
        require_trust(model, folder=Path.cwd())


def test_trust_is_given_for_code_and_weights_apart() -> None:
    weights = {"source": "url", "files": [{"path": "w", "url": "https://example.org/w", "sha256": "0" * 64}]}
    model = ModelDefinition.model_validate(definition(weights=weights))
    with raises_code("untrusted-model", "--trust-weights"):
        require_trust(model, trust_code=True)
    with raises_code("untrusted-model", "--trust-code"):
        require_trust(model, trust_weights=True)
    require_trust(model, trust_code=True, trust_weights=True)


def test_what_ships_with_the_package_is_trusted() -> None:
    for name in ("sevennet-0", "chgnet-0.3.0", "qet-matq"):
        require_trust(load_model(name))
    assert known_hashes()


def test_a_copy_of_a_registered_definition_is_trusted_until_it_is_edited() -> None:
    content = load_model("qet-matq").model_dump(mode="json")
    require_trust(ModelDefinition.model_validate(content))
    require_trust(ModelDefinition.model_validate({**content, "name": "other words, the same known weights"}))
    content["weights"]["files"][0]["sha256"] = "0" * 64
    with raises_code("untrusted-model", "--trust-weights"):
        require_trust(ModelDefinition.model_validate(content))
    with raises_code("untrusted-model", "--trust-code"):
        require_trust(ModelDefinition.model_validate({**load_model("qet-matq").model_dump(mode="json"), "environment": "./x"}))


def test_the_users_own_environment_is_the_users_choice() -> None:
    model = load_model("qet-matq").model_copy(update={"environment": "./x"})
    require_trust(model, environment="./y")


@pytest.mark.parametrize(
    ("adapter", "name", "trusted"), [("ase_calculator", "w.npz", True), ("ase_calculator", "w.pt", False), ("mace", "w.npz", False)]
)
def test_formats_without_code_need_no_trust_where_a_users_own_code_reads_them(adapter: str, name: str, trusted: bool) -> None:
    """The packages' loaders unpickle whatever they are given, under any name."""
    arguments = {"factory": "m:make"} if adapter == "ase_calculator" else {}
    model = ModelDefinition.model_validate(
        definition(adapter=adapter, arguments=arguments, weights={"source": "path", "files": [{"path": name}]})
    )
    if trusted:
        require_trust(model, trust_code=True)
    else:
        with raises_code("untrusted-model", "--trust-weights"):
            require_trust(model, trust_code=True)


@pytest.mark.parametrize("name", ["../priv.npz", "sub/../../priv.npz", "link.npz", "folder"])
def test_relative_weights_lie_below_the_definition(tmp_path: Path, name: str) -> None:
    (tmp_path / "priv.npz").write_bytes(b"private")
    (tmp_path / "received" / "folder").mkdir(parents=True)
    for link in ("link.npz", "folder/a.npz"):
        (tmp_path / "received" / link).symlink_to(tmp_path / "priv.npz")
    model = ModelDefinition.model_validate(definition(environment="current", weights={"source": "path", "files": [{"path": name}]}))
    with raises_code("link-outside" if name in ("link.npz", "folder") else "bad-path", name):
        resolve_model(model, folder=tmp_path / "received", trust_code=True, trust_weights=True)


def test_absolute_weights_need_trust(tmp_path: Path) -> None:
    (tmp_path / "priv.npz").write_bytes(b"private")
    path = str(tmp_path / "priv.npz")
    Path("make.py").write_text("")
    fields = {"arguments": {"factory": "make:make"}, "weights": {"source": "path", "files": [{"path": path}]}}
    model = ModelDefinition.model_validate(definition(**fields))
    with raises_code("untrusted-model", "--trust-weights", path):
        resolve_model(model, folder=tmp_path, trust_code=True)
    assert resolve_model(model, folder=tmp_path, trust_code=True, trust_weights=True).weights_paths == {path: Path(path)}


def test_own_weights_of_a_registered_model_need_trust_but_its_own_do_not() -> None:
    Path("w.pt").write_bytes(pickle.dumps(Malicious()))
    with raises_code("untrusted-model", "--trust-weights"):
        resolve_model(load_model("mace-mpa-0"), weights=Path("w.pt"))


@pytest.mark.skipif(not CASES.is_dir(), reason="needs the shared reference material")
@pytest.mark.parametrize("case", ["security/code_by_factory.yaml", "model/model-array1"])
def test_shared_cases_are_refused(case: str) -> None:
    source = CASES / case
    model = source if source.is_file() else source / "m.yaml"
    shutil.copy(model, "m.yaml")
    done = CliRunner().invoke(app, ["models", "check", "m.yaml"])
    check_refusal(done.exception, "untrusted-model", "--trust-code")
    assert not list(Path.cwd().glob("PWNED*"))


@pytest.mark.skipif(not CASES.is_dir(), reason="needs the shared reference material")
@pytest.mark.slow
def test_a_shared_case_runs_once_it_is_trusted() -> None:
    """It prints while it calculates, gives its energy as an array of one float32, and writes to the atoms. Its springs all stiffen."""
    shutil.copytree(CASES / "model" / "model-array1", "case")
    found = defectbench.certify("case/m.yaml", "case/dataset", trust_code=True)
    assert (found.charge_class, found.contradiction) == ("charge-aware", None)
    assert [check.name for check in found.certificate.failed] == ["charge_response_size_consistent"]


@pytest.mark.parametrize(
    ("network", "shipped", "said"), [("open", False, True), ("none", False, False), (None, False, False), ("open", True, False)]
)
def test_an_open_network_is_said_of_code_that_does_not_ship_with_the_package(network: str | None, shipped: bool, said: bool) -> None:
    model = load_model("qet-matq") if shipped else ModelDefinition.model_validate(definition())
    assert (network_note(model, network) is not None) == said
