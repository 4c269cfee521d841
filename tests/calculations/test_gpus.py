"""Which GPU a worker sees: one of those that the user left to this process."""

from __future__ import annotations

import pytest

from defectbench.base import hardware
from defectbench.calculations.client import worker_environment
from defectbench.calculations.executors.local import default_workers

FOUR = ["Big GPU"] * 4


@pytest.fixture(autouse=True)
def _four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "gpus", lambda: FOUR)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def seen(number: int | str | None, device: str = "cuda") -> str | None:
    return worker_environment(1, device, number).get("CUDA_VISIBLE_DEVICES")


def test_without_the_variable_workers_go_round_all_gpus() -> None:
    assert hardware.visible_gpus() == ["0", "1", "2", "3"]
    assert [seen(number) for number in range(6)] == ["0", "1", "2", "3", "0", "1"]
    assert default_workers("cuda") == 4


@pytest.mark.parametrize(
    ("given", "ids"),
    [
        ("3", ["3"]),
        (" 2, 0 ", ["2", "0"]),
        ("1,1", ["1"]),
        ("GPU-8932f937-d72c,MIG-GPU-1/2/0", ["GPU-8932f937-d72c", "MIG-GPU-1/2/0"]),
        ("2,-1,3", ["2"]),  # as CUDA reads it
    ],
)
def test_workers_stay_on_the_gpus_of_the_user(monkeypatch: pytest.MonkeyPatch, given: str, ids: list[str]) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert hardware.visible_gpus() == ids
    assert [seen(number) for number in range(5)] == [ids[number % len(ids)] for number in range(5)]
    assert default_workers("cuda") == len(ids)


@pytest.mark.parametrize("given", ["", "-1", " ", "NoDevFiles"])
def test_hidden_gpus_stay_hidden(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert hardware.visible_gpus() == []
    assert seen(0) == seen(1) == given
    assert default_workers("cuda") == 1


def test_a_gpu_of_the_caller_s_choice_and_none_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert seen("GPU-1") == "GPU-1"
    assert seen(None) == "3"
    assert seen(0, "cpu") == ""
    monkeypatch.setattr(hardware, "gpus", list)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert seen(1) is None
