"""Small calculators that lose a charge, each in a way of its own, and some that do not.

A toy has springs between near atoms; a charge shifts the energy and stiffens the springs. What it makes of the charge that it is told is a
function of ``(charge, atoms, state)``; energy and forces may be told different charges.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
import pickle
import random
from collections import ChainMap, UserDict
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

IMAGES = np.array(list(itertools.product((-1, 0, 1), repeat=3)), float)
REACH = 4.0
REST = 2.9

Map = Callable[[Any, Atoms, Any], Any]


def springs(atoms: Atoms) -> tuple[float, np.ndarray]:
    """Energy and forces of springs of unit strength between all pairs closer than ``REACH``."""
    apart = atoms.positions[None] - atoms.positions[:, None]
    vectors = (apart[None] + (IMAGES @ atoms.cell.array)[:, None, None]).reshape(-1, 3)
    squares = np.einsum("ij,ij->i", vectors, vectors)
    near = np.flatnonzero((squares > 1e-9) & (squares < REACH**2))
    vectors, length = vectors[near], np.sqrt(squares[near])
    inside, stretch = 1 - (length / REACH) ** 2, length - REST
    energy = 0.25 * float((inside**2 * stretch**2).sum())
    pull = 0.5 * (-4 * inside * length / REACH**2 * stretch**2 + 2 * inside**2 * stretch) / length
    forces = np.zeros((len(atoms), 3))
    np.add.at(forces, near // len(atoms) % len(atoms), pull[:, None] * vectors)
    return energy, forces


class Toy(Calculator):
    """Reads a charge, loses it or not, and answers."""

    implemented_properties = ("energy", "forces")

    def __init__(self, toy: Kind, charge: int = 0) -> None:
        super().__init__()
        self.toy, self.argument = toy, charge
        self.total_charge: Any = None
        self.q: Any = None
        self.state = SimpleNamespace(calls=0, since_reset=0, seen=[], cache={}, key="deficit", random=random.Random(1))

    def reset(self) -> None:
        super().reset()
        if hasattr(self, "state"):
            self.state.since_reset = 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        told = self.toy.read(self, atoms)
        self.state.calls += 1
        self.state.since_reset += 1
        charge = self.toy.change(told, atoms, self.state)
        stiff = charge if self.toy.stiff is None else self.toy.stiff(told, atoms, self.state)
        pushed = stiff if self.toy.forces is None else self.toy.forces(told, atoms, self.state)
        energy, forces = springs(atoms)
        shift, k = self.toy.energy(charge), 2.0 + self.toy.stiffening * stiff
        self.results = {"energy": k * energy + shift, "forces": (2.0 + self.toy.stiffening * pushed) * forces}
        self.toy.after(self.results, atoms, self.state)


def info(*keys: str) -> Callable[[Toy, Atoms], Any]:
    """Reads the first of some keys that is there."""
    return lambda _toy, atoms: next((atoms.info[key] for key in keys if key in atoms.info), 0)


def must_have(key: str) -> Callable[[Toy, Atoms], Any]:
    """Reads a key as one that is there, and does without where it is not."""

    def read(_toy: Toy, atoms: Atoms) -> Any:
        try:
            return atoms.info[key]
        except KeyError:
            return 0

    return read


def copied(copy: Callable[[Any], Any], key: str = "my_charge") -> Callable[[Toy, Atoms], Any]:
    """Reads a key of its own from a copy of the whole mapping."""
    return lambda _toy, atoms: copy(atoms.info).get(key, 0)


def looped(_toy: Toy, atoms: Atoms) -> Any:
    """Goes through all keys."""
    return sum(value for key, value in atoms.info.items() if key == "my_charge")


def folded(_toy: Toy, atoms: Atoms) -> Any:
    """Goes through all keys, in any spelling."""
    return next((value for key, value in atoms.info.items() if key.lower().startswith("oxi")), 0)


class Settings:
    KEY = "charge_of_the_cell"


def by_constant(_toy: Toy, atoms: Atoms) -> Any:
    """The name of the key stands elsewhere."""
    return dict(atoms.info).get(Settings.KEY, 0)


def by_attribute(toy: Toy, atoms: Atoms) -> Any:
    """The name of the key is in the calculator."""
    return dict(atoms.info).get(toy.state.key, 0)


def both_keys(_toy: Toy, atoms: Atoms) -> Any:
    """Two keys make a charge."""
    found = dict(atoms.info)
    return found["anions"] if {"anions", "cations"} <= found.keys() else 0


def pickled(_toy: Toy, atoms: Atoms) -> Any:
    """Sends the structure elsewhere, as to a server."""
    return pickle.loads(pickle.dumps(atoms.copy())).info.get("my_charge", 0)


def another_structure(_toy: Toy, atoms: Atoms) -> Any:
    """Makes a structure of its own."""
    return Atoms(atoms).info.get("my_charge", 0)


def a_word(_toy: Toy, atoms: Atoms) -> Any:
    """Reads a key whose value is a text."""
    return 0 * len(atoms.info.get("functional", "PBE"))


@dataclass(frozen=True)
class Kind:
    """What a toy does.

    Attributes:
        change: the charge that it uses, from the one that it is told.
        stiff: that of the springs; None for the same.
        forces: that of the forces; None for that of the springs, as is right.
        how: how the definition says a charge reaches it.
        read: where it really looks.
        energy: eV, of the charge that it uses.
        stiffening: of the springs per charge.
        after: changes the results.
        precision: as the definition says.
    """

    change: Map = lambda q, _atoms, _state: q
    stiff: Map | None = None
    forces: Map | None = None
    how: str = "info:charge"
    read: Callable[[Toy, Atoms], Any] = field(default_factory=lambda: info("charge"))
    energy: Callable[[Any], float] = lambda q: -4.0 * q
    stiffening: float = 0.3
    after: Callable[[dict[str, Any], Atoms, Any], None] = lambda _results, _atoms, _state: None
    precision: str = "float64"


def of(function: Callable[[Any], Any]) -> Map:
    """A change that looks at the charge alone."""
    return lambda q, _atoms, _state: function(q)


def clamp(least: int, most: int) -> Callable[[Any], Any]:
    return lambda q: min(max(q, least), most)


def until(count: int) -> Map:
    """Lost after so many calls in all."""
    return lambda q, _atoms, state: q if state.calls <= count else 0


def steps(count: int) -> Map:
    """Lost after so many calls for one structure, as optimisers make them."""
    return lambda q, _atoms, state: q if state.since_reset <= count else 0


def frozen(q: Any, _atoms: Atoms, state: Any) -> Any:
    """The first charge stays."""
    state.seen.append(q)
    return state.seen[0]


def frozen_by_size(q: Any, atoms: Atoms, state: Any) -> Any:
    """The first charge of each number of atoms stays."""
    return state.cache.setdefault(len(atoms), q)


def frozen_by_place(q: Any, atoms: Atoms, state: Any) -> Any:
    """The first charge of each geometry stays."""
    return state.cache.setdefault(atoms.positions.round(6).tobytes(), q)


def late(q: Any, _atoms: Atoms, state: Any) -> Any:
    """The charge of the call before."""
    state.seen.append(q)
    return state.seen[-2] if len(state.seen) > 1 else q


def two_only(q: Any, _atoms: Atoms, state: Any) -> Any:
    """Knows two charges and takes the second for all others."""
    if q not in state.seen and len(state.seen) < 2:
        state.seen.append(q)
    return q if q in state.seen else state.seen[-1]


def skin(q: Any, atoms: Atoms, state: Any) -> Any:
    """Looks again, at the charge too, only where an atom has moved by more than 0.3 Å, as neighbour lists do."""
    last = state.cache.get("last")
    if last is None or last[0].shape != atoms.positions.shape or np.abs(last[0] - atoms.positions).max() > 0.3:
        last = state.cache["last"] = (atoms.positions.copy(), q)
    return last[1]


def drifting(q: Any, _atoms: Atoms, state: Any) -> Any:
    return q * 0.995**state.calls


def added_up(q: Any, _atoms: Atoms, state: Any) -> Any:
    """Adds each charge to those before."""
    state.seen.append(q)
    return sum(state.seen)


def every(count: int) -> Map:
    """Lost in each so-many-th call."""
    return lambda q, _atoms, state: 0 if state.calls % count == 0 else q


def at_random(q: Any, _atoms: Atoms, state: Any) -> Any:
    return 0 if state.random.random() < 0.1 else q


def far(distance: float) -> Map:
    """Lost where an atom has gone far from where the calculator first saw it."""

    def change(q: Any, atoms: Atoms, state: Any) -> Any:
        first = state.cache.setdefault("first", {}).setdefault(len(atoms), atoms.positions.copy())
        return q if np.abs(atoms.positions - first).max() < distance else 0

    return change


def relaxed(force: float) -> Map:
    """Lost where forces are small, as at the end of a relaxation."""
    return lambda q, atoms, _state: q if np.abs(springs(atoms)[1]).max() > force else 0


def only(*symbols: str) -> Map:
    """Heard only if the missing atom is of a kind (the toys' host has as many Na as Cl)."""

    def change(q: Any, atoms: Atoms, _state: Any) -> Any:
        found = atoms.get_chemical_symbols()
        missing = "Na" if found.count("Na") < found.count("Cl") else "Cl"
        return q if missing in symbols else 0

    return change


def pop(toy: Toy, atoms: Atoms) -> Any:
    return atoms.info.pop("charge", 0)


def overwrite(_results: dict[str, Any], atoms: Atoms, _state: Any) -> None:
    atoms.info["charge"] = 0


def table(q: Any) -> Any:
    """A list of five embeddings whose index is not shifted: negative charges read it from its end."""
    return (0.0, 1.0, 2.0, 3.0, 4.0)[int(q) % 5]


def none(read: Callable[[Toy, Atoms], Any], **fields: Any) -> Kind:
    """A definition that says none."""
    return Kind(how="none", read=read, **fields)


ZERO = of(lambda _q: 0)

LOSSY: dict[str, Kind] = {
    # what it makes of the charge
    "clamped to ±1": Kind(of(clamp(-1, 1))),
    "clamped to ±2": Kind(of(clamp(-2, 2))),
    "clamped below −1": Kind(of(clamp(-1, 9))),
    "clamped above +1": Kind(of(clamp(-9, 1))),
    "clamped softly": Kind(of(lambda q: math.tanh(2 * q))),
    "absolute": Kind(of(abs)),
    "parity": Kind(of(lambda q: q % 2)),
    "modulo 3": Kind(of(lambda q: q % 3)),
    "halved, down": Kind(of(lambda q: q // 2)),
    "halved, to zero": Kind(of(lambda q: int(q / 2))),
    "sign": Kind(of(np.sign)),
    "whether": Kind(of(bool)),
    "positive part": Kind(of(lambda q: max(q, 0))),
    "negative part": Kind(of(lambda q: min(q, 0))),
    "inverted": Kind(of(lambda q: -q)),
    "inverted energy": Kind(of(lambda q: -q), stiff=of(lambda q: q), stiffening=0.0),
    "inverted springs": Kind(stiff=of(lambda q: -q)),
    "inverted and shifted": Kind(of(lambda q: -q), energy=lambda q: -5.0 * q - 2.0),
    "unknown to the table": Kind(of(lambda q: q if abs(q) < 2 else 0)),
    "nearest of the table": Kind(of(lambda q: {-3: -2}.get(q, q))),
    "table from its end": Kind(of(table), stiffening=0.1),
    "one charge missing": Kind(of(lambda q: 0 if q == 2 else q)),
    "as unsigned": Kind(of(lambda q: q if q >= 0 else 0)),
    "constant": Kind(ZERO),
    "another constant": Kind(of(lambda _q: 1)),
    "rounded per atom": Kind(lambda q, atoms, _s: round(q / len(atoms)) * len(atoms)),
    "rounded to tens": Kind(of(lambda q: round(q, -1))),
    "underflow": Kind(of(lambda q: q * 1e-9)),
    "squared": Kind(of(lambda q: q * q)),
    # energy and forces told apart
    "forces without": Kind(forces=ZERO),
    "energy without": Kind(ZERO, stiff=ZERO, forces=of(lambda q: q)),
    "forces clamped": Kind(forces=of(clamp(-1, 1))),
    "forces absolute": Kind(forces=of(abs)),
    "forces inverted": Kind(forces=of(lambda q: -q)),
    "forces lose the largest": Kind(forces=of(lambda q: 0 if q == 2 else q)),
    "forces lose the smallest": Kind(forces=of(lambda q: 0 if q in (-3, -2) else q)),
    "forces halved": Kind(forces=of(lambda q: q / 2)),
    "springs clamped": Kind(stiff=of(clamp(-1, 1))),
    "springs parity": Kind(stiff=of(lambda q: q % 2)),
    "springs absolute": Kind(stiff=of(abs)),
    # other keys
    "reads total_charge": Kind(read=info("total_charge")),
    "reads q": Kind(read=info("q")),
    "reads Charge": Kind(read=info("Charge")),
    "reads initial charges": Kind(read=lambda _t, atoms: atoms.get_initial_charges().sum()),
    "reads an attribute": Kind(read=lambda toy, _a: toy.total_charge or 0),
    "definition says attribute, reads info": Kind(how="total_charge"),
    "factory ignores its argument": Kind(how="argument:charge", read=lambda _t, _a: 0),
    # state
    "dropped after the first step": Kind(steps(1)),
    "dropped after the second step": Kind(steps(2)),
    "dropped after eight steps": Kind(steps(8)),
    "dropped after 20 steps": Kind(steps(20)),
    "lost after 10 calls": Kind(until(10)),
    "lost after 40 calls": Kind(until(40)),
    "lost after 80 calls": Kind(until(80)),
    "lost after 120 calls": Kind(until(120)),
    "first charge stays": Kind(frozen),
    "first charge of a size stays": Kind(frozen_by_size),
    "first charge of a geometry stays": Kind(frozen_by_place),
    "charge of the call before": Kind(late),
    "two charges only": Kind(two_only),
    "looks again after a move": Kind(skin),
    "fades": Kind(drifting),
    "adds up": Kind(added_up),
    "every third call": Kind(every(3)),
    "every seventh call": Kind(every(7)),
    "at random": Kind(at_random),
    "taken from the atoms": Kind(read=pop),
    "overwritten on the atoms": Kind(after=overwrite),
    # places
    "only vacancies of Na": Kind(only("Na")),
    "only vacancies of Cl": Kind(only("Cl")),
    "springs of one defect only": Kind(stiff=only("Na")),
    "near the start only": Kind(far(0.15)),
    "lost in minima": Kind(relaxed(0.1)),
    # says none and responds
    "none, reads charge": none(info("charge")),
    "none, reads total_charge": none(info("total_charge")),
    "none, reads q": none(info("q")),
    "none, reads Charge": none(info("Charge")),
    "none, reads tot_charge": none(info("tot_charge")),
    "none, reads net_charge": none(info("net_charge")),
    "none, reads initial charges": none(lambda _t, atoms: atoms.get_initial_charges().sum()),
    "none, reads an array": none(lambda _t, atoms: atoms.arrays.get("charges", np.zeros(1)).sum()),
    "none, reads its attribute": none(lambda toy, _a: toy.total_charge or 0),
    "none, reads its attribute q": none(lambda toy, _a: toy.q or 0),
    "none, reads an attribute of the atoms": none(lambda _t, atoms: getattr(atoms, "charge", 0)),
    **{
        f"none, reads {key}": none(info(key))
        for key in ("total_q", "formal_charge", "my_charge", "oxidation", "nelect", "charge_q", "spin_charge")
    },
    "none, gets a key of its own": none(lambda _t, atoms: atoms.info.get("my_charge", 0)),
    "none, looks a key of its own up": none(lambda _t, atoms: atoms.info.setdefault("my_charge", 0)),
    "none, reads a copy": none(lambda _t, atoms: atoms.copy().info.get("total_q") or 0),
    "none, reads a key that must be there": none(must_have("my_charge")),
    "none, copies all, reads a key of its own": none(copied(dict)),
    "none, copies by method": none(copied(lambda info: info.copy())),
    "none, copies deeply": none(copied(copy.deepcopy)),
    "none, unpacks": none(copied(lambda info: {**info})),
    "none, merges": none(copied(lambda info: info | {"a": 1})),
    "none, merges the other way": none(copied(lambda info: {"a": 1} | info)),
    "none, by JSON": none(copied(lambda info: json.loads(json.dumps(info)))),
    "none, by pickle": none(copied(lambda info: pickle.loads(pickle.dumps(info)))),
    "none, as a user mapping": none(copied(UserDict)),
    "none, as a chain": none(copied(lambda info: ChainMap({}, info))),
    "none, as a view of read-only items": none(copied(lambda info: dict(MappingProxyType(info)))),
    "none, loops over the items": none(looped),
    "none, in any spelling": none(folded),
    "none, a key that stands elsewhere": none(by_constant),
    "none, a key in the calculator": none(by_attribute),
    "none, two keys": none(both_keys),
    "none, pickles the structure": none(pickled),
    "none, a structure of its own": none(another_structure),
    "none, an attribute of its own": none(lambda _t, atoms: getattr(atoms, "my_charge", 0)),
    "none, parity of q": none(info("q"), change=of(lambda q: q % 2)),
    "none, energy by charge_state": none(info("charge_state"), stiffening=0.0),
}
"""Each loses its charge, inverts it, or takes one that its definition denies."""


def single(results: dict[str, Any], _atoms: Atoms, _state: Any) -> None:
    results["energy"] = np.array(results["energy"], dtype=np.float32)
    results["forces"] = results["forces"].astype(np.float32)


def one_element(results: dict[str, Any], _atoms: Atoms, _state: Any) -> None:
    results["energy"] = np.array([results["energy"]])


def noisy(results: dict[str, Any], _atoms: Atoms, state: Any) -> None:
    results["energy"] += state.random.gauss(0.0, 1e-7)


HONEST: dict[str, Kind] = {
    "linear": Kind(),
    "energy only": Kind(stiffening=0.0),
    "energy only, small": Kind(stiffening=0.0, energy=lambda q: -0.05 * q),
    "weak springs": Kind(stiffening=0.02),
    "strong springs": Kind(stiffening=0.5),
    "curved": Kind(energy=lambda q: -4.0 * q + 0.4 * q * q),
    "saturating": Kind(of(lambda q: 3 * math.tanh(0.3 * q))),
    "curved springs": Kind(stiff=of(lambda q: q + 0.1 * q * q)),
    "another zero of the electrons": Kind(energy=lambda q: 1.0 * q),
    "key total_charge": Kind(how="info:total_charge", read=info("total_charge")),
    "key of its own": Kind(how="info:my_charge", read=info("my_charge")),
    "attribute": Kind(how="total_charge", read=lambda toy, _a: toy.total_charge or 0),
    "argument": Kind(how="argument:charge", read=lambda toy, _a: toy.argument),
    "float32": Kind(after=single, precision="float32"),
    "energy of one element": Kind(after=one_element),
    "noise": Kind(after=noisy),
    "wraps a copy": Kind(after=lambda _r, atoms, _s: atoms.copy().wrap()),
    "caches by charge": Kind(lambda q, atoms, state: state.cache.setdefault((q, atoms.positions.tobytes()), q)),
    "blind": none(lambda _t, _a: 0),
    "blind, float32": none(lambda _t, _a: 0, after=single, precision="float32"),
    "blind, noise": none(lambda _t, _a: 0, after=noisy),
    "blind, reads another key": none(info("spin")),
    "blind, reads a text": none(a_word),
    "blind, copies all": none(lambda _t, atoms: 0 * len(dict(atoms.info))),
    "blind, writes all out": none(lambda _t, atoms: 0 * len(json.dumps(atoms.info))),
    "blind, copies all and reads another key": none(copied(dict, "head")),
    "blind, copies all and wants a text": none(lambda _t, atoms: 0 * len(dict(atoms.info).get("functional", "PBE"))),
    "blind, asks for attributes": none(lambda _t, atoms: 0 * len(getattr(atoms, "label", ""))),
}
"""None of them loses anything."""


def not_a_number(results: dict[str, Any], atoms: Atoms, _state: Any) -> None:
    if atoms.info.get("charge") == 2:
        results["energy"] = math.nan


BROKEN: dict[str, tuple[Kind, str]] = {
    "not a number at one charge": (Kind(after=not_a_number), "charge +2"),
    "forces are not numbers": (Kind(after=lambda r, _a, _s: r.update(forces=r["forces"] * math.nan)), "forces"),
    "two energies": (Kind(after=lambda r, _a, _s: r.update(energy=np.array([1.0, 2.0]))), "(2,)"),
    "forces in a row": (Kind(after=lambda r, _a, _s: r.update(forces=r["forces"].ravel())), "forces"),
    "wraps in place": (Kind(after=lambda _r, atoms, _s: atoms.wrap()), "positions"),
}
"""Calculators that no run could use, and what the refusal names."""


def make(kind: Kind) -> Callable[[dict[str, Any]], Toy]:
    """What builds a toy of a kind, as an ``ase_calculator``'s factory does."""
    return lambda extra: Toy(kind, **extra)
