"""One way for all tasks to make the values of their metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from defectbench.scoring.intervals import Label, bootstrap_interval, capped, grouped_interval, mean_with_interval, median_with_interval
from defectbench.scoring.paired import Sample
from defectbench.scoring.task import MetricDefinition, MetricValue

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class NotAvailable:
    """Why a metric has no value.

    Attributes:
        reason: one line.
        applies: True if the model should have given a value (it scores 0), False if the question cannot be put to the model or the dataset
            (it is left out of the score). When in doubt True: what is left out cannot be held against a model.
    """

    reason: str
    applies: bool


NO_STATES = NotAvailable("no charge state with a reference was selected", applies=False)
"""Nothing was selected that could be compared."""


class Metrics:
    """Collects one value, or one reason, per metric of a task.

    Every method names a metric of the definitions. Where there are no numbers to aggregate, ``empty`` says why; ``lacking`` gives a reason
    that holds whatever the numbers are.

    Example:
        >>> from defectbench.scoring.task import MetricDefinition
        >>> error = MetricDefinition("error", "error", "Å", "lower", 0.0, 0.2, "How far off.")
        >>> collected = Metrics([error])
        >>> collected.mean("error", [0.1, None], cap=1.0)  # a miss counts as the cap
        >>> collected.done()[0].value
        0.55
    """

    def __init__(self, definitions: Sequence[MetricDefinition], empty: NotAvailable = NO_STATES) -> None:
        """Starts with no values.

        Args:
            definitions: the task's metrics.
            empty: why there is no value where a method gets no numbers and no reason of its own.
        """
        self._definitions = tuple(definitions)
        self._empty = empty
        self._values: dict[str, MetricValue] = {}

    def value(self, name: str, value: float, interval: tuple[float, float] | None = None) -> None:
        """A value made elsewhere."""
        self._add(MetricValue(name, float(value), interval))

    def lacking(self, name: str, why: NotAvailable) -> None:
        """No value, for a reason."""
        self._add(MetricValue(name, None, None, why.reason, why.applies))

    def mean(
        self,
        name: str,
        values: Iterable[float | None],
        *,
        cap: float | None = None,
        labels: Iterable[Label] | None = None,
        empty: NotAvailable | None = None,
        lacking: NotAvailable | None = None,
    ) -> None:
        """The mean with its bootstrap interval.

        Args:
            name: of the metric.
            values: one number per item; None is a miss, and needs a cap.
            cap: what a miss counts, and the most that a value counts.
            labels: what each value belongs to; values of one charge state or defect are drawn together
                (:func:`~defectbench.scoring.intervals.units`).
            empty: why there is no value if there are no values.
            lacking: why there is none whatever the values.
        """
        numbers = [float(v) if cap is None and v is not None else capped(v, cap if cap is not None else np.nan) for v in values]
        if lacking is not None or not numbers:
            self.lacking(name, lacking or empty or self._empty)
        else:
            kept = None if labels is None else list(labels)
            self._add(MetricValue(name, *mean_with_interval(numbers, kept), sample=Sample(np.array(numbers), _mean, kept)))

    def median(self, name: str, values: Iterable[float], *, empty: NotAvailable | None = None) -> None:
        """The median with its bootstrap interval."""
        numbers = np.array(list(values), dtype=float)
        if not len(numbers):
            self.lacking(name, empty or self._empty)
        else:
            self._add(MetricValue(name, *median_with_interval(numbers), sample=Sample(numbers, _median)))

    def statistic(
        self,
        name: str,
        rows: Floats,
        function: Callable[[Floats], float],
        *,
        labels: Sequence[Label] | None = None,
        summed: bool = False,
        empty: NotAvailable | None = None,
        lacking: NotAvailable | None = None,
    ) -> None:
        """Any function of resampled rows, with its bootstrap interval.

        Args:
            name: of the metric.
            rows: (n, …), what is resampled.
            function: from resampled rows to the value.
            labels: n labels; rows of one charge state or defect are drawn together (:func:`~defectbench.scoring.intervals.units`).
            summed: whether rows that are drawn together are added up first, for functions that need only column sums.
            empty: why there is no value if there are no rows.
            lacking: why there is none whatever the rows.
        """
        if lacking is not None or not len(rows):
            self.lacking(name, lacking or empty or self._empty)
        elif summed and labels is not None:
            self._add(MetricValue(name, *grouped_interval(rows, labels, function), sample=Sample(rows, function, labels, summed=True)))
        else:
            found = function(rows), bootstrap_interval(rows, function, labels)
            self._add(MetricValue(name, *found, sample=Sample(rows, function, labels)))

    def done(self) -> tuple[MetricValue, ...]:
        """The values in the order of the definitions.

        Raises:
            LookupError: a metric has neither a value nor a reason.
        """
        missing = [d.name for d in self._definitions if d.name not in self._values]
        if missing:
            raise LookupError(f"neither a value nor a reason for {', '.join(missing)}")
        return tuple(self._values[d.name] for d in self._definitions)

    def _add(self, value: MetricValue) -> None:
        if value.name in self._values or all(d.name != value.name for d in self._definitions):
            raise LookupError(f"{value.name} has a value already, or is not a metric of this task")
        self._values[value.name] = value


def _median(values: Floats) -> float:
    return float(np.median(values))


def _mean(values: Floats) -> float:
    return float(values.mean())


def mean_of_sums(table: Floats) -> float:
    """The mean of values whose sums and numbers are the two columns of a table."""
    total = table.sum(axis=0)
    return float(total[0] / total[1])
