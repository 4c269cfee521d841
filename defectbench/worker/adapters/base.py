"""The contract between the worker and a model: :class:`LoadedModel`."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ..errors import WorkerError, format_charge, require

CHARGE_KEYS = (
    *("charge", "total_charge", "Charge", "TotalCharge", "Total_Charge", "CHARGE", "TOTAL_CHARGE", "totalcharge", "totalCharge"),
    *("q", "Q", "qtot", "q_tot", "tot_charge", "totcharge", "net_charge", "netcharge", "charge_state", "chargestate", "charges"),
    *("system_charge", "cell_charge", "defect_charge", "molecular_charge", "global_charge", "chg", "chrg", "z", "ionic_charge"),
)
"""Keys of ``atoms.info``, attributes and arguments under which calculators look for a charge."""


class LoadedModel:
    """A model ready to calculate. Adapters subclass it where charge or descriptors need code of their own.

    Attributes:
        calculator: the ASE calculator.
        parameters: number of trainable parameters; None where the package cannot tell.
        charge: how a charge reaches it (``none``, ``total_charge``, ``info:<key>``, ``argument:<name>``, ``weights``).
        charge_range: charges the model itself declares, both ends included; None if it declares none.
        precision: ``float32`` or ``float64``: of the energies, as finite differences need to know.
        has_descriptors: whether :meth:`descriptors` gives anything.
        batches: whether :meth:`evaluate` gives energies and forces of many structures in one call.
        batch: how many structures a call takes in this run.
        record: the worker's record of the software that calculates; goes into a certificate.
        prepared: the structure that :meth:`prepare` was last called for; None before.
        lattices: hash of a host → its cell as the model relaxes it, (3, 3), Å, or why it has none; see ``own_lattice``.
    """

    has_descriptors: bool = False
    batches: bool = False
    batch: int = 1

    def __init__(
        self,
        calculator: Any,
        *,
        parameters: int | None = None,
        charge: str = "none",
        charge_range: tuple[int, int] | None = None,
        precision: str = "float64",
    ) -> None:
        self.calculator = calculator
        self.parameters = parameters
        self.charge = charge
        self.charge_range = charge_range
        self.precision = precision
        self.prepared: Atoms | None = None
        self.record: dict[str, Any] = {}
        self.lattices: dict[str, NDArray[np.float64] | str] = {}

    def prepare(self, atoms: Atoms, charge: int | None) -> None:
        """Attaches the calculator to a structure at a charge; afterwards nothing of an earlier call can come back.

        A charge that a charge-blind model gets (the certificate does this) is written wherever ASE calculators look for one,
        so that a model that responds to it anyway is detected.

        Args:
            atoms: the structure; its ``info`` may be changed.
            charge: total charge in units of +e; None only for models that take none.

        Raises:
            WorkerError: the charge is missing, or outside the range that the model declares.
        """
        if charge is None and self.charge != "none":
            raise WorkerError("charge", "this model takes a total charge, and none was given")
        charge = None if charge is None else int(charge)
        if charge is not None and self.charge_range is not None:
            low, high = self.charge_range
            if not low <= charge <= high:
                trained = f"{format_charge(low)} to {format_charge(high)}"
                raise WorkerError("charge", f"the model was trained on charges {trained}, not {format_charge(charge)}")
        self.calculator.reset()
        if charge is not None:
            self.set_charge(atoms, charge)
        atoms.calc = self.calculator
        self.prepared = atoms

    def set_charge(self, atoms: Atoms, charge: int) -> None:
        """Hands a charge over; ``charge`` is a plain ``int``."""
        if self.charge == "none":
            atoms.info.update(dict.fromkeys(CHARGE_KEYS, charge))
            each = np.full(len(atoms), charge / len(atoms))
            atoms.set_initial_charges(each)
            for name in ("charges", "q", "Qs", "formal_charges"):
                atoms.set_array(name, each)
            for name in ("charge", "total_charge"):
                setattr(atoms, name, charge)
        elif self.charge.startswith("info:"):
            atoms.info[self.charge.removeprefix("info:")] = charge
        else:
            raise WorkerError("charge", f"this adapter cannot pass a charge as '{self.charge}'")

    def other_ways(self, charge: int) -> Iterator[tuple[str, Any]]:
        """Calculators that were told a charge in other ways than by the structure, and how: attributes that the calculator has.

        What is changed for one is changed back when the next is asked for.

        Args:
            charge: in units of +e.
        """
        own = vars(self.calculator) if hasattr(self.calculator, "__dict__") else {}
        for holder, name in ((own, "attribute"), (getattr(self.calculator, "parameters", None), "parameter")):
            if not isinstance(holder, MutableMapping):
                continue
            keys = [key for key in CHARGE_KEYS if key in holder and (holder[key] is None or isinstance(holder[key], int | float))]
            if not keys:
                continue
            before = {key: holder[key] for key in keys}
            self.calculator.reset()
            holder.update(dict.fromkeys(keys, charge))
            try:
                yield f"the calculator's {name} {' or '.join(keys)}", self.calculator
            finally:
                holder.update(before)
                self.calculator.reset()

    def charge_handed_over(self) -> int | None:
        """The charge of the prepared structure, read back from where the model reads it; None if it takes none, or nothing is prepared.

        The parent refuses a result whose charge is not the one that it asked for.
        """
        if self.prepared is None or self.charge == "none":
            return None
        value = self.read_charge(self.prepared)
        # a charge that is not a whole number is not made one: the parent must see it
        return int(value) if value is not None and float(value).is_integer() else value

    def read_charge(self, atoms: Atoms) -> Any:
        """Where :meth:`set_charge` writes, read; None where nothing is written. Override both together."""
        if self.charge.startswith("info:"):
            return atoms.info.get(self.charge.removeprefix("info:"))
        return None

    def evaluate(self, structures: Sequence[Atoms]) -> list[tuple[float, NDArray[np.float64]]]:  # noqa: ARG002  (subclasses use it)
        """Energy (eV) and forces (N, 3; eV/Å) of each of several prepared structures, in one call of the package.

        The charge of each is read where :meth:`set_charge` wrote it.

        Raises:
            WorkerError: the package offers no such call.
        """
        raise WorkerError("unsupported", "this model evaluates one structure at a time")

    def while_calculating(self, atoms: Atoms, watch: Callable[[Callable[[Any], None]], Any]) -> NDArray[np.float64]:
        """What a hook of torch sees while the energy of a prepared structure is calculated, (N, …) as (N, D); the last, if it sees several.

        Args:
            atoms: prepared, N atoms.
            watch: attaches the hook, which hands a tensor to the function that it is given, and returns torch's handle of it.
        """
        caught: list[Any] = []
        handle = watch(lambda tensor: caught.append(tensor.detach().clone()))
        try:
            self.calculator.reset()
            atoms.get_potential_energy()
        finally:
            handle.remove()
        return numpy_features(caught[-1])

    def clock(self) -> tuple[float, float]:
        """Wall-clock and CPU time (s) so far; differences are what a calculation cost."""
        return time.perf_counter(), time.process_time()

    def descriptors(self, atoms: Atoms) -> NDArray[np.float64]:  # noqa: ARG002  (subclasses use it)
        """Per-atom invariant features, (N, D), of a prepared structure.

        Raises:
            WorkerError: the model exposes none.
        """
        raise WorkerError("unsupported", "this model exposes no descriptors")


class PerChargeModel(LoadedModel):
    """One model per charge: a charge picks the model whose weights were trained for it.

    Attributes:
        models: charge → the model, which itself takes none.
    """

    def __init__(self, models: Mapping[int, LoadedModel]) -> None:
        self.models = dict(models)
        parts = list(self.models.values())
        counts = [part.parameters for part in parts]
        super().__init__(
            parts[0].calculator,
            parameters=None if None in counts else sum(count for count in counts if count is not None),
            charge="weights",
            precision="float32" if any(part.precision == "float32" for part in parts) else "float64",
        )
        self.has_descriptors = all(part.has_descriptors for part in parts)

    def prepare(self, atoms: Atoms, charge: int | None) -> None:
        """Attaches the calculator of the charge's own model.

        Raises:
            WorkerError: no charge is given, or none of the models is for it.
        """
        if charge is None:
            raise WorkerError("charge", "this model has weights for each charge, and no charge was given")
        if charge not in self.models:
            there = ", ".join(map(format_charge, self.models))
            raise WorkerError("charge", f"there are weights for the charges {there}, not {format_charge(charge)}")
        chosen = self.models[charge]
        chosen.prepare(atoms, None)
        self.calculator = chosen.calculator
        self.prepared = atoms

    def read_charge(self, atoms: Atoms) -> Any:
        """The charge of the model whose calculator is attached."""
        return next((charge for charge, model in self.models.items() if model.calculator is atoms.calc), None)

    def descriptors(self, atoms: Atoms) -> NDArray[np.float64]:
        """Those of the model that the structure was prepared for, (N, D)."""
        return self.models[self.read_charge(atoms)].descriptors(atoms)


def numpy_features(tensor: Any) -> NDArray[np.float64]:
    """A detached torch tensor (N, …) as a float64 array (N, D)."""
    array = np.asarray(tensor.detach().cpu().numpy(), dtype=np.float64)
    return array.reshape(len(array), -1)


def by_structure(
    structures: Sequence[Atoms], energies: Iterable[Any], forces: NDArray[np.floating[Any]]
) -> list[tuple[float, NDArray[np.float64]]]:
    """A batch's energies (B,) and forces of all atoms in a row (ΣN, 3) as one pair per structure."""
    ends = np.cumsum([len(atoms) for atoms in structures])[:-1]
    parts = np.split(np.asarray(forces, dtype=np.float64), ends)
    return [(float(energy), part) for energy, part in zip(energies, parts, strict=True)]


