"""Real packages in their managed environments. DEFECTBENCH_TEST_ENVIRONMENTS=/folder with <name>/bin/python saves building them."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase import Atoms
from refusals import raises_code

from defectbench.calculations.asking import Ask
from defectbench.calculations.client import CODES, WorkerClient, WorkerSpec, worker_environment, worker_folder
from defectbench.calculations.plan import certificate_calculation
from defectbench.calculations.requests import Calculation, Protocol, Structure
from defectbench.models.certificate import ChargeCertificate, check_claim, classify
from defectbench.models.environment import PythonEnvironment, ensure_environment, list_environments
from defectbench.models.registry import definition_folder, load_model
from defectbench.models.resolved import ResolvedModel, resolve_model
from defectbench.sanity.structures import crystal as crystal_of
from defectbench.sanity.structures import tetrahedral_site, with_interstitials

pytestmark = pytest.mark.model
HERE = Path(__file__).parent
BEFORE_3 = json.loads((HERE / "matgl_before_3.json").read_text())


@functools.cache
def environment(name: str) -> PythonEnvironment:
    given = os.environ.get("DEFECTBENCH_TEST_ENVIRONMENTS")
    return ensure_environment(Path(given) / name) if given else ensure_environment(name)


@pytest.fixture
def crystal() -> Atoms:
    """Rattled rock-salt SbSe with a vacancy, 15 atoms, in a slightly skewed cell."""
    s = BEFORE_3["structure"]
    return Atoms(s["symbols"], positions=s["positions"], cell=s["cell"], pbc=True)


def resolved(model: str | Path, **options: Any) -> tuple[PythonEnvironment, ResolvedModel]:
    definition = load_model(model)
    python = environment(definition.environment)
    return python, resolve_model(definition, environment=python, folder=definition_folder(model), **options)


@pytest.fixture(scope="module")
def _last_workers() -> Iterator[list[WorkerClient]]:
    clients: list[WorkerClient] = []
    yield clients
    for client in clients:
        client.close()


@pytest.fixture
def start(_last_workers: list[WorkerClient]) -> Callable[..., WorkerClient]:
    """A worker with a model. Imports take longer than most calculations: a test gets one of the last two workers if it has that model."""

    def begin(model: str | Path, **options: Any) -> WorkerClient:
        python, found = resolved(model, **options)
        for client in _last_workers:
            if (client.model.identity, client.spec.python) == (found.identity, python.python):
                return client
        client = WorkerClient(WorkerSpec.of(python, found))
        client.model = found
        client.start()
        _last_workers.append(client)
        if len(_last_workers) > 2:
            _last_workers.pop(0).close()
        return client

    return begin


LOADS = """
import json, sys
sys.path.insert(0, sys.argv[1])
from defectbench_worker.errors import WorkerError
from defectbench_worker.main import load
refused = []
for spec in json.load(sys.stdin):
    try:
        load(spec)
        refused.append(["", "loaded"])
    except WorkerError as error:
        refused.append([error.kind, str(error)])
