"""Validation of a dataset folder: every problem at once, each with file, frame and field."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ase import Atoms
from pydantic import ValidationError

from defectbench.base.errors import DatasetError
from defectbench.base.text import one_line
from defectbench.datasets import checks, plausibility, quality
from defectbench.datasets.checks import Problem
from defectbench.datasets.extxyz import parse_frame_file_name, read_extxyz, read_host
from defectbench.datasets.schema import METADATA_FILE, DatasetFile, explain, read_yaml
from defectbench.datasets.splits import SPLITS_FILE, check_splits, read_splits


@dataclass(frozen=True)
class ValidationReport:
    """What validation found.

    Attributes:
        path: the dataset folder.
        problems: everything wrong, in the order of the files; the last ones are the doubts.
        doubts: those of them that are numbers which cannot be true together (:mod:`~defectbench.datasets.plausibility`)
            or are not good enough (:mod:`~defectbench.datasets.quality`).
        files: data files checked.
        frames: frames checked.

    Example:
        >>> import defectbench
        >>> report = defectbench.validate_dataset("sb2se3-savory-2019")
        >>> report, report.valid
        (<dataset .../sb2se3-savory-2019: valid (5 files, 0 frames)>, True)
    """

    path: Path
    problems: tuple[Problem, ...]
    files: int
    frames: int
    doubts: tuple[Problem, ...] = ()

    @property
    def valid(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    def summary(self) -> str:
        """One line, or one line per problem and a last one with their number.

        Example:
            >>> import defectbench
            >>> defectbench.validate_dataset("sb2se3-savory-2019").summary()
            '.../sb2se3-savory-2019: valid (5 files, 0 frames)'
        """
        if self.valid:
            return f"{self.path}: valid ({self.files} files, {self.frames} frames)"
        lines = [one_line(problem) for problem in self.problems]
        return "\n".join([*lines, f"{self.path}: {len(lines)} problem{'s' if len(lines) > 1 else ''}"])

    def __repr__(self) -> str:
        return f"<dataset {self.summary().splitlines()[-1]}>"


def validate_folder(folder: Path) -> ValidationReport:
    """Checks a dataset's folder: schema and files against each other; see :func:`~defectbench.datasets.catalogue.validate_dataset`.

    Of a remote dataset the files in its folder are checked, not the fetched ones.

    Raises:
        DatasetError: there is no such folder.
    """
    try:
        content = read_yaml(folder / METADATA_FILE)
    except DatasetError as error:
        return ValidationReport(folder, (Problem(METADATA_FILE, None, "(top level)", str(error)),), 0, 0)
    try:
        metadata = DatasetFile.model_validate(content)
    except ValidationError as error:
        problems = tuple(Problem(METADATA_FILE, None, field, message) for field, message in explain(error))
        return ValidationReport(folder, problems, 0, 0)
    return _validate_files(folder, metadata)


def _validate_files(folder: Path, metadata: DatasetFile) -> ValidationReport:
    doubts = list(plausibility.check_metadata(metadata))
    problems = list(checks.check_files(folder, metadata))
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        data = file.suffix == ".extxyz" or name.startswith(("starts/", "frames/"))
        if file.is_file() and data and not file.name.startswith(".") and name not in metadata.files:
            problems.append(Problem(name, None, "files", f"is in the folder but not listed in {METADATA_FILE}"))
    problems += _validate_splits(folder, metadata)
    if metadata.host.file is None:
        return ValidationReport(folder, (*problems, *doubts), len(metadata.files), 0, tuple(doubts))
    try:
        host = read_host(folder / metadata.host.file)
    except DatasetError as error:
        problems.append(Problem(metadata.host.file, None, "file", str(error)))
        return ValidationReport(folder, (*problems, *doubts), len(metadata.files), 0, tuple(doubts))
    problems += checks.check_host(metadata.host.file, host, metadata)
    if any(problem.file == metadata.host.file or problem.field.endswith(".site") for problem in problems):
        return ValidationReport(folder, (*problems, *doubts), len(metadata.files), 1, tuple(doubts))
    starts = {}
    count = 1
    for name in metadata.files:
        parts = name.split("/")
        path = folder / name
        if not path.is_file() or parts[0] not in ("starts", "frames"):
            continue
        try:
            frames = read_extxyz(path)
        except DatasetError as error:
            problems.append(Problem(name, None, "file", str(error)))
            continue
        if parts[0] == "starts":
            count += len(frames)
            defect = parts[1].removesuffix(".extxyz")
            if defect in {entry.name for entry in metadata.defects}:
                problems += checks.check_starts(name, frames, host, metadata.defect(defect))
                for atoms in frames:
                    if next(checks.check_labels(name, 0, atoms, {"defect": defect}), None) is None:
                        starts[defect, atoms.info["charge"], atoms.info["configuration"]] = atoms
    lasts: dict[str, dict[tuple[str, int, str], Atoms]] = {}
    for name in metadata.files:
        parts = name.split("/")
        key = parse_frame_file_name(parts[-1])
        if parts[0] != "frames" or len(parts) != 3 or key is None or not (folder / name).is_file():
            continue
        defect, charge, configuration = key
        if parts[1] not in {level.name for level in metadata.levels} or defect not in {entry.name for entry in metadata.defects}:
            continue
        try:
            frames = read_extxyz(folder / name)
        except DatasetError:
            continue
        count += len(frames)
        level, entry = metadata.level(parts[1]), metadata.defect(defect)
        start = starts.get((defect, charge, configuration))
        found = list(checks.check_frames(name, frames, host, entry, charge, configuration, level.name, level.convergence, start))
        problems += found
        doubts += [] if found else plausibility.check_results(name, frames, host)
        if not found:
            lasts.setdefault(level.name, {})[key] = frames[-1]
        doubts += quality.check_net_force(name, frames)
    for level_name, last in lasts.items():
        doubts += plausibility.check_level(metadata.level(level_name), last, len(host), f"frames/{level_name}")
    for level in metadata.levels:
        if level.relaxed_host is not None and (folder / level.relaxed_host).is_file():
            try:
                problems += checks.check_relaxed_host(level.relaxed_host, read_host(folder / level.relaxed_host), host)
            except DatasetError as error:
                problems.append(Problem(level.relaxed_host, None, "file", str(error)))
    if not any(doubt.field.startswith("dielectric") for doubt in doubts):
        doubts += quality.check_image_charge(metadata, host)
    doubts += quality.check_uncertainty(folder, metadata)
    return ValidationReport(folder, (*problems, *doubts), len(metadata.files), count, tuple(doubts))


def _validate_splits(folder: Path, metadata: DatasetFile) -> list[Problem]:
    try:
        splits = read_splits(folder)
    except DatasetError as error:
        return [Problem(SPLITS_FILE, None, "(top level)", str(error))]
    if splits is None:
        return []
    unlisted = [] if SPLITS_FILE in metadata.files else [Problem(SPLITS_FILE, None, "files", f"is not listed in {METADATA_FILE}")]
    return [*unlisted, *check_splits(splits, metadata)]
