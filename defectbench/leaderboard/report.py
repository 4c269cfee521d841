"""The report of one entry: ``index.html`` in its folder, one file that needs no network."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from defectbench.base.files import write_text
from defectbench.base.states import format_charge
from defectbench.entries.folder import read_figure
from defectbench.leaderboard.scores import MetricScore, TaskScore, best_baselines, uninformed
from defectbench.leaderboard.tables import measured, number
from defectbench.tasks.relax.rows import StateRow

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup

    from defectbench.datasets.dataset import Dataset
    from defectbench.entries.schema import Entry, TaskRecord
    from defectbench.leaderboard.entry_view import EntryView
    from defectbench.scoring.task import Row

REPORT_FILE = "index.html"
MOST_ROWS = 100
"""Of a task's table on the page: what figures are drawn from has a thousand."""


@dataclass(frozen=True)
class Heading:
    """A column's heading; ``number`` aligns it right, ``wrap`` lets long texts break."""

    text: str
    number: bool = False
    wrap: bool = False


@dataclass(frozen=True)
class Table:
    """A table of texts."""

    headings: tuple[Heading, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""


@dataclass(frozen=True)
class Fact:
    """One number in large print."""

    label: str
    value: str


@dataclass(frozen=True)
class TaskSection:
    """What the report says of one task."""

    name: str
    title: str
    description: str
    score: str
    counted: Table
    others: Table
    notes: tuple[str, ...]
    tables: tuple[Table, ...]
    figure: str | None


@dataclass(frozen=True)
class Report:
    """The page as values: nothing in the template is computed."""

    model: str
    dataset: str
    about: str
    folder: str
    verdict: tuple[str, str]
    facts: tuple[Fact, ...]
    states: Table
    scores: Table
    skipped: tuple[str, ...]
    failures: Table
    tasks: tuple[TaskSection, ...]
    certificate_says: str
    energies: Table
    checks: Table
    provenance: Table = field(default_factory=lambda: Table((), ()))


def write_report(entry: EntryView, dataset: Dataset | None = None) -> Path:
    """Writes ``index.html`` into the entry's folder; returns its path.

    Args:
        entry: in its folder, with figures and structures.
        dataset: that the entry was made on, for DFT's structures; without it the model's stand alone.

    Raises:
        DatasetError: the entry's structures cannot be read.
        DefectbenchError: a figure cannot be read, or it or ``structures.extxyz`` is a link out of the folder.
        RunError: it cannot be written.
    """
    from defectbench.leaderboard.overlays import model_scenes

    path = entry.folder / REPORT_FILE
    scenes = [{"name": scene.name, "title": scene.title, "scene": asdict(scene)} for scene in model_scenes(entry, dataset)]
    write_text(path, render(report(entry), scenes))
    return path


def _viewer() -> str:
    """The viewer and its library as one script: half a megabyte, for a page that stays one file."""
    from importlib.resources import files

    static = files("defectbench.leaderboard") / "static"
    return "\n".join((static / name).read_text(encoding="utf-8") for name in ("3dmol/3Dmol-min.js", "common.js", "viewer.js"))


def render(page: Report, scenes: Sequence[Mapping[str, object]] = ()) -> str:
    """The page as HTML; every text is escaped. ``scenes`` are the structures, with their coordinates."""
    return (
        templates()
        .get_template("report.html.j2")
        .render(r=page, charts={}, key="", root="", scenes=scenes, scripts=_viewer() if scenes else "")
    )


@cache
def templates() -> jinja2.Environment:
    """The templates of all pages, with escaping on."""
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.PackageLoader("defectbench.leaderboard"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["body"] = _body
    made.policies["json.dumps_kwargs"] = {"sort_keys": True, "separators": (",", ":")}
    return made


def _body(table: Table) -> Markup:
    """The rows of a table as HTML: a template takes three times as long, and a page has thousands of cells."""
    from markupsafe import Markup, escape

    kinds = [' class="number"' if h.number else ' class="wrap"' if h.wrap else "" for h in table.headings]
    rows = ("".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)) for row in table.rows)
    return Markup("".join(f"<tr>{row}</tr>\n" for row in rows))


