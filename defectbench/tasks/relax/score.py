"""Does the model find the ground-state structure of each charge state?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from defectbench.base.states import ChargeState
from defectbench.calculations.plan import PlanInput
from defectbench.calculations.requests import Calculation
from defectbench.scoring.agreement import Place
from defectbench.scoring.host import HOST_START, model_host
from defectbench.scoring.intervals import capped, rounded
from defectbench.scoring.landscape import (
    DISPLACEMENT_CAP,
    RMSD_CAP,
    STRICT_LOCAL_RMSD,
    STRICT_MAX_DISPLACEMENT,
    SUCCESS_RMSD,
    MatchedState,
    ReferenceState,
    cluster,
    fits,
    match_states,
    nearest,
    operations_of,
    place_of,
    relaxed_atoms,
    to_ground,
)
from defectbench.scoring.metrics import Metrics, NotAvailable
from defectbench.scoring.task import MetricValue, ScoringInput, TaskResult, read_metrics
from defectbench.structures.host_reference import match_host_referenced
from defectbench.structures.lattice import MatchingError, displacements, root_mean_square
from defectbench.structures.matching import Match, match
from defectbench.structures.symmetry import Operations
from defectbench.tasks.relax.rows import ConfigurationRow, HostRow, StateRow

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray


METRICS, WEIGHT = read_metrics(Path(__file__).with_name("metrics.yaml"))

HOST_DRIFTS = (("host_drift", "Unperturbed"), ("host_drift_rattled", "Rattled"))
"""Metric and host start whose drift it is."""

Baseline = Literal["unrelaxed", "other_charge"]

BASELINES: tuple[Baseline, ...] = ("unrelaxed", "other_charge")
"""Labels of the baselines, and prefixes of their columns."""

BASELINE_METRICS = (
    "ground_state_found", "rmsd", "local_rmsd", "max_displacement", "success", "strict_success", "relative_rmsd",
    "host_referenced_found", "host_referenced_rmsd", "host_referenced_local_rmsd", "host_referenced_success",
)  # fmt: skip
"""What a baseline has: the other metrics are about relaxations, and a baseline relaxes nothing."""

ABOVE_CAP = 1.0
"""eV: energies above the ground state count up to this in the average, and a structure in no known minimum counts as this."""

FEW_STATES = 10
"""Intervals over fewer charge states than this say little."""

DESCRIPTION = (
    "Relaxes every selected ShakeNBreak configuration of each charge state with the model. The lowest converged one is the model's ground "
    "state. It is compared with the DFT ground state: in which DFT minimum it lies and how far above the ground state that is, global "
    "and local RMSD, largest displacement, and the share of the model's host in the error. The usual success at 0.1 Å stands beside it."
)


def calculations(_plan: PlanInput) -> Sequence[Calculation]:
    """Nothing besides the relaxations of the starts and the host."""
    return ()


def strict(found: Match) -> bool:
    """The stricter criterion: local RMSD ≤ 0.1 Å and no atom farther off than 0.2 Å (the global RMSD where nothing is local)."""
    local = found.rmsd if found.local_rmsd is None else found.local_rmsd
    return local <= STRICT_LOCAL_RMSD and found.max_displacement <= STRICT_MAX_DISPLACEMENT


def host_rows(scoring: ScoringInput, operations: Operations) -> tuple[HostRow, ...]:
    """The drift of the model's host, one row per start (Å): by symmetry-aware matching, and atom by atom in the order given."""
    host = scoring.dataset.host
    rows = []
    for item in scoring.host:
        relaxation = item.relaxation
        row: HostRow = {
            "start": item.start,
            "status": relaxation.status,
            "drift": None,
            "max_displacement": None,
            "drift_by_index": None,
            "max_displacement_by_index": None,
            "energy": rounded(relaxation.energy),
            "steps": relaxation.steps,
            "wall_s": rounded(relaxation.wall_s, 2),
            "reason": None,
        }
        if relaxation.status != "converged":
            row["reason"] = relaxation.failure or f"not converged after {relaxation.steps} steps"
        if relaxation.status != "failed":
            try:
                atoms = relaxed_atoms(host, relaxation)
                found = match(atoms, host, operations)
                row["drift"], row["max_displacement"] = rounded(found.rmsd), rounded(found.max_displacement)
                moved = displacements(atoms, host)
                row["drift_by_index"] = rounded(root_mean_square(moved))
                row["max_displacement_by_index"] = rounded(float(np.linalg.norm(moved, axis=1).max()))
            except (MatchingError, ValueError) as error:
                row["status"], row["reason"] = "failed", f"cannot be compared: {error}"
        rows.append(row)
    return tuple(rows)