def lowest_multiplicity(atoms: Atoms, charge: int) -> int:
    """The lowest spin multiplicity 2S + 1 of a structure's number of electrons: 1 if it is even, else 2.

    Example:
        >>> lowest_multiplicity(Atoms("MgO"), 0), lowest_multiplicity(Atoms("MgO"), 1)
        (1, 2)
    """
    return 1 + (int(atoms.numbers.sum()) - int(charge)) % 2


def set_up_torch() -> Any:
    """torch with as many threads as ``OMP_NUM_THREADS`` says and fixed seeds; returns the module."""
    torch = require("torch")
    torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    return torch


def load_without_code(torch: Any, spec: dict[str, Any], known: tuple[Any, ...] = ()) -> None:
    """Has torch read tensors and plain values only, whatever a package asks of it, unless the user trusts the weights with code in them.

    Args:
        torch: the module.
        spec: of the model.
        known: classes and functions that the package's checkpoints also hold.
    """
    if not any(entry["trusted"] for entry in spec["weights"]):
        os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
        torch.serialization.add_safe_globals(list(known))


def count_parameters(module: Any) -> int:
    """Number of parameters of a torch module (buffers do not count)."""
    return int(sum(p.numel() for p in module.parameters()))


def only_file(files: list[Any], what: str) -> Any:
    """The one weights file that an adapter needs.

    Raises:
        WorkerError: there are none or several.
    """
    if len(files) != 1:
        raise WorkerError("weights", f"{what} needs one weights file, the definition gives {len(files)}")
    return files[0]


def reject_unknown(arguments: dict[str, Any], known: set[str], adapter: str) -> None:
    """Refuses arguments that the adapter would ignore.

    Raises:
        WorkerError: names the unknown argument and the known ones.
    """
    for name in arguments:
        if name not in known:
            raise WorkerError(
                "adapter", f"the adapter '{adapter}' has no argument '{name}'; it takes: {', '.join(sorted(known)) or 'none'}"
            )


def no_charge(spec: dict[str, Any]) -> None:
    """Refuses a definition that claims a charge where the adapter can hand none over.

    Raises:
        WorkerError: ``charge.how`` is not ``none``.
    """
    if spec["charge"]["how"] != "none":
        raise WorkerError("charge", f"models of the adapter '{spec['adapter']}' take no charge; write charge: {{how: none}}")
