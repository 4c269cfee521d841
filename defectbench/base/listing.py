"""Lists that a prompt or notebook shows as a table of one line per item."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")


class Listing(list[T], Generic[T]):
    """A list with a short ``repr``, a table in notebooks, and :meth:`to_frame`.

    Example:
        >>> from defectbench.base.listing import Listing
        >>> Listing([1, 20], lambda n: {"number": n, "digits": len(str(n))})
        number  digits
        1       1
        20      2
    """

    def __init__(self, items: Iterable[T], row: Callable[[T], Mapping[str, object]]) -> None:
        """Args: items, and what is shown of one of them, by column."""
        super().__init__(items)
        self._row = row

    def to_frame(self) -> pd.DataFrame:
        """The table as a pandas frame.

        Example:
            >>> import defectbench
            >>> defectbench.list_datasets().to_frame().loc[0, "name"]
            'cdte-doped'
        """
        import pandas as pd

        return pd.DataFrame([dict(self._row(item)) for item in self])

    def _cells(self) -> list[list[str]]:
        rows = [self._row(item) for item in self]
        return [list(rows[0]), *[["–" if v is None else str(v) for v in row.values()] for row in rows]] if rows else []

    def __repr__(self) -> str:
        cells = self._cells()
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells) or "[]"

    def _repr_html_(self) -> str:
        def line(row: list[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{escape(c)}</{tag}>" for c in row) + "</tr>"

        head, *rows = self._cells() or [[]]
        return f"<table>{line(head, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"
