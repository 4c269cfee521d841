"""An entry's folder: reading and writing what a run found."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from defectbench.base.errors import DefectbenchError
from defectbench.base.files import contained, read_bytes, read_gzip, write_bytes, write_text
from defectbench.base.hardware import Machine
from defectbench.base.redaction import redact
from defectbench.base.schema import problems
from defectbench.base.tables import csv_text
from defectbench.base.text import one_line
from defectbench.calculations.plan import Plan
from defectbench.calculations.requests import Calculation, Relaxation
from defectbench.calculations.results import CertificateResult, EchoMismatch, Result, Stored, check_echo, parse
from defectbench.entries.migration import current_calculations, current_entry
from defectbench.entries.schema import SCHEMA_VERSION, Entry, extreme, out_of_range

if TYPE_CHECKING:
    from defectbench.entries.schema import Entry, TaskRecord
    from defectbench.scoring.task import MetricValue, ScoringInput, TaskResult

BUNDLE_FILE = "entry.json.sigstore.json"
"""The signature of ``entry.json``, beside it."""

MAX_ENTRY = 50_000_000
MAX_CALCULATIONS = 200_000_000
"""Bytes of ``entry.json``, and of ``calculations.json.gz`` unpacked: some hundred times what a full suite takes."""
MAX_FIGURE = 20_000_000
"""Bytes of a figure."""
_PNG = b"\x89PNG\r\n\x1a\n"


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
    path = contained(folder, "entry.json") if folder.is_dir() else folder
    try:
        content = json.loads(read_bytes(path, MAX_ENTRY))
        entry = Entry.model_validate(current_entry(content) if isinstance(content, dict) else content)
    except FileNotFoundError as error:
        raise DefectbenchError(f"no entry at {path}; give a folder that 'defectbench evaluate' wrote", code="no-entry") from error
    except ValidationError as error:  # which is a ValueError
        field, why = problems(error, Entry)[0]
        raise DefectbenchError(f"{path} is not a valid entry: {field}: {why}", code="bad-entry") from error
    except (OSError, RecursionError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise DefectbenchError(
            f"cannot read the entry {path}: {why}; give a folder that 'defectbench evaluate' wrote", code="bad-entry"
        ) from error
    if (wrong := extreme(entry.model_dump())) is not None:
        raise DefectbenchError(f"{path} is not a valid entry: {one_line(wrong, 300)}", code="bad-entry")
    return entry


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 7)
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value


def _published(result: Result) -> dict[str, Any]:
    content = result.model_dump(mode="json")
    if not isinstance(result, CertificateResult):
        return {name: _rounded(value) for name, value in content.items()}
    if content["worker"] is not None:  # names of files may be paths of the user's
        for weights in content["worker"]["weights"]:
            weights["name"] = redact(weights["name"])
    return content  # noise far below 1e-7 is judged, too


def published(calculation: Calculation, stored: Stored) -> Stored:
    """A result as a reader of ``calculations.json.gz`` sees it (floats to 1e-7)."""
    return stored_result(calculation, _packed(stored))


def _packed(stored: Stored) -> dict[str, Any]:
    machine = None if stored.machine is None else stored.machine.model_dump(mode="json")
    return {"result": _published(stored.result), "machine": machine}


def write_calculations(folder: Path, plan: Plan, results: Mapping[str, Stored]) -> dict[str, Stored]:
    """Writes ``calculations.json.gz`` (floats to 1e-7) and returns the planned part, as a reader will see it.

    Args:
        folder: of the entry.
        plan: what was calculated.
        results: content hash → result, of the plan, of the certificate and of the audit.
    """
    content = {content_hash: _packed(stored) for content_hash, stored in sorted(results.items())}
    _write_packed(folder, content)
    return {c.content_hash: stored_result(c, content[c.content_hash]) for c in plan.calculations if c.content_hash in content}


def _write_packed(folder: Path, results: Mapping[str, Any]) -> None:
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as handle:  # mtime=0: equal results give equal files
        handle.write(json.dumps({"schema_version": SCHEMA_VERSION, "results": results}, separators=(",", ":")).encode())
    write_bytes(folder / "calculations.json.gz", packed.getvalue())


def _read_packed(folder: Path) -> dict[str, Any]:
    path = contained(folder, "calculations.json.gz")
    try:
        content = json.loads(read_gzip(path, MAX_CALCULATIONS))
        if not isinstance(content, dict):
            raise ValueError("it contains no mapping")
        return content
    except (OSError, RecursionError, ValueError) as error:
        raise DefectbenchError(f"cannot read {path}: {error}; an entry needs it to be scored again", code="bad-entry") from error


def read_calculations(folder: Path, entry: Entry) -> dict[str, Any]:
    """Reads ``calculations.json.gz``: content hash → result and machine, for :func:`stored_result` to check.

    Args:
        folder: of the entry.
        entry: that of the folder; it holds the machines of results of an earlier version.

    Raises:
        DefectbenchError: there is none, or it is damaged.
    """
    return current_calculations(_read_packed(folder), [share.machine for share in entry.provenance.machines])


def stored_result(calculation: Calculation, content: Any) -> Stored:
    """A result of :func:`read_calculations`.

    Raises:
        ValueError: it is none of this calculation.
    """
    if not isinstance(content, dict) or content.keys() != {"result", "machine"}:
        raise ValueError("it has no result and machine")
    result = parse(calculation, content["result"])
    if result.echo is not None:  # results of earlier versions have none
        try:
            check_echo(calculation, result)
        except EchoMismatch as error:
            raise ValueError(str(error)) from error
    return Stored(result, None if content["machine"] is None else Machine.model_validate(content["machine"]))


def write_record(folder: Path, entry: Entry) -> Path:
    """Writes ``entry.json``; returns its path. A signature of what was there before is removed: it would not hold.

    Raises:
        RunError: it cannot be written.
    """
    remove_signature(folder)
    path = folder / "entry.json"
    write_text(path, entry.model_dump_json(indent=1) + "\n")
    return path


def remove_signature(folder: Path) -> None:
    """Removes the signature of an ``entry.json`` that is about to change or go."""
    (folder / BUNDLE_FILE).unlink(missing_ok=True)


def write_rescored(folder: Path, entry: Entry) -> None:
    """Writes an entry that was scored again, with its tables. A ``calculations.json.gz`` of an earlier version becomes one of this.

    Raises:
        RunError: something cannot be written.
    """
    content = _read_packed(folder)
    if content.get("schema_version") != SCHEMA_VERSION:
        _write_packed(folder, current_calculations(content, [share.machine for share in entry.provenance.machines]))
    write_record(folder, entry)
    write_tables(folder, entry)


def outcome(relaxation: Relaxation) -> dict[str, Any]:
    """What an entry says of a relaxation."""
    return {
        "status": relaxation.status,
        "failure": relaxation.failure,
        "energy": _held(relaxation.energy),
        "fmax": _held(relaxation.fmax[-1]) if relaxation.fmax else None,
        "steps": relaxation.steps,
        "wall_s": round(relaxation.wall_s, 3),
    }


def _held(value: Any) -> Any:
    return None if out_of_range(value) else value


def task_record(result: TaskResult) -> TaskRecord:
    """What an entry says of a task's result."""
    from defectbench.entries.schema import MetricRecord, TaskRecord

    def finite(values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: _held(value) for name, value in values.items()}

    def record(m: MetricValue) -> MetricRecord:
        if out_of_range(m.value):  # no number to score, and no entry may hold one
            return MetricRecord(name=m.name, value=None, interval=None, reason=f"came out as {m.value}", applies=True)
        bounded = m.interval is not None and not any(out_of_range(end) for end in m.interval)
        return MetricRecord(name=m.name, value=m.value, interval=m.interval if bounded else None, reason=m.reason, applies=m.applies)

    return TaskRecord(
        metrics=[record(m) for m in result.metrics],
        tables={name: [finite(row) for row in rows] for name, rows in {"states": result.rows, **result.tables}.items()},
        baselines={name: finite(values) for name, values in result.baselines.items()},
        notes=list(result.notes),
    )


