"""An entry: one model's results on one dataset, with what is needed to recompute every number in it.

On disk an entry is a folder: ``entry.json`` (this schema), ``calculations.json.gz`` (what the model computed, by content
hash), ``structures.extxyz`` (the relaxed structures, for people), ``tables/`` and ``figures/``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from defectbench.base.hardware import Count, Hardware, Machine
from defectbench.base.states import configuration_problem
from defectbench.calculations.requests import PROTOCOL, Protocol
from defectbench.datasets.schema import Charge, DatasetId, DefectName, LevelName, Sha256
from defectbench.models.schema import ChargeClass, ModelId, TrainedOn
from defectbench.scoring.task import RowType, typed_rows

SCHEMA_VERSION = 2
"""Since 2 each result has its machine and an echo of what was calculated; see :mod:`defectbench.entries.migration`."""


MAX_NUMBER = 1e30
"""No number of an entry is larger: none means anything there, and figures could not show it."""
MAX_TEXT = 20_000
"""Characters of a text."""


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Scalar = str | int | float | bool | None
"""What a table's cell holds."""


def _protocol(value: dict[str, Any]) -> dict[str, Any]:
    for name, setting in value.items():
        if name not in Protocol.__dataclass_fields__:
            raise ValueError(f"unknown setting '{name}'")
        default = getattr(PROTOCOL, name)
        wanted = str if isinstance(default, str) else int if isinstance(default, int) else int | float
        if not isinstance(setting, wanted) or isinstance(setting, bool) or (not isinstance(setting, str) and not 0 < setting < 1e9):
            raise ValueError(f"{name} cannot be {str(setting)[:40]!r}")
    return value


def _configuration(name: str) -> str:
    if (wrong := configuration_problem(name)) is not None:
        raise ValueError(f"the name {wrong}")
    return name


def _certificate(value: dict[str, Any]) -> dict[str, Any]:
    if value.get("charge_class") not in get_args(ChargeClass):
        raise ValueError(f"charge_class is one of {', '.join(get_args(ChargeClass))}")
    checks = value.get("checks", [])
    if not isinstance(checks, list) or not all(
        isinstance(c, dict) and isinstance(c.get("passed"), bool) and isinstance(c.get("reason"), str) for c in checks
    ):
        raise ValueError("checks is a list of checks, each with passed and reason")
    warnings = value.get("warnings") or []
    if not isinstance(warnings, list) or not all(isinstance(warning, str) for warning in warnings):
        raise ValueError("warnings is a list of texts")
    if value.get("energy_slope") not in (None, "rising", "falling", "mixed"):
        raise ValueError("energy_slope is rising, falling, mixed or null")
    ratio = value.get("size_ratio")
    if ratio is not None and (isinstance(ratio, bool) or not isinstance(ratio, int | float) or not math.isfinite(ratio)):
        raise ValueError("size_ratio is a number or null")
    return value


ProtocolSettings = Annotated[dict[str, Any], AfterValidator(_protocol)]
Certificate = Annotated[dict[str, Any], AfterValidator(_certificate)]
Word = Annotated[str, Field(max_length=200)]
ConfigurationName = Annotated[str, AfterValidator(_configuration)]


class Training(_Closed):
    """What a model was trained on, by its definition."""

    statement: Annotated[str, Field(max_length=2000)] = "not stated"
    datasets: list[TrainedOn] = Field(default_factory=list)
    """Datasets of the kind that models are tested on, with the hashes of what it has seen of them."""


class ModelRecord(_Closed):
    """Which model: enough to run it again."""

    id: ModelId
    name: Word
    package: Word
    adapter: Word
    arguments: dict[str, Any]
    identity: Word
    level_of_theory: Word
    charge: Word
    parameters: int | None
    weights_sha256: dict[str, str]
    weights_charges: dict[str, int] = Field(default_factory=dict)
    """Of one model per charge: weights file → the charge that it is for."""
    embedded: bool
    """Whether the model's definition ships with defectbench (else the user gave a file)."""
    training: Training = Field(default_factory=Training)


class DatasetRecord(_Closed):
    """Which reference data. They are found by ``id``, a name and never a path, and recognised by ``sha256``."""

    id: DatasetId
    title: str
    sha256: Sha256
    level_of_theory: LevelName
    embedded: bool


class SelectedState(_Closed):
    """A charge state that ran, with the names of its configurations."""

    defect: DefectName
    charge: Charge
    configurations: list[ConfigurationName]


class SkippedState(_Closed):
    """A selected charge state that did not run, and why."""

    defect: DefectName
    charge: Charge
    reason: str


