"""Any ASE calculator, given as ``module:factory``: a user's own model without editing defectbench."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Collection, Iterator
from typing import Any

from ase import Atoms

from ..errors import WorkerError, one_line
from ..isolation import see_paths
from ..weights import WeightsFile
from .base import CHARGE_KEYS, LoadedModel


class FactoryModel(LoadedModel):
    """A calculator from a factory; with ``argument:<name>`` the factory is called once per charge."""

    def __init__(
        self,
        build: Callable[[dict[str, Any]], Any],
        *,
        charge: str,
        charge_range: tuple[int, int] | None,
        precision: str,
        takes: Collection[str] = (),
    ) -> None:
        """``takes``: the names of the factory's own arguments, where they are known."""
        self._build = build
        self._unused = [key for key in CHARGE_KEYS if key in takes]
        self._argument = charge.removeprefix("argument:") if charge.startswith("argument:") else None
        self._by_charge: dict[int, Any] = {}
        first = build({self._argument: 0}) if self._argument else build({})
        if self._argument:
            self._by_charge[0] = first
        parameters = getattr(first, "parameters_count", None)
        super().__init__(
            first,
            parameters=int(parameters) if parameters is not None else None,
            charge=charge,
            charge_range=charge_range,
            precision=precision,
        )
        self.has_descriptors = callable(getattr(first, "get_descriptors", None))

    def prepare(self, atoms: Atoms, charge: int | None) -> None:
        """As :meth:`LoadedModel.prepare`; picks the calculator of the charge first where the factory takes it."""
        if self._argument and charge is not None:
            if charge not in self._by_charge:
                self._by_charge[charge] = self._build({self._argument: int(charge)})
            self.calculator = self._by_charge[charge]
        super().prepare(atoms, charge)

    def set_charge(self, atoms: Atoms, charge: int) -> None:
        """``info:<key>``: ``atoms.info[key]``; ``total_charge``: the calculator's attribute; ``argument``: done already."""
        if self._argument:
            return
        if self.charge == "total_charge":
            self.calculator.total_charge = charge
            return
        super().set_charge(atoms, charge)

    def read_charge(self, atoms: Atoms) -> Any:
        """As :meth:`set_charge` writes it; with ``argument`` the charge that the attached calculator was made for."""
        if self._argument:
            return next((charge for charge, made in self._by_charge.items() if made is atoms.calc), None)
        if self.charge == "total_charge":
            return self.calculator.total_charge
        return super().read_charge(atoms)

    def other_ways(self, charge: int) -> Iterator[tuple[str, Any]]:
        """Also the factory's own arguments."""
        yield from super().other_ways(charge)
        for name in self._unused:
            yield f"the factory's argument {name}", self._build({name: charge})

    def descriptors(self, atoms: Atoms) -> Any:
        """The calculator's own ``get_descriptors(atoms)``, (N, D), where it has one."""
        import numpy as np

        if not self.has_descriptors:
            return super().descriptors(atoms)
        features = np.asarray(self.calculator.get_descriptors(atoms), dtype=np.float64)
        if features.ndim != 2 or len(features) != len(atoms):
            raise WorkerError("unsupported", f"get_descriptors gave an array of shape {features.shape}, expected ({len(atoms)}, D)")
        return features


def load(spec: dict[str, Any], files: list[WeightsFile]) -> LoadedModel:
    """Arguments: ``factory: module:function``, ``precision`` (float64), and those handed to the factory.

    Modules are imported from the folder of the definition's YAML, but none that would hide one of the standard library. A weights file,
    if the definition or ``--model-weights`` gives one, is passed as ``weights`` (a string; a list of strings for several).
    """
    arguments = dict(spec["arguments"])
    target = arguments.pop("factory", None)
    precision = arguments.pop("precision", "float64")
    if not isinstance(target, str) or target.count(":") != 1:
        raise WorkerError("adapter", "the adapter 'ase_calculator' needs arguments: {factory: 'module:function'}")
    if precision not in ("float32", "float64"):
        raise WorkerError("adapter", f"precision is float32 or float64, not '{precision}'")
    module_name, function_name = target.split(":")
    if spec.get("folder"):
        see_paths([spec["folder"]])
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        what = (
            f"there is no module '{error.name}'" if error.name == module_name else f"the module '{module_name}' needs '{error.name}', which"
        )
        where = f" in {spec['folder']} or this environment" if error.name == module_name else " is not installed in this environment"
        raise WorkerError("not_installed", f"{what}{where}") from error
    except Exception as error:  # a user's module may raise anything; the line goes back to them
        raise WorkerError("adapter", f"importing '{module_name}' failed: {one_line(error)}") from error
    factory = getattr(module, function_name, None)
    if not callable(factory):
        raise WorkerError("adapter", f"the module '{module_name}' has no function '{function_name}'")
    if "torch" in sys.modules:
        from .base import set_up_torch

        set_up_torch()
    if files:
        paths = [str(file.path) for file in files]
        arguments["weights"] = paths[0] if len(paths) == 1 else paths

    def build(extra: dict[str, Any]) -> Any:
        try:
            calculator = factory(**arguments, **extra)
        except Exception as error:  # as above
            raise WorkerError("adapter", f"{target} raised {one_line(error)}") from error
        for needed in ("reset", "get_property"):
            if not callable(getattr(calculator, needed, None)):
                raise WorkerError(
                    "adapter", f"{target} returned a {type(calculator).__name__}, not an ASE calculator (it has no {needed}())"
                )
        return calculator

    bounds = spec["charge"].get("range")
    return FactoryModel(
        build,
        charge=spec["charge"]["how"],
        charge_range=(int(bounds[0]), int(bounds[1])) if bounds else None,
        precision=precision,
        takes=_argument_names(factory) - arguments.keys(),
    )


def _argument_names(factory: Callable[..., Any]) -> set[str]:
    try:
        return set(inspect.signature(factory).parameters)
    except (TypeError, ValueError):  # a compiled one
        return set()
