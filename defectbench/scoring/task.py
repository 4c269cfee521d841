"""What a task is: it declares the calculations it needs, scores stored results, and draws.

A task module in this package offers one :class:`Task` under the name ``TASK``; the registry finds it there. Scoring is a
pure function of a :class:`ScoringInput`: no model, no GPU, no network, no randomness but a fixed-seed bootstrap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from defectbench.calculations.plan import PlanInput, StateSelection
from defectbench.calculations.requests import Calculation, Relaxation

if TYPE_CHECKING:
    from defectbench.datasets.dataset import Dataset


@dataclass(frozen=True)
class MetricDefinition:
    """A metric, declared in data.

    Attributes:
        name: snake_case, unique within its task.
        label: short column heading.
        unit: ``Å``, ``eV``, ``1`` (dimensionless), …
        direction: which way is better; ``none`` for plain information, which is never scored.
        good: the value that scores 1 (None when ``direction`` is ``none``).
        bad: the value that scores 0.
        tooltip: one sentence a newcomer understands.
        level_of_theory: ``dataset`` if the reference is the dataset's own level, a level's name, or ``none``.
    """

    name: str
    label: str
    unit: str
    direction: Literal["lower", "higher", "none"]
    good: float | None
    bad: float | None
    tooltip: str
    level_of_theory: str = "dataset"


@dataclass(frozen=True)
class HostRelaxation:
    """A model's relaxed host from one start (``Unperturbed``: the reference sites; ``Rattled``: a small fixed rattle)."""

    start: str
    relaxation: Relaxation


@dataclass(frozen=True)
class ConfigurationResult:
    """One relaxed configuration of one charge state by the model."""

    defect: str
    charge: int
    configuration: str
    relaxation: Relaxation


@dataclass(frozen=True)
class ScoringInput:
    """All that scoring may look at.

    Attributes:
        dataset: the reference dataset.
        states: the selected states with a reference.
        configurations: one result per selected (defect, charge, configuration), failures included.
        host: the model's own relaxed hosts.
        charge_class: ``charge-blind``, ``energy-only`` or ``charge-aware``, from the certificate.
        results: every stored calculation that the tasks asked for, by content hash.
        certificate: the charge-response certificate, as ``ChargeCertificate.to_json`` writes it; empty if there is none.
        provenance: what ran where (``hardware``, ``device``, ``workers``, …), as an entry records it; empty if not known.
    """

    dataset: Dataset
    states: tuple[StateSelection, ...]
    configurations: tuple[ConfigurationResult, ...]
    host: tuple[HostRelaxation, ...]
    charge_class: str
    results: Mapping[str, Any] = field(default_factory=dict)
    certificate: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

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
    """

    name: str
    value: float | None
    interval: tuple[float, float] | None = None
    reason: str | None = None
    applies: bool = True


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
    rows: tuple[Mapping[str, Any], ...]
    baselines: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    tables: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)

    def metric(self, name: str) -> MetricValue:
        """The metric of that name; raises KeyError if the task has none."""
        for value in self.metrics:
            if value.name == name:
                return value
        raise KeyError(name)


@dataclass(frozen=True)
class Task:
    """A task.

    Attributes:
        name: snake_case; the module's name and the name on the command line.
        title: for headings.
        description: one paragraph.
        metrics: its aggregates.
        calculations: what it needs besides the relaxations of the selected starts and of the host, which always run.
        score: :class:`ScoringInput` → :class:`TaskResult`, pure.
        draw: (input, result, model's name, folder): writes figures as ``<stem>.png`` and ``<stem>.svg``, returns the paths.
    """

    name: str
    title: str
    description: str
    metrics: tuple[MetricDefinition, ...]
    calculations: Callable[[PlanInput], Sequence[Calculation]]
    score: Callable[[ScoringInput], TaskResult]
    draw: Callable[[ScoringInput, TaskResult, str, Path], list[Path]]
