"""An entry's folder: reading and writing what a run found."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from defectbench.base.errors import DefectbenchError, RunError
from defectbench.calculations.plan import Plan
from defectbench.calculations.requests import Relaxation
from defectbench.entries.schema import Entry

if TYPE_CHECKING:
    from defectbench.entries.schema import Entry, TaskRecord
    from defectbench.scoring.task import MetricValue, ScoringInput, TaskResult


def entry_folder(path: Path) -> Path:
    """The folder of an entry that is given as a folder or as its ``entry.json``."""
    return path.parent if path.name == "entry.json" and not path.is_dir() else path


def read_entry(folder: Path) -> Entry:
    """Reads ``entry.json`` of a folder.

    Args:
        folder: the folder, or the path of its ``entry.json``.

    Raises:
        DefectbenchError: there is none, it cannot be read, or it does not fit the schema; the message names the field.
    """
    path = folder / "entry.json" if folder.is_dir() else folder
    try:
        return Entry.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DefectbenchError(f"no entry at {path}; give a folder that 'defectbench evaluate' wrote") from error
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else f"not UTF-8 at byte {error.start}"
        raise DefectbenchError(f"cannot read the entry {path}: {why}; give a folder that 'defectbench evaluate' wrote") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "(whole file)"
        raise DefectbenchError(f"{path} is not a valid entry: {field}: {first['msg'].removeprefix('Value error, ')}") from error


def write_text(path: Path, text: str) -> None:
    """Writes a text file in one atomic step.

    Raises:
        RunError: it cannot be written (full disk, no permission).
    """
    partial = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}; the calculations are stored, run the same command again") from error


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 7)
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value


def write_calculations(folder: Path, results: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Writes ``calculations.json.gz`` (floats to 1e-7) and returns the content as a reader will see it."""
    rounded = {key: dict(_rounded(result)) for key, result in sorted(results.items())}
    path = folder / "calculations.json.gz"
    partial = path.with_name(f".{path.name}.part")
    try:
        # mtime=0: equal results give equal files
        with partial.open("wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as handle:
            handle.write(json.dumps(rounded, separators=(",", ":")).encode())
        partial.replace(path)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}; the calculations are stored, run the same command again") from error
    return rounded


def read_calculations(folder: Path) -> dict[str, dict[str, Any]]:
    """Reads ``calculations.json.gz``: content hash → result, each of a form that is yet to be checked.

    Raises:
        DefectbenchError: there is none, or it is damaged.
    """
    path = folder / "calculations.json.gz"
    try:
        with gzip.open(path, "rt", encoding="utf-8") as handle:
            content = json.load(handle)
        if not isinstance(content, dict):
            raise ValueError("it holds no mapping")
        return content
    except (OSError, EOFError, zlib.error, RecursionError, ValueError) as error:
        raise DefectbenchError(f"cannot read {path}: {error}; an entry needs it to be scored again") from error


def _output(folder: Path) -> None:
    """Makes a run directory; refuses one that can never be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        blocking = next((place for place in (folder, *folder.parents) if place.exists() and not place.is_dir()), folder)
        raise DefectbenchError(f"cannot create {folder}: {blocking} is not a folder; choose another --output") from None
    except OSError as error:
        raise _out_of_reach(error)(f"cannot create {folder}: {error.strerror}; choose another --output") from error
    if (folder / "entry.json").is_dir():
        raise DefectbenchError(f"{folder / 'entry.json'} is a folder; move it away or choose another --output")


def _out_of_reach(error: OSError) -> type[DefectbenchError]:
    """Full disks and broken ones are no mistake of the user's; all else is."""
    import errno

    return RunError if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO) else DefectbenchError


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot create {folder}: {error.strerror}; make room for it and run the same command, nothing is lost") from error
    return folder


def _outcome(relaxation: Relaxation) -> dict[str, Any]:
    return {
        "status": relaxation.status,
        "failure": relaxation.failure,
        "energy": relaxation.energy,
        "fmax": relaxation.fmax[-1] if relaxation.fmax else None,
        "steps": relaxation.steps,
        "wall_s": round(relaxation.wall_s, 3),
    }


def _task_record(result: TaskResult) -> TaskRecord:
    from defectbench.entries.schema import MetricRecord, TaskRecord

    def finite(values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()}

    def record(m: MetricValue) -> MetricRecord:
        if m.value is not None and not math.isfinite(m.value):  # no number to score, and no entry may hold one
            return MetricRecord(name=m.name, value=None, interval=None, reason=f"came out as {m.value}", applies=True)
        bounded = m.interval is not None and all(math.isfinite(end) for end in m.interval)
        return MetricRecord(name=m.name, value=m.value, interval=m.interval if bounded else None, reason=m.reason, applies=m.applies)

    return TaskRecord(
        metrics=[record(m) for m in result.metrics],
        tables={name: [finite(row) for row in rows] for name, rows in {"states": result.rows, **result.tables}.items()},
        baselines={name: finite(values) for name, values in result.baselines.items()},
        notes=list(result.notes),
    )


def write_tables(folder: Path, entry: Entry) -> list[Path]:
    """Writes each task's tables as ``tables/<task>_<table>.csv`` and all that it found as ``tables/<task>.json``."""

    files: list[Path] = []
    for task, record in entry.tasks.items():
        path = folder / "tables" / f"{task}.json"
        write_text(path, record.model_dump_json(indent=1) + "\n")
        files.append(path)
        for name, rows in record.tables.items():
            if not rows:
                continue
            files.append(write_csv(folder / "tables" / f"{task}_{name}.csv", rows))
    return files


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Writes flat rows that share their columns as CSV; returns the path.

    Raises:
        RunError: it cannot be written.
    """
    import csv
    import io

    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
    return path


def write_structures(folder: Path, scored: ScoringInput, plan: Plan) -> Path:
    """Writes every relaxed structure to ``structures.extxyz`` (energy in eV; defect, charge, configuration and status in ``info``)."""
    import io

    from ase.io import write

    images = []
    for host in scored.host:
        atoms = plan.host[host.start].structure.to_atoms()
        atoms.positions = host.relaxation.positions
        atoms.info = {"defect": "host", "configuration": host.start, **_extxyz_info(host.relaxation)}
        images.append(atoms)
    for c in scored.configurations:
        atoms = plan.relaxations[c.defect, c.charge, c.configuration].structure.to_atoms()
        atoms.positions = c.relaxation.positions
        atoms.info = {"defect": c.defect, "charge": c.charge, "configuration": c.configuration, **_extxyz_info(c.relaxation)}
        images.append(atoms)
    text = io.StringIO()
    write(text, images, format="extxyz")
    path = folder / "structures.extxyz"
    write_text(path, text.getvalue())
    return path


def _extxyz_info(relaxation: Relaxation) -> dict[str, Any]:
    info: dict[str, Any] = {"status": relaxation.status, "steps": relaxation.steps}
    if relaxation.energy is not None:
        info["model_energy"] = relaxation.energy
    return info


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds a run directory: two processes on one would write over each other. The lock goes with the process, however it ends."""
    from filelock import FileLock, Timeout

    _output(folder)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise RunError(f"{folder} is in use by another defectbench process; wait for it or choose another --output") from None
    except OSError as error:
        raise RunError(f"cannot lock {folder}: {error.strerror}; choose another --output") from error
    try:
        yield
    finally:
        lock.release()
