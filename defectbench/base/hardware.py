"""What machine this is, for provenance: never its name, its user or a path."""

from __future__ import annotations

import functools
import itertools
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0, lt=2**31)]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Hardware(_Closed):
    """What a computer is made of; None where it is not known. Memory in GB."""

    processor: str | None = None
    cores: Count | None = None
    memory_gb: Annotated[float, Field(ge=0)] | None = None
    gpus: tuple[str, ...] = ()
    system: str | None = None
    python: str | None = None


class Machine(_Closed):
    """What calculated something: the device, the computer, how many workers ran side by side, the threads and the batch of each.

    >>> Machine(device="cpu", hardware=Hardware(processor="Some CPU", cores=8), workers=8, threads_per_worker=1).hardware.cores
    8
    """

    device: str
    hardware: Hardware
    workers: Count
    threads_per_worker: Count
    batch: Count = 1


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


def describe() -> Hardware:
    """This computer."""
    import psutil

    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                processor = line.split(":", 1)[1].strip()
                break
    return Hardware(
        processor=processor,
        cores=available_cores(),
        memory_gb=round(psutil.virtual_memory().total / 1e9, 1),
        gpus=tuple(gpus()),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
    )
