"""Entries made by hand, on two small tasks."""

from __future__ import annotations

import pytest
from small_tasks import COST, PES, RELAX
from table_rows import make_row

from defectbench.base.files import write_text
from defectbench.base.hardware import Hardware
from defectbench.entries.schema import (
    ConfigurationRecord,
    DatasetRecord,
    Entry,
    MachineShare,
    MetricRecord,
    ModelRecord,
    Provenance,
    SelectedState,
    Selection,
    SkippedState,
    TaskRecord,
)
from defectbench.tasks.cost.rows import StateRow


@pytest.fixture
def small_tasks(monkeypatch):
    monkeypatch.setattr("defectbench.tasks.get_tasks", lambda _=None: (RELAX, PES, COST))


def metric(name, value, interval=None, reason=None, applies=True):
    return MetricRecord(name=name, value=value, interval=interval, reason=reason, applies=applies)


@pytest.fixture
def make_entry():
    """Builds an entry; keywords change what they name."""

    def make(
        model="toy",
        rmsd=(0.1, (0.08, 0.12)),
        success=(0.5, (0.3, 0.7)),
        seconds=0.2,
        charge_class="charge-blind",
        dataset="data",
        sha256="a" * 64,
        suite="full",
        configurations=("Unperturbed", "Dimer"),
        processor="one",
        failed=0,
        protocol="v1",
        version="0.1.0",
        baseline=0.12,
        device="cpu",
        gpus=(),
        workers=1,
        extra=(),
        baselines=None,
        cost=True,
        embedded=False,
    ) -> Entry:
        metrics = [metric("rmsd", *rmsd), metric("strict_success", *success), metric("steps", 12.0), *extra]
        timed = TaskRecord(
            metrics=[metric("seconds_per_call", seconds)], tables={"states": [make_row(StateRow, atoms=59)]}, baselines={}, notes=[]
        )
        return Entry(
            model=ModelRecord(
                id=model.replace("|", "-"),
                name=model.title(),
                package="",
                adapter="ase_calculator",
                arguments={},
                identity=model,
                level_of_theory="PBE",
                charge="none",
                parameters=None,
                weights_sha256={},
                embedded=False,
            ),
            dataset=DatasetRecord(id=dataset, title="Data", sha256=sha256, level_of_theory="PBE", embedded=embedded),
            selection=Selection(
                suite=suite,
                tasks=["relax", "cost"],
                states=[SelectedState(defect="V_X", charge=-1, configurations=list(configurations))],
                skipped=[SkippedState(defect="V_X", charge=2, reason="no PBE reference yet")],
            ),
            certificate={"charge_class": charge_class},
            host=[],
            configurations=[
                ConfigurationRecord(
                    defect="V_X",
                    charge=-1,
                    configuration=name,
                    content_hash=name,
                    status="failed" if i < failed else "converged",
                    failure="exploded" if i < failed else None,
                    energy=None,
                    fmax=None,
                    steps=3,
                    wall_s=2.0,
                )
                for i, name in enumerate(configurations)
            ],
            tasks={
                "relax": TaskRecord(
                    metrics=metrics,
                    tables={},
                    baselines={"unrelaxed": {"rmsd": baseline, "strict_success": 0.0}} if baselines is None else baselines,
                    notes=[],
                ),
                **({"cost": timed} if cost else {}),
            },
            provenance=Provenance(
                defectbench=version,
                created="2026-01-01T00:00:00+00:00",
                packages={},
                environment="current",
                environment_pins_sha256=None,
                protocol={"name": protocol},
                machines=[
                    MachineShare(
                        device=device,
                        hardware=Hardware(processor=processor, gpus=tuple(gpus)),
                        workers=workers,
                        threads_per_worker=1,
                        calculations=4,
                        relaxations=4,
                    )
                ],
                calculations=4,
                calculation_s=3600.0,
            ),
        )

    return make


@pytest.fixture
def write_entry(tmp_path, make_entry):
    """Writes an entry into a folder of its own and returns the folder."""

    def write(folder, **changes):
        write_text(tmp_path / folder / "entry.json", make_entry(**changes).model_dump_json())
        return tmp_path / folder

    return write
