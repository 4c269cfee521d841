"""The main job: plan → calculate → score → write, for one model on one dataset."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from defectbench.calculations.calculation import PROTOCOL_V1, Calculation, Protocol, Relaxation, Structure
from defectbench.errors import DefectbenchError, RunError, UnknownNameError
from defectbench.labels import charge_label, sort_key, state_label

if TYPE_CHECKING:
    from ase import Atoms

    from defectbench.calculations.store import ResultStore
    from defectbench.datasets.dataset import Dataset
    from defectbench.leaderboard.entry import Entry, TaskRecord
    from defectbench.models.certificate import ChargeCertificate
    from defectbench.models.environment import PythonEnvironment
    from defectbench.models.registry import ResolvedModel
    from defectbench.models.schema import ModelDefinition
    from defectbench.tasks.base import MetricValue, ScoringInput, StateSelection, Task, TaskResult

DEFAULT_DATASET = "sb2se3-vacancies"
DEFAULT_OUTPUT = Path("defectbench-results")

#: The starts of the quick suite: the ideal vacancy, a rattle, and the two that break most symmetries.
QUICK_CONFIGURATIONS = ("Unperturbed", "Rattled", "Dimer", "Bond_Distortion_-40.0%")

HOST_RATTLE_SEED = 42
HOST_RATTLE_SIGMA = 0.05

MOST_WORKERS = 1024

Suite = Literal["quick", "full"]


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes:
        states: the charge states that run, with their configurations.
        skipped: (defect, charge, reason) of selected states that do not.
        relaxations: (defect, charge, configuration) → calculation; equal calculations appear once in ``calculations``.
        host: start name → calculation.
        calculations: every distinct calculation, in the order in which they run.
    """

    states: tuple[StateSelection, ...]
    skipped: tuple[tuple[str, int, str], ...]
    relaxations: Mapping[tuple[str, int, str], Calculation]
    host: Mapping[str, Calculation]
    calculations: tuple[Calculation, ...]

    @property
    def shared(self) -> int:
        """How many configurations need no relaxation of their own because another charge state's start is the same."""
        return len(self.relaxations) - len({c.content_hash for c in self.relaxations.values()})


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


def select_states(
    dataset: Dataset,
    defects: Sequence[str] | None = None,
    charges: Sequence[int] | None = None,
    configurations: Sequence[str] | None = None,
    suite: Suite = "full",
) -> tuple[tuple[StateSelection, ...], tuple[tuple[str, int, str], ...]]:
    """The charge states to run, and those selected that cannot: (defect, charge, reason).

    Raises:
        UnknownNameError: a defect, charge or configuration that the dataset does not have.
        DefectbenchError: nothing is left to run.
    """
    from defectbench.tasks.base import StateSelection

    for defect in defects or ():
        if defect not in dataset.defects:
            raise UnknownNameError("defect", defect, dataset.defects)
    chosen = [(d, q) for d, q in dataset.states if (not defects or d in defects) and (not charges or q in charges)]
    for charge in charges or ():
        if not any(q == charge for _, q in chosen):
            known = sorted({q for d, q in dataset.states if not defects or d in defects})
            raise UnknownNameError("charge", f"{charge:+d}", [f"{q:+d}" for q in known])
    if configurations:
        all_names = sorted({c for d, q in chosen for c in dataset.starts(d, q)}, key=sort_key)
        for name in configurations:
            if name not in all_names:
                raise UnknownNameError("configuration", name, all_names)
    wanted = configurations or (QUICK_CONFIGURATIONS if suite == "quick" else None)
    states: list[StateSelection] = []
    skipped: list[tuple[str, int, str]] = []
    for defect, charge in chosen:
        starts = dataset.starts(defect, charge)
        names = tuple(c for c in sorted(starts, key=sort_key) if wanted is None or c in wanted)
        if not dataset.has_reference(defect, charge):
            skipped.append((defect, charge, f"no {dataset.level} reference yet"))
        elif not starts:
            skipped.append((defect, charge, "no start structures"))
        elif not names:
            skipped.append((defect, charge, "none of its starts is selected"))
        else:
            states.append(StateSelection(defect, charge, names))
    if not states:
        why = "; ".join(f"{state_label(d, q)}: {r}" for d, q, r in skipped[:4]) or "the selection is empty"
        raise DefectbenchError(f"nothing to run on {dataset.id} ({why}); choose others with --defect and --charge")
    return tuple(states), tuple(skipped)