@dataclass(frozen=True)
class Guess:
    """A structure that one has without the model, against the DFT ground state.

    Attributes:
        fit: match to the nearest ground state.
        place: where it lies among the DFT minima.
        minimum: index of the DFT minimum within 0.1 Å; None if none is.
        charge: the charge state that it was taken from; None if from none.
    """

    fit: Match
    place: Place
    minimum: int | None
    charge: int | None = None


def guess(atoms: Atoms, reference: ReferenceState, operations: Operations, charge: int | None = None) -> Guess:
    """A structure against the reference."""
    found = fits(atoms, reference, operations)
    return Guess(to_ground(found, reference), place_of(found, reference), nearest(found)[0], charge)


def unrelaxed_baseline(scoring: ScoringInput, reference: ReferenceState, operations: Operations) -> Guess | None:
    """The ``Unperturbed`` start; None if the dataset has no such start."""
    start = scoring.dataset.starts(reference.defect, reference.charge).get("Unperturbed")
    return None if start is None else guess(start, reference, operations)


def other_charge_baseline(scoring: ScoringInput, reference: ReferenceState, operations: Operations) -> Guess | None:
    """The DFT ground state of another charge of the same defect that comes nearest; None if there is no other."""
    best: Guess | None = None
    for charge in scoring.dataset.charges(reference.defect):
        other = None if charge == reference.charge else scoring.dataset.ground_state(reference.defect, charge)
        if other is not None:
            found = guess(other.atoms, reference, operations, charge)
            if best is None or found.fit.rmsd < best.fit.rmsd:
                best = found
    return best


def is_success(found: Match | None, minimum: int | None, reference: ReferenceState) -> bool:
    """The usual criterion: an RMSD to the ground state of at most 0.1 Å, and no other DFT minimum is nearer."""
    return found is not None and found.rmsd <= SUCCESS_RMSD and minimum is not None and minimum < reference.grounds


def verdict(success: bool | None, referenced: bool | None, drift: float | None, minimum: int | None, reference: ReferenceState) -> str:
    """Which failure a model has in one charge state.

    ``none``; ``wrong minimum`` (it lies in a DFT minimum above the ground state); ``host`` (right once the host's drift is subtracted);
    ``defect`` (wrong either way, though the host holds); ``host and defect``; ``cancelling`` (passes only because host and defect errors
    cancel); ``no ground state``.

    Args:
        success: :func:`is_success` of the ground state; None without one.
        referenced: the same after the drift is subtracted; None if that is not known.
        drift: of the host, Å.
        minimum: the DFT minimum that it lies in, as it is or else after the drift is subtracted.
        reference: the DFT minima.
    """
    if success is None:
        return "no ground state"
    if minimum is not None and minimum >= reference.grounds:
        return "wrong minimum"
    if success:
        return "cancelling" if referenced is False else "none"
    if referenced is None:
        return "host and defect"
    if referenced:
        return "host"
    return "defect" if drift is not None and drift <= SUCCESS_RMSD else "host and defect"


def spurious(state: MatchedState, operations: Operations) -> int:
    """How many distinct minima of the model are none of the reference minima."""
    unknown = [(c.energy, c.atoms) for c in state.converged if c.minimum is None and c.atoms is not None and c.energy is not None]
    return len(set(cluster(unknown, operations)))


def score(scoring: ScoringInput) -> TaskResult:
    """Scores the ground states; see ``docs/metrics.md`` for every definition."""
    operations = operations_of(scoring.dataset)
    states = match_states(scoring)
    hosts = host_rows(scoring, operations)
    own_host, no_host = model_host(scoring)
    drift = next((row["drift"] for row in hosts if row["start"] == HOST_START), None)
    rows = tuple(_state_row(scoring, state, operations, own_host, drift) for state in states)
    configurations = tuple(row for state in states for row in _configuration_rows(state))
    return TaskResult(
        task="relax",
        metrics=_metrics(rows, configurations, hosts, no_host),
        rows=rows,
        baselines={label: _baseline(rows, label) for label in BASELINES},
        notes=tuple(_notes(scoring, rows, configurations, hosts, no_host)),
        tables={"configurations": configurations, "host": hosts},
    )


