"""The frozen values that say what is to be calculated, and the records that say what came out.

A :class:`Calculation` is pure content: kind, start structure, charge and protocol. Its :meth:`Calculation.key`
with a model's identity is what results are stored under, so equal work is done once and a run can be resumed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

Kind = Literal["relaxation", "own_lattice", "single_point", "descriptors", "path", "certificate"]


@dataclass(frozen=True)
class Structure:
    """A periodic structure as an immutable, hashable value.

    Attributes:
        symbols: N chemical symbols.
        positions: N rows of Cartesian coordinates in Å.
        cell: three lattice vectors in Å, as rows.
    """

    symbols: tuple[str, ...]
    positions: tuple[tuple[float, float, float], ...]
    cell: tuple[tuple[float, float, float], ...]

    @classmethod
    def from_atoms(cls, atoms: Atoms) -> Structure:
        """Takes symbols, positions (rounded to 1e-10 Å) and cell; calculators, info and arrays are dropped."""
        return cls(
            tuple(atoms.get_chemical_symbols()),
            tuple((float(x), float(y), float(z)) for x, y, z in np.round(atoms.positions, 10)),
            tuple((float(x), float(y), float(z)) for x, y, z in np.round(atoms.cell.array, 10)),
        )

    def to_atoms(self) -> Atoms:
        """A fresh, fully periodic ``ase.Atoms``."""
        return Atoms(list(self.symbols), positions=self.positions, cell=self.cell, pbc=True)

    def to_json(self) -> dict[str, Any]:
        """Symbols, positions and cell as JSON values."""
        return {"symbols": list(self.symbols), "positions": self.positions, "cell": self.cell}


@dataclass(frozen=True)
class Protocol:
    """Relaxation settings and, by its name, how results are scored: two entries compare only under the same protocol.

    Relaxations: ASE FIRE with ASE's defaults, cell fixed, until the largest force is below 0.03 eV/Å or 1000 steps. ``v2`` scores them
    without steps; its relaxations are those of ``v1``, so that calculations of both are the same.

    Attributes:
        name: version.
        fmax: largest force on any atom at convergence, eV/Å.
        max_steps: steps after which a relaxation ends as ``unconverged``.
        min_distance: a pair of atoms closer than this (Å) ends a relaxation as ``failed``.
        max_energy_change: an energy this far (eV/atom) from that of the start ends it as ``failed``.
        max_displacement: an atom this far (Å, minimum image) from its start ends it as ``failed`` (atom lost).
    """

    name: str = "v2"
    optimizer: Literal["FIRE"] = "FIRE"
    fmax: float = 0.03
    max_steps: int = 1000
    min_distance: float = 0.5
    max_energy_change: float = 10.0
    max_displacement: float = 6.0

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


PROTOCOL = Protocol()

RELAXATION = "v1"
"""The protocol since which relaxations run as they do: part of what a calculation is, so that rescoring needs no new ones."""


@dataclass(frozen=True)
class Calculation:
    """One thing to calculate.

    Attributes:
        kind: ``relaxation``; ``own_lattice`` (a relaxation in the cell of a host as the model relaxes it); ``single_point`` (energy and
            forces); ``descriptors``; ``path`` (a minimum-energy path between two structures); or ``certificate``.
        structure: the start.
        charge: total charge in units of +e handed to the model; None for a model that takes none, so that a
            charge-blind model has one calculation, not five, for one start under five charges.
        protocol: settings of relaxations; ignored by (and not part of the key of) kinds that relax nothing.
        options: further content of the kind (JSON values), e.g. the charges of a certificate, or the host of an ``own_lattice``.
    """

    kind: Kind
    structure: Structure
    charge: int | None
    protocol: Protocol = PROTOCOL
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def to_json(self) -> dict[str, Any]:
        """The request as it goes to a worker and into the key."""
        out: dict[str, Any] = {"kind": self.kind, "structure": self.structure.to_json(), "charge": self.charge}
        if self.kind in ("relaxation", "own_lattice"):
            out["protocol"] = {**self.protocol.to_json(), "name": RELAXATION}
        if self.options:
            out["options"] = dict(self.options)
        return out

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of the request alone, whoever calculates it."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def key(self, model_identity: str) -> str:
        """SHA-256 over the content and the model's identity (adapter, arguments, weights, package pins)."""
        return hashlib.sha256(f"{model_identity}\n{self.content_hash}".encode()).hexdigest()


Status = Literal["converged", "unconverged", "failed"]


@dataclass(frozen=True)
class Relaxation:
    """What came out of a relaxation. A failure is a record like any other.

    Attributes:
        status: ``converged``, ``unconverged`` (step limit reached) or ``failed``.
        failure: why it failed, one line; None unless ``failed``.
        failure_kind: ``nan``, ``exploded``, ``atoms_too_close``, ``atom_lost``, ``exception`` or ``worker_died``.
        positions: last positions, (N, 3), Å; those of the start if nothing better is known.
        energy: last energy, eV; None if the model gave none.
        forces: last forces, (N, 3), eV/Å; None if the model gave none.
        energies: energy before each step and at the end, eV.
        fmax: largest force at the same moments, eV/Å.
        steps: optimiser steps taken.
        wall_s: wall-clock seconds of this relaxation in the worker.
        cpu_s: processor seconds of the worker in that time: on a CPU the fairer figure, as it does not count other programs.
        peak_memory_mb: largest resident memory of the worker so far, MB.
    """

    status: Status
    positions: NDArray[np.float64]
    energy: float | None
    forces: NDArray[np.float64] | None
    energies: tuple[float, ...]
    fmax: tuple[float, ...]
    steps: int
    wall_s: float
    peak_memory_mb: float
    cpu_s: float = 0.0
    failure: str | None = None
    failure_kind: str | None = None
