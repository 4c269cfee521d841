"""Scores an entry again from its stored calculations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from defectbench.base.errors import DefectbenchError, UnknownNameError
from defectbench.base.text import one_line
from defectbench.calculations.plan import SelectedState, make_plan
from defectbench.calculations.requests import PROTOCOL, Protocol
from defectbench.entries.building import training_of
from defectbench.entries.folder import task_record
from defectbench.models.registry import list_models
from defectbench.scoring.run import scoring_input

if TYPE_CHECKING:
    from defectbench.calculations.results import Stored
    from defectbench.datasets.dataset import Dataset
    from defectbench.entries.schema import Entry
    from defectbench.scoring.task import ScoringInput, Task


def rescore(folder: str | Path, dataset: str | Path | Dataset | None = None) -> tuple[Entry, Entry]:
    """Scores an entry again from its stored calculations: no model, no network beyond the dataset.

    Args:
        folder: an entry folder, with ``entry.json`` and ``calculations.json.gz``, or the path of its ``entry.json``.
        dataset: the dataset it was made on, if it is not found by its name.

    Returns:
        The entry as stored, and the same entry with every task scored again, by today's protocol.

    Raises:
        DefectbenchError: the entry or its calculations cannot be read or are damaged, or the dataset is not the one it was made on.
    """
    entry, scored, tasks = stored_scoring(folder, dataset)
    update: dict[str, object] = {"tasks": {task.name: task_record(task.score(scored)) for task in tasks}}
    # the name says how an entry is scored; a relaxation under other settings stays what it is
    protocol = {**entry.provenance.protocol, "name": PROTOCOL.name}
    if protocol == PROTOCOL.to_json():
        update["provenance"] = entry.provenance.model_copy(update={"protocol": protocol})
    definition = next((model for model in list_models() if model.id == entry.model.id), None)
    if entry.model.embedded and definition is not None:
        update["model"] = entry.model.model_copy(update={"training": training_of(definition)})
    return entry, entry.model_copy(update=update)


def stored_scoring(
    folder: str | Path,
    dataset: str | Path | Dataset | None = None,
    *,
    states: Sequence[SelectedState] | None = None,
    tasks: Sequence[str] | None = None,
) -> tuple[Entry, ScoringInput, tuple[Task, ...]]:
    """A stored entry, what its tasks score, and its tasks: for :func:`rescore`, and for looks at an entry beyond its metrics.

    Args:
        folder: an entry folder, with ``entry.json`` and ``calculations.json.gz``, or the path of its ``entry.json``.
        dataset: the dataset it was made on, if it is not found by its name.
        states: a part of the entry's selection; None for all of it.
        tasks: some of the entry's tasks; None for all.

    Raises:
        DefectbenchError: the entry or its calculations cannot be read or are damaged, or the dataset is not the one it was made on.
    """
    from defectbench.entries.folder import entry_folder, read_calculations, read_entry, stored_result
    from defectbench.tasks import get_tasks

    folder = entry_folder(Path(folder))
    entry = read_entry(folder)
    data = dataset_of(dataset, entry.dataset.id)
    if data.id != entry.dataset.id:
        raise DefectbenchError(
            f"{folder} was made on {entry.dataset.id}, not on {data.id}; give that dataset, or none", code="other-dataset"
        )
    if data.sha256 != entry.dataset.sha256:
        raise DefectbenchError(
            f"{folder} was made on another version of {entry.dataset.id} ({entry.dataset.sha256[:12]}…, now {data.sha256[:12]}…); "
            "run 'defectbench evaluate' again",
            code="other-dataset",
        )
    if states is None:
        states = [SelectedState(s.defect, s.charge, tuple(s.configurations)) for s in entry.selection.states]
    skipped = tuple((s.defect, s.charge, s.reason) for s in entry.selection.skipped)
    chosen = get_tasks(entry.selection.tasks if tasks is None else tasks)
    protocol = Protocol(**entry.provenance.protocol)
    plan = make_plan(data, tuple(states), skipped, chosen, takes_charge=entry.model.charge != "none", protocol=protocol)
    content = read_calculations(folder, entry)
    results: dict[str, Stored] = {}
    for calculation in plan.calculations:
        if (found := content.get(calculation.content_hash)) is None:
            continue  # whoever needs it says so
        try:
            results[calculation.content_hash] = stored_result(calculation, found)
        except ValueError as error:
            raise DefectbenchError(
                f"{folder / 'calculations.json.gz'} is damaged: the result {calculation.content_hash[:12]}…: {one_line(error, 300)}; "
                f"run 'defectbench evaluate' with --output {folder} again",
                code="bad-entry",
            ) from error
    scored = scoring_input(
        data,
        plan,
        entry.certificate["charge_class"],
        results,
        certificate=entry.certificate,
    )
    return entry, scored, chosen


def dataset_of(given: str | Path | Dataset | None, name: str) -> Dataset:
    """The dataset that the user gave, loaded or not, or the one of that name that comes with the package.

    Raises:
        DefectbenchError: there is none.
    """
    from defectbench.datasets.catalogue import load_dataset, load_named_dataset
    from defectbench.datasets.dataset import Dataset

    if isinstance(given, Dataset):
        return given
    if given is not None:
        return load_dataset(given)
    try:
        return load_named_dataset(name)
    except UnknownNameError as error:
        raise DefectbenchError(
            f"the dataset '{name}' does not come with defectbench; give its folder with --dataset", code="no-dataset"
        ) from error


def same_metrics(one: Entry, other: Entry, tolerance: float = 1e-6) -> list[str]:
    """Names of the metrics (``task.metric``) whose values differ between two entries by more than a relative tolerance."""
    differences = []
    for task in sorted(one.tasks.keys() | other.tasks.keys()):
        values = [{m.name: m.value for m in e.tasks[task].metrics} if task in e.tasks else {} for e in (one, other)]
        for name in sorted(values[0].keys() | values[1].keys()):
            a, b = values[0].get(name), values[1].get(name)
            same = a == b if a is None or b is None else math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)
            if not same:
                differences.append(f"{task}.{name} ({a} stored, {b} now)")
    return differences