print("\\n" + json.dumps(refused))
"""
"""What a worker does with the specification in its hello, several times in one process."""


def check_that_workers_refuse(models: Sequence[tuple[PythonEnvironment, ResolvedModel]], expected: Sequence[tuple[str, str]]) -> None:
    """Each model is refused with its code and a message that names its text."""
    variables = worker_environment(1, "cpu", None)
    command = [str(models[0][0].python), "-s", "-c", LOADS, str(worker_folder().parent)]
    specs = json.dumps([model.worker_spec() for _, model in models])
    done = subprocess.run(command, input=specs, capture_output=True, text=True, env=variables, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert [CODES.get(kind, kind) for kind, _ in found] == [code for code, _ in expected], found
    for (_, message), (_, named) in zip(found, expected, strict=True):
        assert named in message


def single(client: WorkerClient, atoms: Atoms, charge: int | None = None) -> tuple[float, np.ndarray]:
    result = client.calculate(Calculation("single_point", Structure.from_atoms(atoms), charge))
    assert result.status == "ok", result
    return result.energy, np.array(result.forces)


def certify(client: WorkerClient, atoms: Atoms, charges: tuple[int, ...] = (-1, 0, 1)) -> ChargeCertificate:
    certificate = classify(client.calculate(certificate_calculation(client.model.definition, atoms, charges)).model_dump(mode="json"))
    check_claim(certificate, client.model.definition)
    return certificate


def assert_descriptors(client: WorkerClient, atoms: Atoms, charge: int | None = None) -> np.ndarray:
    result = client.calculate(Calculation("descriptors", Structure.from_atoms(atoms), charge))
    assert result.status == "ok", result
    features = np.array(result.descriptors)
    assert len(features) == len(atoms)
    turned = atoms.copy()
    turned.rotate(40, (1, 2, 3), rotate_cell=True)
    other = client.calculate(Calculation("descriptors", Structure.from_atoms(turned), charge))
    np.testing.assert_allclose(other.descriptors, features, atol=2e-3 * np.abs(features).max())
    return features


@pytest.mark.parametrize("name", ["sevennet-0", "sevennet-mf-0", "chgnet-0.3.0"])
def test_models_from_wheels(start: Callable[..., WorkerClient], crystal: Atoms, name: str) -> None:
    client = start(name)
    definition = client.model.definition
    assert client.ready["parameters"] == definition.weights.parameters
    assert [w["sha256"] for w in client.ready["weights"]] == [f.sha256 for f in definition.weights.files]
    certificate = certify(client, crystal)
    assert certificate.charge_class == "charge-blind"
    assert certificate.failed == ()
    assert_descriptors(client, crystal)
    relaxed = client.calculate(Calculation("relaxation", Structure.from_atoms(crystal), None)).relaxation()
    assert relaxed.status == "converged"
    assert relaxed.energies[-1] < relaxed.energies[0] - 0.1
    structures = [crystal, rattled(crystal, 1), rattled(crystal, 2), crystal.repeat((1, 1, 2))]
    same_in_a_batch(client, structures, (None,), 5, 1e-4, 1e-4)


def test_a_package_gives_the_stress_that_a_lattice_of_its_own_and_a_path_need(start: Callable[..., WorkerClient]) -> None:
    """The neutral suite on one cubic cell of silicon: host, interstitial, and the way to the next site."""
    client = start("chgnet-0.3.0")
    host, ask = crystal_of("Si", 1), Ask(takes_charge=False)
    whole = client.calculate(ask.own_lattice(host, 0, host))
    assert whole.status == "converged", whole
    assert 5.2 < whole.cell[0][0] < 5.7
    places = [tetrahedral_site(host, 1, offset) for offset in ((0.0, 0.0, 0.0), (0.25, 0.25, 0.25))]
    relaxed = [client.calculate(ask.own_lattice(with_interstitials(host, [place]), 0, host)) for place in places]
    assert [result.cell for result in relaxed] == [whole.cell] * 2
    ends = []
    for place, result in zip(places, relaxed, strict=True):
        atoms = with_interstitials(host, [place])
        atoms.positions = np.array(result.positions)
        atoms.set_cell(whole.cell, scale_atoms=True)
        ends.append(atoms)
    options = {"images": 1, "fmax": 0.5, "max_steps": 3, "last": Structure.from_atoms(ends[1]).to_json()}
    path = client.calculate(Calculation("path", Structure.from_atoms(ends[0]), None, options=options))
    assert path.status in ("converged", "unconverged"), path
    assert path.energies[0] == pytest.approx(relaxed[0].energy, abs=1e-3)


def test_nequix(start: Callable[..., WorkerClient], crystal: Atoms, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFECTBENCH_WEIGHTS_MIRROR", str(shared / "weights"))
    client = start("nequix-mp-1")
    assert client.ready["parameters"] == client.model.definition.weights.parameters
    certificate = certify(client, crystal)
    assert certificate.charge_class == "charge-blind"
    assert certificate.failed == ()
    assert client.calculate(Calculation("descriptors", Structure.from_atoms(crystal), None)).status == "unsupported"


def test_nequix_reads_no_other_format(start: Callable[..., WorkerClient], tmp_path: Path) -> None:
    """What does not end in ``.nqx`` the package would unpickle."""
    content = load_model("nequix-mp-1").model_dump(mode="json")
    (tmp_path / "a.pt").write_bytes(b"weights")
    weights = {"source": "path", "files": [{"path": "a.pt"}]}
    (tmp_path / "m.yaml").write_text(yaml.safe_dump({**content, "weights": weights}))
    with raises_code("wrong-weights", "a.pt"):
        start(tmp_path / "m.yaml", trust_weights=True)


def test_a_misspelt_modal_is_refused(start: Callable[..., WorkerClient], tmp_path: Path) -> None:
    content = load_model("sevennet-mf-0").model_dump(mode="json")
    content["arguments"]["modal"] = "PBEE"
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(content))
    with raises_code("bad-head", "PBEE"):
        start(tmp_path / "m.yaml")


@pytest.mark.parametrize("name", sorted(BEFORE_3["results"]))
def test_matgl_weights_give_what_their_own_release_gave(
    start: Callable[..., WorkerClient], crystal: Atoms, shared: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("DEFECTBENCH_WEIGHTS_MIRROR", str(shared / "weights"))
    client = start(name)
    hears = client.model.definition.charge.how != "none"
    for charge, expected in BEFORE_3["results"][name].items():
        energy, forces = single(client, crystal, int(charge) if hears else None)
        assert energy == pytest.approx(expected["energy"], abs=2e-4)
        np.testing.assert_allclose(forces, expected["forces"], atol=2e-4)
    certificate = certify(client, crystal.repeat((1, 2, 2)) if hears else crystal, (-2, -1, 0, 1))
    assert certificate.charge_class == ("energy-only" if hears else "charge-blind")
    assert certificate.failed == ()
    assert_descriptors(client, crystal, 0 if hears else None)
    if name in ("m3gnet-mp-2021", "qet-matq"):
        charges = (-2, 0, 1) if hears else (None,)
        same_in_a_batch(client, [crystal, crystal.repeat((2, 1, 1))], charges, 5, 1e-4, 1e-4)
    if hears:  # QET spreads a charge over the whole cell: its force response falls as one over the number of atoms
        small = certify(client, crystal, (-2, -1, 0, 1))
        assert small.force_change == pytest.approx(4 * certificate.force_change, rel=0.3)


def test_matgl_weights_of_unknown_age_are_refused(shared: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DEFECTBENCH_WEIGHTS_MIRROR", str(shared / "weights"))
    content = load_model("tensornet-matpes-pbe").model_dump(mode="json")
    models = []
    for arguments in ({}, {"trained_before_matgl_3": False}):
        (tmp_path / "m.yaml").write_text(yaml.safe_dump({**content, "arguments": arguments}))
        models.append(resolved(tmp_path / "m.yaml"))
    check_that_workers_refuse(models, [("bad-adapter", "trained_before_matgl_3"), ("wrong-weights", "trained_before_matgl_3")])


@functools.cache
def _make(name: str, kind: str, folder: Path) -> None:
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [str(environment(name).python), str(HERE / f"make_{kind}.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture
def tiny(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Callable[..., Path]:
    """Makes the package's tiny model once, and writes a definition that points at it."""
    folder = tmp_path_factory.getbasetemp() / "tiny"
    folder.mkdir(exist_ok=True)

    def write(kind: str, file: str, **fields: Any) -> Path:
        _make(fields.get("environment", kind), kind, folder)
        content = {
            "id": "tiny",
            "name": "tiny",
            "environment": kind,
            "adapter": kind,
            "level_of_theory": "none",
            "weights": {"source": "path", "files": [{"path": str(folder / file)}]},
            **fields,
        }
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


