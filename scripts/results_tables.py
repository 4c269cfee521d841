"""Writes the tables of docs/results.md from the entries of the leaderboard.

python scripts/results_tables.py [--leaderboards leaderboards] [--page docs/results.md] [--check]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import defectbench
from defectbench.base.states import format_charge
from defectbench.base.tables import markdown_table
from defectbench.leaderboard.entry_view import EntryView

FIRST = "sb2se3-vacancies"
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
    parser.add_argument("--leaderboards", type=Path, default=Path("leaderboards"))
    parser.add_argument("--page", type=Path, default=Path("docs/results.md"))
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    options = parser.parse_args()
    entries = entries_of(options.leaderboards / FIRST)
    before = options.page.read_text(encoding="utf-8")
    text = before
    tables = {"models": models(entries), "states": states(entries), "hosts": hosts(options.leaderboards)}
    for name, table in tables.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        head, rest = text.split(begin)
        text = f"{head}{begin}\n\n{table}\n\n{end}{rest.split(end)[1]}"
    if options.check:
        return int(text != before)
    options.page.write_text(text, encoding="utf-8")
    return 0


def entries_of(folder: Path) -> list[EntryView]:
    """The entries of one dataset, best first."""
    found = [defectbench.load_entry(path) for path in sorted(folder.iterdir()) if (path / "entry.json").is_file()]
    return sorted(found, key=lambda entry: -(entry.score.overall or 0.0))


def models(entries: list[EntryView]) -> str:
    """A row per model: score, and what a reader asks first."""
    rows = []
    for entry in entries:
        low, high = entry.score.bounds or (None, None)
        score = "–" if entry.score.overall is None else f"{entry.score.overall:.2f} ({low:.2f} to {high:.2f})"
        rows.append([entry.record.model.name, score, *(number(entry, task, name) for task, name, _ in METRICS)])
    return markdown_table(["model", "score", *(title for *_, title in METRICS)], rows)


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
    return markdown_table(["RMSD (Å)", *frames, "unrelaxed start"], rows)


def hosts(leaderboards: Path) -> str:
    """A row per model that was not trained on the data, a column per dataset: score, and charge states whose ground state it finds."""
    others = sorted({path.parent.parent.name for path in leaderboards.glob("*/*/entry.json")} - {FIRST})
    names = [FIRST, *others]
    found = {name: {e.record.model.name: e for e in entries_of(leaderboards / name) if not e.record.in_domain} for name in names}
    order = [name for dataset in names for name in found[dataset]]
    rows = []
    for model in dict.fromkeys(order):
        cells = []
        for dataset in names:
            entry = found[dataset].get(model)
            if entry is None:
                cells.append("–")
                continue
            states = entry["relax"].to_frame()
            score = "–" if entry.score.overall is None else f"{entry.score.overall:.2f}"
            cells.append(f"{score}, {int(states['success'].fillna(False).sum())} of {len(states)}")
        rows.append([model, *cells])
    return markdown_table(["model", *(f"`{name}`" for name in names)], rows)


if __name__ == "__main__":
    sys.exit(main())
