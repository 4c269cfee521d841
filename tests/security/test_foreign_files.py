"""Files of others: nothing outside their folder is read or written, nothing small becomes large, and their texts are text."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ase import Atoms
from refusals import check_refusal, raises_code
from typer.testing import CliRunner

from defectbench.base.downloads import RemoteFile
from defectbench.base.errors import DefectbenchError
from defectbench.base.files import write_bytes
from defectbench.base.text import markdown, one_line
from defectbench.cli import app
from defectbench.cli.render import make_console
from defectbench.datasets.catalogue import load_dataset, load_named_dataset
from defectbench.datasets.importing import outputs
from defectbench.datasets.importing.assemble import read_host_file
from defectbench.datasets.readers import mgo_antisite_doped
from defectbench.datasets.schema import Defect, parse_metadata
from defectbench.entries.figures import draw_entry
from defectbench.entries.folder import read_calculations, read_entry, read_figure, write_rescored, write_tables
from defectbench.entries.rescoring import stored_scoring
from defectbench.entries.run_folder import sweep
from defectbench.leaderboard.entry_view import EntryView
from defectbench.leaderboard.exports import FORMAT
from defectbench.leaderboard.html import build_site
from defectbench.leaderboard.report import write_report
from defectbench.leaderboard.tables import leaderboard

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "leaderboards" / "sb2se3-vacancies" / "chgnet-0.3.0"
REMOTE = ROOT / "datasets" / "sb2se3-savory-2019" / "dataset.yaml"

runner = CliRunner()

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def entry(tmp_path: Path) -> Callable[..., Path]:
    """A published entry's ``entry.json`` in a folder of its own, changed."""

    def make(change: Change = lambda _content: None, folder: str = "entry") -> Path:
        content = json.loads((PUBLISHED / "entry.json").read_text())
        change(content)
        place = tmp_path / folder
        place.mkdir()
        (place / "entry.json").write_text(json.dumps(content))
        return place

    return make


def refused(*arguments: str) -> str:
    """The code with which a command refuses its input, in one short line."""
    error = runner.invoke(app, list(arguments)).exception
    assert isinstance(error, DefectbenchError), error
    assert error.exit_code == 2
    check_refusal(error, error.code)
    assert len(str(error)) < 1000
    return error.code


# ---- paths


@pytest.mark.parametrize(
    "change",
    [
        {"mirror_folder": "../.."},
        {"mirror_folder": "/etc"},
        {"mirror_folder": "a/../../b"},
        {"mirror_folder": ""},
        {"base_url": "file:///etc"},
        {"base_url": "http://example.org/a"},
        {"base_url": "ftp://example.org/a"},
        {"base_url": "https://"},
        {"base_url": "https://example.org/a b"},
        {"files": {"../../x": "0" * 64}},
        {"files": {"/etc/passwd": "0" * 64}},
        {"files": {"a\nb": "0" * 64}},
    ],
)
def test_a_remote_dataset_names_no_place_outside_its_cache(tmp_path: Path, change: dict[str, Any]) -> None:
    content = yaml.safe_load(REMOTE.read_text())
    content["remote"].update(change)
    (tmp_path / "dataset.yaml").write_text(yaml.safe_dump(content))
    with raises_code("bad-metadata", "remote"):
        parse_metadata(tmp_path / "dataset.yaml")


def test_a_link_in_the_cache_is_not_followed_out_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFECTBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache" / "datasets").mkdir(parents=True)
    (tmp_path / "cache" / "datasets" / "away").symlink_to(tmp_path)
    with raises_code("link-outside", "away"):
        _ = RemoteFile("https://example.org/a", "0" * 64, "away/a", "dataset").cached


def test_a_dataset_file_that_is_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "datasets" / "sb2se3-vacancies", tmp_path / "data")
    host = tmp_path / "data" / "host.extxyz"
    host.rename(tmp_path / "elsewhere.extxyz")
    host.symlink_to(tmp_path / "elsewhere.extxyz")
    with raises_code("bad-file-list", "host.extxyz"):
        load_dataset(tmp_path / "data")


