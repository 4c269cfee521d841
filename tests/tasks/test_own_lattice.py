"""The comparison in the model's own lattice: what a worker does, what is scored of it, and that it changes no other score."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from known_landscape import CURVATURE, HOST, dataset, geometry
from known_landscape import score as scoring_of

import defectbench
from defectbench.calculations.asking import Answers, Ask
from defectbench.calculations.results import Stored, check_echo, parse
from defectbench.leaderboard.groups import group_key
from defectbench.leaderboard.scores import score_results
from defectbench.scoring.task import FigureContext
from defectbench.tasks import default_tasks, get_tasks, named_tasks
from defectbench.worker.adapters.base import LoadedModel
from defectbench.worker.main import answer

(RELAX, OWN_LATTICE) = get_tasks(["relax", "own_lattice"])
CONTEXT = FigureContext("a model", "toy-data", "Toy data", "full", "PBE", "charge-aware")
ASK = Ask(takes_charge=False)


class Elastic(Calculator):
    """Atoms on springs to the sites of a crystal that scale with the cell, and a cell that wants other lengths than the reference's."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, host: Atoms, wants=(1.02, 1.02, 1.02)):
        super().__init__()
        self.sites, self.lengths = host.get_scaled_positions(), host.cell.lengths()
        self.wants = np.array(wants)

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        apart = atoms.get_scaled_positions()[:, None] - self.sites[None]
        apart = (apart - np.round(apart)) @ atoms.cell.array
        nearest = np.linalg.norm(apart, axis=2).argmin(axis=1)
        off = apart[np.arange(len(atoms)), nearest]
        strain = atoms.cell.lengths() / self.lengths - self.wants
        slope = 300.0 * strain * (strain + self.wants)
        spring = np.einsum("ia,ia->a", off, off)
        stress = np.array([*(slope + spring) / atoms.get_volume(), 0.0, 0.0, 0.0])
        energy = 0.5 * float((off**2).sum()) + 150.0 * float((strain**2).sum())
        self.results = {"energy": energy, "forces": -off, "stress": stress}


class NoStress(Elastic):
    implemented_properties = ("energy", "forces")


def in_own_lattice(calculator, atoms, host):
    model = LoadedModel(calculator)
    calculation = ASK.own_lattice(atoms, 0, host)
    result = parse(
        calculation, answer(model, {"type": "calculate", "id": 1, **calculation.to_json()}, SimpleNamespace(send=lambda _message: None))
    )
    check_echo(calculation, result)
    return model, result


def test_a_crystal_in_another_cell_relaxes_to_the_lattice_of_the_model():
    host = bulk("Cu", cubic=True, a=3.7)
    model, result = in_own_lattice(EMT(), host, host)
    assert result.status == "converged"
    assert np.linalg.norm(result.cell, axis=1) == pytest.approx([3.59] * 3, abs=0.005)
    assert np.array(result.positions) == pytest.approx(host.positions, abs=1e-3)  # scaled back
    assert len(model.lattices) == 1


def test_axes_strain_apart_and_the_start_is_scaled_with_the_cell():
    start = HOST[1:]
    start.positions[3] += 0.2
    _, result = in_own_lattice(Elastic(HOST, (1.02, 0.99, 1.0)), start, HOST)
    assert np.linalg.norm(result.cell, axis=1) / HOST.cell.lengths() == pytest.approx([1.02, 0.99, 1.0], abs=1e-4)
    assert np.array(result.positions) == pytest.approx(HOST[1:].positions, abs=0.05)


@pytest.mark.parametrize("calculator", [NoStress(HOST), Elastic(HOST, (1.3, 1.0, 1.0))], ids=["no stress", "far off"])
def test_without_a_lattice_there_is_a_failure_that_says_so(calculator):
    _, result = in_own_lattice(calculator, HOST[1:], HOST)
    assert (result.status, result.failure_kind, result.cell) == ("failed", "lattice", None)
    assert len(result.positions) == len(HOST) - 1


def test_a_stress_that_vanishes_where_the_energy_has_no_minimum_is_refused(monkeypatch):
    shifted = Elastic(HOST)
    monkeypatch.setattr(Elastic, "get_stress", lambda self, atoms: np.zeros(6))
    _, result = in_own_lattice(shifted, HOST[1:], HOST)
    assert result.failure_kind == "lattice"


