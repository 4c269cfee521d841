"""Which frames of a dataset train a model, which validate and which test it: ``splits.yaml`` in the dataset folder.

The rules of the file are applied to *groups*. A group is everything that begins at one start of one charge state, at all levels of
theory: the relaxation, its continuation or repetition at another level, single points on its frames, the start itself. So no frame of
a relaxation stands on two sides, and a dataset may grow without moving any group that is already there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from defectbench.base.errors import DatasetError
from defectbench.base.schema import problems
from defectbench.base.states import format_charge, relaxation_group
from defectbench.datasets.checks import Problem
from defectbench.datasets.extxyz import parse_frame_file_name
from defectbench.datasets.schema import Charge, DatasetFile, DefectName, read_yaml

SPLITS_FILE = "splits.yaml"

Part = Literal["train", "validation", "test", "held_out"]
"""``held_out`` may never be trained on; ``test`` is for models trained on the same charge states."""


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Rule(_Closed):
    """Puts all groups that it matches into one part.

    Attributes:
        part: that part.
        name: what a model is tested on with it, e.g. ``held-out defect``; reported with results.
        why: one sentence.
        defects: names; any defect if empty.
        charges: any charge if empty.
        configurations: names of starts, or patterns like ``Path_*``; any configuration if empty.
    """

    part: Part
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    why: str = ""
    defects: tuple[DefectName, ...] = ()
    charges: tuple[Charge, ...] = ()
    configurations: tuple[str, ...] = ()

    def matches(self, defect: str, charge: int, group: str) -> bool:
        """Whether a group falls under this rule."""
        return (
            (not self.defects or defect in self.defects)
            and (not self.charges or charge in self.charges)
            and (not self.configurations or any(fnmatchcase(group, pattern) for pattern in self.configurations))
        )


class Splits(_Closed):
    """The content of ``splits.yaml``.

    The first rule that matches a group decides. What no rule matches is divided by a hash of the seed and the group's name, so that
    it does not depend on which other groups there are.

    Attributes:
        schema_version: of this schema.
        seed: of the hash.
        validation: fraction of the remaining groups that validate.
        test: fraction of the remaining groups that test.
        rules: in order.
    """

    schema_version: Literal[1]
    seed: int
    validation: Annotated[float, Field(ge=0, lt=1)]
    test: Annotated[float, Field(ge=0, lt=1)]
    rules: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _something_left(self) -> Splits:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test leave nothing to train on")
        return self

    def rule_of(self, defect: str, charge: int, configuration: str) -> Rule | None:
        """The rule that decides about a configuration; None if the hash does."""
        group = relaxation_group(configuration)
        return next((rule for rule in self.rules if rule.matches(defect, charge, group)), None)

    def part_of(self, defect: str, charge: int, configuration: str) -> Part:
        """The part that all frames of a configuration belong to, at every level of theory.

        Example:
            >>> splits = Splits(schema_version=1, seed=1, validation=0.1, test=0.1,
            ...     rules=(Rule(part="held_out", name="defect", defects=("V_Se2",)),))
            >>> splits.part_of("V_Se2", 1, "Dimer")
            'held_out'
            >>> splits.part_of("V_Sb1", 0, "Direct_Dimer") == splits.part_of("V_Sb1", 0, "Dimer")
            True
        """
        rule = self.rule_of(defect, charge, configuration)
        if rule is not None:
            return rule.part
        key = f"{self.seed}:{defect}:{charge:+d}:{relaxation_group(configuration)}"
        drawn = int(hashlib.sha256(key.encode()).hexdigest()[:12], 16) / 16**12
        if drawn < self.validation:
            return "validation"
        return "test" if drawn < self.validation + self.test else "train"


@dataclass(frozen=True)
class FrameFile:
    """One configuration's frames at one level of theory."""

    level: str
    defect: str
    charge: int
    configuration: str


def frame_files(metadata: DatasetFile) -> Iterator[FrameFile]:
    """All configurations with frames that a dataset lists."""
    for name in metadata.files:
        parts = name.split("/")
        key = parse_frame_file_name(parts[-1])
        if parts[0] == "frames" and len(parts) == 3 and key is not None:
            yield FrameFile(parts[1], *key)


def read_splits(folder: Path) -> Splits | None:
    """Reads a dataset's ``splits.yaml``; None if there is none.

    Raises:
        DatasetError: not YAML or against the schema; one line naming the first wrong fields.
    """
    path = folder / SPLITS_FILE
    if not path.is_file():
        return None
    try:
        return Splits.model_validate(read_yaml(path))
    except ValidationError as error:
        found = problems(error, Splits)
        more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
        raise DatasetError(
            f"{path}: " + "; ".join(f"{field}: {message}" for field, message in found[:3]) + more, code="bad-metadata"
        ) from error


def check_splits(splits: Splits, metadata: DatasetFile) -> Iterator[Problem]:
    """Rules name what there is, each decides about something, and something is left to train, validate and test on."""
    states = [(defect.name, charge) for defect in metadata.defects for charge in defect.charges]
    names = {defect for defect, _ in states}
    for index, rule in enumerate(splits.rules):
        field = f"rules.{index}"
        for defect in rule.defects:
            if defect not in names:
                yield Problem(SPLITS_FILE, None, f"{field}.defects", f"'{defect}' is not a defect of the dataset")
        for charge in rule.charges:
            if not any(q == charge and (not rule.defects or defect in rule.defects) for defect, q in states):
                yield Problem(SPLITS_FILE, None, f"{field}.charges", f"{format_charge(charge)} is not a charge state of these defects")
        for earlier in splits.rules[:index]:
            if _covers(earlier, rule):
                yield Problem(SPLITS_FILE, None, field, f"never decides: rule '{earlier.name}' before it matches the same groups")
                break
    there = {splits.part_of(file.defect, file.charge, file.configuration) for file in frame_files(metadata)}
    if there:
        for part in get_args(Part):
            if part != "held_out" and part not in there:
                yield Problem(SPLITS_FILE, None, part, "no relaxation of the dataset falls into this part; choose another seed or fraction")


def _covers(wide: Rule, narrow: Rule) -> bool:
    """Whether every group that the second rule matches is matched by the first."""
    return all(
        not of_wide or (of_narrow and set(of_narrow) <= set(of_wide))
        for of_wide, of_narrow in (
            (wide.defects, narrow.defects),
            (wide.charges, narrow.charges),
            (wide.configurations, narrow.configurations),
        )
    )
