"""An entry on its way to the leaderboard and back: checked, filed, published with its hash, found by name, compared."""

from __future__ import annotations

import json
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from xml.etree import ElementTree

import pytest
from refusals import raises_code
from typer.testing import CliRunner

import defectbench
from defectbench.base.errors import DefectbenchError, DownloadError, RunError
from defectbench.cli import app
from defectbench.entries.folder import BUNDLE_FILE, read_entry
from defectbench.entries.published import find_baseline
from defectbench.entries.staleness import stale
from defectbench.entries.submission import add, check_submission
from defectbench.leaderboard.html import build_site
from defectbench.leaderboard.submitted import comment

pytestmark = pytest.mark.slow

MODEL = "lj"
CHOSEN = {"defects": ["V_Se2"], "charges": [2], "configurations": ["Unperturbed", "Dimer"], "tasks": ["relax", "cost"]}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    from ase.calculators.lj import LennardJones

    folder = tmp_path_factory.mktemp("run") / "lj"
    calculator = LennardJones(sigma=1.0, epsilon=0.01, rc=3.0)
    defectbench.evaluate(calculator, name=MODEL, **CHOSEN, figures=False, output=folder)
    return folder


@pytest.fixture
def entry(run_folder, tmp_path) -> Path:
    return Path(shutil.copytree(run_folder, tmp_path / "entry"))


