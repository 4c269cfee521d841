"""What is taken for a result, and what is not."""

from __future__ import annotations

import json

import pytest
from ase.build import bulk
from pydantic import ValidationError

from defectbench.base.hardware import Hardware
from defectbench.calculations.requests import Calculation, Structure
from defectbench.calculations.results import EchoMismatch, check_echo, failed_result, parse

STRUCTURE = Structure.from_atoms(bulk("NaCl", "rocksalt", a=5.6))
RELAXATION = Calculation("relaxation", STRUCTURE, -1)
SINGLE = Calculation("single_point", STRUCTURE, None)
DESCRIPTORS = Calculation("descriptors", STRUCTURE, None)
AVERAGED = Calculation("descriptors", STRUCTURE, None, options={"average": True})
CERTIFICATE = Calculation("certificate", STRUCTURE, None, options={"charges": [-1, 0]})
ROWS = [[0.0, 0.0, 0.1], [2.8, 0, 0]]
RELAXED = {
    "status": "converged", "failure": None, "failure_kind": None, "positions": ROWS, "energy": -3.5, "forces": ROWS,
    "energies": [-3, -3.5], "fmax": [1.0, 0.01], "steps": 1, "wall_s": 0.1, "cpu_s": 0.1, "peak_memory_mb": 10.0,
}  # fmt: skip
OK = {"status": "ok", "energy": -3.5, "forces": ROWS, "wall_s": 0.1}
SAME = {"energy": 0.0, "forces": 0.0}
CERTIFIED = {
    "status": "ok", "atoms": 2, "precision": "float64", "charges": [-1, 0], "energies": [1.0, 2.0], "forces": [ROWS, ROWS],
    **dict.fromkeys(("repeat", "stale", "order", "translation", "permutation", "rotation"), SAME),
    "finite_difference": [{"atom": 0, "axis": 1, "analytic": 0.1, "steps": [1e-3], "numerical": [0.1]}],
    "doubling": {"charge": -1, "reference_charge": 0, "single": [1.0, 2.0], "double": [2.0, 4.0]},
    "descriptors": None, "seconds_per_call": 0.1,
}  # fmt: skip
NAN = float("nan")


@pytest.mark.parametrize(
    ("calculation", "content"),
    [
        (RELAXATION, RELAXED),
        (RELAXATION, RELAXED | {"status": "unconverged"}),
        (SINGLE, OK),
        (SINGLE, {"status": "failed", "failure": "no", "failure_kind": "nan", "wall_s": 0.1}),
        (DESCRIPTORS, {"status": "ok", "descriptors": [[1, 2, 3], [1, 2, 3]], "wall_s": 0.1}),
        (DESCRIPTORS, {"status": "unsupported", "failure": "exposes none", "wall_s": 0.0}),
        (AVERAGED, {"status": "ok", "descriptors": [[1.0]]}),
        (CERTIFICATE, CERTIFIED),
        (CERTIFICATE, {"status": "failed", "failure": "no"}),
    ],
)
def test_what_a_worker_gives_is_a_result_and_survives_a_file(calculation, content):
    result = parse(calculation, content)
    assert result.kind == calculation.kind
    assert result.echo is None
    assert parse(calculation, result.model_dump_json()) == result


@pytest.mark.parametrize("calculation", [RELAXATION, SINGLE, DESCRIPTORS, CERTIFICATE])
def test_the_record_of_a_calculation_that_gave_nothing_is_a_result_of_it(calculation):
    result = failed_result(calculation, "out of memory", "worker_died")
    assert (result.status, result.failure_kind) == ("failed", "worker_died")
    check_echo(calculation, result)


