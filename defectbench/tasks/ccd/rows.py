"""Columns of the tables of the task ``ccd``: energies in eV (ħΩ in meV), Q in amu^½ Å."""

from __future__ import annotations

from typing_extensions import TypedDict


class CurveRow(TypedDict):
    """One charge of a diagram (table ``states``)."""

    defect: str
    charge: int
    upper: int
    lower: int
    delta_q_reference: float
    delta_q_own: float | None
    delta_q_error: float | None
    minimum_at: float | None
    minimum_reference: float
    relaxation_energy_ev: float | None
    relaxation_energy_reference_ev: float | None
    hbar_omega_mev: float | None
    hbar_omega_reference_mev: float | None
    huang_rhys: float | None
    huang_rhys_reference: float | None
    fit_rms_ev: float | None
    curve_error_ev: float | None
    points: int
    reference_points: int
    one_curve: bool
    reason: str | None


class DiagramRow(TypedDict):
    """A pair of charges (table ``diagrams``); the separation is of the minima, the lower charge's above the upper one's."""

    defect: str
    upper: int
    lower: int
    delta_q_reference: float
    separation_reference_ev: float | None
    separation_model_ev: float | None
    reference_on_path: bool


class PointRow(TypedDict):
    """A sampled energy of a curve (table ``points``), above that of the curve's own end."""

    defect: str
    upper: int
    lower: int
    charge: int
    fraction: float
    q_amu_angstrom: float
    model_ev: float | None
    reference_ev: float | None
