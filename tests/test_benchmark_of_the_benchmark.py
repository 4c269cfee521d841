"""Can the benchmark be fooled? An oracle must score 1, cheats at or below the baselines, and what means nothing must change nothing.

``docs/benchmark-of-the-benchmark.md`` describes these models and gives their scores.
"""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml

import defectbench
from defectbench.calculations.plan import make_plan, select_states
from defectbench.calculations.requests import Protocol
from defectbench.calculations.results import Stored, parse
from defectbench.datasets.dataset import Dataset
from defectbench.datasets.extxyz import attach_results
from defectbench.leaderboard.scores import best_baselines, gains, score_results
from defectbench.scoring.run import scoring_input
from defectbench.scoring.task import ScoringInput
from defectbench.structures.symmetry import host_operations
from defectbench.tasks import default_tasks
from defectbench.worker import certificate as worker_certificate
from defectbench.worker import relaxation as worker_relaxation
from defectbench.worker.adapters.base import LoadedModel

pytestmark = pytest.mark.slow

IMPOSTORS = Path(__file__).parent / "leaderboard" / "impostors.py"
DEFECT = "V_Sb1"
STARTS = ("Unperturbed", "Rattled", "Dimer", "Bond_Distortion_-40.0%")
PROTOCOL = Protocol(max_steps=60)
"""A model that never converges should not take a thousand steps to be found out."""


def _module():
    spec = importlib.util.spec_from_file_location("impostors", IMPOSTORS)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


impostors = _module()


@dataclass(frozen=True)
class Run:
    """An impostor's calculations, and what is needed to score them."""

    dataset: object
    plan: object
    results: dict
    certificate: dict
    charge_class: str

    @property
    def scoring(self) -> ScoringInput:
        stored = {c.content_hash: Stored(parse(c, self.results[c.content_hash])) for c in self.plan.calculations}
        return scoring_input(self.dataset, self.plan, self.charge_class, stored, certificate=self.certificate)

    @property
    def outcome(self) -> dict:
        return outcome(self.scoring)


def outcome(scoring):
    return {task.name: task.score(scoring) for task in default_tasks()}


@cache
def dataset():
    return defectbench.load_dataset("sb2se3-vacancies")


def calculate(calculator, how: str) -> Run:
    """Plan → calculate, with the worker's own functions in this process."""
    from defectbench.calculations.plan import certificate_calculation, certificate_start
    from defectbench.models.certificate import classify
    from defectbench.models.schema import Charge, ModelDefinition

    data = dataset()
    finished = {c for d, q in data.states if d == DEFECT for c in data.minima(d, q)}  # without them an oracle cannot know the lowest
    names = sorted({c for d, q in data.states if d == DEFECT for c in data.starts(d, q) if c in STARTS or c in finished})
    states, skipped = select_states(data, defects=[DEFECT], configurations=names)
    plan = make_plan(data, states, skipped, default_tasks(), takes_charge=how != "none", protocol=PROTOCOL)
    model = LoadedModel(calculator, charge=how)
    definition = ModelDefinition(
        id="impostor",
        name="Impostor",
        adapter="ase_calculator",
        arguments={"factory": "a:b"},
        level_of_theory="PBE",
        charge=Charge(how=how),
    )
    request = certificate_calculation(definition, *certificate_start(data)).to_json()
    certificate = classify(worker_certificate.certify(model, request))
    if hasattr(calculator, "certified"):
        calculator.certified()
    results = {}
    for calculation in plan.calculations:
        request = calculation.to_json()
        if calculation.kind == "relaxation":
            results[calculation.content_hash] = worker_relaxation.relax(model, request, lambda *_: None)
        elif calculation.kind == "single_point":
            results[calculation.content_hash] = worker_relaxation.single_point(model, request)
        else:
            results[calculation.content_hash] = worker_relaxation.descriptors(model, request)
    return Run(data, plan, results, certificate.to_json(), certificate.charge_class)


def neighbours() -> dict[int, int]:
    """Each charge with a reference → the next one, the last → the one before."""
    charges = [q for q in dataset().charges(DEFECT) if dataset().has_reference(DEFECT, q)]
    return dict(zip(charges, [*charges[1:], charges[-2]], strict=True))


