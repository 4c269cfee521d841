"""The work folder of one task: segments of CP2K runs, what they gave so far, and what to do next."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import psutil
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import NDArray

from defectbench.base.errors import RunError
from defectbench.base.files import write_text

from .cp2k_input import HESSIAN, LAST_ATTEMPT, PROJECT, RunOptions, electrons, multiplicity, restart_file, write_input
from .cp2k_output import FORCE_UNIT, Evaluation, Output, parse_output, read_trajectory
from .cp2k_schema import Cp2kMethod
from .hessian import Guess, stiffened, write_hessian
from .tasks import Task

SAME_POSITION = 1e-5
"""Two frames whose atoms are all closer than this (Å) are one geometry."""
MAX_CRASHES = 3
"""Runs in a row that may end without a new frame and without an SCF failure before a task is given up."""

Status = Literal["waiting", "running", "done", "failed"]


@dataclass(frozen=True)
class Stage:
    """One CP2K run type within a task; a task is done when its last stage is.

    Attributes:
        name: e.g. ``PBE`` for the wave function that a hybrid calculation starts from.
        method: level of theory.
        options: of the run; attempt and restart are set from the state of the job.
        displacement: (N, 3) added to the task's structure, Å.
    """

    name: str
    method: Cp2kMethod
    options: RunOptions
    displacement: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Frame:
    """A finished geometry.

    Attributes:
        atoms: positions; no calculator.
        energy: eV.
        forces: (N, 3), eV/Å; None if only the energy was asked for.
        scf_steps: SCF steps it took.
        s_squared: of the determinant; None if restricted.
        attempt: 0 if calculated with the method's own SCF settings.
        seconds: wall-clock time; None if unknown.
        step: of the optimiser; within its segment as read from one, within the relaxation as :meth:`Job.frames` gives it.
    """

    atoms: Atoms
    energy: float
    forces: NDArray[np.float64] | None
    scf_steps: int
    s_squared: float | None
    attempt: int
    seconds: float | None
    step: int

    @property
    def max_component(self) -> float:
        """Largest absolute Cartesian force component, eV/Å."""
        return float(np.abs(self.known_forces).max())

    @property
    def rms_component(self) -> float:
        """Root mean square force component, eV/Å."""
        return float(np.sqrt((self.known_forces**2).mean()))

    @property
    def known_forces(self) -> NDArray[np.float64]:
        """The forces, (N, 3), eV/Å.

        Raises:
            RunError: only the energy was asked for.
        """
        if self.forces is None:
            raise RunError("no forces were calculated, only the energy")
        return self.forces


@dataclass
class State:
    """What ``state.json`` in a work folder holds."""

    status: Status = "waiting"
    stage: int = 0
    attempt: int = 0
    crashes: int = 0
    segments: int = 0
    frames: int = 0
    pid: int | None = None
    pid_created: float | None = None
    message: str | None = None
    started: float | None = None
    finished: float | None = None
    history: list[str] = field(default_factory=list)


class Job:
    """One task in its work folder.

    Args:
        task: what is calculated.
        folder: its own work folder; created when the first run starts.
        stages: what runs, in order.
        structure: the geometry of a new run; for a relaxation the start.
        previous: frames of this relaxation that the dataset already holds, in order; the relaxation resumes from the last.
        seed: wave function of another run at the same charge and spin, from which the first one starts; None for atoms.
        first_step: number of a relaxation's first frame.
    """

    def __init__(
        self,
        task: Task,
        folder: Path,
        stages: Sequence[Stage],
        structure: Atoms,
        previous: Sequence[Frame] = (),
        seed: Path | None = None,
        first_step: int = 0,
    ) -> None:
        self.task, self.folder, self.stages, self.structure = task, folder, tuple(stages), structure
        self.previous, self.seed, self.first_step = tuple(previous), seed, first_step
        self.state = read_state(folder)
        self._popen: subprocess.Popen[bytes] | None = None
        self._cache: dict[int, tuple[float, SegmentResult]] = {}

    # ---- what exists

    def started_from(self) -> Atoms | None:
        """The structure that the first run began with, without a stage's displacement; None before it."""
        path = self.segment_folder(0) / "start.json"
        if not path.is_file():
            return None
        atoms = _atoms_from_json(path.read_text(encoding="utf-8"))
        shift = self.stages[0].displacement
        if shift is not None:
            atoms.positions -= shift
        return atoms

    def has_potential(self) -> bool:
        """Whether its last run wrote the electrostatic potential."""
        return self.state.segments > 0 and any(self.segment_folder(self.state.segments - 1).glob("*v_hartree*.cube"))

    def segment_folder(self, index: int) -> Path:
        return self.folder / f"segment-{index:02d}"

    def segments(self) -> list[SegmentResult]:
        """Every segment as far as it is written; finished ones are read once."""
        out = []
        for index in range(self.state.segments):
            folder = self.segment_folder(index)
            stamp = max((f.stat().st_mtime for f in folder.glob("*") if f.name in _WATCHED), default=0.0)
            cached = self._cache.get(index)
            if cached is None or cached[0] != stamp:
                cached = (stamp, read_segment(folder))
                self._cache[index] = cached
            out.append(cached[1])
        return out

    def frames(self) -> list[Frame]:
        """Frames of a relaxation over all segments, in order, every geometry once; only those with converged self-consistency."""
        if self.task.kind != "relaxation":
            raise RunError(f"{self.task.label} is not a relaxation")
        frames = list(self.previous)
        for segment in self.segments():
            for frame in segment.frames:
                # a continued run evaluates the last geometry again: the later value, from a settled wave function, replaces it
                if frames and _same(frames[-1].atoms, frame.atoms):
                    frames[-1] = replace(frame, step=frames[-1].step)
                else:
                    frames.append(replace(frame, step=frames[-1].step + 1 if frames else self.first_step))
        return frames

    def results(self) -> dict[str, SegmentResult]:
        """The finished segment of each finished stage, by stage name."""
        out: dict[str, SegmentResult] = {}
        for segment in self.segments():
            if segment.stage is not None and segment.finished_single_point:
                out[segment.stage] = segment
        return out

    def converged(self) -> bool:
        """Whether the last frame of a relaxation meets the optimiser's force criteria."""
        frames = self.frames()
        return bool(frames) and meets_criterion(frames[-1], self.stages[0].method)

    @property
    def alive(self) -> bool:
        """Whether its CP2K runs, even one that an earlier, killed run of this program started."""
        return self._process() is not None

    @property
    def paused(self) -> bool:
        """Whether its CP2K has been stopped by somebody (SIGSTOP) and waits to be continued (SIGCONT)."""
        process = self._process()
        try:
            return process is not None and process.status() == psutil.STATUS_STOPPED
        except psutil.Error:
            return False

    def _process(self) -> psutil.Process | None:
        if self.state.pid is None:
            return None
        try:
            process = psutil.Process(self.state.pid)
            if self.state.pid_created is not None and abs(process.create_time() - self.state.pid_created) > 2.0:
                return None
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
        except psutil.Error:
            return None
        return process

    # ---- what happens next

    def start(self, command: Sequence[str], niceness: int = 19, guess: Guess | None = None) -> None:
        """Starts CP2K on the next segment, one thread, at the given niceness.

        Args:
            command: program and arguments that run CP2K; ``-i`` and ``-o`` are appended.
            niceness: of the process.
            guess: makes the Hessian that a relaxation starts from; by default CP2K makes one.

        Raises:
            RunError: it cannot be started.
        """
        stage = self.stages[self.state.stage]
        index = self.state.segments
        folder = self.segment_folder(index)
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        atoms = self.structure.copy()
        if self.task.kind == "relaxation":
            frames = self.frames()
            if frames:
                atoms = frames[-1].atoms.copy()
        if stage.displacement is not None:
            atoms.positions += stage.displacement
        wave_function = restart_file(stage.method, stage.options.kpoints)
        restart = self.state.attempt < LAST_ATTEMPT and (self._inherit(folder, wave_function) or self._sow(folder, wave_function))
        hessian = False
        if self.task.kind == "relaxation" and self.state.attempt == 0 and self.state.crashes == 0:
            hessian = self._inherit(folder, HESSIAN)
            if not hessian and guess is not None:
                write_hessian(folder / HESSIAN, stiffened(guess(atoms, self.task.charge)))
                hessian = True
        options = RunOptions(**{**asdict(stage.options), "attempt": self.state.attempt, "restart": restart, "restart_hessian": hessian})
        write_text(folder / "input.inp", write_input(stage.method, atoms, self.task.charge, options))
        note = {
            "stage": stage.name,
            "forces": options.run_type != "ENERGY",
            "attempt": self.state.attempt,
            "restart": restart,
            "started": time.time(),
        }
        write_text(folder / "segment.json", json.dumps(note))
        atoms.calc = None
        write_text(folder / "start.json", _atoms_to_json(atoms))
        try:
            with (folder / "stdout").open("w") as stdout:
                process = subprocess.Popen(
                    [*command, "-i", "input.inp", "-o", "out"],
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                    start_new_session=True,
                    preexec_fn=partial(os.nice, niceness),
                )
        except OSError as error:
            raise RunError(f"cannot start {command[0]}: {error.strerror}") from error
        self._popen = process
        _lower_group(process.pid, niceness)
        self.state.pid = process.pid
        try:
            self.state.pid_created = psutil.Process(process.pid).create_time()
        except psutil.Error:
            self.state.pid_created = time.time()
        self.state.segments = index + 1
        self.state.status = "running"
        self.state.started = self.state.started or time.time()
        self.save()

    def poll(self) -> Status:
        """Looks at the running segment, keeps new frames, and decides: continue, next stage, retry, done or failed.

        After ``waiting`` is returned, :meth:`start` begins the next segment.
        """
        if self.state.status != "running":
            return self.state.status
        alive = self.alive
        segment = self.segments()[-1]
        if self.task.kind == "relaxation":
            self._keep_frames()
        if segment.output.scf_failed:
            if alive:
                self.stop()
            return self._retry(f"no self-consistency in segment {self.state.segments - 1}")
        finished = self.task.kind == "relaxation" and segment.output.completed and self.converged()
        if alive and finished:
            self.stop()  # all that is left to it is to evaluate the last geometry again
        elif alive:
            return "running"
        if self._popen is not None:
            self._popen.wait()
        self.state.pid = None
        if finished:
            return self._end("done")
        if segment.finished_single_point and self.task.kind != "relaxation":
            self.state.stage += 1
            self.state.attempt = self.state.crashes = 0
            if self.state.stage >= len(self.stages):
                return self._end("done")
            return self._wait(f"stage {segment.stage} done")
        if segment.output.message is not None:
            return self._end("failed", segment.output.message)
        if self.task.kind == "relaxation" and segment.frames:
            self.state.crashes = 0
            if segment.output.ended:
                return self._wait(f"segment {self.state.segments - 1} ended before convergence; continuing")
            return self._wait(f"segment {self.state.segments - 1} was cut off; resuming from the last frame")
        self.state.crashes += 1
        if self.state.crashes > MAX_CRASHES:
            return self._end(
                "failed", f"CP2K ended {self.state.crashes} times without a result; see {self.segment_folder(self.state.segments - 1)}"
            )
        if self.state.crashes > 1:
            return self._retry(f"segment {self.state.segments - 1} gave no result")
        return self._wait(f"segment {self.state.segments - 1} was cut off before its first result")

    def stop(self) -> None:
        """Ends the running CP2K; at most the unfinished step is lost."""
        process = self._process()
        if process is None:
            self.state.pid = None
            return
        for each in [*process.children(recursive=True), process]:
            try:
                each.terminate()
            except psutil.Error:
                continue
        _, left = psutil.wait_procs([process], timeout=5)
        for each in left:
            each.kill()
        if self._popen is not None:
            self._popen.wait()
        self.state.pid = None

    def pause(self) -> None:
        """Ends CP2K and leaves the task to be continued."""
        self.stop()
        if self.task.kind == "relaxation":
            self._keep_frames()
        self._wait("stopped from outside")

    def save(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / "state.json", json.dumps(asdict(self.state), indent=1))

    def _keep_frames(self) -> None:
        frames = self.frames()
        if len(frames) != self.state.frames:
            write_frames(self.folder / "frames.extxyz", self.atoms_of(frames))
            self.state.frames = len(frames)
            self.save()

    def atoms_of(self, frames: Sequence[Frame]) -> list[Atoms]:
        """Frames as labelled atoms: energy, forces, and what the dataset keeps of each in ``info``; only the last can be ``converged``."""
        method = self.stages[-1].method
        out = []
        for frame in frames:
            atoms = frame.atoms.copy()
            count = electrons(method, atoms.get_chemical_symbols(), self.task.charge)
            atoms.info = {
                "defect": self.task.defect,
                "charge": self.task.charge,
                "spin_multiplicity": multiplicity(count),
                "configuration": self.task.configuration,
                "step": frame.step,
                "level_of_theory": self.task.level,
                "converged": self.task.kind == "relaxation" and frame is frames[-1] and meets_criterion(frame, method),
                "scf_attempt": frame.attempt,
            }
            if frame.s_squared is not None:
                atoms.info["s_squared"] = frame.s_squared
            atoms.calc = SinglePointCalculator(atoms, energy=frame.energy, forces=frame.forces)
            out.append(atoms)
        return out

    def _inherit(self, folder: Path, name: str) -> bool:
        """Copies a file from the newest earlier segment that has it."""
        for index in range(self.state.segments - 1, -1, -1):
            source = self.segment_folder(index) / name
            if source.is_file() and source.stat().st_size > 0:
                shutil.copyfile(source, folder / name)
                return True
        return False

    def _sow(self, folder: Path, name: str) -> bool:
        """Copies the wave function of another run, where there is one."""
        if self.seed is None or self.state.attempt > 0 or not self.seed.is_file() or self.seed.stat().st_size == 0:
            return False
        if self.seed.name != name:
            return False
        shutil.copyfile(self.seed, folder / name)
        return True

    def _retry(self, why: str) -> Status:
        self.state.attempt += 1
        if self.state.attempt > LAST_ATTEMPT:
            return self._end("failed", f"{why}; the safest settings were tried")
        return self._wait(f"{why}; attempt {self.state.attempt} with safer settings")

    def _wait(self, why: str) -> Status:
        self.state.status = "waiting"
        self.state.pid = None
        self.state.history.append(why)
        self.save()
        return "waiting"

    def _end(self, status: Literal["done", "failed"], message: str | None = None) -> Status:
        self.state.status, self.state.message, self.state.finished, self.state.pid = status, message, time.time(), None
        self.state.history.append(status if message is None else f"{status}: {message}")
        self.save()
        return status


