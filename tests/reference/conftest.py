"""A tiny dataset (two hydrogen atoms left by a vacancy) and a CP2K that is none, for the reference workflow."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ase import Atoms

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts" / "reference"))

HERE = Path(__file__).parent

METHOD: dict[str, Any] = {
    "basis_set_files": ["BASIS_MOLOPT"],
    "potential_file": "GTH_POTENTIALS",
    "kinds": {"H": {"basis_set": "SZV-MOLOPT-SR-GTH", "potential": "GTH-PBE-q1", "valence_electrons": 1}},
    "cutoff_ry": 120.0,
    "rel_cutoff_ry": 30.0,
    "eps_default": 1e-10,
    "functional": "PBE",
    "extrapolation": "ASPC",
    "extrapolation_order": 2,
    "scf_restricted": {"minimizer": "DIIS", "energy_gap": 0.02, "eps_scf": 5e-6, "max_scf": 30, "outer_max_scf": 6},
    "scf_unrestricted": {"minimizer": "CG", "energy_gap": 0.005, "eps_scf": 5e-6, "max_scf": 50, "outer_max_scf": 6},
    "optimizer": {
        "name": "BFGS",
        "trust_radius_angstrom": 0.15,
        "max_force_hartree_bohr": 2e-3,
        "rms_force_hartree_bohr": 2e-3,
        "max_dr_bohr": 0.5,
        "rms_dr_bohr": 0.5,
    },
}

HYBRID: dict[str, Any] = {
    **METHOD,
    "basis_set_files": ["BASIS_MOLOPT", "BASIS_ADMM_UZH"],
    "kinds": {"H": {**METHOD["kinds"]["H"], "auxiliary_basis_set": "admm-dz-q1"}},
    "optimizer": None,
    "hybrid": {
        "pbe_scale_x": 0.0,
        "pbe_scale_c": 1.0,
        "xwpbe_scale_x": -0.25,
        "xwpbe_scale_x0": 1.0,
        "omega": 0.11,
        "hf_fraction": 0.25,
        "interaction": "SHORTRANGE",
        "eps_schwarz": 1e-6,
        "admm_method": "BASIS_PROJECTION",
        "admm_purification": "NONE",
        "admm_exchange_correction": "PBEX",
        "start_from": "PBE",
    },
}

QUEUE: dict[str, Any] = {
    "blocks": [{"kind": "relaxation", "level": "PBE", "defect": "V_H1", "charges": [0, 1], "configurations": ["Unperturbed", "Dimer"]}]
}


def write_tiny_dataset(folder: Path, queue: dict[str, Any] | None = None) -> Path:
    """Three hydrogen atoms in a 5 Å cell, of which the vacancy leaves two; charges 0 (closed shell) and +1 (open shell)."""
    from defectbench.datasets.building import write_dataset
    from defectbench.datasets.schema import DatasetFile

    host = Atoms("H3", positions=[[1.0, 1.0, 1.0], [1.85, 1.2, 1.1], [3.5, 3.5, 3.5]], cell=[5.0, 5.0, 5.0], pbc=True)
    starts = {}
    for charge in (0, 1):
        named = {}
        for name, shift in (("Unperturbed", 0.0), ("Dimer", -0.12)):
            atoms = host[:2].copy()
            atoms.positions[1, 0] += shift
            named[name] = atoms
        starts["V_H1", charge] = named
    metadata = DatasetFile.model_validate(
        {
            "schema_version": 1,
            "id": "tiny",
            "title": "tiny",
            "licence": "MIT",
            "host": {"file": "host.extxyz"},
            "reference_level": "PBE",
            "levels": [
                {
                    "name": "PBE",
                    "functional": "PBE",
                    "convergence": {"max_force": 0.103, "quantity": "component"},
                    "settings": {"cp2k": METHOD},
                },
                {"name": "HSE06", "functional": "HSE06", "settings": {"cp2k": HYBRID}},
            ],
            "defects": [{"name": "V_H1", "kind": "vacancy", "site": 2, "removed": "H", "charges": [0, 1]}],
            "files": {"host.extxyz": "0" * 64},
        }
    )
    write_dataset(folder, metadata, host, starts, {})
    (folder / "queue.yaml").write_text(yaml.safe_dump(queue or QUEUE), encoding="utf-8")
    return folder


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The tiny dataset's folder."""
    return write_tiny_dataset(tmp_path / "tiny")


@pytest.fixture
def fake_cp2k(tmp_path: Path) -> Path:
    """A program that reads ``input.inp`` and writes what CP2K would, for two atoms on a spring; see ``fake_cp2k.py``."""
    path = tmp_path / "bin" / "cp2k.psmp"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{HERE / "fake_cp2k.py"}" "$@"\n', encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("FAKE_CP2K") or name == "DEFECTBENCH_REFERENCE_WORK"]:
        monkeypatch.delenv(name)
