"""CHGNet (package ``chgnet``; Deng et al. 2023, doi:10.1038/s42256-023-00716-3)."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ..errors import require
from ..weights import WeightsFile
from .base import LoadedModel, count_parameters, load_without_code, no_charge, numpy_features, only_file, reject_unknown, set_up_torch


class ChgnetModel(LoadedModel):
    """Descriptors are the atom features after the last atom convolution."""

    has_descriptors = True

    def descriptors(self, atoms: Atoms) -> NDArray[np.float64]:
        """Atom features, (N, 64)."""
        adaptor = require("pymatgen.io.ase").AseAtomsAdaptor
        model = self.calculator.model
        plain = Atoms(atoms.get_chemical_symbols(), positions=atoms.positions, cell=atoms.cell, pbc=True)
        graph = model.graph_converter(adaptor.get_structure(plain)).to(self.calculator.device)
        features = model.predict_graph(graph, task="e", return_atom_feas=True)["atom_fea"]
        return np.asarray(features, dtype=np.float64) if isinstance(features, np.ndarray) else numpy_features(features)


def load(spec: dict[str, Any], files: list[WeightsFile]) -> LoadedModel:
    """Arguments: ``mlp_out_bias`` (true only for the 0.2.0 weights)."""
    no_charge(spec)
    arguments = dict(spec["arguments"])
    reject_unknown(arguments, {"mlp_out_bias"}, "chgnet")
    load_without_code(set_up_torch(), spec)
    models = require("chgnet.model.model", "chgnet")
    dynamics = require("chgnet.model.dynamics", "chgnet")
    model = models.CHGNet.from_file(str(only_file(files, "CHGNet").path), mlp_out_bias=bool(arguments.get("mlp_out_bias", False)))
    calculator = dynamics.CHGNetCalculator(model=model, use_device=spec["device"], on_isolated_atoms="error")
    return ChgnetModel(calculator, parameters=count_parameters(model), precision="float32")
