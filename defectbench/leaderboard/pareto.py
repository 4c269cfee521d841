"""Accuracy against speed: which models are worth their time.

A model is *on the front* if no other model on the same hardware is at least as fast and at least as accurate, and better in one of the
two (Pareto optimality). Times of different hardware never meet in one front.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from defectbench.tasks.cost.rows import MachineRow, StateRow

if TYPE_CHECKING:
    from pathlib import Path

    from defectbench.entries.schema import Entry
    from defectbench.leaderboard.groups import Group
    from defectbench.leaderboard.scores import Interval

TIME_METRIC = "seconds_per_call"
"""The metric of the cost task that stands for speed."""


@dataclass(frozen=True, order=True)
class Hardware:
    """What times were measured on; times of two entries compare only if all of it is equal.

    Attributes:
        device: ``cpu`` or ``cuda``.
        name: of the processor, or of the GPUs; ``unknown`` if it was not recorded.
        workers: number of processes that shared it.
        threads: of each worker.
        clock: ``processor`` seconds or ``wall-clock`` seconds.
    """

    device: str
    name: str
    workers: int
    threads: int
    clock: str

    @property
    def load(self) -> str:
        """How it was shared: ``2 workers, 1 thread each``."""
        workers = f"{self.workers} worker" + ("s" if self.workers != 1 else "")
        return f"{workers}, {self.threads} thread" + ("s" if self.threads != 1 else "") + (" each" if self.workers != 1 else "")

    @property
    def text(self) -> str:
        """All of it in one phrase."""
        return f"{self.name} ({self.device}), {self.load}, {self.clock} seconds"


@dataclass(frozen=True)
class Point:
    """A model in the plane of speed and accuracy.

    Attributes:
        name: of the model.
        seconds: median of one force call of the defect cell, in s.
        interval: its bootstrap 95 % interval, in s.
        score: overall, 0 … 1.
        bounds: of the score.
        hardware: that the time was measured on.
        atoms: (fewest, most) atoms of the cells; None if not recorded.
    """

    name: str
    seconds: float
    interval: Interval | None
    score: float
    bounds: Interval | None
    hardware: Hardware
    atoms: tuple[int, int] | None


def hardware_of(entry: Entry) -> Hardware:
    """The hardware of an entry, as its provenance and its cost task record it."""
    made = entry.provenance
    machine = next(iter(entry.table("cost", "machine", MachineRow)), None)
    clock = machine["clock"] if machine else ("wall-clock" if made.device == "cuda" else "processor")
    gpus = list(made.hardware.gpus)
    name = ", ".join(sorted(set(gpus))) if made.device == "cuda" else made.hardware.processor or ""
    return Hardware(made.device, name or "unknown", made.workers, made.threads_per_worker, clock)


def hardware_in(group: Group) -> list[Hardware]:
    """All hardware that a group's times were measured on, sorted."""
    return sorted({hardware_of(one.entry) for one in group.entries})


def _atoms(entry: Entry) -> tuple[int, int] | None:
    found = [row["atoms"] for row in entry.table("cost", "states", StateRow)]
    return (min(found), max(found)) if found else None


def points_of(group: Group) -> tuple[tuple[Point, ...], tuple[str, ...]]:
    """The models of a group that have an overall score and a time, fastest first; and why others are missing, a phrase each."""
    points, missing = [], []
    for one in group.entries:
        name, cost = one.entry.model.name, one.entry.tasks.get("cost")
        time = next((m for m in cost.metrics if m.name == TIME_METRIC), None) if cost else None
        if cost is None:
            missing.append(f"{name} (the cost task was not run)")
        elif one.score.overall is None:
            missing.append(f"{name} (no overall score: no task counts)")
        elif time is None or time.value is None or not time.value > 0:
            missing.append(f"{name} ({(time.reason if time else None) or 'no time per force call'})")
        else:
            points.append(
                Point(
                    name,
                    time.value,
                    time.interval,
                    one.score.overall,
                    one.score.bounds,
                    hardware_of(one.entry),
                    _atoms(one.entry),
                )
            )
    return tuple(sorted(points, key=lambda p: (p.seconds, -p.score, p.name))), tuple(missing)


def dominates(one: Point, other: Point) -> bool:
    """Whether ``one`` is, on the same hardware, as fast and as accurate as ``other``, and better in one of the two."""
    if one.hardware != other.hardware or one.seconds > other.seconds or one.score < other.score:
        return False
    return one.seconds < other.seconds or one.score > other.score