def _state_row(scoring: ScoringInput, state: MatchedState, operations: Operations, own_host: Atoms | None, drift: float | None) -> StateRow:
    """One charge state: the model's ground state against DFT's, as it is and host-referenced, and the baselines.

    Args:
        scoring: what may be looked at.
        state: reference and model.
        operations: of the host.
        own_host: the model's relaxed host; None if it did not relax.
        drift: of that host, Å.
    """
    reference, ground = state.reference, state.ground
    fit = ground.fit if ground else None
    minimum = ground.minimum if ground is not None else None
    # without a relaxed host the drift is not known, so there is nothing to subtract: those columns stay empty
    corrected = {} if own_host is None else _host_referenced(scoring, state, operations, own_host)
    referenced = corrected.get(ground.configuration) if ground is not None else None
    success = is_success(fit, minimum, reference)
    referenced_success = None if own_host is None else referenced is not None and is_success(referenced.fit, referenced.minimum, reference)
    # a right or wrong minimum in a drifted host lies in no basin as it is
    lies_in = minimum if minimum is not None or referenced is None else referenced.minimum
    unrelaxed = unrelaxed_baseline(scoring, reference, operations)
    other = other_charge_baseline(scoring, reference, operations)
    outcomes = [c.outcome for c in state.configurations]
    own, subtracted = _distances(fit), _distances(referenced.fit if referenced else None)
    shared = _shared(state, {c.configuration: c.fit for c in state.converged})
    shared_subtracted = _shared(state, {name: one.fit for name, one in corrected.items()})
    start, neighbour = _guessed(unrelaxed, reference), _guessed(other, reference)
    return {
        "defect": reference.defect,
        "charge": reference.charge,
        "configuration": ground.configuration if ground else None,
        "dft_configuration": reference.ground.configuration,
        "minimum": None if lies_in is None else reference.distinct[lies_in].configuration,
        "energy_above_ground_state": None if lies_in is None else rounded(reference.above_ground(lies_in)),
        "ground_state_found": rounded(state.found),
        "verdict": verdict(success if ground else None, referenced_success, drift, lies_in, reference),
        "rmsd": own.rmsd,
        "local_rmsd": own.local_rmsd,
        "max_displacement": own.max_displacement,
        # without a ground state the model failed: False, and not an empty cell that a reader may skip
        "success": success,
        "strict_success": success and fit is not None and strict(fit),
        "minimum_rmsd": rounded(ground.minimum_rmsd) if ground else None,
        "shared_rmsd": shared.rmsd,
        "shared_local_rmsd": shared.local_rmsd,
        "shared_max_displacement": shared.max_displacement,
        "host_referenced_rmsd": subtracted.rmsd,
        "host_referenced_local_rmsd": subtracted.local_rmsd,
        "host_referenced_max_displacement": subtracted.max_displacement,
        "host_referenced_success": referenced_success,
        "host_referenced_minimum": (
            None if referenced is None or referenced.minimum is None else reference.distinct[referenced.minimum].configuration
        ),
        "host_referenced_found": (
            None if own_host is None else rounded(sum(share * corrected[name].place.ground for name, share in state.shares.items()))
        ),
        "shared_host_referenced_rmsd": shared_subtracted.rmsd,
        "shared_host_referenced_local_rmsd": shared_subtracted.local_rmsd,
        "shared_host_referenced_max_displacement": shared_subtracted.max_displacement,
        "unrelaxed_rmsd": start.rmsd,
        "unrelaxed_local_rmsd": start.local_rmsd,
        "unrelaxed_max_displacement": start.max_displacement,
        "unrelaxed_found": start.found,
        "unrelaxed_success": start.success,
        "unrelaxed_strict_success": start.strict_success,
        "other_charge": other.charge if other else None,
        "other_charge_rmsd": neighbour.rmsd,
        "other_charge_local_rmsd": neighbour.local_rmsd,
        "other_charge_max_displacement": neighbour.max_displacement,
        "other_charge_found": neighbour.found,
        "other_charge_success": neighbour.success,
        "other_charge_strict_success": neighbour.strict_success,
        "dft_minima": len(reference.distinct),
        "dft_ground_states": reference.grounds,
        "dft_configurations": len(reference.minima),
        "spurious_minima": spurious(state, operations),
        "configurations": len(state.configurations),
        "converged": len(state.converged),
        "unconverged": outcomes.count("unconverged"),
        "failed": outcomes.count("failed") + outcomes.count("missing"),
        "steps": ground.steps if ground else None,
        "wall_s": rounded(sum(c.wall_s or 0.0 for c in state.configurations), 2),
        "reason": state.reason,
    }


