"""Arguments that are refused before anything is done with them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from defectbench.base.errors import DefectbenchError
from defectbench.base.files import too_long


class DeviceName(StrEnum):
    """Where the model runs."""

    cpu = "cpu"
    cuda = "cuda"


TrustCode = Annotated[bool, typer.Option("--trust-code", help="Run the code that your model YAML names. Use only with trusted sources.")]
TrustWeights = Annotated[
    bool,
    typer.Option(
        "--trust-weights", help="Load weights whose SHA-256 is unknown. Weight files can execute code; use only with trusted sources."
    ),
]


def path(given: str) -> Path:
    """A path; the empty text, as an unset variable of a shell gives it, would be the current folder.

    Raises:
        DefectbenchError: the text is empty, or no file can have such a path.
    """
    if too_long(text(given)):
        raise DefectbenchError(f"'{given[:40]}…' is too long for a path ({len(given):,} characters)")
    return Path(given)


def text(given: str) -> str:
    """A text that says something.

    Raises:
        DefectbenchError: it is empty or blank.
    """
    if not given.strip():
        raise DefectbenchError("an option or argument is empty (''); leave it out, or give it a value")
    return given


def writable_below(target: Path) -> None:
    """Checks that a folder can be there: nothing on the way to it is a file.

    Raises:
        DefectbenchError: something is.
    """
    for place in (target, *target.parents):
        if place.is_dir():
            return
        if place.exists() or place.is_symlink():
            raise DefectbenchError(f"cannot write to {target}: {place} is not a folder; choose another --output")
