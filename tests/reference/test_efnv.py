"""Finite-size corrections: against a point charge in a uniform dielectric, and what makes them appear in and vanish from a dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from reference_dft.corrections import METHOD, efnv, ewald_potential
from reference_dft.properties import derive_levels, store_result
from reference_dft.reference_data import ReferenceData
from reference_dft.tasks import Task
from test_kinds import RELAX, work_through

from defectbench.datasets.catalogue import load_dataset
from defectbench.datasets.schema import Citation, DielectricTensor
from defectbench.datasets.writing import add_relaxation, update_metadata

MADELUNG = 2.837297
"""Of a point charge in a cubic cell with uniform background."""
COULOMB = 14.399645
"""e²/(4πε₀), eV Å."""
EDGE = 12.0


def lattice() -> Atoms:
    """64 atoms of helium on a simple cubic lattice; the defect takes the first."""
    return Atoms("He", cell=[EDGE / 4] * 3, pbc=True).repeat(4)


SITES = np.arange(1, 64)


@pytest.mark.parametrize("charge", [-3, -1, 1, 2])
def test_point_charge_in_a_uniform_dielectric(charge: int) -> None:
    host, epsilon, shift = lattice(), np.eye(3) * 10.0, 0.07
    defect = host[1:]
    of_charge = charge * ewald_potential(defect.cell.array, epsilon, defect.positions)
    found = efnv(np.full(64, 5.0), defect, 5.0 + shift + of_charge, SITES, (0, 0, 0), charge, epsilon)
    assert found.point_charge == pytest.approx(charge**2 * MADELUNG * COULOMB / (2 * 10.0 * EDGE), rel=1e-6)
    assert found.alignment == pytest.approx(-charge * shift, abs=1e-6)
    assert found.spread == pytest.approx(0.0, abs=1e-6)
    assert found.radius == pytest.approx(EDGE / 2)
    assert found.sites > 5
    assert found.total == pytest.approx(found.point_charge + found.alignment)


def test_the_position_is_taken_as_cartesian() -> None:
    host = lattice()
    host.positions += [1.3, 0.2, -0.4]
    host.wrap()
    place = host.positions[0]
    defect = host[1:]
    values = ewald_potential(defect.cell.array, np.eye(3) * 8.0, defect.positions - place)
    found = efnv(np.zeros(64), defect, values, SITES, place, 1, np.eye(3) * 8.0)
    assert abs(found.alignment) < 1e-6
    assert found.spread < 1e-6


SB2SE3 = np.diag([11.7938, 11.9574, 11.6478])
STRONG = np.diag([15.0, 85.64, 128.18])
"""Anisotropic as few are: an Ewald sum with the usual cutoffs is 40 % off."""
SHEAR = np.array([[8.0, 0.0, 0.0], [2.5, 7.0, 0.0], [-1.0, 1.5, 9.0]])
TENSOR = np.array([[12.0, 2.0, 0.5], [2.0, 9.0, -1.0], [0.5, -1.0, 30.0]])


@pytest.mark.parametrize(("cell", "epsilon"), [(SB2SE3, STRONG), (SHEAR, TENSOR)])
def test_the_sum_does_not_depend_on_its_splitting(cell: np.ndarray, epsilon: np.ndarray) -> None:
    points = [[0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [5.0, -4.0, 2.0]]
    usual = float(np.sqrt(np.pi) / (np.linalg.det(cell) / np.sqrt(np.linalg.det(epsilon))) ** (1 / 3))
    first, second = (ewald_potential(cell, epsilon, points, usual * factor) for factor in (0.8, 1.5))
    np.testing.assert_allclose(first, second, atol=1e-10)
    np.testing.assert_allclose(ewald_potential(cell, epsilon, points), first, atol=1e-10)


def test_a_shared_factor_of_the_tensor_scales_the_potential() -> None:
    one, three = (ewald_potential(SHEAR, TENSOR * factor, [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]) for factor in (1.0, 3.0))
    np.testing.assert_allclose(one, 3.0 * three, atol=1e-10)


def test_point_charge_term_of_the_shipped_cell() -> None:
    """The number of pydefect's sum at accuracy 40 (at its default, 15, it gives 0.023422)."""
    value = float(ewald_potential(SB2SE3, STRONG, [[0.0, 0.0, 0.0]])[0])
    assert -value / 2 == pytest.approx(0.016946, abs=1e-6)


def test_same_as_pydefect() -> None:
    ewald = pytest.importorskip("pydefect.corrections.ewald").Ewald(SHEAR, TENSOR, accuracy=30.0)
    unit = 180.95128169876497
    assert float(ewald_potential(SHEAR, TENSOR, [[0.0, 0.0, 0.0]])[0]) == pytest.approx(2 * ewald.lattice_energy * unit, abs=1e-6)
    there = ewald.atomic_site_potential([0.3, 0.1, -0.2]) * unit
    assert float(ewald_potential(SHEAR, TENSOR, [np.array([0.3, 0.1, -0.2]) @ SHEAR])[0]) == pytest.approx(there, abs=1e-6)


def test_corrections_come_with_the_last_potential_and_go_with_a_lower_minimum(tmp_path: Path, fake_cp2k: Path) -> None:
    folder, _ = work_through(tmp_path, fake_cp2k, RELAX, {"kind": "host", "level": "PBE"})
    tensor = DielectricTensor(tensor=((9.0, 0.0, 0.0), (0.0, 9.0, 0.0), (0.0, 0.0, 9.0)), citation=Citation(text="made up"))
    update_metadata(folder, lambda metadata: metadata.model_copy(update={"dielectric": tensor}))
    data = ReferenceData(folder)
    for charge in (0, 1):
        assert data.dataset.level_of_theory().corrections == ()
        ground = data.dataset.ground_state("V_H1", charge)
        assert ground is not None
        result = {"kind": "potential", "level": "PBE", "defect": "V_H1", "charge": charge}
        result |= {"configuration": ground.configuration, "site_potentials": [2.8, 2.6]}
        store_result(data, Task("potential", "PBE", "V_H1", charge), result)
    level = load_dataset(folder).level_of_theory()
    assert [(c.defect, c.charge) for c in level.corrections] == [("V_H1", 0), ("V_H1", 1)]
    assert level.corrections[0].total == 0.0
    assert level.corrections[1].image_charge == pytest.approx(MADELUNG * COULOMB / (2 * 9.0 * 5.0), rel=1e-4)
    assert level.correction_method == METHOD
    assert not derive_levels(data), "nothing new"
    ground = data.dataset.ground_state("V_H1", 1)
    assert ground is not None
    other = "Dimer" if ground.configuration == "Unperturbed" else "Unperturbed"
    frames = data.dataset.frames("V_H1", 1, other)
    for atoms in frames:
        atoms.calc.results["energy"] -= 5.0
    add_relaxation(folder, frames, overwrite=True)
    assert derive_levels(data)
    assert load_dataset(folder).level_of_theory().corrections == (), "the potential is that of another structure"
