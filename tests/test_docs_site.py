"""The documentation as a site: it builds without a warning, needs no network, and every link in it leads somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

import defectbench

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
LEADERBOARD = Path("index.html")
"""Beside the documentation's folder; built by another command."""


class Page(HTMLParser):
    """Links, loaded files and identifiers of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        if named.get("id"):
            self.ids.add(named["id"])
        if tag == "a" and named.get("href"):
            self.links.append(named["href"])
        if tag in ("script", "img", "iframe", "source") and named.get("src"):
            self.loaded.append(named["src"])
        if tag == "link" and named.get("rel") not in ("canonical", "search", "index", "next", "prev"):
            self.loaded.append(named["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sphinx", reason="needs the extra 'docs'")
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-d",
        folder / "doctrees",
        ROOT / "docs",
        folder / "site" / "docs",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted((site / "docs").rglob("*.html"))}


def test_every_page_of_the_folder_is_on_the_site(site):
    sources = [
        path for path in (ROOT / "docs").rglob("*") if path.suffix in (".md", ".ipynb") and not path.parent.name.startswith((".", "_"))
    ]
    for path in sources:
        assert (site / "docs" / path.relative_to(ROOT / "docs")).with_suffix(".html").is_file()


def test_every_link_leads_somewhere(site, pages):
    for path, page in pages.items():
        for link in page.links:
            name, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:", name):
                continue
            there = (path.parent / unquote(name)).resolve() if name else path
            if there == (site / LEADERBOARD).resolve():
                continue
            assert there.is_file(), f"{path.name} links to {link}"
            if anchor and there in pages:
                assert unquote(anchor) in pages[there].ids, f"{path.name} links to {link}"


def test_nothing_is_loaded_from_elsewhere(site, pages):
    for path, page in pages.items():
        for link in page.loaded:
            if link.startswith("data:"):
                continue
            assert not re.match(r"([a-z]+:)?//", link), f"{path.name} loads {link}"
            assert (path.parent / link.partition("?")[0]).is_file(), f"{path.name} loads {link}"
    for path in (site / "docs").rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", path.read_text(encoding="utf-8"))


def test_the_search_index_holds_the_words(site):
    index = (site / "docs" / "searchindex.js").read_text(encoding="utf-8")
    for word in ("charg", "shakenbreak", "baselin", "trust"):
        assert f'"{word}' in index or f"{word}:" in index


def test_the_search_finds_from_the_disk_and_asks_nobody(site, chromium):
    page = chromium.new_page()
    complaints: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((site / "docs" / "index.html").as_uri())
    box = page.locator("input[name=q]").first
    box.fill("charge-blind")
    box.press("Enter")
    page.wait_for_selector('#search-results li a[href*="charge-blind.html"]', timeout=120_000)  # results come one by one
    page.close()
    assert complaints == []
    assert [url for url in asked if not url.startswith((site.as_uri(), "data:"))] == []


def test_the_references_are_complete(site):
    page = (site / "docs" / "api.html").read_text(encoding="utf-8")
    for name in defectbench.__all__:
        assert name == "__version__" or f'id="defectbench.{name}"' in page or f"defectbench.base.errors.{name}" in page
    commands = Page(site / "docs" / "cli.html").ids
    assert {"defectbench-evaluate", "defectbench-datasets-import", "defectbench-leaderboard-verify"} <= commands
    fields = (site / "docs" / "files.html").read_text(encoding="utf-8")
    assert "charge_key" not in fields
    for name in ("weights_sha256", "reference_level", "held_out", "tooltip"):
        assert name in fields
