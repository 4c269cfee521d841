"""What the command line prints: texts of entries, datasets and models appear as text, whatever they hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from defectbench.base.states import format_charge
from defectbench.base.text import CONTROL, one_line
from defectbench.entries.staleness import stale
from defectbench.leaderboard.report import REPORT_FILE, best_baseline
from defectbench.leaderboard.tables import measured
from defectbench.tasks.relax.rows import StateRow

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from defectbench.entries.submission import Submission
    from defectbench.entries.verification import Verification
    from defectbench.leaderboard.comparison import Comparison
    from defectbench.leaderboard.entry_view import EntryView
    from defectbench.leaderboard.scores import Score, TaskScore
    from defectbench.runs.preview import Preview
    from defectbench.runs.shards import ShardDone
    from defectbench.tasks.search.rows import SoapRow


def escape(text: object, limit: int = 4000) -> str:
    """A text for rich: on one line, without control characters, its square brackets no markup.

    >>> escape("[bold]x\\x1b[31m")
    '\\\\[bold]x?[31m'
    """
    from rich.markup import escape as escape_markup

    return escape_markup(one_line(text, limit))


def make_console(**options: Any) -> Console:
    """The console of all commands. Control characters in what is printed become ``?``; the styles that rich adds are not concerned.

    Args:
        options: of :class:`rich.console.Console`.
    """
    from rich.console import Console

    class SafeConsole(Console):
        def render_str(self, text: str, **how: Any) -> Text:
            """As of the base class; every string that is printed, in tables and titles too, comes through here."""
            return super().render_str(CONTROL.sub("?", text), **how)

    return SafeConsole(**options)


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        heading: may hold line breaks.
        kind: ``text`` may be broken to fit the page; a ``word`` or ``number`` never is, and numbers stand right.
    """

    heading: str
    kind: Literal["text", "word", "number"] = "word"


SHORT_WORD = 6
"""Letters of a word that is not broken."""


def table(console: Console, columns: Sequence[Column], rows: Iterable[Sequence[str]], title: str | None = None) -> None:
    """Prints a table that fits 80 columns where it can; where it cannot, it is wider than the page rather than cut.

    Args:
        console: where to.
        columns: what the cells are.
        rows: cells, as rich markup.
        title: above the table.
    """
    from rich import box
    from rich.cells import cell_len
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    body = [list(row) for row in rows]
    for place, column in enumerate(columns):
        whole = column.kind != "text"
        widths = [cell_len(part) for part in column.heading.split("\n")] + [Text.from_markup(row[place]).cell_len for row in body]
        texts = [column.heading, *(Text.from_markup(row[place]).plain for row in body)]
        words = max(cell_len(word) for text in texts for word in text.split() or [""])
        made.add_column(
            column.heading,
            no_wrap=whole,
            min_width=max(widths) if whole else min(words, SHORT_WORD),  # long words are broken before a table gets too wide
            overflow="fold",
            justify="right" if column.kind == "number" else "left",
        )
    for row in body:
        made.add_row(*row)

    def needed() -> int:
        return Measurement.get(console, console.options.update(max_width=10_000), made).minimum

    if needed() > console.width:
        made.padding = (0, 0)  # one space between columns instead of three
    console.print(made, width=max(console.width, needed()), crop=False)


def line(console: Console, text: str, style: str | None = None) -> None:
    """Prints a text as it is on one line, however long it is: a terminal breaks it, a log keeps it whole."""
    indent = text[: len(text) - len(text.lstrip(" "))]
    console.print(indent + one_line(text, 100_000), style=style, highlight=False, markup=False, soft_wrap=True)


def number(value: float | None) -> str:
    """Three significant digits; ``–`` for none."""
    return "–" if value is None else f"{value:.3g}"


