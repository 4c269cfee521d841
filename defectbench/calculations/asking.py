"""One rule for both phases of a task: what it asks for when it plans is what it finds when it scores.

A model that takes no charge has one calculation for all charges of a structure, and descriptors are averaged in the worker. Both are
decided here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from defectbench.calculations.requests import PROTOCOL, Calculation, Kind, Protocol, Structure
from defectbench.calculations.results import DescriptorsResult, OwnLatticeResult, RelaxationResult, SinglePointResult, Stored

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

DESCRIPTOR_OPTIONS: Mapping[str, Any] = {"average": True}
"""Descriptors are averaged over the atoms in the worker: (1, D) per frame is stored, not (N, D)."""


@dataclass(frozen=True)
class Ask:
    """Builds calculations as one model takes them.

    Attributes:
        takes_charge: False drops the charge, so that equal structures of different charges are one calculation.
        protocol: of relaxations.

    >>> from ase.build import bulk
    >>> blind, aware = Ask(takes_charge=False), Ask(takes_charge=True)
    >>> blind.single_point(bulk("Cu"), -3).charge is None, aware.single_point(bulk("Cu"), -3).charge
    (True, -3)
    """

    takes_charge: bool
    protocol: Protocol = PROTOCOL

    def relaxation(self, atoms: Atoms, charge: int) -> Calculation:
        """The relaxation of a start at a total charge (units of +e)."""
        return self._calculation("relaxation", atoms, charge)

    def own_lattice(self, atoms: Atoms, charge: int, host: Atoms) -> Calculation:
        """The relaxation of a start at a total charge (units of +e), in the cell of the host as the model relaxes it."""
        return self._calculation("own_lattice", atoms, charge, {"host": Structure.from_atoms(host).to_json()})

    def single_point(self, atoms: Atoms, charge: int) -> Calculation:
        """Energy and forces of a structure at a total charge (units of +e)."""
        return self._calculation("single_point", atoms, charge)

    def descriptors(self, atoms: Atoms, charge: int) -> Calculation:
        """The averaged descriptors of a structure at a total charge (units of +e)."""
        return self._calculation("descriptors", atoms, charge, DESCRIPTOR_OPTIONS)

    def _calculation(self, kind: Kind, atoms: Atoms, charge: int, options: Mapping[str, Any] | None = None) -> Calculation:
        asked = int(charge) if self.takes_charge else None
        return Calculation(kind, Structure.from_atoms(atoms), asked, self.protocol, dict(options or {}))


@dataclass(frozen=True)
class Answers:
    """Finds what :class:`Ask` asked for among the stored results; the same structures, positions to 1e-10 Å.

    Attributes:
        ask: that planned them.
        stored: content hash → result.
    """

    ask: Ask = field(default_factory=lambda: Ask(takes_charge=True))
    stored: Mapping[str, Stored] = field(default_factory=dict)

    def relaxation(self, atoms: Atoms, charge: int) -> RelaxationResult | None:
        """The stored relaxation of a start; None if there is none."""
        found = self.of(self.ask.relaxation(atoms, charge))
        return found.result if found is not None and isinstance(found.result, RelaxationResult) else None

    def own_lattice(self, atoms: Atoms, charge: int, host: Atoms) -> OwnLatticeResult | None:
        """The stored relaxation of a start in the model's own lattice; None if there is none."""
        found = self.of(self.ask.own_lattice(atoms, charge, host))
        return found.result if found is not None and isinstance(found.result, OwnLatticeResult) else None

    def single_point(self, atoms: Atoms, charge: int) -> SinglePointResult | None:
        """The stored energy and forces of a structure; None if there are none."""
        found = self.of(self.ask.single_point(atoms, charge))
        return found.result if found is not None and isinstance(found.result, SinglePointResult) else None

    def descriptors(self, atoms: Atoms, charge: int) -> DescriptorsResult | None:
        """The stored averaged descriptors of a structure; None if there are none."""
        found = self.of(self.ask.descriptors(atoms, charge))
        return found.result if found is not None and isinstance(found.result, DescriptorsResult) else None

    def of(self, calculation: Calculation) -> Stored | None:
        """What is stored for a calculation."""
        return self.stored.get(calculation.content_hash)

    def energy(self, atoms: Atoms, charge: int) -> tuple[float | None, str | None]:
        """The model's energy of a structure, eV; and if there is none, why."""
        result = self.single_point(atoms, charge)
        if result is None:
            return None, "not calculated"
        if result.energy is None:
            return None, f"single point failed: {result.failure or 'no energy'}"
        return result.energy, None

    def energy_and_forces(self, atoms: Atoms, charge: int) -> tuple[float, NDArray[np.float64]] | str:
        """The model's energy (eV) and forces (N, 3; eV/Å) of a structure; or why there are none."""
        result = self.single_point(atoms, charge)
        if result is None:
            return "not calculated"
        if result.energy is None or result.forces is None:
            return result.failure or "no result"
        return result.energy, np.array(result.forces, dtype=np.float64)
