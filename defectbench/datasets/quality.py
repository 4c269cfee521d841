"""Checks of how good the labels of a dataset are: net forces, convergence with k-points, the image-charge term of corrections."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from defectbench.base.states import format_charge
from defectbench.datasets.checks import Problem
from defectbench.datasets.extxyz import stored_results
from defectbench.datasets.schema import METADATA_FILE, DatasetFile
from defectbench.structures.ewald import ewald_potential

NET_FORCE = 0.005
"""eV/Å per atom. Forces of one cell add up to zero; a larger sum is an error of the forces themselves."""
IMAGE_CHARGE = 0.02
"""Relative; how far an image-charge term may be from that of a point charge in the dataset's dielectric."""


def check_net_force(file: str, frames: Sequence[Atoms]) -> Iterator[Problem]:
    """The forces of each frame add up to zero; the worst frame of a file is named."""
    sums = []
    for index, atoms in enumerate(frames):
        forces = stored_results(atoms).get("forces")
        if forces is not None and len(atoms):
            sums.append((float(np.linalg.norm(np.asarray(forces).sum(axis=0))) / len(atoms), index))
    if sums and max(sums)[0] > NET_FORCE:
        worst, frame = max(sums)
        yield Problem(file, frame, "forces", f"add up to {worst:.4f} eV/Å per atom; it should be zero, and at most {NET_FORCE:g}")


def check_image_charge(metadata: DatasetFile, host: Atoms) -> Iterator[Problem]:
    """Image-charge terms are those of a point charge in the dielectric, at levels whose correction method names an Ewald sum."""
    if metadata.dielectric is None:
        return
    unit = -float(ewald_potential(host.cell.array, metadata.dielectric.tensor, [[0.0, 0.0, 0.0]])[0]) / 2
    for index, level in enumerate(metadata.levels):
        if level.correction_method is None or "Ewald" not in level.correction_method:
            continue
        for correction in level.corrections:
            expected = unit * correction.charge**2
            if abs(correction.image_charge - expected) > IMAGE_CHARGE * expected + 1e-4:
                name = f"{correction.defect} {format_charge(correction.charge)}"
                message = f"{name}: {correction.image_charge:.4f} eV, but a point charge in this dielectric has {expected:.4f} eV"
                yield Problem(METADATA_FILE, None, f"levels.{index}.corrections", message)


def check_uncertainty(folder: Path, metadata: DatasetFile) -> Iterator[Problem]:
    """A level's stated uncertainty covers its stored checks with denser k-points, and its forces are good enough for its criterion."""
    for index, level in enumerate(metadata.levels):
        stated, field = level.uncertainty, f"levels.{index}.uncertainty"
        if stated is None:
            continue
        if level.convergence is not None and stated.force > level.convergence.max_force:
            message = f"forces are known to {stated.force:g} eV/Å only, and relaxations end at {level.convergence.max_force:g}"
            yield Problem(METADATA_FILE, None, field, message)
        for name in metadata.files:
            if not name.startswith(f"properties/{level.name}/check_") or not (folder / name).is_file():
                continue
            content = json.loads((folder / name).read_text(encoding="utf-8"))
            if content.get("kpoints") is None:
                continue
            if content["force_difference_rms"] > stated.force:
                message = f"denser k-points change the forces by {content['force_difference_rms']:.4f} eV/Å (rms), more than stated"
                yield Problem(name, None, "force_difference_rms", f"{message} ({stated.force:g})")
