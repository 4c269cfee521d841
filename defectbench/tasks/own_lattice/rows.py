"""Columns of the tables of the task ``own_lattice``: lengths in Å, volumes in Å³, changes in per cent."""

from __future__ import annotations

from typing_extensions import TypedDict


class StateRow(TypedDict):
    """A charge state (table ``states``) in the model's own lattice, and (``fixed_…``) in the reference cell."""

    defect: str
    charge: int
    configuration: str | None
    ground_state_found: float
    rmsd: float | None
    local_rmsd: float | None
    fixed_configuration: str | None
    fixed_ground_state_found: float
    fixed_rmsd: float | None
    fixed_local_rmsd: float | None
    reason: str | None


class LatticeRow(TypedDict):
    """Both cells (table ``lattice``, one row)."""

    a: float
    reference_a: float
    a_change: float
    b: float
    reference_b: float
    b_change: float
    c: float
    reference_c: float
    c_change: float
    volume: float
    reference_volume: float
    volume_change: float
