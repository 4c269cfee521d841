"""MACE (package ``mace-torch``; Batatia et al. 2022, arXiv:2206.07697), also multi-head, with a charge embedding, and polarisable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ..errors import WorkerError, require
from ..weights import WeightsFile
from .base import LoadedModel, by_structure, count_parameters, lowest_multiplicity, only_file, reject_unknown, set_up_torch

SKIN = 0.4
"""Å: how far beyond the cutoff the graphs of a batch reach. They serve until an atom has moved by half of it."""


@dataclass(frozen=True)
class _Graph:
    """The package's graph of a structure, with neighbours beyond the cutoff, and the structure that it was made of."""

    atoms: Atoms
    data: Any

    def fits(self, atoms: Atoms) -> bool:
        """Whether it has all neighbours of another structure, which is the same except for small displacements."""
        own = self.atoms
        same = own.info == atoms.info and np.array_equal(own.numbers, atoms.numbers) and np.array_equal(own.cell.array, atoms.cell.array)
        return same and bool(((own.positions - atoms.positions) ** 2).sum(axis=1).max() < (SKIN / 2) ** 2)


class MaceModel(LoadedModel):
    """A MACE model; its charge, where it has one, is a graph embedding fed from ``atoms.info``."""

    has_descriptors = True
    batches = True

    def __init__(self, calculator: Any, *, info: dict[str, int], key: str | None, **rest: Any) -> None:
        super().__init__(calculator, **rest)
        self._info = info
        self._key = key
        self._kept: list[_Graph] = []
        self._joined: list[_Graph] = []
        self._batch: dict[str, Any] = {}

    def prepare(self, atoms: Atoms, charge: int | None) -> None:
        """As the base class; sets the other embeddings (a spin, say) to the values of the definition, never to a default."""
        for name, value in self._info.items():
            atoms.info[name] = value
        super().prepare(atoms, charge)

    def set_charge(self, atoms: Atoms, charge: int) -> None:
        """``atoms.info[key] = charge`` under the key that the calculator was told to read."""
        if self._key is None:
            super().set_charge(atoms, charge)
        else:
            atoms.info[self._key] = charge

    def read_charge(self, atoms: Atoms) -> Any:
        """As :meth:`set_charge` writes it."""
        return super().read_charge(atoms) if self._key is None else atoms.info.get(self._key)

    def evaluate(self, structures: Sequence[Atoms]) -> list[tuple[float, NDArray[np.float64]]]:
        """As the calculator makes the graph of one structure, for all of them; one forward pass.

        To make all graphs at every step would take longer than the forward pass on a GPU. So they are made with neighbours beyond the
        cutoff and kept until an atom has moved; those that are within the cutoff at this step are picked for all structures at once.
        """
        torch, calculator = require("torch"), self.calculator
        graphs = [self._graph(atoms, number) for number, atoms in enumerate(structures)]
        if len(graphs) != len(self._joined) or any(one is not other for one, other in zip(graphs, self._joined, strict=True)):
            batch = require("mace.tools", "mace-torch").torch_geometric.Batch.from_data_list([graph.data for graph in graphs])
            self._batch = batch.to(calculator.device).to_dict()
        self._kept, self._joined = [*graphs, *self._kept[: len(graphs)]], graphs
        given = self._batch["positions"]
        positions = torch.tensor(np.concatenate([atoms.positions for atoms in structures]), dtype=given.dtype, device=given.device)
        edges, shifts = self._batch["edge_index"], self._batch["shifts"]
        near = torch.linalg.vector_norm(positions[edges[1]] - positions[edges[0]] + shifts, dim=1) < float(calculator.r_max)
        step = {
            "positions": positions,
            "edge_index": edges[:, near],
            "shifts": shifts[near],
            "unit_shifts": self._batch["unit_shifts"][near],
        }
        found = calculator.models[0]({**self._batch, **step}, compute_stress=False, training=False)
        energies = found["energy"].detach().cpu().numpy() * calculator.energy_units_to_eV
        forces = found["forces"].detach().cpu().numpy() * calculator.energy_units_to_eV / calculator.length_units_to_A
        return by_structure(structures, energies, forces)

    def _graph(self, atoms: Atoms, number: int) -> _Graph:
        """A kept graph that fits a structure (most often that of the same place in the last batch, or one behind it), or a new one."""
        fitting = (graph for graph in (*self._kept[number:], *self._kept[:number]) if graph.fits(atoms))
        if (kept := next(fitting, None)) is not None:
            return kept
        data, tools = require("mace.data", "mace-torch"), require("mace.tools", "mace-torch")
        calculator = self.calculator
        keys = data.KeySpecification(info_keys=calculator.info_keys, arrays_keys=calculator.arrays_keys)
        with tools.torch_tools.default_dtype(calculator.default_dtype):
            made = data.AtomicData.from_config(
                data.config_from_atoms(atoms, key_specification=keys, head_name=calculator.head),
                z_table=calculator.z_table,
                cutoff=float(calculator.r_max) + SKIN,
                heads=calculator.available_heads,
            )
        return _Graph(atoms.copy(), made)

    def descriptors(self, atoms: Atoms) -> NDArray[np.float64]:
        """Invariant node features of all layers, (N, D)."""
        return np.asarray(self.calculator.get_descriptors(atoms, invariants_only=True), dtype=np.float64)


