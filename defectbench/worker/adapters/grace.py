"""GRACE (package ``tensorpotential``; Bochkarev, Lysogorskiy, Drautz 2024, doi:10.1103/PhysRevX.14.021036)."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from ..errors import WorkerError, require
from ..weights import WeightsFile
from .base import LoadedModel, no_charge, reject_unknown


def load(spec: dict[str, Any], files: list[WeightsFile]) -> LoadedModel:
    """Arguments: ``precision`` of the saved model (float64 by default).

    The weights are a TensorFlow SavedModel: the folder that holds ``saved_model.pb``, its ``variables`` and ``metadata.yaml``.
    """
    no_charge(spec)
    arguments = dict(spec["arguments"])
    reject_unknown(arguments, {"precision"}, "grace")
    precision = arguments.get("precision", "float64")
    if precision not in ("float32", "float64"):
        raise WorkerError("adapter", f"precision is float32 or float64, not '{precision}'")
    found = [file.path.parent for file in files if file.path.name == "saved_model.pb"]
    if len(found) != 1:
        raise WorkerError("weights", f"a GRACE model is a folder with one saved_model.pb; {len(found)} were given")
    tensorflow = require("tensorflow")
    threads = max(1, int(os.environ.get("OMP_NUM_THREADS", "1")))
    tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
    tensorflow.config.threading.set_inter_op_parallelism_threads(threads)
    tensorflow.keras.utils.set_random_seed(0)
    if spec["device"] == "cpu":
        tensorflow.config.set_visible_devices([], "GPU")
    elif not tensorflow.config.list_physical_devices("GPU"):
        raise WorkerError("adapter", f"TensorFlow sees no GPU for device '{spec['device']}'")
    module = require("tensorpotential.calculator.asecalculator", "tensorpotential")
    calculator = module.TPCalculator(str(found[0]), mode="uniform", enable_uq_if_available=False)
    return LoadedModel(
        calculator,
        parameters=_count(tensorflow, found[0]),
        precision=precision,
    )


def _count(tensorflow: Any, folder: Path) -> int:
    """Numbers in the variables of a SavedModel; the bookkeeping of its checkpoint does not count."""
    shapes = tensorflow.train.load_checkpoint(str(folder / "variables" / "variables")).get_variable_to_shape_map()
    return sum(
        math.prod(shape) for name, shape in shapes.items() if name.endswith("/.ATTRIBUTES/VARIABLE_VALUE") and "save_counter" not in name
    )
