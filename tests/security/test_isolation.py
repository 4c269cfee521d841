"""What the code of a model sees of the machine it runs on, and what of that machine reaches an entry."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ase import Atoms
from ase.calculators.lj import LennardJones

from defectbench.base.redaction import redact, redact_values
from defectbench.calculations.client import WorkerClient, WorkerSpec, worker_environment
from defectbench.calculations.executors.in_process import InProcessExecutor
from defectbench.calculations.requests import Calculation, Structure
from defectbench.models.environment import PythonEnvironment, ensure_environment
from defectbench.models.in_hand import model_in_hand
from defectbench.models.own_code import own_code_sha256
from defectbench.models.registry import definition_folder, load_model
from defectbench.models.resolved import resolve_model

SPY = """
    import json, os, socket, sys
    from pathlib import Path
    from ase.calculators.lj import LennardJones

    def make(report, fail=None):
        try:
            socket.create_connection(("192.0.2.1", 9), timeout=2)
            reached = "connected"
        except OSError as error:
            reached = type(error).__name__ + str(error.errno)
        with socket.socket() as server, socket.socket() as client:
            server.bind(("127.0.0.1", 0)); server.listen()
            try:
                client.settimeout(2); client.connect(server.getsockname()); local = True
            except OSError:
                local = False
        import colorsys
        Path(report).write_text(json.dumps({"variables": dict(os.environ), "reached": reached, "local": local, "path": sys.path,
                                            "colorsys": colorsys.__file__, "user": os.getuid()}))
        class Spy(LennardJones):
            def calculate(self, *arguments, **named):
                raise RuntimeError(fail)
        return Spy() if fail else LennardJones()
