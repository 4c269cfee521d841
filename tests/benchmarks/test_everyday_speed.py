"""What a user waits for besides calculations: ``pytest tests/benchmarks/test_everyday_speed.py --benchmark-enable -n 0``."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from defectbench.entries.figures import FIGURES, draw_figures
from defectbench.entries.folder import task_record
from defectbench.entries.rescoring import stored_scoring
from defectbench.leaderboard.entry_view import EntryView
from defectbench.leaderboard.report import write_report
from defectbench.structures import matching

pytestmark = pytest.mark.slow

PUBLISHED = Path(__file__).parents[2] / "leaderboards" / "sb2se3-vacancies" / "sevennet-l3i5"


@pytest.mark.parametrize("words", [["--help"], ["evaluate", "--help"]], ids=" ".join)
def test_help(benchmark, words):
    assert benchmark(subprocess.run, [sys.executable, "-m", "defectbench", *words], check=True, capture_output=True).stdout


def test_scoring_and_report_of_a_full_run(benchmark, tmp_path, measured):
    """From stored results in memory to the entry's metrics, figures and report; nothing that an earlier scoring found is reused."""
    if not measured:
        pytest.skip("measures time: run with --benchmark-enable")
    folder = shutil.copytree(PUBLISHED, tmp_path / "entry")
    entry, scored, tasks = stored_scoring(folder)

    def fresh():
        matching.clear_caches()

    def finish():
        outcomes = {task.name: task_record(task.score(scored)) for task in tasks}
        done = entry.model_copy(update={"tasks": outcomes})
        draw_figures(done, folder / FIGURES)
        return write_report(EntryView(done, folder), scored.dataset)

    assert benchmark.pedantic(finish, setup=fresh, rounds=1).is_file()
