"""Runs calculations on worker processes and hands each result over as it finishes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from defectbench.base.errors import RunError
from defectbench.calculations.client import Progress, WorkerDied
from defectbench.calculations.requests import Calculation

_STARTS = 3
"""How often in a row a worker may die while it starts before the run ends."""


class Client(Protocol):
    """What the executor needs of a worker: see :class:`defectbench.calculations.client.WorkerClient`."""

    def calculate(self, calculation: Calculation, on_progress: Progress | None = None) -> dict[str, Any]:
        """One calculation, start to end."""
        ...

    def close(self) -> None:
        """Ends the worker, killing it if it must."""
        ...


@dataclass(frozen=True)
class Finished:
    """A calculation and its result."""

    calculation: Calculation
    result: dict[str, Any]


def died_result(calculation: Calculation, reason: str) -> dict[str, Any]:
    """The record of a calculation that took its worker down with it."""
    base: dict[str, Any] = {"status": "failed", "failure": reason, "failure_kind": "worker_died"}
    if calculation.kind == "relaxation":
        base |= {
            "positions": [list(row) for row in calculation.structure.positions],
            "energy": None,
            "forces": None,
            "energies": [],
            "fmax": [],
            "steps": 0,
            "wall_s": 0.0,
            "cpu_s": 0.0,
            "peak_memory_mb": 0.0,
        }
    return base


def run(
    calculations: Sequence[Calculation],
    start_client: Callable[[int], AbstractContextManager[Client]],
    workers: int,
    on_progress: Progress | None = None,
) -> Iterator[Finished]:
    """Runs calculations on ``workers`` workers, in order of the list, and yields each as it finishes.

    A worker that dies in a calculation is started again and its calculation tried once more; the second death is its result
    (status ``failed``, kind ``worker_died``). One that dies while it starts says nothing of a calculation: it is started again,
    and the third such death in a row ends the run. Leaving the iterator early (Ctrl-C, an error of the consumer) ends all workers.

    Args:
        calculations: what to run.
        start_client: makes the client of worker number 0, 1, …; used as a context manager.
        workers: how many side by side.
        on_progress: called from worker threads while a relaxation runs, with step, energy (eV) and largest force (eV/Å).

    Raises:
        DefectbenchError: what ``start_client`` or its handshake raises (a model that cannot be loaded).
        RunError: a worker died while it started, time and again.
    """
    todo: queue.SimpleQueue[Calculation] = queue.SimpleQueue()
    done: queue.SimpleQueue[Finished | BaseException | None] = queue.SimpleQueue()
    for calculation in calculations:
        todo.put(calculation)
    stop = threading.Event()
    clients: dict[int, Client] = {}

    def serve(number: int) -> None:
        pending: Calculation | None = None
        deaths = failed_starts = 0
        while not stop.is_set():
            try:
                with start_client(number) as client:
                    clients[number] = client
                    failed_starts = 0
                    while not stop.is_set():
                        if pending is None:
                            pending, deaths = todo.get_nowait(), 0
                        try:
                            result = client.calculate(pending, on_progress)
                        except WorkerDied as error:
                            deaths += 1
                            if deaths == 2 and not stop.is_set():
                                done.put(Finished(pending, died_result(pending, str(error))))
                                pending = None
                            break  # this client is of no use any more
                        done.put(Finished(pending, result))
                        pending = None
            except queue.Empty:
                return
            except WorkerDied as error:
                failed_starts += 1
                if failed_starts == _STARTS and not stop.is_set():
                    raise RunError(
                        f"{error}; it died {_STARTS} times in a row while it loaded the model; the same command goes on from here, "
                        "with fewer workers if memory is short"
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
        for client in list(clients.values()):
            client.close()
        for thread in threads:
            thread.join(timeout=10)
