"""Longest first, and what it gives on many workers."""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
from ase.build import bulk

from defectbench.calculations.plan import longest_first
from defectbench.calculations.requests import Calculation, Kind, Structure

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def simulate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("simulate_workers", ROOT / "scripts" / "simulate_workers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def calculation(kind: Kind, repeats: int) -> Calculation:
    return Calculation(kind, Structure.from_atoms(bulk("Cu", cubic=True).repeat(repeats)), 0)


def test_what_takes_longest_comes_first() -> None:
    point, short, long, same = (
        calculation(k, n) for k, n in [("single_point", 3), ("relaxation", 1), ("relaxation", 2), ("relaxation", 1)]
    )
    assert longest_first([point, short, long, same]) == [long, short, same, point]


@pytest.fixture(scope="module")
def recorded() -> dict[str, list[float]]:
    """Processor seconds of a published entry's calculations, by kind."""
    packed = (ROOT / "leaderboards" / "sb2se3-vacancies" / "chgnet-0.3.0" / "calculations.json.gz").read_bytes()
    found: dict[str, list[float]] = {}
    for one in json.loads(gzip.decompress(packed))["results"].values():
        found.setdefault(one["result"]["kind"], []).append(one["result"].get("cpu_s") or 0.0)
    return found


@pytest.mark.parametrize("workers", [1, 2, 8, 64])
def test_sixty_four_workers_are_used_well_if_there_is_enough_to_do(
    simulate: ModuleType, recorded: dict[str, list[float]], workers: int
) -> None:
    dealt = [*recorded["relaxation"], *recorded["single_point"]]
    many = [one for one in dealt for _ in range(30)]
    assert simulate.efficiency(many, workers) > 0.95


def test_the_longest_calculation_is_the_limit(simulate: ModuleType, recorded: dict[str, list[float]]) -> None:
    seconds = sorted([*recorded["relaxation"], *recorded["single_point"]], reverse=True)
    assert simulate.makespan(seconds, 1000) == pytest.approx(seconds[0])
    assert simulate.makespan(seconds, 1000, start=5.0, store=0.001) > seconds[0] + 5.0
    assert simulate.makespan(seconds, 3) >= sum(seconds) / 3
