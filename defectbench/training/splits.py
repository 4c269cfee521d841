"""Which frames of a dataset may train a model, and which choose its best epoch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from defectbench.base.errors import DatasetError, UnknownNameError
from defectbench.base.states import relaxation_group
from defectbench.datasets.splits import SPLITS_FILE, Splits, read_splits

if TYPE_CHECKING:
    from ase import Atoms

    from defectbench.datasets.dataset import Dataset
    from defectbench.training.recipe import Recipe


@dataclass(frozen=True)
class Frame:
    """One labelled structure.

    Attributes:
        atoms: with energy (eV) and forces (N, 3) (eV/Å) attached.
        level: level of theory.
        defect: its defect.
        charge: total charge, units of +e.
        group: what it shares with the frames of the same relaxation, continued or repeated.
    """

    atoms: Atoms
    level: str
    defect: str
    charge: int
    group: str


@dataclass(frozen=True)
class Selection:
    """The frames of a training.

    Attributes:
        train: what the parameters are fitted to.
        validation: what the best epoch is chosen by.
        missing_levels: levels of the recipe for which the dataset has no training frame.
        left_out: number of frames with too large a force, by level.
        splits: of the dataset.
    """

    train: tuple[Frame, ...]
    validation: tuple[Frame, ...]
    missing_levels: tuple[str, ...]
    left_out: Counter[str]
    splits: Splits

    @property
    def charges(self) -> tuple[int, int]:
        """Smallest and largest charge of the training frames."""
        charges = [frame.charge for frame in self.train]
        return min(charges), max(charges)

    @property
    def levels(self) -> tuple[str, ...]:
        """Levels of the training frames, in the recipe's order."""
        return tuple(dict.fromkeys(frame.level for frame in self.train))

    @property
    def missing_charges(self) -> dict[str, tuple[int, ...]]:
        """Level → trained charges of which this level has no frame: there its head answers from what the others know."""
        there = {(frame.level, frame.charge) for frame in self.train}
        charges = sorted({charge for _, charge in there})
        found = {level: tuple(charge for charge in charges if (level, charge) not in there) for level in self.levels}
        return {level: missing for level, missing in found.items() if missing}


def select_frames(dataset: Dataset, recipe: Recipe) -> Selection:
    """The frames that a recipe trains and validates on, as the dataset's ``splits.yaml`` divides them.

    Args:
        dataset: with splits.
        recipe: names levels, parts, defects and charges.

    Raises:
        DatasetError: the dataset has no splits, or no frame is left to train or to validate on.
        UnknownNameError: the recipe names a defect that the dataset does not have.
    """
    splits = read_splits(dataset.path)
    if splits is None:
        raise DatasetError(
            f"dataset {dataset.id} has no {SPLITS_FILE}; write one in "
            f"{dataset.path} that says what is kept for the test (docs/datasets.md)",
            code="no-splits",
        )
    for defect in recipe.defects:
        if defect not in dataset.defects:
            raise UnknownNameError("defect", defect, dataset.defects)
    found: dict[str, list[Frame]] = {"train": [], "validation": []}
    left_out: Counter[str] = Counter()
    for level in (level.name for level in recipe.levels if level.name in dataset.levels):
        for defect, charge in dataset.states:
            if (recipe.defects and defect not in recipe.defects) or (recipe.charges and charge not in recipe.charges):
                continue
            for configuration in dataset.configurations(defect, charge, level):
                part = splits.part_of(defect, charge, configuration)
                use = "train" if part in recipe.train_on else "validation" if part in recipe.validate_on else None
                if use is None:
                    continue
                for atoms in dataset.frames(defect, charge, configuration, level):
                    if np.abs(atoms.get_forces()).max() > recipe.max_force:
                        left_out[level] += 1
                    else:
                        found[use].append(Frame(atoms, level, defect, charge, relaxation_group(configuration)))
    trained = {frame.level for frame in found["train"]}
    # a level that is only validated on would be a head that nothing trains; charges beyond the trained ones have no class
    charges = {frame.charge for frame in found["train"]}
    validation = tuple(frame for frame in found["validation"] if frame.level in trained and frame.charge in charges)
    if not trained or not validation:
        what = "train" if not trained else "validate"
        raise DatasetError(
            f"dataset {dataset.id} has no frame to {what} on with this recipe: check its levels, defects, charges and max_force",
            code="no-frames",
        )
    missing = tuple(level.name for level in recipe.levels if level.name not in trained)
    return Selection(tuple(found["train"]), validation, missing, left_out, splits)