def report(entry: EntryView) -> Report:
    """What the page shows, from the entry and the figures in its folder alone."""
    r, score = entry.record, entry.score
    per_task, together = best_baselines(r.tasks)
    converged = sum(c.status == "converged" for c in r.configurations)
    facts = (
        Fact("overall score, 0 to 1", "–" if score.overall is None else f"{score.overall:.2f}"),
        Fact("best baselines without a model", "–" if together is None else f"{together:.2f}"),
        Fact("response to charge", entry.charge_class),
        Fact("relaxations converged", f"{converged} of {len(r.configurations)}"),
        Fact("share of the score that could be judged", f"{score.coverage:.0%}"),
    )
    scores = Table(
        (Heading("task"), Heading("question"), Heading("score", True), Heading("best baseline", True), Heading("weight", True)),
        tuple((t.task, t.title, _two(t.score), _two(per_task.get(t.task)), f"{t.weight:g}") for t in score.tasks),
    )
    return Report(
        model=r.model.name,
        dataset=r.dataset.id,
        about=f"{r.dataset.title}. Reference: {r.dataset.level_of_theory}. {r.selection.suite.capitalize()} suite, protocol "
        f"{r.provenance.protocol.get('name')}, {r.provenance.created[:10]}.",
        folder=entry.folder.name,
        verdict=entry.verdict,
        facts=facts,
        states=_states(r),
        scores=scores,
        skipped=tuple(_skipped(r)),
        failures=_failures(r),
        tasks=tuple(_section(t, r.tasks[t.task], _figure(entry.folder, t.task)) for t in score.tasks),
        certificate_says=_certificate_says(r),
        energies=_energies(r),
        checks=_checks(r),
        provenance=_provenance(r),
    )


def _states(entry: Entry) -> Table:
    """Which DFT minimum each ground state lies in, and how far above DFT's ground state that is: the first table."""
    rows = []
    for row in entry.table("relax", "states", StateRow):
        above = row["energy_above_ground_state"]
        found = "none within 0.1 Å" if row["minimum"] is None else "ground state" if above == 0 else row["minimum"]
        state = f"{row['defect']}\N{NO-BREAK SPACE}{format_charge(row['charge'])}"
        rows.append((state, found, _two(above), _two(row["rmsd"]), row["verdict"]))
    headings = (
        Heading("charge state"),
        Heading("DFT minimum found"),
        Heading("eV above the ground state", True),
        Heading("RMSD (Å)", True),
        Heading("failure"),
    )
    return Table(headings, tuple(rows))


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _skipped(entry: Entry) -> Iterable[str]:
    by_reason: dict[str, list[str]] = {}
    for s in entry.selection.skipped:
        by_reason.setdefault(s.reason, []).append(f"{s.defect}\N{NO-BREAK SPACE}{format_charge(s.charge)}")
    return (f"{', '.join(states)}: {reason}" for reason, states in by_reason.items())


def _failures(entry: Entry) -> Table:
    rows = [
        (c.defect, format_charge(c.charge), c.configuration, c.status, c.failure or f"{c.steps} steps")
        for c in entry.configurations
        if c.status != "converged"
    ]
    return Table((Heading("defect"), Heading("charge", True), Heading("start"), Heading("status"), Heading("why", wrap=True)), tuple(rows))


def _section(scored: TaskScore, record: TaskRecord, figure: str | None) -> TaskSection:
    from defectbench.tasks import get_tasks

    (task,) = get_tasks([scored.task])
    said = f"No score: {scored.reason}." if scored.score is None else f"Score {scored.score:.2f}"
    if scored.bounds is not None and scored.bounds[1] - scored.bounds[0] > 0.005:
        said += f" ({scored.bounds[0]:.2f} to {scored.bounds[1]:.2f} at the ends of the intervals)"
    shown = [m for m in scored.metrics if m.status != "left out" or m.weight > 0]
    return TaskSection(
        name=scored.task,
        title=scored.title,
        description=task.description,
        score=said,
        counted=_metrics([m for m in shown if m.weight > 0], uninformed(scored.task, record)),
        others=_metrics([m for m in shown if not m.weight > 0], uninformed(scored.task, record)),
        notes=tuple(record.notes),
        tables=tuple(_rows(name, rows) for name, rows in record.tables.items() if rows),
        figure=figure,
    )


def best_baseline(metric: MetricScore, baselines: Mapping[str, Mapping[str, float | None]]) -> float | None:
    """The best value that a baseline has of a metric; None without one, and for what is neither better nor worse."""
    d = metric.definition
    known = [value for values in baselines.values() if (value := values.get(d.name)) is not None]
    return (min if d.direction == "lower" else max)(known, default=None) if d.direction != "none" else None


def _metrics(metrics: Sequence[MetricScore], baselines: Mapping[str, Mapping[str, float | None]]) -> Table:
    rows = []
    for m in metrics:
        d = m.definition
        best = best_baseline(m, baselines)
        anchors = "" if d.good is None or d.bad is None else f"{number(d.bad)} → {number(d.good)}"
        unit = "" if d.unit == "1" else d.unit
        score = "" if m.score is None else f"{m.score:.2f}"
        value, beside = signed(measured(m)), signed(number(best)) if best is not None else ""
        rows.append((d.label, value, unit, beside, signed(anchors), score, m.reason or d.tooltip))
    headings = (
        Heading("metric", wrap=True),
        Heading("value (95 % interval)"),
        Heading("unit"),
        Heading("best baseline", True),
        Heading("0 → 1 at"),
        Heading("score", True),
        Heading("meaning", wrap=True),
    )
    return Table(headings, tuple(rows))


