"""Calculations on the nodes of a cluster, with Dask as the engine: it schedules, moves and retries; here is what a node does with a task.

A node resolves the model itself: its environment and weights lie in the node's own cache, or are built and fetched there once. Each Dask
worker keeps one worker process of the model from task to task. The parent alone stores results.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from defectbench.base import hardware
from defectbench.base.errors import DefectbenchError, RunError
from defectbench.base.hardware import Machine
from defectbench.base.schema import problems
from defectbench.base.text import one_line
from defectbench.base.yaml import read_yaml
from defectbench.calculations.client import WorkerClient, WorkerSpec
from defectbench.calculations.executors import Finished
from defectbench.calculations.executors.local import default_batch, run
from defectbench.calculations.requests import Calculation
from defectbench.calculations.results import failed_result, parse

if TYPE_CHECKING:
    from distributed import Client

CLUSTERS = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster", "lsf": "LSFCluster", "htcondor": "HTCondorCluster"}
"""What a job queue is called in a file → its class in ``dask_jobqueue``."""

ROUNDS = 3
"""How often a calculation may take Dask workers down with it until Dask gives it up, before that is its result."""

Answer = tuple[str, str, str]
"""Content hash, result and machine, as JSON."""


class JobQueue(BaseModel):
    """A job queue, as a file describes it.

    Attributes:
        cluster: a name of :data:`CLUSTERS`.
        jobs: how many are submitted.
        options: of the class in ``dask_jobqueue``: queue, cores, memory, walltime, ….
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cluster: str
    jobs: int = Field(ge=1, le=100_000)
    options: dict[str, Any] = {}

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads a file.

        Raises:
            DefectbenchError: it breaks the schema.
        """
        try:
            found = cls.model_validate(read_yaml(path, DefectbenchError))
        except ValidationError as error:
            field_name, wrong = problems(error, cls)[0]
            raise DefectbenchError(f"{path}: {field_name}: {wrong}; see docs/cluster.md", code="bad-jobqueue") from error
        if found.cluster not in CLUSTERS:
            raise DefectbenchError(f"{path}: cluster is one of {', '.join(CLUSTERS)}, not '{found.cluster}'", code="bad-jobqueue")
        return found


@dataclass
class OnDask:
    """A connection to a Dask scheduler, opened when it is first needed and closed at the end of the ``with`` block.

    Attributes:
        scheduler: address (``tcp://HOST:PORT``), or the path of a scheduler file.
        jobqueue: starts a scheduler here, and jobs that work for it, instead.
        batch: calculations per task, of which a worker makes batches; by default one on CPUs and many with ``cuda``.
        patience_s: how long a scheduler that went away is waited for.

    Example::

        with OnDask("tcp://10.0.0.1:8786") as place:
            defectbench.evaluate("chgnet-0.3.0", executor=place.executor)
    """

    scheduler: str | None = None
    jobqueue: JobQueue | None = None
    batch: int | None = None
    patience_s: float = 600.0
    _cluster: Any = field(default=None, init=False, repr=False)
    _client: Client | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if (self.scheduler is None) == (self.jobqueue is None):
            raise DefectbenchError("Dask needs a scheduler's address (--scheduler) or a job queue (--jobqueue), one of them")
        try:
            import distributed  # noqa: F401

            if self.jobqueue is not None:
                import dask_jobqueue  # noqa: F401
        except ImportError as error:
            raise DefectbenchError(f"{error.name} is not installed; run 'pip install defectbench[dask]'", code="missing-package") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.disconnect()
        if self._cluster is not None:
            self._cluster.close()

    def executor(self, spec: WorkerSpec) -> DaskExecutor:
        """What runs the calculations of a model; for :func:`defectbench.evaluate`."""
        return DaskExecutor(spec, self, self.batch or default_batch(spec.device))

    def connect(self) -> Client:
        """The connection.

        Raises:
            RunError: there is no scheduler.
        """
        from distributed import Client

        if self._client is not None:
            return self._client
        deadline = time.monotonic() + self.patience_s
        while True:
            try:
                if self.jobqueue is not None:
                    self._client = Client(self._jobs())
                elif self.scheduler is not None and ":" not in self.scheduler:
                    # a scheduler that comes back writes its file again; until then there is none
                    if not Path(self.scheduler).is_file():
                        raise OSError("no such file")
                    self._client = Client(scheduler_file=self.scheduler, timeout=10)
                else:
                    self._client = Client(self.scheduler, timeout=10)
                return self._client
            except (OSError, ValueError) as error:
                if time.monotonic() >= deadline or isinstance(error, ValueError):
                    raise RunError(
                        f"no Dask scheduler at {self.scheduler} ({one_line(error, 200)}); check --scheduler and that it runs. "
                        "Nothing finished is lost",
                        code="no-scheduler",
                    ) from error
                time.sleep(1.0)

    def disconnect(self) -> None:
        """Closes the connection; tasks that nobody waits for end."""
        client, self._client = self._client, None
        if client is not None:
            client.close(timeout=5)

    def _jobs(self) -> Any:
        import dask_jobqueue

        assert self.jobqueue is not None
        if self._cluster is None:
            self._cluster = getattr(dask_jobqueue, CLUSTERS[self.jobqueue.cluster])(**self.jobqueue.options)
            self._cluster.scale(jobs=self.jobqueue.jobs)
        return self._cluster


class DaskExecutor:
    """Sends calculations to Dask and hands each result over as its task finishes."""

    def __init__(self, spec: WorkerSpec, place: OnDask, batch: int) -> None:
        """Args: what a node's workers load, the connection, and the calculations per task."""
        self._order = Order(spec, batch)
        self.batch = batch
        self._place = place

    def run(self, calculations: Sequence[Calculation]) -> Iterator[Finished]:
        """Yields each calculation as it finishes.

        A lost Dask worker's tasks run elsewhere: Dask does that. Those that Dask gives up, as too many workers died with them, are sent
        again, one by one; the third time that is their result (status ``failed``, kind ``worker_died``). When the scheduler is lost, what
        has no result so far is sent to the one that comes in its place.

        Raises:
            DefectbenchError: what a node raised (a model that cannot be loaded).
            RunError: the scheduler is gone for good.
        """
        from distributed import KilledWorker

        left = {c.content_hash: c for c in calculations}
        killed: dict[str, int] = {}
        while left:
            try:
                for hashes, answers in self._answers(list(left.values()), set(killed)):
                    if isinstance(answers, KilledWorker):
                        for content_hash in hashes:
                            killed[content_hash] = killed.get(content_hash, 0) + 1
                            if killed[content_hash] >= ROUNDS:
                                calculation = left.pop(content_hash)
                                # what Dask says names addresses, and a failure is published
                                why = f"Dask workers died with it, {ROUNDS} times over"
                                yield Finished(
                                    calculation, failed_result(calculation, why, "worker_died"), _machine(self._order.spec.device, 1)
                                )
                        continue
                    for content_hash, result, machine in answers:
                        calculation = left.pop(content_hash)
                        yield Finished(calculation, parse(calculation, result), Machine.model_validate_json(machine))
            except SchedulerLost:
                self._place.disconnect()  # connecting again waits for it

    def _answers(self, calculations: Sequence[Calculation], alone: set[str]) -> Iterator[tuple[tuple[str, ...], Any]]:
        """Content hashes of a task, and its answers or what Dask says of its workers' deaths."""
        from concurrent.futures import CancelledError

        from distributed import KilledWorker, as_completed
        from distributed.comm.core import CommClosedError

        size = self._order.batch
        together = [c for c in calculations if c.content_hash not in alone]
        chunks = [together[n : n + size] for n in range(0, len(together), size)] + [[c] for c in calculations if c.content_hash in alone]
        try:
            client = self._place.connect()
            tasks = {client.submit(answer, self._order, chunk, pure=False): tuple(c.content_hash for c in chunk) for chunk in chunks}
            try:
                for future in as_completed(tasks):
                    status = future.status
                    if status in ("cancelled", "lost"):
                        raise SchedulerLost
                    if status == "error":
                        error = future.exception()
                        if isinstance(error, KilledWorker):
                            yield tasks[future], error
                            continue
                        if isinstance(error, DefectbenchError):
                            raise error
                        raise RunError(f"a task failed on its node: {type(error).__name__}: {one_line(error, 300)}") from error
                    yield tasks[future], future.result()
                    future.release()
            finally:
                client.cancel(list(tasks))
        except (CancelledError, CommClosedError, TimeoutError, OSError) as error:
            raise SchedulerLost from error


class SchedulerLost(Exception):  # noqa: N818 - a thing that happened
    """The connection to the scheduler broke."""


@dataclass(frozen=True)
class Order:
    """What a node's workers load, and how many calculations they are given at a time."""

    spec: WorkerSpec
    batch: int


def answer(order: Order, calculations: Sequence[Calculation]) -> list[Answer]:
    """A task: runs calculations on this node.

    Raises:
        RunError: the model cannot be loaded here, or is another than the parent's.
    """
    from distributed import get_worker

    idle = _idle(get_worker())
    lent: list[_Lent] = []

    def start(_number: int) -> _Lent:
        lent.append(_Lent(idle, spec, order.batch))
        return lent[-1]

    try:
        spec = idle.spec(order.spec)
        done = list(run(calculations, start, 1, ahead=order.batch))
        machine = _machine(spec.device, max([1, *(worker.batch for worker in lent)])).model_dump_json()
        return [(calculation.content_hash, result.model_dump_json(), machine) for calculation, result in done]
    except DefectbenchError as error:  # of a kind that survives the way to the parent
        raise RunError(str(error), code=error.code) from None


def _machine(device: str, batch: int) -> Machine:
    return Machine(device=device.split(":")[0], hardware=hardware.describe(), workers=1, threads_per_worker=1, batch=batch)


class Idle:
    """The workers of a model that wait for the next task, of one Dask worker process, and the model as it lies on this node."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._specs: dict[str, WorkerSpec] = {}
        self._clients: dict[str, list[WorkerClient]] = {}

    def spec(self, given: WorkerSpec) -> WorkerSpec:
        """What starts a worker here: environment and weights of this node, which are built and fetched if they are not there."""
        if given.here is None:
            return given
        with self._lock:
            key = _key(given)
            if key not in self._specs:
                self._specs[key] = given.here()
            return self._specs[key]

    def take(self, spec: WorkerSpec, batch: int) -> WorkerClient:
        """A worker that waits, or one that is still to be started."""
        from dataclasses import replace

        with self._lock:
            waiting = self._clients.setdefault(f"{_key(spec)} {batch}", [])
            if waiting:
                return waiting.pop()
        return WorkerClient(replace(spec, hello={**spec.hello, "batch": batch}), cuda_device=0 if spec.device == "cuda" else None)

    def put(self, client: WorkerClient, spec: WorkerSpec, batch: int) -> None:
        """Keeps a worker for the next task; those of other models end."""
        key = f"{_key(spec)} {batch}"
        with self._lock:
            others = [other for name, clients in self._clients.items() if name != key for other in clients]
            self._clients = {key: [*self._clients.get(key, []), client]}
        for other in others:
            other.close()

    def close(self) -> None:
        """Ends all that wait."""
        with self._lock:
            clients = [client for waiting in self._clients.values() for client in waiting]
            self._clients = {}
        for client in clients:
            client.close()


def _key(spec: WorkerSpec) -> str:
    return f"{spec.identity} {spec.device} {spec.python}"


def _idle(worker: Any) -> Idle:
    """The idle workers of a Dask worker process, which end with it."""
    import atexit

    with _MAKING:
        found = getattr(worker, "defectbench_idle", None)
        if found is None:
            found = worker.defectbench_idle = Idle()
            atexit.register(found.close)
        return found


_MAKING = threading.Lock()


class _Lent:
    """A worker that goes back to the idle ones when its task is done, unless it died.

    Attributes:
        batch: structures that one of its force calls takes.
    """

    batch = 1

    def __init__(self, idle: Idle, spec: WorkerSpec, batch: int) -> None:
        self._idle, self._spec, self._batch = idle, spec, batch
        self._client: WorkerClient | None = None

    def __enter__(self) -> Self:
        self._client = self._idle.take(self._spec, self._batch)
        self._client.start()
        self.batch = self._client.batch
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        if kind is None:
            self._idle.put(client, self._spec, self._batch)
        else:
            client.close()

    def close(self) -> None:
        """Ends a worker in the middle of a task."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    @property
    def calculate_many(self) -> Callable[..., Any]:
        """As of :class:`~defectbench.calculations.client.WorkerClient`."""
        assert self._client is not None
        return self._client.calculate_many
