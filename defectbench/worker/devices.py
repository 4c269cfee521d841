"""Whether the machine has what a device name promises."""

from __future__ import annotations

import ctypes
import sys

from .errors import WorkerError


def check_device(device: str) -> None:
    """Refuses a GPU that is not there: a calculator that ignores the device, or falls back, would be recorded as run on one.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:<n>``.

    Raises:
        WorkerError: no such device, or no GPU that this process sees.
    """
    name = device.split(":")[0]
    if name not in ("cpu", "cuda"):
        raise WorkerError("device", f"unknown device '{device}'; known: cpu, cuda")
    if name == "cuda" and not (_torch_sees_a_gpu() or _driver_sees_a_gpu()):
        raise WorkerError("device", "there is no GPU for device 'cuda' that a worker on this machine can see; use --device cpu")


def _torch_sees_a_gpu() -> bool:
    """As torch says, AMD's included, if the model has imported it."""
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_available())


def _driver_sees_a_gpu() -> bool:
    """As CUDA's driver says, of the GPUs that ``CUDA_VISIBLE_DEVICES`` leaves."""
    count = ctypes.c_int(0)
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    except (OSError, AttributeError):  # no driver
        return False
