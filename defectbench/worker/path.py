"""The minimum-energy path between two structures, by nudged elastic bands."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.mep import NEB

from .adapters.base import LoadedModel
from .errors import one_line
from .relaxation import Optimizer, atoms_of, energy_and_forces


def minimum_energy_path(model: LoadedModel, request: dict[str, Any]) -> dict[str, Any]:
    """Relaxes a band of images between two relaxed structures with the same order of atoms, cell fixed.

    Args:
        model: the loaded model.
        request: ``structure`` is the first; ``options`` hold the ``last``, the number of ``images`` between them, ``fmax`` (eV/Å) and
            ``max_steps``.

    Returns:
        The fields of ``PathResult``: status, energies, positions of the highest image, fmax, steps, wall_s, cpu_s.
    """
    began, began_cpu = model.clock()
    options = request["options"]
    first, last = atoms_of(request["structure"]), atoms_of(options["last"])
    images = [first, *(first.copy() for _ in range(options["images"])), last]

    def energy(image: Atoms) -> float:
        model.prepare(image, request["charge"])
        return energy_and_forces(image)[0]

    try:
        ends = [energy(first), energy(last)]
        for image, value in zip((first, last), ends, strict=True):  # they do not move
            image.calc = SinglePointCalculator(image, energy=value)
        band = NEB(images, method="improvedtangent", climb=True, allow_shared_calculator=True)
        band.interpolate(mic=True)
        for image in images[1:-1]:
            model.prepare(image, request["charge"])
        optimizer = Optimizer(band)
        converged = bool(optimizer.run(fmax=options["fmax"], steps=options["max_steps"]))
        largest = float(np.linalg.norm(np.asarray(band.get_forces(), float).reshape(-1, 3), axis=1).max())
        energies = [ends[0], *(energy(image) for image in images[1:-1]), ends[1]]
    except Exception as error:  # noqa: BLE001  (whatever a model raises is a failed path, not a dead run)
        return {"status": "failed", "failure": one_line(error), "failure_kind": "exception", "wall_s": model.clock()[0] - began}
    if not all(math.isfinite(value) for value in (*energies, largest)):
        return {"status": "failed", "failure": "an energy or force of the path is not a number", "failure_kind": "nan"}
    ended, ended_cpu = model.clock()
    return {
        "status": "converged" if converged else "unconverged",
        "energies": energies,
        "positions": images[int(np.argmax(energies))].positions.tolist(),
        "fmax": largest,
        "steps": int(optimizer.nsteps),
        "wall_s": ended - began,
        "cpu_s": ended_cpu - began_cpu,
    }
