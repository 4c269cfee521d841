"""Parts of a run, calculated on machines that know nothing of each other, and merged to the entry that one run would have given."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from defectbench.base.errors import DefectbenchError, RunError
from defectbench.base.files import contained, read_bytes, write_text
from defectbench.base.text import one_line
from defectbench.calculations.audit import asked_again, first_questions
from defectbench.calculations.judging import judge
from defectbench.calculations.plan import Shard, certificate_of, make_plan
from defectbench.calculations.preparation import network_note
from defectbench.calculations.requests import PROTOCOL, Protocol
from defectbench.calculations.results import CertificateResult
from defectbench.calculations.run import Reporter, calculate, calculate_again, certify, tell_losses
from defectbench.calculations.store import ResultStore
from defectbench.entries.building import RunModel
from defectbench.entries.folder import MAX_ENTRY, published
from defectbench.entries.rescoring import dataset_of
from defectbench.entries.run_folder import Owner, claim, locked
from defectbench.entries.schema import SelectedState, SkippedState
from defectbench.models.certificate import check_claim
from defectbench.models.environment import PythonEnvironment
from defectbench.models.resolved import ResolvedModel, check_against_definition
from defectbench.models.schema import ModelDefinition
from defectbench.runs.finishing import Certificate, Written, finish
from defectbench.runs.selection import refuse_numbers, take_earlier
from defectbench.tasks import get_tasks

if TYPE_CHECKING:
    from defectbench.calculations.client import WorkerSpec
    from defectbench.calculations.executors import Executor
    from defectbench.calculations.plan import Plan
    from defectbench.calculations.preparation import Prepared
    from defectbench.calculations.requests import Calculation
    from defectbench.datasets.dataset import Dataset
    from defectbench.runs.selection import Selected

RECORD = "shard.json"
STORE = "calculations.db"


class ShardRecord(BaseModel):
    """What a shard's folder says of its run: all that its entry needs beside the results.

    Attributes:
        number: of this shard, from 1.
        of: how many there are.
        owner: model, dataset and selection.
        tasks: names, in the order of the run.
        states: the charge states of the run.
        skipped: those selected that do not run.
        dataset_sha256: of the dataset's content.
        protocol: of the relaxations.
        model: its definition.
        embedded: whether the definition ships with defectbench, weights included.
        identity: of the model; results are stored under it.
        weights_sha256: name → hash of the weights.
        own_weights: whether they are the user's own.
        code_sha256: of a calculator's code.
        packages_sha256: identifies the packages.
        environment: its name.
        device: that the shard ran on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    number: int = Field(ge=1)
    of: int = Field(ge=1)
    owner: Owner
    tasks: tuple[str, ...]
    states: tuple[SelectedState, ...]
    skipped: tuple[SkippedState, ...]
    dataset_sha256: str
    protocol: dict[str, Any]
    model: ModelDefinition
    embedded: bool
    identity: str
    weights_sha256: dict[str, str]
    own_weights: bool
    code_sha256: str | None
    packages_sha256: str
    environment: str
    device: str

    @classmethod
    def of_run(cls, shard: Shard, selected: Selected, ready: Prepared) -> Self:
        """The record of a shard that begins."""
        model = ready.resolved
        return cls(
            number=shard.number,
            of=shard.of,
            owner=selected.owner,
            tasks=tuple(task.name for task in selected.tasks),
            states=tuple(SelectedState(defect=s.defect, charge=s.charge, configurations=list(s.configurations)) for s in selected.states),
            skipped=tuple(SkippedState(defect=d, charge=q, reason=r) for d, q, r in selected.skipped),
            dataset_sha256=selected.data.sha256,
            protocol=PROTOCOL.to_json(),
            model=model.definition,
            embedded=selected.chosen.embedded,
            identity=model.identity,
            weights_sha256=dict(model.weights_sha256),
            own_weights=model.own_weights,
            code_sha256=model.code_sha256,
            packages_sha256=ready.python.pins_sha256,
            environment=ready.python.name,
            device=model.device,
        )

    def resolved(self) -> ResolvedModel:
        """The model, without its files."""
        return ResolvedModel(
            self.model,
            {},
            self.weights_sha256,
            device=self.device,
            pins_sha256=self.packages_sha256,
            own_weights=self.own_weights,
            code_sha256=self.code_sha256,
        )

    def difference(self, other: ShardRecord) -> str | None:
        """What makes two records those of two runs, in a few words; None if they are shards of one."""
        if (what := self.owner.difference(other.owner)) is not None:
            return what
        if self.identity != other.identity:
            return f"results of {other.model.id} with other weights, code or packages"
        if self.dataset_sha256 != other.dataset_sha256:
            return f"results on another version of {other.owner.dataset}"
        if self.protocol != other.protocol:
            return "results of another protocol"
        if (self.states, self.tasks) != (other.states, other.tasks):
            return "another selection of charge states or tasks"
        return None


