"""``defectbench evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from defectbench.cli.arguments import (
    DatasetOption,
    DeviceName,
    DeviceOption,
    EnvironmentOption,
    SuiteName,
    TrustCode,
    TrustWeights,
    WeightsOption,
    path_of,
    several,
    several_charges,
    text_of,
)

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
    task: Annotated[list[str] | None, typer.Option("--task", "-t", help="Only these tasks, e.g. relax,pes. Repeatable.")] = None,
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
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            parser=text_of("--name"),
            metavar="ID",
            help="Model id with --model-weights. Default: the model's id and the start of their hash.",
        ),
    ] = None,
    trust_code: TrustCode = False,
    trust_weights: TrustWeights = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed relaxations again.")] = False,
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="Draw figures.")] = True,
) -> None:
    """Evaluate a model: relax, score, and write an entry with tables, structures, figures and a report.

    An interrupted run resumes when the same command is given again.
    """
    import defectbench
    from defectbench.base.errors import Interrupted
    from defectbench.calculations.progress import LineReport, LiveReport
    from defectbench.cli.render import evaluation, make_console

    console = make_console()
    report = LiveReport(console) if console.is_terminal else LineReport(typer.echo)
    try:
        with report as reporter:
            done = defectbench.evaluate(
                model,
                dataset,
                defects=several(defect, "--defect"),
                charges=several_charges(charge),
                configurations=several(configurations, "--configurations"),
                tasks=several(task, "--task"),
                suite=suite.value,
                output=output,
                device=device.value,
                workers=workers,
                batch=batch,
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
        raise Interrupted("interrupted; finished calculations are stored, the same command resumes from there") from None
    evaluation(console, done)