class PolarModel(MaceModel):
    """A polarisable MACE model: charge and spin constrain its densities. The spin is the lowest that fits the number of electrons."""

    batches = False

    def prepare(self, atoms: Atoms, charge: int | None) -> None:
        """As the base class; the spin multiplicity follows from the charge, never from a default."""
        super().prepare(atoms, charge)
        assert charge is not None  # it takes one: the base class has refused a missing one
        atoms.info["spin"] = lowest_multiplicity(atoms, charge)


def _head(model: Any, wanted: str | None) -> str | None:
    """The head to use; the package would fall back to the last one with a mere warning."""
    heads = [str(head) for head in getattr(model, "heads", None) or ["Default"]]
    if wanted is not None:
        if wanted not in heads:
            raise WorkerError("head", f"this MACE model has no head '{wanted}'; it has: {', '.join(heads)}")
        return wanted
    if len(heads) == 1:
        return heads[0]
    default = [head for head in heads if head.lower() == "default"]
    if not default:
        raise WorkerError("head", f"this MACE model has several heads, say which in arguments: {{head: …}}; it has: {', '.join(heads)}")
    return default[0]


def load(spec: dict[str, Any], files: list[WeightsFile]) -> LoadedModel:
    """Arguments: ``head``, ``dtype`` (float64 by default, float32), ``charge_embedding`` (name of the embedding that carries the charge,
    ``total_charge`` by default), ``embeddings`` (fixed integers for all others, e.g. ``{total_spin: 1}``).
    """
    arguments = dict(spec["arguments"])
    reject_unknown(arguments, {"head", "dtype", "charge_embedding", "embeddings"}, "mace")
    dtype = arguments.get("dtype", "float64")
    if dtype not in ("float32", "float64"):
        raise WorkerError("adapter", f"dtype is float32 or float64, not '{dtype}'")
    torch = set_up_torch()
    require("mace", "mace-torch")  # before torch.load: it registers what its pickles need
    module = require("mace.calculators.mace", "mace-torch")
    weights = only_file(files, "MACE")
    model = torch.load(str(weights.path), map_location=spec["device"], weights_only=False)
    if type(model).__name__ == "PolarMACE":
        return _polar(module, model, spec, arguments, dtype)
    if type(model).__name__ not in ("MACE", "ScaleShiftMACE"):
        raise WorkerError("weights", f"{weights.path.name} holds a {type(model).__name__}, not a MACE energy model")
    head = _head(model, arguments.get("head"))

    embeddings: dict[str, dict[str, Any]] = dict(getattr(model, "embedding_specs", None) or {})
    how = spec["charge"]["how"]
    name = str(arguments.get("charge_embedding", "total_charge"))
    fixed = {str(key): int(value) for key, value in dict(arguments.get("embeddings") or {}).items()}
    key: str | None = None
    bounds: tuple[int, int] | None = None
    if how == "none":
        if name in embeddings and name not in fixed:
            raise WorkerError("charge", f"this MACE model has the charge embedding '{name}'; write charge: {{how: total_charge}}")
    else:
        if name not in embeddings:
            known = ", ".join(embeddings) or "none"
            raise WorkerError("charge", f"this MACE model has no embedding '{name}' for a charge to reach it by; it has: {known}")
        if how.startswith("argument:"):
            raise WorkerError("charge", "a MACE model takes its charge by total_charge or info:<key>")
        description = embeddings[name]
        if description.get("per") != "graph":
            raise WorkerError("charge", f"the embedding '{name}' is one per {description.get('per')}, not one per structure")
        key = how.removeprefix("info:") if how.startswith("info:") else "charge"
        if description.get("type") == "categorical":
            offset, count = int(description.get("offset", 0)), int(description["num_classes"])
            bounds = (-offset, count - 1 - offset)
    others = [other for other in embeddings if other != name and other not in fixed]
    if others:
        raise WorkerError(
            "charge", f"this MACE model needs a value for {', '.join(others)}; write arguments: {{embeddings: {{{others[0]}: …}}}}"
        )
    unknown = [other for other in fixed if other not in embeddings]
    if unknown:
        raise WorkerError("adapter", f"this MACE model has no embedding '{unknown[0]}'; it has: {', '.join(embeddings) or 'none'}")

    info_keys = {other: other for other in fixed}
    if key is not None:
        info_keys[name] = key
    calculator = module.MACECalculator(models=[model], device=spec["device"], default_dtype=dtype, head=head, info_keys=info_keys)
    if calculator.head != head:
        raise WorkerError("head", f"the calculator uses the head '{calculator.head}' instead of '{head}'")
    return MaceModel(
        calculator,
        info=fixed,
        key=key,
        parameters=count_parameters(model),
        charge=how,
        charge_range=bounds,
        precision=dtype,
    )


def _polar(module: Any, model: Any, spec: dict[str, Any], arguments: dict[str, Any], dtype: str) -> PolarModel:
    """A polarisable model; it needs a charge, and no embedding carries it."""
    if spec["charge"]["how"] != "total_charge":
        raise WorkerError("charge", "a PolarMACE model constrains its total charge; write charge: {how: total_charge}")
    reject_unknown(arguments, {"head", "dtype"}, "mace with PolarMACE")
    head = _head(model, arguments.get("head"))
    keys = {"total_charge": "charge", "total_spin": "spin"}
    calculator = module.MACECalculator(
        models=[model], model_type="PolarMACE", device=spec["device"], default_dtype=dtype, head=head, info_keys=keys
    )
    return PolarModel(calculator, info={}, key="charge", parameters=count_parameters(model), charge="total_charge", precision=dtype)
