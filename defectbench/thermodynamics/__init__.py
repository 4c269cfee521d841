"""Formation energies, charge transition levels and finite-size corrections: plain numbers, no model, no file."""

from __future__ import annotations

from defectbench.thermodynamics.corrections import (
    Corrected,
    DefectCorrections,
    Reservoir,
    exchanged_atoms,
    find_corrections,
    reservoir,
)
from defectbench.thermodynamics.formation import (
    FormationLine,
    ThermodynamicsError,
    envelope,
    exchange_energy,
    formation_line,
    ground_lines,
)
from defectbench.thermodynamics.levels import (
    LevelDiagram,
    NegativeU,
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
    "FormationLine",
    "LevelDiagram",
    "NegativeU",
    "Reservoir",
    "ThermodynamicsError",
    "TransitionLevel",
    "effective_u",
    "envelope",
    "exchange_energy",
    "exchanged_atoms",
    "find_corrections",
    "formation_line",
    "ground_lines",
    "level_diagram",
    "pairwise_level",
    "reservoir",
    "stability_depths",
    "stable_charges",
]