@dataclass(frozen=True)
class ShardDone:
    """What :func:`evaluate_shard` did.

    Attributes:
        folder: of the shard.
        run_folder: of the whole run.
        shard: which one.
        calculations: that it holds.
        failed: how many of them failed.
    """

    folder: Path
    run_folder: Path
    shard: Shard
    calculations: int
    failed: int


def shard_folder(run_folder: Path, shard: Shard) -> Path:
    """The folder of a shard.

    >>> shard_folder(Path("run"), Shard(2, 12)).as_posix()
    'run/shards/02-of-12'
    """
    return run_folder / "shards" / f"{shard.number:0{len(str(shard.of))}d}-of-{shard.of}"


def evaluate_shard(
    shard: Shard,
    selected: Selected,
    *,
    workers: int | None = None,
    batch: int | None = None,
    executor: Executor | Callable[[WorkerSpec], Executor] | None = None,
    retry_failed: bool = False,
    reporter: Reporter,
) -> ShardDone:
    """Calculates and stores one shard of a run, below the run's folder; the same call resumes. No entry is written.

    The first shard also measures the charge-response certificate.

    Args:
        shard: which one.
        selected: the whole run.
        workers: worker processes.
        batch: structures per force call of a worker.
        executor: runs the calculations instead of local worker processes, or makes what does.
        retry_failed: calculate failed relaxations again.
        reporter: hooks that follow the run.

    Raises:
        DefectbenchError: bad input, or the model's certificate contradicts its definition.
        RunError: the folder is in use, the disk is full, or the model cannot start.
    """
    refuse_numbers(workers, batch)
    folder = shard_folder(selected.folder, shard)
    with locked(folder):
        claim(folder, selected.owner)
        ready = selected.chosen.prepare(reporter.stage)
        identity = ready.resolved.identity
        plan = selected.plan().part(shard)
        runner = ready.executor(executor, workers=workers, batch=batch, at_most=len(plan.calculations), on_progress=reporter.progress)
        write_text(folder / RECORD, ShardRecord.of_run(shard, selected, ready).model_dump_json(indent=1) + "\n")
        with ResultStore(contained(folder, STORE)) as store:
            take_earlier(selected.folder, selected, store, plan, identity, reporter)
            asked = certificate_of(selected.chosen.definition, selected.data, selected.defects)
            if shard.number == 1:
                raw = certify(asked, store, identity, runner, reporter)
                _judged(asked, raw, ready.resolved, selected.data, selected.charge_states)
                if ready.hand is None and (note := network_note(ready.resolved.definition, raw.worker.network if raw.worker else None)):
                    reporter.note(note)
            first = first_questions(asked, plan.ask.takes_charge)
            results = calculate(plan, store, identity, runner, retry_failed=retry_failed, reporter=reporter, at_the_end=first)
            rounded = {c.content_hash: published(c, results[c.content_hash]) for c in plan.calculations}
            calculate_again([*first, *asked_again(plan, rounded, _charges(plan))], store, identity, runner, reporter)
    failed = sum(stored.result.status == "failed" for stored in results.values())
    return ShardDone(folder, selected.folder, shard, len(results), failed)