def _host_referenced(scoring: ScoringInput, state: MatchedState, operations: Operations, own_host: Atoms) -> dict[str, Guess]:
    """The configurations that are the model's ground state, after the drift of its own host is subtracted, against the reference."""
    by_name = {c.configuration: c for c in state.converged}
    out = {}
    for name in state.shares:
        atoms = by_name[name].atoms
        if atoms is not None:
            _, corrected = match_host_referenced(atoms, state.reference.ground.atoms, own_host, scoring.dataset.host, operations)
            out[name] = guess(corrected, state.reference, operations)
    return out


class _Distances(NamedTuple):
    """Distances to the DFT ground state, Å."""

    rmsd: float | None
    local_rmsd: float | None
    max_displacement: float | None


class _Guessed(NamedTuple):
    """A baseline's columns; None where it does not exist, which is not the model's failure."""

    rmsd: float | None
    local_rmsd: float | None
    max_displacement: float | None
    found: float | None
    success: bool | None
    strict_success: bool | None


def _shared(state: MatchedState, matches: Mapping[str, Match | None]) -> _Distances:
    """Distances of the model's ground state, shared among the configurations that it cannot distinguish in energy."""
    known = [(share, found) for name, share in state.shares.items() if (found := matches.get(name)) is not None]

    def mean(value: Callable[[Match], float]) -> float | None:
        return rounded(sum(share * value(found) for share, found in known)) if known else None

    return _Distances(
        mean(lambda m: m.rmsd), mean(lambda m: m.rmsd if m.local_rmsd is None else m.local_rmsd), mean(lambda m: m.max_displacement)
    )


def _configuration_rows(state: MatchedState) -> Iterable[ConfigurationRow]:
    """One row per selected configuration, against the DFT ground state."""
    reference, ground = state.reference, state.ground
    lowest = min((c.energy for c in state.converged if c.energy is not None), default=None)
    for c in state.configurations:
        # the last energy of a relaxation that did not converge is not a point of the curve
        above = c.energy - lowest if c.converged and c.energy is not None and lowest is not None else None
        off = _distances(c.fit)
        yield {
            "defect": reference.defect,
            "charge": reference.charge,
            "configuration": c.configuration,
            "status": c.outcome,
            "energy": rounded(c.energy),
            "relative_energy": rounded(above),
            "rmsd": off.rmsd,
            "local_rmsd": off.local_rmsd,
            "max_displacement": off.max_displacement,
            "minimum": None if c.minimum is None else reference.distinct[c.minimum].configuration,
            "minimum_rmsd": rounded(c.minimum_rmsd),
            "ground_state": c is ground,
            "steps": c.steps,
            "wall_s": rounded(c.wall_s, 2),
            "reason": c.reason,
        }


def _distances(found: Match | None) -> _Distances:
    if found is None:
        return _Distances(None, None, None)
    return _Distances(rounded(found.rmsd), rounded(found.local_rmsd), rounded(found.max_displacement))


def _guessed(found: Guess | None, reference: ReferenceState) -> _Guessed:
    if found is None:
        return _Guessed(None, None, None, None, None, None)
    success = is_success(found.fit, found.minimum, reference)
    return _Guessed(*_distances(found.fit), rounded(found.place.ground), success, success and strict(found.fit))


