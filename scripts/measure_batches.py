"""How fast a model relaxes in batches, against one structure at a time on the same device.

    python scripts/measure_batches.py MODEL [--device cuda] [--batches 1,8,64] [--steps 20] [--defects V_Sb1] [--output FILE]

The starts of a defect in sb2se3-vacancies (of a charge-blind model the distinct ones; ``--defects all``: of every defect) are relaxed for a
few steps with each batch size; a batch of one is the plain ASE loop. Prints one JSON object: the machine, and per batch size the wall-clock
seconds, force calls per second, the ratio to the first size, and how far steps and positions are from those of the first size. Loading the
model and the first calls are not counted.

A machine that has ase and the model's package, but not what else defectbench needs, measures in two parts::

    python scripts/measure_batches.py MODEL --write FOLDER           # here: model, weights and structures go to FOLDER
    python scripts/measure_batches.py FOLDER --device cuda           # there, in a checkout with FOLDER
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

JOB = "batches.json"


def main() -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="name or YAML of a model, or a folder that --write made")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--batches", default="1,8,64")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--defects", default="V_Sb1")
    parser.add_argument("--environment")
    parser.add_argument("--trust-weights", action="store_true")
    parser.add_argument("--write", type=Path, metavar="FOLDER")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if (Path(options.model) / JOB).is_file():
        text = json.dumps(measure(Path(options.model), options.device, [int(part) for part in options.batches.split(",")]), indent=1)
        print(text)
        if options.output is not None:
            options.output.write_text(text + "\n", encoding="utf-8")
        return 0
    return prepare(options)


def prepare(options: argparse.Namespace) -> int:
    """Writes what is to be measured into a folder, and measures it in the model's environment unless only the folder is wanted."""
    from defectbench.base.errors import DefectbenchError
    from defectbench.calculations.preparation import ModelOptions, choose_model

    with tempfile.TemporaryDirectory() as temporary:
        folder = options.write or Path(temporary)
        try:
            model = ModelOptions(options.device, environment=options.environment, trust_weights=options.trust_weights)
            ready = choose_model(options.model, model).prepare(lambda sentence: print(sentence, file=sys.stderr))
            write_job(folder, ready.resolved, options.defects, options.steps)
        except DefectbenchError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
        if options.write is not None:
            return 0
        given = ["--device", options.device, "--batches", options.batches]
        given += ["--output", str(options.output)] if options.output is not None else []
        variables = {"OMP_NUM_THREADS": "1", **os.environ}
        return subprocess.run([str(ready.python.python), __file__, str(folder), *given], env=variables, check=False).returncode


def write_job(folder: Path, resolved: Any, defects: str, steps: int) -> None:
    """Writes a model's weights, how it is loaded, and the relaxations."""
    from defectbench.calculations.requests import Calculation, Protocol, Structure
    from defectbench.datasets.catalogue import load_dataset

    dataset = load_dataset("sb2se3-vacancies")
    takes_charge = resolved.definition.charge.how != "none"
    wanted = {
        c.content_hash: c
        for defect in (dataset.defects if defects == "all" else defects.split(","))
        for q in dataset.charges(defect)
        for atoms in dataset.starts(defect, q).values()
        for c in [Calculation("relaxation", Structure.from_atoms(atoms), q if takes_charge else None, Protocol(max_steps=steps))]
    }
    folder.mkdir(parents=True, exist_ok=True)
    spec = {**resolved.worker_spec(), "folder": None}  # of code beside a YAML, which evaluates no batches
    for number, entry in enumerate(spec["weights"]):
        if entry["path"] is not None:  # else the package has it
            name = f"{number}-{Path(entry['path']).name}"
            shutil.copyfile(entry["path"], folder / name)
            entry["path"] = name
    job = {"spec": spec, "steps": steps, "defects": defects, "calculations": [c.to_json() for c in wanted.values()]}
    (folder / JOB).write_text(json.dumps(job), encoding="utf-8")


