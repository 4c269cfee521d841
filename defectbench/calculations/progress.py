"""What a run shows while it calculates: a live bar in a terminal, a line per minute in logs, a table cell in notebooks."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from html import escape as escape_html
from typing import TYPE_CHECKING

from defectbench.calculations.plan import WORK, work
from defectbench.calculations.run import Reporter

if TYPE_CHECKING:
    from rich.console import Console

    from defectbench.calculations.plan import Plan
    from defectbench.calculations.requests import Calculation
    from defectbench.calculations.results import Result

LINE_EVERY_S = 60.0


def duration(seconds: float) -> str:
    """Seconds in words.

    Example:
        >>> duration(50), duration(600), duration(7200)
        ('50 s', '10 min', '2.0 h')
    """
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _stored(plan: Plan, todo: Sequence[Calculation]) -> list[Calculation]:
    """The calculations of a plan that are not to be done; what is asked besides, at the end of a run, does not belong to the plan."""
    missing = {id(calculation) for calculation in todo}
    return [calculation for calculation in plan.calculations if id(calculation) not in missing]


def plan_in_words(plan: Plan, todo: Sequence[Calculation]) -> list[str]:
    """What a run will calculate, one sentence per line."""
    total = len(plan.calculations)
    stored = len(_stored(plan, todo))
    if plan.shard is not None:
        return [f"shard {plan.shard}: {total} calculations; {stored} of {total} are stored"]
    distinct = len(plan.relaxations) - plan.shared
    text = f"plan: {len(plan.states)} charge states, {len(plan.relaxations)} configurations"
    if plan.shared:
        text += f" ({distinct} distinct starts: the model takes no charge, so equal starts run once)"
    text += f", {total - distinct} host and other calculations"
    if stored:
        text += f"; {stored} of {total} are stored"
    lines = [text]
    if plan.skipped:
        lines.append(f"skipped: {len(plan.skipped)} charge states without a reference (listed at the end)")
    return lines


class _Count:
    """How far a run is, and how long the rest may take."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.total = self.done = 0
        self.work_total = self.work_done = 0.0
        self.fresh = 0.0
        self.kinds: Counter[str] = Counter()

    def plan(self, plan: Plan, todo: Sequence[Calculation]) -> None:
        self.started = time.monotonic()
        stored = _stored(plan, todo)
        self.done, self.work_done = len(stored), work(stored)
        self.total, self.work_total = self.done + len(todo), self.work_done + work(todo)

    def more(self, todo: Sequence[Calculation]) -> None:
        self.total += len(todo)
        self.work_total += work(todo)

    def add(self, calculation: Calculation) -> None:
        self.done += 1
        self.work_done += WORK[calculation.kind]
        self.fresh += WORK[calculation.kind]
        self.kinds[calculation.kind] += 1

    @property
    def left_s(self) -> float | None:
        """None until the first calculation has finished."""
        if not self.fresh:
            return None
        return (time.monotonic() - self.started) / self.fresh * (self.work_total - self.work_done)

    def line(self) -> str:
        text = f"{self.done} of {self.total} calculations, {duration(time.monotonic() - self.started)}"
        left = self.left_s
        return text + (f", about {duration(left)} left" if left else "")


