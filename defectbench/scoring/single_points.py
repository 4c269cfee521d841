"""Single points among the stored results: the same structures that a task planned, looked up when it scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from defectbench.calculations.requests import Calculation, Structure

if TYPE_CHECKING:
    from ase import Atoms

    from defectbench.scoring.task import ScoringInput


def stored_energy(scoring: ScoringInput, atoms: Atoms, charge: int) -> tuple[float | None, str | None]:
    """The model's energy of a structure at a charge, eV, and if there is none, why.

    A model that takes no charge has one result for all charges of a structure; it is found too.

    Args:
        scoring: what may be looked at.
        atoms: N atoms; the very structure that was planned (positions to 1e-10 Å).
        charge: in units of +e.
    """
    structure = Structure.from_atoms(atoms)
    for asked in (int(charge), None):
        result = scoring.results.get(Calculation("single_point", structure, asked).content_hash)
        if result is not None:
            break
    else:
        return None, "not calculated"
    energy = result.get("energy")
    if result.get("status") == "failed" or energy is None or not np.isfinite(energy):
        return None, f"single point failed: {result.get('failure') or 'no energy'}"
    return float(energy), None