def measure(folder: Path, device: str, batches: list[int]) -> dict[str, Any]:
    """Times each batch size in this process; needs ase and the model's package."""
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    from defectbench.worker.main import load

    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    spec = {**job["spec"], "device": device, "batch": max(batches)}
    for entry in spec["weights"]:
        entry["path"] = None if entry["path"] is None else str(folder / entry["path"])
    model, ready = load(spec)
    if not model.batches:
        sys.exit(f"error: {spec['id']} takes one structure per call, so there is nothing to measure")
    requests = [{"type": "calculate", "id": number, **one} for number, one in enumerate(job["calculations"])]
    short = [{**request, "protocol": {**request["protocol"], "max_steps": 2}} for request in requests]
    rows: list[dict[str, Any]] = []
    first: list[dict[str, Any]] = []
    for batch in batches:
        relaxed(model, short[:batch], batch)
        began = time.perf_counter()
        results = relaxed(model, requests, batch)
        wall = time.perf_counter() - began
        calls = sum(result["steps"] + 1 for result in results)
        first = first or results
        row = {"batch": batch, "relaxations": len(results), "force_calls": calls, "wall_s": round(wall, 3)}
        row |= {"failed": sum(result["status"] == "failed" for result in results), "force_calls_per_s": round(calls / wall, 2)}
        row |= {"against_first": round(row["force_calls_per_s"] / (rows or [row])[0]["force_calls_per_s"], 2)}
        row |= {"other_steps_than_first": sum(a["steps"] != b["steps"] for a, b in zip(results, first, strict=True))}
        row |= {"farthest_from_first_A": max(farthest(a, b) for a, b in zip(results, first, strict=True)), **memory(device)}
        rows.append(row)
        print(row, file=sys.stderr, flush=True)
    told = {name: ready[name] for name in ("versions", "parameters", "python", "platform")}
    told |= {"processor": processor(), "cores": os.cpu_count(), "gpu": gpu(device), "precision": model.precision}
    return {"model": spec["id"], "device": device, **told, "defects": job["defects"], "steps": job["steps"], "batches": rows}


class Silent:
    """Takes the progress of relaxations and drops it."""

    def send(self, message: dict[str, Any]) -> None:
        pass


def relaxed(model: Any, requests: list[dict[str, Any]], batch: int) -> list[dict[str, Any]]:
    """The results of relaxations, as a worker makes them."""
    from defectbench.worker.batched import serve
    from defectbench.worker.main import answer

    if batch == 1:
        return [answer(model, request, Silent()) for request in requests]
    waiting: queue.Queue[dict[str, Any]] = queue.Queue()
    for request in (*requests, {}):
        waiting.put(request)
    results: dict[int, dict[str, Any]] = {}

    def keep(request: dict[str, Any], result: dict[str, Any]) -> None:
        results[request["id"]] = result

    serve(model, batch, waiting, lambda member, request: answer(member, request, Silent()), keep)
    return [results[request["id"]] for request in requests]


def farthest(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The largest difference of a coordinate (Å) at the end."""
    pairs = zip(one["positions"], other["positions"], strict=True)
    return float(f"{max(abs(x - y) for a, b in pairs for x, y in zip(a, b, strict=True)):.3g}")


def processor() -> str:
    """The processor's name."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text(encoding="utf-8").splitlines() if known.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def gpu(device: str) -> str | None:
    """The GPU's name."""
    if device == "cpu" or "torch" not in sys.modules:
        return None
    return str(sys.modules["torch"].cuda.get_device_name(0))


def memory(device: str) -> dict[str, float]:
    """The most memory that torch held on the GPU since this was last asked, GB."""
    if device == "cpu" or "torch" not in sys.modules:
        return {}
    cuda = sys.modules["torch"].cuda
    most = round(cuda.max_memory_allocated() / 1e9, 2)
    cuda.reset_peak_memory_stats()
    return {"gpu_memory_gb": most}


if __name__ == "__main__":
    sys.exit(main())
