"""What the training process of a mace-torch model reads: mace-torch's own configuration, and what its own loop does not know."""

from __future__ import annotations

from typing import Any

from defectbench.training.export import CHARGE_KEY, ENERGY_KEY, FORCES_KEY, TrainingFiles, number_of
from defectbench.training.recipe import Phase, Recipe


def configuration(recipe: Recipe, files: TrainingFiles, name: str) -> dict[str, Any]:
    """Content of the configuration file of ``mace_run_train``: architecture, data, keys.

    Args:
        recipe: how.
        files: training files, beside the configuration.
        name: of the run.
    """
    low, high = files.charges
    shape = recipe.architecture.model_dump(exclude={"charge"})
    content: dict[str, Any] = {
        "name": name,
        "seed": recipe.seed,
        "default_dtype": recipe.dtype,
        "model": "MACE",
        **shape,
        "radial_MLP": "[64, 64, 64]",
        "MLP_irreps": "16x0e",
        "scaling": "no_scaling",
        "energy_key": ENERGY_KEY,
        "forces_key": FORCES_KEY,
        "heads": {
            level: {
                "train_file": file,
                **({"valid_file": files.validation[level]} if level in files.validation else {}),
                # as text: mace-torch evaluates it
                "E0s": str({number_of(element): energy for element, energy in files.atomic_energies[level].items()}),
            }
            for level, file in files.train.items()
        },
    }
    if recipe.architecture.charge:
        content["use_embedding_readout"] = True
        content["embedding_specs"] = {
            CHARGE_KEY: {
                "type": "categorical",
                "per": "graph",
                "key": CHARGE_KEY,
                # as many classes as charges were trained, so that any other charge is an error
                "num_classes": high - low + 1,
                "offset": -low,
                "emb_dim": recipe.architecture.num_channels,
            }
        }
    return content


def settings(recipe: Recipe, files: TrainingFiles, phases: tuple[Phase, ...], *, device: str, initial: str | None = None) -> dict[str, Any]:
    """Content of ``job.json``.

    Args:
        recipe: how.
        files: training files.
        phases: of this stage.
        device: ``cpu`` or ``cuda``.
        initial: state of an earlier stage, relative to the job's folder.
    """
    return {
        "configuration": "mace.yaml",
        "device": device,
        "initial": initial,
        "record": device == "cuda",
        "files_sha256": files.sha256,
        "batch_size": recipe.batch_size,
        "repeat": {level.name: level.repeat for level in recipe.levels if level.name in files.train},
        "energies_only": [level.name for level in recipe.levels if not level.forces],
        "huber_energy": recipe.huber_energy,
        "huber_forces": recipe.huber_forces,
        "ema_decay": recipe.ema_decay,
        "patience": recipe.patience,
        "phases": [phase.model_dump(mode="json") for phase in phases],
    }
