"""What to think of an entry, in two short paragraphs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from defectbench.base.states import format_charge
from defectbench.leaderboard.scores import best_baselines, score_results
from defectbench.models.certificate import DOUBTS
from defectbench.tasks.relax.rows import StateRow

if TYPE_CHECKING:
    from defectbench.entries.schema import Entry
    from defectbench.leaderboard.scores import Score

USEFUL, CLOSE = 0.5, 0.8
"""Overall scores from which a model is called useful for a preselection, and close to DFT; see ``docs/scores.md``."""

_CLASSES = {
    "charge-blind": "does not respond to charge. It has one energy surface for all charge states.",
    "energy-only": "changes its energy with the charge, but not its forces. All charge states relax to the same structures.",
    "charge-aware": "responds to charge in energies and forces.",
}


def verdict(entry: Entry) -> tuple[str, str]:
    """Two paragraphs for somebody who reads nothing else: what the model is worth here, and where it fails worst. One fact per sentence.

    Args:
        entry: any entry.

    Example:
        >>> import defectbench
        >>> from defectbench.leaderboard.verdict import verdict
        >>> entry = defectbench.load_entry("leaderboards/sb2se3-vacancies/chgnet-0.3.0")
        >>> print(verdict(entry.record)[0])  # doctest: +ELLIPSIS
        CHGNet 0.3.0 does not respond to charge. ...
    """
    return _worth(entry, score_results(entry.tasks)), _worst(entry, score_results(entry.tasks))


def _worth(entry: Entry, score: Score) -> str:
    said = [f"{entry.model.name} {_CLASSES[str(entry.certificate['charge_class'])]}"]
    said += [f"But {doubt}." for doubt in _doubts(entry.certificate)]
    if score.overall is None:
        return " ".join([*said, "Nothing of this selection can be scored."])
    if entry.in_domain:
        said.append(f"It was trained on {entry.dataset.id} itself.")
    said.append(f"It scores {score.overall:.2f} of 1.")
    without = best_baselines(entry.tasks)[1]
    if without is not None:
        said.append(f"The best baselines without a model score {without:.2f}.")
    return " ".join([*said, _advice(score.overall, without)])


def _advice(score: float, without: float | None) -> str:
    if without is not None and score <= without:
        return "Do not rely on it for these defects."
    if score < USEFUL:
        return "It is far from DFT. Check every structure and energy with DFT."
    if score < CLOSE:
        return "Use it to preselect structures for DFT, not to replace DFT."
    return "It is close to DFT on these defects."


def _doubts(certificate: Mapping[str, Any]) -> list[str]:
    """What speaks against the class: warnings of the certificate, and what the audit of the run found."""
    failed = [str(c["reason"]) for c in certificate.get("checks", ()) if c.get("name") in DOUBTS and not c["passed"]]
    return [*(certificate.get("warnings") or ()), *failed]


def _worst(entry: Entry, score: Score) -> str:
    rows = entry.table("relax", "states", StateRow)
    if not rows:
        counted = [t for t in score.tasks if t.counts and t.score is not None]
        if not counted:
            return "No task of this entry has a score."
        lowest = min(counted, key=lambda t: t.score or 0.0)
        return f"Its weakest task is {lowest.task} ({lowest.score:.2f} of 1)."
    right = sum(row["verdict"] in ("none", "host") for row in rows)
    found = f"It finds DFT's ground state in {right} of {len(rows)} charge states (within 0.1 Å, after its host's drift is subtracted)."
    lost = [row for row in rows if row["rmsd"] is None]
    if lost:
        why = f" ({lost[0]['reason']})" if lost[0]["reason"] else ""
        return f"{found} It has no ground state for {_state(lost[0])}{why}."
    wrong = [(above, row) for row in rows if (above := row["energy_above_ground_state"])]
    if wrong:
        above, worst = max(wrong, key=lambda item: item[0])
        return f"{found} For {_state(worst)} it finds another DFT minimum, {above:.2f} eV above the ground state."
    rmsd, worst = max(((row["rmsd"] or 0.0, row) for row in rows), key=lambda item: item[0])
    start = worst["unrelaxed_rmsd"]
    beside = f" The unrelaxed start has an RMSD of {start:.2f} Å." if start is not None else ""
    return f"{found} The worst is {_state(worst)}, with an RMSD of {rmsd:.2f} Å.{beside}"


def _state(row: StateRow) -> str:
    return f"{row['defect']} {format_charge(row['charge'])}"
