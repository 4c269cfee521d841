"""From stored results to what the tasks score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from defectbench.base.errors import DefectbenchError
from defectbench.calculations.plan import Plan
from defectbench.calculations.requests import Calculation, Relaxation

if TYPE_CHECKING:
    from defectbench.base.hardware import Machine
    from defectbench.calculations.results import Stored
    from defectbench.datasets.dataset import Dataset
    from defectbench.scoring.task import ScoringInput


def scoring_input(
    dataset: Dataset,
    plan: Plan,
    charge_class: str,
    results: Mapping[str, Stored],
    *,
    certificate: Mapping[str, Any] | None = None,
) -> ScoringInput:
    """What the tasks score, from results by content hash.

    Args:
        certificate: the charge-response certificate as JSON values.

    Raises:
        DefectbenchError: a result is missing.
    """
    from defectbench.calculations.asking import Answers
    from defectbench.calculations.results import RelaxationResult
    from defectbench.scoring.task import ConfigurationResult, HostRelaxation, ScoringInput

    def relaxation(calculation: Calculation) -> tuple[Relaxation, str, Machine | None]:
        found = results.get(calculation.content_hash)
        if found is None or not isinstance(found.result, RelaxationResult):
            raise DefectbenchError("the results do not fit the dataset: a calculation is missing; run the evaluation again")
        return found.result.relaxation(), calculation.content_hash, found.machine

    return ScoringInput(
        dataset=dataset,
        states=plan.states,
        configurations=tuple(ConfigurationResult(d, q, name, *relaxation(c)) for (d, q, name), c in plan.relaxations.items()),
        host=tuple(HostRelaxation(name, *relaxation(c)) for name, c in plan.host.items()),
        charge_class=charge_class,
        answers=Answers(plan.ask, results),
        certificate=certificate or {},
    )
