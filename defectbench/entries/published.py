"""Published entries by name: looked up in a folder of entries, or downloaded by hash from a built site.

A site holds ``entries.json``, which lists an archive of each entry with its SHA-256: ``entry.json`` and ``calculations.json.gz``.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from defectbench.base.downloads import MIRROR_VARIABLES, RemoteFile, fetch, mirror, place_of, read_small
from defectbench.base.errors import DefectbenchError, UnknownNameError
from defectbench.base.files import contained, files_below, read_bytes, relative_name, write_bytes
from defectbench.base.schema import problems
from defectbench.base.text import one_line
from defectbench.datasets.schema import DatasetId, LevelName, Sha256
from defectbench.entries.folder import MAX_CALCULATIONS, MAX_ENTRY, entry_folder, read_entry
from defectbench.entries.schema import Word
from defectbench.models.schema import ModelId

if TYPE_CHECKING:
    from defectbench.entries.schema import Entry

INDEX_FILE = "entries.json"
MAX_INDEX = 10_000_000
MAX_ARCHIVE = 100_000_000
Item = TypeVar("Item")
MEMBERS = {"entry.json": MAX_ENTRY, "calculations.json.gz": MAX_CALCULATIONS}
"""What an archive holds, and of how many bytes at most."""


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PublishedEntry(_Closed):
    """A line of the index.

    Attributes:
        archive: path of the ZIP file, relative to the index.
        sha256: of the archive.
        bytes: of the archive.
    """

    model: ModelId
    name: Word
    dataset: DatasetId
    dataset_sha256: Sha256
    level_of_theory: LevelName
    suite: Literal["quick", "full", "custom"]
    configurations: Annotated[int, Field(ge=0)]
    created: Word
    archive: Annotated[str, AfterValidator(relative_name)]
    sha256: Sha256
    bytes: Annotated[int, Field(ge=0, le=MAX_ARCHIVE)]


class Index(_Closed):
    """``entries.json`` of a site."""

    format: Literal["defectbench-entries-1"] = "defectbench-entries-1"
    entries: list[PublishedEntry]


def publish(folder: Path, entry: Entry, stem: str) -> tuple[PublishedEntry, bytes] | None:
    """An entry's archive and its line of the index; None if it has no calculations. Equal entries give equal archives.

    Args:
        folder: of the entry.
        entry: its content.
        stem: the archive's name without ending.

    Raises:
        DefectbenchError: a file cannot be read.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, limit in MEMBERS.items():
            try:
                content = read_bytes(contained(folder, name), limit)
            except FileNotFoundError:
                return None
            except (OSError, ValueError) as error:
                raise DefectbenchError(f"cannot read {folder / name}: {error}", code="bad-entry") from error
            member = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, content)
    data = packed.getvalue()
    line = PublishedEntry(
        model=entry.model.id,
        name=entry.model.name,
        dataset=entry.dataset.id,
        dataset_sha256=entry.dataset.sha256,
        level_of_theory=entry.dataset.level_of_theory,
        suite=entry.selection.suite,
        configurations=len(entry.configurations),
        created=entry.provenance.created,
        archive=f"entries/{stem}.zip",
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
    )
    return line, data


def index_text(entries: Sequence[PublishedEntry]) -> str:
    """The content of ``entries.json``."""
    return Index(entries=list(entries)).model_dump_json(indent=1) + "\n"


def find_baseline(given: str, dataset: tuple[str, str], entries: str | None = None) -> Path:
    """The folder of an entry that is given as a path, or as the name of a model with a published entry.

    Args:
        given: a path, or a model's id; ``ID@SHA256`` (eight digits or more) asks for exactly the archive with that hash.
        dataset: id and SHA-256 of the dataset that the entry must be of; of several entries, that with most configurations is taken.
        entries: a folder with entries, a built site, or the address of one. By default DEFECTBENCH_ENTRIES_MIRROR, else the
            ``leaderboards`` of the working directory or of the checkout.

    Raises:
        DefectbenchError: there is none (code ``no-entry``), or it cannot be read.
        DownloadError: it cannot be fetched, or has another hash than the index says.
    """
    path = Path(given).expanduser()
    if path.is_file() or (path / "entry.json").is_file():
        return entry_folder(path)
    if path.exists() or os.sep in given:
        raise DefectbenchError(f"no entry at {given}; give a folder that 'defectbench evaluate' wrote, or a model's name", code="no-entry")
    model, _, sha256 = given.partition("@")
    if sha256 and not re.fullmatch("[0-9a-f]{8,64}", sha256):
        raise DefectbenchError(
            f"'{sha256}' is not the beginning of a SHA-256; give 8 to 64 of its hexadecimal digits, as in {INDEX_FILE}", code="bad-hash"
        )
    variable = MIRROR_VARIABLES["entry"]
    place = place_of(entries, "--entries") if entries is not None else mirror(variable) or _checkout()
    if place is None:
        raise DefectbenchError(
            f"no entry at {given}, and no folder of published entries; give one with --entries FOLDER_OR_URL or {variable}", code="no-entry"
        )
    if isinstance(place, Path) and not (place / INDEX_FILE).is_file():
        return _in_folder(place, model, sha256, dataset)
    return _download(place, model, sha256, dataset)