@pytest.mark.parametrize("name", ["../data", "/tmp", ".", "data", "a" * 5000, "a\nb", "~root"])
def test_the_dataset_of_an_entry_is_a_name_and_never_a_path(entry: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    folder = entry(lambda content: content["dataset"].update(id=name))
    shutil.copytree(ROOT / "datasets" / "sb2se3-vacancies", folder.parent / "data")
    monkeypatch.chdir(folder.parent)
    with raises_code("no-dataset" if name == "data" else "bad-entry") as caught:
        stored_scoring(folder)
    assert len(str(caught.value)) < 1000
    with raises_code("unknown-dataset"):
        load_named_dataset(name)


@pytest.mark.parametrize("given", ["a" * 5000, "b/" * 3000])
def test_names_that_no_file_can_have_are_one_line(given: str) -> None:
    for command in (["rescore"], ["score", "explain"], ["datasets", "show"], ["leaderboard", "table"]):
        assert refused(*command, given) == "bad-path"
    assert refused("models", "show", given + ".yaml") == "bad-path"


def test_links_in_a_received_entry_are_not_written_through(entry: Callable[..., Path], tmp_path: Path) -> None:
    folder = entry()
    victim, outside = tmp_path / "victim", tmp_path / "outside"
    victim.write_text("mine")
    outside.mkdir()
    content = read_entry(folder)
    (folder / "tables").mkdir()
    for name in (".relax.json.part", "relax.json", "relax_states.csv"):
        (folder / "tables" / name).symlink_to(victim)
    with raises_code("link-outside", "tables"):
        write_tables(folder, content)
    shutil.rmtree(folder / "tables")
    (folder / "tables").symlink_to(outside)
    with raises_code("link-outside", "tables"):
        write_tables(folder, content)
    assert victim.read_text() == "mine"
    assert not list(outside.iterdir())


def test_links_in_a_received_run_folder_are_not_drawn_or_swept_through(entry: Callable[..., Path], tmp_path: Path) -> None:
    folder, outside = entry(), tmp_path / "outside"
    outside.mkdir()
    for name in ("figures", "tables"):
        (folder / name).symlink_to(outside)
    for name in ("relax.png", "relax_old.png", "relax.json", "relax_old.csv"):
        (outside / name).write_text("mine")
    with raises_code("link-outside", "figures"):
        draw_entry(folder)
    sweep(folder, ["relax"], [])
    assert {path.name: path.read_text() for path in outside.iterdir()} == dict.fromkeys(
        ("relax.png", "relax_old.png", "relax.json", "relax_old.csv"), "mine"
    )


@pytest.mark.parametrize("name", ["figures/relax.png", "figures/relax.svg", "structures.extxyz"])
def test_links_in_a_received_entry_are_not_read_into_a_page(entry: Callable[..., Path], tmp_path: Path, name: str) -> None:
    folder, secret = entry(), tmp_path / "secret"
    secret.write_bytes(b"\x89PNG\r\n\x1a\nmine")
    (folder / "figures").mkdir()
    (folder / name).symlink_to(secret)
    view = EntryView(read_entry(folder), folder)
    for publish in (lambda: write_report(view), lambda: build_site(folder, tmp_path / "site")):
        with raises_code("link-outside", Path(name).name):
            publish()
    assert not (folder / "index.html").exists()


def test_a_figure_of_a_received_entry_is_one_and_not_too_large(entry: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = entry()
    (folder / "figures").mkdir()
    (folder / "figures" / "relax.png").write_bytes(b"no picture")
    assert read_figure(folder, "relax.png") is None
    (folder / "figures" / "relax.svg").write_bytes(b"<svg" + b" " * 100)
    monkeypatch.setattr("defectbench.entries.folder.MAX_FIGURE", 100)
    with raises_code("bad-entry", "relax.svg"):
        write_report(EntryView(read_entry(folder), folder))


def test_links_in_a_received_site_are_not_written_or_cleaned_through(entry: Callable[..., Path], tmp_path: Path) -> None:
    site, outside = tmp_path / "site", tmp_path / "outside"
    for made in (site, outside):
        made.mkdir()
    (site / "leaderboard.json").write_text(json.dumps({"format": FORMAT}))
    (site / "static").symlink_to(outside)
    (outside / "mine.txt").write_text("mine")
    with raises_code("link-outside", "static"):
        build_site(entry(), site)
    assert [path.name for path in outside.iterdir()] == ["mine.txt"]


def test_links_under_the_names_of_unfinished_files_are_not_written_through(entry: Callable[..., Path], tmp_path: Path) -> None:
    folder, victim = entry(), tmp_path / "victim"
    victim.write_text("mine")
    for name in ("entry.json", "calculations.json.gz", "structures.extxyz"):
        (folder / f".{name}.part").symlink_to(victim)
    shutil.copy(PUBLISHED / "calculations.json.gz", folder)
    write_rescored(folder, read_entry(folder))
    write_bytes(folder / "calculations.json.gz", b"new")
    write_bytes(folder / "structures.extxyz", b"new")
    assert victim.read_text() == "mine"
    assert (folder / ".entry.json.part").is_symlink()


# ---- sizes


def test_an_archive_that_unpacks_to_gigabytes_is_refused(entry: Callable[..., Path]) -> None:
    folder = entry()
    content = read_entry(folder)
    with gzip.open(folder / "calculations.json.gz", "wb", compresslevel=1) as handle:
        for _ in range(210):
            handle.write(b" " * 1_000_000)
    with raises_code("bad-entry", "calculations.json.gz"):
        read_calculations(folder, content)


def test_outputs_and_hosts_that_unpack_to_more_than_any_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, limit in (
        ("readers.mgo_antisite_doped", "MAX_OUTCAR"),
        ("importing.outputs", "MAX_BYTES"),
        ("importing.assemble", "MAX_BYTES"),
    ):
        monkeypatch.setattr(f"defectbench.datasets.{module}.{limit}", 1000)
    packed = gzip.compress(b" " * 1001)
    for name in ("OUTCAR.gz", "host.cif.gz"):
        (tmp_path / name).write_bytes(packed)
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "OUTCAR").write_bytes(b" " * 1001)
    (tmp_path / "host.cif.xz").write_bytes(b"")
    with raises_code("unreadable-file", "1,000"):
        mgo_antisite_doped._final(tmp_path / "OUTCAR.gz", Atoms(), Defect.model_construct(), 0)
    for path in (tmp_path / "OUTCAR.gz", tmp_path / "plain" / "OUTCAR"):
        with raises_code("bad-format", "1,000"):
            outputs._read(path, "vasp-out")
    for name, why in (("host.cif.gz", "1,000"), ("host.cif.xz", "unpack")):
        with raises_code("bad-format", why):
            read_host_file(tmp_path / name)


@pytest.mark.parametrize("text", ["1" * 1_000_000, "[" * 100_000, '{"a": ' * 100_000, "nonsense"])
def test_json_of_any_kind_is_one_line(entry: Callable[..., Path], text: str) -> None:
    folder = entry()
    content = read_entry(folder)
    (folder / "entry.json").write_text(text)
    assert refused("score", "explain", str(folder)) == "bad-entry"
    with gzip.open(folder / "calculations.json.gz", "wt") as handle:
        handle.write(text)
    with raises_code("bad-entry", "calculations.json.gz") as caught:
        read_calculations(folder, content)
    assert len(str(caught.value)) < 1000


def test_an_entry_larger_than_any_is_refused(entry: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("defectbench.entries.folder.MAX_ENTRY", 1000)
    with raises_code("bad-entry", "1,000"):
        read_entry(entry())


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda c: c["tasks"]["relax"]["metrics"][0].update(value=1e308), "1e+308"),
        (lambda c: c["tasks"]["relax"]["metrics"][0].update(interval=[0.0, 1e200]), "interval"),
        (lambda c: c["tasks"]["relax"]["tables"]["states"][0].update(rmsd=-1e300), "tables.states"),
        (lambda c: c["certificate"].update(noise_force=1e300), "certificate.noise_force"),
        (lambda c: c["model"]["arguments"].update(x=10**40), "model.arguments.x"),
        (lambda c: c["model"].update(id="a" * 5000), "model.id"),
        (lambda c: c["model"].update(name="a" * 5000), "model.name"),
        (lambda c: c["selection"]["states"][0].update(defect="../x"), "defect"),
        (lambda c: c["selection"]["states"][0].update(charge=10**30), "charge"),
        (lambda c: c["configurations"][0].update(configuration="a/../../b"), "configuration"),
        (lambda c: c["tasks"]["relax"]["notes"].append("x" * 30_000), "notes"),
    ],
)
def test_extreme_values_are_refused_with_entry_and_field(entry: Callable[..., Path], tmp_path: Path, change: Change, field: str) -> None:
    folder = entry(change)
    with raises_code("bad-entry", folder, field) as caught:
        read_entry(folder)
    assert len(str(caught.value)) < 1000
    assert refused("leaderboard", "figure", str(folder), "-o", str(tmp_path / "out")) == "bad-entry"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("m.yaml", "entry.json", "dataset.yaml"):
        os.mkfifo(name)
    assert refused("models", "show", "m.yaml") == "unreadable-file"
    assert refused("score", "explain", ".") == "bad-entry"
    assert runner.invoke(app, ["datasets", "validate", "."]).exit_code == 2


