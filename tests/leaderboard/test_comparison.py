"""Two entries: what is a regression, what only looks so, and what does not compare."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import numpy as np
import pytest
from refusals import raises_code
from small_tasks import RELAX
from table_rows import make_row

from defectbench.base.errors import DefectbenchError, UnknownNameError
from defectbench.leaderboard.changes import changes_of
from defectbench.leaderboard.comparison import CERTIFICATE, Comparison, Side, compare, judge, shared_states
from defectbench.leaderboard.gate import FORMATS, read_tolerances, to_json
from defectbench.leaderboard.scores import score_results
from defectbench.scoring.metrics import Metrics, NotAvailable
from defectbench.scoring.paired import Sample, paired_difference
from defectbench.scoring.task import MetricDefinition, Task, TaskResult
from defectbench.tasks.relax.rows import ConfigurationRow, StateRow
from defectbench.tasks.transition_levels.rows import LevelRow

FAILED = NotAvailable("exploded", applies=True)
NOT_ASKED = NotAvailable("no data", applies=False)
BASE = np.array([0.02, 0.3, 0.05, 0.4, 0.1, 0.2, 0.08])
"""Easy and hard charge states: they differ far more than two versions of a model do."""


def relax(rmsd=BASE, success=None, rows=(), tables=None):
    out = Metrics(RELAX.metrics)
    for name, values in (("rmsd", rmsd), ("strict_success", BASE < 0.15 if success is None else success)):
        if isinstance(values, NotAvailable):
            out.lacking(name, values)
        else:
            out.mean(name, values)
    out.value("steps", 12.0)
    return {"relax": TaskResult("relax", out.done(), tuple(rows), tables=tables or {})}


def verdicts(old, new, **options):
    return {c.metric.name: c.verdict for c in judge([RELAX], old, new, **options)}


def regressions(old, new, **options):
    return [c.metric.name for c in judge([RELAX], old, new, **options) if c.regression]


def test_results_compared_with_themselves_are_the_same():
    assert verdicts(relax(), relax()) == {"rmsd": "same", "strict_success": "same", "steps": "not judged"}


def test_a_small_change_everywhere_is_found_though_the_intervals_of_both_overlap():
    worse = relax(BASE + np.array([3, 4, 5, 3, 4, 5, 4]) / 1000)
    old, new = (found["relax"].metric("rmsd").interval for found in (relax(), worse))
    assert new[0] < old[1]
    assert verdicts(relax(), worse)["rmsd"] == "worse"
    assert verdicts(worse, relax())["rmsd"] == "better"


def test_a_change_in_one_charge_state_is_not_resolved():
    assert verdicts(relax(), relax(BASE + np.array([0.3, 0, 0, 0, 0, 0, 0])))["rmsd"] == "same"


def test_of_fractions_less_is_worse():
    assert verdicts(relax(success=np.ones(7)), relax(success=np.zeros(7)))["strict_success"] == "worse"
    assert verdicts(relax(success=np.zeros(7)), relax(success=np.ones(7)))["strict_success"] == "better"


def test_a_change_that_does_not_matter_is_none_however_sharp_it_is():
    assert verdicts(relax(), relax(BASE + 0.001))["rmsd"] == "same"
    assert verdicts(relax(), relax(BASE + 0.001), tolerances={"relax.rmsd": 0.0})["rmsd"] == "worse"
    assert verdicts(relax(), relax(BASE + 0.04), tolerances={"relax.rmsd": 0.05})["rmsd"] == "same"


def test_a_value_that_the_model_fails_to_give_is_worse_and_one_that_came_is_better():
    assert regressions(relax(), relax(FAILED)) == ["rmsd"]
    assert verdicts(relax(FAILED), relax())["rmsd"] == "better"
    assert verdicts(relax(FAILED), relax(FAILED))["rmsd"] == "not judged"
    assert verdicts(relax(), relax(NOT_ASKED))["rmsd"] == "not judged"


def test_one_charge_state_says_nothing():
    assert verdicts(relax(BASE[:1]), relax(BASE[:1] + 1.0))["rmsd"] == "not judged"


def test_what_does_not_count_cannot_fail_unless_it_is_chosen():
    shown = Task(
        "relax",
        "",
        "",
        (MetricDefinition("rmsd", "RMSD", "Å", "lower", 0.0, 0.2, "", weight=0),),
        RELAX.calculations,
        RELAX.score,
        RELAX.draw,
        3,
    )
    (change,) = judge([shown], relax(), relax(BASE + 0.1))
    assert (change.verdict, change.regression) == ("worse", False)
    (change,) = judge([shown], relax(), relax(BASE + 0.1), metrics=["relax.rmsd"])
    assert change.regression


def test_metrics_are_chosen_by_name_and_unknown_ones_are_named():
    assert verdicts(relax(), relax(), metrics=["rmsd"]) == {"rmsd": "same"}
    for wrong in ({"metrics": ["rmsdd"]}, {"tolerances": {"relax.rmds": 0.1}}):
        with pytest.raises(UnknownNameError) as refused:
            judge([RELAX], relax(), relax(), **wrong)
        assert refused.value.code == "unknown-metric"


def mean(rows):
    return float(rows.mean())


def test_the_paired_interval_of_a_mean_is_that_of_the_t_test():
    from scipy.stats import ttest_rel

    other = BASE + np.random.default_rng(3).normal(0.02, 0.01, 7)
    found = paired_difference(Sample(BASE, mean), Sample(other, mean), samples=10_000)
    assert found.interval == pytest.approx(tuple(ttest_rel(other, BASE).confidence_interval()), abs=5e-4)


def test_different_numbers_of_values_are_drawn_independently_which_is_wider():
    paired = paired_difference(Sample(BASE, mean), Sample(BASE + 0.01, mean))
    alone = paired_difference(Sample(BASE, mean), Sample(BASE[1:] + 0.01, mean))
    assert (paired.paired, alone.paired) == (True, False)
    assert alone.interval[1] - alone.interval[0] > 5 * (paired.interval[1] - paired.interval[0] + 1e-3)


def test_rows_of_one_label_are_drawn_together_in_whatever_order():
    rows, labels = np.array([(v, 1.0) for v in BASE]), ["a", "a", "b", "b", "c", "c", "c"]

    def ratio(table):
        return float(table[:, 0].sum() / table[:, 1].sum())

    for summed in (False, True):
        found = paired_difference(Sample(rows, ratio, labels, summed), Sample(rows[::-1], ratio, labels[::-1], summed))
        assert (found.value, *found.interval) == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)
        assert (found.items, found.paired) == (3, True)


def test_a_charge_state_that_one_model_lacks_keeps_the_others_paired():
    labels = list("abcdefg")
    found = paired_difference(Sample(BASE, mean, labels), Sample(BASE[1:], mean, labels[1:]))
    assert found.paired
    assert found.value == pytest.approx(BASE[1:].mean() - BASE.mean())


@pytest.mark.parametrize("states", [5, 15])
def test_false_alarms_are_as_rare_as_the_interval_promises(states):
    """Two models that are equally good on average, on charge states of very different difficulty: 2.5 % of cases alarm."""
    draw = np.random.default_rng(states)
    alarms, trials = 0, 300
    for _ in range(trials):
        difficulty = draw.gamma(1.0, 0.15, states)
        old, new = (np.abs(difficulty + draw.normal(0, 0.03, states)) for _ in range(2))
        found = paired_difference(Sample(old, mean), Sample(new, mean), samples=100)
        alarms += found.interval[0] > 0
    assert 0.0 < alarms / trials <= 0.052  # 2.5 %, within three standard errors of 300 trials


def test_a_real_change_is_found_by_pairing_where_independent_samples_hide_it():
    draw = np.random.default_rng(1)
    found = 0
    for _ in range(100):
        difficulty = draw.gamma(1.0, 0.15, 10)
        old, new = difficulty + draw.normal(0, 0.01, 10), difficulty + 0.02 + draw.normal(0, 0.01, 10)
        found += paired_difference(Sample(old, mean), Sample(new, mean), samples=100).interval[0] > 0
    assert found > 90


def state(charge, minimum="Dimer", energy=0.0, rmsd=0.05):
    return make_row(StateRow, defect="V_X", charge=charge, minimum=minimum, energy_above_ground_state=energy, rmsd=rmsd)


def configuration(charge, minimum, status="converged"):
    return make_row(ConfigurationRow, defect="V_X", charge=charge, minimum=minimum, status=status)


def test_charge_states_and_basins_that_got_better_or_worse():
    old = relax(
        rows=[state(0), state(1), state(2, None, None, 0.3), state(3)],
        tables={"configurations": (configuration(0, "Dimer"), configuration(0, "Trimer"), configuration(1, "Dimer"))},
    )
    new = relax(
        rows=[state(0, "Trimer", 0.4, 0.04), state(1, rmsd=0.06), state(2, None, None, 0.1), state(3, None, None, None)],
        tables={"configurations": (configuration(0, "Trimer"), configuration(0, "Dimer", "unconverged"), configuration(1, "Other"))},
    )
    found = changes_of(old, new, same_hardware=True)
    assert [s.direction for s in found.states] == ["worse", "same", "better", "worse"]
    assert (found.states[0].lost, found.states[0].won) == (("Dimer",), ())
    assert (found.states[1].lost, found.states[1].won) == (("Dimer",), ("Other",))


def test_levels_that_moved_came_or_went():
    def levels(own, basin):
        row = make_row(LevelRow, defect="V_X", level="ε(0/−1)", reference_ev=0.5, own_ev=own, basin_ev=basin)
        return {"transition_levels": TaskResult("transition_levels", (), (), tables={"levels": (row,)})}

    found = changes_of(levels(0.4, 0.5), levels(0.4001, 0.6), same_hardware=True).levels
    assert [(c.by, c.baseline, c.candidate) for c in found] == [("basins", 0.5, 0.6)]
    assert [c.by for c in changes_of(levels(None, 0.5), levels(0.4, None), True).levels] == ["energies", "basins"]


def test_what_both_have_is_compared(make_entry):
    old, new = make_entry(configurations=("Unperturbed", "Dimer")), make_entry(configurations=("Dimer", "Rattled"))
    assert [s.configurations for s in shared_states(old, new)] == [("Dimer",)]


@pytest.mark.parametrize("other", [{"sha256": "b" * 64}, {"configurations": ("Rattled",)}], ids=["data", "configurations"])
def test_entries_of_different_things_do_not_compare(write_entry, other):
    with pytest.raises(DefectbenchError) as refused:
        compare(write_entry("old"), write_entry("new", **other))
    assert (refused.value.code, refused.value.exit_code) == ("not-comparable", 2)


def test_relaxations_with_other_settings_do_not_compare(write_entry):
    old, new = write_entry("old"), write_entry("new")
    content = json.loads((new / "entry.json").read_text())
    content["provenance"]["protocol"]["fmax"] = 0.05
    (new / "entry.json").write_text(json.dumps(content))
    with raises_code("not-comparable", "fmax"):
        compare(old, new)


@pytest.fixture
def comparison():
    """A comparison with a regression, made by hand; keywords change the charge classes."""

    def make(new=None, classes=("charge-blind", "charge-blind"), verdict="same"):
        old = relax(rows=[state(0), state(1)], tables={"configurations": (configuration(0, "Dimer"),)})
        new = new or relax(BASE + 0.05, rows=[state(0, "]]> ::error::\n<b>", 0.4), state(1)])
        sides = [Side("toy", "Toy | <b>", 4, score_results(found)) for found in (old, new)]
        changes = judge([RELAX], old, new)
        return Comparison(*sides, "data", 7, 14, changes, verdict, classes, changes_of(old, new, True), 0.95, ("a note",))

    return make


def test_a_lower_charge_class_is_a_regression(comparison):
    found = comparison(relax(), ("charge-aware", "charge-blind"), "worse")
    assert (found.regressions, found.passed) == ((CERTIFICATE,), False)
    assert comparison(relax()).passed


def test_the_formats_say_the_same(comparison):
    found = comparison()
    assert found.regressions == ("relax.rmsd",)
    said = json.loads(FORMATS["json"](found, False))
    assert said == to_json(found)
    assert (said["passed"], said["regressions"]) == (False, ["relax.rmsd"])
    suite = ElementTree.fromstring(FORMATS["junit"](found, False).encode())
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert (failed, suite.get("failures"), int(suite.get("tests"))) == (["rmsd"], "1", 4)
    assert "| `relax.rmsd` (Å) |" in FORMATS["markdown"](found, False)


def test_texts_of_an_entry_cannot_give_commands(comparison):
    lines = FORMATS["github"](comparison(), False).splitlines()
    assert [line.split(" ")[0] for line in lines] == ["::error", "::warning", "::notice"]
    assert "<b>" not in FORMATS["markdown"](comparison(), False)


def test_a_tolerance_file_has_a_closed_schema(tmp_path):
    path = tmp_path / "tolerance.yaml"
    path.write_text("metrics:\n  relax.rmsd: 0.01\n")
    assert read_tolerances(path) == {"relax.rmsd": 0.01}
    for wrong in ("metrics:\n  relax.rmsd: -1\n", "metric:\n  relax.rmsd: 1\n", "metrics:\n  relax.rmsd: much\n"):
        path.write_text(wrong)
        with pytest.raises(DefectbenchError) as refused:
            read_tolerances(path)
        assert refused.value.code == "bad-tolerance"
