"""The main job with a toy model: select, prepare, calculate, score, write; resume, refuse, salvage."""

from __future__ import annotations

import contextlib
import copy
import csv
import gzip
import json
import os
import re
import resource
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from functools import partial

import pytest
import yaml
from ase.io import read
from refusals import check_refusal, raises_code
from toy_runs import SMALL, THING, InProcess, run_here
from typer.testing import CliRunner

import defectbench
from defectbench.base.hardware import gpus
from defectbench.calculations.plan import QUICK_CONFIGURATIONS, make_plan, select_states
from defectbench.calculations.results import EchoMismatch
from defectbench.calculations.run import Reporter
from defectbench.calculations.store import ResultStore
from defectbench.cli import app
from defectbench.entries.folder import read_entry
from defectbench.entries.rescoring import rescore, same_metrics
from defectbench.entries.run_folder import locked
from defectbench.models.registry import list_models
from defectbench.tasks import get_tasks

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning")]


def stored(database):
    """How many results a running process has stored, read without touching its database."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            return connection.execute("select count(*) from results").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def wait_for(condition, seconds=90.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)


def differences(one, other):
    """Metrics that differ between two runs, those that measure time left out."""
    return [line for line in same_metrics(one.record, other.record) if not line.startswith(("relax.wall_s", "cost."))]


def calculated():
    """The relaxations of the last run in this process: without the certificate and the audit's single points."""
    return [c for c in InProcess.last.done if c.kind == "relaxation"]


@pytest.fixture(scope="module")
def dataset():
    return defectbench.load_dataset("sb2se3-vacancies")


# what a run leaves


def test_a_user_s_own_model_gives_an_entry_with_everything(real_run, dataset, read_json):
    entry = read_json(real_run.folder / "entry.json")
    assert entry["schema_version"] == 2
    assert entry["model"]["id"] == "toy"
    assert entry["model"]["embedded"] is False
    assert entry["dataset"] == {
        "id": "sb2se3-vacancies",
        "title": dataset.metadata.title,
        "sha256": dataset.sha256,
        "level_of_theory": "PBE",
        "embedded": True,
    }
    assert entry["certificate"]["charge_class"] == "charge-blind"
    assert entry["provenance"]["protocol"]["fmax"] == 0.03
    assert entry["provenance"]["network"] in ("none", "open")
    assert {(c["charge"], c["configuration"]) for c in entry["configurations"]} == {
        (q, c) for q in (-3, -1) for c in dataset.starts("V_Sb1", q) if c in QUICK_CONFIGURATIONS
    }
    assert all(c["status"] == "converged" for c in entry["configurations"])
    assert set(entry["tasks"]) == {"relax", "pes"}
    assert len(read(real_run.folder / "structures.extxyz", ":")) == len(entry["configurations"]) + 2
    with (real_run.folder / "tables" / "relax_states.csv").open() as handle:
        assert [row["charge"] for row in csv.DictReader(handle)] == ["-3", "-1"]
    assert {f.suffix for f in real_run.evaluation.files if f.parent.name == "figures"} == {".png", ".svg"}
    assert all(f.stat().st_size > 0 for f in real_run.evaluation.files)


def test_no_path_and_no_host_name_gets_into_an_entry(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))  # the model's arguments name a file there
    run_here(toy(), tmp_path / "run", environment=sys.executable)
    text = (tmp_path / "run" / "entry.json").read_text()
    packed = gzip.decompress((tmp_path / "run" / "calculations.json.gz").read_bytes()).decode()
    assert str(tmp_path) not in text + packed
    assert "~/host.extxyz" in text
    assert sys.prefix not in text + packed
    assert not re.search(rf"\b{re.escape(socket.gethostname())}\b", text + packed)


def test_each_stored_result_says_its_charge_its_request_and_its_machine(real_run, finished):
    for run in (real_run, finished):
        content = json.loads(gzip.decompress((run.folder / "calculations.json.gz").read_bytes()))
        assert content["schema_version"] == 2
        assert content["results"]
        for content_hash, kept in content["results"].items():
            assert kept["result"]["echo"] == {"charge": None, "request": content_hash}
            assert kept["machine"]["workers"] >= 1 if kept["result"]["kind"] != "certificate" else kept["machine"] is None
    assert [share.machine for share in finished.evaluation.record.provenance.machines] == [THING]


