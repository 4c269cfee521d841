"""Figures over all models of a board, as values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from defectbench.base.tables import numbers
from defectbench.entries.figures import figure_context
from defectbench.leaderboard.charts import Chart, Colour, Panel, Series, drawable, state_name
from defectbench.leaderboard.pareto import TIME_METRIC, Point, finding, hardware_of
from defectbench.scoring.landscape import SUCCESS_RMSD
from defectbench.tasks.relax.rows import StateRow
from defectbench.tasks.search.rows import CurveRow

if TYPE_CHECKING:
    from defectbench.entries.schema import Entry

Scored = tuple["Entry", float | None, str | None]
"""An entry, its overall score and its training data."""

MOST_SERIES = 12
"""Models that get a colour of their own; with more a figure shows the best."""


def group_charts(entries: Sequence[Scored], baseline: float | None) -> dict[str, tuple[Chart, ...]]:
    """The figures over all models of a board, by task; what is not of one task stands under the empty name.

    Args:
        entries: best first.
        baseline: overall score of the best baselines.
    """
    lines = ((baseline, "best baselines"),) if baseline is not None else ()
    note = f"The {MOST_SERIES} best models." if len(entries) > MOST_SERIES else ""
    found = {
        "relax": (_rmsd_of_all(entries, note),),
        "search": (_recall_of_all(entries, note),),
        "": (_speed(entries, baseline, lines), _data(entries, lines)),
    }
    kept = {task: tuple(c for c in charts if c is not None) for task, charts in found.items()}
    return {task: charts for task, charts in kept.items() if charts}


def _rmsd_of_all(entries: Sequence[Scored], note: str) -> Chart | None:
    panels = []
    for column, label in (("rmsd", "RMSD (Å)"), ("local_rmsd", "RMSD within 5 Å of the defect (Å)")):
        series = []
        for entry, _, _ in entries[:MOST_SERIES]:
            rows = entry.table("relax", "states", StateRow)
            texts = tuple(f"in {r['minimum']}" if r["minimum"] else "in no DFT minimum" for r in rows)
            series.append(Series(entry.model.name, tuple(state_name(r) for r in rows), numbers(rows, column), texts=texts))
        rows = entries[0][0].table("relax", "states", StateRow)
        looks: tuple[tuple[str, str, Colour, str], ...] = (
            ("unrelaxed", "unrelaxed start", "reference", "line-ew"),
            ("other_charge", "DFT at another charge", "other_charge", "y-down"),
        )
        for key, text, shown, symbol in looks:
            series.append(
                Series(text, tuple(state_name(r) for r in rows), numbers(rows, f"{key}_{column}"), "markers", shown, symbol, size=15)
            )
        if known := drawable(series):
            panels.append(Panel(label, "charge state", label, known, limit=SUCCESS_RMSD, bottom=0.0))
    note = f"{note} Where a model has no ground state of a charge state, it has no point.".strip()
    return Chart("rmsd", _most_found(entries), _source(entries), tuple(panels), note) if panels else None


def _source(entries: Sequence[Scored]) -> str:
    """Of a board, whose entries share dataset, level and suite."""
    return figure_context(entries[0][0]).source


def _named(names: Sequence[str], verb: str) -> str:
    """``A finds``, ``A and B find``, ``4 models find``."""
    if len(names) == 1:
        return f"{names[0]} {verb}s"
    return f"{' and '.join(names) if len(names) == 2 else f'{len(names)} models'} {verb}"


def _most_found(entries: Sequence[Scored]) -> str:
    level = entries[0][0].dataset.level_of_theory
    rows = {entry.model.name: entry.table("relax", "states", StateRow) for entry, _, _ in entries}
    found = {name: sum(bool(r["success"]) for r in states) for name, states in rows.items()}
    most = max(found.values())
    if most == 0:
        return f"No model finds a {level} ground state to an RMSD of {SUCCESS_RMSD:g} Å."
    best = [name for name, number in found.items() if number == most]
    states = max(len(states) for states in rows.values())
    text = f"{_named(best, 'find')} {most} of {states} {level} ground states to an RMSD of {SUCCESS_RMSD:g} Å"
    return f"{text}, the most of {len(entries)} models." if len(entries) > 1 else f"{text}."


def _soonest(entries: Sequence[Scored]) -> str:
    def needed(rows: Sequence[CurveRow], column: Literal["recall", "order_recall"]) -> int | None:
        return next((r["relaxations"] for r in rows if r[column] >= 1.0), None)

    curves = {entry.model.name: entry.table("search", "curve", CurveRow) for entry, _, _ in entries}
    found = {name: n for name, rows in curves.items() if (n := needed(rows, "recall")) is not None}
    if not found:
        return "No model hands every ground state over to DFT."
    least = min(found.values())
    best = [name for name, n in found.items() if n == least]
    order = next((n for rows in curves.values() if (n := needed(rows, "order_recall")) is not None), None)
    beside = "" if order is None else f"; the order of ShakeNBreak needs {order:g}"
    text = f"{_named(best, 'find')} all ground states within {least:g} DFT relaxations per charge state"
    return f"{text}, the fewest of {len(entries)} models{beside}." if len(entries) > 1 else f"{text}{beside}."


def _spread(have: Sequence[tuple[Entry, float, str]]) -> str:
    """Of the scores over training data: best first."""
    (best, highest, _), (worst, lowest, _) = have[0], have[-1]
    if len(have) == 1:
        return f"{best.model.name} scores {highest:.2f}."
    kinds = len({data for _, _, data in have})
    text = f"Scores range from {lowest:.2f} ({worst.model.name}) to {highest:.2f} ({best.model.name})"
    return f"{text} with {kinds} kind{'s' if kinds > 1 else ''} of training data."


def _recall_of_all(entries: Sequence[Scored], note: str) -> Chart | None:
    series = []
    for entry, _, _ in entries[:MOST_SERIES]:
        rows = entry.table("search", "curve", CurveRow)
        series.append(Series(entry.model.name, numbers(rows, "relaxations"), numbers(rows, "recall"), "lines", step=True))
    rows = entries[0][0].table("search", "curve", CurveRow)
    x = numbers(rows, "relaxations")
    series.append(Series("ShakeNBreak order", x, numbers(rows, "order_recall"), "lines", "reference", dash=True, step=True))
    series.append(Series("random choice (expected)", x, numbers(rows, "random_recall"), "lines", "muted", dash=True))
    known = drawable(series)
    panel = Panel("recall", "DFT relaxations per charge state", "fraction of ground states found", known, bottom=0.0, top=1.05)
    return Chart("recall", _soonest(entries), _source(entries), (panel,), note) if known else None


def _speed(entries: Sequence[Scored], baseline: float | None, lines: tuple[tuple[float, str], ...]) -> Chart | None:
    points = []
    for entry, overall, _ in entries:
        cost = entry.tasks.get("cost")
        time = next((m.value for m in cost.metrics if m.name == TIME_METRIC), None) if cost else None
        if overall is not None and time is not None and time > 0:
            points.append(Point(entry.model.name, time, None, overall, None, hardware_of(entry), None))
    if not points:
        return None
    one_each = len(entries) <= MOST_SERIES
    shown: dict[str, list[tuple[str, Point]]] = {}
    for point in points:
        label, text = (point.name, point.hardware.text) if one_each else (point.hardware.text, point.name)
        shown.setdefault(label, []).append((text, point))
    series = [
        Series(label, tuple(p.seconds for _, p in own), tuple(p.score for _, p in own), texts=tuple(text for text, _ in own), size=11)
        for label, own in shown.items()
    ]
    panel = Panel("speed", "seconds per force call", "overall score", tuple(series), x_log=True, bottom=0.0, lines=lines)
    note = "Times of different hardware do not compare; point at a model to see its own."
    return Chart("speed", finding(points, baseline), _source(entries), (panel,), note)


def _data(entries: Sequence[Scored], lines: tuple[tuple[float, str], ...]) -> Chart | None:
    have = [(e, score, data or "not stated") for e, score, data in entries if score is not None]
    if not have:
        return None
    names, scores = tuple(e.model.name for e, _, _ in have), tuple(score for _, score, _ in have)
    panels = [
        Panel(
            "training data",
            "training data",
            "overall score",
            (Series("models", tuple(d for _, _, d in have), scores, "markers", "model", texts=names, size=11),),
            bottom=0.0,
            lines=lines,
        )
    ]
    sized = [(e, score) for e, score, _ in have if e.model.parameters]
    if sized:
        one = Series(
            "models",
            tuple(e.model.parameters for e, _ in sized),
            tuple(s for _, s in sized),
            "markers",
            "model",
            texts=tuple(e.model.name for e, _ in sized),
            size=11,
        )
        panels.append(Panel("parameters", "number of parameters", "overall score", (one,), x_log=True, bottom=0.0, lines=lines))
    return Chart("data", _spread(have), _source(entries), tuple(panels))
