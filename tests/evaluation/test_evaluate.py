"""The main job with toy models, through real worker processes: plan, calculate, store, score, write, resume."""

from __future__ import annotations

import contextlib
import copy
import csv
import functools
import gzip
import json
import resource
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
import yaml
from ase.io import read

import defectbench
from defectbench.base.errors import DefectbenchError, RunError, UnknownNameError
from defectbench.base.hardware import gpus
from defectbench.calculations.plan import QUICK_CONFIGURATIONS, make_plan, select_states
from defectbench.calculations.store import ResultStore
from defectbench.datasets.catalogue import load_dataset
from defectbench.entries.rescoring import rescore, same_metrics
from defectbench.evaluation import Reporter
from defectbench.tasks import get_tasks

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
SMALL = {"defects": ["V_Sb1"], "charges": [-3, -1], "suite": "quick", "tasks": ["relax", "pes"]}


def stored(database):
    """How many results a running process has stored, read without touching its database."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            return connection.execute("select count(*) from systems").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def lines(path):
    return len(path.read_text().splitlines()) if path.exists() else 0


def differences(one, other):
    """Metrics that differ between two runs, those that measure time left out."""
    return [line for line in same_metrics(one.entry, other.entry) if not line.startswith(("relax.wall_s", "cost."))]


@pytest.fixture(scope="module")
def dataset():
    return defectbench.load_dataset("sb2se3-vacancies")


def test_a_user_s_own_model_gives_an_entry_with_everything(toy, tmp_path, dataset, read_json):
    done = defectbench.evaluate(toy(), **SMALL, output=tmp_path / "run")
    entry = read_json(tmp_path / "run" / "entry.json")
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
    assert {(c["charge"], c["configuration"]) for c in entry["configurations"]} == {
        (q, c) for q in (-3, -1) for c in dataset.starts("V_Sb1", q) if c in QUICK_CONFIGURATIONS
    }
    assert all(c["status"] == "converged" for c in entry["configurations"])
    assert set(entry["tasks"]) == {"relax", "pes"}
    structures = read(tmp_path / "run" / "structures.extxyz", ":")
    assert len(structures) == len(entry["configurations"]) + 2
    with (tmp_path / "run" / "tables" / "relax_states.csv").open() as handle:
        assert [row["charge"] for row in csv.DictReader(handle)] == ["-3", "-1"]
    figures = {f.suffix for f in done.files if f.parent.name == "figures"}
    assert figures == {".png", ".svg"}
    assert all(f.stat().st_size > 0 for f in done.files)


def test_no_path_and_no_host_name_gets_into_an_entry(toy, tmp_path):
    import re
    import socket

    defectbench.evaluate(toy(), **SMALL, output=tmp_path / "run", environment=sys.executable)
    text = (tmp_path / "run" / "entry.json").read_text()
    assert sys.prefix not in text
    assert not re.search(rf"\b{re.escape(socket.gethostname())}\b", text)


def test_a_charge_blind_model_relaxes_equal_starts_once(toy, tmp_path):
    defectbench.evaluate(toy(), **SMALL, output=tmp_path / "run")
    store = ResultStore(tmp_path / "run" / "calculations.db")
    done = defectbench.evaluate(toy(), **SMALL, output=tmp_path / "run")
    hashes = [c.content_hash for c in done.entry.configurations]
    assert len(set(hashes)) < len(hashes)
    # one certificate, two hosts, the distinct starts
    assert len(store) == 1 + 2 + len(set(hashes))


def test_a_model_that_takes_a_charge_runs_every_charge_and_gets_it(toy, tmp_path):
    done = defectbench.evaluate(toy("hears", charge="info:charge", hears=True), **SMALL, output=tmp_path / "run")
    assert done.entry.certificate["charge_class"] == "charge-aware"
    hashes = [c.content_hash for c in done.entry.configurations]
    assert len(set(hashes)) == len(hashes)
    energies = {(c.charge, c.configuration): c.energy for c in done.entry.configurations}
    assert energies[-1, "Unperturbed"] - energies[-3, "Unperturbed"] == pytest.approx(0.6, abs=1e-3)


def test_a_corrected_charge_range_keeps_no_result_of_the_old_one(toy, tmp_path):
    model = toy("hears", charge="info:charge", hears=True)
    definition = yaml.safe_load(model.read_text())

    def failures(smallest, output):
        model.write_text(yaml.safe_dump(definition | {"charge": {"how": "info:charge", "range": [smallest, 1]}}))
        run = {"defects": ["V_Sb1"], "charges": [-3, -1], "configurations": ["Unperturbed"], "tasks": ["relax"]}
        done = defectbench.evaluate(model, **run, output=tmp_path / output)
        return {c.charge: c.failure is not None for c in done.entry.configurations}

    assert failures(-1, "widened") == {-3: True, -1: False}
    assert failures(-3, "widened") == {-3: False, -1: False}
    assert failures(-1, "widened") == {-3: True, -1: False}


def test_the_same_command_again_calculates_nothing(toy, tmp_path):
    model = toy(log=str(tmp_path))
    first = defectbench.evaluate(model, **SMALL, output=tmp_path / "run")
    calls = lines(tmp_path / "calls")
    assert calls > 0
    second = defectbench.evaluate(model, **SMALL, output=tmp_path / "run")
    assert lines(tmp_path / "calls") == calls
    assert same_metrics(first.entry, second.entry) == []


def test_an_entry_without_its_database_is_taken_over(toy, tmp_path):
    model = toy(log=str(tmp_path))
    first = defectbench.evaluate(model, **SMALL, output=tmp_path / "run")
    (tmp_path / "run" / "calculations.db").unlink()
    calls = lines(tmp_path / "calls")
    stages: list[str] = []
    second = defectbench.evaluate(model, **SMALL, output=tmp_path / "run", reporter=Reporter(stage=stages.append))
    certificate_only = lines(tmp_path / "calls") - calls
    assert 0 < certificate_only < calls / 2
    assert any("taken over from the entry" in stage for stage in stages)
    assert same_metrics(first.entry, second.entry) == []
    assert second.entry.provenance.other_machines == []


def test_an_entry_of_another_model_is_not_taken_over(toy, tmp_path):
    defectbench.evaluate(toy(), **SMALL, output=tmp_path / "run")
    (tmp_path / "run" / "calculations.db").unlink()
    other = toy("hears", charge="info:charge", hears=True, log=str(tmp_path))
    there = defectbench.evaluate(other, **SMALL, output=tmp_path / "run")
    calls = lines(tmp_path / "calls")
    fresh = defectbench.evaluate(other, **SMALL, output=tmp_path / "fresh")
    assert lines(tmp_path / "calls") == 2 * calls
    assert differences(there, fresh) == []


@pytest.mark.parametrize("damage", ["truncated", "not a mapping", "no such machine"])
def test_a_damaged_entry_is_calculated_anew(toy, tmp_path, damage):
    model = toy(log=str(tmp_path))
    first = defectbench.evaluate(model, **SMALL, output=tmp_path / "run")
    (tmp_path / "run" / "calculations.db").unlink()
    path = tmp_path / "run" / "calculations.json.gz"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        content = json.loads(gzip.decompress(path.read_bytes()))
        wrong = [1, 2] if damage == "not a mapping" else {key: {**result, "machine": 7} for key, result in content.items()}
        path.write_bytes(gzip.compress(json.dumps(wrong).encode()))
    calls = lines(tmp_path / "calls")
    second = defectbench.evaluate(model, **SMALL, output=tmp_path / "run")
    assert lines(tmp_path / "calls") == 2 * calls
    assert differences(first, second) == []


def spoil(result, damage):
    """What a damaged file may hold in place of a relaxation's result."""
    if damage == "lacks a field":
        return {name: value for name, value in result.items() if name != "fmax"}
    wrong = {"one atom": {"positions": [[0, 0, 0]]}, "no energy": {"energy": None}, "not finite": {"energy": float("nan")}}
    return {**result, **wrong[damage]}