"""


@pytest.fixture(scope="module")
def current() -> PythonEnvironment:
    return ensure_environment("current")


@pytest.fixture
def spy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, current: PythonEnvironment) -> Iterator[Callable[..., WorkerClient]]:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "spy.py").write_text(textwrap.dedent(SPY))
    clients = []

    def start(**arguments: Any) -> WorkerClient:
        arguments = {"factory": "spy:make", "report": str(tmp_path / "report.json"), **arguments}
        content = {"id": "spy", "name": "spy", "adapter": "ase_calculator", "level_of_theory": "none", "arguments": arguments}
        path = folder / "m.yaml"
        path.write_text(yaml.safe_dump(content))
        model = resolve_model(load_model(path), folder=definition_folder(path), environment=current, trust_code=True)
        client = WorkerClient(WorkerSpec.of(current, model))
        clients.append(client)
        client.start()
        return client

    monkeypatch.setenv("DEFECTBENCH_CACHE", str(tmp_path / "cache"))
    yield start
    for client in clients:
        client.close()


def test_a_worker_sees_listed_variables_and_the_network_only_where_it_is_said(
    spy: Callable[..., WorkerClient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_json: Callable[[Path], dict[str, Any]]
) -> None:
    secrets = {
        "HF_TOKEN": "hf_x",
        "AWS_SECRET_ACCESS_KEY": "s",
        "GITHUB_TOKEN": "g",
        "MP_API_KEY": "k",
        "SSH_AUTH_SOCK": "/s",
        "TORCH_TOKEN": "t",
    }
    for name, value in {**secrets, "OMP_PROC_BIND": "true", "LICENCE_FILE": "/l", "OTHER": "o"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DEFECTBENCH_WORKER_VARIABLES", "LICENCE_FILE, MP_API_KEY")
    client = spy()
    seen = read_json(tmp_path / "report.json")
    variables = seen["variables"]
    assert variables["OMP_PROC_BIND"] == "true"
    assert variables["OMP_NUM_THREADS"] == "1"
    assert variables["PATH"] == os.environ["PATH"]
    assert (variables["LICENCE_FILE"], variables["MP_API_KEY"]) == ("/l", "k")  # the user asked for them
    assert not {"OTHER", *secrets} - {"MP_API_KEY"} & variables.keys()
    assert seen["local"]
    assert seen["user"] == os.getuid()
    if client.ready["network"] == "none":
        assert seen["reached"].startswith("OSError")  # unreachable: at once, not after a timeout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="network namespaces are Linux's")
def test_the_network_is_cut_where_the_system_allows_it(spy: Callable[..., WorkerClient], monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = subprocess.run(["unshare", "--user", "--map-current-user", "--net", "true"], capture_output=True, check=False).returncode == 0
    if allowed:
        assert spy().ready["network"] == "none"
    monkeypatch.setenv("DEFECTBENCH_WORKER_NETWORK", "allow")
    assert spy().ready["network"] == "open"


@pytest.mark.parametrize("where", ["working directory", "model folder"])
def test_no_module_hides_one_of_the_standard_library(
    spy: Callable[..., WorkerClient],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    read_json: Callable[[Path], dict[str, Any]],
) -> None:
    folder = tmp_path / ("model" if where == "model folder" else "work")
    folder.mkdir(exist_ok=True)
    for name in ("json", "colorsys", "pathlib", "importlib", "encodings", "sitecustomize", "usercustomize", "ase", "numpy"):
        if where == "working directory" or name not in ("ase", "numpy"):
            (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'PWNED')!r}, 'w')")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", "")
    ensure_environment("current")
    ensure_environment(sys.executable)
    spy()
    assert Path(read_json(tmp_path / "report.json")["colorsys"]).parent != folder
    assert not (tmp_path / "PWNED").exists()


def test_a_module_on_pythonpath_is_found_in_the_current_environment_but_hides_nothing(
    spy: Callable[..., WorkerClient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_json: Callable[[Path], dict[str, Any]]
) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "model" / "spy.py").rename(tmp_path / "lib" / "elsewhere.py")
    (tmp_path / "lib" / "colorsys.py").write_text("raise SystemExit")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", str(tmp_path / "lib")]))
    spy(factory="elsewhere:make")
    assert str(tmp_path / "lib") in read_json(tmp_path / "report.json")["path"]


def test_failures_come_back_without_names_of_this_machine(spy: Callable[..., WorkerClient], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "zq81-private-value")
    monkeypatch.setattr(socket, "gethostname", lambda: "node-17.cluster")
    said = f"cannot open {Path.home()}/data/x on {socket.gethostname()}: zq81-private-value, token=abcdef123456"
    result = spy(fail=said).calculate(Calculation("single_point", Structure.from_atoms(Atoms("Ar2", [[0, 0, 0], [0, 0, 3]])), None))
    assert result.status == "failed"
    assert "~/data/x" in result.failure
    for private in (f"{Path.home()}/", socket.gethostname(), "zq81", "abcdef123456"):
        assert private not in result.failure


def test_failures_of_a_calculator_in_hand_come_back_without_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fails(LennardJones):  # type: ignore[misc]
        def calculate(self, *_arguments: Any, **_named: Any) -> None:
            raise RuntimeError("cannot open /home/ada/x on vm: token=abcdef123456")

    monkeypatch.setattr(socket, "gethostname", lambda: "vm")
    asked = Calculation("single_point", Structure.from_atoms(Atoms("Ar2", [[0, 0, 0], [0, 0, 3]])), None)
    result = next(InProcessExecutor(model_in_hand(Fails()).loaded).run([asked])).result
    assert result.status == "failed"
    assert "cannot open ~/x on <host>: token=<hidden>" in result.failure


@pytest.mark.parametrize(
    "private",
    [
        "/home/ada/models/a.pt",
        "/Users/ada/models/a.pt",
        r"C:\Users\ada\models",
        "https://ada:geheim12@example.org/x",
        "Authorization: Bearer ada.geheim12",
        "sk-ada1234567890abcdef1234",
        "hf_adaadaadaadaadaadaada",
        "{'api_key': 'ada12345'}",
        "password=ada12345",
        "{'api_keys': ['ada12345']}",
        "x-api-key: ada12345",
    ],
)
def test_keys_and_homes_are_hidden(private: str) -> None:
    text = redact(f"it failed at {private} with 3 atoms")
    assert "ada" not in text
    assert text.startswith("it failed at ")
    assert text.endswith(" with 3 atoms")
    assert redact(text) == text


def test_the_name_of_the_user_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "ada.l")
    assert redact("/scratch/ada.l/x by ada.l@node") == "/scratch/<user>/x by <user>@node"


def test_harmless_texts_stay_as_they_are() -> None:
    for text in ("RuntimeError: energy is nan", "V_Sb1 q-3 after 12 steps", "key 'charge' is missing", "unexpected token '}'", ""):
        assert redact(text) == text
    values = {"tokenizer": "bpe", "cutoff": 5.0, "charges": [1, -1], "api_key": "x", "nested": {"password": "y"}}
    assert redact_values(values) == {**values, "api_key": "<hidden>", "nested": {"password": "<hidden>"}}


@pytest.mark.parametrize("name", ["api_keys", "secret", "password", "auth_token", "x-api-key", "Authorization", "private-key"])
@pytest.mark.parametrize("value", ["ada", ["ada"], {"v": "ada"}, 12345678, 0.5])
def test_what_is_named_secret_is_hidden_whatever_it_is(name: str, value: Any) -> None:
    assert redact_values([{name: value}]) == [{name: "<hidden>"}]
    assert redact_values({name: None}) == {name: None}
    assert redact_values({name: True}) == {name: True}


def test_keys_of_mappings_are_redacted_but_fields_keep_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "energy")
    values = {"/home/ada/m.pt": 1, "hf_" + "a" * 20: 2, "energy": 3.0, "on energy": 4}
    assert redact_values(values) == {"~/m.pt": 1, "<hidden>": 2, "energy": 3.0, "on <host>": 4}


def test_short_names_of_hosts_are_hidden_where_they_are_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "se")
    assert redact("on se: tcp://se:80, me@se, se and Se2 on Sb2Se3") == "on <host>: tcp://<host>:80, me@<host>, se and Se2 on Sb2Se3"


def test_a_worker_of_another_environment_gets_no_python_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONBREAKPOINT", "LD_AUDIT"):
        monkeypatch.setenv(name, "x")
    found = worker_environment(1, "cpu", None)
    assert not {"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONBREAKPOINT", "LD_AUDIT"} & found.keys()
    assert found["PYTHONSAFEPATH"] == found["PYTHONNOUSERSITE"] == "1"


def test_an_interpreter_that_is_asked_what_it_has_sees_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nenv >> {tmp_path}/seen\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("MY_API_KEY", "zq81-private-value")
    monkeypatch.setenv("OTHER", "zq81-other")
    environment = ensure_environment(python)
    own_code_sha256({"factory": "colorsys:make"}, None, environment)
    seen = (tmp_path / "seen").read_text()
    assert sum(line.startswith("PATH=") for line in seen.splitlines()) == 2
    assert "zq81" not in seen


def test_a_worker_does_not_plot_as_a_notebook_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    assert worker_environment(1, "cpu", None)["MPLBACKEND"] == "agg"