def test_worker_processes_and_another_executor_give_the_same(real_run, finished):
    assert differences(real_run.evaluation, finished.evaluation) == []


def test_without_figures_everything_else_is_there(finished):
    assert not (finished.folder / "figures").exists()
    assert (finished.folder / "tables" / "relax_states.csv").is_file()


def test_a_charge_blind_model_relaxes_equal_starts_once(finished):
    hashes = [c.content_hash for c in finished.evaluation.record.configurations]
    assert len(set(hashes)) < len(hashes)
    # one certificate, two hosts, the distinct starts, and for the audit a first question and an end
    assert len(ResultStore(finished.folder / "calculations.db")) == 1 + 2 + len(set(hashes)) + 2


def test_a_charge_that_gets_lost_in_long_relaxations_takes_the_class_away(toy, tmp_path):
    model = toy("forgets", charge="info:charge", hears=True, keeps=6)
    done = run_here(model, tmp_path / "run", configurations=["Rattled"], suite="full")
    assert done.charge_class == "charge-blind"
    failed = [check for check in done.record.certificate["checks"] if not check["passed"] and check["name"].startswith("run_")]
    assert failed
    assert failed[0]["reason"] in done.verdict[0]
    assert any("charge-blind" in problem for problem in defectbench.verify(tmp_path / "run", figures=False).problems)


def test_a_model_that_takes_a_charge_runs_every_charge_and_gets_it(toy, tmp_path):
    model = toy("hears", charge="info:charge", hears=True)
    done = defectbench.evaluate(model, trust_code=True, **SMALL, output=tmp_path / "run", figures=False)
    assert done.record.certificate["charge_class"] == "charge-aware"
    hashes = [c.content_hash for c in done.record.configurations]
    assert len(set(hashes)) == len(hashes)
    energies = {(c.charge, c.configuration): c.energy for c in done.record.configurations}
    assert energies[-1, "Unperturbed"] - energies[-3, "Unperturbed"] == pytest.approx(0.6, abs=1e-3)
    content = json.loads(gzip.decompress((tmp_path / "run" / "calculations.json.gz").read_bytes()))["results"]
    echoed = {(c.charge, content[c.content_hash]["result"]["echo"]["charge"]) for c in done.record.configurations}
    assert echoed == {(-3, -3), (-1, -1)}


def test_an_answer_at_another_charge_ends_the_run_and_is_not_stored(toy, tmp_path):
    class Forgets(InProcess):
        def run(self, calculations):
            for finished in super().run(calculations):
                if finished.calculation.charge == -1:
                    echo = finished.result.echo.model_copy(update={"charge": 0})
                    finished = type(finished)(finished.calculation, finished.result.model_copy(update={"echo": echo}), THING)
                yield finished

    with pytest.raises(EchoMismatch):
        run_here(toy("hears", charge="info:charge", hears=True), tmp_path / "run", executor=Forgets)
    with contextlib.closing(sqlite3.connect(tmp_path / "run" / "calculations.db")) as connection:
        charges = {json.loads(row[0])["charge"] for row in connection.execute("select request from results")}
    assert -1 not in charges
    assert -3 in charges
    assert not (tmp_path / "run" / "entry.json").exists()


def test_a_corrected_charge_range_keeps_no_result_of_the_old_one(toy, tmp_path):
    model = toy("hears", charge="info:charge", hears=True)
    definition = yaml.safe_load(model.read_text())

    def failures(smallest):
        model.write_text(yaml.safe_dump(definition | {"charge": {"how": "info:charge", "range": [smallest, 1]}}))
        done = run_here(model, tmp_path / "run", suite="full", configurations=["Unperturbed"], tasks=["relax"])
        return {c.charge: c.failure is not None for c in done.record.configurations}

    assert failures(-1) == {-3: True, -1: False}
    assert failures(-3) == {-3: False, -1: False}
    assert failures(-1) == {-3: True, -1: False}


