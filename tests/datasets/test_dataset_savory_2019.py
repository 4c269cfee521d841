"""The published Sb2Se3 defects: fetching, the reconstructed host, energies and transition levels."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pooch
import pytest
from refusals import raises_code

from defectbench import load_dataset
from defectbench.base.files import sha256_of
from defectbench.datasets.catalogue import dataset_folder, validate_dataset
from defectbench.datasets.dataset import Dataset
from defectbench.datasets.readers import savory_2019
from defectbench.datasets.remote import fetch_all, missing_files, remote_files
from defectbench.datasets.schema import DatasetFile, parse_metadata
from defectbench.structures.lattice import minimum_image, shortest_distance

NAME = "sb2se3-savory-2019"


@pytest.fixture(scope="module")
def metadata() -> DatasetFile:
    return parse_metadata(dataset_folder(NAME) / "dataset.yaml")


@pytest.fixture(scope="module")
def mirror(shared: Path) -> Path:
    folder = shared / "mirror"
    if not (folder / "savory-2019" / "defect_data").is_file():
        pytest.skip(f"{folder} has no savory-2019")
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def dataset(mirror: Path, cache: Path) -> Dataset:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEFECTBENCH_MIRROR", str(mirror))
        patch.setenv("DEFECTBENCH_CACHE", str(cache))
        return load_dataset(NAME)


def test_every_file_has_an_address_at_the_commit_and_a_hash(metadata: DatasetFile) -> None:
    files = remote_files(metadata)
    assert len(files) == 62
    for name, remote in files.items():
        assert remote.url == (
            "https://raw.githubusercontent.com/SMTG-Bham/Sb2Se3_intrinsic_defects/a7c926ae87ecd6e7f43b8c90f8e3317d6bbb8eb8/" + name
        )
        assert remote.path == f"savory-2019/{name}"
        assert remote.kind == "dataset"
    states = {(defect.name, charge) for defect in metadata.defects for charge in defect.charges}
    assert len(states) == 58
    assert {savory_2019.contcar(*state) for state in states} <= set(files)


def test_hashes_are_those_of_the_mirror(metadata: DatasetFile, mirror: Path) -> None:
    assert metadata.remote is not None
    found = {p.relative_to(mirror / "savory-2019").as_posix(): sha256_of(p) for p in (mirror / "savory-2019").rglob("*") if p.is_file()}
    assert found == metadata.remote.files


def test_without_cache_and_network_it_says_what_and_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("pooch.Pooch.fetch", no_network)
    monkeypatch.setenv("DEFECTBENCH_CACHE", str(tmp_path))
    monkeypatch.delenv("DEFECTBENCH_MIRROR", raising=False)
    place = tmp_path / "datasets" / "savory-2019"
    with raises_code("download-failed", "https://raw.githubusercontent.com/", "no route to host", place, "DEFECTBENCH_MIRROR"):
        load_dataset(NAME)


def test_a_filled_cache_needs_no_network(dataset: Dataset, metadata: DatasetFile, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pooch.Pooch.fetch", lambda *a, **k: pytest.fail("goes to the network"))
    monkeypatch.setenv("DEFECTBENCH_CACHE", str(cache))
    monkeypatch.delenv("DEFECTBENCH_MIRROR", raising=False)
    assert missing_files(metadata) == ()
    assert load_dataset(NAME).sha256 == dataset.sha256
    assert validate_dataset(dataset_folder(NAME)).valid


def test_a_mirror_may_be_an_address(mirror: Path, metadata: DatasetFile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DEFECTBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("DEFECTBENCH_MIRROR", "https://mirror.example/data")
    asked = []

    def copy(self: pooch.Pooch, fname: str) -> str:
        url = self.get_url(fname)
        asked.append(url)
        shutil.copyfile(mirror / url.removeprefix("https://mirror.example/data/"), Path(self.path) / fname)
        return str(Path(self.path) / fname)

    monkeypatch.setattr("pooch.Pooch.fetch", copy)
    assert len(fetch_all(metadata)) == len(asked) == 62
    assert all(url.startswith("https://mirror.example/data/savory-2019/") for url in asked)


def test_a_changed_file_in_the_mirror_is_refused(mirror: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copytree(mirror / "savory-2019", tmp_path / "mirror" / "savory-2019")
    table = tmp_path / "mirror" / "savory-2019" / "defect_data"
    table.write_text(table.read_text().replace("-329.566822", "-329.566823"))
    monkeypatch.setenv("DEFECTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DEFECTBENCH_MIRROR", str(tmp_path / "mirror"))
    with raises_code("hash-mismatch", "defect_data"):
        load_dataset(NAME)


def test_published_formation_energies(dataset: Dataset, cache: Path) -> None:
    """A = E_total + corrections + VBM·q − E_host − Σ n μ for all 58 rows, to 2e-6 eV; likewise B."""
    rows = [line.split() for line in (cache / "datasets" / "savory-2019" / "defect_data").read_text().splitlines()[2:] if line.strip()]
    level = dataset.level_of_theory()
    assert level.host_energy is not None
    assert level.band_edges is not None
    checked = 0
    for label, *numbers in rows:
        stem, tail = label.split(",")
        defect, charge = stem.replace("v_", "V_"), int(tail[1:])
        defect = defect if defect.endswith("_i") else f"{defect}_{tail[0]}"
        minimum = dataset.ground_state(defect, charge)
        correction = dataset.correction(defect, charge)
        assert minimum is not None
        assert correction is not None
        assert minimum.energy == float(numbers[0])
        entry = dataset.defect(defect)
        for column, condition in ((4, "Sb-rich"), (5, "Se-rich")):
            (potentials,) = [item.potentials for item in level.chemical_potentials if item.name == condition]
            energy = minimum.energy + correction.total + level.band_edges.vbm * charge - level.host_energy
            energy += potentials[entry.removed] if entry.removed else 0.0
            energy -= potentials[entry.added] if entry.added else 0.0
            assert energy == pytest.approx(float(numbers[column]), abs=2e-6), label
            checked += 1
    assert checked == 116


@pytest.mark.parametrize(
    ("defect", "higher", "lower", "expected"),
    [
        ("V_Sb_1", 0, -1, 0.180),
        ("V_Sb_1", -1, -2, 0.047),
        ("V_Sb_1", -2, -3, 0.069),
        ("V_Se_1", 1, 0, 0.626),
        ("V_Se_2", 2, 1, 0.927),
        ("V_Sb_1", 0, -3, 0.099),
        ("V_Se_2", 2, 0, 0.854),
    ],
)
def test_transition_levels(dataset: Dataset, defect: str, higher: int, lower: int, expected: float) -> None:
    def at_vbm(charge: int) -> float:
        minimum, correction = dataset.ground_state(defect, charge), dataset.correction(defect, charge)
        assert minimum is not None
        assert correction is not None
        return minimum.energy + correction.total + 4.314 * charge

    assert (at_vbm(lower) - at_vbm(higher)) / (higher - lower) == pytest.approx(expected, abs=6e-4)


def test_the_host_is_pnma(dataset: Dataset) -> None:
    import spglib

    host = dataset.host
    assert host.get_chemical_formula() == "Sb24Se36"
    assert host.cell.lengths() == pytest.approx([11.9314, 11.9145, 11.5151], abs=1e-3)
    symmetry = spglib.get_symmetry_dataset((host.cell.array, host.get_scaled_positions(), host.numbers), symprec=1e-4)
    assert (symmetry.international, len(symmetry.rotations)) == ("Pnma", 24)
    assert shortest_distance(host) == pytest.approx(2.60, abs=0.05)
    # mirror planes of the 4c sites: y is an odd multiple of 1/12
    assert np.abs(host.get_scaled_positions()[:, 1] * 12 % 2 - 1).max() < 1e-3


def test_the_host_hardly_depends_on_the_structures_it_is_made_of(dataset: Dataset, cache: Path, metadata: DatasetFile) -> None:
    defects = {defect.name: defect for defect in metadata.defects}
    folder = cache / "datasets" / "savory-2019"
    structures = {state: savory_2019.read_structure(folder / savory_2019.contcar(*state)) for state in dataset.states}
    fewer = {state: atoms for i, (state, atoms) in enumerate(structures.items()) if i % 3 or state == ("Se_Sb_1", 0)}
    assert len(fewer) < 40
    again = savory_2019.reconstruct_host(fewer, defects)
    assert np.linalg.norm(minimum_image(again.positions - dataset.host.positions, again.cell), axis=1).max() < 0.01


def test_minima_lie_on_the_host(dataset: Dataset) -> None:
    """In the host's order, without drift; only near the defect do atoms move far."""
    host = dataset.host
    for defect, charge in dataset.states:
        minimum = dataset.minima(defect, charge)["Published"]
        assert not minimum.has_forces
        assert dataset.frames(defect, charge, "Published") == []
        sites = dataset.host_indices(defect)
        on_site = sites >= 0
        assert (np.diff(sites[on_site]) > 0).all()
        assert (~on_site).sum() == (1 if dataset.defect(defect).kind == "interstitial" else 0)
        moved = minimum_image(minimum.atoms.positions[on_site] - host.positions[sites[on_site]], host.cell)
        position = dataset.defect_position(defect)
        far = np.linalg.norm(minimum_image(minimum.atoms.positions[on_site] - position, host.cell), axis=1) > 5.0
        assert np.sqrt((moved**2).sum(axis=1).mean()) < 0.35
        assert np.linalg.norm(moved, axis=1).max() < 2.0
        assert np.abs(np.median(moved[far], axis=0)).max() < 0.03


