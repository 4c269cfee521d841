"""A small dataset (a 12-atom host, a vacancy, a substitution and an interstitial), and changing its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms

from defectbench.base.files import sha256_of
from defectbench.datasets.alignment import ideal_structure
from defectbench.datasets.extxyz import attach_results, read_extxyz, write_extxyz
from defectbench.datasets.schema import BandEdges, Convergence, DatasetFile, Defect, Host, LevelOfTheory, read_yaml
from defectbench.datasets.writing import write_dataset

RATTLED_FRAMES = "frames/PBE/V_Sb_q+0_Rattled.extxyz"
"""One of the files of the small dataset."""


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the content of dataset.yaml."""
    content = read_yaml(folder / "dataset.yaml")
    change(content)
    (folder / "dataset.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def replant(folder: Path, name: str, change: Callable[[list[Atoms]], object]) -> None:
    """Changes the frames of a file and corrects its hash, so that only the frames are wrong."""
    frames = read_extxyz(folder / name)
    change(frames)
    write_extxyz(folder / name, frames)
    rehash(folder, name)


def rehash(folder: Path, name: str) -> None:
    """Puts the right hash of a file into dataset.yaml."""
    rewrite(folder, lambda content: content["files"].update({name: sha256_of(folder / name)}))


def make_host() -> Atoms:
    """Sb4Se8 on a jittered grid: no symmetry, so that every site can be told from every other."""
    generator = np.random.default_rng(7)
    grid = np.array([(x, y, z) for x in range(3) for y in range(2) for z in range(2)], dtype=float)
    positions = (grid + 0.25) * (3.0, 3.1, 3.3) + generator.uniform(-0.2, 0.2, (12, 3))
    return Atoms(["Sb"] * 4 + ["Se"] * 8, positions=np.round(positions, 8), cell=[9.0, 6.2, 6.6], pbc=True)


def make_defects(host: Atoms) -> dict[str, Defect]:
    """V_Sb (site 1), Sb_Se (site 6) and Se_i."""
    gap = tuple(float(x) for x in np.round(host.positions[0] + (1.5, 1.55, 1.65), 8))
    return {
        "V_Sb": Defect(name="V_Sb", kind="vacancy", site=1, removed="Sb", charges=(-1, 0)),
        "Sb_Se": Defect(name="Sb_Se", kind="substitution", site=6, removed="Se", added="Sb", charges=(0, 1)),
        "Se_i": Defect(name="Se_i", kind="interstitial", position=(gap[0], gap[1], gap[2]), added="Se", charges=(0,)),
    }


def make_relaxation(
    start: Atoms, charge: int, steps: int = 3, *, converged: bool = True, seed: int = 0, energy: float = -50.0
) -> list[Atoms]:
    """Frames from the start on, with forces that vanish and energies that fall by their work; multiplicity 1 or 2 as the electrons want."""
    generator = np.random.default_rng(seed)
    direction = generator.normal(size=(len(start), 3)) * 0.05
    direction -= direction.mean(axis=0)  # forces add up to zero
    multiplicity = 1 if (int(start.numbers.sum()) - charge) % 2 == 0 else 2
    frames = []
    for step in range(steps):
        atoms = Atoms(start.get_chemical_symbols(), positions=start.positions + step * direction, cell=start.cell, pbc=True)
        last = step == steps - 1
        atoms.info = {"spin_multiplicity": multiplicity, "step": step, "converged": last and converged}
        forces = direction * (0.0 if last and converged else 2.0 / (step + 1))
        if frames:
            energy -= float(((frames[-1].calc.results["forces"] + forces) * direction).sum() / 2.0)
        frames.append(attach_results(atoms, energy=energy, forces=forces))
    return frames


def make_metadata(host: Atoms) -> DatasetFile:
    return DatasetFile(
        schema_version=1,
        id="tiny",
        title="A dataset for tests",
        licence="CC0-1.0",
        host=Host(file="host.extxyz"),
        reference_level="PBE",
        levels=(
            LevelOfTheory(name="PBE", functional="PBE", convergence=Convergence(max_force=0.02), band_edges=BandEdges(vbm=1.0)),
            LevelOfTheory(name="HSE06", functional="HSE06"),
        ),
        defects=tuple(make_defects(host).values()),
        files={"host.extxyz": "0" * 64},
    )


def build_tiny(folder: Path) -> Path:
    host = make_host()
    metadata = make_metadata(host)
    generator = np.random.default_rng(1)
    starts = {}
    for defect in metadata.defects:
        ideal = ideal_structure(host, defect)
        for charge in defect.charges:
            rattled = ideal.copy()
            rattled.positions += generator.normal(size=(len(ideal), 3)) * 0.1
            rattled.positions = np.round(rattled.positions, 8)
            starts[defect.name, charge] = {"Rattled": rattled, "Unperturbed": ideal, "Bond_Distortion_-40.0%": _first_moved(ideal)}
    relaxations = {
        ("PBE", "V_Sb", 0, "Unperturbed"): make_relaxation(starts["V_Sb", 0]["Unperturbed"], 0, energy=-50.0),
        ("PBE", "V_Sb", 0, "Rattled"): make_relaxation(starts["V_Sb", 0]["Rattled"], 0, seed=1, energy=-50.5),
        ("PBE", "V_Sb", -1, "Unperturbed"): make_relaxation(starts["V_Sb", -1]["Unperturbed"], -1, converged=False),
        ("PBE", "Sb_Se", 0, "Unperturbed"): make_relaxation(starts["Sb_Se", 0]["Unperturbed"], 0),
        ("PBE", "Se_i", 0, "Unperturbed"): make_relaxation(starts["Se_i", 0]["Unperturbed"], 0),
    }
    write_dataset(folder, metadata, host, starts, relaxations)
    return folder


def _first_moved(ideal: Atoms) -> Atoms:
    atoms = ideal.copy()
    atoms.positions[0] += (0.4, 0.0, 0.1)
    return atoms
