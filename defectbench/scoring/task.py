"""What a task is: it declares its metrics and the calculations it needs, scores stored results, and draws.

A task is a package that offers one :class:`Task` under the name ``TASK``, with its metrics in ``metrics.yaml``. Scoring is a pure function
of a :class:`ScoringInput`: no model, no GPU, no network, no randomness but a fixed-seed bootstrap. Figures are drawn from what an entry
holds: a :class:`TaskResult` and a :class:`FigureContext`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from defectbench.base.errors import DefectbenchError
from defectbench.base.hardware import Machine
from defectbench.base.schema import problems
from defectbench.base.yaml import read_yaml
from defectbench.calculations.asking import Answers
from defectbench.calculations.plan import PlanInput, SelectedState
from defectbench.calculations.requests import Calculation, Relaxation

if TYPE_CHECKING:
    from defectbench.datasets.dataset import Dataset
    from defectbench.scoring.paired import Sample


Aspect = Literal["geometry", "energies", "forces"]

Row = Mapping[str, object]
"""A row of a table: column → JSON scalar. Each task declares the columns of its tables in its ``rows.py``."""

RowType = TypeVar("RowType", bound=Row)
"""Such a declaration, a TypedDict."""


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(list[kind])  # type: ignore[valid-type]


def typed_rows(task: str, table: str, rows: Sequence[Row], kind: type[RowType]) -> list[RowType]:
    """Rows of a task's table as the task declares them. Entries come from anywhere and from other versions, so their rows are checked.

    Raises:
        DefectbenchError: a row lacks a column or has another kind of value (code ``bad-table``).
    """
    try:
        known: list[RowType] = _adapter(kind).validate_python(list(rows), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place, column = first["loc"][0], ".".join(str(part) for part in first["loc"][1:2])
        wrong = "the column is missing" if first["type"] == "missing" else first["msg"]
        text = f"task {task}, table {table}, row {int(place) + 1}, column {column}: {wrong}; rescore the entry with this version"
        raise DefectbenchError(text, code="bad-table") from error
    return known


@dataclass(frozen=True)
class MetricDefinition:
    """A metric, declared in its task's ``metrics.yaml``.

    Attributes:
        name: snake_case, unique within its task.
        label: short column heading.
        unit: ``Å``, ``eV``, ``1`` (dimensionless), …
        direction: which way is better; ``none`` for plain information, which is never scored.
        good: the value that scores 1 (None when ``direction`` is ``none``).
        bad: the value that scores 0.
        tooltip: one sentence a newcomer understands.
        level_of_theory: ``dataset`` if the reference is the dataset's own level, a level's name, or ``none``.
        weight: in the task's score; 0: shown, not counted.
        aspect: which property of a model it judges: structures, energies or forces; None where that is not one of these.
        formula: how it is calculated, in one line; empty where the tooltip says it all.
        source: where it comes from: a publication with its DOI, or ``defectbench``.
    """

    name: str
    label: str
    unit: str
    direction: Literal["lower", "higher", "none"]
    good: float | None
    bad: float | None
    tooltip: str
    level_of_theory: str = "dataset"
    weight: float = 0.0
    aspect: Aspect | None = None
    formula: str = ""
    source: str = ""


_Weight = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
_Anchor = Annotated[float, Field(allow_inf_nan=False)]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Metric(_Closed):
    """One metric of a ``metrics.yaml``: a :class:`MetricDefinition` without its name, which is the key."""

    label: str
    unit: str
    direction: Literal["lower", "higher", "none"]
    good: _Anchor | None = None
    bad: _Anchor | None = None
    weight: _Weight | None = None
    aspect: Aspect | None = None
    level_of_theory: str
    tooltip: str
    formula: str = ""
    source: str = ""

    @model_validator(mode="after")
    def _fits(self) -> _Metric:
        scored = (self.good, self.bad, self.weight)
        if self.direction == "none":
            if scored != (None, None, None):
                raise ValueError("a metric of direction none has no good, bad or weight")
        elif self.good is None or self.bad is None or self.weight is None:
            raise ValueError(f"a metric of direction {self.direction} needs good, bad and weight")
        elif self.good == self.bad or (self.good < self.bad) != (self.direction == "lower"):
            raise ValueError(f"good {self.good:g} and bad {self.bad:g} contradict the direction {self.direction}")
        return self


class _MetricsFile(_Closed):
    """A ``metrics.yaml``: the task's weight in the overall score, and its metrics in the order in which they are shown."""

    weight: _Weight
    metrics: dict[str, _Metric]


