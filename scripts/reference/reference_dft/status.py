"""The table that says what is done, running and waiting, with time estimates from measured step times."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from .cp2k_input import electrons, multiplicity

if TYPE_CHECKING:
    from rich.table import Table

    from .manager import Manager
    from .tasks import Task


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        task: what.
        status: ``done``, ``running``, ``paused`` (somebody has stopped its CP2K with SIGSTOP), ``stalled`` (its CP2K has died and no run
            has looked since), ``waiting``, ``blocked`` (needs results that are not there yet) or ``failed``.
        steps: frames so far; None if it is not a relaxation.
        energy: of the last frame, eV.
        force: largest force component of the last frame, eV/Å.
        seconds_per_step: measured; None if it has not been.
        remaining: estimated seconds of one core; None if nothing is known to estimate from.
        note: last event, or why it failed.
    """

    task: Task
    status: str
    steps: int | None = None
    energy: float | None = None
    force: float | None = None
    seconds_per_step: float | None = None
    remaining: float | None = None
    note: str = ""


def estimate(steps: int, seconds_per_step: float | None, typical_steps: float | None) -> float | None:
    """Seconds that a relaxation still needs: typical steps less those done, three at least, times the measured time of a step."""
    if seconds_per_step is None or typical_steps is None:
        return None
    return max(typical_steps - steps, 3.0) * seconds_per_step


def rows(manager: Manager) -> list[Row]:
    """The state of every selected task."""
    data = manager.data
    times: dict[tuple[str, bool], list[float]] = {}
    lengths: dict[str, list[int]] = {}
    singles: dict[str, list[float]] = {}
    tasks = manager.tasks()
    for task in tasks:
        job = manager.job(task) if _begun(manager, task) else None
        if task.kind == "relaxation" and data.finished(task):
            lengths.setdefault(task.level, []).append(len(data.dataset.frames(task.defect, task.charge, task.configuration, task.level)))
        if job is None:
            continue
        if task.kind == "relaxation":
            spent = [frame.seconds for frame in job.frames() if frame.seconds is not None and frame.step > 0]
            times.setdefault((task.level, _open_shell(manager, task)), []).extend(spent)
        elif job.state.finished is not None and job.state.started is not None:
            singles.setdefault(f"{task.kind}/{task.level}", []).append(job.state.finished - job.state.started)
    out = []
    for task in tasks:
        step_time = median(found) if (found := times.get((task.level, _open_shell(manager, task)), [])) else None
        typical = median(lengths[task.level]) if task.level in lengths else None
        out.append(_row(manager, task, step_time, typical, singles))
    return out


def _row(manager: Manager, task: Task, step_time: float | None, typical: float | None, singles: dict[str, list[float]]) -> Row:
    data = manager.data
    relaxation = task.kind == "relaxation"
    single = median(found) if (found := singles.get(f"{task.kind}/{task.level}", [])) else None
    if not _begun(manager, task):
        if data.finished(task):
            if not relaxation:
                return Row(task, "done", note="in the dataset")
            frames = data.dataset.frames(task.defect, task.charge, task.configuration, task.level)
            force = float(abs(frames[-1].get_forces()).max())
            return Row(task, "done", len(frames), float(frames[-1].get_potential_energy()), force, note="in the dataset")
        if manager.job(task) is None:
            return Row(task, "blocked", note="needs results that are not there yet")
        steps = len(data.previous(task)) if relaxation else 0
        note = f"{steps} frames in the dataset" if steps else ""
        left = estimate(steps, step_time, typical) if relaxation else single
        return Row(task, "waiting", steps or None, None, None, step_time if relaxation else None, left, note)
    job = manager.job(task)
    if job is None:
        return Row(task, "blocked", note="its start is no longer in the dataset")
    status: str = job.state.status
    if status == "running":
        status = "running" if job.alive else "stalled"
        if job.paused:
            status = "paused"
    note = job.state.message or (job.state.history[-1] if job.state.history else "")
    open_states = ("running", "paused", "stalled", "waiting")
    if not relaxation:
        left = single if status in open_states else None
        return Row(task, status, remaining=left, note=note)
    frames_now = job.frames()
    last = frames_now[-1] if frames_now else None
    left = estimate(len(frames_now), step_time, typical) if status in open_states else None
    own = [frame.seconds for frame in frames_now if frame.seconds is not None and frame.step > 0]
    return Row(
        task,
        status,
        len(frames_now),
        None if last is None else last.energy,
        None if last is None else last.max_component,
        median(own) if own else step_time,
        left,
        note,
    )


