"""Recipes, the choice of frames, and what is written for the training process: nothing of a package is needed."""

from __future__ import annotations

import dataclasses
import runpy
import sys
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
from ase.io import read
from refusals import raises_code

from defectbench.base.states import relaxation_group
from defectbench.base.yaml import parse_yaml, to_yaml
from defectbench.datasets.catalogue import load_dataset
from defectbench.datasets.extxyz import attach_results
from defectbench.models.registry import load_model
from defectbench.training import pretraining
from defectbench.training.curve import draw
from defectbench.training.export import CHARGE_KEY, ENERGY_KEY, FORCES_KEY, export
from defectbench.training.mace_files import configuration, settings
from defectbench.training.pretraining import distorted_structures
from defectbench.training.recipe import Pretraining, Recipe, list_recipes, load_recipe
from defectbench.training.run import Epoch, curve_csv, prepare
from defectbench.training.splits import select_frames

PHASE = {"epochs": 2, "learning_rate": [0.01, 0.001], "energy_weight": 1.0, "forces_weight": 10.0}


def recipe(**changes: object) -> Recipe:
    content = {"id": "r", "kind": "mace", "levels": [{"name": "PBE"}, {"name": "HSE06", "repeat": 3}, {"name": "none"}], "phases": [PHASE]}
    return Recipe.model_validate({**content, **changes})


@pytest.fixture(scope="module")
def dataset():
    return load_dataset("sb2se3-vacancies")


@pytest.fixture(scope="module")
def selection(dataset):
    return select_frames(dataset, recipe())


@pytest.mark.parametrize("name", list_recipes())
def test_shipped_recipes_and_presets_are_valid(name):
    for preset in (None, *load_recipe(name).presets):
        assert load_recipe(name, preset=preset).id == name
    assert load_recipe(name, seed=7).seed == 7


def test_unknown_names():
    with raises_code("unknown-recipe"):
        load_recipe("mace")
    with raises_code("unknown-preset"):
        load_recipe("mace-mf", preset="large")


@pytest.mark.parametrize(
    "change", [{"train_on": ["train", "test"]}, {"validate_on": ["held_out"]}, {"validate_on": ["train"]}, {"phases": []}]
)
def test_recipe_that_would_see_the_test_is_refused(tmp_path: Path, change: dict[str, object]):
    path = tmp_path / "r.yaml"
    path.write_text(to_yaml({**recipe().model_dump(mode="json"), **change}))
    with raises_code("bad-recipe"):
        load_recipe(path)


@pytest.mark.parametrize(("model", "code"), [("./evil.yaml", "bad-recipe"), ("evil.yml", "bad-recipe"), ("evil", "unknown-model")])
def test_recipe_that_labels_with_code_of_its_own_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, code: str):
    monkeypatch.chdir(tmp_path)
    evil = {"id": "evil", "name": "evil", "adapter": "mace", "environment": "./x", "level_of_theory": "PBE"}
    Path(model).with_suffix(Path(model).suffix or ".yaml").write_text(to_yaml(evil))
    content = recipe().model_dump(mode="json")
    Path("r.yaml").write_text(to_yaml({**content, "pretraining": {"model": model, "structures": 1, "phases": [PHASE]}}))
    with raises_code(code, model):
        load_recipe("r.yaml")


def test_labels_are_made_by_trusted_models_only(dataset, selection, tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining, "load_model", lambda _name: load_model("chgnet-0.3.0").model_copy(update={"environment": "./x"}))
    monkeypatch.setattr(pretraining, "ensure_environment", lambda *_a, **_k: pytest.fail("the interpreter would run"))
    taught = recipe(pretraining={"model": "chgnet-0.3.0", "structures": 1, "phases": [PHASE]})
    with raises_code("untrusted-model", "./x"):
        pretraining.pretraining_files(dataset, taught, selection, None, tmp_path, lambda _line: None)


def test_no_frame_of_the_test_and_no_relaxation_on_two_sides(dataset, selection):
    sides = [{(f.defect, f.charge, f.group) for f in frames} for frames in (selection.train, selection.validation)]
    assert sides[0]
    assert sides[1]
    assert not sides[0] & sides[1]
    kept = {
        (defect, charge, relaxation_group(configuration))
        for level in dataset.levels
        for defect, charge in dataset.states
        for configuration in dataset.configurations(defect, charge, level)
        if selection.splits.part_of(defect, charge, configuration) in ("test", "held_out")
    }
    assert kept
    assert not kept & (sides[0] | sides[1])
    assert "none" in selection.missing_levels
    assert max(np.abs(f.atoms.get_forces()).max() for f in selection.train) <= recipe().max_force


def test_dataset_without_splits_is_refused(dataset):
    other = load_dataset("sb2se3-vacancies")
    other.path = Path("/nowhere")
    with raises_code("no-splits"):
        select_frames(other, recipe())


def test_recipe_that_leaves_nothing_is_refused(dataset):
    with raises_code("no-frames"):
        select_frames(dataset, recipe(levels=[{"name": "none"}]))
    with raises_code("unknown-defect"):
        select_frames(dataset, recipe(defects=["V_Sb9"]))


def test_charge_without_frames_between_others_is_refused(dataset, tmp_path):
    with raises_code("charge-gap"):
        export(dataset, select_frames(dataset, recipe(charges=[-3, 0])), tmp_path)


