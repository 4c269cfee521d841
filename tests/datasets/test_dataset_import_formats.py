"""Import of what users really have: odd file details, other programs' outputs, doped's JSON; and the shared cases where they are."""

from __future__ import annotations

import gzip
import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.io import write
from datasets_helpers import make_defects, make_host, make_relaxation
from refusals import check_refusal, raises_code
from typer.testing import CliRunner

from defectbench import load_dataset
from defectbench.cli import app
from defectbench.datasets.alignment import ideal_structure
from defectbench.datasets.extxyz import write_extxyz
from defectbench.datasets.importing.assemble import ImportReport, read_host_file
from defectbench.datasets.importing.doped import import_doped
from defectbench.datasets.importing.labelled_extxyz import import_extxyz
from defectbench.datasets.importing.shakenbreak import import_shakenbreak
from defectbench.datasets.vasp import read_poscar

HOST = make_host()
IDEAL = ideal_structure(HOST, make_defects(HOST)["V_Sb"])


def moved(seed: int, size: float = 0.05) -> Atoms:
    atoms = IDEAL.copy()
    atoms.positions += np.random.default_rng(seed).normal(size=atoms.positions.shape) * size
    return atoms


def poscar(path: Path, atoms: Atoms) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, atoms, format="vasp", direct=True)
    return path


def results(root: Path, energies: dict[str, float], folders: list[str]) -> ImportReport:
    for index, name in enumerate(folders):
        poscar(root / "V_Sb_0" / name / "POSCAR", moved(index))
        poscar(root / "V_Sb_0" / name / "CONTCAR", moved(index + 50))
    content: dict[str, Any] = {"distortions": {k: v for k, v in energies.items() if k != "Unperturbed"}}
    content |= {k: v for k, v in energies.items() if k == "Unperturbed"}
    (root / "V_Sb_0" / "V_Sb_0.yaml").write_text(yaml.safe_dump(content))
    return import_shakenbreak(root, HOST, root.parent / "out")


@pytest.mark.parametrize("change", ["lattice velocities", "incomplete velocities", "byte-order mark", "latin-1", "gzip"])
def test_details_of_contcars(tmp_path: Path, change: str) -> None:
    path = poscar(tmp_path / "CONTCAR", moved(1))
    text = path.read_text()
    if change == "lattice velocities":
        path.write_text(text + "Lattice velocities and vectors\n  1\n" + "  0.0 0.0 0.0\n" * 6)
    elif change == "incomplete velocities":
        path.write_text(text + "\n  0.0 0.0 0.0\n  0.1 0.0\n")
    elif change == "byte-order mark":
        path.write_text(text, encoding="utf-8-sig")
    elif change == "latin-1":
        path.write_text("Müller's run\n" + text.split("\n", 1)[1], encoding="latin-1")
    else:
        path = tmp_path / "CONTCAR.gz"
        path.write_bytes(gzip.compress(text.encode()))
    assert np.allclose(read_poscar(path).positions, moved(1).positions, atol=1e-6)


@pytest.mark.parametrize("name", ["POSCAR", "bulk", "my_cell.dat", "host.vasp"])
def test_a_host_may_have_any_name(tmp_path: Path, name: str) -> None:
    assert np.allclose(read_host_file(poscar(tmp_path / name, HOST)).positions, HOST.positions, atol=1e-6)


def test_energies_without_a_folder_are_named(tmp_path: Path) -> None:
    report = results(tmp_path / "r", {"Unperturbed": -9.0, "Rattled": -10.0, "Dimer": -11.0}, ["Unperturbed", "Rattled"])
    (note,) = [note for note in report.notes if "Dimer" in note]
    assert "-11" in note
    assert "BELOW" in note
    assert "Rattled" in note


def test_suffixes_of_users_are_kept(tmp_path: Path) -> None:
    names = ["Unperturbed", "Bond_Distortion_-40.0%_nupdown_2", "Bond_Distortion_50.0%_from_stdev_0pt18", "Rattled_stdev_0.15"]
    energies = {"Unperturbed": -9.0, "-40.0%_nupdown_2": -12.0, "50.0%_from_stdev_0pt18": -11.0, "Rattled_stdev_0.15": -10.0}
    report = results(tmp_path / "r", energies, names)
    assert report.minima == 4
    ground = load_dataset(report.path).ground_state("V_Sb", 0)
    assert ground is not None
    assert ground.configuration == "Bond_Distortion_-40.0%_nupdown_2"


