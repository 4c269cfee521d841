"""Whether a stored result has the form that the worker gives it: files can be damaged, and what is read from them is scored."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from defectbench.calculations.requests import Calculation

_STATUSES = {
    "relaxation": ("converged", "unconverged", "failed"),
    "single_point": ("ok", "failed"),
    "descriptors": ("ok", "unsupported", "failed"),
    "certificate": ("ok", "failed"),
}


def problem(calculation: Calculation, result: object) -> str | None:
    """What is wrong with a result as that of a calculation, in a few words; None if nothing is.

    Fields that nothing reads are not looked at; of a certificate only that its numbers are finite.

    Args:
        calculation: that was asked for.
        result: what a file holds for it.
    """
    if not isinstance(result, Mapping):
        return "is no mapping"
    status = result.get("status")
    if not isinstance(status, str) or status not in _STATUSES[calculation.kind]:
        return "has no status" if status is None else f"has the status {str(status)[:40]!r}"
    for name in ("failure", "failure_kind"):
        if not isinstance(result.get(name), str | None):
            return f"has a {name} that is no text"
    if not _is_count(result.get("machine", 0)):
        return "has a machine that is no whole number"
    done = status not in ("failed", "unsupported")
    for name in ("wall_s", "cpu_s", "peak_memory_mb"):
        if name not in result and calculation.kind != "relaxation":
            continue
        if not _is_number(result.get(name)) or result[name] < 0:
            return f"has no number for {name}"
    count = len(calculation.structure.symbols)
    if calculation.kind == "relaxation":
        return _relaxation_problem(result, count, done)
    if calculation.kind == "single_point" and done:
        return _energy_and_forces_problem(result, count, needed=True)
    if calculation.kind == "descriptors" and done:
        rows = 1 if calculation.options.get("average") else count
        return None if _is_array(result.get("descriptors"), rows, None) else "has descriptors of another form"
    if calculation.kind == "certificate" and not _all_finite(result):
        return "has numbers that are not finite"
    return None


def hardware_problem(hardware: Mapping[str, Any]) -> str | None:
    """What is wrong with a description of hardware, as :func:`defectbench.base.hardware.describe` gives it; None if nothing is."""
    processor, found = hardware.get("processor"), hardware.get("gpus")
    if not isinstance(processor, str | None):
        return "processor is no text"
    if found is not None and (not isinstance(found, list | tuple) or not all(isinstance(name, str) for name in found)):
        return "gpus is no list of names"
    for name in ("cores", "memory_gb"):
        if hardware.get(name) is not None and not _is_number(hardware[name]):
            return f"{name} is no number"
    return None


def _relaxation_problem(result: Mapping[str, Any], count: int, done: bool) -> str | None:
    if not _is_array(result.get("positions"), count, 3):
        return f"has no positions of {count} atoms"
    for name in ("energy", "forces"):
        if name not in result:
            return f"has no {name}"
    if (found := _energy_and_forces_problem(result, count, needed=done)) is not None:
        return found
    for name in ("energies", "fmax"):
        values = result.get(name)
        if not isinstance(values, list | tuple) or not all(_is_number(value) for value in values) or (done and not values):
            return f"has no numbers for {name}"
    if len(result["energies"]) != len(result["fmax"]):
        return "has energies and fmax of different length"
    return None if _is_count(result.get("steps")) else "has no number of steps"


def _energy_and_forces_problem(result: Mapping[str, Any], count: int, *, needed: bool) -> str | None:
    energy, forces = result.get("energy"), result.get("forces")
    if not _is_number(energy) and (needed or energy is not None):
        return "has an energy that is not a number"
    if not _is_array(forces, count, 3) and (needed or forces is not None):
        return f"has no forces on {count} atoms"
    return None


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 2**63 if isinstance(value, int) else math.isfinite(value)


def _all_finite(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(_all_finite(item) for item in value.values())
    if isinstance(value, list | tuple):
        return all(_all_finite(item) for item in value)
    return not isinstance(value, float) or math.isfinite(value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _is_array(value: object, rows: int, columns: int | None) -> bool:
    """Whether these are rows of finite numbers; ``columns`` None takes any number of them but none."""
    if not isinstance(value, list | tuple | np.ndarray):
        return False
    try:
        array = np.asarray(value)
    except ValueError:  # rows of different length
        return False
    if array.ndim != 2 or array.shape[0] != rows or array.dtype.kind not in "iuf":
        return False
    return (array.shape[1] == columns if columns is not None else array.shape[1] > 0) and bool(np.isfinite(array).all())
