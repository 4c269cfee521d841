"""Reading VASP structure files."""

from __future__ import annotations

import io
from pathlib import Path

from ase import Atoms

from defectbench.base.errors import DatasetError
from defectbench.base.files import read_maybe_gzip
from defectbench.datasets.extxyz import decoded

MAX_BYTES = 100_000_000
"""Larger structure files are refused."""


def read_poscar(path: Path) -> Atoms:
    """A POSCAR or CONTCAR, also gzipped, its scale factor applied; fully periodic; constraints, lattice and atomic velocities dropped.

    Raises:
        DatasetError: no such file, or not a structure.
    """
    from ase.io import read

    try:
        text = decoded(read_maybe_gzip(path, MAX_BYTES))
    except FileNotFoundError as error:
        raise DatasetError(f"there is no file {path}", code="no-file") from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}", code="unreadable-file") from error
    try:
        atoms = read(io.StringIO(_structure_part(text)), format="vasp")
    except Exception as error:  # ASE raises anything on malformed text
        raise DatasetError(
            f"{path} is not a POSCAR: {str(error).splitlines()[0] if str(error) else type(error).__name__}", code="bad-format"
        ) from error
    if isinstance(atoms, list) or len(atoms) == 0:
        raise DatasetError(f"{path} contains no atoms", code="bad-format")
    return Atoms(atoms.get_chemical_symbols(), positions=atoms.positions, cell=atoms.cell, pbc=True)


def _structure_part(text: str) -> str:
    """The lines up to the last position: what may follow (lattice velocities, velocities, predictor-corrector data) is not read."""
    lines = text.splitlines()
    for counts in (5, 6):  # VASP 4 has no line of symbols
        words = lines[counts].split() if counts < len(lines) else []
        if words and all(word.isdecimal() and len(word) < 8 for word in words):
            selective = len(lines) > counts + 1 and lines[counts + 1].strip()[:1].lower() == "s"
            end = counts + 2 + selective + sum(int(word) for word in words)
            return "\n".join(lines[:end]) + "\n"
    return text
