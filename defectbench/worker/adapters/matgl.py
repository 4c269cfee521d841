"""MatGL (package ``matgl``): M3GNet, TensorNet, and QET, which takes a total charge (charge equilibration)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ..errors import WorkerError, require
from ..weights import WeightsFile
from .base import LoadedModel, by_structure, count_parameters, load_without_code, numpy_features, reject_unknown, set_up_torch

_FILES = ("model.json", "model.pt", "state.pt")
_CHARGE = "total_charge"
"""Key of ``atoms.info`` under which a structure carries its charge to :class:`MatglModel`'s calls."""


class MatglModel(LoadedModel):
    """A MatGL potential. A structure carries its charge, where the potential takes one; calls hand it over as QET's ``total_charge``."""

    has_descriptors = True
    batches = True

    def set_charge(self, atoms: Atoms, charge: int) -> None:
        """``atoms.info``: one calculator serves structures of several charges."""
        if self.charge != "total_charge":
            super().set_charge(atoms, charge)
        else:
            atoms.info[_CHARGE] = charge

    def read_charge(self, atoms: Atoms) -> Any:
        """As :meth:`set_charge` writes it."""
        return atoms.info.get(_CHARGE) if self.charge == "total_charge" else super().read_charge(atoms)

    def evaluate(self, structures: Sequence[Atoms]) -> list[tuple[float, NDArray[np.float64]]]:
        """As the calculator makes the graph of one structure, for all of them; one call of the potential."""
        torch, batches = require("torch"), require("torch_geometric.data", "torch_geometric")
        calculator = self.calculator
        graphs, cells, states = zip(*(calculator._atoms2graph.get_graph(atoms) for atoms in structures), strict=True)
        cell, state = torch.cat([one.reshape(1, 3, 3) for one in cells]), torch.tensor(np.array(states))
        given = {"total_charge": _charges(structures, calculator.potential)} if self.charge == "total_charge" else {}
        found = calculator.potential(batches.Batch.from_data_list(list(graphs)), cell, state, **given)
        return by_structure(structures, found[0].detach().cpu().numpy().reshape(-1), found[1].detach().cpu().numpy())

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


def _charges(structures: Sequence[Atoms], potential: Any) -> Any:
    """What QET reads: a tensor with the total charge of each graph, where the potential is; it moves all else itself, but not this."""
    parameter = next(potential.parameters())
    charges = [float(atoms.info[_CHARGE]) for atoms in structures]
    return require("torch").tensor(charges, dtype=parameter.dtype, device=parameter.device)


def _calculator(potential: Any, takes_charge: bool) -> Any:
    """The package's calculator; of a potential that takes a charge, one that reads it from each structure."""
    base = require("matgl.ext.ase", "matgl").PESCalculator

    class PerStructure(base):  # type: ignore[misc, valid-type]  # the package is not installed where types are checked
        def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = None) -> None:
            self.total_charge = _charges([atoms], potential)
            super().calculate(atoms, properties, system_changes)

    return (PerStructure if takes_charge else base)(potential, stress_unit="eV/A3")


def _onto_neighbours(module: Any) -> None:
    """Makes a TensorNet block add an edge's message to the atom that the edge points to."""
    forward, aggregate = module.forward, module.aggregate
    at: dict[str, Any] = {}

    def remember(*arguments: Any, **named: Any) -> Any:
        at["destination"] = next(a for a in arguments if getattr(a, "ndim", 0) == 2 and a.shape[0] == 2 and not a.is_floating_point())[1]
        return forward(*arguments, **named)

    def add(messages: Any, _index: Any, dim_size: int) -> Any:
        return aggregate(messages, at["destination"], dim_size)

    module.forward, module.aggregate = remember, add


def _m3gnet_onto_neighbours(convolution: Any) -> None:
    """The same for the node update of an M3GNet block."""
    torch = require("torch")

    def node_update(edges: Any, edge_features: Any, nodes: Any, basis: Any, state: Any, count: int) -> Any:
        parts = [nodes[edges[0]], nodes[edges[1]], edge_features, *([state] if convolution.include_state else [])]
        messages = convolution.node_update_func(torch.hstack(parts)) * convolution.node_weight_func(basis)
        return messages.new_zeros((count, messages.shape[1])).index_add(0, edges[1], messages)

    convolution.node_update_ = node_update


