"""Misspelt keys name the key that was meant."""

from __future__ import annotations

import pytest
import yaml

import defectbench
from defectbench.datasets.schema import parse_metadata


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"adaptor": "mace"}, "adapter"),
        ({"charge": {"hwo": "none"}}, "how"),
        ({"weights": {"source": "path", "files": [{"path": "a", "sha265": None}]}}, "sha256"),
    ],
)
def test_of_a_model(tmp_path, change, said):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"id": "m", "name": "m", "adapter": "mace", "level_of_theory": "PBE"} | change))
    with pytest.raises(defectbench.DefectbenchError, match=f"did you mean {said}") as error:
        defectbench.load_model(path)
    assert error.value.code == "bad-model-yaml"


def test_of_a_dataset(tmp_path):
    shipped = defectbench.load_dataset("sb2se3-vacancies").path / "dataset.yaml"
    path = tmp_path / "dataset.yaml"
    path.write_text(shipped.read_text().replace("functional:", "functionel:", 1))
    with pytest.raises(defectbench.DefectbenchError, match="did you mean functional"):
        parse_metadata(path)
