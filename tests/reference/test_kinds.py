"""The tasks that are no relaxations: what runs, and what of it ends in the dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.units import Bohr, Hartree
from reference_dft.describe import tables
from reference_dft.manager import Manager
from reference_dft.properties import growth_conditions, read_properties, site_potentials
from reference_dft.reference_data import ReferenceData, changed_method
from reference_dft.tasks import Task, matches
from refusals import raises_code
from tiny_dataset import write_tiny_dataset

from defectbench.calculations.plan import SelectedState
from defectbench.datasets.catalogue import load_dataset
from defectbench.datasets.writing import add_relaxation
from defectbench.scoring.frames import shared_geometries
from defectbench.tasks.ccd.score import diagrams, reference_points

pytestmark = pytest.mark.slow

RELAX = {"kind": "relaxation", "level": "PBE", "defect": "V_H1", "charges": [0, 1], "configurations": ["Unperturbed", "Dimer"]}
FRAME = {"level": "PBE", "defect": "V_H1", "charge": 0, "configuration": "Unperturbed"}


def work_through(tmp_path: Path, fake: Path, *blocks: dict[str, Any], extra: dict[str, str] | None = None) -> tuple[Path, list[str]]:
    folder = write_tiny_dataset(tmp_path / "tiny", {"blocks": list(blocks)})
    for name, text in (extra or {}).items():
        (folder / name).write_text(text)
    lines: list[str] = []
    Manager(ReferenceData(folder), tmp_path / "work").run([str(fake)], 2, poll=0.02, report=lines.append, niceness=0)
    return folder, lines


def results(folder: Path, kind: str, level: str = "PBE") -> list[dict[str, Any]]:
    return [result for result in read_properties(folder, level) if result["kind"] == kind]


def test_force_check(tmp_path: Path, fake_cp2k: Path) -> None:
    block = {"kind": "finite_difference", **FRAME, "step": 0, "components": 2, "displacement": 0.02}
    folder, _ = work_through(tmp_path, fake_cp2k, RELAX, block)
    found = results(folder, "finite_difference")
    assert len(found) == 2
    largest = max(found, key=lambda r: abs(r["force"]))
    assert (largest["atom"], largest["axis"]) == (0, 0), "of the two on the spring the first"
    assert largest["force_by_difference"] == pytest.approx(largest["force"], rel=1e-4)
    names = set(load_dataset(folder).metadata.files)
    assert {name for name in names if name.startswith("properties/")} == {
        path.relative_to(folder).as_posix() for path in (folder / "properties").rglob("*.json")
    }


def test_force_check_of_a_hybrid_begins_with_the_pbe_wave_function_of_each_side(tmp_path: Path, fake_cp2k: Path) -> None:
    single = {"kind": "single_point", "level": "HSE06", "of": "PBE", "defect": "V_H1", "charges": [0, 1], "frames": 5}
    folder, _ = work_through(tmp_path, fake_cp2k, RELAX, single)
    name, frame = next(
        (name, atoms)
        for name in load_dataset(folder).configurations("V_H1", 0, "HSE06")
        for atoms in load_dataset(folder).frames("V_H1", 0, name, "HSE06")
    )
    block = {"kind": "finite_difference", **FRAME, "level": "HSE06", "configuration": name, "step": frame.info["step"], "components": 1}
    (folder / "queue.yaml").write_text(yaml.safe_dump({"blocks": [RELAX, single, block]}))
    Manager(ReferenceData(folder), tmp_path / "work").run([str(fake_cp2k)], 2, poll=0.02, report=lambda _: None, niceness=0)
    (found,) = results(folder, "finite_difference", "HSE06")
    assert found["force"] == pytest.approx(float(frame.get_forces()[found["atom"], found["axis"]]))
    assert found["force_by_difference"] == pytest.approx(found["force"], rel=1e-4, abs=1e-6)
    assert f"| HSE06 | V_H1 | 0 | {name}, step {frame.info['step']} | {found['atom']} x |" in tables(folder)
    (job,) = (tmp_path / "work" / "finite_difference" / "HSE06").iterdir()
    inputs = [(job / f"segment-0{i}" / "input.inp").read_text() for i in range(4)]
    assert ["XWPBE" in text for text in inputs] == [False, True, False, True]
    assert all("RUN_TYPE ENERGY\n" in text for text in inputs), "nobody reads its forces"
    assert all("SCF_GUESS RESTART" in text for text in inputs), "the first from the relaxation's wave function"


def test_hybrid_single_points_start_from_the_pbe_wave_function(tmp_path: Path, fake_cp2k: Path) -> None:
    block = {"kind": "single_point", "level": "HSE06", "of": "PBE", "defect": "V_H1", "charges": [0, 1], "frames": 5}
    folder, _ = work_through(tmp_path, fake_cp2k, RELAX, block)
    dataset = load_dataset(folder)
    count = 0
    for charge in (0, 1):
        for name in dataset.configurations("V_H1", charge, "HSE06"):
            frames = dataset.frames("V_H1", charge, name, "HSE06")
            parents = {a.info["step"]: a for a in dataset.frames("V_H1", charge, name, "PBE")}
            count += len(frames)
            for atoms in frames:
                np.testing.assert_allclose(atoms.positions, parents[atoms.info["step"]].positions, atol=1e-7)
                assert not atoms.info["converged"]
        ground = dataset.ground_state("V_H1", charge, "PBE")
        assert ground is not None
        assert ground.configuration in dataset.configurations("V_H1", charge, "HSE06")
    assert count == 5
    job = next((tmp_path / "work" / "single_point" / "HSE06").iterdir())
    first, second = ((job / f"segment-0{i}" / "input.inp").read_text() for i in (0, 1))
    assert "XWPBE" not in first
    assert "RUN_TYPE ENERGY\n" in first
    assert "RUN_TYPE ENERGY_FORCE" in second
    assert "SCF_GUESS RESTART" in first, "from the relaxation's wave function"
    assert "XWPBE" in second
    assert "SCF_GUESS RESTART" in second
    assert (job / "segment-01" / "relax-RESTART.wfn").is_file()
    text = tables(folder)
    for charge, sign in ((0, "0"), (1, "+1")):
        ground = dataset.ground_state("V_H1", charge, "PBE")
        assert ground is not None
        size = np.abs(dataset.frames("V_H1", charge, ground.configuration, "HSE06")[-1].get_forces()).max()
        assert f"| HSE06//PBE | V_H1 | {sign} | {ground.configuration} | 0.000 | 0.000 | {size:.3f} |" in text
        frames = [a for name in dataset.configurations("V_H1", charge, "HSE06") for a in dataset.frames("V_H1", charge, name, "HSE06")]
        own = np.sqrt(np.mean([a.get_forces() ** 2 for a in frames]))
        row = next(line for line in text.splitlines() if line.startswith(f"| HSE06 | V_H1 | {sign} | {len(frames)} |"))
        assert row.split(" | ")[5] == f"{own:.3f}"
    kept = {r["charge"]: r["configuration"] for r in results(folder, "potential", "HSE06")}
    grounds = {q: dataset.ground_state("V_H1", q, "PBE") for q in (0, 1)}
    assert kept == {q: ground.configuration for q, ground in grounds.items() if ground is not None}


def test_single_points_wait_for_all_relaxations_of_their_charge(tmp_path: Path) -> None:
    block = {"kind": "single_point", "level": "HSE06", "of": "PBE", "defect": "V_H1", "charges": [0], "frames": 5}
    folder = write_tiny_dataset(tmp_path / "tiny", {"blocks": [RELAX, block]})
    assert not [task for task in ReferenceData(folder).tasks() if task.kind == "single_point"]


PATH = {"kind": "path", "level": "PBE", "defect": "V_H1", "charges": [0, 1], "fractions": [-0.15, 0.0, 0.5, 1.0]}


def test_path_between_ground_states_becomes_frames_on_the_path_of_the_ccd_task(
    tmp_path: Path, fake_cp2k: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_CP2K_SPLIT", "0.4")
    folder, lines = work_through(tmp_path, fake_cp2k, RELAX, PATH)
    assert not [line for line in lines if "not added" in line]
    dataset = load_dataset(folder)
    (diagram,) = diagrams(dataset, [("V_H1", 0), ("V_H1", 1)])
    assert (diagram.upper, diagram.lower) == (1, 0)
    for charge, own, steps in ((1, 0.0, [0, 2, 3]), (0, 1.0, [0, 1, 2])):
        frames = dataset.frames("V_H1", charge, "Path_+1_+0")
        assert [a.info["step"] for a in frames] == steps
        assert not any(a.info["converged"] for a in frames)
        expected = {float(f) for f in PATH["fractions"] if f != own}
        for atoms, fraction in zip(frames, sorted(expected), strict=True):
            place, aside = diagram.path.project(atoms)
            assert place == pytest.approx(fraction, abs=1e-3)
            assert aside < 1e-3
        assert np.array(sorted(reference_points(dataset, diagram, charge))) == pytest.approx(sorted({*expected, own}), abs=1e-3)


def test_between_equal_ground_states_there_is_no_path(tmp_path: Path, fake_cp2k: Path) -> None:
    folder, _ = work_through(tmp_path, fake_cp2k, RELAX, PATH)
    assert not [task for task in ReferenceData(folder).tasks() if task.kind == "path"]
    assert "Path_+1_+0" not in load_dataset(folder).configurations("V_H1", 0)


def test_a_lower_ground_state_makes_path_and_potential_anew(tmp_path: Path, fake_cp2k: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_CP2K_SPLIT", "0.4")
    potential = {"kind": "potential", "level": "PBE", "defect": "V_H1", "charges": [0, 1], "wait": False}
    folder, _ = work_through(tmp_path, fake_cp2k, RELAX, {**PATH, "wait": False}, potential)
    data = ReferenceData(folder)
    before = {task.label: data.finished(task) for task in data.tasks()}
    assert all(before.values())
    dataset = load_dataset(folder)
    ground = dataset.ground_state("V_H1", 0)
    assert ground is not None
    other = "Dimer" if ground.configuration == "Unperturbed" else "Unperturbed"
    frames = dataset.frames("V_H1", 0, other)
    for atoms in frames:
        atoms.calc.results["energy"] -= 5.0
        atoms.positions[0, 1] -= 0.05 * atoms.info["step"]
    add_relaxation(folder, frames, overwrite=True)
    data.reload()
    after = {task.label for task in data.tasks() if not data.finished(task)}
    unmoved = "path/PBE/V_H1_q+0_Path_+1_+0_at_0.0000"  # the ground state of +1
    assert after == {label for label in before if label.startswith("path/")} - {unmoved} | {"potential/PBE/V_H1_q+0"}
    lines: list[str] = []
    Manager(ReferenceData(folder), tmp_path / "work").run([str(fake_cp2k)], 2, poll=0.02, report=lines.append, niceness=0)
    data.reload()
    assert {task.label for task in data.tasks() if not data.finished(task)} == set(), lines


def test_ground_states_may_change_during_a_run(tmp_path: Path, fake_cp2k: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_CP2K_SPLIT", "0.4")
    first, later = ({**RELAX, "configurations": [name]} for name in ("Dimer", "Unperturbed"))
    potential = {"kind": "potential", "level": "PBE", "defect": "V_H1", "charges": [0, 1], "wait": False}
    folder = write_tiny_dataset(tmp_path / "tiny", {"blocks": [first, {**PATH, "wait": False}, potential, later]})
    data, lines = ReferenceData(folder), []
    Manager(data, tmp_path / "work").run([str(fake_cp2k)], 1, poll=0.02, report=lines.append, niceness=0)
    done = "potential/PBE/V_H1_q+0: is in the dataset"
    assert lines.count(done) == 2, "for the ground state so far and for the lower one"
    assert lines.index(done) < lines.index("relaxation/PBE/V_H1_q+0_Unperturbed: done")
    ground = load_dataset(folder).ground_state("V_H1", 0)
    assert ground is not None
    assert ground.configuration == "Unperturbed"
    data.reload()
    assert [task.label for task in data.tasks() if not data.finished(task)] == []


def test_what_was_running_when_a_lower_ground_state_came_is_not_added(
    tmp_path: Path, fake_cp2k: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_CP2K_SPLIT", "0.4")
    folder = write_tiny_dataset(tmp_path / "tiny", {"blocks": [RELAX, PATH]})
    manager = Manager(ReferenceData(folder), tmp_path / "work")
    manager.run([str(fake_cp2k)], 2, poll=0.02, report=lambda _: None, niceness=0)
    jobs = [job for task in manager.tasks() if task.kind == "path" and (job := manager.job(task)) is not None]
    assert len(jobs) == 6
    ground = load_dataset(folder).ground_state("V_H1", 0)
    assert ground is not None
    other = "Dimer" if ground.configuration == "Unperturbed" else "Unperturbed"
    frames = load_dataset(folder).frames("V_H1", 0, other)
    for atoms in frames:
        atoms.calc.results["energy"] -= 5.0
        atoms.positions[0, 1] -= 0.05 * atoms.info["step"]
    add_relaxation(folder, frames, overwrite=True)
    lines: list[str] = []
    for job in jobs:
        manager._finish(job, True, lines.append)
    assert sum("not added" in line and "its structure is no longer on the path" in line for line in lines) == len(jobs) - 1, lines
    unmoved = [line for line in lines if "is in the dataset" in line]
    assert unmoved == ["path/PBE/V_H1_q+0_Path_+1_+0_at_0.0000: is in the dataset"], "at the ground state of +1"


def test_one_start_at_several_charges(tmp_path: Path, fake_cp2k: Path) -> None:
    block = {"kind": "start", "level": "PBE", "defect": "V_H1", "charges": [0, 1], "configuration": "Unperturbed"}
    folder, _ = work_through(tmp_path, fake_cp2k, block)
    dataset = load_dataset(folder)
    (geometry,) = shared_geometries(dataset, [SelectedState("V_H1", q, ()) for q in (0, 1)])
    assert sorted(geometry.frames) == [0, 1]
    assert dataset.minima("V_H1", 0) == {}
    np.testing.assert_allclose(geometry.atoms.positions, dataset.starts("V_H1", 0)["Unperturbed"].positions)


def test_single_points_begin_with_the_wave_function_of_their_relaxation(tmp_path: Path, fake_cp2k: Path) -> None:
    work_through(tmp_path, fake_cp2k, RELAX, {"kind": "potential", "level": "PBE", "defect": "V_H1", "charges": [0]})
    folder = tmp_path / "work" / "potential" / "PBE" / "V_H1_q+0" / "segment-00"
    assert "SCF_GUESS RESTART" in (folder / "input.inp").read_text()
    assert "step" in (folder / "relax-RESTART.wfn").read_text(), "the relaxation's"


def test_host_energy_band_edges_and_elements_reach_the_metadata(tmp_path: Path, fake_cp2k: Path) -> None:
    solid = '1\nLattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3\nH 0 0 0\n'
    element = {
        "kind": "element",
        "level": "PBE",
        "element": "H",
        "file": "solid.extxyz",
        "supercell": [2, 1, 1],
        "kpoints": [2, 2, 2],
        "relax": True,
    }
    folder, lines = work_through(tmp_path, fake_cp2k, {"kind": "host", "level": "PBE"}, element, extra={"solid.extxyz": solid})
    level = load_dataset(folder).level_of_theory("PBE")
    host = results(folder, "host")[0]
    assert level.host_energy == host["energy"]
    assert level.band_edges is not None
    assert level.band_edges.vbm == pytest.approx(-0.2 * Hartree)
    assert level.band_edges.cbm == pytest.approx(0.1 * Hartree)
    assert host["site_potentials"] == pytest.approx([0.1 * Hartree] * 3, abs=1e-5)
    solid_result = results(folder, "element")[0]
    assert solid_result["atoms"] == 2
    assert solid_result["energy"] == pytest.approx(-Hartree, rel=1e-4), "it is the relaxed one"
    assert solid_result["energy_per_atom"] == pytest.approx(solid_result["energy"] / 2)
    text = (tmp_path / "work" / "element" / "PBE" / "H" / "segment-00" / "input.inp").read_text()
    assert "MONKHORST-PACK 2 2 2" in text
    assert not [line for line in lines if "not added" in line]


def test_potentials_of_ground_states(tmp_path: Path, fake_cp2k: Path) -> None:
    folder, _ = work_through(tmp_path, fake_cp2k, RELAX, {"kind": "potential", "level": "PBE", "defect": "V_H1", "charges": [0]})
    found = results(folder, "potential")[0]
    assert found["charge"] == 0
    assert len(found["site_potentials"]) == 2


def test_check_with_other_settings(tmp_path: Path, fake_cp2k: Path) -> None:
    finer = {"kind": "check", "name": "finer", **FRAME, "method": {"cutoff_ry": 300.0, "scf_restricted": {"minimizer": "CG"}}}
    spin = {"kind": "check", "name": "triplet", **FRAME, "step": 0, "multiplicity": 3}
    folder, _ = work_through(tmp_path, fake_cp2k, RELAX, finer, spin)
    found = {r["name"]: r for r in results(folder, "check")}
    assert found["finer"]["energy_difference"] == pytest.approx(0.0, abs=1e-5)
    assert found["finer"]["force_difference_max"] < 1e-5
    text = next((tmp_path / "work" / "check" / "PBE").glob("*finer/segment-00/input.inp")).read_text()
    assert "CUTOFF 300" in text
    assert "MINIMIZER CG" in text
    assert "UKS T" in next((tmp_path / "work" / "check" / "PBE").glob("*triplet/segment-00/input.inp")).read_text()


def test_a_check_at_a_level_without_relaxations_needs_a_step(tmp_path: Path) -> None:
    block = {"kind": "check", "name": "finer", **FRAME, "level": "HSE06", "method": {"cutoff_ry": 300.0}}
    with raises_code("bad-dataset", "check finer", "HSE06"):
        ReferenceData(write_tiny_dataset(tmp_path / "without", {"blocks": [block]}))
    ReferenceData(write_tiny_dataset(tmp_path / "with", {"blocks": [{**block, "step": 1}]}))


def test_a_check_that_changes_what_there_is_not_is_refused(tiny: Path) -> None:
    method = ReferenceData(tiny).method("PBE")
    assert changed_method(method, {"cutoff_ry": 400}).cutoff_ry == 400
    with raises_code("bad-dataset", "cutof"):
        changed_method(method, {"cutof": 400})


def test_growth_conditions_of_a_binary() -> None:
    found = {c.name: c.potentials for c in growth_conditions({"Sb": 2, "Se": 3}, -50.0, {"Sb": -4.0, "Se": -12.0}, "made up")}
    assert found["Sb-rich"] == {"Sb": -4.0, "Se": pytest.approx(-14.0)}
    assert found["Se-rich"] == {"Se": -12.0, "Sb": pytest.approx(-7.0)}
    assert growth_conditions({"Sb": 2, "Se": 3}, -50.0, {"Sb": -4.0}, "") == ()
    assert growth_conditions({"Sb": 2, "Se": 3, "O": 1}, -50.0, {"Sb": -4.0, "Se": -12.0, "O": -1.0}, "") == ()


def test_site_potentials_average_over_spheres(tmp_path: Path) -> None:
    """A wave in an oblique cell: the average over a sphere, here by quadrature, is known wherever the sphere lies on the grid."""
    shape, cell = (12, 10, 8), np.array([[6.0, 0.0, 0.0], [1.0, 5.0, 0.0], [0.5, -0.7, 4.5]])
    wave = 2 * np.pi * np.linalg.inv(cell) @ np.array([1, -2, 1])  # 1/Å
    fractions = np.stack(np.meshgrid(*[np.arange(n) / n for n in shape], indexing="ij"), axis=-1)
    values = 0.3 + 0.05 * np.cos(fractions @ cell @ wave)  # hartree
    atoms = Atoms("HHH", positions=[[1.0, 1.0, 0.1], [3.03, 2.9, 4.0], [3.05, 2.92, 4.01]], cell=cell, pbc=True)
    header = [f"{len(atoms)} 0 0 0"] + [
        f"{n} " + " ".join(repr(x / n / Bohr) for x in row) for n, row in zip(shape, cell.tolist(), strict=True)
    ]
    rows = [f"1 1.0 {a / Bohr} {b / Bohr} {c / Bohr}" for a, b, c in atoms.positions]
    path = tmp_path / "v.cube"
    path.write_text("\n".join(["a", "b", *header, *rows]) + "\n" + " ".join(f"{v:.12f}" for v in values.ravel()) + "\n")
    radius = 0.8
    # shells of equal thickness, and equal slices of them along the wave, on which it averages to cos(k z)
    r = (np.arange(400) + 0.5) / 400 * radius
    z = (np.arange(400) + 0.5) / 200 - 1
    over_shells = np.cos(np.linalg.norm(wave) * r[:, None] * z).mean(axis=1)
    damping = float((over_shells * r**2).sum() / (r**2).sum())
    expected = -Hartree * (0.3 + 0.05 * damping * np.cos(atoms.positions @ wave))
    np.testing.assert_allclose(site_potentials(path, atoms, radius), expected, atol=1e-5)


def test_labels_are_unique_paths_and_can_be_selected() -> None:
    task = Task("single_point", "HSE06", "V_Sb1", -1, "Dimer", step=3)
    assert task.label == "single_point/HSE06/V_Sb1_q-1_Dimer_step-003"
    assert matches(task, ("q-1",), None)
    assert matches(task, ("Dimer_step-00[1-4]",), "HSE06")
    assert not matches(task, ("q-2",), None)
    assert not matches(task, (), "PBE")


def test_one_level_continues_another_and_relaxes_a_start_directly_besides(tmp_path: Path, fake_cp2k: Path) -> None:
    def block(**more: object) -> dict[str, object]:
        return {"kind": "relaxation", "level": "PBE-k", "defect": "V_H1", "charges": [0], "configurations": ["Dimer"], **more}

    folder, lines = work_through(tmp_path, fake_cp2k, block(continue_from="PBE"), block(prefix="Direct_"), RELAX)
    dataset = load_dataset(folder)
    assert set(dataset.minima("V_H1", 0, "PBE-k")) == {"Dimer", "Direct_Dimer"}
    gamma = dataset.frames("V_H1", 0, "Dimer", "PBE")
    went_on = dataset.frames("V_H1", 0, "Dimer", "PBE-k")
    direct = dataset.frames("V_H1", 0, "Direct_Dimer", "PBE-k")
    np.testing.assert_allclose(went_on[0].positions, gamma[-1].positions, atol=1e-6)
    assert went_on[0].info["step"] == 1, "step 0 is a start"
    np.testing.assert_allclose(direct[0].positions, dataset.starts("V_H1", 0)["Dimer"].positions, atol=1e-6)
    assert [atoms.info["step"] for atoms in direct] == list(range(len(direct)))
    begun = [line.split(": segment")[0].split("/", 1)[1] for line in lines if "segment 0 started" in line]
    assert begun.index("PBE/V_H1_q+0_Dimer") < begun.index("PBE-k/V_H1_q+0_Dimer")


def test_what_continues_begins_moved_as_the_nearest_minimum_moved(tmp_path: Path, fake_cp2k: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def block(level: str, name: str, **more: object) -> dict[str, object]:
        return {"kind": "relaxation", "level": level, "defect": "V_H1", "charges": [0], "configurations": [name], **more}

    folder = tmp_path / "tiny"
    for name in ("Dimer", "Unperturbed"):
        for level, site in (("PBE", "2.2"), ("PBE-k", "2.5")):
            monkeypatch.setenv("FAKE_CP2K_SITE", site)
            more = {"continue_from": "PBE"} if level == "PBE-k" else {}
            if not folder.is_dir():
                work_through(tmp_path, fake_cp2k, block(level, name, **more))
            else:
                (folder / "queue.yaml").write_text(yaml.safe_dump({"blocks": [block(level, name, **more)]}))
                Manager(ReferenceData(folder), tmp_path / "work").run([str(fake_cp2k)], 2, poll=0.02, report=lambda _: None, niceness=0)
    dataset = load_dataset(folder)
    first, second = (dataset.frames("V_H1", 0, name, "PBE-k") for name in ("Dimer", "Unperturbed"))
    moved = first[-1].positions - dataset.frames("V_H1", 0, "Dimer", "PBE")[-1].positions
    assert np.abs(moved).max() > 0.2, "the two levels differ"
    np.testing.assert_allclose(second[0].positions, dataset.frames("V_H1", 0, "Unperturbed", "PBE")[-1].positions + moved, atol=1e-6)
    assert len(second) < len(first)
