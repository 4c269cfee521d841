"""Reading and writing the extxyz files of a dataset: compact, and the same bytes for the same content."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from defectbench.base.errors import DatasetError
from defectbench.base.files import read_bytes, read_gzip, write_text
from defectbench.base.states import ChargeState

_PAIR = re.compile(r'(\w+)=("[^"]*"|\S+)')
MAX_BYTES = 500_000_000
"""Of an extxyz file, unpacked."""
_FRAME_FILE = re.compile(r"^(?P<defect>.+)_q(?P<charge>[+-]\d+)_(?P<configuration>.+)\.extxyz$")


def frame_file_name(defect: str, charge: int, configuration: str) -> str:
    """``("V_Sb1", -1, "Dimer")`` → ``V_Sb1_q-1_Dimer.extxyz``."""
    return f"{ChargeState(defect, charge).label}_{configuration}.extxyz"


def parse_frame_file_name(name: str) -> tuple[str, int, str] | None:
    """The reverse of :func:`frame_file_name`; None if the name is of another form."""
    found = _FRAME_FILE.match(name)
    return (found["defect"], int(found["charge"]), found["configuration"]) if found else None


def read_extxyz(path: Path, wanted: Callable[[Mapping[str, str]], bool] | None = None, *, last: bool = False) -> list[Atoms]:
    """All frames of an extxyz file; energy and forces, where given, are in a ``SinglePointCalculator``.

    Whole numbers and truth values in ``info`` become plain ``int`` and ``bool`` (a charge as a numpy scalar is a trap for models).

    Args:
        path: of the file.
        wanted: says by the keys and values of a comment line, as texts, whether its frame is read; the others cost next to nothing.
        last: read the last frame alone.

    Raises:
        DatasetError: no such file, or not extxyz.
    """
    from ase.io import read

    try:
        content = (read_gzip if path.suffix == ".gz" else read_bytes)(path, MAX_BYTES)
    except FileNotFoundError as error:
        raise DatasetError(f"there is no file {path}", code="no-file") from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}", code="unreadable-file") from error
    try:
        text = _without_blanks(decoded(content))
        if wanted is not None and not (text := _frames(text, wanted)):
            return []
        images = read(io.StringIO(text), index=-1 if last else ":", format="extxyz")
    except Exception as error:  # ASE raises anything on malformed text
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DatasetError(f"{path} is not extended XYZ: {reason}", code="bad-format") from error
    frames = images if isinstance(images, list) else [images]
    if not frames:
        raise DatasetError(f"{path} contains no frame", code="bad-format")
    for atoms in frames:
        for key, value in atoms.info.items():
            if isinstance(value, np.generic | np.ndarray) and value.ndim == 0:
                atoms.info[key] = value.item()
    return frames


def _frames(text: str, wanted: Callable[[Mapping[str, str]], bool]) -> str:
    """The frames that are wanted."""
    lines = text.splitlines(keepends=True)
    kept: list[str] = []
    start = 0
    while start < len(lines):
        end = start + int(lines[start]) + 2
        if wanted({key: value.strip('"') for key, value in _PAIR.findall(lines[start + 1])}):
            kept += lines[start:end]
        start = end
    return "".join(kept)


def decoded(content: bytes) -> str:
    """Text as UTF-8 without a byte-order mark; else as Latin-1, which old comments are in."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _without_blanks(text: str) -> str:
    """Without blank lines between frames; a blank comment line stays."""
    lines, out, position = text.splitlines(), [], 0
    while position < len(lines):
        line = lines[position].strip()
        if line:
            count = int(line) if line.isdecimal() and len(line) < 10 else len(lines)
            out += lines[position : position + count + 2]
            position += count + 1
        position += 1
    return "\n".join(out) + "\n"


def write_extxyz(path: Path, frames: Sequence[Atoms]) -> None:
    """Writes frames with positions to 1e-8 Å, forces to 1e-6 eV/Å and energies to 1e-6 eV; whole file or nothing.

    Energy and forces are taken from the attached calculator's stored results.

    Raises:
        RunError: the file cannot be written.
    """
    write_text(path, "".join(_frame_text(atoms) for atoms in frames))


def _frame_text(atoms: Atoms) -> str:
    results = stored_results(atoms)
    forces = results.get("forces")
    lattice = " ".join(f"{value:.10g}" for value in atoms.cell.array.ravel())
    fields = [f'Lattice="{lattice}"', "Properties=species:S:1:pos:R:3" + ("" if forces is None else ":forces:R:3")]
    fields += [f"{key}={_value_text(value)}" for key, value in atoms.info.items()]
    if "energy" in results:
        fields.append(f"energy={results['energy']:.6f}")
    fields.append('pbc="T T T"')
    columns = _columns(atoms.positions, "14.8f")
    if forces is not None:
        columns = [f"{a} {b}" for a, b in zip(columns, _columns(forces, "11.6f"), strict=True)]
    rows = [f"{symbol:<2} {row}" for symbol, row in zip(atoms.get_chemical_symbols(), columns, strict=True)]
    return "\n".join([str(len(atoms)), " ".join(fields), *rows]) + "\n"


def _columns(array: Any, spec: str) -> list[str]:
    rounded = np.round(np.asarray(array, dtype=float), int(spec.split(".")[1][:-1])) + 0.0  # no "-0.000000"
    return [" ".join(format(value, spec) for value in row) for row in rounded]


def _value_text(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "T" if value else "F"
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        return f"{float(value):.10g}"
    text = str(value)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' if re.search(r"[\s\"'={}\[\],\\]", text) or not text else text


def stored_results(atoms: Atoms) -> dict[str, Any]:
    """The results of the attached calculator as they are stored, without calculating anything; empty if there is none."""
    calculator = atoms.calc
    return {} if calculator is None else {k: v for k, v in dict(calculator.results).items() if v is not None}


def copy_with_results(atoms: Atoms) -> Atoms:
    """A deep copy that keeps stored energy and forces."""
    out: Atoms = atoms.copy()
    attach_results(out, **{key: value for key, value in stored_results(atoms).items() if key in ("energy", "forces")})
    return out


def attach_results(atoms: Atoms, *, energy: float | None = None, forces: Any = None) -> Atoms:
    """Attaches energy (eV) and forces ((N, 3), eV/Å), as far as given, through a ``SinglePointCalculator``; returns ``atoms``."""
    results: dict[str, Any] = {}
    if energy is not None:
        results["energy"] = float(energy)
    if forces is not None:
        results["forces"] = np.array(forces, dtype=float)
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def formula(symbols: Iterable[str]) -> str:
    """``Sb23Se36``: elements in alphabetical order with their counts."""
    from collections import Counter

    return "".join(f"{element}{count}" for element, count in sorted(Counter(symbols).items()))


def read_host(path: Path) -> Atoms:
    """The perfect supercell in an extxyz file, fully periodic, without calculator and labels.

    Raises:
        DatasetError: unreadable, or more than one frame.
    """
    frames = read_extxyz(path)
    if len(frames) != 1:
        raise DatasetError(f"{path} holds {len(frames)} frames; a host is one", code="bad-frame")
    return Atoms(frames[0].get_chemical_symbols(), positions=frames[0].positions, cell=frames[0].cell, pbc=True)
