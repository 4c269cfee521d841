"""Making a dataset of a user's own results: a ShakeNBreak result folder, or labelled extxyz files.

What cannot be known from such files (band edges, chemical potentials, corrections, …) is absent from the dataset that is
written, explicitly; it can be filled in by hand in its ``dataset.yaml``. Every file that is not used is named with a reason.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from defectbench.base.errors import DatasetError
from defectbench.base.paths import full_path
from defectbench.base.states import format_charge, sort_key
from defectbench.base.yaml import read_yaml
from defectbench.datasets.dataset import StateKey
from defectbench.datasets.extxyz import attach_results, stored_results
from defectbench.datasets.importing.assemble import NO_START, ImportReport, _assemble, _check_destination, _Findings, _Item, _Options
from defectbench.datasets.importing.outputs import read_output, read_start
from defectbench.datasets.schema import MAX_CHARGE
from defectbench.datasets.vasp import read_poscar

_STATE_FOLDER = re.compile(r"^(?P<defect>.+)_(?P<charge>[+-]?\d+)$")
_CONFIGURATION = re.compile(r"^Unperturbed|Rattled|Dimer|Bond_Distortion")
"""What ShakeNBreak itself looks for in a folder's name; users add suffixes (``_nupdown_2``, ``_from_stdev_0pt18``)."""
_SUBFOLDERS = ("", "vasp_std", "vasp_nkred_std", "vasp_gam", "vasp_ncl")
_OWN_ARRAYS = ("positions", "numbers", "momenta", "masses", "tags", "initial_magmoms", "initial_charges")
"""What ASE keeps per atom besides results."""


def import_shakenbreak(
    folder: str | Path,
    host: str | Path | Atoms,
    destination: str | Path,
    *,
    dataset_id: str | None = None,
    title: str | None = None,
    level: str = "DFT",
    functional: str | None = None,
    code: str | None = None,
    licence: str = "unspecified",
    overwrite: bool = False,
) -> ImportReport:
    """Makes a dataset of a ShakeNBreak result folder.

    Read are ``<defect>_<charge>/<configuration>/{POSCAR,CONTCAR}`` (start and relaxed structure; also gzipped, and in ``vasp_std`` and the
    like below) and the energies in ``<defect>_<charge>/<defect>_<charge>.yaml``; charges with and without ``+``. ``folder`` may also be
    one such charge state. Where one of these is missing, outputs of VASP (``vasprun.xml``, ``OUTCAR``), FHI-aims, CASTEP, Quantum
    ESPRESSO and restart files of CP2K are read instead, also gzipped, with forces where they have them. Folders ``*_High_Energy`` are
    skipped and counted; configurations imported from other charge states keep their names (``…_from_+2``), and so do those with a suffix
    of the user. A relaxed structure counts as converged if it has an energy, as in ShakeNBreak. Energies without a relaxed structure
    are named. A charge state without any start gets the ideal structure as its ``Unperturbed`` start.

    Args:
        folder: the result folder.
        host: the perfect supercell, a file or atoms; its cell must be that of the defects.
        destination: the dataset folder to make.
        dataset_id: default: the destination's name.
        title: default: names the folder.
        level: name of the level of theory.
        functional: default: the level's name.
        code: program and version.
        licence: of the data.
        overwrite: replace a dataset that exists. What it is made of must not lie in it.

    Raises:
        DatasetError: nothing there can be used, or the destination cannot be written; one line.
        DefectbenchError: no home folder is known for a leading ``~name``.
    """
    root = full_path(folder)
    if not root.is_dir():
        raise DatasetError(f"there is no folder {root}", code="no-file")
    _check_destination(destination, overwrite, [root], host)
    found = _Findings()
    states = [root] if _is_state_folder(root) else sorted(path for path in root.iterdir() if path.is_dir())
    base = root.parent if states == [root] else root
    seen: dict[StateKey, Path] = {}
    for state in states:
        match = _STATE_FOLDER.match(state.name)
        if match is None or not _is_state_folder(state):
            found.drop(state.relative_to(base), None, "not a folder <defect>_<charge> with configurations in it")
            continue
        key = (match["defect"], int(match["charge"]))
        if abs(key[1]) > MAX_CHARGE:
            found.drop(state.relative_to(base), None, f"its charge {format_charge(key[1])} is outside ±{MAX_CHARGE}")
            continue
        if key in seen:
            found.drop(state.relative_to(base), None, f"the same charge state as {seen[key].name}")
            continue
        seen[key] = state
        _read_state_folder(state, base, *key, found)
    options = _Options(
        destination, dataset_id, title or f"ShakeNBreak results from {root.name}", level, functional, code, licence, overwrite
    )
    return _assemble(found, host, options)


def _is_state_folder(folder: Path) -> bool:
    if _STATE_FOLDER.match(folder.name) is None:
        return False
    return any(path.is_dir() and _CONFIGURATION.search(path.name.removesuffix("_High_Energy")) for path in folder.iterdir())


