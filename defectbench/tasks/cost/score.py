"""What does the model cost?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from defectbench.calculations.plan import PlanInput
from defectbench.scoring.intervals import bootstrap_interval, rounded
from defectbench.scoring.task import MetricDefinition, MetricValue, ScoringInput, TaskResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from defectbench.calculations.requests import Calculation, Relaxation


_INFORMATION = "Depends on the machine, so it is never scored."

METRICS = (
    MetricDefinition(
        "seconds_per_call", "time a force call", "s", "none", None, None,
        f"Median processor seconds (wall clock on a GPU) of one energy and forces of the defect cell inside a relaxation. {_INFORMATION}",
        "none",
    ),
    MetricDefinition(
        "milliseconds_per_atom", "time a call and atom", "ms", "none", None, None,
        f"The same divided by the number of atoms, in milliseconds. {_INFORMATION}", "none",
    ),
    MetricDefinition(
        "seconds_per_relaxation", "time a relaxation", "s", "none", None, None,
        f"Median seconds of a relaxation of a defect, failed and unconverged ones included. {_INFORMATION}", "none",
    ),
    MetricDefinition(
        "force_calls_per_relaxation", "force calls a relaxation", "1", "none", None, None,
        "Median number of force calls of a relaxation: a rough or flat energy surface takes more.", "none",
    ),
    MetricDefinition(
        "hours_in_all", "time in all", "h", "none", None, None,
        f"Hours of all relaxations of this run on one core (or GPU) after another. {_INFORMATION}", "none",
    ),
    MetricDefinition(
        "peak_memory", "peak memory", "MB", "none", None, None,
        f"Largest resident memory of a worker process; memory on a GPU is not in it. {_INFORMATION}", "none",
    ),
)  # fmt: skip

DESCRIPTION = (
    "Seconds of a force call and of a relaxation, number of force calls, peak memory, and the machine they were measured on. For "
    "information: nothing here is scored, because another machine gives other numbers."
)

NO_BASELINE = "No baseline: without a model there is no force call to time; all baselines cost nothing."
"""Why no table of costs has a row for one."""


def calculations(_plan: PlanInput) -> Sequence[Calculation]:
    """Nothing besides the relaxations, which are timed as they run."""
    return ()


def seconds(relaxation: Relaxation, device: str) -> float:
    """What a relaxation took: processor seconds on a CPU where they are known (other programs do not count), else wall-clock seconds."""
    return relaxation.cpu_s if device != "cuda" and relaxation.cpu_s > 0 else relaxation.wall_s


def force_calls(relaxation: Relaxation) -> int:
    """How often energy and forces were calculated: once a step, and once for the start."""
    return max(len(relaxation.energies), relaxation.steps + 1)


def timed(scoring: ScoringInput) -> list[tuple[str, int, str, Relaxation]]:
    """(defect, charge, configuration, relaxation) of every relaxation whose time is known, each once though several charges may share it.

    One that never started (its worker died before) took no time and is left out, and so is one that ran on another machine than most.
    """
    return [row for row in ran(scoring) if row[3].machine == 0]


def ran(scoring: ScoringInput) -> list[tuple[str, int, str, Relaxation]]:
    """The same on any machine."""
    seen: set[tuple[object, ...]] = set()
    out = []
    for c in sorted(scoring.configurations, key=lambda c: (c.defect, c.charge, c.configuration)):
        r = c.relaxation
        mark = (c.defect, r.wall_s, r.cpu_s, r.steps, r.energies[-1:], np.asarray(r.positions, dtype=float).tobytes())
        if r.wall_s > 0 and mark not in seen:
            seen.add(mark)
            out.append((c.defect, c.charge, c.configuration, r))
    return out


def _median(values: NDArray[np.float64]) -> float:
    return float(np.median(values))


def score(scoring: ScoringInput) -> TaskResult:
    """Medians over the relaxations; see ``docs/metrics.md``."""
    device = str(scoring.provenance.get("device", "cpu"))
    table: list[dict[str, Any]] = []
    for defect, charge, name, relaxation in timed(scoring):
        took, calls = seconds(relaxation, device), force_calls(relaxation)
        table.append(
            {
                "defect": defect,
                "charge": charge,
                "configuration": name,
                "status": relaxation.status,
                "atoms": len(relaxation.positions),
                "force_calls": calls,
                "seconds": rounded(took, 3),
                "wall_s": rounded(relaxation.wall_s, 3),
                "seconds_per_call": rounded(took / calls, 6),
                "peak_memory_mb": rounded(relaxation.peak_memory_mb, 1),
            }
        )
    rows = []
    for state in sorted({(r["defect"], r["charge"]) for r in table}):
        here = [r for r in table if (r["defect"], r["charge"]) == state]
        rows.append(
            {
                "defect": state[0],
                "charge": state[1],
                "relaxations": len(here),
                "atoms": here[0]["atoms"],
                "force_calls": rounded(float(np.median([r["force_calls"] for r in here])), 1),
                "seconds_per_call": rounded(float(np.median([r["seconds_per_call"] for r in here])), 6),
                "seconds_per_relaxation": rounded(float(np.median([r["seconds"] for r in here])), 3),
                "seconds": rounded(float(sum(r["seconds"] for r in here)), 1),
                "peak_memory_mb": max(r["peak_memory_mb"] for r in here),
            }
        )
    return TaskResult(
        task="cost",
        metrics=_metrics(table, len(ran(scoring)) - len(table)),
        rows=tuple(rows),
        notes=tuple(_notes(scoring, device, table)),
        tables={"relaxations": tuple(table), "machine": (machine(scoring),)},
    )


def _metrics(table: Sequence[dict[str, Any]], elsewhere: int) -> tuple[MetricValue, ...]:
    none = "no relaxation was timed"
    out: dict[str, MetricValue] = {}
    for name, values in (
        ("seconds_per_call", [r["seconds_per_call"] for r in table]),
        ("milliseconds_per_atom", [1000.0 * r["seconds_per_call"] / r["atoms"] for r in table]),
        ("seconds_per_relaxation", [r["seconds"] for r in table]),
        ("force_calls_per_relaxation", [r["force_calls"] for r in table]),
    ):
        array = np.array(values, dtype=float)
        out[name] = (
            MetricValue(name, _median(array), bootstrap_interval(array, _median)) if len(array) else MetricValue(name, None, reason=none)
        )
    if table:
        memory = max(r["peak_memory_mb"] for r in table)
        out["hours_in_all"] = (
            MetricValue("hours_in_all", None, reason=f"{elsewhere} relaxation(s) ran on another machine")
            if elsewhere
            else MetricValue("hours_in_all", float(sum(r["seconds"] for r in table)) / 3600.0)
        )
        out["peak_memory"] = (
            MetricValue("peak_memory", float(memory)) if memory > 0 else MetricValue("peak_memory", None, reason="not measured")
        )
    else:
        out |= {name: MetricValue(name, None, reason=none) for name in ("hours_in_all", "peak_memory")}
    return tuple(out[m.name] for m in METRICS)


def machine(scoring: ScoringInput) -> dict[str, Any]:
    """One row that says what the numbers were measured on, and by which clock; None where it is not known."""
    hardware = scoring.provenance.get("hardware") or {}
    return {
        "device": scoring.provenance.get("device"),
        "processor": hardware.get("processor"),
        "cores": hardware.get("cores"),
        "memory_gb": hardware.get("memory_gb"),
        "gpus": ", ".join(hardware.get("gpus") or ()) or None,
        "workers": scoring.provenance.get("workers"),
        "threads_per_worker": scoring.provenance.get("threads_per_worker"),
        "clock": clock(scoring),
    }


def clock(scoring: ScoringInput) -> str:
    """``processor`` or ``wall-clock``: what :func:`seconds` counts in this run."""
    timed_by_processor = scoring.provenance.get("device", "cpu") != "cuda" and any(c.relaxation.cpu_s > 0 for c in scoring.configurations)
    return "processor" if timed_by_processor else "wall-clock"


def _notes(scoring: ScoringInput, device: str, table: Sequence[dict[str, Any]]) -> list[str]:
    found = machine(scoring)
    kind = f"{clock(scoring)} seconds"
    where = found["gpus"] if device == "cuda" else found["processor"]
    threads = found["threads_per_worker"]
    notes = [f"Times are {kind}" + (f" on {where}" if where else "") + (f", {threads} thread(s) a worker" if threads else "") + "."]
    relaxations = len(ran(scoring))
    if relaxations < len(scoring.configurations):
        notes.append(
            f"{len(scoring.configurations)} configurations took {relaxations} relaxations: equal starts of different charges run once."
        )
    if elsewhere := relaxations - len(table):
        notes.append(f"{elsewhere} relaxation(s) ran on another machine and are not in the times.")
    notes.append(NO_BASELINE)
    return notes
