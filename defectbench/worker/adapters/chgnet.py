"""CHGNet (package ``chgnet``; Deng et al. 2023, doi:10.1038/s42256-023-00716-3)."""

from __future__ import annotations

from collections.abc import Sequence
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
    batches = True

    def _graph(self, atoms: Atoms) -> Any:
        adaptor = require("pymatgen.io.ase").AseAtomsAdaptor
        plain = Atoms(atoms.get_chemical_symbols(), positions=atoms.positions, cell=atoms.cell, pbc=True)
        return self.calculator.model.graph_converter(adaptor.get_structure(plain)).to(self.calculator.device)

    def evaluate(self, structures: Sequence[Atoms]) -> list[tuple[float, NDArray[np.float64]]]:
        """One call of the model's own batch of crystal graphs."""
        model = self.calculator.model
        graphs = [self._graph(atoms) for atoms in structures]
        found = model.predict_graph(graphs, task="ef", batch_size=len(graphs))
        found = [found] if len(graphs) == 1 else found
        counts = [len(atoms) if model.is_intensive else 1 for atoms in structures]
        return [(float(one["e"]) * count, np.asarray(one["f"], dtype=np.float64)) for one, count in zip(found, counts, strict=True)]

    def descriptors(self, atoms: Atoms) -> NDArray[np.float64]:
        """Atom features, (N, 64)."""
        features = self.calculator.model.predict_graph(self._graph(atoms), task="e", return_atom_feas=True)["atom_fea"]
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
