"""Datasets whose files contradict no label, but whose numbers cannot be true, are found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.units import Bohr, Hartree
from datasets_helpers import make_host, replant, rewrite
from numpy.typing import NDArray

from defectbench.datasets import plausibility
from defectbench.datasets.catalogue import validate_dataset
from defectbench.datasets.extxyz import attach_results, stored_results

RATTLED = "frames/PBE/V_Sb_q+0_Rattled.extxyz"


def scaled(energy: float = 1.0, forces: float = 1.0) -> Callable[[list[Atoms]], None]:
    def change(frames: list[Atoms]) -> None:
        for atoms in frames:
            results = stored_results(atoms)
            attach_results(atoms, energy=results["energy"] * energy, forces=results["forces"] * forces)

    return change


def harmonic(steps: int = 6) -> list[Atoms]:
    """A relaxation on a harmonic energy surface: every number belongs to every other."""
    host = make_host()
    direction = np.random.default_rng(3).normal(size=(len(host), 3)) * 0.1
    frames = []
    for step in range(steps):
        left = 1.0 - step / steps
        atoms = host.copy()
        atoms.positions += left * direction
        frames.append(attach_results(atoms, energy=-60.0 + 2.0 * left**2 * (direction**2).sum(), forces=-4.0 * left * direction))
    return frames


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (scaled(forces=-1.0), "wrong sign"),
        (scaled(energy=1 / Hartree), "energies are in hartree"),
        (scaled(energy=2 / Hartree), "energies are in rydberg"),
        (scaled(forces=Bohr / Hartree), "forces are in hartree/bohr"),
        (scaled(forces=2 * Bohr / Hartree), "forces are in rydberg/bohr"),
        (scaled(forces=Bohr), "forces are in eV/bohr"),
        (scaled(forces=10.0), "units"),
    ],
)
def test_units_and_signs(change: Callable[[list[Atoms]], None], cause: str) -> None:
    frames = harmonic()
    assert list(plausibility.check_results("right", frames, make_host())) == []
    change(frames)
    problems = list(plausibility.check_results("wrong", frames, make_host()))
    assert len(problems) == 1
    assert problems[0].field == "forces"
    assert cause in problems[0].message


def test_one_wrong_frame_is_named() -> None:
    frames = harmonic()
    attach_results(frames[3], energy=stored_results(frames[3])["energy"] - 1.5, forces=stored_results(frames[3])["forces"])
    found = {(p.frame, p.field) for p in plausibility.check_results("wrong", frames, make_host())}
    assert (3, "energy") in found or (None, "forces") in found


def test_permuted_atoms() -> None:
    frames = harmonic()
    order = np.random.default_rng(0).permutation(len(frames[0]))
    for atoms in frames:
        results = stored_results(atoms)
        attach_results(atoms, energy=results["energy"], forces=results["forces"][order])
    assert list(plausibility.check_results("wrong", frames, make_host()))


def test_frames_far_apart_or_without_forces_are_not_judged() -> None:
    frames = harmonic(2)
    frames[1].positions[0] += 0.8
    assert list(plausibility.check_results("far", frames, make_host())) == []
    for atoms in frames:
        atoms.calc = None
    assert list(plausibility.check_results("bare", frames, make_host())) == []


def _energy(value: float) -> Callable[[list[Atoms]], None]:
    def change(frames: list[Atoms]) -> None:
        attach_results(frames[-1], energy=value, forces=stored_results(frames[-1])["forces"])

    return change


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (_energy(1e300), "energy"),
        (_energy(-5e8), "energy"),
        (scaled(forces=-1.0), "forces"),
        (scaled(energy=1 / Hartree), "forces"),
    ],
)
def test_validation_finds_meaningless_results(tiny: Path, change: Callable[[list[Atoms]], None], field: str) -> None:
    replant(tiny, RATTLED, change)
    assert (RATTLED, field) in {(problem.file, problem.field) for problem in validate_dataset(tiny).problems}


def _edges(content: dict[str, Any]) -> None:
    content["levels"][0]["band_edges"] = {"vbm": 4.0, "cbm": 1.0}


def _wide_gap(content: dict[str, Any]) -> None:
    content["levels"][0]["band_edges"] = {"vbm": 1.0, "cbm": 101.0}


def _far_edge(content: dict[str, Any]) -> None:
    content["levels"][0]["band_edges"] = {"vbm": 1e12}


def _correction(content: dict[str, Any]) -> None:
    content["levels"][0]["corrections"] = [{"defect": "V_Sb", "charge": -1, "image_charge": 1e5}]


def _dielectric(content: dict[str, Any]) -> None:
    content["dielectric"] = {"tensor": [[-3.0, 0, 0], [0, 4.0, 0], [0, 0, 4.0]], "citation": {"text": "nobody"}}


def _potential(content: dict[str, Any]) -> None:
    content["levels"][0]["chemical_potentials"] = [{"name": "Sb-rich", "potentials": {"Sb": -1e20, "Se": -3.0}}]


@pytest.mark.parametrize("change", [_edges, _wide_gap, _far_edge, _correction, _dielectric, _potential])
def test_validation_finds_meaningless_metadata(tiny: Path, change: Callable[[dict[str, Any]], None]) -> None:
    rewrite(tiny, change)
    report = validate_dataset(tiny)
    assert [problem.file for problem in report.problems] == ["dataset.yaml"]


def minimum(energy: float, seed: int) -> Atoms:
    atoms = make_host()
    atoms.positions += np.random.default_rng(seed).normal(size=(len(atoms), 3)) * 0.05
    atoms.info = {"converged": True}
    return attach_results(atoms, energy=energy)


def test_a_minimum_in_another_unit_stands_out_without_forces(tiny: Path) -> None:
    from defectbench.datasets.schema import parse_metadata

    level = parse_metadata(tiny / "dataset.yaml").level("PBE")
    lasts = {("v_O", 0, f"c{i}"): minimum(-900.0 - 0.3 * i, i) for i in range(4)}
    lasts |= {("v_O", 2, f"c{i}"): minimum(-910.0 - 0.3 * i, 20 + i) for i in range(2)}
    assert list(plausibility.check_level(level, lasts, 12, "frames/PBE")) == []
    lasts["v_O", 0, "c2"] = minimum(-900.6 / Hartree, 2)
    problems = list(plausibility.check_level(level, lasts, 12, "frames/PBE"))
    assert [problem.file for problem in problems] == ["frames/PBE/v_O_q+0_c2.extxyz"]
    assert "hartree" in problems[0].message


def test_copied_results_are_found(tiny: Path) -> None:
    from defectbench.datasets.schema import parse_metadata

    level = parse_metadata(tiny / "dataset.yaml").level("PBE")
    same_structure = {("v_O", 0, "a"): minimum(-900.0, 1), ("v_O", 0, "b"): minimum(-901.0, 1)}
    assert len(list(plausibility.check_level(level, same_structure, 12, "frames/PBE"))) == 1
    other_charge = {("v_O", 0, "a"): minimum(-900.0, 1), ("v_O", 1, "a"): minimum(-900.0, 1)}
    assert len(list(plausibility.check_level(level, other_charge, 12, "frames/PBE"))) == 1


# every kind, made from the small dataset


def _results(change: Callable[[int, Atoms, float, NDArray[np.float64]], tuple[float, Any]]) -> Callable[[Path], None]:
    """Replaces energies and forces of one relaxation."""

    def apply(folder: Path) -> None:
        def frames_of(frames: list[Atoms]) -> None:
            for number, atoms in enumerate(frames):
                results = stored_results(atoms)
                energy, forces = change(number, atoms, results["energy"], results["forces"])
                attach_results(atoms, energy=energy, forces=forces)

        replant(folder, RATTLED, frames_of)

    return apply


def _metadata(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    return lambda folder: rewrite(folder, change)


def _swap(positions: NDArray[np.float64], numbers: NDArray[np.int64]) -> None:
    first, second = np.flatnonzero(numbers == 34)[:2]
    positions[[first, second]] = positions[[second, first]]


def _permute_frames(first: int) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        def frames_of(frames: list[Atoms]) -> None:
            for atoms in frames[first:]:
                results = stored_results(atoms)
                forces = results["forces"].copy()
                _swap(forces, atoms.numbers)
                positions = atoms.positions.copy()
                _swap(positions, atoms.numbers)
                atoms.positions = positions
                attach_results(atoms, energy=results["energy"], forces=forces)

        replant(folder, RATTLED, frames_of)

    return apply


def _copy_to_other_charge(folder: Path) -> None:
    taken: list[Atoms] = []
    replant(folder, "frames/PBE/V_Sb_q+0_Unperturbed.extxyz", taken.extend)

    def frames_of(frames: list[Atoms]) -> None:
        last = stored_results(taken[-1])
        frames[-1].positions = taken[-1].positions
        frames[-1].info["converged"] = True
        attach_results(frames[-1], energy=last["energy"], forces=last["forces"])

    replant(folder, "frames/PBE/V_Sb_q-1_Unperturbed.extxyz", frames_of)


def _host_in_hartree(content: dict[str, Any]) -> None:
    content["levels"][0]["host_energy"] = -55.0 / Hartree


def _in_bohr(folder: Path) -> None:
    def frames_of(frames: list[Atoms]) -> None:
        for atoms in frames:
            atoms.positions = atoms.positions / Bohr

    replant(folder, RATTLED, frames_of)


ORDER = np.random.default_rng(5).permutation(11)

MEANINGLESS: dict[str, Callable[[Path], None]] = {
    "energies of one relaxation in hartree": _results(lambda _n, _a, e, f: (e / Hartree, f)),
    "energies and forces of one relaxation in hartree": _results(lambda _n, _a, e, f: (e / Hartree, f / Hartree)),
    "energies and forces of one relaxation in rydberg": _results(lambda _n, _a, e, f: (2 * e / Hartree, 2 * f / Hartree)),
    "energies of one relaxation in kJ/mol": _results(lambda _n, _a, e, f: (e * 96.485, f)),
    "energies per atom": _results(lambda _n, a, e, f: (e / len(a), f)),
    "forces of the wrong sign": _results(lambda _n, _a, e, f: (e, -f)),
    "forces in eV/bohr": _results(lambda _n, _a, e, f: (e, f * Bohr)),
    "forces in hartree/bohr": _results(lambda _n, _a, e, f: (e, f * Bohr / Hartree)),
    "forces of other atoms": _results(lambda _n, _a, e, f: (e, f[ORDER])),
    "forces of a million eV/Å": _results(lambda n, _a, e, f: (e, f + (1e6 if n == 0 else 0.0))),
    "an energy of 1e300": _results(lambda n, _a, e, f: (1e300 if n == 1 else e, f)),
    "an energy of -5e8": _results(lambda n, _a, e, f: (-5e8 if n == 2 else e, f)),
    "one energy from elsewhere": _results(lambda n, _a, e, f: (e - 3.0 if n == 1 else e, f)),
    "atoms in another order from the first frame on": _permute_frames(0),
    "atoms in another order from the second frame on": _permute_frames(1),
    "positions in bohr": _in_bohr,
    "one charge copied for another": _copy_to_other_charge,
    "a valence band above the conduction band": _metadata(_edges),
    "a gap of 100 eV": _metadata(_wide_gap),
    "a band edge of 1e12 eV": _metadata(_far_edge),
    "a correction of 1e5 eV": _metadata(_correction),
    "a negative dielectric constant": _metadata(_dielectric),
    "a chemical potential of -1e20 eV": _metadata(_potential),
    "the host's energy in hartree": _metadata(_host_in_hartree),
}


@pytest.mark.parametrize("kind", MEANINGLESS)
def test_every_meaningless_dataset_is_found(tiny: Path, kind: str) -> None:
    assert validate_dataset(tiny).valid
    MEANINGLESS[kind](tiny)
    assert not validate_dataset(tiny).valid
