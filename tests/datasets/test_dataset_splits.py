"""Which frames train, validate and test: whole relaxations, held-out states, and a file that fits its dataset."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import yaml
from datasets_helpers import rehash, rewrite
from refusals import raises_code

from defectbench.datasets.catalogue import embedded_folder, validate_dataset
from defectbench.datasets.schema import parse_metadata
from defectbench.datasets.splits import Rule, Splits, frame_files, read_splits

SHIPPED = embedded_folder() / "sb2se3-vacancies"
CONTENT = {"schema_version": 1, "seed": 3, "validation": 0.2, "test": 0.2, "rules": []}


def shipped() -> Splits:
    splits = read_splits(SHIPPED)
    assert splits is not None
    return splits


def with_splits(folder: Path, **changes: object) -> list[str]:
    (folder / "splits.yaml").write_text(yaml.safe_dump({**CONTENT, **changes}))
    rehash(folder, "splits.yaml")
    return [str(problem) for problem in validate_dataset(folder).problems]


def test_everything_from_one_start_is_on_one_side() -> None:
    splits = shipped()
    for name in ("Unperturbed", "Bond_Distortion_-40.0%", "Dimer"):
        parts = {splits.part_of("V_Sb1", 0, prefix + name) for prefix in ("", "Direct_", "Start_")}
        assert len(parts) == 1


def test_held_out_states_are_never_trained_on() -> None:
    splits, metadata = shipped(), parse_metadata(SHIPPED / "dataset.yaml")
    for file in frame_files(metadata):
        part = splits.part_of(file.defect, file.charge, file.configuration)
        held_out = file.defect == "V_Se2" or (file.defect, file.charge) == ("V_Sb2", -3)
        assert (part == "held_out") == held_out
        if file.configuration.endswith("Bond_Distortion_20.0%"):
            assert part == "test"


def test_every_charge_of_the_landscape_to_be_learned_has_all_parts() -> None:
    splits, metadata = shipped(), parse_metadata(SHIPPED / "dataset.yaml")
    for charge in metadata.defect("V_Sb1").charges:
        names = {f.configuration for f in frame_files(metadata) if (f.defect, f.charge) == ("V_Sb1", charge)}
        count = Counter(splits.part_of("V_Sb1", charge, name) for name in names)
        assert count["train"] >= 3
        assert count["validation"] >= 1
        assert count["test"] >= 1


def test_a_growing_dataset_moves_nothing() -> None:
    one = Splits.model_validate(CONTENT)
    more = Splits.model_validate({**CONTENT, "rules": [{"part": "held_out", "name": "defect", "defects": ["V_X"]}]})
    assert all(one.part_of("V_A", q, f"c{i}") == more.part_of("V_A", q, f"c{i}") for q in range(-3, 4) for i in range(20))


def test_fractions_are_kept_on_average() -> None:
    splits = Splits.model_validate(CONTENT)
    count = Counter(splits.part_of("V_A", 0, f"c{i}") for i in range(2000))
    assert count["validation"] == pytest.approx(400, abs=80)
    assert count["test"] == pytest.approx(400, abs=80)


def test_the_first_rule_that_matches_decides() -> None:
    rules = (
        Rule(part="test", name="a", defects=("V_A",), charges=(1,)),
        Rule(part="held_out", name="b", defects=("V_A",)),
        Rule(part="validation", name="c", configurations=("Path_*",)),
    )
    splits = Splits(schema_version=1, seed=0, validation=0.0, test=0.0, rules=rules)
    assert splits.part_of("V_A", 1, "Dimer") == "test"
    assert splits.part_of("V_A", 0, "Dimer") == "held_out"
    assert splits.part_of("V_B", 0, "Path_+1_+0") == "validation"
    assert splits.part_of("V_B", 0, "Dimer") == "train"


@pytest.mark.parametrize(
    "changes",
    [
        {"rules": [{"part": "test", "name": "x", "defects": ["V_Q"]}]},
        {"rules": [{"part": "test", "name": "x", "charges": [7]}]},
        {"rules": [{"part": "test", "name": "x"}, {"part": "held_out", "name": "y", "defects": ["V_Sb"]}]},
        {"validation": 0.0},
        {"validation": 0.6, "test": 0.6},
        {"rules": [{"part": "train_too", "name": "x"}]},
    ],
    ids=["defect", "charge", "never decides", "empty part", "nothing to train", "part"],
)
def test_what_does_not_fit_is_found(tiny: Path, changes: dict[str, object]) -> None:
    assert with_splits(tiny, **changes)


def test_a_fitting_file_is_valid_and_must_be_listed(tiny: Path) -> None:
    seed = next(seed for seed in range(1000) if not with_splits(tiny, seed=seed))
    assert with_splits(tiny, seed=seed) == []
    rewrite(tiny, lambda content: content["files"].pop("splits.yaml"))
    assert [problem.field for problem in validate_dataset(tiny).problems] == ["files"]


def test_without_the_file_there_are_no_splits(tiny: Path) -> None:
    assert read_splits(tiny) is None
    (tiny / "splits.yaml").write_text("seed: [")
    with raises_code("bad-yaml", "splits.yaml"):
        read_splits(tiny)
