"""From stored results to what the tasks score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from defectbench.base.errors import DefectbenchError
from defectbench.calculations.plan import Plan
from defectbench.calculations.requests import Calculation

if TYPE_CHECKING:
    from defectbench.datasets.dataset import Dataset
    from defectbench.scoring.task import ScoringInput


def scoring_input(
    dataset: Dataset,
    plan: Plan,
    charge_class: str,
    results: Mapping[str, Mapping[str, Any]],
    *,
    certificate: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> ScoringInput:
    """What the tasks score, from results by content hash.

    Args:
        certificate: the charge-response certificate as JSON values.
        provenance: of the entry, as JSON values.

    Raises:
        DefectbenchError: a result is missing.
    """
    from defectbench.calculations.client import relaxation_from_result
    from defectbench.scoring.task import ConfigurationResult, HostRelaxation, ScoringInput

    def result(calculation: Calculation) -> Mapping[str, Any]:
        try:
            return results[calculation.content_hash]
        except KeyError:
            raise DefectbenchError("the results do not fit the dataset: a calculation is missing; run the evaluation again") from None

    return ScoringInput(
        dataset=dataset,
        states=plan.states,
        configurations=tuple(
            ConfigurationResult(d, q, name, relaxation_from_result(result(c))) for (d, q, name), c in plan.relaxations.items()
        ),
        host=tuple(HostRelaxation(name, relaxation_from_result(result(c))) for name, c in plan.host.items()),
        charge_class=charge_class,
        results=results,
        certificate=certificate or {},
        provenance=provenance or {},
    )
