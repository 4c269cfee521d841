#!/usr/bin/env python3
"""Builds the dataset sb2se3-vacancies, or adds finished relaxations to it.

    python scripts/build_sb2se3_vacancies.py FOLDER             # anew, from host.extxyz, starts/ and results/
    python scripts/build_sb2se3_vacancies.py --add FILE...      # one extxyz file a relaxation

FOLDER holds host.extxyz, starts/<defect>.extxyz (info: defect, charge, configuration) and
results/<defect>_q<charge>_<configuration>.extxyz (info: also spin_multiplicity, step, level_of_theory, converged).
Relaxations that the dataset already has, and FOLDER has not, are kept when it is built anew.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from defectbench.base.errors import DatasetError, DefectbenchError
from defectbench.datasets.catalogue import load_dataset
from defectbench.datasets.checks import minimum_image
from defectbench.datasets.dataset import read_host
from defectbench.datasets.extxyz import read_extxyz
from defectbench.datasets.schema import (
    METADATA_FILE,
    Citation,
    Convergence,
    Cp2kHybrid,
    Cp2kKind,
    Cp2kMethod,
    Cp2kOptimizer,
    Cp2kScf,
    DatasetFile,
    Defect,
    DielectricTensor,
    Host,
    LevelOfTheory,
    Settings,
    parse_metadata,
)
from defectbench.datasets.validation import validate_dataset
from defectbench.datasets.writing import add_relaxation, from_cp2k, write_dataset

DATASET = Path(__file__).resolve().parents[1] / "datasets" / "sb2se3-vacancies"
HARTREE_PER_BOHR = 51.42206747  # eV/Å
VACANCIES = {
    "V_Sb1": ("Sb", (-3, -2, -1, 0, 1), "the Sb site whose vacancy is the more stable one in doi:10.1039/C9TA02022E"),
    "V_Sb2": ("Sb", (-3, -2, -1, 0, 1), "the other Sb site"),
    "V_Se1": ("Se", (-2, -1, 0, 1, 2), ""),
    "V_Se2": ("Se", (-2, -1, 0, 1, 2), "the most stable Se vacancy of doi:10.1039/C9TA02022E for +2 and +1"),
    "V_Se3": ("Se", (-2, -1, 0, 1, 2), "the most stable Se vacancy of doi:10.1039/C9TA02022E for 0"),
}
BORROWED = {("V_Sb1", -3): (-1, ("Bond_Distortion_-40.0%", "Bond_Distortion_40.0%"))}
"""Charge states without distorted neighbours of their own, and the charge whose starts they take besides."""


def pbe() -> LevelOfTheory:
    return LevelOfTheory(
        name="PBE",
        functional="PBE",
        code="CP2K 2023.1",
        convergence=Convergence(max_force=round(3.9e-4 * HARTREE_PER_BOHR, 5), quantity="component"),
        settings=Settings(
            cp2k=Cp2kMethod(
                basis_set_files=("BASIS_MOLOPT",),
                potential_file="GTH_POTENTIALS",
                kinds={
                    "Sb": Cp2kKind(basis_set="DZVP-MOLOPT-SR-GTH", potential="GTH-PBE-q5", valence_electrons=5),
                    "Se": Cp2kKind(basis_set="DZVP-MOLOPT-SR-GTH", potential="GTH-PBE-q6", valence_electrons=6),
                },
                cutoff_ry=200,
                rel_cutoff_ry=40,
                eps_default=1e-11,
                functional="PBE",
                extrapolation="ASPC",
                extrapolation_order=2,
                scf_restricted=Cp2kScf(minimizer="DIIS", energy_gap=0.02, eps_scf=5e-6, max_scf=30, outer_max_scf=6),
                scf_unrestricted=Cp2kScf(minimizer="CG", energy_gap=0.005, eps_scf=5e-6, max_scf=50, outer_max_scf=6),
                optimizer=Cp2kOptimizer(
                    name="BFGS",
                    trust_radius_angstrom=0.15,
                    max_force_hartree_bohr=3.9e-4,
                    rms_force_hartree_bohr=2.6e-4,
                    max_dr_bohr=0.1,
                    rms_dr_bohr=0.05,
                ),
            ),
            notes=(
                "No dispersion correction: the foundation models are trained on plain PBE.",
                "CUTOFF 300 and REL_CUTOFF 50 Ry on V_Sb q=-3 change the energy of the cell by 0.1 meV "
                "and the forces by 0.0004 eV/Å (rms), 0.0012 eV/Å (max).",
                "For unrestricted states the DIIS minimiser can stop above the ground state "
                "(by 1 mHa on V_Sb1 q=0 Unperturbed); CG is used.",
                "Part of the V_Sb2 relaxations were run with EPS_SCF 2E-6.",
                "The displacement criteria are loose on purpose, so that the force criteria decide.",
            ),
        ),
    )


def hse06() -> LevelOfTheory:
    plain = pbe().settings.cp2k
    assert plain is not None
    kinds = {}
    for element, kind in plain.kinds.items():
        kinds[element] = kind.model_copy(update={"auxiliary_basis_set": f"admm-dz-q{kind.valence_electrons}"})
    hybrid = Cp2kHybrid(
        pbe_scale_x=0.0,
        pbe_scale_c=1.0,
        xwpbe_scale_x=-0.25,
        xwpbe_scale_x0=1.0,
        omega=0.11,
        hf_fraction=0.25,
        interaction="SHORTRANGE",
        eps_schwarz=1e-5,
        eps_schwarz_forces=1e-6,
        screen_on_initial_p=True,
        number_of_shells=2,
        admm_method="BASIS_PROJECTION",
        admm_purification="NONE",
        admm_exchange_correction="PBEX",
        start_from="PBE",
    )
    method = plain.model_copy(
        update={"basis_set_files": ("BASIS_MOLOPT", "BASIS_ADMM_UZH"), "kinds": kinds, "hybrid": hybrid, "optimizer": None}
    )
    return LevelOfTheory(
        name="HSE06",
        functional="HSE06 with the auxiliary density matrix method (ADMM)",
        code="CP2K 2023.1",
        settings=Settings(
            cp2k=method, notes=("Single points at PBE geometries. Forces need the tighter threshold: see the check exchange-forces-1e-5.",)
        ),
    )


def metadata(defects: tuple[Defect, ...]) -> DatasetFile:
    return DatasetFile(
        schema_version=1,
        id="sb2se3-vacancies",
        title="Sb and Se vacancies in a 60-atom Sb2Se3 supercell, PBE by CP2K",
        description="ShakeNBreak starts of the five inequivalent vacancies of Sb2Se3 in five charge states each (ShakeNBreak 3.4.4, "
        "doped 3.2.1, oxidation states Sb +3 and Se -2, defaults otherwise), and PBE relaxations of them, one frame a relaxation "
        "step with energy and forces. Relaxations are added as they finish; charge states without a converged one have no reference.",
        licence="CC-BY-4.0",
        citations=(
            Citation(text="The defectbench developers: Sb2Se3 vacancies by PBE, computed for defectbench"),
            Citation(text="Voutsas et al., Z. Kristallogr. 171, 261 (1985): the experimental lattice"),
            Citation(text="Savory and Scanlon, J. Mater. Chem. A 7, 10739 (2019): names of the sites", doi="10.1039/C9TA02022E"),
            Citation(
                text="Mosquera-Lois, Kavanagh, Walsh and Scanlon, J. Open Source Softw. 7, 4817 (2022): ShakeNBreak",
                doi="10.21105/joss.04817",
            ),
        ),
        host=Host(
            file="host.extxyz",
            supercell=(1, 3, 1),
            description="Pnma Sb2Se3 at the experimental lattice (Voutsas et al. 1985: a 11.7938, b 3.9858, c 11.6478 Å), "
            "internal coordinates relaxed with PBE in the supercell. The lattice belongs to no functional, so that all levels "
            "share one cell.",
        ),
        reference_level="PBE",
        levels=(pbe(), hse06()),
        dielectric=DielectricTensor(
            tensor=((15.00, 0.0, 0.0), (0.0, 85.64, 0.0), (0.0, 0.0, 128.18)),
            citation=Citation(
                text="Wang, Ganose, Kavanagh and Walsh, Band versus polaron: charge transport in antimony chalcogenides, "
                "ACS Energy Lett. (2022): static tensor. Its mean, 76.27, stands in the supporting information; its components are "
                "distributed with doped's test data for Sb2Se3, in a cell with the chain along x, here turned to Pnma (chain along y)",
                url="https://arxiv.org/abs/2206.15389",
            ),
        ),
        defects=defects,
        files={"host.extxyz": "0" * 64},
    )


def vacancy(name: str, starts: Sequence[Atoms], host: Atoms) -> Defect:
    """The vacancy whose site is the one host atom that no atom of the ideal start is at."""
    element, charges, description = VACANCIES[name]
    ideal = next(atoms for atoms in starts if atoms.info["configuration"] == "Unperturbed")
    nearest = set()
    for position in ideal.positions:
        distances = np.linalg.norm(minimum_image(host.positions - position, host), axis=1)
        nearest.add(int(distances.argmin()))
        if distances.min() > 1e-3:
            raise DatasetError(f"{name}: an atom of the Unperturbed start is {distances.min():.3f} Å from every host site")
    (site,) = set(range(len(host))) - nearest
    position = tuple(float(x) for x in host.positions[site])
    return Defect(
        name=name,
        kind="vacancy",
        site=site,
        position=(position[0], position[1], position[2]),
        removed=element,
        charges=charges,
        description=description,
    )


def add(file: Path, *, overwrite: bool) -> None:
    frames = read_extxyz(file)
    info = frames[0].info
    dataset = load_dataset(DATASET)
    starts = dataset.starts(info["defect"], info["charge"])
    if info["configuration"] not in starts:
        raise DatasetError(f"{file}: {info['defect']} {info['charge']:+d} has no start '{info['configuration']}'")
    print(add_relaxation(DATASET, from_cp2k(frames, starts[info["configuration"]]), overwrite=overwrite))


def with_results(new: DatasetFile) -> DatasetFile:
    """Keeps what calculations have delivered since: further levels, host energies, band edges, potentials, corrections."""
    if not (DATASET / METADATA_FILE).is_file():
        return new
    old = parse_metadata(DATASET / METADATA_FILE)
    delivered = ("host_energy", "band_edges", "chemical_potentials", "corrections", "correction_method")
    levels = []
    for level in new.levels:
        known = next((entry for entry in old.levels if entry.name == level.name), level)
        levels.append(level.model_copy(update={name: getattr(known, name) for name in delivered}))
    names = {level.name for level in levels}
    levels += [level for level in old.levels if level.name not in names]
    return new.model_copy(update={"levels": tuple(levels)})


def build(folder: Path) -> None:
    host = read_host(folder / "host.extxyz")
    starts: dict[tuple[str, int], dict[str, Atoms]] = {}
    defects = []
    for name in VACANCIES:
        frames = read_extxyz(folder / "starts" / f"{name}.extxyz")
        defects.append(vacancy(name, frames, host))
        for atoms in frames:
            starts.setdefault((name, atoms.info["charge"]), {})[atoms.info["configuration"]] = atoms
    for (name, charge), (giver, configurations) in BORROWED.items():
        starts[name, charge] |= {configuration: starts[name, giver][configuration] for configuration in configurations}
    relaxations: dict[tuple[str, str, int, str], list[Atoms]] = {}
    for file in sorted(DATASET.glob("frames/*/*.extxyz")) + sorted((folder / "results").glob("*.extxyz")):
        frames = read_extxyz(file)
        info = frames[0].info
        start = starts[info["defect"], info["charge"]].get(info["configuration"])
        key = (str(info["level_of_theory"]), str(info["defect"]), int(info["charge"]), str(info["configuration"]))
        if key in relaxations and relaxations[key][-1].info["converged"] and not frames[-1].info["converged"]:
            continue
        relaxations[key] = frames if start is None else from_cp2k(frames, start)
    write_dataset(DATASET, with_results(metadata(tuple(defects))), host, starts, relaxations, overwrite=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="folder to build the dataset from")
    parser.add_argument("--add", nargs="+", type=Path, metavar="FILE", help="relaxations to add to the dataset as it is")
    parser.add_argument("--overwrite", action="store_true", help="with --add: also replace converged or longer relaxations")
    given = parser.parse_args()
    if (given.folder is None) == (given.add is None):
        parser.error("give either a FOLDER or --add FILE...")
    try:
        if given.folder is not None:
            build(given.folder)
        for file in given.add or ():
            add(file, overwrite=given.overwrite)
        report = validate_dataset(DATASET)
    except DefectbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(report.summary())
    return 0 if report.valid else 1


if __name__ == "__main__":
    sys.exit(main())
