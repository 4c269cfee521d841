"""From what a run found to its entry, and to the files of it."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from defectbench.base.redaction import redact, redact_values
from defectbench.base.version import VERSION
from defectbench.calculations.requests import PROTOCOL
from defectbench.entries.folder import outcome, task_record, write_record, write_structures, write_tables
from defectbench.entries.schema import (
    ConfigurationRecord,
    DatasetRecord,
    Entry,
    HostRecord,
    MachineShare,
    ModelRecord,
    Provenance,
    SelectedState,
    Selection,
    SkippedState,
    Training,
)

if TYPE_CHECKING:
    from defectbench.base.hardware import Machine
    from defectbench.calculations.plan import Plan
    from defectbench.calculations.results import Stored, WorkerRecord
    from defectbench.datasets.dataset import Dataset
    from defectbench.entries.run_folder import Owner
    from defectbench.models.environment import PythonEnvironment
    from defectbench.models.resolved import ResolvedModel
    from defectbench.models.schema import ModelDefinition
    from defectbench.scoring.task import ScoringInput, TaskResult


@dataclass(frozen=True)
class RunModel:
    """The model of a run.

    Attributes:
        resolved: with its weights.
        python: the environment it ran in.
        worker: what its worker said of itself.
        embedded: whether its definition ships with defectbench, weights included.
    """

    resolved: ResolvedModel
    python: PythonEnvironment
    worker: WorkerRecord
    embedded: bool


def build_entry(
    owner: Owner,
    model: RunModel,
    dataset: Dataset,
    plan: Plan,
    scored: ScoringInput,
    results: Mapping[str, Stored],
    outcomes: Mapping[str, TaskResult],
) -> Entry:
    """The entry of a run.

    Args:
        owner: whose run it is.
        model: that ran.
        dataset: the reference data.
        plan: what was calculated.
        scored: what the tasks scored.
        results: content hash → result, of the whole plan.
        outcomes: task name → what it found.
    """
    from defectbench.datasets.catalogue import embedded_folder, embedded_names

    definition = model.resolved.definition
    return Entry(
        model=ModelRecord(
            id=definition.id,
            name=definition.name,
            package=definition.package,
            adapter=definition.adapter,
            arguments=redact_values(definition.arguments),
            identity=model.resolved.identity,
            level_of_theory=definition.level_of_theory,
            charge=definition.charge.how,
            parameters=model.worker.parameters,
            weights_sha256={redact(w.name): w.sha256 for w in model.worker.weights},
            weights_charges={redact(name): charge for name, charge in model.resolved.weights_charges.items()},
            embedded=model.embedded,
            training=training_of(definition),
        ),
        dataset=DatasetRecord(
            id=dataset.id,
            title=dataset.metadata.title,
            sha256=dataset.sha256,
            level_of_theory=dataset.level,
            embedded=dataset.id in embedded_names() and dataset.path == embedded_folder() / dataset.id,
        ),
        selection=Selection(
            suite=owner.suite,
            tasks=list(outcomes),
            states=[SelectedState(defect=s.defect, charge=s.charge, configurations=list(s.configurations)) for s in plan.states],
            skipped=[SkippedState(defect=d, charge=q, reason=r) for d, q, r in plan.skipped],
        ),
        certificate=dict(scored.certificate),
        host=[HostRecord(start=h.start, content_hash=h.content_hash, **outcome(h.relaxation)) for h in scored.host],
        configurations=[
            ConfigurationRecord(
                defect=c.defect, charge=c.charge, configuration=c.configuration, content_hash=c.content_hash, **outcome(c.relaxation)
            )
            for c in scored.configurations
        ],
        tasks={name: task_record(result) for name, result in outcomes.items()},
        provenance=_provenance(model, plan, results),
    )


def training_of(definition: ModelDefinition) -> Training:
    """What an entry says a model was trained on."""
    return Training(statement=redact(definition.training_data), datasets=list(definition.trained_on))


def _provenance(model: RunModel, plan: Plan, results: Mapping[str, Stored]) -> Provenance:
    from defectbench.models.environment import is_managed

    python = model.python
    return Provenance(
        defectbench=VERSION,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        packages=model.worker.versions,
        # a path would say where this was run, not what ran
        environment=python.name if python.name == "current" or is_managed(python.name) else "custom",
        environment_pins_sha256=python.pins_sha256,
        network=model.worker.network,
        protocol=PROTOCOL.to_json(),
        machines=machine_shares(plan, results),
        calculations=len(results),
        calculation_s=round(sum(calculation_seconds(stored) for stored in results.values()), 1),
    )


def machine_shares(plan: Plan, results: Mapping[str, Stored]) -> list[MachineShare]:
    """Which machine did how much of a plan, the one with most relaxations first."""
    machines = {c.content_hash: machine for c in plan.calculations if (machine := results[c.content_hash].machine) is not None}
    calculations: Counter[Machine] = Counter(machines.values())
    relaxations = Counter(machines[c.content_hash] for c in plan.calculations if c.kind == "relaxation" and c.content_hash in machines)
    return [
        MachineShare(**dict(machine), calculations=calculations[machine], relaxations=relaxations[machine])
        for machine in sorted(calculations, key=lambda machine: -relaxations[machine])
    ]


def calculation_seconds(stored: Stored) -> float:
    """Processor seconds of a calculation on a CPU, wall-clock seconds on a GPU or where the former were not recorded."""
    on_cpu = stored.machine is None or stored.machine.device == "cpu"
    return (stored.result.cpu_s if on_cpu else 0.0) or stored.result.wall_s


def write_entry(folder: Path, entry: Entry, scored: ScoringInput, plan: Plan) -> list[Path]:
    """Writes an entry with its tables and structures; returns the files.

    Raises:
        RunError: something cannot be written.
    """
    return [
        write_record(folder, entry),
        folder / "calculations.json.gz",
        *write_tables(folder, entry),
        write_structures(folder, scored, plan),
    ]
