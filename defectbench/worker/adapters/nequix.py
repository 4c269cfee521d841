"""Nequix (package ``nequix``; Koker, Kotak and Smidt 2025, arXiv:2508.16067), on JAX and the CPU."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..errors import WorkerError, require
from ..weights import WeightsFile
from .base import LoadedModel, no_charge, only_file, reject_unknown


def _check_format(path: Path) -> None:
    """Refuses what is not a ``.nqx`` file; the package takes every other ending for a torch checkpoint, which it would unpickle."""
    with path.open("rb") as handle:
        try:
            known = path.suffix == ".nqx" and "atomic_numbers" in json.loads(handle.readline(1 << 20))
        except ValueError:
            known = False
    if not known:
        raise WorkerError("weights", f"{path.name} is not a Nequix model (.nqx)")


def _trainable(model: Any) -> int:
    """Elements of all arrays but the energies of isolated atoms, which training leaves alone."""
    jax = require("jax")
    return int(sum(leaf.size for leaf in jax.tree_util.tree_leaves(model) if hasattr(leaf, "size")) - model.atom_energies.size)


def load(spec: dict[str, Any], files: list[WeightsFile]) -> LoadedModel:
    """No arguments. The weights are a ``.nqx`` file: a line of JSON, then arrays; nothing in it can run code.

    The first call compiles, and so does one for other atoms or for more neighbour pairs than were compiled for. The package leaves room for
    a tenth more pairs, so a relaxation compiles once as a rule.
    """
    no_charge(spec)
    reject_unknown(dict(spec["arguments"]), set(), "nequix")
    if spec["device"] != "cpu":
        raise WorkerError("device", "Nequix runs on the CPU here (its environment holds JAX without CUDA); use --device cpu")
    path = only_file(files, "Nequix").path
    _check_format(path)
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    # read when JAX is imported; the size of XLA's thread pool follows NPROC
    os.environ.update(JAX_PLATFORMS="cpu", NPROC=threads)
    if threads == "1":
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    module = require("nequix.calculator", "nequix")
    calculator = module.NequixCalculator(model_path=str(path), backend="jax", use_kernel=False)
    return LoadedModel(
        calculator,
        parameters=_trainable(calculator.model),
        precision="float32",
    )
