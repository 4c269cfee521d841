"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from collections import Counter
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


LONG = {"model": 10, "slow": 1}
"""Tests of a marker take about so many times as long as each other; the others next to nothing."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with the most long tests come first: the processes of xdist take them in this order, and so end at about one time."""
    work = Counter[Path]()
    for item in items:
        work[item.path] += max((weight for marker, weight in LONG.items() if item.get_closest_marker(marker)), default=0)
    items.sort(key=lambda item: -work[item.path])
