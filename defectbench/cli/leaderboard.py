"""``defectbench score``, ``leaderboard`` and ``compare``: what entries say, computed when it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from defectbench.base.text import one_line
from defectbench.cli.arguments import path, writable_below
from defectbench.cli.render import escape, make_console

if TYPE_CHECKING:
    from rich.console import Console

    from defectbench.leaderboard.comparison import Comparison
    from defectbench.leaderboard.scores import Interval, Score, TaskScore

score_app = typer.Typer(help="Scores, computed from an entry's metrics.", no_args_is_help=True)
app = typer.Typer(help="Leaderboard tables and figures.", no_args_is_help=True)


@score_app.callback()
def _score() -> None:
    pass


@app.callback()
def _leaderboard() -> None:
    pass


@score_app.command("explain")
def explain(
    entry: Annotated[Path, typer.Argument(parser=path, help="A folder that 'defectbench evaluate' wrote.")],
    task: Annotated[list[str] | None, typer.Option("--task", "-t", help="Only this task. Repeat for more.")] = None,
) -> None:
    """Show how an entry's score came about: every metric's value, anchors, score and weight, task by task."""

    from defectbench.base.errors import UnknownNameError
    from defectbench.entries.folder import read_entry
    from defectbench.leaderboard.scores import gains, score_results
    from defectbench.tasks import get_tasks

    content = read_entry(entry)
    score = score_results(content.tasks)
    for name in task or ():
        if score.task(name) is None:
            raise UnknownNameError("task of this entry", name, [t.task for t in score.tasks])
    console = make_console()
    about = f"{content.model.name} on {content.dataset.id} ({content.dataset.level_of_theory}, {content.selection.suite} suite)"
    console.rule(escape(about))
    found = gains(content.tasks)
    for scored in score.tasks:
        if task and scored.task not in task:
            continue
        _print_task(console, scored)
        if scored.task in found:
            gain = found[scored.task]
            result = f"{gain.model:.3f} − {gain.score:.3f} = {gain.value:+.3f}"
            console.print(
                f"  against the baseline '{one_line(gain.baseline)}', on the metrics that it has: {result}", highlight=False, markup=False
            )
    _print_overall(console, score, [task.name for task in get_tasks() if score.task(task.name) is None])


def _print_task(console: Console, scored: TaskScore) -> None:
    from rich.table import Table

    from defectbench.leaderboard.tables import measured, number

    table = Table(
        "metric",
        "value (95 % interval)",
        "unit",
        "0 at",
        "1 at",
        "score",
        "weight",
        "why",
        title=escape(f"{scored.title} ({scored.task})"),
        title_justify="left",
    )
    for m in scored.metrics:
        d = m.definition
        why = m.reason or ""
        if m.status == "information":
            why = "information, never scored"
        elif m.status == "left out":
            why = f"left out: {why}"
        elif m.status == "failed":
            why = f"failed, so 0: {why}"
        elif m.weight == 0:
            why = "shown, not counted"
        table.add_row(
            escape(d.label),
            measured(m),
            "" if d.unit == "1" else d.unit,
            number(d.bad),
            number(d.good),
            "" if m.score is None else f"{m.score:.3f}",
            f"{m.weight:g}",
            escape(why),
            style=None if m.counts else "dim",
        )
    console.print(table)
    if scored.score is None:
        console.print(f"  {scored.task}: no score ({one_line(scored.reason)})", highlight=False, markup=False)
        return
    counted = [m for m in scored.metrics if m.counts]
    terms = " + ".join(f"{m.weight:g} × {m.score:.3f}" for m in counted)
    console.print(
        f"  {scored.task} = ({terms}) / {sum(m.weight for m in counted):g} = {_with(scored.score, scored.bounds)}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _with(score: float, bounds: Interval | None) -> str:
    return f"{score:.3f}" + (f" ({bounds[0]:.3f} to {bounds[1]:.3f})" if bounds else "")


def _print_overall(console: Console, score: Score, not_run: list[str]) -> None:
    counted = [t for t in score.tasks if t.counts]
    left = [t for t in score.tasks if not t.counts]
    console.print()
    if score.overall is None:
        console.print("overall: no score, no task counts", highlight=False)
    else:
        terms = " + ".join(f"{t.weight:g} × {t.score:.3f} ({t.task})" for t in counted)
        console.print(
            f"[bold]overall[/] = ({terms}) / {sum(t.weight for t in counted):g} = [bold]{_with(score.overall, score.bounds)}[/]",
            highlight=False,
            soft_wrap=True,
        )
    console.print(f"counted: {score.coverage:.0%} of the declared weight", highlight=False)
    for t in left:
        console.print(f"  not counted: {t.task} ({one_line(t.reason) if t.score is None else 'weight 0'})", highlight=False, markup=False)
    if not_run:
        console.print(f"  not in this entry: {', '.join(not_run)}", highlight=False)


@app.command("table")
def table(
    folder: Annotated[Path, typer.Argument(parser=path, help="A folder with entries, at any depth.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", parser=path, help="Write the Markdown there, with links, and its figures beside it. Default: print it."
        ),
    ] = None,
) -> None:
    """Write a Markdown leaderboard of all entries below a folder, with figures; baselines are rows, datasets and suites are never mixed."""
    from defectbench.base.errors import DefectbenchError
    from defectbench.base.files import write_text
    from defectbench.leaderboard.groups import find_entries, group_entries
    from defectbench.leaderboard.tables import leaderboard

    if output is None:
        typer.echo(leaderboard(folder), nl=False)
        return
    if output.is_dir():
        raise DefectbenchError(f"{output} is a folder; give the page's file, e.g. {output / 'README.md'}")
    writable_below(output.parent)
    from defectbench.leaderboard.figures import FIGURE_FOLDER, draw_leaderboard

    figures = output.parent / FIGURE_FOLDER
    text = leaderboard(folder, output.parent, figures)
    drawn = draw_leaderboard(group_entries(find_entries(folder)), figures)
    write_text(output, text)
    typer.echo(f"written to {output}" + (f", with {len(drawn)} files in {figures}" if drawn else ""))


@app.command("figure")
def figure(
    folder: Annotated[Path, typer.Argument(parser=path, help="A folder with entries, at any depth.")],
    output: Annotated[Path, typer.Option("--output", "-o", parser=path, help="The folder to draw into.")],
) -> None:
    """Draw accuracy against speed, with the Pareto front, for each group of entries that compare; as PNG and SVG."""
    from defectbench.base.errors import DefectbenchError
    from defectbench.leaderboard.figures import draw_leaderboard
    from defectbench.leaderboard.groups import find_entries, group_entries

    if output.exists() and not output.is_dir():
        raise DefectbenchError(f"{output} is a file; give a folder to draw into")
    writable_below(output)
    groups = group_entries(find_entries(folder))
    drawn = draw_leaderboard(groups, output)
    if not drawn:
        raise DefectbenchError(f"nothing to draw in {folder}: no entry has an overall score and a time; evaluate with the task 'cost'")
    typer.echo(f"written to {output}: {', '.join(path.name for path in drawn)}")


def compare(
    old: Annotated[Path, typer.Argument(parser=path, help="The entry to compare with.")],
    new: Annotated[Path, typer.Argument(parser=path, help="The entry that may be worse.")],
    fail_if_worse: Annotated[
        bool, typer.Option("--fail-if-worse", help="Exit code 1 if any metric is worse beyond the joint interval.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="Show unchanged metrics too.")] = False,
) -> None:
    """Compare two entries of the same data metric by metric, e.g. two versions of a model in CI."""

    from defectbench.base.errors import RunError
    from defectbench.entries.folder import read_entry
    from defectbench.leaderboard.comparison import compare as compare_entries

    found = compare_entries(read_entry(old), read_entry(new))
    _print_comparison(make_console(), found, everything)
    if fail_if_worse and found.worse:
        raise RunError(f"{new} is worse than {old} in {len(found.worse)}: {', '.join(found.worse)}")


def _print_comparison(console: Console, found: Comparison, everything: bool) -> None:
    from rich.table import Table

    from defectbench.leaderboard.tables import number

    table = Table("task", "metric", "old", "new", "change", "allowed", "unit", "verdict")
    style = {"better": "green", "worse": "red", "same": None, "not judged": "dim"}
    for c in found.changes:
        if not everything and c.verdict in ("same", "not judged"):
            continue
        verdict = escape(c.verdict + (f" ({c.reason})" if c.reason and c.verdict != "same" else ""))
        unit = "" if c.metric.unit == "1" else c.metric.unit
        allowed = "" if c.allowed is None else f"±{number(c.allowed)}"
        change = "" if c.difference is None else f"{c.difference:+.3g}"
        table.add_row(c.task, escape(c.metric.label), number(c.old), number(c.new), change, allowed, unit, verdict, style=style[c.verdict])
    if table.row_count:
        console.print(table)
    counts = {v: sum(c.verdict == v for c in found.changes) for v in ("better", "worse", "same", "not judged")}
    console.print(", ".join(f"{n} {v}" for v, n in counts.items()) + " (beyond the joint 95 % interval)", highlight=False)
    console.print(f"charge response: {found.classes[0]} → {found.classes[1]} ({found.charge_class})", highlight=False)
    scores = ["none" if s.overall is None else _with(s.overall, s.bounds) for s in (found.old, found.new)]
    console.print(f"overall score: {scores[0]} → {scores[1]}", highlight=False)
    for note in found.notes:
        console.print(f"note: {one_line(note)}", highlight=False, markup=False)
