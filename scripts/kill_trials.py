"""Kills runs at random moments and resumes them with the same command. Nothing finished may be lost, calculated again, or hang.

    python scripts/kill_trials.py --calculations 60 --workers 30 --creation 50 --writes 60

Each trial makes a fresh run folder, starts an evaluation in a process of its own, and ends that with SIGKILL: in a calculation (its own, or
that of a worker process), while the database is created, or while a result or a file is written. What the process was doing when it died is
read from its own reports, so that a trial counts for what it hit. Then the same evaluation runs to its end.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sqlite3
import struct
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.io import write

import defectbench
from defectbench.base import files
from defectbench.base.yaml import to_yaml
from defectbench.calculations import store
from defectbench.calculations.client import WorkerClient
from defectbench.calculations.executors import in_process
from defectbench.datasets.dataset import Dataset
from defectbench.models import environment

ARGUMENTS = {"sigma": 1.0, "epsilon": 0.01, "rc": 3.0}
CONFIGURATIONS = ("Unperturbed", "Dimer", "Rattled", "Bond_Distortion_-40.0%", "Bond_Distortion_-20.0%", "Bond_Distortion_20.0%")
KINDS = {"calculations": "C", "workers": "C", "creation": "D", "writes": "W"}
"""Kind of trial → what is reported when it begins; the same letter in lower case when it ends."""
PATIENCE_S = 120.0
"""A run that takes longer hangs: undisturbed it takes some seconds."""

Row = tuple[int, str, str]
"""Row number, key and checksum of a stored result: all three stay the same if it is not calculated again."""


@dataclass
class Outcome:
    """What the trials of one kind did; ``kills`` hit what they were meant for, the others came at another moment."""

    trials: int = 0
    kills: int = 0
    lost: int = 0
    repeated: int = 0
    stuck: int = 0
    orphans: int = 0
    other: list[str] = field(default_factory=list)

    @property
    def faults(self) -> int:
        """How many of them did harm."""
        return self.lost + self.repeated + self.stuck + self.orphans + len(self.other)


@dataclass(frozen=True)
class Kill:
    """When a run is to die: some time after the n-th step of a kind has begun."""

    letter: str
    nth: int
    delay_s: float


@dataclass(frozen=True)
class Ended:
    """How a forked evaluation ended: exit code (negative for a signal, None if it hung), and its reports: letter and time."""

    code: int | None
    reports: tuple[tuple[str, float], ...]

    def count(self, letter: str) -> int:
        """How often something was reported."""
        return sum(one == letter for one, _ in self.reports)

    def doing(self) -> str:
        """What had begun and not ended: creation of the database before a write (it is one, too), a write before a calculation."""
        open_ = Counter(letter for letter, _ in self.reports if letter.isupper())
        open_.subtract(letter.upper() for letter, _ in self.reports if letter.islower())
        return next((letter for letter in "DWC" if open_[letter] > 0), "")

    def durations(self) -> dict[str, list[float]]:
        """How long each step took, by its letter."""
        begun: dict[str, float] = {}
        out: dict[str, list[float]] = defaultdict(list)
        for letter, at in self.reports:
            if letter.isupper():
                begun[letter] = at
            elif letter.upper() in begun:
                out[letter.upper()].append(at - begun[letter.upper()])
        return out


class Trials:
    """Trials in one folder, which is removed by whoever made it."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.random = random.Random(seed)
        self.dataset = small_dataset(root)
        self.python = environment.ensure_environment("current")
        self.cache = root / "cache"
        self.model = root / "toy.yaml"
        definition = {
            "id": "toy",
            "name": "Lennard-Jones",
            "adapter": "ase_calculator",
            "arguments": {"factory": "ase.calculators.lj:LennardJones", **ARGUMENTS},
            "level_of_theory": "none",
            "charge": {"how": "none"},
        }
        self.model.write_text(to_yaml(definition), encoding="utf-8")
        self.expected: dict[bool, tuple[dict[str, list[float]], Any]] = {}

    def run(self, count: dict[str, int], tell: Callable[[str], None] = lambda _line: None) -> dict[str, Outcome]:
        """Makes trials until as many kills of each kind hit what they were meant for."""
        outcomes = {kind: Outcome() for kind in count}
        for kind, wanted in count.items():
            if wanted and (workers := kind == "workers") not in self.expected:
                self.expected[workers] = self._undisturbed(workers)
            one = outcomes[kind]
            while one.kills < wanted and one.trials < 5 * wanted + 20:
                self._trial(kind, one)
                tell(f"{kind}: {one.kills} of {wanted} after {one.trials} trials, {one.faults} faults")
        return outcomes

    def _undisturbed(self, workers: bool) -> tuple[dict[str, list[float]], Any]:
        """How long each step of a whole run takes, by its letter, and the metrics."""
        folder = self.root / "undisturbed"
        whole = self._evaluate(folder, workers)
        if whole.code != 0:
            raise SystemExit(f"the undisturbed run ended with {whole.code}")
        metrics = metrics_of(folder)
        shutil.rmtree(folder, ignore_errors=True)  # a kill may have come before it was made
        return whole.durations(), metrics

    def _trial(self, kind: str, outcome: Outcome) -> None:
        workers, letter = kind == "workers", KINDS[kind]
        durations, metrics = self.expected[workers]
        folder = self.root / "run"
        nth = self.random.randint(1, len(durations[letter]))
        before = self._evaluate(folder, workers, Kill(letter, nth, self.random.uniform(0.0, durations[letter][nth - 1])))
        kept = rows(folder / "calculations.db")
        after = self._evaluate(folder, workers)
        found = rows(folder / "calculations.db")
        outcome.trials += 1
        outcome.kills += before.code == -signal.SIGKILL and before.doing() == letter
        outcome.stuck += after.code is None
        outcome.lost += len(kept - found) + max(0, before.count("p") - len(kept))
        outcome.repeated += max(0, len(kept) + after.count("p") - len(found))
        outcome.orphans += self._orphans()
        if after.code not in (None, 0):
            outcome.other.append(f"the same command ended with {after.code}")
        elif after.code == 0 and metrics_of(folder) != metrics:
            outcome.other.append("other metrics than of an undisturbed run")
        if (folder / "calculations.damaged-1.db").exists():
            outcome.other.append("a damaged database")
        shutil.rmtree(folder, ignore_errors=True)  # a kill may have come before it was made

    def _orphans(self) -> int:
        """Workers that run on although nobody waits for them; they get a few seconds to end."""
        deadline = time.monotonic() + 10.0
        while (left := list(self._workers())) and time.monotonic() < deadline:
            time.sleep(0.05)
        for worker in left:
            worker.kill()
        return len(left)

    def _workers(self) -> Iterator[psutil.Process]:
        for process in psutil.process_iter(["cmdline", "status"]):
            if process.info["status"] != psutil.STATUS_ZOMBIE and any(str(self.cache) in word for word in process.info["cmdline"] or ()):
                yield process

    def _evaluate(self, folder: Path, workers: bool, kill: Kill | None = None) -> Ended:
        """Forks an evaluation, in which everything is imported already, and waits for its end."""
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                report_to(writing, kill)
                os.environ["DEFECTBENCH_CACHE"] = str(self.cache)
                environment.ensure_environment = lambda *_names, **_options: self.python  # it would ask a process for its packages
                options = {"environment": "current", "workers": 1, "trust_code": True} if workers else {}
                model = self.model if workers else LennardJones(**ARGUMENTS)
                defectbench.evaluate(model, self.dataset, tasks=["relax"], figures=False, output=folder, **options)
                code = 0
            except defectbench.DefectbenchError as error:
                print(f"error[{error.code}]: {error}", file=sys.stderr)
            finally:
                os._exit(code)
        os.close(writing)
        code_of_run = wait(pid)
        with os.fdopen(reading, "rb") as pipe:  # a run reports some hundred times, which a pipe holds
            content = pipe.read()
        return Ended(code_of_run, tuple((letter.decode(), at) for letter, at in _REPORT.iter_unpack(content)))


