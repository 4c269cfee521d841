"""Reader of the published Sb2Se3 defect data of Savory and Scanlon (2019, doi:10.1039/C9TA02022E).

The published files are relaxed structures (one CONTCAR per charge state) and one table of energies and corrections. There is no
file of the perfect supercell and no start structure. Here the host is reconstructed and every structure is put into its frame
and atom order:

1. All structures share one cell and, to 0.05 Å, one origin. A 60-atom antisite structure serves as a first guess of the sites.
2. Atoms are assigned to sites by the least sum of squared distances within each element, the defect's own site being known.
3. Each site moves to the median over all structures in which it is more than 5 Å from the defect, after removal of each
   structure's drift (the median displacement of those far atoms).
4. spglib finds the 24 operations of the 1×3×1 supercell of Pnma; sites are projected onto them, and step 3 is repeated
   with the displacements of symmetry-equivalent sites pooled. The result is exactly Pnma.

Structures are then shifted rigidly by their drift and sorted into host order: vacancies without their site, antisites with the
foreign atom on its site, interstitials with the atom left over by the assignment at the end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from defectbench.base.errors import DatasetError
from defectbench.datasets import checks
from defectbench.datasets.dataset import Dataset, RelaxationKey, StateKey, assign_host_sites
from defectbench.datasets.extxyz import attach_results
from defectbench.datasets.folder import content_hash
from defectbench.datasets.remote import fetch_all
from defectbench.datasets.schema import Correction, DatasetFile, Defect
from defectbench.structures.lattice import minimum_image

CONFIGURATION = "Published"
"""Name of the one configuration per charge state that was published."""
FAR = 5.0
"""Å; atoms farther than this from the defect take part in the reconstruction of the host."""
SYMMETRY_TOLERANCE = 0.15
"""Å; for the search of the host's operations before it is symmetrised."""
_TEMPLATE: StateKey = ("Se_Sb_1", 0)
_TABLE_ROW = re.compile(r"^(?P<label>[A-Za-z]+_[A-Za-z]+),(?P<site>\d)(?P<charge>[+-]\d+)$")


@dataclass(frozen=True)
class TableRow:
    """One line of the published table, eV.

    Attributes:
        defect: name as in the dataset.
        charge: in units of +e.
        energy: total energy.
        correction: the three corrections.
        formation_energies: columns A (Sb-rich) and B, at the valence band maximum.
    """

    defect: str
    charge: int
    energy: float
    correction: Correction
    formation_energies: tuple[float, float]


def open_savory_2019(folder: Path, metadata: DatasetFile) -> Dataset:
    """Fetches the files (into the cache, once) and puts the dataset together.

    Raises:
        DownloadError: a file is not in the cache and cannot be fetched.
        DatasetError: the folder or a fetched file is not what it should be.
    """
    from defectbench.datasets.displaced_starts import read_displaced_starts

    checks.refuse(folder, checks.check_files(folder, metadata))
    remote = fetch_all(metadata)
    rows = read_table(remote["defect_data"])
    states = {(defect.name, charge) for defect in metadata.defects for charge in defect.charges}
    if set(rows) != states:
        raise DatasetError(f"{remote['defect_data']}: its {len(rows)} charge states are not the {len(states)} of dataset {metadata.id}")
    structures = {state: read_structure(remote[contcar(*state)]) for state in sorted(states)}
    sites = {defect.name: defect for defect in metadata.defects}
    host = reconstruct_host(structures, sites)
    checks.refuse(folder, checks.check_host("(reconstructed host)", host, metadata))

    relaxations: dict[RelaxationKey, Path | tuple[Atoms, ...]] = {}
    positions: dict[str, NDArray[np.float64]] = {}
    level = metadata.reference_level
    for (name, charge), raw in structures.items():
        atoms = into_host_frame(raw, host, sites[name])
        checks.refuse(folder, checks.check_structure(contcar(name, charge), 0, atoms, host, sites[name]))
        atoms.info = {
            "defect": name,
            "charge": charge,
            "configuration": CONFIGURATION,
            "step": 1,
            "level_of_theory": level,
            "converged": True,
        }
        relaxations[level, name, charge, CONFIGURATION] = (attach_results(atoms, energy=rows[name, charge].energy),)
        if sites[name].kind == "interstitial" and charge == 0:
            positions[name] = atoms.positions[-1]
    defects = tuple(_with_position(defect, host, positions) for defect in metadata.defects)
    theory = metadata.level().model_copy(update={"corrections": tuple(rows[state].correction for state in sorted(rows))})
    others = tuple(entry for entry in metadata.levels if entry.name != level)
    complete = metadata.model_copy(update={"defects": defects, "levels": (theory, *others)})
    starts = read_displaced_starts(folder, metadata, host)
    return Dataset(folder, complete, content_hash(metadata), host, starts, relaxations)


