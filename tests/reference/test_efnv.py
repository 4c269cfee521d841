"""Finite-size corrections: against a point charge in a uniform dielectric, and what makes them appear in and vanish from a dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from reference_dft.corrections import METHOD, efnv
from reference_dft.properties import derive_levels, store_result
from reference_dft.reference_data import ReferenceData
from reference_dft.tasks import Task
from test_kinds import RELAX, work_through

from defectbench.datasets.catalogue import load_dataset
from defectbench.datasets.schema import Citation, DielectricTensor
from defectbench.datasets.writing import add_relaxation, update_metadata
from defectbench.structures.ewald import COULOMB, ewald_potential

pytestmark = pytest.mark.slow

MADELUNG = 2.837297
"""Of a point charge in a cubic cell with uniform background."""
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