def small_dataset(folder: Path) -> Dataset:
    """A vacancy in an eight-atom cell without symmetry: a relaxation takes milliseconds."""
    host = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    host.rattle(0.15, seed=1)
    host.write(folder / "host.extxyz")
    frames = []
    for number, name in enumerate(CONFIGURATIONS):
        atoms = host[1:]
        atoms.rattle(0.1, seed=number)
        atoms.info = {"charge": 0, "defect": "V_Na", "configuration": name, "energy": -20.0 - 0.1 * number, "converged": True}
        frames.append(atoms)
    write(folder / "frames.extxyz", frames)
    report = defectbench.import_dataset(folder / "frames.extxyz", folder / "host.extxyz", folder / "dataset")
    return defectbench.load_dataset(report.path)


def wait(pid: int) -> int | None:
    """Exit code of a child, negative for a signal; None if it hangs, and then it is killed."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


_REPORT = struct.Struct("<cd")


def report_to(pipe: int, kill: Kill | None) -> None:
    """Makes this process report what it does: ``D`` creation of the database, ``W`` a write, ``C`` a calculation; ``p`` a stored result.

    Args:
        pipe: where to.
        kill: at what moment another process kills this one.
    """
    count: Counter[str] = Counter()
    trigger = None if kill is None else _killer(kill.delay_s, pipe)

    def report(letter: str) -> None:
        os.write(pipe, _REPORT.pack(letter.encode(), time.monotonic()))
        count[letter] += 1
        if kill is not None and trigger is not None and letter == kill.letter and count[letter] == kill.nth:
            os.write(trigger, b"!")

    def reporting(letter: str, function: Callable[..., Any], stored: str = "") -> Callable[..., Any]:
        def wrapped(*given: Any, **options: Any) -> Any:
            report(letter)
            out = function(*given, **options)
            for end in f"{stored}{letter.lower()}":
                report(end)
            return out

        return wrapped

    whole = files.replacing

    @contextmanager
    def replacing(path: Path) -> Iterator[Any]:
        report("W")
        with whole(path) as handle:
            yield handle
        report("w")

    files.replacing = replacing
    store._create = reporting("D", store._create)
    store.ResultStore._write = reporting("W", store.ResultStore._write, "p")  # type: ignore[method-assign]  # the trial watches what it kills
    in_process.answer = reporting("C", in_process.answer)  # type: ignore[attr-defined]  # likewise
    answers_of = WorkerClient.calculate_many

    def calculate_many(client: WorkerClient, *given: Any, **options: Any) -> Iterator[Any]:
        answers = answers_of(client, *given, **options)
        while True:
            report("C")
            answer = next(answers, None)
            report("c")
            if answer is None:
                return
            yield answer

    WorkerClient.calculate_many = calculate_many  # type: ignore[method-assign]  # likewise


def _killer(delay_s: float, reports: int) -> int:
    """Forks a process that kills this one some time after a byte is written to what is returned."""
    me = os.getpid()
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(writing)
        os.close(reports)
        if os.read(reading, 1):
            time.sleep(delay_s)
            if os.getppid() == me:
                os.kill(me, signal.SIGKILL)
        os._exit(0)
    os.close(reading)
    return writing


def rows(database: Path) -> set[Row]:
    """The stored results, read from a copy: opening the file itself would undo a write that broke off."""
    if not database.exists():
        return set()
    with tempfile.TemporaryDirectory() as folder:
        for path in database.parent.glob(f"{database.name}*"):
            shutil.copy(path, folder)
        with closing(sqlite3.connect(Path(folder) / database.name)) as connection:
            return {tuple(row) for row in connection.execute("SELECT rowid, key, checksum FROM results")}


def metrics_of(folder: Path) -> dict[str, Any]:
    """The metrics of an entry, by task, without the time."""
    record = defectbench.load_entry(folder).record
    return {name: [metric for metric in task.metrics if metric.name != "wall_s"] for name, task in record.tasks.items()}


def table(outcomes: dict[str, Outcome]) -> str:
    """The outcomes as text."""
    names = ("trials", "kills", "lost", "repeated", "stuck", "orphans")
    lines = [f"{'killed in':<14}" + "".join(f"{name:>10}" for name in names) + "  other"]
    for kind, one in outcomes.items():
        lines.append(f"{kind:<14}" + "".join(f"{getattr(one, name):>10}" for name in names) + f"  {'; '.join(one.other) or 'none'}")
    return "\n".join(lines)


def main() -> None:
    """Runs the trials and prints a table; exit code 1 if a kill did harm."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for kind in KINDS:
        parser.add_argument(f"--{kind}", type=int, default=3, help="number of kills (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trials = Trials(Path(folder), given.seed)
        outcomes = trials.run({kind: getattr(given, kind) for kind in KINDS}, lambda line: print(line, file=sys.stderr, flush=True))
    print(table(outcomes))
    sys.exit(any(one.faults or one.kills < getattr(given, kind) for kind, one in outcomes.items()))


if __name__ == "__main__":
    main()
