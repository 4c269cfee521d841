"""Results that are not frames: host, elements, force checks, potentials; what they are and where they go in the dataset."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.units import Bohr, Hartree
from numpy.typing import NDArray

from defectbench.base.errors import RunError
from defectbench.base.files import write_text
from defectbench.datasets.schema import BandEdges, ChemicalPotentials, DatasetFile, LevelOfTheory
from defectbench.datasets.writing import update_metadata

from .composite import from_stored
from .corrections import METHOD, corrections_of
from .cp2k_input import BANDS
from .cp2k_output import read_band_edges
from .cp2k_schema import method_of
from .job import Job, SegmentResult
from .reference_data import ReferenceData, relaxed_at, same_geometry
from .tasks import Task, properties_file

SPHERE_RADIUS = 1.0
"""Å; site potentials are averages over spheres of this radius."""


def result_of(job: Job, data: ReferenceData) -> dict[str, Any]:
    """The result of a finished job that is not a frame, as JSON values.

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
        plus, minus = (results[name].frames[-1].energy for name in ("plus", "minus"))
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
        difference = frame.known_forces - reference.get_forces()
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
    if task.kind == "host":
        out |= _edges_of(job, last)
        base = data.base_level(task.level)
        if base != task.level:
            out |= _on_top_of(base, data, {**out}, results[job.stages[0].name])
    if task.kind == "element":
        out |= {"atoms": len(frame.atoms), "energy_per_atom": frame.energy / len(frame.atoms)}
    if task.kind in ("host", "potential"):
        out |= potentials_of(job, frame.atoms)
    if task.kind == "potential":
        ground = data.ground_of(task)
        if ground is None or not same_geometry(ground.atoms, frame.atoms):
            raise RunError(f"{task.label}: its structure is no longer the ground state")
        out["configuration"] = ground.configuration
    return out


def _edges_of(job: Job, segment: SegmentResult) -> dict[str, float | None]:
    edges = segment.output.band_edges or read_band_edges(job.segment_folder(job.state.segments - 1) / BANDS)
    return {"vbm": None if edges is None else edges.vbm, "cbm": None if edges is None else edges.cbm}


def _on_top_of(base: str, data: ReferenceData, high: Mapping[str, Any], low: SegmentResult) -> dict[str, Any]:
    """Host energy and band edges at a base's level, and the difference between a hybrid functional and its start added to them.

    Raises:
        RunError: the base's host has not been calculated yet.
    """
    below = next((r for r in read_properties(data.folder, base) if r["kind"] == "host"), None)
    if below is None:
        raise RunError(f"the host at {base} must be calculated first")
    edges = low.output.band_edges
    out: dict[str, Any] = {"energy": below["energy"] + high["energy"] - low.frames[-1].energy}
    for name, value in (("vbm", None if edges is None else edges.vbm), ("cbm", None if edges is None else edges.cbm)):
        known = (below[name], high[name], value)
        out[name] = None if None in known else below[name] + high[name] - value
    return out


def potentials_of(job: Job, atoms: Atoms) -> dict[str, Any]:
    """Site potentials of a finished job, as they are stored.

    Raises:
        RunError: it has written no potential.
    """
    cubes = sorted(job.segment_folder(job.state.segments - 1).glob("*v_hartree*.cube"))
    if not cubes:
        raise RunError(f"{job.task.label}: CP2K has written no potential")
    values = [round(float(v), 6) for v in site_potentials(cubes[-1], atoms)]
    return {"site_potentials": values, "site_potential_radius": SPHERE_RADIUS}


def potential_of_single_point(job: Job) -> dict[str, Any]:
    """What a ``potential`` task at the level of a single point of a ground state would have given.

    Raises:
        RunError: it has written no potential.
    """
    task, frame = job.task, job.results()[job.task.level].frames[-1]
    out: dict[str, Any] = {"kind": "potential", "level": task.level, "defect": task.defect, "charge": task.charge}
    out |= {"energy": frame.energy, "s_squared": frame.s_squared, "scf_attempt": frame.attempt}
    return out | potentials_of(job, frame.atoms) | {"configuration": task.configuration}


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
    return -sphere_averages(values.reshape(shape) * Hartree, step * np.array(shape)[:, None], atoms.positions, radius)