class Selection(_Closed):
    """What was asked for and which part of it could run."""

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

    defect: DefectName
    charge: Charge
    configuration: ConfigurationName
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

    def __repr__(self) -> str:
        return f"<record of a task: {len(self.metrics)} metrics; tables: {', '.join(self.tables)}>"

    def __str__(self) -> str:
        return repr(self)


class MachineShare(Machine):
    """What calculated, and how much of an entry."""

    calculations: Count
    relaxations: Count

    @property
    def machine(self) -> Machine:
        """Without the share."""
        return Machine(**{name: getattr(self, name) for name in Machine.model_fields})


class Provenance(_Closed):
    """Where the numbers come from."""

    defectbench: str
    created: str
    packages: dict[str, str]
    environment: str
    environment_pins_sha256: str | None
    network: Literal["none", "open"] | None = None
    """What the model's workers had of the network; None where that was not recorded."""
    protocol: ProtocolSettings
    machines: Annotated[list[MachineShare], Field(min_length=1)]
    """What calculated, the one with most relaxations first; ``calculations.json.gz`` says which did what."""
    calculations: Count
    calculation_s: float
    """Time of all calculations, over all workers and resumed runs: processor seconds on a CPU, wall-clock seconds on a GPU."""

    @property
    def device(self) -> str:
        """Of the machine that ran most of the relaxations."""
        return self.machines[0].device

    @property
    def hardware(self) -> Hardware:
        """Of the machine that ran most of the relaxations."""
        return self.machines[0].hardware

    @property
    def workers(self) -> int:
        """Of the machine that ran most of the relaxations."""
        return self.machines[0].workers

    @property
    def threads_per_worker(self) -> int:
        """Of the machine that ran most of the relaxations."""
        return self.machines[0].threads_per_worker


class Entry(_Closed):
    """One model's results on one dataset."""

    schema_version: Literal[2] = 2
    model: ModelRecord
    dataset: DatasetRecord
    selection: Selection
    certificate: Certificate
    host: list[HostRecord]
    configurations: list[ConfigurationRecord]
    tasks: dict[str, TaskRecord]
    provenance: Provenance

    def table(self, task: str, name: str, kind: type[RowType]) -> list[RowType]:
        """The rows of a task's table; none if the entry has no such task or table.

        Args:
            task: its name.
            name: of the table; ``states`` is the main one.
            kind: what a row is, by the task's ``rows.py``.

        Raises:
            DefectbenchError: a row lacks a column or has another kind of value (code ``bad-table``).
        """
        record = self.tasks.get(task)
        return typed_rows(task, name, record.tables.get(name, []), kind) if record else []

    @property
    def in_domain(self) -> bool:
        """Whether the model was trained on the dataset that it is tested on: such an entry does not test transfer."""
        return any(seen.dataset == self.dataset.id for seen in self.model.training.datasets)

    def __repr__(self) -> str:
        selected = f"{len(self.selection.states)} charge states, {len(self.configurations)} configurations"
        return f"<entry of {self.model.id} on {self.dataset.id} ({self.selection.suite} suite): {selected}, {len(self.tasks)} tasks>"

    def __str__(self) -> str:
        return repr(self)


def out_of_range(value: object) -> bool:
    """Whether a number is one that no entry holds: not finite, or larger than ``MAX_NUMBER``."""
    return isinstance(value, int | float) and not -MAX_NUMBER <= value <= MAX_NUMBER


def extreme(content: object, field: str = "") -> str | None:
    """The first number out of range or text that is too long in an entry's content, as ``field: what is wrong``; None if there is none.

    >>> extreme({"metrics": [{"name": "rmsd", "value": 1e308}]})
    'metrics.rmsd.value: 1e+308 is not a number that an entry can hold'
    """
    if isinstance(content, str):
        return f"{field}: a text of {len(content):,} characters is too long" if len(content) > MAX_TEXT else None
    if out_of_range(content):
        return f"{field}: {content if isinstance(content, float) else 'this'} is not a number that an entry can hold"
    items: Iterable[tuple[object, object]] = ()
    if isinstance(content, Mapping):
        items = content.items()
    elif isinstance(content, list | tuple):
        items = ((item.get("name", n) if isinstance(item, Mapping) else n, item) for n, item in enumerate(content))
    for name, item in items:
        # most of an entry is numbers in range: only what may hold something else gets a field of its own
        if type(item) is float and -MAX_NUMBER <= item <= MAX_NUMBER:
            continue
        if (found := extreme(item, f"{field}.{name}" if field else str(name))) is not None:
            return found
    return None
