"""A training from beginning to end, or from where it was left: files, the process in the package's environment, the learning curve."""

from __future__ import annotations

import json
import subprocess
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectbench.base.errors import DefectbenchError, RunError
from defectbench.base.files import contained, read_bytes, write_text
from defectbench.base.processes import guarded
from defectbench.base.tables import csv_text
from defectbench.base.text import one_line
from defectbench.base.yaml import to_yaml
from defectbench.calculations.client import worker_environment
from defectbench.models.environment import PythonEnvironment, ensure_environment
from defectbench.training.export import TrainingFiles, export
from defectbench.training.mace_files import configuration, settings
from defectbench.training.recipe import Recipe
from defectbench.training.splits import Selection, select_frames

if TYPE_CHECKING:
    from defectbench.datasets.dataset import Dataset

RUN_FILE = "run.json"
MAX_RUN_FILE = 10_000_000
"""Bytes."""
MODEL_FILE = "model.model"
STATE_FILE = "state.pt"
CURVE_FILE = "curve.csv"
LOCK_FILE = ".lock"
PRETRAINING = "pretraining"
"""Folder of the first stage; a new run takes over one that is copied there."""
ENVIRONMENTS = {"mace": "mace"}
"""Recipe kind → managed environment."""


@dataclass(frozen=True)
class Epoch:
    """What an epoch gave.

    Attributes:
        epoch: number, from 1.
        epochs: how many there are at most.
        rate: learning rate at its begin.
        loss: mean over its steps.
        errors: level → validation error: ``energy`` (eV per cell), ``forces`` (eV/Å), root mean square.
        score: mean over the levels of the sum of both numbers; the epoch with the lowest is kept.
        improved: whether it is the lowest so far.
        seconds: it took.
        stage: ``pretraining`` or ``training``.
    """

    epoch: int
    epochs: int
    rate: float
    loss: float
    errors: dict[str, dict[str, float]]
    score: float
    improved: bool
    seconds: float
    stage: str


@dataclass(frozen=True)
class Training:
    """A finished training.

    Attributes:
        folder: of the run.
        selection: frames used.
        files: as they were written.
        history: of the main stage.
        parameters: number of parameters.
        stopped_early: whether patience ended it.
    """

    folder: Path
    selection: Selection
    files: TrainingFiles
    history: tuple[Epoch, ...]
    parameters: int
    stopped_early: bool

    @property
    def best(self) -> Epoch:
        """The epoch whose parameters were kept."""
        return [epoch for epoch in self.history if epoch.improved][-1]


def prepare(dataset: Dataset, recipe: Recipe, folder: Path) -> tuple[Selection, TrainingFiles]:
    """Writes the training files into a run's folder, which is new or holds a run with the same recipe, splits, levels and charges.

    The dataset may have grown since: the run then resumes with the new files and chooses its best epoch from then on.

    Args:
        dataset: to train on.
        recipe: how.
        folder: of the run.

    Raises:
        DatasetError: the dataset does not fit the recipe.
        DefectbenchError: the folder holds another run.
        RunError: the folder cannot be written.
    """
    selection = select_frames(dataset, recipe)
    identity = {
        "dataset": dataset.id,
        "splits": selection.splits.model_dump(mode="json"),
        "recipe": recipe.model_dump(mode="json", exclude={"presets", "description"}),
        "levels": list(selection.levels),
        "charges": list(selection.charges),
    }
    place = folder / RUN_FILE
    if place.is_file():
        try:
            there = dict(json.loads(read_bytes(place, MAX_RUN_FILE)))
        except (OSError, RecursionError, TypeError, ValueError) as error:
            raise DefectbenchError(
                f"cannot read {place} ({one_line(error, 100)}); choose another --output", code="foreign-folder"
            ) from error
        if changed := [name for name, value in identity.items() if there.get(name) != value]:
            raise DefectbenchError(
                f"{folder} holds a training with different {changed[0]}; choose another --output, or remove the folder to begin again",
                code="foreign-folder",
            )
    elif folder.is_dir() and any(path.name not in (PRETRAINING, LOCK_FILE) for path in folder.iterdir()):
        raise DefectbenchError(f"{folder} is not empty and contains no training; choose another --output", code="foreign-folder")
    files = export(dataset, selection, folder)
    write_text(folder / "mace.yaml", to_yaml(configuration(recipe, files, recipe.id)))
    write_text(place, json.dumps(identity, indent=1) + "\n")
    return selection, files


