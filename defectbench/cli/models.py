"""``defectbench models …``: list, show and check models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from defectbench.base.states import format_charge
from defectbench.cli.arguments import DeviceName, TrustCode, TrustWeights, path, text
from defectbench.cli.render import escape, make_console

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rich.console import Console

    from defectbench.models.certificate import ChargeCertificate
    from defectbench.models.schema import ModelDefinition

app = typer.Typer(help="Models: what is registered, what a definition says, and whether a model hears the charge.", no_args_is_help=True)

NameOrYaml = Annotated[str, typer.Argument(metavar="NAME_OR_YAML", help="A model's name, or the path of a model YAML.")]


@app.command("list")
def list_command() -> None:
    """List the registered models."""
    from rich import box
    from rich.table import Table

    from defectbench.models.registry import list_models

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("name", "level", "charge"):
        table.add_column(heading, no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("weights", no_wrap=True)
    for model in list_models():
        count = f"{model.weights.parameters:,}" if model.weights.parameters else "–"
        weights = {"package": "in the package", "url": "downloaded", "path": "own file", "none": "none"}[model.weights.source]
        table.add_row(
            model.id, escape(model.level_of_theory), escape(model.charge.how), count, weights + (" *" if model.requires_trust else "")
        )
    console = make_console()
    console.print(table)
    console.print("* SHA-256 not known: needs --trust-weights. 'defectbench models show NAME' says more.")


@app.command()
def show(name: NameOrYaml) -> None:
    """Show what a model's definition says."""
    from defectbench.models.registry import load_model

    _print_definition(make_console(), load_model(name))


@app.command()
def check(
    name: NameOrYaml,
    dataset: Annotated[
        str, typer.Option(parser=text, help="Whose first start and charges the model is asked at: a name or folder.")
    ] = "sb2se3-vacancies",
    environment: Annotated[
        str | None, typer.Option(parser=text, help="'current', or the path of a Python environment; by default the managed one.")
    ] = None,
    model_weights: Annotated[
        Path | None, typer.Option(parser=path, help="Your own weights, a file or folder, instead of the registered ones.")
    ] = None,
    trust_code: TrustCode = False,
    trust_weights: TrustWeights = False,
    device: Annotated[DeviceName, typer.Option(help="Where the model runs.")] = DeviceName.cpu,
) -> None:
    """Print a model's charge-response certificate: what changes with the charge, and whether its forces are sound."""

    from defectbench.calculations.client import WorkerClient, WorkerSpec
    from defectbench.calculations.plan import certificate_calculation, certificate_start
    from defectbench.datasets.catalogue import load_dataset
    from defectbench.models.certificate import check_claim, classify
    from defectbench.models.environment import ensure_environment
    from defectbench.models.registry import definition_folder, load_model, resolve_model
    from defectbench.models.trust import require_trust

    console = make_console()
    definition, folder = load_model(name), definition_folder(name)
    require_trust(
        definition,
        folder=folder,
        environment=environment,
        own_weights=model_weights is not None,
        trust_code=trust_code,
        trust_weights=trust_weights,
    )
    data = load_dataset(dataset)
    with console.status("preparing the environment") as status:
        python = ensure_environment(environment or definition.environment, progress=lambda line: status.update(escape(line[:100])))
        resolved = resolve_model(
            definition,
            weights=model_weights,
            trust_code=trust_code,
            trust_weights=trust_weights,
            device=device.value,
            folder=folder,
            environment=python,
        )
        status.update("loading the model")
        with WorkerClient(WorkerSpec.of(python, resolved)) as worker:
            ready = worker.ready
            status.update("asking it at several charges")
            certificate = classify(worker.calculate(certificate_calculation(definition, *certificate_start(data))).model_dump(mode="json"))
    _print_certificate(console, definition, certificate, ready)
    check_claim(certificate, definition)
    if certificate.failed:
        raise typer.Exit(1)


def _print_definition(console: Console, model: ModelDefinition) -> None:
    from rich.table import Table

    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    facts.add_row("name", model.id)
    facts.add_row("model", escape(model.name))
    facts.add_row("package", escape(model.package) or "–")
    facts.add_row("environment", escape(model.environment))
    facts.add_row("adapter", model.adapter + escape("".join(f", {key}={value}" for key, value in model.arguments.items())))
    facts.add_row("parameters", f"{model.weights.parameters:,}" if model.weights.parameters else "not recorded")
    facts.add_row("level of theory", escape(model.level_of_theory))
    facts.add_row("training data", escape(model.training_data))
    span = f", trained on {format_charge(model.charge.range[0])} to {format_charge(model.charge.range[1])}" if model.charge.range else ""
    facts.add_row("charge", escape(model.charge.how) + span + (f", claims to be {model.charge.claim}" if model.charge.claim else ""))
    facts.add_row("licence", escape(model.licence))
    if model.citation is not None:
        facts.add_row("cite", escape(model.citation.text + (f", doi:{model.citation.doi}" if model.citation.doi else "")))
    if model.url:
        facts.add_row("home", escape(model.url))
    if model.notes:
        facts.add_row("notes", escape(model.notes))
    console.print(facts)
    for file in model.weights.files:
        console.print(f"weights {escape(file.url or file.path)}", highlight=False, soft_wrap=True)
        console.print(f"SHA-256 {file.sha256 or 'not known: running it needs --trust-weights'}", highlight=False, soft_wrap=True)


def _print_certificate(console: Console, model: ModelDefinition, certificate: ChargeCertificate, ready: Mapping[str, Any]) -> None:
    from rich.table import Table

    console.print(f"[bold]{model.id}[/bold] is [bold]{certificate.charge_class}[/bold]", highlight=False)
    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    facts.add_row("parameters", f"{ready['parameters']:,}" if ready["parameters"] else "not known")
    reference = certificate.energies[certificate.charges.index(0)] if 0 in certificate.charges else certificate.energies[0]
    line = ", ".join(f"{format_charge(q)}: {e - reference:+.4f}" for q, e in zip(certificate.charges, certificate.energies, strict=True))
    facts.add_row("energy by charge", f"{line} eV")
    change = f"{certificate.force_change:.4f} eV/Å per charge, {certificate.force_change_relative:.1%} of the largest force"
    facts.add_row("force change", change)
    if certificate.descriptor_change is not None:
        facts.add_row("descriptor change", f"{certificate.descriptor_change:.2%} of their spread")
    if certificate.size_ratio is not None:
        facts.add_row("doubled cell", f"{certificate.size_ratio:.3f} times the charge response of the cell")
    facts.add_row("one force call", f"{certificate.seconds_per_call:.3f} s ({certificate.atoms} atoms, {ready['threads']} thread)")
    console.print(facts, highlight=False)
    for item in certificate.checks:
        mark = "[green]passed[/green]" if item.passed else "[red]failed[/red]"
        unit = "" if item.unit == "1" else f" {item.unit}"
        console.print(
            f"  {mark}  {escape(item.reason)} [dim]({item.value:.2g} of {item.limit:.2g}{unit})[/dim]", highlight=False, soft_wrap=True
        )
    for entry in ready["weights"]:
        console.print(f"weights {escape(entry['name'])}\n  SHA-256 {entry['sha256']}", highlight=False, soft_wrap=True)
