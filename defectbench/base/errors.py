"""The errors a user can meet. Each carries one line that says what is wrong and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from defectbench.base.text import one_line


class DefectbenchError(Exception):
    """Anything a user can fix. The command line prints ``error[CODE]: MESSAGE`` as one line and exits with ``exit_code``.

    Attributes:
        code: kebab-case and stable, for programs: messages may change. ``docs/errors.md`` lists all codes. It belongs to the class,
            or is given where the error is raised.
        exit_code: 2 for bad input, 1 for a run that went wrong though its input was good.

    Example:
        >>> import defectbench
        >>> try:
        ...     defectbench.load_dataset("sb2se3-vacancy")
        ... except defectbench.DefectbenchError as error:
        ...     print(error.code, error.exit_code)
        unknown-dataset 2
    """

    code: str = "bad-input"
    exit_code: int = 2

    def __init__(self, *args: object, code: str | None = None) -> None:
        super().__init__(*args)
        if code is not None:
            self.code = code


class UnknownNameError(DefectbenchError):
    """A model, dataset, defect, charge, configuration or task that does not exist; names the nearest that do."""

    def __init__(self, kind: str, name: object, known: Iterable[object]) -> None:
        self.kind, self.name = kind, str(name)
        self.known = tuple(str(item) for item in known)
        near = difflib.get_close_matches(self.name, self.known, n=3, cutoff=0.4)
        if near:
            hint = f"did you mean {', '.join(near)}?"
        elif self.known:
            hint = f"known: {', '.join(self.known[:12])}" + (", …" if len(self.known) > 12 else "")
        else:
            hint = "there are none"
        super().__init__(f"unknown {kind} '{one_line(self.name, 200)}'; {hint}", code=f"unknown-{kind.split()[0]}")


class DatasetError(DefectbenchError):
    """A dataset that cannot be read or contradicts itself; the message names file, frame and field."""

    code = "bad-dataset"


class DownloadError(DefectbenchError):
    """A file that could not be downloaded; the message says which, from where, and where to put it by hand."""

    code = "download-failed"


class ModelError(DefectbenchError):
    """A model definition that is wrong, or weights that are not what the definition says."""

    code = "bad-model"


class EnvironmentBuildError(DefectbenchError):
    """A managed environment that could not be built or used; carries the end of the installer's output."""

    code = "environment-failed"
    exit_code = 1


class RunError(DefectbenchError):
    """A run that cannot continue (locked directory, full disk, model that cannot start)."""

    code = "run-failed"
    exit_code = 1


class Interrupted(DefectbenchError):  # noqa: N818 - a thing that happened, not a mistake
    """The user stopped a run; the message says how to resume."""

    code = "interrupted"
    exit_code = 130
