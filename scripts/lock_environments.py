"""Locks the model environments: ``NAME.in`` (what a model needs) → ``NAME.txt`` (every package pinned).

    python scripts/lock_environments.py [NAME ...] [--upgrade]

Without ``--upgrade`` versions already pinned stay. Local version suffixes (``+cpu``) and CUDA packages are left out of the lists: which
build of torch is right is a matter of the machine, and uv takes it from its own settings (``UV_TORCH_BACKEND``, ``UV_FIND_LINKS``).
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from defectbench.models.environment import PYTHON_VERSION, find_uv

FOLDER = Path(__file__).resolve().parent.parent / "defectbench" / "models" / "environments"
MACHINE_BOUND = re.compile(r"^(nvidia-(?!ml-py)|cuda-|triton)")


def clean(lines: list[str]) -> list[str]:
    """Pins without comments, local suffixes and CUDA packages, sorted."""
    pins = (line.split("#")[0].strip() for line in lines)
    kept = (re.sub(r"==([^+;\s]+)\+[A-Za-z0-9.]+", r"==\1", pin) for pin in pins if pin and not pin.startswith("-"))
    return sorted({pin for pin in kept if not MACHINE_BOUND.match(pin)}, key=str.lower)


def lock(name: str, upgrade: bool) -> str:
    source, target = FOLDER / f"{name}.in", FOLDER / f"{name}.txt"
    command = [find_uv(), "pip", "compile", str(source), "--python-version", PYTHON_VERSION, "--no-header", "--no-annotate", "--quiet"]
    overrides = source.with_suffix(".overrides")
    if overrides.is_file():
        command += ["--override", str(overrides)]
    with tempfile.TemporaryDirectory() as folder:
        if target.is_file() and not upgrade:
            constraints = Path(folder) / "constraints.txt"
            constraints.write_text(target.read_text(encoding="utf-8"), encoding="utf-8")
            command += ["--constraints", str(constraints)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{name}: uv failed\n{done.stderr}")
    pins = clean(done.stdout.splitlines())
    header = f"# Locked from {name}.in by scripts/lock_environments.py for Python {PYTHON_VERSION}; edit {name}.in, not this file.\n"
    target.write_text(header + "\n".join(pins) + "\n", encoding="utf-8")
    return f"{name}: {len(pins)} packages"


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
