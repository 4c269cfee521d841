"""Every command with spoilt files of every kind: done, or one line. No traceback, no hang, no other exit code than 0, 1 and 2.

``DEFECTBENCH_FUZZ_EXAMPLES=52 pytest -n 0 tests/datasets/test_fuzz_commands.py`` tries 52 new inputs per command and counts how they end.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from enum import EnumType
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

import pytest
import typer
from fuzz_world import ODD, build_world, run_in_process, spoil
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from defectbench.base.errors import DefectbenchError, DownloadError, EnvironmentBuildError
from defectbench.calculations.client import WorkerClient
from defectbench.calculations.executors.local import LocalExecutor
from defectbench.cli import app

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("DEFECTBENCH_FUZZ_EXAMPLES", "12"))
"""Per command, the same each time; all take about a minute and a half on one core. A number that is asked for is of new ones."""
LONGEST_S = 10.0
"""CPU seconds per command."""
LONGEST_WAIT_S = 60.0
"""Seconds per command with all that it waits for; the machine may be busy with other things."""


def _commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(_commands(typer.main.get_command(app)))

FITTING: dict[str, list[str]] = {
    "baseline": ["entries/entry"],
    "candidate": ["entries/other"],
    "charge": ["0", "-1,0", "−1"],
    "configurations": ["Unperturbed", "Unperturbed,Rattled"],
    "dataset": ["dataset"],
    "defect": ["V_Sb", "V_Sb,Se_i"],
    "entries": ["entries/entry"],
    "entry": ["entries/entry", "entries/entry/entry.json"],
    "environment": ["current"],
    "folder": ["entries"],
    "host": ["host.extxyz", "POSCAR_host"],
    "model": ["model.yaml"],
    "name": ["model.yaml", "dataset"],
    "names": ["model.yaml"],
    "new": ["entries/other"],
    "old": ["entries/entry"],
    "output": ["out", "entries/toy"],
    "preset": ["tiny"],
    "recipe": ["recipe.yaml"],
    "site": ["site"],
    "source": ["results", "relax.extxyz", "doped.json"],
    "starts": ["relax.extxyz"],
    "task": ["relax", "relax,pes"],
    "tolerance": ["tolerance.yaml"],
}
"""What parameters of a name take, mostly; every other one takes any path or text."""
TEXTS = [str(odd) for odd in ODD if isinstance(odd, str | int | float) and "\ud800" not in str(odd) and odd != "/"]
"""Without the root of the file system: how long a command takes there depends on what else the machine holds."""
PATHS = ["dataset", "entries", "results", "site", "model.yaml", "relax.extxyz", "doped.json", "nowhere", ".", "..", "out", "chgnet-0.3.0"]


@pytest.fixture(scope="module")
def endings(request: pytest.FixtureRequest) -> Iterator[Counter[str]]:
    """How inputs ended, by exit code; printed at the end."""
    found: Counter[str] = Counter()
    yield found
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n{found.total()} inputs: " + ", ".join(f"{ending} {count}" for ending, count in sorted(found.items())))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_world(tmp_path_factory.mktemp("fuzz") / "world")


@pytest.fixture(autouse=True)
def _nothing_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No worker process, no environment that is built, no network, no server that waits."""

    def refuse(error: type[DefectbenchError]) -> Any:
        def refused(*_given: object, **_options: object) -> None:
            raise error("not in this test")

        return refused

    monkeypatch.setenv("DEFECTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("defectbench.models.environment._build", refuse(EnvironmentBuildError))
    monkeypatch.setattr("pooch.retrieve", refuse(DownloadError))
    monkeypatch.setattr("socketserver.BaseServer.serve_forever", refuse(DefectbenchError))
    monkeypatch.setattr(LocalExecutor, "run", run_in_process)
    monkeypatch.setattr(WorkerClient, "start", refuse(DefectbenchError))


def _value(parameter: Any, kind: Any, chance: random.Random) -> str:
    if isinstance(kind, EnumType) and chance.random() < 0.9:
        return str(chance.choice([choice.value for choice in kind]))
    if kind in (int, float) and chance.random() < 0.8:
        return chance.choice(["0", "1", "2", "7"])
    if parameter.name in FITTING and chance.random() < 0.85:
        return chance.choice(FITTING[parameter.name])
    return chance.choice(PATHS if chance.random() < 0.6 else TEXTS)


def _arguments(command: Any, chance: random.Random) -> list[str]:
    words: list[str] = []
    kinds = get_type_hints(command.callback)
    for parameter in command.params:
        kind = next((one for one in get_args(kinds.get(parameter.name)) if one is not NoneType), kinds.get(parameter.name))
        if parameter.name == "help" or (
            not parameter.required and chance.random() < 0.6 and parameter.name not in ("dataset", "trust_code")
        ):
            continue
        if parameter.param_type_name == "argument":
            words += [_value(parameter, kind, chance) for _ in range(2 if parameter.nargs == -1 and chance.random() < 0.3 else 1)]
        elif kind is bool:
            words.append(chance.choice([*parameter.opts, *parameter.secondary_opts]))
        else:
            words += [parameter.opts[0], _value(parameter, kind, chance)]
    return words


def _files(folder: Path, words: list[str]) -> list[Path]:
    """The files that a command line names, and those in folders that it names."""
    named = [folder / word for word in words if word in PATHS or any(word in fitting for fitting in FITTING.values())]
    found = [file for path in named for file in ([path] if path.is_file() else sorted(path.rglob("*"))) if file.is_file()]
    return sorted({file for file in found if file.is_relative_to(folder) and ".." not in file.parts})


def _too_long(_number: int, _frame: object) -> None:
    raise TimeoutError


@pytest.mark.parametrize("name", COMMANDS, ids=" ".join)
@settings(
    max_examples=EXAMPLES,
    derandomize="DEFECTBENCH_FUZZ_EXAMPLES" not in os.environ,
    deadline=None,
    print_blob=True,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(seed=st.integers(0, 2**32))
def test_every_command_ends_in_order(
    name: tuple[str, ...], world: Path, tmp_path_factory: pytest.TempPathFactory, endings: Counter[str], seed: int
) -> None:
    endings["not in order"] += 1
    chance = random.Random(seed)
    folder = tmp_path_factory.mktemp("case") / "world"
    shutil.copytree(world, folder, symlinks=True)
    words = _arguments(COMMANDS[name], chance)
    note(f"defectbench {' '.join(name)} {words}"[:3000])
    for _ in range(chance.choice([0, 1, 1, 1, 2])):
        if files := _files(folder, words):
            file = chance.choice(files)
            note(f"{file.relative_to(folder)}: {spoil(file, chance)}")
    here = Path.cwd()
    before = {number: signal.signal(number, _too_long) for number in (signal.SIGPROF, signal.SIGALRM)}
    os.chdir(folder)
    signal.setitimer(signal.ITIMER_PROF, LONGEST_S)
    signal.setitimer(signal.ITIMER_REAL, LONGEST_WAIT_S)
    try:
        result = CliRunner().invoke(app, [*name, *words])
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        os.chdir(here)
        for number, handler in before.items():
            signal.signal(number, handler)
        shutil.rmtree(folder.parent)
    code = result.exit_code
    if isinstance(result.exception, DefectbenchError):
        code = result.exception.exit_code
        assert code in (1, 2)
    elif result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    else:
        assert code in (0, 1, 2)
    endings["not in order"] -= 1
    endings[f"exit code {code}"] += 1