@pytest.mark.parametrize(
    ("kind", "file", "parameters", "descriptors"),
    [
        ("grace", "grace", 152, False),
        ("mattersim", "mattersim.pth", 12212, True),
        ("upet", "pet.ckpt", 1546, False),
        ("mace", "plain.model", 21360, True),
    ],
)
def test_tiny_models_in_their_own_format(
    start: Callable[..., WorkerClient], tiny: Callable[..., Path], crystal: Atoms, kind: str, file: str, parameters: int, descriptors: bool
) -> None:
    path = tiny(kind, file)
    with raises_code("untrusted-model", "--trust-weights"):
        start(path)
    client = start(path, trust_weights=True)
    assert client.ready["parameters"] == parameters
    certificate = certify(client, crystal)
    assert certificate.charge_class == "charge-blind"
    # PET learns that a rotation changes nothing; random numbers have not
    assert {check.name for check in certificate.failed} == ({"rotation"} if kind == "upet" else set())
    assert np.abs(single(client, crystal)[1]).max() > 1e-3  # a model that says something
    if kind in ("mattersim", "upet"):
        same_in_a_batch(client, [crystal, crystal.repeat((2, 1, 1))], (None,), 5, 1e-4, 1e-4)
    if descriptors:
        assert_descriptors(client, crystal)
    else:
        assert client.calculate(Calculation("descriptors", Structure.from_atoms(crystal), None)).status == "unsupported"


