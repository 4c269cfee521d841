"""The Markdown leaderboard and the explanation of a score."""

from __future__ import annotations

import re

import pytest
from refusals import raises_code
from typer.testing import CliRunner

from defectbench.base.errors import UnknownNameError
from defectbench.leaderboard.groups import find_entries, group_entries
from defectbench.leaderboard.tables import leaderboard, number
from defectbench.tasks.cost.score import NO_BASELINE

pytestmark = pytest.mark.usefixtures("small_tasks")


@pytest.fixture
def invoke():
    from defectbench.cli import app

    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})


def sections(text):
    return re.findall(r"^## (.*)$", text, flags=re.MULTILINE)


def test_datasets_suites_selections_and_versions_of_the_data_are_never_mixed(write_entry, tmp_path):
    for i, change in enumerate(
        [{}, {"dataset": "other"}, {"suite": "quick"}, {"sha256": "b" * 64}, {"configurations": ("Dimer",)}, {"protocol": "v2"}]
    ):
        write_entry(f"{i}", **change)
    groups = group_entries(find_entries(tmp_path))
    assert [len(g.entries) for g in groups] == [1] * 6
    assert len(sections(leaderboard(tmp_path))) == 7, "the last one is on hosts"


def test_entries_are_ranked_and_baselines_stand_below(write_entry, tmp_path):
    write_entry("x/good", model="good", rmsd=(0.02, (0.01, 0.03)))
    write_entry("x/poor", model="poor", rmsd=(0.18, (0.17, 0.19)), charge_class="charge-aware", failed=1)
    text = leaderboard(tmp_path)
    table = text[text.index("| model") :]
    assert table.index("Good") < table.index("Poor") < table.index("best baselines") < table.index("baseline: unrelaxed")
    poor = next(line for line in table.splitlines() if line.startswith("| Poor"))
    assert "charge-aware" in poor
    assert "1 of 2" in poor
    assert "| 1 |" in poor, "core hours"
    assert "0.18 (0.17 to 0.19)" in text
    assert "no PBE reference yet" in text


def test_why_a_value_is_missing_is_said(write_entry, tmp_path):
    write_entry("a", rmsd=(None, None, "it exploded"), success=(None, None, "no data for this", False))
    text = leaderboard(tmp_path)
    assert "failed, scores 0: it exploded: Toy (RMSD)" in text
    assert "| failed |" in text


def test_every_counted_metric_that_is_absent_has_its_reason_and_equal_gaps_stand_together(write_entry, tmp_path):
    gone = (None, None, "DFT has no such data", False)
    write_entry("a", model="a", success=gone)
    write_entry("b", model="b", success=gone, rmsd=(None, None, "it exploded"))
    text = leaderboard(tmp_path)
    assert "n/a, left out: DFT has no such data: all models (strict success)" in text
    assert "failed, scores 0: it exploded: B (RMSD)" in text
    assert "strict success |" not in text, "a column that nobody fills"
    nothing = leaderboard(write_entry("other/c", model="c", success=gone, rmsd=gone))
    assert "### The relax task (relax)" in nothing, "a task without any value still says why"
    assert "n/a, left out: DFT has no such data: C (RMSD; strict success)" in nothing
    row = next(line for line in nothing.splitlines() if line.startswith("| C |"))
    assert "– " not in row
    assert row.count("n/a") == 5, "overall, ground states, eV above, above baseline and relax"


def test_a_metric_that_an_older_entry_lacks_is_no_blank(write_entry, tmp_path, monkeypatch):
    from dataclasses import replace

    from defectbench.scoring.task import MetricDefinition
    from defectbench.tasks import get_tasks

    relax, *others = get_tasks()
    new = MetricDefinition("local_rmsd", "local RMSD", "Å", "lower", 0.0, 0.2, "", weight=1)
    monkeypatch.setattr("defectbench.tasks.get_tasks", lambda _=None: (replace(relax, metrics=(*relax.metrics, new)), *others))
    write_entry("a")
    assert "n/a, left out: not in this entry: score it again with 'defectbench rescore': Toy (local RMSD)" in leaderboard(tmp_path)


def test_a_baseline_of_what_does_not_count_has_its_row(write_entry, tmp_path):
    write_entry("a", baselines={"unrelaxed": {"rmsd": 0.1}, "DFT": {"steps": 7.0, "strict_success": None}})
    text = leaderboard(tmp_path)
    assert "steps (not counted)" in text
    assert "| *baseline: DFT* | – | – | 7 |" in text
    assert "| *baseline: unrelaxed* | 0.1 | – | – |" in text


