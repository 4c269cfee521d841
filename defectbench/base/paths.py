"""Paths as a user gives them."""

from __future__ import annotations

from pathlib import Path

from defectbench.base.errors import DefectbenchError
from defectbench.base.files import too_long


def user_path(path: str | Path) -> Path:
    """The path with a leading ``~`` or ``~name`` replaced by the home folder.

    Raises:
        DefectbenchError: there is no such home folder, or no file can have such a path.
    """
    if too_long(str(path)):
        raise DefectbenchError(f"'{str(path)[:40]}…' is too long for a path ({len(str(path)):,} characters)", code="bad-path")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise DefectbenchError(
            f"'{path}': no home folder is known for {Path(path).parts[0]}; write the whole path (or ./{path})", code="bad-path"
        ) from error


def full_path(path: str | Path) -> Path:
    """As :func:`user_path`, absolute and with all links followed; it need not exist.

    Raises:
        DefectbenchError: there is no such home folder, links go in a circle, or the working directory is gone.
    """
    given = user_path(path)
    try:
        return given.resolve()
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "links go in a circle"
        raise DefectbenchError(
            f"cannot find out where '{path}' is: {reason}; write the whole path of a folder or file", code="bad-path"
        ) from error
