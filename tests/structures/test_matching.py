"""The RMSD: oracles, published numbers and properties."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import raises_code

from defectbench.structures import matching
from defectbench.structures.bounds import operation_bounds
from defectbench.structures.host_reference import host_fields, match_host_referenced, without_field
from defectbench.structures.lattice import displacements, local_atoms, root_mean_square
from defectbench.structures.matching import (
    displacement_rmsd,
    match,
    match_within,
    matches_within,
)
from defectbench.structures.placement import host_translation, on_host
from defectbench.structures.symmetry import host_operations


def orthorhombic_host() -> Atoms:
    """A small Pnma-like host: two species, 4 + 4 atoms, repeated along the short axis (three pure translations)."""
    x, z, u, w = 0.18, 0.07, 0.04, 0.61
    fractional = []
    for a, c in ((x, z), (u, w)):
        fractional += [(a, 0.25, c), (0.5 - a, 0.75, 0.5 + c), (1 - a, 0.75, 1 - c), (0.5 + a, 0.25, 0.5 - c)]
    unit = Atoms("Ge4S4", scaled_positions=fractional, cell=[8.4, 3.9, 6.6], pbc=True)
    return unit.repeat((1, 3, 1))


def defect_of(host: Atoms, site: int = 0) -> Atoms:
    out = host.copy()
    del out[site]
    return out


HOST = orthorhombic_host()
OPERATIONS = host_operations(HOST)
DEFECT = defect_of(HOST)
CENTRE = HOST.positions[0]
GERMANIUM = [int(i) for i in np.flatnonzero(HOST.numbers == 32)]


def rattled(seed: int, amplitude: float, atoms: Atoms = DEFECT) -> Atoms:
    out = atoms.copy()
    out.positions += np.random.default_rng(seed).normal(size=(len(atoms), 3)) * amplitude / np.sqrt(3)
    return out


def test_operations_contain_the_pure_translations():
    assert len(OPERATIONS) == 24
    identity = [i for i in range(24) if np.array_equal(OPERATIONS.rotations[i], np.eye(3))]
    assert sorted(np.round(OPERATIONS.translations[identity][:, 1] * 3).astype(int) % 3) == [0, 1, 2]


def test_operations_are_cached_by_content():
    operations = host_operations(HOST)
    assert host_operations(HOST.copy()) is operations
    assert host_operations(HOST.copy(), symprec=0.01) is not operations


def test_every_operation_maps_the_host_onto_itself():
    for i in range(len(OPERATIONS)):
        image = HOST.copy()
        image.positions = OPERATIONS.apply(i, HOST.positions)
        square = OPERATIONS.lattice.squared_distances(image.positions, HOST.positions)
        assert np.sqrt(square.min(axis=1)).max() < 1e-6
    assert np.allclose(OPERATIONS.images(HOST.positions)[5], OPERATIONS.apply(5, HOST.positions))


def test_operations_that_change_the_cell_are_not_used():
    almost_cubic = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    almost_cubic.set_cell(almost_cubic.cell.array * np.array([[1.0], [1.004], [1.0]]), scale_atoms=True)
    operations = host_operations(almost_cubic, symprec=0.1)
    rotated = [operations.rotations[i] for i in range(len(operations))]
    assert all(abs(r[1, 1]) == 1 for r in rotated)


def test_symmetry_of_the_embedded_host(shared):
    host = read(shared / "reference" / "cp2k-pbe" / "host.extxyz")
    operations = host_operations(host)
    assert (len(operations), operations.space_group) == (24, "Pnma (62)")


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), operation=st.integers(0, 23), amplitude=st.sampled_from([0.02, 0.1, 0.3, 0.6]))
def test_invariances(seed: int, operation: int, amplitude: float):
    generator = np.random.default_rng(seed)
    candidate, reference = rattled(seed, amplitude), rattled(seed + 1, 0.05)
    expected = match(candidate, reference, OPERATIONS, CENTRE)
    image = candidate.copy()
    image.positions = OPERATIONS.apply(operation, image.positions)
    image.translate(generator.uniform(-20, 20, 3))
    image = image[generator.permutation(len(image))]
    image.wrap()
    found = match(image, reference, OPERATIONS, CENTRE)
    assert found.rmsd == pytest.approx(expected.rmsd, abs=1e-8)
    assert found.local_rmsd == pytest.approx(expected.local_rmsd, abs=1e-8)
    assert found.max_displacement == pytest.approx(expected.max_displacement, abs=1e-8)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), amplitude=st.sampled_from([0.05, 0.3, 0.8]), site=st.sampled_from(GERMANIUM))
def test_symmetric_not_above_naive_and_consistent(seed: int, amplitude: float, site: int):
    candidate, reference = rattled(seed, amplitude), rattled(seed + 1, 0.05, defect_of(HOST, site))
    there, back = match(candidate, reference, OPERATIONS), match(reference, candidate, OPERATIONS)
    assert there.rmsd == pytest.approx(back.rmsd, abs=1e-8)
    if np.array_equal(candidate.numbers, reference.numbers):
        assert there.rmsd <= displacement_rmsd(candidate, reference) + 1e-8
    assert root_mean_square(there.displacements) == pytest.approx(there.rmsd)
    assert np.linalg.norm(there.displacements, axis=1).max() == pytest.approx(there.max_displacement)
    moved = OPERATIONS.apply(there.operation, candidate.positions) + there.translation
    again = OPERATIONS.lattice.minimum_image(moved[there.permutation] - reference.positions)
    assert np.allclose(again, there.displacements, atol=1e-9)
    assert sorted(there.permutation) == list(range(len(candidate)))
    assert np.array_equal(candidate.numbers[there.permutation], reference.numbers)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), amplitude=st.sampled_from([0.05, 0.3, 0.7, 1.2]), site=st.sampled_from(GERMANIUM))
def test_pruning_changes_nothing(seed: int, amplitude: float, site: int):
    candidate, reference = rattled(seed, amplitude), rattled(seed + 1, 0.1, defect_of(HOST, site))
    exhaustive = match(candidate, reference, OPERATIONS, prune=False)
    assert match(candidate, reference, OPERATIONS).rmsd == pytest.approx(exhaustive.rmsd, abs=1e-10)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_zero_only_for_equivalent_structures(seed: int):
    candidate = rattled(seed, 0.2)
    assert match(candidate, candidate.copy(), OPERATIONS).rmsd == pytest.approx(0, abs=1e-9)
    changed = candidate.copy()
    changed.positions[3] += [0.05, 0.0, 0.0]
    assert match(candidate, changed, OPERATIONS).rmsd > 1e-3


def test_a_known_displacement_is_recovered():
    candidate = DEFECT.copy()
    step = np.array([0.3, -0.2, 0.1])
    candidate.positions[4] += step
    candidate.positions[9] -= step
    found = match(candidate, DEFECT, OPERATIONS, CENTRE)
    n, length = len(DEFECT), np.linalg.norm(step)
    assert found.rmsd == pytest.approx(np.sqrt(2 * length**2 / n))
    assert found.max_displacement == pytest.approx(length)
    near = local_atoms(DEFECT, CENTRE)
    assert found.local_rmsd == pytest.approx(np.sqrt((int(near[4]) + int(near[9])) * length**2 / near.sum()))


def test_one_moved_atom_shares_its_shift():
    candidate = DEFECT.copy()
    candidate.positions[4] += [0.23, 0, 0]
    n = len(DEFECT)
    assert match(candidate, DEFECT, OPERATIONS).max_displacement == pytest.approx(0.23 * (n - 1) / n)


def test_local_atoms_use_the_minimum_image():
    atoms = Atoms("H2", positions=[[0.1, 0, 0], [5, 5, 5]], cell=[10, 10, 10], pbc=True)
    assert local_atoms(atoms, [9.9, 9.9, 0.0], 1.0).tolist() == [True, False]


def test_within_agrees_with_match():
    reference = rattled(2, 0.1)
    for amplitude in (0.05, 0.2, 0.5):
        candidate = rattled(1, amplitude)
        rmsd = match(candidate, reference, OPERATIONS, prune=False).rmsd
        matching.clear_caches()
        assert match_within(candidate, reference, OPERATIONS, rmsd - 1e-6) is None
        assert match_within(candidate, reference, OPERATIONS, rmsd - 1e-6) is None
        found = match_within(candidate, reference, OPERATIONS, rmsd + 1e-6)
        assert found is not None
        assert found.rmsd == pytest.approx(rmsd)


def test_a_skewed_cell_is_compared_like_its_orthogonal_twin():
    skew = HOST.copy()
    cell = HOST.cell.array.copy()
    cell[1] += 2 * cell[0]
    skew.set_cell(cell, scale_atoms=False)
    operations = host_operations(skew)
    first, second = rattled(3, 0.3), rattled(4, 0.1)
    expected = match(first, second, OPERATIONS).rmsd
    for atoms in (first, second):
        atoms.set_cell(cell, scale_atoms=False)
        atoms.wrap()
    assert match(first, second, operations).rmsd == pytest.approx(expected, abs=1e-8)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_minimum_image_against_ase(seed: int):
    from ase.geometry import find_mic

    generator = np.random.default_rng(seed)
    cell = np.diag([6.0, 7.0, 8.0]) + generator.uniform(-4, 4, (3, 3))
    if abs(np.linalg.det(cell)) < 30:
        return
    vectors = generator.uniform(-30, 30, (20, 3))
    ours = np.linalg.norm(matching.Lattice.of(cell).minimum_image(vectors), axis=1)
    assert np.allclose(ours, find_mic(vectors, cell, pbc=True)[1])


def test_a_hexagonal_host():
    host = bulk("Mg", "hcp", a=3.2, c=5.2).repeat((3, 3, 2))
    operations = host_operations(host)
    assert len(operations) == 24 * 18
    candidate, reference = rattled(0, 0.1, defect_of(host)), rattled(1, 0.05, defect_of(host, 7))
    image = candidate.copy()
    image.positions = operations.apply(100, image.positions)
    assert match(image, reference, operations).rmsd == pytest.approx(match(candidate, reference, operations).rmsd, abs=1e-8)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6), amplitude=st.sampled_from([0.1, 0.6]))
def test_pruning_changes_nothing_in_a_skewed_cell(seed: int, amplitude: float):
    host = bulk("Mg", "hcp", a=3.2, c=5.2).repeat((2, 2, 1))
    operations = host_operations(host)
    candidate, reference = rattled(seed, amplitude, defect_of(host)), rattled(seed + 1, 0.1, defect_of(host, 3))
    exhaustive = match(candidate, reference, operations, prune=False)
    assert match(candidate, reference, operations).rmsd == pytest.approx(exhaustive.rmsd, abs=1e-10)
    points = np.random.default_rng(seed).uniform(-20, 20, (2, 30, 3))
    exact = operations.lattice.squared_distances(*points)
    bounds = operations.lattice.squared_distance_bounds(*points)
    assert np.all(bounds <= exact + 1e-9)
    near = exact < operations.lattice.inradius**2
    assert np.allclose(bounds[near], exact[near])


def test_added_atoms_are_matched_too():
    interstitial = HOST.copy() + Atoms("S", positions=[[2.0, 2.0, 2.0]])
    image = interstitial.copy()
    image.positions = OPERATIONS.apply(7, image.positions)
    assert match(image, interstitial, OPERATIONS).rmsd == pytest.approx(0, abs=1e-7)


# Oracles


def test_against_pymatgen():
    pytest.importorskip("pymatgen.core")
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.io.ase import AseAtomsAdaptor

    matcher = StructureMatcher(primitive_cell=False, scale=False, attempt_supercell=False, ltol=0.1, stol=1.0, angle_tol=5)
    compared = 0
    for seed, amplitude in itertools.product(range(3), (0.05, 0.15)):
        candidate, reference = rattled(seed, amplitude), rattled(seed + 50, 0.05)
        result = matcher.get_rms_dist(AseAtomsAdaptor.get_structure(candidate), AseAtomsAdaptor.get_structure(reference))
        assert result is not None
        normalisation = (reference.get_volume() / len(reference)) ** (1 / 3)
        assert match(candidate, reference, OPERATIONS).rmsd == pytest.approx(result[0] * normalisation, abs=2e-3)
        compared += 1
    assert compared == 6


@pytest.fixture(scope="module")
def savory():
    """Reads published structures; the symmetric host is the embedded one, strained into their cell."""

    def build(shared):
        folder = shared / "mirror" / "savory-2019"
        host = read(shared / "reference" / "cp2k-pbe" / "host.extxyz")
        first = read(folder / "V_Sb_1" / "CONTCAR_minus3", format="vasp")
        host.set_cell(first.cell, scale_atoms=True)
        return lambda defect, name: read(folder / defect / f"CONTCAR_{name}", format="vasp"), host_operations(host)

    return build


PUBLISHED = {  # global RMSD, largest displacement, Å
    ("neutral", "minus1"): (0.114, 0.44),
    ("neutral", "minus2"): (0.129, 0.51),
    ("neutral", "minus3"): (0.139, 0.54),
    ("minus1", "minus2"): (0.025, 0.07),
    ("minus1", "minus3"): (0.052, 0.12),
    ("minus2", "minus3"): (0.029, 0.06),
}


@pytest.mark.parametrize("pair", PUBLISHED)
def test_known_distances_of_the_published_antimony_vacancy(shared, savory, pair):
    structure, operations = savory(shared)
    found = match(structure("V_Sb_1", pair[0]), structure("V_Sb_1", pair[1]), operations)
    rmsd, largest = PUBLISHED[pair]
    assert found.rmsd == pytest.approx(rmsd, abs=6e-4)
    assert found.max_displacement == pytest.approx(largest, abs=6e-3)


def test_a_mirror_image_is_the_same_structure(shared, savory):
    structure, operations = savory(shared)
    atoms = structure("V_Se_2", "plus1")
    naive = []
    for i in range(len(operations)):
        image = atoms.copy()
        image.positions = operations.apply(i, atoms.positions)
        naive.append(displacement_rmsd(image, atoms))
        assert match(image, atoms, operations).rmsd == pytest.approx(0, abs=1e-6)
    assert max(naive) > 3


def test_against_pymatgen_on_published_structures(shared, savory):
    pytest.importorskip("pymatgen.core")
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.io.ase import AseAtomsAdaptor

    structure, operations = savory(shared)
    first, second = structure("V_Sb_1", "minus1"), structure("V_Sb_1", "minus3")
    matcher = StructureMatcher(primitive_cell=False, scale=False, attempt_supercell=False, ltol=0.1, stol=1.0, angle_tol=5)
    result = matcher.get_rms_dist(AseAtomsAdaptor.get_structure(first), AseAtomsAdaptor.get_structure(second))
    assert result is not None
    normalisation = (first.get_volume() / len(first)) ** (1 / 3)
    assert match(first, second, operations).rmsd == pytest.approx(result[0] * normalisation, abs=2e-3)


# Host reference


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), first=st.integers(0, 23), second=st.integers(0, 23))
def test_host_reference_by_matching_needs_no_order_origin_or_orientation(seed: int, first: int, second: int):
    generator = np.random.default_rng(seed)
    drifted_host, reference = rattled(seed, 0.3, HOST), rattled(seed + 1, 0.15)
    candidate = reference.copy()
    candidate.positions += displacements(drifted_host, HOST)[1:]
    for atoms, operation in ((candidate, first), (drifted_host, second)):
        atoms.positions = OPERATIONS.apply(operation, atoms.positions) + generator.uniform(-9, 9, 3)
    candidate = candidate[generator.permutation(len(candidate))]
    drifted_host = drifted_host[generator.permutation(len(drifted_host))]
    found, corrected = match_host_referenced(candidate, reference, drifted_host, HOST, OPERATIONS, CENTRE)
    assert found.rmsd == pytest.approx(0, abs=1e-6)
    assert match(corrected, reference, OPERATIONS).rmsd == pytest.approx(0, abs=1e-6)


def test_a_symmetric_drift_has_one_field():
    symmetric = HOST.copy()
    u = OPERATIONS.images(HOST.positions[:1] + np.array([0.1, 0.0, 0.05]))[:, 0]
    squares = OPERATIONS.lattice.squared_distances(HOST.positions, u)
    for i in np.flatnonzero(HOST.numbers == 32):
        symmetric.positions[i] += OPERATIONS.lattice.minimum_image(u[squares[i].argmin()] - HOST.positions[i])
    assert root_mean_square(displacements(symmetric, HOST)) > 0.05
    assert len(host_fields(symmetric, HOST, OPERATIONS)) == 1
    assert len(host_fields(rattled(1, 0.1, HOST), HOST, OPERATIONS)) == 24


def test_taking_a_field_off_leaves_interstitials():
    interstitial = HOST.copy() + Atoms("S", positions=[[2.0, 2.0, 2.0]])
    out = without_field(interstitial, HOST, np.zeros((len(HOST), 3)), OPERATIONS)
    assert match(out, interstitial, OPERATIONS).rmsd == pytest.approx(0, abs=1e-9)


# Errors


def test_structures_that_cannot_be_compared_are_refused():
    other = HOST.copy()
    larger = DEFECT.copy()
    larger.set_cell(larger.cell.array * 1.01, scale_atoms=True)
    broken = DEFECT.copy()
    broken.positions[0, 0] = np.nan
    swapped = DEFECT[::-1]
    cases = [
        (lambda: match(other, DEFECT, OPERATIONS), "other-composition"),
        (lambda: match(larger, DEFECT, OPERATIONS), "other-cell"),
        (lambda: match(larger, larger, OPERATIONS), "other-cell"),
        (lambda: match(broken, DEFECT, OPERATIONS), "not-finite"),
        (lambda: displacements(swapped, DEFECT), "other-composition"),
        (lambda: displacements(larger, DEFECT), "other-cell"),
        (lambda: host_operations(Atoms("H", positions=[[0, 0, 0]])), "no-match"),
        (lambda: host_translation(np.array([1]), np.zeros((1, 3)), OPERATIONS), "other-composition"),
    ]
    for call, code in cases:
        with raises_code(code):
            call()


def rocksalt_antisite(seed: int) -> Atoms:
    """An antisite in 64-atom rock salt: 1,536 operations, so that the cheap bounds decide which are looked at."""
    atoms = bulk("MgO", "rocksalt", a=4.2, cubic=True).repeat(2)
    site = int(np.flatnonzero(atoms.numbers == 8)[5])
    atoms.numbers[site] = 12
    atoms.positions[site] += (0.9, 0.6, 0.2)
    atoms.positions += np.random.default_rng(seed).normal(size=(64, 3)) * 0.05
    return atoms[np.argsort(-atoms.numbers, kind="stable")]


def test_bounds_of_many_operations_change_nothing() -> None:
    host = bulk("MgO", "rocksalt", a=4.2, cubic=True).repeat(2)
    operations = host_operations(host)
    assert len(operations) > 64
    reference = rocksalt_antisite(0)
    for seed, operation in ((1, 7), (2, 900)):
        candidate = rocksalt_antisite(seed)
        candidate.positions = operations.apply(operation, candidate.positions)
        found = match(candidate, reference, operations)
        laid = [on_host(atoms, bytes([i]), operations) for i, atoms in enumerate((candidate, reference))]
        pair = matching._Pair(*laid, operations, True)
        bounds = operation_bounds(*laid, operations, pair.radius)
        for index in range(0, len(operations), 97):
            exact = pair.best(next(pair._images(np.array([index]))), np.inf)
            assert exact is not None
            assert exact.squared >= bounds[index] - 1e-12
            assert exact.squared >= found.rmsd**2 - 1e-9
        each = matches_within(candidate, reference, operations, found.rmsd + 0.01)
        assert found.operation in {one.operation for one in each}
        assert min(one.rmsd for one in each) == pytest.approx(found.rmsd, abs=1e-12)
