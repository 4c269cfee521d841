"""What a run is of: the model, the dataset, the charge states, the tasks, and the folder that its results go to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectbench.base.errors import DefectbenchError, UnknownNameError
from defectbench.base.states import format_charge
from defectbench.calculations.plan import DEFAULT_DATASET, Suite, make_plan, select_states
from defectbench.calculations.run import Reporter, tell_losses
from defectbench.entries.run_folder import Owner, neighbours, take_over
from defectbench.tasks import default_tasks, named_tasks

if TYPE_CHECKING:
    from defectbench.calculations.plan import Plan, SelectedState
    from defectbench.calculations.preparation import ChosenModel, ModelOptions
    from defectbench.calculations.store import ResultStore
    from defectbench.datasets.dataset import Dataset
    from defectbench.models.schema import ModelDefinition
    from defectbench.scoring.task import Task

DEFAULT_OUTPUT = Path("defectbench-results")

MOST_WORKERS = 1024
MOST_STRUCTURES = 4096
"""Of a batch."""


@dataclass(frozen=True)
class Selected:
    """A run that may begin; nothing is built, downloaded or written for it yet.

    Attributes:
        chosen: the model.
        data: the dataset.
        tasks: that will be scored.
        states: the charge states that run.
        skipped: (defect, charge, reason) of those selected that do not.
        owner: whose results these are.
        folder: of the run.
        default_folder: whether that is the default one.
    """

    chosen: ChosenModel
    data: Dataset
    tasks: tuple[Task, ...]
    states: tuple[SelectedState, ...]
    skipped: tuple[tuple[str, int, str], ...]
    owner: Owner
    folder: Path
    default_folder: bool

    @property
    def defects(self) -> list[str]:
        """The defects that run."""
        return list(dict.fromkeys(s.defect for s in self.states))

    @property
    def charge_states(self) -> list[tuple[str, int]]:
        """(defect, charge) of what runs."""
        return [(s.defect, s.charge) for s in self.states]

    def plan(self) -> Plan:
        """What the run calculates."""
        takes_charge = self.chosen.definition.charge.how != "none"
        return make_plan(self.data, self.states, self.skipped, self.tasks, takes_charge=takes_charge)


def select(
    model: Any,
    dataset: str | Path | Dataset = DEFAULT_DATASET,
    options: ModelOptions | None = None,
    *,
    defects: Sequence[str] | None = None,
    charges: Sequence[int] | None = None,
    configurations: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    suite: Suite = "full",
    output: str | Path | None = None,
) -> Selected:
    """What a run is of; the arguments are those of :func:`defectbench.evaluate`.

    Raises:
        DefectbenchError: bad input (unknown names, an unusable dataset, code or weights that are not trusted).
    """
    from defectbench.calculations.preparation import ModelOptions, choose_model
    from defectbench.datasets.catalogue import load_dataset
    from defectbench.datasets.dataset import Dataset

    if suite not in ("quick", "full"):
        raise UnknownNameError("suite", suite, ("quick", "full"))
    for name, values in {"defects": defects, "charges": charges, "configurations": configurations}.items():
        if values is not None and not values:
            raise DefectbenchError(f"{name} is an empty list; omit it for all, or name some", code="empty-value")
    chosen = choose_model(model, options or ModelOptions())
    chosen_tasks = named_tasks(tasks)
    data = dataset if isinstance(dataset, Dataset) else load_dataset(dataset)
    states, skipped = select_states(data, defects, charges, configurations, suite)
    _refuse_charges_outside(chosen.definition, states)
    chosen_suite = "custom" if (configurations or defects or charges) else suite
    owner = Owner.of_run(chosen.definition.id, data.id, chosen_suite, [task.name for task in chosen_tasks], states)
    folder = Path(output) if output is not None else owner.folder(DEFAULT_OUTPUT, [task.name for task in default_tasks()])
    return Selected(chosen, data, chosen_tasks, states, skipped, owner, folder, output is None)


def _refuse_charges_outside(definition: ModelDefinition, states: Sequence[SelectedState]) -> None:
    """Refuses a selection of which the model could answer nothing, as its definition has it."""
    if definition.charge.how == "none" or definition.charges_among(s.charge for s in states):
        return
    bounds, own = definition.charge.range, definition.charges_of_weights
    takes = (
        f"takes charges {format_charge(bounds[0])} to {format_charge(bounds[1])} (charge.range)"
        if bounds is not None
        else f"has weights for the charges {', '.join(map(format_charge, own))}"
    )
    selected = ", ".join(format_charge(charge) for charge in sorted({s.charge for s in states}))
    raise DefectbenchError(
        f"{definition.id} {takes}, and none of those selected ({selected}); choose others with --charge", code="nothing-to-run"
    )


def refuse_numbers(workers: int | None, batch: int | None) -> None:
    """Refuses numbers of workers and structures that cannot be meant.

    Raises:
        DefectbenchError: they are too small or too large.
    """
    if workers is not None and not 1 <= workers <= MOST_WORKERS:
        raise DefectbenchError(f"workers must be 1 to {MOST_WORKERS}, not {workers}")
    if batch is not None and not 1 <= batch <= MOST_STRUCTURES:
        raise DefectbenchError(f"a batch holds 1 to {MOST_STRUCTURES} structures, not {batch}")


def take_earlier(folder: Path, selected: Selected, store: ResultStore, plan: Plan, identity: str, reporter: Reporter) -> None:
    """Stores what earlier entries hold of a plan, and says what it finds: that in ``folder``, and in default folders its neighbours."""
    tell_losses(store, reporter)
    for place in (folder, *(neighbours(folder, selected.owner) if selected.default_folder else ())):
        taken, notes = take_over(place, store, plan, identity)
        if taken:
            reporter.stage(f"{taken} calculations taken over from the entry in {place}")
        for note in notes:
            reporter.note(note)