@pytest.mark.parametrize(
    ("calculation", "content"),
    [
        *[(RELAXATION, wrong) for wrong in ([], {}, "converged", "[1", "5")],
        *[
            (RELAXATION, {name: value for name, value in RELAXED.items() if name != gone})
            for gone in ("status", "positions", "energy", "forces", "energies", "fmax", "steps")
        ],
        *[
            (RELAXATION, RELAXED | wrong)
            for wrong in (
                {"status": "ok"}, {"status": ["converged"]}, {"failure": 5}, {"positions": ROWS[:1]}, {"positions": [ROWS[0], [NAN, 0, 0]]},
                {"positions": [ROWS[0], [1, 2]]}, {"positions": "ab"}, {"positions": [["a"] * 3] * 2}, {"energy": None}, {"energy": NAN},
                {"energy": True}, {"energy": "-3.5"}, {"forces": None}, {"forces": ROWS[:1]}, {"fmax": []}, {"fmax": [1.0, NAN]},
                {"fmax": 0.01}, {"fmax": [0.01]}, {"steps": -1}, {"steps": 1.5}, {"wall_s": -1.0}, {"cpu_s": None},
                {"kind": "single_point"},
                {"more": 1}, {"echo": {"charge": "-1", "request": "ab"}}, {"echo": {"charge": -1.5, "request": "ab"}},
            )
        ],
        (SINGLE, OK | {"energy": None}),
        (SINGLE, OK | {"forces": [[0, 0, 0]]}),
        (SINGLE, OK | {"status": "converged"}),
        (DESCRIPTORS, {"status": "ok", "descriptors": [[1, 2, 3]]}),
        (DESCRIPTORS, {"status": "ok", "descriptors": [[], []]}),
        (DESCRIPTORS, {"status": "ok", "descriptors": [[1], [1, 2]]}),
        (DESCRIPTORS, {"status": "ok"}),
        (CERTIFICATE, CERTIFIED | {"energies": [1.0, NAN]}),
        (CERTIFICATE, CERTIFIED | {"energies": [1.0]}),
        (CERTIFICATE, CERTIFIED | {"stale": None}),
    ],
)  # fmt: skip
def test_anything_else_is_none(calculation, content):
    with pytest.raises(ValueError):  # noqa: PT011 - the type is the contract
        parse(calculation, content)


def test_the_echo_is_of_this_request_and_this_charge():
    def echoed(calculation, **echo):
        check_echo(calculation, parse(calculation, RELAXED | {"echo": {"charge": -1, "request": RELAXATION.content_hash} | echo}))

    echoed(RELAXATION)
    for wrong in ({"charge": 0}, {"charge": 1}, {"charge": None}, {"request": SINGLE.content_hash}):
        with pytest.raises(EchoMismatch):
            echoed(RELAXATION, **wrong)
    with pytest.raises(EchoMismatch):
        check_echo(RELAXATION, parse(RELAXATION, RELAXED))
    other = Calculation("relaxation", STRUCTURE, 0)
    with pytest.raises(EchoMismatch):
        echoed(other)


def test_a_failure_before_the_charge_was_handed_over_is_an_answer():
    failed = {"status": "failed", "failure": "no", "echo": {"charge": None, "request": RELAXATION.content_hash}}
    relaxed = RELAXED | {"energy": None, "forces": None, "energies": [], "fmax": []}
    check_echo(RELAXATION, parse(RELAXATION, relaxed | failed))


def test_a_certificate_is_of_the_charges_that_were_asked_for():
    echo = {"echo": {"charge": None, "request": CERTIFICATE.content_hash}}
    check_echo(CERTIFICATE, parse(CERTIFICATE, CERTIFIED | echo))
    with pytest.raises(EchoMismatch):
        check_echo(CERTIFICATE, parse(CERTIFICATE, CERTIFIED | echo | {"charges": [-1, 1]}))


def test_a_worker_s_hash_of_a_request_is_ours():
    from defectbench.worker.main import content_hash

    for calculation in (RELAXATION, SINGLE, AVERAGED, CERTIFICATE):
        sent = json.loads(json.dumps({"type": "calculate", "id": 7, **calculation.to_json()}))
        assert content_hash(sent) == calculation.content_hash


@pytest.mark.parametrize("wrong", [{"gpus": 5}, {"gpus": [5]}, {"processor": 5}, {"cores": "two"}, {"memory_gb": NAN}, {"host": "name"}])
def test_hardware_is_what_it_is_described_as(wrong):
    good = {"processor": "Thing 9000", "cores": 2, "memory_gb": 8.0, "gpus": []}
    assert Hardware.model_validate(good).gpus == ()
    with pytest.raises(ValidationError):
        Hardware.model_validate(good | wrong)
