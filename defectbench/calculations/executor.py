"""Runs calculations on worker processes and hands each result over as it finishes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from defectbench.calculations.calculation import Calculation
from defectbench.calculations.client import Progress, WorkerDied


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

    A worker that dies is started again and its calculation tried once more; the second death is its result
    (status ``failed``, kind ``worker_died``). Leaving the iterator early (Ctrl-C, an error of the consumer) ends all workers.

    Args:
        calculations: what to run.
        start_client: makes the client of worker number 0, 1, …; used as a context manager.
        workers: how many side by side.
        on_progress: called from worker threads while a relaxation runs, with step, energy (eV) and largest force (eV/Å).

    Raises:
        DefectbenchError: what ``start_client`` or its handshake raises (a model that cannot be loaded).
    """
    todo: queue.SimpleQueue[Calculation] = queue.SimpleQueue()
    done: queue.SimpleQueue[Finished | BaseException | None] = queue.SimpleQueue()
    for calculation in calculations:
        todo.put(calculation)
    stop = threading.Event()
    clients: dict[int, Client] = {}

    def serve(number: int) -> None:
        attempts = 0
        pending: Calculation | None = None
        while not stop.is_set():
            try:
                with start_client(number) as client:
                    clients[number] = client
                    while not stop.is_set():
                        if pending is None:
                            pending, attempts = todo.get_nowait(), 0
                        result = client.calculate(pending, on_progress)
                        done.put(Finished(pending, result))
                        pending = None
            except queue.Empty:
                return
            except WorkerDied as error:
                if stop.is_set():
                    return
                if pending is None:
                    raise
                attempts += 1
                if attempts == 2:
                    done.put(Finished(pending, died_result(pending, str(error))))
                    pending = None

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
