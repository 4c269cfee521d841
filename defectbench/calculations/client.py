"""The parent's end of a worker process: starts it in a model's environment, hands it calculations, notices when it dies."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import shutil
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from defectbench.base.downloads import cache_folder
from defectbench.base.errors import DefectbenchError, ModelError, RunError
from defectbench.base.hardware import visible_gpus
from defectbench.calculations.requests import Calculation, Relaxation
from defectbench.models.registry import ResolvedModel, check_against_definition

if TYPE_CHECKING:
    from defectbench.models.environment import PythonEnvironment

Progress = Callable[[int, float, float], None]
"""Called with step, energy (eV) and largest force (eV/Å)."""

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)


class WorkerDied(DefectbenchError):  # noqa: N818  (a thing that happened, named as the protocol names it)
    """The worker process ended in mid-calculation (out of memory, a crash in native code, killed).

    Attributes:
        returncode: of the process; negative for a signal.
    """

    exit_code = 1

    def __init__(self, message: str, returncode: int | None) -> None:
        self.returncode = returncode
        super().__init__(message)


def worker_folder() -> Path:
    """The worker's code in the cache, keyed by its content, complete or not there at all.

    Returns:
        The folder ``defectbench_worker`` with ``launch.py`` in it.

    Raises:
        RunError: it cannot be written.
    """
    source = Path(str(resources.files("defectbench") / "worker"))
    files = sorted(path for path in source.rglob("*.py"))
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.relative_to(source).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    target = cache_folder() / "worker" / digest.hexdigest()[:16]
    package = target / "defectbench_worker"
    if package.is_dir():
        return package
    partial = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        for path in files:
            copy = partial / "defectbench_worker" / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        try:
            partial.rename(target)
        except OSError:
            if not package.is_dir():  # else another process was faster
                raise
    except OSError as error:
        raise RunError(f"cannot write the worker to {target}: {error.strerror}; free space there or set DEFECTBENCH_CACHE") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return package


def worker_environment(environment_name: str, threads: int, device: str, cuda_device: int | str | None) -> dict[str, str]:
    """The child's environment variables: thread counts, the one GPU it sees, nothing of the parent's Python path.

    Args:
        environment_name: ``current`` keeps ``PYTHONPATH``.
        threads: of each library.
        device: ``cpu`` hides all GPUs.
        cuda_device: a number counts the GPUs that this process may use (round, if there are fewer; without any the child sees what this
            process sees); a text is taken as it is.
    """
    variables = dict(os.environ)
    path = variables.pop("PYTHONPATH", None)
    if path and environment_name == "current":
        variables["PYTHONPATH"] = path
    variables.pop("PYTHONHOME", None)
    variables.update({name: str(threads) for name in _THREAD_VARIABLES})
    variables["PYTHONUNBUFFERED"] = "1"
    variables["PYTHONHASHSEED"] = "0"
    variables["PYTHONIOENCODING"] = "utf-8"
    variables.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if device == "cpu":
        variables["CUDA_VISIBLE_DEVICES"] = ""
    elif isinstance(cuda_device, str):
        variables["CUDA_VISIBLE_DEVICES"] = cuda_device
    elif cuda_device is not None and (visible := visible_gpus()):
        variables["CUDA_VISIBLE_DEVICES"] = visible[cuda_device % len(visible)]
    return variables


class WorkerClient:
    """A worker with a loaded model. One client a thread; use it as a context manager.

    Attributes:
        ready: the worker's ready message: versions, parameters, weights, device, capabilities.
    """

    def __init__(
        self,
        environment: PythonEnvironment,
        model: ResolvedModel,
        *,
        threads: int = 1,
        cuda_device: int | str | None = None,
        start_timeout_s: float = 900.0,
    ) -> None:
        """Says what to start; nothing runs before ``__enter__`` or :meth:`start`.

        Args:
            environment: the model's environment.
            model: from ``resolve_model``.
            threads: threads of the worker.
            cuda_device: the one GPU that the worker sees, see :func:`worker_environment`; only for a CUDA device.
            start_timeout_s: how long imports and loading may take.
        """
        self.environment = environment
        self.model = model
        self._threads = threads
        self._cuda_device = cuda_device
        self._start_timeout_s = start_timeout_s
        self._process: subprocess.Popen[str] | None = None
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._stderr: deque[str] = deque(maxlen=40)
        self._readers: list[threading.Thread] = []
        self._next_id = 0
        self._ready: dict[str, Any] | None = None

    def __enter__(self) -> WorkerClient:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def ready(self) -> dict[str, Any]:
        """The worker's ready message.

        Raises:
            RunError: it was not started.
        """
        if self._ready is None:
            raise RunError("the worker was not started")
        return self._ready

    @property
    def pid(self) -> int | None:
        """The worker's process id; None when it does not run."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Starts the process and loads the model.

        Raises:
            ModelError: the model cannot be loaded, is not what its definition says, or its package is missing.
            RunError: the process could not be started or did not answer in time.
        """
        if self._process is not None:
            return
        launch = worker_folder() / "launch.py"
        command = [str(self.environment.python), str(launch)]
        variables = worker_environment(self.environment.name, self._threads, self.model.device, self._cuda_device)
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                env=variables,
                start_new_session=True,
            )
        except OSError as error:
            raise RunError(f"cannot start {self.environment.python}: {error.strerror}") from error
        self._readers = [
            threading.Thread(target=self._read_stdout, args=(self._process,), daemon=True),
            threading.Thread(target=self._read_stderr, args=(self._process,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        try:
            self._send({"type": "hello", "spec": self.model.worker_spec()})
            reply = self._receive(self._start_timeout_s)
            if reply["type"] == "error":
                raise ModelError(f"{self.model.definition.id}: {reply['message']}{self._hint(reply['kind'])}")
            check_against_definition(self.model, reply)
        except BaseException:
            self.close()
            raise
        self._ready = reply

    def _hint(self, kind: str) -> str:
        if kind == "not_installed":
            name = self.environment.name
            return f" (environment '{name}'; the model's own is '{self.model.definition.environment}')"
        return ""

    def calculate(self, calculation: Calculation, on_progress: Progress | None = None, *, timeout_s: float | None = None) -> dict[str, Any]:
        """Runs one calculation and waits for it.

        Args:
            calculation: what to calculate.
            on_progress: called at most twice a second with step, energy and largest force.
            timeout_s: longest silence allowed; None waits for ever.

        Returns:
            The result as the worker sent it; ``status`` is ``failed`` where the model failed (that is a result, not an error).
            For relaxations see :func:`relaxation_from_result`.

        Raises:
            WorkerDied: the process ended; this client is of no use any more.
        """
        if self._process is None:
            raise RunError("the worker was not started")
        self._next_id += 1
        number = self._next_id
        self._send({"type": "calculate", "id": number, **calculation.to_json()})
        while True:
            message = self._receive(timeout_s)
            if message.get("id") != number:
                if message["type"] == "error":
                    raise RunError(f"{self.model.definition.id}: {message['message']}")
                continue
            if message["type"] == "progress":
                if on_progress is not None:
                    on_progress(message["step"], message["energy"], message["fmax"])
                continue
            result: dict[str, Any] = message["result"]
            return result

    def close(self) -> None:
        """Ends the process (and all it started); safe to call twice."""
        process, self._process = self._process, None
        self._ready = None
        if process is None:
            return
        with contextlib.suppress(OSError, ValueError):
            if process.stdin is not None:
                process.stdin.close()
        try:
            process.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            self._kill(process)
        for reader in self._readers:
            reader.join(timeout=2.0)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError, ValueError):
                    stream.close()

    @staticmethod
    def _kill(process: subprocess.Popen[str]) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        process.wait()

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise self._death() from error

    def _receive(self, timeout_s: float | None) -> dict[str, Any]:
        try:
            message = self._messages.get(timeout=timeout_s)
        except queue.Empty as error:
            process = self._process
            if process is not None:
                self._kill(process)
            raise RunError(f"{self.model.definition.id}: the worker did not answer within {timeout_s:.0f} s") from error
        if message is None:
            raise self._death()
        return message

    def _death(self) -> WorkerDied:
        process = self._process
        code: int | None = None
        if process is not None:
            try:
                code = process.wait(timeout=5.0)
            except subprocess.TimeoutExpired:
                self._kill(process)
                code = process.returncode
        self._readers[1].join(timeout=1.0)
        if code is not None and code < 0:
            try:
                how = f"was killed by {signal.Signals(-code).name}"
            except ValueError:
                how = f"was killed by signal {-code}"
            if code == -signal.SIGKILL:
                how += " (out of memory?)"
        else:
            how = f"ended with exit code {code}"
        last = " | ".join(line for line in list(self._stderr)[-3:])
        return WorkerDied(f"{self.model.definition.id}: the worker {how}" + (f"; its last words: {last}" if last else ""), code)

    def _read_stdout(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                try:
                    message = json.loads(line)
                except json.JSONDecodeError:
                    self._stderr.append(line.rstrip())
                    continue
                self._messages.put(message)
        except (OSError, ValueError):
            pass
        finally:
            self._messages.put(None)

    def _read_stderr(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with contextlib.suppress(OSError, ValueError):
            for line in process.stderr:
                if line.strip():
                    self._stderr.append(line.strip()[:300])


def relaxation_from_result(payload: Mapping[str, Any]) -> Relaxation:
    """The worker's relaxation result as the record that is stored and scored."""
    forces = payload["forces"]
    return Relaxation(
        status=payload["status"],
        positions=np.array(payload["positions"], dtype=np.float64),
        energy=payload["energy"],
        forces=None if forces is None else np.array(forces, dtype=np.float64),
        energies=tuple(payload["energies"]),
        fmax=tuple(payload["fmax"]),
        steps=payload["steps"],
        wall_s=payload["wall_s"],
        cpu_s=payload["cpu_s"],
        peak_memory_mb=payload["peak_memory_mb"],
        failure=payload["failure"],
        failure_kind=payload["failure_kind"],
        machine=int(payload.get("machine", 0)),
    )
