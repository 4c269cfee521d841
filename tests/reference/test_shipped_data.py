"""Checks on the frames that ship in ``datasets/sb2se3-vacancies``, whatever there is of them."""

from __future__ import annotations

from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from reference_dft.analysis import clusters, describe_state, homonuclear_bonds
from reference_dft.cp2k_input import electrons, multiplicity
from reference_dft.cp2k_schema import method_of
from reference_dft.describe import tables
from reference_dft.properties import read_properties
from reference_dft.reference_data import ReferenceData
from reference_dft.selection import distinct_minima

from defectbench.base.files import sha256_of
from defectbench.base.states import is_relaxation
from defectbench.calculations.plan import SelectedState
from defectbench.datasets.catalogue import load_dataset
from defectbench.datasets.checks import largest_force
from defectbench.datasets.dataset import Dataset
from defectbench.scoring.frames import shared_geometries
from defectbench.scoring.landscape import operations_of, reference_state
from defectbench.thermodynamics import find_corrections, level_diagram

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).resolve().parents[2] / "datasets" / "sb2se3-vacancies"
RISE = 0.005
"""eV; a step of the optimiser may go up by so much (noise of the grid and of the self-consistency, a step too long)."""


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_dataset(FOLDER)


def relaxations(dataset: Dataset, level: str) -> dict[tuple[str, int, str], list[Atoms]]:
    out = {}
    for defect, charge in dataset.states:
        for name in filter(is_relaxation, dataset.configurations(defect, charge, level)):
            frames = dataset.frames(defect, charge, name, level)
            if frames:
                out[defect, charge, name] = frames
    return out


def test_every_listed_file_has_its_hash_and_every_data_file_is_listed(dataset: Dataset) -> None:
    for name, digest in dataset.metadata.files.items():
        assert sha256_of(FOLDER / name) == digest, name
    present = {path.relative_to(FOLDER).as_posix() for kind in ("*.extxyz", "*.json") for path in FOLDER.rglob(kind)}
    assert present | {"splits.yaml"} == set(dataset.metadata.files)


def test_there_are_relaxations_of_v_sb1_in_all_five_charges(dataset: Dataset) -> None:
    assert {charge for defect, charge, _ in relaxations(dataset, "PBE") if defect == "V_Sb1"} == {-3, -2, -1, 0, 1}


@pytest.mark.parametrize("level", ["PBE", "PBE-k222"])
def test_energies_of_a_relaxation_fall(dataset: Dataset, level: str) -> None:
    for key, frames in relaxations(dataset, level).items():
        energies = [float(a.get_potential_energy()) for a in frames]
        worst = max((later - earlier for earlier, later in pairwise(energies)), default=0.0)
        assert worst < RISE, f"{key}: an energy rises by {worst:.4f} eV"
        assert energies[-1] <= min(energies) + RISE, key


@pytest.mark.parametrize("level", ["PBE", "PBE-k222"])
def test_last_frames_meet_the_criterion_and_only_they_are_converged(dataset: Dataset, level: str) -> None:
    criterion = dataset.level_of_theory(level).convergence
    assert criterion is not None
    for key, frames in relaxations(dataset, level).items():
        assert not any(a.info["converged"] for a in frames[:-1]), key
        if frames[-1].info["converged"]:
            assert largest_force(frames[-1].get_forces(), criterion) <= criterion.max_force * 1.001, key


@pytest.mark.parametrize("level", ["PBE", "PBE-k222", "HSE06"])
def test_spin_fits_the_electron_count(dataset: Dataset, level: str) -> None:
    method = method_of(dataset.level_of_theory(level))
    assert method is not None
    for key, frames in relaxations(dataset, level).items():
        for atoms in frames:
            wanted = multiplicity(electrons(method, atoms.get_chemical_symbols(), key[1]))
            assert atoms.info["spin_multiplicity"] == wanted, key
            spin = atoms.info.get("s_squared")
            if spin is not None:
                assert wanted == 2, key
                assert 0.749 < spin < 1.5, f"{key}, step {atoms.info['step']}: S² is {spin}"


@pytest.mark.parametrize("level", ["PBE", "PBE-k222", "HSE06"])
def test_no_two_frames_are_equal(dataset: Dataset, level: str) -> None:
    for defect, charge in dataset.states:
        frames = [
            (name, atoms) for (d, q, name), found in relaxations(dataset, level).items() if (d, q) == (defect, charge) for atoms in found
        ]
        for (name, a), (other, b) in combinations(frames, 2):
            moved = float(np.abs(a.positions - b.positions).max())
            assert moved > 1e-6, f"{defect} {charge:+d}: {name} step {a.info['step']} equals {other} step {b.info['step']}"


def test_ground_state_is_the_lowest_minimum_and_its_bonding_is_described(dataset: Dataset) -> None:
    text = tables(FOLDER, "PBE")
    for defect, charge in dataset.states:
        minima = dataset.minima(defect, charge)
        if not minima:
            continue
        ground = dataset.ground_state(defect, charge)
        assert ground is not None
        assert ground.energy == min(m.energy for m in minima.values())
        described = describe_state(dataset, defect, charge)
        assert described[0].configuration == ground.configuration
        assert described[0].energy == 0.0
        for bond in described[0].bonds:
            assert f"{bond.element}–{bond.element} {bond.length:.2f}" in text


def test_trimer_and_dimer_of_the_neutral_vacancy_are_two_minima() -> None:
    """They are 10 meV apart at PBE: it is their structure that tells them from each other when frames for HSE06 are chosen."""
    data = ReferenceData(FOLDER)
    minima = distinct_minima(data.candidates("V_Sb1", [0], "PBE"))
    described = {m.configuration: m.clusters for m in describe_state(data.dataset, "V_Sb1", 0)}
    assert [(m.configuration, described[m.configuration]) for m in minima][:2] == [
        ("Bond_Distortion_-60.0%", ("Se3",)),
        ("Bond_Distortion_-40.0%", ("Se2",)),
    ]


