"""The model's own relaxed host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from defectbench.scoring.landscape import relaxed_atoms
from defectbench.scoring.task import ScoringInput

if TYPE_CHECKING:
    from ase import Atoms


HOST_START = "Unperturbed"
"""The host relaxation whose drift is subtracted in host-referenced metrics."""


def model_host(scoring: ScoringInput) -> tuple[Atoms | None, str | None]:
    """The model's relaxed host for host-referenced metrics, or why there is none."""
    for item in scoring.host:
        if item.start == HOST_START:
            if item.relaxation.status != "converged":
                return None, f"the model's own host did not relax ({item.relaxation.failure or item.relaxation.status})"
            return relaxed_atoms(scoring.dataset.host, item.relaxation), None
    return None, "the model's own host was not relaxed"
