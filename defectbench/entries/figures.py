"""Figures of an entry, drawn from what the entry holds and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from defectbench.base.files import contained
from defectbench.entries.folder import entry_folder, read_entry
from defectbench.plotting.style import plain
from defectbench.scoring.task import FigureContext, MetricValue, TaskResult

if TYPE_CHECKING:
    from defectbench.entries.schema import Entry, TaskRecord

FIGURES = "figures"
"""The folder of figures in an entry's folder."""


def figure_context(entry: Entry) -> FigureContext:
    """What the figures of an entry say about where their data come from."""
    return FigureContext(
        model=plain(entry.model.name),
        dataset=plain(entry.dataset.id),
        dataset_title=plain(entry.dataset.title),
        suite=entry.selection.suite,
        level=plain(entry.dataset.level_of_theory),
        charge_class=str(entry.certificate["charge_class"]),
    )


def task_result(task: str, record: TaskRecord) -> TaskResult:
    """A task's result as it was before it was written into an entry."""
    tables = {name: tuple(rows) for name, rows in record.tables.items()}
    return TaskResult(
        task=task,
        metrics=tuple(MetricValue(m.name, m.value, m.interval, m.reason, m.applies) for m in record.metrics),
        rows=tables.pop("states", ()),
        baselines=record.baselines,
        notes=tuple(record.notes),
        tables=tables,
    )


def draw_figures(entry: Entry, folder: Path) -> list[Path]:
    """Draws the figures of all tasks of an entry into a folder; tasks that this installation does not have are left out.

    Returns:
        The files written, each figure as PNG and SVG.

    Raises:
        RunError: the folder cannot be written.
    """
    from defectbench.tasks import get_tasks

    context = figure_context(entry)
    return [
        path
        for task in get_tasks()
        if task.name in entry.tasks
        for path in task.draw(task_result(task.name, entry.tasks[task.name]), context, folder)
    ]


def draw_entry(folder: str | Path) -> list[Path]:
    """Draws all figures of an entry again, into ``figures/`` of its folder.

    Args:
        folder: of the entry, or the path of its ``entry.json``.

    Returns:
        The files written, each figure as PNG and SVG.

    Raises:
        DefectbenchError: there is no entry, it cannot be read, or ``figures`` is a link out of the folder.
        RunError: the figures cannot be written.
    """
    home = entry_folder(Path(folder))
    return draw_figures(read_entry(home), contained(home, FIGURES))
