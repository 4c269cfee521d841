from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.optimize import FIRE
from refusals import raises_code

from defectbench.calculations.client import WorkerClient, WorkerDied, WorkerSpec, worker_folder
from defectbench.calculations.executors.local import LocalExecutor
from defectbench.calculations.requests import Calculation, Protocol, Structure
from defectbench.calculations.results import Echo
from defectbench.models.environment import PythonEnvironment
from defectbench.models.registry import definition_folder, load_model
from defectbench.models.resolved import resolve_model

sys.path.insert(0, str(Path(__file__).parent))
from fake_models import Misbehaving, Springs

pytestmark = pytest.mark.slow

sys.path.pop(0)

Start = Callable[..., WorkerClient]
WAYS = Misbehaving.WAYS
HEARS = {"how": "info:charge"}


def relaxation(atoms: Atoms, charge: int | None = None, **protocol: float) -> Calculation:
    return Calculation("relaxation", Structure.from_atoms(atoms), charge, Protocol(**protocol))


def test_the_handshake_describes_the_worker(start: Start) -> None:
    client = start()
    ready = client.ready
    assert ready["versions"]["ase"]
    assert ready["parameters"] == 3
    assert ready["device"] == "cpu"
    assert ready["threads"] == 1
    assert ready["python"] == ".".join(map(str, sys.version_info[:3]))
    assert ready["capabilities"] == {"descriptors": True, "charge": "none", "charge_range": None, "precision": "float64", "batch": 1}


def test_a_relaxation_is_that_of_plain_ase(start: Start, crystal: Atoms) -> None:
    seen: list[tuple[int, float, float]] = []
    answered = start().calculate(relaxation(crystal), lambda *step: seen.append(step))
    assert answered.echo == Echo(charge=None, request=relaxation(crystal).content_hash)
    result = answered.relaxation()

    atoms = Structure.from_atoms(crystal).to_atoms()
    atoms.calc = Springs()
    optimizer = FIRE(atoms, logfile=None)
    optimizer.run(fmax=0.03, steps=1000)
    assert result.status == "converged"
    assert result.steps == optimizer.nsteps
    assert result.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    np.testing.assert_allclose(result.positions, atoms.positions, atol=1e-9)
    assert result.forces is not None
    np.testing.assert_allclose(result.forces, atoms.get_forces(), atol=1e-9)
    assert len(result.energies) == len(result.fmax) == result.steps + 1
    assert result.fmax[-1] < 0.03 <= result.fmax[-2]
    assert result.energies[-1] == result.energy
    assert result.wall_s > 0
    assert result.peak_memory_mb > 10
    assert seen[0][0] == 0


def test_a_step_limit_leaves_it_unconverged(start: Start, crystal: Atoms) -> None:
    result = start().calculate(relaxation(crystal, max_steps=2)).relaxation()
    assert (result.status, result.steps, result.failure) == ("unconverged", 2, None)


@pytest.mark.parametrize(
    ("how", "kind", "words"),
    [
        ("nan_energy", "nan", "not a number"),
        ("nan_forces", "nan", "not a number"),
        ("raise", "exception", "RuntimeError: out of cheese"),
        ("explode", "exploded", "eV/atom"),
        ("scatter", "atom_lost", "from its start"),
        ("collapse", "atoms_too_close", "apart"),
    ],
)
def test_misbehaving_models_leave_a_failed_record(start: Start, crystal: Atoms, how: str, kind: str, words: str) -> None:
    client = start("fake_models:misbehaving", charge=HEARS)
    result = client.calculate(relaxation(crystal, WAYS.index(how))).relaxation()
    assert (result.status, result.failure_kind) == ("failed", kind)
    assert result.failure is not None
    assert words in result.failure
    assert "\n" not in result.failure
    assert len(result.energies) >= 2
    assert np.isfinite(result.energies).all()
    assert np.isfinite(result.positions).all()
    assert client.calculate(Calculation("single_point", Structure.from_atoms(crystal), 0)).status == "ok"  # it lives on


def test_a_start_with_overlapping_atoms_fails_before_the_model_is_asked(start: Start, crystal: Atoms) -> None:
    crystal.positions[3] = crystal.positions[2] + [0.1, 0, 0]
    result = start().calculate(relaxation(crystal)).relaxation()
    assert (result.failure_kind, result.steps, result.energy) == ("atoms_too_close", 0, None)


def test_overlap_is_seen_across_the_faces_of_a_skewed_cell(start: Start, crystal: Atoms) -> None:
    crystal.positions[3] = crystal.positions[2] + crystal.cell.array.sum(axis=0) + [0.0, 0.1, 0.0]
    assert start().calculate(relaxation(crystal)).failure_kind == "atoms_too_close"


def test_printing_models_do_not_disturb_the_protocol(start: Start, crystal: Atoms) -> None:
    client = start("fake_models:chatty")
    assert client.calculate(relaxation(crystal)).status == "converged"


