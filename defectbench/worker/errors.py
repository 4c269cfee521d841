"""The worker's one error: a kind for programs and a line for people."""

from __future__ import annotations

import importlib
from typing import Any


class WorkerError(Exception):
    """Something that stops a model from being loaded or a request from being answered.

    Attributes:
        kind: ``not_installed``, ``weights``, ``charge``, ``head``, ``adapter``, ``device``, ``unsupported`` or ``request``.
    """

    def __init__(self, kind: str, message: str) -> None:
        self.kind = kind
        super().__init__(message)


def format_charge(charge: int) -> str:
    """A charge as people read it, with a true minus sign; as in ``defectbench.base.states``, which a worker does not have."""
    return f"{charge:+d}".replace("-", "\N{MINUS SIGN}") if charge else "0"


def one_line(error: BaseException, limit: int = 300) -> str:
    """``Type: first non-empty line of the message``, shortened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return text if len(text) <= limit else text[: limit - 1] + "…"


def require(module: str, package: str | None = None) -> Any:
    """Imports a module of the model's package.

    Args:
        module: dotted name.
        package: what to install, where that differs from the module's first name.

    Raises:
        WorkerError: it is not installed in this environment.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        wanted = package or module.split(".")[0]
        missing = "" if (error.name or "").split(".")[0] == module.split(".")[0] else f" (it needs '{error.name}')"
        raise WorkerError("not_installed", f"the package '{wanted}' is not installed in this environment{missing}") from error
