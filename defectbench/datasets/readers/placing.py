"""What readers of public data share: structures of another program in the host's frame and atom order."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from defectbench.base.errors import DatasetError
from defectbench.datasets.alignment import Placement, apply, find_defect, in_host_cell, order_on_host
from defectbench.datasets.extxyz import attach_results
from defectbench.datasets.schema import Defect
from defectbench.structures.symmetry import host_operations

CONFIGURATION = "Published"
"""Name of a minimum of which the source says no start."""


def placed(atoms: Atoms, host: Atoms, defect: Defect, order: NDArray[np.int64] | None = None) -> tuple[Atoms, NDArray[np.int64]]:
    """A structure that has the host's origin, in the host's order; and that order, for further structures with the same atoms.

    Args:
        atoms: any atom order, any periodic images.
        host: perfect supercell.
        defect: which it is.
        order: as another call gave it: atoms keep who they are along a relaxation.

    Raises:
        DatasetError: its cell is not the host's.
    """
    bare = in_host_cell(atoms, host)
    if order is None:
        order = order_on_host(bare.positions, bare, host, defect)
    return apply(Placement(np.zeros(3), order), bare, host, defect), order


def moved_to_site(start: Atoms, relaxed: Atoms, host: Atoms, defect: Defect) -> tuple[Atoms, Atoms]:
    """Start and relaxed structure of a defect that sits on an equivalent site, carried to the dataset's site by a host operation.

    Raises:
        DatasetError: no operation of the host carries the one site to the other.
    """
    first, second = in_host_cell(start, host), in_host_cell(relaxed, host)
    if defect.site is None:
        return first, second
    site = find_defect(defect.name, first, host, defect.charges)[0].site
    if site == defect.site:
        return first, second
    operations = host_operations(host)
    images = operations.images(host.positions[[site]])[:, 0]
    away = np.sqrt(operations.lattice.squared_distances(images, host.positions[[defect.site]])[:, 0])
    if away.min() > 0.1:
        raise DatasetError(f"{defect.name}: its site {site} is not equivalent to site {defect.site}")
    for atoms in (first, second):
        atoms.positions = operations.apply(int(away.argmin()), atoms.positions)
    return first, second


def labelled(
    atoms: Atoms,
    defect: Defect,
    charge: int,
    configuration: str,
    level: str,
    *,
    energy: float,
    forces: NDArray[np.float64] | None = None,
    step: int = 1,
    converged: bool = True,
) -> Atoms:
    """The frame of a relaxation with its labels and results, as a dataset has it; energy eV, forces (N, 3) eV/Å."""
    atoms.info = {
        "defect": defect.name,
        "charge": charge,
        "configuration": configuration,
        "step": step,
        "level_of_theory": level,
        "converged": converged,
    }
    return attach_results(atoms, energy=energy, forces=forces)
