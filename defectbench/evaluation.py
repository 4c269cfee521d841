"""The main job: select → prepare → calculate → score → write, for one model on one dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectbench.base.errors import DefectbenchError
from defectbench.base.files import contained
from defectbench.calculations.plan import DEFAULT_DATASET, Suite, certificate_of
from defectbench.calculations.run import Reporter, calculate, calculate_again, certify
from defectbench.leaderboard.entry_view import EntryView

if TYPE_CHECKING:
    from defectbench.calculations.client import WorkerSpec
    from defectbench.calculations.executors import Executor
    from defectbench.datasets.dataset import Dataset
    from defectbench.models.schema import ModelDefinition
    from defectbench.scoring.task import TaskResult


@dataclass(frozen=True, repr=False)
class Evaluation(EntryView):
    """What :func:`evaluate` returns: the entry, with what was written.

    Attributes:
        results: task name → result.
        files: the files written, figures and report included.

    Example:
        >>> import tempfile, defectbench
        >>> from ase.calculators.lj import LennardJones
        >>> calculator, folder = LennardJones(sigma=1.0, epsilon=0.01, rc=3.0), tempfile.mkdtemp()
        >>> chosen = {"defects": ["V_Se2"], "charges": [2], "configurations": ["Unperturbed"], "tasks": ["relax"]}
        >>> entry = defectbench.evaluate(calculator, **chosen, figures=False, output=folder)
        >>> list(entry.results), sorted(path.name for path in entry.files if path.suffix == ".html")
        (['relax'], ['index.html'])
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
    head: str | None = None,
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
        tasks: only these tasks; None for those that run by default, as does the name ``default`` among others.
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
        head: of a model with one head per level of theory: evaluate this one, under an id of its own.
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
    from defectbench.calculations.audit import asked_again, first_questions
    from defectbench.calculations.judging import judge
    from defectbench.calculations.preparation import ModelOptions, network_note
    from defectbench.calculations.progress import default_report
    from defectbench.calculations.store import ResultStore
    from defectbench.entries.building import RunModel
    from defectbench.entries.folder import published
    from defectbench.entries.run_folder import claim, locked
    from defectbench.models.certificate import check_claim
    from defectbench.models.resolved import check_against_definition
    from defectbench.runs.finishing import Certificate, finish
    from defectbench.runs.selection import refuse_numbers, select, take_earlier

    refuse_numbers(workers, batch)
    _refuse_empty(dataset=dataset, output=output, environment=environment, model_weights=model_weights, name=name, head=head)

    # select
    options = ModelOptions(
        device, environment, model_weights, name, charge, charge_range, level_of_theory, precision, trust_code, trust_weights, head
    )  # fmt: skip
    selected = select(
        model,
        dataset,
        options,
        defects=defects,
        charges=charges,
        configurations=configurations,
        tasks=tasks,
        suite=suite,
        output=output,
    )
    chosen, data, folder, owner = selected.chosen, selected.data, selected.folder, selected.owner
    definition = chosen.definition
    with locked(folder), nullcontext(reporter) if reporter is not None else default_report() as reporter:
        claim(folder, owner)

        # prepare
        ready = chosen.prepare(reporter.stage)
        resolved = ready.resolved
        plan = selected.plan()
        runner = ready.executor(executor, workers=workers, batch=batch, at_most=len(plan.calculations), on_progress=reporter.progress)

        # calculate
        with ResultStore(contained(folder, "calculations.db")) as store:
            take_earlier(folder, selected, store, plan, resolved.identity, reporter)
            asked = certificate_of(definition, data, selected.defects)
            raw = certify(asked, store, resolved.identity, runner, reporter)
            certificate = judge(raw.model_dump(mode="json"), data, selected.charge_states)
            check_claim(certificate, definition)
            if chosen.hand is None and (note := network_note(definition, raw.worker.network if raw.worker else None)):
                reporter.note(note)
            first = first_questions(asked, plan.ask.takes_charge)
            results = calculate(
                plan, store, resolved.identity, runner, retry_failed=retry_failed, reporter=reporter, at_the_end=first
            )  # fmt: skip
            rounded = {c.content_hash: published(c, results[c.content_hash]) for c in plan.calculations}
            points = calculate_again([*first, *asked_again(plan, rounded)], store, resolved.identity, runner, reporter)
        assert raw.worker is not None
        check_against_definition(resolved, raw.worker.model_dump(mode="json"))

        # score, write
        reporter.stage("scoring")
        ran = RunModel(resolved, ready.python, raw.worker, chosen.embedded)
        certified = Certificate(asked, raw, certificate)
        done = finish(
            folder, owner, ran, data, plan, selected.tasks, certified, results, points, figures=figures, reporter=reporter
        )  # fmt: skip
        return Evaluation(done.entry, folder, done.outcomes, done.files)


def _refuse_empty(**given: object) -> None:
    """Refuses empty texts: they are not the default."""
    for name, value in given.items():
        if isinstance(value, str) and not value.strip():
            raise DefectbenchError(f"empty value for {name}; omit it or give a value", code="empty-value")
