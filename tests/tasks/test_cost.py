"""Cost: medians of what was timed, each relaxation once."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from defectbench.base.hardware import Hardware, Machine
from defectbench.calculations.requests import Relaxation
from defectbench.leaderboard.scores import score_metric
from defectbench.scoring.task import ConfigurationResult, FigureContext, ScoringInput
from defectbench.tasks.cost import figure as cost_figure
from defectbench.tasks.cost import score as cost


def relaxation(wall: float, cpu: float, steps: int, seed: int = 0, status: str = "converged", memory: float = 100.0) -> Relaxation:
    positions = np.random.default_rng(seed).normal(size=(10, 3))
    energies = tuple(float(i) for i in range(steps + 1))
    return Relaxation(status, positions, 0.0, None, energies, energies, steps, wall, memory, cpu)


def scoring(*relaxations: Relaxation, device: str = "cpu") -> ScoringInput:
    hardware = Hardware(processor="Thing 9000", cores=4, memory_gb=8.0, gpus=("Big GPU",) if device == "cuda" else ())
    machine = Machine(device=device, hardware=hardware, workers=2, threads_per_worker=1)
    configurations = tuple(ConfigurationResult("V_A1", -(i % 2), f"C{i}", r, str(id(r)), machine) for i, r in enumerate(relaxations))
    data: object = None
    return ScoringInput(data, (), configurations, (), "charge-blind")


def values(result):
    return {m.name: m.value for m in result.metrics}


CONTEXT = FigureContext("a model", "toy-data", "Toy data", "full", "PBE", "charge-aware")
THREE = (relaxation(2.0, 1.0, 9, 1), relaxation(8.0, 6.0, 19, 2, "failed", 250.0), relaxation(3.0, 2.0, 39, 3, "unconverged"))


def test_medians_are_worked_by_hand():
    got = values(cost.score(scoring(*THREE)))
    assert got["seconds_per_call"] == pytest.approx(0.1)  # of 0.1, 0.3, 0.05
    assert got["milliseconds_per_atom"] == pytest.approx(10)
    assert got["seconds_per_relaxation"] == pytest.approx(2)
    assert got["force_calls_per_relaxation"] == 20
    assert got["hours_in_all"] == pytest.approx(9 / 3600)
    assert got["peak_memory"] == 250


def test_on_a_gpu_the_wall_clock_counts_and_so_it_does_without_processor_time():
    assert values(cost.score(scoring(*THREE, device="cuda")))["seconds_per_relaxation"] == pytest.approx(3)
    old = [replace(r, cpu_s=0.0) for r in THREE]
    result = cost.score(scoring(*old))
    assert values(result)["seconds_per_relaxation"] == pytest.approx(3)
    assert "wall-clock" in result.notes[0]


def test_a_relaxation_that_several_charges_share_counts_once():
    result = cost.score(scoring(THREE[0], THREE[0], THREE[1]))
    assert len(result.tables["relaxations"]) == 2


def test_nothing_is_scored_and_the_machine_is_named():
    result = cost.score(scoring(*THREE))
    assert all(score_metric(d, result.metric(d.name)).score is None for d in cost.METRICS)
    machine = result.tables["machine"][0]
    assert machine["processor"] == "Thing 9000"
    assert "Thing 9000" in result.notes[0]
    assert "Big GPU" in cost.score(scoring(*THREE, device="cuda")).notes[0]


def test_a_worker_that_died_took_no_time_that_is_known():
    died = relaxation(0.0, 0.0, 0, 4, "failed", 0.0)
    assert values(cost.score(scoring(*THREE, died))) == values(cost.score(scoring(*THREE)))
    nothing = cost.score(scoring(died))
    assert all(m.value is None and m.reason for m in nothing.metrics)
    assert cost_figure.draw(nothing, CONTEXT, None) == []


def test_the_order_of_configurations_does_not_matter():
    given_in = scoring(*THREE)
    assert cost.score(replace(given_in, configurations=given_in.configurations[::-1])) == cost.score(given_in)


def test_aggregates_have_intervals_and_it_is_json_and_drawn(tmp_path):
    given_in = scoring(*THREE)
    result = cost.score(given_in)
    for name in ("seconds_per_call", "seconds_per_relaxation", "force_calls_per_relaxation"):
        low, high = result.metric(name).interval
        assert low <= result.metric(name).value <= high
    for table in (result.rows, *result.tables.values()):
        json.dumps([dict(row) for row in table], allow_nan=False)
    files = cost_figure.draw(result, CONTEXT, tmp_path)
    assert {f.suffix for f in files} == {".png", ".svg"}
