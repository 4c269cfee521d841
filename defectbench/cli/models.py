"""``defectbench models …``."""

from __future__ import annotations

from typing import Annotated

import typer

from defectbench.cli.arguments import DatasetOption, DeviceName, DeviceOption, EnvironmentOption, TrustCode, TrustWeights, WeightsOption

app = typer.Typer(help="List, inspect and check models.", no_args_is_help=True)

NameOrYaml = Annotated[str, typer.Argument(metavar="NAME_OR_YAML", help="Model name or path of a model YAML.")]


@app.command("list")
def list_command() -> None:
    """List the registered models."""
    import defectbench
    from defectbench.cli import render_catalogue as render
    from defectbench.cli.render import make_console

    render.models(make_console(), defectbench.list_models())


@app.command()
def show(name: NameOrYaml) -> None:
    """Show a model's definition."""
    import defectbench
    from defectbench.cli import render_catalogue as render
    from defectbench.cli.render import make_console

    render.model(make_console(), defectbench.load_model(name))


@app.command()
def check(
    name: NameOrYaml,
    dataset: DatasetOption = "sb2se3-vacancies",
    environment: EnvironmentOption = None,
    model_weights: WeightsOption = None,
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
            name,
            dataset,
            environment=environment,
            model_weights=model_weights,
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
