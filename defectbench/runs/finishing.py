"""The end of a run: what is calculated is scored and written as an entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from defectbench.base.files import contained
from defectbench.calculations.audit import asked_again, audit, first_questions, with_audit
from defectbench.calculations.results import Stored
from defectbench.entries.building import RunModel, build_entry, write_entry
from defectbench.entries.figures import FIGURES, draw_figures
from defectbench.entries.folder import published, write_calculations
from defectbench.entries.run_folder import remove_foreign_entry, sweep
from defectbench.leaderboard.entry_view import EntryView
from defectbench.leaderboard.report import write_report
from defectbench.scoring.run import scoring_input
from defectbench.tasks import get_tasks

if TYPE_CHECKING:
    from defectbench.calculations.plan import Plan
    from defectbench.calculations.requests import Calculation
    from defectbench.calculations.results import CertificateResult
    from defectbench.calculations.run import Reporter
    from defectbench.datasets.dataset import Dataset
    from defectbench.entries.run_folder import Owner
    from defectbench.entries.schema import Entry
    from defectbench.models.certificate import ChargeCertificate
    from defectbench.scoring.task import Task, TaskResult


@dataclass(frozen=True)
class Certificate:
    """A charge-response certificate: what was asked, the numbers, and what they mean."""

    asked: Calculation
    raw: CertificateResult
    judged: ChargeCertificate


@dataclass(frozen=True)
class Written:
    """An entry, its task results by name, and the files written."""

    entry: Entry
    outcomes: Mapping[str, TaskResult]
    files: tuple[Path, ...]


def finish(
    folder: Path,
    owner: Owner,
    model: RunModel,
    data: Dataset,
    plan: Plan,
    tasks: tuple[Task, ...],
    certificate: Certificate,
    results: Mapping[str, Stored],
    points: Mapping[str, Stored],
    *,
    figures: bool,
    reporter: Reporter,
) -> Written:
    """Scores a finished plan and writes the entry of a locked run folder.

    Args:
        folder: of the run.
        owner: whose results it holds.
        model: that ran.
        data: the dataset.
        plan: what was calculated.
        tasks: that are scored.
        certificate: of the model.
        results: content hash → result, of the whole plan.
        points: content hash → result, of what was calculated again for the audit.
        figures: whether figures are drawn.
        reporter: is told what the audit doubts.

    Raises:
        RunError: something cannot be written.
        DefectbenchError: ``tables`` or ``figures`` is a link out of the folder.
    """
    remove_foreign_entry(folder, model.resolved.identity)
    asked, raw = certificate.asked, certificate.raw
    # judged and scored from what is written, so that anybody who does so again finds the same
    written = write_calculations(folder, plan, {**points, **results, asked.content_hash: Stored(raw)})
    rounded = {c.content_hash: published(c, results[c.content_hash]) for c in plan.calculations}
    again = (*first_questions(asked, plan.ask.takes_charge), *asked_again(plan, rounded))
    repeated = {c.content_hash: published(c, points[c.content_hash]) for c in again if c.content_hash in points}
    judged = with_audit(certificate.judged, audit(plan, {**repeated, **rounded}, certificate.judged, raw, asked))
    for line in judged.doubts:
        reporter.note(line)
    scored = scoring_input(data, plan, judged.charge_class, written, certificate=judged.to_json())
    outcomes = {task.name: task.score(scored) for task in tasks}
    entry = build_entry(owner, model, data, plan, scored, results, outcomes)
    files = write_entry(folder, entry, scored, plan)
    if figures:
        files += draw_figures(entry, contained(folder, FIGURES))
    files.append(write_report(EntryView(entry, folder), data))
    sweep(folder, [task.name for task in get_tasks(None)], files)
    return Written(entry, outcomes, tuple(files))
