"""Intervals cover what they say, whatever belongs together."""

from __future__ import annotations

import numpy as np
import pytest

from defectbench.scoring.intervals import (
    bootstrap_interval,
    grouped_interval,
    interval_of_draws,
    mean_interval,
    median_with_interval,
    units,
)

TRIALS = 400


def coverage(draw, truth: float) -> float:
    """How often the interval of a mean holds the true one; ``draw`` gives values and labels."""
    generator = np.random.default_rng(5)
    hits = 0
    for _ in range(TRIALS):
        values, labels = draw(generator)
        low, high = mean_interval(values, labels)
        hits += low <= truth <= high
    return hits / TRIALS


def flat(size, sample):
    return lambda g: (sample(g, size), None)


def nested(states: int, configurations: int, defects: int, of_defect: float, of_state: float, rest: float):
    """Values that vary between defects, between the charge states of one, and within a charge state."""
    labels = [(f"V_{d}", q, c) for d in range(defects) for q in range(states) for c in range(configurations)]

    def draw(g):
        defect = np.repeat(g.normal(scale=of_defect, size=defects), states * configurations)
        state = np.repeat(g.normal(scale=of_state, size=defects * states), configurations)
        return defect + state + g.normal(scale=rest, size=len(labels)), labels

    return draw


@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (flat(5, lambda g, n: g.normal(size=n)), 0.0),
        (flat(5, lambda g, n: g.uniform(size=n)), 0.5),
        (flat(7, lambda g, n: g.beta(2, 5, size=n)), 2 / 7),
        (flat(20, lambda g, n: g.exponential(size=n)), 1.0),
        (nested(6, 7, 1, 0.0, 1.0, 0.3), 0.0),
        (nested(3, 4, 6, 1.0, 0.5, 0.3), 0.0),
    ],
    ids=["5 normal", "5 uniform", "7 beta", "20 exponential", "6 charge states", "6 defects"],
)
def test_an_interval_covers_the_truth_as_often_as_it_says(draw, truth):
    assert 0.9 <= coverage(draw, truth) <= 0.99


def test_configurations_drawn_one_by_one_would_be_twice_too_sure():
    values, labels = nested(6, 7, 1, 0.0, 1.0, 0.3)(np.random.default_rng(0))
    (low, high), (few_low, few_high) = mean_interval(values, labels), mean_interval(values)
    assert high - low > 2 * (few_high - few_low)


def test_defects_are_drawn_where_there_are_five():
    four, five = ([(f"V_{d}", q) for d in range(n) for q in (0, 1)] for n in (4, 5))
    assert units(four) == four
    assert units(five) == [defect for defect, _ in five]
    assert units(["a", "a", "b"]) == [("a",), ("a",), ("b",)]


def test_all_ways_draw_alike():
    values, labels = nested(6, 3, 1, 0.0, 1.0, 0.3)(np.random.default_rng(1))
    expected = bootstrap_interval(values, lambda v: float(v.mean()), labels)
    assert mean_interval(values, labels) == pytest.approx(expected)
    sums = np.column_stack([values, np.ones(len(values))])
    assert grouped_interval(sums, labels, lambda t: float(t[:, 0].sum() / t[:, 1].sum()))[1] == pytest.approx(expected)


def test_a_median_is_drawn_as_any_other_statistic():
    values = np.random.default_rng(2).normal(size=11)
    middle, interval = median_with_interval(values)
    assert middle == np.median(values)
    assert interval == pytest.approx(bootstrap_interval(values, lambda v: float(np.median(v))))
    assert median_with_interval(values[:1]) == (values[0], None)


def test_the_order_of_rows_changes_nothing():
    values, labels = nested(6, 3, 1, 0.0, 1.0, 0.3)(np.random.default_rng(1))
    assert mean_interval(values[::-1], labels[::-1]) == pytest.approx(mean_interval(values, labels))


def test_one_unit_has_no_interval():
    assert mean_interval(np.array([1.0])) is None
    assert mean_interval(np.array([1.0, 2.0]), [("V", 0), ("V", 0)]) is None


def test_draws_that_rarely_differ_keep_the_ends_in_order() -> None:
    drawn = np.array([0.0] * 1980 + [-1.0] * 20)  # the upper percentile lies above the mean, the lower one as well
    low, high = interval_of_draws(drawn, 5)
    assert drawn.min() <= low <= high <= drawn.max()
    assert high == 0.0
