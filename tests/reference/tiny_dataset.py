"""Three hydrogen atoms, one of which is the vacancy: a dataset on which real CP2K takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ase import Atoms

METHOD: dict[str, Any] = {
    "basis_set_files": ["BASIS_MOLOPT"],
    "potential_file": "GTH_POTENTIALS",
    "kinds": {"H": {"basis_set": "SZV-MOLOPT-SR-GTH", "potential": "GTH-PBE-q1", "valence_electrons": 1}},
    "cutoff_ry": 250.0,
    "rel_cutoff_ry": 40.0,
    "eps_default": 1e-10,
    "functional": "PBE",
    "extrapolation": "ASPC",
    "extrapolation_order": 2,
    "scf_restricted": {"minimizer": "DIIS", "energy_gap": 0.02, "eps_scf": 5e-6, "max_scf": 30, "outer_max_scf": 6},
    "scf_unrestricted": {"minimizer": "CG", "energy_gap": 0.005, "eps_scf": 5e-6, "max_scf": 50, "outer_max_scf": 6},
    "optimizer": {
        "name": "BFGS",
        "trust_radius_angstrom": 0.06,
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

MIXING: dict[str, Any] = {"alpha": 0.3, "eps_scf": 1e-6, "max_scf": 60}
MESH: dict[str, Any] = {
    **METHOD,
    "extrapolation": "USE_PREV_P",
    "kpoints": [2, 2, 1],
    "scf_restricted": MIXING,
    "scf_unrestricted": MIXING,
}

COMPOSITE: dict[str, Any] = {**HYBRID, "hybrid": {**HYBRID["hybrid"], "added_to": "PBE-k"}}

QUEUE: dict[str, Any] = {
    "blocks": [{"kind": "relaxation", "level": "PBE", "defect": "V_H1", "charges": [0, 1], "configurations": ["Unperturbed", "Dimer"]}]
}


def write_tiny_dataset(folder: Path, queue: dict[str, Any] | None = None) -> Path:
    """Three hydrogen atoms in a 5 Å cell, of which the vacancy leaves two; charges 0 (closed shell) and +1 (open shell)."""
    from defectbench.datasets.schema import DatasetFile
    from defectbench.datasets.writing import write_dataset

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
                {
                    "name": "PBE-k",
                    "functional": "PBE",
                    "convergence": {"max_force": 0.103, "quantity": "component"},
                    "settings": {"cp2k": MESH},
                },
                {"name": "HSE06", "functional": "HSE06", "settings": {"cp2k": HYBRID}},
                {"name": "HSE06-c", "functional": "HSE06 on top of PBE-k", "settings": {"cp2k": COMPOSITE}},
            ],
            "defects": [{"name": "V_H1", "kind": "vacancy", "site": 2, "removed": "H", "charges": [0, 1]}],
            "files": {"host.extxyz": "0" * 64},
        }
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_dataset(folder, metadata, host, starts, {})
    (folder / "queue.yaml").write_text(yaml.safe_dump(queue or QUEUE), encoding="utf-8")
    return folder
