"""PET-MAD and its siblings (package ``upet``; Mazitov et al. 2025, arXiv:2503.14118)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ..errors import WorkerError, require
from ..weights import WeightsFile
from .base import LoadedModel, by_structure, count_parameters, no_charge, only_file, reject_unknown, set_up_torch


class UpetModel(LoadedModel):
    """Energies and their gradients; the direct forces that some of these models also give are not used."""

    batches = True

    def evaluate(self, structures: Sequence[Atoms]) -> list[tuple[float, NDArray[np.float64]]]:
        """One call of the package for all structures."""
        found = self.calculator.calculator.compute_energy(list(structures), compute_forces_and_stresses=True)
        return by_structure(structures, found["energy"], np.concatenate(found["forces"]))


def load(spec: dict[str, Any], files: list[WeightsFile]) -> LoadedModel:
    """No arguments. The weights are a checkpoint of metatrain, a pickle with classes of that package: loading it can run code."""
    no_charge(spec)
    reject_unknown(dict(spec["arguments"]), set(), "upet")
    set_up_torch()
    path = only_file(files, "PET").path
    module = require("upet.ase", "upet")
    io = require("metatrain.utils.io", "upet")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parameters = count_parameters(io.load_model(str(path)))
            calculator = module.UPETCalculator(checkpoint_path=str(path), device=spec["device"], uncertainty_threshold=None)
    except (ValueError, KeyError, RuntimeError) as error:
        raise WorkerError("weights", f"{path.name} is not a checkpoint that upet reads: {str(error).splitlines()[0]}") from error
    return UpetModel(calculator, parameters=parameters, precision="float32")