@pytest.fixture(scope="module")
def site(run_folder, tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("site")
    shutil.copytree(run_folder, home / "leaderboards" / "sb2se3-vacancies" / MODEL)
    build_site(home / "leaderboards", home / "site", address="https://example.org/board/")
    return home / "site"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DEFECTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DEFECTBENCH_ENTRIES_MIRROR", raising=False)


def dataset_of(folder: Path) -> tuple[str, str]:
    said = read_entry(folder).dataset
    return said.id, said.sha256


def change(folder: Path, edit) -> None:
    path = folder / "entry.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_an_entry_is_filed_without_what_a_run_leaves_behind(entry, tmp_path):
    (entry / "index.html").write_text("a report")
    found = check_submission(entry)
    assert found.problems == ()
    target = add(found, tmp_path / "leaderboards")
    assert target == tmp_path / "leaderboards" / "sb2se3-vacancies" / MODEL
    assert {path.name for path in target.iterdir()} == {"entry.json", "calculations.json.gz", "structures.extxyz", "tables"}
    assert [path.name for path in target.parent.iterdir()] == [MODEL]
    with pytest.raises(DefectbenchError) as refused:
        add(found, tmp_path / "leaderboards")
    assert refused.value.code == "entry-exists"
    assert add(found, tmp_path / "leaderboards", replace=True) == target


def test_what_is_no_longer_true_may_be_replaced(entry, tmp_path):
    found = check_submission(entry)
    target = add(found, tmp_path / "leaderboards")
    change(target, lambda content: content["dataset"].update(sha256="0" * 64))
    assert stale(read_entry(target)) is not None
    add(found, tmp_path / "leaderboards")
    assert stale(read_entry(target)) is None


def test_what_is_replaced_stays_as_a_version(entry, tmp_path):
    boards, made = tmp_path / "leaderboards", read_entry(entry).provenance.created
    change(entry, lambda content: content["provenance"].update(created="2025-01-01T00:00:00+00:00"))
    target = add(check_submission(entry), boards)
    first = (target / "entry.json").read_bytes()
    change(entry, lambda content: content["provenance"].update(created=made))
    (entry / "versions").mkdir()
    (entry / "versions" / "2020-01-01-000000000000.json").write_bytes(first)  # not of the leaderboard
    assert [problem.partition(":")[0] for problem in check_submission(entry).problems] == ["versions/2020-01-01-000000000000.json"]
    shutil.rmtree(entry / "versions")
    add(check_submission(entry), boards, replace=True)
    (kept,) = (target / "versions").iterdir()
    assert kept.read_bytes() == first
    found = check_submission(target)
    assert found.problems == ()
    assert f"versions/{kept.name}" in found.files
    add(check_submission(entry), boards, replace=True)  # the same again is no new version
    assert [path.name for path in (target / "versions").iterdir()] == [kept.name]
    kept.write_bytes(first.replace(b"lj", b"LJ", 1))
    assert [problem.partition(":")[0] for problem in check_submission(target).problems] == [f"versions/{kept.name}"]


def forge(entry: Path) -> None:
    change(entry, lambda content: content["tasks"]["relax"]["metrics"][0].update(value=0.0))


PROBLEMS = {
    "a forged metric": forge,
    "a file that does not belong there": lambda entry: (entry / "run.sh").write_text("rm"),
    "a path of the submitter": lambda entry: (entry / "tables" / "note.csv").write_text("a\n/home/ada/models\n"),
    "a link": lambda entry: (entry / "tables" / "x.csv").symlink_to("/etc/hostname"),
    "a large file": lambda entry: (entry / "tables" / "x.csv").write_bytes(b"1\n" * 6_000_000),
    "a missing file": lambda entry: (entry / "structures.extxyz").unlink(),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_what_is_refused(entry, tmp_path, problem):
    PROBLEMS[problem](entry)
    found = check_submission(entry)
    assert found.problems
    with pytest.raises(RunError) as refused:
        add(found, tmp_path / "leaderboards")
    assert refused.value.code == "not-verified"
    assert not (tmp_path / "leaderboards").exists()


def test_the_comment_shows_the_row_and_the_problems(entry, tmp_path):
    (tmp_path / "leaderboards").mkdir()
    assert "| 1 | **lj** (new) | charge-blind |" in comment(check_submission(entry), tmp_path / "leaderboards")
    (entry / "run.sh").write_text("")
    assert "**problem**: run.sh" in comment(check_submission(entry), tmp_path / "leaderboards")


def test_the_feed_names_each_entry_once_and_keeps_its_id(site, run_folder, tmp_path):
    def items(path: Path) -> list[tuple[str, str, str]]:
        atom = {"a": "http://www.w3.org/2005/Atom"}
        found = ElementTree.parse(path / "feed.xml").getroot().findall("a:entry", atom)
        return [(e.findtext("a:id", "", atom), e.findtext("a:updated", "", atom), e.find("a:link", atom).get("href")) for e in found]

    (first,) = items(site)
    assert first[2].startswith("https://example.org/board/models/lj--")
    again = Path(shutil.copytree(run_folder, tmp_path / "leaderboards" / MODEL))
    change(again, lambda content: content["provenance"].update(created="2031-01-01T00:00:00+00:00"))
    build_site(tmp_path / "leaderboards", tmp_path / "site", address="https://example.org/board/")
    (second,) = items(tmp_path / "site")
    assert (second[0], second[1]) == (first[0], "2031-01-01T00:00:00+00:00")


@pytest.fixture
def served(site):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_baseline_is_found_by_name_in_a_folder_and_on_a_site(run_folder, site, served):
    data = dataset_of(run_folder)
    assert find_baseline(str(run_folder), data) == run_folder
    assert find_baseline(MODEL, data, str(site.parent / "leaderboards")).name == MODEL
    wanted = read_entry(run_folder)
    for place in (str(site), f"file://{site}", served):
        found = find_baseline(MODEL, data, place)
        assert read_entry(found) == wanted
        assert {path.name for path in found.iterdir()} == {"entry.json", "calculations.json.gz"}


def test_a_baseline_is_found_by_hash(run_folder, site):
    data = dataset_of(run_folder)
    (line,) = json.loads((site / "entries.json").read_text(encoding="utf-8"))["entries"]
    for place in (str(site), str(site.parent / "leaderboards")):
        assert read_entry(find_baseline(f"{MODEL}@{line['sha256'][:12]}", data, place)) == read_entry(run_folder)
        with raises_code("no-entry"):
            find_baseline(f"{MODEL}@{'0' * 64}", data, place)
        with raises_code("bad-hash"):
            find_baseline(f"{MODEL}@latest", data, place)


def test_the_mirror_of_entries_is_used_without_being_named_again(run_folder, served, monkeypatch):
    monkeypatch.setenv("DEFECTBENCH_ENTRIES_MIRROR", served)
    assert read_entry(find_baseline(MODEL, dataset_of(run_folder))) == read_entry(run_folder)


def test_an_archive_of_another_content_is_refused(run_folder, site, tmp_path):
    copy = Path(shutil.copytree(site, tmp_path / "site"))
    (archive,) = (copy / "entries").iterdir()
    archive.write_bytes(archive.read_bytes() + b" ")
    with pytest.raises(DownloadError):
        find_baseline(MODEL, dataset_of(run_folder), str(copy))


def test_what_cannot_be_found_is_said(run_folder, site, tmp_path):
    data = dataset_of(run_folder)
    places = (str(site), str(site.parent / "leaderboards"))
    mistakes = [*(("lk", data, p, "unknown-entry") for p in places), *((MODEL, ("other", "0" * 64), p, "no-entry") for p in places)]
    for name, wanted, place, code in [*mistakes, (str(tmp_path), data, None, "no-entry")]:
        with pytest.raises(DefectbenchError) as refused:
            find_baseline(name, wanted, place)
        assert refused.value.code == code
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "entries.json").write_text('{"format": "other", "entries": []}')
    with pytest.raises(DefectbenchError) as refused:
        find_baseline(MODEL, data, str(tmp_path / "site"))
    assert refused.value.code == "bad-entry"


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "80"})


