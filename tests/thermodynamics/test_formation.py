"""Formation energy lines and their lower envelope."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from defectbench.thermodynamics import FormationLine, ThermodynamicsError, envelope, exchange_energy, formation_line, ground_lines

lines = st.lists(
    st.builds(FormationLine, st.integers(-4, 4), st.floats(-50, 50), st.sampled_from(["Unperturbed", "Rattled", "Dimer", "a", "b"])),
    min_size=1,
    max_size=25,
)


def test_the_equation_by_hand() -> None:
    """A vacancy in charge −3: E − E_bulk − (−1)·μ + (−3)·E_VBM + correction."""
    line = formation_line(-3, -329.566822, -350.57071, {"Sb": -1}, {"Sb": -5.40690}, vbm=4.314, correction=0.690035 + 0.152614)
    assert line.energy == pytest.approx(-329.566822 + 350.57071 - 5.40690 - 3 * 4.314 + 0.842649, abs=1e-12)
    assert line.at(0.5) == pytest.approx(line.energy - 1.5, abs=1e-12)


def test_an_antisite_exchanges_two_elements() -> None:
    assert exchange_energy({"Sb": 1, "Se": -1}, {"Sb": -5.0, "Se": -6.0}) == pytest.approx(1.0)
    assert exchange_energy({"Sb": 0}, {}) == 0.0


def test_a_missing_chemical_potential_is_named() -> None:
    with pytest.raises(ThermodynamicsError, match="no chemical potential of Se; given are Sb"):
        exchange_energy({"Sb": 1, "Se": -1}, {"Sb": -5.0})


@pytest.mark.parametrize("where", ["defect", "bulk", "vbm", "correction"])
def test_a_number_that_is_not_finite_is_refused(where: str) -> None:
    numbers = {"defect": -1.0, "bulk": -2.0, "vbm": 0.0, "correction": 0.0} | {where: math.nan}
    with pytest.raises(ThermodynamicsError, match="nan"):
        formation_line(0, numbers["defect"], numbers["bulk"], {}, {}, numbers["vbm"], numbers["correction"])
    with pytest.raises(ThermodynamicsError, match="inf"):
        ground_lines([FormationLine(0, math.inf, "Dimer")])


@given(lines, st.floats(-3, 3))
def test_the_envelope_lies_on_or_below_every_line_and_on_one_ground_line(given_lines: list[FormationLine], fermi_level: float) -> None:
    value = envelope(given_lines, fermi_level)
    assert all(value <= line.at(fermi_level) for line in given_lines)
    assert value in [line.at(fermi_level) for line in ground_lines(given_lines).values()]


@given(lines, st.randoms(use_true_random=False))
def test_the_ground_lines_do_not_depend_on_order(given_lines: list[FormationLine], random) -> None:
    shuffled = list(given_lines)
    random.shuffle(shuffled)
    assert ground_lines(shuffled) == ground_lines(given_lines)
    assert list(ground_lines(given_lines)) == sorted({line.charge for line in given_lines})


def test_equal_configurations_are_told_apart_by_name() -> None:
    tied = [FormationLine(0, 1.0, "Unperturbed"), FormationLine(0, 1.0, "Dimer")]
    assert ground_lines(tied)[0].configuration == "Dimer"


def test_no_lines_have_no_envelope() -> None:
    assert ground_lines([]) == {}
    with pytest.raises(ThermodynamicsError):
        envelope([], 0.0)
