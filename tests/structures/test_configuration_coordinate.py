"""Configuration coordinates: exact on harmonic potentials, invariant under symmetry, published ΔQ, doped's mapping."""

from __future__ import annotations

import warnings
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from hypothesis import given
from hypothesis import strategies as st
from refusals import raises_code

from defectbench.structures.configuration_coordinate import (
    configuration_path,
    fit_parabola,
    hbar_omega,
    huang_rhys_factor,
    mass_weighted_displacements,
    path_structures,
    sampled_minimum,
)
from defectbench.structures.symmetry import host_operations

CHARGES = {0: "neutral", -1: "minus1", -2: "minus2", 1: "plus1", 2: "plus2"}


@pytest.fixture(scope="module")
def host() -> Atoms:
    return bulk("NaCl", "rocksalt", a=5.64, cubic=True) * (2, 1, 1)


@pytest.fixture(scope="module")
def vacancy(host: Atoms) -> Atoms:
    atoms = host.copy()
    del atoms[0]
    return atoms


def displaced(atoms: Atoms, seed: int, size: float = 0.1) -> Atoms:
    out = atoms.copy()
    out.positions += np.random.default_rng(seed).normal(0.0, size, out.positions.shape)
    return out


def test_hbar_omega_against_another_source_of_constants() -> None:
    from scipy.constants import angstrom, atomic_mass, e, hbar

    assert hbar_omega(2.5) == pytest.approx(hbar / e * np.sqrt(2.5 * e / (atomic_mass * angstrom**2)), rel=1e-7)
    assert hbar_omega(1.0) == pytest.approx(0.06465, abs=1e-5)


@given(st.floats(0.005, 0.2), st.floats(0.5, 20.0), st.floats(-5, 5))
def test_an_harmonic_curve_gives_back_its_frequency_and_huang_rhys_factor(quantum: float, delta_q: float, energy: float) -> None:
    """E = E₀ + ½Ω²(Q − Q₀)² with Q₀ = 0: S = Ω ΔQ² / 2ħ exactly."""
    curvature = (quantum / hbar_omega(1.0)) ** 2
    q = np.array([-0.3, -0.15, 0.0, 0.25, 0.5]) * delta_q
    curve = energy + 0.5 * curvature * q**2
    found = fit_parabola(q, curve)
    assert found.hbar_omega == pytest.approx(quantum, rel=1e-5)
    assert found.q0 == pytest.approx(0.0, abs=1e-5 * delta_q)
    assert found.energy == pytest.approx(energy, abs=1e-6)
    assert found.rms < 1e-8
    relaxation = 0.5 * curvature * delta_q**2
    assert huang_rhys_factor(relaxation, found.hbar_omega) == pytest.approx(0.5 * curvature * delta_q**2 / quantum, rel=1e-5)


def test_an_inverted_curve_has_no_quantum() -> None:
    found = fit_parabola([-1.0, 0.0, 1.0], [-1.0, 0.0, -1.0])
    assert found.curvature == pytest.approx(-2.0)
    assert found.hbar_omega is None
    with raises_code("no-coordinate"):
        hbar_omega(found.curvature)
    with raises_code("no-coordinate"):
        huang_rhys_factor(-0.1, 0.02)


@pytest.mark.parametrize(
    ("q", "e"), [([0.0, 1.0], [0.0, 1.0]), ([1.0, 1.0, 1.0], [0.0, 1.0, 2.0]), ([0.0, 1.0, 2.0], [0.0, np.nan, 1.0]), ([], [])]
)
def test_points_that_make_no_parabola_are_refused(q: list[float], e: list[float]) -> None:
    with raises_code("no-coordinate"):
        fit_parabola(q, e)


@given(st.floats(-0.29, 1.29))
def test_the_sampled_minimum_of_a_parabola_is_its_vertex(vertex: float) -> None:
    q = np.array([-0.3, -0.15, 0.0, 0.25, 0.5, 0.75, 1.0, 1.15, 1.3])
    found = sampled_minimum(q, 3.0 + (q - vertex) ** 2)
    assert found == pytest.approx(vertex, abs=1e-7) or (found in (-0.3, 1.3) and abs(found - vertex) <= 0.075 + 1e-9)


def test_the_minimum_of_a_falling_curve_is_its_edge() -> None:
    assert sampled_minimum([0.0, 0.5, 1.0], [2.0, 1.0, 0.0]) == 1.0
    with raises_code("no-coordinate"):
        sampled_minimum([0.0, 0.0, 1.0], [2.0, 1.0, 0.0])


def mass_weighted_distance(candidate: Atoms, reference: Atoms) -> float:
    return float(np.sqrt(np.sum(reference.get_masses()[:, None] * mass_weighted_displacements(candidate, reference) ** 2)))


def test_delta_q_by_hand(host: Atoms) -> None:
    """One atom of mass m moved by d in a cell of total mass M: ΔQ² = m d² (1 − m/M), the centre of mass being held."""
    moved = host.copy()
    moved.positions[3] += [0.0, 0.3, 0.4]
    mass, total = host.get_masses()[3], host.get_masses().sum()
    assert mass_weighted_distance(moved, host) == pytest.approx(0.5 * np.sqrt(mass * (1 - mass / total)))
    moved.positions += [1.0, -7.0, 0.3]
    assert mass_weighted_distance(moved, host) == pytest.approx(0.5 * np.sqrt(mass * (1 - mass / total)))


