"""What the terminal shows of text that looks like markup: the text."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from defectbench.cli.leaderboard import _print_comparison, _print_overall, _print_task
from defectbench.cli.models import _print_definition
from defectbench.cli.runs import _cell, _LiveReport, print_entry
from defectbench.models.schema import ModelDefinition

TEXTS = ("[/data/model]", "a [red] b", "[/bold]")


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200, force_terminal=False)


def shown(console):
    return console.file.getvalue()


@pytest.mark.parametrize("text", TEXTS)
def test_a_failure_and_a_stage_are_shown_as_they_are(console, text):
    report = _LiveReport(console)
    with report as reporter:
        reporter.stage(f"building {text}")
        reporter.note(f"noted {text}")
        reporter.finished(None, {"status": "failed", "failure": f"no file {text}"})
        report.progress.refresh()
    assert f"noted {text}" in shown(console)
    assert f"failed: no file {text}" in shown(console)
    assert f"building {text}" in shown(console)


@pytest.mark.parametrize("text", TEXTS)
def test_names_and_reasons_of_an_entry_are_shown_as_they_are(console, text):
    from defectbench.entries.schema import Entry

    model = {
        "id": "m",
        "name": f"model {text}",
        "package": "",
        "adapter": "mace",
        "arguments": {},
        "identity": "i",
        "level_of_theory": "PBE",
    }
    machine = {"device": "cpu", "hardware": {}, "workers": 1, "threads_per_worker": 1, "calculations": 0}
    entry = Entry.model_validate(
        {
            "model": model | {"charge": "none", "parameters": None, "weights_sha256": {}, "embedded": False},
            "dataset": {"id": "d", "title": "D", "sha256": "0", "level_of_theory": f"level {text}", "embedded": False},
            "selection": {
                "suite": "full", "tasks": [], "states": [], "skipped": [{"defect": "V", "charge": 0, "reason": f"because {text}"}],
            },
            "certificate": {"charge_class": "charge-blind", "checks": [{"passed": False, "reason": f"check {text}"}]},
            "host": [],
            "configurations": [],
            "tasks": {
                "relax": {
                    "metrics": [{"name": "rmsd", "value": None, "interval": None, "reason": f"reason {text}", "applies": False}],
                    "tables": {}, "baselines": {}, "notes": [],
                },
            },
            "provenance": machine | {
                "defectbench": "0", "created": "", "packages": {}, "environment": "current", "environment_pins_sha256": None,
                "protocol": {"name": "v1"}, "calculation_s": 0.0,
            },
        }
    )  # fmt: skip
    print_entry(console, entry)
    for begin in ("model", "level", "because", "check"):
        assert f"{begin} {text}" in shown(console)


@pytest.mark.parametrize("text", TEXTS)
def test_a_score_s_reasons_and_notes_are_shown_as_they_are(console, text):
    from types import SimpleNamespace as Some

    definition = Some(label="RMSD", unit="1", bad=1.0, good=0.0)
    metric = Some(
        definition=definition, status="failed", reason=f"why {text}", weight=1.0, value=None, interval=None, score=0.0, counts=True
    )
    task = Some(title="Relax", task="relax", metrics=[metric], score=None, reason=f"none {text}", counts=False)
    _print_task(console, task)
    _print_overall(console, Some(tasks=[task], overall=None, coverage=0.0), [])
    none = Some(overall=None)
    found = Some(changes=[], classes=("charge-blind", "charge-blind"), charge_class="same", old=none, new=none, notes=[f"note {text}"])
    _print_comparison(console, found, False)
    assert f"why {text}" in shown(console)
    assert shown(console).count(f"none {text}") == 2
    assert f"note {text}" in shown(console)


@pytest.mark.parametrize("text", TEXTS)
def test_a_definition_is_shown_as_it_is(console, text):
    definition = ModelDefinition(
        id="m", name=f"name {text}", package=f"package {text}", adapter="mace", arguments={f"key {text}": 1}, level_of_theory="PBE"
    )
    _print_definition(console, definition)
    for begin in ("name", "package", "key"):
        assert f"{begin} {text}" in shown(console)


@pytest.mark.parametrize("text", TEXTS)
def test_a_cell_is_shown_as_it_is(console, text):
    console.print(_cell(text))
    assert text in shown(console)


@pytest.mark.parametrize("text", TEXTS)
def test_a_failure_of_a_reference_calculation_is_shown_as_it_is(console, text):
    import sys
    from pathlib import Path
    from types import SimpleNamespace as Some

    sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "reference"))
    from reference_dft.status import Row, table

    console.print(table([Row(Some(label="relax/PBE/V", kind="relax", level="PBE"), "failed", note=f"no file {text}")], 1))
    assert f"no file {text}" in shown(console)
