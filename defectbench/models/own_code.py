"""Hash of a user's own calculator: the code behind an ``ase_calculator`` and the files that its arguments name."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectbench.base.downloads import cache_folder
from defectbench.base.errors import ModelError
from defectbench.base.files import sha256_of
from defectbench.base.variables import seen_variables
from defectbench.models.environment import SEE_PATHS, import_paths

if TYPE_CHECKING:
    from defectbench.models.environment import PythonEnvironment

MOST_FILES = 2000
"""In a folder that an argument names."""
_INSTALLED = ("site-packages", "dist-packages")
_NOT_CODE = ("__pycache__", "node_modules", *_INSTALLED)

# arguments: the folders that the worker imports from, the module's first name
_FIND = (
    "import sys\nname = sys.argv.pop()\n"
    + SEE_PATHS
    + "import importlib.util, json\n"
    + "try:\n    spec = importlib.util.find_spec(name)\n"
    + "except (ImportError, ValueError):\n    spec = None\n"
    + "print()\n"
    + "print(json.dumps([spec.origin, list(spec.submodule_search_locations or ())] if spec else [None, []]))"
)


def own_code_sha256(arguments: Mapping[str, Any], folder: Path | None, environment: PythonEnvironment | None) -> str | None:
    """Hash of the code and the files that a factory's calculator is made of, whatever folder they lie in.

    Code is every ``*.py`` file in the tree of ``folder`` if the factory's module lies there (hidden folders, caches and virtual
    environments are left out), else of the installed package that the module belongs to, as the environment's interpreter finds
    it. Files are those that an argument names, seen from the current folder, where the worker runs, and from ``folder``; of a
    folder that an argument names every file counts, hidden ones and caches left out.

    Args:
        arguments: of the definition, with ``factory``.
        folder: of the definition's YAML; None for a definition that comes from none.
        environment: what the model runs in; None where that is not known, and then only ``folder`` is looked through.

    Returns:
        None if there is neither code nor file to be found.

    Raises:
        ModelError: a file that an argument names cannot be read, or a folder holds too many.
    """
    code = {name: sha256_of(path) for name, path in sorted(_code(str(arguments["factory"]), folder, environment))}
    files = {
        where: digests
        for name, value in arguments.items()
        if name != "factory"
        for where, text in _texts(name, value)
        if (digests := _contents(text, folder))
    }
    if not code and not files:
        return None
    return hashlib.sha256(json.dumps({"code": code, "files": files}, sort_keys=True).encode()).hexdigest()


def _code(factory: str, folder: Path | None, environment: PythonEnvironment | None) -> list[tuple[str, Path]]:
    module = factory.split(":")[0]
    top, path = module.split(".")[0], module.replace(".", "/")
    if folder is not None and any(
        (folder / name).is_file() for name in (f"{top}.py", f"{top}/__init__.py", f"{path}.py", f"{path}/__init__.py")
    ):
        return list(_python_files(folder))
    if environment is None:
        return []
    origin, packages = _find(top, folder, environment)
    if packages:
        return [(f"{top}/{name}", file) for package in packages for name, file in _python_files(package)]
    if origin is None or not origin.is_file():
        return []
    # a module beside others of its owner, as on PYTHONPATH; what is installed beside it is another's
    return [(origin.name, origin)] if origin.parent.name in _INSTALLED else list(_python_files(origin.parent))


def _find(top: str, folder: Path | None, environment: PythonEnvironment) -> tuple[Path | None, list[Path]]:
    """Where a worker would import a module from: its file, and the folders of a package. Nothing if it would not find any."""
    command = [str(environment.python), "-I", "-c", _FIND, str(folder or ""), *import_paths(environment.name), top]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=seen_variables())
        origin, packages = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, IndexError, ValueError):
        return None, []  # the worker will say what is wrong
    return (Path(origin) if origin else None), [Path(package) for package in packages]


def _python_files(root: Path) -> Iterator[tuple[str, Path]]:
    """(path below ``root``, file) of each ``*.py`` file that could be imported from there; links are followed, each folder once."""
    top = root.resolve()
    seen = {cache_folder().resolve(), *top.parents} - {top}

    def walk(folder: Path, prefix: str) -> Iterator[tuple[str, Path]]:
        real = folder.resolve()
        if real in seen:
            return
        seen.add(real)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:  # nothing is imported from there either
            return
        names = {entry.name for entry in entries}
        if prefix and ("pyvenv.cfg" in names or "conda-meta" in names):
            return
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _NOT_CODE:
                continue
            path = folder / entry.name
            if entry.is_dir():
                yield from walk(path, f"{prefix}{entry.name}/")
            elif entry.name.endswith(".py") and entry.is_file() and os.access(path, os.R_OK):
                yield prefix + entry.name, path

    yield from walk(root, "")


def _texts(name: str, value: object) -> Iterator[tuple[str, str]]:
    """(``key.key…``, text) of each text in an argument, however deep."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(f"{name}.{key}", item)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _texts(f"{name}.{index}", item)


def _contents(text: str, folder: Path | None) -> list[str]:
    """Digests of the file or folder that a text may name; two where the current folder and ``folder`` have different ones of that name."""
    found = set()
    try:
        given = Path(text).expanduser()
        places = [path for path in (given, *([folder / given] if folder is not None else [])) if text and (path.is_file() or path.is_dir())]
    except (OSError, RuntimeError, ValueError):  # too long for a name, no such user, …: no path
        return []
    for path in places:
        try:
            found.add(sha256_of(path) if path.is_file() else _folder_sha256(path))
        except OSError as error:
            raise ModelError(
                f"cannot read {error.filename or path}, which the model's arguments name: {error.strerror}", code="unreadable-file"
            ) from error
    return sorted(found)


def _folder_sha256(root: Path) -> str:
    """Over the names and contents of all files in a folder's tree."""
    digests: dict[str, str] = {}
    seen: set[Path] = set()

    def look(folder: Path, prefix: str) -> None:
        if (real := folder.resolve()) in seen:  # a link that leads back
            return
        seen.add(real)
        for path in sorted(folder.iterdir()):
            if path.name.startswith(".") or path.name in _NOT_CODE:
                continue
            if path.is_dir():
                look(path, f"{prefix}{path.name}/")
            elif path.is_file():
                if len(digests) == MOST_FILES:
                    raise ModelError(
                        f"the folder {root}, which the model's arguments name, holds more than {MOST_FILES:,} files; all of them would "
                        "belong to the model's identity: name a folder that holds the weights alone",
                        code="bad-model-yaml",
                    )
                digests[prefix + path.name] = sha256_of(path)

    look(root, "")
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
