"""Faster CP2K from Debian: vector code for its busiest loops, loaded into the program as it starts.

Debian compiles CP2K for any x86-64 processor, and most of the time of a PBE step goes into a few short loops that could use AVX.
``vector_kernels.c`` holds these loops for AVX2 and AVX-512. It knows the machine code of one build of CP2K only; with any
other this module refuses. A CP2K that was compiled for the machine it runs on needs none of this.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from defectbench.base.errors import RunError

KNOWN_PROGRAMS = {"625388f52d51a53bce0c78a67abcc07935b1f283505a4f1a085bd67b1de12213": "cp2k.psmp of Debian's cp2k 2023.1-2, amd64"}
"""SHA-256 of the programs that the kernels fit."""

SOURCE = Path(__file__).with_suffix(".c")
NEEDED = {"avx2", "fma"}


def with_vector_kernels(command: Sequence[str], folder: Path) -> list[str]:
    """The command that runs CP2K with the vector kernels.

    Args:
        command: that runs CP2K without them; its last word is the program.
        folder: for the compiled kernels.

    Raises:
        RunError: the program is none of :data:`KNOWN_PROGRAMS`, the processor has no AVX2, or they cannot be compiled; the message says
            which.
    """
    program = Path(shutil.which(command[-1]) or command[-1]).resolve()
    without = "run without --vector-kernels"
    try:
        with program.open("rb") as handle:
            found = hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise RunError(f"cannot read {program}: {error.strerror}") from error
    if found not in KNOWN_PROGRAMS:
        raise RunError(f"the vector kernels fit {' or '.join(KNOWN_PROGRAMS.values())}, and {program} is another program; {without}")
    if missing := NEEDED - _processor_flags():
        raise RunError(f"the vector kernels need a processor with {' and '.join(sorted(missing)).upper()}; {without}")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise RunError(f"the vector kernels are compiled with cc, which is not on the PATH; install gcc or {without}")
    library = _compile(compiler, folder)
    return ["env", f"LD_PRELOAD={library}", *command]


def _processor_flags() -> set[str]:
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file():
        return set()
    lines = (line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("flags"))
    return set(next(lines, ":").split(":", 1)[1].split())


def _compile(compiler: str, folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot create {folder}: {error.strerror}; choose another --work") from error
    library = folder.resolve() / "vector_kernels.so"
    partial = folder / f".vector_kernels.{os.getpid()}.so"
    line = [compiler, "-O3", "-march=native", "-fPIC", "-shared", str(SOURCE), "-o", str(partial)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RunError(f"the vector kernels do not compile: {(done.stderr.strip() or 'no message').splitlines()[0]}")
    # in one step: CP2K processes that run may have the old file open
    partial.replace(library)
    return library
