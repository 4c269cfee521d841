"""Which datasets there are, and loading one by name or folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from defectbench.base.errors import DatasetError, DownloadError, UnknownNameError
from defectbench.base.paths import user_path

if TYPE_CHECKING:
    from defectbench.base.listing import Listing
    from defectbench.datasets.checks import Problem
    from defectbench.datasets.dataset import Dataset
    from defectbench.datasets.validation import ValidationReport


@dataclass(frozen=True, repr=False)
class DatasetSummary:
    """What a list of datasets shows.

    Attributes:
        id: name to load it by.
        title: one line.
        path: its folder.
        level: reference level of theory.
        defects: names of the defects.
        states: number of charge states.
        relaxations: number of relaxation files in the folder (a remote dataset's minima are not counted).
        remote_files: number of files that are fetched at run time.
        licence: of the data.

    Example:
        >>> import defectbench
        >>> defectbench.list_datasets()[0].licence
        'MIT...'
    """

    id: str
    title: str
    path: Path
    level: str
    defects: tuple[str, ...]
    states: int
    relaxations: int
    remote_files: int
    licence: str

    def __repr__(self) -> str:
        return f"<dataset {self.id}: {self.level}, {len(self.defects)} defects, {self.states} charge states>"


def embedded_folder() -> Path:
    """The folder of the datasets that come with the package: ``data`` beside this file in an installed wheel, the
    top-level ``datasets`` of a checkout.

    Raises:
        DatasetError: neither is there.
    """
    here = Path(__file__).resolve().parent
    for folder in (here / "data", here.parents[1] / "datasets"):
        if folder.is_dir():
            return folder
    raise DatasetError(f"the embedded datasets are missing ({here / 'data'}); install defectbench again")


def embedded_names() -> tuple[str, ...]:
    """Names of the datasets that come with the package."""
    return tuple(sorted(path.parent.name for path in embedded_folder().glob("*/dataset.yaml")))


def list_datasets() -> Listing[DatasetSummary]:
    """The datasets that come with the package, by name. Downloads nothing.

    Returns:
        A list that a prompt or notebook shows as a table; ``to_frame()`` gives it to pandas.

    Raises:
        DatasetError: a ``dataset.yaml`` is wrong.

    Example:
        >>> import defectbench
        >>> "sb2se3-vacancies" in [dataset.id for dataset in defectbench.list_datasets()]
        True
    """
    from defectbench.base.listing import Listing
    from defectbench.datasets.schema import METADATA_FILE, parse_metadata

    out = []
    for name in embedded_names():
        folder = embedded_folder() / name
        metadata = parse_metadata(folder / METADATA_FILE)
        out.append(
            DatasetSummary(
                id=metadata.id,
                title=metadata.title,
                path=folder,
                level=metadata.reference_level,
                defects=tuple(defect.name for defect in metadata.defects),
                states=sum(len(defect.charges) for defect in metadata.defects),
                relaxations=sum(file.startswith("frames/") for file in metadata.files),
                remote_files=len(metadata.remote.files) if metadata.remote else 0,
                licence=metadata.licence,
            )
        )
    return Listing(
        out,
        lambda d: {
            "name": d.id,
            "level": d.level,
            "defects": len(d.defects),
            "charge states": d.states,
            "source": "fetched" if d.remote_files else "included",
            "title": d.title,
        },
    )


def dataset_folder(name_or_path: str | Path) -> Path:
    """The folder of a dataset, by the name of an embedded one or by path.

    A bare word is first looked for among the embedded datasets; anything else is a folder (or its ``dataset.yaml``).

    Raises:
        UnknownNameError: neither.
        DatasetError: a folder without ``dataset.yaml``.
        DefectbenchError: no home folder is known for a leading ``~name``.
    """
    if isinstance(name_or_path, str) and name_or_path in embedded_names():
        return embedded_folder() / name_or_path
    path = user_path(name_or_path)
    if path.name == "dataset.yaml" and path.is_file():
        return path.resolve().parent
    if path.is_dir():
        if not (path / "dataset.yaml").is_file():
            raise DatasetError(f"{path} has no dataset.yaml; make a dataset of it with 'defectbench datasets import'", code="no-dataset")
        return path.resolve()
    if os.sep in str(name_or_path):
        raise DatasetError(f"there is no folder {path}", code="no-dataset")
    raise UnknownNameError("dataset", name_or_path, embedded_names())


def load_named_dataset(name: str) -> Dataset:
    """Loads a dataset that comes with the package, by its name alone: what an entry says never becomes a path.

    Raises:
        UnknownNameError: none of that name comes with the package.
        DatasetError: it cannot be read or contradicts itself.
        DownloadError: a remote file is not in the cache and cannot be fetched.
    """
    if name not in embedded_names():
        raise UnknownNameError("dataset", name, embedded_names())
    return load_dataset(name)


def load_dataset(name_or_path: str | Path) -> Dataset:
    """Loads a dataset; a remote one is fetched into the cache first.

    Args:
        name_or_path: name of an embedded dataset (see :func:`list_datasets`), or a dataset folder.

    Raises:
        UnknownNameError: no such dataset.
        DatasetError: it cannot be read or contradicts itself; one line.
        DefectbenchError: no home folder is known for a leading ``~name``.
        DownloadError: a remote file is not in the cache and cannot be fetched.

    Example:
        >>> import defectbench
        >>> dataset = defectbench.load_dataset("sb2se3-vacancies")
        >>> dataset.charges("V_Sb1"), len(dataset.host)
        ((-3, -2, -1, 0, 1), 60)
    """
    from defectbench.datasets.folder import open_folder
    from defectbench.datasets.schema import METADATA_FILE, parse_metadata

    folder = dataset_folder(name_or_path)
    metadata = parse_metadata(folder / METADATA_FILE)
    if metadata.remote is not None:
        from defectbench.datasets.readers import reader

        return reader(metadata.remote.reader)(folder, metadata)
    return open_folder(folder, metadata)


@dataclass(frozen=True)
class Fetched:
    """What :func:`fetch_dataset` did.

    Attributes:
        id: of the dataset.
        folder: where its files lie in the cache; None for a dataset that has all of its files already.
        files: how many it has there.
        fetched: how many were not there before.
    """

    id: str
    folder: Path | None
    files: int
    fetched: int


def fetch_dataset(name_or_path: str | Path, on_progress: Callable[[int, int], None] | None = None) -> Fetched:
    """Fetches the files of a remote dataset into the cache, each checked by its SHA-256.

    Args:
        name_or_path: as for :func:`load_dataset`.
        on_progress: called with the number of files that are there, and of all.

    Raises:
        DownloadError: a file cannot be fetched.
        DatasetError: there is no such dataset, or its ``dataset.yaml`` is wrong.
    """
    from defectbench.base.downloads import cache_folder
    from defectbench.datasets.remote import fetch_all, missing_files
    from defectbench.datasets.schema import METADATA_FILE, parse_metadata

    metadata = parse_metadata(dataset_folder(name_or_path) / METADATA_FILE)
    if metadata.remote is None:
        return Fetched(metadata.id, None, 0, 0)
    missing = len(missing_files(metadata))
    fetch_all(metadata, on_progress or (lambda _done, _all: None))
    folder = cache_folder() / "datasets" / metadata.remote.mirror_folder
    return Fetched(metadata.id, folder, len(metadata.remote.files), missing)


def validate_dataset(path: str | Path) -> ValidationReport:
    """Checks a dataset against the schema and its files against each other.

    Checked are the schema; the files' hashes, and that no extxyz file and nothing in ``starts`` or ``frames`` is unlisted;
    composition against host and defect; the cell against the host's; charges; parity of electrons and spin multiplicity; finite
    energies and forces, and that forces are there where the level has a force criterion; repeated frames; step 0 against the
    start; step numbers; the ``converged`` flag against the largest force; distances below 0.5 Å; whether the numbers can be true together
    (:mod:`~defectbench.datasets.plausibility`: ΔE against −F·Δx, energies of one defect against each other, order of band edges,
    ranges); how good the labels are (:mod:`~defectbench.datasets.quality`: net forces, image-charge corrections against an Ewald sum, a
    stated uncertainty against stored checks); ``splits.yaml``. Of a remote dataset the files in its folder are checked, and, if they
    are in the cache, whether the fetched ones can be read; nothing is downloaded.

    Args:
        path: a dataset folder, or the name of a dataset that ships.

    Raises:
        UnknownNameError: neither.
        DatasetError: there is no such folder.
        DefectbenchError: no home folder is known for a leading ``~name``.

    Example:
        >>> import defectbench
        >>> report = defectbench.validate_dataset("sb2se3-savory-2019")
        >>> report.valid, report.problems
        (True, ())
    """
    from defectbench.datasets.validation import validate_folder

    folder = user_path(path)
    if not folder.is_dir():
        folder = dataset_folder(path)
    folder = folder.resolve()
    found = validate_folder(folder)
    return found if found.problems else replace(found, problems=tuple(_problems_of_fetched(folder)))


def _problems_of_fetched(folder: Path) -> list[Problem]:
    """Whether the fetched files of a remote dataset make one; nothing if they are not in the cache."""
    from defectbench.datasets.checks import Problem
    from defectbench.datasets.readers import READERS
    from defectbench.datasets.remote import missing_files
    from defectbench.datasets.schema import METADATA_FILE, parse_metadata

    metadata = parse_metadata(folder / METADATA_FILE)
    if metadata.remote is None:
        return []
    if metadata.remote.reader not in READERS:
        return [Problem(METADATA_FILE, None, "remote.reader", f"there is no reader '{metadata.remote.reader}' ({', '.join(READERS)})")]
    if missing_files(metadata):
        return []
    try:
        load_dataset(folder)
    except (DatasetError, DownloadError) as error:
        return [Problem(METADATA_FILE, None, "remote", str(error))]
    return []
