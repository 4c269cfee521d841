"""``defectbench evaluate``, ``rescore`` and ``tasks``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from defectbench.base.states import ChargeState
from defectbench.base.text import one_line
from defectbench.cli.arguments import DeviceName, TrustCode, TrustWeights, path, text
from defectbench.cli.render import escape, make_console

if TYPE_CHECKING:
    from rich.console import Console

    from defectbench.calculations.plan import Plan
    from defectbench.calculations.requests import Calculation
    from defectbench.calculations.results import Result
    from defectbench.calculations.run import Reporter
    from defectbench.entries.schema import Entry
    from defectbench.evaluation import Evaluation

tasks_app = typer.Typer(help="The tasks and their metrics.", no_args_is_help=True)


class SuiteName(StrEnum):
    """Which starts run."""

    quick = "quick"
    full = "full"


def evaluate(
    model: Annotated[
        str, typer.Option("--model", "-m", parser=text, help="A model's name (see 'defectbench models list') or the path of a model YAML.")
    ],
    dataset: Annotated[str, typer.Option("--dataset", "-d", parser=text, help="A dataset's name or folder.")] = "sb2se3-vacancies",
    defect: Annotated[list[str] | None, typer.Option("--defect", help="Only this defect, e.g. V_Sb1. Repeat for more.")] = None,
    charge: Annotated[list[int] | None, typer.Option("--charge", "-q", help="Only this charge, e.g. -3. Repeat for more.")] = None,
    configurations: Annotated[
        list[str] | None, typer.Option("--configurations", "-c", help="Only these starts, e.g. Unperturbed,Dimer. Repeatable.")
    ] = None,
    task: Annotated[list[str] | None, typer.Option("--task", "-t", help="Only this task. Repeat for more.")] = None,
    suite: Annotated[SuiteName, typer.Option(help="'full' runs every start, 'quick' a few of each charge state.")] = SuiteName.full,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", parser=path, help="Run directory; by default defectbench-results/MODEL/DATASET.")
    ] = None,
    device: Annotated[DeviceName, typer.Option(help="Where the model runs.")] = DeviceName.cpu,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes. Default: one a core, or one a GPU with cuda.")] = None,
    environment: Annotated[
        str | None,
        typer.Option(parser=text, help="'current', or the path of a Python environment. Default: the model's managed environment."),
    ] = None,
    model_weights: Annotated[Path | None, typer.Option(parser=path, help="A weights file to use instead of the registered one.")] = None,
    name: Annotated[
        str | None, typer.Option(parser=text, help="Model id with --model-weights. Default: the model's id and the start of their hash.")
    ] = None,
    trust_code: TrustCode = False,
    trust_weights: TrustWeights = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed relaxations again.")] = False,
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="Draw figures.")] = True,
) -> None:
    """Evaluate a model: relax, score, and write an entry with tables, structures and figures."""

    import defectbench
    from defectbench.base.errors import DefectbenchError, Interrupted

    console = make_console()
    names = [part.strip() for item in configurations or [] for part in text(item).split(",") if part.strip()]
    if configurations and not names:
        raise DefectbenchError("--configurations names no start; leave it out for all of the suite")
    try:
        with _LiveReport(console) as reporter:
            done = defectbench.evaluate(
                model,
                dataset,
                defects=defect,
                charges=charge,
                configurations=names or None,
                tasks=task,
                suite=suite.value,
                output=output,
                device=device.value,
                workers=workers,
                environment=environment,
                model_weights=model_weights,
                name=name,
                trust_code=trust_code,
                trust_weights=trust_weights,
                retry_failed=retry_failed,
                figures=figures,
                reporter=reporter,
            )
    except KeyboardInterrupt:
        raise Interrupted("interrupted; what is finished is stored, the same command goes on from there") from None
    print_evaluation(console, done)


def rescore(
    entry: Annotated[Path, typer.Argument(parser=path, help="A folder that 'defectbench evaluate' wrote, or its entry.json.")],
    dataset: Annotated[
        str | None, typer.Option("--dataset", "-d", parser=text, help="The dataset, if it is not found by its name.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if the stored metrics differ.")] = False,
    soap: Annotated[
        bool, typer.Option("--soap", help="Also replay the search with minima told apart by SOAP (needs dscribe); no metric changes.")
    ] = False,
) -> None:
    """Score a finished entry again, without running the model."""

    from defectbench.base.errors import RunError
    from defectbench.base.files import contained
    from defectbench.entries.folder import entry_folder, write_csv, write_rescored
    from defectbench.entries.rescoring import rescore as rescore_entry
    from defectbench.entries.rescoring import same_metrics

    entry = entry_folder(entry)
    by_soap = _search_by_soap(entry, dataset) if soap else []
    old, new = rescore_entry(entry, dataset)
    if check:
        differences = same_metrics(old, new)
        if differences:
            raise RunError(f"{entry}: {len(differences)} metrics differ from those stored, first {differences[0]}")
        typer.echo(f"{entry}: every metric is reproduced")
        if soap:
            _print_search_by_soap(make_console(), by_soap)
        return
    write_rescored(entry, new)
    print_entry(make_console(), new)
    if soap:
        _print_search_by_soap(make_console(), by_soap)
        if by_soap:
            typer.echo(f"written to {write_csv(contained(entry, 'tables/search_soap.csv'), by_soap)}")


def _search_by_soap(entry: Path, dataset: str | None) -> list[dict[str, Any]]:
    from defectbench.entries.rescoring import stored_scoring
    from defectbench.tasks.search.score import soap_table

    return soap_table(stored_scoring(entry, dataset)[1])


def _print_search_by_soap(console: Console, rows: list[dict[str, Any]]) -> None:
    """The search with minima told apart by SOAP beside that by the matching, one row a charge state."""
    from rich import box
    from rich.table import Table

    if not rows:
        console.print("search by SOAP: no charge state has enough DFT relaxations among the selected starts", highlight=False)
        return
    headings = ("defect", "charge", "starts", "minima", "by SOAP", "ground state found", "by SOAP", "minima needed", "by SOAP")
    table = Table(*headings, title="Search by SOAP, beside the matching", title_justify="left", box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*[_cell(value) for value in row.values()])
    console.print(table)
    for how, column, kept in (("matching", "found_by_unique", "unique_minima"), ("SOAP", "found_by_soap", "soap_minima")):
        found, passed = sum(bool(r[column]) for r in rows), sum(int(r[kept]) for r in rows)
        starts = sum(int(r["candidates"]) for r in rows)
        console.print(f"{how}: {found} of {len(rows)} ground states found with {passed} of {starts} DFT relaxations", highlight=False)


@tasks_app.command("list")
def list_tasks() -> None:
    """List the tasks."""
    from rich.table import Table

    from defectbench.tasks import get_tasks

    table = Table("task", "what it asks", "metrics")
    for task in get_tasks(None):
        table.add_row(task.name, escape(task.title), str(len(task.metrics)))
    make_console().print(table)


@tasks_app.command("show")
def show_task(name: Annotated[str, typer.Argument(help="A task's name.")]) -> None:
    """Show a task's description and metrics with their anchors."""
    from rich.table import Table

    from defectbench.tasks import get_tasks

    (task,) = get_tasks([name])
    console = make_console()
    console.print(f"[bold]{escape(task.title)}[/] ({task.name})\n{escape(task.description)}\n")
    table = Table("metric", "unit", "better", "good", "bad", "meaning")
    for m in task.metrics:
        table.add_row(m.name, m.unit, m.direction, _number(m.good), _number(m.bad), escape(m.tooltip))
    console.print(table)


