"""A small dataset whose every answer is known, and models that know, guess, cheat or break."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase import Atoms

from defectbench.calculations.plan import SelectedState
from defectbench.calculations.requests import Relaxation
from defectbench.datasets.schema import LevelOfTheory
from defectbench.scoring.task import ConfigurationResult, HostRelaxation, ScoringInput

CONFIGURATIONS = (
    "Unperturbed",
    "Dimer",
    "Bond_Distortion_-60.0%",
    "Bond_Distortion_-40.0%",
    "Bond_Distortion_-20.0%",
    "Bond_Distortion_20.0%",
    "Bond_Distortion_40.0%",
)
IN_GROUND_STATE = ("Dimer", "Bond_Distortion_-40.0%", "Bond_Distortion_-60.0%")
"""Configurations that the reference relaxes into its ground state; the others end in a second minimum."""

STATES = (("V_Ge1", -2), ("V_Ge1", -1), ("V_Ge1", 0), ("V_S1", 0), ("V_S1", 1))


def make_host() -> Atoms:
    """24 atoms, Pnma, three cells along the short axis."""
    fractional = []
    for a, c in ((0.18, 0.07), (0.04, 0.61)):
        fractional += [(a, 0.25, c), (0.5 - a, 0.75, 0.5 + c), (1 - a, 0.75, 1 - c), (0.5 + a, 0.25, 0.5 - c)]
    return Atoms("Ge4S4", scaled_positions=fractional, cell=[8.4, 3.9, 6.6], pbc=True).repeat((1, 3, 1))


@dataclass(frozen=True)
class Minimum:
    """As the dataset's ReferenceMinimum."""

    defect: str
    charge: int
    configuration: str
    level: str
    atoms: Atoms
    energy: float


class OracleDataset:
    """The interface of a dataset, all in memory."""

    id = "oracle"
    level = "PBE"
    defects = ("V_Ge1", "V_S1")
    states = STATES

    def __init__(self) -> None:
        self._host = make_host()
        self._sites = {"V_Ge1": 0, "V_S1": 4}
        self._minima: dict[tuple[str, int], dict[str, Minimum]] = {}
        self._starts: dict[tuple[str, int], dict[str, Atoms]] = {}
        for number, (defect, charge) in enumerate(STATES):
            ideal = self._host.copy()
            del ideal[self._sites[defect]]
            generator = np.random.default_rng(100 + number)
            wells = [ideal.positions + generator.normal(size=(len(ideal), 3)) * 0.16 for _ in range(2)]
            starts, minima = {}, {}
            for k, name in enumerate(CONFIGURATIONS):
                start = ideal.copy()
                if name != "Unperturbed":
                    start.positions += np.random.default_rng(1000 * number + k).normal(size=start.positions.shape) * 0.15
                starts[name] = start
                well = 0 if name in IN_GROUND_STATE else 1
                atoms = ideal.copy()
                atoms.positions = wells[well]
                # the second well is 0.3 eV up; convergence leaves a few meV
                minima[name] = Minimum(defect, charge, name, self.level, atoms, -100.0 - number + 0.3 * well + 0.001 * k)
            self._starts[defect, charge] = starts
            self._minima[defect, charge] = minima

    @property
    def host(self) -> Atoms:
        return self._host.copy()

    def level_of_theory(self) -> LevelOfTheory:
        return LevelOfTheory(name="PBE", functional="PBE")

    def charges(self, defect: str) -> tuple[int, ...]:
        return tuple(q for d, q in STATES if d == defect)

    def defect_position(self, defect: str, atoms: Atoms | None = None) -> np.ndarray:
        return self._host.positions[self._sites[defect]].copy()

    def host_indices(self, defect: str) -> np.ndarray:
        return np.delete(np.arange(len(self._host)), self._sites[defect])

    def starts(self, defect: str, charge: int) -> dict[str, Atoms]:
        return {name: atoms.copy() for name, atoms in self._starts[defect, charge].items()}

    def minima(self, defect: str, charge: int, level: str | None = None) -> dict[str, Minimum]:
        return {n: replace(m, atoms=m.atoms.copy()) for n, m in self._minima[defect, charge].items()}

    def ground_state(self, defect: str, charge: int, level: str | None = None) -> Minimum | None:
        return min(self.minima(defect, charge).values(), key=lambda m: m.energy, default=None)

    def has_reference(self, defect: str, charge: int) -> bool:
        return bool(self._minima[defect, charge])


DATASET: Any = OracleDataset()

Model = Callable[[str, int, str], Relaxation]


def relaxation(positions: np.ndarray, energy: float | None, status: str = "converged", failure: str | None = None) -> Relaxation:
    return Relaxation(
        status=status,
        positions=np.array(positions),
        energy=energy,
        forces=None,
        energies=(),
        fmax=(),
        steps=10,
        wall_s=1.0,
        peak_memory_mb=100.0,
        failure=failure,
        failure_kind="exception" if failure else None,
    )


def scoring_input(model: Model, host: np.ndarray | Relaxation | None = None, dataset: Any = DATASET, **changes: Any) -> ScoringInput:
    """What the tasks see of a model; the host stays where it is unless positions are given."""
    relaxed = host if isinstance(host, Relaxation) else relaxation(dataset.host.positions if host is None else host, -200.0)
    states = tuple(SelectedState(d, q, CONFIGURATIONS) for d, q in STATES)
    configurations = tuple(ConfigurationResult(d, q, c, model(d, q, c)) for d, q in STATES for c in CONFIGURATIONS)
    hosts = (HostRelaxation("Unperturbed", relaxed), HostRelaxation("Rattled", relaxed))
    return replace(ScoringInput(dataset, states, configurations, hosts, "charge-aware"), **changes)


def oracle(defect: str, charge: int, configuration: str) -> Relaxation:
    """Gives what DFT gives."""
    minimum = DATASET.minima(defect, charge)[configuration]
    return relaxation(minimum.atoms.positions, minimum.energy)


def frozen(defect: str, charge: int, configuration: str) -> Relaxation:
    """Does not move an atom and finds every energy the same."""
    return relaxation(DATASET.starts(defect, charge)[configuration].positions, -1.0)


def random_forces(defect: str, charge: int, configuration: str) -> Relaxation:
    """Kicks the atoms anywhere."""
    generator = np.random.default_rng(len(configuration) + 10 * charge + 77)
    start = DATASET.starts(defect, charge)[configuration].positions
    return relaxation(start + generator.normal(size=start.shape) * 0.3, float(generator.normal()))


def nearest_other_charge(defect: str, charge: int, configuration: str) -> Relaxation:
    """Always gives the ground state of the other charge that comes nearest."""
    from defectbench.structures.matching import match
    from defectbench.structures.symmetry import host_operations

    goal = DATASET.ground_state(defect, charge)
    others = [DATASET.ground_state(defect, q) for q in DATASET.charges(defect) if q != charge]
    best = min(others, key=lambda m: match(m.atoms, goal.atoms, host_operations(DATASET.host)).rmsd)
    return relaxation(best.atoms.positions, -1.0)


def failing(model: Model, fails: Callable[[int], bool]) -> Model:
    """A model that fails on the configurations whose number in order is chosen."""

    def broken(defect: str, charge: int, configuration: str) -> Relaxation:
        if fails(CONFIGURATIONS.index(configuration)):
            start = DATASET.starts(defect, charge)[configuration].positions
            return relaxation(start, None, "failed", "the energy is not a number")
        return model(defect, charge, configuration)

    return broken
