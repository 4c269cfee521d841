"""Defects without a charge: structures, questions and a run, with answers made up by an executor."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from refusals import raises_code
from typer.testing import CliRunner

from defectbench.base.hardware import Hardware, Machine
from defectbench.calculations.asking import Ask
from defectbench.calculations.executors import Finished
from defectbench.calculations.preparation import ModelOptions
from defectbench.calculations.requests import Calculation, Structure
from defectbench.calculations.results import parse
from defectbench.cli import app
from defectbench.models.schema import ModelDefinition
from defectbench.sanity.checks import CHECKS, findings
from defectbench.sanity.record import Outcome, Pathway, find_records, read_record
from defectbench.sanity.run import chosen_systems, run_sanity
from defectbench.sanity.structures import crystal, point_group, split, tetrahedral_site, vacant_sites, with_interstitials
from defectbench.sanity.suite import APART, BARRIER, BOUND, HOST, SPLIT, TETRAHEDRAL, VACANCY, relaxations, systems
from defectbench.sanity.tables import comparison
from defectbench.worker.adapters.base import LoadedModel
from defectbench.worker.main import answer

MACHINE = Machine(device="cpu", hardware=Hardware(processor="Thing 9000", cores=4, memory_gb=8.0), workers=1, threads_per_worker=1)
TOY = ModelDefinition(
    id="toy", name="Toy", adapter="ase_calculator", arguments={"factory": "ase.calculators.emt:EMT"}, level_of_theory="none"
)

ENERGIES = {
    "Si 64": {HOST: -64.0, TETRAHEDRAL: -62.0, SPLIT: -61.8},
    "Si 216": {HOST: -216.0, APART: -212.0, **dict.fromkeys(BOUND, -212.2), BOUND[2]: -212.3},
    **{
        f"{metal} 128": {HOST: -1280.0, VACANCY: -1267.0, "<111>": -1280.0, "<110>": -1279.6, "<100>": -1278.0}
        for metal in ("W", "Mo", "Nb")
    },
}


# Structures


def test_a_tetrahedral_interstitial_has_four_neighbours_and_leaves_no_site_vacant():
    host = crystal("Si", 2)
    atoms = with_interstitials(host, [tetrahedral_site(host, 2)])
    near = np.sort(atoms.get_distances(-1, range(64), mic=True))
    assert near[:4] == pytest.approx([near[0]] * 4)
    assert near[4] > near[0] + 0.3
    assert (point_group(atoms), vacant_sites(atoms, host)) == ("-43m", 0)


def test_a_split_interstitial_leaves_its_site_vacant_also_after_a_common_shift_in_another_cell():
    host = crystal("W", 3)
    atoms = split(host, 0, (1, 1, 0), 2.2)
    atoms.positions += 0.7
    atoms.set_cell(1.02 * host.cell.array, scale_atoms=True)
    assert vacant_sites(atoms, host) == 1


def test_pairs_of_interstitials_share_a_mirror_plane_before_the_rattle(monkeypatch):
    from defectbench.sanity import suite

    monkeypatch.setattr(suite, "RATTLE", 0.0)
    assert {point_group(suite._silicon_216().starts[name]) for name in BOUND} <= {"m", "mm2", "2/m", "-3m"}


def test_no_start_has_atoms_that_touch():
    for system in systems().values():
        for name, atoms in system.starts.items():
            distances = atoms.get_all_distances(mic=True)
            assert distances[np.triu_indices(len(atoms), 1)].min() > 1.4, (system.name, name)


# Questions


def outcomes(**changes: dict) -> list[Outcome]:
    out = []
    for system, energies in ENERGIES.items():
        for start, energy in energies.items():
            atoms = len(systems()[system].host) if start == HOST else len(systems()[system].starts[start])
            vacant = {SPLIT: 1, TETRAHEDRAL: 0}.get(start)
            group = "m" if start == BOUND[2] else "1"
            fields = {"failure": None, "energy": energy, "steps": 10, "seconds": 1.0, "vacant_sites": vacant, "point_group": group}
            out.append(Outcome(system=system, start=start, atoms=atoms, status="converged", **fields))
    return [o.model_copy(update=changes.get(f"{o.system}|{o.start}", {})) for o in out]


def pathway(top: float = 0.5, status: str = "converged") -> Pathway:
    return Pathway(system="Si 64", name=BARRIER, status=status, failure=None, energies=(0.0, top, 0.2), steps=5, seconds=1.0)


def found(*paths: Pathway, **changes: dict) -> dict:
    return {f.check: f for f in findings(outcomes(**changes), paths)}


def test_a_right_model_answers_all_that_is_judged():
    got = found(pathway())
    assert all(f.passed is not False for f in got.values())
    assert got["si-ordering"].value == pytest.approx(0.2)
    assert got["si-barrier"].value == pytest.approx(0.5)
    assert got["si-pair"].value == pytest.approx(0.3)
    assert got["w-vacancy"].value == pytest.approx(3.0)  # −1267 + 127/128 · 1280
    assert got["w-interstitial"].value == pytest.approx(10.0)
    assert got["w-ordering"].value == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("place", "change", "wrong"),
    [
        (f"Si 64|{SPLIT}", {"vacant_sites": 0}, "si-minima"),
        (f"Si 64|{TETRAHEDRAL}", {"status": "failed", "energy": None}, "si-minima"),
        (f"Si 216|{APART}", {"energy": -213.0}, "si-pair"),
        (f"Si 216|{BOUND[2]}", {"point_group": "2/m"}, "si-symmetry"),
        (f"Si 216|{BOUND[1]}", {"energy": -214.0}, "si-symmetry"),
        (f"W 128|{VACANCY}", {"energy": -1271.0}, "w-vacancy"),
        ("Mo 128|<111>", {"energy": -1291.0}, "mo-interstitial"),
        ("Nb 128|<110>", {"energy": -1281.0}, "nb-ordering"),
        ("Nb 128|<100>", {"status": "unconverged"}, "nb-ordering"),
        ("W 128|host", {"status": "failed", "energy": None}, "w-vacancy"),
    ],
)
def test_a_wrong_answer_is_noticed(place, change, wrong):
    assert found(pathway(), **{place: change})[wrong].passed is False


def test_a_dumbbell_that_turns_into_the_lowest_is_no_mistake():
    assert found(pathway(), **{"W 128|<110>": {"energy": -1280.0004}})["w-ordering"].passed


@pytest.mark.parametrize("paths", [(), (pathway(2.0),), (pathway(status="unconverged"),)], ids=["none", "high", "unconverged"])
def test_a_barrier_that_is_missing_or_far_off_is_wrong(paths):
    assert found(*paths)["si-barrier"].passed is False


def test_nothing_is_asked_of_a_system_that_did_not_run():
    some = [o for o in outcomes() if o.system == "W 128"]
    assert [f.check for f in findings(some, ())] == ["w-vacancy", "w-interstitial", "w-ordering"]


# The path


class DoubleWell(Calculator):
    """(x² − 1)² in eV of the first atom's x, and springs across."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        x, y, z = atoms.positions[0] - 5.0
        forces = np.zeros((len(atoms), 3))
        forces[0] = (-4 * x * (x * x - 1), -y, -z)
        self.results = {"energy": (x * x - 1) ** 2 + 0.5 * (y * y + z * z), "forces": forces}


