"""Orb (package ``orb-models``; Rhodes et al. 2025, arXiv:2504.06231)."""

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
    lowest_multiplicity,
    only_file,
    reject_unknown,
    set_up_torch,
)


class OrbModel(LoadedModel):
    """Descriptors are the node features that enter the heads. A model with a charge gets the lowest spin of the number of electrons."""

    has_descriptors = True
    batches = True

    def set_charge(self, atoms: Atoms, charge: int) -> None:
        """Where the package reads charge and spin multiplicity; it refuses a structure with one of them."""
        if self.charge == "none":
            super().set_charge(atoms, charge)
        atoms.info.update(charge=charge, spin=lowest_multiplicity(atoms, charge))

    def read_charge(self, atoms: Atoms) -> Any:
        """Where :meth:`set_charge` writes."""
        return atoms.info.get("charge")

    def evaluate(self, structures: Sequence[Atoms]) -> list[tuple[float, NDArray[np.float64]]]:
        """One call of the model with the package's own batch of graphs, each made as the calculator makes one."""
        graph = require("orb_models.forcefield.atomic_system", "orb-models").ase_atoms_to_atom_graphs
        batch = require("orb_models.forcefield.base", "orb-models").batch_graphs
        calculator = self.calculator
        graphs = [graph(atoms, system_config=calculator.system_config, device=calculator.device) for atoms in structures]
        found = calculator.model.predict(batch(graphs).to(calculator.device))
        forces = found[calculator.model.grad_forces_name if calculator.conservative else "forces"]
        return by_structure(structures, found["energy"].detach().cpu().numpy(), forces.detach().cpu().numpy())

    def descriptors(self, atoms: Atoms) -> NDArray[np.float64]:
        """Features of the atoms after the last message passing, (N, D)."""
        network = self.calculator.model.model
        return self.while_calculating(
            atoms, lambda keep: network.register_forward_hook(lambda _module, _inputs, output: keep(output["node_features"]))
        )


def load(spec: dict[str, Any], files: list[WeightsFile]) -> LoadedModel:
    """Argument: ``architecture``, the package's name of the model that the weights fit, such as ``orb-v3-conservative-inf-omat``.

    The weights are a state dictionary; nothing in it can run code.
    """
    arguments = dict(spec["arguments"])
    reject_unknown(arguments, {"architecture"}, "orb")
    torch = set_up_torch()
    load_without_code(torch, spec)
    known = require("orb_models.forcefield.pretrained", "orb-models").ORB_PRETRAINED_MODELS
    name = arguments.get("architecture")
    if name not in known:
        raise WorkerError("adapter", f"write arguments: {{architecture: …}} with one of: {', '.join(known)}")
    path = only_file(files, "Orb").path
    try:
        # without compilation: its start takes longer than a whole suite
        model = known[name](weights_path=str(path), device=spec["device"], precision="float32-highest", compile=False)
    except RuntimeError as error:
        raise WorkerError("weights", f"{path.name} does not hold the weights of {name}: {str(error).splitlines()[0]}") from error
    calculator = require("orb_models.forcefield.calculator", "orb-models").ORBCalculator(model, device=spec["device"])
    how = spec["charge"]["how"]
    if calculator.expects_charge_and_spin and how != "total_charge":
        raise WorkerError("charge", f"{name} takes a total charge; write charge: {{how: total_charge}}")
    if how != "none" and not calculator.expects_charge_and_spin:
        raise WorkerError("charge", f"{name} takes no charge; write charge: {{how: none}}")
    return OrbModel(calculator, parameters=count_parameters(model), charge=how, precision="float32")
