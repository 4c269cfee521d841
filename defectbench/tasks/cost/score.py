"""What does the model cost?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from defectbench.base.hardware import Hardware
from defectbench.calculations.plan import PlanInput
from defectbench.scoring.intervals import rounded
from defectbench.scoring.metrics import Metrics, NotAvailable
from defectbench.scoring.task import ConfigurationResult, MetricValue, ScoringInput, TaskResult, read_metrics
from defectbench.tasks.cost.rows import MachineRow, RelaxationRow, StateRow

if TYPE_CHECKING:
    from defectbench.base.hardware import Machine
    from defectbench.calculations.requests import Calculation, Relaxation


METRICS, WEIGHT = read_metrics(Path(__file__).with_name("metrics.yaml"))

DESCRIPTION = (
    "Time per force call and per relaxation, number of force calls, peak memory, and the machine on which they were measured. Nothing here "
    "is scored, because another machine gives other numbers."
)

NO_BASELINE = "No baseline: baselines make no force calls."
"""Why no table of costs has a row for one."""

NOTHING_TIMED = NotAvailable("no relaxation was timed", applies=True)


def calculations(_plan: PlanInput) -> Sequence[Calculation]:
    """Nothing besides the relaxations, which are timed as they run."""
    return ()


def seconds(relaxation: Relaxation, clock: str) -> float:
    """What a relaxation took by a :func:`clock_of`: processor seconds, where they are known, do not count other programs."""
    return relaxation.cpu_s if clock == "processor" and relaxation.cpu_s > 0 else relaxation.wall_s


def force_calls(relaxation: Relaxation) -> int:
    """How often energy and forces were calculated: once per step, and once for the start."""
    return max(len(relaxation.energies), relaxation.steps + 1)


def distinct_relaxations(scoring: ScoringInput) -> list[ConfigurationResult]:
    """The relaxations of defects, each once though several charge states may share it; those that never began are left out."""
    ran = sorted((c for c in scoring.configurations if c.relaxation.wall_s > 0), key=lambda c: (c.defect, c.charge, c.configuration))
    first: dict[str, ConfigurationResult] = {}
    for c in ran:
        first.setdefault(c.content_hash, c)
    return list(first.values())


def main_machine(scoring: ScoringInput) -> Machine | None:
    """The machine that ran most of the relaxations, the host's included; of those with equally many the first."""
    machines = {r.content_hash: r.machine for r in scoring.host} | {r.content_hash: r.machine for r in distinct_relaxations(scoring)}
    counts = Counter(machines.values())
    return max(counts, key=lambda machine: counts[machine], default=None)


def clock_of(scoring: ScoringInput, machine: Machine | None) -> str:
    """``processor`` or ``wall-clock``: on a GPU the processor waits, so only the clock on the wall tells the time."""
    on_gpu = machine is not None and machine.device == "cuda"
    return "wall-clock" if on_gpu or not any(c.relaxation.cpu_s > 0 for c in scoring.configurations) else "processor"


def score(scoring: ScoringInput) -> TaskResult:
    """Medians over the relaxations of one machine; see ``docs/metrics.md``."""
    machine = main_machine(scoring)
    clock = clock_of(scoring, machine)
    ran = distinct_relaxations(scoring)
    # a run that was continued elsewhere mixes machines, and a median over two of them is of neither
    table = tuple(_relaxation_row(c, clock) for c in ran if c.machine == machine)
    states = sorted({(r["defect"], r["charge"]) for r in table})
    about = _machine_row(machine, clock)
    return TaskResult(
        task="cost",
        metrics=_metrics(table, elsewhere=len(ran) - len(table)),
        rows=tuple(_state_row([r for r in table if (r["defect"], r["charge"]) == state]) for state in states),
        notes=tuple(_notes(len(scoring.configurations), len(ran), len(table), about)),
        tables={"relaxations": table, "machine": (about,)},
    )


