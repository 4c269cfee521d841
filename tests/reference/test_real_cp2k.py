"""From the queue to the dataset with the real CP2K, on three hydrogen atoms: a few seconds; skipped where CP2K is not installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from reference_dft.cli import main
from reference_dft.manager import EXECUTABLES, Manager
from reference_dft.properties import read_properties
from reference_dft.reference_data import ReferenceData
from tiny_dataset import write_tiny_dataset

from defectbench.datasets.catalogue import load_dataset

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not any(shutil.which(name) for name in EXECUTABLES), reason="CP2K is not on the PATH (apt-get install cp2k cp2k-data)"
    ),
]

QUEUE = {
    "blocks": [
        {"kind": "relaxation", "level": "PBE", "defect": "V_H1", "charges": [0], "configurations": ["Unperturbed"]},
        {
            "kind": "finite_difference",
            "level": "PBE",
            "defect": "V_H1",
            "charge": 0,
            "configuration": "Unperturbed",
            "step": 0,
            "components": 1,
        },
        {"kind": "single_point", "level": "HSE06", "of": "PBE", "defect": "V_H1", "charges": [0], "frames": 1},
        {"kind": "host", "level": "PBE"},
    ]
}


def test_relaxation_force_check_hybrid_and_host(tmp_path: Path) -> None:
    folder = write_tiny_dataset(tmp_path / "tiny", QUEUE)
    assert main([str(folder), "--work", str(tmp_path / "work"), "--poll", "0.2", "--workers", "2", "--nice", "0"]) == 0
    dataset = load_dataset(folder)
    minimum = dataset.minima("V_H1", 0)["Unperturbed"]
    bond = float(np.linalg.norm(minimum.atoms.positions[1] - minimum.atoms.positions[0]))
    assert 0.6 < bond < 1.0
    assert -33.0 < minimum.energy < -30.0
    frames = dataset.frames("V_H1", 0, "Unperturbed")
    assert minimum.energy < frames[0].get_potential_energy()
    assert np.abs(frames[-1].get_forces()).max() < 0.11
    stored = {result["kind"]: result for result in read_properties(folder, "PBE")}
    check = stored["finite_difference"]
    assert check["force_by_difference"] == pytest.approx(check["force"], rel=0.005)
    hybrid = dataset.frames("V_H1", 0, "Unperturbed", "HSE06")
    assert [a.info["step"] for a in hybrid] == [frames[-1].info["step"]]
    np.testing.assert_allclose(hybrid[0].positions, minimum.atoms.positions, atol=1e-7)
    assert hybrid[0].get_potential_energy() != pytest.approx(minimum.energy, abs=0.05)
    assert hybrid[0].get_forces().shape == (2, 3)
    level = dataset.level_of_theory("PBE")
    assert level.host_energy is not None
    assert level.band_edges is not None
    assert level.band_edges.cbm is not None
    assert level.band_edges.vbm < level.band_edges.cbm
    assert len(stored["host"]["site_potentials"]) == 3
    assert main([str(folder), "--work", str(tmp_path / "work"), "--status"]) == 0
    at_hybrid = {**QUEUE["blocks"][1], "level": "HSE06", "step": frames[-1].info["step"]}
    (folder / "queue.yaml").write_text(yaml.safe_dump({"blocks": [*QUEUE["blocks"], at_hybrid]}))
    assert main([str(folder), "--work", str(tmp_path / "work"), "--poll", "0.2", "--nice", "0"]) == 0
    (check,) = [result for result in read_properties(folder, "HSE06") if result["kind"] == "finite_difference"]
    assert abs(check["force"]) == pytest.approx(float(np.abs(hybrid[0].get_forces()).max()))
    assert check["force_by_difference"] == pytest.approx(check["force"], rel=0.02)


def test_cp2k_takes_the_hessian_that_it_is_given(tmp_path: Path) -> None:
    """The first step is that of Newton: displacement times stiffness is the force."""
    folder = write_tiny_dataset(tmp_path / "tiny", {"blocks": QUEUE["blocks"][:1]})
    stiffness = 80.0  # eV/Å², so that the step stays within the trust radius
    manager = Manager(ReferenceData(folder), tmp_path / "work", ())
    command = next([name] for name in EXECUTABLES if shutil.which(name))
    manager.run(command, 1, poll=0.2, report=lambda _: None, niceness=0, guess=lambda atoms, _: stiffness * np.eye(3 * len(atoms)))
    first, second = load_dataset(folder).frames("V_H1", 0, "Unperturbed")[:2]
    np.testing.assert_allclose((second.positions - first.positions) * stiffness, first.get_forces(), rtol=0.02, atol=0.02)