def sphere_averages(
    grid: NDArray[np.float64], cell: NDArray[np.float64], positions: NDArray[np.float64], radius: float
) -> NDArray[np.float64]:
    """Averages of a periodic function over spheres, from its Fourier series: they do not depend on how the spheres lie on the grid.

    A plane wave exp(iGr) has the average 3 (sin x - x cos x) / x^3, x = |G| radius, over a sphere around the origin.

    Args:
        grid: (nx, ny, nz) values at the points of a regular grid of the cell, the first at the origin.
        cell: (3, 3) lattice vectors as rows, Å.
        positions: (N, 3) centres, Å.
        radius: Å.

    Returns:
        (N,) averages in the unit of the grid.
    """
    orders = [np.fft.fftfreq(n, 1.0 / n) for n in grid.shape]
    indices = np.stack(np.meshgrid(*orders, indexing="ij"), axis=-1)
    x = radius * 2 * np.pi * np.linalg.norm(indices @ np.linalg.inv(cell).T, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        average = np.where(x < 1e-3, 1.0, 3 * (np.sin(x) - x * np.cos(x)) / x**3)
    series = np.fft.fftn(grid) / grid.size * average
    out = np.empty(len(positions))
    for index, fractional in enumerate(positions @ np.linalg.inv(cell)):
        waves = [np.exp(2j * np.pi * n * f) for n, f in zip(orders, fractional, strict=True)]
        out[index] = float(((series @ waves[2]) @ waves[1] @ waves[0]).real)
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


def read_properties(folder: Path, level: str) -> list[dict[str, Any]]:
    """The results of a level that are not frames, by file name; empty if there are none."""
    found = sorted((folder / "properties" / level).glob("*.json"))
    return [dict(json.loads(path.read_text(encoding="utf-8"))) for path in found]


def store_result(data: ReferenceData, task: Task, result: Mapping[str, Any]) -> Path:
    """Puts a result into ``properties/<level>/`` of the dataset, and what ``dataset.yaml`` has a field for there too.

    Raises:
        DatasetError: the dataset cannot be read or written.
    """
    path = properties_file(data.folder, task)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(dict(result), indent=1) + "\n")
    update_metadata(data.folder, lambda metadata: metadata, [path.relative_to(data.folder).as_posix()])
    derive_levels(data)
    return path


def derive_levels(data: ReferenceData) -> bool:
    """Brings into ``dataset.yaml`` what follows from the stored results: host energy, band edges, chemical potentials, corrections.

    To be called after anything has been added: a lower ground state takes the corrections of the one before away.

    Returns:
        Whether anything is different now.

    Raises:
        DatasetError: the dataset cannot be read or written.
    """
    data.reload()
    composed = [frames for level in data.dataset.levels for frames in from_stored(data, level)]
    for frames in composed:
        data.add(frames)
    if composed:
        data.reload()
    derived = {level.name: _derived(data, level) for level in data.dataset.metadata.levels}

    def change(metadata: DatasetFile) -> DatasetFile:
        levels = tuple(level.model_copy(update=derived.get(level.name, {})) for level in metadata.levels)
        return metadata.model_copy(update={"levels": levels})

    changed = update_metadata(data.folder, change)
    if changed:
        data.reload()
    return changed


def _derived(data: ReferenceData, level: LevelOfTheory) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    results = read_properties(data.folder, level.name)
    host = next((r for r in results if r["kind"] == "host"), None)
    if host is not None:
        changes["host_energy"] = host["energy"]
        if host["vbm"] is not None:
            gamma = getattr(method_of(level), "kpoints", "gamma") == "gamma" and data.base_level(level.name) == level.name
            source = "eigenvalues of the host supercell at Γ" if gamma else "eigenvalues on lines through the zone of the host supercell"
            changes["band_edges"] = BandEdges(vbm=host["vbm"], cbm=host["cbm"], source=source)
    elements = {r["defect"]: r["energy_per_atom"] for r in results if r["kind"] == "element"}
    if host is not None and elements:
        symbols = data.dataset.host.get_chemical_symbols()
        composition = {symbol: symbols.count(symbol) for symbol in sorted(set(symbols))}
        conditions = growth_conditions(composition, host["energy"], elements, "elemental solids and host at the same level")
        if conditions:
            changes["chemical_potentials"] = conditions
    if level.correction_method in (None, METHOD):  # those of another origin stay
        corrections, _ = corrections_of(data.dataset, relaxed_at(data.dataset, level.name), results)
        changes |= {"corrections": corrections, "correction_method": METHOD if corrections else None}
    return changes