def test_the_command_passes_for_an_entry_and_itself_and_writes_every_format(entry, site, tmp_path):
    files = [tmp_path / f"gate{ending}" for ending in (".md", ".json", ".xml", ".txt")]
    outputs = [item for path in files for item in ("--output", path)]
    shown = run("compare", MODEL, entry, "--entries", site, *outputs, "--all")
    assert shown.exit_code == 0, shown.exception
    assert max(map(len, shown.stdout.splitlines()[:-8])) <= 80
    assert json.loads(files[1].read_text())["passed"]
    assert ElementTree.parse(files[2]).getroot().get("failures") == "0"
    assert all(path.stat().st_size for path in files)


def test_selections_that_differ_are_compared_on_what_both_have(entry, tmp_path):
    from ase.calculators.lj import LennardJones

    calculator = LennardJones(sigma=1.0, epsilon=0.01, rc=3.0)
    defectbench.evaluate(calculator, name=MODEL, **CHOSEN | {"configurations": ["Dimer"]}, figures=False, output=tmp_path / "few")
    found = defectbench.compare(entry, tmp_path / "few")
    assert (found.configurations, found.passed) == (1, True)
    assert any("1 of 2 configurations of the baseline" in note for note in found.notes)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--metric", "relax.rmsdd"], "unknown-metric"),
        (["--task", "relaks"], "unknown-task"),
        (["--output", "gate.pdf"], "bad-output"),
        (["--confidence", "1"], "bad-input"),
    ],
)
def test_mistakes_have_codes(entry, arguments, code):
    found = run("compare", entry, entry, *arguments)
    assert isinstance(found.exception, DefectbenchError)
    assert (found.exception.code, found.exception.exit_code) == (code, 2)


def test_a_signature_is_shown_if_it_holds_and_is_a_difference_if_not(entry, monkeypatch):
    from defectbench.entries import signing

    assert defectbench.verify(entry, figures=False).signed_by is None
    monkeypatch.setattr(signing, "_sign", lambda content: json.dumps({"signed": len(content)}))

    def check(content, bundle):
        if json.loads(bundle)["signed"] != len(content):
            raise signing.BadSignature("does not hold")
        return signing.Signature("ada@example.org", "https://example.org")

    monkeypatch.setattr(signing, "_check", check)
    assert run("leaderboard", "sign", entry).exit_code == 0
    assert defectbench.verify(entry, figures=False).signed_by == "ada@example.org (https://example.org)"
    assert BUNDLE_FILE in check_submission(entry).files
    (entry / "entry.json").write_text((entry / "entry.json").read_text() + " ")
    assert any(BUNDLE_FILE in problem for problem in defectbench.verify(entry, figures=False).problems)


def test_a_signature_that_cannot_be_checked_is_said(entry):
    (entry / BUNDLE_FILE).write_text("{}")
    found = defectbench.verify(entry, figures=False)
    # without the package it is not checked; with it, this is no signature
    assert any(BUNDLE_FILE in line for line in (*found.unchecked, *found.problems))