def _guessed_in(row: StateRow, label: Baseline) -> _Guessed:
    if label == "unrelaxed":
        return _Guessed(
            row["unrelaxed_rmsd"],
            row["unrelaxed_local_rmsd"],
            row["unrelaxed_max_displacement"],
            row["unrelaxed_found"],
            row["unrelaxed_success"],
            row["unrelaxed_strict_success"],
        )
    return _Guessed(
        row["other_charge_rmsd"],
        row["other_charge_local_rmsd"],
        row["other_charge_max_displacement"],
        row["other_charge_found"],
        row["other_charge_success"],
        row["other_charge_strict_success"],
    )


def _metrics(
    rows: Sequence[StateRow], configurations: Sequence[ConfigurationRow], hosts: Sequence[HostRow], no_host: str | None
) -> tuple[MetricValue, ...]:
    out = Metrics(METRICS)
    labels = [(r["defect"], r["charge"]) for r in rows]

    def mean(name: str, values: Iterable[float | None], cap: float | None = None, lacking: NotAvailable | None = None) -> None:
        out.mean(name, values, cap=cap, labels=labels, lacking=lacking)

    mean("ground_state_found", (r["ground_state_found"] for r in rows))
    mean("rmsd", (r["shared_rmsd"] for r in rows), RMSD_CAP)
    mean("local_rmsd", (r["shared_local_rmsd"] for r in rows), RMSD_CAP)
    mean("max_displacement", (r["shared_max_displacement"] for r in rows), DISPLACEMENT_CAP)
    mean("success", (r["success"] for r in rows))
    mean("strict_success", (r["strict_success"] for r in rows))
    mean("energy_above_ground_state", (_above(r) for r in rows))
    no_start = NotAvailable("the dataset has no Unperturbed start to compare with", applies=False)
    paired = [r for r in rows if r["unrelaxed_rmsd"]]
    pairs = _pairs((r["shared_rmsd"], r["unrelaxed_rmsd"]) for r in paired)
    out.statistic("relative_rmsd", pairs, _ratio, labels=[(r["defect"], r["charge"]) for r in paired], empty=no_start)
    # a host that does not relax is the model's failure, whatever the defects look like
    unreferenced = NotAvailable(no_host, applies=True) if no_host and rows else None
    mean("host_referenced_found", (r["host_referenced_found"] or 0.0 for r in rows), lacking=unreferenced)
    mean("host_referenced_rmsd", (r["shared_host_referenced_rmsd"] for r in rows), RMSD_CAP, unreferenced)
    mean("host_referenced_local_rmsd", (r["shared_host_referenced_local_rmsd"] for r in rows), RMSD_CAP, unreferenced)
    mean("host_referenced_success", (bool(r["host_referenced_success"]) for r in rows), lacking=unreferenced)
    mean("reference_minimum_found", (r["minimum"] is not None for r in rows))
    mean("spurious_minima", (r["spurious_minima"] for r in rows))
    out.mean("converged", (c["status"] == "converged" for c in configurations), labels=[(c["defect"], c["charge"]) for c in configurations])
    for name, start in HOST_DRIFTS:
        _add_host_drift(out, name, start, hosts)
    steps = [c["steps"] for c in configurations if c["status"] == "converged" and c["steps"] is not None]
    out.median("steps", steps, empty=NotAvailable("no relaxation converged", applies=False))
    seconds = [c["wall_s"] for c in configurations if c["wall_s"] is not None]
    out.median("wall_s", seconds, empty=NotAvailable("nothing was relaxed", applies=False))
    return out.done()


def _add_host_drift(out: Metrics, name: str, start: str, hosts: Sequence[HostRow]) -> None:
    """Mean drift over the runs from one start; one run has no interval, since it gives the same drift whenever it is repeated."""
    runs = [h for h in hosts if h["start"] == start]
    failed = next((h for h in runs if h["status"] != "converged"), None)
    out.mean(
        name,
        (h["drift"] for h in runs),
        empty=NotAvailable(f"the host was not relaxed from its {start} start", applies=False),
        lacking=NotAvailable(f"the host did not relax from its {start} start: {failed['reason']}", applies=True) if failed else None,
    )


def _above(row: StateRow) -> float:
    """eV above the ground state; a ground state in no DFT minimum, or none, counts as :data:`ABOVE_CAP`."""
    return capped(row["energy_above_ground_state"], ABOVE_CAP)


