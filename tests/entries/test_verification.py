"""Every kind of tampering with an entry that was tried: each is found, or is listed as one that only a new calculation finds."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import defectbench
from defectbench.calculations.audit import first_questions
from defectbench.calculations.client import WorkerSpec
from defectbench.calculations.plan import SelectedState, certificate_of, make_plan
from defectbench.calculations.preparation import ModelOptions
from defectbench.datasets.dataset import Dataset
from defectbench.entries.claims import registered_problems
from defectbench.entries.folder import outcome, read_entry, write_structures
from defectbench.entries.rescoring import stored_scoring
from defectbench.entries.sampling import SampleOptions
from defectbench.entries.schema import Training
from defectbench.models.schema import TrainedOn
from defectbench.tasks import get_tasks

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))
from toy_runs import InProcess, run_here, write_toy

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CHOSEN = {"defects": ["V_Sb1"], "charges": [-3, -1], "configurations": ["Unperturbed", "Dimer"], "tasks": ["relax", "charge_response"]}
STATE = ("V_Sb1", -1, "Dimer")


@dataclass(frozen=True)
class Finished:
    """A finished entry, the model YAML that made it, and that of another model with its entry."""

    data: Dataset
    model: Path
    folder: Path
    other: Path


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Finished:
    data = defectbench.load_dataset("sb2se3-vacancies")
    home, away = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("other")
    model = write_toy(home, charge="info:charge", hears=True)
    other = write_toy(away, charge="info:charge", hears=True, spring=3.0)
    run_here(model, home / "run", dataset=data, figures=True, **CHOSEN)
    run_here(other, away / "run", dataset=data, **CHOSEN)
    return Finished(data, model, home / "run", away / "run")


class Forger:
    """Edits a copy of an entry."""

    def __init__(self, folder: Path, finished: Finished) -> None:
        self.folder, self.data, self.other = folder, finished.data, finished.other
        states = (SelectedState("V_Sb1", -3, ("Unperturbed", "Dimer")), SelectedState("V_Sb1", -1, ("Unperturbed", "Dimer")))
        self.plan = make_plan(self.data, states, (), get_tasks(CHOSEN["tasks"]), takes_charge=True)
        self.first = first_questions(certificate_of(defectbench.load_model(finished.model), self.data, ["V_Sb1"]), True)

    def entry(self, change: Callable[[dict[str, Any]], object]) -> None:
        path = self.folder / "entry.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    def results(self, change: Callable[[dict[str, Any]], object]) -> None:
        path = self.folder / "calculations.json.gz"
        content = json.loads(gzip.decompress(path.read_bytes()))
        change(content["results"])
        path.write_bytes(gzip.compress(json.dumps(content).encode()))

    def relaxation(self, change: Callable[[dict[str, Any]], object], state: tuple[str, int, str] = STATE) -> None:
        self.results(lambda results: change(results[self.plan.relaxations[state].content_hash]["result"]))

    def single_point(self, change: Callable[[dict[str, Any]], object]) -> None:
        key = next(c.content_hash for c in self.plan.calculations if c.kind == "single_point")
        self.results(lambda results: change(results[key]["result"]))

    def text(self, name: str, change: Callable[[str], str]) -> None:
        path = self.folder / name
        path.write_text(change(path.read_text()))

    def smooth(self) -> None:
        """Makes the entry agree with its calculations again, as a careful forger would."""
        defectbench.rescore(self.folder, self.data)
        _entry, scored, _ = stored_scoring(self.folder, self.data)
        records = [
            {
                "defect": c.defect,
                "charge": c.charge,
                "configuration": c.configuration,
                "content_hash": c.content_hash,
                **outcome(c.relaxation),
            }
            for c in scored.configurations
        ]
        self.entry(lambda content: content.update(configurations=records))
        write_structures(self.folder, scored, self.plan)

    def repeated(self, results: dict[str, Any]) -> list[str]:
        """Ends of relaxations that were calculated again for the audit."""
        known = {c.content_hash for c in self.plan.calculations} | {c.content_hash for c in self.first}
        return [key for key, found in results.items() if key not in known and found["result"]["kind"] == "single_point"]

    # what a line of the table below cannot hold

    def exchange_calculations(self) -> None:
        """Those of another model, but for the certificate, and everything scored again."""
        content = json.loads(gzip.decompress((self.other / "calculations.json.gz").read_bytes()))["results"]
        planned = {c.content_hash for c in self.plan.calculations}
        self.results(lambda results: results.update({key: value for key, value in content.items() if key in planned}))
        self.smooth()

    def put_in_dft(self) -> None:
        """DFT's minimum with energies and forces that look like a converged relaxation, and everything scored again."""
        minimum = self.data.minima("V_Sb1", -1)["Dimer"].atoms.positions.tolist()
        self.relaxation(lambda r: r.update(positions=minimum))
        self.smooth()

    def converge(self) -> None:
        """A relaxation that ended early, called converged, and everything scored again."""

        def cut(r: dict[str, Any]) -> None:
            r.update(energies=r["energies"][:4], fmax=r["fmax"][:4], energy=r["energies"][3], steps=3, status="converged")

        self.relaxation(cut)
        self.smooth()

    def repeat_key(self) -> None:
        path = self.folder / "calculations.json.gz"
        text = gzip.decompress(path.read_bytes()).decode()
        key = self.plan.relaxations[STATE].content_hash
        path.write_bytes(gzip.compress(text.replace('"results":{', f'"results":{{"{key}":null,', 1).encode()))

    def answer_twice(self) -> None:
        """One start's relaxation as that of another start too, with its echo mended, and everything scored again."""
        one, other = (self.plan.relaxations["V_Sb1", -1, name].content_hash for name in ("Dimer", "Unperturbed"))

        def copy(results: dict[str, Any]) -> None:
            results[other] = json.loads(json.dumps(results[one]))
            results[other]["result"]["echo"]["request"] = other

        self.results(copy)
        self.smooth()

    def remove_frame(self) -> None:
        lines = (self.folder / "structures.extxyz").read_text().splitlines(keepends=True)
        (self.folder / "structures.extxyz").write_text("".join(lines[: -int(lines[0]) - 1]))

    def exchange_figures(self) -> None:
        figures = self.folder / "figures"
        one, other = (figures / "relax.svg"), next(path for path in sorted(figures.glob("*.svg")) if path.stem != "relax")
        shutil.copy(other, one)

    def exchange_pictures(self) -> None:
        figures = self.folder / "figures"
        other = next(path for path in sorted(figures.glob("*.png")) if path.stem != "relax")
        shutil.copy(other, figures / "relax.png")


