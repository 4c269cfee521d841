"""The folder of a run: of one model, dataset and selection, held by one process, with nothing old beside a new entry."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from defectbench.base.errors import DefectbenchError, RunError
from defectbench.base.files import read_bytes, write_text
from defectbench.entries.folder import MAX_ENTRY, read_calculations, read_entry, remove_signature, stored_result
from defectbench.entries.schema import Entry, SelectedState

if TYPE_CHECKING:
    from defectbench.calculations import plan as planning
    from defectbench.calculations.plan import Plan
    from defectbench.calculations.store import ResultStore

OWNER = ".run.json"
"""Says whose a folder is, as soon as a run begins in it."""

Suite = Literal["quick", "full", "custom"]


class FolderInUse(DefectbenchError):  # noqa: N818 - a thing that is so
    """A folder that belongs to another model, dataset or selection."""

    code = "foreign-folder"


class Owner(BaseModel):
    """Whose results a folder holds.

    Attributes:
        model: id.
        dataset: id.
        suite: ``custom`` for a narrower selection.
        tasks: names, sorted.
        states: of a ``custom`` suite; empty otherwise: what a suite holds may grow with its dataset.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    dataset: str
    suite: Suite
    tasks: tuple[str, ...]
    states: tuple[SelectedState, ...] = ()

    @classmethod
    def of_run(cls, model: str, dataset: str, suite: Suite, tasks: Sequence[str], states: Sequence[planning.SelectedState]) -> Owner:
        """The owner that a run makes its folder belong to."""
        chosen = [SelectedState(defect=s.defect, charge=s.charge, configurations=list(s.configurations)) for s in states]
        return cls(model=model, dataset=dataset, suite=suite, tasks=tuple(sorted(tasks)), states=tuple(chosen) if suite == "custom" else ())

    @classmethod
    def of_entry(cls, entry: Entry) -> Owner:
        """The owner of a folder with an entry."""
        chosen = entry.selection
        states = tuple(chosen.states) if chosen.suite == "custom" else ()
        return cls(model=entry.model.id, dataset=entry.dataset.id, suite=chosen.suite, tasks=tuple(sorted(chosen.tasks)), states=states)

    def folder(self, root: Path, all_tasks: Sequence[str]) -> Path:
        """The default folder: one per model, dataset and selection.

        >>> Owner(model="toy", dataset="mgo", suite="quick", tasks=("relax",)).folder(Path("results"), ["relax"]).as_posix()
        'results/toy/mgo-quick'
        """
        name = self.dataset if self.suite == "full" else f"{self.dataset}-{self.suite}"
        if self.suite == "custom" or set(self.tasks) != set(all_tasks):
            name += f"-{hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:8]}"
        return root / self.model / name

    def difference(self, other: Owner) -> str | None:
        """What another owner has that this one does not, in a few words; None if they are the same."""
        if self.model != other.model or self.dataset != other.dataset:
            return f"the results of {other.model} on {other.dataset}"
        if self != other:
            return f"another selection of {other.model} on {other.dataset} ({other.suite} suite, {len(other.tasks)} tasks)"
        return None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes a run folder and holds it: two processes on one would write over each other. The lock goes with the process, however it ends.

    Raises:
        DefectbenchError: there can be no such folder.
        RunError: another process holds it, or the disk is full.
    """
    from filelock import FileLock, Timeout

    _make(folder)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise RunError(
            f"{folder} is in use by another defectbench process; wait for it or choose another --output", code="folder-in-use"
        ) from None
    except OSError as error:
        raise RunError(f"cannot lock {folder}: {error.strerror}; choose another --output", code="not-writable") from error
    try:
        yield
    finally:
        lock.release()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        blocking = next((place for place in (folder, *folder.parents) if place.exists() and not place.is_dir()), folder)
        raise DefectbenchError(f"cannot create {folder}: {blocking} is not a folder; choose another --output", code="bad-output") from None
    except OSError as error:
        # full or broken disks are not the user's mistake; all else is
        kind = RunError if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO) else DefectbenchError
        raise kind(f"cannot create {folder}: {error.strerror}; choose another --output", code="not-writable") from error
    if (folder / "entry.json").is_dir():
        raise DefectbenchError(f"{folder / 'entry.json'} is a folder; move it away or choose another --output", code="bad-output")


def claim(folder: Path, owner: Owner) -> None:
    """Makes a locked folder belong to a run, or refuses it.

    Raises:
        FolderInUse: it belongs to another model, dataset or selection, or nobody can say whose its entry is.
    """
    if (found := _owner(folder)) is not None and (what := owner.difference(found)) is not None:
        raise FolderInUse(f"{folder} holds {what}; choose another --output, or remove the folder")
    write_text(folder / OWNER, owner.model_dump_json() + "\n")


def _owner(folder: Path) -> Owner | None:
    with suppress(OSError, ValueError):
        return Owner.model_validate_json(read_bytes(folder / OWNER, MAX_ENTRY))
    if not (folder / "entry.json").exists():
        return None
    try:
        return Owner.of_entry(read_entry(folder))
    except DefectbenchError as error:
        raise FolderInUse(
            f"{folder} holds an entry that cannot be read, so its model is unknown ({error}); choose another --output, or move it away"
        ) from error


def take_over(folder: Path, store: ResultStore, plan: Plan, identity: str) -> tuple[int, list[str]]:
    """Stores what the entry in a folder holds of a plan and the store does not.

    Returns:
        How many calculations that were, and what could not be read, one sentence each.
    """
    missing = [c for c in plan.calculations if c.key(identity) not in store]
    packed = folder / "calculations.json.gz"
    if not missing or not ((folder / "entry.json").exists() or packed.exists()):
        return 0, []
    try:
        entry = read_entry(folder)
        if entry.model.identity != identity:
            return 0, [f"{folder} holds results of {entry.model.id} with other weights, code or packages; they are not used"]
        content = read_calculations(folder, entry)
    except DefectbenchError as error:
        return 0, [f"{error}; {len(missing)} calculations run again"]
    taken = damaged = 0
    for calculation in missing:
        if (found := content.get(calculation.content_hash)) is None:
            continue
        try:
            stored = stored_result(calculation, found)
        except ValueError:
            damaged += 1
            continue
        store.take_over(calculation.key(identity), calculation, stored)
        taken += 1
    return taken, [f"{damaged} results in {packed} are damaged; they are calculated again"] if damaged else []


def neighbours(folder: Path, owner: Owner) -> list[Path]:
    """Default folders of other selections of the same model and dataset, with an entry."""
    with suppress(OSError):
        others = sorted(place for place in folder.parent.iterdir() if place != folder)
        return [place for place in others if (place / "entry.json").is_file() and _same_data(place, owner)]
    return []


def _same_data(folder: Path, owner: Owner) -> bool:
    with suppress(OSError, ValueError):
        content = json.loads(read_bytes(folder / OWNER, MAX_ENTRY))
        return (content["model"], content["dataset"]) == (owner.model, owner.dataset)
    return False


def remove_foreign_entry(folder: Path, identity: str) -> None:
    """Removes an entry of another identity, before the calculations beside it are replaced: it would claim them."""
    with suppress(DefectbenchError):
        if read_entry(folder).model.identity == identity:
            return
    (folder / "entry.json").unlink(missing_ok=True)
    remove_signature(folder)


def sweep(folder: Path, tasks: Sequence[str], written: Sequence[Path]) -> None:
    """Removes tables and figures of tasks that an older run left and this one did not write.

    Args:
        folder: of the run.
        tasks: all task names: files of other names are not ours.
        written: by this run.
    """
    kept = set(written)
    for task in tasks:
        for pattern in (f"tables/{task}.json", f"tables/{task}_*.csv", f"figures/{task}*.png", f"figures/{task}*.svg"):
            for path in folder.glob(pattern):
                if path not in kept:
                    path.unlink(missing_ok=True)
