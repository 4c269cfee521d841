"""Reads CP2K's output and trajectory files while they grow; what is half written is left for later."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.units import Bohr, Hartree
from numpy.typing import NDArray

from defectbench.datasets.checks import START_TOLERANCE
from defectbench.datasets.extxyz import copy_with_results
from defectbench.structures.lattice import minimum_image

FORCE_UNIT = Hartree / Bohr
"""eV/Å per hartree/bohr."""

_ENERGY = re.compile(r"ENERGY\| Total FORCE_EVAL \( QS \) energy \[a\.u\.\]:\s+(\S+)")
_STEPS = re.compile(r"outer SCF loop converged in\s+\d+ iterations or\s+(\d+) steps|SCF run converged in\s+(\d+) steps")
_FAILED = re.compile(r"outer SCF loop FAILED to converge|SCF run NOT converged")
_OUTER_DONE = re.compile(r"outer SCF loop converged")
_S_SQUARED = re.compile(r"Ideal and single determinant S\*\*2\s*:\s+(\S+)\s+(\S+)")
_TIME = re.compile(r"Used time\s+=\s+(\S+)")
_FORCE_ROW = re.compile(r"^\s+\d+\s+\d+\s+[A-Z][a-z]?\s+(\S+)\s+(\S+)\s+(\S+)\s*$", re.MULTILINE)
_XYZ_COMMENT = re.compile(r"i =\s*(\d+),.*E =\s*(\S+)")


@dataclass(frozen=True)
class Evaluation:
    """One energy evaluation.

    Attributes:
        energy: eV.
        scf_converged: whether its self-consistency was reached.
        scf_steps: SCF steps it took; 0 if not reported.
        s_squared: expectation value of S² of the determinant; None if restricted.
        forces: (N, 3), eV/Å; None if not printed.
        seconds: wall-clock time of the step; None if not reported.
        step: the optimiser step (0 for the start); None for a single point or the last re-evaluation.
    """

    energy: float
    scf_converged: bool
    scf_steps: int
    s_squared: float | None
    forces: NDArray[np.float64] | None
    seconds: float | None
    step: int | None


@dataclass(frozen=True)
class BandEdges:
    """Highest occupied and lowest unoccupied eigenvalue over both spins, eV."""

    vbm: float
    cbm: float | None


def read_band_edges(path: Path) -> BandEdges | None:
    """Band edges over all points of a ``&BAND_STRUCTURE`` file (eigenvalues in eV); None if there is none or it is empty."""
    if not path.is_file():
        return None
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    values = [(float(row[1]), float(row[2])) for row in rows if len(row) == 3]
    occupied, empty = [e for e, f in values if f > 0.5], [e for e, f in values if f <= 0.5]
    return BandEdges(vbm=max(occupied), cbm=min(empty) if empty else None) if occupied else None


@dataclass(frozen=True)
class Output:
    """What a CP2K output says so far.

    Attributes:
        evaluations: finished energy evaluations in order.
        charge: total charge; None if not printed yet.
        multiplicity: spin multiplicity; None if not printed yet.
        unrestricted: spin polarised; None if not printed yet.
        electrons: valence electrons over both spins; None if not printed yet.
        scf_failed: the last finished or running evaluation did not reach self-consistency.
        completed: the relaxation met its criterion.
        ended: the program ended regularly.
        message: why the program stopped itself, or None.
        band_edges: where asked for.
        seconds_per_scf_step: median over all steps printed.
    """

    evaluations: tuple[Evaluation, ...] = ()
    charge: int | None = None
    multiplicity: int | None = None
    unrestricted: bool | None = None
    electrons: int | None = None
    scf_failed: bool = False
    completed: bool = False
    ended: bool = False
    message: str | None = None
    band_edges: BandEdges | None = None
    warnings: tuple[str, ...] = field(default=())


def parse_output(text: str) -> Output:
    """Parses the main output, finished or not.

    Args:
        text: content of the output file at PRINT_LEVEL MEDIUM.

    Returns:
        What it says; an empty text gives an :class:`Output` without evaluations.
    """
    marks = list(_ENERGY.finditer(text))
    evaluations: list[Evaluation] = []
    for index, mark in enumerate(marks):
        before = text[marks[index - 1].end() if index else 0 : mark.start()]
        after = text[mark.end() : marks[index + 1].start() if index + 1 < len(marks) else len(text)]
        found = re.search(r"Informations at step =\s+(\d+)", after)
        time = _TIME.search(after)
        spin = _S_SQUARED.findall(before)
        steps = _STEPS.findall(before)
        evaluations.append(
            Evaluation(
                energy=float(mark.group(1)) * Hartree,
                scf_converged=not _not_converged(before),
                scf_steps=int(steps[-1][0] or steps[-1][1]) if steps else 0,
                s_squared=float(spin[-1][1]) if spin else None,
                forces=_forces(after),
                seconds=float(time.group(1)) if time else None,
                step=int(found.group(1)) if found else None,
            )
        )
    running = text[marks[-1].end() :] if marks else text
    charge = re.search(r"DFT\| Charge\s+(-?\d+)", text)
    multiplicity = re.search(r"DFT\| Multiplicity\s+(\d+)", text)
    counts = re.findall(r"Number of electrons:\s+(\d+)", text[: marks[0].start()] if marks else text)
    unrestricted = None if charge is None else "Spin unrestricted (spin-polarized) Kohn-Sham" in text
    per_spin = 2 if unrestricted else 1
    return Output(
        evaluations=tuple(evaluations),
        charge=int(charge.group(1)) if charge else None,
        multiplicity=int(multiplicity.group(1)) if multiplicity else None,
        unrestricted=unrestricted,
        electrons=sum(int(count) for count in counts[:per_spin]) if len(counts) >= per_spin else None,
        scf_failed=_not_converged(running) or bool(evaluations and not evaluations[-1].scf_converged),
        completed="GEOMETRY OPTIMIZATION COMPLETED" in text,
        ended="PROGRAM ENDED AT" in text,
        message=_abort_message(text),
        band_edges=_band_edges(text),
    )


def _not_converged(text: str) -> bool:
    """An inner loop that ends early is normal as long as an outer one converges after it."""
    failures = list(_FAILED.finditer(text))
    if not failures:
        return False
    return not _OUTER_DONE.search(text, failures[-1].end())


def _forces(text: str) -> NDArray[np.float64] | None:
    start, end = text.find("ATOMIC FORCES in [a.u.]"), text.find("SUM OF ATOMIC FORCES")
    if start < 0 or end < start:
        return None
    rows = [[float(x) for x in row] for row in _FORCE_ROW.findall(text[start:end])]
    return np.array(rows, dtype=float) * FORCE_UNIT if rows else None


def _abort_message(text: str) -> str | None:
    """The text in CP2K's abort box, whose left ten columns are a drawing."""
    start = text.find("[ABORT]")
    if start < 0:
        return None
    words = []
    for line in text[text.rfind("\n ***", 0, start) + 1 :].splitlines()[1:]:
        if line.strip().startswith("****"):
            break
        inner = line[10:].rstrip().removesuffix("*").strip()
        if inner and not re.fullmatch(r"\S+\.F:\d+", inner):
            words.append(inner)
    return " ".join(words) or "CP2K stopped itself"


