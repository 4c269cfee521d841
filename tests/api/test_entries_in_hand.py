"""Entries, comparisons and leaderboards as a notebook uses them."""

from __future__ import annotations

import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from refusals import raises_code

import defectbench
from defectbench.leaderboard.report import render, report, write_report
from defectbench.leaderboard.verdict import verdict

ENTRIES = Path(__file__).parents[2] / "leaderboards" / "sb2se3-vacancies"


@pytest.fixture(scope="module")
def entry():
    return defectbench.load_entry(ENTRIES / "qet-matq")


def test_metrics_and_tables(entry):
    rmsd = entry["relax"]["rmsd"]
    assert float(rmsd) == rmsd.value
    assert rmsd.interval[0] <= rmsd.value <= rmsd.interval[1]
    assert rmsd.unit == "Å"
    assert "unrelaxed" in rmsd.baselines
    frame = entry["relax"].to_frame()
    assert len(frame) == len(entry.record.selection.states)
    assert set(entry.to_frame().reset_index()["task"]) == set(entry.tasks)


@pytest.mark.parametrize(
    ("ask", "code"),
    [
        (lambda e: e["relaks"], "unknown-task"),
        (lambda e: e["relax"]["rmds"], "unknown-metric"),
        (lambda e: e["relax"].to_frame("state"), "unknown-table"),
        (lambda e: e.plot("relaks"), "unknown-task"),
        (lambda e: float(next(m for t in e for m in e[t] if m.value is None)), "no-value"),
        (lambda _: defectbench.load_entry("nowhere"), "no-entry"),
    ],
)
def test_what_is_not_there(entry, ask, code):
    with raises_code(code):
        ask(entry)


def test_everything_has_a_short_repr_and_html(entry):
    board = defectbench.load_leaderboard(ENTRIES)
    compared = defectbench.compare(entry, entry, tasks=["transition_levels"])
    dataset = defectbench.load_dataset("sb2se3-vacancies")
    lists = (defectbench.list_models(), defectbench.list_datasets())
    for shown in (entry, entry["relax"], compared, board, board.across_hosts(), dataset, *lists):
        assert len(repr(shown)) < 4000
        assert max(map(len, repr(shown).splitlines())) < 400
        assert "<table" in shown._repr_html_()


def test_what_an_entry_holds_has_a_short_repr(entry):
    metadata = defectbench.load_dataset("sb2se3-vacancies").metadata
    of_score = (entry.score, entry.score.tasks[0], entry.score.tasks[0].metrics[0])
    for shown in (entry.record, entry.record.tasks["relax"], *of_score, metadata, metadata.level(), defectbench.list_datasets()[0]):
        assert len(repr(shown)) < 400
        assert str(shown) == repr(shown)


def test_a_leaderboard_gives_the_class_and_the_score_of_the_task_of_that_name():
    frame = defectbench.load_leaderboard(ENTRIES).to_frame()
    assert set(frame["charge_class"]) <= {"charge-blind", "energy-only", "charge-aware"}
    assert frame["charge_response"].dropna().between(0, 1).all()


def test_the_structures_carry_their_charge(entry):
    found = entry.structures()
    assert {(a.info["defect"], a.info.get("charge")) for a in found if a.info["defect"] != "host"} == {
        (s.defect, s.charge) for s in entry.record.selection.states
    }


def test_a_comparison_takes_entries_and_folders(entry):
    found = defectbench.compare(entry, entry.folder, tasks=["transition_levels", "cost"])
    assert (found.regressions, found.passed) == ((), True)
    assert len(found.to_frame()) == len(found.changes) > 0


def test_the_verdict_follows_the_scores(entry):
    record = entry.record
    assert "charge" in verdict(record)[0]
    assert "of 7 charge states" in verdict(record)[1]
    assert "Do not rely on it" in verdict(at_anchors(record, "bad"))[0]
    assert "close to DFT" in verdict(at_anchors(record, "good"))[0]
    assert "Nothing of this selection" in verdict(record.model_copy(update={"tasks": {}}))[0]


def at_anchors(record, anchor):
    """The entry with each value at the good or the bad end of its scale."""
    tasks = {}
    for name, task in record.tasks.items():
        values = [getattr(definition, anchor) for definition in definitions(name)]
        changes = [{} if value is None else {"value": value, "interval": None, "reason": None} for value in values]
        tasks[name] = task.model_copy(update={"metrics": [m.model_copy(update=c) for m, c in zip(task.metrics, changes, strict=True)]})
    return record.model_copy(update={"tasks": tasks})


def definitions(task):
    from defectbench.tasks import get_tasks

    return get_tasks([task])[0].metrics


class Links(HTMLParser):
    """Collects what a page would load, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.loads += [value for name, value in attrs if name == "src" or (name == "href" and tag == "link")]

    def handle_data(self, data):
        self.text += data


def test_the_report_is_one_file_that_loads_nothing(entry, tmp_path):
    shutil.copytree(entry.folder, tmp_path / "entry")
    page = Links()
    page.feed(write_report(defectbench.load_entry(tmp_path / "entry")).read_text())
    assert len(page.loads) >= 5
    assert all(source.startswith("data:image/") for source in page.loads)
    assert all(sentence in page.text for sentence in entry.verdict)
    assert all(task.title in page.text for task in entry.score.tasks)


def test_texts_in_a_report_are_escaped(entry):
    model = entry.record.model.model_copy(update={"name": "<script>alert(1)</script>"})
    page = render(report(type(entry)(entry.record.model_copy(update={"model": model}), entry.folder)))
    assert "<script" not in page
