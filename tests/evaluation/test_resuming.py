"""Runs that were interrupted, damaged or begun by somebody else: what is resumed, salvaged and refused."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from functools import partial

import pytest
from refusals import raises_code
from toy_runs import THING, InProcess, calculated, differences, run_here, stored, wait_for

from defectbench.calculations.run import Reporter
from defectbench.calculations.store import ResultStore
from defectbench.entries.folder import read_entry
from defectbench.entries.rescoring import rescore, same_metrics
from defectbench.entries.run_folder import locked
from defectbench.models.registry import list_models

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning")]


def test_the_same_command_again_calculates_nothing(finished, tmp_path):
    second = run_here(finished.model, finished.copy(tmp_path / "run"))
    assert InProcess.last.done == []
    assert same_metrics(finished.evaluation.record, second.record) == []


def test_an_entry_without_its_database_is_taken_over(finished, tmp_path):
    folder = finished.copy(tmp_path / "run")
    (folder / "calculations.db").unlink()
    second = run_here(finished.model, folder)
    assert calculated() == []
    assert same_metrics(finished.evaluation.record, second.record) == []
    assert second.record.provenance.machines == finished.evaluation.record.provenance.machines


def test_another_selection_with_its_own_folder_uses_what_is_there(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    narrow = run_here(toy(), None, charges=[-1])
    wider = run_here(toy(), None)
    assert wider.folder != narrow.folder
    assert wider.folder.parent == narrow.folder.parent
    there = {c.content_hash for c in narrow.record.configurations}
    assert calculated()
    assert not there & {c.content_hash for c in calculated()}
    assert differences(wider, run_here(toy(), tmp_path / "fresh")) == []


def test_results_of_changed_code_are_not_used_and_this_is_said(toy, tmp_path):
    run_here(toy(), tmp_path / "run")
    before = read_entry(tmp_path / "run").model.identity
    toys = tmp_path / "toys.py"
    changed = toys.read_text().replace("BLUR = 0.05", "BLUR = 0.06")
    notes = []
    toys.write_text(changed)
    done = run_here(tmp_path / "toy.yaml", tmp_path / "run", reporter=Reporter(note=notes.append))
    assert done.record.model.identity != before
    assert len(calculated()) == done.record.provenance.calculations
    assert len(notes) == 1


def test_times_are_of_one_machine_when_a_run_goes_on_elsewhere(finished, tmp_path):
    class Elsewhere(InProcess):
        machine = THING.model_copy(update={"hardware": THING.hardware.model_copy(update={"processor": "Other 1"})})

    folder = finished.copy(tmp_path / "run")
    with contextlib.closing(sqlite3.connect(folder / "calculations.db")) as connection:
        lost = finished.evaluation.record.configurations[0].content_hash
        connection.execute("delete from results where json_extract(result, '$.echo.request') = ?", (lost,))
        connection.commit()
    for name in ("entry.json", "calculations.json.gz"):
        (folder / name).unlink()
    done = run_here(finished.model, folder, executor=Elsewhere)
    most, less = done.record.provenance.machines
    assert (most.hardware.processor, less.hardware.processor) == ("Thing 9000", "Other 1")
    assert (less.calculations, less.relaxations) == (1, 1)
    # and from its files alone the same again
    (folder / "calculations.db").unlink()
    again = run_here(finished.model, folder)
    assert again.record.provenance.machines == done.record.provenance.machines


def test_failed_calculations_are_run_again_when_asked(toy, tmp_path):
    class Fails(InProcess):
        def run(self, calculations):
            for finished in super().run(calculations):
                if finished.calculation.kind == "relaxation" and finished.calculation.structure.symbols.count("Sb") < 24:
                    result = finished.result.model_copy(update={"status": "failed", "failure": "no luck", "failure_kind": "exception"})
                    finished = type(finished)(finished.calculation, result, THING)
                yield finished

    few = {"configurations": ["Unperturbed"], "tasks": ["relax"]}
    assert all(c.failure == "no luck" for c in run_here(toy(), tmp_path / "run", executor=Fails, **few).record.configurations)
    assert all(c.failure == "no luck" for c in run_here(toy(), tmp_path / "run", **few).record.configurations)
    again = run_here(toy(), tmp_path / "run", retry_failed=True, **few)
    assert all(c.status == "converged" for c in again.record.configurations)


# damage


@pytest.mark.parametrize("damaged", ["entry.json", "calculations.json.gz"])
def test_a_truncated_file_without_a_database_is_said(finished, tmp_path, damaged):
    folder = finished.copy(tmp_path / "run")
    (folder / "calculations.db").unlink()
    path = folder / damaged
    path.write_bytes(path.read_bytes()[:-100])
    notes = []
    second = run_here(finished.model, folder, reporter=Reporter(note=notes.append))
    assert len(notes) == 1
    assert damaged in notes[0]
    assert len(calculated()) == second.record.provenance.calculations
    assert differences(finished.evaluation, second) == []


def spoil(kept, damage):
    """What a damaged file may hold in place of a relaxation's result and machine."""
    if damage == "no such machine":
        return {**kept, "machine": "number 7"}
    result = kept["result"]
    if damage == "lacks a field":
        return {**kept, "result": {name: value for name, value in result.items() if name != "fmax"}}
    if damage == "of another request":
        return {**kept, "result": {**result, "echo": {"charge": None, "request": "0" * 64}}}
    wrong = {"one atom": {"positions": [[0, 0, 0]]}, "no energy": {"energy": None}, "not finite": {"energy": float("nan")}}
    return {**kept, "result": {**result, **wrong[damage]}}


