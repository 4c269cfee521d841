"""What an entry says of each charge state, and what each counts in the score of the relax task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from defectbench.scoring.landscape import RMSD_CAP
from defectbench.tasks.relax.rows import StateRow

if TYPE_CHECKING:
    from defectbench.entries.schema import Entry

COUNTED: Mapping[str, tuple[str, float, float]] = {
    "ground_state_found": ("ground_state_found", 0.0, 1.0),
    "rmsd": ("shared_rmsd", RMSD_CAP, RMSD_CAP),
    "local_rmsd": ("shared_local_rmsd", RMSD_CAP, RMSD_CAP),
    "host_referenced_found": ("host_referenced_found", 0.0, 1.0),
}
"""Metrics of the relax task that count: the column whose mean over charge states each is, what a miss
counts, and the most that a value does."""


@dataclass(frozen=True)
class ChargeStateResult:
    """Where a model's ground state of a charge state ends.

    Attributes:
        minimum: DFT minimum that the structure is in; None if in none, or if DFT has no minima here.
        energy_above: DFT energy of that minimum above DFT's ground state, in eV.
        after_host: the minimum once the model's drift of the host is subtracted.
        rmsd, local_rmsd, unrelaxed_rmsd: to DFT's ground state, in Å; the last of the unrelaxed start.
        reason: why there is no value.
        counted: metric → what the charge state counts in it, a miss with its cap; see :data:`COUNTED`.
    """

    defect: str
    charge: int
    configuration: str | None
    ground_state: str | None
    minimum: str | None
    energy_above: float | None
    after_host: str | None
    minima: int | None
    rmsd: float | None
    local_rmsd: float | None
    unrelaxed_rmsd: float | None
    reason: str | None
    counted: dict[str, float]


def state_results(entry: Entry) -> Iterator[ChargeStateResult]:
    """Charge state by charge state, from the table of the relax task; nothing without one."""
    relax = entry.tasks.get("relax")
    known = {m.name for m in relax.metrics if m.value is not None} if relax else set()
    for row in entry.table("relax", "states", StateRow):
        held: Mapping[str, Any] = dict(row)
        yield ChargeStateResult(
            defect=row["defect"],
            charge=row["charge"],
            configuration=row["configuration"],
            ground_state=row["dft_configuration"],
            minimum=row["minimum"],
            energy_above=row["energy_above_ground_state"],
            after_host=row["host_referenced_minimum"],
            minima=row["dft_minima"],
            rmsd=row["rmsd"],
            local_rmsd=row["local_rmsd"],
            unrelaxed_rmsd=row["unrelaxed_rmsd"],
            reason=row["reason"],
            counted={
                metric: miss if held[column] is None else min(float(held[column]), most)
                for metric, (column, miss, most) in COUNTED.items()
                if metric in known
            },
        )
