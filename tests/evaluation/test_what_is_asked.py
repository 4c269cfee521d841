"""What may be asked of the main job, and what is refused before anything runs."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml
from refusals import check_refusal, raises_code
from toy_runs import run_here
from typer.testing import CliRunner

from defectbench.base.hardware import gpus
from defectbench.calculations.plan import make_plan, select_states
from defectbench.cli import app
from defectbench.tasks import get_tasks


def test_selection_names_the_nearest(dataset):
    for wrong, code, near in (
        ({"defects": ["V_Sb"]}, "unknown-defect", "V_Sb1"),
        ({"defects": ["V_Sb1"], "charges": [7]}, "unknown-charge", "+7"),
        ({"configurations": ["Dimmer"]}, "unknown-configuration", "Dimer"),
    ):
        with raises_code(code, near):
            select_states(dataset, **wrong)


def test_states_without_a_reference_are_skipped_visibly(dataset):
    states, skipped = select_states(dataset)
    chosen = {(s.defect, s.charge) for s in states}
    assert chosen == {s for s in dataset.states if dataset.has_reference(*s)}
    assert {(d, q) for d, q, _ in skipped} == set(dataset.states) - chosen
    assert all("reference" in reason for _, _, reason in skipped)


def test_a_selection_of_nothing_is_refused(dataset):
    without = next(((d, q) for d, q in dataset.states if not dataset.has_reference(d, q)), None)
    if without is None:
        pytest.skip("every state of the dataset has a reference")
    with raises_code("nothing-to-run"):
        select_states(dataset, defects=[without[0]], charges=[without[1]])


def test_the_plan_holds_each_distinct_calculation_once(dataset):
    states, skipped = select_states(dataset, defects=["V_Sb1"])
    blind = make_plan(dataset, states, skipped, get_tasks(["relax"]), takes_charge=False)
    aware = make_plan(dataset, states, skipped, get_tasks(["relax"]), takes_charge=True)
    assert len({c.content_hash for c in blind.calculations}) == len(blind.calculations)
    assert aware.shared == 0
    assert blind.shared > 0
    assert all(c.charge is None for c in blind.calculations)
    assert {c.charge for (_, q, _), c in aware.relaxations.items()} == set(dataset.charges("V_Sb1"))
    assert all(c.charge == q for (_, q, _), c in aware.relaxations.items())


# refusals


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"workers": 0}, "bad-input"),
        ({"workers": 99999999999999999999}, "bad-input"),
        ({"device": "tpu"}, "unknown-device"),
        ({"suite": "some"}, "unknown-suite"),
        *[({name: ""}, "empty-value") for name in ("dataset", "output", "environment", "model_weights", "name")],
        *[({name: []}, "empty-value") for name in ("defects", "charges", "configurations")],
        ({"name": "mine"}, "bad-input"),
    ],
)
def test_what_cannot_be_meant_is_refused(toy, tmp_path, wrong, code):
    with raises_code(code) as refused:
        run_here(**{"model": toy(), "output": tmp_path / "run", **wrong})
    assert refused.value.exit_code == 2
    assert not (tmp_path / "run").exists()


def test_a_range_that_leaves_out_every_charge_is_refused_beforehand(toy, tmp_path):
    path = toy("hears", charge="info:charge", hears=True)
    definition = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(definition | {"charge": {"how": "info:charge", "range": [5, 9]}}))
    with raises_code("nothing-to-run"):
        run_here(path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(bool(gpus()), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(toy, tmp_path):
    with raises_code("no-device", "cuda"):
        run_here(toy(), tmp_path / "run", device="cuda", executor=None)
    assert not (tmp_path / "run" / "entry.json").exists()


def test_an_output_that_cannot_be_made_is_refused(toy, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "run" / "entry.json").mkdir(parents=True)
    for given in (tmp_path / "file" / "run", tmp_path / "file", tmp_path / "run"):
        with raises_code("bad-output", given):
            run_here(toy(), given)


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["--model", "sevennet0"], "unknown-model", "sevennet-0"),
        (["--dataset", "sb2se3-vacancy"], "unknown-dataset", "sb2se3-vacancies"),
        (["--defect", "V_Sb"], "unknown-defect", "V_Sb1"),
        (["--charge", "-9"], "unknown-charge", "−9"),
        (["--configurations", "Dimmer"], "unknown-configuration", "Dimer"),
        (["--task", "relaxx"], "unknown-task", "relax"),
        (["--model", "nowhere.yaml"], "no-file", "nowhere.yaml"),
        (["--dataset", "./no-such-folder"], "no-dataset", "no-such-folder"),
        (["--environment", "/no/such/environment"], "unknown-environment", "/no/such/environment"),
        (["--configurations", " , "], "empty-value", "--configurations"),
        (["--dataset", ""], "empty-value", "--dataset"),
        (["--model-weights", "/no/such/file.pth"], "no-weights", "/no/such/file.pth"),
    ],
)
def test_bad_input_of_the_command(tmp_path, arguments, code, named):
    defaults = {"--model": "chgnet-0.3.0", "--output": str(tmp_path / "run"), "--environment": "current"}
    more = [x for name, value in defaults.items() if name not in arguments for x in (name, value)]
    error = CliRunner().invoke(app, ["evaluate", "--trust-code", *arguments, *more]).exception
    check_refusal(error, code, named)
    assert error.exit_code == 2


def test_help_and_import_are_quick_and_light():
    heavy = ("numpy", "ase", "scipy", "matplotlib", "pandas", "torch")
    code = f"import sys, defectbench, defectbench.cli; print([m for m in {heavy} if m in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
