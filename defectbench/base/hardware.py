"""What machine this is, for provenance: never its name, its user or a path."""

from __future__ import annotations

import functools
import itertools
import os
import platform
import shutil
import subprocess
from pathlib import Path


def available_cores() -> int:
    """Cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def gpus() -> list[str]:
    """Names of the NVIDIA GPUs, by index; empty without ``nvidia-smi``."""
    return list(_gpus())


@functools.cache
def _gpus() -> tuple[str, ...]:
    if shutil.which("nvidia-smi") is None:
        return ()
    found = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, check=False)
    return tuple(line.strip() for line in found.stdout.splitlines() if line.strip()) if found.returncode == 0 else ()


def visible_gpus() -> list[str]:
    """The NVIDIA GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them: numbers or identifiers.

    Read as CUDA reads the variable: what follows the first entry that names no GPU (empty, ``-1``) is hidden too. Without the variable
    all GPUs are visible.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return [str(number) for number in range(len(gpus()))]
    named = itertools.takewhile(lambda entry: entry.isdigit() or entry.startswith(("GPU-", "MIG-")), (e.strip() for e in given.split(",")))
    return list(dict.fromkeys(named))


def describe() -> dict[str, object]:
    """Processor, cores, memory (GB), GPUs, operating system and Python version."""
    import psutil

    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                processor = line.split(":", 1)[1].strip()
                break
    return {
        "processor": processor,
        "cores": available_cores(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpus": gpus(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
