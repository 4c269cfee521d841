"""A batch changes how forces are called for, and nothing of what a calculation is."""

from __future__ import annotations

import queue
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from refusals import raises_code

from defectbench.calculations.executors.in_process import InProcessExecutor
from defectbench.calculations.requests import Calculation, Protocol, Structure
from defectbench.calculations.run import Reporter, certify
from defectbench.calculations.store import ResultStore
from defectbench.models.certificate import check_claim, classify
from defectbench.models.schema import ModelDefinition
from defectbench.worker.adapters.base import LoadedModel
from defectbench.worker.batched import serve
from defectbench.worker.main import answer

CHARGES = (-2, -1, 0, 1, 2)


DEFINITION = {
    "id": "toy",
    "name": "toy",
    "environment": "current",
    "adapter": "ase_calculator",
    "level_of_theory": "none",
    "arguments": {"factory": "toys:make"},
    "charge": {"how": "info:charge"},
}


def certificate(structure: Structure, charges: tuple[int, ...]) -> dict[str, Any]:
    return {"type": "calculate", "id": 0, **Calculation("certificate", structure, None, options={"charges": list(charges)}).to_json()}


class Silent:
    def send(self, message: dict[str, Any]) -> None:
        pass


class Charged(EMT):
    """EMT with a uniform field along x that grows with the charge in ``info``."""

    def calculate(self, atoms=None, properties=None, system_changes=None):
        super().calculate(atoms, properties, system_changes)
        field = 0.02 * self.atoms.info["charge"] * np.sin(np.arange(len(self.atoms)))
        self.results["energy"] -= float(field @ self.atoms.positions[:, 0])
        self.results["forces"] = self.results["forces"] + np.outer(field, [1.0, 0.0, 0.0])


class Toy(LoadedModel):
    """Evaluates a batch one structure after another, and counts."""

    batches = True

    def __init__(self, memory: int = 1000, bad: int | None = None) -> None:
        super().__init__(Charged(), charge="info:charge")
        self.memory, self.bad = memory, bad
        self.sizes: list[int] = []

    def evaluate(self, structures):
        self.sizes.append(len(structures))
        if len(structures) > self.memory:
            raise RuntimeError("CUDA out of memory")
        if self.bad is not None and any(atoms.info["charge"] == self.bad for atoms in structures):
            raise ValueError("this charge is not for me")
        found = []
        for atoms in structures:
            copy = atoms.copy()
            copy.calc = Charged()
            found.append((float(copy.get_potential_energy()), copy.get_forces()))
        return found


def calculations() -> list[Calculation]:
    wanted = []
    for number, charge in enumerate(CHARGES):
        atoms = bulk("Cu", cubic=True) * (2, 1, 1)
        atoms.rattle(0.05 + 0.03 * number, seed=number)
        wanted.append(Calculation("relaxation", Structure.from_atoms(atoms), charge, Protocol(fmax=0.02)))
        wanted.append(Calculation("single_point", Structure.from_atoms(atoms), charge))
    del atoms
    return wanted


def run(model: LoadedModel, wanted: list[Calculation], size: int) -> dict[str, dict[str, Any]]:
    requests: queue.Queue[dict[str, Any]] = queue.Queue()
    for number, calculation in enumerate(wanted):
        requests.put({"type": "calculate", "id": number, **calculation.to_json()})
    requests.put({})
    results: dict[str, dict[str, Any]] = {}
    serve(
        model,
        size,
        requests,
        lambda member, request: answer(member, request, Silent()),
        lambda q, r: results.update({wanted[q["id"]].content_hash: r}),
    )
    return results


@pytest.fixture(scope="module")
def alone() -> dict[str, dict[str, Any]]:
    model = Toy()
    return {c.content_hash: answer(model, {"type": "calculate", "id": 0, **c.to_json()}, Silent()) for c in calculations()}


