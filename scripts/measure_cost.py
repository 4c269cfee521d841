"""How the cost of a run grows with starts, atoms and workers, and what 10,000 defects would cost.

    python scripts/measure_cost.py MODEL ENTRY [--starts 1,10,100,1000] [--workers 1,2]     # minutes
    python scripts/measure_cost.py --table                                                   # from what was measured

Measures with a registered model: force calls of V_Sb1 in its cell (59 atoms) and in multiples of it up to 472 atoms, and of the antisite
of mgo-antisite-doped (216 atoms, another chemistry); and runs of rattled starts of V_Sb1, one step each, as a run makes them: workers are
started, calculate, and each result is stored. ENTRY is one of the model: it tells how many force calls a relaxation takes. Writes the
numbers to docs/measurements/cost.json; with them, or from them, prints the tables of docs/speed.md and draws its figure.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from defectbench.base import hardware
from defectbench.base.files import write_text
from defectbench.calculations.client import WorkerClient
from defectbench.calculations.executors.local import LocalExecutor
from defectbench.calculations.preparation import ModelOptions, Prepared, choose_model
from defectbench.calculations.requests import Calculation, Protocol, Structure
from defectbench.calculations.results import Stored
from defectbench.calculations.store import ResultStore
from defectbench.datasets.catalogue import load_dataset
from defectbench.entries.folder import read_calculations, read_entry

DOCS = Path(__file__).parents[1] / "docs"
NUMBERS = DOCS / "measurements" / "cost.json"
MULTIPLES = ((1, 1, 1), (2, 1, 1), (2, 2, 1), (2, 2, 2))
STEPS = 1
DEFECT = {"charges": 5, "starts": 13}
"""Relaxations of a defect: what ShakeNBreak makes for the charge states of one, as of V_Sb1."""


def measure(model: str, entry: Path, starts: list[int], workers: list[int]) -> None:
    """Everything, in some minutes; each number is written when it is there. Of runs measured before only the same ones are replaced."""
    ready = choose_model(model, ModelOptions()).prepare(lambda sentence: print(sentence, file=sys.stderr))
    found = json.loads(NUMBERS.read_text(encoding="utf-8")) if NUMBERS.exists() else {"runs": []}
    found |= {"model": model, "hardware": hardware.describe().model_dump(), "relaxations": relaxations(entry)}
    found["force_calls"] = force_calls(ready)
    for count, many in itertools.product(starts, workers):
        if count >= many:
            others = [row for row in found["runs"] if (row["starts"], row["workers"]) != (count, many)]
            found["runs"] = sorted([*others, one_run(ready, count, many)], key=lambda row: (row["starts"], row["workers"]))
            write_text(NUMBERS, json.dumps(found, indent=1) + "\n")


def force_calls(ready: Prepared) -> list[dict[str, Any]]:
    """Processor seconds of a force call, by structure: the median of several structures, the first not counted."""
    cell = load_dataset("sb2se3-vacancies").starts("V_Sb1", 0)["Unperturbed"]
    structures = [("V_Sb1 in Sb2Se3", cell.repeat(multiple)) for multiple in MULTIPLES]
    magnesia = load_dataset("mgo-antisite-doped")
    structures.append(("Mg_O in MgO", magnesia.starts("Mg_O", 0)["Unperturbed"]))
    rows = []
    assert ready.spec is not None
    charge = 0 if ready.resolved.definition.charge.how != "none" else None
    with WorkerClient(ready.spec) as client:
        for name, atoms in structures:
            seconds = []
            for seed in range(6 if len(atoms) < 200 else 4):
                atoms.rattle(0.02, seed=seed)
                result = client.calculate(Calculation("single_point", Structure.from_atoms(atoms), charge))
                seconds.append(result.cpu_s)
            rows.append({"structure": name, "atoms": len(atoms), "cpu_s": round(statistics.median(seconds[1:]), 4)})
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


class Watch:
    """What a run takes of the machine, in a thread that looks every 0.2 s.

    Attributes:
        peak_mb: the most resident memory of this process and all that it started, MB; what they share counts for each.
        workers_mb: the most of those that it started, MB each.
    """

    def __init__(self) -> None:
        self.peak_mb = 0.0
        self.workers_mb: dict[int, float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *ended: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        own = psutil.Process()
        while not self._over.wait(0.2):
            resident = {}
            for process in own.children(recursive=True):
                try:
                    resident[process.pid] = process.memory_info().rss / 1e6
                except psutil.Error:
                    continue
            for pid, size in resident.items():
                self.workers_mb[pid] = max(size, self.workers_mb.get(pid, 0.0))
            self.peak_mb = max(self.peak_mb, own.memory_info().rss / 1e6 + sum(resident.values()))


def one_run(ready: Prepared, count: int, workers: int) -> dict[str, Any]:
    """Relaxes rattled starts of V_Sb1 for a step and stores the results."""
    cell = load_dataset("sb2se3-vacancies").starts("V_Sb1", 0)["Unperturbed"]
    charge = 0 if ready.resolved.definition.charge.how != "none" else None
    work = []
    for seed in range(count):
        atoms = cell.copy()
        atoms.rattle(0.1, seed=seed)
        work.append(Calculation("relaxation", Structure.from_atoms(atoms), charge, Protocol(max_steps=STEPS)))
    assert ready.spec is not None
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy, own, began = sum(psutil.cpu_times()[:3]), time.process_time(), time.perf_counter()
    first, cpu, calls = None, 0.0, 0
    with tempfile.TemporaryDirectory() as folder, ResultStore(Path(folder) / "c.db") as store, Watch() as watch:
        for done in LocalExecutor(ready.spec, workers).run(work):
            store.put(done.calculation.key("x"), done.calculation, Stored(done.result, done.machine))
            first = first or time.perf_counter() - began - done.result.wall_s
            cpu, calls = cpu + done.result.cpu_s, calls + done.result.steps + 1
    wall, own, busy = time.perf_counter() - began, time.process_time() - own, sum(psutil.cpu_times()[:3]) - busy
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = own + after.ru_utime + after.ru_stime - children.ru_utime - children.ru_stime
    row = {"starts": count, "workers": workers, "force_calls": calls, "wall_s": wall, "calculations_cpu_s": cpu, "until_first_s": first}
    row |= {"all_cpu_s": spent, "parent_cpu_s": own, "others_cores": max(0.0, (busy - spent) / wall), "peak_mb": watch.peak_mb}
    row = {name: round(value, 3) for name, value in row.items()}
    row["workers_mb"] = sorted(round(size) for size in watch.workers_mb.values() if size > 100)  # a worker's guard shares its pages
    print(row, file=sys.stderr, flush=True)
    return row


def relaxations(entry: Path) -> dict[str, Any]:
    """How many relaxations an entry has, their force calls, and the processor time of all calculations."""
    results = [one["result"] for one in read_calculations(entry, read_entry(entry)).values()]
    calls = [one["steps"] + 1 for one in results if one["kind"] == "relaxation"]
    return {
        "entry": entry.name,
        "count": len(calls),
        "force_calls": sum(calls),
        "cpu_s": round(sum(one["cpu_s"] for one in results if one["kind"] == "relaxation"), 1),
    }


def fit(rows: list[dict[str, Any]]) -> tuple[float, float]:
    """Seconds of a force call = a + b × atoms; the points count by their relative errors. Only the Sb2Se3 cells take part."""
    own = [row for row in rows if row["structure"].startswith("V_Sb1")]
    atoms, seconds = (np.array([row[name] for row in own], float) for name in ("atoms", "cpu_s"))
    slope, offset = np.polyfit(atoms, seconds, 1, w=1 / seconds)
    return float(offset), float(slope)


def per_call(found: dict[str, Any], atoms: int) -> float:
    """Seconds of a force call: what one took in the relaxations of the entry (59 atoms), scaled as the measured calls grow."""
    offset, slope = fit(found["force_calls"])
    entry = found["relaxations"]
    return float(entry["cpu_s"] / entry["force_calls"] * (offset + slope * atoms) / (offset + slope * 59))


def tables(found: dict[str, Any]) -> str:
    """The tables of docs/speed.md."""
    offset, slope = fit(found["force_calls"])
    lines = [f"model: {found['model']}; force call = {offset * 1e3:.1f} ms + {slope * 1e3:.3f} ms × atoms", ""]
    lines += ["| structure | atoms | force call (s) | model of the cost (s) |", "|---|---:|---:|---:|"]
    for r in found["force_calls"]:
        fitted = f"{offset + slope * r['atoms']:.2f}" if r["structure"].startswith("V_Sb1") else "–"
        lines.append(f"| {r['structure']} | {r['atoms']} | {r['cpu_s']:.2f} | {fitted} |")
    lines += [
        "",
        "| starts | workers | processor time (s) | part of the force calls | parent (ms per result) | time (s) | others (cores) |",
    ]
    lines += ["|---:|---:|---:|---:|---:|---:|---:|"]
    for r in found["runs"]:
        part, parent = r["calculations_cpu_s"] / r["all_cpu_s"], r["parent_cpu_s"] / r["starts"] * 1e3
        numbers = f"{r['all_cpu_s']:.1f} | {part:.2f} | {parent:.1f} | {r['wall_s']:.1f} | {r['others_cores']:.1f}"
        lines.append(f"| {r['starts']:,} | {r['workers']} | {numbers} |")
    lines += ["", "| defects | relaxations | force calls | core-hours at 59 atoms | 216 | 472 |", "|---:|---:|---:|---:|---:|---:|"]
    calls = found["relaxations"]["force_calls"] / found["relaxations"]["count"]
    for defects in (1, 100, 10_000):
        count = defects * DEFECT["charges"] * DEFECT["starts"]
        hours = [count * calls * per_call(found, atoms) / 3600 for atoms in (59, 216, 472)]
        said = " | ".join(f"{one:,.2f}" if one < 1 else f"{one:,.0f}" for one in hours)
        lines.append(f"| {defects:,} | {count:,} | {count * calls:,.0f} | {said} |")
    return "\n".join(lines)


def draw(found: dict[str, Any]) -> list[Path]:
    """The figure; returns its files."""
    from matplotlib.ticker import NullLocator

    from defectbench.plotting.style import COLOURS, PAGE_WIDTH, figure, headline, save

    offset, slope = fit(found["force_calls"])
    with figure(PAGE_WIDTH, 2.3) as made:
        left, middle, right = made.subplots(1, 3)
        for name, colour in (("V_Sb1 in Sb2Se3", "model"), ("Mg_O in MgO", "miss")):
            rows = [row for row in found["force_calls"] if row["structure"] == name]
            left.plot([r["atoms"] for r in rows], [r["cpu_s"] for r in rows], "o", ms=3, color=COLOURS[colour], label=name)
        atoms = np.geomspace(50, 500, 20)
        left.plot(atoms, offset + slope * atoms, color=COLOURS["muted"], label=f"{slope * 1e3:.1f} ms × atoms")
        left.set(xscale="log", yscale="log", ylim=(0.15, 30), xlabel="atoms", ylabel="force call (s)")
        left.legend(loc="upper left")
        for workers, colour in ((1, "model"), (2, "miss")):
            rows = [row for row in found["runs"] if row["workers"] == workers]
            label = f"{workers} worker{'s' if workers > 1 else ''}"
            middle.plot([r["starts"] for r in rows], [r["all_cpu_s"] for r in rows], "o-", ms=3, color=COLOURS[colour], label=label)
        middle.set(xscale="log", yscale="log", xlabel="starts (one step each)", ylabel="processor time (s)")
        middle.legend()
        defects = np.array([1, 10, 100, 1000, 10_000])
        calls = found["relaxations"]["force_calls"] / found["relaxations"]["count"] * DEFECT["charges"] * DEFECT["starts"]
        for atoms, colour in ((59, "model"), (216, "miss"), (472, "good")):
            hours = defects * calls * per_call(found, atoms) / 3600
            right.plot(defects, hours, color=COLOURS[colour], label=f"{atoms} atoms")
        right.set(xscale="log", yscale="log", xlabel="defects", ylabel="core-hours (predicted)")
        right.legend()
        ticks = {left.xaxis: (59, 118, 236, 472), left.yaxis: (0.2, 0.5, 1, 2, 5, 10, 20), middle.xaxis: (1, 10, 100)}
        ticks |= {middle.yaxis: (5, 10, 20, 50, 100)}
        ticks |= {right.xaxis: (1, 10, 100, 1000, 10_000), right.yaxis: (0.1, 1, 10, 100, 1000, 10_000)}
        for axis, values in ticks.items():
            axis.set_ticks(values, labels=[f"{value:,g}" if value < 10_000 else f"{value:,}" for value in values])
            axis.set_minor_locator(NullLocator())
        middle.set(xlim=(0.8, 1.25 * max(r["starts"] for r in found["runs"])), ylim=(5, None))
        cores = f"{found['model']}, {found['hardware']['processor']}"
        headline(made, "The cost is that of the force calls: in proportion to the starts, and to the atoms of one material.", cores)
        return save(made, DOCS / "images", "cost")


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("entry", nargs="?", type=Path)
    parser.add_argument("--starts", default="1,10,100,1000")
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if not options.table:
        if options.entry is None:
            parser.error("give a model and an entry of it")
        os.environ["OMP_NUM_THREADS"] = "1"
        starts, workers = ([int(part) for part in text.split(",")] for text in (options.starts, options.workers))
        measure(options.model, options.entry, starts, workers)
    found = json.loads(NUMBERS.read_text(encoding="utf-8"))
    print(tables(found))
    for path in draw(found):
        print(path)


if __name__ == "__main__":
    main()
