"""The datasets from doped's and ShakeNBreak's public data hold what was published; needs a mirror of their files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from defectbench.datasets import plausibility
from defectbench.datasets.catalogue import dataset_folder, load_dataset, validate_dataset
from defectbench.datasets.dataset import Dataset
from defectbench.datasets.remote import remote_files
from defectbench.datasets.schema import METADATA_FILE, parse_metadata
from defectbench.structures.lattice import Lattice
from defectbench.thermodynamics.formation import exchange_energy, formation_energy
from defectbench.thermodynamics.levels import pairwise_level, stable_charges

NAMES = ("mgo-antisite-doped", "cdte-doped")


@pytest.fixture(scope="module")
def fetched(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    if not (shared / "mirror" / "doped-93c8b99b" / "LICENSE").is_file():
        pytest.skip(f"{shared / 'mirror'} has no doped-93c8b99b")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEFECTBENCH_MIRROR", str(shared / "mirror"))
        patch.setenv("DEFECTBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def mgo(fetched: None) -> Dataset:
    return load_dataset("mgo-antisite-doped")


@pytest.fixture(scope="module")
def cdte(fetched: None) -> Dataset:
    return load_dataset("cdte-doped")


def energies(dataset: Dataset, name: str, level: str, configuration: str = "Published") -> dict[int, float]:
    """Formation energies at the valence band maximum under the first growth condition, eV."""
    theory, defect = dataset.metadata.level(level), dataset.defect(name)
    assert theory.band_edges is not None
    assert theory.host_energy is not None
    added = {element: 1 for element in [defect.added] if element} | {element: -1 for element in [defect.removed] if element}
    out = {}
    for charge in defect.charges:
        correction = dataset.correction(name, charge, level)
        assert correction is not None
        energy = dataset.minima(name, charge, level)[configuration].energy
        exchanged = exchange_energy(added, theory.chemical_potentials[0].potentials)
        out[charge] = formation_energy(charge, energy, theory.host_energy, exchanged, theory.band_edges.vbm, correction.total)
    return out


@pytest.mark.parametrize("name", NAMES)
def test_files_are_pinned_by_commit_and_hash(name: str) -> None:
    metadata = parse_metadata(dataset_folder(name) / METADATA_FILE)
    assert metadata.remote is not None
    commits = {metadata.remote.commit, *(source.commit for source in metadata.remote.further)}
    files = remote_files(metadata)
    assert files
    for remote in files.values():
        assert any(f"/{commit}/" in remote.url for commit in commits)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_they_are_valid(fetched: None, name: str) -> None:
    load_dataset(name)
    report = validate_dataset(dataset_folder(name))
    assert report.valid, report.summary()


def test_mgo_landscapes(mgo: Dataset) -> None:
    assert [len(mgo.minima("Mg_O", q)) for q in range(5)] == [13, 13, 14, 14, 3]
    lowest = [-1347.643, -1355.539, -1363.433, -1368.306, -1372.742]
    above = [1.02, 0.99, 1.23, 1.41, 1.41]
    for charge in range(5):
        minima = mgo.minima("Mg_O", charge)
        ground = mgo.ground_state("Mg_O", charge)
        assert ground is not None
        assert ground.energy == pytest.approx(lowest[charge], abs=6e-4)
        assert minima["Unperturbed"].energy - ground.energy == pytest.approx(above[charge], abs=6e-3)
        assert set(minima) == set(mgo.starts("Mg_O", charge))
        lattice = Lattice.of(mgo.host.cell.array)
        for name, atoms in mgo.starts("Mg_O", charge).items():
            assert atoms.get_chemical_symbols() == minima[name].atoms.get_chemical_symbols()
            moved = lattice.minimum_image(minima[name].atoms.positions - atoms.positions)
            assert np.median(np.linalg.norm(moved, axis=1)) < 0.5
    assert mgo.minima("Mg_O", 3)["Bond_Distortion_-40.0%"].energy > lowest[3] + 7.9  # the published outlier


def test_mgo_finals_have_forces_that_go_with_their_energies(mgo: Dataset) -> None:
    assert [len(mgo.frames("Mg_O", q, "Published", "PBEsol")) for q in range(5)] == [37, 2, 16, 17, 11]
    for charge in range(5):
        frames = mgo.frames("Mg_O", charge, "Published", "PBEsol")
        assert list(plausibility.check_results(f"q{charge}", frames, mgo.host)) == []
        assert np.abs(frames[-1].get_forces()).max() < 0.01


def test_mgo_levels_are_the_published_ones(mgo: Dataset) -> None:
    found = energies(mgo, "Mg_O", "PBEsol")
    levels = [pairwise_level(q + 1, q, found).fermi_level for q in (3, 2, 1, 0)]
    assert levels == pytest.approx([0.368, 0.929, 4.349, 4.870], abs=6e-4)


@pytest.mark.parametrize(
    ("defect", "published"),
    [
        ("v_Cd", {(-1, -2): 0.397, (0, -1): 0.543}),
        ("v_Te", {(2, 1): 1.689, (1, 0): 0.453}),
        ("Te_i", {(2, 1): 0.035, (1, 0): 0.250}),
        ("Te_Cd", {(2, 1): 0.034, (1, 0): 0.277}),
        ("Cd_i_Te", {(2, 1): 1.367, (1, 0): 1.627}),
    ],
)
def test_cdte_levels_are_the_published_ones(cdte: Dataset, defect: str, published: dict[tuple[int, int], float]) -> None:
    found = energies(cdte, defect, "HSE06+SOC")
    for (upper, lower), level in published.items():
        assert pairwise_level(upper, lower, found).fermi_level == pytest.approx(level, abs=1.1e-3)


def test_cdte_v_te_has_negative_u(cdte: Dataset) -> None:
    assert 1 not in stable_charges(energies(cdte, "v_Te", "HSE06+SOC"))


def test_cdte_minima_and_landscape(cdte: Dataset) -> None:
    assert sum(len(cdte.minima(*state)) for state in cdte.states) == 49
    landscape = cdte.minima("v_Cd", 0, "HSE06-gamma")
    assert len(landscape) == 26
    assert set(landscape) == set(cdte.starts("v_Cd", 0))
    ground = cdte.ground_state("v_Cd", 0, "HSE06-gamma")
    assert ground is not None
    assert landscape["Unperturbed"].energy - ground.energy == pytest.approx(0.755, abs=1e-3)
    assert sum(minimum.energy < ground.energy + 0.1 for minimum in landscape.values()) == 15 - 1
    for minimum, dimer in ((ground, 2.746), (cdte.minima("v_Cd", 0)["Published"], 2.753)):
        tellurium = minimum.atoms[minimum.atoms.numbers == 52]
        distances = tellurium.get_all_distances(mic=True)
        assert distances[distances > 0].min() == pytest.approx(dimer, abs=2e-3)


def test_cdte_charges_of_one_defect_share_their_site(cdte: Dataset) -> None:
    for name in ("v_Cd", "v_Te", "Cd_Te", "Te_Cd"):
        centre = cdte.defect_position(name)
        for charge in cdte.charges(name):
            atoms = cdte.minima(name, charge)["Published"].atoms
            distances = np.linalg.norm(Lattice.of(cdte.host.cell.array).minimum_image(atoms.positions - centre), axis=1)
            assert np.median(distances) < 8.0
            assert np.sort(distances)[:4].mean() < 4.0
