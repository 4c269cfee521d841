"""SevenNet (package ``sevenn``; Park et al. 2024, doi:10.1021/acs.jctc.4c00190)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ..errors import WorkerError, require
from ..weights import WeightsFile
from .base import (
    LoadedModel,
    by_structure,
    count_parameters,
    load_without_code,
    no_charge,
    only_file,
    reject_unknown,
    set_up_torch,
)


class SevenNetModel(LoadedModel):
    """Descriptors are the scalar node features that enter the readout."""

    has_descriptors = True
    batches = True

    def evaluate(self, structures: Sequence[Atoms]) -> list[tuple[float, NDArray[np.float64]]]:
        """As the calculator makes the graph of one structure, for all of them; one forward pass."""
        keys, graphs = require("sevenn._keys"), require("sevenn.atom_graph_data")
        batches = require("torch_geometric.data", "torch_geometric")
        make = require("sevenn.train.dataload").unlabeled_atoms_to_graph
        calculator = self.calculator
        data = []
        for atoms in structures:
            graph = graphs.AtomGraphData.from_numpy_dict(make(atoms, calculator.cutoff, with_shift=False))
            if calculator.modal:
                graph[keys.DATA_MODALITY] = calculator.modal
            data.append(graph)
        batch = batches.Batch.from_data_list(data).to(calculator.device)
        calculator.model.set_is_batch_data(True)
        try:
            found = calculator.model(batch)
        finally:
            calculator.model.set_is_batch_data(False)
        energies = found[keys.PRED_TOTAL_ENERGY].detach().cpu().numpy().reshape(-1)
        return by_structure(structures, energies, found[keys.PRED_FORCE].detach().cpu().numpy())

    def descriptors(self, atoms: Atoms) -> NDArray[np.float64]:
        """Scalar (0e) node features after the last interaction, (N, D)."""
        key = require("sevenn._keys").NODE_FEATURE
        model = self.calculator.model
        readout = model._modules.get("reduce_input_to_hidden")
        if readout is None:
            raise WorkerError("unsupported", "this SevenNet model has no readout layer 'reduce_input_to_hidden'")
        features = self.while_calculating(
            atoms, lambda keep: readout.register_forward_pre_hook(lambda _module, inputs: keep(inputs[0][key]))
        )
        blocks = readout.linear.irreps_in
        scalar = np.concatenate([np.full(block.dim, block.ir.l == 0) for block in blocks])
        return features[:, scalar[: features.shape[1]]]  # a multi-fidelity readout appends the modal, which is not a feature of an atom


def _arrays() -> tuple[Any, ...]:
    """What numpy arrays are pickled with, as released in 2024 and now."""
    rebuild = np.zeros(1).__reduce__()[0]
    kinds = {type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "bool")}
    return (np.dtype, np.ndarray, rebuild, (rebuild, "numpy.core.multiarray._reconstruct"), *kinds)


def load(spec: dict[str, Any], files: list[WeightsFile]) -> LoadedModel:
    """Arguments: ``modal`` (fidelity of a multi-fidelity model)."""
    no_charge(spec)
    arguments = dict(spec["arguments"])
    reject_unknown(arguments, {"modal"}, "sevennet")
    torch = set_up_torch()
    load_without_code(torch, spec, _arrays())
    module = require("sevenn.calculator", "sevenn")
    modal = arguments.get("modal")
    weights = only_file(files, "SevenNet")
    try:
        calculator = module.SevenNetCalculator(
            model=str(weights.path), file_type="checkpoint", device=torch.device(spec["device"]), modal=modal
        )
    except ValueError as error:
        if modal is None:
            raise
        raise WorkerError("head", f"this SevenNet model has no modal '{modal}': {error}") from error
    known = list(calculator.model.modal_map or [])
    if modal is not None and calculator.modal != modal:
        raise WorkerError("head", f"this SevenNet model has no modal '{modal}'; it has: {', '.join(known) or 'none'}")
    return SevenNetModel(calculator, parameters=count_parameters(calculator.model), precision="float32")
