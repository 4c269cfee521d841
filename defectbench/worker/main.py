"""The worker's loop: requests in on stdin, answers out on what was stdout, one JSON object per line.

``hello {spec}`` → ``ready {…}`` or ``error {message, kind, traceback}``; then ``calculate {id, kind, structure, …}`` → some
``progress {id, step, energy, fmax}`` and one ``result {id, result}``. End of input ends the process, also in mid-calculation:
a worker never outlives the process that started it.

Each result echoes what was calculated: the content hash of the request as it came in, and the charge as the model reads it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import queue
import select
import signal
import sys
import threading
import time
import traceback
from importlib import metadata
from typing import Any, Protocol, TextIO

PROTOCOL = 1
PROGRESS_INTERVAL_S = 0.5


class Sink(Protocol):
    """Takes messages."""

    def send(self, message: dict[str, Any]) -> None:
        """One message."""
        ...


class Channel:
    """Writes messages to the stream that was stdout."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, message: dict[str, Any]) -> None:
        """One line, flushed."""
        line = json.dumps(message, allow_nan=False)
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()


def take_over_stdout() -> TextIO:
    """The real stdout; from here on everything that packages print goes to stderr."""
    kept = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return os.fdopen(kept, "w", encoding="utf-8")


def _read_requests(requests: queue.Queue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        if line.strip():
            requests.put(json.loads(line))
    os._exit(0)  # the parent is gone or done: nothing is left to do, whatever the main thread is at


def guard_process_group(patience_s: float = 1.0) -> None:
    """Forks a guard that ends this process and all that it started, soon after the parent is gone.

    The thread that reads stdin cannot run while a long native call holds Python's lock, and whatever a calculator started would live on.
    The guard sees the other end of stdin close. It needs a process group that is this process's own; elsewhere there is none.
    """
    if not hasattr(os, "fork") or os.getpgrp() != os.getpid() or os.fork():
        return
    os.closerange(1, 256)  # the parent reads these until nobody holds them
    watch = select.poll()
    watch.register(0, 0)  # only whether it was hung up; the requests are not the guard's
    watch.poll()
    time.sleep(patience_s)
    os.killpg(0, signal.SIGKILL)


def _versions(packages: list[str]) -> dict[str, str]:
    found = {}
    for name in ("ase", "numpy", "torch", "tensorflow", *packages):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _common(declared: tuple[int, int] | None, defined: list[int] | None) -> tuple[int, int] | None:
    """Charges that lie both in what the model declares and in what its definition says it was trained on."""
    if declared is None or defined is None:
        return declared if defined is None else (int(defined[0]), int(defined[1]))
    return max(declared[0], int(defined[0])), min(declared[1], int(defined[1]))


def load(spec: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The model of a specification, and the ready message of its worker.

    Raises:
        WorkerError: weights, package, device or parameters are not what the specification says.
    """
    from .adapters import load_adapter
    from .devices import check_device
    from .errors import WorkerError
    from .weights import check_weights

    began = time.perf_counter()
    files = check_weights(spec["weights"])
    model = load_adapter(spec, files)
    check_device(spec["device"])
    expected = spec.get("parameters")
    if expected is not None and model.parameters is not None and model.parameters != expected:
        raise WorkerError("weights", f"the model has {model.parameters} parameters, its definition says {expected}")
    model.charge_range = _common(model.charge_range, spec["charge"].get("range"))
    if model.batches:
        model.batch = int(spec.get("batch", 1))
    bounds = model.charge_range
    ready = {
        "type": "ready",
        "protocol": PROTOCOL,
        "versions": _versions([spec["package"]] if spec.get("package") else []),
        "parameters": model.parameters,
        "weights": [{"name": f.name, "path": str(f.path), "sha256": f.sha256} for f in files],
        "device": spec["device"],
        "threads": int(os.environ.get("OMP_NUM_THREADS", "0")),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "load_s": time.perf_counter() - began,
        "capabilities": {
            "descriptors": model.has_descriptors,
            "charge": model.charge,
            "charge_range": list(bounds) if bounds else None,
            "precision": model.precision,
            "batch": model.batch,
        },
    }
    record = {key: ready[key] for key in ("versions", "parameters", "threads")}
    model.record = {**record, "weights": [{"name": f.name, "sha256": f.sha256} for f in files]}
    return model, ready


def content_hash(request: dict[str, Any]) -> str:
    """SHA-256 of a request as ``Calculation.content_hash`` has it: of all but the envelope that it came in."""
    content = {key: value for key, value in request.items() if key not in ("type", "id")}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def answer(model: Any, request: dict[str, Any], channel: Sink) -> dict[str, Any]:
    """The result of a request, with the echo of what was calculated."""
    model.prepared = None
    kind = request.get("kind")
    result = _calculated(model, request, channel)
    # a certificate is of several charges, and names them itself
    charge = model.charge_handed_over() if kind != "certificate" else None
    return {**result, "kind": kind, "echo": {"charge": charge, "request": content_hash(request)}}


def _calculated(model: Any, request: dict[str, Any], channel: Sink) -> dict[str, Any]:
    from .certificate import certify
    from .own_lattice import relax_in_own_lattice
    from .path import minimum_energy_path
    from .relaxation import descriptors, relax, single_point

    kind = request.get("kind")
    if kind in ("relaxation", "own_lattice"):
        last = [0.0]

        def progress(step: int, energy: float, fmax: float) -> None:
            now = time.monotonic()
            if now - last[0] >= PROGRESS_INTERVAL_S:
                last[0] = now
                channel.send({"type": "progress", "id": request["id"], "step": step, "energy": energy, "fmax": fmax})

        return relax(model, request, progress) if kind == "relaxation" else relax_in_own_lattice(model, request, progress)
    if kind == "single_point":
        return single_point(model, request)
    if kind == "path":
        return minimum_energy_path(model, request)
    if kind == "descriptors":
        return descriptors(model, request)
    if kind == "certificate":
        return {**certify(model, request), "worker": model.record}
    return {"status": "failed", "failure": f"this worker knows no calculation '{kind}'", "failure_kind": "request"}


def main(network: str = "open") -> None:
    """Runs until stdin ends.

    Args:
        network: ``none`` or ``open``: what this process has of it, for the record.
    """
    from .batched import serve
    from .errors import WorkerError, one_line

    guard_process_group()
    channel = Channel(take_over_stdout())

    def send_result(request: dict[str, Any], result: dict[str, Any]) -> None:
        channel.send({"type": "result", "id": request["id"], "result": result})

    requests: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    model: Any = None
    while True:
        request = requests.get()
        if request["type"] == "hello":
            try:
                model, reply = load(request["spec"])
            except Exception as error:  # noqa: BLE001  (the parent turns it into one line)
                known = isinstance(error, WorkerError)
                channel.send(
                    {
                        "type": "error",
                        "kind": error.kind if isinstance(error, WorkerError) else "load",
                        "message": str(error) if known else one_line(error),
                        "traceback": traceback.format_exc(),
                    }
                )
                continue
            model.record["network"] = network
            channel.send({**reply, "network": network})
            if (size := reply["capabilities"]["batch"]) > 1:
                serve(model, size, requests, lambda member, asked: answer(member, asked, channel), send_result)
        elif request["type"] == "calculate":
            result = (
                answer(model, request, channel)
                if model is not None
                else {"status": "failed", "failure": "no model is loaded", "failure_kind": "request"}
            )
            send_result(request, result)
        else:
            channel.send({"type": "error", "kind": "request", "message": f"unknown message '{request['type']}'", "traceback": ""})
