"""The parent's end of a worker process: starts it in a model's environment, hands it calculations, notices when it dies."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import queue
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from defectbench.base.downloads import cache_folder
from defectbench.base.errors import DefectbenchError, ModelError, RunError
from defectbench.base.files import making_folder
from defectbench.base.hardware import visible_gpus
from defectbench.base.redaction import redact, redact_values
from defectbench.base.variables import seen_variables
from defectbench.calculations.requests import Calculation
from defectbench.calculations.results import Result, check_echo, parse

if TYPE_CHECKING:
    from defectbench.models.environment import PythonEnvironment
    from defectbench.models.resolved import ResolvedModel

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


CODES = {
    "not_installed": "missing-package",
    "weights": "wrong-weights",
    "charge": "bad-charge",
    "head": "bad-head",
    "adapter": "bad-adapter",
    "device": "no-device",
}
"""Codes of the errors that a worker ends its start with, by the worker's kinds; others are ``bad-model``."""

_PATIENCE_S = 1.0
"""How long a worker may take to end by itself; it has nothing left to save."""


@dataclass(frozen=True)
class WorkerSpec:
    """What starts a worker: plain values, so that they can be sent to another machine.

    Attributes:
        model: the model's id, for messages.
        python: the Python that runs it.
        environment: name of the environment of that Python.
        own_environment: name of the model's own environment.
        import_paths: folders that it imports from besides.
        device: ``cpu``, ``cuda`` or ``cuda:<n>``.
        hello: what the worker is told to load, JSON values.
        identity: of the model.
        here: makes the same on another machine, with the environment and the weights that lie there, or are built and fetched there.
    """

    model: str
    python: Path
    environment: str
    own_environment: str
    import_paths: tuple[str, ...]
    device: str
    hello: Mapping[str, Any]
    identity: str = ""
    here: Callable[[], WorkerSpec] | None = None

    @classmethod
    def of(cls, environment: PythonEnvironment, model: ResolvedModel, here: Callable[[], WorkerSpec] | None = None) -> WorkerSpec:
        """The worker of a model in an environment."""
        from defectbench.models.environment import import_paths

        return cls(
            model=model.definition.id,
            python=environment.python,
            environment=environment.name,
            own_environment=model.definition.environment,
            import_paths=tuple(import_paths(environment.name)),
            device=model.device,
            hello=model.worker_spec(),
            identity=model.identity,
            here=here,
        )


class WorkerDied(DefectbenchError):  # noqa: N818  (a thing that happened, named as the protocol names it)
    """The worker process ended in mid-calculation (out of memory, a crash in native code, killed).

    Attributes:
        returncode: of the process; negative for a signal.
    """

    code = "worker-died"
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
    try:
        with making_folder(target) as partial:
            for path in files:
                copy = partial / "defectbench_worker" / path.relative_to(source)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
    except OSError as error:
        raise RunError(
            f"cannot write the worker to {target}: {error.strerror}; free space there or set DEFECTBENCH_CACHE", code="not-writable"
        ) from error
    return package


def worker_environment(threads: int, device: str, cuda_device: int | str | None) -> dict[str, str]:
    """The child's environment variables: an allow-list, thread counts, the one GPU it sees.

    Args:
        threads: of each library.
        device: ``cpu`` hides all GPUs.
        cuda_device: a number counts the GPUs that this process may use (round, if there are fewer; without any the child sees what this
            process sees); a text is taken as it is.
    """
    variables = seen_variables()
    variables.update({name: str(threads) for name in _THREAD_VARIABLES})
    # what python -I would do, except for the fixed hash seed, which -I takes no notice of; it holds for the worker's own children, too
    variables["PYTHONSAFEPATH"] = "1"
    variables["PYTHONNOUSERSITE"] = "1"
    variables["PYTHONUNBUFFERED"] = "1"
    variables["PYTHONHASHSEED"] = "0"
    variables["PYTHONIOENCODING"] = "utf-8"
    variables["MPLBACKEND"] = "agg"  # a notebook's names a package that the model's environment lacks
    variables.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if device == "cpu":
        variables["CUDA_VISIBLE_DEVICES"] = ""
    elif isinstance(cuda_device, str):
        variables["CUDA_VISIBLE_DEVICES"] = cuda_device
    elif cuda_device is not None and (visible := visible_gpus()):
        variables["CUDA_VISIBLE_DEVICES"] = visible[cuda_device % len(visible)]
    return variables


