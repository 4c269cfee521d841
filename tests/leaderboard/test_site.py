"""The site: its values, and pages that need nothing but their folder."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import urllib.error
import urllib.request
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

import pandas as pd
import pytest
from refusals import raises_code
from small_tasks import COST, PES, RELAX
from table_rows import make_row

from defectbench.base.errors import DefectbenchError
from defectbench.base.files import write_text
from defectbench.entries.schema import TaskRecord
from defectbench.leaderboard.exports import board_rows, to_parquet
from defectbench.leaderboard.groups import find_entries, group_entries
from defectbench.leaderboard.html import _report, build_site
from defectbench.leaderboard.serving import server
from defectbench.leaderboard.view import site_view
from defectbench.tasks.relax.rows import StateRow

EVIL = "<img src=x onerror=alert(1)></script>"


@pytest.fixture
def entries(write_entry, make_entry, small_tasks, tmp_path):
    """Two boards; one model has a hostile name and charge states, one is worse than its baseline."""
    write_entry("in/good", model="good", rmsd=(0.02, (0.01, 0.03)), success=(0.9, (0.8, 1.0)))
    write_entry("in/poor", model="poor", rmsd=(0.19, (0.15, 0.3)), success=(0.0, None))
    write_entry("in/quick", model="good", suite="quick")
    made = make_entry(model="evil")
    found = {"configuration": "Dimer", "dft_configuration": "Unperturbed", "minimum": "Rattled", "energy_above_ground_state": 0.25}
    state = make_row(StateRow, defect="V_X", charge=-1, rmsd=0.3, dft_minima=2, verdict="wrong minimum", unrelaxed_success=False, **found)
    relax = TaskRecord(
        metrics=made.tasks["relax"].metrics, tables={"states": [state]}, baselines=made.tasks["relax"].baselines, notes=[EVIL]
    )
    evil = made.model_copy(update={"model": made.model.model_copy(update={"name": EVIL}), "tasks": {**made.tasks, "relax": relax}})
    (tmp_path / "in" / "evil").mkdir()
    (tmp_path / "in" / "evil" / "entry.json").write_text(evil.model_dump_json(), encoding="utf-8")
    (tmp_path / "in" / "evil" / "figures").mkdir()
    (tmp_path / "in" / "evil" / "figures" / "relax.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "in" / "evil" / "figures" / "cost.png").write_bytes(b"<svg><script>alert(1)</script></svg>")
    return tmp_path / "in"


@pytest.fixture
def site(entries, tmp_path, monkeypatch):
    monkeypatch.setattr("defectbench.tasks.get_tasks", _named)
    monkeypatch.setattr("defectbench.leaderboard.html.draw_pareto", _drawn)
    build_site(entries, tmp_path / "site")
    return tmp_path / "site"


def _named(names=None):
    return tuple(task for task in (RELAX, PES, COST) if names is None or task.name in names)


def _drawn(group, folder, name):
    """Stands for the drawing, which takes seconds."""
    path = folder / f"{name}.svg"
    write_text(path, "<svg/>")
    return [path]


class Page(HTMLParser):
    """Links, identifiers and tags of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.handlers: list[str] = []
        self.images_without_text = 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("href", "src"):
                self.links.append(value)
            elif name == "id":
                self.ids.add(value)
            elif name.startswith("on"):
                self.handlers.append(name)
        if tag == "img" and not dict(attrs).get("alt"):
            self.images_without_text += 1


def test_baselines_stand_among_the_models_without_a_rank(entries):
    boards = site_view(group_entries(find_entries(entries)), entries).boards
    assert [board.suite for board in boards] == ["full", "quick"]
    rows = boards[0].rows
    assert [(row.kind, row.rank) for row in rows if row.kind == "model"] == [("model", 1), ("model", 2), ("model", 3)]
    overall = [row.overall.score for row in rows if row.overall.score is not None]
    assert overall == sorted(overall, reverse=True)
    best = next(row for row in rows if row.kind == "best baselines")
    assert best.rank is None
    assert rows.index(best) < rows.index(next(row for row in rows if row.model == "poor"))


def test_the_declared_weights_give_the_overall_score_as_the_sliders_compute_it(entries):
    view = site_view(group_entries(find_entries(entries)), entries)
    weights = {task.task: task.weight for task in view.tasks}
    for row in view.boards[0].rows:
        if row.kind == "model":
            scored = [(weights[task], cell.score) for task, cell in row.tasks.items() if cell.score is not None]
            assert row.overall.score == pytest.approx(sum(w * s for w, s in scored) / sum(w for w, _ in scored))


