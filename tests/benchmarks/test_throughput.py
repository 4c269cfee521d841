"""Relaxations a minute: ``evaluate`` against a plain ASE loop over the same starts, with the same model and settings.

``pytest tests/benchmarks/test_throughput.py --benchmark-enable --benchmark-only``; needs minutes, and a machine that does nothing else.
The comparison counts everything that a user waits for: starting workers, the certificate, the host, scoring, figures. Each
benchmark's ``extra_info`` holds the relaxations a minute.
"""

from __future__ import annotations

import subprocess
import textwrap

import pytest

import defectbench
from defectbench.base.states import sort_key

MODEL = "chgnet-0.3.0"
DEFECT = "V_Sb1"

LOOP = textwrap.dedent(
    """
    import sys
    from ase.io import read
    from ase.optimize import FIRE
    from chgnet.model.dynamics import CHGNetCalculator

    calculator = CHGNetCalculator(use_device="cpu")
    for atoms in read(sys.argv[1], ":"):
        atoms.calc = calculator
        FIRE(atoms, logfile=None).run(fmax=0.03, steps=1000)
    """
)


@pytest.fixture(scope="module")
def starts():
    """Every start of every charge state of the defect that has a reference, and the host's two."""
    from defectbench.calculations.plan import host_starts

    dataset = defectbench.load_dataset("sb2se3-vacancies")
    chosen = [
        dataset.starts(DEFECT, q)[c]
        for q in dataset.charges(DEFECT)
        if dataset.has_reference(DEFECT, q)
        for c in sorted(dataset.starts(DEFECT, q), key=sort_key)
    ]
    return [*host_starts(dataset).values(), *chosen]


@pytest.fixture(scope="module")
def python(measured):
    if not measured:
        pytest.skip("measures time: run with --benchmark-enable")
    from defectbench.models.environment import ensure_environment

    return ensure_environment("chgnet").python


@pytest.mark.model
def test_plain_ase_loop(benchmark, starts, python, tmp_path):
    from ase.io import write

    write(tmp_path / "starts.extxyz", starts)
    (tmp_path / "loop.py").write_text(LOOP)

    def loop():
        subprocess.run([python, tmp_path / "loop.py", tmp_path / "starts.extxyz"], check=True, capture_output=True)

    benchmark.pedantic(loop, rounds=1)
    benchmark.extra_info["relaxations_per_minute"] = round(len(starts) / benchmark.stats.stats.mean * 60, 1)


@pytest.mark.model
def test_evaluate(benchmark, starts, python, tmp_path):
    def evaluate():
        return defectbench.evaluate(MODEL, defects=[DEFECT], tasks=["relax", "pes"], output=tmp_path / "run")

    done = benchmark.pedantic(evaluate, rounds=1)
    assert len(done.entry.configurations) + 2 == len(starts)
    benchmark.extra_info["relaxations_per_minute"] = round(len(starts) / benchmark.stats.stats.mean * 60, 1)


@pytest.mark.slow
def test_scoring_a_finished_run(benchmark, measured):
    """Scoring alone, from stored calculations: the unrelaxed starts stand in for a model's results."""
    import numpy as np

    from defectbench.calculations.plan import make_plan, select_states
    from defectbench.calculations.results import Stored, parse
    from defectbench.scoring.run import scoring_input
    from defectbench.tasks import get_tasks

    dataset = defectbench.load_dataset("sb2se3-vacancies")
    tasks = get_tasks(["relax", "pes"])
    states, skipped = select_states(dataset, defects=None if measured else ["V_Se2"])
    plan = make_plan(dataset, states, skipped, tasks, takes_charge=False)
    generator = np.random.default_rng(0)
    results = {
        c.content_hash: {
            "status": "converged",
            "failure": None,
            "failure_kind": None,
            "positions": (np.array(c.structure.positions) + generator.normal(scale=0.1, size=(len(c.structure.symbols), 3))).tolist(),
            "energy": float(generator.normal()),
            "forces": [[0.0, 0.0, 0.0]] * len(c.structure.symbols),
            "energies": [0.0],
            "fmax": [0.0],
            "steps": 1,
            "wall_s": 1.0,
            "cpu_s": 0.1,
            "peak_memory_mb": 1.0,
        }
        for c in plan.calculations
    }

    stored = {c.content_hash: Stored(parse(c, results[c.content_hash])) for c in plan.calculations}

    def score():
        scored = scoring_input(dataset, plan, "charge-blind", stored)
        return [task.score(scored) for task in tasks]

    outcome = benchmark(score)
    assert all(any(m.value is not None for m in result.metrics) for result in outcome)
