"""The main job: plan → calculate → score → write, for one model on one dataset."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from defectbench.base.errors import DefectbenchError, RunError, UnknownNameError
from defectbench.base.states import charge_label
from defectbench.calculations.plan import DEFAULT_DATASET, Plan, Suite, certificate_start, make_plan, select_states
from defectbench.calculations.requests import PROTOCOL_V1, Calculation
from defectbench.entries.folder import _locked, _made, _outcome, _task_record, write_structures, write_tables
from defectbench.scoring.run import scoring_input

if TYPE_CHECKING:
    from defectbench.calculations.plan import StateSelection
    from defectbench.calculations.store import ResultStore
    from defectbench.datasets.dataset import Dataset
    from defectbench.entries.schema import Entry
    from defectbench.models.certificate import ChargeCertificate
    from defectbench.models.environment import PythonEnvironment
    from defectbench.models.registry import ResolvedModel
    from defectbench.models.schema import ModelDefinition
    from defectbench.scoring.task import Task, TaskResult


DEFAULT_OUTPUT = Path("defectbench-results")

MOST_WORKERS = 1024


@dataclass(frozen=True)
class Reporter:
    """What a caller may want to know while a run goes on. Every hook may be left out.

    Attributes:
        stage: a sentence about what begins now.
        planned: the plan, and how many of its calculations are stored already.
        progress: a running relaxation's step, energy (eV) and largest force (eV/Å).
        finished: a calculation is stored: calculation and result.
        note: a sentence that the user should still see when the run is over.
    """

    stage: Callable[[str], None] = lambda _text: None
    planned: Callable[[Plan, int], None] = lambda _plan, _stored: None
    progress: Callable[[int, float, float], None] = lambda _step, _energy, _fmax: None
    finished: Callable[[Calculation, Mapping[str, Any]], None] = lambda _calculation, _result: None
    note: Callable[[str], None] = lambda _text: None


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate` returns.

    Attributes:
        entry: metrics, per-configuration results, certificate and provenance.
        folder: the run directory with everything written.
        results: task name → result.
        files: the files written, figures included.
    """

    entry: Entry
    folder: Path
    results: Mapping[str, TaskResult]
    files: tuple[Path, ...] = field(default_factory=tuple)


