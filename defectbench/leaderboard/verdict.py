"""What to think of an entry, in two sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from defectbench.base.states import format_charge
from defectbench.leaderboard.scores import best_baselines, score_results
from defectbench.models.certificate import DOUBTS

if TYPE_CHECKING:
    from defectbench.entries.schema import Entry
    from defectbench.leaderboard.scores import Score

USEFUL, CLOSE = 0.5, 0.8
"""Overall scores from which a model is called useful for a preselection, and close to DFT; see ``docs/scores.md``."""

_CLASSES = {
    "charge-blind": "does not respond to charge, so it has one energy surface for all charge states",
    "energy-only": "changes its energy with the charge but not its forces, so all charge states relax to the same structures",
    "charge-aware": "responds to charge in energies and forces",
}


def verdict(entry: Entry) -> tuple[str, str]:
    """Two sentences for somebody who reads nothing else: what the model is worth here, and where it fails worst.

    Args:
        entry: any entry.

    Example:
        >>> import defectbench
        >>> from defectbench.leaderboard.verdict import verdict
        >>> entry = defectbench.load_entry("leaderboards/sb2se3-vacancies/chgnet-0.3.0")
        >>> print(verdict(entry.record)[0])  # doctest: +ELLIPSIS
        CHGNet 0.3.0 does not respond to charge, so ...
    """
    return _worth(entry, score_results(entry.tasks)), _worst(entry, score_results(entry.tasks))


def _worth(entry: Entry, score: Score) -> str:
    said = f"{entry.model.name} {_CLASSES[str(entry.certificate['charge_class'])]}"
    if doubts := _doubts(entry.certificate):
        said += f" (but {'; '.join(doubts)})"
    if score.overall is None:
        return f"{said}; nothing of this selection can be scored."
    without = best_baselines(entry.tasks)[1]
    if entry.in_domain:
        said += f", and was trained on {entry.dataset.id} itself"
    found = f"{said}; it scores {score.overall:.2f} of 1"
    if without is not None and score.overall <= without:
        return f"{found}, no more than the {without:.2f} of baselines without a model: do not rely on it for these defects."
    beyond = f", above the {without:.2f} of baselines without a model" if without is not None else ""
    if score.overall < USEFUL:
        return f"{found}{beyond}, and is still far from DFT: check every structure and energy with DFT."
    if score.overall < CLOSE:
        return f"{found}{beyond}: useful to preselect structures for DFT, not to replace it."
    return f"{found}{beyond}, close to DFT on these defects."


def _doubts(certificate: Mapping[str, Any]) -> list[str]:
    """What speaks against the class: warnings of the certificate, and what the audit of the run found."""
    failed = [str(c["reason"]) for c in certificate.get("checks", ()) if c.get("name") in DOUBTS and not c["passed"]]
    return [*(certificate.get("warnings") or ()), *failed]


def _worst(entry: Entry, score: Score) -> str:
    relax = entry.tasks.get("relax")
    rows: list[Mapping[str, Any]] = [row for row in (relax.tables.get("states", []) if relax else []) if "energy_above_ground_state" in row]
    if not rows:
        counted = [t for t in score.tasks if t.counts and t.score is not None]
        if not counted:
            return "No task of this entry has a score."
        lowest = min(counted, key=lambda t: t.score or 0.0)
        return f"Its weakest task is {lowest.task} ({lowest.score:.2f} of 1)."
    right = sum(row["verdict"] in ("none", "host") for row in rows)
    found = f"It finds DFT's ground state (within 0.1 Å, its host's drift aside) in {right} of {len(rows)} charge states"
    lost = [row for row in rows if row["rmsd"] is None]
    if lost:
        why = f" ({lost[0]['reason']})" if lost[0].get("reason") else ""
        return f"{found}; it has no ground state for {_state(lost[0])}{why}."
    wrong = [row for row in rows if row["energy_above_ground_state"]]
    if wrong:
        worst = max(wrong, key=lambda row: row["energy_above_ground_state"])
        return f"{found}; for {_state(worst)} it finds another DFT minimum, {worst['energy_above_ground_state']:.2f} eV above it."
    worst = max(rows, key=lambda row: row["rmsd"])
    start = worst.get("unrelaxed_rmsd")
    beside = f"; the unrelaxed start is {start:.2f} Å off" if start is not None else ""
    return f"{found}; the worst is {_state(worst)} (RMSD {worst['rmsd']:.2f} Å{beside})."


def _state(row: Mapping[str, Any]) -> str:
    return f"{row['defect']} {format_charge(row['charge'])}"