def read_metrics(path: Path) -> tuple[tuple[MetricDefinition, ...], float]:
    """Reads a task's ``metrics.yaml``.

    Returns:
        The metrics in the order of the file, and the task's weight in the overall score.

    Raises:
        DefectbenchError: the file cannot be read or does not fit the schema; the message names the field.
    """
    try:
        content = _MetricsFile.model_validate(read_yaml(path, DefectbenchError))
    except ValidationError as error:
        field_name, wrong = problems(error, _MetricsFile)[0]
        raise DefectbenchError(f"{path}: {field_name}: {wrong}") from error
    metrics = (MetricDefinition(name=name, **{**dict(m), "weight": m.weight or 0.0}) for name, m in content.metrics.items())
    return tuple(metrics), content.weight


@dataclass(frozen=True)
class HostRelaxation:
    """A model's relaxed host from one start (``Unperturbed``: the reference sites; ``Rattled``: a small fixed rattle)."""

    start: str
    relaxation: Relaxation
    content_hash: str = ""
    machine: Machine | None = None


@dataclass(frozen=True)
class ConfigurationResult:
    """One relaxed configuration of one charge state by the model.

    Attributes:
        defect: e.g. ``V_Sb1``.
        charge: in units of +e.
        configuration: name of its start.
        relaxation: what came out.
        content_hash: of its calculation; configurations with the same one share a single relaxation.
        machine: what calculated it; None where that is not recorded.
    """

    defect: str
    charge: int
    configuration: str
    relaxation: Relaxation
    content_hash: str = ""
    machine: Machine | None = None


@dataclass(frozen=True)
class ScoringInput:
    """All that scoring may look at.

    Attributes:
        dataset: the reference dataset.
        states: the selected states with a reference.
        configurations: one result per selected (defect, charge, configuration), failures included.
        host: the model's own relaxed hosts.
        charge_class: ``charge-blind``, ``energy-only`` or ``charge-aware``, from the certificate.
        answers: finds the stored results of what the tasks asked for.
        certificate: the charge-response certificate, as ``ChargeCertificate.to_json`` writes it; empty if there is none.
    """

    dataset: Dataset
    states: tuple[SelectedState, ...]
    configurations: tuple[ConfigurationResult, ...]
    host: tuple[HostRelaxation, ...]
    charge_class: str
    answers: Answers = field(default_factory=Answers)
    certificate: Mapping[str, Any] = field(default_factory=dict)

    def of(self, defect: str, charge: int) -> tuple[ConfigurationResult, ...]:
        """The model's configurations of one charge state."""
        return tuple(c for c in self.configurations if c.defect == defect and c.charge == charge)


