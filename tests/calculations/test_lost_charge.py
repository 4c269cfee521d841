"""A charge never gets lost silently: toys that lose it are all noticed, toys that do not are never suspected."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from charge_toys import BROKEN, HONEST, LOSSY, Kind, make
from refusals import raises_code

from defectbench.base.errors import ModelError
from defectbench.calculations.audit import asked_again, audit, first_questions, with_audit
from defectbench.calculations.judging import judge
from defectbench.calculations.plan import SelectedState, certificate_of, make_plan
from defectbench.calculations.requests import Calculation
from defectbench.calculations.results import CertificateResult, Stored, parse
from defectbench.datasets.catalogue import load_dataset
from defectbench.datasets.dataset import Dataset
from defectbench.datasets.schema import DatasetFile
from defectbench.datasets.writing import write_dataset
from defectbench.models.certificate import ChargeCertificate, check_claim, classify
from defectbench.models.schema import Charge, ModelDefinition
from defectbench.worker.adapters.ase_calculator import FactoryModel
from defectbench.worker.main import answer

CHARGES = {"V_Na": [-3, -2, -1, 0, 1], "V_Cl": [-2, -1, 0, 1, 2]}
RUN = (-2, 1)
"""Charges of each defect that are relaxed."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two vacancies in rock salt; its 'DFT' is the honest toy."""
    host = bulk("NaCl", "rocksalt", a=5.8, cubic=True).repeat((2, 1, 1))
    sites = {"V_Na": host.get_chemical_symbols().index("Na"), "V_Cl": host.get_chemical_symbols().index("Cl")}
    starts, relaxations = {}, {}
    for name, charges in CHARGES.items():
        atoms = host.copy()
        del atoms[sites[name]]
        atoms.positions += np.random.default_rng(3).normal(scale=0.05, size=atoms.positions.shape)
        rattled = atoms.copy()
        rattled.positions += np.random.default_rng(4).normal(scale=0.15, size=atoms.positions.shape)
        for charge in charges:
            starts[name, charge] = {"Unperturbed": atoms, "Rattled": rattled}
            relaxations["PBE", name, charge, "Unperturbed"] = [_labelled(atoms, charge)]
    metadata = DatasetFile.model_validate(
        {
            "schema_version": 1,
            "id": "toys",
            "title": "toys",
            "licence": "MIT",
            "host": {"file": "host.extxyz"},
            "reference_level": "PBE",
            "levels": [{"name": "PBE", "functional": "PBE"}],
            "defects": [
                {"name": name, "kind": "vacancy", "site": sites[name], "removed": name[2:], "charges": charges}
                for name, charges in CHARGES.items()
            ],
            "files": {"host.extxyz": "0" * 64},
        }
    )
    folder = tmp_path_factory.mktemp("data") / "toys"
    write_dataset(folder, metadata, host, starts, relaxations)
    return load_dataset(folder)


def _labelled(atoms: Atoms, charge: int) -> Atoms:
    labelled = atoms.copy()
    labelled.info.update(charge=charge, step=0, converged=True)
    labelled.calc = make(Kind())({})
    labelled.get_forces()
    return labelled


class Silent:
    def send(self, _message: object) -> None:
        pass