def test_mace_in_single_precision(start: Callable[..., WorkerClient], tiny: Callable[..., Path], crystal: Atoms) -> None:
    double = start(tiny("mace", "plain.model"), trust_weights=True)
    reference = single(double, crystal)
    client = start(tiny("mace", "plain.model", arguments={"dtype": "float32"}), trust_weights=True)
    assert client.ready["capabilities"]["precision"] == "float32"
    assert single(client, crystal)[0] == pytest.approx(reference[0], abs=1e-3)


def test_mace_hears_charge_and_head(start: Callable[..., WorkerClient], tiny: Callable[..., Path], crystal: Atoms) -> None:
    hse = start(tiny("mace", "charged.model", arguments={"head": "HSE06"}, charge={"how": "total_charge"}), trust_weights=True)
    pbe = start(tiny("mace", "charged.model", arguments={"head": "PBE"}, charge={"how": "info:total_q"}), trust_weights=True)
    assert hse.ready["capabilities"]["charge_range"] == [-3, 1]
    energies = {q: single(hse, crystal, q)[0] for q in (-3, 0, 1, 0)}
    assert len({round(e, 6) for e in energies.values()}) == 3
    assert single(pbe, crystal, -3)[0] != pytest.approx(energies[-3], abs=0.1)
    certificate = certify(hse, crystal, (-3, -2, -1, 0, 1))
    assert certificate.charge_class == "charge-aware"
    assert {check.name for check in certificate.failed} == {"charge_response_size_consistent"}
    assert certificate.size_ratio == pytest.approx(2.0)
    assert certificate.descriptor_change is not None
    assert certificate.descriptor_change > 0.01
    np.testing.assert_raises(
        AssertionError, np.testing.assert_allclose, assert_descriptors(hse, crystal, -3), assert_descriptors(hse, crystal, 1)
    )
    refused = hse.calculate(Calculation("single_point", Structure.from_atoms(crystal), 2))
    assert refused.status == "failed"
    assert "+2" in refused.failure


def test_mace_relaxations_at_two_charges_differ(start: Callable[..., WorkerClient], tiny: Callable[..., Path], crystal: Atoms) -> None:
    client = start(tiny("mace", "charged.model", arguments={"head": "HSE06"}, charge={"how": "total_charge"}), trust_weights=True)
    first, second = (client.calculate(Calculation("relaxation", Structure.from_atoms(crystal), q)).relaxation() for q in (-3, 1))
    assert first.energies[0] == pytest.approx(single(client, crystal, -3)[0])
    assert second.energies[0] == pytest.approx(single(client, crystal, 1)[0])


def test_mace_in_a_batch_of_several_charges(start: Callable[..., WorkerClient], tiny: Callable[..., Path], crystal: Atoms) -> None:
    client = start(tiny("mace", "charged.model", arguments={"head": "HSE06"}, charge={"how": "total_charge"}), trust_weights=True)
    same_in_a_batch(client, [crystal, crystal.repeat((2, 1, 1))], (-3, 0, 1), 20, 1e-8, 1e-8)


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"arguments": {"head": "HSE6"}, "charge": {"how": "total_charge"}}, "bad-head", "HSE6"),
    ({"charge": {"how": "total_charge"}}, "bad-head", "PBE, HSE06"),
    ({"arguments": {"head": "PBE"}}, "bad-charge", "total_charge"),
    ({"arguments": {"head": "PBE", "charge_embedding": "q"}, "charge": {"how": "total_charge"}}, "bad-charge", "'q'"),
    ({"arguments": {"head": "PBE", "dtype": "float16"}, "charge": {"how": "total_charge"}}, "bad-adapter", "float16"),
    ({"arguments": {"headd": "PBE"}, "charge": {"how": "total_charge"}}, "bad-adapter", "headd"),
]


def test_mace_refuses_what_would_be_ignored(tiny: Callable[..., Path]) -> None:
    models = [resolved(tiny("mace", "charged.model", **fields), trust_weights=True) for fields, _, _ in REFUSED]
    check_that_workers_refuse(models, [(code, named) for _, code, named in REFUSED])


