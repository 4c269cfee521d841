"""Columns of the tables of the task ``pes``: energies in eV, RMSDs in Å, distortions in per cent, fractions from 0 to 1."""

from __future__ import annotations

from typing_extensions import TypedDict


class StateRow(TypedDict):
    """A charge state (table ``states``): how the model's curve compares with DFT's, beside the baselines."""

    defect: str
    charge: int
    configurations: int
    converged: int
    dft_configurations: int
    common: int
    common_converged: int
    curve_error: float | None
    rank_correlation: float | None
    ground_state_fraction: float
    dft_ground_state_fraction: float
    same_minimum: float | None
    curve_reproduced: float | None
    energy_slope: float | None
    unrelaxed_curve_error: float | None
    unrelaxed_rank_correlation: float | None
    unrelaxed_ground_state_fraction: float | None
    unrelaxed_same_minimum: float | None
    other_charge: int | None
    other_charge_curve_error: float | None
    other_charge_rank_correlation: float | None
    other_charge_ground_state_fraction: float | None
    other_charge_same_minimum: float | None
    reason: str | None


class ConfigurationRow(TypedDict):
    """A start that the model or DFT has relaxed (table ``configurations``)."""

    defect: str
    charge: int
    configuration: str
    distortion: float | None
    status: str
    energy: float | None
    relative_energy: float | None
    dft_energy: float | None
    dft_relative_energy: float | None
    energy_error: float | None
    rmsd: float | None
    dft_rmsd: float | None
    in_ground_state: float | None
    same_minimum_as_dft: float | None
    reason: str | None
    energy_reproduced: float | None
