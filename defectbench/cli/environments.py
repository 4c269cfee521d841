"""``defectbench environments …``: the managed Python environments of the models."""

from __future__ import annotations

from typing import Annotated

import typer

from defectbench.cli.render import escape, make_console

app = typer.Typer(help="Managed environments: one pinned list of packages each, built once with uv.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="An environment's name, as 'list' shows it.")]


@app.command("list")
def list_command() -> None:
    """List the managed environments, and which of them are built."""
    from rich import box
    from rich.table import Table

    from defectbench.models.environment import list_environments

    table = Table("name", "built", "packages", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("folder", overflow="fold")
    for status in list_environments():
        built = "[green]yes[/green]" if status.built else "no"
        folder = escape(str(status.path)) if status.built else "–"
        table.add_row(status.name, built + (f" ({len(status.outdated)} outdated)" if status.outdated else ""), str(status.packages), folder)
    make_console().print(table)


@app.command()
def create(name: Name) -> None:
    """Build an environment now rather than at the first evaluation."""

    from defectbench.models.environment import create_environment

    console = make_console()
    with console.status("preparing") as status:
        made = create_environment(name, progress=lambda line: status.update(escape(line[:100])))
    console.print(f"{name}: {made.python} ({len(made.packages)} packages)", highlight=False, markup=False)


@app.command()
def remove(name: Name) -> None:
    """Remove an environment, and those of earlier lists of the same name, from the cache."""
    from defectbench.models.environment import remove_environment

    removed = remove_environment(name)
    for folder in removed:
        make_console().print(f"removed {folder}", highlight=False, markup=False)
    if not removed:
        make_console().print(f"{name} is not built; there is nothing to remove", highlight=False, markup=False)