def host_starts(dataset: Dataset) -> dict[str, Atoms]:
    """The starts of the host's relaxation: its reference sites, and a normal rattle of σ = 0.05 Å (fixed seed)."""
    rattled = dataset.host.copy()
    rattled.rattle(stdev=HOST_RATTLE_SIGMA, seed=HOST_RATTLE_SEED)
    return {"Unperturbed": dataset.host.copy(), "Rattled": rattled}


def make_plan(
    dataset: Dataset,
    states: tuple[StateSelection, ...],
    skipped: tuple[tuple[str, int, str], ...],
    tasks: Sequence[Task],
    *,
    takes_charge: bool,
    protocol: Protocol = PROTOCOL_V1,
) -> Plan:
    """The union of what the tasks need, each distinct calculation once.

    Args:
        takes_charge: False drops the charge from every calculation, so that equal starts of different charges are one.
    """
    from defectbench.tasks.base import PlanInput

    def calculation(kind: Literal["relaxation", "single_point", "descriptors"], atoms: Atoms, charge: int) -> Calculation:
        return Calculation(kind, Structure.from_atoms(atoms), int(charge) if takes_charge else None, protocol)

    host = {name: calculation("relaxation", atoms, 0) for name, atoms in host_starts(dataset).items()}
    relaxations = {
        (state.defect, state.charge, name): calculation("relaxation", atoms, state.charge)
        for state in states
        for name, atoms in dataset.starts(state.defect, state.charge).items()
        if name in state.configurations
    }
    plan_input = PlanInput(dataset=dataset, states=states, calculation=calculation)
    extra = [c for task in tasks for c in task.calculations(plan_input)]
    distinct = {c.content_hash: c for c in (*host.values(), *relaxations.values(), *extra)}
    return Plan(states, skipped, relaxations, host, tuple(distinct.values()))


def scoring_input(
    dataset: Dataset,
    plan: Plan,
    charge_class: str,
    results: Mapping[str, Mapping[str, Any]],
    *,
    certificate: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> ScoringInput:
    """What the tasks score, from results by content hash.

    Args:
        certificate: the charge-response certificate as JSON values.
        provenance: of the entry, as JSON values.

    Raises:
        DefectbenchError: a result is missing.
    """
    from defectbench.calculations.client import relaxation_from_result
    from defectbench.tasks.base import ConfigurationResult, HostRelaxation, ScoringInput

    def result(calculation: Calculation) -> Mapping[str, Any]:
        try:
            return results[calculation.content_hash]
        except KeyError:
            raise DefectbenchError("the results do not fit the dataset: a calculation is missing; run the evaluation again") from None

    return ScoringInput(
        dataset=dataset,
        states=plan.states,
        configurations=tuple(
            ConfigurationResult(d, q, name, relaxation_from_result(result(c))) for (d, q, name), c in plan.relaxations.items()
        ),
        host=tuple(HostRelaxation(name, relaxation_from_result(result(c))) for name, c in plan.host.items()),
        charge_class=charge_class,
        results=results,
        certificate=certificate or {},
        provenance=provenance or {},
    )


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
    from defectbench.hardware import available_cores, visible_gpus

    return max(1, len(visible_gpus())) if device == "cuda" else available_cores()


def certificate_start(dataset: Dataset) -> tuple[Atoms, tuple[int, ...]]:
    """The structure and charges on which the certificate is measured: the first defect's ideal start and its charge states."""
    defect = dataset.defects[0]
    charges = dataset.charges(defect)
    for charge in charges:
        starts = dataset.starts(defect, charge)
        if starts:
            return starts.get("Unperturbed", next(iter(starts.values()))), charges
    return dataset.host, charges


def _take_over(folder: Path, store: ResultStore, plan: Plan, identity: str) -> tuple[int, int]:
    """Stores what the entry in a folder holds of a plan and the store does not.

    Returns:
        How many calculations that were, and how many others it holds with a damaged result.
    """
    from defectbench.calculations.results import problem
    from defectbench.leaderboard.entry import read_calculations, read_entry

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
    from defectbench import hardware
    from defectbench.calculations.client import WorkerClient
    from defectbench.calculations.executor import run
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
    from defectbench.leaderboard import entry as records

    definition = resolved.definition
    # scored from what is written, so that anybody who scores the entry again gets the same numbers
    written = records.write_calculations(folder, results)
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
    records.write_text(folder / "entry.json", entry.model_dump_json(indent=1) + "\n")
    files = [folder / "entry.json", folder / "calculations.json.gz", *write_tables(folder, entry), write_structures(folder, scored, plan)]
    for task in tasks:
        files += task.draw(scored, outcome[task.name], definition.name, _made(folder / "figures"))
    return Evaluation(entry, folder, outcome, tuple(files))


def _output(folder: Path) -> None:
    """Makes a run directory; refuses one that can never be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        blocking = next((place for place in (folder, *folder.parents) if place.exists() and not place.is_dir()), folder)
        raise DefectbenchError(f"cannot create {folder}: {blocking} is not a folder; choose another --output") from None
    except OSError as error:
        raise _out_of_reach(error)(f"cannot create {folder}: {error.strerror}; choose another --output") from error
    if (folder / "entry.json").is_dir():
        raise DefectbenchError(f"{folder / 'entry.json'} is a folder; move it away or choose another --output")


def _out_of_reach(error: OSError) -> type[DefectbenchError]:
    """Full disks and broken ones are no mistake of the user's; all else is."""
    import errno

    return RunError if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO) else DefectbenchError


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot create {folder}: {error.strerror}; make room for it and run the same command, nothing is lost") from error
    return folder


