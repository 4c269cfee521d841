"""The published entries hold what is needed to recompute their own metrics, and nothing of the machine they were made on."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import defectbench
from defectbench.entries.folder import read_entry
from defectbench.entries.rescoring import rescore, same_metrics
from defectbench.leaderboard.figures import FIGURE_FOLDER
from defectbench.leaderboard.groups import find_entries, group_entries
from defectbench.leaderboard.pareto import figure_paths
from defectbench.leaderboard.states import COUNTED, state_results
from defectbench.leaderboard.tables import leaderboard
from defectbench.tasks import get_tasks

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[2] / "leaderboards"
ENTRIES = sorted(path.parent for path in FOLDER.glob("*/*/entry.json"))
NAMES = [str(path.relative_to(FOLDER)) for path in ENTRIES]


def one_of_a_kind() -> list[Path]:
    """Of each dataset one entry per class of response to charge: the others are scored by the same lines.

    ``defectbench leaderboard verify`` goes through all.
    """
    kinds: dict[tuple[str, str], Path] = {}
    for path in ENTRIES:
        kinds.setdefault((path.parent.name, json.loads((path / "entry.json").read_text())["certificate"]["charge_class"]), path)
    return list(kinds.values())


def test_there_are_entries():
    assert len(ENTRIES) >= 8


@pytest.mark.parametrize("folder", one_of_a_kind(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_metric_is_reproduced(folder, request, monkeypatch, tmp_path):
    entry = read_entry(folder)
    if entry.dataset.id != "sb2se3-vacancies":
        monkeypatch.setenv("DEFECTBENCH_MIRROR", str(request.getfixturevalue("shared") / "mirror"))
        monkeypatch.setenv("DEFECTBENCH_CACHE", str(tmp_path))
    if defectbench.load_dataset(entry.dataset.id).sha256 != entry.dataset.sha256:
        pytest.skip(f"made on an earlier content of {entry.dataset.id}: evaluate again")
    stored, again = rescore(folder)
    assert same_metrics(stored, again) == []


@pytest.mark.parametrize("dataset", sorted({folder.parent.name for folder in ENTRIES}))
def test_no_published_model_is_suspected_of_losing_its_charge(dataset, request, monkeypatch, tmp_path):
    if dataset != "sb2se3-vacancies":
        monkeypatch.setenv("DEFECTBENCH_MIRROR", str(request.getfixturevalue("shared") / "mirror"))
        monkeypatch.setenv("DEFECTBENCH_CACHE", str(tmp_path))
    script = runpy.run_path(str(FOLDER.parent / "scripts" / "count_charge_alarms.py"))
    found = list(script["count"](FOLDER / dataset))
    assert {one.name for one in found} == {folder.name for folder in ENTRIES if folder.parent.name == dataset}
    assert all(one.checks >= 6 for one in found)
    assert [(one.name, one.alarms) for one in found if one.alarms] == []


@pytest.mark.parametrize("folder", ENTRIES, ids=NAMES)
def test_no_path_of_a_machine_is_in_an_entry(folder):
    for path in [folder / "entry.json", *folder.glob("tables/*")]:
        assert not re.search(r"/(home|root|tmp|work|Users)/", path.read_text(encoding="utf-8")), path.name


def test_the_page_is_what_the_entries_give():
    """Also fails when a dataset's content has changed since, because the page says which content ships."""
    page = FOLDER / "README.md"
    text = leaderboard(FOLDER, FOLDER, FOLDER / FIGURE_FOLDER)
    same = page.read_text(encoding="utf-8") == text
    assert same, "run 'defectbench leaderboard table leaderboards -o leaderboards/README.md' and read what has changed"


def test_the_figures_are_there_and_no_others():
    groups = group_entries(find_entries(FOLDER))
    expected = {path.name for group in groups for path in figure_paths(FOLDER / FIGURE_FOLDER, group, groups) or ()}
    assert expected
    assert {path.name for path in (FOLDER / FIGURE_FOLDER).glob("*")} == expected


def test_entries_of_one_dataset_rest_on_one_content_of_it():
    contents: dict[str, dict[str, list[str]]] = {}
    for folder in ENTRIES:
        entry = read_entry(folder)
        contents.setdefault(entry.dataset.id, {}).setdefault(entry.dataset.sha256[:16], []).append(entry.model.id)
    assert {dataset: found for dataset, found in contents.items() if len(found) > 1} == {}, "evaluate those of the older content again"


def test_the_tables_of_the_results_page_are_those_of_the_entries() -> None:
    root = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, "scripts/results_tables.py", "--check"], cwd=root, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr or "run python scripts/results_tables.py"


@pytest.mark.parametrize(
    "folder", sorted(path.parent for path in FOLDER.glob("*/*/entry.json")), ids=lambda path: "/".join(path.parts[-2:])
)
def test_what_each_charge_state_counts_gives_the_metrics_of_relax(folder):
    """The site scores defects from these values."""
    entry = read_entry(folder)
    states = [state.counted for state in state_results(entry)]
    metrics = {m.name: m.value for m in entry.tasks["relax"].metrics} if states else {}
    counting = {m.name for task in get_tasks(["relax"]) for m in task.metrics if m.weight > 0}
    assert set(COUNTED) == counting
    for name in COUNTED if states else ():
        assert sum(state[name] for state in states) / len(states) == pytest.approx(metrics[name], abs=1e-4)
