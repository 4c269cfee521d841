"""Runs calculations on worker processes of this machine and hands each result over as it finishes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Protocol

from defectbench.base import hardware
from defectbench.base.errors import RunError
from defectbench.base.hardware import Machine
from defectbench.calculations.client import Progress, WorkerClient, WorkerDied, WorkerSpec
from defectbench.calculations.executors import Finished
from defectbench.calculations.requests import Calculation
from defectbench.calculations.results import Result, failed_result

GPU_BATCH = 64
"""Structures in one force call on a GPU, to begin with: a worker halves it when memory runs out."""

_STARTS = 3
"""How often in a row a worker may die while it starts before the run ends."""


class Client(Protocol):
    """What the executor needs of a worker: see :class:`defectbench.calculations.client.WorkerClient`."""

    def calculate_many(
        self, calculations: Iterable[Calculation], ahead: int, on_progress: Progress | None = None
    ) -> Iterator[tuple[Calculation, Result]]:
        """Calculations, ``ahead`` of them at a time; each is yielded as it finishes."""
        ...

    def close(self) -> None:
        """Ends the worker, killing it if it must."""
        ...

    def __enter__(self) -> object: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class LocalExecutor:
    """Worker processes of one thread each, side by side.

    Attributes:
        spec: what each worker loads.
        workers: how many.
        batch: structures that one force call of a worker takes, where the model's package can take several.
        on_progress: called from worker threads while a relaxation runs, with step, energy (eV) and largest force (eV/Å).
        network: what the workers had of the network, ``none`` or ``open``; None before one was ready.
    """

    def __init__(self, spec: WorkerSpec, workers: int, on_progress: Progress | None = None, *, batch: int = 1) -> None:
        self.spec = replace(spec, hello={**spec.hello, "batch": batch})
        self.workers = workers
        self.batch = batch
        self.on_progress = on_progress
        self.network: str | None = None

    def run(self, calculations: Sequence[Calculation]) -> Iterator[Finished]:
        """As :func:`run`, which says what is raised."""
        device, described = self.spec.device.split(":")[0], hardware.describe()
        clients: list[WorkerClient] = []

        def start(number: int) -> WorkerClient:
            clients.append(WorkerClient(self.spec, cuda_device=number if self.spec.device == "cuda" else None))
            return clients[-1]

        taken = 1  # what the workers make of the batch that was asked for
        for calculation, result in run(calculations, start, self.workers, self.on_progress, ahead=self.batch):
            taken = max([taken, *(client.batch for client in clients)])
            self.network = next((client.network for client in clients if client.network is not None), self.network)
            machine = Machine(device=device, hardware=described, workers=self.workers, threads_per_worker=1, batch=taken)
            yield Finished(calculation, result, machine)


def default_workers(device: str) -> int:
    """One worker per core; one per GPU that this process may use on CUDA."""
    return max(1, len(hardware.visible_gpus())) if device == "cuda" else hardware.available_cores()


def default_batch(device: str) -> int:
    """A GPU is busy only with many structures at once; a CPU core is with one."""
    return GPU_BATCH if device.startswith("cuda") else 1


def run(
    calculations: Sequence[Calculation],
    start_client: Callable[[int], Client],
    workers: int,
    on_progress: Progress | None = None,
    *,
    ahead: int = 1,
) -> Iterator[tuple[Calculation, Result]]:
    """Runs calculations on ``workers`` workers, in order of the list, and yields each with its result as it finishes.

    A worker that dies in calculations is started again and each of them tried again, alone; the second death is its result
    (status ``failed``, kind ``worker_died``). One that dies while it starts says nothing of a calculation: it is started again,
    and the third such death in a row ends the run. Leaving the iterator early (Ctrl-C, an error of the consumer) ends all workers.

    Args:
        calculations: what to run.
        start_client: makes the client of worker number 0, 1, …; used as a context manager.
        workers: how many side by side.
        on_progress: called from worker threads while a relaxation runs, with step, energy (eV) and largest force (eV/Å).
        ahead: how many calculations a worker has at a time, at most; no more than its share of all.

    Raises:
        DefectbenchError: what ``start_client`` or its handshake raises (a model that cannot be loaded).
        RunError: a worker died while it started, time and again.
    """
    ahead = min(ahead, max(1, -(-len(calculations) // workers)))
    todo: queue.SimpleQueue[Calculation] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[Calculation, Result] | BaseException | None] = queue.SimpleQueue()
    for calculation in calculations:
        todo.put(calculation)
    stop = threading.Event()
    clients: dict[int, Client] = {}

    def serve(number: int) -> None:
        given: list[Calculation] = []  # to the worker, without a result so far
        suspects: list[Calculation] = []  # what a worker died with

        def take() -> Iterator[Calculation]:
            while not stop.is_set():
                try:
                    calculation = todo.get_nowait()
                except queue.Empty:
                    return
                given.append(calculation)
                yield calculation

        def work(client: Client) -> None:
            while suspects and not stop.is_set():
                for answer in client.calculate_many(suspects[:1], 1, on_progress):
                    done.put(answer)
                    del suspects[0]
            for calculation, result in client.calculate_many(take(), ahead, on_progress):
                given.remove(calculation)
                done.put((calculation, result))

        failed_starts = 0
        while not stop.is_set():
            started = False
            try:
                client = clients[number] = start_client(number)
                with client:
                    started, failed_starts = True, 0
                    work(client)
                return
            except WorkerDied as error:  # the client is useless from then on
                if stop.is_set():
                    return
                if started and suspects:
                    done.put((suspects[0], failed_result(suspects.pop(0), str(error), "worker_died")))
                elif started:
                    suspects, given = given, []
                else:
                    failed_starts += 1
                    if failed_starts == _STARTS:
                        raise RunError(
                            f"{error}; it crashed {_STARTS} times while loading the model. Run the same command again to resume; "
                            "use fewer --workers if memory is limited",
                            code="worker-died",
                        ) from error

    def guarded(number: int) -> None:
        try:
            serve(number)
        except BaseException as error:  # noqa: BLE001 - handed to the consumer, which raises it
            done.put(error)
        else:
            done.put(None)

    threads = [threading.Thread(target=guarded, args=(n,), daemon=True) for n in range(max(1, min(workers, len(calculations))))]
    try:
        for thread in threads:
            thread.start()
        running = len(threads)
        while running:
            item = done.get()
            if item is None:
                running -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item
    finally:
        stop.set()
        closing = [threading.Thread(target=client.close, daemon=True) for client in list(clients.values())]
        for closer in closing:
            closer.start()
        for waited in (*closing, *threads):
            waited.join(timeout=10)
