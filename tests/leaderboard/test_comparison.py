"""Two entries: what is worse, what only looks so, and what does not compare."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from defectbench.base.errors import DefectbenchError, RunError
from defectbench.leaderboard.comparison import compare

pytestmark = pytest.mark.usefixtures("small_tasks")


def verdicts(found):
    return {f"{c.task}.{c.metric.name}": c.verdict for c in found.changes}


def test_an_entry_compared_with_itself_is_the_same(make_entry):
    found = compare(make_entry(), make_entry())
    assert verdicts(found) == {
        "relax.rmsd": "same",
        "relax.strict_success": "same",
        "relax.steps": "not judged",
        "cost.seconds_per_call": "not judged",
    }
    assert found.worse == ()


@pytest.mark.parametrize(
    ("rmsd", "verdict"),
    [
        ((0.12, (0.10, 0.14)), "same"),  # 0.02 worse, joint half-width 0.028
        ((0.14, (0.12, 0.16)), "worse"),
        ((0.08, (0.06, 0.10)), "same"),
        ((0.06, (0.04, 0.08)), "better"),
        ((0.14, (0.13, 0.34)), "worse"),  # a long tail away from the old value
        ((0.14, (0.04, 0.16)), "same"),  # and one towards it
        ((0.14, None), "worse"),
    ],
)
def test_a_change_counts_beyond_the_joint_interval(make_entry, rmsd, verdict):
    found = compare(make_entry(), make_entry(rmsd=rmsd))
    assert verdicts(found)["relax.rmsd"] == verdict
    assert ("relax.rmsd" in found.worse) == (verdict == "worse")


def test_uncertainty_towards_the_other_value_is_what_counts(make_entry):
    old = make_entry(rmsd=(0.1, (0.09, 0.2)))
    assert verdicts(compare(old, make_entry(rmsd=(0.14, (0.13, 0.15)))))["relax.rmsd"] == "same"
    assert verdicts(compare(old, make_entry(rmsd=(0.06, (0.05, 0.07)))))["relax.rmsd"] == "better"


def test_for_fractions_less_is_worse(make_entry):
    found = compare(make_entry(success=(0.9, (0.8, 1.0))), make_entry(success=(0.2, (0.1, 0.3))))
    assert verdicts(found)["relax.strict_success"] == "worse"
    assert compare(make_entry(success=(0.2, (0.1, 0.3))), make_entry(success=(0.9, (0.8, 1.0)))).worse == ()


def test_a_change_that_does_not_matter_is_none_even_without_an_interval(make_entry):
    found = compare(make_entry(rmsd=(0.1, None)), make_entry(rmsd=(0.1015, None)))
    assert verdicts(found)["relax.rmsd"] == "same"


def test_a_value_that_is_gone_is_worse_and_one_that_came_is_better(make_entry):
    gone = (None, None, "exploded")
    assert compare(make_entry(), make_entry(rmsd=gone)).worse == ("relax.rmsd",)
    assert verdicts(compare(make_entry(rmsd=gone), make_entry()))["relax.rmsd"] == "better"
    assert verdicts(compare(make_entry(rmsd=gone), make_entry(rmsd=gone)))["relax.rmsd"] == "not judged"
    assert compare(make_entry(), make_entry(rmsd=(None, None, "no data", False))).worse == ("relax.rmsd",)


def test_a_task_that_is_gone_is_worse(make_entry):
    new = make_entry()
    new = new.model_copy(update={"tasks": {"cost": new.tasks["cost"]}})
    assert compare(make_entry(), new).worse == ("relax.rmsd", "relax.strict_success")


def test_losing_the_charge_is_worse(make_entry):
    found = compare(make_entry(charge_class="charge-aware"), make_entry())
    assert found.worse == ("certificate",)
    assert compare(make_entry(), make_entry(charge_class="charge-aware")).worse == ()


def test_speed_is_shown_and_not_judged(make_entry):
    found = compare(make_entry(), make_entry(seconds=0.9))
    assert found.worse == ()
    assert next(c for c in found.changes if c.task == "cost").difference == pytest.approx(0.7)


@pytest.mark.parametrize(
    "other", [{"sha256": "b" * 64}, {"configurations": ("Unperturbed",)}, {"protocol": "v2"}], ids=["data", "configurations", "protocol"]
)
def test_entries_of_different_things_do_not_compare(make_entry, other):
    with pytest.raises(DefectbenchError, match="do not compare"):
        compare(make_entry(), make_entry(**other))


def test_another_version_is_said(make_entry):
    assert any("rescore" in note for note in compare(make_entry(), make_entry(version="9.9")).notes)


@pytest.fixture
def invoke():
    from defectbench.cli import app

    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})


def test_the_command_fails_only_if_it_is_asked_to_and_something_is_worse(invoke, write_entry):
    old, worse = write_entry("old"), write_entry("worse", rmsd=(0.19, (0.18, 0.2)))
    shown = invoke("compare", old, worse)
    assert shown.exit_code == 0
    assert "worse" in shown.stdout
    assert invoke("compare", old, old, "--fail-if-worse").exit_code == 0
    assert invoke("compare", worse, old, "--fail-if-worse").exit_code == 0
    failed = invoke("compare", old, worse, "--fail-if-worse")
    assert isinstance(failed.exception, RunError)
    assert failed.exception.exit_code == 1
    assert "relax.rmsd" in str(failed.exception)
