"""Python environments for models: managed ones built once with uv from pinned lists, the current one, or any other."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from defectbench.base.downloads import cache_folder
from defectbench.base.errors import DefectbenchError, EnvironmentBuildError, UnknownNameError
from defectbench.paths import user_path

MARKER = "defectbench-environment.json"
PYTHON_VERSION = "3.11"
_TAIL_LINES = 12

_INSPECT = (
    "import json, sys\nfrom importlib import metadata\n"
    "found = sorted({(d.metadata['Name'] or '').lower().replace('_', '-'): d.version for d in metadata.distributions()}.items())\n"
    "print(json.dumps({'python': list(sys.version_info[:3]), 'packages': dict(found)}))"
)


@dataclass(frozen=True)
class PythonEnvironment:
    """An interpreter with what is installed for it.

    Attributes:
        python: the interpreter.
        name: ``sevennet`` (managed), ``current``, or a path.
        packages: distribution name (lower case) → version.
        pins_sha256: identifies the packages: the pinned list's hash for a managed environment, else a hash over ``packages``.
    """

    python: Path
    name: str
    packages: dict[str, str]
    pins_sha256: str


@dataclass(frozen=True)
class EnvironmentStatus:
    """A managed environment and whether it is built.

    Attributes:
        name: e.g. ``sevennet``.
        path: its folder in the cache, built or not.
        built: whether it is complete.
        packages: how many packages its list pins.
        outdated: folders of earlier lists of the same name.
    """

    name: str
    path: Path
    built: bool
    packages: int
    outdated: tuple[Path, ...]


def _lists() -> dict[str, Path]:
    folder = Path(str(resources.files("defectbench.models") / "environments"))
    return {path.stem: path for path in sorted(folder.glob("*.txt"))}


def _list_path(name: str) -> Path:
    lists = _lists()
    if name not in lists:
        raise UnknownNameError("environment", name, lists)
    return lists[name]


def _pins(path: Path) -> tuple[str, ...]:
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return tuple(sorted(line for line in lines if line))


def overrides_path(name: str) -> Path | None:
    """The file that drops dependencies which a package declares and does not need; None for most environments."""
    path = _list_path(name).with_suffix(".overrides")
    return path if path.is_file() else None


def pins_sha256(name: str) -> str:
    """Hash over a managed environment's pinned list (its requirements, sorted; comments do not count) and Python version.

    Raises:
        UnknownNameError: no such environment.
    """
    overrides = overrides_path(name)
    excluded = _pins(overrides) if overrides is not None else ()
    content = "\n".join((f"python {PYTHON_VERSION}", *_pins(_list_path(name)), *excluded))
    return hashlib.sha256(content.encode()).hexdigest()


def _root() -> Path:
    return cache_folder() / "environments"


def _folder(name: str) -> Path:
    return _root() / f"{name}-{pins_sha256(name)[:12]}"


def _python_of(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _complete(folder: Path) -> bool:
    return (folder / MARKER).is_file() and _python_of(folder).exists()


def list_environments() -> list[EnvironmentStatus]:
    """Every managed environment, built or not."""
    found = []
    for name, path in _lists().items():
        folder = _folder(name)
        others = sorted(p for p in _root().glob(f"{name}-*") if p.is_dir() and p != folder and p.name.rpartition("-")[0] == name)
        found.append(EnvironmentStatus(name, folder, _complete(folder), len(_pins(path)), tuple(others)))
    return found


def find_uv() -> str:
    """The ``uv`` program: of the PyPI package, else on ``PATH``.

    Raises:
        EnvironmentBuildError: there is none.
    """
    try:
        from uv import find_uv_bin

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if found is None:
        raise EnvironmentBuildError(
            "uv is not installed, and model environments are built with it; run 'pip install uv', or pass --environment PATH"
        )
    return found


def inspect_environment(python: Path, name: str) -> PythonEnvironment:
    """Asks an interpreter for its packages.

    Raises:
        EnvironmentBuildError: it does not run, or is older than Python 3.10.
    """
    try:
        done = subprocess.run([str(python), "-c", _INSPECT], capture_output=True, text=True, timeout=120, check=False)
    except OSError as error:
        raise EnvironmentBuildError(f"cannot run {python}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise EnvironmentBuildError(f"{python} is not a working Python: no answer within {error.timeout:.0f} s") from error
    try:
        answer = json.loads(done.stdout)
        version, packages = tuple(int(part) for part in answer["python"]), dict(answer["packages"])
    except (ValueError, TypeError, LookupError) as error:
        said = (done.stderr.strip().splitlines() or ["no output"])[-1][:200]
        if "import json" in said:  # another program, which quotes the script
            said = "it does not run Python code"
        raise EnvironmentBuildError(f"{python} is not a working Python: {said}") from error
    if version < (3, 10):
        raise EnvironmentBuildError(f"{python} is Python {'.'.join(map(str, version))}; models need 3.10 or newer")
    content = json.dumps({"python": version[:2], "packages": packages}, sort_keys=True)
    return PythonEnvironment(python, name, packages, hashlib.sha256(content.encode()).hexdigest())


def ensure_environment(name: str | Path, *, progress: Callable[[str], None] | None = None) -> PythonEnvironment:
    """An environment ready to run workers in; a managed one is built first if it is not there yet.

    Args:
        name: a managed environment's name, ``current`` for the running Python, or the path of an interpreter or of a folder
            (virtual environment) that holds one.
        progress: called with a line on what is being done.

    Raises:
        UnknownNameError: no such name or path.
        EnvironmentBuildError: uv is missing or failed (the message ends with the tail of its output).
        DefectbenchError: the interpreter does not run or is older than Python 3.10, or no home folder is known for a leading ``~name``.
    """
    text = str(name)
    if text == "current":
        return inspect_environment(Path(sys.executable), "current")
    if text not in _lists():
        path = user_path(text)
        for candidate in (path, _python_of(path)):
            if candidate.is_file():
                try:
                    return inspect_environment(candidate.absolute(), text)
                except EnvironmentBuildError as error:
                    raise DefectbenchError(f"{error}; give --environment an interpreter or the folder of a virtual environment") from error
        raise UnknownNameError("environment", text, [*_lists(), "current"])
    folder = _folder(text)
    if not _complete(folder):
        _build(text, folder, progress or (lambda _line: None))
    recorded = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    return PythonEnvironment(_python_of(folder), text, recorded["packages"], pins_sha256(text))


def create_environment(name: str, *, progress: Callable[[str], None] | None = None) -> PythonEnvironment:
    """Builds a managed environment if it is not there yet.

    Raises:
        UnknownNameError: no such managed environment (paths and ``current`` are none).
        EnvironmentBuildError: as :func:`ensure_environment`.
    """
    _list_path(name)
    return ensure_environment(name, progress=progress)


def remove_environment(name: str) -> list[Path]:
    """Removes a managed environment and those of its earlier lists; returns the removed folders.

    Raises:
        UnknownNameError: no such environment.
    """
    from filelock import FileLock

    _list_path(name)
    removed = []
    status = next(s for s in list_environments() if s.name == name)
    for folder in (status.path, *status.outdated):
        if folder.is_dir():
            with FileLock(str(folder) + ".lock"):
                (folder / MARKER).unlink(missing_ok=True)
                shutil.rmtree(folder)
            Path(str(folder) + ".lock").unlink(missing_ok=True)
            removed.append(folder)
    return removed


def _build(name: str, folder: Path, progress: Callable[[str], None]) -> None:
    from filelock import FileLock

    uv = find_uv()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentBuildError(f"cannot create {folder.parent}: {error.strerror}; set DEFECTBENCH_CACHE") from error
    with FileLock(str(folder) + ".lock"):
        if _complete(folder):
            return
        # A venv cannot be moved, so it is built in place and counts only once the marker is there.
        shutil.rmtree(folder, ignore_errors=True)
        progress(f"building the environment '{name}' in {folder} (once)")
        _uv([uv, "venv", "--no-project", "--python", PYTHON_VERSION, str(folder)], name, progress)
        install = [uv, "pip", "install", "--python", str(_python_of(folder)), "-r", str(_list_path(name))]
        if (overrides := overrides_path(name)) is not None:
            install += ["--override", str(overrides)]
        _uv(install, name, progress)
        packages = inspect_environment(_python_of(folder), name).packages
        partial = folder / f".{MARKER}.part"
        partial.write_text(json.dumps({"name": name, "packages": packages}, indent=1, sort_keys=True), encoding="utf-8")
        partial.replace(folder / MARKER)


_OFFLINE = (
    "dns error",
    "failed to lookup address",
    "network is unreachable",
    "connection refused",
    "could not connect",
    "error sending request",
    "network connectivity is disabled",
)


def _uv(command: list[str], name: str, progress: Callable[[str], None]) -> None:
    # uv's own variables (UV_INDEX_URL, UV_FIND_LINKS, UV_TORCH_BACKEND, …) go through; the caller's virtual environment must not.
    variables = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}
    if "UV_FIND_LINKS" not in variables and variables.get("PIP_FIND_LINKS"):  # local wheels that pip is told of serve uv, too
        variables["UV_FIND_LINKS"] = ",".join(variables["PIP_FIND_LINKS"].split())
    try:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=variables, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise EnvironmentBuildError(f"cannot run {command[0]}: {error.strerror}; reinstall uv, or pass --environment PATH") from error
    lines: list[str] = []
    with process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.strip():
                    lines.append(line.rstrip())
                    progress(line.rstrip())
        except BaseException:
            process.kill()
            raise
    if process.returncode == 0:
        return
    output = "\n".join(lines[-_TAIL_LINES:])
    lowered = output.lower()
    if any(sign in lowered for sign in _OFFLINE):
        raise EnvironmentBuildError(
            f"the environment '{name}' could not be built: no connection to the package index; connect to the network, "
            f"set UV_INDEX_URL or UV_FIND_LINKS to a mirror, or pass --environment PATH. The end of uv's output:\n{output}"
        )
    raise EnvironmentBuildError(
        f"the environment '{name}' could not be built ('{' '.join(command[1:3])}' ended with {process.returncode}):\n{output}"
    )
