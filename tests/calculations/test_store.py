"""The result store: what is put is there, for the next process too."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.db import connect

from defectbench.base.errors import RunError
from defectbench.calculations.requests import Calculation, Structure
from defectbench.calculations.store import ResultStore


@pytest.fixture
def calculation() -> Calculation:
    return Calculation("relaxation", Structure.from_atoms(bulk("NaCl", "rocksalt", a=5.6)), -1)


def result(status: str = "converged") -> dict[str, object]:
    return {
        "status": status,
        "failure": None,
        "failure_kind": None,
        "positions": [[0.0, 0.0, 0.1], [2.8, 0.0, 0.0]],
        "energy": -3.5,
        "forces": [[0.0, 0.0, 0.01], [0.0, 0.0, -0.01]],
        "energies": [-3.0, -3.5],
        "fmax": [1.0, 0.01],
        "steps": 1,
        "wall_s": 0.1,
        "cpu_s": 0.1,
        "peak_memory_mb": 10.0,
    }


def test_what_is_put_is_there_for_the_next_process(tmp_path, calculation):
    ResultStore(tmp_path / "c.db").put("ab" * 32, calculation, result(), {"defect": "V_Cl", "configuration": "Dimer"})
    again = ResultStore(tmp_path / "c.db")
    assert list(again) == ["ab" * 32]
    assert again.get("ab" * 32) == result()
    assert again.get("cd" * 32) is None


def test_a_row_is_readable_with_plain_ase(tmp_path, calculation):
    ResultStore(tmp_path / "c.db").put("ab" * 32, calculation, result(), {"defect": "V_Cl", "configuration": "Dimer"})
    row = connect(tmp_path / "c.db").get(defect="V_Cl", total_charge=-1)
    assert row.energy == -3.5
    assert np.allclose(row.forces, result()["forces"])
    assert np.allclose(row.positions, result()["positions"])


def test_a_key_of_digits_only_is_stored(tmp_path, calculation):
    ResultStore(tmp_path / "c.db").put("1" * 64, calculation, result())
    assert "1" * 64 in ResultStore(tmp_path / "c.db")


def test_putting_again_replaces(tmp_path, calculation):
    store = ResultStore(tmp_path / "c.db")
    store.put("ab" * 32, calculation, result("failed"))
    store.put("ab" * 32, calculation, result("converged"))
    again = ResultStore(tmp_path / "c.db")
    assert len(again) == 1
    assert again.get("ab" * 32)["status"] == "converged"


def test_a_failure_without_energy_is_stored(tmp_path, calculation):
    failed = result("failed") | {"energy": None, "forces": None, "failure": "energy is NaN", "failure_kind": "nan"}
    store = ResultStore(tmp_path / "c.db")
    store.put("ab" * 32, calculation, failed)
    assert ResultStore(tmp_path / "c.db").get("ab" * 32)["failure"] == "energy is NaN"


@pytest.mark.parametrize("name", ["01", "1e3", "nan", "True"])
def test_a_label_that_reads_as_a_number_is_one_clear_line(tmp_path, calculation, name):
    store = ResultStore(tmp_path / "c.db")
    with pytest.raises(RunError, match=f"takes no result of defect 'V_Cl', configuration '{name}': ") as caught:
        store.put("ab" * 32, calculation, result(), {"defect": "V_Cl", "configuration": name})
    assert "\n" not in str(caught.value)
    assert "ab" * 32 not in store


def test_a_broken_database_is_one_clear_line(tmp_path):
    (tmp_path / "c.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(RunError, match=r"cannot use the result database .*c\.db"):
        ResultStore(tmp_path / "c.db")


def test_a_full_disk_is_one_clear_line_and_keeps_what_was_there(tmp_path, calculation):
    store = ResultStore(tmp_path / "c.db")
    store.put("ab" * 32, calculation, result())
    import sqlite3

    def full(*args, **kwargs):
        raise sqlite3.OperationalError("database or disk is full")

    store._database.write = full
    with pytest.raises(RunError, match="disk is full"):
        store.put("cd" * 32, calculation, result())
    assert list(ResultStore(tmp_path / "c.db")) == ["ab" * 32]


@pytest.mark.parametrize(
    ("column", "value"),
    [("data", b"\x00\x01not data"), ("data", b""), ("key_value_pairs", "{"), ("key_value_pairs", "[1]"), ("numbers", b"\x01")],
)
def test_a_damaged_row_is_one_clear_line(tmp_path, calculation, column, value):
    import contextlib
    import sqlite3

    ResultStore(tmp_path / "c.db").put("ab" * 32, calculation, result(), machine={"device": "cpu"})
    with contextlib.closing(sqlite3.connect(tmp_path / "c.db")) as connection:
        connection.execute(f"update systems set {column} = ?", (value,))
        connection.commit()
    for read in (lambda store: store.get("ab" * 32, calculation), lambda store: store.machine("ab" * 32)):
        with pytest.raises(RunError, match=r"cannot use the result database .*c\.db: .+; move it away to begin anew"):
            read(ResultStore(tmp_path / "c.db"))
