"""Columns of the tables of the task ``parity``: forces in eV/Å; energies in eV, errors of energies in eV per atom."""

from __future__ import annotations

from typing_extensions import TypedDict


class StateRow(TypedDict):
    """A charge state at a level of theory (table ``states``)."""

    level: str
    defect: str
    charge: int
    frames: int
    relaxations: int
    failed: int
    force_rmse: float
    force_mae: float
    force_rmse_near: float | None
    force_rmse_far: float | None
    dft_force_rms: float
    force_slope: float
    energy_rmse: float | None
    energy_rmse_all_charges: float | None
    energy_mae: float | None
    energy_offset: float | None
    energy_slope: float | None
    relative_energy_mae: float | None
    reason: str | None


class FrameRow(TypedDict):
    """A DFT frame (table ``frames``)."""

    level: str
    defect: str
    charge: int
    configuration: str
    frame: int
    atoms: int
    dft_energy: float
    energy: float | None
    energy_error: float | None
    energy_error_all_charges: float | None
    force_rmse: float
    dft_force_rms: float
    reason: str | None


class RelativeEnergyRow(TypedDict):
    """A distinct DFT minimum above the ground state (table ``relative_energies``)."""

    defect: str
    charge: int
    configuration: str
    ground_state: str
    dft_relative_energy: float
    relative_energy: float | None
    error: float | None
    reason: str | None


class ForceBin(TypedDict):
    """A bin of the histogram of force components, model against DFT (table ``force_histogram``)."""

    near: bool
    dft: float
    model: float
    components: int


LevelRow = dict[str, str | int | float | None]
"""A level of theory (table ``levels``): its counts, and each metric with the ends of its interval (``<metric>_low``, ``<metric>_high``)."""