def metric(content: dict[str, Any], name: str = "rmsd", task: str = "relax") -> dict[str, Any]:
    return next(m for m in content["tasks"][task]["metrics"] if m["name"] == name)


def moved(row: list[float]) -> list[float]:
    return [row[0] + 0.05, *row[1:]]


def add_energy(result):
    result["energy"] += 1.0


FOUND: dict[str, Callable[[Forger], object]] = {
    "metric": lambda f: f.entry(lambda e: metric(e).update(value=0.01)),
    "interval": lambda f: f.entry(lambda e: metric(e).update(interval=[0.0, 0.001])),
    "baseline": lambda f: f.entry(lambda e: e["tasks"]["relax"]["baselines"]["unrelaxed"].update(rmsd=9.0)),
    "row": lambda f: f.entry(lambda e: e["tasks"]["relax"]["tables"]["states"][0].update(rmsd=0.01)),
    "further table": lambda f: f.entry(lambda e: e["tasks"]["relax"]["tables"]["configurations"][0].update(rmsd=0.01)),
    "row removed": lambda f: f.entry(lambda e: e["tasks"]["relax"]["tables"]["configurations"].pop()),
    "failed turned into not applicable": lambda f: f.entry(
        lambda e: metric(e).update(value=None, interval=None, applies=False, reason="not asked")
    ),
    "applies": lambda f: f.entry(lambda e: metric(e).update(applies=False)),
    "reason": lambda f: f.entry(lambda e: metric(e).update(reason="not asked")),
    "note": lambda f: f.entry(lambda e: e["tasks"]["relax"]["notes"].append("Best of all.")),
    "task removed": lambda f: f.entry(lambda e: e["tasks"].pop("charge_response")),
    "certificate class": lambda f: f.entry(lambda e: e["certificate"].update(charge_class="energy-only")),
    "certificate check": lambda f: f.entry(lambda e: next(c for c in e["certificate"]["checks"] if not c["passed"]).update(passed=True)),
    "charge response": lambda f: f.entry(lambda e: e["certificate"].update(force_change=9.0)),
    "certificate energies": lambda f: f.entry(lambda e: e["certificate"]["energies"].reverse()),
    "certificate thresholds": lambda f: f.entry(lambda e: e["certificate"]["thresholds"].update(aware_force=1.0)),
    "configuration energy": lambda f: f.entry(lambda e: e["configurations"][0].update(energy=-1.0)),
    "configuration status": lambda f: f.entry(lambda e: e["configurations"][0].update(status="unconverged")),
    "configuration twice": lambda f: f.entry(lambda e: e["configurations"].append(e["configurations"][0])),
    "host": lambda f: f.entry(lambda e: e["host"][0].update(fmax=0.001)),
    "structure position": lambda f: f.text("structures.extxyz", lambda t: t.replace("\nSb ", "\nSb 9", 1)),
    "structure energy": lambda f: f.text("structures.extxyz", lambda t: t.replace("model_energy=", "model_energy=-9", 1)),
    "structure atom removed": lambda f: f.text("structures.extxyz", lambda t: t.rstrip("\n").rsplit("\n", 1)[0] + "\n"),
    "structure removed": Forger.remove_frame,
    "structures removed": lambda f: (f.folder / "structures.extxyz").unlink(),
    "table file": lambda f: f.text("tables/relax_states.csv", lambda t: t.replace("V_Sb1", "V_Sb2", 1)),
    "registered id": lambda f: f.entry(lambda e: e["model"].update(id="chgnet-0.3.0")),
    "registered name": lambda f: f.entry(lambda e: e["model"].update(name="CHGNet 0.3.0")),
    "embedded": lambda f: f.entry(lambda e: e["model"].update(embedded=True)),
    "parameters": lambda f: f.entry(lambda e: e["model"].update(parameters=10)),
    "weights": lambda f: f.entry(lambda e: e["model"].update(weights_sha256={"w.pt": "0" * 64})),
    "charge handling": lambda f: f.entry(lambda e: e["model"].update(charge="none")),
    "package version": lambda f: f.entry(lambda e: e["provenance"]["packages"].update(ase="1.0")),
    "suite": lambda f: f.entry(lambda e: e["selection"].update(suite="full")),
    "selected state removed": lambda f: f.entry(lambda e: e["selection"]["states"][0]["configurations"].pop()),
    "skipped state": lambda f: f.entry(
        lambda e: e["selection"]["skipped"].append({"defect": "V_Sb1", "charge": 0, "reason": "no PBE reference yet"})
    ),
    "protocol": lambda f: f.entry(lambda e: e["provenance"]["protocol"].update(fmax=0.05)),
    "dataset hash": lambda f: f.entry(lambda e: e["dataset"].update(sha256="0" * 64)),
    "dataset title": lambda f: f.entry(lambda e: e["dataset"].update(title="Better data")),
    "dataset level": lambda f: f.entry(lambda e: e["dataset"].update(level_of_theory="HSE06")),
    "hardware": lambda f: f.entry(lambda e: e["provenance"]["machines"][0]["hardware"].update(processor="Thing 1")),
    "time": lambda f: f.entry(lambda e: e["provenance"].update(calculation_s=98765.0)),
    "time of a relaxation": lambda f: f.entry(lambda e: e["configurations"][0].update(wall_s=0.0)),
    "date in the future": lambda f: f.entry(lambda e: e["provenance"].update(created="2999-01-01T00:00:00+00:00")),
    "number of calculations": lambda f: f.entry(lambda e: e["provenance"].update(calculations=99)),
    "stored energy": lambda f: f.relaxation(lambda r: r.update(energy=r["energy"] - 1.0)),
    "stored forces of a single point": lambda f: f.single_point(lambda r: r["forces"].reverse()),
    "stored energies, scored again": lambda f: (
        f.relaxation(lambda r: r.update(energies=[e - 1 for e in r["energies"]], energy=r["energy"] - 1), ("V_Sb1", -1, "Unperturbed")),
        f.smooth(),
    ),
    "stored geometry": lambda f: f.relaxation(lambda r: r["positions"].__setitem__(0, moved(r["positions"][0]))),
    "stored forces, scored again": lambda f: (f.relaxation(lambda r: r["forces"].__setitem__(0, [1.0, 0.0, 0.0])), f.smooth()),
    "stored charge": lambda f: f.relaxation(lambda r: r["echo"].update(charge=-3)),
    "stored request": lambda f: f.relaxation(lambda r: r["echo"].update(request="0" * 64)),
    "not a number": lambda f: f.relaxation(lambda r: r.update(energy="low")),
    "steps": lambda f: (f.relaxation(lambda r: r.update(steps=r["steps"] - 1)), f.smooth()),
    "calculations of another model, scored again": Forger.exchange_calculations,
    "failure called converged, scored again": Forger.converge,
    "minimum of DFT, scored again": Forger.put_in_dft,
    "forces of a relaxation, with all that rests on them": lambda f: f.relaxation(
        lambda r: r.update(forces=np.roll(np.array(r["forces"]), 1, axis=0).tolist())
    ),
    "audit of the run missing": lambda f: f.results(lambda r: [r.pop(key) for key in f.repeated(r)]),
    "audit of the run, another end": lambda f: f.results(lambda r: [add_energy(r[key]["result"]) for key in f.repeated(r)]),
    "audit of the run, its verdict": lambda f: f.entry(lambda e: e["certificate"]["checks"].pop()),
    "first questions, other answers": lambda f: f.results(lambda r: r[f.first[0].content_hash]["result"].update(energy=0.0)),
    "sign of the energy": lambda f: f.entry(
        lambda e: e["certificate"].update(energy_slope="falling" if e["certificate"]["energy_slope"] != "falling" else "rising")
    ),
    "calculation missing": lambda f: f.results(lambda r: r.pop(f.plan.calculations[-1].content_hash)),
    "relaxation missing": lambda f: f.results(lambda r: r.pop(f.plan.relaxations[STATE].content_hash)),
    "calculation nobody planned": lambda f: f.results(lambda r: r.update({"0" * 64: r[f.plan.calculations[0].content_hash]})),
    "calculation twice": Forger.repeat_key,
    "answer to two starts, scored again": Forger.answer_twice,
    "certificate's measurements": lambda f: f.results(
        lambda r: next(v for v in r.values() if "charges" in v["result"])["result"]["energies"].reverse()
    ),
}
"""Tampering that is found from the entry and the dataset."""

