"""An ASE calculator in hand as a model: its definition, and an identity that tells it from others."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from defectbench.base.errors import ModelError
from defectbench.models.resolved import ResolvedModel
from defectbench.models.schema import Charge, ModelDefinition

if TYPE_CHECKING:
    from defectbench.worker.adapters.base import LoadedModel

_TRANSIENT = frozenset({"results", "atoms", "directory", "prefix", "label", "_directory", "_prefix"})
"""Attributes of ASE calculators that say what was calculated last, or where, not what the model is."""


@dataclass(frozen=True)
class ModelInHand:
    """A calculator that lives in this process.

    Attributes:
        resolved: definition and identity.
        loaded: what calculates.
    """

    resolved: ResolvedModel
    loaded: LoadedModel


def is_calculator(model: object) -> bool:
    """Whether something is an ASE calculator, or a function that makes one."""
    return callable(getattr(model, "get_potential_energy", None)) or (
        callable(model) and not isinstance(model, str | Path | ModelDefinition | type)
    )


def model_in_hand(
    model: object,
    *,
    name: str | None = None,
    charge: str = "none",
    charge_range: tuple[int, int] | None = None,
    level_of_theory: str = "not stated",
    precision: str = "float64",
    device: str = "cpu",
    packages_sha256: str = "current",
) -> ModelInHand:
    """Makes a model of an ASE calculator, or of a function that makes one per charge.

    Its identity, under which results are stored, is a hash over its class, the attributes that it has (numbers, texts, arrays, torch
    parameters) and ``name``. If two of your calculators differ in something else, give them different names.

    Args:
        model: the calculator; with ``charge="argument:NAME"`` a function that is called with ``NAME=charge``.
        name: what the entry calls it; default: its class.
        charge: how a charge reaches it: ``none``, ``info:KEY`` (``atoms.info[KEY]``), ``total_charge`` (an attribute of the calculator),
            ``argument:NAME``.
        charge_range: smallest and largest charge that it may be asked at.
        level_of_theory: of its training labels, e.g. ``PBE``.
        precision: ``float32`` or ``float64``: of its energies; decides how finite differences are judged.
        device: ``cpu`` or ``cuda``: where the calculator runs, for the record.
        packages_sha256: identifies the packages of this process.

    Raises:
        ModelError: it is not a calculator (code ``not-a-calculator``), or the charge cannot be passed in that way (``bad-charge``).

    Example:
        >>> from ase.calculators.lj import LennardJones
        >>> from defectbench.models.in_hand import model_in_hand
        >>> one, other = model_in_hand(LennardJones(sigma=2.5)), model_in_hand(LennardJones(sigma=2.6))
        >>> one.resolved.definition.id, one.resolved.identity == other.resolved.identity
        ('lennardjones', False)
    """
    from defectbench.worker.adapters.ase_calculator import FactoryModel

    if not is_calculator(model):
        raise ModelError(
            f"{type(model).__name__} is not an ASE calculator; give a registered name, a YAML, a calculator or a function that makes one",
            code="not-a-calculator",
        )
    if precision not in ("float32", "float64"):
        raise ModelError(f"precision is float32 or float64, not '{precision}'")
    by_charge = charge.startswith("argument:")
    factory = not callable(getattr(model, "get_potential_energy", None))
    if by_charge != factory:
        raise ModelError(
            "charge='argument:NAME' goes with a function that makes a calculator per charge, and only with one", code="bad-charge"
        )
    kind = model if factory else type(model)
    what = f"{getattr(kind, '__module__', '')}:{getattr(kind, '__qualname__', type(model).__name__)}"
    shown = name or str(getattr(kind, "__name__", type(model).__name__))
    try:
        definition = ModelDefinition(
            id=_slug(shown),
            name=shown,
            adapter="ase_calculator",
            arguments={"factory": what},
            charge=Charge(how=charge, range=charge_range),
            level_of_theory=level_of_theory,
        )
    except ValueError as error:
        first = str(error).splitlines()
        raise ModelError(f"{shown}: {first[2].strip() if len(first) > 2 else first[0]}", code="bad-charge") from error
    content = {"class": what, "name": name, "code": _source(kind), "state": {} if factory else _state(model)}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    resolved = ResolvedModel(definition, {}, {}, device=device, pins_sha256=packages_sha256, code_sha256=digest)

    def build(arguments: Mapping[str, Any]) -> Any:
        return model(**arguments) if factory and callable(model) else model

    return ModelInHand(resolved, FactoryModel(build, charge=charge, charge_range=charge_range, precision=precision))


def _slug(name: str) -> str:
    found = re.sub(r"[^a-z0-9.+_-]+", "-", name.lower()).strip("-._+")
    return found or "calculator"


def _source(kind: Any) -> str | None:
    try:
        return hashlib.sha256(inspect.getsource(kind).encode()).hexdigest()
    except (OSError, TypeError):  # compiled, or typed at a prompt
        return None


def _state(calculator: object) -> dict[str, Any]:
    found = {**getattr(calculator, "parameters", {}), **{k: v for k, v in vars(calculator).items() if k not in _TRANSIENT}}
    return {str(key): _plain(value, 3) for key, value in sorted(found.items(), key=lambda item: str(item[0]))}


def _plain(value: Any, depth: int) -> Any:
    """The part of a value that identifies a model, as JSON: numbers, texts, arrays, torch parameters; of all else only its class."""
    if value is None or isinstance(value, bool | int | float | str):
        return value if not isinstance(value, float) else repr(value)
    if isinstance(value, np.ndarray | np.generic):
        return hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest() if value.dtype.kind in "biufc" else str(value)
    if callable(getattr(value, "state_dict", None)):
        return {name: _tensor(tensor) for name, tensor in value.state_dict().items()}
    if depth and isinstance(value, Mapping):
        return {str(key): _plain(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, list | tuple):
        return [_plain(item, depth - 1) for item in value]
    return f"<{type(value).__module__}.{type(value).__qualname__}>"


def _tensor(tensor: Any) -> str:
    detach: Callable[[], Any] | None = getattr(tensor, "detach", None)
    if detach is None:
        return repr(type(tensor))
    return hashlib.sha256(detach().cpu().contiguous().view(-1).double().numpy().tobytes()).hexdigest()
