"""Misspelt keys name the key that was meant."""

from __future__ import annotations

import json

import pytest
import yaml
from refusals import raises_code

import defectbench
from defectbench.calculations.executors.dask import JobQueue
from defectbench.datasets.schema import parse_metadata
from defectbench.datasets.splits import read_splits
from defectbench.entries.folder import read_entry
from defectbench.leaderboard.gate import read_tolerances
from defectbench.sanity.record import read_record
from defectbench.scoring.task import read_metrics
from defectbench.training.recipe import load_recipe


@pytest.mark.parametrize(
    ("change", "meant"),
    [
        ({"adaptor": "mace"}, "adapter"),
        ({"charge": {"hwo": "none"}}, "how"),
        ({"weights": {"source": "path", "files": [{"path": "a", "sha265": None}]}}, "sha256"),
    ],
)
def test_of_a_model(tmp_path, change, meant):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"id": "m", "name": "m", "adapter": "mace", "level_of_theory": "PBE"} | change))
    with raises_code("bad-model-yaml", meant):
        defectbench.load_model(path)


def test_of_a_dataset(tmp_path):
    shipped = defectbench.load_dataset("sb2se3-vacancies").path / "dataset.yaml"
    path = tmp_path / "dataset.yaml"
    path.write_text(shipped.read_text().replace("functional:", "functionel:", 1))
    with raises_code("bad-metadata", "functionel", "functional"):
        parse_metadata(path)


@pytest.mark.parametrize(
    ("read", "file", "code", "wrong", "meant"),
    [
        (defectbench.load_model, "mine.yaml", "bad-model-yaml", "level_of_theroy", "level_of_theory"),
        (parse_metadata, "dataset.yaml", "bad-metadata", "refrence_level", "reference_level"),
        (lambda path: read_splits(path.parent), "splits.yaml", "bad-metadata", "validaton", "validation"),
        (load_recipe, "recipe.yaml", "bad-recipe", "levls", "levels"),
        (JobQueue.read, "queue.yaml", "bad-jobqueue", "clustr", "cluster"),
        (read_metrics, "metrics.yaml", "bad-input", "wieght", "weight"),
        (read_tolerances, "tolerance.yaml", "bad-tolerance", "metrcs", "metrics"),
        (read_record, "sanity.json", "bad-entry", "findngs", "findings"),
        (read_entry, "entry.json", "bad-entry", "selecton", "selection"),
    ],
)
def test_a_misspelt_required_key_is_named_before_the_keys_that_are_missing(tmp_path, read, file, code, wrong, meant):
    path = tmp_path / file
    path.write_text(json.dumps({wrong: {}}))  # which is YAML, too
    with raises_code(code, wrong, meant):
        read(path)
