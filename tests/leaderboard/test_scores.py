"""Scores from anchors and weights; what is left out, what counts as failed; baselines and gains."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from defectbench.leaderboard.scores import (
    anchored,
    best_baselines,
    gains,
    mean_gain,
    score_baselines,
    score_metric,
    score_results,
    score_task,
)
from defectbench.scoring.task import MetricDefinition, MetricValue, Task, TaskResult
from defectbench.tasks import get_tasks

ERROR = MetricDefinition("error", "error", "Å", "lower", 0.0, 0.2, "how far off", weight=1)
HITS = MetricDefinition("hits", "hits", "1", "higher", 1.0, 0.0, "how many found", weight=3)
STEPS = MetricDefinition("steps", "steps", "1", "none", None, None, "how long it took")


def task(name, weight, *metrics):
    return Task(name, name.title(), "", metrics, lambda _: (), lambda _: None, lambda *_: [], weight)


FIRST, SECOND = task("first", 3, ERROR, HITS, STEPS), task("second", 1, ERROR)


@pytest.fixture
def two_tasks(monkeypatch):
    monkeypatch.setattr("defectbench.tasks.get_tasks", lambda _=None: (FIRST, SECOND))


def found(name, value=None, interval=None, reason=None, applies=True):
    return MetricValue(name, value, interval, reason, applies)


finite = st.floats(-1e6, 1e6)


@given(value=finite, bad=finite, good=finite)
def test_a_score_is_linear_between_its_anchors_and_clamped(value, bad, good):
    if good == bad:
        with pytest.raises(ValueError, match="equal"):
            anchored(value, bad, good)
        return
    score = anchored(value, bad, good)
    assert 0.0 <= score <= 1.0
    assert anchored(good, bad, good) == 1.0
    assert anchored(bad, bad, good) == 0.0
    inside = (value - bad) / (good - bad)
    if 0 < inside < 1:
        assert score == pytest.approx(inside)


@given(first=finite, second=finite)
def test_better_values_never_score_less(first, second):
    low, high = sorted((first, second))
    assert score_metric(ERROR, found("error", low)).score >= score_metric(ERROR, found("error", high)).score
    assert score_metric(HITS, found("hits", low)).score <= score_metric(HITS, found("hits", high)).score


def test_a_failure_scores_0_and_what_does_not_apply_is_left_out():
    failed = score_metric(ERROR, found("error", None, reason="exploded"))
    assert (failed.status, failed.score, failed.counts, failed.reason) == ("failed", 0.0, True, "exploded")
    absent = score_metric(ERROR, found("error", None, reason="no reference", applies=False))
    assert (absent.status, absent.score, absent.counts) == ("left out", None, False)
    assert score_metric(STEPS, found("steps", 12.0)).status == "information"
    assert score_metric(ERROR, None).status == "left out"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_a_failure(value):
    assert score_metric(ERROR, found("error", value)).score == 0.0


@given(value=st.floats(0, 0.5), low=st.floats(0, 0.5), high=st.floats(0, 0.5))
def test_bounds_hold_the_score(value, low, high):
    scored = score_metric(ERROR, found("error", value, (min(low, high), max(low, high))))
    assert scored.bounds[0] <= scored.score <= scored.bounds[1]


def test_a_task_is_the_weighted_mean_of_what_counts():
    result = TaskResult("first", (found("error", 0.1, (0.05, 0.15)), found("hits", 1.0), found("steps", 9.0)), ())
    scored = score_task(FIRST, result)
    assert scored.score == pytest.approx((1 * 0.5 + 3 * 1.0) / 4)
    assert scored.bounds == pytest.approx(((0.25 + 3) / 4, (0.75 + 3) / 4))
    assert scored.coverage == 1.0
    without = score_task(FIRST, TaskResult("first", (found("error", 0.1), found("hits", applies=False)), ()))
    assert without.score == pytest.approx(0.5)
    assert without.coverage == pytest.approx(0.25)
    missed = score_task(FIRST, TaskResult("first", (found("error", 0.1), found("hits")), ()))
    assert missed.score == pytest.approx(0.5 / 4)


def test_a_task_of_which_nothing_applies_has_no_score_and_says_why(two_tasks):
    nothing = TaskResult("second", (found("error", reason="no such data", applies=False),), ())
    full = TaskResult("first", (found("error", 0.0), found("hits", 0.5), found("steps", 1.0)), ())
    score = score_results({"first": full, "second": nothing})
    assert score.task("second").score is None
    assert score.task("second").reason == "no such data"
    assert score.overall == pytest.approx(score.task("first").score)
    assert score.coverage == pytest.approx(0.75)


def test_the_overall_score_is_the_weighted_mean_of_tasks(two_tasks):
    results = {
        "first": TaskResult("first", (found("error", 0.0), found("hits", 0.5), found("steps", 1.0)), ()),
        "second": TaskResult("second", (found("error", 0.2),), ()),
    }
    score = score_results(results)
    assert score.overall == pytest.approx((3 * (1 + 1.5) / 4 + 1 * 0.0) / 4)
    assert score.coverage == 1.0
    assert score_results({}).overall is None


def test_a_metric_of_weight_0_counts_for_nothing(two_tasks):
    shown = task("second", 1, replace(ERROR, weight=0.0))
    scored = score_task(shown, TaskResult("second", (found("error", 0.0),), ()))
    assert scored.metric("error").score == 1.0
    assert scored.score is None


def test_a_model_is_compared_with_a_baseline_on_the_baseline_s_metrics(two_tasks):
    baselines = {"unrelaxed": {"error": 0.1}, "worse": {"error": 0.18}, "none": {"error": None}}
    results = {"first": TaskResult("first", (found("error", 0.05), found("hits", 0.0), found("steps", 1.0)), (), baselines)}
    scored = score_baselines(results)
    assert set(scored) == {"unrelaxed", "worse"}
    assert scored["unrelaxed"].task("first").score == pytest.approx(0.5)
    gain = gains(results)["first"]
    assert (gain.baseline, gain.model, gain.score) == ("unrelaxed", pytest.approx(0.75), pytest.approx(0.5))
    assert mean_gain({"first": gain}) == pytest.approx(0.25)
    assert mean_gain({}) is None


def test_the_best_baselines_together(two_tasks):
    results = {
        "first": TaskResult(
            "first", (found("error", 0.05), found("hits", 0.0), found("steps", 1.0)), (), {"a": {"error": 0.1}, "b": {"error": 0.2}}
        ),
        "second": TaskResult("second", (found("error", 0.0),), ()),
    }
    best, overall = best_baselines(results)
    assert best == {"first": pytest.approx(0.5)}
    assert overall == pytest.approx((3 * 0.5 + 1 * 0.0) / 4)
    assert best_baselines({}) == ({}, None)


def test_a_model_that_fails_what_a_baseline_has_falls_below_it(two_tasks):
    results = {"first": TaskResult("first", (found("error"), found("hits", 1.0), found("steps", 1.0)), (), {"unrelaxed": {"error": 0.1}})}
    assert gains(results)["first"].value == pytest.approx(-0.5)


def test_what_is_easy_for_a_cheat_weighs_nothing():
    relax, cost = get_tasks(["relax", "cost"])
    for name in ("converged", "host_drift", "host_drift_rattled", "spurious_minima"):
        assert relax.metric(name).weight == 0, "a model that does not move atoms gets this right"
    assert cost.weight == 0, "a model that does not calculate is fast"


def test_the_page_on_scores_gives_the_declared_weights():
    page = (Path(__file__).parents[2] / "docs" / "scores.md").read_text()
    rows = {cells[1].strip(): cells for line in page.splitlines() if len(cells := line.split("|")) == 6}
    for declared in get_tasks():
        name = declared.name
        _, _, weight, counted, _, _ = rows[name]
        assert float(weight) == declared.weight, name
        given = {}
        for part in re.findall(r"((?:`\w+`(?:, )?)+) \((\d+)", counted):
            given |= dict.fromkeys(re.findall(r"`(\w+)`", part[0]), float(part[1]))
        assert given == {m.name: m.weight for m in declared.metrics if m.weight > 0}, name
