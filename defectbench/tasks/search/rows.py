"""Columns of the tables of the task ``search``: numbers of DFT relaxations, and fractions from 0 to 1."""

from __future__ import annotations

from typing_extensions import TypedDict


class StateRow(TypedDict):
    """A charge state (table ``states``)."""

    defect: str
    charge: int
    candidates: int
    leading_to_ground_state: int
    failed: int
    unique_minima: int
    needed: int | None
    found_by_lowest: float
    found_by_unique: bool
    nearest: float
    area: float
    random_area: float
    needed_in_order: int | None
    order_area: float


class MinimumRow(TypedDict):
    """A distinct minimum of the model (table ``minima``), in the order in which it is handed to DFT."""

    defect: str
    charge: int
    place: int
    passed: str
    members: str
    in_ground_state: bool


class CurveRow(TypedDict):
    """A number of DFT relaxations per charge state (table ``curve``)."""

    relaxations: int
    recall: float
    order_recall: float
    random_recall: float
    saved: float | None


class SoapRow(TypedDict):
    """A charge state with minima distinguished by SOAP, beside the matching's (``defectbench rescore ENTRY --soap``)."""

    defect: str
    charge: int
    candidates: int
    unique_minima: int
    soap_minima: int
    found_by_unique: bool
    found_by_soap: bool
    needed: int | None
    needed_by_soap: int | None
