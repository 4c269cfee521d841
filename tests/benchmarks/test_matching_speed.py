"""How long one RMSD takes: ``pytest tests/benchmarks --benchmark-enable``."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from defectbench.datasets.catalogue import load_dataset
from defectbench.structures import matching
from defectbench.structures.matching import match, match_within, matches_within
from defectbench.structures.symmetry import Operations, host_operations


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
def test_a_pair_that_is_rattled(benchmark, pair, amplitude: float):
    candidate = pair[0].copy()
    candidate.positions += np.random.default_rng(0).normal(size=candidate.positions.shape) * amplitude / np.sqrt(3)
    assert benchmark(cold, candidate, *pair[1:]).rmsd > 0.0


@pytest.fixture(scope="module")
def many_operations() -> tuple[Atoms, Atoms, Operations]:
    """An antisite in 216-atom rock salt, two structures that differ by a host operation and noise: 5,184 operations."""
    host = bulk("MgO", "rocksalt", a=4.2, cubic=True).repeat(3)
    operations = host_operations(host)
    structures = []
    for seed in (0, 1):
        atoms = host.copy()
        site = int(np.flatnonzero(atoms.numbers == 8)[50])
        atoms.numbers[site] = 12
        atoms.positions[site] += (0.9, 0.6, 0.2)
        atoms.positions += np.random.default_rng(seed).normal(size=(len(host), 3)) * 0.02
        structures.append(atoms)
    structures[1].positions = operations.apply(2345, structures[1].positions)
    return structures[0], structures[1], operations


def test_match_among_thousands_of_operations(benchmark, many_operations):
    assert (len(many_operations[0]), len(many_operations[2])) == (216, 5184)

    def fresh():
        matching.clear_results()
        return match(*many_operations)

    fresh()
    assert benchmark(fresh).rmsd < 0.1


def test_all_images_among_thousands_of_operations(benchmark, many_operations):
    assert benchmark(lambda: matches_within(*many_operations, 0.2))
