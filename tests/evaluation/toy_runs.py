"""Runs of a toy model: in this process or by worker processes, to be copied, damaged and continued."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

import defectbench
from defectbench.base.hardware import Hardware, Machine
from defectbench.calculations.client import WorkerSpec
from defectbench.calculations.executors import Finished
from defectbench.calculations.requests import Calculation
from defectbench.calculations.results import parse
from defectbench.entries.rescoring import same_metrics
from defectbench.evaluation import Evaluation
from defectbench.worker.main import answer, load

SMALL = {"defects": ["V_Sb1"], "charges": [-3, -1], "suite": "quick", "tasks": ["relax", "pes"]}

THING = Machine(device="cpu", hardware=Hardware(processor="Thing 9000", cores=4, memory_gb=8.0), workers=2, threads_per_worker=1)


class InProcess:
    """An executor without processes: the worker's own code, in this one. Counts what it calculates."""

    machine = THING

    def __init__(self, spec: WorkerSpec) -> None:
        self.model, _ = load(dict(spec.hello))
        self.done: list[Calculation] = []
        InProcess.last = self

    def run(self, calculations: Sequence[Calculation]) -> Iterator[Finished]:
        for calculation in calculations:
            content = answer(self.model, {"type": "calculate", "id": 1, **calculation.to_json()}, Silent())
            self.done.append(calculation)
            yield Finished(calculation, parse(calculation, content), self.machine)


class Silent:
    """Where progress goes."""

    def send(self, _message: object) -> None:
        pass


def write_toy(folder: Path, name: str = "toy", charge: str = "none", **arguments: object) -> Path:
    """Writes a model YAML for the Einstein toy; keywords are the factory's arguments, ``charge`` says how a charge reaches it."""
    shutil.copy(Path(__file__).with_name("toys.py"), folder / "toys.py")
    shutil.copy(defectbench.load_dataset("sb2se3-vacancies").path / "host.extxyz", folder / "host.extxyz")
    definition = {
        "id": name,
        "name": f"Toy {name}",
        "adapter": "ase_calculator",
        "arguments": {"factory": "toys:einstein", "host": str(folder / "host.extxyz"), **arguments},
        "level_of_theory": "PBE",
        "charge": {"how": charge},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(definition))
    return path


@dataclass(frozen=True)
class FinishedRun:
    """A run that tests may copy, damage and continue."""

    model: Path
    folder: Path
    evaluation: Evaluation

    def copy(self, folder: Path) -> Path:
        shutil.copytree(self.folder, folder)
        return folder


def run_here(model: Path, output: Path | None, **changes: object) -> Evaluation:
    """Evaluates in this process, without figures."""
    return defectbench.evaluate(model, trust_code=True, **{**SMALL, "output": output, "executor": InProcess, "figures": False, **changes})


def stored(database):
    """How many results a running process has stored, read without touching its database."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            return connection.execute("select count(*) from results").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def wait_for(condition, seconds=90.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)


def differences(one, other):
    """Metrics that differ between two runs, those that measure time left out."""
    return [line for line in same_metrics(one.record, other.record) if not line.startswith(("relax.wall_s", "cost."))]


def calculated():
    """The relaxations of the last run in this process: without the certificate and the audit's single points."""
    return [c for c in InProcess.last.done if c.kind == "relaxation"]
