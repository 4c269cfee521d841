"""Weights: fetched ahead, compared with what is published, refused where they are known to be wrong, and one file per charge."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase import Atoms
from refusals import raises_code
from typer.testing import CliRunner

from defectbench.calculations.plan import certificate_calculation
from defectbench.cli import app
from defectbench.models import trust
from defectbench.models.environment import PythonEnvironment
from defectbench.models.registry import load_model
from defectbench.models.resolved import ResolvedModel, resolve_model
from defectbench.models.weights import fetch_weights, git_blob_of, verify_weights
from defectbench.worker.adapters import load_adapter
from defectbench.worker.certificate import certify
from defectbench.worker.errors import WorkerError
from defectbench.worker.weights import check_weights

ENVIRONMENT = PythonEnvironment(Path("python"), "some", {}, "0" * 64)
CONTENT = b"weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def define(tmp_path: Path) -> Callable[..., Path]:
    def write(**fields: Any) -> Path:
        file = {"path": "mine/a.model", "url": "https://example.org/a.model", "sha256": SHA256, **fields}
        content = {"id": "mine", "name": "Mine", "adapter": "mace", "level_of_theory": "PBE"}
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump({**content, "weights": {"source": "url", "files": [file]}}))
        return path

    return write


@pytest.fixture
def mirror(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "mirror"
    (folder / "mine").mkdir(parents=True)
    (folder / "mine" / "a.model").write_bytes(CONTENT)
    monkeypatch.setenv("DEFECTBENCH_WEIGHTS_MIRROR", str(folder))
    return folder


def test_fetched_weights_are_found_without_the_mirror(
    define: Callable[..., Path], mirror: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    definition = load_model(define())
    with raises_code("untrusted-model"):
        fetch_weights(definition)
    assert fetch_weights(definition, trust_weights=True) == [cache / "weights" / "mine" / "a.model"]
    monkeypatch.setenv("DEFECTBENCH_WEIGHTS_MIRROR", str(mirror / "gone"))
    assert resolve_model(definition, environment=ENVIRONMENT, trust_weights=True).weights_sha256 == {"mine/a.model": SHA256}
    assert fetch_weights(load_model("sevennet-0")) == []


def test_verify_says_which_witnesses_agree(define: Callable[..., Path], mirror: Path, tmp_path: Path) -> None:
    blob = git_blob_of(mirror / "mine" / "a.model")
    path = define(size=len(CONTENT), git_blob=blob, witnesses=3)
    with raises_code("no-weights"):
        verify_weights(load_model(path))
    fetch_weights(load_model(path), trust_weights=True)
    (found,) = verify_weights(load_model(path))
    assert found.passed
    assert [(w.what, w.agrees, w.records) for w in found.witnesses] == [
        ("SHA-256", True, 3),
        ("size", True, None),
        ("git blob", True, None),
    ]
    other = tmp_path / "other.model"
    other.write_bytes(b"WEIGHTS")
    (wrong,) = verify_weights(load_model(path), given=other)
    assert [w.agrees for w in wrong.witnesses] == [False, True, False]
    assert not wrong.passed
    assert not verify_weights(load_model(define(sha256=None)), given=other)[0].passed  # nothing published: nothing verified


def test_fetch_and_verify_on_the_command_line(define: Callable[..., Path], mirror: Path, cache: Path) -> None:
    path = str(define(witnesses=3))
    assert CliRunner().invoke(app, ["models", "fetch", path, "--trust-weights"]).exit_code == 0
    assert (cache / "weights" / "mine" / "a.model").read_bytes() == CONTENT
    assert CliRunner().invoke(app, ["models", "verify", path]).exit_code == 0
    (cache / "weights" / "mine" / "a.model").write_bytes(b"other")
    assert CliRunner().invoke(app, ["models", "verify", path]).exit_code == 1


def test_a_file_known_to_be_wrong_is_refused_whatever_is_trusted(
    define: Callable[..., Path], mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mh_1,) = load_model("mace-mh-1").weights.files
    (wrong,) = mh_1.refused
    assert "MACE-MH-1" in trust.known_wrong()[wrong]
    monkeypatch.setattr(trust, "known_wrong", lambda: {SHA256: "MACE-MH-1: another file"})
    own = tmp_path / "mace-mh-1.model"
    own.write_bytes(CONTENT)
    for given in ({"weights": own}, {}):
        with raises_code("wrong-weights", "MACE-MH-1"):
            resolve_model(load_model(define()), environment=ENVIRONMENT, trust_weights=True, **given)


# one model per charge

SPRINGS = """
from pathlib import Path
import numpy as np
from ase.calculators.calculator import Calculator, all_changes


