"""Printed tables: no number is ever cut, and texts of others are shown as text."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from refusals import raises_code

import defectbench
from defectbench.cli import render, render_catalogue
from defectbench.entries.figures import task_result
from defectbench.leaderboard.changes import changes_of
from defectbench.leaderboard.comparison import Comparison, Side, judge
from defectbench.models.environment import EnvironmentStatus
from defectbench.models.schema import ModelDefinition
from defectbench.tasks import get_tasks

ENTRY = Path(__file__).parents[2] / "leaderboards" / "sb2se3-vacancies" / "qet-matq"


def printed(show, *arguments, width=80):
    console = render.make_console(file=io.StringIO(), width=width, force_terminal=False)
    show(console, *arguments)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def entry():
    return defectbench.load_entry(ENTRY)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_number_of_an_entry_is_cut(entry, width):
    text = printed(render.entry, entry, width=width)
    assert "…" not in re.sub(r"\S+ … \S+", "", text)  # an interval is written low … high
    for row in entry.record.tasks["relax"].tables["states"]:
        if row["rmsd"] is not None:
            assert f"{row['rmsd']:.3f}" in text
    for task in entry:
        for metric in entry[task]:
            if metric.status == "scored" and metric.interval and entry[task].scored.metric(metric.name).weight > 0:
                assert f"{metric.interval[0]:.3g} … {metric.interval[1]:.3g}" in text


@pytest.fixture(scope="module")
def comparison(entry):
    """Two published entries by what they store, every difference with an interval as wide as they get."""
    other = defectbench.load_entry(ENTRY.parent / "sevennet-0")
    both = [{name: task_result(name, record) for name, record in one.record.tasks.items()} for one in (entry, other)]
    sides = [Side(one.record.model.id, one.record.model.name, 4, one.score) for one in (entry, other)]
    changes = tuple(replace(c, interval=(-0.0123, -0.00123)) for c in judge([t for t in get_tasks() if t.name in entry], *both))
    return Comparison(*sides, "data", 7, 59, changes, "same", ("charge-aware",) * 2, changes_of(*both, True), 0.95, ())


def test_tables_fit_eighty_columns(entry, comparison):
    definition = defectbench.load_model("qet-matq")
    built = EnvironmentStatus(
        "matgl-with-a-long-name", Path("/a/long/path/of/a/cache/of/environments/0123456789abcdef"), True, 123, (), "cpu"
    )
    texts = [
        printed(render.comparison, comparison, True),
        printed(render_catalogue.models, defectbench.list_models(), set(), {}),
        printed(render_catalogue.datasets, defectbench.list_datasets()),
        printed(render_catalogue.environments, [built]),
        printed(render_catalogue.tasks, get_tasks()),
        *(printed(render_catalogue.task, task) for task in get_tasks()),
        printed(render_catalogue.facts, [("notes", definition.notes)]),
        printed(render._ground_states, entry),
        printed(render._metrics, entry),
        *(printed(render.task_score, task) for task in entry.score.tasks),
    ]
    prose = re.compile(r" *\S.*(: | = |\()")  # sentences beside a table, which a terminal breaks
    lines = [line for text in texts for line in text.splitlines() if line.startswith(" ") and not prose.match(line)]
    assert max(map(len, lines)) <= 80


def test_a_table_of_wide_cells_has_narrow_gaps():
    columns = [render.Column(f"column {n}") for n in range(8)]  # 64 characters, 85 with gaps of three
    assert max(map(len, printed(render.table, columns, [["12345678"] * 8]).splitlines())) <= 80


def test_an_entry_s_score_is_explained(entry):
    text = printed(render.score, entry, ["relax"])
    assert f"{entry['relax'].score:.3f}" in text
    with raises_code("unknown-task"):
        render.score(render.make_console(file=io.StringIO()), entry, ["relaks"])


@pytest.mark.parametrize("text", ["[/data/model]", "a [red] b", "[/bold]"])
def test_texts_of_others_are_shown_as_text(text):
    shown = text
    definition = ModelDefinition(id="m", name=f"name {text}", adapter="mace", arguments={f"key {text}": 1}, level_of_theory="PBE")
    assert f"name {shown}" in printed(render_catalogue.model, definition, width=200)
    assert f"key {shown}" in printed(render_catalogue.model, definition, width=200)
    metric = SimpleNamespace(
        definition=SimpleNamespace(label=f"RMSD {text}", unit="1", bad=1.0, good=0.0),
        status="failed", reason=f"why {text}", weight=1.0, value=None, interval=None, score=0.0, counts=True,
    )  # fmt: skip
    task = SimpleNamespace(title="Relax", task="relax", metrics=[metric], score=None, reason=f"none {text}", counts=False)
    found = printed(render.task_score, task, width=200)
    assert all(f"{begin} {shown}" in found for begin in ("RMSD", "why", "none"))
