"""The training files of a selection: one extended XYZ file per level and use, and the constants that are fitted before the training."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from defectbench.base.errors import DatasetError
from defectbench.base.files import write_text
from defectbench.base.states import format_charge
from defectbench.training.splits import Frame, Selection

if TYPE_CHECKING:
    from defectbench.datasets.dataset import Dataset

CHARGE_KEY = "defect_charge"
"""Of the charge in the files, and name of the embedding. mace-torch gives a missing ``total_charge`` a silent zero; under any other name a
missing charge is an error."""
ENERGY_KEY, FORCES_KEY = "REF_energy", "REF_forces"


@dataclass(frozen=True)
class TrainingFiles:
    """What was written.

    Attributes:
        train: level → file name in the folder.
        validation: level → file name; a level without validation frames is not in it.
        sha256: over the content of all files: identifies the training data.
        counts: (level, ``train`` or ``validation``, charge) → number of frames; hosts count at charge 0.
        atomic_energies: level → element → energy per atom, eV; see :func:`atomic_energies`.
        charges: smallest and largest charge.
    """

    train: dict[str, str]
    validation: dict[str, str]
    sha256: str
    counts: dict[tuple[str, str, int], int]
    atomic_energies: dict[str, dict[str, float]]
    charges: tuple[int, int]


def export(dataset: Dataset, selection: Selection, folder: Path) -> TrainingFiles:
    """Writes the training files; the same bytes for the same dataset and selection.

    Args:
        dataset: its perfect supercell is added to each level whose energy of it is known, without forces.
        selection: from :func:`~defectbench.training.splits.select_frames`.
        folder: where to; existing files are replaced.

    Raises:
        DatasetError: a charge between the smallest and the largest has no training frame, or one relaxation is on two sides.
        RunError: a file cannot be written.
    """
    _check(dataset, selection)
    hosts = {level: _host(dataset, level) for level in selection.levels}
    digest = hashlib.sha256()
    names: dict[str, dict[str, str]] = {"train": {}, "validation": {}}
    counts: Counter[tuple[str, str, int]] = Counter()
    for use, frames in (("train", selection.train), ("validation", selection.validation)):
        for level in selection.levels:
            chosen = [frame for frame in frames if frame.level == level]
            labelled = [_labelled(frame.atoms, frame.charge, level) for frame in chosen]
            counts.update((level, use, frame.charge) for frame in chosen)
            if use == "train" and (host := hosts[level]) is not None:
                labelled.append(host)
                counts[level, use, 0] += 1
            if not labelled:
                continue
            name = f"{use}-{level}.xyz"
            text = extxyz(labelled)
            write_text(folder / name, text)
            digest.update(f"{name}\0{text}\0".encode())
            names[use][level] = name
    return TrainingFiles(
        names["train"], names["validation"], digest.hexdigest(), dict(counts), atomic_energies(selection, hosts), selection.charges
    )


def extxyz(frames: Sequence[Atoms]) -> str:
    """Frames as text."""
    from ase.io import write

    text = io.StringIO()
    write(text, list(frames), format="extxyz")
    return text.getvalue()


def atomic_energies(selection: Selection, hosts: dict[str, Atoms | None]) -> dict[str, dict[str, float]]:
    """Energies per atom and level that leave the network little to learn, eV.

    A least-squares fit of E = Σ_z n_z (e_z + d_level) + c_charge,level, with d = 0 for the first level and c = 0 for neutral cells. Where
    the data do not tell two terms apart (one composition only), the solution of least norm is taken. The constants of the charges are
    fitted again, to what is left, when the training starts.
    """
    levels = selection.levels
    samples = [
        (frame.level, frame.charge, frame.atoms.get_chemical_symbols(), frame.atoms.get_potential_energy()) for frame in selection.train
    ]
    samples += [(level, 0, host.get_chemical_symbols(), host.info[ENERGY_KEY]) for level, host in hosts.items() if host is not None]
    elements = sorted({symbol for _, _, symbols, _ in samples for symbol in symbols})
    charged = sorted({(level, charge) for level, charge, _, _ in samples if charge != 0})
    rows = np.zeros((len(samples), len(elements) + len(levels) - 1 + len(charged)))
    for row, (level, charge, symbols, _) in zip(rows, samples, strict=True):
        for symbol in symbols:
            row[elements.index(symbol)] += 1
        if (at := levels.index(level)) > 0:
            row[len(elements) + at - 1] = len(symbols)
        if charge != 0:
            row[len(elements) + len(levels) - 1 + charged.index((level, charge))] = 1
    solution = np.linalg.lstsq(rows, np.array([energy for *_, energy in samples]), rcond=1e-10)[0]
    shifts = [0.0, *solution[len(elements) : len(elements) + len(levels) - 1]]
    return {
        level: {element: float(solution[i] + shift) for i, element in enumerate(elements)}
        for level, shift in zip(levels, shifts, strict=True)
    }


def _check(dataset: Dataset, selection: Selection) -> None:
    # charges are numbered from the smallest to the largest; one in between without data would be answered from random numbers
    low, high = selection.charges
    if gap := sorted(set(range(low, high + 1)) - {frame.charge for frame in selection.train}):
        raise DatasetError(
            f"dataset {dataset.id}: no training frame has charge {format_charge(gap[0])}, "
            f"between {format_charge(low)} and {format_charge(high)}; choose 'charges'",
            code="charge-gap",
        )
    sides = [{(frame.defect, frame.charge, frame.group) for frame in frames} for frames in (selection.train, selection.validation)]
    if both := sides[0] & sides[1]:
        defect, charge, group = min(both)
        raise DatasetError(f"dataset {dataset.id}: the relaxation {group} of {defect} {format_charge(charge)} would train and validate")


def _labelled(atoms: Atoms, charge: int, level: str) -> Atoms:
    out = Atoms(atoms.get_chemical_symbols(), positions=atoms.positions, cell=atoms.cell, pbc=True)
    out.info = {ENERGY_KEY: float(atoms.get_potential_energy()), CHARGE_KEY: int(charge), "level": level}
    out.arrays[FORCES_KEY] = atoms.get_forces()
    return out


def _host(dataset: Dataset, level: str) -> Atoms | None:
    energy = dataset.level_of_theory(level).host_energy
    if energy is None:
        return None
    host = dataset.host
    host.info = {ENERGY_KEY: float(energy), CHARGE_KEY: 0, "level": level, "config_forces_weight": 0.0}
    host.arrays[FORCES_KEY] = np.zeros((len(host), 3))
    return host


def number_of(element: str) -> int:
    """Atomic number.

    >>> number_of("Se")
    34
    """
    return int(atomic_numbers[element])


__all__ = ["CHARGE_KEY", "Frame", "TrainingFiles", "atomic_energies", "export", "extxyz", "number_of"]