@pytest.mark.parametrize("damage", ["lacks a field", "one atom", "no energy", "not finite"])
def test_damaged_results_of_an_entry_are_calculated_anew_and_not_scored(toy, tmp_path, damage):
    first = defectbench.evaluate(toy(), **SMALL, output=tmp_path / "run")
    (tmp_path / "run" / "calculations.db").unlink()
    path = tmp_path / "run" / "calculations.json.gz"
    content = json.loads(gzip.decompress(path.read_bytes()))
    bad = [c.content_hash for c in first.entry.host]
    path.write_bytes(gzip.compress(json.dumps(content | {key: spoil(content[key], damage) for key in bad}).encode()))
    with pytest.raises(DefectbenchError, match=r"calculations\.json\.gz is damaged: the result .* has") as refused:
        rescore(tmp_path / "run")
    assert refused.value.exit_code == 2
    notes: list[str] = []
    second = defectbench.evaluate(toy(), **SMALL, output=tmp_path / "run", reporter=Reporter(note=notes.append))
    assert notes == [f"2 results in {path} are damaged; they are calculated anew"]
    assert differences(first, second) == []
    assert rescore(tmp_path / "run")[1].tasks == second.entry.tasks


def test_a_database_with_a_damaged_row_is_one_line(toy, tmp_path):
    from ase.db import connect

    defectbench.evaluate(toy(), **SMALL, output=tmp_path / "run")
    database = tmp_path / "run" / "calculations.db"
    for damage in ([], {}, {"status": "converged"}, 5):
        rows = connect(database, use_lock_file=False)
        rows.update(next(rows.select(defect="host")).id, data={"result": damage})
        with pytest.raises(RunError, match=r"cannot use the result database .*calculations\.db: .*; move it away to begin anew"):
            defectbench.evaluate(toy(), **SMALL, output=tmp_path / "run")