def test_files_hold_charges_and_labels(dataset, selection, tmp_path):
    files = export(dataset, selection, tmp_path / "a")
    assert export(dataset, selection, tmp_path / "b").sha256 == files.sha256
    for name in (*files.train.values(), *files.validation.values()):
        for atoms in read(tmp_path / "a" / name, ":"):
            assert isinstance(atoms.info[CHARGE_KEY], int | np.integer)
            assert np.isfinite(atoms.info[ENERGY_KEY])
            assert atoms.arrays[FORCES_KEY].shape == (len(atoms), 3)
    frames = read(tmp_path / "a" / files.train["PBE"], ":")
    assert sorted({int(a.info[CHARGE_KEY]) for a in frames}) == list(range(files.charges[0], files.charges[1] + 1))
    hosts = [a for a in frames if len(a) == len(dataset.host)]
    assert [a.info.get("config_forces_weight") for a in hosts] == [0.0]
    assert sum(n for (level, use, _), n in files.counts.items() if (level, use) == ("PBE", "train")) == len(frames)
    # the constants leave a few eV per cell to learn, of 13,000
    neutral = [a for a in frames if a.info[CHARGE_KEY] == 0]
    left = [a.info[ENERGY_KEY] - sum(files.atomic_energies["PBE"][s] for s in a.get_chemical_symbols()) for a in neutral]
    assert abs(np.mean(left)) < 1.0


def test_changed_label_changes_the_hash(dataset, selection, tmp_path):
    first = selection.train[0]
    moved = attach_results(first.atoms.copy(), energy=first.atoms.get_potential_energy() + 0.001, forces=first.atoms.get_forces())
    other = dataclasses.replace(selection, train=(dataclasses.replace(first, atoms=moved), *selection.train[1:]))
    assert export(dataset, other, tmp_path).sha256 != export(dataset, selection, tmp_path).sha256


def test_configuration_has_as_many_classes_as_charges(dataset, selection, tmp_path):
    files = export(dataset, selection, tmp_path)
    content = configuration(recipe(), files, "x")
    embedding = content["embedding_specs"][CHARGE_KEY]
    low, high = files.charges
    assert (embedding["num_classes"], embedding["offset"]) == (high - low + 1, -low)
    assert all(isinstance(head["E0s"], str) for head in content["heads"].values())
    assert list(content["heads"]) == list(selection.levels)
    assert parse_yaml(to_yaml(content)) == content
    blind = recipe(architecture={"charge": False})
    assert "embedding_specs" not in configuration(blind, files, "x")
    assert settings(recipe(), files, recipe().phases, device="cpu")["repeat"] == {"PBE": 1, "HSE06": 3}


def test_folder_of_another_training_is_refused(dataset, tmp_path):
    prepare(dataset, recipe(), tmp_path / "run")
    prepare(dataset, recipe(), tmp_path / "run")
    with raises_code("foreign-folder", "recipe"):
        prepare(dataset, recipe(seed=2), tmp_path / "run")
    for text in ("[1]", "{", "[" * 100_000):
        (tmp_path / "run" / "run.json").write_text(text)
        with raises_code("foreign-folder", "run.json"):
            prepare(dataset, recipe(), tmp_path / "run")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("x")
    with raises_code("foreign-folder"):
        prepare(dataset, recipe(), tmp_path / "other")


def test_distorted_structures_repeat_under_a_seed(dataset, selection):
    wanted = Pretraining.model_validate({"model": "chgnet-0.3.0", "structures": 8, "strain": 0.02, "phases": [PHASE]})
    first = distorted_structures(dataset.host, selection.train, wanted, 1)
    again = distorted_structures(dataset.host, selection.train, wanted, 1)
    other = distorted_structures(dataset.host, selection.train, wanted, 2)
    assert len(first) == 8
    assert all(np.array_equal(a.positions, b.positions) and p == q for (a, p), (b, q) in zip(first, again, strict=True))
    assert not np.array_equal(first[0][0].positions, other[0][0].positions)
    assert {charge for _, charge in first} <= set(range(-3, 2))
    assert {len(atoms) for atoms, _ in first} == {len(dataset.host), len(dataset.host) - 1}


def test_learning_curve(tmp_path):
    history = [
        Epoch(
            i,
            3,
            0.01,
            1.0 / i,
            {"PBE": {"energy": 1.0 / i, "forces": 0.1}, "HSE06": {"energy": 0.5, "forces": 0.2}},
            1.0,
            i != 3,
            2.0,
            "training",
        )
        for i in (1, 2, 3)
    ]
    lines = curve_csv(history).splitlines()
    assert len(lines) == 4
    assert all(line.count(",") == lines[0].count(",") for line in lines)
    assert all(path.is_file() for path in draw(history, "toy-data, recipe toy", tmp_path))


def test_state_and_model_are_never_written_through_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("torch", "mace", "mace.tools", "mace.tools.model_script_utils", "mace.tools.scripts_utils", "torch_ema"):
        monkeypatch.setitem(sys.modules, name, MagicMock())
    process = runpy.run_path(str(Path(pretraining.__file__).with_name("mace_process.py")))
    process["torch"].save = lambda content, file: file.write(content)
    (tmp_path / "private").write_text("mine")
    for name in ("state.pt", "state.pt.part"):
        (tmp_path / name).symlink_to(tmp_path / "private")
    process["_replace"](tmp_path / "state.pt", b"state")
    assert (tmp_path / "private").read_text() == "mine"
    assert (tmp_path / "state.pt").read_bytes() == b"state"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["private", "state.pt"]