def test_the_baselines_of_all_entries_are_shown_not_only_of_the_first(write_entry, tmp_path):
    write_entry("a", model="a", rmsd=(0.01, None), baselines={})
    write_entry("b", model="b", baselines={"unrelaxed": {"rmsd": 0.123}})
    assert "| *baseline: unrelaxed* | 0.123 | – |" in leaderboard(tmp_path)


def test_a_table_without_baselines_says_why(write_entry, tmp_path):
    write_entry("a", baselines={})
    text = leaderboard(tmp_path)
    assert NO_BASELINE in text
    assert "No baseline can be built from this dataset." in text


def test_tasks_that_did_not_run_are_named(write_entry, tmp_path):
    write_entry("a")
    assert "Not run for these entries, and so missing from *counted*: pes" in leaderboard(tmp_path)


def test_the_content_of_the_dataset_is_named_and_compared_with_what_ships(write_entry, make_entry, tmp_path):
    from defectbench.datasets.catalogue import embedded_names
    from defectbench.entries.staleness import shipped_content
    from defectbench.leaderboard.tables import content_note

    name = embedded_names()[0]
    now = shipped_content(name)
    assert len(now) == 64
    assert content_note(make_entry(dataset=name, sha256=now, embedded=True)) == f"Dataset content `{now[:16]}`, which is what ships now."
    old = content_note(make_entry(dataset=name, sha256="a" * 64, embedded=True))
    assert f"`{'a' * 16}`, **an earlier one than ships now** (`{now[:16]}`)" in old
    assert "does not come with defectbench" in content_note(make_entry(dataset=name, sha256="a" * 64))
    assert "no dataset of that name ships any more" in content_note(make_entry(dataset="gone", embedded=True))
    assert shipped_content("gone") is None
    write_entry("a")
    assert f"Dataset content `{'a' * 16}`" in leaderboard(tmp_path)


def test_the_same_model_twice_in_one_table_is_refused(write_entry, tmp_path):
    write_entry("a")
    write_entry("b")
    with raises_code("duplicate-entry", tmp_path / "a", tmp_path / "b"):
        leaderboard(tmp_path)


def test_no_entries_is_one_line(tmp_path):
    with raises_code("no-entry", "nowhere"):
        find_entries(tmp_path / "nowhere")
    with raises_code("no-entry", tmp_path):
        find_entries(tmp_path)


def test_the_command_writes_links_relative_to_its_file(invoke, write_entry, tmp_path):
    write_entry("boards/data/toy")
    done = invoke("leaderboard", "table", tmp_path / "boards", "--output", tmp_path / "boards" / "README.md")
    assert done.exit_code == 0, done.output
    assert "[Toy](data/toy/)" in (tmp_path / "boards" / "README.md").read_text()
    printed = invoke("leaderboard", "table", tmp_path / "boards")
    assert "| Toy |" in printed.stdout


def test_every_row_of_a_table_has_as_many_cells(write_entry, tmp_path):
    write_entry("a", model="a|b")
    lines = [line for line in leaderboard(tmp_path).splitlines() if line.startswith("|")]
    for line in lines:
        assert line.endswith("|")
    first = lines[: next(i for i, line in enumerate(lines) if i and line.startswith("| model"))]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in first}) == 1


def test_explain_shows_how_every_number_came_about(invoke, write_entry):
    entry = write_entry("a", rmsd=(0.1, (0.05, 0.15)), success=(0.25, (0.1, 0.4)))
    shown = invoke("score", "explain", entry)
    assert shown.exit_code == 0, shown.output
    # declared weights of relax: rmsd 1, strict_success 2
    assert "(1 × 0.500 + 2 × 0.250) / 3 = 0.333" in shown.stdout
    assert "overall = (3 × 0.333 (relax)) / 3 = 0.333" in shown.stdout
    assert "baseline 'unrelaxed'" in shown.stdout
    assert "information, never scored" in shown.stdout
    assert "not in this entry: pes" in shown.stdout
    wrong = invoke("score", "explain", entry, "--task", "relaxx")
    assert isinstance(wrong.exception, UnknownNameError)


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0.0, "0"), (0.12345, "0.123"), (1234.5, "1234"), (-0.5, "-0.5"), (1e-7, "1.00e-07"), (100.0, "100")]
)
def test_numbers(value, text):
    assert number(value) == text