def test_another_cell_is_the_first_reason(tmp_path: Path) -> None:
    for name in ("Unperturbed", "Rattled"):
        poscar(tmp_path / "r" / "V_Sb_0" / name / "CONTCAR", moved(1))
    (tmp_path / "r" / "V_Sb_0" / "V_Sb_0.yaml").write_text("Unperturbed: -1.0\ndistortions: {Rattled: -2.0}\n")
    with raises_code("import-nothing", "cell"):
        import_shakenbreak(tmp_path / "r", HOST.repeat((2, 1, 1)), tmp_path / "out")


def test_outputs_give_frames_with_forces(shared: Path, tmp_path: Path) -> None:
    finals = shared / "mirror" / "doped-93c8b99b" / "examples" / "MgO" / "Defects" / "Pre_Calculated_Results"
    if not finals.is_dir():
        pytest.skip(f"there is no {finals}")
    folder = tmp_path / "r" / "Mg_O_+1" / "Unperturbed"
    folder.mkdir(parents=True)
    shutil.copy(finals / "Mg_O_+1" / "vasp_std" / "OUTCAR.gz", folder)
    report = import_shakenbreak(tmp_path / "r", finals / "MgO_bulk" / "vasp_std" / "POSCAR", tmp_path / "out")
    dataset = load_dataset(report.path)
    minimum = dataset.minima("Mg_O", 1)["Unperturbed"]
    assert minimum.energy == pytest.approx(-1339.83845723, abs=1e-6)
    assert minimum.has_forces
    assert np.abs(minimum.atoms.get_forces()).max() < 0.01


def test_castep_and_espresso_inputs_are_starts(tmp_path: Path) -> None:
    for name, file, kind in (("Rattled", "geometry.in", "aims"), ("Dimer", "structure.cif", "cif")):
        folder = tmp_path / "r" / "V_Sb_0" / name
        folder.mkdir(parents=True)
        write(folder / file, moved(4), format=kind)
        poscar(folder / "CONTCAR", moved(6 + len(name)))
    (tmp_path / "r" / "V_Sb_0" / "V_Sb_0.yaml").write_text("distortions: {Rattled: -2.0, Dimer: -1.0}\n")
    report = import_shakenbreak(tmp_path / "r", HOST, tmp_path / "out")
    starts = load_dataset(report.path).starts("V_Sb", 0)
    assert set(starts) == {"Rattled", "Dimer"}
    assert np.allclose(starts["Rattled"].positions, moved(4).positions, atol=1e-5)


def test_a_damaged_output_is_named_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "r" / "V_Sb_0" / "Unperturbed").mkdir(parents=True)
    (tmp_path / "r" / "V_Sb_0" / "Unperturbed" / "OUTCAR").write_text("killed")
    report = results(tmp_path / "r", {"Unperturbed": -1.0, "Rattled": -2.0}, ["Rattled"])
    assert load_dataset(report.path).minima("V_Sb", 0)["Rattled"].energy == -2.0
    assert any("OUTCAR" in str(item) for item in report.dropped)


def frames(forces_key: str = "forces", energy_key: str = "energy") -> list[Atoms]:
    out = []
    for atoms in make_relaxation(moved(1), 0, steps=3, converged=False):
        frame = Atoms(atoms.get_chemical_symbols(), positions=atoms.positions, cell=atoms.cell, pbc=True)
        frame.info = {"charge": 0, "defect": "V_Sb", "configuration": "Rattled", energy_key: atoms.get_potential_energy()}
        frame.arrays[forces_key] = atoms.get_forces() * 3.0
        out.append(frame)
    return out


def test_forces_under_another_key_never_make_a_minimum(tmp_path: Path) -> None:
    write(tmp_path / "a.extxyz", frames("REF_forces", "REF_energy"), format="extxyz")
    with raises_code("import-label", "REF_forces"):
        import_extxyz([tmp_path / "a.extxyz"], HOST, tmp_path / "out", energy_key="REF_energy", forces_key="REF_force")
    report = import_extxyz([tmp_path / "a.extxyz"], HOST, tmp_path / "out", energy_key="REF_energy")
    assert report.minima == 0
    assert any("REF_forces" in note for note in report.notes)