def _outcome(relaxation: Relaxation) -> dict[str, Any]:
    return {
        "status": relaxation.status,
        "failure": relaxation.failure,
        "energy": relaxation.energy,
        "fmax": relaxation.fmax[-1] if relaxation.fmax else None,
        "steps": relaxation.steps,
        "wall_s": round(relaxation.wall_s, 3),
    }


def _task_record(result: TaskResult) -> TaskRecord:
    from defectbench.leaderboard.entry import MetricRecord, TaskRecord

    def finite(values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()}

    def record(m: MetricValue) -> MetricRecord:
        if m.value is not None and not math.isfinite(m.value):  # no number to score, and no entry may hold one
            return MetricRecord(name=m.name, value=None, interval=None, reason=f"came out as {m.value}", applies=True)
        bounded = m.interval is not None and all(math.isfinite(end) for end in m.interval)
        return MetricRecord(name=m.name, value=m.value, interval=m.interval if bounded else None, reason=m.reason, applies=m.applies)

    return TaskRecord(
        metrics=[record(m) for m in result.metrics],
        tables={name: [finite(row) for row in rows] for name, rows in {"states": result.rows, **result.tables}.items()},
        baselines={name: finite(values) for name, values in result.baselines.items()},
        notes=list(result.notes),
    )


def write_tables(folder: Path, entry: Entry) -> list[Path]:
    """Writes each task's tables as ``tables/<task>_<table>.csv`` and all that it found as ``tables/<task>.json``."""
    from defectbench.leaderboard.entry import write_text

    files: list[Path] = []
    for task, record in entry.tasks.items():
        path = folder / "tables" / f"{task}.json"
        write_text(path, record.model_dump_json(indent=1) + "\n")
        files.append(path)
        for name, rows in record.tables.items():
            if not rows:
                continue
            files.append(write_csv(folder / "tables" / f"{task}_{name}.csv", rows))
    return files


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Writes flat rows that share their columns as CSV; returns the path.

    Raises:
        RunError: it cannot be written.
    """
    import csv
    import io

    from defectbench.leaderboard.entry import write_text

    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
    return path


def write_structures(folder: Path, scored: ScoringInput, plan: Plan) -> Path:
    """Writes every relaxed structure to ``structures.extxyz`` (energy in eV; defect, charge, configuration and status in ``info``)."""
    import io

    from ase.io import write

    from defectbench.leaderboard.entry import write_text

    images = []
    for host in scored.host:
        atoms = plan.host[host.start].structure.to_atoms()
        atoms.positions = host.relaxation.positions
        atoms.info = {"defect": "host", "configuration": host.start, **_extxyz_info(host.relaxation)}
        images.append(atoms)
    for c in scored.configurations:
        atoms = plan.relaxations[c.defect, c.charge, c.configuration].structure.to_atoms()
        atoms.positions = c.relaxation.positions
        atoms.info = {"defect": c.defect, "charge": c.charge, "configuration": c.configuration, **_extxyz_info(c.relaxation)}
        images.append(atoms)
    text = io.StringIO()
    write(text, images, format="extxyz")
    path = folder / "structures.extxyz"
    write_text(path, text.getvalue())
    return path


def _extxyz_info(relaxation: Relaxation) -> dict[str, Any]:
    info: dict[str, Any] = {"status": relaxation.status, "steps": relaxation.steps}
    if relaxation.energy is not None:
        info["model_energy"] = relaxation.energy
    return info


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds a run directory: two processes on one would write over each other. The lock goes with the process, however it ends."""
    from filelock import FileLock, Timeout

    _output(folder)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise RunError(f"{folder} is in use by another defectbench process; wait for it or choose another --output") from None
    except OSError as error:
        raise RunError(f"cannot lock {folder}: {error.strerror}; choose another --output") from error
    try:
        yield
    finally:
        lock.release()


