"""Groups of commands. Their help is plain text: to lay it out with rich would take most of the time until it is there."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup


class Group(TyperGroup):
    """Lists its commands with their whole first sentence."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """As the base class, which cuts the sentence to one line."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(400)) for name, command in commands if command is not None])


def group(text: str, **options: Any) -> typer.Typer:
    """An empty group of commands.

    Args:
        text: its help.
        options: of ``typer.Typer``.
    """
    return typer.Typer(help=text, **{"no_args_is_help": True, "cls": Group, "rich_markup_mode": None, **options})