def print_evaluation(console: Console, done: Evaluation) -> None:
    """The result tables and where the files are."""
    from rich.text import Text

    print_entry(console, done.entry)
    written = Text.assemble("\nWritten to ", (str(done.folder), "bold"), ": entry.json, structures.extxyz, figures/, tables/")
    console.print(written, soft_wrap=True)
    console.print(f"How the numbers make a score: defectbench score explain {done.folder}", highlight=False, markup=False, soft_wrap=True)


def print_entry(console: Console, entry: Entry) -> None:
    """What an entry says on one screen: certificate, ground states, scored metrics beside their baselines, what was skipped."""
    from rich import box
    from rich.table import Table

    about = f"{entry.model.name} on {entry.dataset.id} ({entry.dataset.level_of_theory}, {entry.selection.suite} suite)"
    console.rule(escape(about))
    console.print(f"charge response: [bold]{entry.certificate['charge_class']}[/]", highlight=False)
    for check in entry.certificate.get("checks", ()):
        if not check["passed"]:
            console.print(f"  [yellow]check failed[/]: {escape(check['reason'])}", highlight=False)
    relax = entry.tasks.get("relax")
    rows = relax.tables.get("states", []) if relax else []
    if rows:
        table = Table(
            *GROUND_STATE_COLUMNS.values(), title="Ground states against DFT (RMSD in Å)", title_justify="left", box=box.SIMPLE_HEAD
        )
        for row in rows:
            table.add_row(*[_cell(row[name]) for name in GROUND_STATE_COLUMNS])
        console.print(table)
    _print_metrics(console, entry)
    by_reason: dict[str, list[str]] = {}
    for state in entry.selection.skipped:
        by_reason.setdefault(state.reason, []).append(str(ChargeState(state.defect, state.charge)))
    for reason, states in by_reason.items():
        console.print(f"[yellow]skipped[/] ({escape(reason)}): {escape(', '.join(states))}", highlight=False)


GROUND_STATE_COLUMNS = {
    "defect": "defect",
    "charge": "charge",
    "rmsd": "RMSD",
    "local_rmsd": "local",
    "host_referenced_rmsd": "host-ref.",
    "success": "≤ 0.1",
    "verdict": "failure",
    "unrelaxed_rmsd": "unrelaxed",
    "other_charge_rmsd": "other charge",
    "converged": "converged",
    "configurations": "of",
}
"""Columns of the relax task's table that the terminal shows, with their headings."""


