"""Formation energies: the equation by hand, and numbers that are refused."""

from __future__ import annotations

import math

import pytest
from refusals import raises_code

from defectbench.thermodynamics import exchange_energy, formation_energy


def test_the_equation_by_hand() -> None:
    """A vacancy in charge −3: E − E_host − (−1)·μ + (−3)·(E_VBM + E_F) + correction."""
    exchanged = exchange_energy({"Sb": -1}, {"Sb": -5.40690})
    at_vbm = formation_energy(-3, -329.566822, -350.57071, exchanged, vbm=4.314, correction=0.690035 + 0.152614)
    assert at_vbm == pytest.approx(-329.566822 + 350.57071 - 5.40690 - 3 * 4.314 + 0.842649, abs=1e-12)
    above = formation_energy(-3, -329.566822, -350.57071, exchanged, vbm=4.314, correction=0.690035 + 0.152614, fermi_level=0.5)
    assert above == pytest.approx(at_vbm - 1.5, abs=1e-12)


def test_an_antisite_exchanges_two_elements() -> None:
    assert exchange_energy({"Sb": 1, "Se": -1}, {"Sb": -5.0, "Se": -6.0}) == pytest.approx(1.0)
    assert exchange_energy({"Sb": 0}, {}) == 0.0


def test_a_missing_chemical_potential_is_refused() -> None:
    with raises_code("no-chemical-potential", "Se"):
        exchange_energy({"Sb": 1, "Se": -1}, {"Sb": -5.0})


@pytest.mark.parametrize("which", range(6))
def test_a_number_that_is_not_finite_is_refused(which: int) -> None:
    numbers = [-1.0, -2.0, 0.0, 0.0, 0.0, 0.0]
    numbers[which] = math.nan
    with raises_code("not-finite"):
        formation_energy(0, *numbers)
