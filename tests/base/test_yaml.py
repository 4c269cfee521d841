"""YAML 1.2 within limits."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defectbench.base.errors import DatasetError
from defectbench.base.yaml import parse_yaml, read_yaml, to_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-5", 1e-5), ("-2.5E3", -2500.0), ("1e5x", "1e5x"), ("yes", "yes"), ("010", 10), ("0x10", 16), ("true", True), ("~", None)],
)
def test_values_are_those_of_yaml_1_2(text: str, value: object) -> None:
    assert parse_yaml(f"a: {text}") == {"a": value}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: &x [*x]\n", "line 2.*'x' contains itself"),
        ("a: 1\nb: &x 1\nc: &x {d: *x}\n", "line 3.*'x' contains itself"),
        ("a0: &a0 [1]\n" + "".join(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(9)), "more than 10,000 keys"),
        ("a: 1\na: 2\n", "line 2.*key 'a' appears twice"),
        ("a: 1\nb: 0x" + "f" * 2000, "line 2.*too many digits"),
        ("a: 1\nb: " + "1" * 1_000_000, "line 2.*cannot be read as int"),
        ("a: 1\nb: 9223372036854775808", "line 2.*too many digits"),
        ("a: 1\n? [b]\n: 2", "line 2.*not a list or mapping"),
        ('a: 1\nb: "\\ud800"', "line 2.*cannot be read as str"),
        ("a: 1\nb: 2020-99-99", "line 2.*cannot be read as timestamp"),
        ("a: !!python/object/apply:os.system [id]", "line 1.*could not determine a constructor"),
        ("[" * 5000, "nested too deeply"),
        ("a: \x1b", "not a YAML file"),
        ("".join(f"k{i}: 1\n" for i in range(20_000)), "more than 10,000 keys and values"),
        ("a: " + "x" * 4_000_001, "larger than"),
    ],
)
def test_what_is_refused_is_one_line_with_file_and_place(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(DatasetError, match=words) as caught:
        read_yaml(tmp_path / "a.yaml", DatasetError)
    assert str(tmp_path / "a.yaml") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_aliases_and_merges_are_read() -> None:
    assert parse_yaml("a: &a {x: 1}\nb: {<<: *a, x: 2, y: 3}\nc: [*a, *a]") == {"a": {"x": 1}, "b": {"x": 2, "y": 3}, "c": [{"x": 1}] * 2}


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"a: \xff")
    with pytest.raises(DatasetError, match="not UTF-8 at byte 3"):
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
