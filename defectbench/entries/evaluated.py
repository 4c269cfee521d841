"""What published entries say of models at a glance: on how many datasets a model was evaluated, and how fast it is."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path

from defectbench.base.errors import DefectbenchError
from defectbench.base.files import read_bytes

MOST_BYTES = 10_000_000


@dataclass(frozen=True)
class Evaluated:
    """A model's published entries.

    Attributes:
        datasets: number of entries.
        milliseconds_per_atom: time per force call and atom, median over the entries; None where none says it.
    """

    datasets: int
    milliseconds_per_atom: float | None


def evaluated(folder: Path) -> dict[str, Evaluated]:
    """Model → what its entries in ``folder/<dataset>/<model>`` say; only the small tables of costs are read."""
    found: dict[str, list[float | None]] = {}
    for path in sorted(folder.glob("*/*/entry.json")):
        found.setdefault(path.parent.name, []).append(_milliseconds(path.parent / "tables" / "cost.json"))
    out = {}
    for model, speeds in found.items():
        known = [speed for speed in speeds if speed is not None]
        out[model] = Evaluated(len(speeds), statistics.median(known) if known else None)
    return out


def _milliseconds(path: Path) -> float | None:
    try:
        metrics = json.loads(read_bytes(path, MOST_BYTES))["metrics"]
        return next((float(m["value"]) for m in metrics if m["name"] == "milliseconds_per_atom" and m["value"] is not None), None)
    except (OSError, DefectbenchError, RecursionError, LookupError, TypeError, ValueError):  # an entry without that table, or a broken one
        return None