def test_the_path_is_straight_and_ends_at_its_ends(host: Atoms, vacancy: Atoms) -> None:
    start = displaced(vacancy, 1, 0.1)
    end = displaced(start, 2, 0.03)
    path = configuration_path(start, end, host_operations(host))
    assert path.identity
    assert path.delta_q == pytest.approx(mass_weighted_distance(end, start))
    first, half, last, beyond = path_structures(path, [0.0, 0.5, 1.0, 1.3])
    assert np.array_equal(first.positions, start.positions)
    assert np.array_equal(last.positions, end.positions)
    assert mass_weighted_distance(half, start) == pytest.approx(path.delta_q / 2, abs=1e-4)
    assert mass_weighted_distance(beyond, start) == pytest.approx(1.3 * path.delta_q, abs=1e-4)
    for fraction, atoms in ((0.0, first), (0.5, half), (1.0, last), (1.3, beyond)):
        along, beside = path.project(atoms)
        assert along == pytest.approx(fraction, abs=1e-6)
        assert beside == pytest.approx(0.0, abs=1e-4)
    assert path.project(displaced(half, 5, 0.1))[1] > 0.5


def test_a_symmetry_image_in_another_order_gives_the_same_path(host: Atoms, vacancy: Atoms) -> None:
    """Operation, permutation, lattice vectors and a rigid translation are all undone: ΔQ and interatomic distances stay."""
    operations = host_operations(host)
    start, end = displaced(vacancy, 1, 0.05), displaced(vacancy, 2, 0.05)
    plain = configuration_path(start, end, operations)
    generator = np.random.default_rng(0)
    for operation in generator.integers(0, len(operations), 4):
        image = end.copy()
        image.positions = operations.apply(int(operation), end.positions) + np.array([0.2, -0.1, 0.4])
        image = image[generator.permutation(len(image))]
        image.positions[::3] += image.cell[0]
        path = configuration_path(start, image, operations)
        assert path.delta_q == pytest.approx(plain.delta_q, abs=1e-4)
        ours, theirs = path.structure(0.5).get_all_distances(mic=True), plain.structure(0.5).get_all_distances(mic=True)
        assert np.allclose(ours, theirs, atol=1e-4)
        assert list(image.numbers[path.permutation]) == list(start.numbers)


def test_equal_ends_have_no_path(host: Atoms, vacancy: Atoms) -> None:
    path = configuration_path(vacancy, vacancy, host_operations(host))
    assert path.delta_q == 0.0
    with raises_code("same-structure"):
        path.project(vacancy)


def test_other_atoms_are_refused(host: Atoms, vacancy: Atoms) -> None:
    with raises_code("other-composition"):
        mass_weighted_distance(vacancy, host)


def published(shared: Path, site: str, charge: int) -> Atoms:
    return ase.io.read(shared / "mirror" / "savory-2019" / site / f"CONTCAR_{CHARGES[charge]}", format="vasp")


def published_host(shared: Path) -> Atoms:
    """The host of doi:10.1039/C9TA02022E as the dataset reconstructs it."""
    from defectbench.base.errors import DefectbenchError
    from defectbench.datasets.catalogue import load_dataset

    try:
        return load_dataset("sb2se3-savory-2019").host
    except DefectbenchError as error:
        pytest.skip(f"the published dataset cannot be loaded: {error}")


@pytest.fixture
def mirror(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEFECTBENCH_MIRROR", str(shared / "mirror"))
    return shared


@pytest.mark.parametrize(
    ("site", "first", "second", "expected"),
    [("V_Sb_1", 0, -1, 8.66), ("V_Sb_1", -1, -2, 1.98), ("V_Se_2", 2, 1, 6.97), ("V_Se_2", 1, 0, 9.31)],
)
def test_delta_q_of_published_structures(mirror: Path, site: str, first: int, second: int, expected: float) -> None:
    """To 0.01 amu^½ Å: the expected values were taken with the (tiny) drift of the centre of mass left in."""
    path = configuration_path(published(mirror, site, first), published(mirror, site, second), host_operations(published_host(mirror)))
    assert path.delta_q == pytest.approx(expected, abs=0.012)
    assert path.identity


@pytest.mark.slow
def test_doped_maps_a_mirror_image_to_the_same_delta_q(mirror: Path) -> None:
    """A scrambled symmetry image of the neutral V_Se_2, brought onto +1 by doped and by us."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        configurations = pytest.importorskip("doped.utils.configurations", reason="doped is not installed: it is the oracle of this test")
        from pymatgen.io.ase import AseAtomsAdaptor

        operations = host_operations(published_host(mirror))
        start, end = published(mirror, "V_Se_2", 1), published(mirror, "V_Se_2", 0)
        image = end.copy()
        image.positions = operations.apply(len(operations) - 1, end.positions)
        image = image[np.random.default_rng(3).permutation(len(image))]
        first, second = (AseAtomsAdaptor.get_structure(atoms) for atoms in (start, image))
        oriented = configurations.orient_s2_like_s1(first, second, verbose=False)
        theirs = AseAtomsAdaptor.get_atoms(oriented)
    order = [[i for i in range(len(start)) if start.symbols[i] == s] for s in ("Sb", "Se")]
    reference = start[[i for group in order for i in group]]
    theirs = theirs[[i for s in ("Sb", "Se") for i in range(len(theirs)) if theirs.symbols[i] == s]]
    ours = configuration_path(start, image, operations)
    assert not ours.identity
    assert ours.delta_q == pytest.approx(mass_weighted_distance(Atoms(theirs, pbc=True), reference), abs=1e-3)