class LiveReport:
    """A bar in a terminal, with the step of a running relaxation and the time that is left."""

    def __init__(self, console: Console) -> None:
        """Args: the console that the bar and the notes go to."""
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self.console = console
        self.count = _Count()
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[done]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            console=console,
            refresh_per_second=4,
            speed_estimate_period=3600,
        )
        self.bar = self.progress.add_task("starting", total=None, done="")

    def __enter__(self) -> Reporter:
        self.progress.start()
        return Reporter(
            stage=self.stage, planned=self.planned, added=self.added, progress=self.step, finished=self.finished, note=self.note
        )

    def __exit__(self, *exc: object) -> None:
        self.progress.stop()

    def stage(self, text: str) -> None:
        """What begins now."""
        self.progress.update(self.bar, description=text[:60])

    def note(self, text: str) -> None:
        """Prints a line above the bar."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def planned(self, plan: Plan, todo: Sequence[Calculation]) -> None:
        """Prints the plan and starts the bar: in force calls, as a relaxation takes many and a single point one."""
        self.count.plan(plan, todo)
        for line in plan_in_words(plan, todo):
            self.note(line)
        self.progress.reset(self.bar, total=self.count.work_total, completed=int(self.count.work_done), description="calculating")
        self._show()

    def added(self, todo: Sequence[Calculation]) -> None:
        """Makes the bar longer by what is calculated besides."""
        self.count.more(todo)
        self.progress.update(self.bar, total=self.count.work_total)
        self._show()

    def step(self, step: int, _energy: float, fmax: float) -> None:
        """Shows the step and the largest force of a running relaxation."""
        self.progress.update(self.bar, description=f"step {step}, fmax {fmax:.3f} eV/Å")

    def finished(self, calculation: Calculation, result: Result) -> None:
        """Moves the bar."""
        self.count.add(calculation)
        if result.status == "failed":
            self.note(f"failed: {result.failure}")
        self._show()

    def _show(self) -> None:
        self.progress.update(self.bar, completed=self.count.work_done, done=f"{self.count.done}/{self.count.total}")


class LineReport:
    """For logs: stages and the plan as lines, and how far the run is once per minute, also while nothing is reported."""

    def __init__(self, say: Callable[[str], None], every_s: float = LINE_EVERY_S) -> None:
        """Args: what prints a line, and the seconds between two of them."""
        self._say = say
        self._every_s = every_s
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._timer = threading.Thread(target=self._keep_time, name="progress", daemon=True)
        self._last = self._began = time.monotonic()
        self.count = _Count()
        self._stage = "starting"
        self._failures: set[str] = set()

    def __enter__(self) -> Reporter:
        self._timer.start()
        return Reporter(
            stage=self.stage, planned=self.planned, added=self.added, progress=self.step, finished=self.finished, note=self.note
        )

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._timer.join()

    def stage(self, text: str) -> None:
        """The first line of each stage; an installer's many lines at most once per minute."""
        with self._lock:
            now = time.monotonic()
            goes_on = text.split()[:1] == self._stage.split()[:1]
            if goes_on and now - self._last < self._every_s:
                return
            self._stage, self._last = text, now
            if not goes_on:
                self._began = now
            self._say(text)

    def note(self, text: str) -> None:
        """A line."""
        with self._lock:
            self._say(text)

    def planned(self, plan: Plan, todo: Sequence[Calculation]) -> None:
        """The plan."""
        with self._lock:
            self._stage = ""
            self.count.plan(plan, todo)
            for line in plan_in_words(plan, todo):
                self._say(line)

    def added(self, todo: Sequence[Calculation]) -> None:
        """What is calculated besides counts, too."""
        with self._lock:
            self._stage = ""
            self.count.more(todo)

    def step(self, _step: int, _energy: float, _fmax: float) -> None:
        """A line, if the last one is a minute old."""
        with self._lock:
            self._tick()

    def finished(self, calculation: Calculation, result: Result) -> None:
        """A line, if the last one is a minute old or this was the last calculation; each failure once."""
        with self._lock:
            self.count.add(calculation)
            if result.status == "failed" and str(result.failure) not in self._failures:
                self._failures.add(str(result.failure))
                self._say(f"failed: {result.failure}")
            self._tick(now=self.count.done == self.count.total)

    def _tick(self, now: bool = False) -> None:
        if not now and time.monotonic() - self._last < self._every_s:
            return
        self._last = time.monotonic()
        self._say(f"{self._stage}, {duration(self._last - self._began)}" if self._stage else self.count.line())

    def _keep_time(self) -> None:
        """A path, a batch or a cluster may report nothing for long."""
        while not self._over.wait(self._every_s - (time.monotonic() - self._last)):
            with self._lock:
                try:
                    self._tick()
                except OSError:  # nobody reads on; the run's own next line meets it and ends the run
                    return


class NotebookReport:
    """A progress bar in a notebook's output cell; needs IPython and no widgets."""

    def __init__(self) -> None:
        from IPython.display import HTML, display

        self._html = HTML
        self._handle = display(HTML(""), display_id=True)
        self.count = _Count()
        self._text = "starting"
        self._notes: list[str] = []

    def __enter__(self) -> Reporter:
        return Reporter(
            stage=self.stage, planned=self.planned, added=self.added, progress=self.step, finished=self.finished, note=self.note
        )

    def __exit__(self, *exc: object) -> None:
        self._show(self.count.line() if self.count.total else "done")

    def stage(self, text: str) -> None:
        """What begins now."""
        self._show(text)

    def note(self, text: str) -> None:
        """A line below the bar."""
        self._notes.append(text)
        self._show(self._text)

    def planned(self, plan: Plan, todo: Sequence[Calculation]) -> None:
        """The plan."""
        self.count.plan(plan, todo)
        self._notes += plan_in_words(plan, todo)
        self._show("calculating")

    def added(self, todo: Sequence[Calculation]) -> None:
        """Makes the bar longer by what is calculated besides."""
        self.count.more(todo)
        self._show(self._text)

    def step(self, step: int, _energy: float, fmax: float) -> None:
        """The step of a running relaxation."""
        self._show(f"{self.count.line()}; step {step}, fmax {fmax:.3f} eV/Å")

    def finished(self, calculation: Calculation, result: Result) -> None:
        """Moves the bar."""
        self.count.add(calculation)
        if result.status == "failed":
            self._notes.append(f"failed: {result.failure}")
        self._show(self.count.line())

    def _show(self, text: str) -> None:
        self._text = text
        c = self.count
        bar = f'<progress value="{c.work_done}" max="{c.work_total}"></progress> ' if c.work_total else ""
        notes = "".join(f"<div>{escape_html(note)}</div>" for note in self._notes[-12:])
        self._handle.update(self._html(f"<div>{bar}{escape_html(text)}</div>{notes}"))


def in_notebook() -> bool:
    """Whether this runs in a notebook's kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"


def default_report() -> AbstractContextManager[Reporter]:
    """A bar in a notebook, else silence: a script prints what it wants."""
    return NotebookReport() if in_notebook() else nullcontext(Reporter())
