"""Interactive figures: what an entry's tables say, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from table_rows import make_row

from defectbench.entries.schema import MetricRecord, TaskRecord
from defectbench.leaderboard.charts import entry_charts
from defectbench.leaderboard.entry_view import load_entry
from defectbench.leaderboard.group_charts import MOST_SERIES, group_charts
from defectbench.tasks.ccd.rows import DiagramRow, PointRow
from defectbench.tasks.pes.rows import ConfigurationRow
from defectbench.tasks.relax.rows import StateRow

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


def with_tables(entry, task, metrics=(), charge_class="charge-aware", **tables):
    record = TaskRecord(
        metrics=[MetricRecord(name=name, value=value, interval=None, reason=None) for name, value in metrics],
        tables=tables,
        baselines={},
        notes=[],
    )
    return entry.model_copy(update={"tasks": {task: record}, "certificate": {"charge_class": charge_class}})


def test_a_missing_ground_state_is_shown_where_it_cannot_be_read_as_good(make_entry):
    states = [make_row(StateRow, defect="V_X", charge=0, reason="all failed"), make_row(StateRow, defect="V_X", charge=1, rmsd=0.6)]
    (chart,) = entry_charts(with_tables(make_entry(), "relax", states=states))["relax"]
    (panel,) = chart.panels
    missing = next(series for series in panel.series if series.label == "no ground state")
    assert (missing.x, missing.texts, missing.placed) == (("V_X 0",), ("all failed",), True)
    assert missing.y[0] > 0.6 > panel.limit


def start(name, energy, dft_energy):
    found = {"rmsd": 0.1, "dft_rmsd": 0.1, "energy": energy, "dft_energy": dft_energy}
    return make_row(ConfigurationRow, defect="V_X", configuration=name, status="converged", **found)


@pytest.mark.parametrize(
    ("energies", "drawn", "said"),
    [
        ([(1.0, 5.0), (1.5, 5.2)], {"PBE": (0.0, 0.2), "Toy": (0.0, 0.5)}, ""),
        ([(1.0, 5.0), (1.5, None)], {"Toy": (0.0, 0.5)}, "PBE: 1 start, no curve"),
        ([(1.0, 5.0), (None, 5.2)], {"PBE": (0.0, 0.2)}, "model: 1 start, no curve"),
        ([(None, 5.0), (None, None)], {}, "PBE: 1 start, no curve; model: 0 starts, no curve"),
    ],
)
def test_a_curve_of_one_start_is_not_drawn_but_named(make_entry, energies, drawn, said):
    rows = [start(name, *pair) for name, pair in zip(("Unperturbed", "Dimer"), energies, strict=True)]
    entry = with_tables(make_entry(), "pes", metrics=[("curve_error", None)], states=[], configurations=rows)
    (panel,) = entry_charts(entry)["pes"][0].panels
    assert {series.label: series.y for series in panel.series} == drawn
    assert panel.note == said


def coordinate(entry, charge_class, separation):
    pair = {"defect": "V_X", "upper": 1, "lower": 0}
    points = [
        make_row(PointRow, **pair, charge=charge, q_amu_angstrom=q, model_ev=abs(q - at))
        for charge, at in ((1, 0.0), (0, 2.0))
        for q in (0.0, 1.0, 2.0)
    ]
    diagram = make_row(DiagramRow, **pair, separation_reference_ev=0.5, separation_model_ev=separation, delta_q_reference=2.0)
    tables = {"points": points, "diagrams": [diagram]}
    chart = entry_charts(with_tables(entry, "ccd", [("minimum_offset", 0.2)], charge_class, **tables))["ccd"][0]
    return chart, {series.label: (series.x, series.y) for series in chart.panels[0].series}


@pytest.mark.parametrize(("separation", "height"), [(0.7, 0.7), (5.0, 0.5), (None, 0.5)])
def test_curves_of_two_charges_stand_at_the_model_s_own_distance_if_it_is_near(make_entry, separation, height):
    _, drawn = coordinate(make_entry(), "charge-aware", separation)
    assert drawn["Toy, charge +1"][1][0] == 0.0
    assert drawn["Toy, charge 0"][1][-1] == height
    assert drawn["PBE minimum, charge +1"] == ((0.0,), (0.0,))
    assert drawn["PBE minimum, charge 0"] == ((2.0,), (0.5,))


def test_a_charge_blind_model_has_one_curve(make_entry):
    chart, drawn = coordinate(make_entry(), "charge-blind", None)
    assert [label for label in drawn if label.startswith("Toy")] == ["Toy, both charges"]
    assert "takes no charge" in chart.title


def test_basins_stand_at_dft_s_formation_energies(published):
    chart = next(c for c in entry_charts(published)["transition_levels"] if c.name == "formation")
    rows = [r for r in published.tasks["transition_levels"].tables["states"] if r["basin_energy_ev"] is not None]
    drawn = [series.y[0] for series in chart.panels[0].series if "basins" in series.label]
    assert drawn == [r["formation_energy_reference_ev"] + r["basin_energy_ev"] for r in rows]


def test_titles_are_sentences_and_the_data_are_named(published, make_entry):
    charts = [*entry_charts(published).values(), *group_charts([(published, 0.5, None)], 0.4).values()]
    for chart in (chart for found in charts for chart in found):
        assert chart.title.endswith(".")
        assert published.model.name in chart.title or chart.title.startswith("No model")
        assert chart.source == "sb2se3-vacancies, PBE, full suite"


def test_a_name_is_no_formula(make_entry):
    entry = make_entry()
    named = entry.model_copy(update={"model": entry.model.model_copy(update={"name": "a$b"})})
    states = [make_row(StateRow, defect="V_X", rmsd=0.1, success=True)]
    assert entry_charts(with_tables(named, "relax", states=states))["relax"][0].title.startswith("a$b finds")


def test_many_models_are_one_series(make_entry):
    entries = [(make_entry(model=f"m{n}", seconds=0.1 * (n + 1)), 0.5, None) for n in range(MOST_SERIES + 1)]
    speed = group_charts(entries, 0.4)[""][0]
    assert len(speed.panels[0].series) == 1
    assert len(speed.panels[0].series[0].x) == MOST_SERIES + 1
    assert speed.panels[0].lines == ((0.4, "best baselines"),)
