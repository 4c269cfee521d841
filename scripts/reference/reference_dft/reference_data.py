"""What the workflow needs of a dataset folder: methods, structures, frames; and the one place where results are put into it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from pydantic import ValidationError

from defectbench.base.errors import DatasetError, UnknownNameError
from defectbench.datasets.catalogue import load_dataset
from defectbench.datasets.dataset import Dataset, ReferenceMinimum
from defectbench.datasets.extxyz import read_extxyz
from defectbench.datasets.schema import METADATA_FILE, explain
from defectbench.datasets.writing import add_relaxation
from defectbench.scoring.landscape import operations_of
from defectbench.structures.configuration_coordinate import ConfigurationPath, configuration_path
from defectbench.structures.lattice import minimum_image
from defectbench.thermodynamics.curves import SHORTEST_PATH

from .analysis import same_minima
from .cp2k_input import RunOptions
from .cp2k_schema import Cp2kMethod, method_of
from .job import SAME_POSITION, Frame, Stage
from .selection import Candidate, select_frames
from .tasks import (
    FRAME_KINDS,
    QUEUE_FILE,
    Block,
    CheckBlock,
    ElementBlock,
    FiniteDifferenceBlock,
    HostBlock,
    PathBlock,
    PotentialBlock,
    Queue,
    RelaxationBlock,
    SinglePointBlock,
    StartBlock,
    Task,
    path_name,
    properties_file,
    read_queue,
    start_name,
)


class ReferenceData:
    """A dataset folder with a queue.

    Args:
        folder: the dataset folder.

    Raises:
        DatasetError: the folder is not a valid dataset or has no valid queue.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.reload()

    def reload(self) -> None:
        """Reads dataset and queue again: both may have grown.

        Raises:
            DatasetError: one of them is not valid, or they do not fit together; what was read before stays.
        """
        self._stamp = self._newest()
        queue, dataset = read_queue(self.folder), load_dataset(self.folder)
        for block in queue.blocks:
            if isinstance(block, RelaxationBlock):
                known = {name for charge in block.charges for name in dataset.starts(block.defect, charge)}
                for name in block.configurations:
                    if name not in known:
                        raise UnknownNameError(f"configuration in {self.folder / QUEUE_FILE}", name, sorted(known))
            if isinstance(block, SinglePointBlock):
                method = method_of(dataset.level_of_theory(block.level))
                base = None if method is None or method.hybrid is None else method.hybrid.added_to
                if base not in (None, block.of):
                    why = f"{block.level} is made of numbers at {base}, so its single points are of frames at {base}"
                    raise DatasetError(f"{self.folder / QUEUE_FILE}: {why}, not {block.of}")
            if isinstance(block, CheckBlock) and block.step is None:
                method = method_of(dataset.level_of_theory(block.level))
                if method is not None and method.optimizer is None:
                    why = f"nothing is relaxed at {block.level}, so there is no last frame; give a step"
                    raise DatasetError(f"{self.folder / QUEUE_FILE}: check {block.name}: {why}")
        self._paths: dict[tuple[str, int, str, int, str], ConfigurationPath] = {}
        self.queue: Queue = queue
        self.dataset: Dataset = dataset

    def refresh(self) -> None:
        """Reads dataset and queue again if another program has changed them."""
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
        method = method_of(self.dataset.level_of_theory(level))
        if method is None:
            raise DatasetError(f"{self.folder}: level {level} has no settings.cp2k, so nothing can be calculated at it")
        return method

    def base_level(self, level: str) -> str:
        """The level whose energies and forces a level adds a hybrid functional's difference to; the level itself if it does not."""
        method = method_of(self.dataset.level_of_theory(level))
        hybrid = None if method is None else method.hybrid
        return level if hybrid is None or hybrid.added_to is None else hybrid.added_to

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
                for name in self._stored_names(block, charge)
            ]
        if isinstance(block, SinglePointBlock):
            return self._single_points(block)
        if isinstance(block, HostBlock):
            return [Task("host", block.level)]
        if isinstance(block, ElementBlock):
            return [Task("element", block.level, block.element)]
        if isinstance(block, PathBlock):
            return [
                Task("path", block.level, block.defect, charge, other_charge=other, fraction=fraction)
                for upper, lower in pairwise(sorted(block.charges, reverse=True))
                if not self._without_length(block, upper, lower)
                for charge, other, own in ((upper, lower, 0.0), (lower, upper, 1.0))
                for fraction in block.fractions
                if fraction != own
            ]
        if isinstance(block, StartBlock):
            return [
                Task("start", block.level, block.defect, charge, block.configuration)
                for charge in block.charges
                if block.configuration in self.dataset.starts(block.defect, charge)
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

    def _stored_names(self, block: RelaxationBlock, charge: int) -> list[str]:
        """Names under which a block's relaxations of one charge are stored; only of starts that there are."""
        starts = self.dataset.starts(block.defect, charge)
        return [block.prefix + name for name in block.configurations if name in starts]

    def relaxation_block(self, task: Task) -> RelaxationBlock | None:
        """The first block of the queue that a relaxation comes from."""
        blocks = self._relaxations(task.defect, task.charge, task.level)
        return next((block for block in blocks if task.configuration in self._stored_names(block, task.charge)), None)

    def _relaxed_from(self, task: Task) -> Atoms | None:
        block = self.relaxation_block(task)
        if block is None:
            return None
        name = task.configuration.removeprefix(block.prefix)
        if block.continue_from is None:
            return self.dataset.starts(task.defect, task.charge)[name]
        minimum = self.dataset.minima(task.defect, task.charge, block.continue_from).get(name)
        if minimum is None:
            return None
        atoms = _bare(minimum.atoms)
        atoms.positions += self._moved_alike(task, block.continue_from, atoms)
        return atoms

    def _moved_alike(self, task: Task, before: str, atoms: Atoms) -> NDArray[np.float64]:
        """How the nearest minimum that is relaxed at both levels moved from one to the other, (N, 3), Å.

        Most of what a relaxation continued at another level does is common to all minima, so this saves most of its steps. Zero where no
        minimum of the defect is relaxed at both levels.
        """
        cell = atoms.cell.array

        def between(one: Atoms, other: Atoms) -> NDArray[np.float64]:
            return minimum_image(other.positions - one.positions, cell)

        nearest: tuple[float, NDArray[np.float64]] = np.inf, np.zeros_like(atoms.positions)
        for charge in self.dataset.charges(task.defect):
            there = self.dataset.minima(task.defect, charge, task.level)
            for name, minimum in self.dataset.minima(task.defect, charge, before).items():
                if name in there:
                    apart = between(atoms, minimum.atoms)
                    distance = float(np.sqrt(((apart - apart.mean(axis=0)) ** 2).sum(axis=1).mean()))
                    if distance < nearest[0]:
                        nearest = distance, between(minimum.atoms, there[name].atoms)
        return nearest[1]

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
            same = same_minima(minima, operations_of(self.dataset))
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
                            same[name] if frame is frames[-1] else None,
                        )
                    )
        return out

    # ---- what a task needs

    def structure(self, task: Task) -> Atoms | None:
        """The geometry that a task starts from; None while what it needs is not there yet."""
        if task.kind == "relaxation":
            return self._relaxed_from(task)
        if task.kind == "host":
            return self.dataset.host_at(self.base_level(task.level))
        if task.kind == "element":
            block = self._element(task)
            solid: Atoms = read_extxyz(self.folder / block.file)[0].repeat(block.supercell)
            return solid
        if task.kind in ("single_point", "finite_difference", "check"):
            level = self._single_point_level(task) if task.kind == "single_point" else task.level
            return self.frame(task.defect, task.charge, task.configuration, task.step, level)
        if task.kind == "potential":
            ground = self.ground_of(task)
            return None if ground is None else ground.atoms
        if task.kind == "start":
            return self.dataset.starts(task.defect, task.charge)[task.configuration]
        return self._path_structure(task)

    def stages(self, task: Task) -> list[Stage]:
        """The CP2K runs of a task, in order."""
        method = self.method(task.level)
        if task.kind == "relaxation":
            return [Stage(task.level, method, RunOptions("GEO_OPT"))]
        options = RunOptions(
            "ENERGY_FORCE" if task.kind in FRAME_KINDS else "ENERGY",
            band_edges=task.kind == "host",
            potential=task.kind in ("host", "potential") or self.is_ground(task),
        )
        if task.kind == "element":
            block = self._element(task)
            return [Stage(task.level, method, RunOptions("GEO_OPT" if block.relax else "ENERGY", kpoints=block.kpoints, metal=True))]
        if task.kind == "finite_difference":
            return self._displaced_stages(task, method)
        if task.kind == "check":
            check = self.check_block(task)
            options = RunOptions("ENERGY_FORCE", kpoints=check.kpoints, multiplicity=check.multiplicity)
            return [Stage(task.level, changed_method(method, check.method), options)]
        return self._with_start(Stage(task.level, method, options))

    def _with_start(self, stage: Stage) -> list[Stage]:
        """A stage, after one that makes the wave function which a hybrid level starts from."""
        level = None if stage.method.hybrid is None else stage.method.hybrid.start_from
        if level is None:
            return [stage]
        name = level if stage.displacement is None else f"{level} {stage.name}"
        options = RunOptions("ENERGY")
        if stage.method.hybrid is not None and stage.method.hybrid.added_to is not None:  # its numbers are subtracted
            options = RunOptions(stage.options.run_type, band_edges=stage.options.band_edges)
        return [Stage(name, self.method(level), options, stage.displacement), stage]

    def first_step(self, task: Task) -> int:
        """Number of the first frame of a relaxation: 0 is a start, so one that continues another level's begins with 1."""
        block = self.relaxation_block(task) if task.kind == "relaxation" else None
        return 0 if block is None or block.continue_from is None else 1

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
        if task.kind in FRAME_KINDS:
            configuration, step = self.stored_as(task)
            found = self.frame(task.defect, task.charge, configuration, step, task.level)
            wanted = self.structure(task)
            return found is not None and wanted is not None and same_geometry(found, wanted)
        path = properties_file(self.folder, task)
        if not path.is_file():
            return False
        if task.kind == "potential":
            ground = self.ground_of(task)
            return ground is not None and json.loads(path.read_text(encoding="utf-8")).get("configuration") == ground.configuration
        return True

    def stored_as(self, task: Task) -> tuple[str, int]:
        """Configuration and step under which the frame of a task is stored."""
        if task.kind == "path":
            assert task.other_charge is not None
            fractions = self._path_block(task).fractions
            return path_name(task.charge, task.other_charge), fractions.index(task.fraction or 0.0)
        if task.kind == "start":
            return start_name(task.configuration), 0
        assert task.step is not None
        return task.configuration, task.step

    def is_ground(self, task: Task) -> bool:
        """Whether a ``single_point`` is at the ground state of its charge known now: its potential serves the corrections at its level."""
        if task.kind != "single_point":
            return False
        ground = self.dataset.ground_state(task.defect, task.charge, self._single_point_level(task))
        found = self.structure(task)
        return ground is not None and found is not None and same_geometry(found, ground.atoms)

    def still_on_path(self, task: Task, frames: Sequence[Atoms]) -> list[Atoms]:
        """The stored points of a task's path that lie where its points lie now."""
        fractions = self._path_block(task).fractions
        out = []
        for atoms in frames:
            step = int(atoms.info["step"])
            wanted = self._path_structure(replace(task, fraction=fractions[step])) if step < len(fractions) else None
            if wanted is not None and same_geometry(atoms, wanted):
                out.append(atoms)
        return out

    def ground_of(self, task: Task) -> ReferenceMinimum | None:
        """The ground state that a ``potential`` task is about; None while it is not known well enough."""
        for block in self.queue.blocks:
            if (
                isinstance(block, PotentialBlock)
                and (block.level, block.defect) == (task.level, task.defect)
                and task.charge in block.charges
            ):
                return self.ground_state(task.defect, task.charge, task.level, wait=block.wait)
        return None

    def relative_of(self, task: Task) -> Task | None:
        """The relaxation, or for a check at a hybrid level the single point, whose wave function is a good start for a task."""
        level, configuration = task.level, task.configuration
        if task.kind == "single_point":
            level = self._single_point_level(task)
        elif task.kind in ("potential", "path"):
            ground = self.dataset.ground_state(task.defect, task.charge, task.level)
            configuration = "" if ground is None else ground.configuration
        elif task.kind == "check":
            block = self.check_block(task)
            # what one minimiser has found proves nothing of another: such a check begins from atoms
            other_minimiser = any(name.startswith("scf_") for name in block.method)
            if block.kpoints is not None or block.multiplicity is not None or other_minimiser:
                return None
            if self.method(level).hybrid is not None:
                return replace(task, kind="single_point", variant=None)
        elif task.kind == "finite_difference":
            hybrid = self.method(level).hybrid
            level = level if hybrid is None else hybrid.start_from or level
        elif task.kind != "start":
            return None
        return Task("relaxation", level, task.defect, task.charge, configuration) if configuration else None

    def add(self, frames: Sequence[Atoms], *, overwrite: bool = False) -> Path:
        """Puts a relaxation, or an unfinished one, or single points of one, into the dataset in one step.

        Args:
            frames: all that the dataset is to hold of this configuration.
            overwrite: even if it holds more of them now.

        Raises:
            DatasetError: the dataset refuses them.
        """
        return add_relaxation(self.folder, frames, overwrite=overwrite)

    def ground_state(self, defect: str, charge: int, level: str, *, wait: bool = True) -> ReferenceMinimum | None:
        """The lowest minimum; with ``wait`` once all relaxations of that state in the queue are finished, None before."""
        if wait and not self.wanted(defect, charge, level) <= set(self.dataset.minima(defect, charge, level)):
            return None
        return self.dataset.ground_state(defect, charge, level)

    def wanted(self, defect: str, charge: int, level: str) -> set[str]:
        """Configurations of a state that the queue relaxes before anything is made of its ground state."""
        return {name for block in self._relaxations(defect, charge, level) if not block.later for name in self._stored_names(block, charge)}

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
            stages += self._with_start(Stage(name, method, RunOptions("ENERGY"), shift))
        return stages

    def _single_point_level(self, task: Task) -> str:
        return next(b.of for b in self.queue.blocks if isinstance(b, SinglePointBlock) and b.level == task.level)

    def _path_block(self, task: Task) -> PathBlock:
        charges = {task.charge, task.other_charge}
        for block in self.queue.blocks:
            if isinstance(block, PathBlock) and (block.level, block.defect) == (task.level, task.defect) and charges <= set(block.charges):
                return block
        raise DatasetError(f"the queue has no block for {task.label}")

    def _path_structure(self, task: Task) -> Atoms | None:
        if task.other_charge is None or task.fraction is None:
            return None
        path = self._path(self._path_block(task), max(task.charge, task.other_charge), min(task.charge, task.other_charge))
        return None if path is None else _bare(path.structure(task.fraction))

    def _path(self, block: PathBlock, upper: int, lower: int) -> ConfigurationPath | None:
        ends = [self.ground_state(block.defect, charge, block.level, wait=block.wait) for charge in (upper, lower)]
        if ends[0] is None or ends[1] is None:
            return None
        key = (block.defect, upper, ends[0].configuration, lower, ends[1].configuration)
        if key not in self._paths:
            self._paths[key] = configuration_path(ends[0].atoms, ends[1].atoms, operations_of(self.dataset))
        return self._paths[key]

    def _without_length(self, block: PathBlock, upper: int, lower: int) -> bool:
        """Whether two ground states are one structure, so that there is nothing between them."""
        path = self._path(block, upper, lower)
        return path is not None and path.delta_q < SHORTEST_PATH


def relaxed_at(dataset: Dataset, level: str) -> str:
    """The level at whose geometries the numbers of a level are: its own if anything is relaxed at it."""
    entry = dataset.level_of_theory(level)
    if entry.convergence is not None:
        return level
    method = method_of(entry)
    hybrid = None if method is None else method.hybrid
    return (hybrid and (hybrid.added_to or hybrid.start_from)) or dataset.metadata.reference_level


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


def same_geometry(a: Atoms, b: Atoms) -> bool:
    """Whether all atoms of two structures in one order are within :data:`SAME_POSITION` of each other."""
    return len(a) == len(b) and bool(np.abs(minimum_image(b.positions - a.positions, a.cell)).max() < SAME_POSITION)


def _rms(a: Atoms, b: Atoms) -> float:
    shift = minimum_image(b.positions - a.positions, a.cell)
    shift = shift - shift.mean(axis=0)
    return float(np.sqrt((shift**2).sum(axis=1).mean()))


def _bare(atoms: Atoms) -> Atoms:
    return Atoms(atoms.get_chemical_symbols(), positions=atoms.positions, cell=atoms.cell, pbc=True)
