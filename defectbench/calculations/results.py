"""What a calculation answers, as closed models: finite numbers only, each with an echo of what was calculated.

A worker knows nothing of these models: it runs in another environment and sends JSON. :func:`parse` checks what it sent, or what a file
holds, against the calculation that was asked for; :func:`check_echo` refuses an answer to another question.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from defectbench.base.errors import RunError
from defectbench.base.hardware import Count, Machine
from defectbench.base.states import format_charge
from defectbench.calculations.requests import Calculation, Relaxation

Vectors = tuple[tuple[float, float, float], ...]
"""N rows of three Cartesian components."""

NotNegative = Annotated[float, Field(ge=0)]


class EchoMismatch(RunError):  # noqa: N818 - a thing that happened, named as the worker's answer names it
    """An answer to another question: the worker calculated at another charge, or another request, than was asked for."""

    code = "echo-mismatch"


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Echo(_Closed):
    """What a worker says that it calculated.

    Attributes:
        charge: what the adapter handed to the model, read back from where the model reads it, in units of +e. None for a model that
            takes none, and where the model failed before it was passed.
        request: content hash of the request as the worker received it.
    """

    charge: int | None
    request: str


class _Result(_Closed):
    echo: Echo | None = None
    """None: made by an earlier version, whose workers did not say it."""
    failure: str | None = None
    """Why it failed, one line."""
    failure_kind: str | None = None
    wall_s: NotNegative = 0.0
    cpu_s: NotNegative = 0.0
    peak_memory_mb: NotNegative = 0.0


class _Relaxed(_Result):
    """The fields are those of :class:`~defectbench.calculations.requests.Relaxation`."""

    status: Literal["converged", "unconverged", "failed"]
    positions: Vectors
    energy: float | None
    forces: Vectors | None
    energies: tuple[float, ...]
    fmax: tuple[float, ...]
    steps: Count

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.status != "failed" and (self.energy is None or self.forces is None or not self.energies):
            raise ValueError("without a failure there are energy, forces and energies")
        if len(self.energies) != len(self.fmax):
            raise ValueError("energies and fmax differ in length")
        return self

    def relaxation(self) -> Relaxation:
        """The record that is scored, with arrays (N, 3)."""
        return Relaxation(
            status=self.status,
            positions=np.array(self.positions, dtype=np.float64),
            energy=self.energy,
            forces=None if self.forces is None else np.array(self.forces, dtype=np.float64),
            energies=self.energies,
            fmax=self.fmax,
            steps=self.steps,
            wall_s=self.wall_s,
            cpu_s=self.cpu_s,
            peak_memory_mb=self.peak_memory_mb,
            failure=self.failure,
            failure_kind=self.failure_kind,
        )


class RelaxationResult(_Relaxed):
    """A relaxation in the cell of its start."""

    kind: Literal["relaxation"] = "relaxation"


class OwnLatticeResult(_Relaxed):
    """A relaxation in the model's own lattice, with positions scaled back to the cell of its start.

    Energies (eV) and forces (eV/Å) are those in the own lattice.

    Attributes:
        cell: three lattice vectors (Å) of the own lattice, as rows; None where the model has none.
    """

    kind: Literal["own_lattice"] = "own_lattice"
    cell: Annotated[Vectors, Field(min_length=3, max_length=3)] | None = None

    @model_validator(mode="after")
    def _has_cell(self) -> Self:
        if self.status != "failed" and self.cell is None:
            raise ValueError("without a failure there is a cell")
        return self


class PathResult(_Result):
    """A minimum-energy path between two structures.

    Attributes:
        energies: of the images from the first structure to the last, eV.
        positions: of the highest image, (N, 3), Å.
        steps: optimiser steps.
        fmax: largest force of any image without its part along the path, eV/Å.
    """

    kind: Literal["path"] = "path"
    status: Literal["converged", "unconverged", "failed"]
    energies: tuple[float, ...] = ()
    positions: Vectors | None = None
    fmax: float | None = None
    steps: Count = 0

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.status != "failed" and (len(self.energies) < 3 or self.positions is None or self.fmax is None):
            raise ValueError("without a failure there are energies, positions and fmax")
        return self


class SinglePointResult(_Result):
    """Energy (eV) and forces (N, 3; eV/Å) of a structure."""

    kind: Literal["single_point"] = "single_point"
    status: Literal["ok", "failed"]
    energy: float | None = None
    forces: Vectors | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.status == "ok" and (self.energy is None or self.forces is None):
            raise ValueError("without a failure there are energy and forces")
        return self


class DescriptorsResult(_Result):
    """Features of the atoms (N, D), or their mean (1, D)."""

    kind: Literal["descriptors"] = "descriptors"
    status: Literal["ok", "unsupported", "failed"]
    descriptors: tuple[tuple[float, ...], ...] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        rows = self.descriptors or ((),)
        if self.status == "ok" and (not rows[0] or any(len(row) != len(rows[0]) for row in rows)):
            raise ValueError("descriptors are rows of equal length")
        return self


class WeightsRecord(_Closed):
    """A weights file as the worker found it."""

    name: str
    sha256: str


class WorkerRecord(_Closed):
    """The software that calculated, as the worker found it.

    Attributes:
        versions: package → version.
        parameters: of the loaded model; None where its package cannot tell.
        weights: the files that it loaded.
        threads: of the worker.
        network: whether it could reach the network: ``none`` or ``open``; None where that is not recorded.
    """

    versions: dict[str, str]
    parameters: Count | None
    weights: tuple[WeightsRecord, ...]
    threads: Count
    network: Literal["none", "open"] | None = None


class Difference(_Closed):
    """Change of the energy (eV) and of the largest force component (eV/Å)."""

    energy: float
    forces: float


class FiniteDifference(_Closed):
    """A force (eV/Å), analytic and by central differences of several widths (Å): along a direction of all atoms, at a charge.

    Earlier versions measured one component of one atom, at the charge closest to 0.
    """

    atom: Count | None = None
    axis: Count | None = None
    charge: int | None = None
    direction: Count | None = None
    analytic: float
    steps: tuple[float, ...]
    numerical: tuple[float, ...]


class Doubling(_Closed):
    """Energies (eV) at two charges of a cell and of its double."""

    charge: int
    reference_charge: int
    single: tuple[float, float]
    double: tuple[float, float]


class DescriptorChange(_Closed):
    """Change of the descriptors with charge, relative to their spread; or why there is none."""

    failure: str | None = None
    dimension: Count | None = None
    relative_change: dict[str, float] | None = None


class OtherDefect(_Closed):
    """Energies (eV) of another defect at its charges, and how much the largest force component (eV/Å) changes from pair to pair."""

    defect: str
    charges: tuple[int, ...]
    energies: tuple[float, ...]
    force_changes: tuple[float, ...]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        count = len(self.charges)
        if len(self.energies) != count or len(self.force_changes) != count * (count - 1) // 2:
            raise ValueError("energies are of each charge, changes of the forces of each pair of them")
        return self


class HiddenCharge(Difference):
    """What changes when a model that takes no charge is told one."""

    where: str


class HiddenNames(_Closed):
    """Of a model that reads all of ``atoms.info``: how many names in its code were tried as a charge's, and how many could not be."""

    tried: Count
    untried: Count