def test_published_structures_keep_their_distances(dataset: Dataset, cache: Path) -> None:
    """Bringing a structure into the host's frame changes order and origin only."""
    folder = cache / "datasets" / "savory-2019"
    for state in [("V_Sb_1", -3), ("Sb_Se_3", 3), ("Sb_i", -3), ("Se_Sb_2", 2)]:
        raw = savory_2019.read_structure(folder / savory_2019.contcar(*state))
        placed = dataset.minima(*state)["Published"].atoms
        assert np.allclose(np.sort(raw.get_all_distances(mic=True).ravel()), np.sort(placed.get_all_distances(mic=True).ravel()), atol=1e-6)
        assert sorted(raw.get_chemical_symbols()) == sorted(placed.get_chemical_symbols())


def test_starts(dataset: Dataset) -> None:
    counts = {state: len(dataset.starts(*state)) for state in dataset.states}
    for (defect, charge), count in counts.items():
        if not defect.startswith("V_"):
            assert count == 0
        elif (defect[:4], charge) in {("V_Sb", -3), ("V_Se", 2)}:
            assert list(dataset.starts(defect, charge)) == ["Unperturbed", "Rattled", "Dimer"]
        else:
            assert count == 15
    assert sum(counts.values()) == 195
    host, sites = dataset.host, dataset.host_indices("V_Sb_2")
    assert np.array_equal(dataset.starts("V_Sb_2", 0)["Unperturbed"].positions, host.positions[sites])
    selenium = [atom.index for atom in dataset.starts("V_Sb_2", 0)["Dimer"] if atom.symbol == "Se"]
    distances = dataset.starts("V_Sb_2", 0)["Dimer"].get_all_distances(mic=True)[np.ix_(selenium, selenium)]
    assert distances[distances > 0].min() == pytest.approx(2.40, abs=0.01), "an Se–Se dimer of 2.4 Å"


def test_a_table_of_another_form_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "defect_data"
    heading = "Defect E_total potal band_filling image A B\n----\n"
    table.write_text(heading + "v_Sb,1-3 -329.5 0.69 0 0.15 3.49 2.75\nv_Sb,1 -329.5 0.69 0 0.15 3.49 2.75\n")
    with raises_code("bad-format", "line 4"):
        savory_2019.read_table(table)
    table.write_text("Defect E_total\n")
    with raises_code("bad-format", "line 1"):
        savory_2019.read_table(table)
    table.write_text(heading + "v_Sb,1-3 -329.5 ? 0 0.15 3.49 2.75\n")
    with raises_code("bad-format", "line 3"):
        savory_2019.read_table(table)
