"""A first Hessian for CP2K's BFGS from an interatomic potential. CP2K's own guess is far too stiff for a soft crystal.

A potential that fails at a defect's energies may well know how stiff the crystal is. The Hessian decides only how the optimiser gets to a
minimum, not where that lies: energies, forces and the criterion of convergence are CP2K's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.units import Bohr, Hartree
from numpy.typing import NDArray
from scipy.io import FortranFile

from defectbench.base.errors import RunError
from defectbench.calculations.client import WorkerClient, WorkerSpec
from defectbench.calculations.requests import Calculation, Structure
from defectbench.calculations.results import Result, SinglePointResult
from defectbench.models.environment import ensure_environment
from defectbench.models.registry import definition_folder, load_model
from defectbench.models.resolved import resolve_model

Guess = Callable[[Atoms, int], NDArray[np.float64]]
"""Structure and charge → Hessian, (3N, 3N), eV/Å²."""

DISPLACEMENT = 0.015
"""Å; of central differences."""

FLOOR = 1.0
"""eV/Å²; softest curvature that the optimiser is told. Potentials are unreliable about softer ones: steps along them would be too long."""


def model_hessian(model: str) -> Guess:
    """Hessians of a registered model, or of a trusted YAML.

    Raises:
        DefectbenchError: the model is unknown, or cannot be made ready here.
    """
    definition = load_model(model)
    python = ensure_environment(definition.environment)
    spec = WorkerSpec.of(python, resolve_model(definition, environment=python, folder=definition_folder(model)))

    def hessian(atoms: Atoms, charge: int) -> NDArray[np.float64]:
        client = WorkerClient(spec)
        try:
            client.start()
            return by_differences(client.calculate, atoms, None if definition.charge.how == "none" else charge)
        finally:
            client.close()

    return hessian


def by_differences(calculate: Callable[[Calculation], Result], atoms: Atoms, charge: int | None) -> NDArray[np.float64]:
    """Hessian, (3N, 3N), eV/Å², by central differences of forces: 6N force calls.

    Args:
        calculate: runs a calculation with the model.
        atoms: N atoms.
        charge: that the model is told, units of +e; None for one that takes none.

    Raises:
        RunError: a calculation failed.
    """
    moved = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    out = np.zeros((3 * len(moved), 3 * len(moved)))
    for row in range(len(out)):
        for sign in (1, -1):
            moved.positions.flat[row] += sign * DISPLACEMENT
            result = calculate(Calculation("single_point", Structure.from_atoms(moved), charge))
            moved.positions.flat[row] -= sign * DISPLACEMENT
            if not isinstance(result, SinglePointResult) or result.status != "ok":
                raise RunError(f"no Hessian: {result.failure}")
            out[row] -= sign * np.array(result.forces).ravel() / (2 * DISPLACEMENT)
    return out


def stiffened(hessian: NDArray[np.float64]) -> NDArray[np.float64]:
    """The symmetric part of a Hessian, (3N, 3N), eV/Å², with no curvature below :data:`FLOOR`.

    Example:
        >>> import numpy as np
        >>> stiffened(np.diag([-0.5, 0.2, 3.0])).round(6).tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 3.0]]
    """
    values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
    return np.asarray((vectors * np.maximum(values, FLOOR)) @ vectors.T)


def write_hessian(path: Path, hessian: NDArray[np.float64]) -> None:
    """Writes a Hessian, (3N, 3N), eV/Å², as CP2K's BFGS reads it: hartree/bohr², one record per column.

    Raises:
        RunError: the file cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        with FortranFile(part, "w") as handle:
            for column in (hessian * Bohr**2 / Hartree).T:
                handle.write_record(column)
        part.replace(path)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}") from error
