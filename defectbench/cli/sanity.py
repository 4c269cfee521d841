"""``defectbench sanity …``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from defectbench.cli.arguments import (
    DeviceName,
    DeviceOption,
    EnvironmentOption,
    FolderArgument,
    TrustCode,
    TrustWeights,
    WeightsOption,
    path_of,
    several,
    text_of,
)

if TYPE_CHECKING:
    from rich.console import Console

    from defectbench.sanity.record import SanityRecord

app = typer.Typer(help="Defects without a charge: does a model fail at charges, or at defects?", no_args_is_help=True)


@app.command()
def run(
    model: Annotated[
        str,
        typer.Option("--model", "-m", parser=text_of("--model"), metavar="NAME_OR_YAML", help="Model name or path of a model YAML."),
    ],
    system: Annotated[list[str] | None, typer.Option("--system", help="Only these systems, e.g. Si,W. Repeatable.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            parser=path_of("--output"),
            metavar="FOLDER",
            help="Folder of the results. Default: one per model in defectbench-results.",
        ),
    ] = None,
    device: DeviceOption = DeviceName.cpu,
    workers: Annotated[int | None, typer.Option(min=1, help="Number of worker processes. Default: one per core.")] = None,
    environment: EnvironmentOption = None,
    model_weights: WeightsOption = None,
    trust_code: TrustCode = False,
    trust_weights: TrustWeights = False,
) -> None:
    """Relax interstitials and vacancies of Si, W, Mo and Nb without a charge, and compare with the literature.

    An interrupted run resumes when the same command is given again.
    """
    from defectbench.base.errors import Interrupted
    from defectbench.calculations.preparation import ModelOptions
    from defectbench.cli.render import line, make_console
    from defectbench.sanity.run import run_sanity

    console = make_console()
    options = ModelOptions(
        device=device.value, environment=environment, model_weights=model_weights, trust_code=trust_code, trust_weights=trust_weights
    )
    try:
        record, folder = run_sanity(
            model, options, only=several(system, "--system"), output=output, workers=workers, say=lambda said: line(console, said)
        )
    except KeyboardInterrupt:
        raise Interrupted("interrupted; finished calculations are stored, the same command resumes from there") from None
    _show(console, record)
    line(console, f"written to {folder}")


@app.command()
def table(folder: FolderArgument) -> None:
    """Print the results of all models below a folder as one Markdown table."""
    from defectbench.sanity.record import find_records
    from defectbench.sanity.tables import comparison

    typer.echo(comparison(find_records(folder)))


def _show(console: Console, record: SanityRecord) -> None:
    from defectbench.cli.render import Column, escape
    from defectbench.cli.render import table as print_table
    from defectbench.sanity.tables import answer

    columns = [Column("system"), Column("question", "text"), Column("published", "text"), Column("model"), Column("remark", "text")]
    print_table(
        console,
        columns,
        [
            [
                f.system,
                escape(f.question) + (f" ({f.unit})" if f.unit else ""),
                escape(f.published or "–"),
                answer(f),
                escape(f.reason or ""),
            ]
            for f in record.findings
        ],
    )
    console.print(f"{record.passed} of {record.judged} questions right", highlight=False)