# ---- texts

EVIL = [
    "[x](javascript:alert(1))",
    "![x](https://example.org/pixel.png)",
    "<script>alert(1)</script><b>",
    "*x* _y_ `z` ~~a~~ $b$",
    "x\n| official | charge-aware | **1.00** |\n# Leaderboard",
    "a | b | c",
    "\x1b[2J\x1b]0;title\x07\x9b31m\r",
    "\u202eevil\u2066",
    "&lt;img src=x&gt; &#60;",
]


@pytest.mark.parametrize("text", EVIL)
def test_what_an_entry_says_is_text_in_the_leaderboard(entry: Callable[..., Path], text: str) -> None:
    def everywhere(content: dict[str, Any]) -> None:
        content["model"]["name"] = content["dataset"]["title"] = text
        content["selection"]["skipped"] = [{"defect": "V_Sb1", "charge": 0, "reason": text}]
        for machine in content["provenance"]["machines"]:
            machine["hardware"]["processor"] = text
        for task in content["tasks"].values():
            task["baselines"] = {f"{text}": values for values in task["baselines"].values()}
            for metric in task["metrics"]:
                metric.update(value=None, interval=None, reason=text)

    folder = entry(everywhere)
    honest = entry(folder="honest")
    page = leaderboard(folder, folder.parent)
    assert not any(bad in page for bad in ("[x](javascript", "![x]", "<script", "<b>", "\x1b", "\x9b", "\x07", "\r", "\u202e", "\u2066"))
    assert "*x*" not in page.replace("\\*x\\*", "")
    assert not any(line.startswith(("| official", "# Leaderboard")) for line in page.splitlines()[1:])
    assert leaderboard(honest)


