"""How long one RMSD takes: ``pytest tests/benchmarks --benchmark-enable``; the limit itself is a plain test."""

from __future__ import annotations

import time

import numpy as np
import pytest
from ase import Atoms

from defectbench.datasets.catalogue import load_dataset
from defectbench.structures import matching
from defectbench.structures.matching import match, match_within
from defectbench.structures.symmetry import Operations, host_operations

LIMIT_S = 0.020


@pytest.fixture(scope="module")
def pair() -> tuple[Atoms, Atoms, Operations]:
    """Two distorted starts of the antimony vacancy in the embedded 60-atom supercell: far apart, the costly case."""
    dataset = load_dataset("sb2se3-vacancies")
    starts = dataset.starts("V_Sb1", 0)
    return starts["Dimer"], starts["Bond_Distortion_-40.0%"], host_operations(dataset.host)


def cold(*arguments: object) -> object:
    operations = arguments[2]
    matching.clear_caches()
    return match(arguments[0], arguments[1], operations)


def test_match_of_a_pair(benchmark, pair):
    assert (len(pair[0]), len(pair[2])) == (59, 24)
    assert benchmark(cold, *pair).rmsd > 0.1


def test_rejecting_a_pair(benchmark, pair):
    def reject():
        matching.clear_caches()
        return match_within(*pair, 0.05)

    assert benchmark(reject) is None


@pytest.mark.parametrize("amplitude", [0.05, 0.3, 1.0])
def test_a_pair_takes_less_than_the_limit(pair, amplitude: float):
    candidate = pair[0].copy()
    candidate.positions += np.random.default_rng(0).normal(size=candidate.positions.shape) * amplitude / np.sqrt(3)
    seconds = []
    for _ in range(15):
        begin = time.process_time()
        cold(candidate, *pair[1:])
        seconds.append(time.process_time() - begin)
    assert min(seconds) < LIMIT_S
