"""Columns of the tables of the task ``relax``: RMSDs and displacements in Å, energies in eV, times in s."""

from __future__ import annotations

from typing_extensions import TypedDict


class StateRow(TypedDict):
    """A charge state (table ``states``): the model's ground state against DFT's, host-referenced, and the baselines."""

    defect: str
    charge: int
    configuration: str | None
    dft_configuration: str
    minimum: str | None
    energy_above_ground_state: float | None
    ground_state_found: float
    verdict: str
    rmsd: float | None
    local_rmsd: float | None
    max_displacement: float | None
    success: bool
    strict_success: bool
    minimum_rmsd: float | None
    shared_rmsd: float | None
    shared_local_rmsd: float | None
    shared_max_displacement: float | None
    host_referenced_rmsd: float | None
    host_referenced_local_rmsd: float | None
    host_referenced_max_displacement: float | None
    host_referenced_success: bool | None
    host_referenced_minimum: str | None
    host_referenced_found: float | None
    shared_host_referenced_rmsd: float | None
    shared_host_referenced_local_rmsd: float | None
    shared_host_referenced_max_displacement: float | None
    unrelaxed_rmsd: float | None
    unrelaxed_local_rmsd: float | None
    unrelaxed_max_displacement: float | None
    unrelaxed_found: float | None
    unrelaxed_success: bool | None
    unrelaxed_strict_success: bool | None
    other_charge: int | None
    other_charge_rmsd: float | None
    other_charge_local_rmsd: float | None
    other_charge_max_displacement: float | None
    other_charge_found: float | None
    other_charge_success: bool | None
    other_charge_strict_success: bool | None
    dft_minima: int
    dft_ground_states: int
    dft_configurations: int
    spurious_minima: int
    configurations: int
    converged: int
    unconverged: int
    failed: int
    steps: int | None
    wall_s: float
    reason: str | None


class ConfigurationRow(TypedDict):
    """A selected configuration (table ``configurations``), against DFT's ground state."""

    defect: str
    charge: int
    configuration: str
    status: str
    energy: float | None
    relative_energy: float | None
    rmsd: float | None
    local_rmsd: float | None
    max_displacement: float | None
    minimum: str | None
    minimum_rmsd: float | None
    ground_state: bool
    steps: int | None
    wall_s: float | None
    reason: str | None


class HostRow(TypedDict):
    """The model's relaxed host from one start (table ``host``)."""

    start: str
    status: str
    drift: float | None
    max_displacement: float | None
    drift_by_index: float | None
    max_displacement_by_index: float | None
    energy: float | None
    steps: int
    wall_s: float
    reason: str | None
