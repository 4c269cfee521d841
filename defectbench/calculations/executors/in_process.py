"""Calculations in this process, one after another: for a calculator in hand, which cannot be sent to a worker."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib import metadata
from types import TracebackType
from typing import TYPE_CHECKING, Any

from defectbench.calculations.requests import Calculation

if TYPE_CHECKING:
    from defectbench.calculations.client import Progress
    from defectbench.worker.adapters.base import LoadedModel


class Stopped(BaseException):
    """The run ended in mid-calculation. Not an ``Exception``: a relaxation records those as failures of the model."""


class InProcessClient:
    """Answers as :class:`~defectbench.calculations.client.WorkerClient` does, without a worker.

    Attributes:
        ready: versions, parameters, threads and capabilities, as a worker's ready message has them.
    """

    def __init__(self, model: LoadedModel, device: str = "cpu") -> None:
        self._model = model
        self._stopped = False
        self.ready = _description(model, device)

    def __enter__(self) -> InProcessClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def calculate(self, calculation: Calculation, on_progress: Progress | None = None) -> dict[str, Any]:
        """One calculation, start to end; ``status`` is ``failed`` where the model failed."""
        from defectbench.worker.main import _answer

        client = self

        class Channel:
            """Takes what a worker would send to its parent."""

            def send(self, message: Mapping[str, Any]) -> None:
                if client._stopped:
                    raise Stopped
                if on_progress is not None:
                    on_progress(message["step"], message["energy"], message["fmax"])

        return _answer(self._model, {"type": "calculate", "id": 0, **calculation.to_json()}, Channel())

    def close(self) -> None:
        """Ends a running relaxation at its next step."""
        self._stopped = True


def _description(model: LoadedModel, device: str) -> dict[str, Any]:
    package = type(model.calculator).__module__.split(".")[0]
    versions = {}
    for name in dict.fromkeys(("ase", "numpy", "torch", "tensorflow", package)):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "versions": versions,
        "parameters": model.parameters,
        "weights": [],
        "device": device,
        "threads": _threads(),
        "python": platform.python_version(),
        "capabilities": {
            "descriptors": model.has_descriptors,
            "charge": model.charge,
            "charge_range": list(model.charge_range) if model.charge_range else None,
            "precision": model.precision,
        },
    }


def _threads() -> int:
    import sys

    if (torch := sys.modules.get("torch")) is not None:
        return int(torch.get_num_threads())
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() else (os.cpu_count() or 1)
