"""What a run shows while it calculates."""

from __future__ import annotations

import io
import queue
import threading
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

import defectbench
from defectbench.base.errors import DefectbenchError
from defectbench.calculations.progress import LineReport, LiveReport
from defectbench.cli import app
from defectbench.cli.render import make_console


def plan(*kinds):
    calculations = tuple(SimpleNamespace(kind=kind) for kind in kinds)
    return SimpleNamespace(calculations=calculations, relaxations={}, shared=0, states=(), skipped=(), shard=None)


OK = SimpleNamespace(status="ok", failure=None)
FAILED = SimpleNamespace(status="failed", failure="no file [/data/model]")


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(s=0.0)
    monkeypatch.setattr("defectbench.calculations.progress.time.monotonic", lambda: now.s)
    return now


def test_the_time_left_weighs_calculations_by_kind(clock):
    lines = []
    report = LineReport(lines.append)
    work = plan("relaxation", "relaxation", *["single_point"] * 60)
    with report as reporter:
        reporter.planned(work, work.calculations)
        clock.s = 600
        reporter.finished(work.calculations[0], OK)
    # one relaxation of sixty calls took 10 min; another one and sixty single points are left
    assert report.count.left_s == pytest.approx(1200)
    assert "about 20 min left" in lines[-1]


def test_a_log_gets_a_line_per_minute(clock):
    lines = []
    work = plan(*["single_point"] * 100)
    with LineReport(lines.append) as reporter:
        reporter.planned(work, work.calculations)
        before = len(lines)
        for calculation in work.calculations:
            clock.s += 2.0
            reporter.progress(1, 0.0, 0.1)
            reporter.finished(calculation, OK)
    assert len(lines) - before == 4  # three minutes, and the end


def test_a_log_gets_its_line_also_while_nothing_is_heard():
    before, lines = threading.enumerate(), queue.Queue()

    def wait_for(start):
        while not lines.get(timeout=60).startswith(start):
            pass

    work = plan("path")
    with LineReport(lines.put, every_s=0.001) as reporter:
        wait_for("starting, ")
        reporter.stage("building")
        wait_for("building, ")
        reporter.planned(work, work.calculations)
        wait_for("0 of 1 calculations")
        with pytest.raises(ZeroDivisionError), LineReport(lines.put):
            _ = 1 / 0
    assert threading.enumerate() == before


def test_a_log_whose_reader_is_gone_ends_quietly():
    def say(_line):
        raise BrokenPipeError

    with LineReport(say, every_s=0.0) as reporter, pytest.raises(BrokenPipeError):
        reporter.note("a line")


@pytest.mark.parametrize("kind", [LineReport, LiveReport])
def test_what_is_calculated_besides_counts_too(kind):
    report = kind([].append) if kind is LineReport else kind(make_console(file=io.StringIO()))
    work = plan("single_point")
    with report as reporter:
        reporter.planned(work, work.calculations)
        reporter.finished(work.calculations[0], OK)
        besides = plan("single_point", "single_point").calculations
        reporter.added(besides)
        reporter.finished(besides[0], OK)
    assert (report.count.done, report.count.total) == (2, 3)
    assert (report.count.work_done, report.count.work_total) == (2.0, 3.0)


def test_a_log_names_each_failure_once(clock):
    lines = []
    work = plan(*["single_point"] * 3)
    with LineReport(lines.append) as reporter:
        reporter.planned(work, work.calculations)
        for calculation, why in zip(work.calculations, ("no", "no", "other"), strict=True):
            reporter.finished(calculation, SimpleNamespace(status="failed", failure=why))
    assert [line for line in lines if line.startswith("failed")] == ["failed: no", "failed: other"]


def test_a_failure_and_a_stage_are_shown_as_they_are():
    console = make_console(file=io.StringIO(), width=200, force_terminal=False)
    report = LiveReport(console)
    work = plan("single_point")
    with report as reporter:
        reporter.stage("building [/bold]")
        reporter.planned(work, work.calculations)
        reporter.finished(work.calculations[0], FAILED)
        report.progress.refresh()
    assert "failed: no file [/data/model]" in console.file.getvalue()


def test_what_a_log_shows_of_a_failure_steers_no_terminal(monkeypatch):
    def fails(*_arguments, reporter, **_named):
        reporter.note("failed: \x1b]0;pwn\x07 and \u202e")
        raise DefectbenchError("the end")

    monkeypatch.setattr(defectbench, "evaluate", fails)
    said = CliRunner().invoke(app, ["evaluate", "--model", "chgnet-0.3.0"]).output
    assert "failed: ?]0;pwn? and ?" in said
    assert not {"\x1b", "\x07", "\u202e"} & set(said)
