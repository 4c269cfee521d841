"""The built site in headless Chromium: needs the extra 'browser' and a Chromium of the system."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from defectbench.leaderboard.html import build_site

pytestmark = pytest.mark.slow

PUBLISHED = Path(__file__).parents[2] / "leaderboards" / "sb2se3-vacancies"
AXE = Path(__file__).parent / "axe" / "axe.min.js"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    for name in ("qet-matq", "sevennet-l3i5", "chgnet-0.3.0"):
        shutil.copytree(PUBLISHED / name, folder / "in" / name)
    older = json.loads((PUBLISHED / "chgnet-0.3.0" / "entry.json").read_text(encoding="utf-8"))
    older["provenance"]["created"] = "2025-01-01T00:00:00+00:00"
    older["model"]["identity"] = "0" * 64
    (folder / "in" / "older").mkdir()
    (folder / "in" / "older" / "entry.json").write_text(json.dumps(older), encoding="utf-8")
    # a dataset without energy surfaces: that task has no value
    (folder / "in" / "cdte").mkdir()
    shutil.copy(PUBLISHED.parent / "cdte-doped" / "chgnet-0.3.0" / "entry.json", folder / "in" / "cdte")
    build_site(folder / "in", folder / "site")
    return folder / "site"


class Visit:
    """A page, what it complained of, and what it asked for outside the site."""

    def __init__(self, browser, site, **context):
        self.context = browser.new_context(accept_downloads=True, **context)
        self.page = self.context.new_page()
        self.site = site
        self.complaints: list[str] = []
        self.outside: list[str] = []
        inside = (site.as_uri(), "data:", "blob:")
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda e: self.complaints.append(str(e)))
        self.page.on("request", lambda r: self.outside.append(r.url) if not r.url.startswith(inside) else None)

    def open(self, name):
        self.page.goto((self.site / name).as_uri() if "#" not in name else f"{self.site.as_uri()}/{name}")
        return self.page


@pytest.fixture
def visit(chromium, site):
    visits = []

    def start(**context):
        visits.append(Visit(chromium, site, **context))
        return visits[-1]

    yield start
    for one in visits:
        one.context.close()
        assert one.complaints == []
        assert one.outside == []


def look_at_structures(page):
    page.evaluate("document.getElementById('structures').scrollIntoView()")
    page.wait_for_selector(".viewer[data-shown]", timeout=120_000)


def names(page):
    page.wait_for_selector(".tabulator-row")
    return [text.strip() for text in page.locator(".tabulator-row .tabulator-cell[tabulator-field=name] a").all_inner_texts()]


def ranks(page):
    cells = page.locator(".tabulator-row .tabulator-cell[tabulator-field=rank]").all_inner_texts()
    return [text for text in cells if text != "–"]


def test_the_table_sorts(visit):
    page = visit().open("index.html")
    first = names(page)
    page.locator(".tabulator-col[tabulator-field=name] .tabulator-col-title").click()
    page.wait_for_function("location.hash.includes('sort=name')")
    assert names(page) == sorted(first, key=str.lower)


def test_a_heading_sorts_by_key(visit):
    page = visit().open("index.html")
    names(page)
    page.locator(".tabulator-col[tabulator-field=parameters]").focus()
    page.keyboard.press("Enter")
    page.wait_for_function("location.hash.includes('sort=parameters%3Aasc')")


def test_the_table_filters(visit):
    page = visit().open("index.html")
    assert len(names(page)) == 3
    page.select_option("#package", "chgnet")
    page.wait_for_function("document.getElementById('count').textContent.startsWith('1 of 3')")
    assert names(page) == ["CHGNet 0.3.0"]


def test_other_weights_give_other_scores_and_stay_in_the_address(visit):
    page = visit().open("index.html")
    names(page)
    before = page.locator(".tabulator-cell[tabulator-field=overall]").all_inner_texts()
    page.get_by_text("Weights of the tasks").click()
    page.get_by_role("button", name="search", exact=True).click()
    page.wait_for_function("location.hash.includes('w.relax=0')")
    after = page.locator(".tabulator-cell[tabulator-field=overall]").all_inner_texts()
    assert after != before
    assert ranks(page) == ["1", "2", "3"]
    again = visit()
    other = again.open("index.html#" + page.url.partition("#")[2])
    names(other)
    assert other.locator(".tabulator-cell[tabulator-field=overall]").all_inner_texts() == after


def test_sliders_show_the_declared_weights(visit):
    page = visit().open("index.html")
    names(page)
    shown = page.evaluate(
        "[...document.querySelectorAll('#weights label')].map(l => [l.querySelector('output').value, l.querySelector('input').value])"
    )
    assert shown
    assert all(float(said) == float(set_to) for said, set_to in shown)


def test_an_older_version_is_folded_under_the_newer_one(visit):
    page = visit().open("index.html")
    assert names(page).count("CHGNet 0.3.0") == 1
    assert page.locator("#count").inner_text().startswith("3 of 3 models")
    page.locator(".tabulator .fold").first.focus()
    page.keyboard.press("Enter")
    page.get_by_text("CHGNet 0.3.0, 2025-01-01").wait_for()
    assert page.locator("#count").inner_text().startswith("3 of 3 models")


def test_why_a_value_is_missing_is_said_by_key(visit):
    page = visit().open("index.html#board=cdte-doped-hse06-soc-full")
    names(page)
    missing = page.locator("#table .na").first
    reason = missing.get_attribute("aria-label").removeprefix("n/a: ")
    missing.focus()
    page.keyboard.press("Enter")
    page.locator(".tabulator-popup", has_text=reason).wait_for()


def state_cells(page, field):
    page.wait_for_selector(f".tabulator-cell[tabulator-field={field}]")
    return [text for text in page.locator(f".tabulator-cell[tabulator-field={field}]").all_inner_texts() if text != "–"]


def test_a_charge_state_adds_its_columns(visit):
    page = visit().open("index.html#defect=V_Sb1&charge=-3")
    assert "0.079" in state_cells(page, "state_rmsd")
    assert page.locator("#chosen").is_visible()


def test_a_defect_is_ranked_by_its_own_score(visit):
    page = visit().open("index.html")
    names(page)
    page.select_option("#defect", "V_Sb1")
    scores = state_cells(page, "state_score")
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert all(text.endswith(" of 5") for text in state_cells(page, "state_minimum"))
    assert "defect=V_Sb1" in page.url
    page.select_option("#defect", "")
    page.wait_for_selector(".tabulator-cell[tabulator-field=state_score]", state="detached")


@pytest.mark.parametrize(("button", "start"), [("csv", b"\xef\xbb\xbf"), ("svg", b"<svg"), ("png", b"\x89PNG")])
def test_the_view_is_saved(visit, button, start):
    page = visit().open("index.html")
    names(page)
    with page.expect_download() as download:
        page.click(f"#{button}")
    content = Path(download.value.path()).read_bytes()
    assert content.startswith(start) or (button == "csv" and b"SevenNet-l3i5" in content)


def test_structures_are_shown_and_the_slider_moves_them(visit):
    page = visit().open("models/sevennet-l3i5--sb2se3-vacancies-pbe-full.html")
    look_at_structures(page)
    assert "RMSD 0.079" in page.locator(".viewer [role=status]").inner_text()
    relaxed = page.locator(".viewer").get_attribute("data-farthest")
    assert float(relaxed) == pytest.approx(0.178, abs=2e-3)
    page.get_by_label("Relaxation").focus()
    page.keyboard.press("Home")
    assert page.locator(".viewer output").inner_text() == "start"
    assert page.locator(".viewer").get_attribute("data-farthest") != relaxed
    page.get_by_label("Charge state").select_option("V_Se2_q+2")
    page.wait_for_function("document.querySelector('.viewer [role=status]').textContent.includes('V_Se2 +2')", timeout=120_000)


def test_dft_relaxations_are_shown(visit):
    page = visit().open("datasets/sb2se3-vacancies.html")
    look_at_structures(page)
    assert page.get_by_label("Configuration").locator("option").count() == 5


@pytest.mark.parametrize("name", ["models/qet-matq--sb2se3-vacancies-pbe-full.html", "tasks/relax.html", "datasets/sb2se3-vacancies.html"])
def test_all_figures_of_a_page_are_drawn(visit, name):
    page = visit(color_scheme="dark").open(name)
    charts = page.locator(".chart")
    assert charts.count() > 0
    for number in range(charts.count()):
        page.evaluate("n => document.querySelectorAll('.chart')[n].scrollIntoView()", number)
        page.wait_for_function("n => document.querySelectorAll('.chart')[n].dataset.drawn", arg=number, timeout=120_000)


def test_a_phone_shows_everything_without_scrolling_sideways(visit):
    one = visit(viewport={"width": 390, "height": 844})
    for name in ("index.html", "models/qet-matq--sb2se3-vacancies-pbe-full.html", "tasks/relax.html", "datasets/sb2se3-vacancies.html"):
        page = one.open(name)
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, name


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "name", ["index.html", "models/qet-matq--sb2se3-vacancies-pbe-full.html", "tasks/relax.html", "datasets/sb2se3-vacancies.html"]
)
def test_axe_finds_nothing_to_complain_of(visit, name, scheme):
    page = visit(color_scheme=scheme).open(name)
    if name == "index.html":
        names(page)
    page.add_script_tag(content=AXE.read_text(encoding="utf-8"))
    run = "axe.run({preload: false, resultTypes: ['violations']})"
    found = page.evaluate(run + ".then(r => r.violations.map(v => [v.id, v.nodes.map(n => n.html.slice(0, 200))]))")
    assert found == []


def test_the_first_page_is_below_a_megabyte(site):
    page = (site / "index.html").read_text(encoding="utf-8")
    loaded = set(re.findall(r'(?:src|href)="(static/[^"]+)"', page))
    assert sum((site / name).stat().st_size for name in {*loaded, "index.html"}) < 1_000_000


def test_the_report_of_a_run_is_one_file(chromium, site, tmp_path):
    from defectbench.leaderboard.entry_view import load_entry
    from defectbench.leaderboard.report import write_report

    shutil.copytree(PUBLISHED / "qet-matq", tmp_path / "run")
    path = write_report(load_entry(tmp_path / "run"))
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(path, alone)
    one = Visit(chromium, alone)
    page = one.open("index.html")
    look_at_structures(page)
    one.context.close()
    assert (one.complaints, one.outside) == ([], [])
