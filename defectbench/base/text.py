"""Texts that somebody else wrote, made harmless for where they are shown."""

from __future__ import annotations

import re
import unicodedata

_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that no reader sees: control (ESC, newline), format (writing direction, zero width), surrogates, separators."""
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Characters that steer a terminal or turn the writing direction; all but tab and newline."""
_MARKDOWN = re.compile(r"[\\`*\[\]$~]|(?<!\w)_|_(?!\w)|^(?=[#+\-=])|(?<=^\d)[.)]")
_ENTITY = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def one_line(text: object, limit: int = 2000) -> str:
    """The text on one line, without characters that steer a terminal or hide; white space becomes single spaces.

    >>> one_line("good\\x1b[2K\\nmodel")
    'good?[2K model'

    Args:
        text: anything; its ``str``.
        limit: characters; what is longer ends with ``…``.
    """
    shown = "".join("?" if unicodedata.category(c) in _UNSEEN else c for c in " ".join(str(text).split()))
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def markdown(text: object) -> str:
    """The text as Markdown that shows it: no link, image, HTML, emphasis, formula or second line comes of it.

    >>> markdown("[V_Sb1](javascript:x) *official* <b>")
    '\\\\[V_Sb1\\\\](javascript:x) \\\\*official\\\\* &lt;b&gt;'
    """
    escaped = _MARKDOWN.sub(lambda found: "\\" + found.group(), one_line(text))
    return re.sub(r"&(?=#|\w+;)|[<>]", lambda found: _ENTITY[found.group()], escaped)
