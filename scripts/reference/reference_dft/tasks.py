"""What can be asked of the queue: the tasks, and the file in which a dataset lists them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from defectbench.base.errors import DatasetError
from defectbench.base.states import ChargeState
from defectbench.datasets.schema import explain, read_yaml

QUEUE_FILE = "queue.yaml"

TaskKind = Literal["relaxation", "start", "single_point", "host", "element", "path", "finite_difference", "potential", "check"]

FRAME_KINDS: tuple[TaskKind, ...] = ("start", "single_point", "path")
"""Tasks whose result is one frame of the dataset."""

PATH_FRACTIONS = (-0.15, 0.0, 0.25, 0.5, 0.75, 1.0, 1.15)
"""Points of a configuration-coordinate path, a part of those that the task ``ccd`` asks models for."""


@dataclass(frozen=True)
class Task:
    """One thing to calculate; its :attr:`label` is the name of its work folder.

    Attributes:
        kind: ``relaxation`` of a start; ``start``: a start as it is; ``single_point`` of a frame of a relaxation at another level;
            ``host``: energy and band edges of the host; ``element``: energy of an elemental solid; ``path``: a point between two ground
            states; ``finite_difference``: force check of one component; ``potential``: electrostatic potential of a ground state;
            ``check``: a frame with other settings.
        level: level of theory.
        defect: its name; empty for ``host``; the element for ``element``.
        charge: units of +e.
        configuration: name of the start; empty where there is none.
        step: frame of that relaxation, for ``single_point``, ``finite_difference`` and ``check``.
        other_charge: for ``path``: the charge of the other end.
        fraction: for ``path``: 0 at the ground state of the more positive of both charges, 1 at that of the more negative.
        component: for ``finite_difference``: (atom, axis).
        variant: for ``check``: its name.
    """

    kind: TaskKind
    level: str
    defect: str = ""
    charge: int = 0
    configuration: str = ""
    step: int | None = None
    other_charge: int | None = None
    fraction: float | None = None
    component: tuple[int, int] | None = None
    variant: str | None = None

    @property
    def label(self) -> str:
        """``relaxation/PBE/V_Sb1_q-1_Dimer``: unique, and a path below the work folder."""
        if self.kind in ("host", "element"):
            return f"{self.kind}/{self.level}/{self.defect or 'host'}"
        name = ChargeState(self.defect, self.charge).label
        if self.configuration:
            name += f"_{self.configuration}"
        if self.step is not None:
            name += f"_step-{self.step:03d}"
        if self.other_charge is not None and self.fraction is not None:
            name += f"_{path_name(self.charge, self.other_charge)}_at_{self.fraction:.4f}"
        if self.component is not None:
            name += f"_atom-{self.component[0]}-{'xyz'[self.component[1]]}"
        if self.variant is not None:
            name += f"_{self.variant}"
        return f"{self.kind}/{self.level}/{name}"


def path_name(charge: int, other: int) -> str:
    """The configuration under which points between the ground states of two charges are stored: ``Path_+1_+0``."""
    upper, lower = max(charge, other), min(charge, other)
    return f"Path_{upper:+d}_{lower:+d}"


def start_name(configuration: str) -> str:
    """The configuration under which a start that is not relaxed is stored: ``Start_Unperturbed``."""
    return f"Start_{configuration}"


def properties_file(folder: Path, task: Task) -> Path:
    """Where the result of a task is kept in a dataset folder: a file of its own, so that adding one touches no other."""
    name = task.label.split("/")[-1]
    return folder / "properties" / task.level / (f"{name}.json" if task.kind == "host" else f"{task.kind}_{name}.json")


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    level: str


class RelaxationBlock(_Block):
    """Relaxations of starts: every named configuration of every charge, charge by charge.

    Attributes:
        configurations: names of starts; those that a charge state does not have are left out.
        continue_from: level whose relaxations of the same names these begin at the end of, moved as the nearest minimum moved that is
            relaxed at both levels; None: they begin at the starts.
        prefix: put before the names under which they are stored, so that one start can be relaxed in two ways at one level.
        later: what is made of ground states (``path``, ``potential``, ``single_point``) does not wait for this block.
    """

    kind: Literal["relaxation"]
    defect: str
    charges: tuple[int, ...]
    configurations: tuple[str, ...]
    continue_from: str | None = None
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]*$")] = ""
    later: bool = False


class StartBlock(_Block):
    """Energy and forces of one start, as it is, at several charges: what the charge alone does to the forces.

    Attributes:
        configuration: name of a start that is one and the same structure for all these charges, such as ``Unperturbed``.
    """

    kind: Literal["start"]
    defect: str
    charges: tuple[int, ...]
    configuration: str


class SinglePointBlock(_Block):
    """Single points with forces on frames of relaxations: ground states, the other minima, then a stratified selection.

    Attributes:
        of: level of the relaxations.
        frames: how many at least, minima included.
        max_energy: frames that lie further (eV) above their ground state are not taken.
        wait: begin with a charge state only when all its relaxations in the queue have ended.
    """

    kind: Literal["single_point"]
    of: str
    defect: str
    charges: tuple[int, ...]
    frames: Annotated[int, Field(ge=0)]
    max_energy: float = 3.0
    wait: bool = True


class HostBlock(_Block):
    """Energy, band edges and electrostatic potential of the host."""

    kind: Literal["host"]


class ElementBlock(_Block):
    """Energy of an elemental solid, for a chemical potential.

    Attributes:
        element: its symbol.
        file: structure file in the dataset folder.
        kpoints: Monkhorst–Pack mesh; None for Γ only.
        supercell: repetitions of the file's cell, for levels without k-points.
        relax: relax the positions at fixed cell, as the host's were.
    """

    kind: Literal["element"]
    element: str
    file: str
    kpoints: tuple[int, int, int] | None = None
    supercell: tuple[int, int, int] = (1, 1, 1)
    relax: bool = False


class PathBlock(_Block):
    """Points on the straight line between the ground states of neighbouring charges, in both charges.

    Attributes:
        fractions: 0 at the ground state of the more positive charge, 1 at that of the more negative; each charge's own ground state
            is left out, because its energy is known.
        wait: for all relaxations of both charges in the queue; otherwise the lowest minima so far are taken.
    """

    kind: Literal["path"]
    defect: str
    charges: tuple[int, ...]
    fractions: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = PATH_FRACTIONS
    wait: bool = True


class FiniteDifferenceBlock(_Block):
    """Forces against central differences of the energy, on the largest force component of one frame and on smaller ones.

    Attributes:
        components: how many.
        displacement: of the atom, Å, to either side.
    """

    kind: Literal["finite_difference"]
    defect: str
    charge: int
    configuration: str
    step: int
    components: Annotated[int, Field(ge=1)] = 2
    displacement: Annotated[float, Field(gt=0)] = 0.01


class CheckBlock(_Block):
    """One frame again with other settings: what a converged setting, another minimiser or another spin changes.

    Attributes:
        name: of the check; part of the task's label.
        step: of the relaxation; None for its last, once it has converged.
        method: fields of the level's method that differ; those of ``scf_restricted`` and ``scf_unrestricted`` are merged.
        kpoints: Monkhorst–Pack mesh instead of Γ.
        multiplicity: spin multiplicity instead of the lowest.
    """

    kind: Literal["check"]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]+$")]
    defect: str
    charge: int
    configuration: str
    step: int | None = None
    method: dict[str, Any] = Field(default_factory=dict)
    kpoints: tuple[int, int, int] | None = None
    multiplicity: int | None = None


class PotentialBlock(_Block):
    """Electrostatic potential of ground states, for the alignment against the host's.

    Attributes:
        wait: for all relaxations of the charge in the queue; otherwise the lowest minimum so far is used, and again each lower one.
    """

    kind: Literal["potential"]
    defect: str
    charges: tuple[int, ...]
    wait: bool = True


Block = Annotated[
    RelaxationBlock
    | StartBlock
    | SinglePointBlock
    | HostBlock
    | ElementBlock
    | PathBlock
    | FiniteDifferenceBlock
    | CheckBlock
    | PotentialBlock,
    Field(discriminator="kind"),
]


class Queue(BaseModel):
    """The content of ``queue.yaml``: blocks in order of priority."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    blocks: tuple[Block, ...]


def read_queue(folder: Path) -> Queue:
    """Reads a dataset's queue.

    Raises:
        DatasetError: no such file, not YAML, or against the schema; one line naming the first wrong fields.
    """
    path = folder / QUEUE_FILE
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder; give that of a dataset")
    if not path.is_file():
        raise DatasetError(
            f"{folder} has no {QUEUE_FILE}; it lists what is to be calculated (see docs/reference-workflow.md)", code="no-file"
        )
    try:
        return Queue.model_validate(read_yaml(path))
    except ValidationError as error:
        found = explain(error)
        more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
        raise DatasetError(f"{path}: " + "; ".join(f"{name}: {message}" for name, message in found[:3]) + more) from error


def matches(task: Task, only: tuple[str, ...], level: str | None) -> bool:
    """Whether a task is selected: at this level, and its label contains one of the words (or regular expressions) in ``only``."""
    if level is not None and task.level != level:
        return False
    return not only or any(word in task.label or re.search(word, task.label) for word in only)
