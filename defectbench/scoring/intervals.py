"""Means, caps, slopes and bootstrap intervals that the tasks share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

RESOLVED_ENERGY = 0.01
"""eV: charge states whose frames differ by less than this in DFT have no slope of energies."""


def rng(seed: int = 0) -> np.random.Generator:
    """The generator that every bootstrap uses."""
    import numpy as np

    return np.random.default_rng(seed)


def bootstrap_interval(
    values: NDArray[np.float64], statistic: Callable[[NDArray[np.float64]], float], samples: int = 1000, seed: int = 0
) -> tuple[float, float] | None:
    """Percentile bootstrap 95 % interval of a statistic over the first axis (Efron 1979, doi:10.1214/aos/1176344552).

    Args:
        values: (n, …), one entry per configuration (or state).
        statistic: from a resampled array to a number.

    Returns:
        (low, high), or None for fewer than two entries.
    """
    import numpy as np

    n = len(values)
    if n < 2:
        return None
    generator = rng(seed)
    drawn = [statistic(values[generator.integers(0, n, n)]) for _ in range(samples)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def mean_interval(values: NDArray[np.float64], samples: int = 1000, seed: int = 0) -> tuple[float, float] | None:
    """:func:`bootstrap_interval` of the mean of (n,) values, all samples at once: the same numbers, much faster."""
    import numpy as np

    n = len(values)
    if n < 2:
        return None
    low, high = np.percentile(values[rng(seed).integers(0, n, (samples, n))].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def grouped_interval(
    rows: Floats, groups: Sequence[object], statistic: Callable[[Floats], float]
) -> tuple[float | None, tuple[float, float] | None]:
    """A statistic of additive rows and its bootstrap 95 % interval over groups of rows.

    Args:
        rows: (n, k) numbers of which the statistic needs only column sums, e.g. (sum of squares, count).
        groups: n labels; rows of one label (frames of one relaxation) are drawn together.
        statistic: from (m, k) sums, one row per group, to a number.

    Returns:
        (value, interval); (None, None) for no rows.
    """
    if not len(rows):
        return None, None
    sums: dict[object, Floats] = {}
    for label, row in zip(groups, rows, strict=True):
        sums[label] = sums[label] + row if label in sums else np.array(row, dtype=float)
    table = np.array([sums[label] for label in sorted(sums, key=str)])
    return statistic(table), bootstrap_interval(table, statistic)


def capped(value: float | None, cap: float) -> float:
    """What a value counts in an average: at most ``cap``, and ``cap`` for a miss (None)."""
    return cap if value is None else min(float(value), cap)


def mean_with_interval(values: Iterable[float]) -> tuple[float | None, tuple[float, float] | None]:
    """Mean of values and its bootstrap 95 % interval; (None, None) for no values."""
    array = np.array(list(values), dtype=float)
    if not len(array):
        return None, None
    return float(array.mean()), mean_interval(array)


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
