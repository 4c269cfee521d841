"""Relaxed structures, energies and forces from the output files of the programs that ShakeNBreak writes input for, read by ASE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from defectbench.base.errors import DatasetError
from defectbench.base.files import plain_file
from defectbench.datasets.extxyz import attach_results, stored_results

MAX_BYTES = 500_000_000
"""Larger outputs are refused, also those that are packed."""
_OUTPUTS = (
    ("vasprun.xml", "vasp-xml"),
    ("OUTCAR", "vasp-out"),
    ("aims.out", "aims-output"),
    ("*.castep", "castep-castep"),
    ("espresso.out", "espresso-out"),
    ("*.pwo", "espresso-out"),
    ("cp2k.restart", "cp2k-restart"),
    ("*-1.restart", "cp2k-restart"),
)
"""File name and ASE's name of the format; CP2K's restart has a structure only, its energy is in ShakeNBreak's yaml."""
_STARTS = (("geometry.in", "aims"), ("castep.cell", "castep-cell"), ("espresso.pwi", "espresso-in"), ("structure.cif", "cif"))


_STRUCTURES = frozenset({"aims", "castep-cell", "cif", "cp2k-restart", "espresso-in"})
"""Formats of one structure."""


@dataclass(frozen=True)
class Output:
    """What an output file holds.

    Attributes:
        file: its path.
        last: the last structure.
        frames: those with an energy, in order, energies (eV) and where given forces (eV/Å) attached.
    """

    file: Path
    last: Atoms
    frames: tuple[Atoms, ...]

    def relaxation(self, energy: float | None) -> list[Atoms]:
        """Frames with steps, the last one converged; ``energy`` (eV) is that of the last structure if the file has none."""
        if not self.frames and energy is None:
            return []
        frames = list(self.frames) if self.frames else [attach_results(self.last, energy=energy)]
        for step, frame in enumerate(frames, start=1):
            frame.info = {"step": step, "converged": step == len(frames)}
        return frames


def read_output(places: Sequence[Path]) -> Output | None:
    """The first output file of a known name in the folders, plain or gzipped; None if there is none.

    Raises:
        DatasetError: the file cannot be read.
    """
    for place in places:
        for pattern, name in _OUTPUTS:
            for path in sorted([*place.glob(pattern), *place.glob(f"{pattern}.gz")]):
                if path.is_file() and path.stat().st_size:
                    images = _read(path, name)
                    frames = [frame for image in images if (frame := _clean(image)) is not None]
                    return Output(path, _bare(images[-1]), tuple(frames))
    return None


def read_start(places: Sequence[Path]) -> Atoms | None:
    """The start structure from the input file of another program than VASP; None if there is none.

    Raises:
        DatasetError: the file cannot be read.
    """
    for place in places:
        for file, name in _STARTS:
            if (place / file).is_file():
                return _bare(_read(place / file, name)[-1])
    return None


def _read(path: Path, name: str) -> list[Atoms]:
    from ase.io import read

    index = slice(-1, None) if name in _STRUCTURES else slice(None)
    try:
        with plain_file(path, MAX_BYTES) as plain:
            images = read(plain, index=index, format=name)
    except Exception as error:  # ASE raises anything on malformed text
        raise DatasetError(
            f"{path} cannot be read as {name}: {' '.join(str(error).split())[:120] or type(error).__name__}", code="bad-format"
        ) from error
    found = images if isinstance(images, list) else [images]
    if not found or not len(found[-1]) or abs(found[-1].cell.volume) < 1.0:
        raise DatasetError(f"{path} contains no periodic structure", code="bad-format")
    return found


def _bare(atoms: Atoms) -> Atoms:
    return Atoms(atoms.get_chemical_symbols(), positions=atoms.positions, cell=atoms.cell, pbc=True)


def _clean(atoms: Atoms) -> Atoms | None:
    results = stored_results(atoms)
    energy, forces = results.get("energy"), results.get("forces")
    if energy is None or not np.isfinite(energy):
        return None
    if forces is not None and (np.shape(forces) != atoms.positions.shape or not np.isfinite(forces).all()):
        forces = None
    return attach_results(_bare(atoms), energy=float(energy), forces=forces)