@pytest.mark.parametrize("damage", ["lacks a field", "one atom", "no energy", "not finite", "of another request", "no such machine"])
def test_damaged_results_of_an_entry_are_calculated_again_and_not_scored(finished, tmp_path, damage):
    folder = finished.copy(tmp_path / "run")
    (folder / "calculations.db").unlink()
    path = folder / "calculations.json.gz"
    content = json.loads(gzip.decompress(path.read_bytes()))
    bad = [c.content_hash for c in finished.evaluation.record.host]
    content["results"] |= {key: spoil(content["results"][key], damage) for key in bad}
    path.write_bytes(gzip.compress(json.dumps(content).encode()))
    with raises_code("bad-entry"):
        rescore(folder)
    notes = []
    second = run_here(finished.model, folder, reporter=Reporter(note=notes.append))
    assert len(notes) == 1
    assert {c.content_hash for c in calculated()} == set(bad)
    assert differences(finished.evaluation, second) == []
    assert rescore(folder)[1].tasks == second.record.tasks


@pytest.mark.parametrize("damage", ["{", "[]", "{}", '{"status": "converged"}'])
def test_a_damaged_row_costs_its_own_calculation_only(finished, tmp_path, damage):
    folder = finished.copy(tmp_path / "run")
    for name in ("entry.json", "calculations.json.gz"):
        (folder / name).unlink()
    with contextlib.closing(sqlite3.connect(folder / "calculations.db")) as connection:
        connection.execute("update results set result = ? where rowid = 3", (damage,))
        connection.commit()
    notes = []
    second = run_here(finished.model, folder, reporter=Reporter(note=notes.append))
    assert len(calculated()) == 1
    assert len(notes) == 1
    assert differences(finished.evaluation, second) == []


def test_a_database_that_is_none_is_set_aside_and_said(finished, tmp_path):
    folder = finished.copy(tmp_path / "run")
    (folder / "calculations.db").write_bytes(b"this is no database" * 100)
    notes = []
    run_here(finished.model, folder, reporter=Reporter(note=notes.append))
    assert calculated() == []  # the entry has them
    assert len(notes) == 1
    assert (folder / "calculations.damaged-1.db").read_bytes().startswith(b"this is no database")


@pytest.mark.parametrize("what", ["folder", "database"])
def test_removing_the_folder_or_the_database_during_a_run_gets_the_right_advice(toy, tmp_path, what):
    class Removes(InProcess):
        def run(self, calculations):
            for number, finished in enumerate(super().run(calculations)):
                if number == 2:
                    shutil.rmtree(tmp_path / "run") if what == "folder" else (tmp_path / "run" / "calculations.db").unlink()
                yield finished

    with raises_code("run-failed") as ended:
        run_here(toy(), tmp_path / "run", executor=Removes)
    assert "removed" in str(ended.value)
    assert "space" not in str(ended.value)


# whose folder it is


