from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def read_json() -> Callable[[Path], dict[str, Any]]:
    return lambda path: json.loads(path.read_text())
