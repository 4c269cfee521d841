"""What the command line prints: texts of entries, datasets and models appear as text, whatever they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from defectbench.base.text import CONTROL, one_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


def escape(text: object, limit: int = 4000) -> str:
    """A text for rich: on one line, without control characters, its square brackets no markup.

    >>> escape("[bold]x\\x1b[31m")
    '\\\\[bold]x?[31m'
    """
    from rich.markup import escape as escape_markup

    return escape_markup(one_line(text, limit))


def make_console(**options: Any) -> Console:
    """The console of all commands. Control characters in what is printed become ``?``; the styles that rich adds are not concerned.

    Args:
        options: of :class:`rich.console.Console`.
    """
    from rich.console import Console

    class SafeConsole(Console):
        def render_str(self, text: str, **how: Any) -> Text:
            """As of the base class; every string that is printed, in tables and titles too, comes through here."""
            return super().render_str(CONTROL.sub("?", text), **how)

    return SafeConsole(**options)