def _charges(plan: Plan) -> list[int]:
    """The charges of a plan's relaxations, in its order, each last one last: as the ends that the audit of a whole run asks at."""
    return list(dict.fromkeys(c.charge for c in (*plan.host.values(), *plan.relaxations.values()) if c.charge is not None))


def _judged(
    asked: Calculation, raw: CertificateResult, resolved: ResolvedModel, data: Dataset, states: Sequence[tuple[str, int]]
) -> Certificate:
    certificate = judge(raw.model_dump(mode="json"), data, states)
    check_claim(certificate, resolved.definition)
    assert raw.worker is not None
    check_against_definition(resolved, raw.worker.model_dump(mode="json"))
    return Certificate(asked, raw, certificate)


class _Nothing:
    """An executor for a plan of which everything is stored."""

    def run(self, calculations: Sequence[Calculation]) -> Any:
        raise AssertionError(f"{len(calculations)} calculations are not stored")


def merge_shards(
    folders: Sequence[Path], output: Path, dataset: str | Path | None = None, *, figures: bool = True, reporter: Reporter | None = None
) -> Written:
    """Merges the shards of one run and writes the entry that the run would have given in one piece.

    Results are copied into the output folder's store; the shards stay as they are.

    Args:
        folders: of the shards, in any order.
        output: run folder to write to.
        dataset: the dataset, if it does not come with defectbench.
        figures: whether figures are drawn.
        reporter: hooks that follow the merge.

    Raises:
        DefectbenchError: a folder is not of a shard (code ``no-shard``), or they are of different runs (``other-run``), or of another
            dataset (``other-dataset``).
        RunError: calculations are missing (``unfinished``), or a shard is still running (``folder-in-use``).
    """
    reporter = reporter or Reporter()
    records = {folder: read_record(folder) for folder in folders}
    if not records:
        raise DefectbenchError("no folder of a shard is given; give those that 'defectbench evaluate --shard' wrote", code="no-shard")
    (leading, record), *others = records.items()
    for folder, other in others:
        if (what := record.difference(other)) is not None:
            raise DefectbenchError(f"{folder} holds {what}, other than {leading}; merge the shards of one run", code="other-run")
    resolved = record.resolved()
    if resolved.identity != record.identity:
        raise DefectbenchError(
            f"{leading} was calculated by another version of defectbench; merge with that version, or run the shards again",
            code="other-run",
        )
    data = dataset_of(dataset, record.owner.dataset)
    if (data.id, data.sha256) != (record.owner.dataset, record.dataset_sha256):
        raise DefectbenchError(
            f"{leading} was calculated on {record.owner.dataset} {record.dataset_sha256[:12]}…, not on {data.id} {data.sha256[:12]}…; "
            "give that dataset with --dataset",
            code="other-dataset",
        )
    tasks = get_tasks(record.tasks)
    plan = make_plan(
        data,
        tuple(_planned(s) for s in record.states),
        tuple((s.defect, s.charge, s.reason) for s in record.skipped),
        tasks,
        takes_charge=record.model.charge.how != "none",
        protocol=Protocol(**record.protocol),
    )
    asked = certificate_of(record.model, data, dict.fromkeys(s.defect for s in record.states))
    first = first_questions(asked, plan.ask.takes_charge)
    with locked(output):
        claim(output, record.owner)
        with ResultStore(contained(output, STORE)) as store:
            for folder in records:
                reporter.stage(f"reading {folder}")
                _copy(folder, store, (*plan.calculations, asked), record.identity, reporter)
            _refuse_missing(plan, asked, store, record)
            results = calculate(plan, store, record.identity, _Nothing(), retry_failed=False, reporter=reporter)
            raw = certify(asked, store, record.identity, _Nothing(), reporter)
            rounded = {c.content_hash: published(c, results[c.content_hash]) for c in plan.calculations}
            _copy_audit(list(records), store, first, asked_again(plan, rounded), record.identity, raw)
            again = [c for c in (*first, *asked_again(plan, rounded)) if c.key(record.identity) in store]
            points = calculate_again(again, store, record.identity, _Nothing(), reporter)
        reporter.stage("scoring")
        certificate = _judged(asked, raw, resolved, data, [(s.defect, s.charge) for s in record.states])
        python = PythonEnvironment(Path(), record.environment, {}, record.packages_sha256)
        assert raw.worker is not None
        ran = RunModel(resolved, python, raw.worker, record.embedded)
        return finish(output, record.owner, ran, data, plan, tasks, certificate, results, points, figures=figures, reporter=reporter)


