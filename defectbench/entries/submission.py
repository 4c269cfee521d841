"""An entry for the published leaderboard: checked, and filed as ``<leaderboards>/<dataset>/<model>``."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from defectbench.base.errors import DefectbenchError, RunError
from defectbench.base.files import contained, read_bytes, read_gzip
from defectbench.base.redaction import redact
from defectbench.base.text import one_line
from defectbench.entries.folder import MAX_CALCULATIONS, entry_folder, read_entry
from defectbench.entries.staleness import stale
from defectbench.entries.versions import FOLDER as VERSIONS
from defectbench.entries.versions import keep_versions

if TYPE_CHECKING:
    from defectbench.datasets.dataset import Dataset
    from defectbench.entries.sampling import SampleOptions
    from defectbench.entries.schema import Entry
    from defectbench.entries.verification import Verification

PUBLISHED = re.compile(
    r"entry\.json(\.sigstore\.json)?|calculations\.json\.gz|structures\.extxyz|tables/[\w-]+\.(csv|json)|figures/[\w-]+\.(png|svg)|versions/[\d-]{10}-[0-9a-f]{12}\.json"
)
"""What is filed."""
LEFT_BEHIND = re.compile(r"calculations\.db.*|index\.html|\..*|__pycache__/.*")
"""What a run leaves in its folder, and what is made again."""
REQUIRED = ("entry.json", "calculations.json.gz", "structures.extxyz")
MAX_FILE = 10_000_000
MAX_TOTAL = 25_000_000
"""Bytes, as the files lie on the disk; an entry of the full suite takes 3 MB."""
SUITES = ("custom", "quick", "full")
"""Least first."""


@dataclass(frozen=True)
class Submission:
    """An entry that was checked.

    Attributes:
        folder: where it lies.
        entry: its content.
        files: what is filed, relative paths.
        problems: why it is refused, one line each; empty if it is not.
        verification: what verifying it found.
    """

    folder: Path
    entry: Entry
    files: tuple[str, ...]
    problems: tuple[str, ...]
    verification: Verification

    @property
    def place(self) -> str:
        """Where it belongs below the leaderboards."""
        return f"{self.entry.dataset.id}/{self.entry.model.id}"


def check_submission(
    folder: Path,
    dataset: str | Path | Dataset | None = None,
    *,
    sample: int = 0,
    model: str | None = None,
    options: SampleOptions | None = None,
) -> Submission:
    """Checks an entry for publication: schema, verification, files, sizes, and that nothing names the submitter or the machine.

    Args:
        folder: of the entry.
        dataset: the dataset it was made on, if it is not found by its name.
        sample: number of calculations that are run again with the model and compared.
        model: for ``sample``, the model's YAML if it is not registered.
        options: for ``sample``, how the model runs.

    Raises:
        DefectbenchError: the entry, the dataset or the model cannot be read.
        RunError: the model cannot start.
    """
    from defectbench.entries.verification import verify

    folder = entry_folder(folder)
    entry = read_entry(folder)
    files, problems = _files(folder)
    problems += list(_personal(folder, files))
    found = verify(folder, dataset, sample=sample, model=model, options=options)
    return Submission(folder, entry, tuple(files), (*problems, *found.problems), found)


def add(submission: Submission, leaderboards: Path, *, replace: bool = False) -> Path:
    """Files a checked entry; returns its new folder. An entry whose place it takes becomes one of its versions.

    Args:
        submission: what :func:`check_submission` found.
        leaderboards: folder of the published entries.
        replace: take the place of an entry that is as good: verified, not stale, of as many configurations.

    Raises:
        RunError: the entry has problems (code ``not-verified``), or cannot be written.
        DefectbenchError: an entry that is as good is there (code ``entry-exists``).
    """
    if submission.problems:
        raise RunError(
            f"{submission.folder} is not added: {len(submission.problems)} problems, first: {submission.problems[0]}", code="not-verified"
        )
    target = contained(leaderboards, submission.place)
    if target.resolve() == submission.folder.resolve():
        return target
    if not replace and (reason := _as_good(target, submission.entry)) is not None:
        raise DefectbenchError(f"{target} holds an entry that {reason}; replace it with --replace", code="entry-exists")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as place:
            made, old = Path(place) / "new", Path(place) / "old"
            for name in submission.files:
                if name.startswith(f"{VERSIONS}/"):  # history is what was published here
                    continue
                (made / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(submission.folder / name, made / name)
            if target.exists():
                keep_versions(target, made)
                target.rename(old)
            made.rename(target)
    except OSError as error:
        raise RunError(f"cannot write {target}: {error.strerror or error}; free space or give permission, then run it again") from error
    return target


def _as_good(target: Path, entry: Entry) -> str | None:
    """In which respect the entry that is there should stay; None if there is none, or a worse one."""
    from defectbench.entries.verification import verify

    if not (target / "entry.json").is_file():
        return None
    try:
        old = read_entry(target)
        if stale(old) is not None or not verify(target, figures=False).passed:
            return None
    except DefectbenchError:
        return None  # what cannot be read or verified is not worth keeping
    if len(old.configurations) < len(entry.configurations) and SUITES.index(old.selection.suite) <= SUITES.index(entry.selection.suite):
        return None
    if old.model.identity != entry.model.identity:
        return "is verified, of a model with other weights, arguments or packages"
    if len(old.configurations) > len(entry.configurations):
        return f"is verified and has more configurations ({len(old.configurations)}, this one {len(entry.configurations)})"
    return "is verified"


def _files(folder: Path) -> tuple[list[str], list[str]]:
    """What is filed, and what is wrong with the files."""
    kept, problems, total = [], [], 0
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            problems.append(f"{one_line(name, 80)}: a link; put the file itself there")
        elif path.is_dir() or LEFT_BEHIND.fullmatch(name):
            continue
        elif not PUBLISHED.fullmatch(name):
            problems.append(f"{one_line(name, 80)}: not a file of an entry; remove it")
        else:
            kept.append(name)
            size = path.stat().st_size
            total += size
            if size > MAX_FILE:
                problems.append(f"{name}: {size:,} bytes, more than {MAX_FILE:,}")
    if total > MAX_TOTAL:
        problems.append(f"{total:,} bytes together, more than {MAX_TOTAL:,}")
    problems += [f"{name}: missing" for name in REQUIRED if name not in kept]
    return kept, problems


def _personal(folder: Path, files: Iterable[str]) -> Iterator[str]:
    """Texts that name a home folder, this host or user, or look like a key."""
    for name in files:
        if name.endswith(".png"):
            continue
        try:
            if name.endswith(".gz"):
                texts: Iterable[str] = _strings(json.loads(read_gzip(folder / name, MAX_CALCULATIONS)))
            else:
                text = read_bytes(folder / name, MAX_FILE).decode("utf-8")
                texts = _strings(json.loads(text)) if name.endswith(".json") else text.splitlines()
            found = next((text for text in texts if redact(text) != text), None)
        except (OSError, ValueError, RecursionError) as error:
            yield f"{name}: cannot be read ({one_line(error, 100)})"
            continue
        if found is not None:
            yield f"{name}: names a person, a machine or a secret: '{one_line(redact(found), 80)}'; evaluate again where nothing does"


def _strings(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for key, item in content.items():
            yield str(key)
            yield from _strings(item)
    elif isinstance(content, list):
        for item in content:
            yield from _strings(item)