def _band_edges(text: str) -> BandEdges | None:
    occupied, empty = (
        _eigenvalues(text, "Eigenvalues of the occupied subspace spin"),
        _eigenvalues(text, "Lowest Eigenvalues of the unoccupied subspace spin"),
    )
    if not occupied:
        return None
    return BandEdges(vbm=max(occupied) * Hartree, cbm=min(empty) * Hartree if empty else None)


_BESIDE_EIGENVALUES = ("OT|", "WARNING :", "number of iterations", "current gradient")
"""Lines that may stand before eigenvalues: the error of an eigenvalue goes with the square of the gradient that such a warning names."""


def _eigenvalues(text: str, heading: str) -> list[float]:
    """Eigenvalues in the last blocks under a heading (one block a spin), hartree."""
    blocks: dict[str, list[float]] = {}
    for found in re.finditer(re.escape(heading) + r"\s+(\d+)\s*\n\s*-+\n", text):
        values: list[float] = []
        for line in text[found.end() : found.end() + 200_000].splitlines():
            if re.fullmatch(r"\s*(-?\d+\.\d+\s*)+", line):
                values += [float(x) for x in line.split()]
            elif not line.strip().startswith(_BESIDE_EIGENVALUES):
                break
        blocks[found.group(1)] = values
    return [value for values in blocks.values() for value in values]


@dataclass(frozen=True)
class TrajectoryFrame:
    """A frame of an XYZ file of CP2K: its optimiser step, its energy (eV) and (N, 3) numbers in the file's unit."""

    step: int
    energy: float
    values: NDArray[np.float64]


def read_trajectory(path: Path) -> dict[int, TrajectoryFrame]:
    """Reads ``*-pos-1.xyz`` or ``*-frc-1.xyz``; a last frame that is not complete is left out.

    Returns:
        By optimiser step; empty if there is no such file.
    """
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = text.split("\n")
    if text and not text.endswith("\n"):
        lines = lines[:-1]
    out: dict[int, TrajectoryFrame] = {}
    at = 0
    while at + 1 < len(lines):
        if not lines[at].strip().isdigit():
            break
        count = int(lines[at])
        comment = _XYZ_COMMENT.search(lines[at + 1])
        rows = [line.split() for line in lines[at + 2 : at + 2 + count]]
        if comment is None or len(rows) < count or any(len(row) < 4 for row in rows):
            break
        try:
            values = np.array([[float(x) for x in row[1:4]] for row in rows], dtype=float)
            out[int(comment.group(1))] = TrajectoryFrame(int(comment.group(1)), float(comment.group(2)) * Hartree, values)
        except ValueError:
            break
        at += 2 + count
    return out


def from_cp2k(frames: Sequence[Atoms], start: Atoms) -> list[Atoms]:
    """The frames of a CP2K relaxation as the format wants them.

    CP2K prints its trajectory after each move, so the frame it calls 0 has moved once and becomes step 1 (unless it is the start).
    After convergence it evaluates the last structure again: of two equal frames in a row the later one is kept, under the
    earlier one's step number.

    Args:
        frames: as parsed, ``info`` with ``step``.
        start: the structure that the relaxation started from.
    """
    out: list[Atoms] = []
    moved = minimum_image(frames[0].positions - start.positions, start.cell)
    offset = 1 if frames[0].info.get("step") == 0 and float(np.linalg.norm(moved, axis=1).max()) > START_TOLERANCE else 0
    for atoms in frames:
        frame = copy_with_results(atoms)
        frame.info["step"] = int(atoms.info["step"]) + offset
        if out and np.allclose(out[-1].positions, frame.positions, rtol=0.0, atol=1e-7):
            frame.info["step"] = out.pop().info["step"]
        out.append(frame)
    return out
