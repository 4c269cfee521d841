"""``defectbench tasks …``."""

from __future__ import annotations

from typing import Annotated

import typer

from defectbench.cli.groups import group

app = group("List and describe tasks.")


@app.command("list")
def list_command() -> None:
    """List the tasks."""
    from defectbench.cli import render_catalogue as render
    from defectbench.cli.render import make_console
    from defectbench.tasks import get_tasks

    render.tasks(make_console(), get_tasks(None))


@app.command()
def show(name: Annotated[str, typer.Argument(metavar="TASK", help="Name of a task.")]) -> None:
    """Describe a task and its metrics, with the values that score 0 and 1."""
    from defectbench.cli import render_catalogue as render
    from defectbench.cli.render import make_console
    from defectbench.tasks import get_tasks

    render.task(make_console(), get_tasks([name])[0])
