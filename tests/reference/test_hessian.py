"""The first Hessian of a relaxation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.units import Bohr, Hartree
from reference_dft.hessian import FLOOR, by_differences, stiffened, write_hessian
from reference_dft.manager import Manager
from reference_dft.reference_data import ReferenceData
from refusals import raises_code
from scipy.io import FortranFile

from defectbench.calculations.requests import Calculation
from defectbench.calculations.results import Echo, SinglePointResult

ATOMS = Atoms("Sb2Se", positions=[[0, 0, 0], [2.5, 0, 0], [0, 2.6, 0]], cell=[9, 9, 9], pbc=True)
MATRIX = np.random.default_rng(1).normal(size=(9, 9))
STIFFNESS = MATRIX @ MATRIX.T


def harmonic(calculation: Calculation) -> SinglePointResult:
    displacement = (np.array(calculation.structure.positions) - ATOMS.positions).ravel()
    forces = (-STIFFNESS @ displacement).reshape(-1, 3)
    assert calculation.charge == -3
    return SinglePointResult(status="ok", echo=Echo(charge=-3, request="0" * 64), energy=0.0, forces=forces.tolist(), wall_s=0.0, cpu_s=0.0)


def broken(calculation: Calculation) -> SinglePointResult:
    return SinglePointResult(status="failed", echo=Echo(charge=-3, request="0" * 64), failure="no", wall_s=0.0, cpu_s=0.0)


def test_differences_of_forces_give_the_hessian() -> None:
    before = ATOMS.positions.copy()
    np.testing.assert_allclose(by_differences(harmonic, ATOMS, -3), STIFFNESS, atol=1e-10)
    np.testing.assert_array_equal(ATOMS.positions, before)
    with raises_code("run-failed", "no Hessian"):
        by_differences(broken, ATOMS, -3)


def test_soft_and_negative_curvature_is_made_stiff() -> None:
    values, vectors = np.linalg.eigh(STIFFNESS)
    values[:3] = (-2.0, 0.0, 0.3)
    found = stiffened((vectors * values) @ vectors.T)
    np.testing.assert_allclose(np.linalg.eigvalsh(found), np.sort(np.maximum(values, FLOOR)))


def test_cp2k_reads_a_column_per_record_in_atomic_units(tmp_path: Path) -> None:
    write_hessian(tmp_path / "h", STIFFNESS)
    with FortranFile(tmp_path / "h") as handle:
        columns = [handle.read_reals() for _ in range(9)]
    np.testing.assert_allclose(np.array(columns).T * Hartree / Bohr**2, STIFFNESS)


@pytest.mark.slow
def test_a_relaxation_begins_with_it(tiny: Path, fake_cp2k: Path) -> None:
    asked = []

    def guess(atoms: Atoms, charge: int) -> np.ndarray:
        asked.append((len(atoms), charge))
        return 3.0 * np.eye(3 * len(atoms))

    label = "relaxation/PBE/V_H1_q+0_Unperturbed"
    manager = Manager(ReferenceData(tiny), tiny.parent / "work", ("V_H1_q+0_Unperturbed",))
    manager.run([str(fake_cp2k)], 1, poll=0.02, report=lambda _: None, niceness=0, guess=guess)
    assert "RESTART_HESSIAN T" in (tiny.parent / "work" / label / "segment-00" / "input.inp").read_text()
    assert asked == [(2, 0)]
