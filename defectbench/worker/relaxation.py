"""Fixed-cell relaxation with guards, and single points. Nothing here raises for what a model does: failures are results."""

from __future__ import annotations

import functools
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from ase import Atoms
from ase.optimize import FIRE
from numpy.typing import NDArray

from .adapters.base import LoadedModel
from .errors import WorkerError, one_line
from .lattice import reduced

Progress = Callable[[int, float, float], None]
"""Called with step, energy (eV) and largest force (eV/Å)."""


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, MB."""
    try:
        import resource
    except ImportError:  # not a Unix system
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) / (1024.0 * 1024.0 if sys.platform == "darwin" else 1024.0)


def atoms_of(structure: dict[str, Any]) -> Atoms:
    """The request's structure as fresh, fully periodic ``ase.Atoms``."""
    return Atoms(
        list(structure["symbols"]), positions=np.array(structure["positions"], float), cell=np.array(structure["cell"], float), pbc=True
    )


def energy_and_forces(atoms: Atoms) -> tuple[float, NDArray[np.float64]]:
    """Energy (eV) and forces (N, 3; eV/Å) of a prepared structure, from whatever arrays its calculator returns them in.

    Raises:
        WorkerError: there is more than one energy, or not one force per atom.
    """
    energy = np.asarray(atoms.get_potential_energy(), dtype=np.float64)
    forces = np.array(atoms.get_forces(), dtype=np.float64)
    if energy.size != 1:
        raise WorkerError("shape", f"the calculator gives an energy of shape {energy.shape}; it must be one number, in eV")
    if forces.shape != (len(atoms), 3):
        raise WorkerError("shape", f"the calculator gives forces of shape {forces.shape}; it must be ({len(atoms)}, 3), in eV/Å")
    return float(energy.reshape(())), forces


class Optimizer(FIRE):
    """ASE's FIRE without its log, which formats the energy as it comes, also where nobody reads it."""

    def log(self, *_arguments: Any) -> None:
        """Nothing."""


