"""``defectbench models …``."""

from __future__ import annotations

from typing import Annotated

import typer

from defectbench.cli.arguments import (
    DatasetOption,
    DeviceName,
    DeviceOption,
    EnvironmentOption,
    HeadOption,
    NameOption,
    TrustCode,
    TrustWeights,
    WeightsOption,
)
from defectbench.cli.groups import group

app = group("List, inspect and check models.")

NameOrYaml = Annotated[str, typer.Argument(metavar="NAME_OR_YAML", help="Model name or path of a model YAML.")]


@app.command("list")
def list_command(
    leaderboards: Annotated[str, typer.Option(help="Folder of published entries; without it their columns are left out.")] = "leaderboards",
) -> None:
    """List the registered models: size, training data, charge, built environments, speed and published entries."""
    import defectbench
    from defectbench.base.paths import full_path
    from defectbench.cli import render_catalogue as render
    from defectbench.cli.render import make_console
    from defectbench.entries.evaluated import evaluated
    from defectbench.models.environment import list_environments

    built = {status.name for status in list_environments() if status.built}
    folder = full_path(leaderboards)
    render.models(make_console(), defectbench.list_models(), built, evaluated(folder) if folder.is_dir() else None)


@app.command()
def show(name: NameOrYaml) -> None:
    """Show a model's definition."""
    import defectbench
    from defectbench.cli import render_catalogue as render
    from defectbench.cli.render import make_console

    render.model(make_console(), defectbench.load_model(name))


@app.command()
def fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME_OR_YAML...", help="Model names or paths of model YAMLs.")],
    trust_weights: TrustWeights = False,
) -> None:
    """Download the weights of models ahead, for machines without a network."""
    import defectbench
    from defectbench.cli.render import line, make_console
    from defectbench.models.weights import fetch_weights

    console = make_console()
    definitions = [defectbench.load_model(name) for name in names]
    for definition in definitions:
        paths = fetch_weights(definition, trust_weights=trust_weights)
        for path in paths:
            line(console, f"{definition.id}: {path}")
        if not paths:
            line(console, f"{definition.id}: nothing to download")


@app.command()
def verify(name: NameOrYaml, model_weights: WeightsOption = None) -> None:
    """Compare a model's weights on this machine with what is published about them: SHA-256, size, git blob.

    Nothing is downloaded or run. Exit code 1: something differs, or nothing is published.
    """
    import defectbench
    from defectbench.base.paths import full_path
    from defectbench.cli import render_catalogue as render
    from defectbench.cli.render import line, make_console
    from defectbench.models.registry import definition_folder
    from defectbench.models.weights import verify_weights

    console = make_console()
    definition = defectbench.load_model(name)
    given = full_path(model_weights) if model_weights is not None else None
    found = verify_weights(definition, given=given, folder=definition_folder(name))
    if not found:
        line(console, f"{definition.id} has no weights files")
    render.verified(console, found)
    if not all(file.passed for file in found):
        raise typer.Exit(1)


@app.command()
def check(
    model: NameOrYaml,
    dataset: DatasetOption = "sb2se3-vacancies",
    environment: EnvironmentOption = None,
    model_weights: WeightsOption = None,
    name: NameOption = None,
    head: HeadOption = None,
    trust_code: TrustCode = False,
    trust_weights: TrustWeights = False,
    device: DeviceOption = DeviceName.cpu,
) -> None:
    """Print a model's charge-response certificate: what changes with the charge, and whether its forces are sound.

    The dataset supplies the test structure and the charges.
    """
    import defectbench
    from defectbench.cli import render_catalogue as render
    from defectbench.cli.render import escape, make_console

    console = make_console()
    with console.status("preparing the environment") as status:
        found = defectbench.certify(
            model,
            dataset,
            environment=environment,
            model_weights=model_weights,
            name=name,
            head=head,
            trust_code=trust_code,
            trust_weights=trust_weights,
            device=device.value,
            progress=lambda text: status.update(escape(text[:100])),
        )
    render.certificate(console, found)
    if found.contradiction is not None:
        raise found.contradiction
    if not found.passed:
        raise typer.Exit(1)
