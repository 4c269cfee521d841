"""Fixtures that several test modules share."""

from __future__ import annotations

import os
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long tests come first, so that the processes of xdist, which share them out in this order, end at about the same time."""
    long = {item.path for item in items if item.get_closest_marker("slow") or item.get_closest_marker("model")}
    items.sort(key=lambda item: item.path not in long)