def _pairs(found: Iterable[tuple[float | None, float | None]]) -> NDArray[np.float64]:
    """(capped RMSD, RMSD of the unrelaxed start) of the states that have such a start and where it is not DFT's structure already."""
    return np.array([(capped(rmsd, RMSD_CAP), start) for rmsd, start in found if start], dtype=float).reshape(-1, 2)


def _ratio(pairs: NDArray[np.float64]) -> float:
    return float(pairs[:, 0].sum() / pairs[:, 1].sum())


def _baseline(rows: Sequence[StateRow], label: Baseline) -> dict[str, float | None]:
    """A baseline's values of the metrics that it has, over the states for which it exists."""
    every = [(_guessed_in(r, label), r["unrelaxed_rmsd"]) for r in rows]
    have = [g for g, _ in every if g.rmsd is not None]
    if not have:
        return dict.fromkeys(BASELINE_METRICS)
    pairs = _pairs((g.rmsd, start) for g, start in every if g.rmsd is not None)
    rmsd = float(np.mean([capped(g.rmsd, RMSD_CAP) for g in have]))
    # the global one where no atom is near the defect
    local = float(np.mean([capped(g.rmsd if g.local_rmsd is None else g.local_rmsd, RMSD_CAP) for g in have]))
    success = float(np.mean([bool(g.success) for g in have]))
    found = float(np.mean([g.found for g in have if g.found is not None]))
    return {
        "ground_state_found": found,
        "rmsd": rmsd,
        "local_rmsd": local,
        "max_displacement": float(np.mean([capped(g.max_displacement, DISPLACEMENT_CAP) for g in have])),
        "success": success,
        "strict_success": float(np.mean([bool(g.strict_success) for g in have])),
        "relative_rmsd": _ratio(pairs) if len(pairs) else None,
        # its host is DFT's: there is no drift to subtract
        "host_referenced_found": found,
        "host_referenced_rmsd": rmsd,
        "host_referenced_local_rmsd": local,
        "host_referenced_success": success,
    }


def _notes(
    scoring: ScoringInput,
    rows: Sequence[StateRow],
    configurations: Sequence[ConfigurationRow],
    hosts: Sequence[HostRow],
    no_host: str | None,
) -> list[str]:
    def named(chosen: Iterable[StateRow]) -> str:
        return ", ".join(str(ChargeState(r["defect"], r["charge"])) for r in chosen)

    notes = []
    if 0 < len(rows) < FEW_STATES:
        notes.append(f"Averages are over {len(rows)} charge state{'s' if len(rows) > 1 else ''}. Below {FEW_STATES}, intervals say little.")
    if missed := [r for r in rows if r["reason"]]:
        notes.append(f"No ground state, counted as a miss (RMSD {RMSD_CAP:g} Å): {named(missed)}.")
    if bad := sum(c["status"] != "converged" for c in configurations):
        notes.append(f"{bad} of {len(configurations)} relaxations failed or did not converge. They cannot be a ground state.")
    if scoring.charge_class == "charge-blind" and len({r["charge"] for r in rows}) > 1:
        notes.append("The model is charge-blind: all charge states share one energy surface and differ only in their starts.")
    if few := [r for r in rows if r["dft_configurations"] < r["configurations"]]:
        notes.append(
            f"DFT has relaxed fewer configurations than the model for {named(few)}. A lower DFT minimum may be unknown, and minima counted "
            "as spurious may be real."
        )
    if alone := [r for r in rows if r["other_charge"] is None]:
        notes.append(f"The baseline 'other charge' is missing for {named(alone)}: no other charge state has a DFT ground state.")
    if no_host:
        notes.append(f"Host-referenced values are missing: {no_host}.")
    if once := [name for name, start in HOST_DRIFTS if sum(h["start"] == start for h in hosts) == 1]:
        notes.append(f"No interval for {' and '.join(once)}: each is one relaxation from a fixed start.")
    if rows:
        failures = [r["verdict"] for r in rows]
        counted = {
            name: failures.count(name)
            for name in ("none", "wrong minimum", "host", "defect", "host and defect", "cancelling", "no ground state")
        }
        notes.append("Causes of failure: " + ", ".join(f"{name} {count}" for name, count in counted.items() if count) + ".")
    return notes
