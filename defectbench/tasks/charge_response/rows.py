"""Columns of the table of the task ``charge_response``."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict

Kind = Literal["ground states", "one start", "forces"]
"""What responds: displacements between ground states, displacements from one start, forces at one geometry."""


class ResponseRow(TypedDict):
    """A response to charge (table ``states``), in Å or eV/Å by ``unit``; ``charge`` and ``other_charge`` are the two compared."""

    look: Kind
    defect: str
    charge: int
    other_charge: int
    configuration: str
    dft_response: float
    model_response: float | None
    residual: float | None
    reproduced: float | None
    correlation: float | None
    projection: float | None
    unit: str
    reason: str | None
