"""Columns of the tables of the task ``transition_levels``, in eV: ``reference`` is DFT, ``own`` the model's energies, ``basin`` DFT's
energies of the minima that the model's structures lie in."""

from __future__ import annotations

from typing_extensions import TypedDict


class StateRow(TypedDict):
    """A charge state (table ``states``)."""

    defect: str
    charge: int
    reference_configuration: str
    model_configuration: str | None
    formation_energy_reference_ev: float | None
    formation_energy_own_ev: float | None
    basin_energy_ev: float | None
    stable_reference: bool
    stable_own: bool | None
    stable_basin: bool | None
    stable_in_gap_reference: bool | None
    stability_reference_ev: float | None
    stability_own_ev: float | None
    stability_basin_ev: float | None
    u_reference_ev: float | None
    u_own_ev: float | None
    u_basin_ev: float | None
    corrections: str
    reason: str | None


class LevelRow(TypedDict):
    """A transition level between two charges (table ``levels``)."""

    defect: str
    level: str
    upper: int
    lower: int
    successive: bool
    stable_reference: bool
    stable_own: bool | None
    stable_basin: bool | None
    reference_ev: float
    own_ev: float | None
    own_error_ev: float | None
    own_aligned_error_ev: float | None
    basin_ev: float | None
    basin_error_ev: float | None
    at_reference_geometry_ev: float | None
    geometry_part_ev: float | None
    energy_part_ev: float | None
    coupling_part_ev: float | None
    ideal_start_only_error_ev: float | None
    another_charges_geometry_error_ev: float | None
    zero: str
    corrections: str
    reason: str | None


class AxisRow(TypedDict):
    """What Fermi levels are measured from, and the band gap above it (table ``axis``, one row)."""

    zero: str
    gap_ev: float | None
