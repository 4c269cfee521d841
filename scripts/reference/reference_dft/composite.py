"""A hybrid functional on top of k-converged numbers: E = E_base + [E_hybrid(Γ) − E_start(Γ)], forces alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import ArrayLike, NDArray

from .cp2k_schema import Cp2kHybrid, method_of
from .reference_data import ReferenceData, same_geometry


@dataclass(frozen=True)
class Labels:
    """Energy and forces of a composite.

    Attributes:
        energy: eV.
        forces: (N, 3), eV/Å; they add up to zero.
        net_force: (3,) what they added up to before, eV/Å: the same share of it is taken from every atom, a rigid shift.
    """

    energy: float
    forces: NDArray[np.float64]
    net_force: NDArray[np.float64]


def compose(base: tuple[float, ArrayLike], high: tuple[float, ArrayLike], low: tuple[float, ArrayLike]) -> Labels:
    """base + (high − low), without net force.

    Args:
        base: energy (eV) and (N, 3) forces (eV/Å) with k-points.
        high: the same by the hybrid functional at Γ.
        low: the same by the base's functional at Γ.

    Example:
        >>> found = compose((-10.0, [[0.1, 0, 0], [-0.1, 0, 0]]), (-8.0, [[0.3, 0, 0], [-0.1, 0, 0]]), (-9.0, [[0.0, 0, 0], [0.0, 0, 0]]))
        >>> found.energy
        -9.0
        >>> found.forces[:, 0].round(6).tolist(), found.net_force.round(6).tolist()
        ([0.3, -0.3], [0.2, 0.0, 0.0])
    """
    forces = np.asarray(base[1], dtype=float) + np.asarray(high[1], dtype=float) - np.asarray(low[1], dtype=float)
    net = forces.sum(axis=0)
    return Labels(base[0] + high[0] - low[0], forces - net / len(forces), net)


def from_stored(data: ReferenceData, level: str) -> Iterator[list[Atoms]]:
    """Composite frames for which everything has been calculated: the same geometry at the base's level, by the hybrid and its start at Γ.

    The hybrid's own frames are those of a level with the same method and no ``added_to``.

    Yields:
        For each configuration that gets new frames so: all its frames at the level.
    """
    hybrid = _difference_of(data, level)
    if hybrid is None or hybrid.added_to is None or hybrid.start_from is None:
        return
    plain = data.method(level).model_copy(update={"hybrid": hybrid.model_copy(update={"added_to": None})})
    raw = next((entry.name for entry in data.dataset.metadata.levels if method_of(entry) == plain), None)
    if raw is None:
        return
    dataset = data.dataset
    for defect, charge in dataset.states:
        known = dataset.configurations(defect, charge, level)
        there = dataset.configurations(defect, charge, hybrid.added_to)
        for configuration in dataset.configurations(defect, charge, raw):
            if configuration not in there:
                continue
            frames = dataset.frames(defect, charge, configuration, level) if configuration in known else []
            steps = {atoms.info["step"] for atoms in frames}
            for base in dataset.frames(defect, charge, configuration, hybrid.added_to):
                if base.info["step"] in steps:
                    continue
                found = [_at(data, base, name) for name in (raw, hybrid.start_from)]
                if found[0] is not None and found[1] is not None:
                    frames.append(labelled(base, compose(_results(base), _results(found[0]), _results(found[1])), level))
            if len(frames) > len(steps):
                yield sorted(frames, key=lambda atoms: int(atoms.info["step"]))


def labelled(base: Atoms, labels: Labels, level: str) -> Atoms:
    """A frame of the base's level with a composite's labels."""
    out = Atoms(base.get_chemical_symbols(), positions=base.positions, cell=base.cell, pbc=True)
    out.info = {**base.info, "level_of_theory": level, "converged": False}
    out.calc = SinglePointCalculator(out, energy=labels.energy, forces=labels.forces)
    return out


def _difference_of(data: ReferenceData, level: str) -> Cp2kHybrid | None:
    method = method_of(data.dataset.level_of_theory(level))
    return None if method is None else method.hybrid


def _results(atoms: Atoms) -> tuple[float, NDArray[np.float64]]:
    return float(atoms.get_potential_energy()), np.asarray(atoms.get_forces())


def _at(data: ReferenceData, atoms: Atoms, level: str) -> Atoms | None:
    """The frame of the same configuration and geometry at another level."""
    defect, charge, configuration = atoms.info["defect"], atoms.info["charge"], atoms.info["configuration"]
    if configuration not in data.dataset.configurations(defect, charge, level):
        return None
    return next((a for a in data.dataset.frames(defect, charge, configuration, level) if same_geometry(a, atoms)), None)
