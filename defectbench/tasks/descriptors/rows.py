"""Columns of the tables of the task ``descriptors``; all values are dimensionless."""

from __future__ import annotations

from typing_extensions import TypedDict


class StateRow(TypedDict):
    """A charge state (table ``states``)."""

    defect: str
    charge: int
    frames: int
    dimension: int
    silhouette: float | None
    silhouette_neutral: float | None
    silhouette_all: float | None
    explained_1: float
    explained_2: float
    reason: str | None


class FrameRow(TypedDict):
    """A described DFT frame (table ``frames``)."""

    defect: str
    charge: int
    configuration: str
    frame: int
    component_1: float
    component_2: float
    silhouette: float | None
    silhouette_neutral: float | None
