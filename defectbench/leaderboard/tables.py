"""Leaderboard tables in Markdown, from entry folders. Entries of different data, configurations, suites or tasks never share a table."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from defectbench.base.states import ChargeState, format_charge
from defectbench.base.tables import markdown_table
from defectbench.base.text import markdown
from defectbench.entries.schema import Entry
from defectbench.entries.staleness import shipped_content, stale
from defectbench.leaderboard.groups import Group, Ranked, find_entries, group_entries
from defectbench.leaderboard.hosts import AcrossHosts, across_hosts
from defectbench.leaderboard.pareto import figure_paths, hardware_in, hardware_of, in_words
from defectbench.leaderboard.scores import (
    Interval,
    MetricScore,
    best_baselines,
    gains,
    mean_gain,
    score_baselines,
)
from defectbench.tasks.relax.rows import StateRow

if TYPE_CHECKING:
    from defectbench.entries.schema import TaskRecord
    from defectbench.scoring.task import MetricDefinition, Task


NONE = "–"
"""What stands where nothing is asked: a baseline has no such value."""

NOT_APPLICABLE = "n/a"
"""What stands where a model has no value because the question cannot be put; why is said below the table."""


def number(value: float | None, digits: int = 3) -> str:
    """A number with that many significant digits, never in exponent form where a reader does not need it; ``–`` for None."""
    if value is None:
        return NONE
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        text = f"{value:.{digits}g}"
        return f"{value:.0f}" if "e" in text else text
    return f"{value:.{digits - 1}e}"


def _scored(score: float | None, bounds: Interval | None, absent: str = NONE) -> str:
    if score is None:
        return absent
    if bounds is None or bounds == (score, score):
        return f"{score:.2f}"
    return f"{score:.2f} ({bounds[0]:.2f}–{bounds[1]:.2f})"


def measured(metric: MetricScore) -> str:
    """A metric's value with its interval; ``failed`` or ``n/a`` without one."""
    if metric.value is None:
        return "failed" if metric.status == "failed" else NOT_APPLICABLE
    if metric.interval is None:
        return number(metric.value)
    return f"{number(metric.value)} ({number(metric.interval[0])} to {number(metric.interval[1])})"


def _tasks(group: Group) -> list[Task]:
    from defectbench.tasks import get_tasks

    return [t for t in get_tasks(None) if any(t.name in one.entry.tasks for one in group.entries)]


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
    name = markdown(ranked.entry.model.name)
    return f"[{name}]({quote(link(ranked.folder))})" if link else name


def score_table(group: Group, link: Callable[[Path], str] | None = None) -> str:
    """Overall and task scores of a group, baselines below; see the legend of :func:`leaderboard`."""
    tasks = [t for t in _tasks(group) if t.weight > 0]
    heading = [
        "model",
        "charge response",
        "overall",
        "ground states",
        "eV above",
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
                f"**{_scored(score.overall, score.bounds, NOT_APPLICABLE)}**",
                *_where(entry),
                NOT_APPLICABLE if gain is None else f"{gain:+.2f}",
                *[_scored(s.score, s.bounds, NOT_APPLICABLE) if (s := score.task(t.name)) else NOT_APPLICABLE for t in tasks],
                f"{score.coverage:.0%}",
                f"{bad} of {len(entry.configurations)}",
                NOT_APPLICABLE if seconds is None else number(seconds, 2),
                number(hours, 2) if entry.provenance.device == "cpu" else f"{number(hours, 2)} ({entry.provenance.device})",
            ]
        )
    best, overall = best_baselines(group.first.tasks)
    if best:
        rows.append(
            [
                "*best baselines*",
                NONE,
                f"*{_scored(overall, None)}*",
                NONE,
                NONE,
                NONE,
                *[_scored(best.get(t.name), None) for t in tasks],
                *[NONE] * 4,
            ]
        )
    for kind, informed in (("baseline", False), ("informed by DFT", True)):
        for label, score in score_baselines(group.first.tasks, informed=informed).items():
            per_task = [_scored(s.score, s.bounds) if (s := score.task(t.name)) else NONE for t in tasks]
            if any(cell != NONE for cell in per_task):
                rows.append([f"*{kind}: {_words(label)}*", *[NONE] * 5, *per_task, *[NONE] * 4])
    return markdown_table(heading, rows, range(2, len(heading)))