@pytest.mark.parametrize(("size", "memory"), [(4, 1000), (10, 1000), (64, 1000), (10, 3), (2, 1)])
def test_trajectories_are_those_of_ase_step_by_step(alone: dict[str, dict[str, Any]], size: int, memory: int) -> None:
    wanted = calculations()
    model = Toy(memory)
    found = run(model, wanted, size)
    assert found.keys() == alone.keys()
    assert max(model.sizes) == min(size, len(wanted))
    for key, one in alone.items():
        assert {k: found[key].get(k) for k in ("status", "steps", "echo")} == {k: one.get(k) for k in ("status", "steps", "echo")}
        np.testing.assert_allclose(found[key].get("energies", [0]), one.get("energies", [0]), atol=1e-10)
        np.testing.assert_allclose(found[key].get("positions", [0]), one.get("positions", [0]), atol=1e-8)
        np.testing.assert_allclose(found[key]["forces"], one["forces"], atol=1e-8)
    assert len({alone[c.content_hash]["steps"] for c in wanted if c.kind == "relaxation"}) > 1, "they end at different steps"


def test_the_order_of_a_batch_does_not_matter(alone: dict[str, dict[str, Any]]) -> None:
    found = run(Toy(), calculations()[::-1], 4)
    assert all(found[key]["energy"] == pytest.approx(one["energy"], abs=1e-10) for key, one in alone.items())


def test_a_structure_that_fails_takes_no_other_with_it(alone: dict[str, dict[str, Any]]) -> None:
    wanted = calculations()
    found = run(Toy(bad=1), wanted, 10)
    failed = {c.charge for c in wanted if found[c.content_hash]["status"] == "failed"}
    assert failed == {1}
    assert all(found[c.content_hash]["energy"] == pytest.approx(alone[c.content_hash]["energy"]) for c in wanted if c.charge != 1)


def test_guards_are_those_of_a_calculation_alone() -> None:
    close = Atoms("Cu2", positions=[[0, 0, 0], [0.2, 0, 0]], cell=[8, 8, 8], pbc=True)
    too_close = Calculation("relaxation", Structure.from_atoms(close), 0, Protocol())
    unknown = Calculation("descriptors", Structure.from_atoms(close), 0)
    found = run(Toy(), [*calculations(), too_close, unknown], 4)
    assert found[too_close.content_hash]["failure_kind"] == "atoms_too_close"
    assert found[unknown.content_hash]["status"] == "unsupported"


@pytest.mark.parametrize(("mixes", "passed"), [(False, True), (True, False)])
def test_the_certificate_asks_for_a_batch_of_all_charges(mixes: bool, passed: bool) -> None:
    class Mixing(Toy):
        def evaluate(self, structures):
            return super().evaluate(sorted(structures, key=lambda atoms: atoms.info["charge"]))

    model = (Mixing if mixes else Toy)()
    model.batch = 4
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    raw = answer(model, certificate(Structure.from_atoms(atoms), CHARGES), Silent())
    assert raw["status"] == "ok", raw
    found = classify(raw)
    assert next(check.passed for check in found.checks if check.name == "batched") is passed
    if not passed:
        with raises_code("charge-contradiction"):
            check_claim(found, ModelDefinition.model_validate(DEFINITION))


def test_without_batches_there_is_no_such_check() -> None:
    atoms = bulk("Cu", cubic=True)
    raw = answer(Toy(), certificate(Structure.from_atoms(atoms), CHARGES), Silent())
    assert raw["batched"] is None
    assert "batched" not in {check.name for check in classify(raw).checks}


def test_a_certificate_without_batches_is_measured_again_for_a_run_with_batches(tmp_path: Path) -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    wanted = Calculation("certificate", Structure.from_atoms(atoms), None, options={"charges": list(CHARGES)})
    asked: list[int] = []

    class Here(InProcessExecutor):
        def __init__(self, batch: int) -> None:
            model = Toy()
            self.batch = model.batch = batch
            super().__init__(model)

        def run(self, calculations):
            asked.append(self.batch)
            return super().run(calculations)

    with ResultStore(tmp_path / "c.db") as store:
        for batch in (1, 1, 4, 4, 1):
            found = certify(wanted, store, "toy", Here(batch), Reporter())
    assert asked == [1, 4]
    assert found.batched is not None


def test_what_a_calculation_costs_is_its_share() -> None:
    before = set(threading.enumerate())
    found = run(Toy(), calculations(), 10)
    costs = [result["wall_s"] for result in found.values()]
    assert all(cost > 0 for cost in costs)
    assert not set(threading.enumerate()) - before, "no thread is left behind"
