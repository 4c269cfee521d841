"""YAML 1.2 within limits."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import raises_code

from defectbench.base.errors import DatasetError
from defectbench.base.yaml import parse_yaml, read_yaml, to_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-5", 1e-5), ("-2.5E3", -2500.0), ("1e5x", "1e5x"), ("yes", "yes"), ("010", 10), ("0x10", 16), ("true", True), ("~", None)],
)
def test_values_are_those_of_yaml_1_2(text: str, value: object) -> None:
    assert parse_yaml(f"a: {text}") == {"a": value}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: &x [*x]\n", 2),
        ("a: 1\nb: &x 1\nc: &x {d: *x}\n", 3),
        ("a0: &a0 [1]\n" + "".join(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(9)), None),
        ("a: 1\na: 2\n", 2),
        ("a: 1\nb: 0x" + "f" * 2000, 2),
        ("a: 1\nb: " + "1" * 1_000_000, 2),
        ("a: 1\nb: 9223372036854775808", 2),
        ("a: 1\n? [b]\n: 2", 2),
        ('a: 1\nb: "\\ud800"', 2),
        ("a: 1\nb: 2020-99-99", 2),
        ("a: 1\nb: !!int abc", 2),
        ("a: 1\nb: !!float abc", 2),
        ("a: 1\nb: !!bool abc", 2),
        ("a: 1\nb: !!timestamp abc", 2),
        ("a: 1\nb: !!map abc", 2),
        ("a: 1\n!!int x: 2", 2),
        ("a: [\n", 2),
        ("a: !!python/object/apply:os.system [id]", 1),
        ("[" * 5000, None),
        ("a: \x1b", None),
        ("".join(f"k{i}: 1\n" for i in range(20_000)), None),
        ("a: " + "x" * 4_000_001, None),
    ],
)
def test_what_is_refused_is_one_line_with_file_and_place(tmp_path: Path, text: str, line: int | None) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with raises_code("bad-yaml", tmp_path / "a.yaml", "" if line is None else f", line {line}") as caught:
        read_yaml(tmp_path / "a.yaml", DatasetError)
    assert len(str(caught.value)) < 500


def test_aliases_and_merges_are_read() -> None:
    assert parse_yaml("a: &a {x: 1}\nb: {<<: *a, x: 2, y: 3}\nc: [*a, *a]") == {"a": {"x": 1}, "b": {"x": 2, "y": 3}, "c": [{"x": 1}] * 2}


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"a: \xff")
    with raises_code("bad-yaml", "byte 3"):
        read_yaml(tmp_path / "a.yaml", DatasetError)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs", "Cc"])), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(values)
def test_what_is_written_is_read_back(value: object) -> None:
    text = to_yaml({"a": value})
    assert parse_yaml(text) == {"a": value}
    assert " \n" not in text
