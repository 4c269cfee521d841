#!/usr/bin/env python3
"""Builds the dataset sb2se3-savory-2019: dataset.yaml and ShakeNBreak starts; the published data themselves are not stored.

    DEFECTBENCH_MIRROR=FOLDER python scripts/build_sb2se3_savory_2019.py [--hashes FOLDER/savory-2019]

--hashes takes the SHA-256 of every file from a copy of the published repository at the commit below; without it the hashes of the
dataset.yaml that is there are kept. The starts need ShakeNBreak and doped (the 'shakenbreak' extra); they are made on the host
that is reconstructed from the published structures, and stored as displacements from its sites.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ase import Atoms

from defectbench.base.errors import DatasetError, DefectbenchError
from defectbench.base.files import sha256_of, write_text
from defectbench.datasets.alignment import ideal_structure
from defectbench.datasets.catalogue import load_dataset
from defectbench.datasets.dataset import Dataset
from defectbench.datasets.displaced_starts import write_displaced_starts
from defectbench.datasets.schema import (
    METADATA_FILE,
    BandEdges,
    ChemicalPotentials,
    Citation,
    DatasetFile,
    Defect,
    Host,
    LevelOfTheory,
    Remote,
    Settings,
    metadata_to_yaml,
    parse_metadata,
)
from defectbench.structures.lattice import minimum_image

DATASET = Path(__file__).resolve().parents[1] / "datasets" / "sb2se3-savory-2019"
COMMIT = "a7c926ae87ecd6e7f43b8c90f8e3317d6bbb8eb8"
REPOSITORY = "https://raw.githubusercontent.com/SMTG-Bham/Sb2Se3_intrinsic_defects"
DOI = "10.1039/C9TA02022E"
OXIDATION_STATES = {"Sb": 3, "Se": -2}
# site: index in the reconstructed host, which is in the order of its template (see defectbench/datasets/savory_2019.py)
SPECIES: tuple[tuple[str, int | None, str | None, str | None, int, int], ...] = (
    ("V_Sb_1", 23, "Sb", None, -3, 0),
    ("V_Sb_2", 12, "Sb", None, -3, 0),
    ("V_Se_1", 37, "Se", None, 0, 2),
    ("V_Se_2", 33, "Se", None, 0, 2),
    ("V_Se_3", 49, "Se", None, 0, 2),
    ("Sb_Se_1", 37, "Se", "Sb", -1, 3),
    ("Sb_Se_2", 33, "Se", "Sb", -1, 3),
    ("Sb_Se_3", 49, "Se", "Sb", -1, 3),
    ("Sb_i", None, None, "Sb", -3, 5),
    ("Se_Sb_1", 23, "Sb", "Se", -1, 3),
    ("Se_Sb_2", 12, "Sb", "Se", -1, 3),
    ("Se_i", None, None, "Se", -2, 4),
)
FIT = "least squares fit to the published formation energies; the residual is below their rounding (1.5e-6 eV)"


def defects() -> tuple[Defect, ...]:
    out = []
    for name, site, removed, added, low, high in SPECIES:
        kind: Any = "interstitial" if site is None else "substitution" if added else "vacancy"
        note = " The published +2 structure was recreated from vasprun.xml by its authors." if name == "Se_Sb_2" else ""
        out.append(
            Defect(
                name=name,
                kind=kind,
                site=site,
                removed=removed,
                added=added,
                charges=tuple(range(low, high + 1)),
                description=note.strip(),
            )
        )
    return tuple(out)


def metadata(hashes: dict[str, str], files: dict[str, str]) -> DatasetFile:
    level = LevelOfTheory(
        name="HSE06+D3",
        functional="HSE06",
        code="VASP",
        accuracy=(
            "Not stated by the authors. "
            "The published formation energies follow from the published energies to 1.5e-6 eV. The host, "
            "reconstructed here, is known to 0.02 Å (rms)."
        ),
        dispersion="D3 with zero damping, PBE0 parameters",
        settings=Settings(notes=("See the publication; forces and the convergence criterion are not among the published data.",)),
        host_energy=-350.570711,
        band_edges=BandEdges(vbm=4.314, source=FIT),
        chemical_potentials=(
            ChemicalPotentials(name="Sb-rich", potentials={"Sb": -5.4069, "Se": -6.1334}, source=f"column A: {FIT}"),
            ChemicalPotentials(name="Se-rich", potentials={"Sb": -6.1544, "Se": -5.6351}, source=f"column B: {FIT}"),
        ),
        correction_method="as published: potential alignment, band filling, image charge (Lany-Zunger-like, 0.017 q^2 eV)",
    )
    return DatasetFile(
        schema_version=1,
        id="sb2se3-savory-2019",
        title="All intrinsic point defects of Sb2Se3 by HSE06+D3 (Savory and Scanlon 2019), fetched at run time",
        description="Relaxed structures, total energies and finite-size corrections of twelve intrinsic defects in all their charge "
        "states, as published. One minimum per charge state, no forces. Host, frame and atom order are reconstructed when the data "
        "are loaded. For the vacancies there are ShakeNBreak starts made for defectbench on that host (ShakeNBreak 3.4.4, oxidation "
        "states Sb +3 and Se -2, defaults otherwise).",
        licence="GPL-3.0-only (fetched files); CC-BY-4.0 (dataset.yaml and starts)",
        citations=(
            Citation(
                text="Savory and Scanlon, The complex defect chemistry of antimony selenide, J. Mater. Chem. A 7, 10739 (2019)", doi=DOI
            ),
            Citation(
                text="Mosquera-Lois, Kavanagh, Walsh and Scanlon, J. Open Source Softw. 7, 4817 (2022): ShakeNBreak",
                doi="10.21105/joss.04817",
            ),
        ),
        host=Host(
            file=None,
            supercell=(1, 3, 1),
            description="Pnma, 60 atoms, 11.931 × 11.914 × 11.515 Å (relaxed with HSE06+D3); sites are medians over the published "
            "structures far from their defects, symmetrised.",
        ),
        reference_level="HSE06+D3",
        levels=(level,),
        defects=defects(),
        files=files,
        remote=Remote(
            reader="savory-2019",
            base_url=f"{REPOSITORY}/{COMMIT}",
            commit=COMMIT,
            mirror_folder="savory-2019",
            licence="GPL-3.0-only",
            files=hashes,
        ),
    )


def shakenbreak_starts(dataset: Dataset, defect: Defect) -> dict[int, dict[str, Atoms]]:
    """All default ShakeNBreak starts of a vacancy in its published charge states, in host order."""
    import warnings

    from pymatgen.io.ase import AseAtomsAdaptor
    from shakenbreak.input import Distortions

    warnings.filterwarnings("ignore")
    host = dataset.host
    bulk = AseAtomsAdaptor.get_structure(host)
    bulk.add_oxidation_state_by_element(OXIDATION_STATES)
    vacant = bulk.copy()
    vacant.remove_sites([defect.site])
    site = bulk[defect.site].frac_coords
    distortions = Distortions.from_structures([(vacant, site)], bulk, oxidation_states=OXIDATION_STATES)
    made, _ = distortions.apply_distortions()
    (species,) = made.values()
    ideal = ideal_structure(host, defect)
    out: dict[int, dict[str, Atoms]] = {}
    for charge in defect.charges:
        structures = species["charges"][charge]["structures"]
        named = {"Unperturbed": structures["Unperturbed"], **structures["distortions"]}
        out[charge] = {}
        for name, structure in named.items():
            atoms = AseAtomsAdaptor.get_atoms(structure)
            atoms = Atoms(atoms.get_chemical_symbols(), positions=atoms.positions, cell=atoms.cell, pbc=True)
            out[charge][name] = in_order_of(atoms, ideal)
    return out


def in_order_of(atoms: Atoms, ideal: Atoms) -> Atoms:
    """Sorts atoms as the ideal structure's; they must be displaced by less than half a bond, or the assignment is refused."""
    from scipy.optimize import linear_sum_assignment

    vectors = minimum_image((ideal.positions[:, None, :] - atoms.positions[None, :, :]).reshape(-1, 3), ideal.cell)
    cost = (vectors**2).sum(axis=1).reshape(len(ideal), len(atoms))
    cost += 1e3 * (ideal.numbers[:, None] != atoms.numbers[None, :])
    _, order = linear_sum_assignment(cost)
    ordered: Atoms = atoms[order]
    return ordered


