"""ASE calculators that a notebook holds: evaluated and certified in this process."""

from __future__ import annotations

import numpy as np
import pytest
from ase.calculators.calculator import Calculator, all_changes
from refusals import raises_code

import defectbench
from defectbench.models.in_hand import model_in_hand

SMALL = {"defects": ["V_Se2"], "charges": [2], "configurations": ["Unperturbed"], "tasks": ["relax"], "figures": False}


class Springs(Calculator):
    """Every atom on a spring to its place in the first structure of each size; a charge pulls along x."""

    implemented_properties = ("energy", "forces")

    def __init__(self, stiffness: float = 1.0, key: str = "charge") -> None:
        super().__init__()
        self.stiffness, self.key = stiffness, key
        self.calls = 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        charge = atoms.info.get(self.key, 0)
        apart = atoms.get_all_distances(mic=True)
        close = (apart > 0) & (apart < 3.5)
        stretch = np.where(close, apart - 3.0, 0.0)
        vectors = atoms.get_all_distances(mic=True, vector=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            unit = np.where(close[..., None], vectors / apart[..., None], 0.0)
        scale = self.stiffness * (1 + 0.1 * charge)
        smooth = np.where(close, (3.5 - apart) ** 2, 0.0)
        slope = np.where(close, -2 * (3.5 - apart), 0.0)
        self.results = {
            "energy": 0.5 * scale * float((smooth * (1 + 0 * stretch)).sum()) + 0.2 * charge,
            "forces": scale * np.einsum("ij,ijk->ik", slope, unit),
        }


def test_a_charge_reaches_the_calculator_and_is_certified():
    found = defectbench.certify(Springs(0.5), name="springs", charge="info:charge", level_of_theory="PBE")
    assert found.charge_class == "charge-aware"
    assert (found.model.id, found.model.level_of_theory) == ("springs", "PBE")
    # the charge stretches every spring, so its effect grows with the cell
    assert [check.name for check in found.certificate.failed] == ["charge_response_size_consistent"]


def test_a_charge_that_gets_lost_is_told(tmp_path):
    found = defectbench.certify(Springs(0.5, key="other"), charge="info:charge")
    assert found.charge_class == "charge-blind"
    assert not found.passed
    with raises_code("charge-contradiction"):
        defectbench.evaluate(Springs(0.5, key="other"), charge="info:charge", **SMALL, output=tmp_path / "run")


@pytest.mark.slow
def test_an_evaluation_resumes_and_tells_calculators_apart(tmp_path):
    one = defectbench.evaluate(Springs(0.5), charge="info:charge", **SMALL, output=tmp_path / "run")
    assert (tmp_path / "run" / "index.html").stat().st_size > 1000
    assert one.record.model.charge == "info:charge"
    again = defectbench.evaluate(Springs(0.5), charge="info:charge", **SMALL, output=tmp_path / "run")
    assert again.record.host == one.record.host
    other = defectbench.evaluate(Springs(0.6), charge="info:charge", **SMALL, output=tmp_path / "run")
    assert other.record.model.identity != one.record.model.identity
    assert other.record.host[0].energy != one.record.host[0].energy


def test_a_function_makes_a_calculator_per_charge():
    made = []

    def build(charge):
        made.append(charge)
        return Springs(0.5 + 0.1 * charge)

    found = defectbench.certify(build, charge="argument:charge", charge_range=(-1, 1))
    assert sorted(set(made)) == [-1, 0, 1]
    assert found.charge_class == "charge-aware"


@pytest.mark.parametrize(
    ("model", "options", "code"),
    [
        (3, {}, "not-a-calculator"),
        (Springs(), {"charge": "argument:charge"}, "bad-charge"),
        (Springs(), {"charge": "information"}, "bad-charge"),
        (lambda: None, {}, "bad-charge"),
        (Springs(), {"precision": "half"}, "bad-model"),
    ],
)
def test_what_is_refused(model, options, code):
    with raises_code(code):
        model_in_hand(model, **options)


def test_what_was_calculated_last_is_no_part_of_the_identity():
    used = Springs()
    atoms = defectbench.load_dataset("sb2se3-vacancies").host
    fresh = model_in_hand(Springs()).resolved.identity
    atoms.calc = used
    atoms.get_potential_energy()
    assert model_in_hand(used).resolved.identity == fresh