def path(calculator, first, last, charge=None):
    options = {"images": 5, "fmax": 0.05, "max_steps": 100, "last": Structure.from_atoms(last).to_json()}
    calculation = Calculation("path", Structure.from_atoms(first), charge, options=options)
    return parse(calculation, answer(LoadedModel(calculator), {"type": "calculate", "id": 1, **calculation.to_json()}, None))


def test_a_path_climbs_to_the_saddle():
    first, last = (Atoms("H", positions=[[x, 5, 5]], cell=[10, 10, 10], pbc=True) for x in (4.0, 6.0))
    result = path(DoubleWell(), first, last)
    assert result.status == "converged"
    assert max(result.energies) - result.energies[0] == pytest.approx(1.0, abs=0.02)
    assert result.positions[0] == pytest.approx([5, 5, 5], abs=0.1)


def test_a_path_of_a_model_that_raises_is_a_failure():
    first, last = (Atoms("W", positions=[[x, 5, 5]], cell=[10, 10, 10], pbc=True) for x in (4.0, 6.0))
    assert path(EMT(), first, last).status == "failed"


# A run


class MadeUp:
    """Answers each calculation with the energy of a table, and counts them."""

    def __init__(self, ask: Ask) -> None:
        self.energies = {
            calculation.content_hash: ENERGIES[system][start]
            for (system, start), calculation in relaxations(systems().values(), ask).items()
        }
        self.done: list[Calculation] = []

    def run(self, calculations):
        self.network = "open"
        for calculation in calculations:
            self.done.append(calculation)
            structure = calculation.structure
            echo = {"charge": calculation.charge, "request": calculation.content_hash}
            if calculation.kind == "path":
                middle = {"energies": [0.0, 0.5, 0.2], "positions": structure.positions, "fmax": 0.05, "steps": 9}
                content = {"status": "converged", "echo": echo, **middle}
            else:
                energy = self.energies[calculation.content_hash]
                still = {"forces": np.zeros((len(structure.symbols), 3)).tolist(), "fmax": [0.0], "steps": 0}
                cell = (1.01 * np.array(structure.cell)).tolist()
                content = {"status": "converged", "echo": echo, "positions": structure.positions, "cell": cell, **still}
                content |= {"energy": energy, "energies": [energy]}
            yield Finished(calculation, parse(calculation, json.loads(json.dumps(content))), MACHINE)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sanity") / "toy"
    executor = MadeUp(Ask(takes_charge=False))
    said: list[str] = []
    options = ModelOptions(environment="current", trust_code=True)
    record, _ = run_sanity(TOY, options, only=["Si 64", "W"], output=folder, executor=executor, say=said.append)
    assert sum(line.startswith("note:") and "network" in line for line in said) == 1  # once, though calculations run in two parts
    return folder, record, executor


