"""One adapter per model package: each module offers ``load(spec, files) -> LoadedModel``.

Packages of others add adapters by entry points of the group ``defectbench.adapters``; a definition asks for them as ``plugin:NAME``.
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import Any

from ..errors import WorkerError
from ..weights import WeightsFile
from .base import LoadedModel, PerChargeModel

ADAPTERS: dict[str, str] = {
    "sevennet": "sevennet",
    "chgnet": "chgnet",
    "matgl": "matgl",
    "mace": "mace",
    "grace": "grace",
    "mattersim": "mattersim",
    "nequix": "nequix",
    "orb": "orb",
    "upet": "upet",
    "ase_calculator": "ase_calculator",
}
"""Adapter name in a model definition → module in this package."""


ENTRY_POINTS = "defectbench.adapters"
PLUGIN = "plugin:"


def load_adapter(spec: dict[str, Any], files: list[WeightsFile]) -> LoadedModel:
    """Loads the model that a specification describes.

    Args:
        spec: the ``spec`` of the hello message.
        files: its weights, already checked by hash.

    Raises:
        WorkerError: unknown adapter, package not installed, or a model that cannot be loaded as described.
    """
    if spec["charge"]["how"] == "weights":
        return _load_per_charge(spec, files)
    name = spec["adapter"]
    if name.startswith(PLUGIN):
        return _load_plugin(name.removeprefix(PLUGIN), spec, files)
    if name not in ADAPTERS:
        raise WorkerError("adapter", f"unknown adapter '{name}'; known: {', '.join(sorted(ADAPTERS))}")
    module = importlib.import_module(f".{ADAPTERS[name]}", __package__)
    loaded: LoadedModel = module.load(spec, files)
    return loaded


def _load_per_charge(spec: dict[str, Any], files: list[WeightsFile]) -> LoadedModel:
    """A model for each charge that has weights of its own, each with the files that all charges share."""
    charges = sorted({file.charge for file in files if file.charge is not None})
    one = {**spec, "charge": {"how": "none", "range": None}}
    return PerChargeModel({q: load_adapter(one, [file for file in files if file.charge in (q, None)]) for q in charges})


def _load_plugin(name: str, spec: dict[str, Any], files: list[WeightsFile]) -> LoadedModel:
    """A model by an adapter of another package, which gets the same arguments: its ``load``, or a function of that kind."""
    known = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name not in known:
        there = f"known: {', '.join(sorted(known))}" if known else "no package installed here offers one"
        raise WorkerError("adapter", f"unknown adapter plugin '{name}'; {there} (entry points '{ENTRY_POINTS}')")
    load = known[name].load()
    loaded = getattr(load, "load", load)(spec, files)
    if not hasattr(loaded, "prepare") or not hasattr(loaded, "charge_handed_over"):
        raise WorkerError("adapter", f"the adapter plugin '{name}' gave a {type(loaded).__name__}, not a LoadedModel")
    made: LoadedModel = loaded
    return made
