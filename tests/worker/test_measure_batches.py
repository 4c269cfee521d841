"""The script that measures batches, with a model of springs instead of a package."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from ase.calculators.calculator import Calculator, all_changes

from defectbench.models.registry import load_model
from defectbench.worker import main
from defectbench.worker.adapters.base import LoadedModel

SCRIPT = Path(__file__).parents[2] / "scripts" / "measure_batches.py"


class Springs(Calculator):
    """Atoms hang on the corners of a grid."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        away = self.atoms.positions - np.round(self.atoms.positions)
        self.results = {"energy": float((away**2).sum()), "forces": -2 * away}


class Model(LoadedModel):
    batches = True

    def evaluate(self, structures):
        found = []
        for atoms in structures:
            copy = atoms.copy()
            copy.calc = Springs()
            found.append((copy.get_potential_energy(), copy.get_forces()))
        return found


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("measure_batches", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return module


def test_a_job_is_measured_where_only_the_worker_is(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "weights.model"
    weights.write_bytes(b"w")
    entry = {"name": "weights.model", "path": str(weights), "sha256": None, "trusted": True}
    resolved = SimpleNamespace(definition=load_model("sevennet-0"), worker_spec=lambda: {"id": "toy", "weights": [entry]})
    script.write_job(tmp_path / "job", resolved, "V_Sb1", 3)
    weights.unlink()  # the folder has its own
    job = json.loads((tmp_path / "job" / script.JOB).read_text())
    (tmp_path / "job" / script.JOB).write_text(json.dumps({**job, "calculations": job["calculations"][:9]}))
    asked = {}

    def load(spec):
        asked.update(spec)
        assert Path(spec["weights"][0]["path"]).read_bytes() == b"w"
        return Model(Springs()), {"versions": {}, "parameters": 1, "python": "3", "platform": "p"}

    monkeypatch.setattr(main, "load", load)
    output = tmp_path / "found.json"
    monkeypatch.setattr(sys, "argv", ["x", str(tmp_path / "job"), "--batches", "1,8", "--output", str(output)])
    assert script.main() == 0
    assert (asked["device"], asked["batch"]) == ("cpu", 8)
    found = json.loads(output.read_text())
    alone, batch = found["batches"]
    assert alone["force_calls"] == batch["force_calls"] == 4 * alone["relaxations"]
    assert (batch["other_steps_than_first"], batch["farthest_from_first_A"], batch["failed"]) == (0, 0.0, 0)