def evaluate(
    model: str | Path | ModelDefinition,
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
    environment: str | Path | None = None,
    model_weights: str | Path | None = None,
    trust_weights: bool = False,
    retry_failed: bool = False,
    reporter: Reporter | None = None,
) -> Evaluation:
    """Evaluates a model on a dataset and writes the results.

    Results are stored as they finish; the same call on the same output folder goes on where an earlier one stopped. An entry in
    the output folder is enough for that: what it holds of the same model (same weights, arguments and packages) is not calculated again.

    Args:
        model: the name of a registered model, the path of a model YAML, or a definition.
        dataset: the name of a dataset, the path of a dataset folder, or a loaded dataset.
        defects: only these defects; None for all.
        charges: only these charges (units of +e); None for all.
        configurations: only these starts, by name; None for those of the suite.
        tasks: only these tasks; None for all.
        suite: ``full`` runs every start; ``quick`` those of :data:`QUICK_CONFIGURATIONS`.
        output: the run directory; by default ``defectbench-results/<model>/<dataset>``.
        device: ``cpu`` or ``cuda``.
        workers: worker processes of one thread each, no more than there are calculations; by default one a core, or one a GPU with
            ``cuda``, of those that ``CUDA_VISIBLE_DEVICES`` leaves.
        environment: ``current``, or the path of an environment; by default the managed one of the model.
        model_weights: a weights file that replaces the registered one.
        trust_weights: load weights whose SHA-256 is not known. A weights file is often a pickle and can run code.
        retry_failed: calculate failed relaxations again instead of taking the stored failure.
        reporter: hooks that follow the run.

    Returns:
        The entry, the folder and the task results.

    Raises:
        DefectbenchError: bad input (unknown names, an unusable dataset, weights that do not match).
        RunError: the run directory is in use, the disk is full, or the model cannot start.
    """
    from defectbench.calculations.store import ResultStore
    from defectbench.datasets.catalogue import load_dataset
    from defectbench.datasets.dataset import Dataset
    from defectbench.models.environment import ensure_environment
    from defectbench.models.registry import definition_folder, load_model, resolve_model
    from defectbench.models.schema import ModelDefinition
    from defectbench.tasks import get_tasks

    reporter = reporter or Reporter()
    if suite not in ("quick", "full"):
        raise UnknownNameError("suite", suite, ("quick", "full"))
    if device not in ("cpu", "cuda"):
        raise UnknownNameError("device", device, ("cpu", "cuda"))
    if workers is not None and not 1 <= workers <= MOST_WORKERS:
        raise DefectbenchError(f"workers must be 1 to {MOST_WORKERS}, not {workers}")
    for name, given in (("dataset", dataset), ("output", output), ("environment", environment), ("model_weights", model_weights)):
        if isinstance(given, str) and not given.strip():
            raise DefectbenchError(f"{name} is empty (''); leave it out, or give it a value")
    for name, chosen in (("defects", defects), ("charges", charges), ("configurations", configurations)):
        if chosen is not None and not chosen:
            raise DefectbenchError(f"{name} is an empty list; leave it out for all, or name some")
    definition = model if isinstance(model, ModelDefinition) else load_model(model)
    chosen_tasks = get_tasks(tasks)
    data = dataset if isinstance(dataset, Dataset) else load_dataset(dataset)
    states, skipped = select_states(data, defects, charges, configurations, suite)
    _refuse_charges_outside(definition, states)
    folder = Path(output) if output is not None else DEFAULT_OUTPUT / definition.id / data.id
    with _locked(folder):
        reporter.stage("preparing the model's environment")
        python = ensure_environment(environment if environment is not None else definition.environment, progress=reporter.stage)
        resolved = resolve_model(
            definition,
            weights=Path(model_weights) if model_weights else None,
            trust_weights=trust_weights,
            device=device,
            folder=None if isinstance(model, ModelDefinition) else definition_folder(model),
            environment=python,
        )
        plan = make_plan(data, states, skipped, chosen_tasks, takes_charge=definition.charge.how != "none")
        store = ResultStore(folder / "calculations.db")
        taken, damaged = _take_over(folder, store, plan, resolved.identity)
        if taken:
            reporter.stage(f"{taken} calculations taken over from the entry in {folder}")
        if damaged:
            reporter.note(f"{damaged} results in {folder / 'calculations.json.gz'} are damaged; they are calculated anew")
        # as many as can be started: what the entry says
        count = min(workers or default_workers(device), len(plan.calculations))
        results, ready, certificate, machines = _calculate(
            plan, store, resolved, python, data, device=device, workers=count, retry_failed=retry_failed, reporter=reporter
        )
        reporter.stage("scoring")
        return _write(
            folder,
            data,
            resolved,
            plan,
            chosen_tasks,
            certificate,
            results,
            ready,
            suite="custom" if (configurations or defects or charges) else suite,
            embedded=not isinstance(model, ModelDefinition) and definition_folder(model) is None and model_weights is None,
            provenance=_provenance(resolved, python, ready, machines, results),
        )


def _refuse_charges_outside(definition: ModelDefinition, states: Sequence[StateSelection]) -> None:
    """Refuses a selection of which the model could answer nothing, as its definition has it."""
    bounds = definition.charge.range
    if definition.charge.how == "none" or bounds is None or any(bounds[0] <= s.charge <= bounds[1] for s in states):
        return
    selected = ", ".join(f"{charge:+d}" for charge in sorted({s.charge for s in states}))
    raise DefectbenchError(
        f"{definition.id} takes charges {bounds[0]:+d} to {bounds[1]:+d} (charge.range), and none of those selected ({selected}); "
        "choose others with --charge"
    )


def default_workers(device: str) -> int:
    """One worker a core; one a GPU that this process may use on CUDA."""
    from defectbench.base.hardware import available_cores, visible_gpus

    return max(1, len(visible_gpus())) if device == "cuda" else available_cores()


def _take_over(folder: Path, store: ResultStore, plan: Plan, identity: str) -> tuple[int, int]:
    """Stores what the entry in a folder holds of a plan and the store does not.

    Returns:
        How many calculations that were, and how many others it holds with a damaged result.
    """
    from defectbench.calculations.results import problem
    from defectbench.entries.folder import read_calculations, read_entry

    missing = [c for c in plan.calculations if c.key(identity) not in store]
    if not missing or not (folder / "entry.json").is_file() or not (folder / "calculations.json.gz").is_file():
        return 0, 0
    try:
        entry, found = read_entry(folder), read_calculations(folder)
    except DefectbenchError:
        # of another version of the schema, or damaged: it is about to be replaced
        return 0, 0
    if entry.model.identity != identity:
        return 0, 0
    made = entry.provenance
    machines = [_machine(made.device, made.hardware, made.workers, made.threads_per_worker)]
    machines += [_machine(m.device, m.hardware, m.workers, m.threads_per_worker) for m in made.other_machines]
    labels = _labels(plan)
    there = [(c, found[c.content_hash]) for c in missing if c.content_hash in found]
    # one that is damaged, or names a machine which the entry does not have, is calculated anew
    taken = [(c, result) for c, result in there if problem(c, result) is None and result.get("machine", 0) < len(machines)]
    for c, result in taken:
        machine = machines[result.get("machine", 0)]
        kept = {name: value for name, value in result.items() if name != "machine"}
        store.put(c.key(identity), c, kept, labels.get(c.content_hash), machine)
    return len(taken), len(there) - len(taken)


