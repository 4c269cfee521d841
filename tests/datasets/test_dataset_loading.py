"""Loading a dataset and reading from it."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
from datasets_helpers import replant, rewrite
from refusals import raises_code

from defectbench import list_datasets, load_dataset
from defectbench.base.states import sort_key
from defectbench.datasets.catalogue import embedded_folder
from defectbench.datasets.dataset import Dataset
from defectbench.structures.lattice import minimum_image


@pytest.fixture(scope="module")
def vacancies() -> Dataset:
    return load_dataset("sb2se3-vacancies")


def test_listing_downloads_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DEFECTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DEFECTBENCH_MIRROR", raising=False)
    monkeypatch.setattr("defectbench.base.downloads.fetch", lambda remote: pytest.fail(f"fetches {remote.url}"))
    listed = {entry.id: entry for entry in list_datasets()}
    assert set(listed) == {"cdte-doped", "mgo-antisite-doped", "sb2se3-savory-2019", "sb2se3-vacancies"}
    assert (len(listed["sb2se3-vacancies"].defects), listed["sb2se3-vacancies"].states) == (5, 25)
    assert (len(listed["sb2se3-savory-2019"].defects), listed["sb2se3-savory-2019"].states) == (12, 58)
    assert not (tmp_path / "cache").exists()


def test_the_default_dataset(vacancies: Dataset) -> None:
    assert vacancies.level == "PBE"
    assert vacancies.defects == ("V_Sb1", "V_Sb2", "V_Se1", "V_Se2", "V_Se3")
    assert vacancies.charges("V_Sb1") == (-3, -2, -1, 0, 1)
    assert vacancies.charges("V_Se3") == (-2, -1, 0, 1, 2)
    assert vacancies.host.get_chemical_formula() == "Sb24Se36"
    assert sum(len(vacancies.starts(*state)) for state in vacancies.states) == 317
    for state in vacancies.states:
        names = list(vacancies.starts(*state))
        assert names == sorted(names, key=sort_key)
        undistorted = {("V_Sb1", -3): 5, ("V_Sb2", -3): 3, ("V_Se1", 2): 3, ("V_Se2", 2): 3, ("V_Se3", 2): 3}  # V_Sb1 borrows two
        assert len(names) == undistorted.get(state, 15)
    assert set(vacancies.states_without_reference()) < set(vacancies.states)
    assert vacancies.has_reference("V_Sb1", -1)


def test_the_published_first_relaxations(vacancies: Dataset) -> None:
    """V_Sb1 q=−1: the Dimer minimum is 0.21 eV above Unperturbed; V_Sb2 q=−3 is 0.22 eV above V_Sb1."""
    minima = vacancies.minima("V_Sb1", -1)
    assert minima["Dimer"].energy - minima["Unperturbed"].energy == pytest.approx(0.21, abs=0.005)
    one, two = vacancies.minima("V_Sb1", -3)["Unperturbed"], vacancies.minima("V_Sb2", -3)["Rattled"]
    assert two.energy - one.energy == pytest.approx(0.216, abs=0.005)


def test_frames_have_energies_and_forces_that_belong_together(vacancies: Dataset) -> None:
    """Along a relaxation the energy changes by minus the mean force times the step (trapezoidal rule)."""
    frames = vacancies.frames("V_Sb1", -3, "Unperturbed")
    assert len(frames) >= 5
    for before, after in itertools.pairwise(frames):
        step = after.positions - before.positions
        work = 0.5 * ((before.get_forces() + after.get_forces()) * step).sum()
        assert after.get_potential_energy() - before.get_potential_energy() == pytest.approx(-work, abs=2e-3)


def test_starts_lie_on_the_host(vacancies: Dataset) -> None:
    host = vacancies.host
    for defect in vacancies.defects:
        sites = vacancies.host_indices(defect)
        assert len(set(sites)) == 59
        (empty,) = set(range(60)) - set(sites)
        assert empty == vacancies.defect(defect).site
        assert np.allclose(vacancies.defect_position(defect), host.positions[empty])
        start = vacancies.starts(defect, 0)["Unperturbed"]
        assert np.abs(minimum_image(start.positions - host.positions[sites], host.cell)).max() < 1e-4
        assert (start.numbers == host.numbers[sites]).all()


def test_copies_are_handed_out(tiny: Path) -> None:
    dataset = load_dataset(tiny)
    before = dataset.ground_state("V_Sb", 0)
    assert before is not None
    for atoms in (before.atoms, dataset.host, dataset.starts("V_Sb", 0)["Rattled"], dataset.frames("V_Sb", 0, "Rattled")[0]):
        atoms.positions += 1.0
        atoms.info["charge"] = 99
        if atoms.calc is not None:
            atoms.calc.results["forces"][:] = 7.0
    dataset.host_indices("V_Sb")[:] = 0
    again = load_dataset(tiny)
    after = dataset.ground_state("V_Sb", 0)
    assert after is not None
    assert np.array_equal(after.atoms.positions + 1.0, before.atoms.positions)
    assert np.abs(after.atoms.get_forces()).max() < 1.0
    assert np.array_equal(dataset.host.positions, again.host.positions)
    assert np.array_equal(dataset.host_indices("V_Sb"), again.host_indices("V_Sb"))
    assert np.array_equal(dataset.starts("V_Sb", 0)["Rattled"].positions, again.starts("V_Sb", 0)["Rattled"].positions)


def test_reading_a_small_dataset(tiny: Path) -> None:
    dataset = load_dataset(tiny)
    assert dataset.states == (("V_Sb", -1), ("V_Sb", 0), ("Sb_Se", 0), ("Sb_Se", 1), ("Se_i", 0))
    assert list(dataset.starts("V_Sb", 0)) == ["Unperturbed", "Rattled", "Bond_Distortion_-40.0%"]
    assert dataset.levels == ("PBE", "HSE06")
    assert list(dataset.minima("V_Sb", 0)) == ["Unperturbed", "Rattled"]
    ground = dataset.ground_state("V_Sb", 0)
    assert ground is not None
    assert (ground.configuration, ground.level, ground.energy) == ("Rattled", "PBE", pytest.approx(-50.626158))
    assert ground.has_forces
    assert ground.atoms.info["charge"] == 0
    assert type(ground.atoms.info["charge"]) is int
    assert dataset.minima("V_Sb", 0, "HSE06") == {}
    assert dataset.ground_state("V_Sb", 0, "HSE06") is None
    assert not dataset.has_reference("V_Sb", -1)
    assert len(dataset.frames("V_Sb", -1, "Unperturbed")) == 3
    assert dataset.configurations("V_Sb", -1) == ("Unperturbed",)
    assert dataset.frames("V_Sb", -1, "Dimer") == []
    assert dataset.states_without_reference() == (("V_Sb", -1), ("Sb_Se", 1))
    assert dataset.correction("V_Sb", -1) is None


def test_host_sites_of_every_kind_of_defect(tiny: Path) -> None:
    dataset = load_dataset(tiny)
    assert list(dataset.host_indices("V_Sb")) == [0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert list(dataset.host_indices("Sb_Se")) == list(range(12))
    assert list(dataset.host_indices("Se_i")) == [*range(12), -1]
    assert np.allclose(dataset.defect_position("Se_i"), dataset.starts("Se_i", 0)["Unperturbed"].positions[-1])
    assert np.allclose(dataset.defect_position("Sb_Se"), dataset.host.positions[6])


def test_unknown_names_come_with_the_nearest(tiny: Path) -> None:
    dataset = load_dataset(tiny)
    with raises_code("unknown-dataset", "sb2se3-vacancie", "sb2se3-vacancies"):
        load_dataset("sb2se3-vacancie")
    with raises_code("unknown-defect", "V_sb", "V_Sb"):
        dataset.starts("V_sb", 0)
    with raises_code("unknown-charge", "V_Sb"):
        dataset.minima("V_Sb", 1)
    with raises_code("unknown-level", "PBE0"):
        dataset.minima("V_Sb", 0, "PBE0")


def test_folders_that_are_no_datasets(tmp_path: Path) -> None:
    with raises_code("no-dataset", "dataset.yaml"):
        load_dataset(tmp_path)
    with raises_code("no-dataset", "nothing"):
        load_dataset(tmp_path / "nothing")


def test_the_hash_does_not_depend_on_the_place(tmp_path: Path, vacancies: Dataset) -> None:
    shutil.copytree(embedded_folder() / "sb2se3-vacancies", tmp_path / "copy")
    copied = load_dataset(tmp_path / "copy")
    assert copied.sha256 == vacancies.sha256
    assert copied.path != vacancies.path
    assert load_dataset(tmp_path / "copy" / "dataset.yaml").sha256 == vacancies.sha256


def test_damaged_files_are_refused(tiny: Path) -> None:
    file = tiny / "starts" / "V_Sb.extxyz"
    text = file.read_text()
    file.write_text(text.replace("0", "1", 1))
    with raises_code("hash-mismatch", "starts/V_Sb.extxyz"):
        load_dataset(tiny)
    file.unlink()
    with raises_code("bad-file-list", "starts/V_Sb.extxyz"):
        load_dataset(tiny)


@pytest.mark.parametrize(("wrong", "ask"), [(1, "frames"), (2, "frames"), (2, "minima")])
def test_frames_that_contradict_the_dataset_are_refused_when_they_are_read(tiny: Path, wrong: int, ask: str) -> None:
    name = "frames/PBE/V_Sb_q+0_Rattled.extxyz"
    replant(tiny, name, lambda frames: frames[wrong].info.update(charge=-1))
    dataset = load_dataset(tiny)
    with raises_code("bad-frame", name, f"frame {wrong}, info.charge", "'-1'"):
        dataset.minima("V_Sb", 0) if ask == "minima" else dataset.frames("V_Sb", 0, "Rattled")


def test_a_dataset_is_read_once_until_it_changes(tiny: Path) -> None:
    once = load_dataset(tiny)
    other = load_dataset(tiny)
    assert other._frames is once._frames
    other.level = "another"  # nobody else's object
    assert load_dataset(tiny).level == once.level == "PBE"
    frames = len(once.frames("V_Sb", 0, "Rattled"))
    replant(tiny, "frames/PBE/V_Sb_q+0_Rattled.extxyz", lambda frames: frames.pop())
    again = load_dataset(tiny)
    assert again.sha256 != once.sha256
    assert len(again.frames("V_Sb", 0, "Rattled")) == frames - 1


def test_a_defect_without_structures_has_its_ideal_order(tiny: Path) -> None:
    def strip(content: dict[str, dict[str, str]]) -> None:
        for name in list(content["files"]):
            if "Se_i" in name:
                content["files"].pop(name)

    rewrite(tiny, strip)
    dataset = load_dataset(tiny)
    assert dataset.starts("Se_i", 0) == {}
    assert list(dataset.host_indices("Se_i")) == [*range(12), -1]
