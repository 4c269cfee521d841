#!/usr/bin/env python3
"""Builds the dataset sb2se3-vacancies, or adds finished relaxations to it.

    python scripts/build_sb2se3_vacancies.py FOLDER             # host, starts, defects and relaxations from FOLDER
    python scripts/build_sb2se3_vacancies.py --add FILE...      # one extxyz file per relaxation

FOLDER holds host.extxyz, starts/<defect>.extxyz (info: defect, charge, configuration) and
results/<defect>_q<charge>_<configuration>.extxyz (info: also spin_multiplicity, step, level_of_theory, converged).
What dataset.yaml says besides defects and files stays, and so do relaxations that the dataset already has and FOLDER has not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from defectbench.base.errors import DatasetError, DefectbenchError
from defectbench.datasets.catalogue import load_dataset, validate_dataset
from defectbench.datasets.extxyz import read_extxyz, read_host
from defectbench.datasets.schema import METADATA_FILE, Defect, parse_metadata
from defectbench.datasets.writing import add_relaxation, write_dataset
from defectbench.structures.lattice import minimum_image

sys.path.insert(0, str(Path(__file__).resolve().parent / "reference"))
from reference_dft.cp2k_output import from_cp2k

DATASET = Path(__file__).resolve().parents[1] / "datasets" / "sb2se3-vacancies"
VACANCIES = {
    "V_Sb1": ("Sb", (-3, -2, -1, 0, 1), "the Sb site whose vacancy is the more stable one in doi:10.1039/C9TA02022E"),
    "V_Sb2": ("Sb", (-3, -2, -1, 0, 1), "the other Sb site"),
    "V_Se1": ("Se", (-2, -1, 0, 1, 2), ""),
    "V_Se2": ("Se", (-2, -1, 0, 1, 2), "the most stable Se vacancy of doi:10.1039/C9TA02022E for +2 and +1"),
    "V_Se3": ("Se", (-2, -1, 0, 1, 2), "the most stable Se vacancy of doi:10.1039/C9TA02022E for 0"),
}
BORROWED = {("V_Sb1", -3): (-1, ("Bond_Distortion_-40.0%", "Bond_Distortion_40.0%"))}
"""Charge states without distorted neighbours of their own, and the charge whose starts they take besides."""


def vacancy(name: str, starts: Sequence[Atoms], host: Atoms) -> Defect:
    """The vacancy whose site is the one host atom that no atom of the ideal start is at."""
    element, charges, description = VACANCIES[name]
    ideal = next(atoms for atoms in starts if atoms.info["configuration"] == "Unperturbed")
    nearest = set()
    for position in ideal.positions:
        distances = np.linalg.norm(minimum_image(host.positions - position, host.cell), axis=1)
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
    write_dataset(
        DATASET,
        parse_metadata(DATASET / METADATA_FILE).model_copy(update={"defects": tuple(defects)}),
        host,
        starts,
        relaxations,
        overwrite=True,
    )


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
