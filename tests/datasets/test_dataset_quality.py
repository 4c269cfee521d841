"""Labels that are not good enough: net forces, image-charge terms, checks with denser k-points."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from datasets_helpers import RATTLED_FRAMES, make_host, rehash, replant, rewrite

from defectbench.datasets.catalogue import validate_dataset
from defectbench.structures.ewald import ewald_potential

CHECK = "properties/PBE/check_V_Sb_q+0_Unperturbed_kpoints-3x3x3.json"


def fields(folder: Path) -> list[str]:
    return [problem.field for problem in validate_dataset(folder).problems]


def test_net_force(tiny: Path) -> None:
    def push(frames: list[Any]) -> None:
        frames[1].calc.results["forces"] = frames[1].get_forces() + np.array([0.02, 0.0, 0.0])

    assert validate_dataset(tiny).valid
    replant(tiny, RATTLED_FRAMES, push)
    (problem,) = validate_dataset(tiny).problems
    assert (problem.file, problem.frame, problem.field) == (RATTLED_FRAMES, 1, "forces")


def test_image_charge_term(tiny: Path) -> None:
    tensor = np.diag([15.0, 80.0, 120.0])
    right = -float(ewald_potential(make_host().cell.array, tensor, [[0.0, 0.0, 0.0]])[0]) / 2

    def correct(content: dict[str, Any], factor: float, method: str = "eFNV with an Ewald sum") -> None:
        content["dielectric"] = {"tensor": tensor.tolist(), "citation": {"text": "made up"}}
        content["levels"][0]["correction_method"] = method
        content["levels"][0]["corrections"] = [{"defect": "V_Sb", "charge": -1, "image_charge": factor * right}]

    rewrite(tiny, lambda content: correct(content, 1.0))
    assert fields(tiny) == []
    rewrite(tiny, lambda content: correct(content, 1.38))
    assert fields(tiny) == ["levels.0.corrections"]
    rewrite(tiny, lambda content: correct(content, 1.38, "scaled by the shape of the cell"))
    assert fields(tiny) == [], "another method"


def test_a_stated_uncertainty_covers_what_denser_kpoints_change(tiny: Path) -> None:
    (tiny / CHECK).parent.mkdir(parents=True)
    (tiny / CHECK).write_text(json.dumps({"kind": "check", "kpoints": [3, 3, 3], "force_difference_rms": 0.004}))
    rehash(tiny, CHECK)
    assert fields(tiny) == []

    def state(force: float) -> None:
        rewrite(tiny, lambda content: content["levels"][0].update(uncertainty={"energy": 0.02, "force": force, "source": "3×3×3"}))

    state(0.005)
    assert fields(tiny) == []
    state(0.003)
    assert fields(tiny) == ["force_difference_rms"]
    state(0.09)
    assert fields(tiny) == ["levels.0.uncertainty"], "no relaxation to 0.02 eV/Å means anything then"