class Run:
    """A model, and what a run of it finds; each worker has a calculator of its own."""

    def __init__(self, kind: Kind, data: Dataset) -> None:
        self.kind, self.data = kind, data
        self.definition = ModelDefinition(
            id="toy", name="toy", adapter="ase_calculator", arguments={"factory": "m:f"}, charge=Charge(how=kind.how), level_of_theory="PBE"
        )
        self.states = [(defect, charge) for defect, charges in CHARGES.items() for charge in charges]

    def worker(self) -> FactoryModel:
        return FactoryModel(make(self.kind), charge=self.kind.how, charge_range=None, precision=self.kind.precision)

    def results(self, worker: FactoryModel, calculations: list[Calculation]) -> dict[str, Stored]:
        def asked(calculation: Calculation) -> Stored:
            worker.record = {"versions": {}, "parameters": None, "weights": [], "threads": 1}
            content = answer(worker, {"type": "calculate", "id": 0, **calculation.to_json()}, Silent())
            return Stored(parse(calculation, content))

        return {c.content_hash: asked(c) for c in calculations}

    def certificate(self, worker: FactoryModel | None = None) -> tuple[Calculation, CertificateResult, ChargeCertificate]:
        asked = certificate_of(self.definition, self.data)
        raw = self.results(worker or self.worker(), [asked])[asked.content_hash].result
        assert isinstance(raw, CertificateResult)
        return asked, raw, judge(raw.model_dump(mode="json"), self.data, self.states)

    def noticed(self, *, in_hand: bool = False) -> Iterator[str]:
        """All that is said against the model's charge: what refuses it, else what its entry says.

        A calculator in hand lives in one process, so it has no fresh workers.
        """
        mine = self.worker()
        asked, raw, certificate = self.certificate(mine)
        try:
            check_claim(certificate, self.definition)
        except ModelError as error:
            yield str(error)
            return
        takes = self.kind.how != "none"
        states = tuple(SelectedState(defect, charge, ("Rattled",)) for defect, charge in self.states if charge in RUN)
        plan = make_plan(self.data, states, (), (), takes_charge=takes)
        first = first_questions(asked, takes)
        worker = mine if in_hand else self.worker()
        results = self.results(worker, [*plan.calculations, *first])
        results |= self.results(worker if in_hand else self.worker(), asked_again(plan, results))
        certificate = with_audit(certificate, audit(plan, results, certificate, raw, asked))
        yield from certificate.doubts
        yield from (check.reason for check in certificate.failed if check.name != "charge_response_size_consistent")


def named(kinds: dict[str, Kind]) -> Any:
    return pytest.mark.parametrize("kind", kinds.values(), ids=list(kinds))


def test_there_are_as_many_as_the_page_says() -> None:
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    assert f"| {len(LOSSY)} small models that lose a charge, each in another way | {len(LOSSY)} |" in page
    assert f"| {len(HONEST)} small models that do not | 0 |" in page


@named(LOSSY)
def test_a_lost_charge_is_noticed(kind: Kind, data: Dataset) -> None:
    assert list(Run(kind, data).noticed())


@pytest.mark.parametrize(("kind", "named"), BROKEN.values(), ids=list(BROKEN))
def test_a_calculator_that_no_run_could_use_is_named_before_it_runs(kind: Kind, named: str, data: Dataset) -> None:
    with raises_code("model-failed", named):
        Run(kind, data).certificate()


def test_the_calls_of_the_model_are_counted_and_stay_few(data: Dataset) -> None:
    calls = {name: Run(HONEST[name], data).certificate()[2].calls for name in ("linear", "float32", "blind")}
    assert 0 < calls["blind"] < calls["linear"] < calls["float32"] < 60


def test_a_certificate_survives_json(data: Dataset) -> None:
    found = Run(HONEST["linear"], data).certificate()[2]
    assert found.responses is not None
    assert [response.defect for response in found.responses] == list(CHARGES)
    assert (found.energy_slope, found.reference_slope, found.warnings) == ("falling", "falling", ())
    assert ChargeCertificate.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_one_of_an_earlier_version_has_no_field_that_was_not_measured(data: Dataset) -> None:
    _, raw, _ = Run(HONEST["linear"], data).certificate()
    old = raw.model_copy(update={"calls": None, "others": (), "after_steps": None, "again": None})
    found = classify(old.model_dump(mode="json"))
    assert found.charge_class == "charge-aware"
    assert not {"calls", "responses", "energy_slope", "warnings"} & found.to_json().keys()
    assert "every_pair" not in {check.name for check in found.checks}
    assert ChargeCertificate.from_json(found.to_json()) == found


@pytest.mark.parametrize("name", ["lost after 40 calls", "lost after 80 calls", "lost after 120 calls", "dropped after 20 steps"])
def test_a_calculator_in_hand_that_forgets_is_noticed(name: str, data: Dataset) -> None:
    assert list(Run(LOSSY[name], data).noticed(in_hand=True))


@named(HONEST)
def test_an_honest_model_is_not_suspected(kind: Kind, data: Dataset) -> None:
    assert list(Run(kind, data).noticed()) == []