UNSEEN: dict[str, Callable[[Forger], object]] = {
    "date in the past": lambda f: f.entry(lambda e: e["provenance"].update(created="2026-01-01T00:00:00+00:00")),
    "identity of a model that is not registered": lambda f: f.entry(lambda e: e["model"].update(identity="other")),
    "energy that no number rests on": lambda f: f.single_point(lambda r: r.update(energy=r["energy"] - 1.0)),
    "invented as a whole": lambda f: (shutil.rmtree(f.folder), shutil.copytree(f.other, f.folder)),
}
"""Tampering that nothing in an entry shows: docs/verification.md says so."""


def forged(finished: Finished, tmp_path: Path, change: Callable[[Forger], object]) -> Path:
    folder = tmp_path / "entry"
    shutil.copytree(finished.folder, folder)
    change(Forger(folder, finished))
    return folder


def test_an_honest_entry_passes_with_its_figures(finished):
    found = defectbench.verify(finished.folder, finished.data)
    assert found.problems == ()
    assert found.calculations == read_entry(finished.folder).provenance.calculations
    assert not any("figures" in reason for reason in found.unchecked)


@pytest.mark.parametrize("kind", FOUND)
def test_tampering_is_found(finished, tmp_path, kind):
    assert defectbench.verify(forged(finished, tmp_path, FOUND[kind]), finished.data, figures=False).problems


