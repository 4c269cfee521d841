from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and no mirror."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("DEFECTBENCH_CACHE", str(folder))
    monkeypatch.delenv("DEFECTBENCH_WEIGHTS_MIRROR", raising=False)
    return folder
