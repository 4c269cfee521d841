"""The command line as a user meets it: arguments, exit codes, messages."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from inspect import signature
from pathlib import Path

import pytest
from refusals import check_refusal, raises_code
from typer.testing import CliRunner

import defectbench
from defectbench.calculations.preparation import ModelOptions
from defectbench.cli import app
from defectbench.cli.arguments import path_of, several, several_charges, text_of

ENTRIES = Path(__file__).parents[2] / "leaderboards" / "sb2se3-vacancies"


def run(*arguments: str):
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=True)


@pytest.mark.parametrize(("given", "items"), [(None, None), (["a,b", "c"], ["a", "b", "c"]), (["a, b"], ["a", "b"]), (["a", "a"], ["a"])])
def test_options_take_lists_and_repeat(given, items):
    assert several(given, "--task") == items


@pytest.mark.parametrize(("given", "charges"), [(["-3,-1"], [-3, -1]), (["-3", "+1"], [-3, 1]), (["−3"], [-3]), (None, None)])
def test_charges(given, charges):
    assert several_charges(given) == charges


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda: several_charges(["a"]), "bad-charge"),
        (lambda: several_charges(["1.5"]), "bad-charge"),
        (lambda: several([","], "--task"), "empty-value"),
        (lambda: text_of("--model")(" "), "empty-value"),
        (lambda: path_of("--output")(""), "empty-value"),
        (lambda: path_of("--output")("x" * 100_000), "bad-path"),
    ],
)
def test_values_that_are_refused(call, code):
    with raises_code(code):
        call()


def test_an_empty_value_names_its_option():
    with raises_code("empty-value", "--environment"):
        text_of("--environment")("")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("models", "show", "chgnt"), "unknown-model"),
        (("evaluate", "--model", "chgnet-0.3.0", "--charge", "x"), "bad-charge"),
        (("evaluate", "--model", "chgnet-0.3.0", "--task", "relaks"), "unknown-task"),
        (("evaluate", "--model", "grace-2l-omat"), "untrusted-model"),
        (("evaluate", "--model", "chgnet-0.3.0", "--dataset", "no"), "unknown-dataset"),
        (("score", "explain", "nowhere"), "no-entry"),
        (("leaderboard", "figure", str(ENTRIES), "-o", __file__), "bad-output"),
        (("leaderboard", "table", str(ENTRIES / "chgnet-0.3.0" / "tables")), "no-entry"),
    ],
)
def test_mistakes_have_codes(arguments, code):
    error = run(*arguments).exception
    check_refusal(error, code)
    assert error.exit_code == 2


def test_a_mistake_is_one_line_on_stderr_with_its_code():
    line = [sys.executable, "-m", "defectbench", "models", "show", "chgnt"]
    ended = subprocess.run(line, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("error[unknown-model]: ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.slow
def test_compare_fails_a_candidate_that_is_worse():
    found = run("compare", "tensornet-matpes-pbe", ENTRIES / "chgnet-0.3.0", "--entries", ENTRIES.parent, "--task", "relax")
    better = run("compare", ENTRIES / "chgnet-0.3.0", ENTRIES / "tensornet-matpes-pbe", "--task", "relax")
    assert (found.exception.code, found.exception.exit_code, better.exit_code) == ("worse", 1, 0)


def test_lists_name_everything():
    models, datasets = run("models", "list").stdout, run("datasets", "list").stdout
    assert all(model.id in models for model in defectbench.list_models())
    assert all(dataset.id in datasets for dataset in defectbench.list_datasets())


@pytest.mark.parametrize("command", [(), ("evaluate",), ("models", "check"), ("datasets", "import"), ("leaderboard", "table")])
def test_help_of_every_command(command):
    assert run(*command, "--help").exit_code == 0


def test_a_default_path_is_taken_as_it_is():
    assert path_of("FOLDER")(Path("leaderboards")) == Path("leaderboards")


def test_models_check_takes_what_evaluate_says_of_a_model(monkeypatch):
    said = {}

    def certify(model, dataset, **options):
        said.update(options, model=model)
        raise defectbench.DefectbenchError("far enough", code="bad-input")

    monkeypatch.setattr("defectbench.certify", certify, raising=False)
    found = run("models", "check", "mace-mf-sb2se3", "--head", "HSE06", "--model-weights", "mine.model", "--name", "mine")
    check_refusal(found.exception, "bad-input")
    assert (said["model"], said["head"], said["model_weights"], said["name"]) == ("mace-mf-sb2se3", "HSE06", Path("mine.model"), "mine")


def test_certify_takes_what_evaluate_says_of_a_model():
    of_model = {field.name for field in fields(ModelOptions)}
    assert of_model <= set(signature(defectbench.certify).parameters)
    assert of_model <= set(signature(defectbench.evaluate).parameters)


def test_a_head_that_there_cannot_be_is_refused_by_models_check():
    check_refusal(run("models", "check", "chgnet-0.3.0", "--head", "HSE06").exception, "bad-head")
