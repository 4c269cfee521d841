"""The result store: what is put is there, for the next process too; what is damaged costs itself only."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest
from ase.build import bulk

from defectbench.base.errors import RunError
from defectbench.base.hardware import Hardware, Machine
from defectbench.calculations.requests import Calculation, Structure
from defectbench.calculations.results import EchoMismatch, Stored, failed_result, parse
from defectbench.calculations.store import ResultStore

MACHINE = Machine(device="cpu", hardware=Hardware(processor="Thing 9000"), workers=2, threads_per_worker=1)


def calculation(number: int = 0) -> Calculation:
    return Calculation("relaxation", Structure.from_atoms(bulk("NaCl", "rocksalt", a=5.6 + number / 100)), -1)


def stored(of: Calculation, status: str = "converged", **changes: object) -> Stored:
    content = {
        "status": status,
        "positions": [[0.0, 0.0, 0.1], [2.8, 0.0, 0.0]],
        "energy": -3.5,
        "forces": [[0.0, 0.0, 0.01], [0.0, 0.0, -0.01]],
        "energies": [-3.0, -3.5],
        "fmax": [1.0, 0.01],
        "steps": 1,
        "echo": {"charge": -1, "request": of.content_hash},
        **changes,
    }
    return Stored(parse(of, content), MACHINE)


@pytest.fixture
def filled(tmp_path):
    """A database of ten results, and what is in it."""
    content = {}
    with ResultStore(tmp_path / "c.db") as store:
        for number in range(10):
            one = calculation(number)
            content[one.key("model")] = one
            store.put(one.key("model"), one, stored(one))
    return tmp_path / "c.db", content


def test_what_is_put_is_there_for_the_next_process(filled):
    path, content = filled
    again = ResultStore(path)
    assert set(again) == set(content)
    assert again.losses == []
    for key, one in content.items():
        assert again.get(key, one) == stored(one)
    assert again.get("cd" * 32, calculation()) is None


def test_putting_again_replaces(tmp_path):
    one = calculation()
    store = ResultStore(tmp_path / "c.db")
    store.put("ab", one, Stored(failed_result(one, "no luck", "exception"), MACHINE))
    store.put("ab", one, stored(one))
    again = ResultStore(tmp_path / "c.db")
    assert len(again) == 1
    assert again.get("ab", one).result.status == "converged"


def test_an_answer_to_another_question_is_refused(tmp_path):
    one, other = calculation(1), calculation(2)
    store = ResultStore(tmp_path / "c.db")
    for wrong in (stored(other), stored(one, echo={"charge": 0, "request": one.content_hash}), stored(one, echo=None)):
        with pytest.raises(EchoMismatch):
            store.put("ab", one, wrong)
    assert len(ResultStore(tmp_path / "c.db")) == 0


def test_a_result_of_an_earlier_entry_need_not_say_its_charge_but_must_not_say_another(tmp_path):
    one = calculation()
    store = ResultStore(tmp_path / "c.db")
    store.take_over("ab", one, stored(one, echo=None))
    assert store.get("ab", one).result.echo is None
    with pytest.raises(EchoMismatch):
        store.take_over("cd", one, stored(one, echo={"charge": 0, "request": one.content_hash}))


@pytest.mark.parametrize("column", ["key", "request", "result", "machine", "checksum"])
def test_a_changed_row_costs_itself_only(filled, column):
    path, content = filled
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"update results set {column} = replace({column}, '1', '2') || ' ' where rowid = 4")
        connection.commit()
    store = ResultStore(path)
    assert len(store) == 9
    assert len(store.losses) == 1
    assert set(store) < set(content)


@pytest.mark.parametrize("value", [None, b"\x00\x01", "{", "[]"])
def test_a_row_of_another_form_costs_itself_only(filled, value):
    path, content = filled
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("update results set result = ifnull(?, 5) where rowid = 4", (value,))
        connection.commit()
    store = ResultStore(path)
    assert len(store) == 9
    lost = next(one for key, one in content.items() if key not in store)
    store.put(lost.key("model"), lost, stored(lost))
    assert len(ResultStore(path)) == 10


@pytest.mark.parametrize("page", range(1, 6))
def test_a_destroyed_page_costs_what_was_on_it(filled, page):
    path, content = filled
    content_before = path.read_bytes()
    size = 4096
    assert len(content_before) >= 6 * size
    path.write_bytes(content_before[: page * size] + b"\xa5" * size + content_before[(page + 1) * size :])
    store = ResultStore(path)
    assert len(store.losses) == 1
    assert set(store) <= set(content)
    assert all(store.get(key, content[key]) == stored(content[key]) for key in store)
    for key, one in content.items():
        store.put(key, one, stored(one))
    assert len(ResultStore(path)) == 10
    assert ResultStore(path).losses == []


@pytest.mark.parametrize("content", [b"", b"this is no database" * 100])
def test_a_file_that_is_no_database_is_set_aside(tmp_path, content):
    (tmp_path / "c.db").write_bytes(content)
    store = ResultStore(tmp_path / "c.db")
    assert len(store) == 0
    assert len(store.losses) == 1
    assert (tmp_path / "c.damaged-1.db").read_bytes() == content
    store.put("ab", calculation(), stored(calculation()))
    assert list(ResultStore(tmp_path / "c.db")) == ["ab"]


def test_a_damaged_file_is_not_set_aside_through_a_link(tmp_path):
    place = tmp_path / "run"
    place.mkdir()
    (place / "c.db").write_bytes(b"a line of somebody else")
    (place / "c.damaged-1.db").symlink_to(tmp_path / "victim")
    store = ResultStore(place / "c.db")
    assert len(store.losses) == 1
    assert not (tmp_path / "victim").exists()
    assert (place / "c.damaged-2.db").read_bytes() == b"a line of somebody else"


def test_a_database_of_ase_is_set_aside(tmp_path):
    from ase.db import connect

    connect(tmp_path / "c.db").write(bulk("Cu"))
    assert len(ResultStore(tmp_path / "c.db")) == 0
    assert (tmp_path / "c.damaged-1.db").is_file()


def test_a_kill_while_it_is_made_leaves_nothing_in_the_way(tmp_path, monkeypatch):
    from defectbench.calculations import store as module

    def killed(path, _content):
        path.with_name(".half.part").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_bytes", killed)
    with pytest.raises(KeyboardInterrupt):
        ResultStore(tmp_path / "c.db")
    monkeypatch.undo()
    assert len(ResultStore(tmp_path / "c.db")) == 0


def test_a_full_disk_while_it_is_made_is_an_error_and_leaves_nothing_in_the_way(tmp_path, monkeypatch):
    from defectbench.calculations import store as module

    def full(path, _content):
        raise RunError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(module, "write_bytes", full)
    with pytest.raises(RunError):
        ResultStore(tmp_path / "c.db")
    monkeypatch.undo()
    assert len(ResultStore(tmp_path / "c.db")) == 0


def test_a_journal_of_an_earlier_file_is_not_played_back(filled):
    path, _ = filled
    path.unlink()
    path.with_name("c.db-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + b"\x00" * 2000)
    assert len(ResultStore(path)) == 0


def test_removal_during_a_run_is_told_from_a_full_disk(filled):
    path, content = filled
    store = ResultStore(path)
    path.unlink()
    one = next(iter(content.values()))
    with pytest.raises(RunError) as ended:
        store.put("ab", one, stored(one))
    assert "removed" in str(ended.value)
