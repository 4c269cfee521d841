"""Checks of what the numbers of a dataset mean: energies against forces, energies against each other, ranges, order of band edges.

:mod:`~defectbench.datasets.checks` finds files that contradict their labels. The checks here find numbers that cannot all be true:
another unit, a wrong sign, atoms in another order. They find what no calculation can give; a bad calculation passes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from ase import Atoms
from ase.units import Bohr, Hartree
from numpy.typing import NDArray

from defectbench.base.states import ChargeState, format_charge, is_relaxation
from defectbench.datasets.checks import Problem
from defectbench.datasets.extxyz import frame_file_name, stored_results
from defectbench.datasets.schema import METADATA_FILE, DatasetFile, LevelOfTheory
from defectbench.structures.lattice import minimum_image

ENERGY_NOISE = 0.03
"""eV; energies of two frames are not compared more finely: basis sets and k-points leave such steps."""
LEAST_WORK = 0.005
"""eV; a relaxation in which forces do less work says nothing about signs and units."""
LONGEST_STEP = 0.5
"""Å; between frames that are farther apart, two forces say too little about the energy."""
RATIO = (0.67, 1.5)
"""Range of ΔE over −F·Δx along a relaxation; 1 for a harmonic energy surface."""
LARGEST_ENERGY = 1e6
"""eV per atom; all-electron energies of the heaviest atoms are just below it."""
LARGEST_FORCE = 1e3
"""eV/Å; a start with atoms 0.5 Å apart has less."""
SPREAD = (25.0, 15.0)
"""eV; minima of one defect differ by less than the first, and by the second per unit of charge."""
LARGEST_GAP = 20.0
"""eV; above that of every solid (neon: 21.5, LiF: 14)."""
LARGEST_CORRECTION = (5.0, 3.0)
"""eV; for any charge state, and per squared charge."""

_KNOWN_RATIOS = {
    -1.0: "the forces have the wrong sign",
    1.0 / Hartree: "the energies are in hartree",
    2.0 / Hartree: "the energies are in rydberg",
    1.0 / Bohr: "the forces are in eV/bohr",
    Hartree / Bohr: "the forces are in hartree/bohr",
    Hartree / 2.0 / Bohr: "the forces are in rydberg/bohr",
}


def check_metadata(metadata: DatasetFile) -> Iterator[Problem]:
    """Band edges in order, a dielectric tensor that is one, corrections and chemical potentials in range."""
    for index, level in enumerate(metadata.levels):
        field = f"levels.{index}"
        edges = level.band_edges
        if edges is not None and edges.cbm is not None:
            if edges.cbm < edges.vbm:
                yield Problem(
                    METADATA_FILE, None, f"{field}.band_edges", f"the valence band maximum ({edges.vbm:g} eV) is above the conduction "
                    f"band minimum ({edges.cbm:g} eV)",
                )  # fmt: skip
            elif edges.cbm - edges.vbm > LARGEST_GAP:
                yield Problem(METADATA_FILE, None, f"{field}.band_edges", f"a gap of {edges.cbm - edges.vbm:g} eV; no solid has one")
        if edges is not None and not abs(edges.vbm) < 100.0:
            yield Problem(METADATA_FILE, None, f"{field}.band_edges.vbm", f"{edges.vbm:g} eV cannot be a band edge")
        for number, correction in enumerate(level.corrections):
            limit = LARGEST_CORRECTION[0] + LARGEST_CORRECTION[1] * correction.charge**2
            if not abs(correction.total) < limit:
                yield Problem(
                    METADATA_FILE, None, f"{field}.corrections.{number}",
                    f"{correction.total:g} eV cannot be the finite-size correction of charge {format_charge(correction.charge)}",
                )  # fmt: skip
        for number, condition in enumerate(level.chemical_potentials):
            for element, value in condition.potentials.items():
                if not abs(value) < LARGEST_ENERGY:
                    yield Problem(
                        METADATA_FILE,
                        None,
                        f"{field}.chemical_potentials.{number}.{element}",
                        f"{value:g} eV cannot be the energy of an atom",
                    )
    if metadata.dielectric is not None:
        static = np.array(metadata.dielectric.tensor)
        tensors = {"tensor": static}
        if metadata.dielectric.high_frequency is not None:
            tensors["high_frequency"] = np.array(metadata.dielectric.high_frequency)
        for name, tensor in tensors.items():
            if np.abs(tensor - tensor.T).max() > 0.05 * np.abs(tensor).max() or np.linalg.eigvalsh((tensor + tensor.T) / 2).min() < 1.0:
                yield Problem(METADATA_FILE, None, f"dielectric.{name}", "is not symmetric with principal values of at least 1")


def check_results(file: str, frames: Sequence[Atoms], host: Atoms) -> Iterator[Problem]:
    """Energies and forces of one relaxation: in range, and ΔE of successive frames against the work −F·Δx between them.

    For each pair of successive frames with forces the energy's change lies between −F₁·Δx and −F₂·Δx where the force along the
    path changes monotonically. It may leave that interval by the interval's own width and :data:`ENERGY_NOISE`. Over the whole
    relaxation, ΔE regressed on the mean of the two must give 1 within :data:`RATIO`. So wrong signs, other units and frames whose
    atoms are in another order than their forces are found.

    Args:
        file: for the problem's text.
        frames: N atoms each, in the order of the steps, energies (eV) and forces (eV/Å) attached.
        host: for minimum images.
    """
    works: list[tuple[float, float]] = []
    steps: list[Problem] = []
    previous: tuple[Atoms, float, NDArray[np.float64]] | None = None
    for index, atoms in enumerate(frames):
        results = stored_results(atoms)
        energy, forces = _number(results.get("energy")), _vectors(results.get("forces"), atoms)
        if energy is not None and not abs(energy) < LARGEST_ENERGY * max(len(atoms), 1):
            yield Problem(file, index, "energy", f"{energy:g} eV cannot be the energy of {len(atoms)} atoms")
            energy = None
        if forces is not None and len(forces) and not float(np.abs(forces).max()) < LARGEST_FORCE:
            yield Problem(file, index, "forces", f"{np.abs(forces).max():g} eV/Å cannot be a force of a finished calculation")
            forces = None
        if energy is None or forces is None:
            previous = None
            continue
        if previous is not None and len(previous[0]) == len(atoms):
            moved = minimum_image(atoms.positions - previous[0].positions, host.cell)
            if exchanged := _exchanged(previous[0], atoms, moved, host):
                yield Problem(file, index, "positions", f"atoms {exchanged} changed places since the frame before (order of the atoms?)")
            if float(np.linalg.norm(moved, axis=1).max(initial=0.0)) <= LONGEST_STEP:
                change = energy - previous[1]
                low, high = sorted((-float((previous[2] * moved).sum()), -float((forces * moved).sum())))
                works.append((change, (low + high) / 2.0))
                slack = ENERGY_NOISE + (high - low)
                if not low - slack <= change <= high + slack:
                    message = f"changes by {change:.3f} eV from the frame before; by the forces it is {low:.3f} to {high:.3f} eV"
                    steps.append(Problem(file, index, "energy", f"{message} (units, sign, order of the atoms?)"))
        previous = (atoms, energy, forces)
    ratio = _ratio(works)
    if ratio is not None and not RATIO[0] <= ratio <= RATIO[1]:
        cause = next((text for known, text in _KNOWN_RATIOS.items() if abs(ratio / known - 1.0) < 0.2), "units, sign, order of the atoms?")
        yield Problem(file, None, "forces", f"energies change by {ratio:.3g} times what the forces say (ΔE over −F·Δx): {cause}")
    else:
        yield from steps


def _exchanged(before: Atoms, after: Atoms, moved: NDArray[np.float64], host: Atoms) -> str:
    """Atoms of one element that are in each other's places: with them exchanged every atom has moved little. Empty if there are none."""
    from scipy.optimize import linear_sum_assignment

    far = np.linalg.norm(moved, axis=1) > LONGEST_STEP
    if not far.any():
        return ""
    order = np.arange(len(before))
    for number in np.unique(before.numbers[far]):
        those = np.flatnonzero(far & (before.numbers == number))
        vectors = minimum_image((after.positions[those][:, None] - before.positions[those][None]).reshape(-1, 3), host.cell)
        order[those[linear_sum_assignment((vectors**2).sum(axis=1).reshape(len(those), len(those)))[1]]] = those
    left = minimum_image(after.positions[order] - before.positions, host.cell)
    if float(np.linalg.norm(left, axis=1).max()) > LONGEST_STEP:
        return ""
    return ", ".join(str(index) for index in np.flatnonzero(order != np.arange(len(order)))[:8])