def test_a_charge_state_says_which_minimum_and_how_far_above_the_ground_state(entries):
    view = site_view(group_entries(find_entries(entries)), entries)
    (state,) = next(page for page in view.models if page.model == "evil").states
    assert (state.minimum, state.energy_above, state.ground_state) == ("Rattled", 0.25, "Unperturbed")


def test_a_model_without_an_entry_is_listed_and_not_ranked(entries):
    view = site_view(group_entries(find_entries(entries)), entries)
    assert "chgnet-0.3.0" in {found.model for found in view.not_run}
    assert "chgnet-0.3.0" not in {row.model for board in view.boards for row in board.rows}


def test_every_link_resolves_inside_the_folder_and_nothing_is_requested_from_outside(site):
    pages = {path: Page(path) for path in site.rglob("*.html")}
    assert len(pages) > 6
    for path, page in pages.items():
        assert page.images_without_text == 0
        for link in page.links:
            assert not link.startswith(("http:", "https:", "//", "data:", "javascript:")), link
            name, _, anchor = link.partition("#")
            target = (path.parent / unquote(name)).resolve() if name else path
            assert target.is_file(), (path.name, link)
            assert target.is_relative_to(site.resolve()), (path.name, link)
            if anchor and target.suffix == ".html":
                assert anchor in Page(target).ids, (path.name, link)
    for path in site.glob("static/*"):
        if path.is_file():
            assert "http" not in path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")


def test_an_unchanged_part_is_not_made_again(site, entries, monkeypatch):
    made = []
    monkeypatch.setattr("defectbench.leaderboard.html._report", lambda page, one: made.append(page.model) or _report(page, one))
    write_text(
        entries / "poor" / "entry.json", (entries / "poor" / "entry.json").read_text(encoding="utf-8").replace("2026-01-01", "2026-02-01")
    )
    before = {path: path.read_bytes() for path in site.rglob("*") if path.is_file()}
    written = build_site(entries, site)
    assert made == ["poor"]
    assert set(written) == set(before)
    assert {path.name for path in before if path.read_bytes() != before[path] and path.suffix == ".html"} >= {"index.html"}


def test_a_later_entry_of_a_model_supersedes_the_earlier_one(entries, make_entry):
    new = make_entry(model="good", success=(0.1, None))
    new = new.model_copy(
        update={
            "model": new.model.model_copy(update={"identity": "good-2", "weights_sha256": {"w": "1"}}),
            "provenance": new.provenance.model_copy(update={"created": "2026-03-01T00:00:00+00:00", "packages": {"torch": "2.13"}}),
        }
    )
    write_text(entries / "good-2" / "entry.json", new.model_dump_json())
    view = site_view(group_entries(find_entries(entries)), entries)
    old, current = sorted((row for row in view.boards[0].rows if row.model == "good"), key=lambda row: row.date)
    assert (old.superseded_by, old.rank) == (current.page, None)
    # the address of a page does not depend on the order of scores
    assert old.page.removesuffix(f"--{old.date}.html") == current.page.removesuffix(".html")
    assert sorted(row.rank for row in view.boards[0].rows if row.rank) == [1, 2, 3]
    history = next(page for page in view.models if page.page == current.page).versions
    assert [version.page for version in history] == [old.page, current.page]
    assert history[1].changes == ("weights w: none → 1", "torch: none → 2.13")
    assert [(m.metric, m.before, m.after, m.better) for m in history[1].moved] == [
        ("RMSD", 0.02, 0.1, False),
        ("strict success", 0.9, 0.1, False),
    ]


