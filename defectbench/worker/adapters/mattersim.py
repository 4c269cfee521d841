"""MatterSim (package ``mattersim``; Yang et al. 2024, arXiv:2405.04967)."""

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


class MattersimModel(LoadedModel):
    """Descriptors are the atom features that enter the readout."""

    has_descriptors = True
    batches = True

    def evaluate(self, structures: Sequence[Atoms]) -> list[tuple[float, NDArray[np.float64]]]:
        """One call of the potential with the package's own batch of graphs, made as the calculator makes one of a single graph."""
        build = require("mattersim.datasets.utils.build", "mattersim").build_dataloader
        to_dict = require("mattersim.forcefield.potential", "mattersim").batch_to_dict
        potential, device = self.calculator.potential, self.calculator.device
        cutoffs = {name: potential.model.model_args[name] for name in ("cutoff", "threebody_cutoff")}
        (batch,) = build(list(structures), model_type=potential.model_name, batch_size=len(structures), only_inference=True, **cutoffs)
        found = potential.forward(to_dict(batch, device=device), include_forces=True, include_stresses=False)
        return by_structure(structures, found["total_energy"].detach().cpu().numpy(), found["forces"].detach().cpu().numpy())

    def descriptors(self, atoms: Atoms) -> NDArray[np.float64]:
        """Atom features after the last block, (N, D)."""
        readout = self.calculator.potential.model.final
        return self.while_calculating(atoms, lambda keep: readout.register_forward_pre_hook(lambda _module, inputs: keep(inputs[0])))


def load(spec: dict[str, Any], files: list[WeightsFile]) -> LoadedModel:
    """No arguments. The weights are a checkpoint in MatterSim's own format (``Potential.save``)."""
    no_charge(spec)
    reject_unknown(dict(spec["arguments"]), set(), "mattersim")
    torch = set_up_torch()
    load_without_code(torch, spec)
    module = require("mattersim.forcefield.potential", "mattersim")
    path = str(only_file(files, "MatterSim").path)
    content = torch.load(path, map_location="cpu")
    if not isinstance(content, dict) or "model" not in content or "model_args" not in content:
        raise WorkerError("weights", f"{path} is not a MatterSim checkpoint")
    potential = module.Potential.from_checkpoint(path, device=spec["device"], load_training_state=False)
    # The package loads with strict=False: what does not fit would stay random without a word.
    wanted, given = set(potential.model.state_dict()), set(content["model"])
    if wanted != given:
        odd = sorted(wanted ^ given)[0]
        raise WorkerError("weights", f"{path} does not fit the installed MatterSim: '{odd}' is in only one of them")
    potential.eval()
    calculator = module.MatterSimCalculator(potential=potential, compute_stress=False, device=spec["device"])
    return MattersimModel(
        calculator,
        parameters=count_parameters(potential.model),
        precision="float32",
    )