_WATCHED = {"out", f"{PROJECT}-pos-1.xyz", f"{PROJECT}-frc-1.xyz"}


@dataclass(frozen=True)
class SegmentResult:
    """One CP2K run as far as it is written.

    Attributes:
        output: parsed main output.
        frames: finished geometries with energy and forces, self-consistent ones only, up to the first that is not.
        stage: name of the stage it belongs to; None if not recorded.
    """

    output: Output
    frames: tuple[Frame, ...]
    stage: str | None

    @property
    def finished_single_point(self) -> bool:
        """Whether the program has ended with energy and forces; a relaxation within a stage must have converged."""
        relaxation = any(frame.step > 0 for frame in self.frames)
        return self.output.ended and bool(self.frames) and (self.output.completed or not relaxation)


def _lower_group(pid: int, niceness: int) -> None:
    """Gives a process's scheduling group the niceness too: Linux may share the processor by group, and then only that counts."""
    with suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(niceness), encoding="ascii")


def read_state(folder: Path) -> State:
    """The state of a work folder; a fresh one if there is none.

    Raises:
        RunError: ``state.json`` is there and unreadable.
    """
    path = folder / "state.json"
    if not path.is_file():
        return State()
    try:
        state = State(**json.loads(path.read_text(encoding="utf-8")))
        if state.status not in get_args(Status):
            raise ValueError(f"status {state.status!r}")
        return state
    except (ValueError, TypeError, OSError) as error:
        raise RunError(f"cannot read {path}: {error}; delete it to start this task again") from error


