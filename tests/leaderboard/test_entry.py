"""What is read as an entry, and what is refused."""

from __future__ import annotations

import gzip
import json

import pytest
from refusals import check_refusal, raises_code

import defectbench
from defectbench.base.hardware import Machine
from defectbench.entries.folder import BUNDLE_FILE, entry_folder, read_calculations, read_entry, write_record, write_rescored
from defectbench.entries.run_folder import remove_foreign_entry


def change(folder, *path_and_value):
    *path, last, value = path_and_value
    file = folder / "entry.json"
    content = json.loads(file.read_text())
    at = content
    for step in path:
        at = at[step]
    at[last] = value
    file.write_text(json.dumps(content))


METRIC = ("tasks", "relax", "metrics", 0)


@pytest.mark.parametrize(
    ("change_of", "field"),
    [
        ((*METRIC, "value", float("nan")), "tasks.relax.metrics.0.value"),
        ((*METRIC, "interval", [0.1, float("nan")]), "tasks.relax.metrics.0.interval.1"),
        ((*METRIC, "value", float("inf")), "tasks.relax.metrics.0.value"),
        (("tasks", "relax", "baselines", "unrelaxed", "rmsd", float("nan")), "tasks.relax.baselines.unrelaxed.rmsd"),
        (("certificate", {}), "certificate: charge_class is one of"),
        (("certificate", "charge_class", "charged"), "certificate: charge_class is one of"),
        (("certificate", "checks", [{}]), "certificate: checks is a list"),
        (("certificate", "size_ratio", "big"), "certificate: size_ratio is a number"),
        (("provenance", "protocol", {"a": 1}), "provenance.protocol: unknown setting 'a'"),
        (("provenance", "protocol", {"fmax": "0.03"}), "provenance.protocol: fmax cannot be '0.03'"),
        (("provenance", "protocol", {"max_steps": 1.5}), "provenance.protocol: max_steps cannot be"),
        (("provenance", "machines", 0, "hardware", {"gpus": 5}), "provenance.machines.0.hardware.gpus"),
        (("provenance", "machines", 0, "workers", -1), "provenance.machines.0.workers"),
        (("tasks", "cost", "tables", {"states": [{"atoms": [59]}]}), "tasks.cost.tables.states.0.atoms"),
    ],
)
def test_what_nothing_could_be_made_of_is_not_a_valid_entry(write_entry, change_of, field):
    folder = write_entry("one")
    read_entry(folder)
    change(folder, *change_of)
    with raises_code("bad-entry", folder, field):
        read_entry(folder)


def test_an_entry_that_is_no_text_is_one_line(write_entry, tmp_path):
    folder = write_entry("one")
    (folder / "entry.json").write_bytes(b"\xff\xfe{}")
    with raises_code("bad-entry", "entry.json"):
        read_entry(folder)
    (tmp_path / "two" / "entry.json").mkdir(parents=True)
    with raises_code("bad-entry", tmp_path / "two"):
        read_entry(tmp_path / "two")


def test_an_entry_is_its_folder_or_its_file(write_entry):
    folder = write_entry("one")
    assert entry_folder(folder / "entry.json") == entry_folder(folder) == folder
    assert read_entry(folder / "entry.json") == read_entry(folder)


@pytest.mark.parametrize("content", [b"[]", b"[[1, 2]]", b"[" * 100000, b"\xff", b"{"])
def test_calculations_are_a_mapping(write_entry, content):
    folder = write_entry("one")
    (folder / "calculations.json.gz").write_bytes(gzip.compress(content))
    with raises_code("bad-entry", "calculations.json.gz"):
        read_calculations(folder, read_entry(folder))


def as_version_1(folder):
    """An entry as the first version of the schema had it: a second machine, results without echo and kind, no batches."""
    content = json.loads((folder / "entry.json").read_text())
    (machine,) = content["provenance"].pop("machines")
    machine = {name: value for name, value in machine.items() if name not in ("calculations", "relaxations", "batch")}
    other = {**machine, "hardware": {"processor": "Other"}, "calculations": 1, "relaxations": 1}
    content["provenance"] |= {**machine, "other_machines": [other]}
    content["schema_version"] = 1
    (folder / "entry.json").write_text(json.dumps(content))
    results = {"ab": {"status": "ok", "energy": 1.0}, "cd": {"status": "ok", "energy": 2.0, "machine": 1}, "ef": {"machine": 7}}
    (folder / "calculations.json.gz").write_bytes(gzip.compress(json.dumps(results).encode()))


def test_an_entry_of_version_1_keeps_its_content_and_nothing_is_invented(write_entry):
    folder = write_entry("one")
    now = read_entry(folder)
    as_version_1(folder)
    entry = read_entry(folder)
    assert entry.model_copy(update={"provenance": now.provenance}) == now
    first, second = entry.provenance.machines
    assert first.machine == now.provenance.machines[0].machine
    assert (first.calculations, second.calculations) == (3, 1)
    assert second.hardware.processor == "Other"
    content = read_calculations(folder, entry)
    assert content["ab"] == {"result": {"echo": None, "status": "ok", "energy": 1.0}, "machine": first.machine.model_dump(mode="json")}
    assert content["cd"]["machine"]["hardware"]["processor"] == "Other"
    with pytest.raises(ValueError, match="7"):
        Machine.model_validate(content["ef"]["machine"])
    write_rescored(folder, entry)
    assert json.loads(gzip.decompress((folder / "calculations.json.gz").read_bytes()))["schema_version"] == 2
    assert read_entry(folder) == entry
    assert read_calculations(folder, entry) == content


def test_a_signature_does_not_outlive_what_it_signs(write_entry, monkeypatch):
    folder = write_entry("one")
    as_version_1(folder)
    entry = read_entry(folder)
    monkeypatch.setattr("defectbench.entries.rescoring.rescore", lambda *_: (entry, entry))
    changes = [
        lambda: write_record(folder, entry),
        lambda: defectbench.rescore(folder, write=True),
        lambda: remove_foreign_entry(folder, "another model"),
    ]
    for change in changes:
        (folder / BUNDLE_FILE).write_text("{}")
        remove_foreign_entry(folder, entry.model.identity)
        assert (folder / BUNDLE_FILE).exists(), "an entry that stays keeps its signature"
        change()
        assert not (folder / BUNDLE_FILE).exists()


@pytest.mark.parametrize(
    "line", [["leaderboard", "table", "-o", "file/x.md"], ["leaderboard", "figure", "-o", "file/x"], ["leaderboard", "table", "-o", ""]]
)
def test_an_output_that_cannot_be_is_refused_beforehand(write_entry, tmp_path, monkeypatch, line):
    from typer.testing import CliRunner

    from defectbench.cli import app

    folder = write_entry("one")
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(app, [*line, str(folder)])
    check_refusal(refused.exception, "bad-output" if line[-1] else "empty-value")
