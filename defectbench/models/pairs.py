"""Whether a model responds to charge between every pair of charges of a defect, in energy and in forces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np

from defectbench.base.states import format_charge

FADED = 0.05
"""A pair of charges whose response is below this fraction of the largest between neighbouring charges has lost it."""

Slope = Literal["rising", "falling", "mixed"]


@dataclass(frozen=True)
class DefectResponse:
    """What the charge does at one structure of a defect.

    Attributes:
        defect: its name; empty where an earlier version, or a caller without a dataset, did not say it.
        charges: at which it was asked, ascending.
        energies: there, eV.
        least_energy: smallest change of the energy between two charges, eV; and …
        least_energy_between: … between which.
        least_forces: smallest change of the largest force component between two charges, eV/Å; and …
        least_forces_between: … between which.
    """

    defect: str
    charges: tuple[int, ...]
    energies: tuple[float, ...]
    least_energy: float
    least_energy_between: tuple[int, int]
    least_forces: float
    least_forces_between: tuple[int, int]

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> DefectResponse:
        """From the values that ``dataclasses.asdict`` gives, or their JSON."""
        values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}
        return cls(**values)


@dataclass(frozen=True)
class Pair:
    """Two charges of a defect, and what changes between them: energy (eV), largest force component (eV/Å)."""

    defect: str
    charges: tuple[int, int]
    energy: float
    forces: float
    neighbours: bool

    def __str__(self) -> str:
        between = f"between charges {format_charge(self.charges[0])} and {format_charge(self.charges[1])}"
        return f"{between} of {self.defect}" if self.defect else between


def pairs_of(defect: str, charges: Sequence[int], energies: Sequence[float], force_changes: Sequence[float]) -> list[Pair]:
    """Every pair of charges.

    Args:
        defect: its name.
        charges: ascending.
        energies: at each, eV.
        force_changes: of each pair in the order of ``itertools.combinations``, eV/Å.
    """
    return [
        Pair(defect, (charges[a], charges[b]), abs(energies[a] - energies[b]), change, b == a + 1)
        for (a, b), change in zip(combinations(range(len(charges)), 2), force_changes, strict=True)
    ]


def response_of(defect: str, charges: Sequence[int], energies: Sequence[float], pairs: Sequence[Pair]) -> DefectResponse:
    """The least that changes, of all pairs of a defect."""
    by_energy, by_forces = min(pairs, key=lambda p: p.energy), min(pairs, key=lambda p: p.forces)
    return DefectResponse(
        defect,
        tuple(int(q) for q in charges),
        tuple(float(e) for e in energies),
        by_energy.energy,
        by_energy.charges,
        by_forces.forces,
        by_forces.charges,
    )


@dataclass(frozen=True)
class Lost:
    """Pairs of charges that a model does not distinguish: in nothing, or in the forces alone."""

    altogether: tuple[Pair, ...]
    in_forces: tuple[Pair, ...]


def lost_pairs(pairs: Sequence[Pair], noise_energy: float, noise_forces: float, aware_force: float) -> Lost:
    """Pairs between which the charge gets lost.

    A pair is lost in energy (in forces) if what changes is noise, or less than a twentieth of the largest change between neighbouring
    charges of any defect. Forces count as lost on their own only of a model whose forces respond elsewhere.

    Args:
        pairs: of all defects.
        noise_energy: eV.
        noise_forces: eV/Å.
        aware_force: eV/Å from which forces respond.
    """
    beside = [p for p in pairs if p.neighbours]
    energy = max(noise_energy, FADED * max(p.energy / (p.charges[1] - p.charges[0]) for p in beside))
    largest = max(p.forces / (p.charges[1] - p.charges[0]) for p in beside)
    forces = max(noise_forces, FADED * largest)
    altogether = tuple(p for p in pairs if p.energy <= energy and p.forces <= forces)
    silent = tuple(p for p in pairs if p.forces <= noise_forces and p not in altogether) if largest > aware_force else ()
    return Lost(altogether, silent)


def slope(by_defect: Iterable[Sequence[float]], blind: float = 0.0) -> Slope | None:
    """Whether energies rise or fall with the charge, between all neighbouring charges of all defects; None if they do not change.

    Args:
        by_defect: of each defect its energies (eV) by ascending charge.
        blind: eV; smaller changes are none.
    """
    signs = {float(np.sign(change)) for energies in by_defect for change in np.diff(energies) if abs(change) > blind}
    if not signs:
        return None
    return "mixed" if len(signs) == 2 else "rising" if 1.0 in signs else "falling"
