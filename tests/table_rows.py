"""Rows of tables for tests."""

from __future__ import annotations

from typing import Any, TypeVar, get_type_hints

Row = TypeVar("Row")


def make_row(kind: type[Row], **values: Any) -> Row:
    """A row with all columns of its kind: those not given are empty where they may be, else 0, False or an empty text."""
    hints = get_type_hints(kind)
    assert set(values) <= set(hints), set(values) - set(hints)
    empty = {name: hint() if hint in (int, float, bool, str) else None for name, hint in hints.items()}
    return kind(**{**empty, **values})
