"""The values of the site as files: JSON, CSV, Parquet."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from defectbench.base.errors import DefectbenchError
from defectbench.base.tables import csv_text
from defectbench.leaderboard.states import COUNTED

if TYPE_CHECKING:
    from defectbench.leaderboard.view import Site

FORMAT = "defectbench-leaderboard-1"
"""Marks a folder as a site of ours, which may be written again."""

_ABOUT = ("charge_class", "gain", "coverage", "parameters", "training_data", "in_domain", "level_of_theory", "package")
_COST = ("seconds_per_call", "hardware", "not_converged", "relaxations", "date", "superseded_by", "page")


def to_json(site: Site) -> str:
    """All values of the site, with ``format`` in front."""
    return json.dumps({"format": FORMAT, **asdict(site)}, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def board_rows(site: Site) -> list[dict[str, Any]]:
    """The boards as one flat table, a row per board and model or baseline."""
    tasks = list(dict.fromkeys(task for board in site.boards for task in board.tasks))
    out = []
    for board in site.boards:
        for row in board.rows:
            flat: dict[str, Any] = {"dataset": board.dataset, "level": board.level, "suite": board.suite, "board": board.id}
            flat |= {"kind": row.kind, "rank": row.rank, "model": row.model, "name": row.name}
            flat |= {name: getattr(row, name) for name in (*_ABOUT, *_COST)}
            for name, cell in (("overall", row.overall), *((task, row.tasks.get(task)) for task in tasks)):
                values = (cell.score, cell.low, cell.high) if cell else (None, None, None)
                flat |= dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))
            out.append(flat)
    return out


def state_rows(site: Site) -> list[dict[str, Any]]:
    """The models' ground states as one flat table, a row per board, model, defect and charge."""
    out = []
    for page in site.models:
        where = {"board": page.board, "model": page.model, "name": page.name}
        out += [where | _flat(asdict(state)) for state in page.states]
    return out


def _flat(state: dict[str, Any]) -> dict[str, Any]:
    counted = state.pop("counted")
    return state | {f"counted_{metric}": counted.get(metric) for metric in COUNTED}


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Flat rows as CSV; texts that a spreadsheet would run as a formula start with an apostrophe."""
    return csv_text([{name: _harmless(value) for name, value in row.items()} for row in rows])


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def to_parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Flat rows as Parquet.

    Raises:
        DefectbenchError: pyarrow is not installed (code ``no-parquet``).
    """
    import pandas as pd

    out = io.BytesIO()
    try:
        pd.DataFrame(list(rows)).convert_dtypes().to_parquet(out, index=False, engine="pyarrow")
    except ImportError as error:
        raise DefectbenchError("Parquet files need pyarrow; pip install 'defectbench[parquet]'", code="no-parquet") from error
    return out.getvalue()
