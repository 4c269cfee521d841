"""Many calculations at once with one model.

Each calculation runs in a thread of its own exactly as it would alone, with ASE's optimizer and the same guards. Only its calculator
differs: it waits until every calculation of the batch needs forces, and one call of the model's package gives them to all.
"""

from __future__ import annotations

import copy
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from numpy.typing import NDArray

from .adapters.base import LoadedModel
from .errors import one_line

Answer = Callable[[LoadedModel, dict[str, Any]], dict[str, Any]]
"""What a calculation is: a model and a request give a result."""

BATCHED = ("relaxation", "single_point")
"""Kinds of calculation that need nothing of a model but energies and forces."""


class _Waiting(Calculator):
    """Energies and forces of one calculation, by the batch that it belongs to."""

    implemented_properties = ["energy", "free_energy", "forces"]  # noqa: RUF012 (as ASE has it)

    def __init__(self, member: _Member) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # ase has no types
        self._member = member

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:  # noqa: ARG002  (as ASE has it)
        """Only positions change within a calculation. ASE compares everything, which takes longer than a structure's share of a batch."""
        same = self.atoms is not None and np.array_equal(self.atoms.positions, atoms.positions)
        return [] if same else ["positions"]

    def calculate(self, atoms: Atoms | None = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]  # likewise
        assert self.atoms is not None
        energy, forces = self._member.ask(self.atoms)
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}


class _Member:
    """One calculation of a batch.

    Attributes:
        question: the structure that it needs forces of; None while it does something else.
        answer: energy and forces of that structure, or what the model raised.
        result: what it ended with.
    """

    def __init__(self, batch: Batch, request: dict[str, Any], answer: Answer) -> None:
        self.request = request
        self.question: Atoms | None = None
        self.answer: tuple[float, NDArray[np.float64]] | Exception | None = None
        self.result: dict[str, Any] | None = None
        self.model_wall_s = self.model_cpu_s = 0.0
        self._batch = batch
        self._go_on = threading.Event()
        model = copy.copy(batch.model)  # the model with a calculator, a prepared structure and a clock of its own
        model.calculator = _Waiting(self)
        model.clock = self._clock  # type: ignore[method-assign]  # of this copy alone
        self._thread = threading.Thread(target=self._run, args=(model, answer), daemon=True)
        self._thread.start()

    def _run(self, model: LoadedModel, answer: Answer) -> None:
        try:
            self.result = answer(model, self.request)
        except Exception as error:  # noqa: BLE001  (the batch waits for every thread, so none may go without a word)
            self.result = {"status": "failed", "failure": one_line(error), "failure_kind": "exception"}
        self._batch.came_to_rest(self)

    def _clock(self) -> tuple[float, float]:
        """What this calculation has cost so far: its share of the batch's calls, and what its own thread did."""
        own = time.thread_time()
        return self.model_wall_s + own, self.model_cpu_s + own

    def ask(self, atoms: Atoms) -> tuple[float, NDArray[np.float64]]:
        """Waits for the batch (called in this calculation's thread)."""
        self.question = atoms
        self._batch.came_to_rest(self)
        self._go_on.wait()
        self._go_on.clear()
        if isinstance(self.answer, Exception):
            raise self.answer
        assert self.answer is not None
        return self.answer

    def go_on(self, answer: tuple[float, NDArray[np.float64]] | Exception) -> None:
        """Gives it what it waits for."""
        self.question, self.answer = None, answer
        self._go_on.set()


class Batch:
    """The calculations that run at this moment.

    Attributes:
        model: what evaluates them.
        size: how many structures one call takes; halved when memory runs out.
        members: the calculations.
    """

    def __init__(self, model: LoadedModel, size: int, answer: Answer) -> None:
        self.model = model
        self.size = size
        self.members: list[_Member] = []
        self._answer = answer
        self._at_rest: queue.SimpleQueue[_Member] = queue.SimpleQueue()

    def start(self, request: dict[str, Any]) -> None:
        """Begins a calculation; its first forces come with the next step."""
        self.members.append(_Member(self, request, self._answer))

    def came_to_rest(self, member: _Member) -> None:
        """A calculation says that it waits or has ended."""
        self._at_rest.put(member)

    def step(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """One force call for all: waits until each calculation needs forces or has ended.

        Returns:
            Request and result of those that have ended.
        """
        for _ in range(len(self.members)):
            self._at_rest.get()
        ended = [m for m in self.members if m.result is not None]
        self.members = [m for m in self.members if m.result is None]
        at = 0
        while at < len(self.members):
            chunk = self.members[at : at + self.size]
            answers = self._evaluate(chunk)
            if answers is not None:  # else: smaller chunks from here on
                for member, answer in zip(chunk, answers, strict=True):
                    member.go_on(answer)
                at += len(chunk)
        return [(m.request, m.result) for m in ended if m.result is not None]

    def _evaluate(self, chunk: Sequence[_Member]) -> list[tuple[float, NDArray[np.float64]] | Exception] | None:
        """What each of a chunk waits for; None after memory ran out and ``size`` was halved."""
        began = time.perf_counter(), time.process_time()
        try:
            found = self.model.evaluate([m.question for m in chunk if m.question is not None])
        except Exception as error:  # noqa: BLE001  (a failed calculation, not a dead worker)
            if len(chunk) == 1:
                return [error]
            if _out_of_memory(error):
                self.size = len(chunk) // 2
                return None
            # one of them is at fault, and only that one should fail
            each = [self._evaluate([member]) for member in chunk]
            return [answers[0] for answers in each if answers is not None]
        wall, cpu = ((now - before) / len(chunk) for now, before in zip((time.perf_counter(), time.process_time()), began, strict=True))
        for member in chunk:
            member.model_wall_s += wall
            member.model_cpu_s += cpu
        return list(found)


def _out_of_memory(error: Exception) -> bool:
    """Whether a GPU's memory ran out; what torch keeps of it is given back."""
    if "out of memory" not in str(error).lower() and type(error).__name__ != "OutOfMemoryError":
        return False
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    return True


def serve(
    model: LoadedModel,
    size: int,
    requests: queue.Queue[dict[str, Any]],
    answer: Answer,
    send: Callable[[dict[str, Any], dict[str, Any]], None],
) -> None:
    """Answers calculations, as many at once as a batch holds, until one is the last; never returns while requests may come.

    Args:
        model: what calculates.
        size: structures per call.
        requests: the calculations, as they come in; an empty one ends the loop.
        answer: one calculation from start to end.
        send: takes request and result of each that has ended.
    """
    batch = Batch(model, size, answer)
    last = False
    while not last or batch.members:
        while not last and len(batch.members) < batch.size:
            try:
                request = requests.get(block=not batch.members)
            except queue.Empty:
                break
            if not request:
                last = True
            elif request.get("kind") in BATCHED:
                batch.start(request)
            else:
                send(request, answer(model, request))
        for request, result in batch.step():
            send(request, result)
