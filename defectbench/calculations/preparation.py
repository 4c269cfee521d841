"""From what a user gives as a model (a name, a YAML, a definition, a calculator in hand) to something that runs calculations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectbench.base.errors import DefectbenchError, ModelError, UnknownNameError
from defectbench.models.in_hand import ModelInHand, is_calculator, model_in_hand
from defectbench.models.schema import ModelDefinition

if TYPE_CHECKING:
    from defectbench.calculations.client import Progress, WorkerSpec
    from defectbench.calculations.executors import Executor
    from defectbench.models.environment import PythonEnvironment
    from defectbench.models.resolved import ResolvedModel

MakeExecutor = Callable[["WorkerSpec"], "Executor"]


@dataclass(frozen=True)
class ModelOptions:
    """What may be said of a model beside which it is; see :func:`defectbench.evaluate`."""

    device: str = "cpu"
    environment: str | Path | None = None
    model_weights: str | Path | None = None
    name: str | None = None
    charge: str = "none"
    charge_range: tuple[int, int] | None = None
    level_of_theory: str = "not stated"
    precision: str = "float64"
    trust_code: bool = False
    trust_weights: bool = False
    head: str | None = None


@dataclass(frozen=True)
class Prepared:
    """A model that is ready to run.

    Attributes:
        resolved: definition, weights, identity.
        python: the environment that it runs in.
        spec: what starts a worker of it; None for a calculator in hand.
        hand: the calculator in hand, if it is one.
    """

    resolved: ResolvedModel
    python: PythonEnvironment
    spec: WorkerSpec | None
    hand: ModelInHand | None

    def executor(
        self,
        wanted: Executor | MakeExecutor | None = None,
        *,
        workers: int | None = None,
        batch: int | None = None,
        at_most: int = 1,
        on_progress: Progress | None = None,
    ) -> Executor:
        """What runs calculations with this model.

        Args:
            wanted: the user's own executor, or what makes one.
            workers: worker processes; by default one per core, or one per GPU with ``cuda``.
            batch: structures per force call of a worker; by default one, or many with ``cuda``.
            at_most: as many calculations there are.
            on_progress: called with step, energy (eV) and largest force (eV/Å).
        """
        if self.hand is not None:
            from defectbench.calculations.executors.in_process import InProcessExecutor

            return InProcessExecutor(self.hand.loaded, self.resolved.device, on_progress)
        assert self.spec is not None
        if wanted is not None:
            return wanted(self.spec) if callable(wanted) else wanted
        from defectbench.calculations.executors.local import LocalExecutor, default_batch, default_workers

        device = self.resolved.device
        return LocalExecutor(self.spec, min(workers or default_workers(device), at_most), on_progress, batch=batch or default_batch(device))


@dataclass(frozen=True)
class ChosenModel:
    """A model that was named and may be run; nothing is built or downloaded for it yet.

    Attributes:
        definition: what it is.
        embedded: whether the definition ships with defectbench, weights included.
        origin: folder of its YAML.
        hand: the calculator, if it is one in hand.
        options: as the user gave them.
    """

    definition: ModelDefinition
    embedded: bool
    origin: Path | None
    hand: ModelInHand | None
    options: ModelOptions

    def prepare(self, progress: Callable[[str], None]) -> Prepared:
        """Builds the environment, finds the weights.

        Args:
            progress: called with a line on what is being done.

        Raises:
            ModelError: weights are missing or not what the definition says.
            EnvironmentBuildError: the environment cannot be built.
            DownloadError: weights cannot be fetched.
        """
        from dataclasses import replace

        from defectbench.calculations.client import WorkerSpec
        from defectbench.models.environment import ensure_environment
        from defectbench.models.resolved import resolve_model

        o = self.options
        if self.hand is not None:
            python = ensure_environment("current")
            return Prepared(replace(self.hand.resolved, pins_sha256=python.pins_sha256), python, None, self.hand)
        progress("preparing the model's environment")
        python = ensure_environment(
            o.environment if o.environment is not None else self.definition.environment, device=o.device, progress=progress
        )
        resolved = resolve_model(
            self.definition,
            weights=Path(o.model_weights) if o.model_weights else None,
            trust_code=o.trust_code,
            trust_weights=o.trust_weights,
            device=o.device,
            folder=self.origin,
            environment=python,
        )
        return Prepared(resolved, python, WorkerSpec.of(python, resolved, partial(_elsewhere, self, resolved.identity)), None)


def network_note(definition: ModelDefinition, network: str | None) -> str | None:
    """What to say of a worker whose network was open, where code runs that does not ship with defectbench; None if there is nothing.

    Args:
        definition: of the model.
        network: the worker's record of it, ``none`` or ``open``.
    """
    from defectbench.models.registry import is_registered

    if network != "open" or is_registered(definition):
        return None
    return "the model's code could reach the network: this system does not let it be cut off, or you allowed it"


def _elsewhere(chosen: ChosenModel, identity: str) -> WorkerSpec:
    """What starts a worker of a chosen model on this machine, if it is the same model here.

    Raises:
        ModelError: it is another: other weights, code or packages.
    """
    ready = chosen.prepare(lambda _line: None)
    assert ready.spec is not None
    if ready.spec.identity != identity:
        raise ModelError(
            f"{chosen.definition.id} has other weights, code or packages on a node than where the run was started; "
            "make them equal, or share the files between the machines",
            code="other-model",
        )
    return ready.spec


def choose_model(model: Any, options: ModelOptions) -> ChosenModel:
    """What a user means by a model, if it may be run.

    Args:
        model: the name of a registered model, the path of a YAML, a definition, or an ASE calculator.
        options: what else was said of it.

    Raises:
        UnknownNameError: no such model or device.
        ModelError: the YAML is wrong, or code or weights are not trusted.
        DefectbenchError: options that do not go with the model.
    """
    from defectbench.models.naming import with_head, with_own_weights
    from defectbench.models.registry import definition_folder, is_registered, load_model
    from defectbench.models.trust import require_trust

    o = options
    if o.device not in ("cpu", "cuda"):
        raise UnknownNameError("device", o.device, ("cpu", "cuda"))
    if is_calculator(model):
        if o.model_weights or o.environment or o.head:
            raise DefectbenchError(
                "a calculator brings its weights and runs in this process; leave out model_weights, environment and head"
            )
        hand = model_in_hand(
            model,
            name=o.name,
            charge=o.charge,
            charge_range=o.charge_range,
            level_of_theory=o.level_of_theory,
            precision=o.precision,
            device=o.device,
        )
        return ChosenModel(hand.resolved.definition, False, None, hand, o)
    if (o.charge, o.charge_range) != ("none", None):
        raise DefectbenchError("charge and charge_range describe a calculator in hand; a YAML says them in its own field 'charge'")
    given = isinstance(model, ModelDefinition)
    definition = model if given else load_model(model)
    origin = None if given else definition_folder(model)
    require_trust(
        definition,
        folder=origin,
        environment=o.environment,
        own_weights=bool(o.model_weights),
        trust_code=o.trust_code,
        trust_weights=o.trust_weights,
    )
    definition = with_own_weights(with_head(definition, o.head), Path(o.model_weights) if o.model_weights else None, o.name)
    embedded = not given and origin is None and is_registered(definition)
    return ChosenModel(definition, embedded, origin, None, o)
