"""Leaderboard tables in Markdown, from entry folders. Entries of different data, configurations, suites or tasks never share a table."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from defectbench.errors import DefectbenchError
from defectbench.leaderboard.entry import Entry, read_entry
from defectbench.leaderboard.scores import (
    Interval,
    MetricScore,
    Score,
    best_baselines,
    gains,
    load_weights,
    mean_gain,
    score_baselines,
    score_results,
)

if TYPE_CHECKING:
    from defectbench.tasks.base import MetricDefinition, Task

NONE = "–"
"""What stands where a number cannot be had."""

GroupKey = tuple[str, str, str, str, str, tuple[tuple[str, int, tuple[str, ...]], ...], tuple[str, ...]]


@dataclass(frozen=True)
class Ranked:
    """An entry with its score.

    Attributes:
        folder: where it lies.
        entry: its content.
        score: computed now.
    """

    folder: Path
    entry: Entry
    score: Score


@dataclass(frozen=True)
class Group:
    """Entries that compare: same data, level, protocol, suite, configurations and tasks; best overall score first."""

    entries: tuple[Ranked, ...]

    @property
    def first(self) -> Entry:
        """An entry that stands for what all have in common."""
        return self.entries[0].entry


def find_entries(folder: Path) -> list[Path]:
    """All folders with an ``entry.json`` at or below a folder, sorted.

    Raises:
        DefectbenchError: there is no such folder, or no entry in it.
    """
    if not folder.is_dir():
        raise DefectbenchError(f"no folder {folder}; give one that holds entries of 'defectbench evaluate'")
    found = sorted(path.parent for path in folder.rglob("entry.json"))
    if not found:
        raise DefectbenchError(f"no entry.json in or below {folder}; 'defectbench evaluate --output' writes one")
    return found


def group_key(entry: Entry) -> GroupKey:
    """What entries must have in common to stand in one table."""
    states = tuple(sorted((s.defect, s.charge, tuple(sorted(s.configurations))) for s in entry.selection.states))
    protocol = str(sorted(entry.provenance.protocol.items()))
    return (
        entry.dataset.id,
        entry.dataset.sha256,
        entry.dataset.level_of_theory,
        protocol,
        entry.selection.suite,
        states,
        tuple(sorted(entry.tasks)),
    )


def group_entries(folders: Iterable[Path]) -> list[Group]:
    """Reads entries and sorts them into groups: by dataset, full before quick before custom, larger selections first.

    Raises:
        DefectbenchError: an entry cannot be read, or two of one group are of the same model.
    """
    grouped: dict[GroupKey, list[Ranked]] = {}
    for folder in folders:
        entry = read_entry(folder)
        grouped.setdefault(group_key(entry), []).append(Ranked(folder, entry, score_results(entry.tasks)))
    order = {"full": 0, "quick": 1, "custom": 2}

    def place(item: tuple[GroupKey, list[Ranked]]) -> tuple[str, int, int, str]:
        key, ranked = item
        return key[0], order[ranked[0].entry.selection.suite], -len(ranked[0].entry.configurations), str(key)

    groups = []
    for _, ranked in sorted(grouped.items(), key=place):
        by_model: dict[str, Ranked] = {}
        for one in ranked:
            other = by_model.setdefault(one.entry.model.identity, one)
            if other is not one:
                raise DefectbenchError(f"{other.folder} and {one.folder} are the same model on the same data; remove one of them")
        ranked.sort(key=lambda r: (-(r.score.overall if r.score.overall is not None else -1.0), r.entry.model.id))
        groups.append(Group(tuple(ranked)))
    return groups


def number(value: float | None, digits: int = 3) -> str:
    """A number with that many significant digits, never in exponent form where a reader does not need it; ``–`` for None."""
    if value is None:
        return NONE
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        text = f"{value:.{digits}g}"
        return f"{value:.0f}" if "e" in text else text
    return f"{value:.{digits - 1}e}"


def _scored(score: float | None, bounds: Interval | None) -> str:
    if score is None:
        return NONE
    if bounds is None or bounds == (score, score):
        return f"{score:.2f}"
    return f"{score:.2f} ({bounds[0]:.2f}–{bounds[1]:.2f})"


def measured(metric: MetricScore) -> str:
    """A metric's value with its interval; ``failed`` or ``n/a`` without one."""
    if metric.value is None:
        return "failed" if metric.status == "failed" else "n/a"
    if metric.interval is None:
        return number(metric.value)
    return f"{number(metric.value)} ({number(metric.interval[0])} to {number(metric.interval[1])})"


