"""Running, resuming, retrying, refusing: with a CP2K that is none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
from reference_dft.cli import main
from reference_dft.describe import BEGIN, END, tables, update_page
from reference_dft.job import read_state
from reference_dft.manager import Manager, exclusive, find_cp2k
from reference_dft.reference_data import ReferenceData
from reference_dft.status import collapsed, rows, summary
from refusals import raises_code
from tiny_dataset import QUEUE, write_tiny_dataset

from defectbench.datasets.catalogue import load_dataset

pytestmark = pytest.mark.slow

RUN = Path(__file__).resolve().parents[2] / "scripts" / "reference" / "run.py"
ONE = "relaxation/PBE/V_H1_q+0_Unperturbed"


def work_through(dataset: Path, fake: Path, **options: object) -> list[str]:
    """Runs the queue (or part of it) to its end; the lines that it reports."""
    lines: list[str] = []
    only = options.pop("only", ("V_H1_q+0_Unperturbed",))
    manager = Manager(ReferenceData(dataset), dataset.parent / "work", only)
    manager.run([str(fake)], 2, poll=0.02, report=lines.append, niceness=0, **options)
    return lines


def frames_of(dataset: Path, charge: int = 0, configuration: str = "Unperturbed") -> list[float]:
    return [float(a.get_potential_energy()) for a in load_dataset(dataset).frames("V_H1", charge, configuration)]


def state_of(dataset: Path, label: str = ONE):
    return read_state(dataset.parent / "work" / label)


def test_whole_queue_ends_in_the_dataset(tiny: Path, fake_cp2k: Path) -> None:
    work_through(tiny, fake_cp2k, only=())
    dataset = load_dataset(tiny)
    for charge in (0, 1):
        minima = dataset.minima("V_H1", charge)
        assert set(minima) == {"Unperturbed", "Dimer"}
        for name in minima:
            frames = dataset.frames("V_H1", charge, name)
            assert [a.info["step"] for a in frames] == list(range(len(frames)))
            assert [a.info["converged"] for a in frames] == [False] * (len(frames) - 1) + [True]
            assert {a.info["spin_multiplicity"] for a in frames} == {1 if charge == 0 else 2}
            assert all(("s_squared" in a.info) == (charge == 1) for a in frames)
            np.testing.assert_allclose(frames[0].positions, dataset.starts("V_H1", charge)[name].positions, atol=1e-6)


def test_forces_are_in_ev_per_angstrom(tiny: Path, fake_cp2k: Path) -> None:
    work_through(tiny, fake_cp2k)
    frames = load_dataset(tiny).frames("V_H1", 0, "Unperturbed")
    energies, x = [a.get_potential_energy() for a in frames], [a.positions[1, 0] for a in frames]
    # on a spring, the mean force between two points is the difference quotient
    quotient = -(energies[1] - energies[0]) / (x[1] - x[0])
    mean = (frames[0].get_forces()[1, 0] + frames[1].get_forces()[1, 0]) / 2
    assert mean == pytest.approx(quotient, rel=1e-4)


def test_a_run_that_dies_goes_on_from_its_last_frame_and_wave_function(
    tiny: Path, fake_cp2k: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_through(tiny, fake_cp2k)
    straight = frames_of(tiny)
    other = write_tiny_dataset(tiny.parent / "other" / "tiny")
    monkeypatch.setenv("FAKE_CP2K_DIE_AT", "3")
    lines = work_through(other, fake_cp2k)
    assert any("cut off" in line for line in lines)
    np.testing.assert_allclose(frames_of(other), straight, atol=1e-5)
    assert [a.info["step"] for a in load_dataset(other).frames("V_H1", 0, "Unperturbed")] == list(range(len(straight)))
    second = other.parent / "work" / ONE / "segment-01"
    text = (second / "input.inp").read_text()
    assert "SCF_GUESS RESTART" in text
    assert "RESTART_HESSIAN T" in text
    last = load_dataset(other).frames("V_H1", 0, "Unperturbed")[2].positions[1, 0]
    assert f"{last:.5f}" in text


def test_kill_nine_loses_no_frame_and_the_same_command_goes_on(tiny: Path, fake_cp2k: Path) -> None:
    work = tiny.parent / "work"
    command = [
        sys.executable,
        str(RUN),
        str(tiny),
        "--work",
        str(work),
        "--workers",
        "1",
        "--only",
        "q+0_Unperturbed",
        "--poll",
        "0.05",
        "--nice",
        "0",
    ]
    environment = {**os.environ, "FAKE_CP2K_SECONDS": "0.3"}
    process = subprocess.Popen([*command, "--cp2k", str(fake_cp2k)], env=environment, stdout=subprocess.DEVNULL)
    deadline = time.time() + 120
    while (state := state_of(tiny)).frames < 2:
        assert time.time() < deadline, "no frame within two minutes"
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert state.pid is not None
    child = psutil.Process(state.pid)
    child.kill()  # as a shutdown of the machine would
    kept = state_of(tiny).frames
    assert kept >= 2
    lines = work_through(tiny, fake_cp2k)
    assert any("segment 1 started" in line for line in lines)
    energies = frames_of(tiny)
    assert len(energies) > kept
    assert all(later <= earlier + 1e-9 for earlier, later in pairwise(energies))


def test_a_cp2k_that_outlives_its_manager_is_taken_over(tiny: Path, fake_cp2k: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_CP2K_SECONDS", "0.2")
    first = Manager(ReferenceData(tiny), tiny.parent / "work", ("V_H1_q+0_Unperturbed",))
    job = first.job(first.tasks()[0])
    assert job is not None
    job.start([str(fake_cp2k)], niceness=0)
    work_through(tiny, fake_cp2k)
    assert state_of(tiny).segments == 1
    assert state_of(tiny).status == "done"


def test_scf_failure_is_seen_and_retried_with_safer_settings(tiny: Path, fake_cp2k: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_CP2K_NO_SCF", "DIIS")
    monkeypatch.setenv("FAKE_CP2K_NO_SCF_AT", "2")
    monkeypatch.setenv("FAKE_CP2K_SECONDS", "0.05")
    lines = work_through(tiny, fake_cp2k)
    assert any("no self-consistency in segment 0; attempt 1" in line for line in lines)
    frames = load_dataset(tiny).frames("V_H1", 0, "Unperturbed")
    attempts = [a.info["scf_attempt"] for a in frames]
    assert attempts[0] == 0
    assert attempts[-1] == 1
    assert frames[-1].info["converged"]
    second = (tiny.parent / "work" / ONE / "segment-01" / "input.inp").read_text()
    assert "MINIMIZER CG" in second
    assert "TRUST_RADIUS [angstrom] 0.03" in second
    # the frame that was not self-consistent is not among them: the walk halves the distance at each step, none is skipped or doubled
    shifts = np.array([a.positions[1, 0] - 2.2 for a in frames])
    np.testing.assert_allclose(shifts[1:] / shifts[:-1], 0.5, atol=1e-3)


def test_scf_failure_with_every_setting_ends_as_failed(tiny: Path, fake_cp2k: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_CP2K_NO_SCF", "DIIS,CG")
    work_through(tiny, fake_cp2k)
    state = state_of(tiny)
    assert state.status == "failed"
    assert state.message is not None
    assert "safest settings" in state.message
    assert not load_dataset(tiny).minima("V_H1", 0)
    third = (tiny.parent / "work" / ONE / "segment-02" / "input.inp").read_text()
    assert "SCF_GUESS ATOMIC" in third
    monkeypatch.delenv("FAKE_CP2K_NO_SCF")
    work_through(tiny, fake_cp2k)
    assert state_of(tiny).status == "failed", "a task that was given up is not begun again by itself"
    work_through(tiny, fake_cp2k, retry_failed=True)
    assert state_of(tiny).status == "done"


def test_abort_message_is_passed_on(tiny: Path, fake_cp2k: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_CP2K_ABORT", "The requested basis set was not found")
    work_through(tiny, fake_cp2k)
    assert state_of(tiny).status == "failed"
    assert "basis set was not found" in (state_of(tiny).message or "")


def test_a_program_that_only_dies_is_given_up(tiny: Path, fake_cp2k: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_CP2K_DIE_ALWAYS", "1")
    work_through(tiny, fake_cp2k)
    assert state_of(tiny).status == "failed"
    assert state_of(tiny).segments <= 5


def test_step_limit_is_no_convergence(tiny: Path, fake_cp2k: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_CP2K_STEPS", "2")
    lines = work_through(tiny, fake_cp2k)
    assert any("ended before convergence" in line for line in lines)
    assert state_of(tiny).status == "done"
    assert load_dataset(tiny).minima("V_H1", 0).keys() == {"Unperturbed"}


def test_unfinished_frames_can_be_added_and_a_lost_work_folder_does_not_matter(
    tiny: Path, fake_cp2k: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    monkeypatch.setenv("FAKE_CP2K_ABORT", "")
    monkeypatch.setenv("FAKE_CP2K_STEPS", "2")
    manager = Manager(ReferenceData(tiny), tiny.parent / "work", ("V_H1_q+0_Unperturbed",))
    job = manager.job(manager.tasks()[0])
    assert job is not None
    job.start([str(fake_cp2k)], niceness=0)
    while job.alive:
        time.sleep(0.02)
    job.poll()
    written = manager.add(lambda _: None)
    assert [path.name for path in written] == ["V_H1_q+0_Unperturbed.extxyz"]
    assert not load_dataset(tiny).minima("V_H1", 0)
    assert len(frames_of(tiny)) == 3
    shutil.rmtree(tiny.parent / "work")
    monkeypatch.delenv("FAKE_CP2K_STEPS")
    work_through(tiny, fake_cp2k)
    frames = load_dataset(tiny).frames("V_H1", 0, "Unperturbed")
    assert len(frames) > 3
    assert frames[-1].info["converged"]
    shifts = np.array([a.positions[1, 0] - 2.2 for a in frames])
    np.testing.assert_allclose(shifts[1:] / shifts[:-1], 0.5, atol=1e-3)


def test_nothing_is_added_on_request(tiny: Path, fake_cp2k: Path) -> None:
    work_through(tiny, fake_cp2k, add=False)
    assert state_of(tiny).status == "done"
    assert not load_dataset(tiny).minima("V_H1", 0)
    assert main([str(tiny), "--work", str(tiny.parent / "work"), "--add"]) == 0
    assert load_dataset(tiny).minima("V_H1", 0).keys() == {"Unperturbed"}


def test_two_runs_on_one_folder_are_refused(tiny: Path, fake_cp2k: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with exclusive(tiny):
        code = main([str(tiny), "--work", str(tiny.parent / "work"), "--cp2k", str(fake_cp2k)])
    error = capsys.readouterr().err
    assert code == 1
    assert str(tiny) in error
    assert error.count("\n") == 1
    with raises_code("folder-in-use", tiny), exclusive(tiny), exclusive(tiny):
        pass


def test_termination_stops_cp2k_and_leaves_the_task_to_be_continued(tiny: Path, fake_cp2k: Path) -> None:
    work = tiny.parent / "work"
    command = [
        sys.executable,
        str(RUN),
        str(tiny),
        "--work",
        str(work),
        "--only",
        "q+0_Unperturbed",
        "--poll",
        "0.05",
        "--cp2k",
        str(fake_cp2k),
    ]
    process = subprocess.Popen(command, env={**os.environ, "FAKE_CP2K_SECONDS": "0.5"}, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    deadline = time.time() + 120
    while state_of(tiny).pid is None:
        assert time.time() < deadline
        time.sleep(0.05)
    pid = state_of(tiny).pid
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert b"resumes" in error
    assert pid is not None
    assert not psutil.pid_exists(pid)
    assert state_of(tiny).status == "waiting"


def test_cp2k_runs_at_lowest_priority_on_one_thread(tiny: Path, tmp_path: Path) -> None:
    program = tmp_path / "show"
    program.write_text("#!/bin/sh\nnice > niceness\necho $OMP_NUM_THREADS > threads\n")
    program.chmod(0o755)
    manager = Manager(ReferenceData(tiny), tiny.parent / "work", ("V_H1_q+0_Unperturbed",))
    job = manager.job(manager.tasks()[0])
    assert job is not None
    job.start([str(program)])
    while job.alive:
        time.sleep(0.02)
    folder = job.segment_folder(0)
    assert (folder / "niceness").read_text().strip() == "19"
    assert (folder / "threads").read_text().strip() == "1"


def test_missing_cp2k_is_one_line_that_says_how_to_install_it(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tiny))
    assert main([str(tiny), "--work", str(tiny.parent / "work")]) == 1
    error = capsys.readouterr().err
    assert "apt-get install cp2k" in error
    assert error.count("\n") == 1
    with raises_code("run-failed", "no-such-program"):
        find_cp2k("no-such-program")


def test_bad_queue_is_one_line(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tiny / "queue.yaml").write_text("blocks:\n- {kind: relaxation, level: PBE, defect: V_H1, charges: [0], configurationz: [Dimer]}\n")
    assert main([str(tiny), "--status"]) == 2
    error = capsys.readouterr().err
    assert "configurationz" in error
    assert error.count("\n") == 1
    (tiny / "queue.yaml").unlink()
    with raises_code("no-file", "queue.yaml"):
        ReferenceData(tiny)


def test_status_shows_done_running_waiting_failed_with_estimates(tiny: Path, fake_cp2k: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work_through(tiny, fake_cp2k, only=("q+1_Dimer",))
    monkeypatch.setenv("FAKE_CP2K_NO_SCF", "DIIS,CG")
    work_through(tiny, fake_cp2k, only=("q+0_Dimer",))
    monkeypatch.delenv("FAKE_CP2K_NO_SCF")
    monkeypatch.setenv("FAKE_CP2K_SECONDS", "5")
    manager = Manager(ReferenceData(tiny), tiny.parent / "work")
    job = manager.job(next(t for t in manager.tasks() if t.label.endswith("q+0_Unperturbed")))
    assert job is not None
    job.start([str(fake_cp2k)], niceness=0)
    try:
        found = {row.task.label.split("/")[-1]: row for row in rows(manager)}
        assert {name: row.status for name, row in found.items()} == {
            "V_H1_q+0_Unperturbed": "running",
            "V_H1_q+0_Dimer": "failed",
            "V_H1_q+1_Unperturbed": "waiting",
            "V_H1_q+1_Dimer": "done",
        }
        done = found["V_H1_q+1_Dimer"]
        waiting = found["V_H1_q+1_Unperturbed"]
        assert waiting.remaining == pytest.approx((done.steps or 0) * 0.5)  # the measured time of an open-shell step is 0.5 s
        assert found["V_H1_q+0_Unperturbed"].remaining is None  # no closed-shell step has been measured
        assert done.force is not None
        text = summary(found.values(), 2)
        assert text.startswith("1 done; 1 running; 1 waiting; 1 failed")
        assert job.state.pid is not None
        psutil.Process(job.state.pid).suspend()
        deadline = time.time() + 120
        while {row.status for row in rows(manager) if row.task.label.endswith("q+0_Unperturbed")} != {"paused"}:
            assert time.time() < deadline
            time.sleep(0.05)
        psutil.Process(job.state.pid).resume()
    finally:
        job.stop()
    assert {row.status for row in rows(manager) if row.task.label.endswith("q+0_Unperturbed")} == {"stalled"}


def test_status_command_prints_a_table(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tiny), "--status", "--work", str(tiny.parent / "work")]) == 0
    out = capsys.readouterr().out
    assert out.count("waiting") >= 4
    assert "V_H1_q+0_Unperturbed" in out


def test_no_half_written_files_stay_behind(tiny: Path, fake_cp2k: Path) -> None:
    work_through(tiny, fake_cp2k, only=())
    assert not list(tiny.parent.rglob("*.part"))
    assert (tiny.parent / "work" / ".gitignore").read_text() == "*\n"


def test_blocked_tasks_share_a_line(tiny: Path) -> None:
    block = {"kind": "path", "level": "PBE", "defect": "V_H1", "charges": [0, 1]}
    folder = write_tiny_dataset(tiny.parent / "blocked", {"blocks": [*QUEUE["blocks"], block]})
    found = rows(Manager(ReferenceData(folder), tiny.parent / "work"))
    assert sum(row.status == "blocked" for row in found) == 12
    labels = [label for label, _ in collapsed(found)]
    assert "path/PBE: 12 tasks" in labels
    assert len(labels) == 5


def test_page_of_tables(tiny: Path, fake_cp2k: Path) -> None:
    work_through(tiny, fake_cp2k, only=())
    page = tiny.parent / "page.md"
    page.write_text(f"above\n{BEGIN}\nold\n{END}\nbelow\n")
    update_page(page, tables(tiny))
    text = page.read_text()
    assert text.startswith("above\n")
    assert text.endswith(f"{END}\nbelow\n")
    assert "old" not in text
    assert "| V_H1 | +1 | 2 | 2 | 0 |" in text
    page.write_text("no marks")
    with raises_code("bad-dataset", page):
        update_page(page, tables(tiny))


@pytest.mark.parametrize(
    "arguments", [["--only", "["], ["--poll", "nan"], ["--poll", "-1"], ["--workers", "0"], ["--nice", "99"]], ids=" ".join
)
def test_bad_options_are_refused(tiny: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(tiny), *arguments])
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"), [(["--level", "nope"], "unknown level of theory 'nope'"), (["--only", "Unpertubed"], "matches Unpertubed")]
)
@pytest.mark.parametrize("status", [True, False])
def test_what_selects_nothing_is_said(
    tiny: Path, fake_cp2k: Path, arguments: list[str], said: str, status: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tiny), *arguments, *(["--status"] if status else ["--cp2k", str(fake_cp2k)])]) == 2
    assert said in capsys.readouterr().err


def test_what_is_no_dataset_folder_no_configuration_and_no_state_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nope")]) == 2
    assert "nope is not a folder" in capsys.readouterr().err
    block = {"kind": "relaxation", "level": "PBE", "defect": "V_H1", "charges": [0, 1], "configurations": ["Unpertubed"]}
    folder = write_tiny_dataset(tmp_path / "tiny", {"blocks": [block]})
    assert main([str(folder)]) == 2
    assert "Unperturbed" in capsys.readouterr().err
    (folder / "queue.yaml").write_text(yaml.safe_dump({"blocks": [{**block, "configurations": ["Unperturbed"]}]}))
    work = tmp_path / "work" / "relaxation" / "PBE" / "V_H1_q+0_Unperturbed"
    work.mkdir(parents=True)
    (work / "state.json").write_text('{"status": 5}')
    assert main([str(folder), "--work", str(tmp_path / "work"), "--status"]) != 0
    assert "state.json: status 5; delete it" in capsys.readouterr().err
