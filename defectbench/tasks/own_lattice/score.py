"""Does the model find the ground states in its own lattice, where it does not in the reference cell?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from defectbench.calculations.plan import PlanInput
from defectbench.scoring.host import HOST_START
from defectbench.scoring.intervals import capped, rounded
from defectbench.scoring.landscape import RMSD_CAP, MatchedState, match_states
from defectbench.scoring.metrics import Metrics, NotAvailable
from defectbench.scoring.task import ConfigurationResult, HostRelaxation, MetricValue, ScoringInput, TaskResult, read_metrics
from defectbench.tasks.own_lattice.rows import LatticeRow, StateRow

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from defectbench.calculations.requests import Calculation
    from defectbench.calculations.results import OwnLatticeResult

METRICS, WEIGHT = read_metrics(Path(__file__).with_name("metrics.yaml"))

DESCRIPTION = (
    "Relaxes every selected start again, in the cell that the model gives the perfect host: cell and start are scaled to the model's "
    "lattice, and the relaxed structure is scaled back and compared as in relax. Beside each value stands that of the reference cell, "
    "which is the one that is scored. Runs only where it is named, and its weight is 0."
)


def calculations(plan: PlanInput) -> Sequence[Calculation]:
    """The perfect host and every selected start, in the model's own lattice."""
    host = plan.dataset.host
    return [
        plan.ask.own_lattice(host, 0, host),
        *(
            plan.ask.own_lattice(start, state.charge, host)
            for state in plan.states
            for name, start in plan.dataset.starts(state.defect, state.charge).items()
            if name in state.configurations
        ),
    ]


def in_own_lattice(scoring: ScoringInput, host: OwnLatticeResult) -> ScoringInput:
    """What is scored, with the relaxations of the own lattice in the place of those of the reference cell; positions are scaled back."""
    data = scoring.dataset
    configurations = []
    for state in scoring.states:
        for name, start in data.starts(state.defect, state.charge).items():
            found = scoring.answers.own_lattice(start, state.charge, data.host) if name in state.configurations else None
            if found is not None:
                configurations.append(ConfigurationResult(state.defect, state.charge, name, found.relaxation()))
    return replace(scoring, configurations=tuple(configurations), host=(HostRelaxation(HOST_START, host.relaxation()),))


def score(scoring: ScoringInput) -> TaskResult:
    """Scores the ground states of both lattices; see ``docs/metrics.md``."""
    data = scoring.dataset
    host = scoring.answers.own_lattice(data.host, 0, data.host) if scoring.states else None
    lacking = None
    if scoring.states and host is None:
        lacking = NotAvailable("not calculated", applies=False)
    elif host is not None and host.cell is None:
        lacking = NotAvailable(str(host.failure), applies=False)
    if host is None or host.cell is None:
        return TaskResult("own_lattice", _metrics((), None, lacking), (), notes=(lacking.reason,) if lacking else ())
    pairs = zip(match_states(in_own_lattice(scoring, host)), match_states(scoring), strict=True)
    rows = tuple(_state_row(own, fixed) for own, fixed in pairs)
    lattice = _lattice_row(np.asarray(data.host.cell.array, float), np.array(host.cell))
    return TaskResult("own_lattice", _metrics(rows, lattice, None), rows, notes=tuple(_notes(host)), tables={"lattice": (lattice,)})


def _state_row(own: MatchedState, fixed: MatchedState) -> StateRow:
    """One charge state, in the own lattice and (``fixed_…``) in the reference cell."""
    here, there = _found(own), _found(fixed)
    return {
        "defect": own.reference.defect,
        "charge": own.reference.charge,
        "configuration": here.configuration,
        "ground_state_found": here.ground_state_found,
        "rmsd": here.rmsd,
        "local_rmsd": here.local_rmsd,
        "fixed_configuration": there.configuration,
        "fixed_ground_state_found": there.ground_state_found,
        "fixed_rmsd": there.rmsd,
        "fixed_local_rmsd": there.local_rmsd,
        "reason": own.reason,
    }


class _Found(NamedTuple):
    """A model's ground state in one of the two cells."""

    configuration: str | None
    ground_state_found: float
    rmsd: float | None
    local_rmsd: float | None


def _found(state: MatchedState) -> _Found:
    ground = state.ground
    fits = [(share, c.fit) for c in state.converged if c.fit is not None and (share := state.shares.get(c.configuration))]
    rmsd = sum(share * fit.rmsd for share, fit in fits) if fits else None
    local = sum(share * (fit.rmsd if fit.local_rmsd is None else fit.local_rmsd) for share, fit in fits) if fits else None
    return _Found(ground.configuration if ground else None, rounded(state.found), rounded(rmsd), rounded(local))


def _lattice_row(reference: NDArray[np.float64], own: NDArray[np.float64]) -> LatticeRow:
    """Lengths (Å) and volumes (Å³) of both cells, and their relative changes (%)."""
    was, now = (np.linalg.norm(cell, axis=1).tolist() for cell in (reference, own))
    changes = [rounded(100 * (after / before - 1)) for before, after in zip(was, now, strict=True)]
    volumes = abs(float(np.linalg.det(own))), abs(float(np.linalg.det(reference)))
    return {
        "a": rounded(now[0]),
        "reference_a": rounded(was[0]),
        "a_change": changes[0],
        "b": rounded(now[1]),
        "reference_b": rounded(was[1]),
        "b_change": changes[1],
        "c": rounded(now[2]),
        "reference_c": rounded(was[2]),
        "c_change": changes[2],
        "volume": rounded(volumes[0], 3),
        "reference_volume": rounded(volumes[1], 3),
        "volume_change": rounded(100 * (volumes[0] / volumes[1] - 1)),
    }


def _metrics(rows: Sequence[StateRow], lattice: LatticeRow | None, lacking: NotAvailable | None) -> tuple[MetricValue, ...]:
    out = Metrics(METRICS)
    labels = [(r["defect"], r["charge"]) for r in rows]
    out.mean("ground_state_found", (r["ground_state_found"] for r in rows), labels=labels, lacking=lacking)
    out.mean("rmsd", (r["rmsd"] for r in rows), cap=RMSD_CAP, labels=labels, lacking=lacking)
    out.mean("local_rmsd", (r["local_rmsd"] for r in rows), cap=RMSD_CAP, labels=labels, lacking=lacking)
    gained = (r["ground_state_found"] - r["fixed_ground_state_found"] for r in rows)
    out.mean("found_gained", gained, labels=labels, lacking=lacking)
    nearer = (capped(r["fixed_rmsd"], RMSD_CAP) - capped(r["rmsd"], RMSD_CAP) for r in rows)
    out.mean("rmsd_gained", nearer, labels=labels, lacking=lacking)
    if lattice is None:
        for name in ("volume_change", "largest_strain"):
            out.lacking(name, lacking or NotAvailable("no charge state with a reference was selected", applies=False))
    else:
        out.value("volume_change", lattice["volume_change"])
        out.value("largest_strain", max(lattice["a_change"], lattice["b_change"], lattice["c_change"], key=abs))
    return out.done()


def _notes(host: OwnLatticeResult) -> Sequence[str]:
    note = "The reference cell is the one that is scored (relax): DFT's structures were relaxed in it. These values have weight 0."
    return [note] if host.status == "converged" else [note, f"The host in its own lattice is {host.status}."]
