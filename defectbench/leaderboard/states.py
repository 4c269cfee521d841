"""What an entry says of each charge state, and what each counts in the score of the relax task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from defectbench.scoring.landscape import RMSD_CAP

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
    for found in relax.tables.get("states", []) if relax else []:
        cell: Mapping[str, object] = dict(found)

        def text(name: str, cell: Mapping[str, object] = cell) -> str | None:
            return None if cell.get(name) is None else str(cell[name])

        def value(name: str, cell: Mapping[str, object] = cell) -> float | None:
            held = cell.get(name)
            return float(held) if isinstance(held, int | float) and not isinstance(held, bool) else None

        charge, minima = value("charge"), value("dft_minima")
        if charge is None or text("defect") is None:
            continue
        yield ChargeStateResult(
            defect=str(cell["defect"]),
            charge=int(charge),
            configuration=text("configuration"),
            ground_state=text("dft_configuration"),
            minimum=text("minimum"),
            energy_above=value("energy_above_ground_state"),
            after_host=text("host_referenced_minimum"),
            minima=None if minima is None else int(minima),
            rmsd=value("rmsd"),
            local_rmsd=value("local_rmsd"),
            unrelaxed_rmsd=value("unrelaxed_rmsd"),
            reason=text("reason"),
            counted={
                metric: miss if (held := value(column)) is None else min(held, most)
                for metric, (column, miss, most) in COUNTED.items()
                if metric in known
            },
        )
