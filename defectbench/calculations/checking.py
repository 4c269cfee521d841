"""The public validator: what does a model do with a charge, and are its forces sound?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectbench.base.errors import ModelError
from defectbench.calculations.judging import judge
from defectbench.calculations.plan import DEFAULT_DATASET, certificate_of
from defectbench.models.certificate import ChargeCertificate, check_claim
from defectbench.models.resolved import check_against_definition
from defectbench.models.schema import ModelDefinition

if TYPE_CHECKING:
    from defectbench.datasets.dataset import Dataset


@dataclass(frozen=True, repr=False)
class Certified:
    """A model's charge-response certificate.

    Attributes:
        model: the model's definition.
        certificate: the numbers and the checks.
        worker: what calculated: parameters, weights with SHA-256, package versions, threads.
        contradiction: how the certificate contradicts what the definition claims; None if it does not. Such a model is not evaluated.

    Example:
        >>> import defectbench
        >>> from ase.calculators.lj import LennardJones
        >>> found = defectbench.certify(LennardJones(sigma=2.3, epsilon=0.1, rc=3.5, smooth=True))
        >>> found
        <certificate of lennardjones: charge-blind; failed checks: none>
        >>> found.charge_class, found.passed, found.contradiction
        ('charge-blind', True, None)
    """

    model: ModelDefinition
    certificate: ChargeCertificate
    worker: Mapping[str, Any]
    contradiction: ModelError | None

    @property
    def charge_class(self) -> str:
        """``charge-blind``, ``energy-only`` or ``charge-aware``."""
        return self.certificate.charge_class

    @property
    def passed(self) -> bool:
        """Whether every check holds and the definition tells the truth."""
        return self.contradiction is None and not self.certificate.failed

    def __repr__(self) -> str:
        failed = ", ".join(check.name for check in self.certificate.failed) or "none"
        wrong = f"; {self.contradiction}" if self.contradiction else ""
        return f"<certificate of {self.model.id}: {self.charge_class}; failed checks: {failed}{wrong}>"

    def _repr_html_(self) -> str:
        from html import escape

        rows = "".join(
            f"<tr><td>{'passed' if c.passed else '<b>failed</b>'}</td><td>{escape(c.reason)}</td><td>{c.value:.2g} of {c.limit:.2g}"
            f"{'' if c.unit == '1' else ' ' + c.unit}</td></tr>"
            for c in self.certificate.checks
        )
        wrong = f"<p><b>{escape(str(self.contradiction))}</b></p>" if self.contradiction else ""
        wrong += "".join(f"<p>Warning: {escape(warning)}</p>" for warning in self.certificate.warnings or ())
        return f"<b>{escape(self.model.name)}</b> is <b>{self.charge_class}</b>{wrong}<table>{rows}</table>"


def certify(
    model: Any,
    dataset: str | Path | Dataset = DEFAULT_DATASET,
    *,
    device: str = "cpu",
    environment: str | Path | None = None,
    model_weights: str | Path | None = None,
    trust_code: bool = False,
    trust_weights: bool = False,
    name: str | None = None,
    charge: str = "none",
    charge_range: tuple[int, int] | None = None,
    level_of_theory: str = "not stated",
    precision: str = "float64",
    head: str | None = None,
    progress: Callable[[str], None] = lambda _line: None,
) -> Certified:
    """Asks a model at several charges and checks its forces: repeatability, stale results, gradients, invariances, a doubled cell.

    Args:
        model: the name of a registered model, the path of a model YAML, a definition, or an ASE calculator.
        dataset: supplies the test structure and the charges: a name, a folder, or a loaded dataset.
        device: ``cpu`` or ``cuda``.
        environment: ``current``, or the path of an environment; by default the managed one of the model.
        model_weights: a weights file that replaces the registered one.
        trust_code: run the code that a definition of your own names: its factory, its environment.
        trust_weights: load weights whose SHA-256 is unknown. Weight files can execute code; use only with trusted sources.
        name: the model's id with these weights, or that of a calculator in hand; default: the model's with the start of their hash, or
            the calculator's class.
        charge: of a calculator in hand: how a charge reaches it; see :func:`~defectbench.models.in_hand.model_in_hand`.
        charge_range: of a calculator in hand: smallest and largest charge that it may be asked at.
        level_of_theory: of a calculator in hand: that of its training labels, e.g. ``PBE``.
        precision: of a calculator in hand: ``float32`` or ``float64``.
        head: of a model with one head per level of theory: check this one.
        progress: called with a line on what is being done.

    Raises:
        ModelError: the model cannot be loaded, or failed while it was measured.
        DefectbenchError: bad input.

    Example:
        >>> import defectbench
        >>> from ase.calculators.lj import LennardJones
        >>> found = defectbench.certify(LennardJones(sigma=2.3, epsilon=0.1, rc=3.5, smooth=True))
        >>> [check.name for check in found.certificate.failed]
        []
    """
    from defectbench.calculations.preparation import ModelOptions, choose_model
    from defectbench.datasets.catalogue import load_dataset
    from defectbench.datasets.dataset import Dataset

    options = ModelOptions(
        device=device,
        environment=environment,
        model_weights=model_weights,
        name=name,
        charge=charge,
        charge_range=charge_range,
        level_of_theory=level_of_theory,
        precision=precision,
        trust_code=trust_code,
        trust_weights=trust_weights,
        head=head,
    )
    chosen = choose_model(model, options)
    data = dataset if isinstance(dataset, Dataset) else load_dataset(dataset)
    ready = chosen.prepare(progress)
    progress("calculating at several charges")
    (done,) = ready.executor().run([certificate_of(chosen.definition, data)])
    raw = done.result.model_dump(mode="json")
    certificate = judge(raw, data, () if data.metadata.remote else data.states)
    check_against_definition(ready.resolved, raw["worker"])
    contradiction = None
    try:
        check_claim(certificate, chosen.definition)
    except ModelError as error:
        contradiction = error
    return Certified(chosen.definition, certificate, raw["worker"], contradiction)