def contcar(defect: str, charge: int) -> str:
    """``("V_Sb_1", -3)`` → ``V_Sb_1/CONTCAR_minus3``: the published file of a charge state."""
    return f"{defect}/CONTCAR_" + ("neutral" if charge == 0 else f"{'plus' if charge > 0 else 'minus'}{abs(charge)}")


def read_table(path: Path) -> dict[StateKey, TableRow]:
    """Reads the published table of energies, corrections and formation energies.

    Raises:
        DatasetError: a line is not of the expected form.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    if not lines or lines[0].split() != ["Defect", "E_total", "potal", "band_filling", "image", "A", "B"]:
        raise DatasetError(f"{path}, line 1: not the heading of the table of defect energies", code="bad-format")
    out: dict[StateKey, TableRow] = {}
    for number, line in enumerate(lines[2:], start=3):
        if not line.strip():
            continue
        fields = line.split()
        found = _TABLE_ROW.match(fields[0])
        if found is None or len(fields) != 7:
            raise DatasetError(f"{path}, line {number}: '{line.strip()}' is not a row of the table of defect energies", code="bad-format")
        label, charge = found["label"].replace("v_", "V_"), int(found["charge"])
        defect = label if label.endswith("_i") else f"{label}_{found['site']}"
        try:
            energy, alignment, filling, image, a, b = (float(value) for value in fields[1:])
        except ValueError as error:
            raise DatasetError(f"{path}, line {number}: {error}", code="bad-format") from error
        correction = Correction(defect=defect, charge=charge, potential_alignment=alignment, band_filling=filling, image_charge=image)
        out[defect, charge] = TableRow(defect, charge, energy, correction, (a, b))
    return out


def read_structure(path: Path) -> Atoms:
    """A published CONTCAR, its scale factor applied.

    Raises:
        DatasetError: not a POSCAR file.
    """
    from defectbench.datasets.vasp import read_poscar

    return read_poscar(path)


def reconstruct_host(structures: Mapping[StateKey, Atoms], defects: Mapping[str, Defect]) -> Atoms:
    """The perfect supercell from the defective ones; see the module's description.

    Args:
        structures: all published structures.
        defects: with their host sites.

    Raises:
        DatasetError: the sites do not have the 24 operations of Pnma in a 1×3×1 supercell.
    """
    import spglib

    host = _template(structures)
    cell = host.cell.array
    inverse = np.linalg.inv(cell)
    assigned = _assign_all(structures, defects, host)
    for _ in range(4):
        sites, vectors = _far_displacements(structures, assigned, defects, host)
        host.positions += np.array([np.median(vectors[sites == i], axis=0) for i in range(len(host))])
    symmetry = spglib.get_symmetry((cell, host.positions @ inverse, host.numbers), symprec=SYMMETRY_TOLERANCE)
    if symmetry is None or len(symmetry["rotations"]) != 24:
        raise DatasetError("the host reconstructed from the published structures is not the 1×3×1 supercell of Pnma")
    rotations = [inverse @ rotation.T @ cell for rotation in symmetry["rotations"]]  # for row vectors in Å
    images, shifts = [], []
    for rotation, translation in zip(rotations, symmetry["translations"], strict=True):
        moved = host.positions @ rotation + translation @ cell
        vectors = minimum_image((moved[:, None, :] - host.positions[None, :, :]).reshape(-1, 3), host.cell)
        distances = np.linalg.norm(vectors, axis=1).reshape(len(host), len(host))
        image = distances.argmin(axis=1)
        if len(set(image)) != len(host):
            raise DatasetError("a symmetry operation of the reconstructed host does not map its sites onto each other")
        images.append(image)
        shifts.append(vectors.reshape(len(host), len(host), 3)[np.arange(len(host)), image])
    host.positions += np.mean(
        [(shift - shift.mean(axis=0))[np.argsort(image)] for image, shift in zip(images, shifts, strict=True)], axis=0
    )
    assigned = _assign_all(structures, defects, host)
    for _ in range(4):
        sites, vectors = _far_displacements(structures, assigned, defects, host)
        pooled_sites = np.concatenate([image[sites] for image in images])
        pooled = np.concatenate([vectors @ rotation for rotation in rotations])
        host.positions += np.array([np.median(pooled[pooled_sites == i], axis=0) for i in range(len(host))])
    host.positions = np.round(host.positions, 6)
    return host


def _template(structures: Mapping[StateKey, Atoms]) -> Atoms:
    """A first guess of the host: an Se-on-Sb antisite structure, whose last atom is the foreign one; it becomes the last Sb."""
    antisite = structures[_TEMPLATE]
    symbols = antisite.get_chemical_symbols()
    last_sb = max(i for i, symbol in enumerate(symbols) if symbol == "Sb")
    order = [*range(last_sb + 1), len(symbols) - 1, *range(last_sb + 1, len(symbols) - 1)]
    host: Atoms = antisite[order]
    host.symbols[last_sb + 1] = "Sb"
    return host


def _assign_all(structures: Mapping[StateKey, Atoms], defects: Mapping[str, Defect], host: Atoms) -> dict[StateKey, NDArray[np.int64]]:
    return {state: assign_host_sites(atoms, host, defects[state[0]]) for state, atoms in structures.items()}


def _far_displacements(
    structures: Mapping[StateKey, Atoms],
    assigned: Mapping[StateKey, NDArray[np.int64]],
    defects: Mapping[str, Defect],
    host: Atoms,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Site indices (M,) and displacements from them (M, 3) of all atoms far from the defects, without drift."""
    all_sites, all_vectors = [], []
    for state, atoms in structures.items():
        sites = assigned[state]
        vectors, far = _displacements(atoms, sites, host, defects[state[0]])
        all_sites.append(sites[far])
        all_vectors.append(vectors[far] - np.median(vectors[far], axis=0))
    return np.concatenate(all_sites), np.concatenate(all_vectors)


