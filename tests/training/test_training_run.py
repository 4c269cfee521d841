"""A whole training in mace-torch's environment: killed, resumed, registered, evaluated. In the slow lane."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refusals import raises_code

import defectbench
from defectbench.base.yaml import to_yaml
from defectbench.datasets.catalogue import load_dataset
from defectbench.models.registry import load_model
from defectbench.training import run
from defectbench.training.recipe import load_recipe
from defectbench.training.register import register

pytestmark = pytest.mark.model

RECIPE = {
    "id": "small",
    "kind": "mace",
    "levels": [{"name": "PBE"}, {"name": "HSE06", "repeat": 2}],
    "charges": [-1, 0, 1],
    "max_force": 0.5,
    "architecture": {
        "num_channels": 4,
        "max_L": 0,
        "max_ell": 1,
        "correlation": 1,
        "num_interactions": 1,
        "r_max": 4.0,
        "num_radial_basis": 4,
    },
    "batch_size": 16,
    "ema_decay": 0.5,
    "phases": [{"epochs": 3, "learning_rate": [0.02, 0.005], "energy_weight": 1.0, "forces_weight": 30.0}],
}


class Malicious:
    """Pickles to a file that leaves a trace when it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.trace),)


def test_training_resumes_after_a_kill_and_the_model_is_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "small.yaml"
    path.write_text(to_yaml(RECIPE))
    dataset, recipe = load_dataset("sb2se3-vacancies"), load_recipe(path)
    whole = run.train(dataset, recipe, tmp_path / "whole")
    assert [epoch.epoch for epoch in whole.history] == [1, 2, 3]

    python = run.ensure_environment("mace").python
    padded_like_plain(tmp_path / "whole", python)
    measured_again(tmp_path / "whole", python, whole.history[-1])

    started: list[subprocess.Popen[str]] = []

    class Recorded(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options)  # type: ignore[call-overload]
            started.append(self)

    def kill(_epoch: run.Epoch) -> None:
        os.killpg(started[-1].pid, signal.SIGKILL)  # the training and the process that watches over it

    with monkeypatch.context() as patched:
        patched.setattr(run.subprocess, "Popen", Recorded)
        with raises_code("training-failed"):
            run.train(dataset, recipe, tmp_path / "killed", on_epoch=kill)
    resumed = run.train(dataset, recipe, tmp_path / "killed")
    assert [epoch.errors for epoch in resumed.history] == [epoch.errors for epoch in whole.history]
    assert (tmp_path / "killed" / run.CURVE_FILE).is_file()

    weights = tmp_path / "killed" / run.MODEL_FILE
    whole_bytes = weights.read_bytes()
    assert whole_bytes == (tmp_path / "whole" / run.MODEL_FILE).read_bytes()
    weights.write_bytes(pickle.dumps(Malicious(tmp_path / "RAN")))  # as in the finished folder of a stranger
    resumed = run.train(dataset, recipe, tmp_path / "killed")
    assert weights.read_bytes() == whole_bytes

    made = register(resumed, dataset, recipe)
    definition = load_model(made.definitions["PBE"])
    assert definition.charge.range == (-1, 1)
    assert definition.trained_on[0].files_sha256 == resumed.files.sha256
    assert made.certificate.charge_class != "charge-blind"
    assert not (tmp_path / "RAN").exists()
    # the energy of the embedding is summed over atoms; nothing else may fail
    assert {check.name for check in made.certificate.failed} == {"charge_response_size_consistent"}
    # one constant per charge was fitted before the first step: some 4 eV per electron
    energies = dict(zip(made.certificate.charges, made.certificate.energies, strict=True))
    assert np.diff([energies[q] for q in (-1, 0, 1)]) == pytest.approx([-4.5, -4.5], abs=1.5)
    assert load_model(made.definitions["HSE06"]).level_of_theory == "HSE06"

    done = defectbench.evaluate(
        str(made.definitions["PBE"]),
        dataset,
        defects=["V_Sb1"],
        charges=[0],
        configurations=["Unperturbed"],
        tasks=["parity"],
        output=tmp_path / "evaluation",
        trust_weights=True,
        workers=1,
    )
    assert "parity" in done.results


PADDED = """
import sys
import torch
sys.path.insert(0, sys.argv[1])
import mace_process as m
job = m.Job(m.Path(sys.argv[2]))
batches, recorded, weights = job.epoch_batches(0), m.RecordedStep(job), {"energy_weight": 1.0, "forces_weight": 30.0}
assert len(batches[-1]) < len(batches[0])
for graphs in (batches[0], batches[-1]):
    found = []
    for batch in (m.plain(job, graphs), recorded.padded(graphs)):
        job.optimizer.zero_grad()
        m.loss(job, batch, job.model(batch, training=True, compute_force=True), weights).backward(inputs=list(job.model.parameters()))
        found.append(torch.cat([p.grad.flatten() for p in job.model.parameters() if p.grad is not None]))
    print(float((found[0] - found[1]).abs().max() / found[0].abs().max()))
"""


def padded_like_plain(folder: Path, python: Path) -> None:
    """What is recorded on a GPU works on padded batches: they give the same gradients."""
    command = [str(python), "-c", PADDED, str(Path(run.__file__).parent), str(folder / "job.json")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert max(float(line) for line in said.splitlines()[-2:]) < 1e-5  # the first line is mace-torch's own


def measured_again(folder: Path, python: Path, last: run.Epoch) -> None:
    """``scripts/measure_training.py`` finds the errors of the last epoch in the state that it left."""
    script = Path(__file__).parents[2] / "scripts" / "measure_training.py"
    said = subprocess.run([str(python), str(script), str(folder)], capture_output=True, text=True, check=True).stdout
    found = json.loads(said[said.index("{") :])
    assert found["epoch"] == last.epoch
    for level, errors in last.errors.items():
        assert found["validation"][level] == pytest.approx(errors, rel=1e-5)


def test_missing_package_is_one_line(tmp_path: Path):
    path = tmp_path / "small.yaml"
    path.write_text(to_yaml(RECIPE))
    with raises_code("training-failed", "ModuleNotFoundError"):
        run.train(load_dataset("sb2se3-vacancies"), load_recipe(path), tmp_path / "run", environment=sys.prefix)
