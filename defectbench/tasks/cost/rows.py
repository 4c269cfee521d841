"""Columns of the tables of the task ``cost``: times in s, memory in MB."""

from __future__ import annotations

from typing_extensions import TypedDict


class StateRow(TypedDict):
    """A charge state (table ``states``): medians over its relaxations."""

    defect: str
    charge: int
    relaxations: int
    atoms: int
    force_calls: float
    seconds_per_call: float
    seconds_per_relaxation: float
    seconds: float
    peak_memory_mb: float


class RelaxationRow(TypedDict):
    """A relaxation that was timed (table ``relaxations``)."""

    defect: str
    charge: int
    configuration: str
    status: str
    atoms: int
    force_calls: int
    seconds: float
    wall_s: float
    seconds_per_call: float
    peak_memory_mb: float


class MachineRow(TypedDict):
    """What the times were measured on, and by which clock (table ``machine``, one row); memory in GB."""

    device: str | None
    processor: str | None
    cores: int | None
    memory_gb: float | None
    gpus: str | None
    workers: int | None
    threads_per_worker: int | None
    clock: str
