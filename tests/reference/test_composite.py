"""A hybrid functional on top of k-converged numbers, by a run of its own and from what is stored; and levels that get other names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from reference_dft.composite import compose
from reference_dft.cp2k_schema import method_of
from reference_dft.reference_data import ReferenceData, relaxed_at
from reference_dft.renaming import rename_levels
from refusals import raises_code
from test_kinds import RELAX, results, work_through
from tiny_dataset import write_tiny_dataset

from defectbench.datasets.catalogue import load_dataset, validate_dataset
from defectbench.datasets.extxyz import write_extxyz
from defectbench.datasets.writing import update_metadata

pytestmark = pytest.mark.slow

GAMMA = {**RELAX, "charges": [0], "configurations": ["Dimer"]}
MESH = {**GAMMA, "level": "PBE-k", "continue_from": "PBE"}
ON_TOP = {"kind": "single_point", "level": "HSE06-c", "of": "PBE-k", "defect": "V_H1", "charges": [0], "frames": 1}
HYBRID = {"kind": "single_point", "level": "HSE06", "of": "PBE", "defect": "V_H1", "charges": [0], "frames": 1}
NAMES = {"PBE": "PBE-gamma", "HSE06": "HSE06-gamma", "PBE-k": "PBE", "HSE06-c": "HSE06"}


def test_sum_and_difference_without_net_force() -> None:
    generator = np.random.default_rng(0)
    base, high, low = (generator.normal(size=(5, 3)) for _ in range(3))
    found = compose((-3.0, base), (-1.5, high), (-2.0, low))
    assert found.energy == pytest.approx(-2.5)
    np.testing.assert_allclose(found.net_force, (base + high - low).sum(axis=0))
    np.testing.assert_allclose(found.forces.sum(axis=0), 0.0, atol=1e-12)
    shift = base + high - low - found.forces
    np.testing.assert_allclose(shift, np.tile(found.net_force / 5, (5, 1)))


def test_single_point_on_top_of_a_relaxation_with_kpoints(tmp_path: Path, fake_cp2k: Path) -> None:
    folder, lines = work_through(
        tmp_path, fake_cp2k, GAMMA, MESH, ON_TOP, {"kind": "host", "level": "PBE-k"}, {"kind": "host", "level": "HSE06-c"}
    )
    dataset = load_dataset(folder)
    base = dataset.frames("V_H1", 0, "Dimer", "PBE-k")[-1]
    (frame,) = dataset.frames("V_H1", 0, "Dimer", "HSE06-c")
    # the stand-in gives the same at every level, so that the difference vanishes
    assert frame.get_potential_energy() == pytest.approx(base.get_potential_energy())
    np.testing.assert_allclose(frame.get_forces().sum(axis=0), 0.0, atol=2e-6)
    np.testing.assert_allclose(frame.get_forces(), base.get_forces() - base.get_forces().mean(axis=0), atol=2e-6)
    inputs = sorted((tmp_path / "work" / "single_point" / "HSE06-c").glob("*/segment-*/input.inp"))
    assert len(inputs) == 2
    assert all("RUN_TYPE ENERGY_FORCE" in path.read_text() and "KPOINTS" not in path.read_text() for path in inputs)
    (below,), (above,) = results(folder, "host", "PBE-k"), results(folder, "host", "HSE06-c")
    assert above["energy"] == pytest.approx(below["energy"])
    assert any("HSE06-c" in line for line in lines)


def test_composites_come_from_what_is_stored(tmp_path: Path, fake_cp2k: Path) -> None:
    folder, _ = work_through(tmp_path, fake_cp2k, GAMMA, HYBRID, MESH)
    frames = load_dataset(folder).frames("V_H1", 0, "Dimer", "HSE06-c")
    assert [atoms.info["step"] for atoms in frames] == [1], "where the relaxation with k-points begins, at the minimum of Γ"
    assert not frames[0].info["converged"]


def test_frames_of_another_level_are_refused(tmp_path: Path) -> None:
    folder = write_tiny_dataset(tmp_path / "tiny", {"blocks": [{**ON_TOP, "of": "PBE"}]})
    with raises_code("bad-dataset", "PBE-k"):
        ReferenceData(folder)


def test_numbers_are_at_geometries_of(tiny: Path) -> None:
    dataset = load_dataset(tiny)
    assert [relaxed_at(dataset, name) for name in ("PBE", "PBE-k", "HSE06", "HSE06-c")] == ["PBE", "PBE-k", "PBE", "PBE-k"]


def switched(folder: Path) -> None:
    host = load_dataset(folder).host
    host.positions[0, 0] += 0.05
    write_extxyz(folder / "hosts" / "PBE-k.extxyz", [host])

    def give(metadata):  # type: ignore[no-untyped-def]
        levels = tuple(
            level.model_copy(update={"relaxed_host": "hosts/PBE-k.extxyz"}) if level.name == "PBE-k" else level for level in metadata.levels
        )
        return metadata.model_copy(update={"levels": levels})

    update_metadata(folder, give, ["hosts/PBE-k.extxyz"])
    assert rename_levels(folder, NAMES, "PBE")


def test_levels_exchange_names_and_the_reference(tmp_path: Path, fake_cp2k: Path) -> None:
    folder, _ = work_through(tmp_path, fake_cp2k, GAMMA, HYBRID, MESH, {"kind": "host", "level": "PBE"})
    before = load_dataset(folder)
    frames = {level: before.frames("V_H1", 0, "Dimer", level) for level in NAMES}
    switched(folder)
    after = load_dataset(folder)
    assert validate_dataset(folder).valid
    assert after.level == "PBE"
    for old, new in NAMES.items():
        then, now = frames[old], after.frames("V_H1", 0, "Dimer", new)
        assert {atoms.info["level_of_theory"] for atoms in now} == {new}
        np.testing.assert_allclose([a.positions for a in now], [a.positions for a in then])
    assert [r["level"] for r in results(folder, "host", "PBE-gamma")] == ["PBE-gamma"]
    assert after.level_of_theory("PBE-gamma").host_energy == before.level_of_theory("PBE").host_energy
    hybrid = method_of(after.level_of_theory("HSE06")).hybrid  # type: ignore[union-attr]
    assert hybrid is not None
    assert (hybrid.start_from, hybrid.added_to) == ("PBE-gamma", "PBE")
    blocks = yaml.safe_load((folder / "queue.yaml").read_text())["blocks"]
    assert [(b["level"], b.get("of"), b.get("continue_from")) for b in blocks][:3] == [
        ("PBE-gamma", None, None),
        ("HSE06-gamma", "PBE-gamma", None),
        ("PBE", None, "PBE-gamma"),
    ]
    # the host of the new reference is the dataset's; that of Γ goes with the levels at Γ
    np.testing.assert_allclose(after.host.positions[0], before.host.positions[0] + [0.05, 0, 0])
    for level in ("PBE-gamma", "HSE06-gamma"):
        np.testing.assert_allclose(after.host_at(level).positions, before.host.positions)
    assert not rename_levels(folder, NAMES, "PBE"), "done before"


@pytest.mark.parametrize(("names", "reference"), [({"LDA": "X"}, None), ({"PBE": "HSE06"}, None), ({}, "LDA")])
def test_names_that_do_not_fit_change_nothing(tiny: Path, names: dict[str, str], reference: str | None) -> None:
    before = {path: path.read_bytes() for path in tiny.rglob("*") if path.is_file()}
    with raises_code("bad-dataset"):
        rename_levels(tiny, names, reference)
    assert {path: path.read_bytes() for path in tiny.rglob("*") if path.is_file()} == before
    assert [path.name for path in tiny.parent.iterdir() if path.name.startswith(".")] == []
