"""How fast a model relaxes in batches, against one structure at a time on the same device.

    python scripts/measure_batches.py MODEL [--device cuda] [--batches 1,8,64] [--steps 20] [--output FILE]

All starts of V_Sb1 in sb2se3-vacancies (of a charge-blind model the distinct ones) are relaxed for a few steps with each batch size by one
worker. Prints one JSON object: the machine, and per batch size the wall-clock seconds, force calls per second and the ratio to the first.
Loading the model and the first calculation are not counted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from defectbench.base import hardware
from defectbench.base.errors import DefectbenchError
from defectbench.calculations.client import WorkerClient
from defectbench.calculations.executors.local import LocalExecutor
from defectbench.calculations.preparation import ModelOptions, choose_model
from defectbench.calculations.requests import Calculation, Protocol, Structure
from defectbench.datasets.catalogue import load_dataset


def main() -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batches", default="1,8,64", type=lambda text: [int(part) for part in text.split(",")])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--trust-weights", action="store_true")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    try:
        chosen = choose_model(options.model, ModelOptions(options.device, trust_weights=options.trust_weights))
        ready = chosen.prepare(lambda sentence: print(sentence, file=sys.stderr))
        found = measure(ready, options.batches, options.steps)
    except DefectbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    text = json.dumps({"model": options.model, "device": options.device, "hardware": hardware.describe().model_dump(), **found}, indent=1)
    print(text)
    if options.output is not None:
        options.output.write_text(text + "\n", encoding="utf-8")
    return 0


def measure(ready, batches: list[int], steps: int) -> dict[str, object]:
    """Times each batch size; the structures are the same."""
    dataset = load_dataset("sb2se3-vacancies")
    takes_charge = ready.resolved.definition.charge.how != "none"
    wanted = {
        c.content_hash: c
        for q in dataset.charges("V_Sb1")
        for atoms in dataset.starts("V_Sb1", q).values()
        for c in [Calculation("relaxation", Structure.from_atoms(atoms), q if takes_charge else None, Protocol(max_steps=steps))]
    }
    work = list(wanted.values())
    rows = []
    for batch in batches:
        with WorkerClient(
            LocalExecutor(ready.spec, 1, batch=batch).spec, cuda_device=0 if ready.resolved.device == "cuda" else None
        ) as client:
            taken = client.ready["capabilities"]["batch"]
            client.calculate(work[0])
            began = time.perf_counter()
            calls = sum(result.steps + 1 for _, result in client.calculate_many(work, batch))
            wall = time.perf_counter() - began
        rows.append({"batch": batch, "taken": taken, "relaxations": len(work), "force_calls": calls, "wall_s": round(wall, 3)})
        rows[-1] |= {"force_calls_per_s": round(calls / wall, 2), "against_first": round(rows[0]["wall_s"] / wall, 2)}
        print(rows[-1], file=sys.stderr, flush=True)
    return {"steps": steps, "batches": rows}


if __name__ == "__main__":
    sys.exit(main())