def _machine(device: str, hardware: Mapping[str, Any], workers: int, threads_per_worker: int) -> dict[str, Any]:
    return {"device": device, "hardware": dict(hardware), "workers": workers, "threads_per_worker": threads_per_worker}


def _calculate(
    plan: Plan,
    store: ResultStore,
    resolved: ResolvedModel,
    python: PythonEnvironment,
    dataset: Dataset,
    *,
    device: str,
    workers: int,
    retry_failed: bool,
    reporter: Reporter,
) -> tuple[dict[str, dict[str, Any]], dict[str, Any], ChargeCertificate, list[dict[str, Any]]]:
    """Certificate first, then what is missing.

    Returns:
        Results by content hash, the worker's description, the certificate, and the machines that calculated. A result says under
        ``machine`` which of them it was; the first may be left out.
    """
    from defectbench.base import hardware
    from defectbench.calculations.client import WorkerClient
    from defectbench.calculations.executors.local import run
    from defectbench.models.certificate import certificate_calculation, check_claim, classify

    identity = resolved.identity
    first = certificate_calculation(resolved.definition, *certificate_start(dataset))

    def client(number: int) -> WorkerClient:
        return WorkerClient(python, resolved, cuda_device=number if device == "cuda" else None)

    stored = store.get(first.key(identity), first)
    if stored is None or stored.get("status") == "failed":
        reporter.stage("checking how the model responds to charge")
        with client(0) as worker:
            stored = {**worker.calculate(first), "worker": worker.ready}
            if stored.get("status") == "failed":
                raise RunError(f"the model failed its first check: {stored.get('failure')}")
            store.put(first.key(identity), first, stored)
        certificate = classify(stored)
    else:
        try:
            certificate = classify(stored)
            said = stored["worker"]
            _ = int(said.get("threads", 1)), dict(said.get("versions", {})), [(w["name"], w["sha256"]) for w in said.get("weights", [])]
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise store.unusable("the stored charge-response certificate is damaged") from error
    check_claim(certificate, resolved.definition)

    def missing(calculation: Calculation) -> bool:
        result = store.get(calculation.key(identity), calculation)
        return result is None or (retry_failed and result.get("status") == "failed")

    here = _machine(device, hardware.describe(), workers, int(stored["worker"].get("threads", 1)))
    labels = _labels(plan)
    todo = [c for c in plan.calculations if missing(c)]
    reporter.planned(plan, len(plan.calculations) - len(todo))
    if todo:
        for done in run(todo, client, workers, reporter.progress):
            store.put(done.calculation.key(identity), done.calculation, done.result, labels.get(done.calculation.content_hash), here)
            reporter.finished(done.calculation, done.result)
    results = {c.content_hash: r for c in plan.calculations if (r := store.get(c.key(identity), c)) is not None}
    relaxed = [results[c.content_hash] for c in (*plan.host.values(), *plan.relaxations.values())]
    if relaxed and all(r["status"] == "failed" for r in relaxed):
        raise RunError(f"all {len(relaxed)} relaxations failed, the first with: {relaxed[0]['failure']}; their records are kept")
    machines = _tell_machines_apart(
        plan, results, {c.content_hash: store.machine(c.key(identity)) or here for c in plan.calculations}, here
    )
    return results, dict(stored["worker"]), certificate, machines


