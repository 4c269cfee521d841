"""Long commands of other programs, which end with this process however it ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

_GUARD = """
import os, signal, subprocess, sys, threading

def end():
    os.killpg(0, signal.SIGKILL) if hasattr(os, "killpg") else child.kill()

def watch():
    os.read(0, 1)  # nothing is ever written: this returns when the other end is closed
    end()

try:
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
except OSError as error:
    sys.exit(f"cannot run {sys.argv[1]}: {error.strerror}")
threading.Thread(target=watch, daemon=True).start()
code = child.wait()
if code < 0:
    if code != -signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)  # Python ignores some
    os.kill(os.getpid(), -code)
os._exit(code)
"""
"""Runs its arguments as a command and ends as that does; the end of its input ends both, and all that the command started."""


@contextmanager
def guarded(command: Sequence[str], *, environment: Mapping[str, str], stderr: int) -> Iterator[subprocess.Popen[str]]:
    """Runs a command of which nothing outlives this process, killed or not.

    Between the two stands a small process, which sees the end of its input when this process is gone. Ctrl-C reaches this process only.
    The end of the block waits for the command; an error in it ends the command at once.

    Args:
        command: program and arguments.
        environment: its variables.
        stderr: as of ``subprocess.Popen``; standard output is a pipe.

    Yields:
        A process that ends as the command does; one that cannot be run is exit code 1 and a line on its standard error.
    """
    line = [sys.executable, "-I", "-c", _GUARD, *command]
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        line, stdin=pipe, stdout=pipe, stderr=stderr, env=dict(environment), start_new_session=True, encoding="utf-8", errors="replace"
    )
    try:
        yield process
        process.wait()
    finally:
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            stream.close()
        process.wait()
