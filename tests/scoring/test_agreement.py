"""How near an answer is: no steps, and nothing is gained by another minimum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defectbench.scoring.agreement import boltzmann_shares, closeness, energy_reproduced, place

distances = st.floats(0.0, 2.0)


@given(distances, distances)
def test_closeness_falls_with_distance_and_never_jumps(first, second):
    low, high = sorted((first, second))
    assert 0.0 <= closeness(high) <= closeness(low) <= 1.0
    assert closeness(low) - closeness(high) <= 6.25 * (high - low) + 1e-12


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_an_energy_never_gains_by_an_error_or_a_worse_structure(error, more, weight):
    assert -1.0 <= energy_reproduced(error + more, weight) <= energy_reproduced(error, weight) <= 1.0
    assert energy_reproduced(error, weight) <= energy_reproduced(error, 1.0)
    assert energy_reproduced(None, weight) == -1.0


@given(st.lists(st.floats(0.001, 1.0), min_size=2, max_size=5), st.floats(-0.0005, 0.0005))
def test_a_place_never_jumps(apart, moved):
    energies = [0.3 * i for i in range(len(apart))]
    here, there = place(apart, energies, 1), place([apart[0] + moved, *apart[1:]], energies, 1)
    # the nearest minimum takes over within a fraction of the distance to it: 4 % a per cent of the distance
    allowed = 5.0 * abs(moved) / min(*apart, apart[0] + moved) + 0.01
    assert abs(here.ground - there.ground) <= allowed
    assert abs(here.energy - there.energy) <= 2.0 * allowed


def test_another_minimum_within_the_threshold_is_not_the_ground_state():
    there = place([0.08, 0.0], [0.0, 0.9], 1)
    assert (there.known, there.ground, there.energy) == (1.0, 0.0, 0.9)
    between = place([0.04, 0.04], [0.0, 0.9], 1)
    assert between.ground == pytest.approx(between.known / 2)
    assert between.energy == pytest.approx(0.45)


def test_minima_that_dft_cannot_tell_apart_are_all_the_ground_state():
    there = place([0.3, 0.0, 0.4], [0.0, 0.01, 0.5], 2)
    assert (there.ground, there.energy) == (1.0, 0.0)


def test_levels_of_energy_that_cannot_be_told_apart_share():
    shares = boltzmann_shares({"a": -1.0, "b": -1.0, "c": 0.0})
    assert shares == {"a": 0.5, "b": 0.5}
    closer = boltzmann_shares({"a": -1.0, "b": -0.99})
    assert closer["b"] / closer["a"] == pytest.approx(np.exp(-1.0))
