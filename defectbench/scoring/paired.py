"""The difference between two models on the same charge states, with its interval: both are resampled together.

What two models share (easy and hard charge states) cancels in each resample, so that the interval of the difference is narrower than
that of either model. Two intervals that overlap say nothing about it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from defectbench.scoring.intervals import Label, rng, units

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
        labels: n labels; rows of one unit (:func:`~defectbench.scoring.intervals.units`) are drawn together. Without labels, row i of one
            model belongs to row i of another.
        summed: whether rows that are drawn together are added up first.
    """

    rows: Floats
    function: Callable[[Floats], float]
    labels: Sequence[Label] | None = None
    summed: bool = False


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
    value = second.function(_all(second)) - first.function(_all(first))
    if first.labels is not None and second.labels is not None:
        drawn_with = units([*first.labels, *second.labels])
        known = sorted(set(drawn_with), key=str)
        count = len(first.rows)
        one, other, paired = _units(first, known, drawn_with[:count]), _units(second, known, drawn_with[count:]), True
    else:
        one, other = ([sample.rows[[i]] for i in range(len(sample.rows))] for sample in (first, second))
        paired = first.labels is None and second.labels is None and len(one) == len(other)
    fewer = min(len(one), len(other))
    if fewer < 2:
        return Difference(value, None, paired, fewer)
    generator = rng()
    found: dict[tuple[bytes, bytes], list[float]] = {}
    drawn: list[float] = []
    for _ in range(samples):
        picks = np.sort(generator.integers(0, len(one), len(one)))
        others = picks if paired else np.sort(generator.integers(0, len(other), len(other)))
        if (key := (picks.tobytes(), others.tobytes())) not in found:  # of few units the same ones are drawn over and over
            rows = [np.concatenate([units[i] for i in chosen]) for units, chosen in ((one, picks), (other, others))]
            # a unit for which one model has nothing adds no rows
            found[key] = [second.function(rows[1]) - first.function(rows[0])] if len(rows[0]) and len(rows[1]) else []
        drawn += found[key]
    half = student(confidence, fewer - 1) * math.sqrt(fewer / (fewer - 1)) * float(np.std(drawn))
    return Difference(value, (value - half, value + half), paired, fewer)


def student(confidence: float, freedom: int) -> float:
    """Student's t that a two-sided interval of this confidence takes.

    >>> round(student(0.95, 4), 3)
    2.776
    """
    from scipy.special import stdtrit  # scipy.stats takes a second to import

    return float(stdtrit(freedom, 0.5 + confidence / 2))


def _all(sample: Sample) -> Floats:
    if not sample.summed or sample.labels is None:
        return sample.rows
    labels = units(sample.labels)
    return np.concatenate(_units(sample, sorted(set(labels), key=str), labels))


def _units(sample: Sample, known: Iterable[Label], labels: Sequence[Label]) -> list[Floats]:
    """The rows of each unit, in the order of ``known``; of a unit that the sample lacks none."""
    found: dict[Label, list[int]] = {}
    for place, label in enumerate(labels):
        found.setdefault(label, []).append(place)
    rows = [sample.rows[found.get(label, [])] for label in known]
    return [r.sum(axis=0, keepdims=True) if len(r) else r for r in rows] if sample.summed else rows