def markdown_table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, all others are numbers."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(c.replace("|", "\\|").replace("\n", " ") for c in cells) + " |"

    return "\n".join([line(heading), "|---|" + "---:|" * (len(heading) - 1), *(line(row) for row in rows)])


def _tasks(group: Group) -> list[Task]:
    from defectbench.tasks import get_tasks

    return [t for t in get_tasks(None) if t.name in group.first.tasks]


def _unit(definition: MetricDefinition) -> str:
    return definition.label if definition.unit in ("1", "") else f"{definition.label} / {definition.unit}"


def _seconds_per_relaxation(entry: Entry) -> float | None:
    """The cost task's median; without that task the median wall time, which other programs stretch."""
    cost = entry.tasks.get("cost")
    known = next((m.value for m in cost.metrics if m.name == "seconds_per_relaxation"), None) if cost else None
    if known is not None:
        return known
    seconds = [c.wall_s for c in {c.content_hash: c for c in entry.configurations}.values()]
    return statistics.median(seconds) if seconds else None


def _name(ranked: Ranked, link: Callable[[Path], str] | None) -> str:
    name = ranked.entry.model.name
    return f"[{name}]({link(ranked.folder)})" if link else name


def score_table(group: Group, link: Callable[[Path], str] | None = None) -> str:
    """Overall and task scores of a group, baselines below; see the legend of :func:`leaderboard`."""
    weights = load_weights()
    tasks = [t for t in _tasks(group) if weights.task(t.name) > 0]
    heading = [
        "model",
        "charge response",
        "overall",
        "above baseline",
        *[t.name for t in tasks],
        "counted",
        "not converged",
        "s per relaxation",
        "core-h",
    ]
    rows = []
    for one in group.entries:
        entry, score = one.entry, one.score
        gain = mean_gain(gains(entry.tasks))
        bad = sum(c.status != "converged" for c in entry.configurations)
        seconds = _seconds_per_relaxation(entry)
        hours = entry.provenance.calculation_s * max(1, entry.provenance.threads_per_worker) / 3600
        rows.append(
            [
                _name(one, link),
                str(entry.certificate["charge_class"]),
                f"**{_scored(score.overall, score.bounds)}**",
                NONE if gain is None else f"{gain:+.2f}",
                *[_scored(s.score, s.bounds) if (s := score.task(t.name)) else NONE for t in tasks],
                f"{score.coverage:.0%}",
                f"{bad} of {len(entry.configurations)}",
                NONE if seconds is None else number(seconds, 2),
                number(hours, 2) if entry.provenance.device == "cpu" else f"{number(hours, 2)} ({entry.provenance.device})",
            ]
        )
    best, overall = best_baselines(group.first.tasks)
    if best:
        rows.append(
            ["*best baselines*", NONE, f"*{_scored(overall, None)}*", NONE, *[_scored(best.get(t.name), None) for t in tasks], *[NONE] * 4]
        )
    for label, score in score_baselines(group.first.tasks).items():
        per_task = [_scored(s.score, s.bounds) if (s := score.task(t.name)) else NONE for t in tasks]
        if any(cell != NONE for cell in per_task):
            rows.append([f"*baseline: {_words(label)}*", NONE, NONE, NONE, *per_task, *[NONE] * 4])
    return markdown_table(heading, rows)


def _words(label: str) -> str:
    return label.replace("_", " ")


def _shown(group: Group, task: Task) -> list[MetricDefinition]:
    """The metrics that count in a task; all of a task where none does; without columns that no entry fills."""
    weights = load_weights()
    chosen = [m for m in task.metrics if weights.metric(task.name, m.name) > 0] or list(task.metrics)
    filled = {m.name for one in group.entries for m in one.entry.tasks[task.name].metrics if m.value is not None or m.applies}
    return [m for m in chosen if m.name in filled]


def metric_table(group: Group, task: Task) -> str:
    """Measured values of one task's metrics, baselines below; empty if no entry has any."""
    shown = _shown(group, task)
    if not shown:
        return ""
    rows = []
    for one in group.entries:
        scored = one.score.task(task.name)
        rows.append([one.entry.model.name, *([measured(scored.metric(m.name)) for m in shown] if scored else [NONE] * len(shown))])
    for label, values in group.first.tasks[task.name].baselines.items():
        if any(values.get(m.name) is not None for m in shown):
            rows.append([f"*baseline: {_words(label)}*", *[number(values.get(m.name)) for m in shown]])
    return markdown_table(["model", *[_unit(m) for m in shown]], rows)