def _displacements(atoms: Atoms, sites: NDArray[np.int64], host: Atoms, defect: Defect) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Displacement of each atom from its host site, and whether it has one and is far from the defect."""
    centre = atoms.positions[sites == -1][0] if defect.site is None else host.positions[defect.site]
    vectors = minimum_image(atoms.positions - host.positions[sites], host.cell)
    far = (np.linalg.norm(minimum_image(atoms.positions - centre, host.cell), axis=1) > FAR) & (sites >= 0)
    return vectors, far


def into_host_frame(atoms: Atoms, host: Atoms, defect: Defect) -> Atoms:
    """The structure without drift, in host order, its atoms in the periodic images nearest to their sites."""
    sites = assign_host_sites(atoms, host, defect)
    vectors, far = _displacements(atoms, sites, host, defect)
    drift = np.median(vectors[far], axis=0)
    unwrapped = np.where((sites >= 0)[:, None], host.positions[sites] + vectors, atoms.positions) - drift
    order = np.argsort(np.where(sites >= 0, sites, len(host)), kind="stable")
    symbols = np.array(atoms.get_chemical_symbols())[order]
    return Atoms(list(symbols), positions=np.round(unwrapped[order], 8), cell=host.cell, pbc=True)


def _with_position(defect: Defect, host: Atoms, interstitials: Mapping[str, NDArray[np.float64]]) -> Defect:
    found = interstitials.get(defect.name) if defect.site is None else host.positions[defect.site]
    if found is None:
        raise DatasetError(f"{defect.name} has no neutral structure to take its position from")
    return defect.model_copy(update={"position": tuple(float(value) for value in found)})