def _begun(manager: Manager, task: Task) -> bool:
    return (manager.work / task.label / "state.json").is_file()


def _open_shell(manager: Manager, task: Task) -> bool:
    structure = manager.data.structure(task)
    if structure is None:
        return False
    return multiplicity(electrons(manager.data.method(task.level), structure.get_chemical_symbols(), task.charge)) != 1


def collapsed(found: Iterable[Row]) -> list[tuple[str, Row]]:
    """Labels and rows, blocked tasks of one kind and level together in one line."""
    out: list[tuple[str, Row]] = []
    blocked: dict[tuple[str, str], list[Row]] = {}
    for row in found:
        if row.status != "blocked":
            out.append((row.task.label, row))
            continue
        group = blocked.setdefault((row.task.kind, row.task.level), [])
        group.append(row)
        if len(group) == 1:
            out.append(("", row))
    named = []
    for label, row in out:
        if not label:
            number = len(blocked[row.task.kind, row.task.level])
            label = row.task.label if number == 1 else f"{row.task.kind}/{row.task.level}: {number} tasks"
        named.append((label, row))
    return named


def table(found: Iterable[Row], workers: int) -> Table:
    """A rich table, with totals in its caption."""
    from rich.markup import escape
    from rich.table import Table

    items = list(found)
    out = Table(title="Reference calculations", title_justify="left", caption_justify="left")
    for heading, justify in (("task", "left"), ("status", "left"), ("steps", "right"), ("energy (eV)", "right"), ("force (eV/Å)", "right")):
        out.add_column(heading, justify=justify, no_wrap=heading == "task")  # type: ignore[arg-type]  # a literal in each case
    out.add_column("s/step", justify="right")
    out.add_column("left", justify="right")
    out.add_column("note")
    colours = {"done": "green", "running": "cyan", "failed": "red", "stalled": "yellow", "paused": "yellow", "blocked": "dim"}
    for label, row in collapsed(items):
        colour = colours.get(row.status)
        out.add_row(
            escape(label),
            f"[{colour}]{row.status}[/]" if colour else row.status,
            _text(row.steps, "d"),
            _text(row.energy, ".4f"),
            _text(row.force, ".4f"),
            _text(row.seconds_per_step, ".0f"),
            duration(row.remaining),
            escape(row.note),
        )
    out.caption = summary(items, workers)
    return out


def summary(items: Iterable[Row], workers: int) -> str:
    """One line: how many of each, and the core-hours left as far as they can be estimated."""
    listed = list(items)
    names = ("done", "running", "paused", "stalled", "waiting", "blocked", "failed")
    counts = {name: sum(row.status == name for row in listed) for name in names}
    parts = [f"{number} {name}" for name, number in counts.items() if number]
    known = [row.remaining for row in listed if row.remaining is not None]
    unknown = sum(row.remaining is None for row in listed if row.status in ("running", "paused", "stalled", "waiting", "blocked"))
    if known:
        hours = sum(known) / 3600
        parts.append(f"about {hours:.1f} core-hours left, {hours / max(1, workers):.1f} h on {workers} core{'s' if workers > 1 else ''}")
    if unknown:
        parts.append(f"{unknown} of unknown length")
    return "; ".join(parts) if parts else "nothing in the queue"


def duration(seconds: float | None) -> str:
    """``None`` → ``–``, 90 → ``2 min``, 5400 → ``1.5 h``."""
    if seconds is None:
        return "–"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def _text(value: float | None, spec: str) -> str:
    return "–" if value is None else format(value, spec)