def _where(entry: Entry) -> list[str]:
    """In how many charge states the model finds DFT's ground state, and how far the DFT minima that it finds lie above it."""
    rows = entry.table("relax", "states", StateRow)
    if not rows:
        return [NOT_APPLICABLE, NOT_APPLICABLE]
    above = [energy for row in rows if (energy := row["energy_above_ground_state"]) is not None]
    lost = len(rows) - len(above)
    found = sum(row["verdict"] in ("none", "host") for row in rows)
    wrong = sorted(round(energy, 2) for energy in above if energy)
    said = ", ".join([*(f"{energy:.2f}" for energy in wrong), *([f"{lost} in no DFT minimum"] if lost else [])])
    return [f"{found} of {len(rows)}", said or "0"]


def _words(label: str) -> str:
    return markdown(label.replace("_", " "))


def _chosen(task: Task) -> list[MetricDefinition]:
    """The metrics that count in a task; all of a task where none does."""
    return [m for m in task.metrics if m.weight > 0] or list(task.metrics)


def _records(group: Group, task: Task) -> list[TaskRecord]:
    """What the entries hold of a task; one that runs on request is not in all of them."""
    return [one.entry.tasks[task.name] for one in group.entries if task.name in one.entry.tasks]


def _baselines(group: Group, task: Task) -> dict[str, dict[str, float]]:
    """Label → metric → value of a task's baselines; all entries of a group have the same data, so the first that has a value gives it."""
    found: dict[str, dict[str, float]] = {}
    for record in _records(group, task):
        for label, values in record.baselines.items():
            for name, value in values.items():
                if value is not None:
                    found.setdefault(label, {}).setdefault(name, value)
    return found


def _shown(group: Group, task: Task) -> list[MetricDefinition]:
    """The columns of a task's table: of what counts all that an entry fills or fails, and of the rest what a baseline has that would
    else have no row. What no entry fills is listed by :func:`absences`."""
    chosen = _chosen(task)
    filled = {m.name for record in _records(group, task) for m in record.metrics if m.value is not None or m.applies}
    shown = {m.name for m in chosen} & filled
    for values in _baselines(group, task).values():
        if not shown & values.keys():
            shown |= values.keys() & filled
    return [m for m in task.metrics if m.name in shown]


def _heading(task: Task, definition: MetricDefinition) -> str:
    return _unit(definition) + ("" if definition in _chosen(task) else " (not counted)")


def metric_table(group: Group, task: Task) -> str:
    """Measured values of one task's metrics, baselines below; empty if no entry has any. Times stand beside the hardware they are of."""
    shown = _shown(group, task)
    if not shown:
        return ""
    cost = task.name == "cost"
    rows = []
    for one in group.entries:
        scored = one.score.task(task.name)
        values = [measured(scored.metric(m.name)) for m in shown] if scored else [NOT_APPLICABLE] * len(shown)
        found = hardware_of(one.entry)
        about_it = [markdown(text) for text in (found.device, found.name, found.load, found.clock)] if cost else []
        rows.append([markdown(one.entry.model.name), *about_it, *values])
    for label, known in _baselines(group, task).items():
        cells = [number(known.get(m.name)) for m in shown]
        if any(m.name in known for m in shown):
            kind = "informed by DFT" if label in task.informed else "baseline"
            rows.append([f"*{kind}: {_words(label)}*", *([NONE] * 4 if cost else []), *cells])
    about = ["device", "processor or GPU", "shared by", "clock"] if cost else []
    heading = ["model", *about, *[_heading(task, m) for m in shown]]
    return markdown_table(heading, rows, range(1 + len(about), len(heading)))


def absences(group: Group, task: Task) -> list[str]:
    """Why values are missing in a task's table, or the whole table; one line per reason, models with the same gaps together."""
    names = {m.name for m in (*_chosen(task), *_shown(group, task))}
    by_reason: dict[tuple[str, str], dict[str, list[str]]] = {}
    for one in group.entries:
        scored = one.score.task(task.name)
        for metric in scored.metrics if scored else ():
            if metric.definition.name in names and metric.value is None:
                key = ("failed, scores 0" if metric.status == "failed" else "n/a, left out", markdown(metric.reason or "no reason given"))
                by_reason.setdefault(key, {}).setdefault(markdown(one.entry.model.name), []).append(metric.definition.label)
    lines = []
    for (kind, reason), models in by_reason.items():
        alike: dict[tuple[str, ...], list[str]] = {}
        for model, labels in models.items():
            alike.setdefault(tuple(labels), []).append(model)
        who = []
        for what, those in alike.items():
            everyone = len(those) == len(group.entries) > 1
            who.append(f"{'all models' if everyone else ', '.join(those)} ({'; '.join(what)})")
        lines.append(f"{kind}: {reason}: {'; '.join(who)}")
    return lines


