"""Formation energies, charge transition levels and finite-size corrections: plain numbers, no model, no file."""

from __future__ import annotations

from defectbench.thermodynamics.corrections import (
    Corrected,
    DefectCorrections,
    ThermodynamicReference,
    exchanged_atoms,
    find_corrections,
    thermodynamic_reference,
)
from defectbench.thermodynamics.formation import ThermodynamicsError, exchange_energy, formation_energy
from defectbench.thermodynamics.levels import (
    LevelDiagram,
    TransitionLevel,
    effective_u,
    level_diagram,
    pairwise_level,
    stability_depths,
    stable_charges,
)

__all__ = [
    "Corrected",
    "DefectCorrections",
    "LevelDiagram",
    "ThermodynamicReference",
    "ThermodynamicsError",
    "TransitionLevel",
    "effective_u",
    "exchange_energy",
    "exchanged_atoms",
    "find_corrections",
    "formation_energy",
    "level_diagram",
    "pairwise_level",
    "stability_depths",
    "stable_charges",
    "thermodynamic_reference",
]
