"""Does the model find the ground-state structure of each charge state?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from defectbench.base.states import ChargeState
from defectbench.calculations.plan import PlanInput
from defectbench.calculations.requests import Calculation
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
    match_states,
    nearest_minimum,
    operations_of,
    relaxed_atoms,
)
from defectbench.scoring.metrics import Metrics, NotAvailable
from defectbench.scoring.task import MetricValue, ScoringInput, TaskResult, read_metrics
from defectbench.structures.host_reference import match_host_referenced
from defectbench.structures.lattice import MatchingError, displacements, root_mean_square
from defectbench.structures.matching import Match, match
from defectbench.structures.symmetry import Operations

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray


METRICS, WEIGHT = read_metrics(Path(__file__).with_name("metrics.yaml"))

HOST_DRIFTS = (("host_drift", "Unperturbed"), ("host_drift_rattled", "Rattled"))
"""Metric and host start whose drift it is."""

BASELINES = ("unrelaxed", "other_charge")
"""Labels of the baselines, and prefixes of their columns."""

BASELINE_METRICS = (
    "rmsd", "local_rmsd", "max_displacement", "success", "strict_success", "relative_rmsd",
    "host_referenced_rmsd", "host_referenced_local_rmsd", "host_referenced_success",
)  # fmt: skip
"""What a baseline has: the other metrics are about relaxations, and a baseline relaxes nothing."""

FEW_STATES = 10
"""Intervals over fewer charge states than this say little."""

DESCRIPTION = (
    "Relaxes every selected ShakeNBreak configuration of each charge state with the model. The lowest converged one is the model's ground "
    "state. It is compared with the DFT ground state: global and local RMSD, largest displacement, success at 0.1 Å and at a stricter "
    "local criterion, the DFT minimum that it matches, and the share of the model's host in the error."
)


def calculations(_plan: PlanInput) -> Sequence[Calculation]:
    """Nothing besides the relaxations of the starts and the host."""
    return ()


def strict(found: Match) -> bool:
    """The stricter criterion: local RMSD ≤ 0.1 Å and no atom farther off than 0.2 Å (the global RMSD where nothing is local)."""
    local = found.rmsd if found.local_rmsd is None else found.local_rmsd
    return local <= STRICT_LOCAL_RMSD and found.max_displacement <= STRICT_MAX_DISPLACEMENT


def host_rows(scoring: ScoringInput, operations: Operations) -> tuple[dict[str, Any], ...]:
    """The drift of the model's host, one row per start (Å): by symmetry-aware matching, and atom by atom in the order given."""
    host = scoring.dataset.host
    rows = []
    for item in scoring.host:
        relaxation = item.relaxation
        row: dict[str, Any] = {
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


def unrelaxed_baseline(scoring: ScoringInput, reference: ReferenceState, operations: Operations) -> Match | None:
    """The ``Unperturbed`` start against the DFT ground state; None if the dataset has no such start."""
    start = scoring.dataset.starts(reference.defect, reference.charge).get("Unperturbed")
    return None if start is None else match(start, reference.ground.atoms, operations, reference.centre)


def other_charge_baseline(scoring: ScoringInput, reference: ReferenceState, operations: Operations) -> tuple[int, Match] | None:
    """The DFT ground state of another charge of the same defect that comes nearest: (charge, match); None if there is no other."""
    best: tuple[int, Match] | None = None
    for charge in scoring.dataset.charges(reference.defect):
        other = None if charge == reference.charge else scoring.dataset.ground_state(reference.defect, charge)
        if other is not None:
            found = match(other.atoms, reference.ground.atoms, operations, reference.centre)
            if best is None or found.rmsd < best[1].rmsd:
                best = (charge, found)
    return best


def verdict(found: Match | None, referenced: Match | None, drift: float | None) -> str:
    """Which failure a model has in one charge state.

    ``none``; ``host`` (right once the host's drift is subtracted); ``defect`` (wrong either way, though the host holds);
    ``host and defect``; ``cancelling`` (passes only because host and defect errors cancel); ``no ground state``.
    """
    if found is None:
        return "no ground state"
    good = found.rmsd <= SUCCESS_RMSD
    if referenced is None:
        return "none" if good else "host and defect"
    if good:
        return "none" if referenced.rmsd <= SUCCESS_RMSD else "cancelling"
    if referenced.rmsd <= SUCCESS_RMSD:
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


def _state_row(
    scoring: ScoringInput, state: MatchedState, operations: Operations, own_host: Atoms | None, drift: float | None
) -> dict[str, Any]:
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
    nearest = reference.distinct[ground.minimum] if ground is not None and ground.minimum is not None else None
    referenced: Match | None = None
    referenced_minimum: int | None = None
    # without a relaxed host the drift is not known, so there is nothing to subtract: those columns stay empty
    if ground is not None and ground.atoms is not None and own_host is not None:
        referenced, corrected = match_host_referenced(
            ground.atoms, reference.ground.atoms, own_host, scoring.dataset.host, operations, reference.centre
        )
        # the minimum of the corrected structure: a right defect in a drifted host lies in no basin as it is
        referenced_minimum = nearest_minimum(corrected, reference, operations)[0]
    unrelaxed = unrelaxed_baseline(scoring, reference, operations)
    other = other_charge_baseline(scoring, reference, operations)
    outcomes = [c.outcome for c in state.configurations]
    return {
        "defect": reference.defect,
        "charge": reference.charge,
        "configuration": ground.configuration if ground else None,
        "dft_configuration": reference.ground.configuration,
        **_distances("", fit),
        # without a ground state the model failed: False, and not an empty cell that a reader may skip
        "success": fit is not None and fit.rmsd <= SUCCESS_RMSD,
        "strict_success": fit is not None and strict(fit),
        **_distances("host_referenced_", referenced),
        "host_referenced_success": None if own_host is None else referenced is not None and referenced.rmsd <= SUCCESS_RMSD,
        "verdict": verdict(fit, referenced, drift),
        "minimum": nearest.configuration if nearest else None,
        "minimum_rmsd": rounded(ground.minimum_rmsd) if ground else None,
        "minimum_energy": rounded(nearest.energy - reference.ground.energy) if nearest else None,
        "host_referenced_minimum": None if referenced_minimum is None else reference.distinct[referenced_minimum].configuration,
        **_distances("unrelaxed_", unrelaxed),
        **_successes("unrelaxed_", unrelaxed),
        "other_charge": other[0] if other else None,
        **_distances("other_charge_", other[1] if other else None),
        **_successes("other_charge_", other[1] if other else None),
        "dft_minima": len(reference.distinct),
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


def _configuration_rows(state: MatchedState) -> Iterable[dict[str, Any]]:
    """One row per selected configuration, against the DFT ground state."""
    reference, ground = state.reference, state.ground
    lowest = min((c.energy for c in state.converged if c.energy is not None), default=None)
    for c in state.configurations:
        # the last energy of a relaxation that did not converge is not a point of the curve
        above = c.energy - lowest if c.converged and c.energy is not None and lowest is not None else None
        yield {
            "defect": reference.defect,
            "charge": reference.charge,
            "configuration": c.configuration,
            "status": c.outcome,
            "energy": rounded(c.energy),
            "relative_energy": rounded(above),
            **_distances("", c.fit),
            "minimum": None if c.minimum is None else reference.distinct[c.minimum].configuration,
            "minimum_rmsd": rounded(c.minimum_rmsd),
            "ground_state": c is ground,
            "steps": c.steps,
            "wall_s": rounded(c.wall_s, 2),
            "reason": c.reason,
        }


def _distances(prefix: str, found: Match | None) -> dict[str, Any]:
    return {
        f"{prefix}rmsd": rounded(found.rmsd) if found else None,
        f"{prefix}local_rmsd": rounded(found.local_rmsd) if found else None,
        f"{prefix}max_displacement": rounded(found.max_displacement) if found else None,
    }


def _successes(prefix: str, found: Match | None) -> dict[str, Any]:
    """Of a baseline: empty where it does not exist, which is not the model's failure."""
    return {
        f"{prefix}success": None if found is None else found.rmsd <= SUCCESS_RMSD,
        f"{prefix}strict_success": None if found is None else strict(found),
    }


def _metrics(
    rows: Sequence[Mapping[str, Any]], configurations: Sequence[Mapping[str, Any]], hosts: Sequence[Mapping[str, Any]], no_host: str | None
) -> tuple[MetricValue, ...]:
    out = Metrics(METRICS)
    out.mean("rmsd", (r["rmsd"] for r in rows), cap=RMSD_CAP)
    out.mean("local_rmsd", (_local(r, "") for r in rows), cap=RMSD_CAP)
    out.mean("max_displacement", (r["max_displacement"] for r in rows), cap=DISPLACEMENT_CAP)
    out.mean("success", (r["success"] for r in rows))
    out.mean("strict_success", (r["strict_success"] for r in rows))
    no_start = NotAvailable("the dataset has no Unperturbed start to compare with", applies=False)
    out.statistic("relative_rmsd", _pairs(rows, "rmsd"), _ratio, empty=no_start)
    # a host that does not relax is the model's failure, whatever the defects look like
    unreferenced = NotAvailable(no_host, applies=True) if no_host and rows else None
    out.mean("host_referenced_rmsd", (r["host_referenced_rmsd"] for r in rows), cap=RMSD_CAP, lacking=unreferenced)
    out.mean("host_referenced_local_rmsd", (_local(r, "host_referenced_") for r in rows), cap=RMSD_CAP, lacking=unreferenced)
    out.mean("host_referenced_success", (bool(r["host_referenced_success"]) for r in rows), lacking=unreferenced)
    out.mean("reference_minimum_found", (r["minimum"] is not None for r in rows))
    out.mean("spurious_minima", (r["spurious_minima"] for r in rows))
    out.mean("converged", (c["status"] == "converged" for c in configurations))
    for name, start in HOST_DRIFTS:
        _add_host_drift(out, name, start, hosts)
    steps = [c["steps"] for c in configurations if c["status"] == "converged" and c["steps"] is not None]
    out.median("steps", steps, empty=NotAvailable("no relaxation converged", applies=False))
    seconds = [c["wall_s"] for c in configurations if c["wall_s"] is not None]
    out.median("wall_s", seconds, empty=NotAvailable("nothing was relaxed", applies=False))
    return out.done()


def _add_host_drift(out: Metrics, name: str, start: str, hosts: Sequence[Mapping[str, Any]]) -> None:
    """Mean drift over the runs from one start; one run has no interval, since it gives the same drift whenever it is repeated."""
    runs = [h for h in hosts if h["start"] == start]
    failed = next((h for h in runs if h["status"] != "converged"), None)
    out.mean(
        name,
        (h["drift"] for h in runs),
        empty=NotAvailable(f"the host was not relaxed from its {start} start", applies=False),
        lacking=NotAvailable(f"the host did not relax from its {start} start: {failed['reason']}", applies=True) if failed else None,
    )


def _local(row: Mapping[str, Any], prefix: str) -> float | None:
    """The local RMSD, or the global one where no atom is near the defect."""
    value = row[f"{prefix}local_rmsd"]
    found: float | None = row[f"{prefix}rmsd"] if value is None else value
    return found


def _pairs(rows: Iterable[Mapping[str, Any]], column: str) -> NDArray[np.float64]:
    """(capped RMSD, RMSD of the unrelaxed start) of the states that have such a start and where it is not DFT's structure already."""
    pairs = [(capped(r[column], RMSD_CAP), r["unrelaxed_rmsd"]) for r in rows if r["unrelaxed_rmsd"]]
    return np.array(pairs, dtype=float).reshape(-1, 2)


def _ratio(pairs: NDArray[np.float64]) -> float:
    return float(pairs[:, 0].sum() / pairs[:, 1].sum())


def _baseline(rows: Sequence[Mapping[str, Any]], label: str) -> dict[str, float | None]:
    """A baseline's values of the metrics that it has, over the states for which it exists."""
    have = [r for r in rows if r[f"{label}_rmsd"] is not None]
    if not have:
        return dict.fromkeys(BASELINE_METRICS)
    pairs = _pairs(have, f"{label}_rmsd")
    rmsd = float(np.mean([capped(r[f"{label}_rmsd"], RMSD_CAP) for r in have]))
    local = float(np.mean([capped(_local(r, f"{label}_"), RMSD_CAP) for r in have]))
    success = float(np.mean([r[f"{label}_success"] for r in have]))
    return {
        "rmsd": rmsd,
        "local_rmsd": local,
        "max_displacement": float(np.mean([capped(r[f"{label}_max_displacement"], DISPLACEMENT_CAP) for r in have])),
        "success": success,
        "strict_success": float(np.mean([r[f"{label}_strict_success"] for r in have])),
        "relative_rmsd": _ratio(pairs) if len(pairs) else None,
        # its host is DFT's: there is no drift to subtract
        "host_referenced_rmsd": rmsd,
        "host_referenced_local_rmsd": local,
        "host_referenced_success": success,
    }


def _notes(
    scoring: ScoringInput,
    rows: Sequence[Mapping[str, Any]],
    configurations: Sequence[Mapping[str, Any]],
    hosts: Sequence[Mapping[str, Any]],
    no_host: str | None,
) -> list[str]:
    def named(chosen: Iterable[Mapping[str, Any]]) -> str:
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
        counted = {name: failures.count(name) for name in ("none", "host", "defect", "host and defect", "cancelling", "no ground state")}
        notes.append("Causes of failure: " + ", ".join(f"{name} {count}" for name, count in counted.items() if count) + ".")
    return notes