def no_baseline(group: Group, task: Task) -> str | None:
    """Why a task's table has no row of a baseline; None if it has one, or if there is no table."""
    shown = {m.name for m in _shown(group, task)}
    if not shown or any(shown & values.keys() for values in _baselines(group, task).values()):
        return None
    if task.name == "cost":
        from defectbench.tasks.cost.score import NO_BASELINE

        return NO_BASELINE
    return "No baseline can be built from this dataset."


def not_run(group: Group) -> list[str]:
    """Tasks that weigh something and did not run."""
    from defectbench.tasks import get_tasks

    return [task.name for task in get_tasks() if task.weight > 0 and task.name not in group.first.tasks]


def content_note(entry: Entry) -> str:
    """Which content of its dataset an entry rests on, and whether that is what ships now."""
    used = f"Dataset content `{entry.dataset.sha256[:16]}`"
    now = shipped_content(entry.dataset.id) if entry.dataset.embedded else None
    if now == entry.dataset.sha256:
        return f"{used}, which is what ships now."
    if now is not None:
        return f"{used}, **an earlier one than ships now** (`{now[:16]}`): new entries will not stand in this table; evaluate again."
    if entry.dataset.embedded:
        return f"{used}; no dataset of that name ships any more."
    return f"{used}, of a dataset that does not come with defectbench."


LEGEND = """\
**overall** is the weighted mean of the task scores, each the weighted mean of its metrics' scores (0: bad anchor or worse, 1: good anchor
or better); in brackets the same with all metrics at the worse, and all at the better end of their bootstrap 95 % intervals.
**ground states**: in how many charge states the model's ground state is DFT's (within 0.1 Å, the drift of the model's host aside).
**eV above**: for the others, how far the DFT minimum that it lies in is above DFT's ground state, or that it lies in none.
**above baseline**: how much a model scores above the best uninformed baseline, both on the metrics that the baseline has; ≤ 0 means that
the model adds nothing over them. *best baselines*: the best uninformed one of each task, and what they would score together. Baselines
*informed by DFT* use DFT results of the same or another charge state, which a model does not have; they are shown for comparison.
**counted**: the share of the weights that could be scored; scores of very different shares do not compare. *n/a*: the question cannot be
put to the model or the data; why is said below the task's table. A baseline's *–*: it has no such value. **not converged**:
relaxations that failed or did not converge, each a miss. **s per relaxation**: median processor time (wall clock on a GPU); **core-h**: all
calculations of the entry; the table of costs names the hardware. `defectbench score explain FOLDER` shows how a score is computed.
Protocol and suites are defined in `docs/tasks.md` of defectbench."""


def _selection(entry: Entry) -> str:
    suite = {"full": "full suite", "quick": "quick suite", "custom": "custom selection"}[entry.selection.suite]
    states: dict[str, list[int]] = {}
    for s in entry.selection.states:
        states.setdefault(s.defect, []).append(s.charge)
    listed = "; ".join(f"{d} {', '.join(format_charge(q) for q in sorted(charges))}" for d, charges in states.items())
    return f"{suite}: {len(entry.configurations)} configurations of {len(entry.selection.states)} charge states ({listed})"


def _skipped(entry: Entry) -> str:
    by_reason: dict[str, list[str]] = {}
    for s in entry.selection.skipped:
        by_reason.setdefault(s.reason, []).append(str(ChargeState(s.defect, s.charge)))
    return " ".join(f"Skipped ({markdown(reason)}): {', '.join(states)}." for reason, states in by_reason.items())