class CertificateResult(_Result):
    """The raw numbers of a charge-response certificate; see ``defectbench.worker.certificate``. All are there unless it failed.

    Attributes:
        calls: of the model; None where an earlier version measured, which asked at one defect and neither after steps nor again.
        after_steps: None for a model that takes no charge.
        batched: None where a call takes one structure.
        hidden: None for one that takes a charge.
        hidden_names: None for one that takes a charge or does not read all of ``atoms.info``, and where an earlier version measured.
    """

    kind: Literal["certificate"] = "certificate"
    status: Literal["ok", "failed"]
    worker: WorkerRecord | None = None
    atoms: Count = 0
    precision: Literal["float32", "float64"] = "float64"
    charges: tuple[int, ...] = ()
    energies: tuple[float, ...] = ()
    forces: tuple[Vectors, ...] = ()
    repeat: Difference | None = None
    stale: Difference | None = None
    order: Difference | None = None
    finite_difference: tuple[FiniteDifference, ...] = ()
    translation: Difference | None = None
    permutation: Difference | None = None
    rotation: Difference | None = None
    doubling: Doubling | None = None
    descriptors: DescriptorChange | None = None
    calls: Count | None = None
    others: tuple[OtherDefect, ...] = ()
    after_steps: Difference | None = None
    again: Difference | None = None
    batched: Difference | None = None
    hidden: tuple[HiddenCharge, ...] | None = None
    hidden_names: HiddenNames | None = None
    seconds_per_call: NotNegative = 0.0

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.status == "ok":
            needed = ("repeat", "stale", "order", "translation", "permutation", "rotation", "doubling")
            if missing := [name for name in needed if getattr(self, name) is None]:
                raise ValueError(f"there is no {missing[0]}")
            if not len(self.charges) == len(self.energies) == len(self.forces) >= 2 or not self.finite_difference:
                raise ValueError("charges, energies and forces are of two charges or more")
        return self


