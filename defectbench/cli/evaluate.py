"""``defectbench evaluate``."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from defectbench.cli.arguments import (
    DatasetOption,
    DeviceName,
    DeviceOption,
    EnvironmentOption,
    HeadOption,
    NameOption,
    SuiteName,
    TrustCode,
    TrustWeights,
    WeightsOption,
    path_of,
    several,
    several_charges,
    text_of,
)
from defectbench.cli.compare import EntriesOption, FormatName, FormatOption, ToleranceOption, gate, prepare_gate

if TYPE_CHECKING:
    from defectbench.calculations.executors.dask import OnDask
    from defectbench.datasets.dataset import Dataset


class ExecutorName(StrEnum):
    """What runs calculations."""

    local = "local"
    dask = "dask"


Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        parser=text_of("--model"),
        metavar="NAME_OR_YAML",
        help="Model name (see 'defectbench models list') or path of a model YAML.",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        parser=path_of("--output"),
        metavar="FOLDER",
        help="Run folder. Default: one per model, dataset and selection in defectbench-results.",
    ),
]


def evaluate(
    model: Model,
    dataset: DatasetOption = "sb2se3-vacancies",
    defect: Annotated[list[str] | None, typer.Option("--defect", help="Only these defects, e.g. V_Sb1,V_Se2. Repeatable.")] = None,
    charge: Annotated[list[str] | None, typer.Option("--charge", "-q", help="Only these charges, e.g. -3,-1. Repeatable.")] = None,
    configurations: Annotated[
        list[str] | None, typer.Option("--configurations", "-c", help="Only these starts, e.g. Unperturbed,Dimer. Repeatable.")
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option("--task", "-t", help="Only these tasks, e.g. relax,pes; default,own_lattice adds one. Repeatable.")
    ] = None,
    suite: Annotated[SuiteName, typer.Option(help="'full' runs every start, 'quick' a few per charge state.")] = SuiteName.full,
    output: Output = None,
    device: DeviceOption = DeviceName.cpu,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Number of worker processes. Default: one per CPU core, or one per GPU with --device cuda."),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1, help="Structures per force call, where the model's package takes several. Default: 64 with --device cuda, else 1."
        ),
    ] = None,
    environment: EnvironmentOption = None,
    model_weights: WeightsOption = None,
    name: NameOption = None,
    head: HeadOption = None,
    trust_code: TrustCode = False,
    trust_weights: TrustWeights = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed relaxations again.")] = False,
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="Draw figures.")] = True,
    executor: Annotated[
        ExecutorName, typer.Option("--executor", help="Where calculations run: worker processes here, or a Dask cluster.")
    ] = ExecutorName.local,
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler", parser=text_of("--scheduler"), metavar="ADDRESS", help="With dask: tcp://HOST:PORT, or the scheduler's file."
        ),
    ] = None,
    jobqueue: Annotated[
        Path | None,
        typer.Option(
            "--jobqueue",
            parser=path_of("--jobqueue"),
            metavar="FILE",
            help="With dask: YAML that says how jobs are submitted to Slurm, PBS or SGE. See docs/cluster.md.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan, its estimated cost, and what would be built or downloaded; write nothing.")
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard",
            parser=text_of("--shard"),
            metavar="NUMBER/OF",
            help="Calculate one part of the run only, e.g. 2/8. 'defectbench entries merge' makes the entry of all parts.",
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            parser=text_of("--baseline"),
            metavar="ENTRY_OR_NAME",
            help="Compare with this entry at the end; exit code 1 if the model is worse. See 'defectbench compare'.",
        ),
    ] = None,
    tolerance: ToleranceOption = None,
    entries: EntriesOption = None,
    form: FormatOption = FormatName.text,
    report: Annotated[
        list[Path] | None,
        typer.Option(
            "--report",
            parser=path_of("--report"),
            metavar="FILE",
            help="With --baseline: write the comparison there, as .md, .json, .xml (JUnit) or .txt. Repeatable.",
        ),
    ] = None,
) -> None:
    """Evaluate a model: relax, score, and write an entry with tables, structures, figures and a report.

    An interrupted run resumes when the same command is given again.
    """
    import defectbench
    from defectbench.base.errors import DefectbenchError, Interrupted
    from defectbench.base.text import one_line
    from defectbench.calculations.plan import Shard
    from defectbench.calculations.preparation import ModelOptions
    from defectbench.calculations.progress import LineReport, LiveReport
    from defectbench.cli import render
    from defectbench.runs.preview import preview
    from defectbench.runs.selection import select
    from defectbench.runs.shards import evaluate_shard

    console = render.make_console()
    selection: dict[str, Any] = {
        "defects": several(defect, "--defect"),
        "charges": several_charges(charge),
        "configurations": several(configurations, "--configurations"),
        "tasks": several(task, "--task"),
        "suite": suite.value,
        "output": output,
    }
    of_model: dict[str, Any] = {
        "device": device.value,
        "environment": environment,
        "model_weights": model_weights,
        "name": name,
        "head": head,
        "trust_code": trust_code,
        "trust_weights": trust_weights,
    }
    running: dict[str, Any] = {"workers": workers, "batch": batch, "retry_failed": retry_failed}
    part = None if shard is None else Shard.parse(shard)
    if dry_run:
        render.preview(console, preview(model, dataset, ModelOptions(**of_model), part, **selection))
        return
    data: Dataset | str = dataset
    if baseline is not None:  # a mistake shows before hours of work
        if part is not None:
            raise DefectbenchError("--baseline needs an entry, which a shard does not write; merge the shards, then use 'compare'")
        data, baseline = prepare_gate(baseline, dataset, tolerance, entries, report or ())
    live = LiveReport(console) if console.is_terminal else LineReport(lambda line: typer.echo(one_line(line)))
    try:
        with live as reporter, _place(executor, scheduler, jobqueue, workers, batch) as place:
            if place is not None:
                running["executor"] = place.executor
            if part is not None:
                selected = select(model, dataset, ModelOptions(**of_model), **selection)
                calculated = evaluate_shard(part, selected, **running, reporter=reporter)
            else:
                done = defectbench.evaluate(model, data, **selection, **of_model, **running, figures=figures, reporter=reporter)
    except KeyboardInterrupt:
        raise Interrupted("interrupted; finished calculations are stored, the same command resumes from there") from None
    if part is not None:
        render.shard(console, calculated)
        return
    render.evaluation(console, done)
    if baseline is not None:
        console.print()
        gate(baseline, done, data, tolerance=tolerance, form=form, output=report or ())


def _place(
    executor: ExecutorName, scheduler: str | None, jobqueue: Path | None, workers: int | None, batch: int | None
) -> AbstractContextManager[OnDask | None]:
    """The cluster that calculations run on; nothing for this machine.

    Raises:
        DefectbenchError: options that do not go together, or Dask is not installed.
    """
    from defectbench.base.errors import DefectbenchError

    if executor is ExecutorName.local:
        if scheduler is not None or jobqueue is not None:
            raise DefectbenchError("--scheduler and --jobqueue go with --executor dask")
        return nullcontext()
    if workers is not None:
        raise DefectbenchError("--workers is for this machine; with --executor dask the cluster's workers run the calculations")
    from defectbench.calculations.executors.dask import JobQueue, OnDask

    return OnDask(scheduler, None if jobqueue is None else JobQueue.read(jobqueue), batch)