def signed(text: str) -> str:
    """Numbers with a true minus, as charges have it.

    >>> signed("-0.38 (-8.2e-05 to 0.43)")
    '−0.38 (−8.2e-05 to 0.43)'
    """
    return re.sub(r"(?<![\w.])-(?=[\d.])", "−", text)


def _rows(name: str, rows: Sequence[Row]) -> Table:
    columns = list(rows[0])

    def numeric(column: str) -> bool:
        values = [row[column] for row in rows if row[column] is not None]
        return bool(values) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)

    headings = tuple(Heading(column.replace("_", " "), numeric(column)) for column in columns)
    title = (
        f"{name} ({len(rows)} rows)"
        if len(rows) <= MOST_ROWS
        else f"{name} (the first {MOST_ROWS} of {len(rows)} rows; entry.json has all)"
    )
    return Table(headings, tuple(tuple(_cell(column, row[column]) for column in columns) for row in rows[:MOST_ROWS]), title=title)


def _cell(column: str, value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return format_charge(value) if column.endswith("charge") else str(value)
    return signed(number(value, 4)) if isinstance(value, float) else str(value)


def _figure(folder: Path, task: str) -> str | None:
    """The task's figure as a data address: SVG or PNG, whichever is smaller."""
    kinds = {".svg": "image/svg+xml", ".png": "image/png"}
    found = [(content, kind) for suffix, kind in kinds.items() if (content := read_figure(folder, f"{task}{suffix}")) is not None]
    if not found:
        return None
    content, kind = min(found, key=lambda one: len(one[0]))
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _certificate_says(entry: Entry) -> str:
    c = entry.certificate
    said = {
        "charge-blind": "Energy and forces are the same at every charge.",
        "energy-only": "The energy changes with the charge; the forces change too little to move atoms.",
        "charge-aware": "Energy and forces change with the charge.",
    }[str(c["charge_class"])]
    change = c.get("force_change")
    beyond = f" Largest change of the force on an atom: {float(change):.3g} eV/Å per charge." if change is not None else ""
    slope = f" The energy is {c['energy_slope']} with the charge." if c.get("energy_slope") else ""
    doubts = "".join(f" Warning: {warning}." for warning in c.get("warnings") or ())
    return f"{c['charge_class']}. {said}{beyond}{slope}{doubts}"


def _energies(entry: Entry) -> Table:
    charges, energies = entry.certificate.get("charges", []), entry.certificate.get("energies", [])
    if not charges:
        return Table((), ())
    zero = energies[charges.index(0)] if 0 in charges else energies[0]
    cells = ("energy (eV)", *(f"{e - zero:+.4f}".replace("-", "\N{MINUS SIGN}") for e in energies))
    return Table((Heading("charge"), *(Heading(format_charge(q), True) for q in charges)), (cells,))


def _checks(entry: Entry) -> Table:
    rows = []
    for c in entry.certificate.get("checks", ()):
        unit = "" if c.get("unit", "1") == "1" else f" {c['unit']}"
        size = f"{c['value']:.2g} of {c['limit']:.2g}{unit}" if "value" in c and "limit" in c else ""
        rows.append(("passed" if c["passed"] else "failed", str(c["reason"]), size))
    return Table((Heading("check"), Heading("finding", wrap=True), Heading("measured, of what is allowed")), tuple(rows))


def _provenance(entry: Entry) -> Table:
    p, m = entry.provenance, entry.model
    hardware = p.hardware if isinstance(p.hardware, Mapping) else p.hardware.model_dump()
    machine = ", ".join(str(v) for v in (hardware.get("processor"), *(hardware.get("gpus") or ())) if v)

    def own(name: str) -> str:
        return f" (charge {format_charge(m.weights_charges[name])})" if name in m.weights_charges else ""

    rows = [
        ("model", f"{m.id}, {m.package or 'own code'}, identity {m.identity[:16]}"),
        ("trained on", m.training.statement + (f"; {entry.dataset.id} itself" if entry.in_domain else "")),
        ("weights, SHA-256", "; ".join(f"{name}{own(name)} {digest[:16]}…" for name, digest in m.weights_sha256.items()) or "–"),
        ("dataset content", entry.dataset.sha256[:16]),
        ("packages", ", ".join(f"{name} {version}" for name, version in p.packages.items())),
        ("machine", f"{p.device}: {machine or 'not recorded'}, {p.workers} workers of {p.threads_per_worker} threads"),
        ("calculations", f"{p.calculations}, {p.calculation_s / 3600:.2g} h over all workers"),
        ("defectbench", f"{p.defectbench}, {p.created}"),
    ]
    return Table((Heading("what"), Heading("value", wrap=True)), tuple(rows))
