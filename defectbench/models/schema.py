"""The closed schema of a model definition: one YAML file per model."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from defectbench.base.files import relative_name

Builtin = Literal["sevennet", "chgnet", "matgl", "mace", "grace", "mattersim", "nequix", "orb", "upet", "ase_calculator"]
Plugin = Annotated[str, Field(pattern=r"^plugin:[A-Za-z0-9][A-Za-z0-9_.-]*$")]
"""An adapter of another package: the name of its entry point in the group ``defectbench.adapters``."""
ChargeClass = Literal["charge-blind", "energy-only", "charge-aware"]

ModelId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+_-]*$", max_length=100)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_HOW = re.compile(r"^(none|total_charge|weights|info:\S+|argument:[A-Za-z_]\w*)$")


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _refuse_unless_json(where: str, value: object) -> None:
    """Raises ``ValueError`` for what would not reach the worker as it is: it goes there, and into the identity, as JSON."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{where}: key {key!r} must be a string; quote it")
            _refuse_unless_json(f"{where}.{key}", item)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse_unless_json(f"{where}.{index}", item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where}: {value} is not a number")
    elif value is not None and not isinstance(value, str | int | float):
        kind = type(value).__name__
        raise ValueError(
            f"{where}: a {kind} cannot be handed to a model; write a text (in quotes), a number, true, false, null, or lists of them"
        )