ORACLE = "oracle"
CHEATS = {
    "does not move atoms": (impostors.frozen, {}, "none"),
    "does not move atoms, energy in steps of the charge": (impostors.frozen, {"per_charge": -4.0}, "info:charge"),
    "random forces": (impostors.random_forces, {}, "none"),
    "random forces, then rest": (impostors.random_forces, {"calls": 20}, "none"),
    "another charge's minimum": (impostors.oracle, {"charges": "neighbours"}, "info:charge"),
    "fails half its relaxations": (impostors.half_fails, {}, "info:charge"),
    "fails half of all it is asked": (impostors.half_fails, {"everything": True}, "info:charge"),
}
BLIND = "oracle of one charge"
"""Honest but deaf: right for one charge state, and another's minimum for all others."""


@cache
def run(name: str) -> Run:
    if name == ORACLE:
        return calculate(impostors.oracle(), "info:charge")
    if name == BLIND:
        return calculate(impostors.oracle(charges=dict.fromkeys(range(-9, 10), 0)), "none")
    factory, arguments, how = CHEATS[name]
    if arguments.get("charges") == "neighbours":
        arguments = {"charges": neighbours()}
    return calculate(factory(**arguments), how)


@cache
def result(name: str) -> dict:
    return run(name).outcome


def without_a_model(results) -> float:
    """What the best baselines score together; a task without one gives nothing."""
    return best_baselines(results)[1]


def test_the_oracle_scores_1_where_dft_is_the_truth():
    score = score_results(result(ORACLE))
    wrong = {
        f"{t.task}.{m.definition.name}": (m.value, m.score, m.reason) for t in score.tasks for m in t.metrics if m.counts and m.score < 0.95
    }
    assert wrong == {}
    assert score.overall > 0.98
    assert {t.task for t in score.tasks if t.counts} >= {"relax", "pes", "transition_levels"}


RIGHT_IN_PART = {
    "another charge's minimum": {"relax", "pes", "search", "parity", "charge_response", "transition_levels"},
    "fails half its relaxations": {"relax", "pes", "search", "parity", "ccd", "charge_response"},
    "fails half of all it is asked": {"relax", "pes", "search", "charge_response"},
}
"""Cheats whose answers are DFT's in part, and the tasks in which that lifts them above baselines that know no DFT. They are held against
the oracle (:func:`test_no_cheat_comes_near_the_oracle`)."""


@pytest.mark.parametrize("name", [name for name in CHEATS if name not in RIGHT_IN_PART])
def test_no_cheat_gets_above_the_baselines(name):
    assert score_results(result(name)).overall <= without_a_model(result(name)) + 1e-9


@pytest.mark.parametrize("name", CHEATS)
def test_in_no_task_does_a_cheat_beat_the_best_baseline(name):
    above = {task: gain for task, gain in gains(result(name)).items() if gain.value > 1e-6}
    assert above.keys() - RIGHT_IN_PART.get(name, set()) == set()


@pytest.mark.parametrize("name", [*CHEATS, BLIND])
def test_no_cheat_comes_near_the_oracle(name):
    assert score_results(result(name)).overall < score_results(result(ORACLE)).overall - 0.3


def test_cheats_are_counted_as_fully_as_the_oracle():
    """Nothing may be left out of a cheat's score that is in the oracle's: leaving out is how a score flatters."""
    full = {(t.task, m.definition.name) for t in score_results(result(ORACLE)).tasks for m in t.metrics if m.counts}
    for name in CHEATS:
        counted = {(t.task, m.definition.name) for t in score_results(result(name)).tasks for m in t.metrics if m.counts}
        assert full - counted == set(), name


def test_the_certificate_finds_the_deaf():
    assert run(ORACLE).charge_class == "charge-aware"
    assert run("does not move atoms").charge_class == "charge-blind"
    assert run("does not move atoms, energy in steps of the charge").charge_class == "energy-only"
    assert run(BLIND).charge_class == "charge-blind"


# What must not matter. The model is an oracle with errors, so that no value sits at an end of its scale.


@cache
def imperfect() -> Run:
    """The oracle's results with errors: positions by 0.04 Å an atom, energies by 0.06 eV, forces by a tenth and 0.02 eV/Å."""
    generator = np.random.default_rng(7)
    perfect = run(ORACLE)
    results = {}
    for key, found in perfect.results.items():
        off = generator.normal(scale=0.06)
        changed = dict(found)
        if found.get("positions") is not None:
            positions = np.array(found["positions"])
            changed["positions"] = (positions + generator.normal(scale=0.04, size=positions.shape)).tolist()
        if found.get("energy") is not None:
            changed["energy"] = found["energy"] + off
        if found.get("energies"):
            changed["energies"] = [e + off for e in found["energies"]]
        if found.get("forces") is not None:
            forces = np.array(found["forces"])
            changed["forces"] = (0.9 * forces + generator.normal(scale=0.02, size=forces.shape)).tolist()
        results[key] = changed
    return replace(perfect, results=results)