def test_times_are_of_one_machine_when_a_run_goes_on_elsewhere(toy, tmp_path):
    defectbench.evaluate(toy(), **SMALL, output=tmp_path / "run")
    (tmp_path / "run" / "calculations.db").unlink()
    path = tmp_path / "run" / "entry.json"
    entry = json.loads(path.read_text())
    entry["provenance"]["hardware"]["processor"] = "Thing 9000"
    path.write_text(json.dumps(entry))
    wider = {**SMALL, "tasks": ["relax", "pes", "cost"]}
    taken = defectbench.evaluate(toy(), **wider, output=tmp_path / "run").entry
    assert taken.provenance.hardware["processor"] == "Thing 9000"
    assert taken.provenance.other_machines == []
    assert next(m for m in taken.tasks["cost"].metrics if m.name == "hours_in_all").value is not None
    # one charge more, here: its starts that no other charge has are not in the times
    (tmp_path / "run" / "calculations.db").unlink()
    more = defectbench.evaluate(toy(), **{**wider, "charges": [-3, -1, 0]}, output=tmp_path / "run").entry
    here, there = more.provenance.other_machines, more.provenance
    assert there.hardware["processor"] == "Thing 9000"
    assert len(here) == 1
    assert here[0].hardware["processor"] != "Thing 9000"
    assert here[0].relaxations > 0
    timed = len(more.tasks["cost"].tables["relaxations"])
    assert timed == len(taken.tasks["cost"].tables["relaxations"])
    assert any(f"{here[0].relaxations} relaxation(s) ran on another machine" in note for note in more.tasks["cost"].notes)
    assert next(m for m in more.tasks["cost"].metrics if m.name == "hours_in_all").value is None
    # and from its files alone the same again
    (tmp_path / "run" / "calculations.db").unlink()
    again = defectbench.evaluate(toy(), **{**wider, "charges": [-3, -1, 0]}, output=tmp_path / "run").entry
    assert again.provenance.other_machines == here
    assert rescore(tmp_path / "run")[1].tasks == again.tasks


def test_a_wider_selection_calculates_only_what_is_missing(toy, tmp_path):
    model = toy(log=str(tmp_path))
    defectbench.evaluate(model, **SMALL, output=tmp_path / "run")
    calls = lines(tmp_path / "calls")
    wider = defectbench.evaluate(model, defects=["V_Sb1"], charges=[-3, -1], tasks=["relax"], output=tmp_path / "run")
    dataset = load_dataset("sb2se3-vacancies")
    assert len(wider.entry.configurations) == sum(len(dataset.starts("V_Sb1", q)) for q in (-3, -1))
    fresh = defectbench.evaluate(model, defects=["V_Sb1"], charges=[-3, -1], tasks=["relax"], output=tmp_path / "fresh")
    assert lines(tmp_path / "calls") > 2 * calls
    assert differences(wider, fresh) == []


