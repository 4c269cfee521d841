"""Counts what is said against the charge of published models: from the stored certificates and results, without the models.

    python scripts/count_charge_alarms.py leaderboards

Each certificate is judged again from its measurements, and each run audited again from its results. An alarm is a refusal of the model, a
failed check of the response to charge, or something that the audit found. Warnings (a sign other than DFT's) are counted apart.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from defectbench.entries.folder import read_entry
from defectbench.entries.verification import judge_again
from defectbench.models.certificate import DOUBTS, REFUSED

ALARMS = (*REFUSED, *DOUBTS, "repeatable", "no_stale_results", "order_independent", "batched", "no_hidden_charge")


@dataclass(frozen=True)
class Counted:
    """What is said against an entry's charge.

    Attributes:
        name: folder of the dataset and of the entry.
        model: id.
        charge_class: as judged again; None if the entry has no measurements of a run that can be audited.
        checks: how many checks of the charge were made.
        alarms: those that failed, one line each.
        warnings: one line each.
    """

    name: str
    model: str
    charge_class: str | None
    checks: int = 0
    alarms: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def count(folder: Path) -> Iterator[Counted]:
    """Goes through the entries below a folder."""
    for path in sorted(folder.glob("**/entry.json")):
        entry, name = read_entry(path.parent), str(path.parent.relative_to(folder))
        found = judge_again(path.parent)
        if found is None or found.calls is None:
            yield Counted(name, entry.model.id, None)
            continue
        checks = [check for check in found.checks if check.name in ALARMS]
        alarms = [check.reason for check in checks if not check.passed]
        if (entry.model.charge == "none") != (found.charge_class == "charge-blind"):
            alarms.append(f"{found.charge_class}, and takes the charge as {entry.model.charge}")
        yield Counted(name, entry.model.id, found.charge_class, len(checks), tuple(alarms), found.warnings or ())


def main() -> None:
    """Prints a line per entry and the sums; exit code 1 if there is an alarm."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="of entries, e.g. leaderboards")
    found = list(count(parser.parse_args().folder))
    for one in found:
        said = "; ".join((*one.alarms, *(f"warning: {warning}" for warning in one.warnings))) or "nothing"
        print(f"{one.name}: {one.charge_class or 'not measured'}, {one.checks} checks: {said}")
    measured = [one for one in found if one.charge_class is not None]
    print(
        f"{len(measured)} entries of {len({one.model for one in measured})} models, {sum(one.checks for one in measured)} checks: "
        f"{sum(len(one.alarms) for one in measured)} alarms, {sum(len(one.warnings) for one in measured)} warnings; "
        f"{len(found) - len(measured)} entries without measurements"
    )
    sys.exit(any(one.alarms for one in measured))


if __name__ == "__main__":
    main()
