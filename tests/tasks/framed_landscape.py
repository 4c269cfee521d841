"""A vacancy whose energy surface is known at every charge, with the frames of its relaxations, and models that know it more or less."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk

from defectbench.calculations.plan import SelectedState, make_plan
from defectbench.calculations.requests import Calculation
from defectbench.calculations.results import Stored, parse
from defectbench.datasets.dataset import Dataset
from defectbench.datasets.extxyz import attach_results
from defectbench.datasets.schema import DatasetFile
from defectbench.scoring.run import scoring_input
from defectbench.scoring.task import ScoringInput, Task

HOST = bulk("NaCl", "rocksalt", a=5.64, cubic=True) * (2, 1, 1)
DEFECT, SITE = "V_Na1", 0
IDEAL = HOST[[i for i in range(len(HOST)) if i != SITE]]
CHARGES = (-1, 0, 1)
SPRING = 2.0
"""eV Å⁻²: E_q(x) = E₀(q) + ½ k |x − x₀(q, well)|²."""

ZERO = {-1: -50.0, 0: -55.0, 1: -61.0}
NAMES = ("Unperturbed", "Rattled", "Dimer", "Bond_Distortion_-40.0%")
SECOND_WELL = ("Unperturbed", "Rattled")
"""Starts that DFT relaxes into a second minimum, 0.4 eV up; the others reach the ground state."""

STEPS = 6


def _direction(seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(len(IDEAL), 3))
    vectors -= vectors.mean(axis=0)
    return vectors / np.sqrt(np.mean(np.sum(vectors**2, axis=1)))


def geometry(charge: int, well: int = 0, response: float = 1.0, aside: float = 0.0) -> Atoms:
    """The minimum of a charge: ``response`` scales how far charges are apart (0.12 Å rms), ``aside`` adds that in another direction."""
    atoms = IDEAL.copy()
    atoms.positions += 0.12 * charge * (response * _direction(7) + aside * _direction(9)) + 0.3 * well * _direction(8)
    return atoms


def start(name: str, charge: int) -> Atoms:
    """``Unperturbed`` is one structure for all charges; the others differ."""
    atoms = IDEAL.copy()
    if name != "Unperturbed":
        atoms.positions += 0.2 * _direction(100 + NAMES.index(name) + 10 * charge)
    return atoms


def surface(atoms: Atoms, charge: int) -> tuple[float, np.ndarray]:
    """The true energy (eV) and forces (eV/Å) in the lower of the two wells."""
    found = []
    for well in (0, 1):
        apart = atoms.positions - geometry(charge, well).positions
        found.append((ZERO[charge] + 0.4 * well + 0.5 * SPRING * float((apart**2).sum()), -SPRING * apart))
    return min(found, key=lambda item: item[0])


def make_dataset(frames: bool = True, charges: tuple[int, ...] = CHARGES) -> Dataset:
    """The dataset; without ``frames`` only minima without forces."""
    metadata = DatasetFile.model_validate(
        {
            "schema_version": 1,
            "id": "framed",
            "title": "framed",
            "licence": "MIT",
            "host": {"file": "host.extxyz"},
            "reference_level": "PBE",
            "levels": [{"name": "PBE", "functional": "PBE"}, {"name": "HSE06", "functional": "HSE06"}],
            "defects": [{"name": DEFECT, "kind": "vacancy", "site": SITE, "removed": "Na", "charges": charges}],
            "files": {"host.extxyz": "0" * 64},
        }
    )
    starts: dict[tuple[str, int], dict[str, Atoms]] = {}
    relaxations: dict[tuple[str, str, int, str], tuple[Atoms, ...]] = {}
    for charge in charges:
        for name in NAMES:
            first = start(name, charge)
            starts.setdefault((DEFECT, charge), {})[name] = first
            last = geometry(charge, int(name in SECOND_WELL))
            made = []
            for step in range(STEPS if frames else 1):
                frame = first.copy()
                share = step / (STEPS - 1) if frames else 1.0
                frame.positions = (1 - share) * first.positions + share * last.positions
                frame.info.update(
                    defect=DEFECT, charge=charge, configuration=name, level_of_theory="PBE", converged=share == 1.0, step=step
                )
                energy, forces = surface(frame, charge)
                attach_results(frame, energy=energy, forces=forces) if frames else attach_results(frame, energy=energy)
                made.append(frame)
            relaxations["PBE", DEFECT, charge, name] = tuple(made)
    return Dataset(Path("framed"), metadata, "0" * 64, HOST.copy(), starts, relaxations)


DATASET = make_dataset()

Point = Callable[[Atoms, "int | None"], "tuple[float, np.ndarray] | None"]
Relax = Callable[[int, str], "tuple[Atoms, float] | None"]
Describe = Callable[[Atoms, "int | None"], Any]


@dataclass(frozen=True)
class Model:
    """Answers of a model: single points, relaxations, averaged descriptors; None is a failure."""

    point: Point
    relax: Relax
    describe: Describe = lambda atoms, charge: None
    charge_class: str = "charge-aware"


def relaxed(charge: int, name: str, **changes: float) -> tuple[Atoms, float]:
    """Where the true surface, or one with another charge response, relaxes to."""
    well = int(name in SECOND_WELL)
    return geometry(charge, well, **changes), ZERO[charge] + 0.4 * well


ORACLE = Model(lambda atoms, charge: surface(atoms, int(charge or 0)), relaxed)
FROZEN = Model(lambda atoms, charge: (0.0, np.zeros((len(atoms), 3))), lambda charge, name: (start(name, charge), 0.0))
BLIND = Model(lambda atoms, charge: surface(atoms, 0), lambda charge, name: relaxed(0, name), charge_class="charge-blind")
BROKEN = Model(lambda atoms, charge: None, lambda charge, name: None)


def random_point(atoms: Atoms, charge: int | None) -> tuple[float, np.ndarray]:
    seed = int(abs(atoms.positions).sum() * 1e6) % 2**32 + int(charge or 0) + 5
    generator = np.random.default_rng(seed)
    return float(generator.normal()), generator.normal(size=(len(atoms), 3))


def random_relaxation(charge: int, name: str) -> tuple[Atoms, float]:
    generator = np.random.default_rng(1000 + 10 * charge + NAMES.index(name))
    atoms = start(name, charge)
    atoms.positions += 0.3 * generator.normal(size=atoms.positions.shape)
    return atoms, float(generator.normal())


RANDOM = Model(random_point, random_relaxation)


def scoring(task: Task, model: Model, dataset: Dataset = DATASET, **extra: Any) -> ScoringInput:
    """What a task scores, through the plan and the content hashes that a real run goes through."""
    states = tuple(SelectedState(d, q, tuple(dataset.starts(d, q))) for d, q in dataset.states)
    plan = make_plan(dataset, states, (), [task], takes_charge=model.charge_class != "charge-blind")
    results: dict[str, dict[str, Any]] = {}
    relaxations = {c.content_hash for c in (*plan.host.values(), *plan.relaxations.values())}
    for calculation in plan.calculations:
        if calculation.content_hash in relaxations:
            continue
        atoms = calculation.structure.to_atoms()
        if calculation.kind == "single_point":
            results[calculation.content_hash] = _point(model.point(atoms, calculation.charge))
        elif calculation.kind == "descriptors":
            assert calculation.options == {"average": True}
            results[calculation.content_hash] = _described(model.describe(atoms, calculation.charge))
    for calculation in plan.host.values():
        results[calculation.content_hash] = _relaxation(calculation, (HOST, -100.0))
    for (_, charge, name), calculation in plan.relaxations.items():
        results.setdefault(calculation.content_hash, _relaxation(calculation, model.relax(charge, name)))
    stored = {c.content_hash: Stored(parse(c, results[c.content_hash])) for c in plan.calculations}
    return scoring_input(dataset, plan, model.charge_class, stored, **extra)


def _point(answer: tuple[float, np.ndarray] | None) -> dict[str, Any]:
    if answer is None or not np.isfinite(answer[0]) or not np.isfinite(answer[1]).all():
        return {"status": "failed", "failure": "it fell apart", "failure_kind": "exception", "wall_s": 0.1}
    return {"status": "ok", "energy": answer[0], "forces": np.asarray(answer[1]).tolist(), "wall_s": 0.1, "peak_memory_mb": 1.0}


def _described(answer: Any) -> dict[str, Any]:
    if answer is None:
        return {"status": "unsupported", "failure": "this model exposes no descriptors", "wall_s": 0.0}
    if isinstance(answer, str):
        return {"status": "failed", "failure": answer, "failure_kind": "exception", "wall_s": 0.0}
    return {"status": "ok", "descriptors": [np.asarray(answer, dtype=float).tolist()], "wall_s": 0.1}


def _relaxation(calculation: Calculation, answer: tuple[Atoms, float] | None) -> dict[str, Any]:
    positions = calculation.structure.positions if answer is None else answer[0].positions
    return {
        "status": "failed" if answer is None else "converged",
        "positions": [list(row) for row in positions],
        "energy": None if answer is None else answer[1],
        "forces": None if answer is None else [[0.0, 0.0, 0.0] for _ in positions],
        "energies": [0.0, 0.0, 0.0, 0.0],
        "fmax": [0.0, 0.0, 0.0, 0.0],
        "steps": 3,
        "wall_s": 0.8,
        "cpu_s": 0.4,
        "peak_memory_mb": 100.0,
        "failure": "it fell apart" if answer is None else None,
        "failure_kind": "exploded" if answer is None else None,
    }


def values(result: Any) -> dict[str, float | None]:
    return {m.name: m.value for m in result.metrics}
