"""Tables as CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    r"""Flat rows as CSV with a header; columns in the order in which they first appear, an empty cell for None.

    >>> csv_text([{"charge": -3, "energy": None}, {"charge": -2, "energy": 0.5}])
    'charge,energy\n-3,\n-2,0.5\n'
    """
    import pandas as pd

    # as objects: a column of whole numbers stays one when a cell is empty
    return pd.DataFrame(list(rows), dtype=object).to_csv(index=False, lineterminator="\n")
