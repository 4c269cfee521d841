"""The validator finds each planted error and names its file, frame and field."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from datasets_helpers import rehash, replant, rewrite
from refusals import raises_code

from defectbench.datasets.catalogue import embedded_folder, load_dataset, validate_dataset
from defectbench.datasets.extxyz import attach_results, stored_results

RATTLED = "frames/PBE/V_Sb_q+0_Rattled.extxyz"
STARTS = "starts/V_Sb.extxyz"


def found(folder: Path) -> set[tuple[str, int | None, str]]:
    return {(problem.file, problem.frame, problem.field) for problem in validate_dataset(folder).problems}


def test_valid_datasets(tiny: Path) -> None:
    report = validate_dataset(tiny)
    assert report.valid, report.summary()
    assert (report.files, report.frames) == (9, 1 + 5 * 3 + 5 * 3)
    assert report.summary().endswith("valid (9 files, 31 frames)")
    for name in ("sb2se3-vacancies", "sb2se3-savory-2019"):
        report = validate_dataset(embedded_folder() / name)
        assert report.valid, report.summary()
    with raises_code("no-dataset"):
        validate_dataset(tiny / "nothing")


def _displace(index: int, atom: int, vector: tuple[float, float, float]) -> Callable[[list[Atoms]], None]:
    def change(frames: list[Atoms]) -> None:
        frames[index].positions[atom] += vector

    return change


def _stretch(frames: list[Atoms]) -> None:
    frames[1].cell[0, 0] += 0.01


def _swap_species(frames: list[Atoms]) -> None:
    frames[1].symbols[0] = "Se"


def _swap_order(frames: list[Atoms]) -> None:
    symbols = frames[1].get_chemical_symbols()
    symbols[0], symbols[-1] = symbols[-1], symbols[0]
    frames[1].set_chemical_symbols(symbols)


def _lose_an_atom(frames: list[Atoms]) -> None:
    results = stored_results(frames[1])
    del frames[1][5]
    attach_results(frames[1], energy=results["energy"], forces=np.delete(results["forces"], 5, axis=0))


def _results(index: int, **changes: Any) -> Callable[[list[Atoms]], None]:
    def change(frames: list[Atoms]) -> None:
        results = {**stored_results(frames[index]), **changes}
        frames[index].calc = None
        attach_results(frames[index], energy=results.get("energy"), forces=results.get("forces"))

    return change


def _large_force(frames: list[Atoms]) -> None:
    stored_results(frames[2])["forces"][3, 1] = 0.5


def _nan_force(frames: list[Atoms]) -> None:
    stored_results(frames[1])["forces"][3, 1] = np.nan


def _repeat(frames: list[Atoms]) -> None:
    frames[1].positions = frames[0].positions


def _close_pair(frames: list[Atoms]) -> None:
    frames[2].positions[1] = frames[2].positions[0] + (0.3, 0.0, 0.0)


def _info(index: int, **changes: Any) -> Callable[[list[Atoms]], None]:
    def change(frames: list[Atoms]) -> None:
        for key, value in changes.items():
            if value is None:
                del frames[index].info[key]
            else:
                frames[index].info[key] = value

    return change


@pytest.mark.parametrize(
    ("file", "change", "frame", "field"),
    [
        (RATTLED, _info(1, charge=-1), 1, "info.charge"),
        (RATTLED, _info(1, charge=None), 1, "info.charge"),
        (RATTLED, _info(1, charge=0.5), 1, "info.charge"),
        (RATTLED, _info(0, defect="V_Se"), 0, "info.defect"),
        (RATTLED, _info(2, configuration="Dimer"), 2, "info.configuration"),
        (RATTLED, _info(2, configuration=True), 2, "info.configuration"),
        (RATTLED, _info(2, configuration="a/b"), 2, "info.configuration"),
        (STARTS, _info(1, configuration=7.5), 1, "info.configuration"),
        (STARTS, _info(1, defect=7), 1, "info.defect"),
        (RATTLED, _info(2, level_of_theory="HSE06"), 2, "info.level_of_theory"),
        (RATTLED, _info(1, spin_multiplicity=1), 1, "info.spin_multiplicity"),
        (RATTLED, _info(1, spin_multiplicity=0), 1, "info.spin_multiplicity"),
        (RATTLED, _info(1, step=0), 1, "info.step"),
        (RATTLED, _info(1, step=None), 1, "info.step"),
        (RATTLED, _info(0, converged=True), 0, "info.converged"),
        (RATTLED, _info(2, converged=None), 2, "info.converged"),
        (RATTLED, _large_force, 2, "info.converged"),
        (RATTLED, _nan_force, 1, "forces"),
        (RATTLED, _results(1, energy=float("inf")), 1, "energy"),
        (RATTLED, _results(1, energy=None), 1, "energy"),
        (RATTLED, _results(1, forces=None), 1, "forces"),
        (RATTLED, _repeat, 1, "positions"),
        (RATTLED, _close_pair, 2, "positions"),
        (RATTLED, _displace(0, 2, (0.01, 0, 0)), 0, "positions"),
        (RATTLED, _displace(1, 2, (np.nan, 0, 0)), 1, "positions"),
        (RATTLED, _stretch, 1, "cell"),
        (RATTLED, _swap_species, 1, "species"),
        (RATTLED, _swap_order, 1, "species"),
        (RATTLED, _lose_an_atom, 1, "species"),
        (STARTS, _info(1, charge=2), 1, "info.charge"),
        (STARTS, _info(1, configuration="Unperturbed"), 1, "info.configuration"),
        (STARTS, _info(3, defect="Se_i"), 3, "info.defect"),
        (STARTS, _close_pair, 2, "positions"),
        (STARTS, _swap_order, 1, "species"),
        (STARTS, _stretch, 1, "cell"),
    ],
)
def test_planted_errors_in_frames(tiny: Path, file: str, change: Callable[[list[Atoms]], None], frame: int, field: str) -> None:
    replant(tiny, file, change)
    problems = validate_dataset(tiny).problems
    matching = [problem for problem in problems if (problem.file, problem.frame, problem.field) == (file, frame, field)]
    assert matching, [str(problem) for problem in problems]
    assert matching[0].code == "bad-frame"
    assert str(matching[0]).startswith(f"{file}, frame {frame}, {field}: ")


@pytest.mark.parametrize(
    ("file", "old", "new", "field"),
    [
        (RATTLED, r"energy=\S+", "energy=abc", "energy"),
        (RATTLED, r"energy=\S+", 'energy="1 2 3"', "energy"),
        (RATTLED, r"energy=\S+", "energy=T", "energy"),
        (RATTLED, r"charge=\S+", 'charge="0 0"', "info.charge"),
        (RATTLED, r"charge=\S+", "charge=T", "info.charge"),
        (RATTLED, r"defect=\S+", 'defect="1 2 3"', "info.defect"),
        (RATTLED, r"configuration=\S+", "configuration=5", "info.configuration"),
        (RATTLED, r"level_of_theory=\S+", 'level_of_theory="1 2 3"', "info.level_of_theory"),
        (RATTLED, r"step=\S+", 'step="1 2"', "info.step"),
        (RATTLED, r"step=\S+", f'step="{"1 " * 200}"', "info.step"),
        (RATTLED, r"converged=\S+", 'converged="T F"', "info.converged"),
        (RATTLED, r"spin_multiplicity=\S+", 'spin_multiplicity="1 2"', "info.spin_multiplicity"),
        (RATTLED, r"spin_multiplicity=\S+", "spin_multiplicity=T", "info.spin_multiplicity"),
        (RATTLED, r'Lattice="[^"]*"', "", "cell"),
        (RATTLED, r'Lattice="[^"]*"', 'Lattice="0 0 0 0 0 0 0 0 0"', "cell"),
        (RATTLED, r'Lattice="[^"]*"', 'Lattice="nan 0 0 0 nan 0 0 0 nan"', "cell"),
        (STARTS, r"charge=\S+", 'charge="1 2 3"', "info.charge"),
        (STARTS, r"configuration=\S+", 'configuration="1 2 3"', "info.configuration"),
        (STARTS, r"configuration=\S+", "configuration=5", "info.configuration"),
        (STARTS, r"configuration=\S+", f'configuration="{"1 " * 200}"', "info.configuration"),
        (STARTS, r"defect=\S+", 'defect="1 2 3"', "info.defect"),
        (STARTS, r'Lattice="[^"]*"', "", "cell"),
    ],
)
def test_values_of_another_type_are_problems_and_no_crash(tiny: Path, file: str, old: str, new: str, field: str) -> None:
    text = (tiny / file).read_text()
    changed = re.sub(old, new, text, count=1)
    assert changed != text
    (tiny / file).write_text(changed)
    rehash(tiny, file)
    problems = [problem for problem in validate_dataset(tiny).problems if (problem.file, problem.frame, problem.field) == (file, 0, field)]
    assert len(problems) == 1
    assert "\n" not in str(problems[0])
    assert len(str(problems[0])) < 200
    with raises_code("bad-frame", f"{file}, frame 0, {field}"):
        load_dataset(tiny).frames("V_Sb", 0, "Rattled")


def test_planted_errors_in_files(tiny: Path) -> None:
    (tiny / "host.extxyz").write_text((tiny / "host.extxyz").read_text().replace("Sb ", "Se ", 1))
    (tiny / "frames" / "PBE" / "V_Sb_q-1_Rattled.extxyz").write_text("not listed")
    (tiny / "notes.txt").write_text("may lie here")
    assert found(tiny) >= {("host.extxyz", None, "sha256"), ("frames/PBE/V_Sb_q-1_Rattled.extxyz", None, "files")}
    assert not any(problem.file == "notes.txt" for problem in validate_dataset(tiny).problems)


@pytest.mark.parametrize(
    "name",
    [
        "frames/PBE0/V_Sb_q+0_Rattled.extxyz",
        "frames/PBE/V_Sb_q+5_Rattled.extxyz",
        "frames/PBE/V_As_q+0_Rattled.extxyz",
        "frames/PBE/Rattled.extxyz",
        "starts/V_As.extxyz",
    ],
)
def test_misplaced_files(tiny: Path, name: str) -> None:
    target = tiny / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes((tiny / RATTLED).read_bytes())
    rehash(tiny, name)
    assert (name, None, "files") in found(tiny)
    with raises_code("bad-file-list", name):
        load_dataset(tiny)


def test_wrong_sites_in_the_metadata(tiny: Path) -> None:
    rewrite(tiny, lambda content: content["defects"][0].update(site=7))
    assert found(tiny) == {("dataset.yaml", None, "defects.0.site")}
    rewrite(tiny, lambda content: content["defects"][0].update(site=70))
    assert found(tiny) == {("dataset.yaml", None, "defects.0.site")}
    rewrite(tiny, lambda content: content["defects"][0].update(site=1, position=[0.0, 0.0, 0.0]))
    assert found(tiny) == {("dataset.yaml", None, "defects.0.position")}


def test_schema_errors_are_all_named(tiny: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["colour"] = "red"
        content["levels"][1]["code"] = 3

    rewrite(tiny, change)
    assert found(tiny) == {("dataset.yaml", None, "colour"), ("dataset.yaml", None, "levels.1.code")}


def test_unreadable_files(tiny: Path) -> None:
    (tiny / RATTLED).write_text("garbage\n")
    rehash(tiny, RATTLED)
    assert (RATTLED, None, "file") in found(tiny)
    (tiny / "dataset.yaml").write_text("id: [")
    assert found(tiny) == {("dataset.yaml", None, "(top level)")}
