"""The main job: select → prepare → calculate → score → write, for one model on one dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectbench.base.errors import DefectbenchError, UnknownNameError
from defectbench.base.files import contained
from defectbench.base.states import format_charge
from defectbench.calculations.plan import DEFAULT_DATASET, Suite, certificate_of, make_plan, select_states
from defectbench.calculations.run import Reporter, calculate, calculate_again, certify, tell_losses
from defectbench.leaderboard.entry_view import EntryView

if TYPE_CHECKING:
    from defectbench.calculations.client import WorkerSpec
    from defectbench.calculations.executors import Executor
    from defectbench.calculations.plan import Plan, SelectedState
    from defectbench.calculations.store import ResultStore
    from defectbench.datasets.dataset import Dataset
    from defectbench.entries.run_folder import Owner
    from defectbench.models.schema import ModelDefinition
    from defectbench.scoring.task import TaskResult

DEFAULT_OUTPUT = Path("defectbench-results")

MOST_WORKERS = 1024
MOST_STRUCTURES = 4096
"""Of a batch."""


@dataclass(frozen=True, repr=False)
class Evaluation(EntryView):
    """What :func:`evaluate` returns: the entry, with what was written.

    Attributes:
        results: task name → result.
        files: the files written, figures and report included.
    """

    results: Mapping[str, TaskResult] = field(default_factory=dict)
    files: tuple[Path, ...] = field(default_factory=tuple)


def evaluate(
    model: str | Path | ModelDefinition | Any,
    dataset: str | Path | Dataset = DEFAULT_DATASET,
    *,
    defects: Sequence[str] | None = None,
    charges: Sequence[int] | None = None,
    configurations: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    suite: Suite = "full",
    output: str | Path | None = None,
    device: str = "cpu",
    workers: int | None = None,
    batch: int | None = None,
    executor: Executor | Callable[[WorkerSpec], Executor] | None = None,
    environment: str | Path | None = None,
    model_weights: str | Path | None = None,
    name: str | None = None,
    charge: str = "none",
    charge_range: tuple[int, int] | None = None,
    level_of_theory: str = "not stated",
    precision: str = "float64",
    trust_code: bool = False,
    trust_weights: bool = False,
    retry_failed: bool = False,
    figures: bool = True,
    reporter: Reporter | None = None,
) -> Evaluation:
    """Evaluates a model on a dataset and writes the results.

    Results are stored as they finish: the same call on the same output folder resumes where an earlier one stopped. An entry in the
    output folder is enough for that; what it holds of the same model (same weights, arguments and packages) is not calculated again.
    A folder belongs to one model, dataset and selection.

    Args:
        model: the name of a registered model, the path of a model YAML, a definition, or an ASE calculator, which runs in this process.
        dataset: the name of a dataset, the path of a dataset folder, or a loaded dataset.
        defects: only these defects; None for all.
        charges: only these charges (units of +e); None for all.
        configurations: only these starts, by name; None for those of the suite.
        tasks: only these tasks; None for all.
        suite: ``full`` runs every start; ``quick`` those of ``QUICK_CONFIGURATIONS``.
        output: the run folder; by default one per model, dataset and selection below ``defectbench-results``, where results of another
            selection of the same model and dataset are used too.
        device: ``cpu`` or ``cuda``.
        workers: worker processes of one thread each, no more than there are calculations; by default one per core, or one per GPU with
            ``cuda``, of those that ``CUDA_VISIBLE_DEVICES`` leaves.
        batch: structures that one force call of a worker takes, where the model's package can take several; by default one on CPUs and
            64 with ``cuda``. A worker halves it when memory runs out.
        executor: runs the calculations instead of local worker processes, or makes what does from what a worker needs.
        environment: ``current``, or the path of an environment; by default the managed one of the model.
        model_weights: a weights file that replaces the registered one.
        name: the model's id with these weights; by default that of the model and the first letters of their hash. Of a calculator: what
            the entry calls it; by default its class.
        charge: of a calculator: how a charge reaches it, ``none``, ``info:KEY`` (``atoms.info[KEY]``), ``total_charge`` (an attribute of
            the calculator) or ``argument:NAME`` (``model`` is a function that makes the calculator of a charge).
        charge_range: of a calculator: smallest and largest charge that it may be asked at.
        level_of_theory: of a calculator: that of its training labels, e.g. ``PBE``.
        precision: of a calculator: ``float32`` or ``float64``.
        trust_code: run the code that a definition of your own names: its factory, its environment.
        trust_weights: load weights whose SHA-256 no registered model states. A weights file is often a pickle and can execute code.
        retry_failed: calculate failed relaxations again instead of taking the stored failure.
        figures: whether figures are drawn.
        reporter: hooks that follow the run; by default a progress bar in a notebook, and silence elsewhere.

    Returns:
        The entry, with its folder, files and task results.

    Raises:
        DefectbenchError: bad input (unknown names, an unusable dataset, code or weights that are not trusted or do
            not match, a folder of another run).
        RunError: the run folder is in use, the disk is full, or the model cannot start.

    Example:
        >>> import tempfile, defectbench
        >>> from ase.calculators.lj import LennardJones
        >>> entry = defectbench.evaluate(
        ...     LennardJones(sigma=1.0, epsilon=0.01, rc=3.0),
        ...     defects=["V_Se2"],
        ...     charges=[2],
        ...     configurations=["Unperturbed"],
        ...     tasks=["relax"],
        ...     figures=False,
        ...     output=tempfile.mkdtemp(),
        ... )
        >>> entry.charge_class, entry["relax"]["rmsd"].unit
        ('charge-blind', 'Å')
    """
    from defectbench.calculations.audit import asked_again, audit, first_questions, with_audit
    from defectbench.calculations.judging import judge
    from defectbench.calculations.preparation import ModelOptions, choose_model
    from defectbench.calculations.progress import default_report
    from defectbench.calculations.results import Stored
    from defectbench.calculations.store import ResultStore
    from defectbench.datasets.catalogue import load_dataset
    from defectbench.datasets.dataset import Dataset
    from defectbench.entries.building import RunModel, build_entry, write_entry
    from defectbench.entries.figures import FIGURES, draw_figures
    from defectbench.entries.folder import published, write_calculations
    from defectbench.entries.run_folder import Owner, claim, locked, remove_foreign_entry, sweep
    from defectbench.leaderboard.report import write_report
    from defectbench.models.certificate import check_claim
    from defectbench.models.registry import check_against_definition, is_registered
    from defectbench.scoring.run import scoring_input
    from defectbench.tasks import get_tasks

    _refuse(suite, workers, batch, defects=defects, charges=charges, configurations=configurations)
    _refuse_empty(dataset=dataset, output=output, environment=environment, model_weights=model_weights, name=name)

    # select
    options = ModelOptions(
        device, environment, model_weights, name, charge, charge_range, level_of_theory, precision, trust_code, trust_weights
    )  # fmt: skip
    chosen = choose_model(model, options)
    definition = chosen.definition
    chosen_tasks = get_tasks(tasks)
    data = dataset if isinstance(dataset, Dataset) else load_dataset(dataset)
    states, skipped = select_states(data, defects, charges, configurations, suite)
    _refuse_charges_outside(definition, states)
    chosen_suite = "custom" if (configurations or defects or charges) else suite
    owner = Owner.of_run(definition.id, data.id, chosen_suite, [task.name for task in chosen_tasks], states)
    folder = Path(output) if output is not None else owner.folder(DEFAULT_OUTPUT, [task.name for task in get_tasks(None)])
    with locked(folder), nullcontext(reporter) if reporter is not None else default_report() as reporter:
        claim(folder, owner)

        # prepare
        ready = chosen.prepare(reporter.stage)
        resolved = ready.resolved
        plan = make_plan(data, states, skipped, chosen_tasks, takes_charge=definition.charge.how != "none")
        runner = ready.executor(executor, workers=workers, batch=batch, at_most=len(plan.calculations), on_progress=reporter.progress)

        # calculate
        with ResultStore(contained(folder, "calculations.db")) as store:
            _take_over(folder, owner, store, plan, resolved.identity, reporter, elsewhere=output is None)
            asked = certificate_of(definition, data, dict.fromkeys(s.defect for s in states))
            raw = certify(asked, store, resolved.identity, runner, reporter)
            certificate = judge(raw.model_dump(mode="json"), data, [(s.defect, s.charge) for s in states])
            check_claim(certificate, definition)
            if raw.worker is not None and raw.worker.network == "open" and chosen.hand is None and not is_registered(definition):
                reporter.note("the model's code could reach the network: this system does not let it be cut off, or you allowed it")
            first = first_questions(asked, plan.ask.takes_charge)
            results = calculate(
                plan, store, resolved.identity, runner, retry_failed=retry_failed, reporter=reporter, at_the_end=first
            )  # fmt: skip
            rounded = {c.content_hash: published(c, results[c.content_hash]) for c in plan.calculations}
            again = [*first, *asked_again(plan, rounded)]
            points = calculate_again(again, store, resolved.identity, runner, reporter)
        assert raw.worker is not None
        check_against_definition(resolved, raw.worker.model_dump(mode="json"))

        # score
        reporter.stage("scoring")
        remove_foreign_entry(folder, resolved.identity)
        # judged and scored from what is written, so that anybody who does so again finds the same
        written = write_calculations(folder, plan, {**points, **results, asked.content_hash: Stored(raw)})
        repeated = {c.content_hash: published(c, points[c.content_hash]) for c in again if c.content_hash in points}
        certificate = with_audit(certificate, audit(plan, {**repeated, **rounded}, certificate, raw, asked))
        for line in certificate.doubts:
            reporter.note(line)
        scored = scoring_input(data, plan, certificate.charge_class, written, certificate=certificate.to_json())
        outcomes = {task.name: task.score(scored) for task in chosen_tasks}

        # write
        entry = build_entry(owner, RunModel(resolved, ready.python, raw.worker, chosen.embedded), data, plan, scored, results, outcomes)
        files = write_entry(folder, entry, scored, plan)
        if figures:
            files += draw_figures(entry, folder / FIGURES)
        files.append(write_report(EntryView(entry, folder), data))
        sweep(folder, [task.name for task in get_tasks(None)], files)
        return Evaluation(entry, folder, outcomes, tuple(files))


def _take_over(folder: Path, owner: Owner, store: ResultStore, plan: Plan, identity: str, reporter: Reporter, *, elsewhere: bool) -> None:
    """Stores what the folder's entry holds of a plan, with ``elsewhere`` also those of its neighbours, and says what it finds."""
    from defectbench.entries.run_folder import neighbours, take_over

    tell_losses(store, reporter)
    for place in (folder, *(neighbours(folder, owner) if elsewhere else ())):
        taken, notes = take_over(place, store, plan, identity)
        if taken:
            reporter.stage(f"{taken} calculations taken over from the entry in {place}")
        for note in notes:
            reporter.note(note)


def _refuse(suite: str, workers: int | None, batch: int | None, **chosen: Sequence[object] | None) -> None:
    """Refuses options that cannot be meant."""
    if suite not in ("quick", "full"):
        raise UnknownNameError("suite", suite, ("quick", "full"))
    if workers is not None and not 1 <= workers <= MOST_WORKERS:
        raise DefectbenchError(f"workers must be 1 to {MOST_WORKERS}, not {workers}")
    if batch is not None and not 1 <= batch <= MOST_STRUCTURES:
        raise DefectbenchError(f"a batch holds 1 to {MOST_STRUCTURES} structures, not {batch}")
    for name, values in chosen.items():
        if values is not None and not values:
            raise DefectbenchError(f"{name} is an empty list; omit it for all, or name some", code="empty-value")


def _refuse_empty(**given: object) -> None:
    """Refuses empty texts: they are not the default."""
    for name, value in given.items():
        if isinstance(value, str) and not value.strip():
            raise DefectbenchError(f"empty value for {name}; omit it or give a value", code="empty-value")


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
