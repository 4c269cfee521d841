"""The formation energy of a charged point defect.

The formation energy of a configuration X in charge state q is (Zhang & Northrup, Phys. Rev. Lett. 67, 2339 (1991),
doi:10.1103/PhysRevLett.67.2339; Freysoldt et al., Rev. Mod. Phys. 86, 253 (2014), doi:10.1103/RevModPhys.86.253)

    E_f(X, q; E_F) = E(X, q) − E_host − Σᵢ nᵢ μᵢ + q (E_VBM + E_F) + E_corr(q),

with the Fermi level E_F measured from the valence band maximum. Energies eV, charges in units of +e.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from defectbench.base.errors import DefectbenchError
from defectbench.base.states import format_charge


class ThermodynamicsError(DefectbenchError):
    """Numbers from which no formation energy or level can be made; the message says which are missing or not finite."""

    code = "no-levels"


def exchange_energy(atoms_added: Mapping[str, int], chemical_potentials: Mapping[str, float]) -> float:
    """Σᵢ nᵢ μᵢ in eV: the energy of the atoms that were taken from (n > 0) or given to (n < 0) the reservoirs.

    >>> exchange_energy({"Sb": 1, "Se": -1}, {"Sb": -5.0, "Se": -6.0})
    1.0

    Args:
        atoms_added: element → nᵢ; −1 for a vacancy of that element, +1 for an interstitial.
        chemical_potentials: element → μᵢ in eV per atom, on the scale of the total energies.

    Raises:
        ThermodynamicsError: an exchanged element has no chemical potential.
    """
    missing = sorted(element for element, count in atoms_added.items() if count and element not in chemical_potentials)
    if missing:
        raise ThermodynamicsError(
            f"no chemical potential of {', '.join(missing)}; given are {', '.join(sorted(chemical_potentials)) or 'none'}",
            code="no-chemical-potential",
        )
    return math.fsum(count * chemical_potentials[element] for element, count in atoms_added.items() if count)


def formation_energy(
    charge: int, defect_energy: float, host_energy: float, exchanged: float, vbm: float, correction: float, fermi_level: float = 0.0
) -> float:
    """The formation energy of one configuration in eV (the equation of the module).

    ``host_energy`` and ``exchanged`` are the same for all charges of a defect. With 0 for both, the value is a formation energy up to that
    constant, which is all that a level or a stability needs.

    >>> formation_energy(-1, defect_energy=-99.0, host_energy=-105.0, exchanged=5.0, vbm=2.0, correction=0.25)
    -0.75

    Args:
        charge: q in units of +e.
        defect_energy: total energy of the charged supercell with the defect, eV.
        host_energy: total energy of the perfect supercell, eV.
        exchanged: Σᵢ nᵢ μᵢ (:func:`exchange_energy`), eV.
        vbm: valence band maximum, eV, on the potential scale of the total energies.
        correction: finite-size correction E_corr(q), eV; it has no default, because leaving it out is a statement.
        fermi_level: E_F, eV above the valence band maximum.

    Raises:
        ThermodynamicsError: a number is not finite.
    """
    numbers = {
        "energy of the defect": defect_energy,
        "energy of the host": host_energy,
        "energy of the exchanged atoms": exchanged,
        "valence band maximum": vbm,
        "correction": correction,
        "Fermi level": fermi_level,
    }
    for what, number in numbers.items():
        if not math.isfinite(number):
            raise ThermodynamicsError(f"the {what} at charge {format_charge(charge)} is {number}", code="not-finite")
    return math.fsum([defect_energy, -host_energy, -exchanged, charge * (vbm + fermi_level), correction])