def train(
    dataset: Dataset,
    recipe: Recipe,
    folder: Path,
    *,
    device: str = "cpu",
    threads: int = 1,
    environment: str | None = None,
    on_line: Callable[[str], None] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Training:
    """Trains a model; the same call resumes a run that was interrupted, on any device.

    A folder may come from elsewhere: its state is read without code, and the model file is written again from it, so that none which lay
    there is loaded.

    Args:
        dataset: with splits.
        recipe: how.
        folder: of the run; made if it is not there.
        device: ``cpu`` or ``cuda``.
        threads: of the training process.
        environment: instead of the managed one, as ``--environment`` of other commands.
        on_line: called with what is being done.
        on_epoch: called after each epoch.

    Raises:
        DatasetError: the dataset does not fit the recipe.
        DefectbenchError: the folder holds another run.
        EnvironmentBuildError: the package's environment cannot be built.
        RunError: the process failed; what it had reached is kept.
    """
    from filelock import FileLock, Timeout

    tell = on_line or (lambda _line: None)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make {folder}: {error.strerror}; choose another --output", code="not-writable") from error
    try:
        with FileLock(folder / LOCK_FILE, timeout=0):
            selection, files = prepare(dataset, recipe, folder)
            python = ensure_environment(environment or ENVIRONMENTS[recipe.kind], progress=tell)
            process = _Process(f"{dataset.id}, recipe {recipe.id}", python, device, threads, on_epoch)
            initial = None
            if recipe.pretraining is not None and not (folder / STATE_FILE).is_file():
                from defectbench.training.pretraining import pretraining_files

                stage = contained(folder, PRETRAINING)
                first = pretraining_files(dataset, recipe, selection, files, stage, tell)
                job = settings(recipe, first, recipe.pretraining.phases, device=device)
                _stage(process, job, stage, PRETRAINING)
                initial = f"{PRETRAINING}/{STATE_FILE}"
            job = settings(recipe, files, recipe.phases, device=device, initial=initial)
            history, parameters, stopped = _stage(process, job, folder, "training")
    except Timeout:
        raise RunError(f"{folder} is in use by another training; wait for it, or choose another --output", code="folder-in-use") from None
    return Training(folder, selection, files, history, parameters, stopped)


@dataclass(frozen=True)
class _Process:
    """Where and how the training process runs, what it trains on, and what receives its epochs."""

    source: str
    python: PythonEnvironment
    device: str
    threads: int
    on_epoch: Callable[[Epoch], None] | None


def _stage(how: _Process, job: dict[str, Any], folder: Path, stage: str) -> tuple[tuple[Epoch, ...], int, bool]:
    """One process; returns its epochs, the number of parameters and whether patience ended it."""
    from defectbench.training.curve import draw

    write_text(folder / "job.json", json.dumps(job, indent=1) + "\n")
    script = str(resources.files("defectbench.training") / "mace_process.py")
    command = [str(how.python.python), "-I", script, str(folder / "job.json")]
    variables = worker_environment(how.threads, how.device, 0 if how.device == "cuda" else None)
    history: list[Epoch] = []
    end: dict[str, Any] = {}
    start: dict[str, Any] = {}
    with guarded(command, environment=variables, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        words = _last_words(process.stderr)
        for text in process.stdout:
            message = _message(text)
            if message.get("type") == "start":
                start = message
            elif message.get("type") in ("done", "error"):
                end = message
            for line in message.get("history", [message] if message.get("type") == "epoch" else []):
                history.append(_epoch(line, start["epochs"], stage))
                if how.on_epoch is not None and message.get("type") == "epoch":
                    how.on_epoch(history[-1])
            if history and message:
                write_text(folder / CURVE_FILE, curve_csv(history))
    if process.returncode != 0 or end.get("type") != "done":
        killed = f"it was killed by signal {-process.returncode} (out of memory?)" if process.returncode < 0 else None
        said = killed or end.get("message") or (words[-1] if words else f"exit code {process.returncode}")
        resumes = "" if end.get("final") else f"; the same command resumes after epoch {len(history)}"
        raise RunError(f"the {stage} stopped: {one_line(said, 300)}{resumes}", code="training-failed")
    draw(history, how.source, folder)
    return tuple(history), int(start["parameters"]), bool(end["stopped_early"])


def _last_words(stream: Any) -> deque[str]:
    """Reads a stream to its end in a thread, so that the writer never waits, and keeps the last lines."""
    import threading

    words: deque[str] = deque(maxlen=20)

    def read() -> None:
        for line in stream:
            if line.strip():
                words.append(line.strip())

    threading.Thread(target=read, daemon=True).start()
    return words


def _message(text: str) -> dict[str, Any]:
    """A line of the process; what a package prints of its own is ignored."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _epoch(line: dict[str, Any], epochs: int, stage: str) -> Epoch:
    names = ("epoch", "rate", "loss", "errors", "score", "improved", "seconds")
    try:
        return Epoch(epochs=epochs, stage=stage, **{name: line[name] for name in names})
    except (KeyError, TypeError):
        raise RunError(f"{STATE_FILE} has a history that no run wrote; choose another --output", code="training-failed") from None


def curve_csv(history: list[Epoch]) -> str:
    """The learning curve as CSV: one row per epoch, energy (eV per cell) and force (eV/Å) errors by level."""
    return csv_text([_curve_row(epoch) for epoch in history])


def _curve_row(epoch: Epoch) -> dict[str, object]:
    row: dict[str, object] = {"epoch": epoch.epoch, "seconds": epoch.seconds, "learning_rate": f"{epoch.rate:.4g}"}
    row |= {"loss": f"{epoch.loss:.5g}", "score": f"{epoch.score:.5g}", "improved": int(epoch.improved)}
    for level, errors in epoch.errors.items():
        row |= {f"energy_rmse_ev_{level}": f"{errors['energy']:.5g}", f"force_rmse_ev_per_angstrom_{level}": f"{errors['forces']:.5g}"}
    return row


__all__ = ["CURVE_FILE", "MODEL_FILE", "STATE_FILE", "Epoch", "Training", "curve_csv", "prepare", "train"]
