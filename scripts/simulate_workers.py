"""How well a run would use many workers: recorded times of calculations are dealt to 1 … 1,000 simulated workers.

    python scripts/simulate_workers.py ENTRY… [--copies 1,10,100] [--start 10] [--store 0.005]

Calculations are dealt as a run deals them: in its order (longest first, as far as that is known beforehand), each to the worker that is
free first. ``--copies`` repeats the entry's calculations, as a dataset with so many times the defects would. ``--start`` is what a worker
needs to load the model, ``--store`` what the one parent process needs to read and store a result, both in seconds. The efficiency is the
time of all calculations over the number of workers times the time until all is stored. Prints the table of docs/speed.md, draws its figure,
and writes the numbers to docs/measurements/simulated-workers.json.
"""

from __future__ import annotations

import argparse
import heapq
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from defectbench.base.files import write_text
from defectbench.calculations.plan import SelectedState, longest_first, make_plan
from defectbench.datasets.catalogue import load_dataset
from defectbench.entries.folder import read_calculations, read_entry
from defectbench.tasks import get_tasks

DOCS = Path(__file__).parents[1] / "docs"
WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)


def makespan(seconds: Sequence[float], workers: int, start: float = 0.0, store: float = 0.0) -> float:
    """Seconds until all results are stored.

    Args:
        seconds: of each calculation, in the order in which they are dealt.
        workers: side by side.
        start: seconds until a worker takes its first calculation.
        store: seconds that the parent is busy with one result; meanwhile workers calculate.

    Example:
        >>> makespan([3.0, 2.0, 1.0], 2)
        3.0
        >>> makespan([1.0] * 4, 2, start=1.0, store=0.5)
        4.0
    """
    free = [start] * workers
    ends = []
    for one in seconds:
        ends.append(free[0] + one)
        heapq.heapreplace(free, ends[-1])
    stored = 0.0
    for end in sorted(ends):
        stored = max(stored, end) + store
    return stored


def efficiency(seconds: Sequence[float], workers: int, start: float = 0.0, store: float = 0.0) -> float:
    """The time of all calculations over the workers' time until all results are stored.

    Example:
        >>> efficiency([3.0, 2.0, 1.0], 2)
        1.0
        >>> efficiency([3.0, 2.0, 1.0], 3)
        0.6666666666666666
    """
    return sum(seconds) / (workers * makespan(seconds, workers, start, store))


def recorded(entry: Path) -> list[float]:
    """Processor seconds of an entry's calculations, in the order in which a run deals them."""
    stored = read_entry(entry)
    states = tuple(SelectedState(s.defect, s.charge, tuple(s.configurations)) for s in stored.selection.states)
    takes_charge = stored.model.charge != "none"
    plan = make_plan(load_dataset(stored.dataset.id), states, (), get_tasks(stored.selection.tasks), takes_charge=takes_charge)
    results = read_calculations(entry, stored)
    return [float(results[c.content_hash]["result"]["cpu_s"]) for c in longest_first(plan.calculations) if c.content_hash in results]


def simulate(seconds: Sequence[float], copies: int, start: float, store: float) -> list[dict[str, Any]]:
    """A row per number of workers: the efficiency as a run deals, had it known the times, and without any start-up or storing."""
    dealt = [one for one in seconds for _ in range(copies)]  # the copies of a calculation are equally long, as far as a run knows
    known = sorted(dealt, reverse=True)
    rows = []
    for workers in WORKERS:
        used = {"efficiency": efficiency(dealt, workers, start, store), "times_known": efficiency(known, workers, start, store)}
        row = {"workers": workers, **used, "dealing_alone": efficiency(dealt, workers)}
        rows.append({name: round(value, 4) for name, value in row.items()})
    return rows


def label(run: dict[str, Any]) -> str:
    """What a run is called in the table and the figure."""
    return f"{run['entry']}, {run['calculations']:,} calculations"


def table(runs: list[dict[str, Any]]) -> str:
    """Workers × runs, in Markdown."""
    lines = [f"| workers | {' | '.join(map(label, runs))} |", f"|---:|{'---:|' * len(runs)}"]
    for rows in zip(*(run["rows"] for run in runs), strict=True):
        lines.append(f"| {rows[0]['workers']:,} | {' | '.join(format(row['efficiency'], '.2f') for row in rows)} |")
    return "\n".join(lines)


def draw(runs: list[dict[str, Any]], copies: int) -> list[Path]:
    """The figure; returns its files."""
    from matplotlib.ticker import ScalarFormatter

    from defectbench.plotting.style import COLOURS, COLUMN_WIDTH, figure, headline, save

    colours = dict(zip(dict.fromkeys(run["entry"] for run in runs), ("model", "miss", "good"), strict=False))
    with figure(COLUMN_WIDTH, 3.0) as made:
        axes = made.add_subplot()
        for number, run in enumerate(runs):
            workers, used = [r["workers"] for r in run["rows"]], [r["efficiency"] for r in run["rows"]]
            style = ("o:", "o--", "o-")[number % copies % 3]
            axes.plot(workers, used, style, ms=2.5, color=COLOURS[colours[run["entry"]]], label=label(run))
        axes.axhline(0.95, color=COLOURS["muted"], lw=0.6)
        axes.set(xscale="log", xlabel="workers", ylabel="efficiency", ylim=(0, 1.02))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        made.legend(loc="outside lower left")
        headline(made, "The more there is to calculate, the more workers are used well.", "simulated with recorded times")
        return save(made, DOCS / "images", "simulated-workers")


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entries", type=Path, nargs="+", metavar="ENTRY")
    parser.add_argument("--copies", default="1,10,100")
    parser.add_argument("--start", type=float, default=10.0)
    parser.add_argument("--store", type=float, default=0.005)
    options = parser.parse_args()
    runs = []
    copies = [int(part) for part in options.copies.split(",")]
    for entry in options.entries:
        seconds = recorded(entry)
        for many in copies:
            told = {"entry": entry.name, "calculations": many * len(seconds), "seconds": round(many * sum(seconds), 1)}
            rows = simulate(seconds, many, options.start, options.store)
            runs.append({**told, "longest_s": round(max(seconds), 2), "start_s": options.start, "store_s": options.store, "rows": rows})
    write_text(DOCS / "measurements" / "simulated-workers.json", json.dumps(runs, indent=1) + "\n")
    print(table(runs))
    for path in draw(runs, len(copies)):
        print(path)


if __name__ == "__main__":
    main()
