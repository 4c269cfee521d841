"""Every published metric of two entries, recomputed from its definition by code that shares nothing with the package."""

import json
from pathlib import Path

import pytest
from recomputation import Recomputation
from recomputed_tasks import TASKS, ccd

REPOSITORY = Path(__file__).parents[2]
DATASET = REPOSITORY / "datasets/sb2se3-vacancies"
ENTRIES = ("chgnet-0.3.0", "qet-matq")

TOLERANCE = 1e-4
"""Relative below 1, absolute above it, and 1e-5 more: distances are published to 1e-5 Å."""

PUBLISHED_TO = {"relax.wall_s": 0.005, "cost.peak_memory": 0.05, "cost.seconds_per_relaxation": 0.005}
"""Metrics that are medians of rounded values: half of the last digit."""

NOT_RECOMPUTED = {
    "ccd.curve_mae": "these data have no energies along paths",
    "ccd.relaxation_energy_mae": "these data have no energies along paths",
    "ccd.frequency_error": "these data have no energies along paths",
    "ccd.huang_rhys_error": "these data have no energies along paths",
}
"""Without a value in these entries, so there is nothing to compare."""


def published(folder):
    tasks = json.loads((folder / "entry.json").read_text())["tasks"]
    return {f"{task}.{m['name']}": m["value"] for task, record in tasks.items() for m in record["metrics"]}, tasks


@pytest.mark.slow
@pytest.mark.parametrize("name", ENTRIES)
def test_every_published_metric_is_what_its_definition_gives(name):
    folder = REPOSITORY / "leaderboards/sb2se3-vacancies" / name
    values, tasks = published(folder)
    entry = Recomputation(folder, DATASET)
    again = {f"{task}.{metric}": value for task, compute in TASKS.items() for metric, value in compute(entry).items()}
    # the structures along a path are known by their hashes alone: the model's energies there are those of the table
    again |= {f"ccd.{metric}": value for metric, value in ccd(tasks["ccd"]["tables"]["points"]).items()}
    assert values.keys() - again.keys() == NOT_RECOMPUTED.keys()
    assert not [metric for metric in NOT_RECOMPUTED if values[metric] is not None], "they have values now: recompute them"
    wrong = {}
    for metric, value in again.items():
        expected = values[metric]
        if value is None or expected is None:
            same = value is expected
        else:
            same = abs(value - expected) <= max(TOLERANCE * min(1.0, abs(expected)) + 1e-5, PUBLISHED_TO.get(metric, 0.0))
        if not same:
            wrong[metric] = (expected, value)
    assert not wrong
