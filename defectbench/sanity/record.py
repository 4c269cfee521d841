"""What a run of the suite found: ``sanity.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from defectbench.base.errors import DefectbenchError
from defectbench.base.files import files_below, read_bytes, write_text
from defectbench.base.hardware import Count, Machine
from defectbench.base.schema import problems
from defectbench.models.schema import ModelId, Sha256

RECORD_FILE = "sanity.json"
MOST_BYTES = 5_000_000


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelUsed(_Closed):
    """Which model: enough to run it again."""

    id: ModelId
    name: str
    package: str
    identity: str
    level_of_theory: str
    weights_sha256: dict[str, Sha256]
    embedded: bool


class Outcome(_Closed):
    """A relaxation of the suite.

    Attributes:
        energy: in eV; None if it failed.
        lattice: edge of the model's cubic cell over that of the start; None without one.
        vacant_sites: see :func:`~defectbench.sanity.structures.vacant_sites`.
        point_group: in Hermann–Mauguin's symbols.
    """

    system: str
    start: str
    atoms: Count
    status: Literal["converged", "unconverged", "failed"]
    failure: str | None
    energy: float | None
    steps: Count
    seconds: Annotated[float, Field(ge=0)]
    lattice: float | None = None
    vacant_sites: Count | None = None
    point_group: str | None = None


class Pathway(_Closed):
    """A minimum-energy path; energies of its images in eV above the first."""

    system: str
    name: str
    status: Literal["converged", "unconverged", "failed"]
    failure: str | None
    energies: tuple[float, ...]
    steps: Count
    seconds: Annotated[float, Field(ge=0)]

    @property
    def barrier(self) -> float | None:
        """eV above the first structure; None unless it converged."""
        return max(self.energies) if self.status == "converged" else None


class Finding(_Closed):
    """The answer to one of the suite's questions.

    Attributes:
        check: its name.
        value: in ``unit``; None where the question is not about a number, or there is no answer.
        published: what the literature says, in a few words; None where it says nothing that can be compared.
        passed: None where nothing is judged.
        reason: one line: why there is no value, or what was found.
    """

    check: str
    system: str
    question: str
    value: float | None
    unit: str
    published: str | None
    passed: bool | None
    reason: str | None


class SanityRecord(_Closed):
    """A model's answers to the suite."""

    schema_version: Literal[1] = 1
    suite: str
    model: ModelUsed
    findings: tuple[Finding, ...]
    outcomes: tuple[Outcome, ...]
    paths: tuple[Pathway, ...]
    defectbench: str
    created: str
    packages: dict[str, str]
    machines: tuple[Machine, ...]

    @property
    def passed(self) -> int:
        """How many judged questions the model answers right."""
        return sum(finding.passed is True for finding in self.findings)

    @property
    def judged(self) -> int:
        """How many questions are judged."""
        return sum(finding.passed is not None for finding in self.findings)

    def finding(self, check: str) -> Finding:
        """The answer to a question by the check's name; KeyError if it was not asked."""
        for found in self.findings:
            if found.check == check:
                return found
        raise KeyError(check)


def write_record(folder: Path, record: SanityRecord) -> Path:
    """Writes ``sanity.json`` into a folder; returns its path.

    Raises:
        RunError: it cannot be written.
    """
    path = folder / RECORD_FILE
    write_text(path, record.model_dump_json(indent=1) + "\n")
    return path


def read_record(path: Path) -> SanityRecord:
    """Reads a record.

    Args:
        path: of ``sanity.json``, or of the folder that holds it.

    Raises:
        DefectbenchError: there is none, or it does not fit the schema; the message names the field.
    """
    file = path / RECORD_FILE if path.is_dir() else path
    try:
        return SanityRecord.model_validate(json.loads(read_bytes(file, MOST_BYTES)))
    except FileNotFoundError as error:
        raise DefectbenchError(f"no {RECORD_FILE} at {path}; 'defectbench sanity run' writes one", code="no-entry") from error
    except ValidationError as error:
        field, why = problems(error, SanityRecord)[0]
        raise DefectbenchError(f"{file} is not a valid record: {field}: {why}", code="bad-entry") from error
    except (OSError, RecursionError, ValueError) as error:
        raise DefectbenchError(f"cannot read {file}: {error}", code="bad-entry") from error


def find_records(folder: Path) -> list[SanityRecord]:
    """All records at or below a folder, by the model's name.

    Raises:
        DefectbenchError: there is no such folder, no record in it, or one that cannot be read.
    """
    found = files_below(folder, RECORD_FILE)
    if not found:
        raise DefectbenchError(f"no {RECORD_FILE} in or below {folder}; 'defectbench sanity run --output' writes one", code="no-entry")
    return sorted((read_record(path) for path in found), key=lambda record: record.model.id)
