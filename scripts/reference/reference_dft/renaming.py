"""Renames levels of theory in everything that a dataset folder says of them."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from defectbench.base.errors import DatasetError
from defectbench.base.files import sha256_of, write_text
from defectbench.datasets.catalogue import validate_dataset
from defectbench.datasets.extxyz import read_extxyz, write_extxyz
from defectbench.datasets.schema import METADATA_FILE, DatasetFile, LevelOfTheory, metadata_to_yaml, parse_metadata

from .properties import derive_levels
from .reference_data import ReferenceData, relaxed_at
from .tasks import QUEUE_FILE


def rename_levels(folder: Path, names: Mapping[str, str], reference: str | None = None) -> bool:
    """Renames levels of theory, and makes one the reference level.

    Args:
        folder: the dataset folder.
        names: old name → new name; two levels may exchange theirs. Old names that the dataset does not have are refused unless it has
            all new ones: then it has been renamed before.
        reference: new reference level, by its new name.

    Returns:
        Whether anything was changed.

    Raises:
        DatasetError: unknown level, two levels of one name, or the result is not a valid dataset; the folder stays as it was.
    """
    folder = folder.resolve()
    metadata = parse_metadata(folder / METADATA_FILE)
    known = [level.name for level in metadata.levels]
    wanted = reference or names.get(metadata.reference_level, metadata.reference_level)
    # a chain such as A=B, C=A is done when no level is left whose name is not also a new one
    if set(names) <= set(known):
        new_names = [names.get(name, name) for name in known]
    elif set(names.values()) <= set(known):
        names, new_names = {}, known
    else:
        missing = sorted(set(names) - set(known))
        raise DatasetError(f"{folder} has no level {', '.join(missing)}; it has {', '.join(known)}")
    if len(set(new_names)) < len(new_names):
        raise DatasetError(f"two levels of {folder} would have one name: {', '.join(sorted(new_names))}")
    if wanted not in new_names:
        raise DatasetError(f"{folder} would have no level {wanted}; it would have {', '.join(new_names)}")
    if not names and wanted == metadata.reference_level:
        return False
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        copy = building / folder.name
        shutil.copytree(folder, copy)
        _rename_files(copy, names)
        data = ReferenceData(folder)
        bases = {names.get(level, level): names.get(base, base) for level in known for base in [relaxed_at(data.dataset, level)]}
        _write(copy, _renamed(metadata, names, wanted, bases))
        derive_levels(ReferenceData(copy))
        report = validate_dataset(copy)
        if not report.valid:
            raise DatasetError(f"the renamed dataset would not be valid: {report.problems[0]}")
        aside = building / "before"
        folder.rename(aside)
        copy.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return True


def _rename_files(folder: Path, names: Mapping[str, str]) -> None:
    for part in ("frames", "properties"):
        moved = {new: folder / part / f".{old}.renamed" for old, new in names.items() if (folder / part / old).is_dir()}
        for old, new in names.items():
            if new in moved:
                (folder / part / old).rename(moved[new])
        for new, place in moved.items():
            place.rename(folder / part / new)
            for file in sorted((folder / part / new).iterdir()):
                if part == "frames":
                    frames = read_extxyz(file)
                    for atoms in frames:
                        atoms.info["level_of_theory"] = new
                    write_extxyz(file, frames)
                else:
                    content = json.loads(file.read_text(encoding="utf-8"))
                    write_text(file, json.dumps({**content, "level": new}, indent=1) + "\n")
    queue = folder / QUEUE_FILE
    if queue.is_file():
        text = queue.read_text(encoding="utf-8")
        field = re.compile(r"\b(level|of|continue_from): ([\w.+-]+)")
        write_text(queue, field.sub(lambda found: f"{found[1]}: {names.get(found[2], found[2])}", text))


def _renamed(metadata: DatasetFile, names: Mapping[str, str], reference: str, bases: Mapping[str, str]) -> DatasetFile:
    levels = [_renamed_level(level, names) for level in metadata.levels]
    old_reference = names.get(metadata.reference_level, metadata.reference_level)
    host, defects = metadata.host, metadata.defects
    own = next(level.relaxed_host for level in levels if level.name == reference)
    if own is not None:
        host = host.model_copy(update={"file": own})
        # a vacancy or substitution is where its site is in the new host
        defects = tuple(d if d.kind == "interstitial" else d.model_copy(update={"position": None}) for d in defects)
        hosts = {reference: None, old_reference: metadata.host.file}
        levels = [level.model_copy(update={"relaxed_host": hosts.get(bases[level.name], level.relaxed_host)}) for level in levels]
    update = {"levels": tuple(levels), "reference_level": reference, "host": host, "defects": defects}
    return metadata.model_copy(update=update)


def _renamed_level(level: LevelOfTheory, names: Mapping[str, str]) -> LevelOfTheory:
    settings = level.settings
    if settings.cp2k is not None:
        content: dict[str, Any] = dict(settings.cp2k)
        hybrid = content.get("hybrid")
        if isinstance(hybrid, dict):
            content["hybrid"] = {
                k: names.get(v, v) if k in ("start_from", "added_to") and isinstance(v, str) else v for k, v in hybrid.items()
            }
        settings = settings.model_copy(update={"cp2k": content})
    # the same corrections by an older Ewald sum give way to those of the present one
    method = None if (level.correction_method or "").startswith("eFNV") else level.correction_method
    return level.model_copy(update={"name": names.get(level.name, level.name), "settings": settings, "correction_method": method})


def _write(folder: Path, metadata: DatasetFile) -> None:
    listed = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    unlisted = {METADATA_FILE, QUEUE_FILE}
    files = {name: sha256_of(folder / name) for name in listed if name not in unlisted}
    complete = DatasetFile.model_validate({**metadata.canonical(), "files": files})
    write_text(folder / METADATA_FILE, metadata_to_yaml(complete))