def cell(value: Any) -> str:
    """A value of a table, as rich markup."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "[green]yes[/]" if value else "[red]no[/]"
    if isinstance(value, float):
        return f"{value:.3f}"
    return escape(value)


def _unit(unit: str) -> str:
    return "" if unit in ("1", "") else f" {escape(unit)}"


def _state(defect: object, charge: object) -> str:
    return f"{escape(defect)} {format_charge(int(str(charge)))}"


def evaluation(console: Console, done: EntryView) -> None:
    """A finished run: the entry, where its files are, and what to think of it."""
    entry(console, done)
    console.print()
    for paragraph in done.verdict:
        line(console, paragraph, style="bold")
    console.print()
    line(console, f"Report:  {done.folder / REPORT_FILE}")
    line(console, f"Files:   {done.folder}: entry.json, structures.extxyz, figures/, tables/")
    line(console, f"Scores:  defectbench score explain {done.folder}")


def entry(console: Console, view: EntryView) -> None:
    """An entry on one screen: certificate, ground states, scored metrics beside their baselines, what was skipped."""
    r = view.record
    console.rule(escape(f"{r.model.name} on {r.dataset.id} ({r.dataset.level_of_theory}, {r.selection.suite} suite)"))
    if (old := stale(r)) is not None:
        line(console, f"stale: {old}; evaluate again", style="yellow")
    console.print(f"charge response: [bold]{view.charge_class}[/]", highlight=False)
    for warning in r.certificate.get("warnings") or ():
        console.print(f"  [yellow]warning[/]: {escape(warning)}", highlight=False, soft_wrap=True)
    if r.in_domain:
        console.print(f"[yellow]trained on {escape(r.dataset.id)}[/]: not a test of transfer, ranked apart", highlight=False)
    for check in r.certificate.get("checks", ()):
        if not check["passed"]:
            console.print(f"  [yellow]check failed[/]: {escape(check['reason'])}", highlight=False, soft_wrap=True)
    _ground_states(console, view)
    _metrics(console, view)
    by_reason: dict[str, list[str]] = {}
    for state in r.selection.skipped:
        by_reason.setdefault(state.reason, []).append(f"{state.defect} {format_charge(state.charge)}")
    for reason, states in by_reason.items():
        console.print(f"[yellow]skipped[/] ({escape(reason)}): {escape(', '.join(states))}", highlight=False, soft_wrap=True)


_CAUSES = {"none": "–", "host and defect": "both", "wrong minimum": "basin", "no ground state": "open", "cancelling": "luck"}
"""Verdicts of the relax task, in a word."""


def _ground_states(console: Console, view: EntryView) -> None:
    rows = view.record.table("relax", "states", StateRow)
    if not rows:
        return
    columns = [
        Column("state"),
        Column("DFT\nminimum"),
        Column("eV\nabove", "number"),
        Column("found\n0–1", "number"),
        Column("RMSD", "number"),
        Column("local\nRMSD", "number"),
        Column("un-\nrelaxed", "number"),
        Column("cause", "text"),
        Column("con-\nverged", "number"),
    ]
    table(
        console,
        columns,
        [
            [
                _state(row["defect"], row["charge"]),
                *_found(row),
                *(cell(value) for value in (row["ground_state_found"], row["rmsd"], row["local_rmsd"], row["unrelaxed_rmsd"])),
                _CAUSES.get(row["verdict"], cell(row["verdict"])),
                f"{row['converged']}/{row['configurations']}",
            ]
            for row in rows
        ],
        title="Ground states against DFT (RMSD in Å; eV above DFT's; cause of the miss)",
    )


def _found(row: StateRow) -> tuple[str, str]:
    """The DFT minimum that the model's ground state lies in, and how far that is above DFT's ground state."""
    if row["minimum"] is None:
        return "none", "–"
    energy = row["energy_above_ground_state"]
    if energy == 0:
        return "[green]ground[/]", "0"
    return "[red]another[/]", "–" if energy is None else f"[red]{energy:.2f}[/]"


def _metrics(console: Console, view: EntryView) -> None:
    """The metrics that count, task by task, beside the best baseline; what does not apply, in one line per task; the overall score."""
    from defectbench.leaderboard.scores import best_baselines, uninformed

    score = view.score
    per_task, together = best_baselines(view.record.tasks)
    rows, silent, scores = [], [], []
    for task in score.tasks:
        counted = [m for m in task.metrics if m.weight > 0 and m.status in ("scored", "failed")]
        if task.score is None or not counted:
            silent.append((task.task, task.reason or "none of its metrics counts"))
            continue
        baseline = f" (baseline {per_task[task.task]:.2f})" if task.task in per_task else ""
        scores.append(f"{task.task} {task.score:.2f}{baseline}")
        rows.append([f"[bold]{escape(task.task)}[/]", "", "", "", ""])
        for m in counted:
            best = best_baseline(m, uninformed(task.task, view.record.tasks[task.task]))
            better = best is not None and m.value is not None and (m.value < best if m.definition.direction == "lower" else m.value > best)
            rows.append(
                [
                    f"  {escape(m.definition.label)}",
                    "[red]failed[/]" if m.value is None else f"{number(m.value)}{_unit(m.definition.unit)}",
                    f"{number(m.interval[0])} … {number(m.interval[1])}" if m.interval else "",
                    number(best) if best is not None else "",
                    "[green]better[/]" if better else "",
                ]
            )
    if rows:
        columns = [
            Column("metric", "text"), Column("value"), Column("95 % interval"), Column("best\nbaseline", "number"), Column("")
        ]  # fmt: skip
        table(console, columns, rows, title="Metrics that count")
    for name, reason in silent:
        line(console, f"{name}: not scored, {reason}", style="dim")
    if score.overall is not None:
        without = f"; the best baselines without a model: {together:.2f}" if together is not None else ""
        console.print(f"score [bold]{score.overall:.2f}[/] of 1{without}; {escape(', '.join(scores))}", highlight=False, soft_wrap=True)


def score(console: Console, view: EntryView, only: Sequence[str] | None = None) -> None:
    """How a score is computed: every metric's value, anchors, score and weight, task by task.

    Raises:
        UnknownNameError: ``only`` names a task that the entry does not have.
    """
    from defectbench.base.errors import UnknownNameError
    from defectbench.leaderboard.scores import gains
    from defectbench.tasks import get_tasks

    r, found = view.record, view.score
    for name in only or ():
        if name not in view:
            raise UnknownNameError("task of this entry", name, view.tasks)
    console.rule(escape(f"{r.model.name} on {r.dataset.id} ({r.dataset.level_of_theory}, {r.selection.suite} suite)"))
    gained = gains(r.tasks)
    for scored in found.tasks:
        if only and scored.task not in only:
            continue
        task_score(console, scored)
        if (gain := gained.get(scored.task)) is not None:
            result = f"{gain.model:.3f} − {gain.score:.3f} = {gain.value:+.3f}"
            line(console, f"  gain over the baseline '{gain.baseline}', on the metrics that it has: {result}")
    overall(console, found, [task.name for task in get_tasks() if task.weight > 0 and found.task(task.name) is None])


def task_score(console: Console, scored: TaskScore) -> None:
    """One task's metrics, and how they make its score."""
    columns = [
        Column("metric", "text"),
        Column("value (95 % interval)"),
        Column("0 → 1 at", "number"),
        Column("score", "number"),
        Column("weight", "number"),
    ]
    rows: list[list[str]] = []
    why: dict[str, list[str]] = {}
    for m in scored.metrics:
        d = m.definition
        reason = {
            "information": "information, never scored",
            "left out": f"left out: {m.reason}",
            "failed": f"failed, scores 0: {m.reason}",
        }.get(m.status, "shown, not counted" if m.weight == 0 else "")
        if reason:
            why.setdefault(reason, []).append(d.label)
        style = ("", "") if m.counts else ("[dim]", "[/]")
        anchors = "" if d.bad is None or d.good is None else f"{number(d.bad)} → {number(d.good)}"
        values = [
            escape(d.label),
            escape(measured(m)) + (_unit(d.unit) if m.value is not None else ""),
            anchors,
            "" if m.score is None else f"{m.score:.3f}",
            f"{m.weight:g}",
        ]
        rows.append([f"{style[0]}{value}{style[1]}" if value else "" for value in values])
    table(console, columns, rows, title=escape(f"{scored.title} ({scored.task})"))
    for reason, labels in why.items():
        line(console, f"  {reason}: {', '.join(labels)}", style="dim")
    if scored.score is None:
        line(console, f"  {scored.task}: no score ({scored.reason})")
        return
    counted = [m for m in scored.metrics if m.counts]
    terms = " + ".join(f"{m.weight:g} × {m.score:.3f}" for m in counted)
    line(console, f"  {scored.task} = ({terms}) / {sum(m.weight for m in counted):g} = {_with(scored.score, scored.bounds)}")


