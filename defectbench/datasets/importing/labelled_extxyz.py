"""Imports relaxations from labelled extxyz files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from defectbench.base.errors import DatasetError
from defectbench.base.paths import full_path
from defectbench.datasets.extxyz import stored_results
from defectbench.datasets.importing.assemble import (
    _CONVERGED_BY_DEFAULT,
    ImportReport,
    _assemble,
    _check_destination,
    _Findings,
    _frames_of,
    _Item,
    _Keys,
    _labels,
    _Options,
    _settle_relaxation,
    _with_results,
)
from defectbench.datasets.importing.shakenbreak import _OWN_ARRAYS


def import_extxyz(
    files: Sequence[str | Path],
    host: str | Path | Atoms,
    destination: str | Path,
    *,
    starts: Sequence[str | Path] = (),
    charge_key: str = "charge",
    energy_key: str = "energy",
    forces_key: str = "forces",
    defect_key: str = "defect",
    configuration_key: str = "configuration",
    step_key: str = "step",
    converged_key: str = "converged",
    defect: str | None = None,
    max_force: float = _CONVERGED_BY_DEFAULT,
    dataset_id: str | None = None,
    title: str | None = None,
    level: str = "DFT",
    functional: str | None = None,
    code: str | None = None,
    licence: str = "unspecified",
    overwrite: bool = False,
) -> ImportReport:
    """Makes a dataset of labelled extxyz files.

    Frames with the same defect, charge and configuration are one relaxation, in the order of the files. A frame without a
    configuration label takes its file's name, without ending, as configuration. The first of several frames is taken as the start,
    unless ``starts`` holds one. The last frame is a minimum if its ``converged`` label says so; without the label, if its largest
    force is at most ``max_force``; without forces, it is taken to be one, and the report says so. A charge state without a start
    gets the ideal structure as its ``Unperturbed`` start.

    Args:
        files: extxyz files.
        host: the perfect supercell, a file or atoms; its cell must be that of the frames.
        destination: the dataset folder to make.
        starts: extxyz files with start structures, labelled in the same way.
        charge_key: ``info`` key of the total charge (units of +e) of each frame.
        energy_key: ``info`` key of the energy, eV.
        forces_key: array key of the forces, eV/Å; frames without it are imported without forces.
        defect_key: ``info`` key of the defect's name.
        configuration_key: ``info`` key of the configuration.
        step_key: ``info`` key of the step; frames without it are counted.
        converged_key: ``info`` key of the ``converged`` label.
        defect: name of the defect for frames that have none.
        max_force: eV/Å, above 0.
        dataset_id: default: the destination's name.
        title: default: names the first file.
        level: name of the level of theory.
        functional: default: the level's name.
        code: program and version.
        licence: of the data.
        overwrite: replace a dataset that exists. What it is made of must not lie in it.

    Raises:
        DatasetError: nothing there can be used, or the destination cannot be written; one line.
        DefectbenchError: no home folder is known for a leading ``~name``.
    """
    if not files:
        raise DatasetError("there are no files to import", code="import-nothing")
    _check_destination(destination, overwrite, [*files, *starts], host)
    for file in (*files, *starts):
        if not full_path(file).is_file():
            raise DatasetError(f"there is no file {file}", code="no-file")
    keys = _Keys(charge_key, energy_key, forces_key, defect_key, configuration_key, step_key, converged_key, defect)
    _check_keys(keys)
    if not (np.isfinite(max_force) and max_force > 0):
        raise DatasetError(f"max_force is {max_force:g}; it must be a number of eV/Å above 0", code="import-option")
    found = _Findings()
    items: dict[tuple[str, int, str], _Item] = {}
    for file in files:
        for index, atoms in enumerate(_frames_of(Path(file), found)):
            labels = _labels(atoms, Path(file), index, keys, found)
            if labels is None:
                continue
            if len(atoms) == 1:
                found.drop(file, index, "an isolated atom")
                continue
            frame = _with_results(atoms, file, index, keys, found)
            if frame is not None:
                item = items.setdefault(labels, _Item(*labels, source=str(file)))
                item.frames.append(frame)
    for file in starts:
        for index, atoms in enumerate(_frames_of(Path(file), found)):
            labels = _labels(atoms, Path(file), index, keys, found)
            if labels is not None:
                items.setdefault(labels, _Item(*labels, source=str(file))).start = atoms
    _check_forces_key(list(items.values()), forces_key, found)
    assumed = 0
    for item in items.values():
        assumed += _settle_relaxation(item, keys, max_force)
        if item.start is None and len(item.frames) > 1:
            item.start = item.frames[0]
    if assumed:
        found.notes.append(
            f"{assumed} relaxations have neither a '{converged_key}' label nor forces; their last frames are taken as minima"
        )
    found.items = list(items.values())
    default = f"Frames from {Path(files[0]).name}" + (f" and {len(files) - 1} more files" if len(files) > 1 else "")
    return _assemble(found, host, _Options(destination, dataset_id, title or default, level, functional, code, licence, overwrite))


def _check_forces_key(items: Sequence[_Item], forces_key: str, found: _Findings) -> None:
    """Forces under another key than the one given are named; a key that no frame has was given by mistake.

    Raises:
        DatasetError: ``forces_key`` is not the default, and no frame has it.
    """
    frames = [frame for item in items for frame in item.frames]
    unused = sorted({frame.info["_unused"] for frame in frames if "_unused" in frame.info})
    there = any("forces" in stored_results(frame) for frame in frames)
    hint = f"there is '{', '.join(unused)}'" if unused else "there are no other arrays of forces"
    if frames and not there and forces_key != "forces":
        raise DatasetError(
            f"no frame has an array '{forces_key}' ({hint}); name the array of the forces with --forces-key", code="import-label"
        )
    if unused:
        found.notes.append(
            f"arrays '{', '.join(unused)}' were not used (--forces-key {unused[0]} reads them as forces); frames with them and without "
            "a convergence label are not taken as minima"
        )


def _check_keys(keys: _Keys) -> None:
    """Each label has a key of its own (defect and configuration may share one), and the forces are none of ASE's own arrays.

    Raises:
        DatasetError: not so.
    """
    if keys.forces in _OWN_ARRAYS:
        raise DatasetError(
            f"forces_key '{keys.forces}' is an array that every structure has, not forces; name the array of the forces",
            code="import-label",
        )
    labels = {"charge_key": keys.charge, "energy_key": keys.energy, "step_key": keys.step, "converged_key": keys.converged}
    for name, key in (*labels.items(), ("defect_key", keys.defect), ("configuration_key", keys.configuration)):
        other = next((other for other, same in labels.items() if same == key and other != name), None)
        if other is not None:
            raise DatasetError(f"{name} and {other} are both '{key}'; each of the two needs a key of its own", code="import-option")