def _potential_onto_neighbours(module: Any) -> None:
    """The same for QET's electrostatic potential: as released then, an atom's own charge acts on it, not its neighbours'."""
    torch = require("torch")
    distances = require("matgl.graph._compute", "matgl").compute_pair_vector_and_distance
    damping = require("matgl.utils.cutoff", "matgl").polynomial_cutoff
    coulomb = require("matgl.utils.constants", "matgl").COULOMB_CONSTANT

    def potential(g: Any, charge: Any, sigma: Any) -> Any:
        source, destination = g.edge_index[0], g.edge_index[1]
        _, length = distances(g.pos, g.edge_index, getattr(g, "pbc_offshift", None))
        width = torch.sqrt(sigma[source] ** 2 + sigma[destination] ** 2)
        part = charge[destination] * torch.erf(length / (2.0**0.5 * width)) * damping(length, module.cutoff) / length
        return torch.zeros_like(charge).index_add(0, destination, part * coulomb)

    module.forward = potential


def restore_old_message_passing(model: Any, saved_by: str) -> None:
    """Gives a model the message passing that it was trained with, before matgl 3.0.

    matgl 3.0 (TensorNet: 2.2) moved the sum over messages from the atom that an edge points to onto the atom that it starts from
    (its change log: "Pre-trained weights generated under the old convention are no longer numerically valid"). Old weights load without
    an error and give a potential that is wrong by 0.2 to 0.6 eV/atom. Here those places are turned back; the energies and forces are
    those of the old releases (``tests/models/matgl_before_3.json``).

    Args:
        model: ``TensorNet``, ``QET`` or ``M3GNet``.
        saved_by: the module name in its ``model.json``: in the old DGL backend TensorNet's interaction blocks differed, too.

    Raises:
        WorkerError: another architecture.
    """
    name = type(model).__name__
    if name == "M3GNet":
        for layer in model.graph_layers:
            _m3gnet_onto_neighbours(layer.conv)
    elif name in ("TensorNet", "QET"):
        if getattr(model, "_use_warp", False):
            raise WorkerError("adapter", "weights from before matgl 3.0 do not run with warp kernels; uninstall nvalchemi-toolkit-ops")
        _onto_neighbours(model.tensor_embedding)
        if saved_by.endswith("_dgl"):
            for layer in model.layers:
                _onto_neighbours(layer)
        if name == "QET":
            _potential_onto_neighbours(model.elec_pot)
    else:
        raise WorkerError("adapter", f"no message passing from before matgl 3.0 is known for {name}")


def _saved_by(model_json: str) -> str:
    with Path(model_json).open(encoding="utf-8") as handle:
        return str(json.load(handle)["kwargs"]["model"]["@module"])


def load(spec: dict[str, Any], files: list[WeightsFile]) -> LoadedModel:
    """Arguments: ``trained_before_matgl_3`` (required): whether the weights are older than the change of message passing in matgl 3.0.

    The weights are the three files that ``matgl`` saves: model.json, model.pt, state.pt. They do not tell by themselves by which
    release they were made, and the wrong one gives a wrong potential without an error, so the definition has to say it.
    """
    arguments = dict(spec["arguments"])
    reject_unknown(arguments, {"trained_before_matgl_3"}, "matgl")
    old = arguments.get("trained_before_matgl_3")
    if not isinstance(old, bool):
        raise WorkerError(
            "adapter",
            "the adapter 'matgl' needs arguments: {trained_before_matgl_3: true|false}: weights from before and after the change of "
            "message passing in matgl 3.0 are not interchangeable, and the files do not tell",
        )
    by_name = {file.path.name: str(file.path) for file in files}
    missing = [name for name in _FILES if name not in by_name]
    if missing:
        raise WorkerError("weights", f"a MatGL model is a folder with {', '.join(_FILES)}; missing: {', '.join(missing)}")
    load_without_code(set_up_torch(), spec)
    pes = require("matgl.apps.pes", "matgl")
    potential = pes.Potential.load({name: by_name[name] for name in _FILES}).to(spec["device"]).eval()
    saved_by = _saved_by(by_name["model.json"])
    if not old and saved_by.endswith(("_dgl", "_pyg")):
        raise WorkerError("weights", f"these weights were saved by {saved_by}, before matgl 3.0; write trained_before_matgl_3: true")
    if old:
        restore_old_message_passing(potential.model, saved_by)
    how = spec["charge"]["how"]
    takes_charge = bool(getattr(potential, "calc_charge", False))
    if how == "total_charge" and not takes_charge:
        raise WorkerError("charge", "the definition says total_charge, but this MatGL potential equilibrates no charges")
    if how not in ("none", "total_charge"):
        raise WorkerError("charge", f"MatGL models take a charge as total_charge, not '{how}'")
    if how == "none" and takes_charge:
        raise WorkerError("charge", "this MatGL potential takes a total charge; write charge: {how: total_charge}")
    return MatglModel(
        _calculator(potential, takes_charge),
        parameters=count_parameters(potential),
        charge=how,
        precision="float32",
    )
