"""``defectbench datasets``: thin commands over the library."""

from __future__ import annotations

from pathlib import Path

import pytest
from ase.io import write
from datasets_helpers import RATTLED_FRAMES, make_defects, make_host, make_relaxation, replant
from refusals import check_refusal
from typer.testing import CliRunner

from defectbench.base.errors import DatasetError
from defectbench.cli.datasets import app
from defectbench.datasets.alignment import ideal_structure
from defectbench.datasets.catalogue import load_dataset
from defectbench.datasets.extxyz import write_extxyz
from defectbench.datasets.writing import add_relaxation

runner = CliRunner(env={"COLUMNS": "120", "TERM": "dumb"})


def test_list_and_show(tiny: Path) -> None:
    listed = runner.invoke(app, ["list"])
    assert listed.exit_code == 0
    assert "sb2se3-vacancies" in listed.stdout
    assert "sb2se3-savory-2019" in listed.stdout
    shown = runner.invoke(app, ["show"])
    assert shown.exit_code == 0
    text = " ".join(shown.stdout.split())
    for part in ("V_Sb1", "CC-BY-4.0", "CP2K 2023.1"):
        assert part in text
    text = " ".join(runner.invoke(app, ["show", str(tiny)]).stdout.split())
    for part in ("no DFT yet", "0 (+1 begun)", "2 of 5 charge states have no reference yet"):
        assert part in text


def test_show_counts_relaxations_only_as_begun(tiny: Path) -> None:
    """Unrelaxed starts and points of paths are single points: nobody has begun to relax them."""
    start = load_dataset(tiny).starts("V_Sb", 0)["Unperturbed"]
    for name in ("Start_Unperturbed", "Path_+0_-1"):
        frame = make_relaxation(start, 0, 1, converged=False)[0]
        frame.info.update(defect="V_Sb", charge=0, configuration=name, level_of_theory="PBE")
        add_relaxation(tiny, [frame])
    rows = [line.split() for line in runner.invoke(app, ["show", str(tiny)]).stdout.splitlines()]
    states = [" ".join(word for word in row if word not in ("│", "|")) for row in rows]
    assert any(state.startswith("V_Sb 0 3 2 Rattled") for state in states), states
    assert any(state.startswith("V_Sb −1 3 0 (+1 begun)") for state in states), states


def test_validate(tiny: Path) -> None:
    good = runner.invoke(app, ["validate", str(tiny)])
    assert good.exit_code == 0
    assert "valid (9 files, 31 frames)" in good.stdout
    assert runner.invoke(app, ["validate", "sb2se3-vacancies"]).exit_code == 0
    replant(tiny, RATTLED_FRAMES, lambda frames: frames[1].info.update(charge=-1))
    bad = runner.invoke(app, ["validate", str(tiny)])
    assert bad.exit_code == 2
    assert f"{RATTLED_FRAMES}, frame 1, info.charge: '-1' instead of '0'" in bad.stdout


def test_fetch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "nothing to fetch" in runner.invoke(app, ["fetch", "sb2se3-vacancies"]).stdout
    monkeypatch.setenv("DEFECTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DEFECTBENCH_MIRROR", str(tmp_path / "mirror"))
    result = runner.invoke(app, ["fetch", "sb2se3-savory-2019"])
    check_refusal(result.exception, "not-in-mirror", "DEFECTBENCH_MIRROR")
    check_refusal(runner.invoke(app, ["fetch", "sb2se3-savory"]).exception, "unknown-dataset")


def test_fetch_from_a_mirror(shared: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DEFECTBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("DEFECTBENCH_MIRROR", str(shared / "mirror"))
    first, second = (runner.invoke(app, ["fetch", "sb2se3-savory-2019"]) for _ in range(2))
    assert "62 files in" in first.stdout
    assert "(62 fetched now)" in first.stdout
    assert "(0 fetched now)" in second.stdout
    shown = runner.invoke(app, ["show", "sb2se3-savory-2019"])
    text = " ".join(shown.stdout.split())
    assert "VBM 4.314 eV" in text
    assert "58 corrections" in text


def test_import_extxyz(tmp_path: Path) -> None:
    host = make_host()
    write(tmp_path / "POSCAR", host, format="vasp")
    frames = make_relaxation(ideal_structure(host, make_defects(host)["V_Sb"]), -1, steps=2)
    for atoms in frames:
        atoms.info.update(total_charge=-1, configuration="Unperturbed")
    del frames[0].info["total_charge"]
    write_extxyz(tmp_path / "a.extxyz", frames)
    arguments = ["import", str(tmp_path / "a.extxyz"), "--host", str(tmp_path / "POSCAR"), "-o", str(tmp_path / "out")]
    result = runner.invoke(app, [*arguments, "--defect", "V_Sb", "--charge-key", "total_charge", "--level", "PBE", "--id", "my-data"])
    assert result.exit_code == 0, result.exception
    assert "frame 0: has no info 'total_charge' (total charge)" in result.stdout
    assert "my-data: 1 defects, 1 charge states, 1 starts, 1 relaxations (1 minima)" in result.stdout
    assert runner.invoke(app, ["validate", str(tmp_path / "out")]).exit_code == 0
    again = runner.invoke(app, [*arguments, "--defect", "V_Sb", "--charge-key", "total_charge"])
    check_refusal(again.exception, "dataset-exists")


def test_import_shakenbreak(tmp_path: Path) -> None:
    host = make_host()
    write(tmp_path / "POSCAR", host, format="vasp")
    folder = tmp_path / "results" / "V_Sb_-1" / "Unperturbed"
    folder.mkdir(parents=True)
    (tmp_path / "results" / "V_Sb_-1" / "Dimer_High_Energy").mkdir()
    ideal = ideal_structure(host, make_defects(host)["V_Sb"])
    write(folder / "POSCAR", ideal, format="vasp")
    write(folder / "CONTCAR", ideal, format="vasp")
    (tmp_path / "results" / "V_Sb_-1" / "V_Sb_-1.yaml").write_text("Unperturbed: -2.0\ndistortions: {}\n")
    result = runner.invoke(app, ["import", str(tmp_path / "results"), "--host", str(tmp_path / "POSCAR"), "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.exception
    assert "1 High_Energy folders skipped" in result.stdout
    two = runner.invoke(app, ["import", str(tmp_path), str(tmp_path), "--host", str(tmp_path / "POSCAR"), "-o", str(tmp_path / "o")])
    assert isinstance(two.exception, DatasetError)