def _with(value: float, bounds: tuple[float, float] | None) -> str:
    return f"{value:.3f}" + (f" ({bounds[0]:.3f} to {bounds[1]:.3f})" if bounds else "")


def overall(console: Console, found: Score, not_run: Sequence[str]) -> None:
    """How the tasks' scores make the overall score, and what does not count."""
    from defectbench.leaderboard.scores import aspects

    counted = [t for t in found.tasks if t.counts]
    console.print()
    if found.overall is None:
        line(console, "overall: no score, no task counts")
    else:
        terms = " + ".join(f"{t.weight:g} × {t.score:.3f} ({t.task})" for t in counted)
        result = _with(found.overall, found.bounds)
        console.print(
            f"[bold]overall[/] = ({escape(terms)}) / {sum(t.weight for t in counted):g} = [bold]{result}[/]",
            highlight=False,
            soft_wrap=True,
        )
    line(console, f"counted: {found.coverage:.0%} of the declared weight")
    parts = [f"{aspect} {share:.0%} (score {value:.2f})" for aspect, (share, value) in aspects(found).items() if value is not None]
    if parts:
        line(console, f"of that: {', '.join(parts)}")
    for t in found.tasks:
        if not t.counts:
            line(console, f"  not counted: {t.task} ({t.reason if t.score is None else 'weight 0'})")
    if not_run:
        line(console, f"  not in this entry: {', '.join(not_run)}")


