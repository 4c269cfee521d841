"""An entry: one model's results on one dataset, with what is needed to recompute every number in it.

On disk an entry is a folder: ``entry.json`` (this schema), ``calculations.json.gz`` (what the model computed, by content
hash), ``structures.extxyz`` (the relaxed structures, for people), ``tables/`` and ``figures/``.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from defectbench.calculations.requests import PROTOCOL_V1, Protocol
from defectbench.calculations.results import hardware_problem
from defectbench.models.schema import ChargeClass

SCHEMA_VERSION = 1


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Scalar = str | int | float | bool | None
"""What a table's cell holds."""


def _hardware(value: dict[str, Any]) -> dict[str, Any]:
    if (wrong := hardware_problem(value)) is not None:
        raise ValueError(wrong)
    return value


def _protocol(value: dict[str, Any]) -> dict[str, Any]:
    for name, setting in value.items():
        if name not in Protocol.__dataclass_fields__:
            raise ValueError(f"unknown setting '{name}'")
        default = getattr(PROTOCOL_V1, name)
        wanted = str if isinstance(default, str) else int if isinstance(default, int) else int | float
        if not isinstance(setting, wanted) or isinstance(setting, bool) or (not isinstance(setting, str) and not 0 < setting < 1e9):
            raise ValueError(f"{name} cannot be {str(setting)[:40]!r}")
    return value


def _certificate(value: dict[str, Any]) -> dict[str, Any]:
    if value.get("charge_class") not in get_args(ChargeClass):
        raise ValueError(f"charge_class is one of {', '.join(get_args(ChargeClass))}")
    checks = value.get("checks", [])
    if not isinstance(checks, list) or not all(
        isinstance(c, dict) and isinstance(c.get("passed"), bool) and isinstance(c.get("reason"), str) for c in checks
    ):
        raise ValueError("checks is a list of checks, each with passed and reason")
    ratio = value.get("size_ratio")
    if ratio is not None and (isinstance(ratio, bool) or not isinstance(ratio, int | float) or not math.isfinite(ratio)):
        raise ValueError("size_ratio is a number or null")
    return value


Hardware = Annotated[dict[str, Any], AfterValidator(_hardware)]
ProtocolSettings = Annotated[dict[str, Any], AfterValidator(_protocol)]
Certificate = Annotated[dict[str, Any], AfterValidator(_certificate)]
Count = Annotated[int, Field(ge=0, lt=2**31)]


class ModelRecord(_Closed):
    """Which model: enough to run it again."""

    id: str
    name: str
    package: str
    adapter: str
    arguments: dict[str, Any]
    identity: str
    level_of_theory: str
    charge: str
    parameters: int | None
    weights_sha256: dict[str, str]
    embedded: bool
    """Whether the model's definition ships with defectbench (else the user gave a file)."""


class DatasetRecord(_Closed):
    """Which reference data."""

    id: str
    title: str
    sha256: str
    level_of_theory: str
    embedded: bool


class SelectedState(_Closed):
    """A charge state that ran, with the names of its configurations."""

    defect: str
    charge: int
    configurations: list[str]


class SkippedState(_Closed):
    """A selected charge state that did not run, and why."""

    defect: str
    charge: int
    reason: str


class Selection(_Closed):
    """What was asked for and what of it could run."""

    suite: Literal["quick", "full", "custom"]
    tasks: list[str]
    states: list[SelectedState]
    skipped: list[SkippedState]


class HostRecord(_Closed):
    """The model's relaxation of the perfect host from one start."""

    start: str
    content_hash: str
    status: Literal["converged", "unconverged", "failed"]
    failure: str | None
    energy: float | None
    fmax: float | None
    steps: int
    wall_s: float


class ConfigurationRecord(_Closed):
    """One relaxation of one configuration; energy in eV, fmax in eV/Å."""

    defect: str
    charge: int
    configuration: str
    content_hash: str
    status: Literal["converged", "unconverged", "failed"]
    failure: str | None
    energy: float | None
    fmax: float | None
    steps: int
    wall_s: float


class MetricRecord(_Closed):
    """A metric's value with its bootstrap 95 % interval; without a value, the reason, and whether the metric applies at all."""

    name: str
    value: float | None
    interval: tuple[float, float] | None
    reason: str | None
    applies: bool = True
    """Without a value: True if the model failed to give one, False if the question cannot be put to it or to the dataset."""


class TaskRecord(_Closed):
    """What one task found: aggregates, tables (row = JSON scalars by column), baselines and notes."""

    metrics: list[MetricRecord]
    tables: dict[str, list[dict[str, Scalar]]]
    baselines: dict[str, dict[str, float | None]]
    notes: list[str]


class Machine(_Closed):
    """What calculated, and how much of an entry."""

    device: str
    hardware: Hardware
    workers: Count
    threads_per_worker: Count
    calculations: Count
    relaxations: Count


class Provenance(_Closed):
    """Where the numbers come from.

    ``device``, ``hardware``, ``workers`` and ``threads_per_worker`` are of the machine that ran most of the relaxations. An entry's times
    are of that machine alone.
    """

    defectbench: str
    created: str
    packages: dict[str, str]
    environment: str
    environment_pins_sha256: str | None
    protocol: ProtocolSettings
    device: str
    hardware: Hardware
    workers: Count
    threads_per_worker: Count
    calculations: Count
    other_machines: list[Machine] = []
    """What else calculated, if the run was continued elsewhere; in ``calculations.json.gz``, ``machine: i`` is the i-th of these."""
    calculation_s: float
    """Time of all calculations, over all workers and resumed runs: processor seconds on a CPU, wall-clock seconds on a GPU."""


class Entry(_Closed):
    """One model's results on one dataset."""

    schema_version: Literal[1] = 1
    model: ModelRecord
    dataset: DatasetRecord
    selection: Selection
    certificate: Certificate
    host: list[HostRecord]
    configurations: list[ConfigurationRecord]
    tasks: dict[str, TaskRecord]
    provenance: Provenance
