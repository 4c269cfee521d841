"""Python environments for models: managed ones built once with uv from pinned lists, the current one, or any other."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import site
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from defectbench.base.downloads import cache_folder
from defectbench.base.errors import DefectbenchError, EnvironmentBuildError, UnknownNameError
from defectbench.base.files import write_text
from defectbench.base.hardware import gpus
from defectbench.base.paths import user_path
from defectbench.base.processes import guarded
from defectbench.base.variables import seen_variables
from defectbench.models.manifest import INTERPRETER, read_manifest

MARKER = "defectbench-environment.json"
PYTHON_VERSION = "3.11"
_TAIL_LINES = 12

SEE_PATHS = (
    "import sys\n"
    "at = next((i for i, p in enumerate(sys.path) if p.endswith(('site-packages', 'dist-packages'))), len(sys.path))\n"
    "sys.path[at:at] = [p for p in sys.argv[1:] if p]\n"
)
"""Start of a script for ``python -I -c``: modules are imported from its arguments after the standard library, before what is installed."""

_INSPECT = SEE_PATHS + (
    "import json\nfrom importlib import metadata\n"
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
        torch_backend: what its build of torch is for, see :func:`built_for`.
    """

    name: str
    path: Path
    built: bool
    packages: int
    outdated: tuple[Path, ...]
    torch_backend: str | None = None


