"""What the workflow needs of a dataset folder: methods, structures, frames; and the one place where results are put into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from pydantic import ValidationError

from defectbench.datasets.building import add_relaxation
from defectbench.datasets.catalogue import load_dataset
from defectbench.datasets.dataset import Dataset, ReferenceMinimum
from defectbench.datasets.extxyz import read_extxyz
from defectbench.datasets.schema import METADATA_FILE, Cp2kMethod, explain
from defectbench.errors import DatasetError

from .cp2k_input import RunOptions
from .job import Frame, Stage
from .selection import Candidate, select_frames
from .tasks import (
    QUEUE_FILE,
    Block,
    CheckBlock,
    ElementBlock,
    FiniteDifferenceBlock,
    HostBlock,
    PathBlock,
    Queue,
    RelaxationBlock,
    SinglePointBlock,
    Task,
    read_queue,
)


class ReferenceData:
    """A dataset folder with a queue.

    Args:
        folder: the dataset folder.

    Raises:
        DatasetError: the folder is no valid dataset or has no valid queue.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.reload()

    def reload(self) -> None:
        """Reads dataset and queue anew: both may have grown."""
        self._stamp = self._newest()
        self.queue: Queue = read_queue(self.folder)
        self.dataset: Dataset = load_dataset(self.folder)

    def refresh(self) -> None:
        """Reads dataset and queue anew if another program has changed them."""
        if self._newest() != self._stamp:
            self.reload()

    def _newest(self) -> tuple[int, ...]:
        files = [self.folder / name for name in (METADATA_FILE, QUEUE_FILE)]
        return tuple(path.stat().st_mtime_ns if path.is_file() else 0 for path in files)

    def method(self, level: str) -> Cp2kMethod:
        """The CP2K method of a level of theory.

        Raises:
            DatasetError: the level has none.
            UnknownNameError: no such level.
        """
        method = self.dataset.level_of_theory(level).settings.cp2k
        if method is None:
            raise DatasetError(f"{self.folder}: level {level} has no settings.cp2k block, so nothing can be calculated at it")
        return method

    # ---- tasks

    def tasks(self) -> list[Task]:
        """All tasks of the queue that can be named now, in order of priority, every task once."""
        out: dict[str, Task] = {}
        for block in self.queue.blocks:
            for task in self._expand(block):
                out.setdefault(task.label, task)
        return list(out.values())

    def _expand(self, block: Block) -> list[Task]:
        if isinstance(block, RelaxationBlock):
            return [
                Task("relaxation", block.level, block.defect, charge, name)
                for charge in block.charges
                for name in block.configurations
                if self._start(block, charge, name) is not None
            ]
        if isinstance(block, SinglePointBlock):
            return self._single_points(block)
        if isinstance(block, HostBlock):
            return [Task("host", block.level)]
        if isinstance(block, ElementBlock):
            return [Task("element", block.level, block.element)]
        if isinstance(block, PathBlock):
            charges = sorted(block.charges)
            fractions = [float(f) for f in np.linspace(0.0, 1.0, block.points)]
            return [
                Task("path", block.level, block.defect, charge, other_charge=high if charge == low else low, fraction=fraction)
                for low, high in pairwise(charges)
                for charge in (low, high)
                for fraction in fractions
            ]
        if isinstance(block, FiniteDifferenceBlock):
            frame = self.frame(block.defect, block.charge, block.configuration, block.step, block.level)
            if frame is None:
                return []
            order = np.argsort(-np.abs(frame.get_forces()).ravel(), kind="stable")
            order = order[:: max(1, len(order) // (2 * block.components))][: block.components]
            return [
                Task(
                    "finite_difference",
                    block.level,
                    block.defect,
                    block.charge,
                    block.configuration,
                    step=block.step,
                    component=(int(index) // 3, int(index) % 3),
                )
                for index in order
            ]
        if isinstance(block, CheckBlock):
            step = self._check_step(block)
            if step is None:
                return []
            return [Task("check", block.level, block.defect, block.charge, block.configuration, step=step, variant=block.name)]
        return [Task("potential", block.level, block.defect, charge) for charge in block.charges]

    def _check_step(self, block: CheckBlock) -> int | None:
        """The step that a check is about; None while there is no such frame."""
        if block.step is not None:
            found = self.frame(block.defect, block.charge, block.configuration, block.step, block.level)
        else:
            minimum = self.dataset.minima(block.defect, block.charge, block.level).get(block.configuration)
            found = None if minimum is None else self.dataset.frames(block.defect, block.charge, block.configuration, block.level)[-1]
        return None if found is None else int(found.info["step"])

    def _start(self, block: RelaxationBlock, charge: int, name: str) -> Atoms | None:
        own = self.dataset.starts(block.defect, charge)
        if name in own or block.starts_from is None:
            return own.get(name)
        return self.dataset.starts(block.defect, block.starts_from).get(name)

    def _single_points(self, block: SinglePointBlock) -> list[Task]:
        ready = tuple(
            charge
            for charge in block.charges
            if (found := set(self.dataset.minima(block.defect, charge, block.of)))
            and (not block.wait or self.wanted(block.defect, charge, block.of) <= found)
        )
        already = [
            (charge, name, int(frame.info["step"]))
            for charge in ready
            for name in self.dataset.configurations(block.defect, charge, block.level)
            for frame in self.dataset.frames(block.defect, charge, name, block.level)
        ]
        chosen = select_frames(
            self.candidates(block.defect, ready, block.of),
            block.frames,
            max_energy=block.max_energy,
            distinct=block.distinct,
            already=already,
        )
        return [Task("single_point", block.level, block.defect, c.charge, c.configuration, step=c.step) for c in chosen]

    def candidates(self, defect: str, charges: Sequence[int], level: str) -> list[Candidate]:
        """The frames of finished relaxations as candidates for a dearer level."""
        out = []
        for charge in charges:
            minima = self.dataset.minima(defect, charge, level)
            ground = self.dataset.ground_state(defect, charge, level)
            if ground is None:
                continue
            for name, minimum in minima.items():
                frames = self.dataset.frames(defect, charge, name, level)
                for frame in frames:
                    out.append(
                        Candidate(
                            charge,
                            name,
                            int(frame.info["step"]),
                            float(frame.get_potential_energy()) - ground.energy,
                            _rms(frame, minimum.atoms),
                            frame is frames[-1],
                        )
                    )
        return out

    # ---- what a task needs

    def structure(self, task: Task) -> Atoms | None:
        """The geometry that a task starts from; None while what it needs is not there yet."""
        if task.kind == "relaxation":
            starts = (self._start(b, task.charge, task.configuration) for b in self._relaxations(task.defect, task.charge, task.level))
            return next((start for start in starts if start is not None), None)
        if task.kind == "host":
            return self.dataset.host
        if task.kind == "element":
            block = self._element(task)
            solid: Atoms = read_extxyz(self.folder / block.file)[0].repeat(block.supercell)
            return solid
        if task.kind in ("single_point", "finite_difference", "check"):
            level = task.level
            if task.kind == "single_point":
                level = next(b.of for b in self.queue.blocks if isinstance(b, SinglePointBlock) and b.level == task.level)
            return self.frame(task.defect, task.charge, task.configuration, task.step, level)
        if task.kind == "potential":
            ground = self.ground_state(task.defect, task.charge, task.level)
            return None if ground is None else ground.atoms
        return self._path_structure(task)

    def stages(self, task: Task) -> list[Stage]:
        """The CP2K runs of a task, in order."""
        method = self.method(task.level)
        if task.kind == "relaxation":
            return [Stage(task.level, method, RunOptions("GEO_OPT"))]
        options = RunOptions("ENERGY_FORCE", band_edges=task.kind == "host", potential=task.kind in ("host", "potential"))
        if task.kind == "element":
            block = self._element(task)
            return [Stage(task.level, method, RunOptions("GEO_OPT" if block.relax else "ENERGY_FORCE", kpoints=block.kpoints))]
        if task.kind == "finite_difference":
            return self._displaced_stages(task, method)
        if task.kind == "check":
            check = self.check_block(task)
            options = RunOptions("ENERGY_FORCE", kpoints=check.kpoints, multiplicity=check.multiplicity)
            return [Stage(task.level, changed_method(method, check.method), options)]
        stages = [Stage(task.level, method, options)]
        if method.hybrid is not None and method.hybrid.start_from is not None:
            first = self.method(method.hybrid.start_from)
            stages.insert(0, Stage(method.hybrid.start_from, first, RunOptions("ENERGY_FORCE")))
        return stages

    def previous(self, task: Task) -> list[Frame]:
        """Frames of an unfinished relaxation that the dataset already holds."""
        if task.kind != "relaxation" or task.configuration not in self.dataset.configurations(task.defect, task.charge, task.level):
            return []
        return [
            Frame(
                _bare(atoms),
                float(atoms.get_potential_energy()),
                np.array(atoms.get_forces()),
                0,
                atoms.info.get("s_squared"),
                int(atoms.info.get("scf_attempt", 0)),
                None,
                int(atoms.info["step"]),
            )
            for atoms in self.dataset.frames(task.defect, task.charge, task.configuration, task.level)
        ]

    def finished(self, task: Task) -> bool:
        """Whether the dataset already holds the task's result."""
        if task.kind == "relaxation":
            return task.configuration in self.dataset.minima(task.defect, task.charge, task.level)
        if task.kind == "single_point":
            return self.frame(task.defect, task.charge, task.configuration, task.step, task.level) is not None
        return False

    def add(self, frames: Sequence[Atoms]) -> Path:
        """Puts a relaxation, or an unfinished one, or single points of one, into the dataset in one step.

        Raises:
            DatasetError: the dataset refuses them.
        """
        return add_relaxation(self.folder, frames)

    def ground_state(self, defect: str, charge: int, level: str) -> ReferenceMinimum | None:
        """The lowest minimum, once all relaxations of that state in the queue are finished; None before."""
        if not self.wanted(defect, charge, level) <= set(self.dataset.minima(defect, charge, level)):
            return None
        return self.dataset.ground_state(defect, charge, level)

    def wanted(self, defect: str, charge: int, level: str) -> set[str]:
        """Configurations of a state that the queue relaxes before anything is made of its ground state."""
        return {
            name
            for block in self._relaxations(defect, charge, level)
            if not block.later
            for name in block.configurations
            if self._start(block, charge, name) is not None
        }

    def _relaxations(self, defect: str, charge: int, level: str) -> list[RelaxationBlock]:
        return [
            block
            for block in self.queue.blocks
            if isinstance(block, RelaxationBlock) and (block.defect, block.level) == (defect, level) and charge in block.charges
        ]

    def frame(self, defect: str, charge: int, configuration: str, step: int | None, level: str) -> Atoms | None:
        """A stored frame; None if the dataset does not have it."""
        if configuration not in self.dataset.configurations(defect, charge, level):
            return None
        for atoms in self.dataset.frames(defect, charge, configuration, level):
            if atoms.info["step"] == step:
                return atoms
        return None

    def _element(self, task: Task) -> ElementBlock:
        for block in self.queue.blocks:
            if isinstance(block, ElementBlock) and (block.element, block.level) == (task.defect, task.level):
                return block
        raise DatasetError(f"the queue has no element block for {task.label}")

    def check_block(self, task: Task) -> CheckBlock:
        """The block of the queue that a check comes from."""
        of = (task.level, task.defect, task.charge, task.configuration, task.variant)
        for block in self.queue.blocks:
            if isinstance(block, CheckBlock) and (block.level, block.defect, block.charge, block.configuration, block.name) == of:
                return block
        raise DatasetError(f"the queue has no block for {task.label}")

    def displacement_block(self, task: Task) -> FiniteDifferenceBlock:
        """The block of the queue that a force check comes from."""
        of = (task.level, task.defect, task.charge, task.configuration, task.step)
        for block in self.queue.blocks:
            if (
                isinstance(block, FiniteDifferenceBlock)
                and (block.level, block.defect, block.charge, block.configuration, block.step) == of
            ):
                return block
        raise DatasetError(f"the queue has no block for {task.label}")

    def _displaced_stages(self, task: Task, method: Cp2kMethod) -> list[Stage]:
        block = self.displacement_block(task)
        frame = self.frame(task.defect, task.charge, task.configuration, task.step, task.level)
        if frame is None or task.component is None:
            return []
        stages = []
        for name, sign in (("plus", 1.0), ("minus", -1.0)):
            shift = np.zeros((len(frame), 3))
            shift[task.component] = sign * block.displacement
            stages.append(Stage(name, method, RunOptions("ENERGY_FORCE"), shift))
        return stages

    def _path_structure(self, task: Task) -> Atoms | None:
        if task.other_charge is None or task.fraction is None:
            return None
        low, high = sorted((task.charge, task.other_charge))
        ends = [self.ground_state(task.defect, charge, task.level) for charge in (low, high)]
        if ends[0] is None or ends[1] is None:
            return None
        return path_structure(ends[0].atoms, ends[1].atoms, task.fraction)


def changed_method(method: Cp2kMethod, changes: Mapping[str, Any]) -> Cp2kMethod:
    """A method with some fields replaced; mappings are merged.

    Raises:
        DatasetError: a field does not exist or has a wrong value.
    """
    content = method.model_dump()
    for name, value in changes.items():
        old = content.get(name)
        content[name] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    try:
        return Cp2kMethod.model_validate(content)
    except ValidationError as error:
        field, message = explain(error)[0]
        raise DatasetError(f"the queue changes the method wrongly: {field}: {message}") from error


def path_structure(low: Atoms, high: Atoms, fraction: float) -> Atoms:
    """A point on the straight line between two structures of one cell, by the shortest periodic images and without a rigid shift.

    Args:
        low: structure at fraction 0.
        high: structure at fraction 1, atoms in the same order.
        fraction: where between.
    """
    shift = _displacements(low, high)
    shift -= shift.mean(axis=0)
    out = _bare(low)
    out.positions = low.positions + fraction * shift
    return out


def _displacements(a: Atoms, b: Atoms) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    from ase.geometry import find_mic

    return np.asarray(find_mic(b.positions - a.positions, a.cell, pbc=True)[0])


def _rms(a: Atoms, b: Atoms) -> float:
    shift = _displacements(a, b)
    shift = shift - shift.mean(axis=0)
    return float(np.sqrt((shift**2).sum(axis=1).mean()))


def _bare(atoms: Atoms) -> Atoms:
    return Atoms(atoms.get_chemical_symbols(), positions=atoms.positions, cell=atoms.cell, pbc=True)