@pytest.mark.parametrize("change", [Forger.exchange_figures, Forger.exchange_pictures, lambda f: (f.folder / "figures/relax.png").unlink()])
def test_exchanged_and_missing_figures_are_found(finished, tmp_path, change):
    found = defectbench.verify(forged(finished, tmp_path, change), finished.data).problems
    assert len(found) == 1
    assert "figures/relax" in found[0]


@pytest.mark.parametrize("kind", UNSEEN)
def test_what_cannot_be_found_without_the_model(finished, tmp_path, kind):
    assert defectbench.verify(forged(finished, tmp_path, UNSEEN[kind]), finished.data, figures=False).passed


class Open(InProcess):
    """Says what is so: code in this process can reach the network."""

    def __init__(self, spec: WorkerSpec) -> None:
        super().__init__(spec)
        self.model.record["network"] = "open"


def sampled(finished: Finished, folder: Path, count: int = 2) -> Any:
    options = SampleOptions(ModelOptions(trust_code=True), executor=Open, seed=1)
    return defectbench.verify(folder, finished.data, figures=False, sample=count, model=finished.model, options=options)


def test_a_sample_of_an_honest_entry_is_reproduced(finished):
    found = sampled(finished, finished.folder)
    assert found.passed
    assert found.repeated == 2
    assert len(found.notes) == 1