def absences(group: Group, task: Task) -> list[str]:
    """Why values are missing in a task's table, one line a reason."""
    shown = {m.name: m for m in _shown(group, task)}
    by_reason: dict[tuple[str, str], dict[str, list[str]]] = {}
    for one in group.entries:
        scored = one.score.task(task.name)
        for metric in scored.metrics if scored else ():
            if metric.definition.name in shown and metric.value is None:
                key = ("failed, scores 0" if metric.status == "failed" else "n/a, left out", metric.reason or "no reason given")
                by_reason.setdefault(key, {}).setdefault(one.entry.model.name, []).append(metric.definition.label)
    lines = []
    for (kind, reason), models in by_reason.items():
        who = "; ".join(f"{model} ({', '.join(labels)})" for model, labels in models.items())
        lines.append(f"{kind}: {reason}: {who}")
    return lines


LEGEND = """\
**overall** is the weighted mean of the task scores, each the weighted mean of its metrics' scores (0: bad anchor or worse, 1: good anchor
or better); in brackets the same with all metrics at the worse, and all at the better end of their bootstrap 95 % intervals.
**above baseline**: how much a model scores above the best baseline, both on the metrics that the baseline has; at or below 0 it tells you
nothing that no model at all would not. *best baselines*: the best one of each task, and what they would score together.
**counted**: the share of the weights that could be scored; scores of very different shares do not compare. **not converged**:
relaxations that failed or did not converge, each a miss. **s per relaxation**: median processor time; **core-h**: all calculations of the
entry, on the hardware that it names. `defectbench score explain FOLDER` shows how a score came about."""


def _selection(entry: Entry) -> str:
    suite = {"full": "full suite", "quick": "quick suite", "custom": "custom selection"}[entry.selection.suite]
    states: dict[str, list[int]] = {}
    for s in entry.selection.states:
        states.setdefault(s.defect, []).append(s.charge)
    listed = "; ".join(f"{d} {', '.join(f'{q:+d}' if q else '0' for q in sorted(charges))}" for d, charges in states.items())
    return f"{suite}: {len(entry.configurations)} configurations of {len(entry.selection.states)} charge states ({listed})"


def _skipped(entry: Entry) -> str:
    by_reason: dict[str, list[str]] = {}
    for s in entry.selection.skipped:
        by_reason.setdefault(s.reason, []).append(f"{s.defect} {s.charge:+d}")
    return " ".join(f"Skipped ({reason}): {', '.join(states)}." for reason, states in by_reason.items())


def leaderboard(folder: Path, link_from: Path | None = None) -> str:
    """The leaderboard of all entries at or below a folder, as Markdown.

    Args:
        folder: where the entries lie.
        link_from: the folder of the file that the text goes to; entries are linked relative to it. None for no links.

    Raises:
        DefectbenchError: no entries, or one that cannot be read.
    """
    import os

    def link(path: Path) -> str:
        assert link_from is not None
        return Path(os.path.relpath(path, link_from)).as_posix() + "/"

    groups = group_entries(find_entries(folder))
    parts = [
        "# Leaderboard",
        "Made by `defectbench leaderboard table`; do not edit. Entries share a table only if they were made on the same data, "
        "with the same protocol, configurations and tasks.",
        LEGEND,
    ]
    for group in groups:
        entry = group.first
        parts.append(f"## {entry.dataset.id} ({entry.dataset.level_of_theory}), {entry.selection.suite}")
        name = entry.provenance.protocol.get("name")
        about = f"{entry.dataset.title}. {_selection(entry)}. Dataset `{entry.dataset.sha256[:12]}`, protocol {name}."
        parts.append(" ".join(filter(None, [about, _skipped(entry)])))
        parts.append(score_table(group, link if link_from is not None else None))
        for task in _tasks(group):
            table = metric_table(group, task)
            lines = absences(group, task)
            if table or lines:
                parts.append(f"### {task.title} ({task.name})")
            parts += [text for text in (table, "\n".join(f"- {line}" for line in lines)) if text]
    return "\n\n".join(parts) + "\n"
