"""The published entries hold what is needed to recompute their own metrics, and nothing of the machine they were made on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import defectbench
from defectbench.evaluation import rescore, same_metrics
from defectbench.leaderboard.entry import read_entry

FOLDER = Path(__file__).parents[2] / "leaderboards"
ENTRIES = sorted(path.parent for path in FOLDER.glob("*/*/entry.json"))
NAMES = [str(path.relative_to(FOLDER)) for path in ENTRIES]


def test_there_are_entries():
    assert len(ENTRIES) >= 8


@pytest.mark.parametrize("folder", ENTRIES, ids=NAMES)
def test_every_metric_is_reproduced(folder, request, monkeypatch, tmp_path):
    entry = read_entry(folder)
    if entry.dataset.id != "sb2se3-vacancies":
        monkeypatch.setenv("DEFECTBENCH_MIRROR", str(request.getfixturevalue("shared") / "mirror"))
        monkeypatch.setenv("DEFECTBENCH_CACHE", str(tmp_path))
    if defectbench.load_dataset(entry.dataset.id).sha256 != entry.dataset.sha256:
        pytest.skip(f"made on an earlier content of {entry.dataset.id}: evaluate again")
    stored, again = rescore(folder)
    assert same_metrics(stored, again) == []


@pytest.mark.parametrize("folder", ENTRIES, ids=NAMES)
def test_no_path_of_a_machine_is_in_an_entry(folder):
    for path in [folder / "entry.json", *folder.glob("tables/*")]:
        assert not re.search(r"/(home|root|tmp|work|Users)/", path.read_text(encoding="utf-8")), path.name
