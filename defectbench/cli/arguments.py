"""Options that commands share, and values that are refused before anything is done with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


class SuiteName(StrEnum):
    """Which starts run."""

    quick = "quick"
    full = "full"


def text_of(name: str) -> Callable[[str], str]:
    """A parser of a text that says something: an unset variable of a shell gives an empty one.

    Args:
        name: of the option or argument, for the message.

    Raises:
        DefectbenchError: the text is empty or blank.
    """

    def text(given: str) -> str:
        if not given.strip():
            raise DefectbenchError(f"empty value for {name}; omit it or give a value", code="empty-value")
        return given

    return text


def path_of(name: str) -> Callable[[str | Path], Path]:
    """A parser of a path, which a default may be already; the empty text would be the current folder.

    Raises:
        DefectbenchError: the text is empty, or no file can have such a path.
    """
    text = text_of(name)

    def path(given: str | Path) -> Path:
        said = text(str(given))
        if too_long(said):
            raise DefectbenchError(f"{name}: '{said[:40]}…' is too long for a path ({len(said):,} characters)", code="bad-path")
        return Path(given)

    return path


def several(given: Sequence[str] | None, name: str) -> list[str] | None:
    """The items of an option that can be repeated and takes lists: ``-c a,b -c c`` → a, b, c; None if it was not given.

    Raises:
        DefectbenchError: it names nothing.
    """
    if given is None or (not given and not isinstance(given, str)):
        return None
    items = [part.strip() for item in given for part in item.split(",") if part.strip()]
    if not items:
        raise DefectbenchError(f"empty value for {name}; omit it or give a value", code="empty-value")
    return list(dict.fromkeys(items))


def several_charges(given: Sequence[str] | None) -> list[int] | None:
    """As :func:`several`, whole numbers: ``--charge -3,-1``; a true minus sign is one, too.

    Raises:
        DefectbenchError: an item is not a whole number.
    """
    items = several(given, "--charge")
    try:
        return None if items is None else [int(item.replace("\N{MINUS SIGN}", "-")) for item in items]
    except ValueError:
        said = ",".join(items or [])
        raise DefectbenchError(f"--charge takes whole numbers, e.g. --charge -3,-1; not '{said}'", code="bad-charge") from None


def writable_below(target: Path) -> None:
    """Checks that a folder can be there: nothing on the way to it is a file.

    Raises:
        DefectbenchError: something is.
    """
    for place in (target, *target.parents):
        if place.is_dir():
            return
        if place.exists() or place.is_symlink():
            raise DefectbenchError(f"cannot write to {target}: {place} is not a folder; choose another --output", code="bad-output")


DatasetOption = Annotated[str, typer.Option("--dataset", "-d", parser=text_of("--dataset"), metavar="NAME_OR_FOLDER", help="Dataset.")]
EntryDataset = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        "-d",
        parser=text_of("--dataset"),
        metavar="NAME_OR_FOLDER",
        help="Dataset, if the one that the entry names is not found by its name.",
    ),
]
DeviceOption = Annotated[DeviceName, typer.Option("--device", help="Where the model runs.")]
EnvironmentOption = Annotated[
    str | None,
    typer.Option(
        "--environment",
        parser=text_of("--environment"),
        metavar="NAME_OR_PATH",
        help="'current', or the path of a Python environment. Default: the model's managed environment.",
    ),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        "--model-weights",
        parser=path_of("--model-weights"),
        metavar="PATH",
        help="Your own weights, a file or folder.",
    ),
]
NameOption = Annotated[
    str | None,
    typer.Option(
        "--name",
        parser=text_of("--name"),
        metavar="ID",
        help="Model id with --model-weights. Default: the model's id and the start of their hash.",
    ),
]
HeadOption = Annotated[
    str | None,
    typer.Option("--head", parser=text_of("--head"), metavar="NAME", help="Head of a model that has one per level of theory, e.g. HSE06."),
]
TrustCode = Annotated[bool, typer.Option("--trust-code", help="Run the code that your model YAML names. Use only with trusted sources.")]
TrustWeights = Annotated[
    bool,
    typer.Option(
        "--trust-weights", help="Load weights whose SHA-256 is unknown. Weight files can execute code; use only with trusted sources."
    ),
]
EntryArgument = Annotated[
    Path, typer.Argument(parser=path_of("ENTRY"), metavar="ENTRY", help="Folder that 'defectbench evaluate' wrote, or its entry.json.")
]
FolderArgument = Annotated[Path, typer.Argument(parser=path_of("FOLDER"), metavar="FOLDER", help="Folder with entries, at any depth.")]
