"""Lists and facts of models, environments, datasets and tasks, as the command line prints them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import groupby
from typing import TYPE_CHECKING

from defectbench.base.states import format_charge
from defectbench.cli.render import Column, escape, line, number, table

if TYPE_CHECKING:
    from rich.console import Console

    from defectbench.base.listing import Listing
    from defectbench.calculations.checking import Certified
    from defectbench.datasets.catalogue import DatasetSummary
    from defectbench.datasets.dataset import Dataset
    from defectbench.datasets.importing.assemble import ImportReport
    from defectbench.entries.evaluated import Evaluated
    from defectbench.models.cache import CacheKind
    from defectbench.models.environment import EnvironmentStatus
    from defectbench.models.schema import ModelDefinition
    from defectbench.models.weights import VerifiedFile
    from defectbench.scoring.task import Task


def facts(console: Console, rows: Iterable[tuple[str, str]]) -> None:
    """Names and values, one line each; values break where they must."""
    from rich.table import Table

    made = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        made.add_row(name, value)
    console.print(made, highlight=False)


def models(console: Console, found: Listing[ModelDefinition], built: Set[str], entries: Mapping[str, Evaluated] | None) -> None:
    """The registered models, by package.

    Args:
        console: where to.
        found: the models.
        built: names of the environments that are built.
        entries: model → its published entries; None where none are available.
    """
    columns = [Column("model"), Column("size", "number"), Column("training data", "text"), Column("charge")]
    columns += [Column("ms per\natom", "number"), Column("entries", "number")] if entries is not None else []
    rows = []
    for environment, members in groupby(sorted(found, key=lambda m: (m.package, m.id)), key=lambda m: (m.package, m.environment)):
        ready = "built" if environment[1] in built else "not built"
        rows.append([f"[bold]{escape(environment[0])}[/bold] ({ready})", "", "", "", "", ""][: len(columns)])
        for m in members:
            charge = "no" if m.charge.how == "none" else "yes"
            row = [f" {escape(m.id)}" + (" *" if m.requires_trust else ""), _size(m), escape(m.training_data), charge]
            if entries is not None:
                known = entries.get(m.id)
                speed = known.milliseconds_per_atom if known is not None else None
                row += ["–" if speed is None else f"{speed:.2g}", "–" if known is None else str(known.datasets)]
            rows.append(row)
    table(console, columns, rows)
    line(console, "size: million trainable parameters (M), or the weights file where they are not recorded (MB)")
    if entries is not None:
        line(console, "ms per atom: time per force call and atom of the published entries, one thread of their processor")
    line(console, "* SHA-256 unknown; requires --trust-weights. See 'defectbench models show NAME'.")


def _size(m: ModelDefinition) -> str:
    if m.weights.parameters:
        return f"{m.weights.parameters / 1e6:.2f} M"
    return f"{sum(file.size or 0 for file in m.weights.files) / 1e6:.0f} MB" if all(file.size for file in m.weights.files) else "–"


def verified(console: Console, found: Sequence[VerifiedFile]) -> None:
    """Weights files beside what is published about them."""
    for file in found:
        line(console, f"{file.name}: {file.path}")
        for witness in file.witnesses:
            mark = "[green]agrees[/green]" if witness.agrees else "[red]differs[/red]"
            records = f" (independent public records: {witness.records})" if witness.records else ""
            console.print(f"  {mark}  {witness.what} {escape(witness.published)}{records}", highlight=False, soft_wrap=True)
            if not witness.agrees:
                line(console, f"           found {witness.found}")
        if not file.witnesses:
            line(console, f"  nothing is published about it; SHA-256 {file.sha256}")
        if file.refused is not None:
            console.print(f"  [red]refused[/red]  {escape(file.refused)}", highlight=False, soft_wrap=True)


def model(console: Console, m: ModelDefinition) -> None:
    """A model's definition."""
    arguments = "".join(f", {key}={value}" for key, value in m.arguments.items())
    span = f", trained on {format_charge(m.charge.range[0])} to {format_charge(m.charge.range[1])}" if m.charge.range else ""
    claim = f", claims to be {m.charge.claim}" if m.charge.claim else ""
    rows = [
        ("name", m.id),
        ("model", m.name),
        ("package", m.package or "–"),
        ("environment", m.environment),
        ("adapter", f"{m.adapter}{arguments}"),
        ("parameters", f"{m.weights.parameters:,}" if m.weights.parameters else "not recorded"),
        ("level of theory", m.level_of_theory),
        ("training data", m.training_data),
        ("charge", f"{m.charge.how}{span}{claim}"),
        ("licence", m.licence),
    ]
    if m.citation is not None:
        rows.append(("cite", m.citation.text + (f", doi:{m.citation.doi}" if m.citation.doi else "")))
    rows += [("home", m.url)] if m.url else []
    rows += [("notes", m.notes)] if m.notes else []
    facts(console, [(name, escape(value)) for name, value in rows])
    for file in m.weights.files:
        own = f" (charge {format_charge(file.charge)})" if file.charge is not None else ""
        line(console, f"weights {file.url or file.path}{own}")
        line(console, f"SHA-256 {file.sha256 or 'unknown: running it requires --trust-weights'}")
        if file.witnesses:
            line(console, f"  independent public records of it: {file.witnesses}")
        for sha256, reason in file.refused.items():
            line(console, f"refused {sha256}: {reason}")


