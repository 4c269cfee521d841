"""What a submitted entry would look like on the leaderboard, for a comment on a pull request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from defectbench.base.files import files_below
from defectbench.base.tables import markdown_table
from defectbench.base.text import markdown as safe
from defectbench.entries.staleness import stale
from defectbench.leaderboard.groups import Ranked, find_entries, group_key
from defectbench.leaderboard.scores import gains, mean_gain, score_results

if TYPE_CHECKING:
    from defectbench.entries.submission import Submission
    from defectbench.leaderboard.scores import Score


def comment(submission: Submission, leaderboards: Path) -> str:
    """Markdown: the entry's row among the entries that it is ranked with, what was checked, and why it is refused.

    Args:
        submission: what was checked.
        leaderboards: folder of the published entries.

    Raises:
        DefectbenchError: a published entry cannot be read.
    """
    from defectbench.entries.folder import read_entry

    entry = submission.entry
    mine = Ranked(submission.folder, entry, score_results(entry.tasks))
    key = group_key(entry)
    others = []
    for folder in find_entries(leaderboards) if files_below(leaderboards, "entry.json") else []:
        other = read_entry(folder)
        if group_key(other) == key and other.model.id != entry.model.id:
            others.append(Ranked(folder, other, score_results(other.tasks)))
    ranked = sorted([mine, *others], key=lambda r: -(r.score.overall if r.score.overall is not None else -1.0))
    data = entry.dataset
    verdict = "✅ can be added" if not submission.problems else f"❌ {len(submission.problems)} problem(s)"
    lines = [
        f"### {safe(entry.model.name)} on {safe(data.id)} ({safe(data.level_of_theory)}, {entry.selection.suite} suite): {verdict}",
        "",
    ]
    rows = []
    for rank, one in enumerate(ranked, 1):
        name = safe(one.entry.model.name)
        gain = mean_gain(gains(one.entry.tasks))
        shown = f"**{name}** (new)" if one is mine else name
        above = "–" if gain is None else f"{gain:+.2f}"
        rows.append([str(rank), shown, safe(one.entry.certificate["charge_class"]), _score(one.score), above, f"{one.score.coverage:.0%}"])
    heading = ["rank", "model", "response to charge", "overall", "above baseline", "counted"]
    lines += [markdown_table(heading, rows, (0, 3, 4, 5)), ""]
    if (old := stale(entry)) is not None:
        lines.append(f"- stale: {safe(old)}")
    found = submission.verification
    lines.append(f"- verified: {found.calculations} calculations checked, {found.repeated} of them run again")
    lines += [f"- not checked: {safe(reason)}" for reason in found.unchecked]
    lines += [f"- **problem**: {safe(problem)}" for problem in submission.problems]
    return "\n".join(lines) + "\n"


def _score(score: Score) -> str:
    if score.overall is None:
        return "–"
    return f"{score.overall:.2f}" + (f" ({score.bounds[0]:.2f} to {score.bounds[1]:.2f})" if score.bounds else "")