def build(published: Path | None) -> None:
    if published is not None:
        hashes = {path.relative_to(published).as_posix(): sha256_of(path) for path in sorted(published.rglob("*")) if path.is_file()}
        if "defect_data" not in hashes:
            raise DatasetError(f"{published} has no file defect_data; it should be a copy of the published repository")
    else:
        remote = parse_metadata(DATASET / METADATA_FILE).remote
        assert remote is not None
        hashes = dict(remote.files)
    write_text(DATASET / METADATA_FILE, metadata_to_yaml(metadata(hashes, {})))
    dataset = load_dataset(DATASET)
    files = {}
    for name in dataset.defects:
        defect = dataset.defect(name)
        if defect.kind == "vacancy":
            path = DATASET / "starts" / f"{name}.json"
            write_displaced_starts(path, dataset.host, defect, shakenbreak_starts(dataset, defect))
            files[path.relative_to(DATASET).as_posix()] = sha256_of(path)
    write_text(DATASET / METADATA_FILE, metadata_to_yaml(metadata(hashes, files)))
    built = load_dataset(DATASET)
    print(f"{built}, {sum(len(built.starts(*state)) for state in built.states)} starts")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hashes", type=Path, metavar="FOLDER", help="copy of the published repository to take hashes from")
    try:
        build(parser.parse_args().hashes)
    except DefectbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
