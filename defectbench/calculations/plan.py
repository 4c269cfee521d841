"""What a run calculates: the union of what the tasks ask for, each distinct calculation once."""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from defectbench.base.errors import DefectbenchError, UnknownNameError
from defectbench.base.states import ChargeState, format_charge, sort_key
from defectbench.base.text import one_line
from defectbench.calculations.asking import Ask
from defectbench.calculations.requests import PROTOCOL, Calculation, Kind, Protocol, Structure

if TYPE_CHECKING:
    from ase import Atoms

    from defectbench.datasets.dataset import Dataset
    from defectbench.models.schema import ModelDefinition


@dataclass(frozen=True)
class SelectedState:
    """One charge state of the selection, and the configurations of it that run.

    Attributes:
        defect: e.g. ``V_Sb1``.
        charge: in units of +e.
        configurations: names of its starts, in plotting order.
    """

    defect: str
    charge: int
    configurations: tuple[str, ...]


@dataclass(frozen=True)
class PlanInput:
    """What a task may look at when it says what it needs.

    Attributes:
        dataset: the reference dataset.
        states: the selected charge states that have a reference (others are listed as skipped by the caller).
        ask: builds the calculations of a structure as the model takes it.
    """

    dataset: Dataset
    states: tuple[SelectedState, ...]
    ask: Ask


DEFAULT_DATASET = "sb2se3-vacancies"

#: The starts of the quick suite: the ideal vacancy, a rattle, and the two that break most symmetries.
QUICK_CONFIGURATIONS = ("Unperturbed", "Rattled", "Dimer", "Bond_Distortion_-40.0%")

WORK: Mapping[Kind, float] = {
    "relaxation": 60.0, "own_lattice": 80.0, "single_point": 1.0, "descriptors": 1.0, "path": 500.0, "certificate": 40.0,
}  # fmt: skip
"""Force calls per calculation, roughly: what estimates of time weigh them by, and what decides which runs first."""

HOST_RATTLE_SEED = 42
HOST_RATTLE_SIGMA = 0.05

Suite = Literal["quick", "full"]


class Asks(typing.Protocol):
    """What a plan needs of a task: see :class:`defectbench.scoring.task.Task`."""

    @property
    def calculations(self) -> Callable[[PlanInput], Sequence[Calculation]]:
        """What it needs besides the relaxations, which always run."""
        ...


@dataclass(frozen=True)
class Shard:
    """One of several parts of a run, numbered from 1.

    >>> Shard.parse("2/8")
    Shard(number=2, of=8)
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """The shard that a text such as ``2/8`` names.

        Raises:
            DefectbenchError: it names none.
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise DefectbenchError(f"--shard takes NUMBER/OF with 1 ≤ NUMBER ≤ OF, e.g. 2/8; not '{one_line(text, 40)}'", code="bad-shard")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes:
        states: the charge states that run, with their configurations.
        skipped: (defect, charge, reason) of selected states that do not.
        relaxations: (defect, charge, configuration) → calculation; equal calculations appear once in ``calculations``.
        host: start name → calculation.
        calculations: every distinct calculation, once.
        ask: what built them.
        shard: the part of a run that this is; None for a whole one.
    """

    states: tuple[SelectedState, ...]
    skipped: tuple[tuple[str, int, str], ...]
    relaxations: Mapping[tuple[str, int, str], Calculation]
    host: Mapping[str, Calculation]
    calculations: tuple[Calculation, ...]
    ask: Ask
    shard: Shard | None = None

    def part(self, shard: Shard) -> Plan:
        """The plan with the calculations of one shard only, always the same ones; shards have equally many of each kind."""
        dealt = sorted(self.calculations, key=lambda c: (c.kind, c.content_hash))
        own = {c.content_hash for c in dealt[shard.number - 1 :: shard.of]}
        return replace(self, calculations=tuple(c for c in self.calculations if c.content_hash in own), shard=shard)

    @property
    def shared(self) -> int:
        """How many configurations need no relaxation of their own because another charge state's start is the same."""
        return len(self.relaxations) - len({c.content_hash for c in self.relaxations.values()})


