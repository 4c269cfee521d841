"""What a model reads of a structure is seen, and a name among many is found in few calls."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from ase import Atoms

from defectbench.worker.hidden import MOST_CALLS, Search, names_in_code, search, watched


@pytest.fixture
def structure() -> Atoms:
    return Atoms("Ar2", [[0, 0, 0], [0, 0, 3]], cell=[9, 9, 9], info={"a": 1})


READS: dict[str, tuple[Callable[[Atoms], Any], set[str], bool]] = {
    "nothing": (lambda _atoms: None, set(), False),
    "a key": (lambda atoms: atoms.info.get("b"), {"b"}, False),
    "a key of a copy": (lambda atoms: atoms.copy().info.get("b"), {"b"}, False),
    "a key of a part": (lambda atoms: atoms[:1].info.get("b"), {"b"}, False),
    "a key of a larger cell": (lambda atoms: (atoms * 2).info.get("b"), {"b"}, False),
    "a key of a copied mapping": (lambda atoms: copy.deepcopy(atoms.info.copy()).get("b"), {"b"}, False),
    "a key of a deep copy": (lambda atoms: copy.deepcopy(atoms).info.get("b"), {"b"}, False),
    "all": (lambda atoms: dict(atoms.info), {"a", "step"}, True),
    "all, unpacked": (lambda atoms: {**atoms.info}, {"a", "step"}, True),
    "all, as JSON": (lambda atoms: json.dumps(atoms.info), set(), True),
    "all, pickled": (lambda atoms: pickle.dumps(atoms.info), {"a", "step"}, True),
    "all, in another structure": (lambda atoms: Atoms(atoms), {"a", "step"}, True),
}


@pytest.mark.parametrize(("read", "keys", "whole"), READS.values(), ids=list(READS))
def test_what_is_read_is_seen(structure: Atoms, read: Callable[[Atoms], Any], keys: set[str], whole: bool) -> None:
    atoms, seen = watched(structure)
    read(atoms)
    assert (seen.keys, seen.whole) == (keys, whole)


def test_missing_attributes_are_seen(structure: Atoms) -> None:
    atoms, seen = watched(structure)
    assert getattr(atoms, "total_spin", 0) == 0
    assert not hasattr(atoms, "_private")
    assert seen.attributes == {"total_spin"}


def test_a_watched_structure_is_pickled_as_a_plain_one(structure: Atoms) -> None:
    again = pickle.loads(pickle.dumps(watched(structure)[0]))
    assert type(again) is Atoms
    assert again.info["a"] == 1


class Holder:
    KEY = "in a class"

    def __init__(self) -> None:
        self.key = "in an object"


def test_names_that_code_holds_are_found() -> None:
    enclosed = "in a closure"

    def function(holder: Holder) -> tuple[str, ...]:
        return "in_a_constant", Holder.KEY, holder.key, enclosed

    with names_in_code() as found:
        function(Holder())
    assert {"in_a_constant", "in a class", "in an object", "in a closure"} <= found


NAMES = [f"n{i}" for i in range(300)]


def responding(*wanted: str) -> Callable[[tuple[str, ...]], dict[str, float] | None]:
    return lambda names: {"energy": 1.0, "forces": 0.0} if set(wanted) <= set(names) else None


def test_one_name_of_many_is_found() -> None:
    assert search(NAMES, responding("n17")) == Search(("n17",), {"energy": 1.0, "forces": 0.0}, 300, 0)
    assert search(NAMES, lambda _names: None) == Search((), {}, 300, 0)
    assert search([], responding("n17")) == Search((), {}, 0, 0)


def test_names_that_only_respond_together_are_found() -> None:
    assert {"n1", "n299"} <= set(search(NAMES, responding("n1", "n299")).names)


def test_a_name_with_which_the_model_fails_is_left_out_and_counted() -> None:
    def change(names: tuple[str, ...]) -> dict[str, float] | None:
        if "n5" in names:
            raise TypeError
        return responding("n7")(names)

    found = search(NAMES, change)
    assert found.names == ("n7",)
    assert (found.tried, found.untried) == (299, 1)


def test_calls_are_limited_and_what_was_not_tried_is_counted() -> None:
    calls = []

    def change(names: tuple[str, ...]) -> None:
        calls.append(names)
        raise TypeError

    found = search(NAMES, change)
    assert len(calls) == MOST_CALLS
    assert found.untried > 200
    assert found.tried + found.untried == 300