class Springs(Calculator):
    implemented_properties = ["energy", "forces"]

    def __init__(self, strength):
        super().__init__()
        self.strength, self.parameters_count = strength, 1

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        vectors = atoms.get_all_distances(mic=True, vector=True)
        self.results = {
            "energy": 0.5 * self.strength * float((vectors**2).sum()) / 2,
            "forces": self.strength * vectors.sum(1),
        }


def make(weights):
    return Springs(float(Path(weights).read_text()))
"""
STRENGTHS = {-1: 0.1, 0: 0.2, 1: 0.4}


@pytest.fixture
def per_charge(tmp_path: Path) -> Callable[..., ResolvedModel]:
    (tmp_path / "per_charge_springs.py").write_text(SPRINGS)
    for charge, strength in STRENGTHS.items():
        (tmp_path / f"{charge}.txt").write_text(str(strength))

    def resolve(charges: dict[str, int] | None = None) -> ResolvedModel:
        content = {
            "id": "mine",
            "name": "Mine",
            "adapter": "ase_calculator",
            "level_of_theory": "none",
            "arguments": {"factory": "per_charge_springs:make"},
            "charge": {"how": "weights"},
            "weights": {
                "source": "path",
                "files": [{"path": path, "charge": q} for path, q in (charges or {f"{q}.txt": q for q in STRENGTHS}).items()],
            },
        }
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
        return resolve_model(
            load_model(tmp_path / "mine.yaml"), folder=tmp_path, environment=ENVIRONMENT, trust_code=True, trust_weights=True
        )

    return resolve


def molecule() -> Atoms:
    return Atoms("H3", positions=[[0, 0, 0], [1.1, 0, 0], [0.1, 1.3, 0.2]], cell=[9, 9, 9], pbc=True)


def test_each_charge_runs_with_its_own_weights(per_charge: Callable[..., ResolvedModel]) -> None:
    spec = per_charge().worker_spec()
    model = load_adapter(spec, check_weights(spec["weights"]))
    assert model.charge == "weights"
    assert model.parameters == 3
    atoms = molecule()
    energies = {}
    for charge in (-1, 1, 0, -1):
        model.prepare(atoms, charge)
        energies[charge] = atoms.get_potential_energy()
        assert model.charge_handed_over() == charge
    np.testing.assert_allclose([energies[q] / energies[0] for q in STRENGTHS], [0.5, 1, 2])
    for charge in (None, 2):
        with pytest.raises(WorkerError) as refused:
            model.prepare(atoms, charge)
        assert refused.value.kind == "charge"


def test_the_certificate_asks_at_the_charges_that_have_weights(per_charge: Callable[..., ResolvedModel]) -> None:
    resolved = per_charge()
    calculation = certificate_calculation(resolved.definition, molecule(), (-3, -2, -1, 0, 1, 2))
    assert calculation.options["charges"] == [-1, 0, 1]
    spec = resolved.worker_spec()
    model = load_adapter(spec, check_weights(spec["weights"]))
    measured = certify(model, calculation.to_json())
    assert measured["status"] == "ok"
    assert len({round(energy, 6) for energy in measured["energies"]}) == 3


def test_which_charge_a_file_is_for_is_part_of_the_identity(per_charge: Callable[..., ResolvedModel]) -> None:
    plain, swapped = per_charge(), per_charge({"-1.txt": 1, "0.txt": 0, "1.txt": -1})
    assert plain.weights_sha256 == swapped.weights_sha256
    assert plain.identity != swapped.identity
    assert (plain.weights_charges["-1.txt"], swapped.weights_charges["-1.txt"]) == (-1, 1)


def test_weights_for_each_charge_are_not_replaced_by_one_file(per_charge: Callable[..., ResolvedModel], tmp_path: Path) -> None:
    with raises_code("bad-model"):
        resolve_model(
            per_charge().definition,
            weights=tmp_path / "0.txt",
            folder=tmp_path,
            environment=ENVIRONMENT,
            trust_code=True,
            trust_weights=True,
        )
