"""A small dataset made in memory whose energies are known exactly, and models that answer for it without running."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
CURVATURE = 0.4
"""eV Å⁻², the same for all atoms: E = E₀ + ½ k Σ |r − r₀|²."""


def geometry(charge: int, well: int = 0) -> Atoms:
    """The relaxed structure of a charge state: one direction in configuration space a charge, another for a second well."""
    atoms = IDEAL.copy()
    direction = np.random.default_rng(7).normal(size=(len(atoms), 3))
    other = np.random.default_rng(8).normal(size=(len(atoms), 3))
    atoms.positions += 0.12 * charge * direction / np.sqrt(np.mean(np.sum(direction**2, axis=1)))
    atoms.positions += 0.25 * well * other / np.sqrt(np.mean(np.sum(other**2, axis=1)))
    return atoms


def dataset(
    energies: Mapping[int, float],
    second_wells: Mapping[int, float] | None = None,
    level: Mapping[str, Any] | None = None,
    path_frames: Mapping[tuple[int, str], list[tuple[Atoms, float]]] | None = None,
) -> Dataset:
    """V_Na1 with a ground state per charge (started from ``Unperturbed``) and, where given, a higher minimum (from ``Dimer``).

    Args:
        energies: charge → energy of the ground state, eV.
        second_wells: charge → how much higher the second minimum is, eV; negative makes it the ground state.
        level: fields of the level of theory, e.g. band edges.
        path_frames: (charge, configuration) → unconverged frames with energies.
    """
    charges = tuple(sorted(energies))
    metadata = DatasetFile.model_validate(
        {
            "schema_version": 1,
            "id": "toy",
            "title": "toy",
            "licence": "MIT",
            "host": {"file": "host.extxyz"},
            "reference_level": "PBE",
            "levels": [{"name": "PBE", "functional": "PBE", **(level or {})}],
            "defects": [{"name": DEFECT, "kind": "vacancy", "site": SITE, "removed": "Na", "charges": charges}],
            "files": {"host.extxyz": "0" * 64},
        }
    )
    starts: dict[tuple[str, int], dict[str, Atoms]] = {}
    relaxations: dict[tuple[str, str, int, str], tuple[Atoms, ...]] = {}

    def add(charge: int, configuration: str, minimum: Atoms, energy: float) -> None:
        start = minimum.copy()
        start.rattle(0.02, seed=1)
        starts.setdefault((DEFECT, charge), {})[configuration] = start
        relaxations["PBE", DEFECT, charge, configuration] = (_frame(minimum, energy, charge, configuration, converged=True),)

    for charge in charges:
        add(charge, "Unperturbed", geometry(charge), energies[charge])
        if charge in (second_wells or {}):
            add(charge, "Dimer", geometry(charge, 1), energies[charge] + (second_wells or {})[charge])
    for (charge, configuration), frames in (path_frames or {}).items():
        made = tuple(_frame(atoms, energy, charge, configuration, converged=False) for atoms, energy in frames)
        relaxations["PBE", DEFECT, charge, configuration] = made
    return Dataset(Path("toy"), metadata, "0" * 64, HOST.copy(), starts, relaxations)


def _frame(atoms: Atoms, energy: float, charge: int, configuration: str, *, converged: bool) -> Atoms:
    frame = atoms.copy()
    frame.info.update(defect=DEFECT, charge=charge, configuration=configuration, level_of_theory="PBE", converged=converged, step=0)
    attach_results(frame, energy=energy, forces=np.zeros((len(frame), 3)))
    return frame


Answer = Callable[[str, int, str, Atoms], "tuple[Atoms, float] | None"]
"""(defect, charge, configuration, start) → where a model relaxes to and its energy there; None for a failure."""

Energy = Callable[[Atoms, int | None], float]


def score(task: Task, data: Dataset, relax: Answer, energy: Energy, charge_class: str = "charge-aware") -> ScoringInput:
    """What a task scores for a model that is given by its answers; a charge-blind one is handed no charge."""
    takes_charge = charge_class != "charge-blind"
    states = tuple(SelectedState(d, q, tuple(data.starts(d, q))) for d, q in data.states if data.has_reference(d, q) and data.starts(d, q))
    plan = make_plan(data, states, (), [task], takes_charge=takes_charge)
    results: dict[str, dict[str, Any]] = {}
    for calculation in plan.calculations:
        if calculation.kind == "single_point":
            value = energy(calculation.structure.to_atoms(), calculation.charge)
            forces = [[0.0, 0.0, 0.0] for _ in calculation.structure.symbols]
            failed = {"status": "failed", "failure": "the model gave an energy that is not a number", "failure_kind": "nan"}
            results[calculation.content_hash] = {"status": "ok", "energy": value, "forces": forces} if np.isfinite(value) else failed
    for calculation in plan.host.values():
        of_host = energy(data.host, None)
        results[calculation.content_hash] = _relaxed(calculation, (data.host, of_host) if np.isfinite(of_host) else None)
    for (defect, charge, name), calculation in plan.relaxations.items():
        answer = relax(defect, charge, name, calculation.structure.to_atoms())
        results[calculation.content_hash] = _relaxed(calculation, answer)
    stored = {c.content_hash: Stored(parse(c, results[c.content_hash])) for c in plan.calculations}
    return scoring_input(data, plan, charge_class, stored)


def _relaxed(calculation: Calculation, answer: tuple[Atoms, float] | None) -> dict[str, Any]:
    answer = answer if answer is not None and np.isfinite(answer[1]) else None
    positions = calculation.structure.positions if answer is None else answer[0].positions
    return {
        "status": "failed" if answer is None else "converged",
        "positions": [list(row) for row in positions],
        "energy": None if answer is None else answer[1],
        "forces": None if answer is None else [[0.0, 0.0, 0.0] for _ in positions],
        "energies": [] if answer is None else [answer[1]],
        "fmax": [] if answer is None else [0.0],
        "steps": 3,
        "wall_s": 0.1,
        "cpu_s": 0.1,
        "peak_memory_mb": 1.0,
        "failure": "it fell apart" if answer is None else None,
        "failure_kind": "exploded" if answer is None else None,
    }