def certificate(console: Console, found: Certified) -> None:
    """A charge-response certificate."""
    from defectbench.calculations.preparation import network_note

    c, worker = found.certificate, found.worker
    console.print(f"[bold]{escape(found.model.id)}[/bold] is [bold]{c.charge_class}[/bold]", highlight=False)
    zero = c.energies[c.charges.index(0)] if 0 in c.charges else c.energies[0]
    energies = ", ".join(f"{format_charge(q)}: {e - zero:+.4f}" for q, e in zip(c.charges, c.energies, strict=True))
    rows = [
        ("parameters", f"{worker['parameters']:,}" if worker["parameters"] else "not known"),
        ("energy by charge", f"{energies} eV"),
        ("force change", f"{c.force_change:.4f} eV/Å per charge, {c.force_change_relative:.1%} of the largest force"),
    ]
    if c.descriptor_change is not None:
        rows.append(("descriptor change", f"{c.descriptor_change:.2%} of their spread"))
    if c.reference_forces is not None:
        rows.append(("forces against DFT", f"correlation {c.reference_forces:.2f} of what the charge changes"))
    if c.size_ratio is not None:
        rows.append(("doubled cell", f"{c.size_ratio:.3f} times the charge response of the cell"))
    rows.append(("one force call", f"{c.seconds_per_call:.3f} s ({c.atoms} atoms, {worker['threads']} threads)"))
    if c.responses is not None:
        asked = ", ".join(f"{r.defect} ({len(r.charges)})" for r in c.responses)
        rows[-1:] = [("defects (charges)", asked), rows[-1], ("calls of the model", str(c.calls))]
    if c.energy_slope is not None:
        beside = f"; DFT's is {c.reference_slope}" if c.reference_slope else ""
        rows.insert(2, ("energy with the charge", f"{c.energy_slope}{beside}"))
    facts(console, rows)
    for warning in c.warnings or ():
        console.print(f"  [yellow]warning[/yellow]  {escape(warning)}", highlight=False, soft_wrap=True)
    for check in c.checks:
        mark = "[green]passed[/green]" if check.passed else "[red]failed[/red]"
        unit = "" if check.unit == "1" else f" {check.unit}"
        measured = f"[dim]({check.value:.2g} of {check.limit:.2g}{unit})[/dim]"
        console.print(f"  {mark}  {escape(check.reason)} {measured}", highlight=False, soft_wrap=True)
    if note := network_note(found.model, worker.get("network")):
        line(console, f"note: {note}")
    for file in worker["weights"]:
        line(console, f"weights {file['name']}")
        line(console, f"  SHA-256 {file['sha256']}")


def environments(console: Console, found: Sequence[EnvironmentStatus]) -> None:
    """The managed environments."""
    columns = [Column("name"), Column("built"), Column("packages", "number"), Column("torch for"), Column("folder", "text")]
    rows = []
    for status in found:
        built = "[green]yes[/green]" if status.built else "no"
        outdated = f" ({len(status.outdated)} outdated)" if status.outdated else ""
        place = escape(status.path) if status.built else "–"
        rows.append([escape(status.name), built + outdated, str(status.packages), escape(status.torch_backend or "–"), place])
    table(console, columns, rows)


def size_in_words(size: int) -> str:
    """A number of bytes.

    >>> size_in_words(0), size_in_words(2_340_000), size_in_words(6_300_000_000)
    ('0 MB', '2.3 MB', '6.3 GB')
    """
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.2g} MB" if size < 1e7 else f"{size / 1e6:.0f} MB"


def cache(console: Console, found: Sequence[CacheKind]) -> None:
    """What lies in the cache."""
    from defectbench.models.cache import KINDS

    columns = [Column("kind"), Column("size", "number"), Column("files", "number"), Column("content", "text")]
    table(console, columns, [[kind.name, size_in_words(kind.size), str(kind.files), KINDS[kind.name]] for kind in found])


