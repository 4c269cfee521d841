"""MatGL (package ``matgl``): M3GNet, TensorNet, and QET, which takes a total charge (charge equilibration)."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ..errors import WorkerError, require
from ..weights import WeightsFile
from .base import LoadedModel, count_parameters, numpy_features, reject_unknown, set_up_torch

_FILES = ("model.json", "model.pt", "state.pt")


class MatglModel(LoadedModel):
    """A MatGL potential; its charge, where it has one, is the calculator's ``total_charge`` tensor."""

    has_descriptors = True

    def set_charge(self, atoms: Atoms, charge: int) -> None:
        """QET reads a tensor with the total charge of each graph: shape (1,)."""
        if self.charge != "total_charge":
            super().set_charge(atoms, charge)
            return
        torch = require("torch")
        parameter = next(self.calculator.potential.parameters())
        self.calculator.total_charge = torch.tensor([float(charge)], dtype=parameter.dtype, device=parameter.device)

    def descriptors(self, atoms: Atoms) -> NDArray[np.float64]:
        """Invariant node features that enter the energy readout, (N, D); QET's contain its charges and potentials."""
        model = self.calculator.potential.model
        self.calculator.reset()
        atoms.get_potential_energy()
        features = getattr(model, "feature_dict", None)
        if not features:
            raise WorkerError("unsupported", f"{type(model).__name__} keeps no feature dictionary")
        if "node_feat" in features:
            return numpy_features(features["node_feat"])
        readout = features.get("readout")
        if readout is not None and getattr(readout, "ndim", 0) == 2 and len(readout) == len(atoms) and readout.shape[1] > 1:
            return numpy_features(readout)
        blocks = sorted((name for name in features if name.startswith("gc_")), key=lambda name: int(name.removeprefix("gc_")))
        if blocks:
            last = features[blocks[-1]]
            node = last.get("node_feat") if isinstance(last, dict) else last
            if node is not None and getattr(node, "ndim", 0) == 2:
                return numpy_features(node)
        raise WorkerError("unsupported", f"no invariant node features are known for {type(model).__name__}")


def load(spec: dict[str, Any], files: list[WeightsFile]) -> LoadedModel:
    """No arguments. The weights are the three files that ``matgl`` saves: model.json, model.pt, state.pt."""
    reject_unknown(dict(spec["arguments"]), set(), "matgl")
    by_name = {file.path.name: str(file.path) for file in files}
    missing = [name for name in _FILES if name not in by_name]
    if missing:
        raise WorkerError("weights", f"a MatGL model is a folder with {', '.join(_FILES)}; missing: {', '.join(missing)}")
    set_up_torch()
    matgl = require("matgl")
    ase_module = require("matgl.ext.ase", "matgl")
    pes = require("matgl.apps.pes", "matgl")
    potential = pes.Potential.load({name: by_name[name] for name in _FILES}).to(spec["device"]).eval()
    how = spec["charge"]["how"]
    hears = bool(getattr(potential, "calc_charge", False))
    if how == "total_charge" and not hears:
        raise WorkerError("charge", "the definition says total_charge, but this MatGL potential equilibrates no charges")
    if how not in ("none", "total_charge"):
        raise WorkerError("charge", f"MatGL models take a charge as total_charge, not '{how}'")
    if how == "none" and hears:
        raise WorkerError("charge", "this MatGL potential takes a total charge; write charge: {how: total_charge}")
    calculator = ase_module.PESCalculator(potential, stress_unit="eV/A3")
    return MatglModel(
        calculator,
        parameters=count_parameters(potential),
        charge=how,
        precision="float32",
        details={"architecture": type(potential.model).__name__, "matgl": matgl.__version__},
    )
