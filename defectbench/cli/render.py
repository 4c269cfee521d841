"""What the command line prints: texts of entries, datasets and models appear as text, whatever they hold."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape as escape_markup
from rich.text import Text

from defectbench.base.text import CONTROL, one_line


def escape(text: object, limit: int = 2000) -> str:
    """A text for rich: on one line, without control characters, its square brackets no markup.

    >>> escape("[bold]x\\x1b[31m")
    '\\\\[bold]x?[31m'
    """
    return escape_markup(one_line(text, limit))


class SafeConsole(Console):
    """A console that no printed text can steer: control characters become ``?``. The styles that rich adds are not concerned."""

    def render_str(self, text: str, **options: Any) -> Text:
        """As of the base class; every string that is printed, in tables and titles too, comes through here."""
        return super().render_str(CONTROL.sub("?", text), **options)


def console() -> Console:
    """The console of all commands."""
    return SafeConsole()
