"""Structures for the viewer: a model's over DFT's, or over its own host."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write
from table_rows import make_row

from defectbench.entries.schema import TaskRecord
from defectbench.leaderboard.entry_view import EntryView, load_entry
from defectbench.leaderboard.overlays import dft_scenes, model_scenes, scene_name
from defectbench.tasks.relax.rows import StateRow

PUBLISHED = Path(__file__).parents[2] / "leaderboards" / "sb2se3-vacancies" / "sevennet-l3i5"


@pytest.fixture
def vacancy(make_entry, tmp_path):
    """An entry with a relaxed host and one relaxed vacancy, in which one neighbour moved by 0.3 Å."""
    host = bulk("MgO", "rocksalt", a=4.2, cubic=True)
    host.info = {"defect": "host", "configuration": "Unperturbed"}
    defect = host.copy()
    del defect[0]
    defect.positions[0] += (0.3, 0.0, 0.0)
    defect.info = {"defect": "V_X", "charge": -1, "configuration": "Dimer"}
    write(tmp_path / "structures.extxyz", [host, defect], format="extxyz")
    made = make_entry()
    states = [make_row(StateRow, defect="V_X", charge=-1, configuration="Dimer"), make_row(StateRow, defect="V_X", charge=0)]
    relax = TaskRecord(metrics=made.tasks["relax"].metrics, tables={"states": states}, baselines={}, notes=[])
    return EntryView(made.model_copy(update={"tasks": {"relax": relax}}), tmp_path), host


def _points(frame):
    return np.array(frame).reshape(-1, 3)


def test_without_dft_a_model_stands_over_its_own_host(vacancy):
    entry, host = vacancy
    (scene,) = model_scenes(entry, None)
    moved = _points(scene.layers[0].frames[-1]) - _points(scene.reference.frames[0])
    assert np.linalg.norm(moved, axis=1) == pytest.approx([0.3] + [0.0] * 6, abs=1e-3)
    assert scene.centre == pytest.approx(host.positions[0], abs=1e-3)


def test_an_entry_without_structures_has_no_scenes(vacancy):
    entry, _ = vacancy
    (entry.folder / "structures.extxyz").unlink()
    assert model_scenes(entry, None) == []


def test_a_name_is_safe_in_a_path():
    assert scene_name("../V</a>", -1) == ".._V__a__q-1"
    assert "/" not in scene_name("a/b", 2)


@pytest.mark.slow
def test_a_scene_shows_the_rmsd_that_the_entry_states(shipped):
    entry = load_entry(PUBLISHED)
    scenes = {scene.name: scene for scene in model_scenes(entry, shipped)}
    rows = entry.record.tasks["relax"].tables["states"]
    assert len(scenes) == len(rows)
    for row in rows:
        scene = scenes[scene_name(row["defect"], row["charge"])]
        apart = _points(scene.layers[0].frames[-1]) - _points(scene.reference.frames[0])
        assert np.sqrt((apart**2).sum(axis=1).mean()) == pytest.approx(row["rmsd"], abs=2e-3)


@pytest.mark.slow
def test_dft_relaxations_end_in_their_minima(shipped):
    scenes = dft_scenes(shipped)
    assert {scene.name for scene in scenes} == {scene_name(*state) for state in shipped.states if shipped.has_reference(*state)}
    for scene in scenes:
        assert scene.layers[0].frames[-1] == pytest.approx(scene.reference.frames[0], abs=2e-3)


@pytest.fixture(scope="module")
def shipped():
    from defectbench.datasets.catalogue import load_dataset

    return load_dataset("sb2se3-vacancies")
