"""How long matching and the scoring of `charge_response` take on a dataset: no model is needed.

    python scripts/measure_matching.py [DATASET] [--noise 0.03] [--only relax,charge_response] [--output FILE]

A made-up model relaxes every start to the minimum of DFT with some noise (Å, rms per coordinate), each in another orientation that the
host allows. Prints one JSON object: the dataset, how many operations the host has, processor seconds per scored task, and processor
milliseconds per match of two structures (median, largest) when nothing is known of either of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from defectbench.calculations.plan import SelectedState
from defectbench.calculations.requests import Relaxation
from defectbench.datasets.catalogue import load_dataset
from defectbench.datasets.dataset import Dataset
from defectbench.scoring.task import ConfigurationResult, ScoringInput
from defectbench.structures import matching
from defectbench.structures.matching import match
from defectbench.structures.symmetry import host_operations
from defectbench.tasks import get_tasks

PAIRS = 40
"""Number of pairs of structures that are timed one by one."""


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", default="mgo-antisite-doped")
    parser.add_argument("--noise", type=float, default=0.03)
    parser.add_argument("--only", default="charge_response", help="tasks, with commas")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    dataset = load_dataset(options.dataset)
    began = time.process_time()
    operations = host_operations(dataset.host)
    told: dict[str, Any] = {"dataset": dataset.id, "atoms": len(dataset.host), "operations": len(operations), "noise_A": options.noise}
    told["operations_s"] = round(time.process_time() - began, 2)
    scoring = made_up(dataset, options.noise)
    told["configurations"] = len(scoring.configurations)
    told["match_ms"] = pairs(scoring)
    for task in get_tasks(options.only.split(",")):
        matching.clear_results()
        began = time.process_time()
        result = task.score(scoring)
        told[f"{task.name}_s"] = round(time.process_time() - began, 2)
        told[f"{task.name}_metrics"] = {m.name: m.value for m in result.metrics}
    text = json.dumps(told, indent=1)
    print(text)
    if options.output is not None:
        options.output.write_text(text + "\n", encoding="utf-8")


def made_up(dataset: Dataset, noise: float) -> ScoringInput:
    """What the tasks score of a model that ends near DFT's minima, each in an orientation of its own."""
    generator, operations = np.random.default_rng(0), host_operations(dataset.host)
    states, configurations = [], []
    for defect, charge in dataset.states:
        minima = dataset.minima(defect, charge)
        if not minima:
            continue
        states.append(SelectedState(defect, charge, tuple(minima)))
        for name, minimum in minima.items():
            turned = operations.apply(int(generator.integers(len(operations))), minimum.atoms.positions)
            positions = turned + generator.normal(size=turned.shape) * noise
            relaxation = Relaxation("converged", positions, minimum.energy, None, (minimum.energy,), (0.0,), 1, 1.0, 0.0)
            configurations.append(ConfigurationResult(defect, charge, name, relaxation))
    return ScoringInput(dataset, tuple(states), tuple(configurations), (), "charge-aware")


def pairs(scoring: ScoringInput) -> dict[str, float]:
    """Processor milliseconds of a match of a relaxed structure and a minimum of its charge state."""
    operations = host_operations(scoring.dataset.host)
    taken = []
    for one in scoring.configurations:
        minima = scoring.dataset.minima(one.defect, one.charge)
        for minimum in list(minima.values())[:3]:
            candidate = minimum.atoms.copy()
            candidate.positions = one.relaxation.positions
            taken.append((candidate, minimum.atoms))
    step = max(1, len(taken) // PAIRS)
    spent = []
    for candidate, reference in taken[::step]:
        matching.clear_results()
        began = time.process_time()
        match(candidate, reference, operations)
        spent.append(1000 * (time.process_time() - began))
    return {"pairs": len(spent), "median": round(statistics.median(spent), 1), "largest": round(max(spent), 1)}


if __name__ == "__main__":
    main()