def test_orb(start: Callable[..., WorkerClient], tiny: Callable[..., Path], crystal: Atoms) -> None:
    """Weights of full size with random numbers: the package offers no smaller architecture."""
    blind = {"architecture": "orb-v3-conservative-inf-omat"}
    with raises_code("wrong-weights", "does not hold the weights of"):
        start(tiny("orb", "orbmol.ckpt", arguments=blind), trust_weights=True)
    client = start(tiny("orb", "orb.ckpt", arguments=blind), trust_weights=True)
    certificate = certify(client, crystal)
    assert certificate.charge_class == "charge-blind"
    features = client.calculate(Calculation("descriptors", Structure.from_atoms(crystal), None))
    assert np.shape(features.descriptors) == (len(crystal), 256)
    same_in_a_batch(client, [crystal, crystal.repeat((2, 1, 1))], (None,), 5, 1e-4, 1e-4)


def test_orbmol_takes_charges(start: Callable[..., WorkerClient], tiny: Callable[..., Path], crystal: Atoms) -> None:
    charged = {"architecture": "orb-v3-conservative-omol"}
    with raises_code("bad-charge", "takes a total charge"):
        start(tiny("orb", "orbmol.ckpt", arguments=charged), trust_weights=True)
    client = start(tiny("orb", "orbmol.ckpt", arguments=charged, charge={"how": "total_charge"}), trust_weights=True)
    assert len({round(single(client, crystal, q)[0], 4) for q in (-1, 0, 1)}) == 3
    same_in_a_batch(client, [crystal, crystal.repeat((2, 1, 1))], (-1, 1), 5, 1e-4, 1e-4)


def test_polarisable_mace_responds_to_charge(start: Callable[..., WorkerClient], tiny: Callable[..., Path], crystal: Atoms) -> None:
    if not next(status.built for status in list_environments() if status.name == "mace-polar"):
        pytest.skip("one more environment with torch takes minutes: 'defectbench environments create mace-polar'")
    polar = {"environment": "mace-polar"}
    client = start(tiny("mace", "polar.model", **polar, charge={"how": "total_charge"}), trust_weights=True)
    energies = [single(client, crystal, q)[0] for q in (-1, 0, 1, 0)]
    assert len({round(e, 6) for e in energies}) == 3
    assert energies[3] == pytest.approx(energies[1], abs=1e-9)
    measured = client.calculate(certificate_calculation(client.model.definition, crystal, (-1, 0, 1)))
    certificate = classify(measured.model_dump(mode="json"))
    assert certificate.charge_class != "charge-blind"
    # random weights respond to some charges hardly at all; energies and forces must belong together anyway
    random = {"charge_response_size_consistent", "every_pair", "every_pair_forces"}
    assert {check.name for check in certificate.failed} <= random
    with raises_code("bad-charge", "total_charge"):
        start(tiny("mace", "polar.model", **polar), trust_weights=True)


def in_a_batch(client: WorkerClient, wanted: list[Calculation]) -> dict[str, Any]:
    """The same model again in a worker that takes four structures per call; content hash → result."""
    spec = replace(client.spec, hello={**client.spec.hello, "batch": 4})
    with WorkerClient(spec) as batched:
        assert batched.ready["capabilities"]["batch"] == 4
        return {calculation.content_hash: result for calculation, result in batched.calculate_many(wanted, 4)}


def rattled(atoms: Atoms, seed: int) -> Atoms:
    moved = atoms.copy()
    moved.rattle(0.05, seed=seed)
    return moved


def same_in_a_batch(
    alone: WorkerClient, structures: list[Atoms], charges: tuple[int | None, ...], steps: int, energy: float, position: float
) -> None:
    """Single points of all structures at all charges, and relaxations of the first, one by one and in one batch."""
    given = [Structure.from_atoms(atoms) for atoms in structures]
    wanted = [Calculation("single_point", s, q) for q in charges for s in given]
    wanted += [Calculation("relaxation", given[0], q, Protocol(max_steps=steps)) for q in charges]
    found = in_a_batch(alone, wanted)
    assert len(found) == len(wanted)
    for calculation in wanted:
        one, other = alone.calculate(calculation), found[calculation.content_hash]
        assert other.energy == pytest.approx(one.energy, abs=energy)
        np.testing.assert_allclose(other.forces, one.forces, atol=10 * position)
        if calculation.kind == "relaxation":
            assert (other.status, other.steps) == (one.status, one.steps)
            np.testing.assert_allclose(other.positions, one.positions, atol=position)
