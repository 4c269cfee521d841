"""What runs calculations: anything with a method ``run``; :mod:`~defectbench.calculations.executors.local` is the default."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from defectbench.base.hardware import Machine
from defectbench.calculations.requests import Calculation
from defectbench.calculations.results import Result


@dataclass(frozen=True)
class Finished:
    """A calculation, its result, and the machine that it ran on."""

    calculation: Calculation
    result: Result
    machine: Machine


class Executor(Protocol):
    """Runs calculations, in any order and wherever it likes.

    It answers each exactly once. Where a model fails, the answer is a result with ``status`` ``failed``
    (:func:`~defectbench.calculations.results.failed_result` makes one); an exception ends the run. Each result echoes the charge and the
    request; the store refuses others. Closing the iterator early ends what still runs. One whose force calls take several structures has
    an attribute ``batch``, their number.
    """

    def run(self, calculations: Sequence[Calculation]) -> Iterator[Finished]:
        """Yields each calculation as it finishes."""
        ...
