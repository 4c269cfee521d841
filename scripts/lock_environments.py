"""Locks the model environments: ``NAME.in`` (what a model needs) → ``NAME.txt`` (every package pinned, with the hashes of its files).

    python scripts/lock_environments.py [NAME ...] [--upgrade]

Without ``--upgrade`` versions already pinned stay. A list holds for all platforms: what only some of them need carries a marker, among it
the CUDA packages that torch takes from PyPI on Linux. Kept are the hashes of the wheels that fit the environments' Python, on any platform,
and of the source where there is no such wheel.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from packaging.markers import Marker, default_environment
from packaging.utils import parse_wheel_filename

from defectbench.models.environment import PYTHON_VERSION, find_uv

FOLDER = Path(__file__).resolve().parent.parent / "defectbench" / "models" / "environments"
MINOR = int(PYTHON_VERSION.split(".")[1])
PLATFORMS = (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("win32", "AMD64"))


def holds(marker: str, sys_platform: str, machine: str) -> bool:
    """Whether a package is needed on a platform, by the environments' Python."""
    variables: dict[str, str] = {
        **default_environment(),  # type: ignore[dict-item]  # all of it is text
        "python_version": PYTHON_VERSION,
        "python_full_version": f"{PYTHON_VERSION}.0",
        "sys_platform": sys_platform,
        "platform_system": {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}[sys_platform],
        "os_name": "nt" if sys_platform == "win32" else "posix",
        "platform_machine": machine,
    }
    return Marker(marker).evaluate(variables)


def fits(wheel: str) -> bool:
    """Whether a wheel of this file name installs into the environments' Python, on whatever platform."""

    def usable(interpreter: str, abi: str) -> bool:
        if interpreter in ("py3", f"py3{MINOR}", f"cp3{MINOR}"):
            return True
        return abi == "abi3" and interpreter.startswith("cp3") and int(interpreter.removeprefix("cp3")) <= MINOR

    return any(usable(tag.interpreter, tag.abi) for tag in parse_wheel_filename(wheel)[3])


def requirement(package: dict[str, Any]) -> list[str]:
    """The lines of one locked package; none where no platform needs it."""
    needed = [holds(package["marker"], *platform) for platform in PLATFORMS] if "marker" in package else [True]
    if not any(needed):
        return []
    files = [wheel for wheel in package.get("wheels", []) if fits(wheel["url"].rpartition("/")[2])] or [package["sdist"]]
    marker = f" ; {package['marker']}" if not all(needed) else ""
    hashes = sorted({file["hashes"]["sha256"] for file in files})
    lines = [f"{package['name']}=={package['version']}{marker}", *(f"    --hash=sha256:{digest}" for digest in hashes)]
    return [f"{line} \\" for line in lines[:-1]] + lines[-1:]


def lock(name: str, upgrade: bool) -> str:
    source, target = FOLDER / f"{name}.in", FOLDER / f"{name}.txt"
    with tempfile.TemporaryDirectory() as folder:
        locked = Path(folder) / "pylock.toml"
        command = [find_uv(), "pip", "compile", str(source), "--universal", "--python-version", PYTHON_VERSION]
        command += ["--format", "pylock.toml", "--output-file", str(locked), "--quiet", "--no-config"]
        overrides = source.with_suffix(".overrides")
        if overrides.is_file():
            command += ["--override", str(overrides)]
        if target.is_file() and not upgrade:
            constraints = Path(folder) / "constraints.txt"
            pins = (line.split(";")[0].rstrip(" \\") for line in target.read_text(encoding="utf-8").splitlines() if "==" in line)
            constraints.write_text("".join(f"{pin}\n" for pin in pins if not pin.startswith("#")), encoding="utf-8")
            command += ["--constraints", str(constraints)]
        # no local wheels, no chosen build of torch: their hashes are not those of the index
        variables = {name: value for name, value in os.environ.items() if name not in ("UV_FIND_LINKS", "UV_TORCH_BACKEND")}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
        if done.returncode != 0:
            sys.exit(f"{name}: uv failed\n{done.stderr}")
        packages = tomllib.loads(locked.read_text(encoding="utf-8"))["packages"]
    header = f"# Locked from {name}.in by scripts/lock_environments.py for Python {PYTHON_VERSION}; edit {name}.in, not this file."
    lines = [header, *(line for package in sorted(packages, key=lambda p: p["name"]) for line in requirement(package))]
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"{name}: {len(packages)} packages"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = sorted(path.stem for path in FOLDER.glob("*.in"))
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"environments to lock (default: all): {', '.join(known)}")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that NAME.in allows")
    arguments = parser.parse_args()
    for name in arguments.names or known:
        if name not in known:
            sys.exit(f"there is no {name}.in; known: {', '.join(known)}")
        print(lock(name, arguments.upgrade), flush=True)


if __name__ == "__main__":
    main()
