"""``defectbench environments …``."""

from __future__ import annotations

from typing import Annotated

import typer

from defectbench.cli.arguments import text_of
from defectbench.cli.groups import group

app = group("Managed Python environments of the models: pinned packages, built once with uv.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of an environment, as 'list' shows it.")]


@app.command("list")
def list_command() -> None:
    """List the managed environments and whether they are built."""
    from defectbench.cli import render_catalogue
    from defectbench.cli.render import make_console
    from defectbench.models.environment import list_environments

    render_catalogue.environments(make_console(), list_environments())


@app.command()
def create(
    name: Name,
    torch_backend: Annotated[
        str | None,
        typer.Option(
            "--torch-backend",
            parser=text_of("--torch-backend"),
            metavar="BACKEND",
            help="Build of torch, as uv names it: cpu, cu126, cu128, auto, … An environment with another build is built again. "
            "Default: that of the pinned list with a GPU here, else cpu.",
        ),
    ] = None,
) -> None:
    """Build an environment now rather than at the first evaluation."""
    from defectbench.cli.render import escape, line, make_console
    from defectbench.models.environment import create_environment

    console = make_console()
    with console.status("preparing") as status:
        made = create_environment(name, torch_backend=torch_backend, progress=lambda text: status.update(escape(text[:100])))
    line(console, f"{name}: {made.python} ({len(made.packages)} packages)")


@app.command()
def remove(name: Name) -> None:
    """Remove an environment, and those of earlier lists of the same name, from the cache."""
    from defectbench.cli.render import line, make_console
    from defectbench.models.environment import remove_environment

    console = make_console()
    removed = remove_environment(name)
    for folder in removed:
        line(console, f"removed {folder}")
    if not removed:
        line(console, f"{name} is not built; there is nothing to remove")
