"""The main job with a toy model: what a run leaves, and scoring it again."""

from __future__ import annotations

import contextlib
import copy
import csv
import gzip
import json
import os
import re
import socket
import sqlite3
import stat
import sys

import pytest
import yaml
from ase.io import read
from refusals import raises_code
from toy_runs import SMALL, THING, InProcess, differences, run_here

import defectbench
from defectbench.calculations.plan import QUICK_CONFIGURATIONS
from defectbench.calculations.results import EchoMismatch
from defectbench.calculations.store import ResultStore
from defectbench.entries.rescoring import rescore

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning")]


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
    # and it makes no difference to the gate
    alone = defectbench.evaluate(toy(), trust_code=True, **few, workers=1, output=tmp_path / "alone", figures=False)
    found = defectbench.compare(alone, done)
    assert found.passed
    assert {c.difference for c in found.changes if c.metric.weight > 0 and c.difference is not None} == {0.0}


# going on


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