@pytest.mark.parametrize(("how", "words"), [("die", "SIGSEGV"), ("exit", "exit code 7")])
def test_a_dead_worker_is_told_with_its_last_words(start_own: Start, crystal: Atoms, how: str, words: str) -> None:
    client = start_own("fake_models:misbehaving", charge=HEARS)
    with raises_code("worker-died", words) as caught:
        client.calculate(relaxation(crystal, WAYS.index(how)))
    assert isinstance(caught.value, WorkerDied)
    if how == "die":
        assert "last words before the crash" in str(caught.value)
        assert caught.value.returncode == -signal.SIGSEGV


def test_a_killed_worker_is_told(start_own: Start, crystal: Atoms) -> None:
    client = start_own("fake_models:misbehaving", charge=HEARS)
    assert client.pid is not None
    threading.Timer(3.0, os.kill, (client.pid, signal.SIGKILL)).start()
    with raises_code("worker-died", "SIGKILL", "memory"):
        client.calculate(relaxation(crystal, WAYS.index("hang")))


def test_silence_ends_in_an_error(start_own: Start, crystal: Atoms) -> None:
    client = start_own("fake_models:misbehaving", charge=HEARS)
    with raises_code("worker-timeout"):
        client.calculate(relaxation(crystal, WAYS.index("hang")), timeout_s=1.0)


ORPHAN = """
import os, signal, sys, threading
from ase.build import bulk
from defectbench.calculations.requests import Calculation, Structure
from defectbench.calculations.client import WorkerClient, WorkerSpec
from defectbench.models.environment import ensure_environment
from defectbench.models.registry import definition_folder, load_model
from defectbench.models.resolved import resolve_model
path, charge = sys.argv[1], int(sys.argv[2])
environment = ensure_environment("current")
resolved = resolve_model(load_model(path), environment=environment, folder=definition_folder(path), trust_code=True)
client = WorkerClient(WorkerSpec.of(environment, resolved))
client.start()
print(client.pid, flush=True)
atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
atoms.rattle(0.1)
threading.Timer(4.0, os.kill, (os.getpid(), signal.SIGKILL)).start()
client.calculate(Calculation("relaxation", Structure.from_atoms(atoms), charge))
print("the calculation came back", flush=True)
"""


