"""Fixtures that several test modules share."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# how long an example takes says more about the machine than about the code
settings.register_profile("defectbench", deadline=None)
settings.load_profile("defectbench")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of DEFECTBENCH_SHARED: reference results, mirrors and weights that the repository does not carry."""
    given = os.environ.get("DEFECTBENCH_SHARED")
    if not given:
        pytest.skip("DEFECTBENCH_SHARED is not set: it names the folder with mirrors, weights and reference results")
    folder = Path(given)
    if not folder.is_dir():
        pytest.skip(f"DEFECTBENCH_SHARED names {folder}, which is not a folder")
    return folder


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    """A headless Chromium of the system, which draws in 3D without a graphics card."""
    api = pytest.importorskip("playwright.sync_api", reason="needs the extra 'browser'")
    path = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("needs a Chromium of the system")
    options = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=options)
        yield browser
        browser.close()


LONG = {"model": 10, "slow": 1}
"""Tests of a marker take about so many times as long as each other; the others next to nothing."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with the most long tests come first: the processes of xdist take them in this order, and so end at about one time."""
    work = Counter[Path]()
    for item in items:
        work[item.path] += max((weight for marker, weight in LONG.items() if item.get_closest_marker(marker)), default=0)
    items.sort(key=lambda item: -work[item.path])
