"""The Ewald sum: against the Madelung constant, itself with another splitting, and pydefect."""

from __future__ import annotations

import numpy as np
import pytest

from defectbench.structures.ewald import COULOMB, ewald_potential

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


def test_madelung_constant_of_a_simple_cubic_lattice() -> None:
    for edge, epsilon in ((10.0, 1.0), (7.5, 12.0)):
        value = float(ewald_potential(np.eye(3) * edge, np.eye(3) * epsilon, [[0.0, 0.0, 0.0]])[0])
        assert -value * edge * epsilon / COULOMB == pytest.approx(2.837297479, abs=1e-8)


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
