"""``defectbench datasets …``: list, show, fetch, validate and import reference datasets."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from defectbench.base.states import format_charge
from defectbench.cli.render import escape, make_console

if TYPE_CHECKING:
    from rich.console import Console

    from defectbench.datasets.dataset import Dataset
    from defectbench.datasets.importing.assemble import ImportReport
    from defectbench.datasets.schema import DatasetFile

app = typer.Typer(help="Reference datasets: host, start structures, DFT minima.", no_args_is_help=True)

NameOrPath = Annotated[str, typer.Argument(metavar="NAME_OR_PATH", help="A dataset's name or folder.")]


class ImportFormat(StrEnum):
    """What is imported."""

    auto = "auto"
    shakenbreak = "shakenbreak"
    extxyz = "extxyz"


@app.command("list")
def list_command() -> None:
    """List the datasets that come with defectbench."""
    from rich.table import Table

    from defectbench.datasets.catalogue import list_datasets

    table = Table()
    table.add_column("name", no_wrap=True)
    for heading in ("level", "defects", "states", "source", "title"):
        table.add_column(heading, no_wrap=heading in ("level", "source"))
    for entry in list_datasets():
        source = "fetched" if entry.remote_files else "embedded"
        table.add_row(entry.id, entry.level, str(len(entry.defects)), str(entry.states), source, escape(entry.title))
    make_console().print(table)


@app.command()
def show(name: NameOrPath = "sb2se3-vacancies") -> None:
    """Show a dataset: its defects, charge states, starts and DFT minima, and what is still missing."""
    from rich.table import Table

    from defectbench.base.states import is_relaxation
    from defectbench.datasets.catalogue import load_dataset

    dataset = load_dataset(name)
    console = make_console()
    _print_facts(console, dataset)
    table = Table("defect", "charge", "starts", "minima")
    table.add_column("ground state", no_wrap=True)
    table.add_column("E / eV", no_wrap=True, justify="right")
    for defect, charge in dataset.states:
        minima = dataset.minima(defect, charge)
        ground = dataset.ground_state(defect, charge)
        unfinished = sum(is_relaxation(c) and c not in minima for c in dataset.configurations(defect, charge))
        found = f"{len(minima)}" + (f" (+{unfinished} begun)" if unfinished else "")
        lowest = (escape(ground.configuration), f"{ground.energy:.3f}") if ground else ("[dim]no DFT yet[/dim]", "")
        table.add_row(escape(defect), format_charge(charge), str(len(dataset.starts(defect, charge))), found, *lowest)
    console.print(table)
    missing = dataset.states_without_reference()
    if missing:
        console.print(f"{len(missing)} of {len(dataset.states)} charge states have no reference yet; evaluations skip them.")


@app.command()
def fetch(name: NameOrPath) -> None:
    """Fetch the files of a remote dataset into the cache, each checked by its SHA-256."""
    from rich.progress import Progress

    from defectbench.base.downloads import cache_folder
    from defectbench.datasets.catalogue import dataset_folder
    from defectbench.datasets.remote import fetch_all, missing_files
    from defectbench.datasets.schema import METADATA_FILE, parse_metadata

    metadata = parse_metadata(dataset_folder(name) / METADATA_FILE)
    console = make_console()
    if metadata.remote is None:
        console.print(f"{metadata.id} is complete as it is; there is nothing to fetch.")
        return
    before = len(missing_files(metadata))
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("fetching", total=len(metadata.remote.files))
        fetch_all(metadata, lambda done, _: progress.update(bar, completed=done))
    where = cache_folder() / "datasets" / metadata.remote.mirror_folder
    console.print(f"{metadata.id}: {len(metadata.remote.files)} files in {where} ({before} fetched now).", soft_wrap=True, markup=False)


@app.command()
def validate(name: NameOrPath) -> None:
    """Check a dataset folder; every problem is named with its file, frame and field. Exit code 2 if there is one."""
    from defectbench.datasets.catalogue import dataset_folder
    from defectbench.datasets.validation import validate_dataset
    from defectbench.paths import user_path

    path = user_path(name)
    report = validate_dataset(path if path.is_dir() else dataset_folder(name))
    typer.echo(report.summary())
    if not report.valid:
        raise typer.Exit(2)


@app.command("import")
def import_command(
    source: Annotated[list[Path], typer.Argument(help="A ShakeNBreak result folder, or extxyz files.")],
    host: Annotated[Path, typer.Option("--host", help="The perfect supercell: POSCAR, extxyz or another file that ASE reads.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The dataset folder to make.")],
    source_format: Annotated[
        ImportFormat, typer.Option("--format", help="Default: a folder is ShakeNBreak's, a file is extxyz.")
    ] = ImportFormat.auto,
    dataset_id: Annotated[str | None, typer.Option("--id", help="The dataset's name. Default: that of the folder.")] = None,
    title: Annotated[str | None, typer.Option(help="One line.")] = None,
    level: Annotated[str, typer.Option(help="Name of the level of theory, e.g. PBE.")] = "DFT",
    functional: Annotated[str | None, typer.Option(help="Functional in words. Default: the level's name.")] = None,
    code: Annotated[str | None, typer.Option(help="Program and version.")] = None,
    licence: Annotated[str, typer.Option(help="Licence of the data.")] = "unspecified",
    defect: Annotated[str | None, typer.Option(help="extxyz: name of the defect for frames that have none.")] = None,
    charge_key: Annotated[str, typer.Option(help="extxyz: info key of the total charge of a frame.")] = "charge",
    energy_key: Annotated[str, typer.Option(help="extxyz: info key of the energy, eV.")] = "energy",
    forces_key: Annotated[str, typer.Option(help="extxyz: array key of the forces, eV/Å.")] = "forces",
    defect_key: Annotated[str, typer.Option(help="extxyz: info key of the defect's name.")] = "defect",
    configuration_key: Annotated[str, typer.Option(help="extxyz: info key of the configuration.")] = "configuration",
    step_key: Annotated[str, typer.Option(help="extxyz: info key of the relaxation step.")] = "step",
    converged_key: Annotated[str, typer.Option(help="extxyz: info key of the convergence label.")] = "converged",
    max_force: Annotated[float, typer.Option(help="extxyz: largest force (eV/Å) of a minimum without that label.")] = 0.03,
    starts: Annotated[list[Path] | None, typer.Option(help="extxyz: file with start structures. Repeat for more.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the dataset in the output folder.")] = False,
) -> None:
    """Make a dataset of your own results, for 'evaluate --dataset FOLDER'."""
    from defectbench.base.errors import DatasetError
    from defectbench.datasets.importing.labelled_extxyz import import_extxyz
    from defectbench.datasets.importing.shakenbreak import import_shakenbreak
    from defectbench.paths import user_path

    if source_format is ImportFormat.shakenbreak or (source_format is ImportFormat.auto and user_path(source[0]).is_dir()):
        if len(source) > 1:
            raise DatasetError(f"a ShakeNBreak import takes one folder, not {len(source)}")
        report = import_shakenbreak(
            source[0],
            host,
            output,
            dataset_id=dataset_id,
            title=title,
            level=level,
            functional=functional,
            code=code,
            licence=licence,
            overwrite=overwrite,
        )
    else:
        report = import_extxyz(
            source,
            host,
            output,
            starts=starts or (),
            charge_key=charge_key,
            energy_key=energy_key,
            forces_key=forces_key,
            defect_key=defect_key,
            configuration_key=configuration_key,
            step_key=step_key,
            converged_key=converged_key,
            defect=defect,
            max_force=max_force,
            dataset_id=dataset_id,
            title=title,
            level=level,
            functional=functional,
            code=code,
            licence=licence,
            overwrite=overwrite,
        )
    _print_import(report)


def _print_facts(console: Console, dataset: Dataset) -> None:
    from rich.table import Table

    metadata: DatasetFile = dataset.metadata
    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    facts.add_row("name", dataset.id)
    facts.add_row("title", escape(metadata.title))
    if metadata.description:
        facts.add_row("description", escape(metadata.description))
    facts.add_row("host", f"{dataset.host.get_chemical_formula()}, {len(dataset.host)} atoms. {escape(metadata.host.description)}")
    facts.add_row("folder", escape(str(dataset.path)))
    facts.add_row("SHA-256", dataset.sha256)
    facts.add_row("licence", escape(metadata.licence))
    for citation in metadata.citations:
        facts.add_row("cite", escape(citation.text) + escape(f" (doi:{citation.doi})" if citation.doi else ""))
    for name in dataset.levels:
        level = metadata.level(name)
        known = [
            f"host energy {level.host_energy:.3f} eV" if level.host_energy is not None else "no host energy",
            f"VBM {level.band_edges.vbm:.3f} eV" if level.band_edges else "no band edges",
            f"{len(level.chemical_potentials)} sets of chemical potentials" if level.chemical_potentials else "no chemical potentials",
            f"{len(level.corrections)} corrections" if level.corrections else "no corrections",
        ]
        kind = "reference level" if name == dataset.level else "level"
        facts.add_row(kind, f"{escape(name)}: {escape(level.functional)}, {escape(level.code or 'unknown code')}; {', '.join(known)}")
    facts.add_row("dielectric tensor", "given" if metadata.dielectric else "not given")
    console.print(facts)


def _print_import(report: ImportReport) -> None:

    console = make_console()
    states = sum(len(defect.charges) for defect in report.metadata.defects)
    for dropped in report.dropped:
        console.print(f"[yellow]not imported[/yellow] {escape(str(dropped))}", soft_wrap=True, highlight=False)
    for note in report.notes:
        console.print(f"[cyan]note[/cyan] {escape(note)}", soft_wrap=True, highlight=False)
    if report.high_energy:
        console.print(f"{report.high_energy} High_Energy folders skipped", highlight=False)
    console.print(
        f"{report.metadata.id}: {len(report.metadata.defects)} defects, {states} charge states, {report.starts} starts, "
        f"{report.relaxations} relaxations ({report.minima} minima) in {report.path}",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )
