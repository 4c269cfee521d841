"""Means, caps, slopes and bootstrap intervals that the tasks share.

What varies from one question to the next is the charge state, not the configuration: all starts of one charge state share one landscape
and are right or wrong together. So whole charge states are drawn, or whole defects where a dataset has at least :data:`FEWEST_DEFECTS`
of them, and all that belongs to one stays together. An entry has one host.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, overload

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

RESOLVED_ENERGY = 0.01
"""eV: charge states whose frames differ by less than this in DFT have no slope of energies."""

FEWEST_DEFECTS = 5
"""Whole defects are drawn if there are at least this many, else charge states: so few units of a level say nothing of how it varies."""

SAMPLES = 2000
"""Draws of a bootstrap."""

Label = Hashable
"""What a row belongs to: (defect, charge, …), or for a pair of charges (defect, (lower, higher), …)."""


def rng(seed: int = 0) -> np.random.Generator:
    """The generator that every bootstrap uses."""
    return np.random.default_rng(seed)


def units(labels: Sequence[Label]) -> list[Label]:
    """What each row is drawn with: its defect if the labels name at least :data:`FEWEST_DEFECTS` of them, else its charge state.

    Example:
        >>> units([("V_Cd", 0, "Dimer"), ("V_Cd", 0, "Rattled"), ("V_Cd", -1, "Dimer")])
        [('V_Cd', 0), ('V_Cd', 0), ('V_Cd', -1)]
    """
    tuples = [label if isinstance(label, tuple) else (label,) for label in labels]
    if all(len(label) > 1 for label in tuples) and len({label[0] for label in tuples}) >= FEWEST_DEFECTS:
        return [label[0] for label in tuples]
    return [label[:2] for label in tuples]


def interval_of_draws(drawn: Floats, count: int) -> tuple[float, float]:
    """The 95 % interval of a statistic's bootstrap draws, widened for few units.

    Draws of n units vary too little: their variance is too small by (n − 1)/n, and their percentiles are those of a normal distribution
    where Student's is meant (Hesterberg 2015, doi:10.1080/00031305.2015.1089789). So the distances of the percentiles from the mean are
    stretched by √(n/(n − 1)) t/z, as far as there are draws. From five units on the interval then covers what it says.

    Args:
        drawn: values of the statistic.
        count: n, at least 2.
    """
    from scipy.special import ndtri, stdtrit  # scipy.stats takes a second to import

    stretch = float(np.sqrt(count / (count - 1)) * stdtrit(count - 1, 0.975) / ndtri(0.975))
    middle = float(drawn.mean())
    ends = np.percentile(drawn, [2.5, 97.5])
    low, high = middle + stretch * (ends - middle)
    # of draws that rarely differ, a percentile may lie beyond the mean: it is not pulled farther there
    return max(float(min(low, ends[0])), float(drawn.min())), min(float(max(high, ends[1])), float(drawn.max()))


def bootstrap_interval(
    values: Floats, statistic: Callable[[Floats], float], labels: Sequence[Label] | None = None, samples: int = SAMPLES, seed: int = 0
) -> tuple[float, float] | None:
    """Bootstrap 95 % interval of a statistic over the first axis (Efron 1979, doi:10.1214/aos/1176344552).

    Args:
        values: (n, …), one entry per row.
        statistic: from resampled rows, in any order, to a number.
        labels: n labels; rows of one unit (:func:`units`) are drawn together. None: every row is a unit.

    Returns:
        (low, high), or None for fewer than two units.
    """
    rows = _rows_by_unit(labels, len(values))
    if len(rows) < 2:
        return None
    generator = rng(seed)
    picks = generator.integers(0, len(rows), (samples, len(rows)))
    # of few units the same ones are drawn over and over
    distinct, which = np.unique(np.sort(picks, axis=1), axis=0, return_inverse=True)
    if len(rows) == len(values):  # a row per unit: nothing to put together
        drawn = [statistic(values[pick]) for pick in np.concatenate(rows)[distinct]]
    else:
        drawn = [statistic(values[np.concatenate([rows[i] for i in pick])]) for pick in distinct]
    return interval_of_draws(np.array(drawn)[which.ravel()], len(rows))


def _rows_by_unit(labels: Sequence[Label] | None, count: int) -> list[NDArray[np.int64]]:
    if labels is None:
        return [np.array([i]) for i in range(count)]
    found: dict[Label, list[int]] = {}
    for i, unit in enumerate(units(labels)):
        found.setdefault(unit, []).append(i)
    # in the order of the labels, so that the order of the rows changes nothing
    return [np.array(found[unit]) for unit in sorted(found, key=str)]


def mean_interval(
    values: Floats, labels: Sequence[Label] | None = None, samples: int = SAMPLES, seed: int = 0
) -> tuple[float, float] | None:
    """:func:`bootstrap_interval` of the mean of (n,) values, all draws at once: the same numbers, much faster."""
    rows = _rows_by_unit(labels, len(values))
    if len(rows) < 2:
        return None
    sums, counts = np.array([values[r].sum() for r in rows]), np.array([len(r) for r in rows], dtype=float)
    picks = rng(seed).integers(0, len(rows), (samples, len(rows)))
    return interval_of_draws(sums[picks].sum(axis=1) / counts[picks].sum(axis=1), len(rows))


def median_with_interval(values: Floats) -> tuple[float, tuple[float, float] | None]:
    """The median of (n,) values, at least one, and its :func:`bootstrap_interval`, all draws at once: the same numbers, much faster."""
    middle = float(np.median(values))
    if len(values) < 2:
        return middle, None
    picks = rng().integers(0, len(values), (SAMPLES, len(values)))
    return middle, interval_of_draws(np.median(values[picks], axis=1), len(values))


def grouped_interval(
    rows: Floats, labels: Sequence[Label], statistic: Callable[[Floats], float]
) -> tuple[float | None, tuple[float, float] | None]:
    """A statistic of additive rows and its bootstrap 95 % interval over units of rows.

    Args:
        rows: (n, k) numbers of which the statistic needs only column sums, e.g. (sum of squares, count).
        labels: n labels (:func:`units`).
        statistic: from (m, k) sums, one row per unit, to a number.

    Returns:
        (value, interval); (None, None) for no rows.
    """
    if not len(rows):
        return None, None
    table = np.array([rows[r].sum(axis=0) for r in _rows_by_unit(labels, len(rows))], dtype=float)
    return statistic(table), bootstrap_interval(table, statistic)


def capped(value: float | None, cap: float) -> float:
    """What a value counts in an average: at most ``cap``, and ``cap`` for a miss (None)."""
    return cap if value is None else min(float(value), cap)


def mean_with_interval(values: Iterable[float], labels: Sequence[Label] | None = None) -> tuple[float | None, tuple[float, float] | None]:
    """Mean of values and its bootstrap 95 % interval; (None, None) for no values."""
    array = np.array(list(values), dtype=float)
    if not len(array):
        return None, None
    return float(array.mean()), mean_interval(array, labels)


@overload
def rounded(value: float, digits: int = 5) -> float: ...


@overload
def rounded(value: float | None, digits: int = 5) -> float | None: ...


def rounded(value: float | None, digits: int = 5) -> float | None:
    """A float for a table: rounded, None stays None."""
    return None if value is None else round(float(value), digits)


def slope(table: Floats) -> float:
    """Least-squares slope through the origin, Σ model·DFT / Σ DFT², of (m, 5) sums as :func:`force_sums` and :func:`slope_row` give them.

    Below 1 the model's surface is too soft (Deng et al. 2025, doi:10.1038/s41524-024-01500-6). 0 if DFT's values are all zero.
    """
    total = table.sum(axis=0)
    return float(total[2] / total[3]) if total[3] > 0 else 0.0


def slope_row(model: Sequence[float], reference: Sequence[float]) -> Floats | None:
    """(0, 0, Σ model·DFT, Σ DFT², number) of energies (eV) less their mean, for :func:`slope`.

    Returns:
        None for fewer than two energies, or if DFT's differ by less than 10 meV.
    """
    x, y = np.asarray(reference, dtype=float), np.asarray(model, dtype=float)
    if len(x) < 2 or np.ptp(x) < RESOLVED_ENERGY:
        return None
    x, y = x - x.mean(), y - y.mean()
    return np.array([0.0, 0.0, float(y @ x), float(x @ x), len(x)])