def _print_metrics(console: Console, entry: Entry) -> None:
    """The metrics that count, task by task, beside the best baseline; what does not apply, in one line a task; the overall score."""
    from rich import box
    from rich.table import Table

    from defectbench.leaderboard.scores import best_baselines, score_results

    score = score_results(entry.tasks)
    per_task, together = best_baselines(entry.tasks)
    table = Table(box=box.SIMPLE_HEAD, title="Metrics that count", title_justify="left")
    for heading in ("task", "metric", "value", "95 % interval", "best baseline", ""):
        table.add_column(heading, no_wrap=True)
    silent, scores = [], []
    for task in score.tasks:
        counted = [m for m in task.metrics if m.weight > 0 and m.status in ("scored", "failed")]
        if task.score is None or not counted:
            silent.append((task.task, task.reason or "nothing of it counts"))
            continue
        baselines = entry.tasks[task.task].baselines
        scores.append(f"{task.task} {task.score:.2f}" + (f" (baseline {per_task[task.task]:.2f})" if task.task in per_task else ""))
        for number, m in enumerate(counted):
            d = m.definition
            known = [(value, name) for name, v in baselines.items() if (value := v.get(d.name)) is not None]
            best = (min if d.direction == "lower" else max)(known, default=None)
            better = best is not None and m.value is not None and (m.value < best[0] if d.direction == "lower" else m.value > best[0])
            table.add_row(
                "" if number else task.task,
                escape(d.label),
                "failed" if m.value is None else f"{_number(m.value)}{'' if d.unit == '1' else ' ' + d.unit}",
                f"{m.interval[0]:.3g} … {m.interval[1]:.3g}" if m.interval else "",
                _number(best[0]) if best else "",
                "[green]better[/]" if better else "",
            )
    console.print(table)
    for name, reason in silent:
        console.print(f"{name}: not scored, {one_line(reason)}", style="dim", highlight=False, markup=False)
    if score.overall is not None:
        without = f"; the best baselines, without any model: {together:.2f}" if together is not None else ""
        console.print(f"score [bold]{score.overall:.2f}[/] of 1{without}; {', '.join(scores)}", highlight=False)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "[green]yes[/]" if value else "[red]no[/]"
    if isinstance(value, float):
        return f"{value:.3f}"

    return escape(str(value))


class _LiveReport:
    """Turns the run's hooks into a plan, a progress bar with an estimate, and what each worker is doing."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.console = console
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[remaining]}", markup=False),
            console=console,
            refresh_per_second=4,
        )
        self.bar = self.progress.add_task("starting", total=None, remaining="")
        self.started: float | None = None
        self.fresh = 0
        self.failed = 0
        self.steps: dict[str, int] = {}

    def __enter__(self) -> Reporter:
        from defectbench.calculations.run import Reporter

        self.progress.start()
        return Reporter(stage=self.stage, planned=self.planned, progress=self.step, finished=self.finished, note=self.note)

    def __exit__(self, *exc: object) -> None:
        self.progress.update(self.bar, remaining="")
        self.progress.stop()

    def stage(self, text: str) -> None:
        """What begins now."""
        self.progress.update(self.bar, description=text)

    def note(self, text: str) -> None:
        """Prints a line above the bar."""
        self.console.print(one_line(text), highlight=False, markup=False, soft_wrap=True)

    def planned(self, plan: Plan, stored: int) -> None:
        """Prints the plan and starts the bar."""
        import time

        total = len(plan.calculations)
        distinct = len(plan.relaxations) - plan.shared
        text = f"plan: {len(plan.states)} charge states, {len(plan.relaxations)} configurations"
        if plan.shared:
            text += f" ({distinct} distinct starts: the model takes no charge, equal starts run once)"
        text += f", {total - distinct} host and other calculations"
        if stored:
            text += f"; {stored} of {total} are stored already"
        self.console.print(text, highlight=False, soft_wrap=True)
        if plan.skipped:
            self.console.print(f"skipped: {len(plan.skipped)} charge states without a reference (listed at the end)", highlight=False)
        self.started = time.monotonic()
        self.progress.update(self.bar, description="calculating", total=total, completed=stored)

    def step(self, step: int, _energy: float, fmax: float) -> None:
        """Shows the step and the largest force of a running relaxation."""
        self.progress.update(self.bar, description=f"step {step}, fmax {fmax:.3f} eV/Å")

    def finished(self, _calculation: Calculation, result: Result) -> None:
        """Moves the bar and estimates what is left after the first few."""
        import time

        self.fresh += 1
        if result.status == "failed":
            self.failed += 1
            self.console.print(f"[red]failed[/]: {escape(str(result.failure))}", highlight=False, soft_wrap=True)
        self.progress.advance(self.bar)
        task = self.progress.tasks[0]
        if self.fresh >= 3 and self.started is not None and task.total is not None:
            left = (time.monotonic() - self.started) / self.fresh * (task.total - task.completed)
            self.progress.update(self.bar, remaining=f"about {_duration(left)} left" if left else "")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
