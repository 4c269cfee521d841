"""The errors a user can meet. Each carries one line that says what is wrong and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DefectbenchError(Exception):
    """Anything a user can mend. The command line prints the message as one line and exits with ``exit_code``.

    Attributes:
        exit_code: 2 for bad input, 1 for a run that went wrong though its input was good.
    """

    exit_code: int = 2


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
        super().__init__(f"unknown {kind} '{self.name}'; {hint}")


class DatasetError(DefectbenchError):
    """A dataset that cannot be read or contradicts itself; the message names file, frame and field."""


class DownloadError(DefectbenchError):
    """A file that could not be downloaded; the message says which, from where, and where to put it by hand."""


class ModelError(DefectbenchError):
    """A model definition that is wrong, or weights that are not what the definition says."""


class EnvironmentBuildError(DefectbenchError):
    """A managed environment that could not be built or used; carries the end of the installer's output."""

    exit_code = 1


class RunError(DefectbenchError):
    """A run that could not go on (locked directory, full disk, model that cannot start)."""

    exit_code = 1


class Interrupted(DefectbenchError):  # noqa: N818 - a thing that happened, not a mistake
    """The user stopped a run; the message says how to go on."""

    exit_code = 130