def _checkout() -> Path | None:
    folders = (Path("leaderboards"), Path(__file__).resolve().parents[2] / "leaderboards")
    return next((folder for folder in folders if folder.is_dir()), None)


def _in_folder(place: Path, model: str, sha256: str, dataset: tuple[str, str]) -> Path:
    if not place.is_dir():
        raise DefectbenchError(f"no folder {place}; give one with published entries", code="no-entry")
    found = [(path.parent, read_entry(path.parent)) for path in files_below(place, "entry.json") if _may_be(path, model)]
    mine = [(f, e) for f, e in found if e.model.id == model and _archive_hash(f, e, sha256).startswith(sha256)]
    best = _best([(e.dataset.id, e.dataset.sha256, len(e.configurations), f) for f, e in mine], dataset)
    if best is None:
        _refuse(place, model, dataset, (path.parent.name for path in files_below(place, "entry.json")))
    return best


def _archive_hash(folder: Path, entry: Entry, wanted: str) -> str:
    """Of the archive that a site would hold; not made where none is asked for."""
    made = publish(folder, entry, "entry") if wanted else None
    return "" if made is None else made[0].sha256


def _may_be(path: Path, model: str) -> bool:
    """Reading all entries of a leaderboard takes seconds: the model's name is looked for first."""
    try:
        return model.encode() in read_bytes(path, MAX_ENTRY)
    except (OSError, ValueError):
        return False


def _best(found: Iterable[tuple[str, str, int, Item]], dataset: tuple[str, str]) -> Item | None:
    """Of (dataset's id, its hash, configurations, item) the item of this dataset, of its very content if there is one, with most."""
    of_dataset = [(sha256 == dataset[1], count, item) for name, sha256, count, item in found if name == dataset[0]]
    return max(of_dataset, key=lambda one: one[:2])[2] if of_dataset else None


def _refuse(place: object, model: str, dataset: tuple[str, str], known: Iterable[str]) -> NoReturn:
    names = sorted(set(known))
    if model not in names:
        raise UnknownNameError("entry", model, names)
    raise DefectbenchError(f"no entry of {model} on {dataset[0]} in {place}", code="no-entry")


def _download(place: Path | str, model: str, sha256: str, dataset: tuple[str, str]) -> Path:
    text = read_small(place, INDEX_FILE, MAX_INDEX)
    try:
        index = Index.model_validate(json.loads(text))
    except ValidationError as error:
        field, wrong = problems(error, Index)[0]
        raise DefectbenchError(f"{place}/{INDEX_FILE}: {field}: {wrong}; is it a site of this version?", code="bad-entry") from error
    except (ValueError, RecursionError) as error:
        raise DefectbenchError(f"{place}/{INDEX_FILE} is not JSON: {one_line(error, 200)}", code="bad-entry") from error
    mine = ((e.dataset, e.dataset_sha256, e.configurations, e) for e in index.entries if e.model == model and e.sha256.startswith(sha256))
    best = _best(mine, dataset)
    if best is None:
        _refuse(place, model, dataset, (e.model for e in index.entries))
    archive = fetch(RemoteFile(f"{place}/{best.archive}", best.sha256, best.archive, "entry"), place)
    return _unpack(archive, archive.with_suffix(""))


def _unpack(archive: Path, folder: Path) -> Path:
    """Only what an entry needs, each file of at most its size; the archive has the hash that the index says."""
    try:
        with zipfile.ZipFile(archive) as packed:
            for name, limit in MEMBERS.items():
                with packed.open(name) as handle:
                    content = handle.read(limit + 1)
                if len(content) > limit:
                    raise ValueError(f"{name} is larger than {limit:,} bytes")
                write_bytes(folder / name, content)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DefectbenchError(f"{archive} is not an archive of an entry: {one_line(error, 200)}", code="bad-entry") from error
    return folder