def test_kill_9_loses_no_finished_relaxation_and_the_same_command_goes_on(toy, tmp_path):
    model = toy(sleep=0.02)
    line = [
        sys.executable,
        "-m",
        "defectbench",
        "evaluate",
        "--model",
        str(model),
        "--defect",
        "V_Sb1",
        "--charge",
        "-1",
        "--task",
        "relax",
    ]
    line += ["--output", str(tmp_path / "run"), "--workers", "1"]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    database = tmp_path / "run" / "calculations.db"
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        if stored(database) >= 5:
            break
        time.sleep(0.05)
    assert process.poll() is None, "it ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = set(ResultStore(database))
    assert len(kept) >= 5
    rest = defectbench.evaluate(model, defects=["V_Sb1"], charges=[-1], tasks=["relax"], output=tmp_path / "run", workers=1)
    assert kept < set(ResultStore(database))
    assert len(rest.entry.configurations) == 15
    everything = defectbench.evaluate(model, defects=["V_Sb1"], charges=[-1], tasks=["relax"], output=tmp_path / "fresh")
    assert differences(rest, everything) == []


def test_two_processes_on_one_run_directory_are_refused(toy, tmp_path, command):
    from defectbench.entries.folder import _locked

    model = toy()
    with _locked(tmp_path / "run"):
        second = command("evaluate", "--model", model, "--output", tmp_path / "run")
    assert second.returncode == 1
    assert "in use by another defectbench process" in second.stderr
    assert "Traceback" not in second.stderr


@pytest.mark.parametrize(("fault", "kind"), [("nan", "not numbers"), ("raise", "the toy is broken"), ("explode", "")])
def test_a_model_that_only_fails_ends_with_one_line_and_exit_code_1(toy, tmp_path, command, fault, kind):
    ended = command("evaluate", "--model", toy(fault=fault), "--defect", "V_Sb1", "--charge", "-3", "--output", tmp_path / "run")
    assert ended.returncode == 1, ended.stderr
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("defectbench: ")
    assert kind in ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr


def test_a_model_that_kills_its_worker_is_one_line(toy, tmp_path, command):
    ended = command("evaluate", "--model", toy(fault="exit"), "--defect", "V_Sb1", "--charge", "-3", "--output", tmp_path / "run")
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "exit code 7" in ended.stderr


def test_a_full_disk_is_one_line_and_what_was_finished_stays(toy, tmp_path):
    model = toy()
    defectbench.evaluate(model, defects=["V_Sb1"], charges=[-3], suite="quick", tasks=["relax"], output=tmp_path / "run")
    kept = set(ResultStore(tmp_path / "run" / "calculations.db"))
    size = (tmp_path / "run" / "calculations.db").stat().st_size

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 4096, size + 4096))

    line = [sys.executable, "-m", "defectbench", "evaluate", "--model", str(model), "--defect", "V_Sb1", "--output", str(tmp_path / "run")]
    ended = subprocess.run(line, capture_output=True, text=True, preexec_fn=limit, timeout=120, check=False)
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "same command" in ended.stderr
    assert kept <= set(ResultStore(tmp_path / "run" / "calculations.db"))


def test_rescoring_reproduces_every_metric_without_the_model(toy, tmp_path, command):
    defectbench.evaluate(toy(), **SMALL, output=tmp_path / "run")
    (tmp_path / "run" / "calculations.db").unlink()
    stored, again = rescore(tmp_path / "run")
    assert same_metrics(stored, again) == []
    assert again.tasks == stored.tasks
    for given in (tmp_path / "run", tmp_path / "run" / "entry.json"):
        checked = command("rescore", given, "--check")
        assert checked.returncode == 0, checked.stderr
        assert "every metric is reproduced" in checked.stdout


def test_rescoring_on_another_dataset_says_so(toy, tmp_path, dataset, read_json):
    defectbench.evaluate(toy(), **SMALL, output=tmp_path / "run")
    other = copy.copy(dataset)
    other.id = "other"
    with pytest.raises(DefectbenchError, match="was made on sb2se3-vacancies, not on other"):
        rescore(tmp_path / "run", other)