def _ratio(works: Sequence[tuple[float, float]]) -> float | None:
    """ΔE over −F·Δx by least squares through the origin; None if the forces do too little work."""
    table = np.array(works).reshape(-1, 2)
    if max(np.abs(table[:, 1]).sum(), np.abs(table[:, 0]).sum()) < LEAST_WORK or not np.any(table[:, 1]):
        return None
    return float((table[:, 0] * table[:, 1]).sum() / (table[:, 1] ** 2).sum())


def _number(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]  # anything else is another check's problem
    except (TypeError, ValueError, OverflowError):
        return None
    return number if np.isfinite(number) else None


def _vectors(value: object, atoms: Atoms) -> NDArray[np.float64] | None:
    if value is None:
        return None
    array = np.asarray(value)
    if array.shape != atoms.positions.shape or array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        return None
    return array.astype(float)


def check_level(level: LevelOfTheory, lasts: Mapping[tuple[str, int, str], Atoms], host_atoms: int, folder: str) -> Iterator[Problem]:
    """Last frames of the relaxations of one level against each other and the host: one in another unit stands out.

    Args:
        level: of theory.
        lasts: by defect, charge and configuration.
        host_atoms: number of atoms of the host.
        folder: of the level's files, for the problem's text.
    """
    energies = {key: _number(stored_results(atoms).get("energy")) for key, atoms in lasts.items()}
    known = {key: value for key, value in energies.items() if value is not None and lasts[key].info.get("converged") is True}
    for (defect, charge, configuration), energy in known.items():
        others = [value - energy for (name, q, _), value in known.items() if name == defect and q == charge]
        # the middle of the state's own minima where there are enough; else that of all charges, which differ by more
        same_charge = len(others) >= 3
        if not same_charge:
            others = [value - energy for (name, _, _), value in known.items() if name == defect]
        reach = max((abs(charge - q) for (name, q, _) in known if name == defect), default=0)
        limit = SPREAD[0] if same_charge else SPREAD[0] + SPREAD[1] * reach
        away = float(np.median(others))
        file = f"{folder}/{frame_file_name(defect, charge, configuration)}"
        if len(others) >= 3 and abs(away) > limit:
            unit = _unit(energy, energy + away)
            yield Problem(file, None, "energy", f"{energy:.3f} eV, {abs(away):.3g} eV from the defect's other minima{unit}")
        elif unit := next((u for other in known.values() if abs(other - energy) > SPREAD[0] and (u := _unit(energy, other))), ""):
            yield Problem(file, None, "energy", f"{energy:.3f} eV does not go with other minima of this level{unit}")
        elif level.host_energy is not None and len(others) < 3:
            per_atom = abs(energy / len(lasts[defect, charge, configuration]) - level.host_energy / host_atoms)
            if per_atom > max(0.5 * abs(level.host_energy / host_atoms), 5.0):
                unit = _unit(energy, level.host_energy)
                yield Problem(file, None, "energy", f"{energy:.3f} eV does not go with the host's {level.host_energy:.3f} eV{unit}")
    if level.host_energy is not None and known:
        per_atom = float(np.median([energy / len(lasts[key]) for key, energy in known.items()]))
        if unit := _unit(level.host_energy / host_atoms, per_atom, within=0.15):
            yield Problem(
                METADATA_FILE, None, f"levels.{level.name}.host_energy", f"{level.host_energy:.3f} eV does not go with the minima{unit}"
            )
    yield from _repeated(known, lasts, folder)