def read_segment(folder: Path) -> SegmentResult:
    """Reads one CP2K run: output, positions, forces; half-written ends are ignored."""
    path = folder / "out"
    output = parse_output(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else Output()
    note: dict[str, Any] = {}
    if (folder / "segment.json").is_file():
        note = json.loads((folder / "segment.json").read_text(encoding="utf-8"))
    positions, forces = read_trajectory(folder / f"{PROJECT}-pos-1.xyz"), read_trajectory(folder / f"{PROJECT}-frc-1.xyz")
    start_path = folder / "start.json"
    start = _atoms_from_json(start_path.read_text(encoding="utf-8")) if start_path.is_file() else None
    frames: list[Frame] = []
    for number, evaluation in enumerate(output.evaluations):
        if not evaluation.scf_converged:
            break
        frame = _frame(evaluation, number, start, positions, forces, note)
        if frame is not None:
            frames.append(frame)
    return SegmentResult(output, tuple(frames), note.get("stage"))


def _frame(
    evaluation: Evaluation,
    number: int,
    start: Atoms | None,
    positions: dict[int, Any],
    forces: dict[int, Any],
    note: Mapping[str, Any],
) -> Frame | None:
    if start is None:
        return None
    step = evaluation.step
    if step is None and number > 0:
        return None  # running, or the last geometry again
    atoms = start.copy()
    values = evaluation.forces
    if step:
        placed = positions.get(step)
        if placed is None or abs(placed.energy - evaluation.energy) > 1e-4:
            return None
        atoms.positions = placed.values
        written = forces.get(step)
        if values is None and written is not None and abs(written.energy - evaluation.energy) < 1e-4:
            values = written.values * FORCE_UNIT
    if values is None and note.get("forces", True):
        return None  # not written yet
    if values is not None and values.shape != atoms.positions.shape:
        return None
    attempt = int(note.get("attempt", 0))
    return Frame(atoms, evaluation.energy, values, evaluation.scf_steps, evaluation.s_squared, attempt, evaluation.seconds, step or 0)


def meets_criterion(frame: Frame, method: Cp2kMethod) -> bool:
    """Whether the forces meet the method's criteria (largest and root mean square component), rounding of printed forces allowed."""
    if method.optimizer is None:
        return False
    return frame.max_component <= method.optimizer.max_force_hartree_bohr * FORCE_UNIT * (
        1 + 1e-4
    ) and frame.rms_component <= method.optimizer.rms_force_hartree_bohr * FORCE_UNIT * (1 + 1e-4)


def _same(a: Atoms, b: Atoms) -> bool:
    return len(a) == len(b) and bool(np.abs(a.positions - b.positions).max() < SAME_POSITION)


def _atoms_to_json(atoms: Atoms) -> str:
    return json.dumps({"symbols": atoms.get_chemical_symbols(), "positions": atoms.positions.tolist(), "cell": atoms.cell.array.tolist()})


def _atoms_from_json(text: str) -> Atoms:
    data = json.loads(text)
    return Atoms(data["symbols"], positions=data["positions"], cell=data["cell"], pbc=True)


def write_frames(path: Path, frames: Sequence[Atoms]) -> None:
    """Writes labelled atoms as extxyz, atomically."""
    import io

    from ase.io import write

    buffer = io.StringIO()
    write(buffer, list(frames), format="extxyz")
    write_text(path, buffer.getvalue())


def read_frames(path: Path) -> list[Atoms]:
    """Reads what :func:`write_frames` wrote; empty if there is no such file."""
    from ase.io import read

    if not path.is_file():
        return []
    found = read(path, index=":", format="extxyz")
    return found if isinstance(found, list) else [found]
