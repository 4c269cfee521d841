"""The vector kernels give what CP2K's own loops give, and are refused where they do not fit."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from reference_dft import vector_kernels
from reference_dft.cli import main
from reference_dft.cp2k_input import RunOptions, write_input
from reference_dft.cp2k_output import parse_output
from reference_dft.cp2k_schema import Cp2kMethod
from reference_dft.vector_kernels import with_vector_kernels
from refusals import raises_code
from tiny_dataset import METHOD, write_tiny_dataset

from defectbench.base.errors import RunError

pytestmark = pytest.mark.slow


def known_program() -> str | None:
    """Debian's program, if this machine has it and can run the kernels."""
    program = shutil.which("cp2k.psmp")
    if program is None:
        return None
    try:
        with_vector_kernels([program], Path(os.environ.get("TMPDIR", "/tmp")) / f"vector-kernels-{os.getpid()}")
    except RunError:
        return None
    return program


@pytest.fixture(scope="module")
def program() -> str:
    found = known_program()
    if found is None:
        pytest.skip("Debian's cp2k 2023.1-2 on a processor with AVX2 is not here")
    return found


@pytest.mark.parametrize(("charge", "unrestricted"), [(0, True), (-1, False)])
def test_energy_and_forces_are_those_of_the_program_itself(program: str, tmp_path: Path, charge: int, unrestricted: bool) -> None:
    kinds = {
        "Se": {"basis_set": "DZVP-MOLOPT-SR-GTH", "potential": "GTH-PBE-q6", "valence_electrons": 6},
        "Sb": {"basis_set": "DZVP-MOLOPT-SR-GTH", "potential": "GTH-PBE-q5", "valence_electrons": 5},
    }
    scf = {"minimizer": "DIIS", "energy_gap": 0.02, "eps_scf": 1e-6, "max_scf": 60, "outer_max_scf": 2}
    method = Cp2kMethod.model_validate({**METHOD, "kinds": kinds, "cutoff_ry": 60.0, "scf_restricted": scf, "scf_unrestricted": scf})
    # across the corner of a cell that is smaller than the Gaussians, so that lines of the grid wrap and coincide
    atoms = Atoms("Se2Sb", positions=[[0.2, 0.1, 0.3], [2.1, 0.9, 5.0], [4.4, 3.1, 0.4]], cell=[5.5, 6.0, 5.2], pbc=True)
    found = {}
    for name, command in {"own": [program], "vector": with_vector_kernels([program], tmp_path)}.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "input.inp").write_text(write_input(method, atoms, charge, RunOptions("ENERGY_FORCE")))
        line = [*command, "-i", "input.inp", "-o", "out"]
        done = subprocess.run(line, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        assert ("vector kernels: in use" in done.stderr) is (name == "vector")
        (found[name],) = parse_output((folder / "out").read_text()).evaluations
        assert (found[name].s_squared is not None) is unrestricted
    assert found["vector"].energy == pytest.approx(found["own"].energy, abs=1e-7)
    np.testing.assert_allclose(found["vector"].forces, found["own"].forces, atol=1e-5)


def test_another_program_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "cp2k.psmp"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    with raises_code("run-failed", other):
        with_vector_kernels([str(other)], tmp_path)
    folder = write_tiny_dataset(tmp_path / "tiny")
    code = main([str(folder), "--work", str(tmp_path / "work"), "--cp2k", str(other), "--vector-kernels"])
    assert code == RunError.exit_code
    assert capsys.readouterr().err.count("\n") == 1


def test_an_older_processor_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "cp2k.psmp"
    program.write_bytes(b"stands for the real one")
    monkeypatch.setattr(vector_kernels, "KNOWN_PROGRAMS", {hashlib.sha256(program.read_bytes()).hexdigest(): "this"})
    monkeypatch.setattr(vector_kernels, "_processor_flags", lambda: {"sse2", "fma"})
    with raises_code("run-failed", "AVX2"):
        with_vector_kernels([str(program)], tmp_path)