class WeightsFileDefinition(_Closed):
    """One weights file.

    Attributes:
        path: relative POSIX path: inside site-packages (``package``), below the weights mirror and cache (``url``; without a hash
            below ``unhashed/<digest of the URL>/`` in the cache), or below the YAML's folder (``path``; an absolute one needs
            ``--trust-weights``).
        url: where it comes from; only and always with source ``url``.
        sha256: hex digest; null where it is not known, and then running it needs ``--trust-weights``.
        size: in bytes, as its publisher or others state it.
        git_blob: SHA-1 of the file as git stores it, where it lies in a public repository.
        witnesses: how many independent public records (lock files, catalogues, protocols of other projects) state this SHA-256; null where
            nobody counted.
        refused: SHA-256 of another file that circulates under this name → what is wrong with it; such a file is never loaded.
        unpack: the file is a ``.tar.gz``; its content is the model.
        charge: the one charge that the file is for, with ``charge: {how: weights}``; null for a file that all charges share.
    """

    path: str
    url: str | None = None
    sha256: Sha256 | None = None
    size: Annotated[int, Field(gt=0)] | None = None
    git_blob: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    witnesses: Annotated[int, Field(gt=0)] | None = None
    refused: dict[Sha256, str] = {}
    unpack: bool = False
    charge: int | None = None

    @field_validator("url")
    @classmethod
    def _https(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("https://"):
            raise ValueError("must start with https://")
        return value


class Weights(_Closed):
    """Where the weights come from.

    Attributes:
        source: ``package`` (inside the installed wheel), ``shipped`` (with defectbench), ``url`` (downloaded), ``path`` (the user's own
            file), ``none``.
        files: the files; empty only for ``none``.
        parameters: number of trainable parameters as the adapter counts them; null where it is not known.
    """

    source: Literal["package", "shipped", "url", "path", "none"]
    files: tuple[WeightsFileDefinition, ...] = ()
    parameters: Annotated[int, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Weights:
        if (self.source == "none") != (not self.files):
            raise ValueError("files must be given for every source but none")
        if repeated := [path for path, count in Counter(file.path for file in self.files).items() if count > 1]:
            raise ValueError(f"the file {repeated[0]} is named twice")
        for file in self.files:
            if (self.source == "url") != (file.url is not None):
                raise ValueError(f"file {file.path}: a url belongs to source: url, and only there")
            if self.source != "path":
                relative_name(file.path)
        return self


class Charge(_Closed):
    """How a charge reaches the model.

    Attributes:
        how: ``none``; ``total_charge`` (the package's own argument); ``info:<key>`` (``atoms.info[key] = int``);
            ``argument:<name>`` (the factory of an ``ase_calculator`` is called once per charge); ``weights`` (one model per charge: each
            weights file says the charge that it is for).
        range: smallest and largest charge it was trained on, if known.
        claim: the class that the certificate must confirm; without it a model that takes a charge must only not be charge-blind.
    """

    how: str = "none"
    range: tuple[int, int] | None = None
    claim: ChargeClass | None = None

    @model_validator(mode="after")
    def _fits(self) -> Charge:
        if not _HOW.match(self.how):
            raise ValueError(f"how is none, total_charge, info:<key>, argument:<name> or weights, not '{self.how}'")
        if self.range is not None and self.range[0] > self.range[1]:
            raise ValueError("range is [smallest, largest]")
        if (self.how == "none") and self.claim not in (None, "charge-blind"):
            raise ValueError(f"a model that takes no charge cannot be {self.claim}")
        if (self.how != "none") and self.claim == "charge-blind":
            raise ValueError("a model that takes a charge cannot claim to be charge-blind; write how: none")
        return self


class TrainedOn(_Closed):
    """A dataset that a model was trained on.

    Attributes:
        dataset: its id.
        dataset_sha256: of its content when the training began.
        files_sha256: of the training files, which hold exactly what the model has seen.
        levels: levels of theory.
    """

    dataset: str
    dataset_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    files_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    levels: tuple[str, ...] = ()


class Citation(_Closed):
    """What to cite."""

    text: str
    doi: Annotated[str, Field(pattern=r"^10\.\d{4,9}/\S+$")] | None = None
    url: str | None = None


class ModelDefinition(_Closed):
    """A model, as its YAML file describes it.

    Attributes:
        id: lower-case name used on the command line.
        name: as its authors write it.
        package: PyPI name of the package that runs it; empty for a user's own calculator.
        environment: name of the managed environment, or ``current``.
        adapter: the worker's adapter, or ``plugin:NAME`` for one of another package.
        arguments: handed to the adapter (head, modal, dtype, factory, …).
        weights: where they come from.
        charge: how a charge reaches it.
        level_of_theory: functional of its training labels (of the head used).
        training_data: one line.
        trained_on: datasets of this kind that it has seen; for them a result does not test transfer.
        licence: of the weights.
        citation: what to cite.
        url: home page.
        notes: what a user of the model must know.

    Example:
        >>> import defectbench
        >>> model = defectbench.load_model("qet-matq")
        >>> model
        <model qet-matq: QET-MatQ, PBE, charge: total_charge>
        >>> model.charges_of_weights, model.requires_trust
        ((), False)
    """

    id: ModelId
    name: Annotated[str, Field(pattern=r"^[^$\x00-\x1f]+$", max_length=200)]  # figures would read $…$ as a formula
    package: str = ""
    environment: str = "current"
    adapter: Builtin | Plugin
    arguments: dict[str, Any] = {}
    weights: Weights = Weights(source="none")
    charge: Charge = Charge()
    level_of_theory: str
    training_data: str = "not stated"
    trained_on: tuple[TrainedOn, ...] = ()
    licence: str = "not stated"
    citation: Citation | None = None
    url: str | None = None
    notes: str = ""

    @field_validator("arguments")
    @classmethod
    def _plain(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name, argument in value.items():
            _refuse_unless_json(name, argument)
        return value

    @model_validator(mode="after")
    def _fits(self) -> ModelDefinition:
        if self.adapter == "ase_calculator" and "factory" not in self.arguments:
            raise ValueError("arguments: an ase_calculator needs factory: 'module:function'")
        if (self.charge.how == "weights") != bool(self.charges_of_weights):
            raise ValueError("charge: how: weights belongs to weights files that say the charge they are for, and to no others")
        if len(self.charges_of_weights) == 1:
            raise ValueError("weights: with how: weights there must be files for at least two charges")
        if self.charges_of_weights and self.charge.range is not None:
            raise ValueError("charge: with how: weights the charges are those of the files; leave range out")
        return self

    def __repr__(self) -> str:
        return f"<model {self.id}: {self.name}, {self.level_of_theory}, charge: {self.charge.how}>"

    def charges_among(self, charges: Iterable[int]) -> list[int]:
        """Those of some charges that the model can be asked at, as far as its definition says.

        Example:
            >>> import defectbench
            >>> defectbench.load_model("qet-matq").charges_among([-1, 0, 1])
            [-1, 0, 1]
        """
        if self.charge.how == "weights":
            return [q for q in charges if q in self.charges_of_weights]
        if self.charge.range is not None:
            return [q for q in charges if self.charge.range[0] <= q <= self.charge.range[1]]
        return list(charges)

    @property
    def charges_of_weights(self) -> tuple[int, ...]:
        """The charges that have weights of their own (one model per charge), in order; empty for every other model."""
        return tuple(sorted({file.charge for file in self.weights.files if file.charge is not None}))

    @property
    def requires_trust(self) -> bool:
        """Whether it has a weights file of unknown hash, which only ``--trust-weights`` loads."""
        return any(file.sha256 is None for file in self.weights.files)
