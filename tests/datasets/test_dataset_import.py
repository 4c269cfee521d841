"""Importing ShakeNBreak result folders and labelled extxyz."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.io import write
from datasets_helpers import make_defects, make_host, make_relaxation
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import raises_code

from defectbench import load_dataset
from defectbench.datasets.alignment import apply, find_defect, ideal_structure, in_host_cell, place
from defectbench.datasets.catalogue import validate_dataset
from defectbench.datasets.checks import Problem
from defectbench.datasets.extxyz import stored_results, write_extxyz
from defectbench.datasets.importing.labelled_extxyz import import_extxyz
from defectbench.datasets.importing.shakenbreak import import_shakenbreak
from defectbench.datasets.validation import ValidationReport
from defectbench.structures.lattice import minimum_image

CONFIGURATIONS = {"Unperturbed": "Unperturbed", "Rattled": "Rattled", "Dimer": "Dimer", "Bond_Distortion_-40.0%": -0.4}


def near(atoms: Atoms, seed: int, size: float = 0.08) -> Atoms:
    out = atoms.copy()
    out.positions += np.random.default_rng(seed).normal(size=(len(atoms), 3)) * size
    return out


def poscar(path: Path, atoms: Atoms) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, atoms, format="vasp", direct=True, sort=False)


def shakenbreak_folder(root: Path) -> dict[tuple[str, int, str], tuple[Atoms, Atoms, float]]:
    """V_Sb at charges -1 and 0 and Se_i at 0 as ShakeNBreak leaves them; what was written, by state and configuration."""
    host = make_host()
    poscar(root.parent / "POSCAR_host", host)
    truth = {}
    for name, charge, folder in [("V_Sb", -1, "V_Sb_-1"), ("V_Sb", 0, "V_Sb_0"), ("Se_i", 0, "Se_i_+0")]:
        ideal = ideal_structure(host, make_defects(host)[name])
        energies: dict[str, object] = {"distortions": {}}
        for index, (configuration, key) in enumerate(CONFIGURATIONS.items()):
            start = ideal if configuration == "Unperturbed" else near(ideal, 10 * charge + index + 50)
            relaxed = near(start, 100 + index, 0.03)
            energy = -40.0 - index - charge
            poscar(root / folder / configuration / "POSCAR", start)
            poscar(root / folder / configuration / "CONTCAR", relaxed)
            truth[name, charge, configuration] = (start, relaxed, energy)
            if configuration == "Unperturbed":
                energies["Unperturbed"] = energy
            else:
                energies["distortions"][key] = energy
        (root / folder / f"{folder}.yaml").write_text(yaml.safe_dump(energies))
    return truth


def test_a_shakenbreak_folder(tmp_path: Path) -> None:
    truth = shakenbreak_folder(tmp_path / "results")
    folder = tmp_path / "results" / "V_Sb_0"
    poscar(folder / "Bond_Distortion_-20.0%_from_-1" / "POSCAR", truth["V_Sb", -1, "Dimer"][1])
    poscar(folder / "Bond_Distortion_-20.0%_from_-1" / "CONTCAR", near(truth["V_Sb", -1, "Dimer"][1], 5, 0.02))
    poscar(folder / "Bond_Distortion_60.0%_High_Energy" / "CONTCAR", truth["V_Sb", 0, "Dimer"][1])
    content = yaml.safe_load((folder / "V_Sb_0.yaml").read_text())
    content["distortions"]["-20.0%_from_-1"] = -44.5
    content["distortions"]["Bond_Distortion_60.0%_High_Energy"] = 1e3
    (folder / "V_Sb_0.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "results" / "distortion_metadata.json").write_text("{}")
    report = import_shakenbreak(tmp_path / "results", tmp_path / "POSCAR_host", tmp_path / "mine", level="PBE", code="VASP")
    assert (report.high_energy, report.dropped, report.notes) == (1, (), ())
    assert (report.starts, report.relaxations, report.minima) == (13, 13, 13)
    assert validate_dataset(tmp_path / "mine").valid

    dataset = load_dataset(tmp_path / "mine")
    assert (dataset.id, dataset.level) == ("mine", "PBE")
    assert dataset.level_of_theory().band_edges is None
    assert dataset.level_of_theory().chemical_potentials == ()
    assert {(d.name, d.kind, d.site) for d in dataset.metadata.defects} == {("V_Sb", "vacancy", 1), ("Se_i", "interstitial", None)}
    assert dataset.charges("V_Sb") == (-1, 0)
    assert list(dataset.starts("V_Sb", 0)) == [
        "Unperturbed",
        "Rattled",
        "Dimer",
        "Bond_Distortion_-40.0%",
        "Bond_Distortion_-20.0%_from_-1",
    ]
    for (name, charge, configuration), (start, relaxed, energy) in truth.items():
        minimum = dataset.minima(name, charge)[configuration]
        assert minimum.energy == pytest.approx(energy)
        assert not minimum.has_forces
        assert np.abs(minimum_image(minimum.atoms.positions - relaxed.positions, start.cell)).max() < 1e-6
        assert np.abs(minimum_image(dataset.starts(name, charge)[configuration].positions - start.positions, start.cell)).max() < 1e-6
    ground = dataset.ground_state("V_Sb", 0)
    assert ground is not None
    assert (ground.configuration, ground.energy) == ("Bond_Distortion_-20.0%_from_-1", pytest.approx(-44.5))


@pytest.mark.parametrize("label", ["V_Sb_1", "V_Sb_+1"])
def test_charges_with_and_without_sign_and_a_single_state(tmp_path: Path, label: str) -> None:
    host = make_host()
    ideal = ideal_structure(host, make_defects(host)["V_Sb"])
    folder = tmp_path / "results" / label
    poscar(folder / "Unperturbed" / "POSCAR", ideal)
    poscar(folder / "Unperturbed" / "vasp_gam" / "CONTCAR", near(ideal, 1))
    (folder / f"{label}.yaml").write_text("Unperturbed: -1.5\n")
    report = import_shakenbreak(folder, host, tmp_path / "out")
    assert report.metadata.defects[0].charges == (1,)
    assert load_dataset(tmp_path / "out").minima("V_Sb", 1)["Unperturbed"].energy == -1.5


def test_what_is_not_imported_is_named_with_a_reason(tmp_path: Path) -> None:
    truth = shakenbreak_folder(tmp_path / "results")
    root = tmp_path / "results"
    state = root / "V_Sb_0"
    (state / "Rattled" / "CONTCAR").write_text("not a structure\n")
    (state / "Dimer" / "CONTCAR").unlink()
    (state / "Bond_Distortion_-40.0%" / "POSCAR").unlink()
    poscar(state / "Bond_Distortion_20.0%" / "CONTCAR", truth["V_Sb", 0, "Dimer"][1])  # neither POSCAR nor energy
    (state / "Unknown_name").mkdir()
    (root / "some_folder").mkdir()
    (root / "V_Sb_-1" / "V_Sb_-1.yaml").unlink()
    poscar(root / "Se_i_0" / "Unperturbed" / "POSCAR", truth["Se_i", 0, "Unperturbed"][0])
    other = truth["V_Sb", 0, "Unperturbed"][0].copy()
    other.symbols[0] = "As"
    poscar(root / "As_Sb_0" / "Unperturbed" / "POSCAR", other)
    poscar(root / "V Sb_0" / "Unperturbed" / "POSCAR", other)
    stretched = truth["Se_i", 0, "Rattled"][1].copy()
    stretched.set_cell(stretched.cell.array * 1.01, scale_atoms=True)
    poscar(root / "Se_i_+0" / "Rattled" / "CONTCAR", stretched)

    report = import_shakenbreak(root, tmp_path / "POSCAR_host", tmp_path / "mine")
    assert {dropped.file for dropped in report.dropped} >= {
        "V_Sb_0/Rattled/CONTCAR",
        "V_Sb_0/Dimer",
        "V_Sb_0/Bond_Distortion_-40.0%",
        "V_Sb_0/Bond_Distortion_20.0%/CONTCAR",
        "V_Sb_0/Unknown_name",
        "some_folder",
        "V_Sb_-1/V_Sb_-1.yaml",
        "Se_i_0",
        "As_Sb_0/Unperturbed",
        "V Sb_0/Unperturbed",
        "Se_i_+0/Rattled",
    }
    assert all(dropped.reason for dropped in report.dropped)
    assert validate_dataset(tmp_path / "mine").valid
    dataset = load_dataset(tmp_path / "mine")
    assert dataset.defects == ("Se_i", "V_Sb")
    assert dataset.states_without_reference() != ()


def test_nothing_to_import_is_one_line(tmp_path: Path) -> None:
    host = make_host()
    (tmp_path / "empty").mkdir()
    with raises_code("import-nothing"):
        import_shakenbreak(tmp_path / "empty", host, tmp_path / "out")
    with raises_code("no-file", "nothing"):
        import_shakenbreak(tmp_path / "nothing", host, tmp_path / "out")
    shakenbreak_folder(tmp_path / "results")
    with raises_code("no-file", "POSCAR_nothing"):
        import_shakenbreak(tmp_path / "results", tmp_path / "POSCAR_nothing", tmp_path / "out")
    (tmp_path / "host.xyz").write_text("1\n\nSb 0 0 0\n")
    with raises_code("import-host", "host.xyz"):
        import_shakenbreak(tmp_path / "results", tmp_path / "host.xyz", tmp_path / "out")
    import_shakenbreak(tmp_path / "results", tmp_path / "POSCAR_host", tmp_path / "out")
    with raises_code("dataset-exists"):
        import_shakenbreak(tmp_path / "results", tmp_path / "POSCAR_host", tmp_path / "out")
    import_shakenbreak(tmp_path / "results", tmp_path / "POSCAR_host", tmp_path / "out", overwrite=True, dataset_id="other")
    assert load_dataset(tmp_path / "out").id == "other"
    with raises_code("import-option", "id"):
        import_shakenbreak(tmp_path / "results", tmp_path / "POSCAR_host", tmp_path / "out2", dataset_id="Not An Id")


def test_a_state_without_starts_gets_the_ideal_one(tmp_path: Path) -> None:
    shakenbreak_folder(tmp_path / "results")
    for file in (tmp_path / "results" / "V_Sb_0").glob("*/POSCAR"):
        file.unlink()
    report = import_shakenbreak(tmp_path / "results", tmp_path / "POSCAR_host", tmp_path / "out")
    assert len(report.notes) == 1
    assert report.notes[0].startswith("V_Sb 0 ")
    dataset = load_dataset(tmp_path / "out")
    host = make_host()
    ideal = ideal_structure(host, make_defects(host)["V_Sb"])
    assert np.allclose(dataset.starts("V_Sb", 0)["Unperturbed"].positions, ideal.positions, atol=1e-7)
    assert len(dataset.minima("V_Sb", 0)) == 4


def relabel(frames: list[Atoms], **keys: str) -> list[Atoms]:
    """Frames as another program labels them: energies and forces under other keys, without a calculator."""
    out = []
    for frame in frames:
        atoms = Atoms(frame.get_chemical_symbols(), positions=frame.positions, cell=frame.cell, pbc=True)
        results = stored_results(frame)
        atoms.info = {
            keys.get("energy", "REF_energy"): results["energy"],
            **{k: v for k, v in frame.info.items() if k in ("total_charge", "site")},
        }
        atoms.arrays[keys.get("forces", "REF_forces")] = results["forces"]
        out.append(atoms)
    return out


def test_labelled_extxyz_with_other_keys(tmp_path: Path) -> None:
    host = make_host()
    frames = make_relaxation(near(ideal_structure(host, make_defects(host)["V_Sb"]), 1), -1, steps=4)
    for atoms in frames:
        atoms.info = {"total_charge": -1}
    write(tmp_path / "V_Sb_run7.extxyz", relabel(frames), format="extxyz")
    report = import_extxyz(
        [tmp_path / "V_Sb_run7.extxyz"],
        host,
        tmp_path / "out",
        charge_key="total_charge",
        energy_key="REF_energy",
        forces_key="REF_forces",
        defect="V_Sb",
        level="SCAN",
        licence="CC0-1.0",
    )
    assert (report.dropped, report.relaxations, report.minima) == ((), 1, 1)
    dataset = load_dataset(tmp_path / "out")
    assert dataset.level == "SCAN"
    got = dataset.frames("V_Sb", -1, "V_Sb_run7")
    assert [atoms.info["step"] for atoms in got] == [0, 1, 2, 3]
    for mine, theirs in zip(got, frames, strict=True):
        assert mine.get_potential_energy() == pytest.approx(stored_results(theirs)["energy"], abs=1e-6)
        assert np.abs(mine.get_forces() - stored_results(theirs)["forces"]).max() < 1e-6
    assert list(dataset.starts("V_Sb", -1)) == ["V_Sb_run7"]
    assert list(dataset.minima("V_Sb", -1)) == ["V_Sb_run7"]


def test_extxyz_frames_that_cannot_be_used(tmp_path: Path) -> None:
    host = make_host()
    start = near(ideal_structure(host, make_defects(host)["V_Sb"]), 1)
    frames = make_relaxation(start, 0, steps=8)
    for index, atoms in enumerate(frames):
        atoms.info = {"defect": "V_Sb", "charge": 0, "configuration": "Rattled", "step": index}
    del frames[1].info["charge"]
    frames[2].info["charge"] = 0.5
    frames[3].calc = None
    del frames[4].info["defect"]
    stored_results(frames[5])["forces"][0, 0] = np.nan
    frames[6].positions[1] = frames[6].positions[0] + 0.1
    write_extxyz(tmp_path / "a.extxyz", frames)
    (tmp_path / "b.extxyz").write_text("garbage")
    report = import_extxyz([tmp_path / "a.extxyz", tmp_path / "b.extxyz"], host, tmp_path / "out")
    assert {(Path(d.file).name, d.frame) for d in report.dropped} == {*(("a.extxyz", index) for index in range(1, 7)), ("b.extxyz", None)}
    assert [atoms.info["step"] for atoms in load_dataset(tmp_path / "out").frames("V_Sb", 0, "Rattled")] == [0, 7]


@pytest.mark.parametrize("name", ["1", "1e3", "nan", "T", "F", "False"])
def test_a_file_named_by_a_number_or_a_truth_value_is_told_to_be_renamed(tmp_path: Path, name: str) -> None:
    host = make_host()
    start = near(ideal_structure(host, make_defects(host)["V_Sb"]), 1)
    for index, stem in enumerate((name, "fine")):
        frames = make_relaxation(start, 0, steps=3, seed=index)
        for atoms in frames:
            atoms.info.update({"defect": "V_Sb", "charge": 0})
        write(tmp_path / f"{stem}.extxyz", frames, format="extxyz")
    report = import_extxyz([tmp_path / f"{name}.extxyz", tmp_path / "fine.extxyz"], host, tmp_path / "out")
    assert [(Path(d.file).stem, d.frame, f"x_{name}" in d.reason) for d in report.dropped] == [(name, None, True)]
    assert load_dataset(tmp_path / "out").configurations("V_Sb", 0) == ("fine",)
    with raises_code("import-nothing", f"{name}.extxyz"):
        import_extxyz([tmp_path / f"{name}.extxyz"], host, tmp_path / "alone")
    (tmp_path / f"{name}.extxyz").rename(tmp_path / f"x_{name}.extxyz")
    assert import_extxyz([tmp_path / f"x_{name}.extxyz"], host, tmp_path / "renamed").dropped == ()


@pytest.mark.parametrize(
    ("labels", "options", "code", "name"),
    [
        ({"configuration": 3}, {}, "import-nothing", "'3'"),
        ({"configuration": np.array([1, 2])}, {}, "import-nothing", "'1 2'"),
        ({"configuration": "a/b"}, {}, "import-nothing", "'a/b'"),
        ({"defect": "F"}, {}, "import-nothing", "'False'"),
        ({"defect": 7}, {}, "import-nothing", "'7'"),
        ({}, {"level": "1"}, "import-option", "'1'"),
        ({}, {"level": "a level"}, "import-option", "'a level'"),
    ],
)
def test_labels_that_read_as_numbers_or_truth_values_are_refused(
    tmp_path: Path, labels: dict[str, object], options: dict[str, str], code: str, name: str
) -> None:
    host = make_host()
    frames = make_relaxation(near(ideal_structure(host, make_defects(host)["V_Sb"]), 1), 0)
    for atoms in frames:
        atoms.info.update({"defect": "V_Sb", "charge": 0, "configuration": "Rattled", **labels})
    write(tmp_path / "a.extxyz", frames, format="extxyz")
    with raises_code(code, name):
        import_extxyz([tmp_path / "a.extxyz"], host, tmp_path / "out", **options)


@pytest.mark.parametrize(
    ("options", "code", "names"),
    [
        ({"max_force": float("nan")}, "import-option", ["max_force"]),
        ({"max_force": float("inf")}, "import-option", ["max_force"]),
        ({"max_force": -1.0}, "import-option", ["max_force"]),
        ({"max_force": 0.0}, "import-option", ["max_force"]),
        ({"forces_key": "positions"}, "import-label", ["forces_key", "positions"]),
        ({"starts": ["nope.extxyz"]}, "no-file", ["nope.extxyz"]),
        ({"starts": ["."]}, "no-file", []),
        ({"configuration_key": "charge"}, "import-option", ["configuration_key", "charge_key"]),
        ({"defect_key": "charge"}, "import-option", ["defect_key", "charge_key"]),
        ({"energy_key": "charge"}, "import-option", ["energy_key", "charge_key"]),
        ({"configuration_key": "step"}, "import-option", ["configuration_key", "step_key"]),
        ({"level": ""}, "import-option", ["''"]),
        ({"level": "a/b"}, "import-option", ["'a/b'"]),
    ],
)
def test_options_that_cannot_be_meant_are_refused(tmp_path: Path, options: dict[str, Any], code: str, names: list[str]) -> None:
    host = make_host()
    frames = make_relaxation(near(ideal_structure(host, make_defects(host)["V_Sb"]), 1), 0)
    for atoms in frames:
        atoms.info.update({"defect": "V_Sb", "charge": 0, "configuration": "Rattled"})
    write(tmp_path / "a.extxyz", frames, format="extxyz")
    with raises_code(code, *names):
        import_extxyz([tmp_path / "a.extxyz"], host, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
    assert import_extxyz([tmp_path / "a.extxyz"], host, tmp_path / "out", defect_key="configuration").relaxations == 1
    with raises_code("no-file", "b.extxyz"):
        import_extxyz([tmp_path / "a.extxyz", tmp_path / "b.extxyz"], host, tmp_path / "out2")


@pytest.mark.parametrize(
    ("charge", "shown"),
    [("inf", "'inf'"), ("nan", "'nan'"), ("T", "'True'"), ('"1 2 3"', "'1 2 3'"), ("400", "'400'"), ("-13", "'-13'")],
)
def test_charges_that_are_none_are_named(tmp_path: Path, charge: str, shown: str) -> None:
    host = make_host()
    frames = make_relaxation(near(ideal_structure(host, make_defects(host)["V_Sb"]), 1), 0)
    for atoms in frames:
        atoms.info.update({"defect": "V_Sb", "charge": 0, "configuration": "Rattled"})
    write(tmp_path / "a.extxyz", frames, format="extxyz")
    (tmp_path / "a.extxyz").write_text((tmp_path / "a.extxyz").read_text().replace(" charge=0 ", f" charge={charge} "))
    with raises_code("import-nothing", "a.extxyz, frame 0", shown):
        import_extxyz([tmp_path / "a.extxyz"], host, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_shakenbreak_folder_of_an_impossible_charge_is_named(tmp_path: Path) -> None:
    host = make_host()
    poscar(tmp_path / "results" / "V_Sb_400" / "Unperturbed" / "POSCAR", ideal_structure(host, make_defects(host)["V_Sb"]))
    with raises_code("import-nothing", "V_Sb_400", "+400"):
        import_shakenbreak(tmp_path / "results", host, tmp_path / "out")


@pytest.mark.parametrize(
    "text", ["[" * 5000, "Unperturbed: !!int abc", "Unperturbed: 2020-99-99", "Unperturbed: 1" + "0" * 400, "a: !!bool x"]
)
def test_an_energies_file_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    shakenbreak_folder(tmp_path / "results")
    (tmp_path / "results" / "V_Sb_0" / "V_Sb_0.yaml").write_text(text)
    report = import_shakenbreak(tmp_path / "results", make_host(), tmp_path / "out")
    assert any(dropped.file == "V_Sb_0/V_Sb_0.yaml" for dropped in report.dropped)


def test_sources_inside_the_output_folder_are_refused(tmp_path: Path) -> None:
    """They were deleted with the folder that they lay in."""
    mine = tmp_path / "mine"
    shakenbreak_folder(mine)  # its host lies beside it
    host, frames, before = make_host(), make_relaxation(near(ideal_structure(make_host(), make_defects(make_host())["V_Sb"]), 1), 0), {}
    for atoms in frames:
        atoms.info.update({"defect": "V_Sb", "charge": 0})
    write(mine / "train.extxyz", frames, format="extxyz")
    write(mine / "host0.extxyz", host, format="extxyz")
    (tmp_path / "link").symlink_to(mine)
    write(tmp_path / "train.extxyz", frames, format="extxyz")
    before = {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()}
    for overwrite in (True, False):
        for source, own_host, starts, inside in (
            (mine / "train.extxyz", host, [], "train.extxyz"),
            (tmp_path / "link" / "train.extxyz", host, [], "link/train.extxyz"),
            (tmp_path / "train.extxyz", mine / "host0.extxyz", [], "host0.extxyz"),
            (tmp_path / "train.extxyz", host, [mine / "train.extxyz"], "mine/train.extxyz"),
        ):
            with raises_code("would-lose-data", inside):
                import_extxyz([source], own_host, mine, starts=starts, overwrite=overwrite)
        with raises_code("would-lose-data"):
            import_shakenbreak(mine, host, mine, overwrite=overwrite)
    with raises_code("would-lose-data", "dataset.yaml"):
        import_extxyz([tmp_path / "train.extxyz"], host, mine, overwrite=True)
    assert {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()} == before


def test_what_would_be_no_valid_dataset_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = make_host()
    shakenbreak_folder(tmp_path / "results")
    problem = Problem("host.extxyz", 0, "cell", "is wrong")
    monkeypatch.setattr(
        "defectbench.datasets.importing.assemble.validate_folder",
        lambda folder: ValidationReport(folder, (problem,), files=1, frames=1),
    )
    with raises_code("bad-frame", problem):
        import_shakenbreak(tmp_path / "results", host, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_energies_alone_are_enough(tmp_path: Path) -> None:
    host = make_host()
    atoms = near(ideal_structure(host, make_defects(host)["Sb_Se"]), 1)
    atoms.info = {"defect": "Sb_Se", "charge": 1, "configuration": "Rattled", "E": -3.25}
    write(tmp_path / "a.extxyz", atoms, format="extxyz")
    report = import_extxyz([tmp_path / "a.extxyz"], host, tmp_path / "out", energy_key="E")
    assert any("neither a 'converged' label nor forces" in note for note in report.notes)
    dataset = load_dataset(tmp_path / "out")
    assert dataset.minima("Sb_Se", 1)["Rattled"].energy == -3.25
    assert dataset.frames("Sb_Se", 1, "Rattled") == []


@pytest.mark.parametrize(("label", "force", "expected"), [(None, 0.029, 1), (None, 0.031, 0), (True, 0.5, 1), (False, 0.0, 0)])
def test_what_counts_as_converged(tmp_path: Path, label: bool | None, force: float, expected: int) -> None:
    host = make_host()
    frames = make_relaxation(near(ideal_structure(host, make_defects(host)["V_Sb"]), 1), 0, steps=2)
    stored_results(frames[-1])["forces"][2] = (0.0, force, 0.0)
    for atoms in frames:
        atoms.info = {"defect": "V_Sb", "charge": 0, "configuration": "Rattled", **({} if label is None else {"converged": label})}
    write_extxyz(tmp_path / "a.extxyz", frames)
    assert import_extxyz([tmp_path / "a.extxyz"], host, tmp_path / "out").minima == expected


def test_starts_from_a_file_of_their_own(tmp_path: Path) -> None:
    host = make_host()
    start = near(ideal_structure(host, make_defects(host)["V_Sb"]), 1)
    frames = make_relaxation(start, 0, steps=3)[1:]
    for atoms in (*frames, start):
        atoms.info.update({"defect": "V_Sb", "charge": 0, "configuration": "Rattled"})
    for index, atoms in enumerate(frames):
        atoms.info["step"] = index
    write_extxyz(tmp_path / "frames.extxyz", frames)
    write_extxyz(tmp_path / "starts.extxyz", [start])
    import_extxyz([tmp_path / "frames.extxyz"], host, tmp_path / "out", starts=[tmp_path / "starts.extxyz"])
    dataset = load_dataset(tmp_path / "out")
    assert np.allclose(dataset.starts("V_Sb", 0)["Rattled"].positions, start.positions, atol=1e-7)
    assert [atoms.info["step"] for atoms in dataset.frames("V_Sb", 0, "Rattled")] == [1, 2], "step 0 is the start alone"


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["V_Sb", "Sb_Se", "Se_i"]),
    st.tuples(*[st.floats(-20, 20)] * 3),
    st.integers(0, 10**6),
    st.integers(-4, 4),
)
def test_any_origin_and_order_come_back(name: str, shift: tuple[float, float, float], seed: int, charge: int) -> None:
    """Import → load gives the same structure on the host, wherever the origin was and however atoms were sorted and wrapped."""
    host = make_host()
    ideal = ideal_structure(host, make_defects(host)[name])
    start, relaxed = near(ideal, seed, 0.05), near(ideal, seed + 1, 0.05)
    order = np.random.default_rng(seed).permutation(len(ideal))
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "results" / f"{name}_{charge:+d}"
        for file, atoms in (("POSCAR", start), ("CONTCAR", relaxed)):
            moved = atoms[sorted(order, key=lambda i: atoms.numbers[i])]
            moved.positions += shift
            moved.wrap()
            poscar(state / "Rattled" / file, moved)
        poscar(state / "Unperturbed" / "POSCAR", ideal)
        (state / f"{state.name}.yaml").write_text("distortions: {Rattled: -1.0}\n")
        report = import_shakenbreak(Path(folder) / "results", host, Path(folder) / "out")
        dataset = load_dataset(Path(folder) / "out")
        assert len(report.dropped) == 1
        got = dataset.minima(name, charge)["Rattled"].atoms
        assert dataset.defect(name).site == make_defects(host)[name].site
        assert got.get_chemical_symbols() == ideal.get_chemical_symbols()
        # up to the small translation by which the origin cannot be known better than the atoms' displacements
        difference = minimum_image(got.positions - relaxed.positions, host.cell)
        assert np.abs(difference - np.median(difference, axis=0)).max() < 1e-6
        assert np.abs(np.median(difference, axis=0)).max() < 0.2


def test_small_displacements_do_not_move_the_origin(tmp_path: Path) -> None:
    """A structure whose atoms are near their sites keeps its positions exactly."""
    host = make_host()
    defect, placement = find_defect("V_Sb", near(ideal_structure(host, make_defects(host)["V_Sb"]), 3, 0.1), host, (0,))
    assert (defect.site, defect.removed) == (1, "Sb")
    assert not placement.shift.any()
    atoms = near(ideal_structure(host, defect), 4, 0.1)
    assert not place(atoms, host, defect).shift.any()
    assert np.allclose(apply(place(atoms, host, defect), atoms, host, defect).positions, atoms.positions)


def test_structures_that_are_no_point_defect_of_the_host() -> None:
    host = make_host()
    with raises_code("not-a-defect"):
        find_defect("x", host, host, (0,))
    with raises_code("not-a-defect", "-2 Se"):
        find_defect("x", host[:-2], host, (0,))
    scattered = host[1:]
    scattered.positions = np.random.default_rng(0).uniform(0, 6, (11, 3))
    with raises_code("not-a-defect"):
        find_defect("x", scattered, host, (0,))
    swapped = ideal_structure(host, make_defects(host)["Sb_Se"])
    swapped.positions[6] = host.positions[6] + (0.0, 3.0, 0.0)
    with raises_code("not-a-defect"):
        find_defect("x", swapped, host, (0,))
    with raises_code("other-cell"):
        in_host_cell(Atoms("Sb", cell=[5, 5, 5], pbc=True), host)
