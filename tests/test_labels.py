"""Names of defects, configurations and levels come back from every file as the text they were."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from ase import Atoms
from ase.db.core import check
from hypothesis import given, settings
from hypothesis import strategies as st

from defectbench.base.states import configuration_problem, name_problem
from defectbench.datasets.extxyz import read_extxyz, write_extxyz

PIECES = [
    "1",
    "T",
    "F",
    "true",
    "nan",
    "inf",
    "1e3",
    "1_0",
    "0x10",
    "+1",
    "-",
    ".",
    "'",
    '"',
    "\\",
    "=",
    "{",
    "]",
    ",",
    " ",
    "_JSON ",
    "x",
]


NUMBERS = ["1", "01", "-2", "1e3", "1_0", "nan", "Infinity", "1,2", " 1 ", "1 2", "٣"]
TRUTH_VALUES = ["T", "F", "true", "False", "TRUE", "T F"]


@pytest.mark.parametrize("name", [*NUMBERS, *TRUTH_VALUES, "", " ,", "a\nb", "_JSON 1"])
def test_names_that_would_not_come_back(name: str) -> None:
    assert name_problem(name) is not None


def test_a_configuration_names_no_folder() -> None:
    assert name_problem("a/b") is None
    assert configuration_problem("a/b") is not None


@pytest.mark.parametrize(
    "name",
    ["Unperturbed", "Bond_Distortion_-40.0%_from_+2", "Path_+1_+0", "Start_Dimer", "run 1", "1 T", "t", "x_1", "V_Sb1", "PBE", "2H", "q+1"],
)
def test_names_as_they_are_used(name: str) -> None:
    assert configuration_problem(name) is None


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), st.lists(st.sampled_from(PIECES), max_size=5).map("".join)))
def test_every_name_that_is_accepted_comes_back(name: str) -> None:
    if configuration_problem(name) is not None:
        return
    atoms = Atoms("H", cell=[1.0, 1.0, 1.0], pbc=True)
    atoms.info = {"configuration": name, "charge": 1}
    with tempfile.TemporaryDirectory() as folder:
        write_extxyz(Path(folder) / "a.extxyz", [atoms])
        again = read_extxyz(Path(folder) / "a.extxyz")[0].info["configuration"]
    assert (type(again), again) == (str, name)
    check({"configuration": name})  # of ASE's database