def test_the_umask_holds_for_all_files(toy, tmp_path):
    before = os.umask(0o027)
    try:
        run_here(toy(), tmp_path / "run", configurations=["Unperturbed"], tasks=["relax"])
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert {mode for name, mode in modes.items() if name != ".lock"} == {0o640}


def test_the_entry_says_how_many_workers_were_started(toy, tmp_path):
    few = {"defects": ["V_Sb1"], "charges": [-3], "configurations": ["Unperturbed"], "tasks": ["relax"]}
    done = defectbench.evaluate(toy(), trust_code=True, **few, workers=20, output=tmp_path / "run", figures=False)
    (machine,) = done.record.provenance.machines
    assert machine.workers == machine.calculations == done.record.provenance.calculations == 3


# going on


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


@pytest.mark.parametrize(("fault", "kind"), [("nan", "not numbers"), ("raise", "the toy is broken"), ("explode", "")])
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
    assert len(calculated()) == len(ResultStore(database)) - len(kept)
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


def test_rescoring_reproduces_every_metric_without_the_model(finished, tmp_path, command):
    folder = finished.copy(tmp_path / "run")
    (folder / "calculations.db").unlink()
    stored_entry, again = rescore(folder)
    assert again.tasks == stored_entry.tasks
    checked = command("rescore", folder / "entry.json", "--check")
    assert checked.returncode == 0, checked.stderr


def test_rescoring_on_another_dataset_is_refused(finished, dataset):
    other = copy.copy(dataset)
    other.id = "other"
    with raises_code("other-dataset", "other"):
        rescore(finished.folder, other)


def test_the_search_by_soap_is_a_table_beside_the_metrics(toy, tmp_path, command):
    pytest.importorskip("dscribe", reason="dscribe is an optional package")
    run_here(toy(), tmp_path / "run", charges=[-1], suite="full", tasks=["search"])
    before = (tmp_path / "run" / "entry.json").read_bytes()
    shown = command("rescore", tmp_path / "run", "--check", "--soap")
    assert shown.returncode == 0, shown.stderr
    assert not (tmp_path / "run" / "tables" / "search_soap.csv").exists()
    written = command("rescore", tmp_path / "run", "--soap")
    assert written.returncode == 0, written.stderr
    (row,) = csv.DictReader((tmp_path / "run" / "tables" / "search_soap.csv").open())
    assert (row["defect"], row["charge"]) == ("V_Sb1", "-1")
    assert 1 <= int(row["soap_minima"]) <= int(row["candidates"])
    assert (tmp_path / "run" / "entry.json").read_bytes() == before
    assert "--soap" in (tmp_path / "run" / "tables" / "search.json").read_text()


def test_a_changed_metric_is_found_by_the_check(finished, tmp_path, command, read_json):
    folder = finished.copy(tmp_path / "run")
    entry = read_json(folder / "entry.json")
    metric = next(m for m in entry["tasks"]["relax"]["metrics"] if m["value"] is not None)
    metric["value"] = metric["value"] + 0.01
    (folder / "entry.json").write_text(json.dumps(entry))
    checked = command("rescore", folder, "--check")
    assert checked.returncode == 1
    assert metric["name"] in checked.stderr


# selection and plan


def test_selection_names_the_nearest(dataset):
    for wrong, code, near in (
        ({"defects": ["V_Sb"]}, "unknown-defect", "V_Sb1"),
        ({"defects": ["V_Sb1"], "charges": [7]}, "unknown-charge", "+7"),
        ({"configurations": ["Dimmer"]}, "unknown-configuration", "Dimer"),
    ):
        with raises_code(code, near):
            select_states(dataset, **wrong)


def test_states_without_a_reference_are_skipped_visibly(dataset):
    states, skipped = select_states(dataset)
    chosen = {(s.defect, s.charge) for s in states}
    assert chosen == {s for s in dataset.states if dataset.has_reference(*s)}
    assert {(d, q) for d, q, _ in skipped} == set(dataset.states) - chosen
    assert all("reference" in reason for _, _, reason in skipped)


def test_a_selection_of_nothing_is_refused(dataset):
    without = next(((d, q) for d, q in dataset.states if not dataset.has_reference(d, q)), None)
    if without is None:
        pytest.skip("every state of the dataset has a reference")
    with raises_code("nothing-to-run"):
        select_states(dataset, defects=[without[0]], charges=[without[1]])


