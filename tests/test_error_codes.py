"""Every code that an error can carry stands in the documentation, and no other."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_codes_are_documented():
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "defectbench").rglob("*.py")]
    used = {code for text in sources for code in re.findall(r'\bcode(?:: str)? ?= ?"([a-z-]+)"', text)}
    rows = [line for line in (ROOT / "docs" / "errors.md").read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    documented = {code for row in rows for code in re.findall(r"`([a-z-]+)`", row.split("|")[1])}
    assert documented == used
