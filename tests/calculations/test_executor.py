"""The executor: every calculation gives one result, whatever its worker does."""

from __future__ import annotations

import itertools
import threading

import pytest
from ase.build import bulk
from refusals import raises_code

from defectbench.base.errors import ModelError
from defectbench.calculations.client import WorkerDied
from defectbench.calculations.executors.local import run
from defectbench.calculations.requests import Calculation, Structure
from defectbench.calculations.results import Result, parse


def calculations(count: int) -> list[Calculation]:
    return [Calculation("relaxation", Structure.from_atoms(bulk("Cu", a=3.6 + n / 100)), None) for n in range(count)]


def relaxed(calculation: Calculation) -> Result:
    row = [[0.0, 0.0, 0.0]]
    content = {"status": "converged", "positions": row, "energy": 0.0, "forces": row, "energies": [0.0], "fmax": [0.0], "steps": 0}
    return parse(calculation, content | {"echo": {"charge": None, "request": calculation.content_hash}})


class Fake:
    """A client that answers with the calculation's hash, and dies when told to."""

    def __init__(self, deaths: dict[str, int] | None = None) -> None:
        self.deaths = deaths if deaths is not None else {}
        self.closed = False

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.closed = True

    def close(self):
        self.closed = True

    def calculate(self, calculation, on_progress=None):
        if self.deaths.get(calculation.content_hash, 0) > 0:
            self.deaths[calculation.content_hash] -= 1
            raise WorkerDied("killed by signal 9", -9)
        if on_progress:
            on_progress(len(calculation.structure.symbols), -1.0, 0.5)
        return relaxed(calculation)

    def calculate_many(self, wanted, ahead, on_progress=None):
        coming = iter(wanted)
        while asked := list(itertools.islice(coming, ahead)):
            for calculation in asked:
                yield calculation, self.calculate(calculation, on_progress)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_each_calculation_gives_its_own_result_once(workers):
    wanted = calculations(7)
    done = list(run(wanted, lambda _n: Fake(), workers))
    assert sorted(c.content_hash for c, _ in done) == sorted(c.content_hash for c in wanted)
    assert all(result.echo.request == c.content_hash for c, result in done)


def test_a_worker_that_dies_once_is_replaced():
    wanted = calculations(3)
    deaths = {wanted[1].content_hash: 1}
    assert [result.status for _, result in run(wanted, lambda _n: Fake(deaths), 1)] == ["converged"] * 3


def test_a_calculation_that_kills_two_workers_is_a_recorded_failure():
    wanted = calculations(3)
    deaths = {wanted[1].content_hash: 99}
    done = {c.content_hash: result for c, result in run(wanted, lambda _n: Fake(deaths), 2)}
    failed = done[wanted[1].content_hash]
    assert failed.status == "failed"
    assert failed.failure_kind == "worker_died"
    assert "signal 9" in failed.failure
    assert sum(r.status == "converged" for r in done.values()) == 2


def test_of_a_batch_that_kills_its_worker_only_the_culprit_fails():
    wanted = calculations(7)
    deaths = {wanted[2].content_hash: 99}
    done = {c.content_hash: result for c, result in run(wanted, lambda _n: Fake(deaths), 1, ahead=4)}
    assert len(done) == 7
    assert [c.content_hash for c in wanted if done[c.content_hash].failure_kind == "worker_died"] == [wanted[2].content_hash]


def starts_that_die(*numbers: int, deaths: dict[str, int] | None = None):
    """A start function whose n-th calls (from 1) die while they load; and its calls so far."""
    calls: list[int] = []

    class Dies(Fake):
        def __enter__(self):
            raise WorkerDied("killed by signal 9 while it loaded", -9)

    def start(number):
        calls.append(number)
        return Dies() if len(calls) in numbers else Fake(deaths)

    return start, calls


def test_a_death_while_it_loads_is_not_the_calculation_s():
    wanted = calculations(3)
    start, calls = starts_that_die(1, 3, 4, deaths={wanted[1].content_hash: 1})
    assert [result.status for _, result in run(wanted, start, 1)] == ["converged"] * 3
    assert len(calls) == 5


def test_deaths_in_calculations_still_count_when_loading_dies_between_them():
    wanted = calculations(2)
    start, _ = starts_that_die(2, 3, deaths={wanted[0].content_hash: 99})
    assert [result.failure_kind for _, result in run(wanted, start, 1)] == ["worker_died", None]


def test_a_model_that_always_dies_while_it_loads_ends_the_run_and_stores_nothing():
    wanted = calculations(3)
    start, calls = starts_that_die(*range(2, 99), deaths={wanted[1].content_hash: 1})
    finished = []

    def collect():
        for calculation, _ in run(wanted, start, 1):
            finished.append(calculation)

    with raises_code("worker-died", "signal 9", "3"):
        collect()
    assert finished == wanted[:1]
    assert len(calls) == 4


def test_a_model_that_cannot_start_is_raised():
    def start(_number):
        raise ModelError("weights are not what they should be", code="wrong-weights")

    with raises_code("wrong-weights"):
        list(run(calculations(2), start, 2))


def test_leaving_early_ends_the_workers():
    clients = []
    release = threading.Event()

    class Slow(Fake):
        def calculate(self, calculation, on_progress=None):
            if len(clients) and self is clients[-1] and calculation is not first:
                release.wait(5)
            return super().calculate(calculation, on_progress)

        def close(self):
            release.set()
            super().close()

    wanted = calculations(4)
    first = wanted[0]

    def start(_number):
        clients.append(Slow())
        return clients[-1]

    for _ in run(wanted, start, 1):
        break
    assert clients
    assert all(c.closed for c in clients)


def test_progress_is_passed_on():
    seen = []
    list(run(calculations(2), lambda _n: Fake(), 2, lambda step, energy, fmax: seen.append((step, energy, fmax))))
    assert seen == [(1, -1.0, 0.5)] * 2