@cache
def imperfect_outcome():
    return imperfect().outcome


def values(results) -> dict:
    """All that is scored, and its metrics."""
    score = score_results(results)
    out = {f"{t.task}.{m.definition.name}": m.value for t in score.tasks for m in t.metrics if m.score is not None}
    return {**out, "overall": score.overall}


def changed_metrics(results, tolerance: float = 2e-4) -> dict:
    old, new = values(imperfect_outcome()), values(results)
    assert old.keys() == new.keys()
    return {
        k: (old[k], new[k])
        for k in old
        if (old[k] is None) != (new[k] is None) or (old[k] is not None and abs(old[k] - new[k]) > tolerance)
    }


def transformed(change) -> dict:
    """Scores of the imperfect results with every relaxed structure changed: (positions (N, 3), symbols) → positions."""
    base = imperfect()
    results = dict(base.results)
    for calculation in base.plan.calculations:
        found = results[calculation.content_hash]
        if calculation.kind == "relaxation":
            positions = change(np.array(found["positions"]), np.array(calculation.structure.symbols))
            results[calculation.content_hash] = {**found, "positions": positions.tolist()}
    return replace(base, results=results).outcome


def permute(positions, symbols):
    generator = np.random.default_rng(3)
    out = positions.copy()
    for element in sorted(set(symbols)):
        mine = np.flatnonzero(symbols == element)
        out[mine] = positions[generator.permutation(mine)]
    return out


def test_the_imperfect_model_is_imperfect():
    score = score_results(imperfect_outcome())
    assert 0.3 < score.overall < 0.97


def test_no_way_of_writing_relaxed_structures_changes_anything():
    """Equal atoms in another order, a translation, an image under the host's symmetry, and all atoms wrapped into the cell, at once."""
    operations = host_operations(dataset().host)
    cell = operations.cell
    index = next(i for i, r in enumerate(operations.rotations) if not np.array_equal(r, np.eye(3)))

    def written_otherwise(positions, symbols):
        moved = permute(positions, symbols) + np.array([0.31, -0.17, 0.45])
        image = moved @ np.linalg.inv(cell) @ operations.rotations[index].T + operations.translations[index]
        return (image % 1.0) @ cell

    assert changed_metrics(transformed(written_otherwise)) == {}


# The same for what DFT's files hold: starts, frames and minima, and with them the single points.


def rewritten(change) -> dict:
    """Scores of the imperfect results on a dataset written differently.

    ``change`` is (positions (N, 3), symbols) → (order (N,), positions (N, 3)): the new order of the atoms, and where they are written.
    """
    base = imperfect()
    old = base.dataset

    def rewrite(atoms):
        order, positions = change(atoms.positions, np.array(atoms.get_chemical_symbols()))
        known = atoms.calc.results if atoms.calc is not None else {}
        new = atoms[order]
        new.positions = positions
        if known:
            attach_results(new, energy=known["energy"], **({"forces": known["forces"][order]} if "forces" in known else {}))
        return new

    starts = {state: {name: rewrite(atoms) for name, atoms in old.starts(*state).items()} for state in old.states}
    relaxations = {key: tuple(rewrite(atoms) for atoms in old._read(key)) for key in old._relaxations}
    data = Dataset(old.path, old.metadata, old.sha256, old.host, starts, relaxations)
    takes_charge = any(c.charge is not None for c in base.plan.calculations)
    plan = make_plan(data, base.plan.states, base.plan.skipped, default_tasks(), takes_charge=takes_charge, protocol=PROTOCOL)
    assert [c.kind for c in plan.calculations] == [c.kind for c in base.plan.calculations]
    results = {}
    for before, after in zip(base.plan.calculations, plan.calculations, strict=True):
        found = dict(base.results[before.content_hash])
        positions, symbols = np.array(before.structure.positions), np.array(before.structure.symbols)
        order = np.arange(len(symbols)) if len(symbols) == len(old.host) else change(positions, symbols)[0]
        apart = old.host.cell.scaled_positions(np.array(after.structure.positions) - positions[order])
        assert np.abs((apart - np.round(apart)) @ old.host.cell.array).max() < 1e-4, "another structure is asked for"
        for name in ("positions", "forces"):
            if found.get(name) is not None:
                found[name] = np.array(found[name])[order].tolist()
        results[after.content_hash] = found
    return replace(base, dataset=data, plan=plan, results=results).outcome


