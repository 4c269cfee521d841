"""How long the site takes: ``pytest tests/benchmarks/test_site_speed.py --benchmark-enable -n 0``."""

from __future__ import annotations

import json
import shutil
from importlib.resources import files
from pathlib import Path

import pytest

from defectbench.base.files import write_bytes, write_text
from defectbench.leaderboard import html
from defectbench.leaderboard.html import build_site

pytestmark = pytest.mark.slow

PUBLISHED = Path(__file__).parents[2] / "leaderboards" / "sb2se3-vacancies" / "sevennet-l3i5"


def copies(folder, models, datasets=("sb2se3-vacancies",), tables=True):
    """Entries of made-up models with the results of a published one; without its tables and figures they are small."""
    published = json.loads((PUBLISHED / "entry.json").read_text(encoding="utf-8"))
    if not tables:
        for task in published["tasks"].values():
            task["tables"] = {}
    for dataset in datasets:
        for number in range(models):
            place = folder / dataset / f"model-{number}"
            place.mkdir(parents=True)
            if tables:
                shutil.copytree(PUBLISHED / "figures", place / "figures")
                shutil.copy(PUBLISHED / "structures.extxyz", place)
            model = published["model"] | {
                "id": f"model-{number}",
                "name": f"Model {number}",
                "identity": f"{number:064x}",
                "embedded": False,
            }
            made = published | {"model": model, "dataset": published["dataset"] | {"id": dataset}}
            (place / "entry.json").write_text(json.dumps(made), encoding="utf-8")


@pytest.fixture(scope="module")
def many(tmp_path_factory, measured):
    """Fifty entries where time is measured; elsewhere three show that the benchmark runs."""
    folder = tmp_path_factory.mktemp("many")
    copies(folder, 50 if measured else 3)
    return folder


def test_building_fifty_entries(benchmark, many, tmp_path):
    def fresh():
        shutil.rmtree(tmp_path / "site", ignore_errors=True)
        return (many, tmp_path / "site"), {}

    written = benchmark.pedantic(build_site, setup=fresh, rounds=1)
    assert sum(path.parent.name == "models" for path in written) == len(list(many.glob("*/*")))


def test_building_again_what_did_not_change(benchmark, many, tmp_path):
    build_site(many, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "models").iterdir()}
    benchmark.pedantic(build_site, (many, tmp_path), rounds=1)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "models").iterdir()} == before


def test_the_first_page_of_two_hundred_models_on_three_datasets(benchmark, tmp_path, measured):
    """From the start of the navigation to the first row. Only the first page is made, not those of 600 models."""
    api = pytest.importorskip("playwright.sync_api", reason="needs the extra 'browser'")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("needs a Chromium of the system")
    models = 200 if measured else 5
    copies(tmp_path / "in", models, ("one", "two", "three"), tables=False)
    view = html.site_view(html.group_entries(html.find_entries(tmp_path / "in")), tmp_path / "in")
    for name, content in html._static(files("defectbench.leaderboard") / "static", "site/static"):
        write_bytes(tmp_path / name, content)
    write_text(tmp_path / "site" / "index.html", html._page("site_index", site=view, data=html._interactive(view), figures=[]))
    assert (tmp_path / "site" / "index.html").stat().st_size < 1_000_000
    with api.sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"]).new_page()

        def shown():
            page.goto((tmp_path / "site" / "index.html").as_uri())
            page.wait_for_selector(".tabulator-row")

        benchmark.pedantic(shown, rounds=3)
        assert page.locator("#count").inner_text().startswith(f"{models} of {models} models")