def test_the_search_by_soap_is_a_table_beside_the_metrics(toy, tmp_path, command):
    pytest.importorskip("dscribe", reason="dscribe is an optional package")
    defectbench.evaluate(toy(), defects=["V_Sb1"], charges=[-1], suite="full", tasks=["search"], output=tmp_path / "run")
    before = (tmp_path / "run" / "entry.json").read_bytes()
    shown = command("rescore", tmp_path / "run", "--check", "--soap")
    assert shown.returncode == 0, shown.stderr
    assert "Search by SOAP" in shown.stdout
    assert "ground states found with" in shown.stdout
    assert not (tmp_path / "run" / "tables" / "search_soap.csv").exists()
    written = command("rescore", tmp_path / "run", "--soap")
    assert written.returncode == 0, written.stderr
    (row,) = csv.DictReader((tmp_path / "run" / "tables" / "search_soap.csv").open())
    assert (row["defect"], row["charge"]) == ("V_Sb1", "-1")
    assert 1 <= int(row["soap_minima"]) <= int(row["candidates"])
    assert (tmp_path / "run" / "entry.json").read_bytes() == before
    assert "--soap" in (tmp_path / "run" / "tables" / "search.json").read_text()


def test_a_changed_metric_is_found_by_the_check(toy, tmp_path, command, read_json):
    import json

    defectbench.evaluate(toy(), **SMALL, output=tmp_path / "run")
    entry = read_json(tmp_path / "run" / "entry.json")
    metric = next(m for m in entry["tasks"]["relax"]["metrics"] if m["value"] is not None)
    metric["value"] = metric["value"] + 0.01
    (tmp_path / "run" / "entry.json").write_text(json.dumps(entry))
    checked = command("rescore", tmp_path / "run", "--check")
    assert checked.returncode == 1
    assert metric["name"] in checked.stderr


def test_selection_names_the_nearest(dataset):
    with pytest.raises(UnknownNameError, match=r"unknown defect 'V_Sb'.*V_Sb1"):
        select_states(dataset, defects=["V_Sb"])
    with pytest.raises(UnknownNameError, match=r"unknown charge '\+7'"):
        select_states(dataset, defects=["V_Sb1"], charges=[7])
    with pytest.raises(UnknownNameError, match=r"unknown configuration 'Dimmer'.*Dimer"):
        select_states(dataset, configurations=["Dimmer"])


def test_states_without_a_reference_are_skipped_visibly(dataset):
    states, skipped = select_states(dataset)
    chosen = {(s.defect, s.charge) for s in states}
    assert chosen == {s for s in dataset.states if dataset.has_reference(*s)}
    assert {(d, q) for d, q, _ in skipped} == set(dataset.states) - chosen
    assert all("reference" in reason for _, _, reason in skipped)


def test_a_selection_of_nothing_says_so(dataset):
    without = next(((d, q) for d, q in dataset.states if not dataset.has_reference(d, q)), None)
    if without is None:
        pytest.skip("every state of the dataset has a reference")
    with pytest.raises(DefectbenchError, match="nothing to run"):
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


@pytest.mark.parametrize("workers", [0, 99999999999999999999])
def test_workers_must_be_a_number_that_can_be_started(toy, tmp_path, workers):
    with pytest.raises(DefectbenchError, match="workers must be 1 to 1024"):
        defectbench.evaluate(toy(), workers=workers, output=tmp_path / "run")


def test_the_entry_says_how_many_workers_were_started(toy, tmp_path):
    few = {"defects": ["V_Sb1"], "charges": [-3], "configurations": ["Unperturbed"], "tasks": ["relax"]}
    done = defectbench.evaluate(toy(), **few, workers=20, output=tmp_path / "run")
    assert done.entry.provenance.workers == done.entry.provenance.calculations == 3


@pytest.mark.parametrize("name", ["dataset", "output", "environment", "model_weights"])
def test_an_empty_text_is_not_taken_for_the_default(toy, tmp_path, name):
    with pytest.raises(DefectbenchError, match=rf"{name} is empty \(''\)"):
        defectbench.evaluate(toy(), **{"output": tmp_path / "run", name: ""})


@pytest.mark.parametrize("name", ["defects", "charges", "configurations"])
def test_an_empty_list_is_not_taken_for_all(toy, tmp_path, name):
    with pytest.raises(DefectbenchError, match=f"{name} is an empty list"):
        defectbench.evaluate(toy(), **{name: []}, output=tmp_path / "run")


