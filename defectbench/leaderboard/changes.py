"""What changed between two entries besides the metrics: charge states, basins, levels, speed. Shown, never judged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from defectbench.base.states import ChargeState
from defectbench.tasks.relax.rows import ConfigurationRow, StateRow
from defectbench.tasks.transition_levels.rows import LevelRow

if TYPE_CHECKING:
    from defectbench.scoring.task import TaskResult

RESOLVED_RMSD = 0.02
"""Å: ground states whose distances to DFT differ by less are the same; relaxations to 0.03 eV/Å stop that far apart."""
RESOLVED_LEVEL = 0.001
"""eV: levels that moved by less are not listed."""
TIME_METRIC = "seconds_per_call"

Direction = Literal["better", "worse", "same"]


@dataclass(frozen=True)
class GroundState:
    """Where a model's ground state of a charge state lies.

    Attributes:
        minimum: DFT minimum that it is in; None if in none.
        energy_above: DFT energy of that minimum above DFT's ground state, in eV.
        rmsd: to DFT's ground state, in Å; None without a ground state.
    """

    minimum: str | None
    energy_above: float | None
    rmsd: float | None


@dataclass(frozen=True)
class StateChange:
    """A charge state in two entries.

    Attributes:
        state: which.
        baseline: the baseline's ground state.
        candidate: the candidate's.
        direction: by the energy of the DFT minimum that is reached if both reach one, else by the RMSD.
        lost: DFT minima that configurations of the baseline end in, and none of the candidate.
        won: the reverse.
    """

    state: ChargeState
    baseline: GroundState
    candidate: GroundState
    direction: Direction
    lost: tuple[str, ...]
    won: tuple[str, ...]


@dataclass(frozen=True)
class LevelChange:
    """A transition level that moved, in eV.

    Attributes:
        defect: name.
        level: e.g. ``ε(0/−1)``.
        by: ``energies`` of the model, or ``basins``: DFT energies of the minima that it finds.
        reference: DFT's.
        baseline: None if it gives none.
        candidate: None if it gives none.
    """

    defect: str
    level: str
    by: Literal["energies", "basins"]
    reference: float | None
    baseline: float | None
    candidate: float | None


@dataclass(frozen=True)
class Changes:
    """All of it.

    Attributes:
        states: every charge state that both have.
        levels: those that moved, came or went.
        seconds: per force call, of baseline and candidate; None where not timed.
        same_hardware: whether the two times compare.
    """

    states: tuple[StateChange, ...]
    levels: tuple[LevelChange, ...]
    seconds: tuple[float | None, float | None]
    same_hardware: bool

    @property
    def speed_ratio(self) -> float | None:
        """Candidate's time per force call over the baseline's; None if either is not known."""
        old, new = self.seconds
        return new / old if old and new else None

    def of(self, direction: Direction) -> tuple[StateChange, ...]:
        """The charge states that became better, or worse."""
        return tuple(s for s in self.states if s.direction == direction)


def changes_of(baseline: Mapping[str, TaskResult], candidate: Mapping[str, TaskResult], same_hardware: bool) -> Changes:
    """What changed, from the tables of two results on the same configurations; a table that is missing gives nothing.

    Args:
        baseline: task → result.
        candidate: likewise.
        same_hardware: whether both were timed on the same.
    """
    return Changes(
        states=tuple(_states(baseline, candidate)),
        levels=tuple(_levels(baseline, candidate)),
        seconds=(_seconds(baseline), _seconds(candidate)),
        same_hardware=same_hardware,
    )


def _states(baseline: Mapping[str, TaskResult], candidate: Mapping[str, TaskResult]) -> Iterable[StateChange]:
    if "relax" not in baseline or "relax" not in candidate:
        return
    grounds = [{_state(row): _ground(row) for row in found["relax"].table("states", StateRow)} for found in (baseline, candidate)]
    basins = [_basins(found["relax"]) for found in (baseline, candidate)]
    for state, old in grounds[0].items():
        if (new := grounds[1].get(state)) is None:
            continue
        before, after = (found.get(state, set()) for found in basins)
        lost, won = tuple(sorted(before - after)), tuple(sorted(after - before))
        yield StateChange(state, old, new, _direction(old, new), lost, won)


def _state(row: StateRow | ConfigurationRow) -> ChargeState:
    return ChargeState(row["defect"], row["charge"])


def _ground(row: StateRow) -> GroundState:
    return GroundState(row["minimum"], row["energy_above_ground_state"], row["rmsd"])


def _basins(relax: TaskResult) -> dict[ChargeState, set[str]]:
    found: dict[ChargeState, set[str]] = {}
    for row in relax.table("configurations", ConfigurationRow):
        if (minimum := row["minimum"]) is not None and row["status"] == "converged":
            found.setdefault(_state(row), set()).add(minimum)
    return found


def _direction(old: GroundState, new: GroundState) -> Direction:
    if old.energy_above is not None and new.energy_above is not None and old.minimum != new.minimum:
        change = new.energy_above - old.energy_above
    elif old.rmsd is None or new.rmsd is None:
        change = float(new.rmsd is None) - float(old.rmsd is None)
    elif abs(new.rmsd - old.rmsd) < RESOLVED_RMSD:
        return "same"
    else:
        change = new.rmsd - old.rmsd
    return "worse" if change > 0 else "better" if change < 0 else "same"


def _levels(baseline: Mapping[str, TaskResult], candidate: Mapping[str, TaskResult]) -> Iterable[LevelChange]:
    tables = [
        found["transition_levels"].table("levels", LevelRow) if "transition_levels" in found else [] for found in (baseline, candidate)
    ]
    others = {(row["defect"], row["level"]): row for row in tables[1]}
    for old in tables[0]:
        if (new := others.get((old["defect"], old["level"]))) is None:
            continue
        columns: tuple[tuple[Literal["energies", "basins"], Literal["own_ev", "basin_ev"]], ...]
        columns = (("energies", "own_ev"), ("basins", "basin_ev"))
        for by, column in columns:
            first, second = old[column], new[column]
            if (first is None) != (second is None) or (first is not None and second is not None and abs(second - first) >= RESOLVED_LEVEL):
                yield LevelChange(old["defect"], old["level"], by, old["reference_ev"], first, second)


def _seconds(results: Mapping[str, TaskResult]) -> float | None:
    found = results["cost"].metrics if "cost" in results else ()
    return next((m.value for m in found if m.name == TIME_METRIC), None)
