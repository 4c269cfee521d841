"""Relaxation in the model's own lattice: cell and start are scaled as the model scales the perfect host."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import numpy as np
from ase import Atoms
from ase.filters import UnitCellFilter
from ase.optimize import LBFGS
from numpy.typing import NDArray

from .adapters.base import LoadedModel
from .errors import WorkerError, one_line
from .relaxation import Progress, atoms_of, energy_and_forces, relax

MOST_STEPS = 500
LARGEST_FORCE = 0.03
"""eV/Å, on any atom of the host."""
LARGEST_STRESS = 5e-5
"""eV/Å³, of any component: 0.008 GPa strains a crystal of 10 GPa by less than 0.001."""
LARGEST_STRAIN = 0.1
"""A host that is strained by more than this is no longer the reference's crystal."""
PROBE = 0.005
"""Linear strain at which the energy is compared with that of the relaxed cell."""


def relaxed_cell(model: LoadedModel, host: Atoms) -> NDArray[np.float64]:
    """The cell of a perfect crystal, (3, 3), Å, with all of its atoms and its cell relaxed, without charge.

    Args:
        model: the loaded model.
        host: the crystal in another cell.

    Raises:
        WorkerError: the model gives no stress, the relaxation does not end, or its end is not a minimum of the energy.
    """
    atoms = host.copy()
    model.prepare(atoms, None if model.charge == "none" else 0)
    start = np.asarray(host.cell.array, float)
    optimizer = LBFGS(UnitCellFilter(atoms), logfile=None)  # type: ignore[arg-type]  # ase says less than it takes
    for _ in optimizer.irun(fmax=0.0, steps=MOST_STEPS):
        forces, stress = np.asarray(atoms.get_forces(), float), np.asarray(atoms.get_stress(), float)
        if not np.isfinite(forces).all() or not np.isfinite(stress).all():
            raise WorkerError("lattice", "the host's forces or stress are not numbers")
        if np.abs(np.linalg.solve(start, atoms.cell.array) - np.eye(3)).max() > LARGEST_STRAIN:
            raise WorkerError("lattice", f"the host's cell is strained by more than {LARGEST_STRAIN:.0%}")
        if np.linalg.norm(forces, axis=1).max() < LARGEST_FORCE and np.abs(stress).max() < LARGEST_STRESS:
            break
    else:
        raise WorkerError("lattice", f"the host's cell did not converge in {MOST_STEPS} steps")
    cell = np.array(atoms.cell.array, float)
    _check_minimum(model, atoms)
    return cell


def _check_minimum(model: LoadedModel, relaxed: Atoms) -> None:
    """Refuses a stress that is not the slope of the energy: somewhere near, the energy is lower than where the stress vanishes."""

    def energy(scale: float) -> float:
        atoms = relaxed.copy()
        atoms.calc = None
        atoms.set_cell(relaxed.cell.array * scale, scale_atoms=True)
        model.prepare(atoms, None if model.charge == "none" else 0)
        return energy_and_forces(atoms)[0]

    here = energy(1.0)
    if not all(energy(1.0 + sign * PROBE) > here for sign in (-1, 1)):
        raise WorkerError("lattice", "the model's stress vanishes where its energy has no minimum")


def cell_of(model: LoadedModel, host: dict[str, Any]) -> NDArray[np.float64]:
    """As :func:`relaxed_cell`; each host is relaxed once per worker.

    Raises:
        WorkerError: see there.
    """
    key = hashlib.sha256(json.dumps(host, sort_keys=True).encode()).hexdigest()
    if key not in model.lattices:
        try:
            model.lattices[key] = relaxed_cell(model, atoms_of(host))
        except Exception as error:  # noqa: BLE001  (whatever a model raises, as in relax)
            model.lattices[key] = f"no lattice of its own: {one_line(error)}"
    found = model.lattices[key]
    if isinstance(found, str):
        raise WorkerError("lattice", found)
    return found


def relax_in_own_lattice(model: LoadedModel, request: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Relaxes a start in the cell that the model gives the perfect host.

    Args:
        model: the loaded model.
        request: as for ``relax``, with the perfect crystal in the cell of the start as the option ``host``.
        progress: called at every step.

    Returns:
        As ``relax``, with ``cell``. Positions are scaled back to the cell of the start, so that they compare with it.
    """
    structure = request["structure"]
    began, began_cpu = model.clock()
    try:
        cell = cell_of(model, request["options"]["host"])
    except WorkerError as error:
        model.prepared = None  # what was prepared last is the host, not what was asked for
        ended, ended_cpu = model.clock()
        nothing: dict[str, Any] = {"energy": None, "forces": None, "energies": [], "fmax": [], "steps": 0}
        failed = {"status": "failed", "failure": str(error), "failure_kind": "lattice", "positions": structure["positions"]}
        return {**failed, **nothing, "wall_s": ended - began, "cpu_s": ended_cpu - began_cpu}
    scaling = np.linalg.solve(np.asarray(structure["cell"], float), cell)
    scaled = {**structure, "positions": (np.asarray(structure["positions"], float) @ scaling).tolist(), "cell": cell.tolist()}
    result = relax(model, {**request, "structure": scaled}, progress)
    back = np.asarray(result["positions"], float) @ np.linalg.inv(scaling)
    assert math.isfinite(float(np.abs(back).sum()))
    return {**result, "positions": back.tolist(), "cell": cell.tolist()}
