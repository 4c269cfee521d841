"""Files: written whole or not at all, read up to a limit, hashed, and inside the folder that they belong to."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import stat
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import IO

from defectbench.base.errors import DefectbenchError, RunError

_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
MAX_PATH = 4096
MAX_PART = 255
"""Bytes in a path, and in one name of it: what common file systems take."""


def _refuse_nameless(path: Path) -> None:
    """``.`` and ``/`` have no name beside which another could stand."""
    if not path.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of ``path`` when the block ends. If the block raises, ``path`` stays as it was.

    The bytes first go to a new file of a random name beside ``path``. It is opened only if nothing has that name, so no link is followed.
    If ``path`` is a link, the link is replaced and what it points to is left alone. Permissions follow the user's umask.

    Raises:
        OSError: the file cannot be written.
    """
    _refuse_nameless(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with os.fdopen(os.open(partial, _NEW, 0o666), "wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def folder_beside(path: Path, ending: str = "part") -> Path:
    """An empty new folder beside ``path``, to be filled and renamed to it. Nobody else has its name; permissions follow the user's umask.

    Raises:
        OSError: it cannot be made.
    """
    _refuse_nameless(path)
    made = path.with_name(f".{path.name}.{secrets.token_hex(8)}.{ending}")
    made.mkdir()
    return made


@contextmanager
def making_folder(path: Path) -> Iterator[Path]:
    """A new folder that is renamed to ``path`` when the block ends. It is removed if the block raises, or another process was faster.

    Raises:
        OSError: it cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = folder_beside(path)
    try:
        yield partial
        try:
            partial.rename(path)
        except OSError:
            if not path.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file in one step: a reader sees the old content or the new one, never half of it. Missing folders are made.

    Raises:
        RunError: it cannot be written (full disk, no permission).
    """
    try:
        with replacing(path) as handle:
            handle.write(content)
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror or error}; free space or give permission, then run it again", code="not-writable"
        ) from error


def write_text(path: Path, text: str) -> None:
    """As :func:`write_bytes`, for text, in UTF-8.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_text(Path(folder) / "new" / "a.txt", "one line")
    ...     (Path(folder) / "new" / "a.txt").read_text()
    'one line'

    Raises:
        RunError: it cannot be written.
    """
    write_bytes(path, text.encode("utf-8"))


def open_file(path: Path) -> BufferedReader:
    """Opens a file for reading; refuses what is not a regular file: nobody may ever write into a pipe, and some devices never end.

    Raises:
        OSError: it cannot be read, or is a folder, a pipe, a socket or a device.
    """
    descriptor = os.open(path, _READ)  # of a pipe without a writer at once, too
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise OSError(errno.EINVAL, "it is not a regular file but a pipe, a socket or a device", str(path))
    return os.fdopen(descriptor, "rb")


def copy_file(source: Path, target: Path) -> None:
    """Copies a file's content in one step.

    Raises:
        OSError: one cannot be read or the other not be written.
    """
    with open_file(source) as content, replacing(target) as handle:
        shutil.copyfileobj(content, handle)


def files_below(folder: Path, name: str) -> list[Path]:
    """Files of one name in a folder and at most four folders below it, sorted: a folder given by mistake, ``/`` say, is not searched whole.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as text:
    ...     write_text(Path(text) / "dataset.yaml", "id: x")
    ...     [path.name for path in files_below(Path(text), "dataset.yaml")]
    ['dataset.yaml']
    """
    return sorted(path for depth in range(5) for path in folder.glob("*/" * depth + name))


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's content.

    Raises:
        OSError: it cannot be read, or is not a regular file.
    """
    with open_file(path) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def relative_name(name: str) -> str:
    """The name as it is, if it is a plain relative path: parts joined by single ``/``, none of them ``..``, all printable.

    >>> relative_name("frames/PBE/a.extxyz")
    'frames/PBE/a.extxyz'
    >>> relative_name("../a")
    Traceback (most recent call last):
        ...
    ValueError: '../a' is not a plain path inside its folder

    Raises:
        ValueError: it is not.
    """
    path = PurePosixPath(name)
    plain = not path.is_absolute() and ".." not in path.parts and "\\" not in name and ":" not in name and name == path.as_posix()
    if not plain or name == "." or not name.isprintable():
        raise ValueError(f"{name[:80]!r} is not a plain path inside its folder")
    if too_long(name):
        raise ValueError(f"'{name[:40]}…' is too long for a path")
    return name


def contained(root: Path, name: str) -> Path:
    """``root / name``, which lies inside ``root`` even after all links are followed. It need not exist.

    Args:
        root: a folder that the user named, or one of this program.
        name: a relative path with ``/``, from a file that somebody else may have written.

    Raises:
        DefectbenchError: it is not a plain relative path, or a link on the way leads out of ``root``.
    """
    try:
        path = root / relative_name(name)
        inside = path.resolve().is_relative_to(root.resolve())
    except ValueError as error:
        raise DefectbenchError(f"{root}: {error}", code="bad-path") from error
    except (OSError, RuntimeError) as error:
        raise DefectbenchError(f"cannot find out where {root / name} leads: {error}", code="bad-path") from error
    if not inside:
        raise DefectbenchError(f"{path} leads out of {root} through a link; put the file itself there", code="link-outside")
    return path


def too_long(path: str) -> bool:
    """Whether no file can have such a path."""
    return len(os.fsencode(path)) > MAX_PATH or any(len(os.fsencode(part)) > MAX_PART for part in PurePosixPath(path).parts)


def read_bytes(path: Path, limit: int) -> bytes:
    """A file's content, of at most ``limit`` bytes.

    Raises:
        OSError: it cannot be read, or is not a regular file.
        ValueError: it is larger.
    """
    with open_file(path) as handle:
        content = handle.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"it is larger than {limit:,} bytes")
    return content


def read_gzip(path: Path, limit: int) -> bytes:
    """The unpacked content of a gzip file, of at most ``limit`` bytes; never more than that is held in memory.

    Raises:
        OSError: it cannot be read, or is not a regular file or not gzip.
        ValueError: it is larger, truncated or damaged.
    """
    import gzip

    try:
        with open_file(path) as packed, gzip.open(packed, "rb") as handle:
            content = handle.read(limit + 1)
    except (EOFError, zlib.error) as error:
        raise ValueError(str(error)) from error
    if len(content) > limit:
        raise ValueError(f"it holds more than {limit:,} bytes")
    return content


def read_maybe_gzip(path: Path, limit: int) -> bytes:
    """As :func:`read_bytes`, unpacked if the file is gzip, whatever its name.

    Raises:
        OSError: it cannot be read, or is not a regular file.
        ValueError: it is larger, truncated or damaged.
    """
    with open_file(path) as handle:
        packed = handle.read(2) == b"\x1f\x8b"
    return (read_gzip if packed else read_bytes)(path, limit)


@contextmanager
def plain_file(path: Path, limit: int) -> Iterator[Path]:
    """A file for a reader that takes a path: the file itself or, if it is gzip, what it holds, in a temporary file.

    Raises:
        OSError: it cannot be read, or is not a regular file.
        ValueError: it, or what it holds, is larger than ``limit`` bytes, truncated or damaged.
    """
    with open_file(path) as handle:
        packed, size = handle.read(2) == b"\x1f\x8b", os.fstat(handle.fileno()).st_size
    if not packed:
        if size > limit:
            raise ValueError(f"it is larger than {limit:,} bytes")
        yield path
        return
    with tempfile.TemporaryDirectory() as place:
        plain = Path(place) / path.name.removesuffix(".gz")
        plain.write_bytes(read_gzip(path, limit))
        yield plain
