"""Downloads: every file by SHA-256, into one cache folder, with a mirror for those without a network.

Environment variables:
    DEFECTBENCH_CACHE: the cache folder (default: the user's cache folder, as ``pooch.os_cache`` gives it).
    DEFECTBENCH_MIRROR: a folder (a path or ``file://``) or URL prefix that replaces the source of dataset files.
    DEFECTBENCH_WEIGHTS_MIRROR: the same for model weights.
    DEFECTBENCH_ENTRIES_MIRROR: a built site, as a folder or URL, in which published entries are looked up by name.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from defectbench.base.errors import DownloadError
from defectbench.base.files import contained, copy_file, read_bytes, sha256_of
from defectbench.base.paths import full_path, user_path
from defectbench.base.text import one_line

TIMEOUT = 30.0
"""Seconds without an answer after which a small file is given up."""
RETRIES = 2
"""How often a failed download is tried again, with pauses of one and two seconds."""
MIRROR_VARIABLES = {"dataset": "DEFECTBENCH_MIRROR", "weights": "DEFECTBENCH_WEIGHTS_MIRROR", "entry": "DEFECTBENCH_ENTRIES_MIRROR"}
BRANCHES = {"dataset": "datasets", "weights": "weights", "entry": "published"}
"""Folders of the cache."""


@dataclass(frozen=True)
class RemoteFile:
    """A file that is downloaded at run time.

    Attributes:
        url: where it comes from.
        sha256: hex digest of its content.
        path: relative POSIX path: below the mirror, and below a folder of :data:`BRANCHES` in the cache.
        kind: which mirror variable and cache branch it belongs to.
    """

    url: str
    sha256: str
    path: str
    kind: Literal["dataset", "weights", "entry"]

    @property
    def cached(self) -> Path:
        """Where it lies, or will lie, in the cache.

        Raises:
            DefectbenchError: ``path`` leads out of the cache.
        """
        return contained(cache_folder() / BRANCHES[self.kind], self.path)


def cache_folder() -> Path:
    """The cache folder; not created here.

    Raises:
        DefectbenchError: DEFECTBENCH_CACHE begins with a ``~name`` that has no home folder.
    """
    given = os.environ.get("DEFECTBENCH_CACHE")
    if given:
        return full_path(given)
    import pooch

    return Path(pooch.os_cache("defectbench"))


def mirror(variable: str) -> Path | str | None:
    """The mirror that an environment variable names: a folder, an address without the ``/`` at its end, or None if it is not set.

    Raises:
        DownloadError: it is neither a folder's path nor an address that files can be fetched from.
        DefectbenchError: no home folder is known for a leading ``~name``.
    """
    given = os.environ.get(variable)
    return place_of(given, variable) if given else None


def place_of(given: str, variable: str) -> Path | str:
    """A folder, or an address without the ``/`` at its end.

    Args:
        given: a path, ``file://`` or address.
        variable: that it comes from, for messages.

    Raises:
        DownloadError: it is neither a folder's path nor an address that files can be fetched from.
        DefectbenchError: no home folder is known for a leading ``~name``.
    """
    if "://" not in given:
        return user_path(given)
    try:
        parts = urlsplit(given)
        host, _port = parts.hostname, parts.port  # both can be wrong
    except ValueError as error:
        raise DownloadError(
            f"{variable} is '{given}', which is not a valid address ({error}); give a folder or https://…", code="bad-mirror"
        ) from error
    if parts.scheme.lower() == "file" and host in (None, "localhost") and parts.path:
        return Path(unquote(parts.path))
    if parts.scheme.lower() not in ("http", "https", "ftp") or not host:
        raise DownloadError(f"{variable} is '{given}', from which nothing can be fetched; give a folder or https://…", code="bad-mirror")
    return given.rstrip("/")


def read_small(place: Path | str, name: str, limit: int) -> bytes:
    """The content of a file whose hash is not known beforehand, e.g. an index; it is not kept.

    Args:
        place: as :func:`place_of` gives it.
        name: relative to it.
        limit: bytes.

    Raises:
        DownloadError: it cannot be fetched, or is larger.
    """
    try:
        if isinstance(place, Path):
            return read_bytes(contained(place, name), limit)
        from urllib.request import urlopen

        with urlopen(f"{place}/{name}", timeout=TIMEOUT) as answer:
            content: bytes = answer.read(limit + 1)
        if len(content) > limit:
            raise ValueError(f"it is larger than {limit:,} bytes")
        return content
    except (OSError, ValueError) as error:
        raise DownloadError(f"cannot fetch {place}/{name} ({one_line(error, 120)}); give a folder or address that has it") from error


def fetch(remote: RemoteFile, place: Path | str | None = None) -> Path:
    """The file's path in the cache, downloaded if it is not there yet.

    Args:
        remote: the file.
        place: takes the place of the mirror that the environment names.

    Raises:
        DownloadError: a mirror that is none, no network, no such file, or content whose hash is wrong (such content is not kept).
    """
    target = remote.cached
    if target.is_file() and sha256_of(target) == remote.sha256:
        return target
    variable = MIRROR_VARIABLES[remote.kind]
    place = mirror(variable) if place is None else place
    by_hand = f"or put the file at {target} yourself"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadError(
            f"cannot create the cache folder {target.parent}: {error.strerror}; set DEFECTBENCH_CACHE", code="not-writable"
        ) from error
    if isinstance(place, Path):
        source = place / remote.path
        if not source.is_file():
            raise DownloadError(f"{variable} has no file {source}; it should be a copy of {remote.url}", code="not-in-mirror")
        if (found := sha256_of(source)) != remote.sha256:
            raise DownloadError(
                f"{source} has SHA-256 {found[:12]}…, expected {remote.sha256[:12]}…; get it again from {remote.url}", code="hash-mismatch"
            )
        try:
            copy_file(source, target)
        except OSError as error:
            raise DownloadError(
                f"cannot write {target}: {error.strerror}; free space there or set DEFECTBENCH_CACHE", code="not-writable"
            ) from error
        return target
    url = f"{place}/{remote.path}" if place else remote.url
    import pooch

    try:
        pooch.create(
            path=target.parent,
            base_url="",
            registry={target.name: f"sha256:{remote.sha256}"},
            urls={target.name: url},
            retry_if_failed=RETRIES,
        ).fetch(target.name)
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) and "does not match the known hash" in str(error):  # what pooch says
            target.unlink(missing_ok=True)
            raise DownloadError(
                f"{url} does not have the expected SHA-256 {remote.sha256[:12]}…; it was not kept ({by_hand})", code="hash-mismatch"
            ) from error
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise DownloadError(f"cannot download {url} ({reason}); connect to the network, {by_hand}, or set {variable}") from error
    return target
