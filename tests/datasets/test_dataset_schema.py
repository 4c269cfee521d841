"""The schema of dataset.yaml: closed, consistent, and the same after writing and reading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets_helpers import rewrite
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import raises_code

from defectbench.base.states import name_problem
from defectbench.datasets.catalogue import embedded_folder, embedded_names, validate_dataset
from defectbench.datasets.folder import content_hash
from defectbench.datasets.schema import (
    Correction,
    DatasetFile,
    Defect,
    Host,
    LevelOfTheory,
    metadata_to_yaml,
    parse_metadata,
    read_yaml,
)


@pytest.mark.parametrize("name", embedded_names())
def test_embedded_metadata_survive_writing_and_reading(name: str, tmp_path: Path) -> None:
    metadata = parse_metadata(embedded_folder() / name / "dataset.yaml")
    assert metadata.id == name
    (tmp_path / "dataset.yaml").write_text(metadata_to_yaml(metadata), encoding="utf-8")
    assert parse_metadata(tmp_path / "dataset.yaml") == metadata


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda d: d.update(colour="red"), "colour"),
        (lambda d: d["levels"][0].update(vmb=4.3), "levels.0.vmb"),
        (lambda d: d["defects"][0].update(charges=[0, 0]), "defects.0"),
        (lambda d: d["defects"][0].update(charges=["-1"]), "defects.0.charges.0"),
        (lambda d: d["defects"][0].update(added="Se"), "defects.0"),
        (lambda d: d["defects"][0].update(site=None), "defects.0"),
        (lambda d: d["defects"][2].update(position=None), "Se_i"),
        (lambda d: d["defects"][0].update(name="F"), "defects.0.name"),
        (lambda d: d["defects"][0].update(name="1,2"), "defects.0.name"),
        (lambda d: d["levels"][0].update(name="2024"), "levels.0.name"),
        (lambda d: d.update(reference_level="PBE0"), "PBE0"),
        (lambda d: d["levels"].append(dict(d["levels"][0])), "'PBE'"),
        (lambda d: d["defects"].append(dict(d["defects"][0])), "'V_Sb'"),
        (lambda d: d["files"].update({"../secret": "0" * 64}), "../secret"),
        (lambda d: d["files"].update({"host.extxyz": "abc"}), "files.host.extxyz"),
        (lambda d: d["files"].pop("host.extxyz"), "host.extxyz"),
        (lambda d: d["levels"][0].update(corrections=[{"defect": "V_Sb", "charge": 4}]), "V_Sb +4"),
        (lambda d: d["levels"][0].update(host_energy=float("nan")), "levels.0.host_energy"),
        (lambda d: d.update(schema_version=2), "schema_version"),
        (lambda d: d.pop("licence"), "licence"),
    ],
)
def test_wrong_metadata_are_refused_with_the_field(tiny: Path, change: Any, field: str) -> None:
    content = read_yaml(tiny / "dataset.yaml")
    change(content)
    (tiny / "dataset.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with raises_code("bad-metadata", tiny / "dataset.yaml", field):
        parse_metadata(tiny / "dataset.yaml")


@pytest.mark.parametrize(("text", "code"), [("id: a\nid: b\n", "bad-yaml"), ("- a\n", "bad-metadata"), (None, "no-dataset")])
def test_metadata_that_are_none_are_refused(tmp_path: Path, text: str | None, code: str) -> None:
    file = tmp_path / "dataset.yaml"
    if text is not None:
        file.write_text(text)
        assert [problem.file for problem in validate_dataset(tmp_path).problems] == ["dataset.yaml"]
    with raises_code(code, file):
        read_yaml(file)


@pytest.mark.parametrize("text", ["&x [*x]", "1" + "0" * 400, "&x {a: *x}", "2020-01-01", ".nan", "!!set {a, b}"])
@pytest.mark.parametrize("field", ["title", "levels", "host_energy", "extra"])
def test_values_of_any_kind_are_problems_of_the_schema(tiny: Path, field: str, text: str) -> None:
    content = (tiny / "dataset.yaml").read_text()
    if field == "extra":
        content += f"extra: {text}\n"
    else:
        content = "\n".join(
            f"{line.split(':')[0]}: {text}" if line.strip().startswith(f"{field}:") else line for line in content.split("\n")
        )
        if field == "levels":
            content = content.split("levels:")[0] + f"levels: {text}\ndefects: []\n"
    (tiny / "dataset.yaml").write_text(content)
    report = validate_dataset(tiny)
    assert all(problem.file == "dataset.yaml" for problem in report.problems)
    assert not report.valid


def test_exponents_without_a_point_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: 1e-5\nb: -2.5E3\nc: 1e5x\n")
    assert read_yaml(tmp_path / "a.yaml") == {"a": 1e-5, "b": -2500.0, "c": "1e5x"}


def test_absence_is_written_out(tiny: Path) -> None:
    text = (tiny / "dataset.yaml").read_text()
    for line in ("host_energy: null", "dielectric: null", "corrections: []", "chemical_potentials: []", "remote: null"):
        assert line in text


def test_the_hash_knows_every_field_and_no_place(tiny: Path) -> None:
    before = content_hash(parse_metadata(tiny / "dataset.yaml"))
    moved = tiny.rename(tiny.with_name("elsewhere"))
    assert content_hash(parse_metadata(moved / "dataset.yaml")) == before
    rewrite(moved, lambda content: content["levels"][0].update(accuracy="not stated by the authors"))
    assert content_hash(parse_metadata(moved / "dataset.yaml")) == before, "nothing is computed from it"
    rewrite(moved, lambda content: content["levels"][0].update(host_energy=-1.0))
    assert content_hash(parse_metadata(moved / "dataset.yaml")) != before


numbers = st.floats(-1e6, 1e6, allow_nan=False)
states = st.lists(st.integers(-6, 6), min_size=1, max_size=5, unique=True).map(sorted)


@st.composite
def metadata_files(draw: st.DrawFn) -> DatasetFile:
    charges = draw(states)
    text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30)
    names = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,8}", fullmatch=True).filter(lambda name: name_problem(name) is None)
    defect = Defect(name=draw(names), kind="vacancy", site=0, removed="Sb", charges=charges)
    level = LevelOfTheory(
        name="PBE",
        functional=draw(text),
        host_energy=draw(st.none() | numbers),
        corrections=tuple(Correction(defect=defect.name, charge=q, image_charge=draw(numbers)) for q in charges),
    )
    return DatasetFile(
        schema_version=1,
        id="x",
        title=draw(text),
        licence=draw(text),
        host=Host(),
        reference_level="PBE",
        levels=(level,),
        defects=(defect,),
        files={"host.extxyz": "0" * 64},
    )


@settings(max_examples=50, deadline=None)
@given(metadata_files())
def test_any_metadata_survive_yaml(metadata: DatasetFile) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dataset.yaml"
        path.write_text(metadata_to_yaml(metadata), encoding="utf-8")
        assert parse_metadata(path) == metadata
