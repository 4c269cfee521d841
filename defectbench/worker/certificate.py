"""The charge-response certificate's raw numbers: the same geometry at several charges, and checks of the forces.

Only measures; what the numbers mean is decided in ``defectbench.models.certificate``.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from .adapters.base import LoadedModel
from .errors import one_line
from .relaxation import atoms_of, peak_memory_mb

Array = NDArray[np.float64]


RATTLE = 0.02
"""Å."""


def rattle(generator: np.random.Generator, count: int) -> Array:
    """The first draw of a certificate's generator: by how much each atom is displaced, (N, 3), Å."""
    displacements: Array = generator.normal(scale=RATTLE, size=(count, 3))
    return displacements


def _rotation(generator: np.random.Generator) -> Array:
    """A uniformly random proper rotation matrix, (3, 3)."""
    q, r = np.linalg.qr(generator.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    if np.linalg.det(q) < 0:
        q[:, 0] = -q[:, 0]
    rotation: Array = q
    return rotation


class _Calls:
    """Counts and times force calls."""

    def __init__(self, model: LoadedModel) -> None:
        self.model = model
        self.seconds: list[float] = []

    def __call__(self, atoms: Atoms, charge: int | None, timed: bool = False) -> tuple[float, Array]:
        began = time.perf_counter()
        self.model.prepare(atoms, charge)
        energy = float(atoms.get_potential_energy())
        forces = np.array(atoms.get_forces(), float)
        if timed:
            self.seconds.append(time.perf_counter() - began)
        if not np.isfinite(energy) or not np.isfinite(forces).all():
            raise FloatingPointError("the model gave an energy or forces that are not numbers")
        return energy, forces


def certify(model: LoadedModel, request: dict[str, Any]) -> dict[str, Any]:
    """Measures how a model answers to charge, and whether its forces are sound.

    Args:
        model: the loaded model.
        request: ``structure``, ``charge`` (ignored) and ``options``: ``charges`` (two or more integers), ``seed``
            (default 0), ``components`` (force components checked by finite differences, default 3).

    Returns:
        ``status`` ``ok`` or ``failed``, and raw numbers. Energies eV, forces eV/Å, times s:
        ``charges``, ``energies`` and ``forces`` (one (N, 3) per charge) at one geometry; ``repeat``: changes of energy and
        largest force component between two calls with another charge in between; ``stale``: the same after a switch of
        charge, between the first call and one that a displaced geometry has made fresh; ``finite_difference``: per
        component analytic and numerical force at each step; ``translation``, ``permutation``, ``rotation``: changes of energy
        and largest force component; ``doubling``: energies of the cell and of its double; ``descriptors``: root mean
        square change relative to their spread, per charge.
    """
    began = time.perf_counter()
    try:
        out = _measure(model, request)
    except Exception as error:  # noqa: BLE001  (whatever a model raises is a failed certificate)
        return {"status": "failed", "failure": one_line(error), "failure_kind": getattr(error, "kind", "exception")}
    out["wall_s"] = time.perf_counter() - began
    out["peak_memory_mb"] = peak_memory_mb()
    return out


def _difference(a: tuple[float, Array], b: tuple[float, Array]) -> dict[str, float]:
    return {"energy": abs(a[0] - b[0]), "forces": float(np.abs(a[1] - b[1]).max())}


def _measure(model: LoadedModel, request: dict[str, Any]) -> dict[str, Any]:
    options = dict(request.get("options") or {})
    charges = [int(q) for q in options.get("charges", (-1, 0, 1))]
    generator = np.random.default_rng(int(options.get("seed", 0)))
    components = int(options.get("components", 3))
    if len(set(charges)) < 2:
        raise ValueError("a certificate needs at least two different charges")
    base = atoms_of(request["structure"])
    call = _Calls(model)
    # A start straight from ShakeNBreak or a perfect site has forces that vanish by symmetry; a small rattle makes them all speak.
    count = len(base)
    base.positions += rattle(generator, count)

    call(base.copy(), charges[0])  # warm-up: compilation, caches
    shared = base.copy()  # one Atoms object for all charges, as a careless caller would have it
    at = [call(shared, q, timed=True) for q in charges]

    first, last = charges[0], charges[-1]
    repeat = _difference(call(shared, first), at[0])
    switched = call(shared, last)  # the same geometry directly after another charge …
    displaced = shared.copy()
    displaced.positions[0] += 0.05
    call(displaced, last)
    fresh = call(base.copy(), last)  # … and once more, when a cache of the last geometry is of no use
    stale = _difference(switched, fresh)
    order = _difference(fresh, at[-1])

    reference_charge = 0 if 0 in charges else charges[0]
    energy, forces = at[charges.index(reference_charge)]

    picked = generator.choice(count * 3, size=min(components, count * 3), replace=False)
    widths = [1e-3] if model.precision == "float64" else [0.005, 0.01, 0.02]
    differences = []
    for flat in picked:
        atom, axis = int(flat) // 3, int(flat) % 3
        numerical = []
        for width in widths:
            sides = []
            for sign in (1.0, -1.0):
                moved = base.copy()
                moved.positions[atom, axis] += sign * width
                sides.append(call(moved, reference_charge)[0])
            numerical.append(-(sides[0] - sides[1]) / (2.0 * width))
        differences.append({"atom": atom, "axis": axis, "analytic": float(forces[atom, axis]), "steps": widths, "numerical": numerical})

    shift = generator.uniform(0.2, 1.5, size=3)
    translated = base.copy()
    translated.positions += shift
    translation = _difference(call(translated, reference_charge), (energy, forces))

    new_order = generator.permutation(count)
    permutation = _difference(call(base[new_order], reference_charge), (energy, forces[new_order]))

    matrix = _rotation(generator)
    rotated = Atoms(base.get_chemical_symbols(), positions=base.positions @ matrix.T, cell=base.cell.array @ matrix.T, pbc=True)
    rotation = _difference(call(rotated, reference_charge), (energy, forces @ matrix.T))

    axis = int(np.argmin(base.cell.lengths()))
    repeats = [1, 1, 1]
    repeats[axis] = 2
    doubled = base.repeat(repeats)
    probe = next(q for q in (*reversed(charges), first) if q != reference_charge)
    doubling = {
        "charge": probe,
        "reference_charge": reference_charge,
        "single": [energy, at[charges.index(probe)][0]],
        "double": [call(doubled.copy(), reference_charge)[0], call(doubled.copy(), probe)[0]],
    }

    return {
        "status": "ok",
        "atoms": count,
        "precision": model.precision,
        "charges": charges,
        "energies": [e for e, _ in at],
        "forces": [f.tolist() for _, f in at],
        "repeat": repeat,
        "stale": stale,
        "order": order,
        "finite_difference": differences,
        "translation": translation,
        "permutation": permutation,
        "rotation": rotation,
        "doubling": doubling,
        "descriptors": _descriptor_changes(model, base, charges, reference_charge),
        "seconds_per_call": float(np.median(call.seconds)),
    }


def _descriptor_changes(model: LoadedModel, base: Atoms, charges: list[int], reference_charge: int) -> dict[str, Any] | None:
    """Change of the descriptors with charge, relative to their spread over atoms; None where the model exposes none."""
    if not model.has_descriptors:
        return None
    features = {}
    try:
        for charge in charges if model.charge != "none" else (reference_charge, next(q for q in charges if q != reference_charge)):
            atoms = base.copy()
            model.prepare(atoms, charge)
            features[charge] = model.descriptors(atoms)
            if not np.isfinite(features[charge]).all():
                raise FloatingPointError("the descriptors are not numbers")
    except Exception as error:  # noqa: BLE001  (descriptors are an extra; their failure is recorded, not fatal)
        return {"failure": one_line(error)}
    reference = features[reference_charge]
    spread = float(np.sqrt(np.mean((reference - reference.mean(axis=0)) ** 2))) or 1.0
    return {
        "dimension": int(reference.shape[1]),
        "relative_change": {str(q): float(np.sqrt(np.mean((f - reference) ** 2)) / spread) for q, f in features.items()},
    }
