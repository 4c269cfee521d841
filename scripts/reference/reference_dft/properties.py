"""Results that are no frames: host, elements, paths, force checks, potentials; what they are and where they go in the dataset."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.units import Bohr, Hartree
from numpy.typing import NDArray

from defectbench.datasets.building import update_metadata
from defectbench.datasets.schema import METADATA_FILE, BandEdges, ChemicalPotentials, DatasetFile, LevelOfTheory, parse_metadata
from defectbench.errors import RunError

from .job import Job, write_atomically
from .reference_data import ReferenceData
from .tasks import Task

SPHERE_RADIUS = 1.0
"""Å; site potentials are averages over spheres of this radius."""


def result_of(job: Job, data: ReferenceData) -> dict[str, Any]:
    """The result of a finished job that is no frame, as JSON values.

    Raises:
        RunError: the job has no complete result.
    """
    task, results = job.task, job.results()
    missing = [stage.name for stage in job.stages if stage.name not in results]
    if missing:
        raise RunError(f"{task.label} has no result of stage {missing[0]}")
    last = results[job.stages[-1].name]
    frame = last.frames[-1]
    out: dict[str, Any] = {
        "kind": task.kind,
        "level": task.level,
        "defect": task.defect,
        "charge": task.charge,
        "energy": frame.energy,
        "s_squared": frame.s_squared,
        "scf_attempt": frame.attempt,
    }
    if task.kind == "finite_difference":
        displacement = data.displacement_block(task).displacement
        plus, minus = results["plus"].frames[-1].energy, results["minus"].frames[-1].energy
        reference = data.frame(task.defect, task.charge, task.configuration, task.step, task.level)
        if reference is None or task.component is None:
            raise RunError(f"{task.label}: its frame is no longer in the dataset")
        out |= {
            "configuration": task.configuration,
            "step": task.step,
            "atom": task.component[0],
            "axis": task.component[1],
            "displacement": displacement,
            "energy_plus": plus,
            "energy_minus": minus,
            "force_by_difference": -(plus - minus) / (2.0 * displacement),
            "force": float(reference.get_forces()[task.component]),
        }
        del out["energy"]
    if task.kind == "check":
        block = data.check_block(task)
        reference = data.frame(task.defect, task.charge, task.configuration, task.step, task.level)
        if reference is None:
            raise RunError(f"{task.label}: its frame is no longer in the dataset")
        difference = frame.forces - reference.get_forces()
        out |= {
            "configuration": task.configuration,
            "step": task.step,
            "name": block.name,
            "method": block.method,
            "kpoints": block.kpoints,
            "multiplicity": block.multiplicity,
            "energy_difference": frame.energy - float(reference.get_potential_energy()),
            "force_difference_rms": float(np.sqrt((difference**2).mean())),
            "force_difference_max": float(np.abs(difference).max()),
        }
    if task.kind == "path":
        out |= {"other_charge": task.other_charge, "fraction": task.fraction}
    if task.kind == "host":
        edges = last.output.band_edges
        out |= {"vbm": None if edges is None else edges.vbm, "cbm": None if edges is None else edges.cbm}
    if task.kind == "element":
        out |= {"atoms": len(frame.atoms), "energy_per_atom": frame.energy / len(frame.atoms)}
    if task.kind in ("host", "potential"):
        cubes = sorted(job.segment_folder(job.state.segments - 1).glob("*v_hartree*.cube"))
        if not cubes:
            raise RunError(f"{task.label}: CP2K has written no potential")
        out["site_potentials"] = [round(float(v), 6) for v in site_potentials(cubes[-1], frame.atoms)]
        out["site_potential_radius"] = SPHERE_RADIUS
    return out


def site_potentials(cube: Path, atoms: Atoms, radius: float = SPHERE_RADIUS) -> NDArray[np.float64]:
    """Averages of the electrostatic potential over spheres around the atoms.

    Args:
        cube: CP2K's ``V_HARTREE_CUBE`` file (the potential of an electron, hartree, on a regular grid of the whole cell).
        atoms: N atoms, Å.
        radius: of the spheres, Å.

    Returns:
        (N,) potentials in V for a positive test charge (the sign of the electron's potential energy is reversed).
    """
    with cube.open(encoding="utf-8") as handle:
        handle.readline()
        handle.readline()
        count = int(handle.readline().split()[0])
        rows = [handle.readline().split() for _ in range(3)]
        for _ in range(count):
            handle.readline()
        values = np.array(handle.read().split(), dtype=float)
    shape = tuple(int(row[0]) for row in rows)
    step = np.array([[float(x) for x in row[1:]] for row in rows]) * Bohr
    grid = values.reshape(shape) * Hartree
    cell = step * np.array(shape)[:, None]
    inverse = np.linalg.inv(cell)
    # the grid points in a box around an atom that surely holds the sphere
    reach = [int(np.ceil(radius * np.linalg.norm(inverse[:, axis]) * shape[axis])) + 1 for axis in range(3)]
    offsets = np.stack(np.meshgrid(*[np.arange(-r, r + 1) for r in reach], indexing="ij"), axis=-1).reshape(-1, 3)
    out = np.empty(len(atoms))
    for index, position in enumerate(atoms.positions):
        base = np.round(position @ inverse * np.array(shape)).astype(int)
        points = base + offsets
        inside = np.linalg.norm(points @ step - position, axis=1) <= radius
        i, j, k = (points[inside] % np.array(shape)).T
        out[index] = -grid[i, j, k].mean()
    return out


def growth_conditions(
    composition: Mapping[str, int], host_energy: float, elements: Mapping[str, float], source: str
) -> tuple[ChemicalPotentials, ...]:
    """Chemical potentials of a binary host at its two limits: one element as its elemental solid, the other from the host's energy.

    Args:
        composition: element → number of atoms in the host cell; two elements.
        host_energy: of that cell, eV.
        elements: element → energy of the elemental solid, eV per atom.
        source: how they were obtained.

    Returns:
        One condition an element, empty unless the host is binary and both elements are there.
    """
    if len(composition) != 2 or set(composition) - set(elements):
        return ()
    names = sorted(composition)
    out = []
    for rich, other in (names, names[::-1]):
        rest = (host_energy - composition[rich] * elements[rich]) / composition[other]
        out.append(ChemicalPotentials(name=f"{rich}-rich", potentials={rich: elements[rich], other: rest}, source=source))
    return tuple(out)


def properties_file(folder: Path, task: Task) -> Path:
    """Where the result of a task is kept in a dataset folder: a file of its own, so that adding one touches no other."""
    name = task.label.split("/")[-1]
    return folder / "properties" / task.level / (f"{name}.json" if task.kind == "host" else f"{task.kind}_{name}.json")


def read_properties(folder: Path, level: str) -> list[dict[str, Any]]:
    """The results of a level that are no frames, by file name; empty if there are none."""
    found = sorted((folder / "properties" / level).glob("*.json"))
    return [dict(json.loads(path.read_text(encoding="utf-8"))) for path in found]


def store_result(data: ReferenceData, task: Task, result: Mapping[str, Any]) -> Path:
    """Puts a result into ``properties/<level>/`` of the dataset, and what ``dataset.yaml`` has a field for there too.

    Raises:
        DatasetError: the dataset cannot be read or written.
    """
    path = properties_file(data.folder, task)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(dict(result), indent=1) + "\n")
    metadata = parse_metadata(data.folder / METADATA_FILE)
    level = _updated(data, metadata.level(task.level))
    levels = [level.model_dump() if old.name == level.name else old.model_dump() for old in metadata.levels]
    updated = DatasetFile.model_validate({**metadata.model_dump(), "levels": levels})
    update_metadata(data.folder, updated, new_files=[path.relative_to(data.folder).as_posix()])
    return path


def _updated(data: ReferenceData, level: LevelOfTheory) -> LevelOfTheory:
    changes: dict[str, Any] = {}
    results = read_properties(data.folder, level.name)
    host = next((r for r in results if r["kind"] == "host"), None)
    if host is not None:
        changes["host_energy"] = host["energy"]
        if host["vbm"] is not None:
            changes["band_edges"] = BandEdges(vbm=host["vbm"], cbm=host["cbm"], source="eigenvalues of the host supercell at Γ")
    elements = {r["defect"]: r["energy_per_atom"] for r in results if r["kind"] == "element"}
    if host is not None and elements:
        symbols = data.dataset.host.get_chemical_symbols()
        composition = {symbol: symbols.count(symbol) for symbol in sorted(set(symbols))}
        conditions = growth_conditions(composition, host["energy"], elements, "elemental solids and host at the same level")
        if conditions:
            changes["chemical_potentials"] = conditions
    return level.model_copy(update=changes)