@pytest.mark.parametrize("text", EVIL)
def test_what_an_entry_says_is_text_on_the_terminal(entry: Callable[..., Path], text: str) -> None:
    def everywhere(content: dict[str, Any]) -> None:
        content["model"]["name"] = f"{text}[bold red]"
        for metric in content["tasks"]["relax"]["metrics"]:
            metric.update(value=None, interval=None, reason=f"{text}[/]")

    result = runner.invoke(app, ["score", "explain", str(entry(everywhere))], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.exception
    assert not any(bad in result.output for bad in ("\x1b", "\x9b", "\x07", "\r", "\u202e", "\u2066"))
    assert not any(line.startswith(("| official", "# Leaderboard")) for line in result.output.splitlines())


def test_no_printed_text_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    console = make_console(force_terminal=False, width=80)
    table = Table("\x1b[1mhead", title="\x1b]0;x\x07")
    table.add_row("\x9b31m")
    console.print(table)
    console.rule("\x1b[2J")
    console.print("\x1b[31m", markup=False)
    assert not any(bad in capsys.readouterr().out for bad in ("\x1b", "\x9b", "\x07"))


@pytest.mark.parametrize("name", ["V_Sb1", "CHGNet 0.3.0 (MPtrj)", "eV/Å, 1.5 ± 0.2", "SevenNet-l3i5"])
def test_ordinary_names_stay_as_they_are(name: str) -> None:
    assert markdown(name) == name
    assert one_line(name) == name


# ---- the known cases


@pytest.mark.parametrize(
    ("folder", "command", "code"),
    [
        ("traceback/targeted_model_arg_hex_huge", ["models", "show", "m.yaml"], "bad-yaml"),
        ("traceback/targeted_rescore_dataset_id_long", ["rescore", "."], "bad-entry"),
        ("traceback/targeted_figure_value_1e308", ["leaderboard", "figure", ".", "-o", "out"], "bad-entry"),
        ("security", ["models", "show", "yaml_alias_bomb_model.yaml"], "bad-yaml"),
        ("security", ["models", "show", "keys20000.yaml"], "bad-yaml"),
    ],
)
def test_known_cases_are_one_line(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, command: list[str], code: str
) -> None:
    shutil.copytree(shared / "cases" / folder, tmp_path / "case")
    (tmp_path / "case").chmod(0o755)
    monkeypatch.chdir(tmp_path / "case")
    assert refused(*command) == code
