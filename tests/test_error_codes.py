"""Every code that an error can carry stands in the documentation, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


def codes(tree: ast.Module) -> Iterator[object]:
    """A module's codes: arguments ``code="…"``, class attributes ``code``, a table ``CODES``, what a method ``code`` returns."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "code":
            given: list[ast.expr | None] = [node.value]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            name = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
            table = name == "CODES" and isinstance(node.value, ast.Dict)
            given = [*node.value.values] if table else [node.value] if name == "code" else []  # type: ignore[union-attr]
        elif isinstance(node, ast.FunctionDef) and node.name == "code":
            returned = [part.value for part in ast.walk(node) if isinstance(part, ast.Return)]
            given = [side for value in returned for side in ([value.body, value.orelse] if isinstance(value, ast.IfExp) else [value])]
        else:
            continue
        yield from (value.value for value in given if isinstance(value, ast.Constant) and value.value is not None)


def test_codes_are_documented():
    used = {str(c) for path in (ROOT / "defectbench").rglob("*.py") for c in codes(ast.parse(path.read_text(encoding="utf-8")))}
    rows = [line for line in (ROOT / "docs" / "errors.md").read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    documented = [code for row in rows for code in re.findall(r"`([a-z-]+)`", row.split("|")[1])]
    assert sorted(documented) == sorted(c for c in used if not c.startswith("unknown-")), "each once; one row stands for all unknown-…"
