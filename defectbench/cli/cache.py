"""``defectbench cache``."""

from __future__ import annotations

from typing import Annotated

import typer

from defectbench.cli.groups import group

app = group(
    "Show what lies in the cache (DEFECTBENCH_CACHE) and how large it is; clear it.", no_args_is_help=False, invoke_without_command=True
)


@app.callback()
def cache(context: typer.Context) -> None:
    """Show what lies in the cache (DEFECTBENCH_CACHE) and how large it is; clear it."""
    if context.invoked_subcommand is not None:
        return
    from defectbench.base.downloads import cache_folder
    from defectbench.cli import render_catalogue as render
    from defectbench.cli.render import line, make_console
    from defectbench.models.cache import cache_contents

    console = make_console()
    line(console, f"{cache_folder()} (set DEFECTBENCH_CACHE to move it)")
    render.cache(console, cache_contents())


@app.command()
def clear(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="environments, weights, datasets or worker.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove everything of one kind from the cache. Runs that use it now fail, and resume when they are given again."""
    from defectbench.base.errors import UnknownNameError
    from defectbench.cli.render import line, make_console
    from defectbench.cli.render_catalogue import size_in_words
    from defectbench.models.cache import KINDS, cache_contents, clear_cache

    if kind not in KINDS:
        raise UnknownNameError("kind of cache", kind, KINDS)
    found = next(content for content in cache_contents() if content.name == kind)
    question = f"Remove {found.files} files, {size_in_words(found.size)}, in {found.folder}?"
    if not yes and not typer.confirm(question):
        raise typer.Exit(1)
    clear_cache(kind)
    line(make_console(), f"removed {size_in_words(found.size)} in {found.folder}")
