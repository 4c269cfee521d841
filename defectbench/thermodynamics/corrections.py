"""Finite-size corrections and formation terms of a dataset: looked up, never computed, never silently zero.

The same stored numbers are added to the reference's energies and to a model's, so they cancel from every error. What they
do not cancel from is the levels themselves: where a dataset stores none, results say ``uncorrected``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from defectbench.base.errors import DatasetError
from defectbench.base.states import format_charge

if TYPE_CHECKING:
    from defectbench.datasets.schema import ChemicalPotentials, Defect, LevelOfTheory

Corrected = Literal["corrected", "uncorrected"]


@dataclass(frozen=True)
class DefectCorrections:
    """The finite-size corrections of one defect's charge states.

    Attributes:
        status: ``corrected`` if the dataset stores one for each requested charge, ``uncorrected`` if it stores none.
        values: charge → correction in eV, the sum of its stored terms; empty if ``uncorrected``.
        method: how they were computed, in the dataset's words.
    """

    status: Corrected
    values: Mapping[int, float]
    method: str | None = None

    def of(self, charge: int) -> float:
        """The correction of a charge in eV; 0 if ``uncorrected``, which :attr:`status` then says.

        Raises:
            DatasetError: corrected, but not for this charge.
        """
        if self.status == "uncorrected":
            return 0.0
        if charge not in self.values:
            known = ", ".join(map(format_charge, sorted(self.values)))
            raise DatasetError(
                f"no finite-size correction of charge {format_charge(charge)}; there are those of {known}", code="no-correction"
            )
        return self.values[charge]


def find_corrections(level: LevelOfTheory, defect: str, charges: Sequence[int]) -> DefectCorrections:
    """The stored corrections of a defect's charge states at a level of theory.

    Raises:
        DatasetError: some of the charges have a correction and others none: levels between them would be wrong. The message
            names the missing ones.
    """
    stored = {item.charge: item.total for item in level.corrections if item.defect == defect}
    wanted = {charge: stored[charge] for charge in charges if charge in stored}
    if not wanted:
        return DefectCorrections("uncorrected", {}, None)
    missing = [format_charge(charge) for charge in charges if charge not in stored]
    if missing:
        there = ", ".join(format_charge(charge) for charge in wanted)
        raise DatasetError(
            f"the dataset has finite-size corrections of {defect} at {level.name} for {there}, but none for {', '.join(missing)}, "
            "and a level between a corrected and an uncorrected charge would be wrong; "
            "leave the uncorrected charges out of the selection, or store a correction of each (zero, if it is zero)",
            code="no-correction",
        )
    return DefectCorrections("corrected", wanted, level.correction_method)


def exchanged_atoms(defect: Defect) -> dict[str, int]:
    """Element → number of atoms that a defect adds to the host; negative for those it removes."""
    count: Counter[str] = Counter()
    if defect.removed is not None:
        count[defect.removed] -= 1
    if defect.added is not None:
        count[defect.added] += 1
    return {element: number for element, number in sorted(count.items()) if number}


@dataclass(frozen=True)
class ThermodynamicReference:
    """Band edges, host energy and chemical potentials of a level of theory, and which of them it lacks.

    Attributes:
        vbm: valence band maximum, eV; None if unknown, and then levels lie on an arbitrary, common zero.
        gap: band gap, eV; None if unknown.
        host_energy: total energy of the perfect supercell, eV; None if unknown.
        conditions: growth conditions with chemical potentials; empty if unknown.
    """

    vbm: float | None
    gap: float | None
    host_energy: float | None
    conditions: tuple[ChemicalPotentials, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """What formation energies cannot be computed without: any of ``valence band maximum``, ``host energy``, ``chemical potentials``."""
        out = []
        if self.vbm is None:
            out.append("valence band maximum")
        if self.host_energy is None:
            out.append("host energy")
        if not self.conditions:
            out.append("chemical potentials")
        return tuple(out)


def thermodynamic_reference(level: LevelOfTheory) -> ThermodynamicReference:
    """Band edges, host energy and chemical potentials of a level of theory."""
    edges = level.band_edges
    gap = edges.cbm - edges.vbm if edges is not None and edges.cbm is not None else None
    return ThermodynamicReference(edges.vbm if edges is not None else None, gap, level.host_energy, level.chemical_potentials)
