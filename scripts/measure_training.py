"""What a training folder of a mace-torch model gives: validation errors of its last state, and the time of a step.

    python scripts/measure_training.py FOLDER [--device cuda] [--batches 8,16] [--steps 100]

Runs in the environment of mace-torch, which needs nothing else of defectbench. Prints one JSON object: the machine; by head the root mean
square errors of the averaged parameters on the folder's validation frames (energy in eV per cell, forces in eV/Å); and, with --steps, for
each batch size the milliseconds of a training step as it comes, and recorded as a CUDA graph, with the losses of the first twelve steps of
both. The folder's files are left as they are.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "defectbench" / "training"))
import mace_process

FIRST = 12


def main() -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batches", default="8,16", type=lambda text: [int(part) for part in text.split(",")])
    parser.add_argument("--steps", type=int, default=0, help="steps to time; none by default")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    found: dict[str, Any] = {"torch": torch.__version__, "processor": platform.processor() or platform.machine()}
    if options.device == "cuda":
        found["gpu"] = torch.cuda.get_device_name()
    job = load(options.folder, options.device, {})
    if job.state is not None:
        for name in ("model", "ema"):
            getattr(job, name).load_state_dict(job.state[name])
        found["epoch"] = job.state.get("epoch")
        found["validation"] = mace_process.validate(job)
    if options.steps:
        kinds = [mace_process.Step, *([mace_process.RecordedStep] if options.device == "cuda" else [])]
        found["steps"] = [timed(options, size, kind) for size in options.batches for kind in kinds]
    print(json.dumps(found, indent=1))
    return 0


def load(folder: Path, device: str, changes: dict[str, Any]) -> mace_process.Job:
    """The job of a folder, with changed settings; the process reads its folder from the place of the job file, so that is linked."""
    settings = json.loads((folder / "job.json").read_text(encoding="utf-8")) | {"device": device} | changes
    with tempfile.TemporaryDirectory() as scratch:
        for path in folder.resolve().iterdir():
            (Path(scratch) / path.name).symlink_to(path)
        (Path(scratch) / "job.json").unlink()
        (Path(scratch) / "job.json").write_text(json.dumps(settings), encoding="utf-8")
        return mace_process.Job(Path(scratch) / "job.json")


def timed(options: argparse.Namespace, size: int, kind: type[mace_process.Step]) -> dict[str, Any]:
    """Times steps of a new model of the folder's architecture."""
    job = load(options.folder, options.device, {"batch_size": size})
    mace_process.fit_constants(job)
    job.ema = mace_process.ExponentialMovingAverage(job.model.parameters(), decay=0.99)
    step, phase, batches = kind(job), job.settings["phases"][0], job.epoch_batches(0)
    losses = []
    for graphs in batches[:FIRST]:
        step.total.zero_()
        step(graphs, 0.003, phase)
        losses.append(round(float(step.total), 4))
    wait(options.device)
    began = time.perf_counter()
    for number in range(options.steps):
        step(batches[FIRST + number % (len(batches) - FIRST)], 0.003, phase)
    wait(options.device)
    milliseconds = 1e3 * (time.perf_counter() - began) / options.steps
    return {"batch": size, "recorded": kind is mace_process.RecordedStep, "milliseconds": round(milliseconds, 2), "first_losses": losses}


def wait(device: str) -> None:
    """Until the device has done what it was told."""
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    sys.exit(main())