def rescore(folder: str | Path, dataset: str | Path | Dataset | None = None) -> tuple[Entry, Entry]:
    """Scores an entry again from its stored calculations: no model, no network beyond the dataset.

    Args:
        folder: an entry folder, with ``entry.json`` and ``calculations.json.gz``, or the path of its ``entry.json``.
        dataset: the dataset it was made on, if it is not found by its name.

    Returns:
        The entry as stored, and the same entry with every task scored anew.

    Raises:
        DefectbenchError: the entry or its calculations cannot be read or are damaged, or the dataset is not the one it was made on.
    """
    entry, scored, tasks = stored_scoring(folder, dataset)
    return entry, entry.model_copy(update={"tasks": {task.name: _task_record(task.score(scored)) for task in tasks}})


def stored_scoring(folder: str | Path, dataset: str | Path | Dataset | None = None) -> tuple[Entry, ScoringInput, tuple[Task, ...]]:
    """A stored entry, what its tasks score, and its tasks: for :func:`rescore`, and for looks at an entry beyond its metrics.

    Args:
        folder: an entry folder, with ``entry.json`` and ``calculations.json.gz``, or the path of its ``entry.json``.
        dataset: the dataset it was made on, if it is not found by its name.

    Raises:
        DefectbenchError: the entry or its calculations cannot be read or are damaged, or the dataset is not the one it was made on.
    """
    from defectbench.calculations.results import problem
    from defectbench.datasets.catalogue import load_dataset
    from defectbench.datasets.dataset import Dataset
    from defectbench.leaderboard.entry import entry_folder, read_calculations, read_entry
    from defectbench.tasks import get_tasks
    from defectbench.tasks.base import StateSelection

    folder = entry_folder(Path(folder))
    entry = read_entry(folder)
    data = dataset if isinstance(dataset, Dataset) else load_dataset(dataset if dataset is not None else entry.dataset.id)
    if data.id != entry.dataset.id:
        raise DefectbenchError(f"{folder} was made on {entry.dataset.id}, not on {data.id}; give that dataset, or none")
    if data.sha256 != entry.dataset.sha256:
        raise DefectbenchError(
            f"{folder} was made on another version of {entry.dataset.id} ({entry.dataset.sha256[:12]}…, now {data.sha256[:12]}…); "
            "run 'defectbench evaluate' again"
        )
    states = tuple(StateSelection(s.defect, s.charge, tuple(s.configurations)) for s in entry.selection.states)
    skipped = tuple((s.defect, s.charge, s.reason) for s in entry.selection.skipped)
    tasks = get_tasks(entry.selection.tasks)
    protocol = Protocol(**entry.provenance.protocol)
    plan = make_plan(data, states, skipped, tasks, takes_charge=entry.model.charge != "none", protocol=protocol)
    results = read_calculations(folder)
    machines = 1 + len(entry.provenance.other_machines)
    for calculation in plan.calculations:
        if (result := results.get(calculation.content_hash)) is None:
            continue  # whoever needs it says so
        wrong = problem(calculation, result)
        if wrong is None and result.get("machine", 0) >= machines:
            wrong = "names a machine that the entry does not have"
        if wrong is not None:
            raise DefectbenchError(
                f"{folder / 'calculations.json.gz'} is damaged: the result {calculation.content_hash[:12]}… {wrong}; "
                f"run 'defectbench evaluate' with --output {folder} again"
            )
    scored = scoring_input(
        data,
        plan,
        entry.certificate["charge_class"],
        results,
        certificate=entry.certificate,
        provenance=entry.provenance.model_dump(mode="json"),
    )
    return entry, scored, tasks


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