def test_a_folder_of_another_model_is_refused_and_left_alone(finished, toy, tmp_path):
    folder = finished.copy(tmp_path / "run")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with raises_code("foreign-folder", folder):
        run_here(toy("other"), folder)
    (folder / ".run.json").unlink()  # an entry alone says it too
    with raises_code("foreign-folder"):
        run_here(toy("other"), folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == {
        path: content for path, content in before.items() if path.name != ".run.json"
    }


@pytest.mark.parametrize("other", [{"charges": [-1]}, {"tasks": ["relax"]}, {"charges": None, "defects": None}])
def test_a_folder_of_another_selection_is_refused(finished, tmp_path, other):
    with raises_code("foreign-folder"):
        run_here(finished.model, finished.copy(tmp_path / "run"), **other)


def test_a_folder_whose_owner_nobody_knows_is_refused(finished, tmp_path):
    folder = finished.copy(tmp_path / "run")
    (folder / ".run.json").unlink()
    (folder / "entry.json").write_text("{")
    with raises_code("foreign-folder"):
        run_here(finished.model, folder)


def test_nothing_of_an_older_run_stays_beside_a_new_entry(finished, tmp_path):
    folder = finished.copy(tmp_path / "run")
    old = ["figures/relax_rmsd.png", "figures/cost.svg", "tables/relax_gone.csv", "tables/search.json", "tables/search_soap.csv"]
    kept = ["figures/mine.png", "tables/notes.csv", "notes.txt"]
    for name in old + kept:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("old")
    run_here(finished.model, folder)
    assert not [name for name in old if (folder / name).exists()]
    assert all((folder / name).exists() for name in kept)


def test_own_weights_get_a_name_of_their_own(toy, tmp_path):
    from defectbench.models.naming import with_own_weights
    from defectbench.models.registry import load_model

    weights = tmp_path / "tuned.pt"
    weights.write_bytes(b"tuned")
    released = load_model("chgnet-0.3.0")
    assert with_own_weights(released, None, None) == released
    assert re.fullmatch(r"chgnet-0\.3\.0-[0-9a-f]{8}", with_own_weights(released, weights, None).id)
    assert with_own_weights(released, weights, "chgnet-mine").id == "chgnet-mine"
    for wrong, code in (("chgnet-0.3.0", "name-taken"), ("sevennet-0", "name-taken"), ("No Spaces", "bad-name"), ("../up", "bad-name")):
        with raises_code(code, wrong):
            with_own_weights(released, weights, wrong)
    with raises_code("bad-input", "--model-weights"):
        with_own_weights(released, None, "chgnet-mine")
    assert with_own_weights(released, weights, None).id not in {model.id for model in list_models()}


def test_two_processes_on_one_run_folder_are_refused(toy, tmp_path):
    with locked(tmp_path / "run"), raises_code("folder-in-use"):
        run_here(toy(), tmp_path / "run")


# failing models, kills and full disks, through processes


@pytest.mark.parametrize(("fault", "kind"), [("nan", "not a number"), ("raise", "the toy is broken"), ("explode", "")])
def test_a_model_that_only_fails_ends_the_run_with_one_line(toy, tmp_path, fault, kind):
    with raises_code("model-failed", kind) as ended:
        run_here(toy(fault=fault), tmp_path / "run", charges=[-3])
    assert ended.value.exit_code == 1


def test_a_model_that_kills_its_worker_is_one_line(toy, tmp_path, command):
    given = ("--trust-code", "--model", toy(fault="exit"), "--defect", "V_Sb1", "--charge", "-3", "--output", tmp_path / "run")
    ended = command("evaluate", *given)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "exit code 7" in ended.stderr


def start(model, folder, *more, **options):
    line = [sys.executable, "-m", "defectbench", "evaluate", "--trust-code", "--model", str(model), "--defect", "V_Sb1", "--no-figures"]
    # a shell's background jobs ignore Ctrl-C, and their children inherit that
    default = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen([*line, "--output", str(folder), *more], text=True, preexec_fn=default, **options)


def test_kill_9_loses_no_finished_relaxation_and_the_same_command_goes_on(toy, tmp_path):
    model = toy(sleep=0.02)
    process = start(model, tmp_path / "run", "--charge", "-1", "--task", "relax", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    database = tmp_path / "run" / "calculations.db"
    wait_for(lambda: stored(database) >= 5 or process.poll() is not None)
    assert process.poll() is None, "it ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = set(ResultStore(database))
    assert len(kept) >= 5
    rest = run_here(model, tmp_path / "run", suite="full", charges=[-1], tasks=["relax"])
    assert kept < set(ResultStore(database))
    assert not kept & {calculation.key(rest.record.model.identity) for calculation in calculated()}
    assert len(rest.record.configurations) == 15


def test_a_full_disk_is_one_line_and_what_was_finished_stays(finished, tmp_path):
    folder = finished.copy(tmp_path / "run")
    database = folder / "calculations.db"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("delete from results where rowid > 2")
        connection.commit()
        connection.execute("vacuum")
    for name in ("entry.json", "calculations.json.gz"):
        (folder / name).unlink()
    kept, size = set(ResultStore(database)), database.stat().st_size

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 4096, size + 4096))

    chosen = ["--defect", "V_Sb1", "--charge", "-3", "--charge", "-1", "--suite", "quick", "--task", "relax", "--task", "pes"]
    line = [
        sys.executable,
        "-m",
        "defectbench",
        "evaluate",
        "--trust-code",
        "--model",
        str(finished.model),
        *chosen,
        "--output",
        str(folder),
    ]
    ended = subprocess.run(line, capture_output=True, text=True, preexec_fn=limit, timeout=120, check=False)
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    assert kept <= set(ResultStore(database))


@pytest.mark.parametrize("times", [1, 2])
def test_interrupting_leaves_exit_code_130_and_what_was_finished(toy, tmp_path, times):
    process = start(toy(sleep=0.05), tmp_path / "run", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    database = tmp_path / "run" / "calculations.db"
    wait_for(lambda: stored(database) >= 3)
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "interrupted" in err
    assert len(ResultStore(database)) >= 3


# rescoring