def test_no_way_of_writing_dft_changes_anything():
    """Atoms in another order, and wrapped into the cell."""
    cell = dataset().host.cell.array

    def written_otherwise(positions, symbols):
        order = permute(np.arange(len(symbols)), symbols)
        return order, (((positions @ np.linalg.inv(cell)) % 1.0) @ cell)[order]

    assert changed_metrics(rewritten(written_otherwise)) == {}


def test_neither_order_nor_zero_of_energy_changes_anything():
    """Configurations and states backwards, and all energies of the model 1234.5 eV higher."""
    base = imperfect()
    results = {}
    for key, found in base.results.items():
        moved = {**found}
        if found.get("energy") is not None:
            moved["energy"] = found["energy"] + 1234.5
        if found.get("energies"):
            moved["energies"] = [e + 1234.5 for e in found["energies"]]
        results[key] = moved
    scoring = replace(base, results=results).scoring
    backwards = replace(
        scoring,
        configurations=scoring.configurations[::-1],
        states=tuple(replace(s, configurations=s.configurations[::-1]) for s in scoring.states[::-1]),
        host=scoring.host[::-1],
    )
    assert changed_metrics(outcome(backwards)) == {}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_noise_of_1_mev_per_atom_moves_no_score_by_more_than_its_interval(seed):
    generator = np.random.default_rng(seed)
    base = imperfect()
    atoms = {c.content_hash: len(c.structure.symbols) for c in base.plan.calculations}
    results = {}
    for key, found in base.results.items():
        off = generator.normal(scale=0.001 * atoms[key])
        noisy = {**found}
        if found.get("energy") is not None:
            noisy["energy"] = found["energy"] + off
        if found.get("energies"):
            noisy["energies"] = [e + off for e in found["energies"]]
        results[key] = noisy
    old, new = score_results(imperfect_outcome()), score_results(replace(base, results=results).outcome)
    width = (old.bounds[1] - old.bounds[0]) / 2
    assert 0 < abs(new.overall - old.overall) < width


# The same through the real thing: a worker process, the store, the entry.


def test_oracle_and_cheat_through_evaluate(tmp_path):
    shutil.copy(IMPOSTORS, tmp_path / "impostors.py")
    overall = {}
    for name, factory, how in (("oracle", "oracle", "info:charge"), ("frozen", "frozen", "none")):
        definition = {
            "id": name,
            "name": name,
            "adapter": "ase_calculator",
            "arguments": {"factory": f"impostors:{factory}"},
            "level_of_theory": "PBE",
            "charge": {"how": how},
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(definition))
        done = defectbench.evaluate(
            path,
            defects=[DEFECT],
            charges=[-3, -1],
            tasks=["relax", "pes"],
            output=tmp_path / name,
            environment="current",
            workers=1,
            figures=False,
            trust_code=True,
        )
        overall[name] = score_results(done.record.tasks).overall
        if name == "frozen":
            assert overall[name] <= without_a_model(done.record.tasks) + 1e-9
    assert overall["oracle"] > 0.97


def main() -> None:
    """Prints the table of the documentation page."""
    columns = [t.name for t in default_tasks() if t.weight > 0]
    print("| model | certificate | overall | " + " | ".join(columns) + " |\n|---|---|" + "---:|" * (len(columns) + 1))
    for name in [ORACLE, *CHEATS, BLIND]:
        score = score_results(result(name))
        cells = [f"{score.overall:.2f} ({score.bounds[0]:.2f}–{score.bounds[1]:.2f})"]
        cells += ["–" if (t := score.task(column)) is None or t.score is None else f"{t.score:.2f}" for column in columns]
        print(f"| {name} | {run(name).charge_class} | " + " | ".join(cells) + " |")
    best, overall = best_baselines(result(ORACLE))
    print(f"| *best baselines* | – | {overall:.2f} | " + " | ".join(f"{best[c]:.2f}" if c in best else "–" for c in columns) + " |")


if __name__ == "__main__":
    main()
