"""What lies in the cache folder, by kind, and its removal."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from defectbench.base.downloads import cache_folder
from defectbench.base.errors import DefectbenchError, UnknownNameError

KINDS = {
    "environments": "Python environments of the models; built again at the next run",
    "weights": "downloaded weights of models; downloaded again at the next run",
    "datasets": "downloaded files of datasets; downloaded again at the next run",
    "worker": "copies of the code that runs in the environments; made again at the next run",
}
"""Folder in the cache → what is in it."""


@dataclass(frozen=True)
class CacheKind:
    """One kind of what is cached.

    Attributes:
        name: of :data:`KINDS`.
        folder: where it lies or would lie.
        size: in bytes; what hard links share counts once.
        files: how many.
    """

    name: str
    folder: Path
    size: int
    files: int


def cache_contents() -> list[CacheKind]:
    """What lies in the cache, kind by kind."""
    return [CacheKind(name, cache_folder() / name, *_size(cache_folder() / name)) for name in KINDS]


def clear_cache(kind: str) -> CacheKind:
    """Removes everything of one kind; returns what that was.

    Raises:
        UnknownNameError: no such kind.
        DefectbenchError: something cannot be removed.
    """
    if kind not in KINDS:
        raise UnknownNameError("kind of cache", kind, KINDS)
    found = next(content for content in cache_contents() if content.name == kind)
    try:
        if found.folder.is_dir():
            shutil.rmtree(found.folder)
    except OSError as error:
        raise DefectbenchError(f"cannot remove {found.folder}: {error.strerror}; remove it yourself", code="not-writable") from error
    return found


def _size(folder: Path) -> tuple[int, int]:
    seen: dict[tuple[int, int], int] = {}
    files = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                found = os.lstat(os.path.join(place, name))  # noqa: PTH118  (tens of thousands of files)
            except OSError:  # removed meanwhile
                continue
            files += 1
            seen[found.st_dev, found.st_ino] = found.st_size
    return sum(seen.values()), files