def _relaxation_row(result: ConfigurationResult, clock: str) -> RelaxationRow:
    relaxation = result.relaxation
    took, calls = seconds(relaxation, clock), force_calls(relaxation)
    return {
        "defect": result.defect,
        "charge": result.charge,
        "configuration": result.configuration,
        "status": relaxation.status,
        "atoms": len(relaxation.positions),
        "force_calls": calls,
        "seconds": rounded(took, 3),
        "wall_s": rounded(relaxation.wall_s, 3),
        "seconds_per_call": rounded(took / calls, 6),
        "peak_memory_mb": rounded(relaxation.peak_memory_mb, 1),
    }


def _state_row(rows: Sequence[RelaxationRow]) -> StateRow:
    """The medians of one charge state's relaxations."""

    def median(column: Literal["force_calls", "seconds_per_call", "seconds"], digits: int) -> float:
        return rounded(float(np.median([r[column] for r in rows])), digits)

    return {
        "defect": rows[0]["defect"],
        "charge": rows[0]["charge"],
        "relaxations": len(rows),
        "atoms": rows[0]["atoms"],
        "force_calls": median("force_calls", 1),
        "seconds_per_call": median("seconds_per_call", 6),
        "seconds_per_relaxation": median("seconds", 3),
        "seconds": rounded(float(sum(r["seconds"] for r in rows)), 1),
        "peak_memory_mb": max(r["peak_memory_mb"] for r in rows),
    }


def _metrics(table: Sequence[RelaxationRow], elsewhere: int) -> tuple[MetricValue, ...]:
    out = Metrics(METRICS, NOTHING_TIMED)
    out.median("seconds_per_call", (r["seconds_per_call"] for r in table))
    out.median("milliseconds_per_atom", (1000.0 * r["seconds_per_call"] / r["atoms"] for r in table))
    out.median("seconds_per_relaxation", (r["seconds"] for r in table))
    out.median("force_calls_per_relaxation", (r["force_calls"] for r in table))
    memory = max((r["peak_memory_mb"] for r in table), default=0.0)
    if not table:
        out.lacking("hours_in_all", NOTHING_TIMED)
        out.lacking("peak_memory", NOTHING_TIMED)
        return out.done()
    if elsewhere:
        out.lacking("hours_in_all", NotAvailable(f"{elsewhere} relaxation(s) ran on another machine", applies=True))
    else:
        out.value("hours_in_all", sum(r["seconds"] for r in table) / 3600.0)
    if memory > 0:
        out.value("peak_memory", memory)
    else:
        out.lacking("peak_memory", NotAvailable("not measured", applies=True))
    return out.done()


def _machine_row(machine: Machine | None, clock: str) -> MachineRow:
    """What the numbers were measured on, and by which clock; None where it is not known."""
    hardware = machine.hardware if machine is not None else Hardware()
    return {
        "device": machine.device if machine is not None else None,
        "processor": hardware.processor,
        "cores": hardware.cores,
        "memory_gb": hardware.memory_gb,
        "gpus": ", ".join(hardware.gpus) or None,
        "workers": machine.workers if machine is not None else None,
        "threads_per_worker": machine.threads_per_worker if machine is not None else None,
        "clock": clock,
    }


def _notes(configurations: int, relaxations: int, timed: int, about: MachineRow) -> list[str]:
    where = about["gpus"] if about["device"] == "cuda" else about["processor"]
    threads = about["threads_per_worker"]
    per_worker = f", {threads} thread{'s' if threads > 1 else ''} per worker" if threads else ""
    notes = [f"Times are {about['clock']} seconds" + (f" on {where}" if where else "") + per_worker + "."]
    if relaxations < configurations:
        notes.append(f"{configurations} configurations took {relaxations} relaxations: equal starts of different charges run once.")
    if elsewhere := relaxations - timed:
        notes.append(f"{elsewhere} relaxation(s) ran on another machine and are not in the times.")
    notes.append(NO_BASELINE)
    return notes
