"""What is taken for a result, and what is not."""

from __future__ import annotations

import pytest
from ase.build import bulk

from defectbench.calculations.executors.local import died_result
from defectbench.calculations.requests import Calculation, Structure
from defectbench.calculations.results import hardware_problem, problem

STRUCTURE = Structure.from_atoms(bulk("NaCl", "rocksalt", a=5.6))
RELAXATION = Calculation("relaxation", STRUCTURE, -1)
SINGLE = Calculation("single_point", STRUCTURE, None)
DESCRIPTORS = Calculation("descriptors", STRUCTURE, None)
CERTIFICATE = Calculation("certificate", STRUCTURE, None)
ROWS = [[0.0, 0.0, 0.1], [2.8, 0, 0]]
RELAXED = {
    "status": "converged", "failure": None, "failure_kind": None, "positions": ROWS, "energy": -3.5, "forces": ROWS,
    "energies": [-3, -3.5], "fmax": [1.0, 0.01], "steps": 1, "wall_s": 0.1, "cpu_s": 0.1, "peak_memory_mb": 10.0,
}  # fmt: skip
OK = {"status": "ok", "energy": -3.5, "forces": ROWS, "wall_s": 0.1}
NAN = float("nan")


@pytest.mark.parametrize(
    ("calculation", "result"),
    [
        (RELAXATION, RELAXED),
        (RELAXATION, RELAXED | {"status": "unconverged", "machine": 1}),
        (RELAXATION, died_result(RELAXATION, "out of memory")),
        (SINGLE, OK),
        (SINGLE, died_result(SINGLE, "out of memory")),
        (SINGLE, {"status": "failed", "failure": "no", "failure_kind": "nan", "wall_s": 0.1}),
        (DESCRIPTORS, {"status": "ok", "descriptors": [[1, 2, 3], [1, 2, 3]], "wall_s": 0.1}),
        (DESCRIPTORS, {"status": "unsupported", "failure": "exposes none", "wall_s": 0.0}),
        (Calculation("descriptors", STRUCTURE, None, options={"average": True}), {"status": "ok", "descriptors": [[1.0]]}),
        (CERTIFICATE, {"status": "ok", "energies": [1.0, 2.0]}),
    ],
)
def test_what_a_worker_gives_is_a_result(calculation, result):
    assert problem(calculation, result) is None


@pytest.mark.parametrize(
    ("calculation", "result"),
    [
        *[(RELAXATION, wrong) for wrong in ([], {}, None, "converged", 5)],
        *[(RELAXATION, {name: value for name, value in RELAXED.items() if name != gone}) for gone in RELAXED if "failure" not in gone],
        *[
            (RELAXATION, RELAXED | wrong)
            for wrong in (
                {"status": "ok"}, {"status": ["converged"]}, {"failure": 5}, {"positions": ROWS[:1]}, {"positions": [ROWS[0], [NAN, 0, 0]]},
                {"positions": [ROWS[0], [1, 2]]}, {"positions": "ab"}, {"positions": [["a"] * 3] * 2}, {"energy": None}, {"energy": NAN},
                {"energy": True}, {"energy": "-3.5"}, {"energy": 10**400}, {"forces": None}, {"forces": ROWS[:1]}, {"fmax": []},
                {"fmax": [1.0, NAN]}, {"fmax": 0.01}, {"fmax": [0.01]}, {"steps": -1}, {"steps": 1.5}, {"wall_s": -1.0}, {"cpu_s": None},
                {"machine": -1}, {"machine": "0"}, {"machine": True},
            )
        ],
        (SINGLE, OK | {"energy": None}),
        (SINGLE, OK | {"forces": [[0, 0, 0]]}),
        (SINGLE, OK | {"status": "converged"}),
        (DESCRIPTORS, {"status": "ok", "descriptors": [[1, 2, 3]]}),
        (DESCRIPTORS, {"status": "ok", "descriptors": [[], []]}),
        (DESCRIPTORS, {"status": "ok"}),
        (CERTIFICATE, {"status": "ok", "energies": [1.0, NAN]}),
    ],
)  # fmt: skip
def test_anything_else_is_none(calculation, result):
    assert problem(calculation, result)


@pytest.mark.parametrize("wrong", [{"gpus": 5}, {"gpus": [5]}, {"processor": 5}, {"cores": "two"}, {"memory_gb": NAN}])
def test_hardware_is_what_it_is_described_as(wrong):
    good = {"processor": "Thing 9000", "cores": 2, "memory_gb": 8.0, "gpus": []}
    assert hardware_problem(good) is None
    assert hardware_problem({}) is None
    assert hardware_problem(good | wrong)