def read_record(folder: Path) -> ShardRecord:
    """What a shard's folder says of its run.

    Raises:
        DefectbenchError: it is not a shard's (code ``no-shard``).
    """
    try:
        return ShardRecord.model_validate_json(read_bytes(contained(folder, RECORD), MAX_ENTRY))
    except (OSError, ValueError) as error:
        why = "there is no shard.json" if isinstance(error, FileNotFoundError) else one_line(error, 200)
        raise DefectbenchError(
            f"{folder} is not the folder of a shard ({why}); give folders that 'defectbench evaluate --shard' wrote", code="no-shard"
        ) from error


def _planned(state: SelectedState) -> Any:
    from defectbench.calculations.plan import SelectedState as Planned

    return Planned(state.defect, state.charge, tuple(state.configurations))


def _copy(folder: Path, store: ResultStore, wanted: Sequence[Calculation], identity: str, reporter: Reporter) -> None:
    """Stores what a shard holds and the store does not; a success replaces a failure."""
    with locked(folder), ResultStore(contained(folder, STORE)) as part:
        tell_losses(part, reporter)
        for calculation in wanted:
            key = calculation.key(identity)
            if (found := part.get(key, calculation)) is None:
                continue
            known = store.get(key, calculation)
            if known is None or (known.result.status == "failed" and found.result.status != "failed"):
                store.take_over(key, calculation, found)


def _copy_audit(
    folders: Sequence[Path],
    store: ResultStore,
    first: Sequence[Calculation],
    ends: Sequence[Calculation],
    identity: str,
    raw: CertificateResult,
) -> None:
    """Stores what the shards calculated again. All asked the certificate's first questions: kept is the answer that is farthest from it."""
    energies = dict(zip(raw.charges, raw.energies, strict=True))
    off: dict[str, float] = {}
    for folder in folders:
        with locked(folder), ResultStore(contained(folder, STORE)) as part:
            for calculation in ends:
                key = calculation.key(identity)
                if key not in store and (found := part.get(key, calculation)) is not None:
                    store.take_over(key, calculation, found)
            for calculation in first:
                key = calculation.key(identity)
                if (found := part.get(key, calculation)) is None:
                    continue
                earlier = raw.energies[0] if calculation.charge is None else energies[calculation.charge]
                answer = getattr(found.result, "energy", None)
                distance = math.inf if answer is None else abs(answer - earlier)
                if key not in off or distance > off[key]:
                    off[key] = distance
                    store.take_over(key, calculation, found)


def _refuse_missing(plan: Plan, asked: Calculation, store: ResultStore, record: ShardRecord) -> None:
    """Says which shards are not finished.

    Raises:
        RunError: some are not.
    """
    shards: Mapping[str, Shard] = {
        c.content_hash: shard
        for shard in (Shard(number, record.of) for number in range(1, record.of + 1))
        for c in plan.part(shard).calculations
    }
    missing = [c for c in plan.calculations if store.get(c.key(record.identity), c) is None]
    by_shard = Counter(shards[c.content_hash].number for c in missing)
    if store.get(asked.key(record.identity), asked) is None:
        by_shard[1] += 1
    if by_shard:
        named = ", ".join(f"{number}/{record.of} ({count})" for number, count in sorted(by_shard.items())[:12])
        more = f" and {len(by_shard) - 12} more shards" if len(by_shard) > 12 else ""
        raise RunError(
            f"{by_shard.total()} of {len(plan.calculations) + 1} calculations have no result, of the shards {named}{more}; "
            "run 'defectbench evaluate --shard' of those, then merge again",
            code="unfinished",
        )