def _tell_machines_apart(
    plan: Plan, results: Mapping[str, dict[str, Any]], calculated_on: Mapping[str, Mapping[str, Any]], here: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Marks results by the machine that calculated them, and returns the machines, the one with most relaxations first."""
    used = [calculated_on[c.content_hash] for c in plan.calculations]
    machines: list[dict[str, Any]] = []
    for machine in (here, *used):
        if machine in used and not any(all(m[k] == v for k, v in machine.items()) for m in machines):
            machines.append({**machine, "calculations": 0, "relaxations": 0})
    place = {
        c.content_hash: next(m for m in machines if all(m[k] == v for k, v in on.items()))
        for c, on in zip(plan.calculations, used, strict=True)
    }
    for c in plan.calculations:
        place[c.content_hash]["calculations"] += 1
        place[c.content_hash]["relaxations"] += c.kind == "relaxation"
    machines.sort(key=lambda m: -int(m["relaxations"]))
    for content_hash, result in results.items():
        if number := next(i for i, m in enumerate(machines) if m is place[content_hash]):
            result["machine"] = number
    return machines


def _labels(plan: Plan) -> dict[str, dict[str, str]]:
    """Content hash → labels for the database: the first configuration that a calculation stands for."""
    labels = {c.content_hash: {"defect": "host", "configuration": name} for name, c in plan.host.items()}
    for (defect, charge, name), c in plan.relaxations.items():
        labels.setdefault(c.content_hash, {"defect": defect, "state": charge_label(charge), "configuration": name})
    return labels


def _provenance(
    resolved: ResolvedModel,
    python: PythonEnvironment,
    ready: Mapping[str, Any],
    machines: Sequence[Mapping[str, Any]],
    results: Mapping[str, Any],
) -> dict[str, Any]:
    import defectbench

    return {
        "defectbench": defectbench.__version__,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "packages": dict(ready.get("versions", {})),
        # a path would say where this was run, not what ran
        "environment": python.name if python.name in (resolved.definition.environment, "current") else "custom",
        "environment_pins_sha256": python.pins_sha256,
        "protocol": PROTOCOL_V1.to_json(),
        **{name: machines[0][name] for name in ("device", "hardware", "workers", "threads_per_worker")},
        "other_machines": [dict(machine) for machine in machines[1:]],
        "calculations": len(results),
        "calculation_s": round(sum(_seconds(r, machines[int(r.get("machine", 0))]["device"]) for r in results.values()), 1),
    }


def _seconds(result: Mapping[str, Any], device: str) -> float:
    return float((device == "cpu" and result.get("cpu_s")) or result.get("wall_s") or 0.0)


def _write(
    folder: Path,
    dataset: Dataset,
    resolved: ResolvedModel,
    plan: Plan,
    tasks: Sequence[Task],
    certificate: ChargeCertificate,
    results: Mapping[str, Mapping[str, Any]],
    ready: Mapping[str, Any],
    *,
    suite: Literal["quick", "full", "custom"],
    embedded: bool,
    provenance: Mapping[str, Any],
) -> Evaluation:
    """Scores and writes an entry folder."""
    from defectbench.datasets.catalogue import embedded_folder, embedded_names
    from defectbench.entries import schema as records
    from defectbench.entries.folder import write_calculations, write_text

    definition = resolved.definition
    # scored from what is written, so that anybody who scores the entry again gets the same numbers
    written = write_calculations(folder, results)
    scored = scoring_input(dataset, plan, certificate.charge_class, written, certificate=certificate.to_json(), provenance=provenance)
    outcome = {task.name: task.score(scored) for task in tasks}
    entry = records.Entry(
        model=records.ModelRecord(
            id=definition.id,
            name=definition.name,
            package=definition.package,
            adapter=definition.adapter,
            arguments=dict(definition.arguments),
            identity=resolved.identity,
            level_of_theory=definition.level_of_theory,
            charge=definition.charge.how,
            parameters=ready.get("parameters"),
            weights_sha256={str(w["name"]): str(w["sha256"]) for w in ready.get("weights", [])},
            embedded=embedded,
        ),
        dataset=records.DatasetRecord(
            id=dataset.id,
            title=dataset.metadata.title,
            sha256=dataset.sha256,
            level_of_theory=dataset.level,
            embedded=dataset.id in embedded_names() and dataset.path == embedded_folder() / dataset.id,
        ),
        selection=records.Selection(
            suite=suite,
            tasks=[task.name for task in tasks],
            states=[records.SelectedState(defect=s.defect, charge=s.charge, configurations=list(s.configurations)) for s in plan.states],
            skipped=[records.SkippedState(defect=d, charge=q, reason=r) for d, q, r in plan.skipped],
        ),
        certificate=certificate.to_json(),
        host=[
            records.HostRecord(start=h.start, content_hash=plan.host[h.start].content_hash, **_outcome(h.relaxation)) for h in scored.host
        ],
        configurations=[
            records.ConfigurationRecord(
                defect=c.defect,
                charge=c.charge,
                configuration=c.configuration,
                content_hash=plan.relaxations[c.defect, c.charge, c.configuration].content_hash,
                **_outcome(c.relaxation),
            )
            for c in scored.configurations
        ],
        tasks={name: _task_record(result) for name, result in outcome.items()},
        provenance=records.Provenance(**provenance),
    )
    write_text(folder / "entry.json", entry.model_dump_json(indent=1) + "\n")
    files = [folder / "entry.json", folder / "calculations.json.gz", *write_tables(folder, entry), write_structures(folder, scored, plan)]
    for task in tasks:
        files += task.draw(scored, outcome[task.name], definition.name, _made(folder / "figures"))
    return Evaluation(entry, folder, outcome, tuple(files))