def front(points: Sequence[Point]) -> tuple[Point, ...]:
    """The points that no other dominates, in the given order."""
    return tuple(p for p in points if not any(dominates(q, p) for q in points))


def stem(group: Group, groups: Sequence[Group]) -> str:
    """File name of a group's figure without its ending; groups of one dataset, level and suite are numbered in their order."""

    def name(one: Group) -> str:
        entry = one.first
        words = f"{entry.dataset.id}-{entry.dataset.level_of_theory}-{entry.selection.suite}"
        return "pareto-" + re.sub(r"[^a-z0-9.]+", "-", words.lower()).strip("-.")

    alike = [g for g in groups if name(g) == name(group)]
    place = next(i for i, g in enumerate(alike) if g is group)
    return name(group) + (f"-{place + 1}" if place else "")


def atoms_text(points: Sequence[Point]) -> str:
    """``59 atoms`` or ``59–60 atoms``; empty if no entry records it."""
    known = [p.atoms for p in points if p.atoms]
    if not known:
        return ""
    low, high = min(a for a, _ in known), max(b for _, b in known)
    return f"{low} atoms" if low == high else f"{low}–{high} atoms"


def _said(point: Point) -> str:
    return f"{point.name} ({point.seconds:.2g} s, {point.score:.2f})"


def in_words(group: Group, baseline: float | None) -> list[str]:
    """The front of each hardware, who is dominated by whom, and how the best baselines compare: one sentence per item.

    Args:
        group: entries that compare.
        baseline: overall score of the best baselines.
    """
    points, missing = points_of(group)
    lines = []
    fronted = set(front(points))
    for hardware in sorted({p.hardware for p in points}):
        here = [p for p in points if p.hardware == hardware]
        lines.append(f"On the front ({hardware.text}): {', '.join(_said(p) for p in here if p in fronted)}.")
        beaten = []
        for p in (p for p in here if p not in fronted):
            by = [q.name for q in here if q in fronted and dominates(q, p)]
            beaten.append(f"{_said(p)} by {' and '.join(by)}")
        if beaten:
            lines.append(f"Dominated (another is as fast and as accurate): {'; '.join(beaten)}.")
    if points and baseline is not None:
        above = [p.name for p in points if p.score > baseline]
        which = ", ".join(above) if above else "no model"
        lines.append(f"Above the best baselines ({baseline:.2f}, no time at all): {which}.")
    if missing:
        lines.append(f"Not in the figure: {'; '.join(missing)}.")
    return lines


def finding(points: Sequence[Point], baseline: float | None) -> str:
    """Who scores highest, who is fastest and how many beat the best baselines, in a sentence.

    Times are compared only if all are of one hardware.

    Args:
        points: at least one.
        baseline: overall score of the best baselines.

    Example:
        >>> machine = Hardware("cpu", "one", 1, 1, "processor")
        >>> finding([Point("A", 0.1, None, 0.2, None, machine, None), Point("B", 1.0, None, 0.4, None, machine, None)], 0.3)
        'B scores highest (0.40), A is fastest (0.1 s per force call); 1 of 2 models scores above the best baselines (0.30).'
    """
    best = max(points, key=lambda p: p.score)
    if len(points) == 1:
        text = f"{best.name} scores {best.score:.2f}"
        return f"{text}." if baseline is None else f"{text}; the best baselines score {baseline:.2f}."
    text, fastest = f"{best.name} scores highest ({best.score:.2f})", min(points, key=lambda p: (p.seconds, -p.score))
    if len({p.hardware for p in points}) == 1:
        speed = f"fastest ({fastest.seconds:.2g} s per force call)"
        text += f" and is {speed}" if fastest is best else f", {fastest.name} is {speed}"
    if baseline is not None:
        above = sum(p.score > baseline for p in points)
        which = f"{above} of {len(points)} models score{'s' if above == 1 else ''}" if above else "no model scores"
        text += f"; {which} above the best baselines ({baseline:.2f})"
    return f"{text}."


def figure_paths(folder: Path, group: Group, groups: Sequence[Group]) -> tuple[Path, Path] | None:
    """Where a group's figure lies in a folder, as (PNG, SVG); None if no entry of the group can be drawn."""
    if not points_of(group)[0]:
        return None
    name = stem(group, groups)
    return folder / f"{name}.png", folder / f"{name}.svg"
