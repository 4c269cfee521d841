"""The charge-response certificate's raw numbers: the same geometry at several charges, and checks of the forces.

Only measures; what the numbers mean is decided in ``defectbench.models.certificate``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from itertools import combinations
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from .adapters.base import CHARGE_KEYS, LoadedModel
from .errors import WorkerError, format_charge, one_line
from .hidden import OTHER_KEYS, names_in_code, search, watched
from .relaxation import Optimizer, atoms_of, energy_and_forces, peak_memory_mb

Array = NDArray[np.float64]


RATTLE = 0.02
"""Å."""
STEPS = 3
"""Optimiser steps whose end is compared with a fresh call."""
SPEAKS = 1e-6
"""eV and eV/Å: a change that is worth looking for its cause; whether it counts is judged elsewhere."""


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
    """Counts and times force calls, and refuses what no run could use."""

    def __init__(self, model: LoadedModel) -> None:
        self.model = model
        self.seconds: list[float] = []
        self.count = 0

    def __call__(self, atoms: Atoms, charge: int | None, timed: bool = False) -> tuple[float, Array]:
        began = time.perf_counter()
        self.model.prepare(atoms, charge)
        energy, forces = self.evaluated(atoms, charge)
        if timed:
            self.seconds.append(time.perf_counter() - began)
        return energy, forces

    def evaluated(self, atoms: Atoms, charge: int | None) -> tuple[float, Array]:
        """Energy and forces of a prepared structure."""
        self.count += 1
        before = atoms.positions.copy()
        energy, forces = energy_and_forces(atoms)
        at = "" if charge is None or self.model.charge == "none" else f" at charge {format_charge(charge)}"
        if not np.isfinite(energy) or not np.isfinite(forces).all():
            what = "forces that are not numbers" if np.isfinite(energy) else "an energy that is not a number"
            bound = "; charge.range in its definition says at which charges it may be asked" if at else ""
            raise WorkerError("nan", f"the model gave {what}{at}{bound}")
        if (moved := float(np.abs(atoms.positions - before).max())) > 1e-9:
            raise WorkerError(
                "positions",
                f"the calculator changes the positions that it is given (one by {moved:.2g} Å, as wrapping in place does); "
                "let it work on a copy of the atoms",
            )
        return energy, forces


def certify(model: LoadedModel, request: dict[str, Any]) -> dict[str, Any]:
    """Measures how a model answers to charge, and whether its forces are sound.

    Args:
        model: the loaded model.
        request: ``structure``, ``charge`` (ignored) and ``options``: ``charges`` (two or more integers), ``seed``
            (default 0), and ``others``: further defects, each with ``defect`` (its name), ``structure`` and ``charges``.

    Returns:
        ``status`` ``ok`` or ``failed``, and raw numbers. Energies eV, forces eV/Å, times s:
        ``charges``, ``energies`` and ``forces`` (one (N, 3) per charge) at one geometry; ``others``: energies of the other defects, and
        how much the forces change between each pair of charges; ``repeat``: changes of energy and
        largest force component between two calls with another charge in between; ``stale``: the same after a switch of
        charge, between the first call and one that a displaced geometry has made fresh; ``finite_difference``: per charge and direction
        analytic and numerical force at each width; ``after_steps``: changes between the energy and forces that optimiser steps end
        with and those of a fresh call there; ``again``: between the first answers and the same questions at the end; ``batched``: between
        single calls and a batch of all charges, where the run has batches; ``hidden``: what
        a model that takes no charge makes of other ways to say one; ``hidden_names``: how many names were ``tried`` and ``untried`` where
        it reads all of ``atoms.info``; ``translation``, ``permutation``, ``rotation``: changes of energy
        and largest force component; ``doubling``: energies of the cell and of its double; ``descriptors``: root mean
        square change relative to their spread, per charge; ``calls``: how often the model was called.
    """
    began = time.perf_counter()
    try:
        out = _measure(model, request)
    except Exception as error:  # noqa: BLE001  (whatever a model raises is a failed certificate)
        said = str(error) if isinstance(error, WorkerError) else one_line(error)
        return {"status": "failed", "failure": said, "failure_kind": getattr(error, "kind", "exception")}
    out["wall_s"] = time.perf_counter() - began
    out["peak_memory_mb"] = peak_memory_mb()
    return out


Answer = tuple[float, Array]


def _difference(a: Answer, b: Answer) -> dict[str, float]:
    return {"energy": abs(a[0] - b[0]), "forces": float(np.abs(a[1] - b[1]).max())}


def _largest_of(*differences: dict[str, float]) -> dict[str, float]:
    return {name: max(d[name] for d in differences) for name in ("energy", "forces")}


def _measure(model: LoadedModel, request: dict[str, Any]) -> dict[str, Any]:
    options = dict(request.get("options") or {})
    charges = [int(q) for q in options.get("charges", (-1, 0, 1))]
    seed = int(options.get("seed", 0))
    generator = np.random.default_rng(seed)
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
    displaced.positions[0] += base.cell.array[0] + 0.05  # out of the cell, so that a calculator that wraps in place is seen to
    call(displaced, last)
    fresh = call(base.copy(), last)  # … and again, when a cache of the last geometry is useless
    stale = _difference(switched, fresh)
    order = _difference(fresh, at[-1])

    reference_charge = 0 if 0 in charges else charges[0]
    energy, forces = at[charges.index(reference_charge)]
    others = [_other(call, other, seed) for other in options.get("others", ())]
    differences = _finite_differences(call, base, dict(zip(charges, at, strict=True)), reference_charge, generator)

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
    descriptors = _descriptor_changes(model, base, charges, reference_charge)
    takes = model.charge != "none"
    after_steps = _largest_of(*(_after_steps(call, base, q) for q in (first, last))) if takes else None
    hidden, hidden_names = (None, None) if takes else _hidden(call, base, charges, at)
    batched = _batched(call, base, charges, at) if model.batch > 1 else None
    again = _largest_of(_difference(call(base.copy(), first), at[0]), _difference(call(base.copy(), last), at[-1]))

    return {
        "status": "ok",
        "atoms": count,
        "precision": model.precision,
        "charges": charges,
        "energies": [e for e, _ in at],
        "forces": [f.tolist() for _, f in at],
        "others": others,
        "repeat": repeat,
        "stale": stale,
        "order": order,
        "finite_difference": differences,
        "after_steps": after_steps,
        "again": again,
        "batched": batched,
        "hidden": hidden,
        "hidden_names": hidden_names,
        "translation": translation,
        "permutation": permutation,
        "rotation": rotation,
        "doubling": doubling,
        "descriptors": descriptors,
        "seconds_per_call": float(np.median(call.seconds)),
        "calls": call.count,
    }


def _other(call: _Calls, other: dict[str, Any], seed: int) -> dict[str, Any]:
    """Another defect at its charges: its energies, and the change of its forces between each pair of them."""
    atoms, charges = atoms_of(other["structure"]), [int(q) for q in other["charges"]]
    atoms.positions += rattle(np.random.default_rng(seed), len(atoms))
    found = [call(atoms, q) for q in charges]
    return {
        "defect": other["defect"],
        "charges": charges,
        "energies": [energy for energy, _ in found],
        "force_changes": [float(np.abs(a[1] - b[1]).max()) for a, b in combinations(found, 2)],
    }


def _finite_differences(
    call: _Calls, base: Atoms, at: dict[int, Answer], reference_charge: int, generator: np.random.Generator
) -> list[dict[str, Any]]:
    """Forces along two directions of all atoms, analytic and by central differences of the energy.

    A model that takes a charge is asked at its outermost charges, too: there the charge may reach the energy and not the forces. One
    direction is random, the other leans towards the change of the forces with charge.
    """
    charges = list(at)
    response = at[charges[-1]][1] - at[charges[0]][1]
    random, leaning = generator.normal(size=(2, *response.shape))
    size = float(np.abs(response).max())
    directions = [random, leaning + (3.0 / size * response if size > 1e-6 else 0.0)]
    widths = [1e-3] if call.model.precision == "float64" else [0.005, 0.015]
    asked = (reference_charge,) if call.model.charge == "none" else tuple(dict.fromkeys((reference_charge, charges[0], charges[-1])))
    out = []
    for number, direction in enumerate(directions):
        along = direction / np.linalg.norm(direction, axis=1).max()
        for charge in asked:
            numerical = []
            for width in widths:
                sides = []
                for sign in (1.0, -1.0):
                    moved = base.copy()
                    moved.positions += sign * width * along
                    sides.append(call(moved, charge)[0])
                numerical.append(-(sides[0] - sides[1]) / (2.0 * width))
            analytic = float((at[charge][1] * along).sum())
            out.append({"charge": charge, "direction": number, "analytic": analytic, "steps": widths, "numerical": numerical})
    return out


def _after_steps(call: _Calls, base: Atoms, charge: int) -> dict[str, float]:
    """What a few optimiser steps end with, against a fresh call at the same place."""
    atoms = base.copy()
    call.model.prepare(atoms, charge)
    for _ in Optimizer(atoms, logfile=None).irun(fmax=0.0, steps=STEPS):
        pass
    call.count += STEPS
    reached = call.evaluated(atoms, charge)
    fresh = base.copy()
    fresh.positions = atoms.positions
    return _difference(reached, call(fresh, charge))


def _batched(call: _Calls, base: Atoms, charges: list[int], at: list[Answer]) -> dict[str, float]:
    """The same geometry at all charges in one batch, in two orders, against single calls."""
    model, structures = call.model, []
    for charge in charges:
        structures.append(base.copy())
        model.prepare(structures[-1], charge)
    forwards, backwards = model.evaluate(structures), model.evaluate(structures[::-1])[::-1]
    call.count += 2
    return _largest_of(*(_difference(found, single) for batch in (forwards, backwards) for found, single in zip(batch, at, strict=True)))


def _hidden(call: _Calls, base: Atoms, charges: list[int], at: list[Answer]) -> tuple[list[dict[str, Any]], dict[str, int] | None]:
    """What a model that takes no charge makes of one that is said in other ways; where it responds, how it reads it.

    Also how many names could be tried, if the model reads all of ``info`` at once: nobody sees which key it takes then. So the names that
    its code holds are tried.
    """
    model, probe = call.model, charges[-1] if charges[-1] else charges[0]
    structure, seen = watched(base)
    model.prepare(structure, None)
    by_adapter = set(dict.keys(structure.info))
    silent = call.evaluated(structure, None)
    written = _largest_of(*(_difference(answer, silent) for answer in at))
    found = [{"where": "", **written}]

    def answer(change: Callable[[Atoms], object]) -> dict[str, float] | None:
        atoms = base.copy()
        model.prepare(atoms, None)
        change(atoms)
        found = _difference(call.evaluated(atoms, probe), silent)
        return found if found["energy"] > SPEAKS or found["forces"] > SPEAKS else None

    def tell(where: str, change: Callable[[Atoms], object]) -> None:
        if (response := answer(change)) is not None:
            found.append({"where": where, **response})

    def in_info(*keys: Any) -> Callable[[Atoms], object]:
        return lambda atoms: atoms.info.update(dict.fromkeys(keys, probe))

    def as_attribute(name: str) -> Callable[[Atoms], object]:
        return lambda atoms: setattr(atoms, name, probe)

    known = {*by_adapter, *OTHER_KEYS, *CHARGE_KEYS}
    # what the model looks for, under whatever name
    for key in sorted(seen.keys - known, key=str):
        with suppress(Exception):  # of a key for which a number makes no sense
            tell(f"atoms.info[{key!r}]", in_info(key))
    for name in sorted(seen.attributes - known):
        with suppress(Exception):  # likewise
            tell(f"atoms.{name}", as_attribute(name))
    names = None
    if seen.whole:
        structure, _ = watched(base)
        model.prepare(structure, None)
        with names_in_code() as held:
            call.evaluated(structure, None)
        searched = search(held - known - seen.keys, lambda keys: answer(in_info(*keys)))
        names = {"tried": searched.tried, "untried": searched.untried}
        if searched.names:
            found.append({"where": f"atoms.info[{searched.names[0]!r}]", **searched.response})
    if written["energy"] > SPEAKS or written["forces"] > SPEAKS:
        for key in CHARGE_KEYS:
            tell(f"atoms.info[{key!r}]", in_info(key))
        tell("the initial charges", lambda atoms: atoms.set_initial_charges(np.full(len(atoms), probe / len(atoms))))
    for where, calculator in model.other_ways(probe):
        atoms = base.copy()
        atoms.calc = calculator
        found.append({"where": where, **_difference(call.evaluated(atoms, probe), silent)})
    return found, names


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
