"""A command of another program ends as it would alone, and at the latest with this process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from defectbench.base.processes import guarded


def run(*command: str) -> tuple[str, int]:
    with guarded(command, environment=os.environ, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        said = process.stdout.read()
    return said, process.returncode


def test_output_and_exit_code_are_those_of_the_command():
    code = "import os, sys, time; print('hello', flush=True); os.close(1); os.close(2); time.sleep(0.2); os._exit(7)"
    assert run(sys.executable, "-c", code) == ("hello\n", 7)


def test_a_command_that_a_signal_ends_says_so():
    assert run(sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)") == ("", -signal.SIGKILL)


def test_what_cannot_be_run_is_one_line(tmp_path: Path):
    said, code = run(str(tmp_path / "nowhere"))
    assert code == 1
    assert said.count("\n") == 1
    assert "nowhere" in said


CHILDREN = (
    "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)']);"
    "print(child.pid, flush=True); child.wait()"
)


def running(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + 20
    while running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not running(pid)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_an_error_ends_it_and_what_it_started():
    children = []

    def interrupted():
        with guarded([sys.executable, "-c", CHILDREN], environment=os.environ, stderr=subprocess.STDOUT) as process:
            children.append(int(process.stdout.readline()))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    wait_for_end(children[0])


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_it_ends_when_this_process_is_killed():
    code = (
        "import os, subprocess, sys, time\n"
        "from defectbench.base.processes import guarded\n"
        f"with guarded([sys.executable, '-c', {CHILDREN!r}], environment=os.environ, stderr=subprocess.STDOUT) as process:\n"
        "    print(process.stdout.readline(), flush=True)\n    time.sleep(300)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    wait_for_end(child)
