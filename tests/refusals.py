"""How tests say that something is refused: by the error's code and by what the message must name, never by its wording."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from defectbench.base.errors import DefectbenchError, EnvironmentBuildError


def check_refusal(error: BaseException | None, code: str, *names: object) -> None:
    """The error has the code; its message names what it must and is one line (but for the end of an installer's output)."""
    assert isinstance(error, DefectbenchError), repr(error)
    assert error.code == code, f"{error.code}: {error}"
    said = str(error)
    assert "\n" not in said or isinstance(error, EnvironmentBuildError), said
    for name in names:
        assert str(name) in said, f"{name!r} is not named in: {said}"


@contextmanager
def raises_code(code: str, *names: object) -> Iterator[pytest.ExceptionInfo[DefectbenchError]]:
    """The block is refused with this code.

    Args:
        code: of the error, see ``docs/errors.md``.
        *names: what the message must name where that is the point: a file, a frame, a field, a charge.
    """
    with pytest.raises(DefectbenchError) as caught:
        yield caught
    check_refusal(caught.value, code, *names)