def work(calculations: Sequence[Calculation]) -> float:
    """Force calls that calculations will take, roughly.

    Example:
        >>> from types import SimpleNamespace
        >>> work([SimpleNamespace(kind="relaxation"), SimpleNamespace(kind="single_point")])
        61.0
    """
    return sum(WORK[c.kind] for c in calculations)


def longest_first(calculations: Iterable[Calculation]) -> list[Calculation]:
    """Calculations as they are dealt to workers: first those that will take longest, so that the last ones to run are short.

    The time per force call is in proportion to the atoms. Calculations that should take equally long keep their order.
    """
    return sorted(calculations, key=lambda c: -WORK[c.kind] * len(c.structure.symbols))


def select_states(
    dataset: Dataset,
    defects: Sequence[str] | None = None,
    charges: Sequence[int] | None = None,
    configurations: Sequence[str] | None = None,
    suite: Suite = "full",
) -> tuple[tuple[SelectedState, ...], tuple[tuple[str, int, str], ...]]:
    """The charge states to run, and those selected that cannot: (defect, charge, reason).

    Raises:
        UnknownNameError: a defect, charge or configuration that the dataset does not have.
        DefectbenchError: nothing is left to run.
    """

    for defect in defects or ():
        if defect not in dataset.defects:
            raise UnknownNameError("defect", defect, dataset.defects)
    chosen = [(d, q) for d, q in dataset.states if (not defects or d in defects) and (not charges or q in charges)]
    for charge in charges or ():
        if not any(q == charge for _, q in chosen):
            known = sorted({q for d, q in dataset.states if not defects or d in defects})
            raise UnknownNameError("charge", format_charge(charge), [format_charge(q) for q in known])
    if configurations:
        all_names = sorted({c for d, q in chosen for c in dataset.starts(d, q)}, key=sort_key)
        for name in configurations:
            if name not in all_names:
                raise UnknownNameError("configuration", name, all_names)
    wanted = configurations or (QUICK_CONFIGURATIONS if suite == "quick" else None)
    states: list[SelectedState] = []
    skipped: list[tuple[str, int, str]] = []
    for defect, charge in chosen:
        starts = dataset.starts(defect, charge)
        names = tuple(c for c in sorted(starts, key=sort_key) if wanted is None or c in wanted)
        if not dataset.has_reference(defect, charge):
            skipped.append((defect, charge, f"no {dataset.level} reference yet"))
        elif not starts:
            skipped.append((defect, charge, "no start structures"))
        elif not names:
            skipped.append((defect, charge, "none of its starts is selected"))
        else:
            states.append(SelectedState(defect, charge, names))
    if not states:
        why = "; ".join(f"{ChargeState(d, q)}: {r}" for d, q, r in skipped[:4]) or "the selection is empty"
        raise DefectbenchError(f"nothing to run on {dataset.id} ({why}); choose others with --defect and --charge", code="nothing-to-run")
    return tuple(states), tuple(skipped)


def host_starts(dataset: Dataset) -> dict[str, Atoms]:
    """The starts of the host's relaxation: its reference sites, and a normal rattle of σ = 0.05 Å (fixed seed)."""
    rattled = dataset.host.copy()
    rattled.rattle(stdev=HOST_RATTLE_SIGMA, seed=HOST_RATTLE_SEED)
    return {"Unperturbed": dataset.host.copy(), "Rattled": rattled}