def datasets(console: Console, found: Listing[DatasetSummary]) -> None:
    """The datasets that come with defectbench."""
    columns = [
        Column("name"),
        Column("level"),
        Column("defects", "number"),
        Column("states", "number"),
        Column("data"),
        Column("title", "text"),
    ]
    rows = [
        [escape(d.id), escape(d.level), str(len(d.defects)), str(d.states), "fetched" if d.remote_files else "included", escape(d.title)]
        for d in found
    ]
    table(console, columns, rows)


def dataset(console: Console, data: Dataset) -> None:
    """A dataset: facts, and its charge states with starts and minima."""
    from defectbench.base.states import is_relaxation

    _dataset_facts(console, data)
    columns = [
        Column("state"), Column("starts", "number"), Column("minima", "number"), Column("ground state"), Column("E (eV)", "number")
    ]  # fmt: skip
    rows = []
    for defect, charge in data.states:
        minima, ground = data.minima(defect, charge), data.ground_state(defect, charge)
        begun = sum(is_relaxation(c) and c not in minima for c in data.configurations(defect, charge))
        found = f"{len(minima)}" + (f" (+{begun} begun)" if begun else "")
        lowest = (escape(ground.configuration), f"{ground.energy:.3f}") if ground else ("[dim]no DFT yet[/dim]", "")
        rows.append([f"{escape(defect)} {format_charge(charge)}", str(len(data.starts(defect, charge))), found, *lowest])
    table(console, columns, rows)
    if missing := data.states_without_reference():
        line(console, f"{len(missing)} of {len(data.states)} charge states have no reference yet; evaluations skip them.")


def _dataset_facts(console: Console, data: Dataset) -> None:
    metadata = data.metadata
    rows = [("name", data.id), ("title", metadata.title)]
    rows += [("description", metadata.description)] if metadata.description else []
    rows += [
        ("host", f"{data.host.get_chemical_formula()}, {len(data.host)} atoms. {metadata.host.description}"),
        ("folder", str(data.path)),
        ("SHA-256", data.sha256),
        ("licence", metadata.licence),
    ]
    rows += [("cite", c.text + (f" (doi:{c.doi})" if c.doi else "")) for c in metadata.citations]
    for name in data.levels:
        level = metadata.level(name)
        known = [
            f"host energy {level.host_energy:.3f} eV" if level.host_energy is not None else "no host energy",
            f"VBM {level.band_edges.vbm:.3f} eV" if level.band_edges else "no band edges",
            f"{len(level.chemical_potentials)} sets of chemical potentials" if level.chemical_potentials else "no chemical potentials",
            f"{len(level.corrections)} corrections" if level.corrections else "no corrections",
        ]
        about = f"{name}: {level.functional}, {level.code or 'unknown code'}; {', '.join(known)}"
        rows.append(("reference level" if name == data.level else "level", about))
    rows.append(("dielectric tensor", "given" if metadata.dielectric else "not given"))
    facts(console, [(name, escape(value)) for name, value in rows])


def imported(console: Console, report: ImportReport) -> None:
    """What an import made, left out and assumed."""
    for dropped in report.dropped:
        console.print(f"[yellow]not imported[/yellow] {escape(dropped)}", soft_wrap=True, highlight=False)
    for note in report.notes:
        console.print(f"[cyan]note[/cyan] {escape(note)}", soft_wrap=True, highlight=False)
    if report.high_energy:
        line(console, f"{report.high_energy} High_Energy folders skipped")
    states = sum(len(defect.charges) for defect in report.metadata.defects)
    line(
        console,
        f"{report.metadata.id}: {len(report.metadata.defects)} defects, {states} charge states, {report.starts} starts, "
        f"{report.relaxations} relaxations ({report.minima} minima) in {report.path}",
    )


def tasks(console: Console, found: Sequence[Task]) -> None:
    """The tasks."""
    columns = [Column("task"), Column("question", "text"), Column("metrics", "number")]
    table(console, columns, [[escape(task.name), escape(task.title), str(len(task.metrics))] for task in found])


def task(console: Console, found: Task) -> None:
    """A task's description and metrics."""
    from rich.padding import Padding

    console.print(f"[bold]{escape(found.title)}[/] ({escape(found.name)})\n{escape(found.description)}\n", highlight=False)
    for m in found.metrics:
        unit = "" if m.unit == "1" else f"{escape(m.unit)}, "
        anchors = f"{m.direction} is better, scores 0 at {number(m.bad)} and 1 at {number(m.good)}" if m.good is not None else "information"
        console.print(f"[bold]{escape(m.name)}[/] ({unit}{anchors})", highlight=False)
        console.print(Padding(escape(m.tooltip), (0, 0, 0, 4)), highlight=False)
