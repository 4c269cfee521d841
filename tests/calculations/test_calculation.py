"""Calculations as values: the key is the content, and the charge is part of it."""

from __future__ import annotations

import dataclasses

import pytest
from ase.build import bulk
from hypothesis import given
from hypothesis import strategies as st

from defectbench.calculations.requests import PROTOCOL, Calculation, Structure

START = Structure.from_atoms(bulk("Cu", cubic=True))


@given(st.integers(-4, 4), st.integers(-4, 4))
def test_two_charges_have_one_key_only_if_they_are_equal(a, b):
    same = Calculation("relaxation", START, a).content_hash == Calculation("relaxation", START, b).content_hash
    assert same == (a == b)


def test_no_charge_is_not_charge_zero():
    assert Calculation("relaxation", START, None).content_hash != Calculation("relaxation", START, 0).content_hash


def test_the_protocol_belongs_to_a_relaxation_and_not_to_a_single_point():
    loose = dataclasses.replace(PROTOCOL, name="loose", fmax=0.1)
    assert Calculation("relaxation", START, 0, loose).content_hash != Calculation("relaxation", START, 0).content_hash
    assert Calculation("single_point", START, 0, loose).content_hash == Calculation("single_point", START, 0).content_hash


def test_the_model_belongs_to_the_key():
    calculation = Calculation("relaxation", START, 0)
    assert calculation.key("one") != calculation.key("another")
    assert calculation.key("one") == Calculation("relaxation", START, 0).key("one")


@given(st.floats(-1e-12, 1e-12))
def test_noise_below_the_rounding_does_not_change_the_key(noise):
    atoms = bulk("Cu", cubic=True)
    atoms.positions += noise
    assert Structure.from_atoms(atoms) == START


def test_a_structure_survives_the_round_trip():
    assert Structure.from_atoms(START.to_atoms()) == START


def test_values_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        START.symbols = ()
