"""The output parser, on excerpts of real CP2K 2023.1 runs of two or three hydrogen atoms."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import Bohr, Hartree
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_dft.cp2k_output import from_cp2k, parse_output, read_trajectory
from reference_dft.job import read_segment

OUTPUTS = Path(__file__).parent / "outputs"
RUNNING = OUTPUTS / "running_segment"


def text(name: str) -> str:
    return (OUTPUTS / name).read_text()


def test_running_open_shell_relaxation() -> None:
    output = parse_output((RUNNING / "out").read_text())
    assert (output.charge, output.multiplicity, output.unrestricted, output.electrons) == (1, 2, True, 1)
    assert [e.step for e in output.evaluations] == [0, 1, 2]
    assert all(e.scf_converged for e in output.evaluations)
    assert all(e.s_squared == pytest.approx(0.75) for e in output.evaluations)
    assert all(e.scf_steps > 0 and e.seconds is not None and e.seconds > 0 for e in output.evaluations)
    assert output.evaluations[2].energy == pytest.approx(-0.7543108383 * Hartree, abs=1e-7)
    assert not output.completed
    assert not output.ended
    assert not output.scf_failed
    assert output.message is None


def test_forces_in_the_output_are_those_of_the_trajectory() -> None:
    output = parse_output((RUNNING / "out").read_text())
    written = read_trajectory(RUNNING / "relax-frc-1.xyz")
    forces = output.evaluations[1].forces
    assert forces is not None
    np.testing.assert_allclose(forces, written[1].values * Hartree / Bohr, atol=1e-7)
    # hydrogen atoms that are too close push each other apart along x
    first = output.evaluations[0].forces
    assert first is not None
    assert first[0, 0] < 0 < first[1, 0]


def test_a_half_written_frame_is_left_out() -> None:
    assert sorted(read_trajectory(RUNNING / "relax-pos-1.xyz")) == [1, 2]
    assert read_trajectory(RUNNING / "no-such-file") == {}


def test_segment_joins_energies_forces_and_positions() -> None:
    segment = read_segment(RUNNING)
    assert [frame.step for frame in segment.frames] == [0, 1, 2]
    np.testing.assert_allclose(segment.frames[0].atoms.positions, [[1.0, 1.0, 1.0], [1.85, 1.2, 1.1]])
    np.testing.assert_allclose(segment.frames[2].atoms.positions[1], [2.15, 1.1945569895, 0.9758583387])
    assert segment.frames[1].energy == pytest.approx(-0.7496009278 * Hartree, abs=1e-7)
    assert segment.stage == "PBE"
    assert not segment.finished_single_point


def test_without_printed_forces_the_trajectory_serves(tmp_path: Path) -> None:
    folder = tmp_path / "segment"
    shutil.copytree(RUNNING, folder)
    out = (folder / "out").read_text()
    cut = "\n".join(line for line in out.splitlines() if "ATOMIC FORCES" not in line)
    (folder / "out").write_text(cut + "\n")
    frames = read_segment(folder).frames
    assert [frame.step for frame in frames] == [1, 2], "step 0 has no forces then"
    np.testing.assert_allclose(frames[0].forces, read_segment(RUNNING).frames[1].forces, atol=1e-6)


def test_positions_of_another_energy_are_not_taken(tmp_path: Path) -> None:
    folder = tmp_path / "segment"
    shutil.copytree(RUNNING, folder)
    path = folder / "relax-pos-1.xyz"
    path.write_text(path.read_text().replace("-0.7496009278", "-0.7596009278"))
    assert [frame.step for frame in read_segment(folder).frames] == [0, 2]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 19_000))
def test_any_beginning_of_an_output_gives_a_beginning_of_its_evaluations(cut: int) -> None:
    whole = (RUNNING / "out").read_text()
    full, part = parse_output(whole), parse_output(whole[:cut])
    assert len(part.evaluations) <= len(full.evaluations)
    for index, evaluation in enumerate(part.evaluations[:-1]):
        assert evaluation.energy == full.evaluations[index].energy
        assert evaluation.step == index
    assert not part.scf_failed
    for evaluation in part.evaluations:
        assert evaluation.forces is None or evaluation.forces.shape == (2, 3)


def test_cp2k_goes_on_without_self_consistency_and_we_see_it() -> None:
    output = parse_output(text("h2_scf_failure.out"))
    assert output.evaluations
    assert not any(e.scf_converged for e in output.evaluations)
    assert output.scf_failed
    assert (output.unrestricted, output.multiplicity, output.electrons) == (False, 1, 2)


def test_failure_shows_before_the_energy_does() -> None:
    whole = text("h2_scf_failure.out")
    cut = whole[: whole.index("ENERGY|")]
    assert "FAILED" in cut
    assert parse_output(cut).scf_failed
    assert parse_output(cut).evaluations == ()


def test_inner_loops_that_end_early_are_no_failure_if_the_outer_loop_converges() -> None:
    output = parse_output(text("h3_hse06_band_edges.out"))
    assert "Leaving inner SCF loop" in text("h3_hse06_band_edges.out")
    assert not output.scf_failed
    assert output.evaluations[0].scf_converged
    assert output.ended


def test_hybrid_single_point_with_band_edges() -> None:
    output = parse_output(text("h3_hse06_band_edges.out"))
    assert len(output.evaluations) == 1
    assert output.evaluations[0].step is None
    assert output.evaluations[0].forces is not None
    assert output.evaluations[0].forces.shape == (3, 3)
    assert output.electrons == 3
    assert output.band_edges is not None
    assert output.band_edges.vbm == pytest.approx(-7.06258, abs=1e-4)
    assert output.band_edges.cbm == pytest.approx(9.71935, abs=1e-4)


def test_abort_message_without_its_drawing() -> None:
    message = parse_output(text("abort.out")).message
    assert message == "The requested basis set <NOSUCH> for element <H> was not found in the basis set files <BASIS_MOLOPT>"


def test_empty_output() -> None:
    output = parse_output("")
    assert output.evaluations == ()
    assert output.charge is None
    assert not output.scf_failed


def test_an_empty_eigenvalue_behind_a_warning_is_found() -> None:
    excerpt = """
  Eigenvalues of the occupied subspace spin            1
 ---------------------------------------------
      -0.36205613     -0.34764290
       0.12345678
 Fermi Energy [eV] :    3.359450
  Lowest Eigenvalues of the unoccupied subspace spin            1
 -----------------------------------------------------
 WARNING : did not converge in ot_eigensolver
 number of iterations          299  exceeded maximum
 current gradient / target gradient   2.0582591814137082E-005  /    1.0000000000000001E-005
       0.19626964

 HOMO - LUMO gap [eV] :    1.241183
"""
    edges = parse_output(excerpt).band_edges
    assert edges is not None
    assert (edges.vbm, edges.cbm) == (pytest.approx(0.12345678 * Hartree), pytest.approx(0.19626964 * Hartree))


def test_cp2k_prints_after_the_first_move_and_repeats_the_end() -> None:
    start = Atoms("H2", positions=[[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]], cell=[5.0, 5.0, 5.0], pbc=True)
    frames = []
    for index, x in enumerate((0.0, 0.1, 0.2, 0.3, 0.3)):
        atoms = start.copy()
        atoms.positions[1, 0] += x
        atoms.info = {"step": index}
        atoms.calc = SinglePointCalculator(atoms, energy=-x, forces=np.zeros((2, 3)))
        frames.append(atoms)
    assert [atoms.info["step"] for atoms in from_cp2k(frames[:3], start)] == [0, 1, 2]
    for index, atoms in enumerate(frames[1:]):
        atoms.info["step"] = index
    assert [atoms.info["step"] for atoms in from_cp2k(frames[1:], start)] == [1, 2, 3]
    assert [atoms.info["step"] for atoms in frames[1:]] == [0, 1, 2, 3], "the given frames are left alone"
