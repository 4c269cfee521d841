"""A small dataset."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets_helpers import build_tiny


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The folder of a fresh, valid dataset."""
    return build_tiny(tmp_path / "tiny")