def comparison(console: Console, found: Comparison, everything: bool = False) -> None:
    """What changed between two entries: metrics, charge states, levels, and what the gate says."""
    from defectbench.leaderboard import gate

    style = {"better": "green", "worse": "yellow", "regression": "bold red"}
    line(console, f"{found.candidate.name} against {found.baseline.name}", style="bold")
    rows, task = [], ""
    for c in gate.shown(found, everything):
        if c.task != task:
            task = c.task
            rows.append([f"[bold]{escape(task)}[/]", *[""] * 4])
        mark = gate.mark(c)
        marked = escape(mark + (f" ({c.reason})" if c.reason and c.verdict in ("better", "worse") else ""))
        shade = style.get(mark.partition(" ")[0], "dim")
        label = f"  {c.metric.label}" + ("" if c.metric.unit == "1" else f" ({c.metric.unit})")
        between = f"\n[dim]{gate.number(c.interval[0], True)} … {gate.number(c.interval[1], True)}[/]" if c.interval else ""
        numbers = [gate.number(c.baseline), gate.number(c.candidate), gate.number(c.difference, True) + between]
        rows.append([escape(label), *numbers, f"[{shade}]{marked}[/]"])
    if rows:
        headings = ("baseline", "candidate", "change\nand interval")
        columns = [Column("metric", "text"), *(Column(heading, "number") for heading in headings), Column("verdict", "text")]
        table(console, columns, rows)
    if states := gate.moved(found):
        columns = [Column("state"), Column("baseline", "text"), Column("candidate", "text"), Column(""), Column("basins", "text")]
        body = []
        for s in states:
            basins = [*(f"lost {name}" for name in s.lost), *(f"won {name}" for name in s.won)]
            grounds = [escape(gate.ground_state(g)) for g in (s.baseline, s.candidate)]
            shade = style.get(s.direction, "dim")
            body.append([_state(*s.state), *grounds, f"[{shade}]{s.direction}[/]", escape(", ".join(basins))])
        table(console, columns, body, title="Ground states: DFT minimum, RMSD to DFT's ground state")
    if found.found.levels:
        columns = [Column("level"), Column("by"), *(Column(heading, "number") for heading in ("DFT", "baseline", "candidate"))]
        body = [
            [escape(f"{v.defect} {v.level}"), v.by, *(gate.number(x) for x in (v.reference, v.baseline, v.candidate))]
            for v in found.found.levels
        ]
        table(console, columns, body, title="Levels that moved (eV)")
    counts = ", ".join(f"{found.count(v)} {v}" for v in ("better", "worse", "same", "not judged"))
    line(console, f"metrics: {counts}")
    for said in gate.facts(found):
        line(console, said)
    line(console, gate.verdict_line(found), style="bold green" if found.passed else "bold red")


