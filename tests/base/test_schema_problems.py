"""Misspelt keys name the key that was meant."""

from __future__ import annotations

import pytest
import yaml
from refusals import raises_code

import defectbench
from defectbench.datasets.schema import parse_metadata


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
