"""Weights are found and hashed before anything unpickles them."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import WorkerError


@dataclass(frozen=True)
class WeightsFile:
    """A checked weights file.

    Attributes:
        name: its name in the model definition.
        path: where it lies.
        sha256: hex digest of its content, computed here.
        charge: the one charge that it is for, of a model with weights for each charge; None for all.
    """

    name: str
    path: Path
    sha256: str
    charge: int | None = None


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _in_package(name: str) -> Path:
    top, _, rest = name.partition("/")
    found = importlib.util.find_spec(top)
    if found is None or not found.submodule_search_locations:
        raise WorkerError("not_installed", f"the package '{top}' is not installed in this environment")
    return Path(next(iter(found.submodule_search_locations))) / rest


def check_weights(entries: list[dict[str, Any]]) -> list[WeightsFile]:
    """Finds and hashes the weights of a specification.

    Args:
        entries: ``{"name", "path" (None for a file inside an installed package), "sha256" (None if unknown), "trusted"}``, and
            ``"charge"`` where the file is for one charge.

    Raises:
        WorkerError: a file is missing, differs from its hash, or has no known hash and is not trusted.
    """
    checked = []
    for entry in entries:
        path = Path(entry["path"]) if entry["path"] else _in_package(entry["name"])
        if not path.is_file():
            raise WorkerError("weights", f"there is no weights file {path}")
        found = sha256_of(path)
        if entry["sha256"] is None:
            if not entry["trusted"]:
                raise WorkerError("weights", f"{path} has no known SHA-256; --trust-weights loads it anyway")
        elif found != entry["sha256"]:
            raise WorkerError("weights", f"{path} has SHA-256 {found[:12]}…, the model definition says {entry['sha256'][:12]}…")
        checked.append(WeightsFile(entry["name"], path, found, entry.get("charge")))
    return checked