def _pareto(group: Group, groups: Sequence[Group], figures: Path | None, link: Callable[[Path], str]) -> list[str]:
    """The section on accuracy against speed: figure if there is a folder for it, and the front in words."""
    lines = in_words(group, best_baselines(group.first.tasks)[1])
    parts = ["### Accuracy against speed"]
    paths = figure_paths(figures, group, groups) if figures is not None else None
    if paths is not None:
        png, svg = (link(path) for path in paths)
        entry = group.first
        about = (
            f"overall score over time per force call, {entry.dataset.id} ({entry.dataset.level_of_theory}), {entry.selection.suite} suite"
        )
        parts.append(f"[![{about}]({png})]({svg})")
    parts.append("\n".join(f"- {markdown(line)}" for line in lines))
    return parts


def leaderboard(folder: Path, link_from: Path | None = None, figures: Path | None = None) -> str:
    """The leaderboard of all entries at or below a folder, as Markdown.

    Args:
        folder: where the entries lie.
        link_from: the folder of the file that the text goes to; entries are linked relative to it. None for no links.
        figures: the folder of the figures that :func:`~defectbench.leaderboard.figures.draw_leaderboard` draws of the same entries; they
            are linked relative to ``link_from``. None for none.

    Raises:
        DefectbenchError: no entries, or one that cannot be read.
    """
    import os

    def link(path: Path) -> str:
        return Path(os.path.relpath(path, link_from or Path())).as_posix()

    groups = group_entries(find_entries(folder))
    parts = [
        "# Leaderboard",
        "Made by `defectbench leaderboard table`; do not edit. Entries share a table only if they were made on the same data, "
        "with the same protocol, configurations and tasks.",
        LEGEND,
    ]
    for group in groups:
        entry = group.first
        trained = ", models trained on these data" if entry.in_domain else ""
        old = stale(entry)
        mark = " (stale)" if old is not None else ""
        parts.append(f"## {entry.dataset.id} ({entry.dataset.level_of_theory}), {entry.selection.suite}{trained}{mark}")
        if old is not None:
            parts.append(f"**Stale**: {markdown(old)}. Evaluate these models again.")
        name = entry.provenance.protocol.get("name")
        about = f"{markdown(entry.dataset.title)}. {_selection(entry)}. Protocol {markdown(name)}."
        parts.append(" ".join(filter(None, [about, content_note(entry), _skipped(entry)])))
        parts.append(score_table(group, (lambda path: link(path) + "/") if link_from is not None else None))
        notes = []
        if left := not_run(group):
            notes.append(f"Not run for these entries, and so missing from *counted*: {', '.join(left)}.")
        if len(hardware := hardware_in(group)) > 1:
            measured_on = "; ".join(markdown(h.text) for h in hardware)
            notes.append(f"Measured on different hardware, so times compare only within one of: {measured_on}.")
        parts += ["\n".join(f"- {note}" for note in notes)] if notes else []
        parts += _pareto(group, groups, figures, link)
        for task in _tasks(group):
            table = metric_table(group, task)
            lines = absences(group, task)
            if table or lines:
                parts.append(f"### {task.title} ({task.name})")
            reasons = [line for line in (*lines, no_baseline(group, task)) if line]
            parts += [text for text in (table, "\n".join(f"- {line}" for line in reasons)) if text]
    parts += hosts_section(across_hosts(groups))
    return "\n\n".join(parts) + "\n"


def hosts_section(found: AcrossHosts) -> list[str]:
    """The section on all hosts side by side: mean scores, agreement on the order of models, and how far it generalises."""
    parts = ["## Across hosts", markdown(found.statement)]
    if len(found.hosts) < 2:
        return parts
    about = [f"{markdown(h.name)} ({markdown(h.dataset)}, {h.suite}, {h.states} charge states)" for h in found.hosts]
    means = [number(m.score, 2) + (" ({:.2f} to {:.2f})".format(*m.interval) if m.interval else "") for m in found.models]
    rows = [
        [markdown(m.name), mean, *(number(m.scores.get(h.name), 2) for h in found.hosts)]
        for m, mean in zip(found.models, means, strict=True)
    ]
    parts.append("In brackets: the 95 % interval for hosts like these, a host counting as one value.")
    parts.append(markdown_table(["model", "mean over hosts", *about], rows, range(1, 2 + len(about))))
    pairs = [
        [" and ".join(map(markdown, a.hosts)), str(a.models), number(a.rank_correlation, 2), number(a.by_chance, 2)]
        for a in found.agreements
    ]
    parts.append(markdown_table(["hosts", "models on both", "rank correlation", "1 in 20 random orders reach"], pairs, range(1, 4)))
    return parts