def test_free_energy_is_a_label_like_any_other(tmp_path: Path) -> None:
    write(tmp_path / "a.extxyz", frames(energy_key="free_energy"), format="extxyz")
    assert import_extxyz([tmp_path / "a.extxyz"], HOST, tmp_path / "out", energy_key="free_energy").relaxations == 1


def test_details_of_extxyz(tmp_path: Path) -> None:
    written = make_relaxation(moved(1), 0, steps=2)
    for frame in written:
        frame.info |= {"charge": 0, "defect": "V_Sb", "configuration": "Rattled"}
    write_extxyz(tmp_path / "a.extxyz", written)
    lines = (tmp_path / "a.extxyz").read_text().splitlines()
    size = len(IDEAL) + 2
    alone = [
        "1",
        'Lattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3 charge=0 defect=V_Sb energy=-1.0 configuration=Rattled',
        "Sb 0 0 0",
    ]
    text = "\n".join([*alone, "", *lines[:size], "", "", *lines[size:], ""])
    (tmp_path / "b.extxyz").write_text(text, encoding="utf-8-sig")
    report = import_extxyz([tmp_path / "b.extxyz"], HOST, tmp_path / "out")
    assert (report.relaxations, report.minima) == (1, 1)
    assert [item.reason for item in report.dropped] == ["an isolated atom"]


def pymatgen(atoms: Atoms) -> dict[str, Any]:
    fractional = atoms.get_scaled_positions(wrap=False)
    sites = [
        {"species": [{"element": s, "occu": 1}], "abc": list(f)} for s, f in zip(atoms.get_chemical_symbols(), fractional, strict=True)
    ]
    return {"@class": "Structure", "lattice": {"matrix": atoms.cell.array.tolist()}, "sites": sites}


def doped_entry(charge: int, energy: float, correction: dict[str, float]) -> dict[str, Any]:
    return {
        "@class": "DefectEntry",
        "name": f"v_Sb_{charge:+d}",
        "charge_state": charge,
        "sc_entry": {"energy": energy, "structure": pymatgen(moved(charge + 5))},
        "bulk_entry": {"energy": -60.0},
        "bulk_supercell": pymatgen(HOST),
        "corrections": correction,
        "calculation_metadata": {"unrelaxed_defect_structure": pymatgen(IDEAL), "vbm": 1.5, "gap": 1.2},
    }


@pytest.mark.parametrize("packed", [False, True])
def test_doped_objects(tmp_path: Path, packed: bool) -> None:
    content = {
        "@class": "DefectThermodynamics",
        "defect_entries": {"v_Sb_0": doped_entry(0, -55.0, {}), "v_Sb_-1": doped_entry(-1, -53.0, {"a": 0.2, "b": 0.05})},
        "chempots": {"limits": {"Sb-rich": {"Sb": -5.0, "Se": -4.0}}},
        "vbm": 1.5,
        "band_gap": 1.2,
    }
    path = tmp_path / ("t.json.gz" if packed else "t.json")
    raw = json.dumps(content).encode()
    path.write_bytes(gzip.compress(raw) if packed else raw)
    report = import_doped([path], tmp_path / "out", level="HSE06")
    dataset = load_dataset(report.path)
    level = dataset.level_of_theory()
    assert dataset.states == (("v_Sb", -1), ("v_Sb", 0))
    assert dataset.minima("v_Sb", -1)["Published"].energy == -53.0
    assert level.host_energy == -60.0
    assert level.band_edges is not None
    assert (level.band_edges.vbm, level.band_edges.cbm) == (1.5, pytest.approx(2.7))
    assert level.chemical_potentials[0].potentials == {"Sb": -5.0, "Se": -4.0}
    correction = dataset.correction("v_Sb", -1)
    assert correction is not None
    assert correction.total == pytest.approx(0.25)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}', '{"defect_entries": {"v": {"@class": "DefectEntry"}}}', "null", "[" * 3000])
def test_what_is_no_doped_object_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.json").write_text(text)
    with raises_code("bad-format", "t.json"):
        import_doped([tmp_path / "t.json"], tmp_path / "out")


