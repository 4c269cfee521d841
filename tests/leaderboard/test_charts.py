"""Interactive figures: what an entry's tables say, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from defectbench.entries.schema import TaskRecord
from defectbench.leaderboard.charts import MOST_SERIES, entry_charts, group_charts
from defectbench.leaderboard.entry_view import load_entry

PUBLISHED = Path(__file__).parents[2] / "leaderboards" / "sb2se3-vacancies" / "sevennet-l3i5"


@pytest.fixture(scope="module")
def published():
    return load_entry(PUBLISHED).record


def test_each_figure_that_people_expect_is_drawn(published):
    assert {chart.name for charts in entry_charts(published).values() for chart in charts} >= {
        "rmsd",
        "landscape",
        "coordinate",
        "parity",
        "descriptors",
        "recall",
        "formation",
        "levels",
    }


def test_points_are_the_values_of_the_table(published):
    (chart,) = entry_charts(published)["relax"]
    rows = published.tasks["relax"].tables["states"]
    assert chart.panels[0].series[0].y == tuple(row["rmsd"] for row in rows)
    landscape = entry_charts(published)["pes"][0]
    assert len(landscape.panels) == len(published.tasks["pes"].tables["states"])


def test_lists_of_a_series_have_one_length(published):
    for charts in entry_charts(published).values():
        for series in (s for chart in charts for panel in chart.panels for s in panel.series):
            assert len(series.x) == len(series.y)
            assert len(series.texts) in (0, len(series.x))
            assert len(series.values) in (0, len(series.x))


def test_an_entry_without_tables_has_no_figures(make_entry):
    assert entry_charts(make_entry()) == {}


def test_a_missing_ground_state_is_shown(make_entry):
    made = make_entry()
    states = [{"defect": "V_X", "charge": 0, "rmsd": None, "reason": "all failed"}, {"defect": "V_X", "charge": 1, "rmsd": 0.2}]
    relax = TaskRecord(metrics=[], tables={"states": states}, baselines={}, notes=[])
    (chart,) = entry_charts(made.model_copy(update={"tasks": {"relax": relax}}))["relax"]
    missing = next(series for series in chart.panels[0].series if series.label == "no ground state")
    assert (missing.x, missing.texts) == (("V_X 0",), ("all failed",))


def test_many_models_are_one_series(make_entry):
    entries = [(make_entry(model=f"m{n}", seconds=0.1 * (n + 1)), 0.5, None) for n in range(MOST_SERIES + 1)]
    speed = group_charts(entries, 0.4)[""][0]
    assert len(speed.panels[0].series) == 1
    assert len(speed.panels[0].series[0].x) == MOST_SERIES + 1
    assert speed.panels[0].lines == ((0.4, "best baselines"),)
