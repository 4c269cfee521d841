"""Writing dataset folders: a whole one, or one more relaxation into one that exists."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path, PurePath

from ase import Atoms

from defectbench.base.errors import DatasetError
from defectbench.base.files import contained, folder_beside, sha256_of, write_text
from defectbench.base.paths import full_path
from defectbench.base.states import configuration_problem, format_charge, sort_key
from defectbench.datasets import checks
from defectbench.datasets.dataset import RelaxationKey, StateKey
from defectbench.datasets.extxyz import copy_with_results, frame_file_name, read_extxyz, read_host, write_extxyz
from defectbench.datasets.schema import METADATA_FILE, DatasetFile, metadata_to_yaml, parse_metadata

_FRAME_KEYS = (
    "defect",
    "charge",
    "spin_multiplicity",
    "configuration",
    "step",
    "level_of_theory",
    "converged",
    "s_squared",
    "scf_attempt",
)
"""What a stored frame says of itself; the last two (⟨S²⟩ of the determinant, retries of the self-consistency) where they are known."""


def write_dataset(
    destination: Path,
    metadata: DatasetFile,
    host: Atoms,
    starts: Mapping[StateKey, Mapping[str, Atoms]],
    relaxations: Mapping[RelaxationKey, Sequence[Atoms]],
    *,
    overwrite: bool = False,
    check: Callable[[Path], None] | None = None,
) -> DatasetFile:
    """Writes a dataset folder; the whole of it or nothing.

    It is made in a hidden folder beside the destination and renamed; a dataset that it replaces is renamed aside first and deleted
    last, so that one of the two is whole whenever this is interrupted.

    Args:
        destination: folder to make; its parent must exist. Not the working directory, nor a folder above it.
        metadata: its ``files`` are ignored and listed again.
        host: perfect supercell.
        starts: by state and configuration.
        relaxations: frames by level, state and configuration; labels are set here, ``step`` and ``converged`` must be in ``info``.
        overwrite: replace a dataset that exists; what it holds besides host, starts and frames is kept. A folder that is not a dataset, or
            has such files without listing them, is refused.
        check: called with the finished folder before it takes its place; what it raises leaves everything as it was.

    Returns:
        The metadata with the files' hashes.

    Raises:
        DatasetError: the folder exists, may not be replaced, cannot be written, or the content contradicts itself.
    """
    for configuration in sorted({name for named in starts.values() for name in named} | {key[3] for key in relaxations}):
        if (problem := configuration_problem(configuration)) is not None:
            raise DatasetError(f"the configuration '{configuration}' {problem}; rename it", code="bad-name")
    destination = destination_folder(destination, overwrite=overwrite)
    if not destination.parent.is_dir():
        raise DatasetError(f"there is no folder {destination.parent} to write {destination.name} into", code="no-file")
    try:
        building = folder_beside(destination)
    except OSError as error:
        raise DatasetError(f"cannot write into {destination.parent}: {error.strerror}", code="not-writable") from error
    try:
        host_file = metadata.host.file or "host.extxyz"
        write_extxyz(building / host_file, [Atoms(host.get_chemical_symbols(), positions=host.positions, cell=host.cell, pbc=True)])
        for defect in metadata.defects:
            frames = []
            for charge in defect.charges:
                for name, atoms in sorted(starts.get((defect.name, charge), {}).items(), key=lambda item: sort_key(item[0])):
                    frames.append(_labelled(atoms, {"defect": defect.name, "charge": charge, "configuration": name}))
            if frames:
                write_extxyz(building / "starts" / f"{defect.name}.extxyz", frames)
        for (level, name, charge, configuration), steps in relaxations.items():
            path = building / "frames" / level / frame_file_name(name, charge, configuration)
            write_extxyz(path, [_relaxation_frame(atoms, level, name, charge, configuration) for atoms in steps])
        written = {path.relative_to(building).as_posix(): path for path in building.rglob("*.extxyz")}
        files = {name: sha256_of(path) for name, path in sorted(written.items())}
        with _lock(destination):
            destination_folder(destination, overwrite=overwrite)  # another process may have made it meanwhile
            if destination.exists():
                files |= _keep_other_files(destination, building)
            complete = DatasetFile.model_validate({**metadata.canonical(), "files": dict(sorted(files.items()))})
            write_text(building / METADATA_FILE, metadata_to_yaml(complete))
            if check is not None:
                check(building)
            _put_in_place(building, destination)
    except OSError as error:
        raise DatasetError(f"cannot write {destination}: {error.strerror or error}", code="not-writable") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return complete


def destination_folder(destination: Path, *, overwrite: bool) -> Path:
    """The full path of a folder that a dataset may be written to.

    Raises:
        DefectbenchError: it cannot be found out where it is.
        DatasetError: it is or contains the working directory; it exists and ``overwrite`` is not given, or replacing it would lose
            what is not part of a dataset.
    """
    folder, here = full_path(destination), full_path(".")
    if here.is_relative_to(folder):
        what = "is the working directory" if here == folder else "contains the working directory"
        raise DatasetError(f"{folder} {what}; name another folder for the dataset, such as {here / 'my-dataset'}", code="would-lose-data")
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return folder
    if not overwrite:
        raise DatasetError(f"{folder} exists already; choose another destination or remove it", code="dataset-exists")
    if not (folder / METADATA_FILE).is_file():
        raise DatasetError(
            f"{folder} has no {METADATA_FILE}, so it is not a dataset and is not replaced; choose another destination",
            code="would-lose-data",
        )
    strays = [name for name in _unlisted(folder) if not name.rsplit("/", 1)[-1].startswith(".")]
    if strays:
        more = f" and {len(strays) - 1} more" if len(strays) > 1 else ""
        raise DatasetError(
            f"{folder} holds {strays[0]}{more}, which its {METADATA_FILE} does not list, and would be lost; move or remove it first",
            code="would-lose-data",
        )
    return folder


def _put_in_place(building: Path, destination: Path) -> None:
    """Renames the new folder into place; an old one there is renamed aside before and deleted after."""
    if not destination.exists():
        building.rename(destination)
        return
    aside = folder_beside(destination, "old")
    try:
        destination.rename(aside)
        building.rename(destination)
    except BaseException:  # interrupted, too
        if not destination.exists():
            aside.rename(destination)
        else:
            with suppress(OSError):
                aside.rmdir()
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _lock(folder: Path) -> AbstractContextManager[object]:
    """Held while a dataset folder is changed; the lock file lies outside the folder."""
    from filelock import FileLock

    name = f"defectbench-dataset-{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}.lock"
    return FileLock(Path(tempfile.gettempdir()) / name)


def _listed(folder: Path) -> Mapping[str, str]:
    try:
        return parse_metadata(folder / METADATA_FILE).files
    except DatasetError:  # a dataset.yaml that lists nothing that could be read
        return {}


def _is_written_again(name: PurePath) -> bool:
    return name.parts[0] in ("starts", "frames", METADATA_FILE) or (name.suffix == ".extxyz" and len(name.parts) == 1)


def _unlisted(folder: Path) -> list[str]:
    """Files that a dataset written in this place would not keep, though the dataset that is there does not list them."""
    listed = {METADATA_FILE, *_listed(folder)}
    names = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir()]
    return [name.as_posix() for name in names if _is_written_again(name) and name.as_posix() not in listed]


def _keep_other_files(old: Path, new: Path) -> dict[str, str]:
    """Copies what a dataset folder holds besides host, starts and frames; returns name → SHA-256 of those that its metadata list."""
    listed = _listed(old)
    kept = {}
    for path in sorted(old.rglob("*")):
        name = path.relative_to(old)
        if _is_written_again(name) or (new / name).exists():
            continue
        if path.is_dir() and not path.is_symlink():
            (new / name).mkdir(parents=True)
            continue
        shutil.copy2(path, new / name, follow_symlinks=False)
        if name.as_posix() in listed and path.is_file():
            kept[name.as_posix()] = sha256_of(path)
    return kept


def add_relaxation(folder: Path, frames: Sequence[Atoms], *, overwrite: bool = False) -> Path:
    """Adds one relaxation to a dataset folder, or replaces an earlier state of it, and updates the hashes.

    The frames are checked first; nothing is written if they contradict the dataset. Frame file and ``dataset.yaml`` are each
    replaced in one step, under a lock; after a crash between the two, adding the same relaxation again repairs the folder.

    Args:
        folder: the dataset folder.
        frames: one per relaxation step, with energy and forces, and ``info`` as in the format (defect, charge, configuration,
            step, level_of_theory, converged; spin_multiplicity where it is known).
        overwrite: also replace a converged relaxation, or a longer one.

    Returns:
        The file that holds them.

    Raises:
        DatasetError: the frames contradict the dataset or each other, would replace better ones, or cannot be written.
    """
    if not frames:
        raise DatasetError("there are no frames to add", code="import-nothing")
    info = frames[0].info
    missing = [key for key in ("defect", "charge", "configuration", "level_of_theory") if key not in info]
    if missing:
        raise DatasetError(f"the frames to add have no info {', '.join(missing)} (frame 0)", code="import-label")
    folder = folder.resolve()
    with _lock(folder):
        metadata = parse_metadata(folder / METADATA_FILE)
        if metadata.host.file is None:
            raise DatasetError(f"dataset {folder} is remote; relaxations cannot be added to it", code="remote-dataset")
        defect, level = metadata.defect(str(info["defect"])), metadata.level(str(info["level_of_theory"]))
        charge, configuration = int(info["charge"]), str(info["configuration"])
        if charge not in defect.charges:
            raise DatasetError(f"{defect.name} has no charge state {format_charge(charge)} in dataset {folder}", code="unknown-charge")
        file = f"frames/{level.name}/{frame_file_name(defect.name, charge, configuration)}"
        clean = [_relaxation_frame(atoms, None, None, None, None) for atoms in frames]
        host = read_host(folder / metadata.host.file)
        start = _start_of(folder, metadata, defect.name, charge, configuration)
        checks.refuse(folder, checks.check_frames(file, clean, host, defect, charge, configuration, level.name, level.convergence, start))
        if not overwrite and file in metadata.files and (folder / file).is_file():
            old = read_extxyz(folder / file)
            done = bool(old[-1].info.get("converged"))
            if done and not clean[-1].info["converged"]:
                raise DatasetError(f"{file} is converged and the new frames are not; give overwrite to replace it", code="would-lose-data")
            if not done and not clean[-1].info["converged"] and len(old) > len(clean):
                raise DatasetError(
                    f"{file} has {len(old)} frames and the new relaxation only {len(clean)}; give overwrite to replace it",
                    code="would-lose-data",
                )
        write_extxyz(contained(folder, file), clean)
        files = dict(sorted({**metadata.files, file: sha256_of(folder / file)}.items()))
        write_text(folder / METADATA_FILE, metadata_to_yaml(metadata.model_copy(update={"files": files})))
    return folder / file


def update_metadata(folder: Path, change: Callable[[DatasetFile], DatasetFile], new_files: Sequence[str] = ()) -> bool:
    """Changes ``dataset.yaml`` (for new band edges, corrections, …) in one step, under the folder's lock.

    Args:
        folder: the dataset folder.
        change: takes the metadata as they are now and returns them as they should be; ``files`` of what it returns are ignored.
        new_files: relative paths of files that have been written or changed besides: their hashes are taken.

    Returns:
        Whether anything is different now.

    Raises:
        DatasetError: it cannot be read or written.
    """
    folder = folder.resolve()
    with _lock(folder):
        old = parse_metadata(folder / METADATA_FILE)
        try:
            fresh = {name: sha256_of(folder / name) for name in new_files}
        except OSError as error:
            raise DatasetError(f"cannot read {error.filename}: {error.strerror}", code="unreadable-file") from error
        files = dict(sorted({**old.files, **fresh}.items()))
        checked = DatasetFile.model_validate({**change(old).canonical(), "files": files})
        if checked == old:
            return False
        write_text(folder / METADATA_FILE, metadata_to_yaml(checked))
    return True


def _start_of(folder: Path, metadata: DatasetFile, defect: str, charge: int, configuration: str) -> Atoms | None:
    file = f"starts/{defect}.extxyz"
    if file not in metadata.files:
        return None
    for atoms in read_extxyz(folder / file):
        if next(checks.check_labels(file, 0, atoms, {"charge": charge, "configuration": configuration}), None) is None:
            return atoms
    return None


def _labelled(atoms: Atoms, info: Mapping[str, object]) -> Atoms:
    out = Atoms(atoms.get_chemical_symbols(), positions=atoms.positions, cell=atoms.cell, pbc=True)
    out.info = dict(info)
    return out


def _relaxation_frame(atoms: Atoms, level: str | None, defect: str | None, charge: int | None, configuration: str | None) -> Atoms:
    """A frame with the format's labels only, in their order; None takes what the frame says."""
    given = {"level_of_theory": level, "defect": defect, "charge": charge, "configuration": configuration}
    merged = {**atoms.info, **{key: value for key, value in given.items() if value is not None}}
    out = copy_with_results(atoms)
    out.info = {key: _plain(merged[key]) for key in _FRAME_KEYS if key in merged}
    out.pbc = True
    return out


def _plain(value: object) -> object:
    item = getattr(value, "item", None)
    return item() if callable(item) else value