def make_plan(
    dataset: Dataset,
    states: tuple[SelectedState, ...],
    skipped: tuple[tuple[str, int, str], ...],
    tasks: Sequence[Asks],
    *,
    takes_charge: bool,
    protocol: Protocol = PROTOCOL,
) -> Plan:
    """The union of what the tasks need, each distinct calculation once.

    Args:
        takes_charge: False drops the charge from every calculation, so that equal starts of different charges are one.
    """
    ask = Ask(takes_charge, protocol)
    host = {name: ask.relaxation(atoms, 0) for name, atoms in host_starts(dataset).items()}
    relaxations = {
        (state.defect, state.charge, name): ask.relaxation(atoms, state.charge)
        for state in states
        for name, atoms in dataset.starts(state.defect, state.charge).items()
        if name in state.configurations
    }
    plan_input = PlanInput(dataset, states, ask)
    extra = [c for task in tasks for c in task.calculations(plan_input)]
    distinct = {c.content_hash: c for c in (*host.values(), *relaxations.values(), *extra)}
    return Plan(states, skipped, relaxations, host, tuple(distinct.values()), ask)


def certificate_start(dataset: Dataset, defect: str | None = None) -> tuple[Atoms, tuple[int, ...]]:
    """The structure and charges on which the certificate is measured: a defect's ideal start (the first's) and its charge states."""
    defect = defect or dataset.defects[0]
    charges = dataset.charges(defect)
    for charge in charges:
        starts = dataset.starts(defect, charge)
        if starts:
            return starts.get("Unperturbed", next(iter(starts.values()))), charges
    return dataset.host, charges


def certificate_calculation(
    definition: ModelDefinition,
    atoms: Atoms,
    charges: Sequence[int] | None = None,
    seed: int = 0,
    others: Mapping[str, tuple[Atoms, Sequence[int]]] | None = None,
) -> Calculation:
    """The calculation whose result :func:`defectbench.models.certificate.classify` judges.

    Args:
        definition: of the model; a charge-blind one is asked at three charges, as proof, others at all.
        atoms: any structure of the system of interest, best a defect's start.
        charges: of the dataset; of which those that the model can be asked at are kept.
        seed: of the rattle, the rotation and the directions of finite differences.
        others: further defects: name → a start and its charges.
    """
    options: dict[str, object] = {"charges": _charges_to_ask(definition, charges or (-1, 0, 1)), "seed": seed}
    probes = []
    for name, (structure, its_charges) in (others or {}).items():
        asked = definition.charges_among(sorted({*its_charges, 0}))
        if definition.charge.how == "none":
            asked = sorted({asked[0], asked[-1]})
        if len(asked) > 1:
            probes.append({"defect": name, "structure": Structure.from_atoms(structure).to_json(), "charges": asked})
    if probes:
        options["others"] = probes
    return Calculation("certificate", Structure.from_atoms(atoms), None, options=options)


def _charges_to_ask(definition: ModelDefinition, charges: Sequence[int]) -> list[int]:
    wanted = sorted({int(q) for q in charges} | {0})
    allowed = definition.charge.range or definition.charges_of_weights
    if allowed:
        wanted = definition.charges_among(wanted) or sorted({allowed[0], allowed[-1]})
    if definition.charges_of_weights and len(wanted) < 2:
        wanted = list(definition.charges_of_weights)
    elif len(wanted) < 2:
        wanted = sorted({*wanted, wanted[0] + (1 if definition.charge.range is None or wanted[0] < definition.charge.range[1] else -1)})
    if definition.charge.how == "none" and len(wanted) > 3:
        wanted = sorted({wanted[0], 0, wanted[-1]} if wanted[0] < 0 < wanted[-1] else {wanted[0], wanted[1], wanted[-1]})
    return wanted


def certificate_of(definition: ModelDefinition, dataset: Dataset, defects: Iterable[str] | None = None) -> Calculation:
    """The certificate of a model for a dataset: every check on its first defect, the response to charge on all that are selected.

    Args:
        definition: of the model.
        dataset: supplies structures and charges.
        defects: those selected; None for all.
    """
    chosen = dict.fromkeys(dataset.defects if defects is None else defects)
    others = {name: certificate_start(dataset, name) for name in chosen if name != dataset.defects[0]}
    return certificate_calculation(definition, *certificate_start(dataset), others=others)
