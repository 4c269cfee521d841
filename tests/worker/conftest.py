from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import bulk

from defectbench.calculations.client import WorkerClient, WorkerSpec
from defectbench.models.environment import PythonEnvironment, ensure_environment
from defectbench.models.registry import definition_folder, load_model
from defectbench.models.resolved import resolve_model


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFECTBENCH_CACHE", str(cache))


@pytest.fixture(scope="session")
def current() -> PythonEnvironment:
    return ensure_environment("current")


@pytest.fixture
def crystal() -> Atoms:
    """A rattled vacancy in a small rock-salt crystal, 15 atoms in a cell that is not orthorhombic."""
    atoms = bulk("NaCl", "rocksalt", a=5.8, cubic=True).repeat((2, 1, 1))
    del atoms[5]
    atoms.positions += np.random.default_rng(1).normal(scale=0.1, size=atoms.positions.shape)
    atoms.set_cell(atoms.cell.array + np.array([[0, 0.3, 0], [0, 0, 0.2], [0.1, 0, 0]]), scale_atoms=True)
    return atoms


def write_definition(folder: Path, factory: str = "fake_models:springs", **fields: Any) -> Path:
    """Writes a model YAML beside a copy of ``fake_models.py``."""
    folder.mkdir(exist_ok=True)
    shutil.copy(Path(__file__).parent / "fake_models.py", folder)
    content: dict[str, Any] = {
        "id": "fake",
        "name": "fake",
        "adapter": "ase_calculator",
        "arguments": {"factory": factory, **fields.pop("arguments", {})},
        "level_of_theory": "none",
        **fields,
    }
    path = folder / "model.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def write_model(tmp_path: Path) -> Callable[..., Path]:
    def write(factory: str = "fake_models:springs", **fields: Any) -> Path:
        return write_definition(tmp_path, factory, **fields)

    return write


@pytest.fixture(scope="session")
def _pool() -> Iterator[dict[str, WorkerClient]]:
    clients: dict[str, WorkerClient] = {}
    yield clients
    for client in clients.values():
        client.close()


@pytest.fixture
def start(
    _pool: dict[str, WorkerClient], current: PythonEnvironment, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., WorkerClient]:
    """A worker with a fake model. Starting one costs seconds of imports, so tests with the same model share it."""

    def begin(factory: str = "fake_models:springs", **fields: Any) -> WorkerClient:
        key = json.dumps([factory, fields], sort_keys=True)
        if key not in _pool:
            path = write_definition(tmp_path_factory.mktemp("model"), factory, **fields)
            resolved = resolve_model(load_model(path), folder=definition_folder(path), environment=current, trust_code=True)
            client = WorkerClient(WorkerSpec.of(current, resolved))
            client.model = resolved
            client.start()
            _pool[key] = client
        return _pool[key]

    return begin


@pytest.fixture
def start_own(write_model: Callable[..., Path], current: PythonEnvironment) -> Iterator[Callable[..., WorkerClient]]:
    """A worker that no other test sees: to kill it, or with weights of its own."""
    clients = []

    def begin(
        factory: str = "fake_models:springs", *, trust_weights: bool = False, weights: Path | None = None, **fields: Any
    ) -> WorkerClient:
        path = write_model(factory, **fields)
        resolved = resolve_model(
            load_model(path),
            folder=definition_folder(path),
            environment=current,
            trust_code=True,
            trust_weights=trust_weights,
            weights=weights,
        )
        client = WorkerClient(WorkerSpec.of(current, resolved))
        client.model = resolved
        clients.append(client)
        client.start()
        return client

    yield begin
    for client in clients:
        client.close()
