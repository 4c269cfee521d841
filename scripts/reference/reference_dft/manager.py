"""Works through the queue: keeps CP2K running on as many cores as it is given, and puts results into the dataset."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from filelock import FileLock, Timeout

from defectbench.base.errors import DatasetError, RunError
from defectbench.base.files import write_text
from defectbench.datasets.dataset import Dataset

from .composite import compose, labelled
from .cp2k_input import electrons, multiplicity, restart_file
from .hessian import Guess
from .job import Frame, Job, read_frames, write_frames
from .properties import derive_levels, potential_of_single_point, result_of, store_result
from .reference_data import ReferenceData, same_geometry
from .tasks import FRAME_KINDS, Task, matches

EXECUTABLES = ("cp2k.psmp", "cp2k.popt", "cp2k.ssmp", "cp2k.sopt", "cp2k")


def find_cp2k(given: str | None = None) -> list[str]:
    """The command that runs CP2K.

    Args:
        given: a program name or path; by default the first of :data:`EXECUTABLES` on the PATH.

    Raises:
        RunError: there is none; says how to install it.
    """
    for name in (given,) if given else EXECUTABLES:
        found = shutil.which(name)
        if found:
            return [found]
    what = f"'{given}' is not a program" if given else f"CP2K is not on the PATH ({', '.join(EXECUTABLES)})"
    raise RunError(f"{what}; install it with 'apt-get install cp2k cp2k-data' or 'conda install -c conda-forge cp2k', or give --cp2k PATH")


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Holds the dataset folder's lock: only one run works on a dataset at a time.

    Raises:
        RunError: another run holds it.
    """
    digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"defectbench-reference-{digest}.lock"
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RunError(
            f"another run works on {folder}; let it end or stop it (--status and --add work beside it)", code="folder-in-use"
        ) from error
    except OSError as error:
        raise RunError(f"cannot lock {path}: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


class Manager:
    """The jobs of a dataset's queue in a work folder.

    Args:
        data: the dataset.
        work: folder for runs; made when it is needed, and kept out of version control by a file of its own.
        only: words of which a task's label must contain one; all tasks if empty.
        level: only this level of theory.
    """

    def __init__(self, data: ReferenceData, work: Path, only: Sequence[str] = (), level: str | None = None) -> None:
        self.data, self.work, self.only, self.level = data, work.resolve(), tuple(only), level
        self._jobs: dict[str, tuple[Job, Dataset]] = {}  # with the dataset that gave the job its structure

    def tasks(self) -> list[Task]:
        """The selected tasks, in order of priority."""
        return [task for task in self.data.tasks() if matches(task, self.only, self.level)]

    def job(self, task: Task) -> Job | None:
        """The job of a task; None while what it starts from is not there yet."""
        of_ground_states = task.kind in ("path", "potential")
        known, dataset = self._jobs.get(task.label, (None, None))
        # a ground state can be replaced by a lower one while the program runs
        if known is not None and (not of_ground_states or dataset is self.data.dataset or known.state.status == "running"):
            return known
        structure = self.data.structure(task)
        if structure is None:
            return None
        folder = self.work / task.label
        stored = folder / "previous.extxyz"
        begun = (folder / "state.json").is_file()
        previous = [_frame(atoms) for atoms in read_frames(stored)] if begun else self.data.previous(task)
        job = Job(task, folder, self.data.stages(task), structure, previous, self._seed(task), self.data.first_step(task))
        begun_from = job.started_from() if of_ground_states else None
        if begun_from is not None and not job.alive and not same_geometry(begun_from, structure):
            shutil.rmtree(folder)  # a lower ground state has been found since
            job = Job(task, folder, self.data.stages(task), structure, previous, self._seed(task), self.data.first_step(task))
        if previous and not stored.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            write_frames(stored, job.atoms_of(previous))
        self._jobs[task.label] = (job, self.data.dataset)
        return job

    def _seed(self, task: Task) -> Path | None:
        """The newest wave function of the calculation that a task starts from, if this work folder has it."""
        relative = self.data.relative_of(task)
        if relative is None:
            return None
        found = sorted((self.work / relative.label).glob(f"segment-*/{restart_file(self.data.method(relative.level))}"))
        return found[-1] if found else None

    def finished(self, task: Task) -> bool:
        """Whether nothing is left to do for a task: its result is in the dataset, or its job has ended."""
        if self.data.finished(task):
            return True
        job = self.job(task)
        return job is not None and job.state.status in ("done", "failed")

    def run(
        self,
        command: Sequence[str],
        workers: int,
        *,
        add: bool = True,
        poll: float = 5.0,
        report: Callable[[str], None] = print,
        retry_failed: bool = False,
        niceness: int = 19,
        guess: Guess | None = None,
    ) -> None:
        """Works until nothing selected is left that can be started.

        Args:
            command: program and arguments that run CP2K; ``-i`` and ``-o`` are appended.
            workers: CP2K processes at a time, one thread each.
            add: put finished results into the dataset.
            poll: seconds between looks at the running jobs.
            report: takes one line for every event.
            retry_failed: begin tasks that were given up again, with the method's own settings.
            niceness: of the CP2K processes.
            guess: makes the Hessians that relaxations start from; by default CP2K makes them.

        Raises:
            RunError: the work folder cannot be written, or CP2K cannot be started.
        """
        self._prepare()
        if retry_failed:
            for task in self.tasks():
                job = self.job(task)
                if job is not None and job.state.status == "failed":
                    job.state.status, job.state.attempt, job.state.crashes, job.state.message = "waiting", 0, 0, None
                    job.save()
        try:
            while True:
                try:
                    self.data.refresh()
                except DatasetError as error:  # somebody is editing it: keep what was read before
                    report(f"the dataset cannot be read now: {error}")
                running, ended = 0, 0
                startable: list[Job] = []
                for task in self.tasks():
                    job = self.job(task)
                    if job is None or (self.data.finished(task) and job.state.status == "waiting"):
                        continue
                    if job.state.status == "running":
                        frames = job.state.frames
                        status = job.poll()
                        if job.state.frames != frames:
                            report(_progress(job))
                        if status == "running":
                            running += 1
                            continue
                        report(f"{task.label}: {job.state.history[-1]}")
                        if status in ("done", "failed"):
                            self._finish(job, add, report)
                            ended += 1
                            continue
                    if job.state.status == "waiting":
                        startable.append(job)
                # tasks that were begun go first, so that what was cut off is finished before something new begins
                startable.sort(key=lambda job: job.state.segments == 0)
                for job in startable[: max(0, workers - running)]:
                    job.start(command, niceness, guess)
                    report(f"{job.task.label}: segment {job.state.segments - 1} started (attempt {job.state.attempt})")
                    running += 1
                if running == 0 and ended == 0:
                    return
                if ended == 0:  # what has ended may have made new tasks possible
                    time.sleep(poll)
        except KeyboardInterrupt:
            for job, _ in self._jobs.values():
                if job.state.status == "running":
                    job.pause()
                    report(f"{job.task.label}: stopped, to be continued")
            raise

    def add(self, report: Callable[[str], None] = print) -> list[Path]:
        """Puts everything into the dataset that the work folder holds and the dataset does not: unfinished relaxations as unfinished."""
        written: list[Path] = []
        for task in self.tasks():
            if self.data.finished(task) or not (self.work / task.label / "state.json").is_file():
                continue
            job = self.job(task)
            if job is None:
                continue
            path = self._add(job, report)
            if path is not None:
                written.append(path)
        if derive_levels(self.data):
            report("what follows from the results is brought up to date in dataset.yaml")
        return written

    def _finish(self, job: Job, add: bool, report: Callable[[str], None]) -> None:
        if not add:
            return
        self._add(job, report)

    def _add(self, job: Job, report: Callable[[str], None]) -> Path | None:
        task = job.task
        try:
            if task.kind == "relaxation":
                frames = job.frames()
                if not frames or (job.state.status != "done" and len(frames) <= len(self.data.previous(task))):
                    return None
                path = self.data.add(job.atoms_of(frames))
                derive_levels(self.data)
                report(f"{task.label}: {len(frames)} frames are in the dataset ({'converged' if job.converged() else 'unfinished'})")
                return path
            if job.state.status != "done":
                return None
            if task.kind in FRAME_KINDS:
                path = self.data.add(self._with_stored(job), overwrite=task.kind == "path")
                if self.data.is_ground(task) and job.has_potential():
                    of = Task("potential", task.level, task.defect, task.charge)
                    store_result(self.data, of, potential_of_single_point(job))
                report(f"{task.label}: is in the dataset")
                return path
            result = result_of(job, self.data)
            write_text(job.folder / "result.json", json.dumps(result, indent=1))
            path = store_result(self.data, task, result)
            report(f"{task.label}: is in the dataset")
            return path
        except (DatasetError, RunError) as error:
            report(f"{task.label}: not added: {error}")
            return None

    def _with_stored(self, job: Job) -> list[Atoms]:
        """The single points of this configuration that the dataset has, and the new one, by step.

        Points of a path between ground states that have been replaced by lower ones are dropped.

        Raises:
            RunError: the new one is such a point.
        """
        task, data = job.task, self.data
        data.reload()
        configuration, step = data.stored_as(task)
        frame = job.results()[task.level].frames[-1]
        base = data.base_level(task.level)
        wanted = data.structure(task)
        if task.kind == "path" and (wanted is None or not same_geometry(frame.atoms, wanted)):
            raise RunError(f"{task.label}: its structure is no longer on the path")
        atoms = frame.atoms.copy()
        method = job.stages[-1].method
        atoms.info = {
            "defect": task.defect,
            "charge": task.charge,
            "spin_multiplicity": multiplicity(electrons(method, atoms.get_chemical_symbols(), task.charge)),
            "configuration": configuration,
            "step": step,
            "level_of_theory": task.level,
            "converged": False,
            "scf_attempt": frame.attempt,
        }
        if frame.s_squared is not None:
            atoms.info["s_squared"] = frame.s_squared
        atoms.calc = SinglePointCalculator(atoms, energy=frame.energy, forces=frame.forces)
        if base != task.level:
            low = job.results()[job.stages[0].name].frames[-1]
            of = data.frame(task.defect, task.charge, task.configuration, task.step, base)
            if of is None:
                raise RunError(f"{task.label}: its frame at {base} is no longer in the dataset")
            labels = compose(
                (of.get_potential_energy(), of.get_forces()), (frame.energy, frame.known_forces), (low.energy, low.known_forces)
            )
            atoms = labelled(atoms, labels, task.level)
        stored: list[Atoms] = []
        if configuration in data.dataset.configurations(task.defect, task.charge, task.level):
            stored = data.dataset.frames(task.defect, task.charge, configuration, task.level)
        if task.kind == "path":
            stored = data.still_on_path(task, stored)
        return sorted([a for a in stored if a.info["step"] != step] + [atoms], key=lambda a: int(a.info["step"]))

    def _prepare(self) -> None:
        try:
            self.work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot make the work folder {self.work}: {error.strerror}; choose another with --work") from error
        ignore = self.work / ".gitignore"
        if not ignore.is_file():
            write_text(ignore, "*\n")


def default_work_folder(data: ReferenceData) -> Path:
    """``reference-work/<dataset id>`` in the current folder, or below ``DEFECTBENCH_REFERENCE_WORK`` if that is set."""
    base = os.environ.get("DEFECTBENCH_REFERENCE_WORK")
    return Path(base or "reference-work") / data.dataset.id


def _progress(job: Job) -> str:
    if job.task.kind != "relaxation":
        return f"{job.task.label}: result"
    last = job.frames()[-1]
    spin = "" if last.s_squared is None else f", S² {last.s_squared:.3f}"
    return f"{job.task.label}: step {last.step}, {last.energy:.4f} eV, largest force component {last.max_component:.4f} eV/Å{spin}"


def _frame(atoms: Atoms) -> Frame:
    info: dict[str, Any] = atoms.info
    bare = Atoms(atoms.get_chemical_symbols(), positions=atoms.positions, cell=atoms.cell, pbc=True)
    spin = info.get("s_squared")
    return Frame(
        bare,
        float(atoms.get_potential_energy()),
        np.array(atoms.get_forces()),
        0,
        None if spin is None else float(spin),
        int(info.get("scf_attempt", 0)),
        None,
        int(info["step"]),
    )
