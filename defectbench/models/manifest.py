"""What is installed in a managed environment, quick to read before each use."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from defectbench.base.files import sha256_of

INTERPRETER = ("pyvenv.cfg", "bin/python", "Scripts/python.exe")
"""Names in a manifest that are not of ``site-packages``; manifests of earlier versions have none of them."""
_CODE = (".py", ".pth", ".so", ".pyd", ".dll", ".dylib")


def read_manifest(folder: Path) -> dict[str, str]:
    """Digest of each distribution and each package in a virtual environment.

    Of a distribution it is that of its ``RECORD``, of a package that of the names, sizes and times of all code in it. So it finds what was
    installed, removed or edited, within tenths of a second; it does not protect against somebody who also edits the manifest.
    Of the interpreter it is where it lies in truth and its size, and the digest of ``pyvenv.cfg``.

    Args:
        folder: of the virtual environment.

    Returns:
        Name in ``site-packages``, or of :data:`INTERPRETER` → what identifies it; empty if there is nothing of them.

    Raises:
        OSError: something there cannot be read.
    """
    manifest = {}
    for name in INTERPRETER:
        if (path := folder / name).is_file():
            real = path.resolve()
            manifest[name] = sha256_of(path) if name == "pyvenv.cfg" else f"{real} {real.stat().st_size}"
    for packages in (*folder.glob("lib/python*/site-packages"), *folder.glob("Lib/site-packages")):
        with os.scandir(packages) as entries:
            for entry in entries:
                record = os.path.join(entry.path, "RECORD")  # noqa: PTH118  (thousands of paths: pathlib takes seconds)
                if os.path.isfile(record):  # noqa: PTH113
                    manifest[entry.name] = sha256_of(Path(record))
                elif lines := sorted(_code(entry, entry.name)):
                    manifest[entry.name] = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return manifest


def _code(entry: os.DirEntry[str], name: str) -> Iterator[str]:
    if entry.name.endswith(_CODE) or ".so." in entry.name:
        found = entry.stat()
        yield f"{name} {found.st_size} {int(found.st_mtime)}"
    elif entry.is_dir() and entry.name != "__pycache__":
        with os.scandir(entry.path) as entries:
            for inner in entries:
                yield from _code(inner, f"{name}/{inner.name}")