def _read_state_folder(folder: Path, base: Path, defect: str, charge: int, found: _Findings) -> None:
    energies = _read_energies(folder, base, found)
    for path in sorted(folder.iterdir(), key=lambda p: sort_key(p.name)):
        if not path.is_dir():
            continue
        shown = path.relative_to(base)
        if path.name.endswith("_High_Energy"):
            found.high_energy += 1
            continue
        if _CONFIGURATION.search(path.name) is None:
            found.drop(shown, None, "not the name of a ShakeNBreak configuration")
            continue
        item = _Item(defect, charge, path.name, str(shown))
        places = [path / name if name else path for name in _SUBFOLDERS]
        poscar, contcar = _first(places, "POSCAR"), _first(places, "CONTCAR")
        output, written = None, None
        try:
            if poscar is None or contcar is None or path.name not in energies:
                output, written = read_output(places), read_start(places) if poscar is None else None
        except DatasetError as error:
            found.drop(shown, None, error)
        if poscar is not None:
            try:
                item.start = read_poscar(poscar)
            except DatasetError as error:
                found.drop(poscar.relative_to(base), None, error)
        elif written is not None:
            item.start = written
        else:
            found.drop(shown, None, NO_START)
        energy = energies.get(path.name)
        if output is not None and (output.frames or energy is not None):
            item.frames = output.relaxation(energy)
            item.start = item.start if item.start is not None or len(item.frames) < 2 else item.frames[0]
        elif contcar is None:
            found.drop(shown, None, "no CONTCAR: no relaxed structure")
        elif energy is None:
            found.drop(contcar.relative_to(base), None, f"no energy for it in {folder.name}.yaml")
        else:
            try:
                relaxed = read_poscar(contcar)
                relaxed.info = {"step": 1, "converged": True}
                item.frames = [attach_results(relaxed, energy=energy)]
            except DatasetError as error:
                found.drop(contcar.relative_to(base), None, error)
        if item.start is not None or item.frames:
            found.items.append(item)
    _name_energies_without_structure(folder, base, energies, [i for i in found.items if (i.defect, i.charge) == (defect, charge)], found)


def _first(places: list[Path], name: str) -> Path | None:
    """The first file of that name, plain or gzipped, that is not empty."""
    candidates = (place / f"{name}{ending}" for place in places for ending in ("", ".gz"))
    return next((path for path in candidates if path.is_file() and path.stat().st_size > 0), None)


def _name_energies_without_structure(folder: Path, base: Path, energies: dict[str, float], items: list[_Item], found: _Findings) -> None:
    """Energies whose relaxed structure was not found: named, and above all those below the lowest that was."""
    there = {item.configuration: float(stored_results(item.frames[-1])["energy"]) for item in items if item.frames}
    missing = {name: energy for name, energy in energies.items() if name not in there}
    if not missing:
        return
    listed = ", ".join(f"{name} ({energy:g} eV)" for name, energy in sorted(missing.items(), key=lambda pair: pair[1]))
    note = f"{(folder / folder.name).relative_to(base)}.yaml has energies without a relaxed structure: {listed}"
    if there:
        ground = min(there, key=lambda name: there[name])
        below = sum(energy < there[ground] for energy in missing.values())
        if below:
            note += f". {below} of them are BELOW the ground state that is imported ({ground}, {there[ground]:g} eV): it is not DFT's"
    found.notes.append(note)


def _read_energies(folder: Path, base: Path, found: _Findings) -> dict[str, float]:
    """Configuration → energy (eV) from the energies file of a charge state."""
    path = folder / f"{folder.name}.yaml"
    if not path.is_file():
        found.drop(path.relative_to(base), None, "there is no such energies file: no relaxed structure of this charge state can be used")
        return {}
    try:
        content = read_yaml(path, DatasetError)
        pairs = {**dict(content.get("distortions") or {}), **{k: v for k, v in content.items() if k != "distortions"}}
    except (DatasetError, AttributeError, TypeError, ValueError) as error:
        found.drop(path.relative_to(base), None, f"not an energies file ({str(error).splitlines()[0] if str(error) else error!r})")
        return {}
    out: dict[str, float] = {}
    for key, value in pairs.items():
        if "High_Energy" in str(key):
            continue
        try:
            energy = float("nan") if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
        except OverflowError:
            energy = float("inf")
        if not np.isfinite(energy):
            found.drop(path.relative_to(base), None, f"the energy of {key} is '{value}'")
            continue
        out[configuration_of(key)] = energy
    return out


def configuration_of(key: Any) -> str:
    """The folder name of a key of the energies file: ``-0.4`` → ``Bond_Distortion_-40.0%``, ``-40.0%_from_+2`` likewise."""
    text = str(key)
    try:
        return f"Bond_Distortion_{round(float(text) * 100, 1) + 0.0}%"
    except ValueError:
        return f"Bond_Distortion_{text}" if re.match(r"^-?\d+(\.\d+)?%", text) else text
