"""Writing datasets and adding relaxations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from datasets_helpers import build_tiny, make_defects, make_host, make_metadata, make_relaxation
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import raises_code

from defectbench import load_dataset
from defectbench.base.errors import DatasetError
from defectbench.datasets.alignment import ideal_structure
from defectbench.datasets.catalogue import validate_dataset
from defectbench.datasets.extxyz import attach_results, read_extxyz, stored_results, write_extxyz
from defectbench.datasets.schema import DatasetFile, parse_metadata
from defectbench.datasets.writing import add_relaxation, update_metadata, write_dataset


def labelled(
    frames: list[Atoms], configuration: str = "Rattled", charge: int = -1, defect: str = "V_Sb", level: str = "PBE"
) -> list[Atoms]:
    for atoms in frames:
        atoms.info.update(defect=defect, charge=charge, configuration=configuration, level_of_theory=level)
    return frames


def test_adding_a_relaxation(tiny: Path) -> None:
    dataset = load_dataset(tiny)
    assert not dataset.has_reference("V_Sb", -1)
    frames = labelled(make_relaxation(dataset.starts("V_Sb", -1)["Rattled"], -1, steps=4, energy=-40.0))
    path = add_relaxation(tiny, frames)
    assert path == tiny / "frames" / "PBE" / "V_Sb_q-1_Rattled.extxyz"
    after = load_dataset(tiny)
    assert validate_dataset(tiny).valid
    assert after.sha256 != dataset.sha256
    ground = after.ground_state("V_Sb", -1)
    assert ground is not None
    assert (ground.configuration, ground.energy) == ("Rattled", pytest.approx(frames[-1].get_potential_energy(), abs=1e-6))
    assert np.allclose(ground.atoms.positions, frames[-1].positions, atol=1e-8)
    text = (tiny / "dataset.yaml").read_text()
    add_relaxation(tiny, frames)
    assert (tiny / "dataset.yaml").read_text() == text, "adding the same again changes nothing"


def test_a_finished_relaxation_is_not_replaced_by_an_unfinished_one(tiny: Path) -> None:
    start = load_dataset(tiny).starts("V_Sb", -1)["Rattled"]
    add_relaxation(tiny, labelled(make_relaxation(start, -1, 2, converged=False)))
    add_relaxation(tiny, labelled(make_relaxation(start, -1, 3, converged=False)))
    with raises_code("would-lose-data"):
        add_relaxation(tiny, labelled(make_relaxation(start, -1, 2, converged=False)))
    add_relaxation(tiny, labelled(make_relaxation(start, -1, 2)))
    with raises_code("would-lose-data"):
        add_relaxation(tiny, labelled(make_relaxation(start, -1, 5, converged=False)))
    add_relaxation(tiny, labelled(make_relaxation(start, -1, 5, converged=False)), overwrite=True)
    assert not load_dataset(tiny).has_reference("V_Sb", -1)
    assert validate_dataset(tiny).valid


def test_wrong_relaxations_change_nothing(tiny: Path) -> None:
    start = load_dataset(tiny).starts("V_Sb", -1)["Rattled"]
    before = {path: path.read_bytes() for path in tiny.rglob("*") if path.is_file()}
    far = labelled(make_relaxation(start, -1))
    far[0].positions[0] += (0.2, 0.0, 0.0)
    cases = [
        (far, "bad-frame", "frame 0, positions"),
        (labelled(make_relaxation(start, -1), charge=3), "unknown-charge", "+3"),
        (labelled(make_relaxation(start, -1), level="PBE0"), "unknown-level", "PBE0"),
        (labelled(make_relaxation(start, -1), defect="V_As"), "unknown-defect", "V_As"),
        (make_relaxation(start, -1), "import-label", "defect, charge, configuration, level_of_theory"),
        ([], "import-nothing", ""),
    ]
    for frames, code, named in cases:
        with raises_code(code, named):
            add_relaxation(tiny, frames)
    assert {path: path.read_bytes() for path in tiny.rglob("*") if path.is_file()} == before


def test_adding_again_mends_what_a_crash_left(tiny: Path) -> None:
    frames = labelled(make_relaxation(load_dataset(tiny).starts("V_Sb", 0)["Rattled"], 0, steps=5, energy=-60.0), charge=0)
    write_extxyz(tiny / "frames" / "PBE" / "V_Sb_q+0_Rattled.extxyz", frames)  # killed before dataset.yaml
    with raises_code("hash-mismatch", "V_Sb_q+0_Rattled.extxyz"):
        load_dataset(tiny)
    add_relaxation(tiny, frames)
    assert load_dataset(tiny).minima("V_Sb", 0)["Rattled"].energy == pytest.approx(frames[-1].get_potential_energy(), abs=1e-6)


def test_processes_that_add_at_once_lose_nothing(tiny: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    starts = load_dataset(tiny).starts("Sb_Se", 1)
    with ThreadPoolExecutor(3) as pool:
        jobs = [
            pool.submit(add_relaxation, tiny, labelled(make_relaxation(atoms, 1, energy=-49.0), name, 1, "Sb_Se"))
            for name, atoms in starts.items()
        ]
        for job in jobs:
            job.result()
    assert set(load_dataset(tiny).minima("Sb_Se", 1)) == set(starts)
    assert validate_dataset(tiny).valid


def test_metadata_can_be_completed(tiny: Path) -> None:
    def change(metadata: DatasetFile) -> DatasetFile:
        level = metadata.level().model_copy(update={"host_energy": -123.5})
        return metadata.model_copy(update={"levels": (level, *metadata.levels[1:]), "files": {"host.extxyz": "1" * 64}})

    assert update_metadata(tiny, change)
    assert load_dataset(tiny).level_of_theory().host_energy == -123.5
    assert not update_metadata(tiny, change), "nothing is different the second time"


def test_building_again_keeps_what_is_neither_host_nor_starts_nor_frames(tiny: Path) -> None:
    for name, text in (
        ("properties/PBE/host.json", "{}"),
        ("elements/Se.extxyz", "solid"),
        ("queue.yaml", "blocks: []"),
        ("host2.extxyz", "old"),
    ):
        (tiny / name).parent.mkdir(parents=True, exist_ok=True)
        (tiny / name).write_text(text)
    (tiny / "empty").mkdir()
    (tiny / "link").symlink_to("nowhere")
    update_metadata(tiny, lambda metadata: metadata, ["properties/PBE/host.json", "elements/Se.extxyz", "host2.extxyz"])
    old = parse_metadata(tiny / "dataset.yaml")
    write_dataset(tiny, old, load_dataset(tiny).host, {}, {}, overwrite=True)
    new = parse_metadata(tiny / "dataset.yaml").files
    assert {name: new[name] for name in ("properties/PBE/host.json", "elements/Se.extxyz")} == {
        name: old.files[name] for name in ("properties/PBE/host.json", "elements/Se.extxyz")
    }
    assert (tiny / "queue.yaml").read_text() == "blocks: []"
    assert (tiny / "empty").is_dir()
    assert (tiny / "link").is_symlink()
    assert not (tiny / "host2.extxyz").exists()
    assert set(new) == {"host.extxyz", "properties/PBE/host.json", "elements/Se.extxyz"}


def test_a_configuration_that_reads_as_a_number_is_not_written(tmp_path: Path) -> None:
    host = make_host()
    defect = make_defects(host)["V_Sb"]
    start = ideal_structure(host, defect)
    for starts, relaxations in (
        ({("V_Sb", 0): {"1e3": start}}, {}),
        ({}, {("PBE", "V_Sb", 0, "1e3"): make_relaxation(start, 0)}),
    ):
        with raises_code("bad-name", "1e3"):
            write_dataset(tmp_path / "out", make_metadata(host), host, starts, relaxations)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    host = make_host()
    metadata = make_metadata(host)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "dataset.yaml").write_text("precious")
    with raises_code("dataset-exists"):
        write_dataset(tmp_path / "there", metadata, host, {}, {})
    assert (tmp_path / "there" / "dataset.yaml").read_text() == "precious"
    with raises_code("no-file"):
        write_dataset(tmp_path / "a" / "b", metadata, host, {}, {})
    (tmp_path / "there" / "notes.txt").write_text("kept")
    write_dataset(tmp_path / "there", metadata, host, {}, {}, overwrite=True)
    assert (tmp_path / "there" / "notes.txt").read_text() == "kept"
    assert validate_dataset(tmp_path / "there").valid
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("given", [".", "", "..", "../here", "inner/..", "~", "link"])
@pytest.mark.parametrize("overwrite", [True, False])
def test_the_working_directory_and_what_is_above_it_are_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, overwrite: bool
) -> None:
    """The temporary folder once lay inside what was deleted, and everything was gone."""
    here = tmp_path / "here"
    (here / "inner").mkdir(parents=True)
    build_tiny(tmp_path / "elsewhere")
    for name in ("keep.txt", "dataset.yaml"):
        (here / name).write_text("keep")
    (tmp_path / "dataset.yaml").write_text("keep")
    (here / "link").symlink_to(here)
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(here))
    before = contents(tmp_path)
    host = make_host()
    with raises_code("would-lose-data"):
        write_dataset(Path(given), make_metadata(host), host, {}, {}, overwrite=overwrite)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("mine.extxyz", "dataset.yaml"),
        ("frames/PBE/a.txt", "dataset.yaml"),
        ("tiny/mine.extxyz", "mine.extxyz"),
        ("tiny/starts/notes.txt", "starts/notes.txt"),
        ("tiny/frames/PBE/V_Sb_q-1_Dimer.extxyz", "frames/PBE/V_Sb_q-1_Dimer.extxyz"),
    ],
)
def test_what_is_no_part_of_a_dataset_is_not_replaced(tmp_path: Path, name: str, named: str) -> None:
    folder = tmp_path / "folder"
    if name.startswith("tiny/"):
        build_tiny(folder)
    name = name.removeprefix("tiny/")
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("years of work")
    before = contents(tmp_path)
    host = make_host()
    with raises_code("would-lose-data", named):
        write_dataset(folder, make_metadata(host), host, {}, {}, overwrite=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("when", ["before", "between", "after"])
def test_an_interruption_loses_neither_the_old_nor_the_new(tiny: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    before = contents(tiny)
    host = make_host()
    rename, calls = Path.rename, []

    def interrupted(self: Path, target: Path) -> Path:
        calls.append(self)
        if (len(calls), when) in ((1, "before"), (2, "between")):
            raise KeyboardInterrupt
        out = rename(self, target)
        if (len(calls), when) == (2, "after"):
            raise KeyboardInterrupt
        return out

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(tiny, make_metadata(host), host, {}, {}, overwrite=True)
    if when == "after":
        assert set(contents(tiny)) == {"dataset.yaml", "host.extxyz"}
        aside = next(path for path in tiny.parent.iterdir() if path != tiny)
        assert contents(aside) == before
    else:
        assert contents(tiny) == before
        assert [path.name for path in tiny.parent.iterdir()] == ["tiny"]


def test_what_a_check_refuses_is_not_put_in_place(tiny: Path) -> None:
    before = contents(tiny)
    host = make_host()

    def refuse(folder: Path) -> None:
        assert (folder / "dataset.yaml").is_file()
        raise DatasetError("no", code="bad-frame")

    with raises_code("bad-frame"):
        write_dataset(tiny, make_metadata(host), host, {}, {}, overwrite=True, check=refuse)
    assert contents(tiny) == before
    assert [path.name for path in tiny.parent.iterdir()] == ["tiny"]


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 6),
    st.floats(-1e5, 1e5),
    st.integers(0, 2**32 - 1),
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=12).filter(lambda s: s.strip() == s and s),
)
def test_frames_survive_the_file_to_its_precision(atoms_count: int, energy: float, seed: int, name: str) -> None:
    import tempfile

    generator = np.random.default_rng(seed)
    atoms = Atoms(["Sb"] * atoms_count, positions=generator.uniform(-50, 50, (atoms_count, 3)), cell=generator.uniform(4, 30, 3), pbc=True)
    atoms.info = {"defect": "V_Sb", "charge": -3, "configuration": f"x {name}", "step": 0, "converged": False}
    attach_results(atoms, energy=energy, forces=generator.normal(size=(atoms_count, 3)))
    with tempfile.TemporaryDirectory() as folder:
        write_extxyz(Path(folder) / "a.extxyz", [atoms, atoms])
        first, second = read_extxyz(Path(folder) / "a.extxyz")
        text = (Path(folder) / "a.extxyz").read_text()
        write_extxyz(Path(folder) / "b.extxyz", [first, second])
        assert (Path(folder) / "b.extxyz").read_text() == text
    assert first.info == atoms.info
    assert type(first.info["charge"]) is int
    assert type(first.info["converged"]) is bool
    assert np.abs(first.positions - atoms.positions).max() <= 0.51e-8
    assert stored_results(first)["energy"] == pytest.approx(energy, abs=0.51e-6)
    assert np.abs(stored_results(first)["forces"] - stored_results(atoms)["forces"]).max() <= 0.51e-6
