"""One adapter a model package: each module offers ``load(spec, files) -> LoadedModel``."""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import WorkerError
from ..weights import WeightsFile
from .base import LoadedModel

ADAPTERS: dict[str, str] = {
    "sevennet": "sevennet",
    "chgnet": "chgnet",
    "matgl": "matgl",
    "mace": "mace",
    "grace": "grace",
    "mattersim": "mattersim",
    "ase_calculator": "ase_calculator",
}
"""Adapter name in a model definition → module in this package."""


def load_adapter(spec: dict[str, Any], files: list[WeightsFile]) -> LoadedModel:
    """Loads the model that a specification describes.

    Args:
        spec: the ``spec`` of the hello message.
        files: its weights, already checked by hash.

    Raises:
        WorkerError: unknown adapter, package not installed, or a model that cannot be loaded as described.
    """
    name = spec["adapter"]
    if name not in ADAPTERS:
        raise WorkerError("adapter", f"unknown adapter '{name}'; known: {', '.join(sorted(ADAPTERS))}")
    module = importlib.import_module(f".{ADAPTERS[name]}", __package__)
    loaded: LoadedModel = module.load(spec, files)
    return loaded
