"""Writes the tables of docs/results.md from the entries of the leaderboard.

python scripts/results_tables.py [--entries leaderboards/sb2se3-vacancies] [--page docs/results.md] [--check]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import defectbench
from defectbench.base.states import format_charge
from defectbench.leaderboard.entry_view import EntryView

METRICS = [
    ("relax", "rmsd", "RMSD (Å)"),
    ("relax", "ground_state_found", "ground state found"),
    ("pes", "same_minimum", "same minimum as DFT"),
    ("parity", "force_rmse", "force RMSE (eV/Å)"),
    ("parity", "relative_energy_mae", "relative energies (eV)"),
    ("charge_response", "reproduced", "charge response"),
]


def main() -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=Path, default=Path("leaderboards/sb2se3-vacancies"))
    parser.add_argument("--page", type=Path, default=Path("docs/results.md"))
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    options = parser.parse_args()
    entries = [defectbench.load_entry(folder) for folder in sorted(options.entries.iterdir()) if (folder / "entry.json").is_file()]
    entries.sort(key=lambda entry: -(entry.score.overall or 0.0))
    before = options.page.read_text(encoding="utf-8")
    text = before
    for name, table in (("models", models(entries)), ("states", states(entries))):
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        head, rest = text.split(begin)
        text = f"{head}{begin}\n\n{table}\n\n{end}{rest.split(end)[1]}"
    if options.check:
        return int(text != before)
    options.page.write_text(text, encoding="utf-8")
    return 0


def models(entries: list[EntryView]) -> str:
    """A row per model: score, and what a reader asks first."""
    rows = []
    for entry in entries:
        low, high = entry.score.bounds or (None, None)
        score = "–" if entry.score.overall is None else f"{entry.score.overall:.2f} ({low:.2f} to {high:.2f})"
        rows.append([entry.record.model.name, score, *(number(entry, task, name) for task, name, _ in METRICS)])
    return markdown(["model", "score", *(title for *_, title in METRICS)], rows)


def number(entry: EntryView, task: str, name: str) -> str:
    """A metric to two digits."""
    value = entry[task][name].value
    return "–" if value is None else f"{value:.2f}"


def states(entries: list[EntryView]) -> str:
    """RMSD of the ground states: a row per charge state, a column per model; the unrelaxed start last."""
    frames = {entry.record.model.name: entry["relax"].to_frame().set_index(["defect", "charge"]) for entry in entries}
    first = next(iter(frames.values()))
    rows = []
    for (defect, charge), row in first.iterrows():
        found = [frame.loc[(defect, charge), "rmsd"] for frame in frames.values()]
        cells = ["–" if value != value or value is None else f"{value:.2f}" for value in found]
        rows.append([f"{defect} {format_charge(int(charge))}", *cells, f"{row['unrelaxed_rmsd']:.2f}"])
    return markdown(["RMSD (Å)", *frames, "unrelaxed start"], rows)


def markdown(heading: list[str], rows: list[list[str]]) -> str:
    """A table."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