def test_a_worker_ends_with_its_parent(write_model: Callable[..., Path]) -> None:
    path = write_model("fake_models:misbehaving", charge=HEARS)
    command = [sys.executable, "-c", ORPHAN, str(path), str(WAYS.index("hang"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    child = int(done.stdout)  # nothing after the number: the worker was in mid-calculation
    for _ in range(60):
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("the worker outlived its parent")


def running(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("how", ["close", "hang", "exit"])
def test_what_a_calculator_started_ends_with_its_worker(start_own: Start, crystal: Atoms, tmp_path: Path, how: str) -> None:
    client = start_own("fake_models:with_child", charge=HEARS, arguments={"note": str(tmp_path / "child")})
    began = time.monotonic()
    if how == "hang":
        threading.Timer(1.0, client.close).start()
    if how != "close":
        with raises_code("worker-died"):
            client.calculate(relaxation(crystal, WAYS.index(how)))
    child = int((tmp_path / "child").read_text())
    client.close()
    ended = time.monotonic()
    while running(child) and time.monotonic() - ended < 5:  # a process that was killed shows as running for a moment
        time.sleep(0.02)
    assert not running(child)
    assert ended - began < 30  # the child would run for minutes


def test_close_ends_the_process(start_own: Start) -> None:
    client = start_own()
    pid = client.pid
    assert pid is not None
    client.close()
    client.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_model_that_takes_one_structure_per_call_is_given_one_and_this_is_recorded(start: Start, crystal: Atoms) -> None:
    spec = start().spec
    wanted = [relaxation(crystal, max_steps=steps) for steps in (1, 2, 3)]
    done = list(LocalExecutor(spec, 1, batch=64).run(wanted))
    assert [one.calculation.content_hash for one in done] == [calculation.content_hash for calculation in wanted]
    assert {one.machine.batch for one in done} == {1}


def test_two_clients_run_side_by_side(start: Start, start_own: Start, crystal: Atoms) -> None:
    first, second = start(), start_own()
    results: dict[int, float] = {}

    def work(number: int, client: WorkerClient) -> None:
        results[number] = client.calculate(relaxation(crystal)).energy

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate((first, second))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("factory", "code", "named"),
    [
        ("no_such_module:make", "missing-package", "no_such_module"),
        ("fake_models:no_such_function", "bad-adapter", "no_such_function"),
        ("fake_models:broken", "bad-adapter", "ValueError: no such model"),
        ("fake_models:not_a_calculator", "bad-adapter", "not_a_calculator"),
        ("fake_models", "bad-adapter", "module:function"),
    ],
)
def test_a_factory_that_gives_no_calculator_is_one_line(start_own: Start, factory: str, code: str, named: str) -> None:
    with raises_code(code, named):
        start_own(factory)


def test_a_package_that_is_not_installed_is_one_line(current: PythonEnvironment) -> None:
    if "tensorpotential" in current.packages:
        pytest.skip("tensorpotential is installed here")
    definition = load_model("chgnet-0.3.0")
    if "chgnet" in current.packages:
        pytest.skip("chgnet is installed here")
    with raises_code("missing-package", "chgnet", "current"):
        WorkerClient(WorkerSpec.of(current, resolve_model(definition, environment=current))).start()


@pytest.mark.parametrize("how", ["info:charge", "info:total_q", "argument:charge", "total_charge"])
def test_a_charge_reaches_the_model(start: Start, crystal: Atoms, how: str) -> None:
    arguments = {"energy_per_charge": 0.7}
    if how.startswith("info:"):
        arguments["key"] = how.removeprefix("info:")
    client = start(arguments=arguments, charge={"how": how})
    structure = Structure.from_atoms(crystal)
    energies = {q: client.calculate(Calculation("single_point", structure, q)).energy for q in (0, -2, 1, 0, 1)}
    assert energies[-2] - energies[0] == pytest.approx(-1.4)
    assert energies[1] - energies[0] == pytest.approx(0.7)
    relaxed = client.calculate(relaxation(crystal, -2))
    assert relaxed.echo == Echo(charge=-2, request=relaxation(crystal, -2).content_hash)
    assert relaxed.energies[0] == pytest.approx(energies[-2])


def test_a_model_that_takes_a_charge_gets_one_or_fails(start: Start, crystal: Atoms) -> None:
    client = start(charge={"how": "info:charge"})
    result = client.calculate(Calculation("single_point", Structure.from_atoms(crystal), None))
    assert result.status == "failed"
    assert result.energy is None


def test_a_charge_outside_the_trained_range_is_refused(start: Start, crystal: Atoms) -> None:
    client = start(charge={"how": "info:charge", "range": [-3, 1]})
    assert client.ready["capabilities"]["charge_range"] == [-3, 1]
    result = client.calculate(Calculation("single_point", Structure.from_atoms(crystal), 2))
    assert result.status == "failed"
    assert "+2" in result.failure


def test_descriptors(start: Start, crystal: Atoms) -> None:
    client = start(charge={"how": "info:charge"})
    result = client.calculate(Calculation("descriptors", Structure.from_atoms(crystal), -1))
    features = np.array(result.descriptors)
    assert features.shape == (15, 2)
    np.testing.assert_array_equal(features[:, 1], -1)


def test_an_unknown_kind_is_answered(start: Start, crystal: Atoms) -> None:
    client = start()
    with raises_code("bad-answer"):
        client.calculate(Calculation("magic", Structure.from_atoms(crystal), None))
    assert client.calculate(relaxation(crystal)).status == "converged"


def test_own_weights_need_trust(start_own: Start, crystal: Atoms, tmp_path: Path) -> None:
    weights = tmp_path / "own.txt"
    weights.write_text("0.25")
    with raises_code("untrusted-model", "--trust-weights"):
        start_own("fake_models:with_weights", weights=weights)
    client = start_own("fake_models:with_weights", weights=weights, trust_weights=True, charge={"how": "info:charge"})
    structure = Structure.from_atoms(crystal)
    energies = [client.calculate(Calculation("single_point", structure, q)).energy for q in (0, 1)]
    assert energies[1] - energies[0] == pytest.approx(0.25)
    assert (
        client.ready["weights"][0]["sha256"]
        == resolve_model(client.model.definition, weights=weights, trust_code=True, trust_weights=True).weights_sha256["own.txt"]
    )


def test_weights_that_change_after_the_check_are_refused(
    write_model: Callable[..., Path], current: PythonEnvironment, tmp_path: Path
) -> None:
    weights = tmp_path / "own.txt"
    weights.write_text("0.25")
    path = write_model("fake_models:with_weights", weights={"source": "path", "files": [{"path": "own.txt"}]})
    resolved = resolve_model(load_model(path), folder=definition_folder(path), environment=current, trust_code=True, trust_weights=True)
    weights.write_text("0.50")
    with raises_code("wrong-weights", "own.txt"):
        WorkerClient(WorkerSpec.of(current, resolved)).start()


def test_a_wrong_parameter_count_is_refused(write_model: Callable[..., Path], current: PythonEnvironment, tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("0.25")
    path = write_model("fake_models:with_weights", weights={"source": "path", "files": [{"path": "own.txt"}], "parameters": 4})
    resolved = resolve_model(load_model(path), folder=definition_folder(path), environment=current, trust_code=True, trust_weights=True)
    with raises_code("wrong-weights", "3", "4"):
        WorkerClient(WorkerSpec.of(current, resolved)).start()


def test_the_worker_code_lies_complete_in_the_cache() -> None:
    folder = worker_folder()
    assert (folder / "launch.py").is_file()
    assert (folder / "adapters" / "mace.py").is_file()
    assert folder == worker_folder()
    assert not list(folder.parent.parent.glob(".*"))


def test_the_worker_imports_nothing_but_ase_numpy_and_the_standard_library() -> None:
    code = (
        "import sys, json; sys.path.insert(0, sys.argv[1]);"
        "import defectbench_worker.main, defectbench_worker.relaxation, defectbench_worker.certificate, defectbench_worker.adapters;"
        "print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(worker_folder().parent)], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert not loaded & {"defectbench", "pydantic", "yaml", "pooch", "torch", "rich", "typer"}
