"""Opens a folder with ``dataset.yaml``, host, starts and frames as a dataset."""

from __future__ import annotations

import copy
import hashlib
import json
from functools import lru_cache
from pathlib import Path

from ase import Atoms

from defectbench.base.errors import DatasetError
from defectbench.datasets import checks
from defectbench.datasets.dataset import Dataset, RelaxationKey, StateKey
from defectbench.datasets.extxyz import parse_frame_file_name, read_extxyz, read_host
from defectbench.datasets.schema import DatasetFile


def content_hash(metadata: DatasetFile) -> str:
    """SHA-256 of the canonical metadata, which hold the hashes of all files; without what is said of accuracy."""
    content = metadata.canonical()
    for level in content["levels"]:
        level.pop("accuracy", None)
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def open_folder(folder: Path, metadata: DatasetFile) -> Dataset:
    """A dataset whose files all lie in its folder.

    Files that have not changed are read once per process: each call gives an object of its own that shares what was read.

    Raises:
        DatasetError: a file is missing, changed, unreadable, or contradicts the metadata.
    """
    checks.refuse(folder, checks.check_files(folder, metadata))
    if metadata.host.file is None:
        raise DatasetError(f"dataset {folder}: dataset.yaml names no host file", code="bad-metadata")
    return copy.copy(_opened(folder, metadata.model_dump_json()))


@lru_cache(maxsize=8)
def _opened(folder: Path, content: str) -> Dataset:
    metadata = DatasetFile.model_validate_json(content)
    host_file = str(metadata.host.file)
    host = read_host(folder / host_file)
    checks.refuse(folder, checks.check_host(host_file, host, metadata))
    return Dataset(folder, metadata, content_hash(metadata), host, read_starts(folder, metadata, host), relaxation_files(folder, metadata))


def read_starts(folder: Path, metadata: DatasetFile, host: Atoms) -> dict[StateKey, dict[str, Atoms]]:
    """All start structures of a dataset folder, checked.

    Raises:
        DatasetError: a file is unreadable or contradicts the metadata.
    """
    out: dict[StateKey, dict[str, Atoms]] = {}
    for defect in metadata.defects:
        file = f"starts/{defect.name}.extxyz"
        if file not in metadata.files:
            continue
        starts = read_extxyz(folder / file)
        checks.refuse(folder, checks.check_starts(file, starts, host, defect))
        for atoms in starts:
            clean = Atoms(atoms.get_chemical_symbols(), positions=atoms.positions, cell=host.cell, pbc=True)
            out.setdefault((defect.name, atoms.info["charge"]), {})[atoms.info["configuration"]] = clean
    return out


def relaxation_files(folder: Path, metadata: DatasetFile) -> dict[RelaxationKey, Path | tuple[Atoms, ...]]:
    """The frame files that the metadata list, by level, state and configuration."""
    out: dict[RelaxationKey, Path | tuple[Atoms, ...]] = {}
    for name in metadata.files:
        parts = name.split("/")
        if parts[0] == "frames" and len(parts) == 3 and (key := parse_frame_file_name(parts[2])) is not None:
            out[(parts[1], *key)] = folder / name
    return out
