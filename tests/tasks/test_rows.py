"""The rows of every task's tables: declared in its ``rows.py``, and checked where an entry is read."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from refusals import raises_code
from typing_extensions import is_typeddict

from defectbench.entries.folder import read_entry
from defectbench.tasks.relax.rows import StateRow

ENTRY = Path(__file__).parents[2] / "leaderboards/sb2se3-vacancies/sevennet-mf-0"


@pytest.fixture(scope="module")
def entry():
    return read_entry(ENTRY)


def declared(task: str) -> list[type]:
    rows = importlib.import_module(f"defectbench.tasks.{task}.rows")
    return [kind for kind in vars(rows).values() if is_typeddict(kind)]


def test_every_table_of_an_entry_has_the_columns_that_its_task_declares(entry):
    for task, record in entry.tasks.items():
        kinds = {tuple(kind.__annotations__): kind for kind in declared(task)}
        for name, rows in record.tables.items():
            if rows and (task, name) != ("parity", "levels"):  # columns named after metrics
                assert len(entry.table(task, name, kinds[tuple(rows[0])])) == len(rows), (task, name)


def test_a_table_that_an_entry_lacks_has_no_rows(entry):
    assert entry.table("relax", "absent", StateRow) == entry.table("absent", "states", StateRow) == []


@pytest.mark.parametrize("change", [{"charge": "−3"}, {"rmsd": "far"}, {"verdict": None}, "without charge"])
def test_a_row_of_another_kind_is_refused(entry, change):
    row = dict(entry.tasks["relax"].tables["states"][0])
    if isinstance(change, str):
        del row["charge"]
    else:
        row |= change
    record = entry.tasks["relax"].model_copy(update={"tables": {"states": [row]}})
    damaged = entry.model_copy(update={"tasks": {"relax": record}})
    with raises_code("bad-table"):
        damaged.table("relax", "states", StateRow)
