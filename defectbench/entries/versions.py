"""Earlier versions of a published entry: the ``entry.json`` that each had, kept as ``versions/<date>-<hash>.json`` of the current one.

Calculations, structures and figures of a version are not kept: its numbers are history, not evidence.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from defectbench.base.errors import DefectbenchError
from defectbench.base.files import contained, read_bytes, write_bytes
from defectbench.base.text import one_line
from defectbench.entries.folder import MAX_ENTRY, read_entry
from defectbench.entries.schema import Entry

FOLDER = "versions"
NAME = re.compile(r"\d{4}-\d{2}-\d{2}-([0-9a-f]{12})\.json")
"""Day of the run, and the beginning of the file's SHA-256."""


def created(entry: Entry) -> datetime:
    """When an entry was made, in UTC.

    Raises:
        ValueError: it does not say so in ISO 8601.
    """
    made = datetime.fromisoformat(entry.provenance.created)
    return (made if made.tzinfo is not None else made.replace(tzinfo=UTC)).astimezone(UTC)


def keep_versions(old: Path, new: Path) -> None:
    """Copies what the folder of an entry keeps, and the entry itself, to the folder that takes its place.

    An entry that cannot be read, or that is in both, does not become a version.

    Args:
        old: folder of the entry that is replaced.
        new: folder of the one that replaces it.

    Raises:
        OSError: a file cannot be copied.
    """
    for path in _files(old):
        write_bytes(new / FOLDER / path.name, read_bytes(path, MAX_ENTRY))
    try:
        day = created(read_entry(old)).date()
        content = read_bytes(contained(old, "entry.json"), MAX_ENTRY)
    except (DefectbenchError, ValueError):
        return
    if content != (new / "entry.json").read_bytes():
        write_bytes(new / FOLDER / f"{day}-{_hash(content)}.json", content)


def read_versions(folder: Path) -> tuple[Entry, ...]:
    """The earlier versions that the folder of an entry keeps, oldest first.

    Raises:
        DefectbenchError: one cannot be read.
    """
    return tuple(sorted((read_entry(path) for path in _files(folder)), key=lambda entry: entry.provenance.created))


def version_problems(folder: Path, current: Entry) -> Iterator[str]:
    """What is wrong with the versions that an entry keeps, one line each.

    Args:
        folder: of the entry.
        current: the entry itself.
    """
    for path in _files(folder):
        name = f"{FOLDER}/{one_line(path.name, 60)}"
        try:
            entry, content = read_entry(path), read_bytes(path, MAX_ENTRY)
            if path.name != f"{created(entry).date()}-{_hash(content)}.json":
                yield f"{name}: its content is not the one of its name; restore it from the published leaderboard"
            elif (entry.model.id, entry.dataset.id) != (current.model.id, current.dataset.id):
                yield f"{name}: an entry of {entry.model.id} on {entry.dataset.id}, not of this model and dataset"
            elif created(entry) > created(current):
                yield f"{name}: later than the entry that replaces it"
        except (DefectbenchError, OSError, ValueError) as error:
            yield f"{name}: {one_line(error, 200)}"


def _files(folder: Path) -> list[Path]:
    place = contained(folder, FOLDER)
    return sorted(contained(folder, f"{FOLDER}/{path.name}") for path in place.glob("*.json")) if place.is_dir() else []


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