class WorkerClient:
    """A worker with a loaded model. One client per thread; use it as a context manager.

    Attributes:
        ready: the worker's ready message: versions, parameters, weights, device, capabilities.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        *,
        threads: int = 1,
        cuda_device: int | str | None = None,
        start_timeout_s: float = 900.0,
    ) -> None:
        """Says what to start; nothing runs before ``__enter__`` or :meth:`start`.

        Args:
            spec: what to start.
            threads: threads of the worker.
            cuda_device: the one GPU that the worker sees, see :func:`worker_environment`; only for a CUDA device.
            start_timeout_s: how long imports and loading may take.
        """
        self.spec = spec
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
    def batch(self) -> int:
        """Structures that one of the worker's force calls takes; 1 before it has started."""
        return 1 if self._ready is None else int(self._ready["capabilities"]["batch"])

    @property
    def network(self) -> str | None:
        """What the worker has of the network, ``none`` or ``open``; None before it has started."""
        return None if self._ready is None else str(self._ready["network"])

    @property
    def pid(self) -> int | None:
        """The worker's process id; None when it does not run."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Starts the process and loads the model.

        Raises:
            ModelError: the model cannot be loaded, its weights are not what its definition says, or its package is missing.
            RunError: the process could not be started or did not answer in time.
        """
        if self._process is not None:
            return
        launch = worker_folder() / "launch.py"
        offline = "0" if os.environ.get("DEFECTBENCH_WORKER_NETWORK") == "allow" else "1"
        command = [str(self.spec.python), "-s", str(launch), offline, *self.spec.import_paths]
        variables = worker_environment(self._threads, self.spec.device, self._cuda_device)
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
            raise RunError(f"cannot start {self.spec.python}: {error.strerror}") from error
        self._readers = [
            threading.Thread(target=self._read_stdout, args=(self._process,), daemon=True),
            threading.Thread(target=self._read_stderr, args=(self._process,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        try:
            self._send({"type": "hello", "spec": self.spec.hello})
            reply = self._receive(self._start_timeout_s)
            if reply["type"] == "error":
                raise ModelError(f"{self.spec.model}: {reply['message']}{self._hint(reply['kind'])}", code=CODES.get(reply["kind"]))
        except BaseException:
            self.close()
            raise
        self._ready = reply

    def _hint(self, kind: str) -> str:
        if kind == "not_installed":
            return f" (environment '{self.spec.environment}'; the model's own is '{self.spec.own_environment}')"
        return ""

    def calculate(self, calculation: Calculation, on_progress: Progress | None = None, *, timeout_s: float | None = None) -> Result:
        """Runs one calculation and waits for it.

        Args:
            calculation: what to calculate.
            on_progress: called at most twice a second with step, energy and largest force.
            timeout_s: longest silence allowed; None waits for ever.

        Returns:
            The result, without names of this machine and keys in its texts; ``status`` is ``failed`` where the model failed (that is a
            result, not an error).

        Raises:
            WorkerDied: the process ended; this client is useless from then on.
            EchoMismatch: the worker calculated something else, or at another charge.
            RunError: what it sent is not a result.
        """
        ((_, result),) = self.calculate_many([calculation], 1, on_progress, timeout_s=timeout_s)
        return result

    def calculate_many(
        self, calculations: Iterable[Calculation], ahead: int, on_progress: Progress | None = None, *, timeout_s: float | None = None
    ) -> Iterator[tuple[Calculation, Result]]:
        """Runs calculations, as many at once as the worker can, and yields each as it finishes.

        Args:
            calculations: what to calculate; taken one by one as the worker gets free.
            ahead: how many the worker is given at a time, at most; a worker that takes one structure per call is given one.
            on_progress: as in :meth:`calculate`, for all of them.
            timeout_s: as in :meth:`calculate`.

        Raises:
            WorkerDied, EchoMismatch, RunError: as in :meth:`calculate`.
        """
        if self._process is None:
            raise RunError("the worker was not started")
        coming, ahead = iter(calculations), min(ahead, self.batch)
        asked: dict[int, Calculation] = {}
        while True:
            for calculation in itertools.islice(coming, ahead - len(asked)):
                self._next_id += 1
                asked[self._next_id] = calculation
                self._send({"type": "calculate", "id": self._next_id, **calculation.to_json()})
            if not asked:
                return
            message = self._receive(timeout_s)
            if message["type"] == "error":
                raise RunError(f"{self.spec.model}: {message['message']}")
            if message.get("id") not in asked:
                continue
            if message["type"] == "progress":
                if on_progress is not None:
                    on_progress(message["step"], message["energy"], message["fmax"])
                continue
            calculation = asked.pop(message["id"])
            try:
                result = parse(calculation, redact_values(message["result"]))
            except ValueError as error:
                raise RunError(f"{self.spec.model}: the worker's answer is not a result ({error})", code="bad-answer") from error
            check_echo(calculation, result)
            yield calculation, result

    def close(self) -> None:
        """Ends the process and all that it started, within seconds; safe to call twice."""
        process, self._process = self._process, None
        self._ready = None
        if process is None:
            return
        with contextlib.suppress(OSError, ValueError):
            if process.stdin is not None:
                process.stdin.close()
        _wait_for_end(process, _PATIENCE_S)
        self._kill(process)
        for reader, stream in zip(self._readers, (process.stdout, process.stderr), strict=True):
            reader.join(timeout=1.0)
            # what left the process group may hold the other end; closing would wait for it
            if stream is not None and not reader.is_alive():
                with contextlib.suppress(OSError, ValueError):
                    stream.close()

    @staticmethod
    def _kill(process: subprocess.Popen[str]) -> None:
        """Kills the worker's process group and waits for the worker. The group outlives a worker whose children run on."""
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
            raise RunError(f"{self.spec.model}: the worker did not answer within {timeout_s:.0f} s", code="worker-timeout") from error
        if message is None:
            raise self._death()
        return message

    def _death(self) -> WorkerDied:
        process = self._process
        code: int | None = None
        if process is not None:
            _wait_for_end(process, 5.0)
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
        last = redact(" | ".join(line for line in list(self._stderr)[-3:]))
        return WorkerDied(f"{self.spec.model}: the worker {how}" + (f". Last stderr lines: {last}" if last else ""), code)

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


def _wait_for_end(process: subprocess.Popen[str], seconds: float) -> None:
    """Waits for a process to end, and leaves it as it is: its number stays its own until it is waited for, and so does its group's."""
    if not hasattr(os, "waitid"):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=seconds)
        return
    deadline = time.monotonic() + seconds
    with contextlib.suppress(ChildProcessError):
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None and time.monotonic() < deadline:
            time.sleep(0.01)
