"""Calculations in this process, one after another: for a calculator in hand, which cannot be sent to a worker."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

from defectbench.base import hardware
from defectbench.base.hardware import Machine
from defectbench.base.redaction import redact_values
from defectbench.calculations.executors import Finished
from defectbench.calculations.requests import Calculation
from defectbench.calculations.results import check_echo, parse
from defectbench.worker.main import answer

if TYPE_CHECKING:
    from defectbench.calculations.client import Progress
    from defectbench.worker.adapters.base import LoadedModel


class InProcessExecutor:
    """Runs a loaded model here, with the code that workers run.

    An interruption ends it at once; what is finished is stored by whoever iterates.
    """

    def __init__(self, model: LoadedModel, device: str = "cpu", on_progress: Progress | None = None) -> None:
        """Args: what calculates, where it does (for the record), and a hook for step, energy (eV) and largest force (eV/Å)."""
        self._model = model
        self._machine = Machine(device=device, hardware=hardware.describe(), workers=1, threads_per_worker=_threads())
        self._channel = _Hook(on_progress)
        model.record = _record(model)

    def run(self, calculations: Sequence[Calculation]) -> Iterator[Finished]:
        """Yields each calculation as it finishes."""
        for calculation in calculations:
            content = answer(self._model, {"type": "calculate", "id": 0, **calculation.to_json()}, self._channel)
            result = parse(calculation, redact_values(content))
            check_echo(calculation, result)
            yield Finished(calculation, result, self._machine)


class _Hook:
    """Takes what a worker would send to its parent."""

    def __init__(self, on_progress: Progress | None) -> None:
        self._on_progress = on_progress

    def send(self, message: dict[str, Any]) -> None:
        if self._on_progress is not None:
            self._on_progress(message["step"], message["energy"], message["fmax"])


def _record(model: LoadedModel) -> dict[str, Any]:
    package = type(model.calculator).__module__.split(".")[0]
    versions = {}
    for name in dict.fromkeys(("ase", "numpy", "torch", "tensorflow", package)):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {"versions": versions, "parameters": model.parameters, "weights": [], "threads": _threads(), "network": "open"}


def _threads() -> int:
    if (torch := sys.modules.get("torch")) is not None:
        return int(torch.get_num_threads())
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() else hardware.available_cores()