def import_paths(name: str) -> list[str]:
    """Folders that a worker imports from beside its interpreter's own: for ``current`` those of ``PYTHONPATH`` and the user's own packages.

    Workers and helpers run isolated from both, and from the folder where the command runs: a ``json.py`` there is never imported.
    """
    if name != "current":
        return []
    given = [str(Path(path).absolute()) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    own = site.getusersitepackages() if site.ENABLE_USER_SITE else None
    return given + ([own] if own and Path(own).is_dir() else [])


def _lists() -> dict[str, Path]:
    folder = Path(str(resources.files("defectbench.models") / "environments"))
    return {path.stem: path for path in sorted(folder.glob("*.txt"))}


def is_managed(name: str) -> bool:
    """Whether a managed environment has this name."""
    return name in _lists()


def _list_path(name: str) -> Path:
    lists = _lists()
    if name not in lists:
        raise UnknownNameError("environment", name, lists)
    return lists[name]


def _pins(path: Path) -> tuple[str, ...]:
    """The ``name==version`` of a list that all platforms need, sorted."""
    lines = (line.strip(" \\") for line in path.read_text(encoding="utf-8").splitlines())
    return tuple(sorted(line for line in lines if line and not line.startswith(("#", "--hash")) and ";" not in line))


def pinned_versions(name: str) -> dict[str, str]:
    """Package (lower case, with hyphens) → version, of what a managed environment's list pins for all platforms.

    Raises:
        UnknownNameError: no such environment.
    """
    pairs = (line.partition("==") for line in _pins(_list_path(name)))
    return {package.lower().replace("_", "-"): version for package, _, version in pairs}


def pins_sha256(name: str) -> str:
    """Hash over a managed environment's pinned list and Python version; neither hashes of files nor what one platform needs count.

    Raises:
        UnknownNameError: no such environment.
    """
    overrides = _list_path(name).with_suffix(".overrides")
    excluded = _excluded(overrides) if overrides.is_file() else ()
    content = "\n".join((f"python {PYTHON_VERSION}", *_pins(_list_path(name)), *excluded))
    return hashlib.sha256(content.encode()).hexdigest()


def _excluded(path: Path) -> tuple[str, ...]:
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return tuple(sorted(line for line in lines if line))


def _root() -> Path:
    return cache_folder() / "environments"


def _folder(name: str) -> Path:
    return _root() / f"{name}-{pins_sha256(name)[:12]}"


def _python_of(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _complete(folder: Path) -> bool:
    """Whether it was built to the end; one from before manifests were kept counts as not built."""
    try:
        return "manifest" in json.loads((folder / MARKER).read_text(encoding="utf-8")) and _python_of(folder).exists()
    except (OSError, ValueError):
        return False


def built_for(folder: Path) -> str | None:
    """What the torch of an environment was built for, as uv names it (``cpu``, ``cu126``, ``rocm6.3``); None without torch.

    Args:
        folder: of the environment.
    """
    for path in (*folder.glob("lib/python*/site-packages/torch/version.py"), *folder.glob("Lib/site-packages/torch/version.py")):
        found = dict(re.findall(r"^(cuda|hip|rocm|xpu)\b.*=\s*'([^']+)'", path.read_text(encoding="utf-8"), flags=re.MULTILINE))
        if "cuda" in found:
            return "cu" + "".join(found["cuda"].split(".")[:2])
        return next((f"rocm{'.'.join(found[name].split('.')[:2])}" for name in ("rocm", "hip") if name in found), "xpu" if found else "cpu")
    return None


def environment_folder(name: str) -> Path:
    """The folder of a managed environment in the cache, built or not.

    Raises:
        UnknownNameError: no such environment.
    """
    return _folder(name)


def list_environments() -> list[EnvironmentStatus]:
    """Every managed environment, built or not."""
    found = []
    for name, path in _lists().items():
        folder = _folder(name)
        others = sorted(p for p in _root().glob(f"{name}-*") if p.is_dir() and p != folder and p.name.rpartition("-")[0] == name)
        found.append(EnvironmentStatus(name, folder, _complete(folder), len(_pins(path)), tuple(others), built_for(folder)))
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
            "uv is not installed, and model environments are built with it; run 'pip install uv', or pass --environment PATH", code="no-uv"
        )
    return found


def inspect_environment(python: Path, name: str) -> PythonEnvironment:
    """Asks an interpreter for its packages.

    Raises:
        EnvironmentBuildError: it does not run, or is older than Python 3.10.
    """
    try:
        command = [str(python), "-I", "-c", _INSPECT, *import_paths(name)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=seen_variables())
    except OSError as error:
        raise EnvironmentBuildError(f"cannot run {python}: {error.strerror}", code="bad-python") from error
    except subprocess.TimeoutExpired as error:
        raise EnvironmentBuildError(
            f"{python} is not a working Python: no answer within {error.timeout:.0f} s", code="bad-python"
        ) from error
    try:
        answer = json.loads(done.stdout)
        version, packages = tuple(int(part) for part in answer["python"]), dict(answer["packages"])
    except (ValueError, TypeError, LookupError) as error:
        said = (done.stderr.strip().splitlines() or ["no output"])[-1][:200]
        if "import sys" in said:  # another program, which quotes the script
            said = "it does not run Python code"
        raise EnvironmentBuildError(f"{python} is not a working Python: {said}", code="bad-python") from error
    if version < (3, 10):
        raise EnvironmentBuildError(f"{python} is Python {'.'.join(map(str, version))}; models need 3.10 or newer", code="bad-python")
    content = json.dumps({"python": version[:2], "packages": packages}, sort_keys=True)
    return PythonEnvironment(python, name, packages, hashlib.sha256(content.encode()).hexdigest())


def ensure_environment(name: str | Path, *, device: str = "cpu", progress: Callable[[str], None] | None = None) -> PythonEnvironment:
    """An environment ready to run workers in; a managed one is built first if it is not there yet.

    Args:
        name: a managed environment's name, ``current`` for the running Python, or the path of an interpreter or of a folder
            (virtual environment) that holds one.
        device: that it is for: with ``cuda``, one whose torch was built for CPUs is refused (code ``cpu-environment``).
        progress: called with a line on what is being done.

    Raises:
        UnknownNameError: no such name or path.
        EnvironmentBuildError: uv is missing or failed (the message ends with the tail of its output), or what it installed was changed.
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
                    raise DefectbenchError(
                        f"{error}; give --environment an interpreter or the folder of a virtual environment", code=error.code
                    ) from error
        raise UnknownNameError("environment", text, [*_lists(), "current"])
    folder = _folder(text)
    if not _complete(folder):
        if device != "cpu" and _uv_variables().get("UV_TORCH_BACKEND") == "cpu":
            raise _for_cpus(text, device, "would be built for CPUs here, where no GPU is found,")
        _build(text, folder, progress or (lambda _line: None))
    recorded = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    found = read_manifest(folder)
    if not recorded["manifest"].keys() & set(INTERPRETER):  # built by an earlier version
        found = {name: what for name, what in found.items() if name not in INTERPRETER}
    if changed := sorted(name for name, _ in recorded["manifest"].items() ^ found.items()):
        raise EnvironmentBuildError(
            f"the environment '{text}' was changed after it was built ({', '.join(dict.fromkeys(changed[:5]))}); "
            f"run 'defectbench environments remove {text}', and the next run builds it again",
            code="environment-changed",
        )
    if device != "cpu" and built_for(folder) == "cpu":
        raise _for_cpus(text, device, "was built for CPUs")
    return PythonEnvironment(_python_of(folder), text, recorded["packages"], pins_sha256(text))


def _for_cpus(name: str, device: str, what: str) -> DefectbenchError:
    return DefectbenchError(
        f"the environment '{name}' {what} and cannot use --device {device}; run 'defectbench environments create {name} "
        "--torch-backend auto' on the machine with the GPU, or with e.g. cu126 on another",
        code="cpu-environment",
    )


def create_environment(name: str, *, torch_backend: str | None = None, progress: Callable[[str], None] | None = None) -> PythonEnvironment:
    """Builds a managed environment if it is not there yet, or again for another build of torch.

    Args:
        name: of the environment.
        torch_backend: the build of torch, as uv names it: ``cpu``, ``cu126``, ``auto``, …; by default any that is there, else that of
            the pinned list with a GPU here and ``cpu`` without one.
        progress: called with a line on what is being done.

    Raises:
        UnknownNameError: no such managed environment (paths and ``current`` are none).
        EnvironmentBuildError: as :func:`ensure_environment`.
    """
    _list_path(name)
    folder = _folder(name)
    if torch_backend is not None and not (_complete(folder) and built_for(folder) in (torch_backend, None)):
        remove_environment(name)
        _build(name, folder, progress or (lambda _line: None), torch_backend)
    return ensure_environment(name, progress=progress)


def remove_environment(name: str) -> list[Path]:
    """Removes a managed environment and those of its earlier lists; returns the removed folders.

    Raises:
        UnknownNameError: no such environment.
        EnvironmentBuildError: another process is building it, or a folder cannot be removed.
    """
    from filelock import FileLock, Timeout

    _list_path(name)
    removed = []
    status = next(s for s in list_environments() if s.name == name)
    for folder in (status.path, *status.outdated):
        if folder.is_dir():
            try:
                with FileLock(_lock_file(folder), timeout=0):
                    (folder / MARKER).unlink(missing_ok=True)
                    shutil.rmtree(folder)
            except Timeout:
                raise EnvironmentBuildError(
                    f"another process is building the environment '{name}' in {folder}; wait for it or stop it, then remove it",
                    code="environment-in-use",
                ) from None
            except OSError as error:
                raise EnvironmentBuildError(
                    f"cannot remove {folder}: {error.strerror}; remove the rest of it by hand", code="not-writable"
                ) from error
            removed.append(folder)
    return removed


def _lock_file(folder: Path) -> Path:
    """Held while an environment is built or removed. It stays: whoever waits for it would wait for another file than the next one."""
    return folder.with_name(f"{folder.name}.lock")


def _build(name: str, folder: Path, progress: Callable[[str], None], backend: str | None = None) -> None:
    from filelock import FileLock, Timeout

    uv = find_uv()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentBuildError(
            f"cannot create {folder.parent}: {error.strerror}; set DEFECTBENCH_CACHE", code="not-writable"
        ) from error
    lock = FileLock(_lock_file(folder))
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        progress(f"waiting for another process, which builds the environment '{name}'")
        held = lock.acquire()
    with held:
        if _complete(folder):
            return
        # A venv cannot be moved, so it is built in place and counts only once the marker is there.
        shutil.rmtree(folder, ignore_errors=True)
        progress(f"building the environment '{name}' in {folder} (once)")
        _uv([uv, "venv", "--no-project", "--python", PYTHON_VERSION, str(folder)], name, progress)
        _install(uv, name, folder, progress, backend)
        packages = inspect_environment(_python_of(folder), name).packages
        marker = {"name": name, "packages": packages, "manifest": read_manifest(folder)}
        write_text(folder / MARKER, json.dumps(marker, indent=1, sort_keys=True))


def _install(uv: str, name: str, folder: Path, progress: Callable[[str], None], backend: str | None = None) -> None:
    """Installs a list, each file checked by its hash.

    A build of torch that the user chose (``--torch-backend``, ``UV_TORCH_BACKEND``, local wheels) is not the one whose hash the list has,
    and brings other packages. It alone is then checked by its version only.
    """
    # the list is complete, so that nothing else is asked for; this is what --require-hashes is for
    install = [uv, "pip", "install", "--python", str(_python_of(folder))]
    blocks = re.split(r"\n(?=[A-Za-z0-9])", _list_path(name).read_text(encoding="utf-8").strip())
    chosen = next((block.split()[0] for block in blocks if block.startswith("torch==")), None)
    if chosen is None or not (backend or any(_uv_variables().get(variable) for variable in ("UV_TORCH_BACKEND", "UV_FIND_LINKS"))):
        _uv([*install, "--require-hashes", "--no-deps", "-r", str(_list_path(name))], name, progress)
        return
    hashed = folder / "requirements.txt"
    hashed.write_text("\n".join(block for block in blocks if not _WITH_TORCH.match(block)) + "\n", encoding="utf-8")
    _uv([*install, "--require-hashes", "--no-deps", "-r", str(hashed)], name, progress)
    progress(f"{chosen} is another build than the list's (no GPU, --torch-backend, UV_… variables): only its version is checked")
    _uv([*install, *(("--torch-backend", backend) if backend else ()), chosen], name, progress)


_WITH_TORCH = re.compile(r"torch==|triton==|cuda-|nvidia-(?!ml-py)")
"""Of a list: torch and what only its build for CUDA needs."""

_OFFLINE = (
    "dns error",
    "failed to lookup address",
    "network is unreachable",
    "connection refused",
    "could not connect",
    "error sending request",
    "network connectivity is disabled",
)


def _uv_variables() -> dict[str, str]:
    # uv's own variables (UV_INDEX_URL, UV_FIND_LINKS, UV_TORCH_BACKEND, …) go through; the caller's virtual environment must not.
    variables = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}
    if "UV_FIND_LINKS" not in variables and variables.get("PIP_FIND_LINKS"):  # local wheels given to pip serve uv, too
        variables["UV_FIND_LINKS"] = ",".join(variables["PIP_FIND_LINKS"].split())
    if not any(variables.get(name) for name in ("UV_TORCH_BACKEND", "UV_FIND_LINKS")) and not gpus():
        variables["UV_TORCH_BACKEND"] = "cpu"  # else gigabytes of CUDA that nothing here can use
    return variables


def _uv(command: list[str], name: str, progress: Callable[[str], None]) -> None:
    lines: list[str] = []
    # a pyproject.toml or uv.toml where the command runs, in a stranger's folder, could name another index
    with guarded([*command[:2], "--no-config", *command[2:]], environment=_uv_variables(), stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip():
                lines.append(line.rstrip())
                progress(line.rstrip())
    if process.returncode == 0:
        return
    output = "\n".join(lines[-_TAIL_LINES:])
    lowered = output.lower()
    if any(sign in lowered for sign in _OFFLINE):
        raise EnvironmentBuildError(
            f"the environment '{name}' could not be built: no connection to the package index; connect to the network, "
            f"set UV_INDEX_URL or UV_FIND_LINKS to a mirror, or pass --environment PATH. The end of uv's output:\n{output}",
            code="download-failed",
        )
    raise EnvironmentBuildError(
        f"the environment '{name}' could not be built ('{' '.join(command[1:3])}' ended with {process.returncode}):\n{output}"
    )
