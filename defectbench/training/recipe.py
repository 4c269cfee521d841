"""The closed schema of a training recipe: one YAML file each, in ``recipes/`` or the user's own."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from defectbench.base.errors import DefectbenchError, UnknownNameError
from defectbench.base.paths import user_path
from defectbench.base.schema import problems
from defectbench.base.yaml import read_yaml
from defectbench.datasets.schema import DefectName, LevelName
from defectbench.datasets.splits import Part
from defectbench.models.registry import load_model

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(strict=True, gt=0)]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Level(_Closed):
    """A level of theory to train on: one head of the model.

    Attributes:
        name: as the dataset names it. A level without frames is left out and reported.
        repeat: how often its frames are seen per epoch, so that a few expensive frames count beside many cheap ones.
        forces: whether its forces are trained on. Energies alone teach energies only.
    """

    name: LevelName
    repeat: Count = 1
    forces: bool = True


class Architecture(_Closed):
    """Size of a MACE model; names as in mace-torch's configuration.

    Attributes:
        num_channels: channels.
        max_L: highest degree of the messages.
        max_ell: highest degree of the spherical harmonics of the edges.
        correlation: correlation order.
        num_interactions: layers.
        r_max: cutoff, Å.
        num_radial_basis: radial functions.
        pair_repulsion: whether atoms repel each other at distances far below a bond (Ziegler, Biersack and Littmark, 1985), where no
            frame teaches that. Zero from the sum of the covalent radii on.
        charge: whether the total charge is embedded. Without, the model is charge-blind.
    """

    num_channels: Count = 32
    max_L: Annotated[int, Field(strict=True, ge=0)] = 1  # noqa: N815  as mace-torch names it
    max_ell: Count = 2
    correlation: Count = 2
    num_interactions: Count = 2
    r_max: Positive = 5.0
    num_radial_basis: Count = 8
    pair_repulsion: bool = True
    charge: bool = True


class Phase(_Closed):
    """A part of the training. The learning rate falls exponentially from its first to its second value.

    Attributes:
        epochs: how many.
        learning_rate: at its begin and its end.
        energy_weight: of the Huber loss of the energy per cell, 1/eV².
        forces_weight: of the Huber loss of the force components, Å²/eV².
    """

    epochs: Count
    learning_rate: tuple[Positive, Positive]
    energy_weight: Annotated[float, Field(ge=0)]
    forces_weight: Annotated[float, Field(ge=0)]


class Pretraining(_Closed):
    """A first stage on labels of a model that is cheap to run. It teaches the chemistry; charge and level are learned afterwards.

    Attributes:
        model: id of a registered model whose labels are learned.
        structures: how many, of the host and of each defect that is trained on in equal parts.
        rattle: standard deviations of random displacements, Å; drawn evenly from this range.
        strain: largest component of a random strain.
        phases: of this stage.
    """

    model: str
    structures: Count
    rattle: tuple[Positive, Positive] = (0.02, 0.25)
    strain: Annotated[float, Field(ge=0, lt=0.2)] = 0.0
    phases: tuple[Phase, ...] = Field(min_length=1)

    @field_validator("model")
    @classmethod
    def _registered(cls, value: str) -> str:
        # a definition of its own could name any code, and a recipe does not say that the user trusts it
        if value.endswith((".yaml", ".yml")):
            raise ValueError(f"'{value}' is a file; only a registered model may label, see 'defectbench models list'")
        load_model(value)
        return value


class Recipe(_Closed):
    """How a model is trained.

    Attributes:
        id: its name.
        kind: which package trains it.
        description: one sentence.
        levels: heads of the model, in order. The first is the model's default.
        train_on: parts of the dataset's splits; never ``test`` or ``held_out``.
        validate_on: the parts by which the best epoch is chosen.
        defects: only these; all that the splits allow if empty.
        charges: only these; all that the splits allow if empty.
        max_force: frames with a larger force component are left out, eV/Å.
        huber_energy: error per cell from which the loss grows linearly, eV.
        huber_forces: error of a component from which the loss grows linearly, eV/Å.
        architecture: size of the model.
        dtype: of the training. The energies of the atoms are taken out in float64 first.
        batch_size: structures per step.
        ema_decay: of the running average of the parameters, which is what is validated and kept.
        patience: epochs without improvement after which the training ends.
        seed: of parameters and order.
        phases: one after the other.
        pretraining: optional first stage.
        presets: name → fields that replace the above.
    """

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+_-]*$", max_length=60)]
    kind: Literal["mace"]
    description: str = ""
    levels: tuple[Level, ...] = Field(min_length=1)
    train_on: tuple[Part, ...] = ("train",)
    validate_on: tuple[Part, ...] = ("validation",)
    defects: tuple[DefectName, ...] = ()
    charges: tuple[Annotated[int, Field(strict=True)], ...] = ()
    max_force: Positive = 10.0
    huber_energy: Positive = 0.5
    huber_forces: Positive = 0.5
    architecture: Architecture = Architecture()
    dtype: Literal["float32", "float64"] = "float32"
    batch_size: Count = 8
    ema_decay: Annotated[float, Field(gt=0, lt=1)] = 0.99
    patience: Count = 50
    seed: Annotated[int, Field(strict=True, ge=0)] = 1
    phases: tuple[Phase, ...] = Field(min_length=1)
    pretraining: Pretraining | None = None
    presets: dict[str, dict[str, Any]] = {}

    @field_validator("train_on", "validate_on")
    @classmethod
    def _no_test(cls, value: tuple[Part, ...]) -> tuple[Part, ...]:
        if forbidden := [part for part in value if part in ("test", "held_out")]:
            raise ValueError(f"'{forbidden[0]}' is kept for the test; a model that saw it cannot be tested")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        if both := set(self.train_on) & set(self.validate_on):
            raise ValueError(f"'{both.pop()}' is in train_on and in validate_on")
        names = [level.name for level in self.levels]
        if len(set(names)) < len(names):
            raise ValueError("a level is named twice")
        return self


def list_recipes() -> list[str]:
    """Names of the recipes that ship with defectbench.

    >>> "mace-mf" in list_recipes()
    True
    """
    folder = Path(str(resources.files("defectbench.training") / "recipes"))
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load_recipe(name: str | Path, *, preset: str | None = None, seed: int | None = None) -> Recipe:
    """A recipe by name or from a YAML file.

    Args:
        name: a name, or a path that ends in ``.yaml`` or ``.yml``.
        preset: of the recipe; its fields replace the recipe's own.
        seed: instead of the recipe's.

    Example:
        >>> load_recipe("mace-mf", preset="tiny").id
        'mace-mf'

    Raises:
        UnknownNameError: no such recipe, preset, or model for the pretraining.
        DefectbenchError: the file cannot be read or breaks the schema; names the first wrong field.
    """
    text = str(name)
    if text.endswith((".yaml", ".yml")):
        path = user_path(text)
    else:
        if text not in list_recipes():
            raise UnknownNameError("recipe", text, list_recipes())
        path = Path(str(resources.files("defectbench.training") / "recipes" / f"{text}.yaml"))
    content = read_yaml(path, DefectbenchError)
    if not isinstance(content, dict):
        raise DefectbenchError(f"{path}: a recipe is a mapping with id, kind, levels, phases, …", code="bad-recipe")
    if preset is not None:
        presets = content.get("presets") or {}
        if preset not in presets:
            raise UnknownNameError("preset", preset, presets)
        content = {**content, **presets[preset]}
    if seed is not None:
        content = {**content, "seed": seed}
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        found = problems(error, Recipe)
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise DefectbenchError(f"{path}: {found[0][0]}: {found[0][1]}{more}", code="bad-recipe") from error
