"""Reading VASP structure files."""

from __future__ import annotations

from pathlib import Path

from ase import Atoms

from defectbench.base.errors import DatasetError


def read_poscar(path: Path) -> Atoms:
    """A POSCAR or CONTCAR, its scale factor applied; fully periodic, constraints and velocities dropped.

    Raises:
        DatasetError: no such file, or not a structure.
    """
    from ase.io import read

    try:
        atoms = read(path, format="vasp")
    except FileNotFoundError as error:
        raise DatasetError(f"there is no file {path}") from error
    except Exception as error:  # ASE raises anything on malformed text
        raise DatasetError(f"{path} is not a POSCAR: {str(error).splitlines()[0] if str(error) else type(error).__name__}") from error
    if isinstance(atoms, list) or len(atoms) == 0:
        raise DatasetError(f"{path} holds no atoms")
    return Atoms(atoms.get_chemical_symbols(), positions=atoms.positions, cell=atoms.cell, pbc=True)
