"""Tables: flat rows as CSV, their columns' numbers, and texts as Markdown."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    r"""Flat rows as CSV with a header; columns in the order in which they first appear, an empty cell for None.

    >>> csv_text([{"charge": -3, "energy": None}, {"charge": -2, "energy": 0.5}])
    'charge,energy\n-3,\n-2,0.5\n'
    """
    import pandas as pd

    # as objects: a column of whole numbers stays one when a cell is empty
    return pd.DataFrame(list(rows), dtype=object).to_csv(index=False, lineterminator="\n")


def number_in(row: Mapping[str, object], column: str) -> float | None:
    """What a row holds in a column that is chosen at run time; None for what is not a number.

    >>> number_in({"charge": -3, "success": True}, "charge")
    -3.0
    """
    value = row.get(column)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def numbers(rows: Iterable[Mapping[str, object]], column: str) -> tuple[float | None, ...]:
    """A column of a table; None for what is not a number."""
    return tuple(number_in(row, column) for row in rows)


def markdown_table(heading: Sequence[str], rows: Iterable[Sequence[str]], numbers: Collection[int] = ()) -> str:
    r"""A table in Markdown; the columns with these indices are aligned right.

    >>> print(markdown_table(["charge", "energy"], [["−3", "0.1|0.2"]], numbers=[1]))
    | charge | energy |
    |---|---:|
    | −3 | 0.1\|0.2 |
    """

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    marks = "".join("---:|" if column in numbers else "---|" for column in range(len(heading)))
    return "\n".join([line(heading), f"|{marks}", *(line(row) for row in rows)])