def test_minima_are_those_that_models_are_judged_by(dataset: Dataset) -> None:
    data = ReferenceData(FOLDER)
    for charge in dataset.charges("V_Sb1"):
        reference = reference_state(dataset, "V_Sb1", charge, operations_of(dataset))
        assert reference is not None
        minima = distinct_minima(data.candidates("V_Sb1", [charge], "PBE"))
        assert [m.configuration for m in minima] == [m.configuration for m in reference.distinct]


def test_the_host_has_no_homonuclear_bonds(dataset: Dataset) -> None:
    assert homonuclear_bonds(dataset.host) == ()


def test_bonds_join_to_clusters() -> None:
    trimer = Atoms("Se4", positions=[[0.0, 0.0, 0.0], [2.4, 0.0, 0.0], [4.0, 1.8, 0.0], [10.0, 10.0, 10.0]], cell=[20.0] * 3, pbc=True)
    bonds = homonuclear_bonds(trimer)
    assert [bond.atoms for bond in bonds] == [(0, 1), (1, 2)]
    assert clusters(bonds) == ("Se3",)
    across = Atoms("Se2", positions=[[0.3, 5.0, 5.0], [9.3, 5.0, 5.0]], cell=[10.0] * 3, pbc=True)
    assert homonuclear_bonds(across)[0].length == pytest.approx(1.0)


def test_hybrid_frames_are_frames_of_pbe_relaxations(dataset: Dataset) -> None:
    for (defect, charge, name), frames in relaxations(dataset, "HSE06").items():
        parents = {int(a.info["step"]): a for a in dataset.frames(defect, charge, name, "PBE")}
        for atoms in frames:
            parent = parents[int(atoms.info["step"])]
            np.testing.assert_allclose(atoms.positions, parent.positions, atol=1e-6)


def test_forces_are_minus_the_gradient_of_the_energy(dataset: Dataset) -> None:
    checks = [r for level in dataset.levels for r in read_properties(FOLDER, level) if r["kind"] == "finite_difference"]
    assert {(r["charge"], r["step"]) for r in checks if r["level"] == "PBE"} >= {(-3, 1), (0, 10), (1, 7)}, "closed and open shells"
    for check in checks:
        level = check["level"]
        frames = {int(a.info["step"]): a for a in dataset.frames(check["defect"], check["charge"], check["configuration"], level)}
        force = float(frames[check["step"]].get_forces()[check["atom"], check["axis"]])
        quotient = -(check["energy_plus"] - check["energy_minus"]) / (2 * check["displacement"])
        assert quotient == pytest.approx(check["force_by_difference"], abs=1e-6)
        # a quotient over 0.02 Å holds some of the third derivative, largest where the force is; energies of a hybrid leave out more of
        # the small exchange integrals than its forces do
        assert force == pytest.approx(quotient, rel=0.001, abs=0.001 if level == "PBE" else 0.01)


def test_levels_of_v_sb1_can_be_had_from_the_dataset_alone(dataset: Dataset) -> None:
    level = dataset.level_of_theory("PBE")
    assert level.band_edges is not None
    assert level.band_edges.cbm is not None
    assert 0.3 < level.band_edges.cbm - level.band_edges.vbm < 2.0
    grounds = {q: g for q in dataset.charges("V_Sb1") if (g := dataset.ground_state("V_Sb1", q)) is not None}
    corrections = find_corrections(level, "V_Sb1", sorted(grounds))
    assert corrections.status == "corrected"
    assert corrections.values[0] == 0.0
    assert all(abs(value) < 0.2 * q * q + 0.3 for q, value in corrections.values.items()), "the cell is strongly screened"
    energies = {q: g.energy + corrections.of(q) + q * level.band_edges.vbm for q, g in grounds.items()}
    assert {1, -3} <= set(level_diagram(energies).stable)


def test_chemical_potentials_add_up_to_the_host(dataset: Dataset) -> None:
    level = dataset.level_of_theory("PBE")
    symbols = dataset.host.get_chemical_symbols()
    assert {condition.name for condition in level.chemical_potentials} == {"Sb-rich", "Se-rich"}
    for condition in level.chemical_potentials:
        assert sum(condition.potentials[s] for s in symbols) == pytest.approx(level.host_energy, abs=1e-6)
    rich = {c.name: c.potentials for c in level.chemical_potentials}
    formation = 3 * (rich["Sb-rich"]["Se"] - rich["Se-rich"]["Se"])
    assert -2.0 < formation < -0.8, "enthalpy of formation of Sb2Se3, eV a formula unit"


def test_the_ideal_start_is_there_at_every_charge(dataset: Dataset) -> None:
    found = shared_geometries(dataset, [SelectedState("V_Sb1", q, ()) for q in dataset.charges("V_Sb1")])
    assert (-3, -2, -1, 0, 1) in [tuple(geometry.frames) for geometry in found]


def test_the_queue_names_what_the_dataset_has() -> None:
    data = ReferenceData(FOLDER)
    tasks = data.tasks()
    assert len({task.label for task in tasks}) == len(tasks)
    relaxed = [task for task in tasks if task.kind == "relaxation" and task.defect == "V_Sb1"]
    assert {task.charge for task in relaxed} == {-3, -2, -1, 0, 1}
    assert all(data.structure(task) is not None for task in relaxed)
    assert {task.configuration for task in relaxed if task.charge == -3} == {
        "Unperturbed",
        "Rattled",
        "Dimer",
        "Bond_Distortion_-40.0%",
        "Bond_Distortion_40.0%",
    }
