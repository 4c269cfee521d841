"""``defectbench datasets …``: list, show, fetch, validate and import reference datasets."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from defectbench.cli.groups import group

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

app = group("Reference datasets: host, start structures, DFT minima.")

NameOrFolder = Annotated[str, typer.Argument(metavar="NAME_OR_FOLDER", help="Dataset: name or folder.")]


class ImportFormat(StrEnum):
    """What is imported."""

    auto = "auto"
    shakenbreak = "shakenbreak"
    extxyz = "extxyz"
    doped = "doped"


@app.command("list")
def list_command() -> None:
    """List the datasets that come with defectbench."""
    import defectbench
    from defectbench.cli import render_catalogue
    from defectbench.cli.render import make_console

    render_catalogue.datasets(make_console(), defectbench.list_datasets())


@app.command()
def show(name: NameOrFolder = "sb2se3-vacancies") -> None:
    """Show a dataset: defects, charge states, starts, DFT minima, and what is still missing."""
    import defectbench
    from defectbench.cli import render_catalogue
    from defectbench.cli.render import make_console

    render_catalogue.dataset(make_console(), defectbench.load_dataset(name))


def _advance(progress: Progress, bar: TaskID, done: int, total: int) -> None:
    progress.update(bar, completed=done, total=total)


@app.command()
def fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME_OR_FOLDER...", help="Datasets: names or folders.")],
) -> None:
    """Fetch the files of remote datasets into the cache, each checked by its SHA-256; for machines without a network, do so ahead."""
    from rich.progress import Progress

    from defectbench.cli.render import line, make_console
    from defectbench.datasets.catalogue import dataset_folder, fetch_dataset

    console = make_console()
    for name in names:
        dataset_folder(name)  # a mistake shows before anything is downloaded
    for name in names:
        with Progress(console=console, transient=True) as progress:
            bar = progress.add_task("fetching", total=None)
            found = fetch_dataset(name, partial(_advance, progress, bar))
        if found.folder is None:
            line(console, f"{found.id} is complete as it is; there is nothing to fetch.")
        else:
            line(console, f"{found.id}: {found.files} files in {found.folder} ({found.fetched} fetched now).")


@app.command()
def validate(name: NameOrFolder) -> None:
    """Check a dataset folder. Every problem is named with its file, frame and field; exit code 2 if there is one."""
    import defectbench

    report = defectbench.validate_dataset(name)
    typer.echo(report.summary())
    if not report.valid:
        raise typer.Exit(2)


def _label(what: str, default: str) -> Any:
    return typer.Option(help=f"extxyz: {what}. Default: {default}.")


@app.command("import")
def import_command(
    source: Annotated[list[Path], typer.Argument(help="ShakeNBreak result folder, extxyz files, or doped JSON files.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Dataset folder to make.")],
    host: Annotated[
        Path | None,
        typer.Option("--host", help="Perfect supercell: POSCAR, extxyz or another file that ASE reads. Not needed for doped files."),
    ] = None,
    source_format: Annotated[
        ImportFormat, typer.Option("--format", help="Default: ShakeNBreak for a folder, doped for .json(.gz), else extxyz.")
    ] = ImportFormat.auto,
    dataset_id: Annotated[str | None, typer.Option("--id", help="Name of the dataset. Default: that of the folder.")] = None,
    title: Annotated[str | None, typer.Option(help="Title, one line.")] = None,
    level: Annotated[str, typer.Option(help="Name of the level of theory, e.g. PBE.")] = "DFT",
    functional: Annotated[str | None, typer.Option(help="Name of the functional. Default: the level's name.")] = None,
    code: Annotated[str | None, typer.Option(help="Program and version.")] = None,
    licence: Annotated[str, typer.Option(help="Licence of the data.")] = "unspecified",
    defect: Annotated[str | None, typer.Option(help="extxyz: name of the defect for frames that have none.")] = None,
    charge_key: Annotated[str | None, _label("info key of the total charge of a frame", "charge")] = None,
    energy_key: Annotated[str | None, _label("info key of the energy, eV", "energy")] = None,
    forces_key: Annotated[str | None, _label("array key of the forces, eV/Å", "forces")] = None,
    defect_key: Annotated[str | None, _label("info key of the defect's name", "defect")] = None,
    configuration_key: Annotated[str | None, _label("info key of the configuration", "configuration")] = None,
    step_key: Annotated[str | None, _label("info key of the relaxation step", "step")] = None,
    converged_key: Annotated[str | None, _label("info key of the convergence label", "converged")] = None,
    max_force: Annotated[float | None, _label("largest force (eV/Å) of a minimum without that label", "0.03")] = None,
    starts: Annotated[list[Path] | None, typer.Option(help="extxyz: file with start structures. Repeatable.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the dataset in the output folder.")] = False,
) -> None:
    """Make a dataset of your own results, for 'evaluate --dataset FOLDER'."""
    import defectbench
    from defectbench.cli import render_catalogue
    from defectbench.cli.render import make_console

    labels = {
        "defect": defect,
        "charge_key": charge_key,
        "energy_key": energy_key,
        "forces_key": forces_key,
        "defect_key": defect_key,
        "configuration_key": configuration_key,
        "step_key": step_key,
        "converged_key": converged_key,
        "max_force": max_force,
        "starts": starts or None,
    }
    report = defectbench.import_dataset(
        source,
        host,
        output,
        source_format=source_format.value,
        dataset_id=dataset_id,
        title=title,
        level=level,
        functional=functional,
        code=code,
        licence=licence,
        overwrite=overwrite,
        **{name: value for name, value in labels.items() if value is not None},
    )
    render_catalogue.imported(make_console(), report)
