"""A whole training in mace-torch's environment: killed, resumed, registered, evaluated. In the slow lane."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

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


def test_training_resumes_after_a_kill_and_the_model_is_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "small.yaml"
    path.write_text(to_yaml(RECIPE))
    dataset, recipe = load_dataset("sb2se3-vacancies"), load_recipe(path)
    whole = run.train(dataset, recipe, tmp_path / "whole")
    assert [epoch.epoch for epoch in whole.history] == [1, 2, 3]

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

    made = register(resumed, dataset, recipe)
    definition = load_model(made.definitions["PBE"])
    assert definition.charge.range == (-1, 1)
    assert definition.trained_on[0].files_sha256 == resumed.files.sha256
    assert made.certificate.charge_class != "charge-blind"
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


def test_missing_package_is_one_line(tmp_path: Path):
    path = tmp_path / "small.yaml"
    path.write_text(to_yaml(RECIPE))
    with raises_code("training-failed", "ModuleNotFoundError"):
        run.train(load_dataset("sb2se3-vacancies"), load_recipe(path), tmp_path / "run", environment=sys.prefix)
