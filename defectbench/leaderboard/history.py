"""What changed between entries of one model: weights, packages, data, protocol, and the metrics that moved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from defectbench.leaderboard.scores import score_results

if TYPE_CHECKING:
    from defectbench.entries.schema import Entry
    from defectbench.scoring.task import Task

MOVED = 0.005
"""Relative change of a metric below which it is not listed: three digits of a value hide it."""


@dataclass(frozen=True)
class Moved:
    """A metric that counts and has another value than in the version before.

    Attributes:
        task: its name.
        metric: label.
        unit: empty for a number without unit.
        before: None if it had no value.
        after: None if it has none any more.
        better: whether the change is one for the better.
    """

    task: str
    metric: str
    unit: str
    before: float | None
    after: float | None
    better: bool


@dataclass(frozen=True)
class Version:
    """An entry of a model on a dataset.

    Attributes:
        page: its own, or None: of a version that was replaced only the record is kept.
        date: on which it was made.
        overall: score, by this version of defectbench.
        changes: besides the results, since the version before.
        moved: metrics that count, since the version before; None of the first, and if the two ran other charge states or configurations.
    """

    page: str | None
    date: str
    overall: float | None
    changes: tuple[str, ...]
    moved: tuple[Moved, ...] | None = None


def history(entries: Sequence[tuple[Entry, str | None]], tasks: Sequence[Task]) -> tuple[Version, ...]:
    """The versions of a model's entry, oldest first, each with what changed since the one before.

    Args:
        entries: of one model on one dataset, each with its page, in any order.
        tasks: whose metrics are compared.
    """
    found: list[Version] = []
    old: Entry | None = None
    # an entry that was scored again has the date of its run: the kept one is the older
    for entry, page in sorted(entries, key=lambda one: (one[0].provenance.created, one[1] is not None)):
        changes = ("first entry",) if old is None else tuple(_changes(old, entry))
        moved = tuple(_moved(old, entry, tasks)) if old is not None and _selected(old) == _selected(entry) else None
        found.append(Version(page, entry.provenance.created[:10], score_results(entry.tasks).overall, changes, moved))
        old = entry
    return tuple(found)


def _changes(old: Entry, new: Entry) -> Iterator[str]:
    """What differs between two entries of a model besides the results."""
    before, after = old.provenance, new.provenance
    named = (
        ("content of the dataset", old.dataset.sha256[:12], new.dataset.sha256[:12]),
        ("level of theory", old.dataset.level_of_theory, new.dataset.level_of_theory),
        ("protocol", before.protocol.get("name"), after.protocol.get("name")),
        ("suite", old.selection.suite, new.selection.suite),
        ("charge states and configurations", _selected(old), _selected(new)),
        ("tasks", sorted(old.tasks), sorted(new.tasks)),
        ("device", before.device, after.device),
        ("defectbench", before.defectbench, after.defectbench),
        ("response to charge", old.certificate["charge_class"], new.certificate["charge_class"]),
    )
    yield from _by_name("weights", _short(old.model.weights_sha256), _short(new.model.weights_sha256))
    for label, was, now in named:
        if was != now:
            yield f"{label}: {was} → {now}" if isinstance(was, str) and isinstance(now, str) else label
    yield from _by_name("", before.packages, after.packages)
    if old.model.identity != new.model.identity and old.model.weights_sha256 == new.model.weights_sha256:
        yield "settings or code of the model"


def _short(hashes: Mapping[str, str]) -> dict[str, str]:
    return {name: sha256[:12] for name, sha256 in hashes.items()}


def _by_name(label: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({*old, *new}):
        was, now = old.get(name, "none"), new.get(name, "none")
        if was != now:
            yield f"{label} {name}: {was} → {now}".strip()


def _selected(entry: Entry) -> list[tuple[str, int, list[str]]]:
    return sorted((s.defect, s.charge, sorted(s.configurations)) for s in entry.selection.states)


def _moved(old: Entry, new: Entry, tasks: Sequence[Task]) -> Iterator[Moved]:
    for task in tasks:
        if task.name not in old.tasks or task.name not in new.tasks:
            continue
        values = [{m.name: m.value for m in entry.tasks[task.name].metrics} for entry in (old, new)]
        for metric in task.metrics:
            if metric.weight <= 0 or not all(metric.name in found for found in values):
                continue
            was, now = (found[metric.name] for found in values)
            if was is None or now is None:
                if was is None and now is None:
                    continue
                better = was is None
            elif abs(now - was) <= MOVED * max(abs(was), abs(now)):
                continue
            else:
                better = (now < was) == (metric.direction == "lower")
            yield Moved(task.name, metric.label, "" if metric.unit == "1" else metric.unit, was, now, better)