# What is scored


@pytest.fixture(scope="module")
def found():
    """Right structures in the own lattice, 2 % wider in each direction; 0.3 Å off in the reference cell."""
    data = dataset({-1: -1.0, 0: 0.0})

    def astray(_defect, charge, _name, _start):
        atoms = geometry(charge)
        atoms.positions += 0.3 * np.random.default_rng(5).choice([-1, 1], size=atoms.positions.shape) / np.sqrt(3)
        return atoms, 0.0

    scoring = scoring_of(RELAX, data, astray, lambda atoms, _q: CURVATURE * len(atoms))
    ask, stored = scoring.answers.ask, dict(scoring.answers.stored)
    asked = [(ask.own_lattice(HOST, 0, HOST), HOST)]
    asked += [(ask.own_lattice(start, q, HOST), geometry(q)) for d, q in data.states for start in data.starts(d, q).values()]
    for calculation, atoms in asked:
        content = {
            "status": "converged",
            "positions": atoms.positions.tolist(),
            "cell": (1.02 * HOST.cell.array).tolist(),
            "energy": -1.0,
            "forces": np.zeros((len(atoms), 3)).tolist(),
            "energies": [-1.0],
            "fmax": [0.0],
            "steps": 0,
        }
        stored[calculation.content_hash] = Stored(parse(calculation, content))
    return replace(scoring, answers=Answers(ask, stored))


def test_both_lattices_stand_side_by_side(found):
    result = OWN_LATTICE.score(found)
    assert result.metric("ground_state_found").value == pytest.approx(1.0, abs=0.01)
    assert result.metric("rmsd").value < 0.01
    assert result.metric("found_gained").value > 0.8
    assert result.metric("rmsd_gained").value == pytest.approx(RELAX.score(found).metric("rmsd").value, abs=0.01)
    assert result.metric("volume_change").value == pytest.approx(6.1208)
    assert result.metric("largest_strain").value == pytest.approx(2.0)
    assert [row["fixed_rmsd"] for row in result.rows] == [row["shared_rmsd"] for row in RELAX.score(found).rows]


def test_the_reference_cell_alone_is_scored(found):
    relax, own = RELAX.score(found), OWN_LATTICE.score(found)
    alone, both = score_results({"relax": relax}), score_results({"relax": relax, "own_lattice": own})
    assert OWN_LATTICE.weight == 0
    assert (alone.overall, alone.bounds, alone.coverage) == (both.overall, both.bounds, both.coverage)


def test_a_figure_names_the_volume(found, tmp_path):
    assert [p.name for p in OWN_LATTICE.draw(OWN_LATTICE.score(found), CONTEXT, tmp_path)] == ["own_lattice.png", "own_lattice.svg"]


def test_without_results_or_states_every_metric_has_a_reason(found):
    nothing = OWN_LATTICE.score(replace(found, answers=Answers(found.answers.ask, {})))
    none_selected = OWN_LATTICE.score(replace(found, states=()))
    for result in (nothing, none_selected):
        assert all(m.value is None and m.reason and not m.applies for m in result.metrics)
        assert OWN_LATTICE.draw(result, CONTEXT, None) == []


def test_it_runs_only_where_it_is_named():
    names = [task.name for task in default_tasks()]
    assert "own_lattice" not in names
    assert [task.name for task in named_tasks(None)] == names
    assert [task.name for task in named_tasks(["default", "own_lattice"])] == [*names, "own_lattice"]


@pytest.mark.slow
def test_an_entry_holds_it_and_stands_with_those_without(tmp_path):
    host = defectbench.load_dataset("sb2se3-vacancies").host
    small = {"defects": ["V_Se2"], "charges": [2], "configurations": ["Unperturbed"], "figures": False}
    made = defectbench.evaluate(Elastic(host), **small, tasks=["relax", "own_lattice"], output=tmp_path / "both")
    assert made["own_lattice"]["volume_change"].value == pytest.approx(6.12, abs=0.05)
    without = made.record.model_copy(update={"tasks": {"relax": made.record.tasks["relax"]}})
    assert group_key(without) == group_key(made.record)
    assert defectbench.rescore(made.folder).differences == ()