def _unit(energy: float, expected: float, within: float = 0.02) -> str:
    ratio = expected / energy if energy else 0.0
    for factor, name in ((Hartree, "hartree"), (Hartree / 2.0, "rydberg")):
        if abs(ratio / factor - 1.0) < within:
            return f" (is it in {name}?)"
    return ""


def _repeated(
    energies: Mapping[tuple[str, int, str], float], lasts: Mapping[tuple[str, int, str], Atoms], folder: str
) -> Iterator[Problem]:
    """One structure with two energies, or with one energy in two charges: a copied file."""
    seen: dict[tuple[str, bytes], tuple[str, int, str]] = {}
    for key, energy in energies.items():
        if not is_relaxation(key[2]):
            continue
        content = (key[0], np.round(lasts[key].positions, 6).tobytes())
        other = seen.setdefault(content, key)
        if other == key:
            continue
        where, name = f"{folder}/{frame_file_name(*key)}", f"{ChargeState(other[0], other[1]).label} {other[2]}"
        if other[1] == key[1] and abs(energies[other] - energy) > 1e-3:
            yield Problem(
                where, None, "energy", f"the structure of {name} with another energy ({energy:.3f}, not {energies[other]:.3f} eV)"
            )
        elif other[1] != key[1] and abs(energies[other] - energy) < 1e-5:
            yield Problem(where, None, "energy", f"structure and energy of {name}: one charge copied for another")