def test_a_version_that_was_replaced_folds_under_the_current_one(entries, make_entry):
    """Kept records: one that compares, and one of other content of the dataset, which stands in the history only."""
    old = make_entry(model="good", rmsd=(0.18, None), success=(0.9, (0.8, 1.0)))
    for day, changed in (("2025-03-01", {}), ("2025-02-01", {"dataset": old.dataset.model_copy(update={"sha256": "b" * 64})})):
        provenance = old.provenance.model_copy(update={"created": f"{day}T00:00:00+00:00"})
        path = entries / "good" / "versions" / f"{day}-{'0' * 12}.json"
        write_text(path, old.model_copy(update={"provenance": provenance, **changed}).model_dump_json())
    view = site_view(group_entries(find_entries(entries)), entries)
    page = next(page for page in view.models if page.model == "good" and "quick" not in page.page)
    (kept,) = [row for row in view.boards[0].rows if row.superseded_by]
    assert (kept.superseded_by, kept.page, kept.rank, kept.date) == (page.page, None, None, "2025-03-01")
    assert [version.date for version in page.versions] == ["2025-02-01", "2025-03-01", "2026-01-01"]
    assert page.versions[1].changes == (f"content of the dataset: {'b' * 12} → {'a' * 12}",)
    assert [(m.metric, m.before, m.after, m.better) for m in page.versions[2].moved] == [("RMSD", 0.18, 0.02, True)]
    assert [row.rank for row in view.boards[0].rows if row.model == "good"].count(1) == 1


def test_tables_hold_what_the_json_holds(site):
    data = json.loads((site / "leaderboard.json").read_text(encoding="utf-8"))
    table = pd.read_csv(site / "leaderboard.csv")
    rows = [row for board in data["boards"] for row in board["rows"]]
    assert list(table["overall"].fillna(-1)) == [
        pytest.approx(-1 if row["overall"]["score"] is None else row["overall"]["score"]) for row in rows
    ]
    states = pd.read_csv(site / "states.csv")
    assert list(states["minimum"]) == ["Rattled"]


def test_parquet_holds_what_csv_holds(entries, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    rows = board_rows(site_view(group_entries(find_entries(entries)), entries))
    (tmp_path / "rows.parquet").write_bytes(to_parquet(rows))
    found = pd.read_parquet(tmp_path / "rows.parquet")
    assert list(found["name"]) == [row["name"] for row in rows]
    assert list(found["overall"].fillna(-1.0)) == [-1.0 if row["overall"] is None else row["overall"] for row in rows]


def test_parquet_without_pyarrow_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with raises_code("no-parquet", "defectbench[parquet]"):
        to_parquet([{"a": 1}])


def test_what_an_entry_says_stays_text(site):
    for path in site.rglob("*.html"):
        assert EVIL not in path.read_text(encoding="utf-8")
        assert Page(path).handlers == []
    data = re.search(r'id="data">(.*?)</script>', (site / "index.html").read_text(encoding="utf-8"), re.DOTALL)
    names = {row["name"] for row in json.loads(data[1])["boards"][0]["rows"]}
    assert EVIL in names


def test_only_pictures_are_copied(site):
    copied = {path.name for path in (site / "figures").rglob("*.png") if "evil" in path.parent.name}
    assert copied == {"relax.png"}


def test_a_rebuilt_site_forgets_entries_that_are_gone(site, entries):
    shutil.rmtree(entries / "evil")
    build_site(entries, site)
    assert not list(site.rglob("*evil*.html"))
    assert json.loads((site / "leaderboard.json").read_text(encoding="utf-8"))["format"] == "defectbench-leaderboard-1"


def test_a_folder_with_something_else_is_left_alone(entries, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("", encoding="utf-8")
    with pytest.raises(DefectbenchError) as raised:
        build_site(entries, tmp_path / "mine")
    assert raised.value.code == "bad-output"


STATIC = files("defectbench.leaderboard") / "static"


@pytest.mark.parametrize(
    "folder", [STATIC / "3dmol", STATIC / "plotly", STATIC / "tabulator", Path(__file__).parent / "axe"], ids=lambda folder: folder.name
)
def test_vendored_files_are_those_of_the_manifest(folder):
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    found = {item.name: hashlib.sha256(item.read_bytes()).hexdigest() for item in folder.iterdir() if item.name != "manifest.json"}
    assert found == manifest["sha256"]


def test_the_site_is_served(site):
    with server(site, 0) as running:
        Thread(target=running.serve_forever, daemon=True).start()
        with urllib.request.urlopen(f"http://127.0.0.1:{running.server_port}/") as answer:
            assert answer.status == 200
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"http://127.0.0.1:{running.server_port}/../in/good/entry.json")
        running.shutdown()


def test_a_folder_without_a_site_is_not_served(tmp_path):
    with pytest.raises(DefectbenchError) as raised:
        server(tmp_path)
    assert raised.value.code == "no-site"