def test_a_sample_finds_an_invented_entry(finished, tmp_path):
    found = sampled(finished, forged(finished, tmp_path, UNSEEN["invented as a whole"]))
    assert any("certificate" in line for line in found.problems)
    assert any("calculated again" in line for line in found.problems)


def test_a_sample_finds_forces_that_were_invented_with_everything_that_rests_on_them(finished, tmp_path):
    def exchange(result: dict[str, Any]) -> None:
        result.update(forces=np.roll(np.array(result["forces"]), 1, axis=0).tolist())

    def invent(f: Forger) -> None:
        for calculation in (*f.plan.relaxations.values(), *f.plan.host.values()):
            f.results(lambda results, key=calculation.content_hash: exchange(results[key]["result"]))
        f.results(lambda results: [exchange(results[key]["result"]) for key in f.repeated(results)])

    folder = forged(finished, tmp_path, invent)
    assert defectbench.verify(folder, finished.data, figures=False).passed
    assert sampled(finished, folder, count=99).problems


CLAIMS = {
    "name": {"name": "CHGNet 0.4"},
    "identity": {"identity": "0" * 64},
    "weights": {"weights_sha256": {"chgnet/pretrained/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar": "0" * 64}},
    "weights missing": {"weights_sha256": {}},
    "parameters": {"parameters": 1},
    "charges of weights": {"weights_charges": {"chgnet/pretrained/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar": 1}},
    "arguments": {"arguments": {"head": "other"}},
    "level": {"level_of_theory": "HSE06"},
    "adapter": {"adapter": "mace"},
    "charge": {"charge": "total_charge"},
    "training": {"training": Training(statement="OMat24")},
    "training datasets": {"training": Training(statement="MPtrj", datasets=[TrainedOn(dataset="a", dataset_sha256="0" * 64)])},
}


def claims(finished: Finished, entry: Any) -> list[str]:
    return list(registered_problems(entry, finished.data, []))


@pytest.fixture(scope="module")
def published():
    return read_entry(ROOT / "leaderboards" / "sb2se3-vacancies" / "chgnet-0.3.0")


def test_a_published_entry_claims_the_registered_model(finished, published):
    assert claims(finished, published) == []


@pytest.mark.parametrize("kind", CLAIMS)
def test_claims_about_a_registered_model_are_compared_with_the_registry(finished, published, kind):
    assert claims(finished, published.model_copy(update={"model": published.model.model_copy(update=CLAIMS[kind])}))


def test_the_command_names_each_difference_and_says_so_by_its_exit_code(finished, tmp_path, capsys, monkeypatch):
    from defectbench.cli import main

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["defectbench", "leaderboard", "verify", *map(str, arguments), "--no-figures"])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    assert run(finished.folder) == 0
    assert run(finished.folder, forged(finished, tmp_path, FOUND["metric"])) == 1
    said = capsys.readouterr()
    assert "relax.metrics[rmsd].value" in said.out
    assert "not-verified" in said.err
    assert run(tmp_path / "nothing") == 2