def test_a_range_that_leaves_out_every_charge_is_refused_beforehand(toy, tmp_path):
    path = toy("hears", charge="info:charge", hears=True)
    definition = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(definition | {"charge": {"how": "info:charge", "range": [5, 9]}}))
    words = r"takes charges \+5 to \+9 \(charge\.range\), and none of those selected \(-3, -1\)"
    with pytest.raises(DefectbenchError, match=words) as refused:
        defectbench.evaluate(path, **SMALL, output=tmp_path / "run")
    assert refused.value.exit_code == 2
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(bool(gpus()), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(toy, tmp_path):
    with pytest.raises(DefectbenchError, match="there is no GPU for device 'cuda'") as refused:
        defectbench.evaluate(toy(), **SMALL, device="cuda", output=tmp_path / "run")
    assert refused.value.exit_code == 2
    assert not (tmp_path / "run" / "entry.json").exists()


def test_an_output_that_cannot_be_made_is_one_line(toy, tmp_path):
    (tmp_path / "file").write_text("")
    for given in (tmp_path / "file" / "run", tmp_path / "file"):
        with pytest.raises(DefectbenchError, match=r"cannot create .*file is not a folder; choose another --output") as refused:
            defectbench.evaluate(toy(), **SMALL, output=given)
        assert refused.value.exit_code == 2
    (tmp_path / "run" / "entry.json").mkdir(parents=True)
    with pytest.raises(DefectbenchError, match=r"entry\.json is a folder; move it away"):
        defectbench.evaluate(toy(), **SMALL, output=tmp_path / "run")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--model", "sevennet0"], "did you mean sevennet-0"),
        (["--model", "chgnet-0.3.0", "--dataset", "sb2se3-vacancy"], "did you mean sb2se3-vacancies"),
        (["--model", "chgnet-0.3.0", "--defect", "V_Sb"], "did you mean V_Sb"),
        (["--model", "chgnet-0.3.0", "--charge", "-9"], "unknown charge '-9'"),
        (["--model", "chgnet-0.3.0", "--configurations", "Dimmer"], "did you mean Dimer"),
        (["--model", "chgnet-0.3.0", "--task", "relaxx"], "did you mean relax"),
        (["--model", "nowhere.yaml"], "nowhere.yaml"),
        (["--model", "chgnet-0.3.0", "--dataset", "./no-such-folder"], "no-such-folder"),
        (["--model", "chgnet-0.3.0", "--environment", "/no/such/environment"], "environment"),
        (["--model", "chgnet-0.3.0", "--environment", ""], "empty"),
        (["--model", "chgnet-0.3.0", "--configurations", ""], "empty"),
        (["--model", "chgnet-0.3.0", "--configurations", " , "], "--configurations names no start"),
        (["--model", "chgnet-0.3.0", "--model-weights", ""], "empty"),
        (["--model", "chgnet-0.3.0", "--dataset", ""], "empty"),
        (["--model", "chgnet-0.3.0", "--output", ""], "empty"),
        (["--model", "chgnet-0.3.0", "--model-weights", "/no/such/file.pth"], "/no/such/file.pth"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(command, tmp_path, arguments, expected):
    defaults = {"--output": tmp_path / "run", "--environment": "current"}
    ended = command("evaluate", *arguments, *[x for name, value in defaults.items() if name not in arguments for x in (name, value)])
    assert ended.returncode == 2, ended.stderr
    assert expected in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "Traceback" not in ended.stdout + ended.stderr


def test_help_and_import_are_quick_and_light():
    heavy = ("numpy", "ase", "scipy", "matplotlib", "pandas", "torch")
    code = f"import sys, defectbench, defectbench.cli; print([m for m in {heavy} if m in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_interrupting_leaves_exit_code_130_and_what_was_finished(toy, tmp_path):
    model = toy(sleep=0.05)
    line = [sys.executable, "-m", "defectbench", "evaluate", "--model", str(model), "--defect", "V_Sb1", "--output", str(tmp_path / "run")]
    # a shell's background jobs ignore Ctrl-C, and their children inherit that
    default = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=default)
    database = tmp_path / "run" / "calculations.db"
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and stored(database) < 3:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "the same command goes on" in err
    assert len(ResultStore(database)) >= 3