def test_a_run_writes_a_record_that_is_read_back(ran):
    folder, record, executor = ran
    assert read_record(folder) == record
    assert [f.check for f in record.findings] == [c.name for c in CHECKS if c.system in ("Si 64", "W 128")]
    assert (record.passed, record.judged) == (5, 5)
    assert record.outcomes[0].lattice == pytest.approx(1.01)
    assert [c.kind for c in executor.done].count("path") == 1
    assert (folder / "structures.extxyz").stat().st_size > 1000


def test_a_second_run_calculates_nothing_again(ran):
    folder, record, _ = ran
    executor = MadeUp(Ask(takes_charge=False))
    options = ModelOptions(environment="current", trust_code=True)
    again, _ = run_sanity(TOY, options, only=["Si 64", "W"], output=folder, executor=executor)
    assert executor.done == []
    assert again.findings == record.findings


def test_a_model_that_takes_a_charge_is_asked_at_charge_zero():
    assert {c.charge for c in relaxations(systems().values(), Ask(takes_charge=True)).values()} == {0}


def test_records_stand_side_by_side(ran):
    folder, record, _ = ran
    other = record.model_copy(update={"model": record.model.model_copy(update={"id": "other"})})
    page = comparison([record, other])
    assert len(page.splitlines()) == 2 + len(CHECKS) + 1
    assert "toy" in page.splitlines()[0]
    done = CliRunner().invoke(app, ["sanity", "table", str(folder.parent)])
    assert done.exit_code == 0
    assert done.output.strip() == comparison(find_records(folder.parent))


def test_what_cannot_be_meant_is_refused(tmp_path):
    with raises_code("unknown-system"):
        chosen_systems(["Ge"])
    with raises_code("no-entry"):
        find_records(tmp_path)
    (tmp_path / "sanity.json").write_text('{"schema_version": 1}')
    with raises_code("bad-entry"):
        read_record(tmp_path)
    (tmp_path / "sanity.json").write_text("{")
    with raises_code("bad-entry"):
        read_record(tmp_path)


def test_an_outcome_is_not_changed_by_the_order_of_systems():
    made = outcomes()
    assert findings(made, (pathway(),)) == findings(made[::-1], (pathway(),))


def test_the_page_shows_the_published_records():
    root = Path(__file__).parents[2]
    shown = (root / "docs" / "sanity.md").read_text(encoding="utf-8").split("<!-- results: begin -->")[1].split("<!-- results: end -->")[0]
    assert shown.strip() == comparison(find_records(root / "leaderboards" / "neutral-sanity"))


def test_published_records_follow_from_their_outcomes():
    for record in find_records(Path(__file__).parents[2] / "leaderboards" / "neutral-sanity"):
        assert record.findings == findings(record.outcomes, record.paths)