@functools.cache
def _pairs(count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of all pairs of ``count`` atoms."""
    first, second = np.triu_indices(count, 1)
    return first, second


def closest_pair(positions: NDArray[np.float64], cell: NDArray[np.float64]) -> tuple[float, int, int]:
    """Shortest interatomic distance (Å, minimum image) and the two atoms' indices."""
    n = len(positions)
    if n < 2:
        return math.inf, 0, 0
    first, second = _pairs(n)
    vectors = reduced(cell).minimum_image(positions[second] - positions[first])
    squares = np.einsum("ik,ik->i", vectors, vectors)
    at = int(np.argmin(squares))
    return math.sqrt(squares[at]), int(first[at]), int(second[at])


def _largest(forces: NDArray[np.float64]) -> float:
    return float(np.sqrt((forces**2).sum(axis=1).max())) if len(forces) else 0.0


def relax(model: LoadedModel, request: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Relaxes with ASE's FIRE, cell fixed, under the request's protocol.

    Args:
        model: the loaded model.
        request: ``structure``, ``charge``, ``protocol`` as :meth:`Calculation.to_json` writes them.
        progress: called at every step.

    Returns:
        The fields of ``Relaxation``: status, failure, failure_kind, positions, energy, forces, energies, fmax, steps, wall_s,
        cpu_s, peak_memory_mb; JSON values, no NaN among them.
    """
    began, began_cpu = model.clock()
    protocol = request["protocol"]
    atoms = atoms_of(request["structure"])
    start = atoms.positions.copy()
    cell = np.asarray(atoms.cell.array, float)
    energies: list[float] = []
    largest: list[float] = []
    best_positions: NDArray[np.float64] = start.copy()
    best_forces: NDArray[np.float64] | None = None
    steps = 0

    def record(status: str, failure: str | None = None, kind: str | None = None) -> dict[str, Any]:
        ended, ended_cpu = model.clock()
        return {
            "status": status,
            "failure": failure,
            "failure_kind": kind,
            "positions": best_positions.tolist(),
            "energy": energies[-1] if energies else None,
            "forces": best_forces.tolist() if best_forces is not None else None,
            "energies": energies,
            "fmax": largest,
            "steps": steps,
            "wall_s": ended - began,
            "cpu_s": ended_cpu - began_cpu,
            "peak_memory_mb": peak_memory_mb(),
        }

    if protocol["optimizer"] != "FIRE":
        return record("failed", f"this worker knows the optimizer FIRE, not '{protocol['optimizer']}'", "exception")
    distance, i, j = closest_pair(start, cell)
    if distance < protocol["min_distance"]:
        return record("failed", f"atoms {i} and {j} of the start are {distance:.2f} Å apart", "atoms_too_close")
    try:
        model.prepare(atoms, request["charge"])
        optimizer = Optimizer(atoms, logfile=None)
        for at_minimum in optimizer.irun(fmax=protocol["fmax"], steps=protocol["max_steps"]):
            steps = int(optimizer.nsteps)
            energy, forces = energy_and_forces(atoms)
            force = _largest(forces)
            if not math.isfinite(energy) or not np.isfinite(forces).all():
                return record(
                    "failed", f"the model gave {'an energy' if not math.isfinite(energy) else 'forces'} that is not a number", "nan"
                )
            energies.append(energy)
            largest.append(force)
            best_positions, best_forces = atoms.positions.copy(), forces
            progress(steps, energy, force)
            change = (energy - energies[0]) / len(atoms)
            if abs(change) > protocol["max_energy_change"]:
                return record("failed", f"the energy moved by {change:+.1f} eV/atom from that of the start", "exploded")
            distance, i, j = closest_pair(best_positions, cell)
            if distance < protocol["min_distance"]:
                return record("failed", f"atoms {i} and {j} are {distance:.2f} Å apart at step {steps}", "atoms_too_close")
            # Positions are never wrapped, so this sees an atom that leaves through a face of a small cell, which a minimum image hides.
            far = _largest(best_positions - start)
            if far > protocol["max_displacement"]:
                return record("failed", f"an atom moved {far:.1f} Å from its start", "atom_lost")
            if at_minimum:
                break
    except Exception as error:  # noqa: BLE001  (whatever a model raises is a failed relaxation, not a dead run)
        return record("failed", one_line(error), "exception")
    converged = bool(largest) and largest[-1] < protocol["fmax"]
    return record("converged" if converged else "unconverged")


def single_point(model: LoadedModel, request: dict[str, Any]) -> dict[str, Any]:
    """Energy (eV) and forces (N, 3; eV/Å) of the request's structure; ``status`` is ``ok`` or ``failed``."""
    began, began_cpu = model.clock()
    atoms = atoms_of(request["structure"])
    try:
        model.prepare(atoms, request["charge"])
        energy, forces = energy_and_forces(atoms)
    except Exception as error:  # noqa: BLE001  (as in relax)
        return {"status": "failed", "failure": one_line(error), "failure_kind": "exception", "wall_s": model.clock()[0] - began}
    if not math.isfinite(energy) or not np.isfinite(forces).all():
        failure = "the model gave an energy or forces that are not numbers"
        return {"status": "failed", "failure": failure, "failure_kind": "nan", "wall_s": model.clock()[0] - began}
    ended, ended_cpu = model.clock()
    return {
        "status": "ok",
        "energy": energy,
        "forces": forces.tolist(),
        "wall_s": ended - began,
        "cpu_s": ended_cpu - began_cpu,
        "peak_memory_mb": peak_memory_mb(),
    }


def descriptors(model: LoadedModel, request: dict[str, Any]) -> dict[str, Any]:
    """Per-atom invariant features: ``status`` ``ok`` with ``descriptors`` (N, D), ``unsupported``, or ``failed``.

    With the option ``average`` their mean over all atoms, (1, D).
    """
    began = time.perf_counter()
    if not model.has_descriptors:
        return {"status": "unsupported", "failure": "this model exposes no descriptors", "wall_s": 0.0}
    atoms = atoms_of(request["structure"])
    try:
        model.prepare(atoms, request["charge"])
        features = model.descriptors(atoms)
    except Exception as error:  # noqa: BLE001  (as in relax)
        kind = getattr(error, "kind", "exception")
        status = "unsupported" if kind == "unsupported" else "failed"
        return {"status": status, "failure": one_line(error), "failure_kind": kind, "wall_s": time.perf_counter() - began}
    if not np.isfinite(features).all():
        return {
            "status": "failed",
            "failure": "the descriptors are not numbers",
            "failure_kind": "nan",
            "wall_s": time.perf_counter() - began,
        }
    if (request.get("options") or {}).get("average"):
        features = features.mean(axis=0, keepdims=True)
    return {"status": "ok", "descriptors": features.tolist(), "wall_s": time.perf_counter() - began}