def read_figure(folder: Path, name: str) -> bytes | None:
    """A figure of an entry, for a page that others see; None if there is none, or a ``.png`` is not a PNG.

    Args:
        folder: of the entry.
        name: ``<task>.png`` or ``<task>.svg``.

    Raises:
        DefectbenchError: it is larger than 20 MB, cannot be read, or is a link out of the folder.
    """
    path = contained(folder, f"figures/{name}")
    if not path.is_file():
        return None
    try:
        content = read_bytes(path, MAX_FIGURE)
    except (OSError, ValueError) as error:
        raise DefectbenchError(f"cannot read the figure {path}: {getattr(error, 'strerror', None) or error}", code="bad-entry") from error
    return content if path.suffix != ".png" or content.startswith(_PNG) else None


def write_tables(folder: Path, entry: Entry) -> list[Path]:
    """Writes each task's tables as ``tables/<task>_<table>.csv`` and all that it found as ``tables/<task>.json``."""

    files: list[Path] = []
    for task, record in entry.tasks.items():
        path = contained(folder, f"tables/{task}.json")
        write_text(path, record.model_dump_json(indent=1) + "\n")
        files.append(path)
        for name, rows in record.tables.items():
            if not rows:
                continue
            files.append(write_csv(contained(folder, f"tables/{task}_{name}.csv"), rows))
    return files


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Writes flat rows that share their columns as CSV; returns the path.

    Raises:
        RunError: it cannot be written.
    """
    write_text(path, csv_text(rows))
    return path


def write_structures(folder: Path, scored: ScoringInput, plan: Plan) -> Path:
    """Writes every relaxed structure to ``structures.extxyz`` (energy in eV; defect, charge, configuration and status in ``info``)."""
    path = folder / "structures.extxyz"
    write_text(path, structures_text(scored, plan))
    return path


def structures_text(scored: ScoringInput, plan: Plan) -> str:
    """The content of ``structures.extxyz``."""
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
    return text.getvalue()


def _extxyz_info(relaxation: Relaxation) -> dict[str, Any]:
    info: dict[str, Any] = {"status": relaxation.status, "steps": relaxation.steps}
    if relaxation.energy is not None:
        info["model_energy"] = relaxation.energy
    return info