@dataclass(frozen=True)
class MetricValue:
    """A metric's value.

    Attributes:
        name: of the :class:`MetricDefinition`.
        value: None where it cannot be had, and then ``reason`` says why.
        interval: bootstrap 95 % interval for aggregates, else None.
        reason: why there is no value.
        applies: for a metric without a value: True if the model should have given one and did not (it failed: scores 0), False if the
            question cannot be put to this model or dataset (no reference data, nothing of the kind selected: left out of the score).
            When in doubt True: what is left out cannot be held against a model.
        sample: what the value is a statistic of, for comparisons of two models; never stored.
    """

    name: str
    value: float | None
    interval: tuple[float, float] | None = None
    reason: str | None = None
    applies: bool = True
    sample: Sample | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class TaskResult:
    """What a task found: JSON values only, so that it goes into ``entry.json`` as it is.

    Attributes:
        task: the task's name.
        metrics: the aggregates, one per definition.
        rows: the main table, one row per charge state: a flat mapping of column → JSON scalar; written as CSV. Same columns in every row.
        baselines: label → mapping of metric name → value, from the dataset alone.
        notes: sentences a reader of the table must know (skipped states, missing references).
        tables: further tables by name (``configurations``, ``host``), built like ``rows``; each is written as a CSV of its own.
    """

    task: str
    metrics: tuple[MetricValue, ...]
    rows: tuple[Row, ...]
    baselines: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    tables: Mapping[str, tuple[Row, ...]] = field(default_factory=dict)

    def table(self, name: str, kind: type[RowType]) -> list[RowType]:
        """The rows of a table; none if there is no such table.

        Args:
            name: of the table; ``states`` is the main one.
            kind: what a row is, by the task's ``rows.py``.

        Raises:
            DefectbenchError: a row lacks a column or has another kind of value (code ``bad-table``).
        """
        return typed_rows(self.task, name, self.rows if name == "states" else self.tables.get(name, ()), kind)

    def __repr__(self) -> str:
        return f"<result of {self.task}: {len(self.metrics)} metrics, {len(self.rows)} rows; further tables: {', '.join(self.tables)}>"

    def metric(self, name: str) -> MetricValue:
        """The metric of that name; raises KeyError if the task has none."""
        for value in self.metrics:
            if value.name == name:
                return value
        raise KeyError(name)


@dataclass(frozen=True)
class FigureContext:
    """What a figure says about where its data come from; all of it stands in an entry (:func:`defectbench.entries.figures.figure_context`).

    Attributes:
        model: the model's name.
        dataset: the dataset's id.
        dataset_title: the dataset's title.
        suite: ``full``, ``quick`` or ``custom``.
        level: the dataset's level of theory.
        charge_class: ``charge-blind``, ``energy-only`` or ``charge-aware``.
    """

    model: str
    dataset: str
    dataset_title: str
    suite: str
    level: str
    charge_class: str

    @property
    def source(self) -> str:
        """Dataset, level of theory and suite in a few words, for the line below a title."""
        return (
            f"{self.dataset}, {self.level}, {self.suite} suite"
            if self.suite != "custom"
            else f"{self.dataset}, {self.level}, own selection"
        )


@dataclass(frozen=True)
class Task:
    """A task.

    Attributes:
        name: snake_case; the package's name and the name on the command line.
        title: for headings.
        description: one paragraph.
        metrics: its aggregates, from ``metrics.yaml``.
        calculations: what it needs besides the relaxations of the selected starts and of the host, which always run.
        score: :class:`ScoringInput` → :class:`TaskResult`, pure.
        draw: (result, context, folder): draws from the result's rows, tables and metrics alone, writes ``<stem>.png`` and ``<stem>.svg``,
            and returns the paths; none if there is nothing to draw.
        weight: in the overall score, from ``metrics.yaml``.
        informed: labels of the baselines that use DFT of the answer or of another charge; a model need not beat them.
        on_request: runs only where it is named. Entries with and without it stand in one table, so it has no weight.
    """

    name: str
    title: str
    description: str
    metrics: tuple[MetricDefinition, ...]
    calculations: Callable[[PlanInput], Sequence[Calculation]]
    score: Callable[[ScoringInput], TaskResult]
    draw: Callable[[TaskResult, FigureContext, Path], list[Path]]
    weight: float = 0.0
    informed: tuple[str, ...] = ()
    on_request: bool = False

    def metric(self, name: str) -> MetricDefinition:
        """The definition of that name; raises KeyError if the task has none."""
        for definition in self.metrics:
            if definition.name == name:
                return definition
        raise KeyError(name)
