"""Formation energies of charged point defects: one straight line in the Fermi level per configuration.

The formation energy of a configuration X in charge state q is (Zhang & Northrup, Phys. Rev. Lett. 67, 2339 (1991),
doi:10.1103/PhysRevLett.67.2339; Freysoldt et al., Rev. Mod. Phys. 86, 253 (2014), doi:10.1103/RevModPhys.86.253)

    E_f(X, q; E_F) = E(X, q) − E_bulk − Σᵢ nᵢ μᵢ + q (E_VBM + E_F) + E_corr(q),

with the Fermi level E_F measured from the valence band maximum. Energies eV, charges in units of +e.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from defectbench.base.errors import DefectbenchError
from defectbench.base.states import charge_label


class ThermodynamicsError(DefectbenchError):
    """Numbers from which no formation energy or level can be made; the message says which are missing or not finite."""


@dataclass(frozen=True)
class FormationLine:
    """Formation energy of one configuration in one charge state, as a line in the Fermi level.

    Attributes:
        charge: q in units of +e; the slope of the line.
        energy: E_f at the valence band maximum (E_F = 0), eV.
        configuration: name of the configuration, empty if there is only one.
    """

    charge: int
    energy: float
    configuration: str = ""

    def at(self, fermi_level: float) -> float:
        """Formation energy in eV at a Fermi level in eV above the valence band maximum."""
        return self.energy + self.charge * fermi_level


def exchange_energy(atoms_added: Mapping[str, int], chemical_potentials: Mapping[str, float]) -> float:
    """Σᵢ nᵢ μᵢ in eV: what the atoms cost that were taken from (n > 0) or given to (n < 0) the reservoirs.

    Args:
        atoms_added: element → nᵢ; −1 for a vacancy of that element, +1 for an interstitial.
        chemical_potentials: element → μᵢ in eV per atom, on the scale of the total energies.

    Raises:
        ThermodynamicsError: an exchanged element has no chemical potential.
    """
    missing = sorted(element for element, count in atoms_added.items() if count and element not in chemical_potentials)
    if missing:
        raise ThermodynamicsError(
            f"no chemical potential of {', '.join(missing)}; given are {', '.join(sorted(chemical_potentials)) or 'none'}"
        )
    return math.fsum(count * chemical_potentials[element] for element, count in atoms_added.items() if count)


def formation_line(
    charge: int,
    defect_energy: float,
    bulk_energy: float,
    atoms_added: Mapping[str, int],
    chemical_potentials: Mapping[str, float],
    vbm: float,
    correction: float,
    configuration: str = "",
) -> FormationLine:
    """The formation energy line of one configuration (equation of the module).

    Args:
        charge: q in units of +e.
        defect_energy: total energy of the charged supercell with the defect, eV.
        bulk_energy: total energy of the perfect supercell, eV.
        atoms_added: element → number of atoms added (negative: removed).
        chemical_potentials: element → μ, eV per atom.
        vbm: valence band maximum, eV, on the potential scale of the total energies.
        correction: finite-size correction E_corr(q), eV; has no default, because leaving it out is a statement.
        configuration: name of the configuration.

    Raises:
        ThermodynamicsError: an energy is not finite, or a chemical potential is missing.
    """
    numbers = {
        "energy of the defect": defect_energy,
        "energy of the host": bulk_energy,
        "valence band maximum": vbm,
        "correction": correction,
    }
    for what, number in numbers.items():
        if not math.isfinite(number):
            raise ThermodynamicsError(f"the {what} of {configuration or 'the configuration'} at {charge_label(charge)} is {number}")
    exchanged = exchange_energy(atoms_added, chemical_potentials)
    return FormationLine(charge, math.fsum([defect_energy, -bulk_energy, -exchanged, charge * vbm, correction]), configuration)


def ground_lines(lines: Iterable[FormationLine]) -> dict[int, FormationLine]:
    """The lowest configuration of each charge state, by ascending charge; of equal ones the first in alphabetical order.

    Lines of one charge are parallel, so the lowest one is lowest at every Fermi level.

    Raises:
        ThermodynamicsError: an energy is not finite.
    """
    lowest: dict[int, FormationLine] = {}
    for line in lines:
        if not math.isfinite(line.energy):
            raise ThermodynamicsError(
                f"the formation energy of {line.configuration or 'a configuration'} at {charge_label(line.charge)} is {line.energy}"
            )
        best = lowest.get(line.charge)
        if best is None or (line.energy, line.configuration) < (best.energy, best.configuration):
            lowest[line.charge] = line
    return dict(sorted(lowest.items()))


def envelope(lines: Iterable[FormationLine], fermi_level: float) -> float:
    """The lower envelope: formation energy in eV of the most stable configuration and charge at a Fermi level (eV above the VBM).

    Raises:
        ThermodynamicsError: there are no lines.
    """
    values = [line.at(fermi_level) for line in lines]
    if not values:
        raise ThermodynamicsError("there is no formation energy to take an envelope of")
    return min(values)
