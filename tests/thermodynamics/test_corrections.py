"""Finite-size corrections: stored for all charges of a defect, or absent and said to be."""

from __future__ import annotations

import pytest
from refusals import raises_code

from defectbench.datasets.schema import Correction, Defect, LevelOfTheory
from defectbench.thermodynamics import exchanged_atoms, find_corrections, thermodynamic_reference


def level(**more: object) -> LevelOfTheory:
    return LevelOfTheory.model_validate({"name": "PBE", "functional": "PBE"} | more)


STORED = [
    Correction(defect="V_Sb1", charge=0).model_dump(),
    Correction(defect="V_Sb1", charge=-1, potential_alignment=0.25, band_filling=-0.01, image_charge=0.02).model_dump(),
]


def test_stored_corrections_are_the_sum_of_their_terms() -> None:
    found = find_corrections(level(corrections=STORED, correction_method="by hand"), "V_Sb1", (-1, 0))
    assert found.status == "corrected"
    assert found.method == "by hand"
    assert found.values == pytest.approx({-1: 0.26, 0: 0.0})
    assert found.of(-1) == pytest.approx(0.26)
    with raises_code("no-correction", "−3"):
        found.of(-3)


def test_absent_corrections_are_said_to_be_absent() -> None:
    found = find_corrections(level(corrections=STORED), "V_Se2", (0, 1))
    assert found.status == "uncorrected"
    assert found.values == {}
    assert found.of(1) == 0.0


def test_corrections_of_some_charges_only_are_refused() -> None:
    with raises_code("no-correction", "−2, −3"):
        find_corrections(level(corrections=STORED), "V_Sb1", (0, -1, -2, -3))
    assert find_corrections(level(corrections=STORED), "V_Sb1", (0, -1)).status == "corrected", "a selection without the others is fine"


def test_a_reference_says_what_is_missing() -> None:
    assert thermodynamic_reference(level()).missing == ("valence band maximum", "host energy", "chemical potentials")
    full = thermodynamic_reference(
        level(
            host_energy=-1.0,
            band_edges={"vbm": 4.0, "cbm": 5.25},
            chemical_potentials=[{"name": "Sb-rich", "potentials": {"Sb": -5.0, "Se": -6.0}}],
        )
    )
    assert full.missing == ()
    assert full.gap == pytest.approx(1.25)
    assert thermodynamic_reference(level(band_edges={"vbm": 4.0})).gap is None


@pytest.mark.parametrize(
    ("defect", "expected"),
    [
        ({"name": "V_Sb1", "kind": "vacancy", "site": 0, "removed": "Sb", "charges": [0]}, {"Sb": -1}),
        ({"name": "Se_Sb1", "kind": "substitution", "site": 0, "removed": "Sb", "added": "Se", "charges": [0]}, {"Sb": -1, "Se": 1}),
        ({"name": "Sb_i", "kind": "interstitial", "position": [0, 0, 0], "added": "Sb", "charges": [0]}, {"Sb": 1}),
    ],
)
def test_exchanged_atoms_follow_from_the_kind_of_defect(defect: dict[str, object], expected: dict[str, int]) -> None:
    assert exchanged_atoms(Defect.model_validate(defect)) == expected
