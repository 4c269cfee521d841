"""Does the model find the ground-state structure of each charge state?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from defectbench.calculations.plan import PlanInput
from defectbench.calculations.requests import Calculation
from defectbench.scoring.host import HOST_START, model_host
from defectbench.scoring.intervals import bootstrap_interval, capped, mean_with_interval, rounded
from defectbench.scoring.landscape import (
    DISPLACEMENT_CAP,
    RMSD_CAP,
    STRICT_LOCAL_RMSD,
    STRICT_MAX_DISPLACEMENT,
    SUCCESS_RMSD,
    PlacedState,
    ReferenceState,
    cluster,
    nearest_minimum,
    operations_of,
    place_all,
    relaxed_atoms,
)
from defectbench.scoring.task import MetricDefinition, MetricValue, ScoringInput, TaskResult
from defectbench.structures.host_reference import match_host_referenced
from defectbench.structures.lattice import MatchingError, displacements, root_mean_square
from defectbench.structures.matching import Match, match
from defectbench.structures.symmetry import Operations

if TYPE_CHECKING:
    from numpy.typing import NDArray


HOST_DRIFTS = (("host_drift", "Unperturbed"), ("host_drift_rattled", "Rattled"))
"""Metric and host start whose drift it is."""

BASELINE_METRICS = (
    "rmsd", "local_rmsd", "max_displacement", "success", "strict_success", "relative_rmsd",
    "host_referenced_rmsd", "host_referenced_local_rmsd", "host_referenced_success",
)  # fmt: skip
"""What a baseline has: the other metrics are about relaxations, and a baseline relaxes nothing."""

METRICS = (
    MetricDefinition(
        "rmsd", "RMSD", "Å", "lower", 0.0, 0.2,
        "How far the model's ground state is from DFT's, all atoms, mean over charge states; a miss counts as 1 Å.",
    ),
    MetricDefinition(
        "local_rmsd", "local RMSD", "Å", "lower", 0.0, 0.4,
        "The same over the atoms within 5 Å of the defect only, where reconstructions happen; a miss counts as 1 Å.",
    ),
    MetricDefinition(
        "max_displacement", "largest displacement", "Å", "lower", 0.0, 1.0,
        "How far the worst-placed atom is off, mean over charge states; a miss counts as 3 Å.",
    ),
    MetricDefinition(
        "success", "success", "1", "higher", 1.0, 0.0,
        "Fraction of charge states found to a global RMSD of 0.1 Å. An unrelaxed vacancy may pass: see the baselines.",
    ),
    MetricDefinition(
        "strict_success", "strict success", "1", "higher", 1.0, 0.0,
        "Fraction of charge states found to a local RMSD of 0.1 Å with no atom farther off than 0.2 Å.",
    ),
    MetricDefinition(
        "relative_rmsd", "RMSD / unrelaxed", "1", "lower", 0.0, 1.0,
        "The mean RMSD divided by that of the unrelaxed start: above 1, relaxing with the model makes the structure worse.",
    ),
    MetricDefinition(
        "host_referenced_rmsd", "host-referenced RMSD", "Å", "lower", 0.0, 0.2,
        "RMSD of the displacement fields, defect minus own host: what is wrong with the defect once the host's error is taken off.",
    ),
    MetricDefinition(
        "host_referenced_local_rmsd", "host-referenced local RMSD", "Å", "lower", 0.0, 0.4,
        "The host-referenced RMSD over the atoms within 5 Å of the defect.",
    ),
    MetricDefinition(
        "host_referenced_success", "host-referenced success", "1", "higher", 1.0, 0.0,
        "Fraction of charge states with a host-referenced RMSD of at most 0.1 Å.",
    ),
    MetricDefinition(
        "reference_minimum_found", "ends in a DFT minimum", "1", "higher", 1.0, 0.0,
        "Fraction of charge states whose model ground state is any minimum that DFT knows for that charge, the ground state or another.",
    ),
    MetricDefinition(
        "spurious_minima", "spurious minima", "1", "lower", 0.0, 5.0,
        "Distinct minima of the model, per charge state, that are none of DFT's known minima of that charge.",
    ),
    MetricDefinition(
        "converged", "converged", "1", "higher", 1.0, 0.5,
        "Fraction of the selected configurations that relaxed to convergence; all others count as misses.", "none",
    ),
    MetricDefinition(
        "host_drift", "host drift", "Å", "lower", 0.0, 0.2,
        "RMSD of the perfect host, relaxed with the model from DFT's sites, to DFT's host.",
    ),
    MetricDefinition(
        "host_drift_rattled", "host drift (rattled)", "Å", "lower", 0.0, 0.2,
        "The same from a small random rattle: a host that only symmetry holds in place falls apart here.",
    ),
    MetricDefinition("steps", "steps", "1", "none", None, None, "Median number of optimiser steps of a converged relaxation.", "none"),
    MetricDefinition("wall_s", "time", "s", "none", None, None, "Median wall-clock seconds of a relaxation, failures included.", "none"),
)  # fmt: skip

DESCRIPTION = (
    "Relaxes every selected ShakeNBreak configuration of each charge state with the model, takes the lowest converged one as the model's "
    "ground state, and compares it with the DFT ground state: global and local RMSD, largest displacement, success at 0.1 Å and at a "
    "stricter local criterion, which DFT minimum it is, and how much of the error is the model's host."
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

    ``none``; ``host`` (right once the host's drift is taken off); ``defect`` (wrong either way, though the host holds);
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


def spurious(state: PlacedState, operations: Operations) -> int:
    """How many distinct minima of the model are none of the reference minima."""
    strangers = [p for p in state.converged if p.minimum is None and p.atoms is not None and p.energy is not None]
    return len(set(cluster([(p.energy, p.atoms) for p in strangers if p.energy is not None and p.atoms is not None], operations)))


def _columns(prefix: str, found: Match | None) -> dict[str, Any]:
    return {
        f"{prefix}rmsd": rounded(found.rmsd) if found else None,
        f"{prefix}local_rmsd": rounded(found.local_rmsd) if found else None,
        f"{prefix}max_displacement": rounded(found.max_displacement) if found else None,
    }


def score(scoring: ScoringInput) -> TaskResult:
    """Scores the ground states; see ``docs/metrics.md`` for every definition."""
    dataset = scoring.dataset
    operations = operations_of(dataset)
    states = place_all(scoring)
    hosts = host_rows(scoring, operations)
    own_host, no_host = model_host(scoring)
    drift = next((row["drift"] for row in hosts if row["start"] == HOST_START), None)

    rows: list[dict[str, Any]] = []
    configurations: list[dict[str, Any]] = []
    for state in states:
        reference, ground = state.reference, state.ground
        unrelaxed = unrelaxed_baseline(scoring, reference, operations)
        other = other_charge_baseline(scoring, reference, operations)
        referenced: Match | None = None
        referenced_minimum: int | None = None
        if ground is not None and ground.atoms is not None and own_host is not None:
            referenced, corrected = match_host_referenced(
                ground.atoms, reference.ground.atoms, own_host, dataset.host, operations, reference.centre
            )
            referenced_minimum = nearest_minimum(corrected, reference, operations)[0]
        fit = ground.fit if ground else None
        nearest = reference.distinct[ground.minimum] if ground is not None and ground.minimum is not None else None
        outcomes = [p.outcome for p in state.placed]
        rows.append(
            {
                "defect": reference.defect,
                "charge": reference.charge,
                "configuration": ground.configuration if ground else None,
                "dft_configuration": reference.ground.configuration,
                **_columns("", fit),
                "success": fit is not None and fit.rmsd <= SUCCESS_RMSD,
                "strict_success": fit is not None and strict(fit),
                **_columns("host_referenced_", referenced),
                "host_referenced_success": None if no_host else referenced is not None and referenced.rmsd <= SUCCESS_RMSD,
                "verdict": verdict(fit, referenced, drift),
                "minimum": nearest.configuration if nearest else None,
                "minimum_rmsd": rounded(ground.minimum_rmsd) if ground else None,
                "minimum_energy": rounded(nearest.energy - reference.ground.energy) if nearest else None,
                "host_referenced_minimum": None if referenced_minimum is None else reference.distinct[referenced_minimum].configuration,
                **_columns("unrelaxed_", unrelaxed),
                "unrelaxed_success": None if unrelaxed is None else unrelaxed.rmsd <= SUCCESS_RMSD,
                "unrelaxed_strict_success": None if unrelaxed is None else strict(unrelaxed),
                "other_charge": other[0] if other else None,
                **_columns("other_charge_", other[1] if other else None),
                "other_charge_success": None if other is None else other[1].rmsd <= SUCCESS_RMSD,
                "other_charge_strict_success": None if other is None else strict(other[1]),
                "dft_minima": len(reference.distinct),
                "dft_configurations": len(reference.minima),
                "spurious_minima": spurious(state, operations),
                "configurations": len(state.placed),
                "converged": len(state.converged),
                "unconverged": outcomes.count("unconverged"),
                "failed": outcomes.count("failed") + outcomes.count("missing"),
                "steps": ground.steps if ground else None,
                "wall_s": rounded(sum(p.wall_s or 0.0 for p in state.placed), 2),
                "reason": state.reason,
            }
        )
        lowest = min((p.energy for p in state.converged if p.energy is not None), default=None)
        for p in state.placed:
            configurations.append(
                {
                    "defect": reference.defect,
                    "charge": reference.charge,
                    "configuration": p.configuration,
                    "status": p.outcome,
                    "energy": rounded(p.energy),
                    "relative_energy": None if lowest is None or p.energy is None or not p.converged else rounded(p.energy - lowest),
                    **_columns("", p.fit),
                    "minimum": None if p.minimum is None else reference.distinct[p.minimum].configuration,
                    "minimum_rmsd": rounded(p.minimum_rmsd),
                    "ground_state": p is ground,
                    "steps": p.steps,
                    "wall_s": rounded(p.wall_s, 2),
                    "reason": p.reason,
                }
            )
    return TaskResult(
        task="relax",
        metrics=_metrics(rows, configurations, hosts, no_host),
        rows=tuple(rows),
        baselines={label: _baseline(rows, label) for label in ("unrelaxed", "other_charge")},
        notes=tuple(_notes(scoring, rows, configurations, hosts, no_host)),
        tables={"configurations": tuple(configurations), "host": hosts},
    )


def _aggregate(name: str, values: Iterable[float]) -> MetricValue:
    value, interval = mean_with_interval(values)
    if value is None:
        return MetricValue(name, None, None, "no charge state with a reference was selected", applies=False)
    return MetricValue(name, value, interval)


def _metrics(
    rows: Sequence[Mapping[str, Any]], configurations: Sequence[Mapping[str, Any]], hosts: Sequence[Mapping[str, Any]], no_host: str | None
) -> tuple[MetricValue, ...]:
    out = [
        _aggregate("rmsd", [capped(r["rmsd"], RMSD_CAP) for r in rows]),
        _aggregate("local_rmsd", [capped(_local(r, ""), RMSD_CAP) for r in rows]),
        _aggregate("max_displacement", [capped(r["max_displacement"], DISPLACEMENT_CAP) for r in rows]),
        _aggregate("success", [float(r["success"]) for r in rows]),
        _aggregate("strict_success", [float(r["strict_success"]) for r in rows]),
        _relative(rows),
    ]
    for name, values in (
        ("host_referenced_rmsd", [capped(r["host_referenced_rmsd"], RMSD_CAP) for r in rows]),
        ("host_referenced_local_rmsd", [capped(_local(r, "host_referenced_"), RMSD_CAP) for r in rows]),
        ("host_referenced_success", [float(bool(r["host_referenced_success"])) for r in rows]),
    ):
        out.append(MetricValue(name, None, None, no_host) if no_host and rows else _aggregate(name, values))
    out += [
        _aggregate("reference_minimum_found", [float(r["minimum"] is not None) for r in rows]),
        _aggregate("spurious_minima", [float(r["spurious_minima"]) for r in rows]),
        _aggregate("converged", [float(c["status"] == "converged") for c in configurations]),
    ]
    out += [_host_drift(name, start, hosts) for name, start in HOST_DRIFTS]
    steps = [float(c["steps"]) for c in configurations if c["status"] == "converged" and c["steps"] is not None]
    seconds = [float(c["wall_s"]) for c in configurations if c["wall_s"] is not None]
    for name, values, why in (("steps", steps, "no relaxation converged"), ("wall_s", seconds, "nothing was relaxed")):
        array = np.array(values)
        if len(array):
            out.append(MetricValue(name, _median(array), bootstrap_interval(array, _median)))
        else:
            out.append(MetricValue(name, None, None, why, applies=False))
    return tuple(out)


def _host_drift(name: str, start: str, hosts: Sequence[Mapping[str, Any]]) -> MetricValue:
    """Mean drift over the runs from one start; one run has no interval, since it gives the same drift whenever it is repeated."""
    runs = [h for h in hosts if h["start"] == start]
    if not runs:
        return MetricValue(name, None, None, f"the host was not relaxed from its {start} start", applies=False)
    for row in runs:
        if row["status"] != "converged":
            return MetricValue(name, None, None, f"the host did not relax from its {start} start: {row['reason']}")
    return MetricValue(name, *mean_with_interval(row["drift"] for row in runs))


def _local(row: Mapping[str, Any], prefix: str) -> float | None:
    """The local RMSD, or the global one where no atom is near the defect."""
    value = row[f"{prefix}local_rmsd"]
    found: float | None = row[f"{prefix}rmsd"] if value is None else value
    return found


def _median(values: NDArray[np.float64]) -> float:
    return float(np.median(values))


def _ratio(pairs: NDArray[np.float64]) -> float:
    return float(pairs[:, 0].sum() / pairs[:, 1].sum())


def _relative(rows: Sequence[Mapping[str, Any]]) -> MetricValue:
    """Sum of (capped) RMSDs over sum of those of the unrelaxed starts, over states that have one."""
    pairs = np.array([(capped(r["rmsd"], RMSD_CAP), r["unrelaxed_rmsd"]) for r in rows if r["unrelaxed_rmsd"]], dtype=float)
    if not len(pairs):
        return MetricValue("relative_rmsd", None, None, "the dataset has no Unperturbed start to compare with", applies=False)
    return MetricValue("relative_rmsd", _ratio(pairs), bootstrap_interval(pairs, _ratio))


def _baseline(rows: Sequence[Mapping[str, Any]], label: str) -> dict[str, float | None]:
    """A baseline's values of the metrics that it has, over the states for which it exists."""
    have = [r for r in rows if r[f"{label}_rmsd"] is not None]
    if not have:
        return dict.fromkeys(BASELINE_METRICS)
    pairs = np.array([(capped(r[f"{label}_rmsd"], RMSD_CAP), r["unrelaxed_rmsd"]) for r in have if r["unrelaxed_rmsd"]], dtype=float)
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
        # its host is DFT's: there is no error of a host to take off
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
    notes = []
    if 0 < len(rows) < 10:
        notes.append(f"averages are over {len(rows)} charge state{'s' if len(rows) > 1 else ''}: below ten, intervals say little.")
    missed = [f"{r['defect']} {r['charge']:+d}" for r in rows if r["reason"]]
    if missed:
        notes.append(f"no ground state, counted as a miss (RMSD {RMSD_CAP:g} Å): {', '.join(missed)}.")
    bad = sum(c["status"] != "converged" for c in configurations)
    if bad:
        notes.append(f"{bad} of {len(configurations)} configurations failed or did not converge and cannot be a ground state.")
    if scoring.charge_class == "charge-blind" and len({r["charge"] for r in rows}) > 1:
        notes.append("the model is charge-blind: all charge states share its one energy surface and differ only in their starts.")
    few = [f"{r['defect']} {r['charge']:+d}" for r in rows if r["dft_configurations"] < r["configurations"]]
    if few:
        notes.append(
            f"DFT has relaxed fewer configurations than the model in {', '.join(few)}: a lower DFT minimum may be unknown, and "
            "minima counted as spurious may be real."
        )
    alone = [f"{r['defect']} {r['charge']:+d}" for r in rows if r["other_charge"] is None]
    if alone:
        notes.append(f"no other charge state has a DFT ground state, so that baseline is missing: {', '.join(alone)}.")
    if no_host:
        notes.append(f"no host-referenced values: {no_host}.")
    once = [name for name, start in HOST_DRIFTS if sum(h["start"] == start for h in hosts) == 1]
    if once:
        notes.append(f"no interval for {' and '.join(once)}: one relaxation from a fixed start each, so there is nothing to resample.")
    failures = [r["verdict"] for r in rows]
    if failures:
        counted = {name: failures.count(name) for name in ("none", "host", "defect", "host and defect", "cancelling", "no ground state")}
        notes.append("which failure: " + ", ".join(f"{name} {count}" for name, count in counted.items() if count) + ".")
    return notes