Result = RelaxationResult | OwnLatticeResult | SinglePointResult | DescriptorsResult | PathResult | CertificateResult

_RESULT: TypeAdapter[Result] = TypeAdapter(Annotated[Result, Field(discriminator="kind")])


@dataclass(frozen=True)
class Stored:
    """A result and the machine that it was calculated on; None where that is not recorded."""

    result: Result
    machine: Machine | None = None


def parse(calculation: Calculation, content: Mapping[str, Any] | str | bytes) -> Result:
    """The result of a calculation from JSON.

    Args:
        calculation: that was asked for.
        content: JSON text, or the mapping that it holds. ``kind`` may be left out.

    Raises:
        ValueError: it is not a result of this calculation; the message says why in a few words.
    """
    try:
        if not isinstance(content, Mapping):
            content = json.loads(content)
        if not isinstance(content, Mapping):
            raise ValueError("it is not a mapping")
        result = _RESULT.validate_json(json.dumps({"kind": calculation.kind, **content}, allow_nan=False), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"][1:4])
        raise ValueError(f"{field}: {first['msg']}" if field else str(first["msg"])) from error
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    if result.kind != calculation.kind:
        raise ValueError(f"it is of kind {result.kind}, not {calculation.kind}")
    if (wrong := _misfit(calculation, result)) is not None:
        raise ValueError(wrong)
    return result


def _misfit(calculation: Calculation, result: Result) -> str | None:
    count = len(calculation.structure.symbols)
    rows: dict[str, tuple[tuple[tuple[float, ...], ...] | None, int]] = {}
    if isinstance(result, _Relaxed):
        rows = {"positions": (result.positions, count), "forces": (result.forces, count)}
    elif isinstance(result, PathResult):
        rows = {"positions": (result.positions, count)}
    elif isinstance(result, SinglePointResult):
        rows = {"forces": (result.forces, count)}
    elif isinstance(result, DescriptorsResult):
        rows = {"descriptors": (result.descriptors, 1 if calculation.options.get("average") else count)}
    for name, (values, wanted) in rows.items():
        if values is not None and len(values) != wanted:
            return f"{name} has {len(values)} rows instead of {wanted}"
    return None


def check_echo(calculation: Calculation, result: Result) -> None:
    """Refuses a fresh result that does not say that it answers exactly this calculation at this charge.

    Raises:
        EchoMismatch: it says nothing, or names another request or charge.
    """
    echo, asked = result.echo, _written(calculation.charge)
    if echo is None:
        raise EchoMismatch("the worker does not say which calculation it answers and at which charge; it is not stored")
    if echo.request != calculation.content_hash:
        raise EchoMismatch(
            f"the worker answers the request {echo.request[:12]}… instead of {calculation.content_hash[:12]}…; it is not stored"
        )
    # one that failed may have done so before the charge was passed
    if echo.charge != calculation.charge and not (result.status in ("failed", "unsupported") and echo.charge is None):
        raise EchoMismatch(f"the model was handed the charge {_written(echo.charge)} instead of {asked}; it is not stored")
    if isinstance(result, CertificateResult) and result.status == "ok":
        asked_others = [(other["defect"], list(other["charges"])) for other in calculation.options.get("others", ())]
        answered = [(other.defect, list(other.charges)) for other in result.others]
        if list(result.charges) != list(calculation.options["charges"]) or answered != asked_others:
            raise EchoMismatch("the certificate is of other charges than those asked for; it is not stored")


def _written(charge: int | None) -> str:
    return "none" if charge is None else format_charge(charge)


def failed_result(calculation: Calculation, failure: str, kind: str) -> Result:
    """The record of a calculation that gave no answer, such as one that took its worker down with it."""
    content: dict[str, Any] = {
        "status": "failed",
        "failure": failure,
        "failure_kind": kind,
        "echo": {"charge": None, "request": calculation.content_hash},
    }
    if calculation.kind in ("relaxation", "own_lattice"):
        content |= {"positions": calculation.structure.positions, "energy": None, "forces": None, "energies": [], "fmax": [], "steps": 0}
    return parse(calculation, content)