def test_the_plan_holds_each_distinct_calculation_once(dataset):
    states, skipped = select_states(dataset, defects=["V_Sb1"])
    blind = make_plan(dataset, states, skipped, get_tasks(["relax"]), takes_charge=False)
    aware = make_plan(dataset, states, skipped, get_tasks(["relax"]), takes_charge=True)
    assert len({c.content_hash for c in blind.calculations}) == len(blind.calculations)
    assert aware.shared == 0
    assert blind.shared > 0
    assert all(c.charge is None for c in blind.calculations)
    assert {c.charge for (_, q, _), c in aware.relaxations.items()} == set(dataset.charges("V_Sb1"))
    assert all(c.charge == q for (_, q, _), c in aware.relaxations.items())


# refusals


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"workers": 0}, "bad-input"),
        ({"workers": 99999999999999999999}, "bad-input"),
        ({"device": "tpu"}, "unknown-device"),
        ({"suite": "some"}, "unknown-suite"),
        *[({name: ""}, "empty-value") for name in ("dataset", "output", "environment", "model_weights", "name")],
        *[({name: []}, "empty-value") for name in ("defects", "charges", "configurations")],
        ({"name": "mine"}, "bad-input"),
    ],
)
def test_what_cannot_be_meant_is_refused(toy, tmp_path, wrong, code):
    with raises_code(code) as refused:
        run_here(**{"model": toy(), "output": tmp_path / "run", **wrong})
    assert refused.value.exit_code == 2
    assert not (tmp_path / "run").exists()


def test_a_range_that_leaves_out_every_charge_is_refused_beforehand(toy, tmp_path):
    path = toy("hears", charge="info:charge", hears=True)
    definition = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(definition | {"charge": {"how": "info:charge", "range": [5, 9]}}))
    with raises_code("nothing-to-run"):
        run_here(path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(bool(gpus()), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(toy, tmp_path):
    with raises_code("no-device", "cuda"):
        run_here(toy(), tmp_path / "run", device="cuda", executor=None)
    assert not (tmp_path / "run" / "entry.json").exists()


def test_an_output_that_cannot_be_made_is_refused(toy, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "run" / "entry.json").mkdir(parents=True)
    for given in (tmp_path / "file" / "run", tmp_path / "file", tmp_path / "run"):
        with raises_code("bad-output", given):
            run_here(toy(), given)


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["--model", "sevennet0"], "unknown-model", "sevennet-0"),
        (["--dataset", "sb2se3-vacancy"], "unknown-dataset", "sb2se3-vacancies"),
        (["--defect", "V_Sb"], "unknown-defect", "V_Sb1"),
        (["--charge", "-9"], "unknown-charge", "−9"),
        (["--configurations", "Dimmer"], "unknown-configuration", "Dimer"),
        (["--task", "relaxx"], "unknown-task", "relax"),
        (["--model", "nowhere.yaml"], "no-file", "nowhere.yaml"),
        (["--dataset", "./no-such-folder"], "no-dataset", "no-such-folder"),
        (["--environment", "/no/such/environment"], "unknown-environment", "/no/such/environment"),
        (["--configurations", " , "], "empty-value", "--configurations"),
        (["--dataset", ""], "empty-value", "--dataset"),
        (["--model-weights", "/no/such/file.pth"], "no-weights", "/no/such/file.pth"),
    ],
)
def test_bad_input_of_the_command(tmp_path, arguments, code, named):
    defaults = {"--model": "chgnet-0.3.0", "--output": str(tmp_path / "run"), "--environment": "current"}
    more = [x for name, value in defaults.items() if name not in arguments for x in (name, value)]
    error = CliRunner().invoke(app, ["evaluate", "--trust-code", *arguments, *more]).exception
    check_refusal(error, code, named)
    assert error.exit_code == 2


def test_help_and_import_are_quick_and_light():
    heavy = ("numpy", "ase", "scipy", "matplotlib", "pandas", "torch")
    code = f"import sys, defectbench, defectbench.cli; print([m for m in {heavy} if m in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