def two_sites(tmp_path: Path, host: Atoms) -> ImportReport:
    """Two configurations of a vacancy, each on a site of its own."""
    for name, site in (("Unperturbed", 0), ("Rattled", 2)):
        atoms = host.copy()
        del atoms[site]
        atoms.rattle(0.02, seed=site)
        poscar(tmp_path / "r" / "V_Sb_0" / name / "POSCAR", atoms)
        atoms.rattle(0.02, seed=site + 1)
        poscar(tmp_path / "r" / "V_Sb_0" / name / "CONTCAR", atoms)
    (tmp_path / "r" / "V_Sb_0" / "V_Sb_0.yaml").write_text("Unperturbed: -1.0\ndistortions: {Rattled: -2.0}\n")
    return import_shakenbreak(tmp_path / "r", host, tmp_path / "out")


def test_a_start_on_an_equivalent_site_is_carried_to_the_dataset_s(tmp_path: Path) -> None:
    # a screw along z carries site 0 to 2 and 1 to 3; no translation does
    host = Atoms("Sb4", scaled_positions=[(0.1, 0.2, 0.0), (0.4, 0.7, 0.1), (0.9, 0.8, 0.5), (0.6, 0.3, 0.6)], cell=(9, 8, 7), pbc=True)
    host = host + Atoms("Se4", scaled_positions=[(0.3, 0.1, 0.3), (0.7, 0.6, 0.2), (0.7, 0.9, 0.8), (0.3, 0.4, 0.7)], cell=(9, 8, 7))
    report = two_sites(tmp_path, host)
    dataset = load_dataset(report.path)
    assert any("carried" in note for note in report.notes)
    site = host.positions[dataset.metadata.defect("V_Sb").site]
    for name, minimum in dataset.minima("V_Sb", 0).items():
        assert np.allclose(dataset.defect_position("V_Sb", minimum.atoms), site), name
        start = dataset.starts("V_Sb", 0)[name]
        assert np.linalg.norm(minimum.atoms.positions - start.positions, axis=1).max() < 0.2


def test_a_start_on_a_site_that_is_not_equivalent_is_refused(tmp_path: Path) -> None:
    report = two_sites(tmp_path, HOST)
    assert [item for item in report.dropped if "no symmetry operation" in item.reason]
    assert len(load_dataset(report.path).minima("V_Sb", 0)) == 1


def test_a_defect_that_moved_is_found_where_it_is(tmp_path: Path) -> None:
    for name in ("Unperturbed", "Rattled"):
        atoms = HOST[1:]
        atoms.rattle(0.02, seed=len(name))
        poscar(tmp_path / "r" / "V_Sb_0" / name / "POSCAR", atoms)
        if name == "Rattled":
            atoms.positions[1] = HOST.positions[0]  # the atom of site 2
        atoms.rattle(0.02, seed=len(name))
        poscar(tmp_path / "r" / "V_Sb_0" / name / "CONTCAR", atoms)
    (tmp_path / "r" / "V_Sb_0" / "V_Sb_0.yaml").write_text("Unperturbed: -1.0\ndistortions: {Rattled: -2.0}\n")
    dataset = load_dataset(import_shakenbreak(tmp_path / "r", HOST, tmp_path / "out").path)
    ground = dataset.ground_state("V_Sb", 0)
    assert ground is not None
    assert np.allclose(dataset.defect_position("V_Sb"), HOST.positions[0])
    assert np.allclose(dataset.defect_position("V_Sb", ground.atoms), HOST.positions[2])


SHARED_CASES = {
    "contcar-lattice-velocities": (None, "1 minima"),
    "energies-without-folder": (None, "Bond_Distortion_-40.0% (-11.25 eV), Dimer (-11 eV)"),
    "extxyz-forces-key": ("import-label", "REF_forces"),
    "extxyz-free-energy": (None, "1 minima"),
    "snb-user-suffixes": (None, "4 minima"),
    "vacancy-migrates": (None, "moved 5.45"),
    "wrong-host-message": ("import-nothing", "cell"),
}


@pytest.mark.parametrize("case", SHARED_CASES)
def test_shared_cases(shared: Path, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shared / "cases" / "import" / case
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}")
    command = (folder / "README").read_text().splitlines()[0].split("#")[0]
    words = shlex.split(command)[1:]
    words[words.index("-o") + 1] = str(tmp_path / "out")
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(app, words)
    code, text = SHARED_CASES[case]
    if code:
        check_refusal(result.exception, code, text)
    else:
        assert result.exit_code == 0, result.output
        assert text in " ".join(result.output.split())