def verification(console: Console, found: Verification) -> None:
    """What verifying an entry found: a line per difference, then what could not be checked."""
    again = f", {found.repeated} calculated again" if found.repeated else ""
    outcome = "nothing differs" if found.passed else f"{len(found.problems)} differences"
    line(console, f"{found.folder}: {outcome} ({found.calculations} calculations{again})", None if found.passed else "red")
    if found.signed_by is not None:
        line(console, f"  signed by {found.signed_by}")
    for problem in found.problems:
        line(console, f"  {problem}")
    for reason in found.unchecked:
        line(console, f"  not checked: {reason}", "dim")
    for note in found.notes:
        line(console, f"  note: {note}")


def submission(console: Console, found: Submission) -> None:
    """What checking an entry for publication found."""
    outcome = "can be added" if not found.problems else f"{len(found.problems)} problems"
    line(console, f"{found.folder}: {outcome} ({len(found.files)} files for {found.place})", "red" if found.problems else None)
    for problem in found.problems:
        line(console, f"  {problem}")
    for reason in found.verification.unchecked:
        line(console, f"  not checked: {reason}", "dim")
    for note in found.verification.notes:
        line(console, f"  note: {note}")


def search_by_soap(console: Console, rows: Sequence[SoapRow]) -> None:
    """The search with minima distinguished by SOAP beside that by the matching, one row per charge state."""
    if not rows:
        line(console, "search by SOAP: no charge state has enough DFT relaxations among the selected starts")
        return
    headings = ["starts", "minima", "by\nSOAP", "ground state\nfound", "by\nSOAP", "minima\nneeded", "by\nSOAP"]
    columns = [Column("state"), *(Column(heading, "number") for heading in headings)]
    body = [[_state(row["defect"], row["charge"]), *(cell(value) for value in list(row.values())[2:])] for row in rows]
    table(console, columns, body, title="Search by SOAP, beside the matching")
    starts = sum(r["candidates"] for r in rows)
    by_matching = [r["found_by_unique"] for r in rows], [r["unique_minima"] for r in rows]
    by_soap = [r["found_by_soap"] for r in rows], [r["soap_minima"] for r in rows]
    for how, (hits, minima) in (("matching", by_matching), ("SOAP", by_soap)):
        found, passed = sum(hits), sum(minima)
        line(console, f"{how}: {found} of {len(rows)} ground states found with {passed} of {starts} DFT relaxations")


def preview(console: Console, found: Preview) -> None:
    """What a run would do."""
    from defectbench.calculations.progress import duration, plan_in_words

    say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    say(f"{found.model} on {found.dataset}: nothing is written, built or downloaded by --dry-run")
    if found.plan is not None:
        for line in plan_in_words(found.plan, found.plan.calculations):
            say(line)
        say("calculations: " + ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in sorted(found.kinds.items())))
        if found.timing is None or found.core_hours is None:
            say(f"cost: about {found.force_calls:,.0f} force calls; no entry of this model says how long one takes")
        else:
            on = f" on {found.timing.processor}" if found.timing.processor else ""
            say(
                f"cost: about {found.force_calls:,.0f} force calls, {found.core_hours:.2g} core-hours ({duration(found.core_hours * 3600)})"
            )
            say(f"  at {found.timing.ms_per_atom:.3g} ms per force call and atom{on}, measured by the entry {found.timing.entry}")
    for need in found.needs or ("build and download: nothing",):
        say(need)
    if found.folder is not None:
        say(f"run folder: {found.folder}" + (" (exists)" if found.folder.is_dir() else ""))


def shard(console: Console, done: ShardDone) -> None:
    """What a shard calculated, and how all are merged."""
    say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    say(f"shard {done.shard}: {done.calculations} calculations in {done.folder}" + (f", {done.failed} failed" if done.failed else ""))
    say(f"when all {done.shard.of} are done: defectbench entries merge {done.folder.parent}/* -o {done.run_folder}")
