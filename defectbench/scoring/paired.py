"""The difference between two models on the same charge states, with its interval: both are resampled together.

What two models share (easy and hard charge states) cancels in each resample, so that the interval of the difference is narrower than
that of either model. Two intervals that overlap say nothing about it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from defectbench.scoring.intervals import rng

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Sample:
    """What a metric is a statistic of.

    Attributes:
        rows: (n, …), what is resampled.
        function: from resampled rows to the metric's value.
        groups: n labels; rows of one label are added up and drawn together. Without labels, row i of one model belongs to row i of another.
    """

    rows: Floats
    function: Callable[[Floats], float]
    groups: Sequence[object] | None = None


@dataclass(frozen=True)
class Difference:
    """Second model minus first.

    Attributes:
        value: in the metric's unit.
        interval: of the value; None if there is nothing to resample.
        paired: whether both were resampled together; if not, the interval is that of two independent samples, which is wider.
        items: how many charge states (or other items) were drawn.
    """

    value: float
    interval: tuple[float, float] | None
    paired: bool
    items: int


def paired_difference(first: Sample, second: Sample, confidence: float = CONFIDENCE, samples: int = 1000) -> Difference:
    """A statistic of one sample minus that of another, with an interval from paired resampling.

    The standard error is that of a paired bootstrap, widened by √(n/(n−1)); the interval takes Student's t of n − 1 degrees of freedom
    (Efron and Tibshirani 1993, doi:10.1201/9780429246593, chapter 12; Hesterberg 2015, doi:10.1080/00031305.2015.1089789). Of a mean it is
    the paired t interval. A percentile interval would be too narrow for the five to ten charge states of a benchmark.

    Args:
        first: of the baseline.
        second: of the candidate.
        confidence: that the interval holds the true difference.
        samples: how often is resampled.

    Example:
        >>> import numpy as np
        >>> def mean(rows):
        ...     return float(rows.mean())
        >>> easy_and_hard = np.array([0.01, 0.02, 0.5, 0.6])
        >>> found = paired_difference(Sample(easy_and_hard, mean), Sample(easy_and_hard + [0.02, 0.03, 0.02, 0.03], mean))
        >>> round(found.value, 3), found.interval[0] > 0
        (0.025, True)
    """
    one, other, paired = _aligned(first, second)
    value = second.function(other) - first.function(one)
    fewer = min(len(one), len(other))
    if fewer < 2:
        return Difference(value, None, paired, fewer)
    generator = rng()
    drawn = []
    for _ in range(samples):
        places = generator.integers(0, len(one), len(one))
        others = places if paired else generator.integers(0, len(other), len(other))
        drawn.append(second.function(other[others]) - first.function(one[places]))
    half = student(confidence, fewer - 1) * math.sqrt(fewer / (fewer - 1)) * float(np.std(drawn))
    return Difference(value, (value - half, value + half), paired, fewer)


def student(confidence: float, freedom: int) -> float:
    """Student's t that a two-sided interval of this confidence takes.

    >>> round(student(0.95, 4), 3)
    2.776
    """
    from scipy.stats import t

    return float(t.ppf(0.5 + confidence / 2, freedom))


def _aligned(first: Sample, second: Sample) -> tuple[Floats, Floats, bool]:
    """Rows of both in one order, and whether they belong together. What only one model has adds nothing to the other's sums."""
    if first.groups is None or second.groups is None:
        return first.rows, second.rows, first.groups is second.groups and len(first.rows) == len(second.rows)
    sums = [_sums(sample.rows, sample.groups) for sample in (first, second) if sample.groups is not None]
    labels = sorted({*sums[0], *sums[1]}, key=str)
    nothing = np.zeros_like(first.rows[0])
    tables = [np.array([found.get(label, nothing) for label in labels]) for found in sums]
    return tables[0], tables[1], True


def _sums(rows: Floats, groups: Sequence[object]) -> dict[object, Floats]:
    sums: dict[object, Floats] = {}
    for label, row in zip(groups, rows, strict=True):
        sums[label] = sums[label] + row if label in sums else np.array(row, dtype=float)
    return sums
