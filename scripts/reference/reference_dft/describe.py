"""The tables of the data page, from the dataset alone."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from defectbench.datasets.catalogue import load_dataset
from defectbench.datasets.dataset import Dataset
from defectbench.errors import DatasetError

from .analysis import Minimum, describe_state, distinct
from .job import write_atomically
from .properties import read_properties

BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"


def tables(folder: Path, level: str | None = None) -> str:
    """All tables, as Markdown.

    Raises:
        DatasetError: no valid dataset.
        UnknownNameError: no such level.
    """
    dataset = load_dataset(folder)
    name = level or dataset.level
    dataset.level_of_theory(name)
    parts = [
        ("Extent", _extent(dataset, name)),
        ("Ground states", _ground_states(dataset, name)),
        ("Minima", _minima(dataset, name)),
        ("Relaxations", _relaxations(dataset, name)),
        ("Force check", _force_check(folder, name)),
        ("Other settings", _checks(folder, name)),
    ]
    state = f"Content of the dataset: `{dataset.sha256[:16]}`.\n"
    return "\n".join([state, *(f"### {title} ({name})\n\n{text}\n" for title, text in parts)])


def update_page(page: Path, text: str) -> None:
    """Replaces what stands between the two marks of a Markdown page.

    Raises:
        DatasetError: the page cannot be read or written, or has no marks.
    """
    try:
        content = page.read_text(encoding="utf-8")
    except OSError as error:
        raise DatasetError(f"cannot read {page}: {error.strerror}") from error
    before, begin, rest = content.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise DatasetError(f"{page} has no lines '{BEGIN}' and '{END}' for the tables to go between")
    write_atomically(page, f"{before}{BEGIN}\n\n{text.strip()}\n\n{END}{after}")


def _sign(charge: int) -> str:
    return f"{charge:+d}" if charge else "0"


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _table(heading: tuple[str, ...], body: list[str]) -> str:
    if not body:
        return "Nothing yet."
    return "\n".join([_row(*heading), _row(*["---"] * len(heading)), *body])


def _extent(dataset: Dataset, level: str) -> str:
    body, total = [], 0
    for defect, charge in dataset.states:
        names = dataset.configurations(defect, charge, level)
        found = {name: dataset.frames(defect, charge, name, level) for name in names}
        found = {name: frames for name, frames in found.items() if frames}
        if not found:
            continue
        done = dataset.minima(defect, charge, level)
        frames = sum(len(each) for each in found.values())
        total += frames
        body.append(_row(defect, _sign(charge), len(dataset.starts(defect, charge)), len(done), len(found) - len(done), frames))
    text = _table(("defect", "charge", "starts", "converged relaxations", "unfinished", "frames"), body)
    return f"{text}\n\n{total} frames in all." if body else text


def _ground_states(dataset: Dataset, level: str) -> str:
    body = []
    for defect, charge in dataset.states:
        minima = describe_state(dataset, defect, charge, level)
        if not minima:
            continue
        ground = minima[0]
        plain = next((m for m in minima if m.configuration == "Unperturbed"), None)
        body.append(
            _row(
                defect,
                _sign(charge),
                ground.configuration,
                "–" if plain is None else f"{plain.energy:.3f}",
                _bonds(ground),
                _clusters(ground),
                f"{ground.shortest:.2f}",
                "–" if ground.s_squared is None else f"{ground.s_squared:.3f}",
            )
        )
    return _table(
        (
            "defect",
            "charge",
            "lowest start",
            "`Unperturbed` above it (eV)",
            "homonuclear bonds (Å)",
            "clusters (angles)",
            "closest pair around the vacancy (Å)",
            "⟨S²⟩",
        ),
        body,
    )


def _minima(dataset: Dataset, level: str) -> str:
    body = []
    for defect, charge in dataset.states:
        minima = describe_state(dataset, defect, charge, level)
        kept = {m.configuration for m in distinct(minima)}
        for m in minima:
            mark = "" if m.configuration in kept else " (as the one above)"
            cells = (m.configuration, f"{m.energy:.3f}{mark}", _bonds(m), _clusters(m), f"{m.shortest:.2f}", m.frames)
            body.append(_row(defect, _sign(charge), *cells))
    return _table(
        (
            "defect",
            "charge",
            "start",
            "energy above the ground state (eV)",
            "homonuclear bonds (Å)",
            "clusters (angles)",
            "closest pair (Å)",
            "frames",
        ),
        body,
    )


def _relaxations(dataset: Dataset, level: str) -> str:
    body = []
    for defect, charge in dataset.states:
        for name in dataset.configurations(defect, charge, level):
            frames = dataset.frames(defect, charge, name, level)
            if not frames:
                continue
            energies = [float(a.get_potential_energy()) for a in frames]
            forces = np.asarray(frames[-1].get_forces())
            rise = max((b - a for a, b in pairwise(energies)), default=0.0)
            retries = sum(int(a.info.get("scf_attempt", 0)) > 0 for a in frames)
            body.append(
                _row(
                    defect,
                    _sign(charge),
                    name,
                    len(frames),
                    f"{energies[-1]:.4f}",
                    f"{np.abs(forces).max():.4f}",
                    f"{np.sqrt((forces**2).mean()):.4f}",
                    f"{max(rise, 0.0) * 1000:.1f}",
                    retries,
                    "yes" if frames[-1].info.get("converged") else "no",
                )
            )
    return _table(
        (
            "defect",
            "charge",
            "start",
            "frames",
            "last energy (eV)",
            "largest force component (eV/Å)",
            "rms",
            "largest rise (meV)",
            "frames after an SCF retry",
            "converged",
        ),
        body,
    )


def _force_check(folder: Path, level: str) -> str:
    body = []
    for result in read_properties(folder, level):
        if result["kind"] == "finite_difference":
            body.append(
                _row(
                    result["defect"],
                    _sign(result["charge"]),
                    f"{result['configuration']}, step {result['step']}",
                    f"{result['atom']} {'xyz'[result['axis']]}",
                    f"{result['force']:.5f}",
                    f"{result['force_by_difference']:.5f}",
                )
            )
    return _table(("defect", "charge", "frame", "component", "force (eV/Å)", "minus energy difference quotient (eV/Å)"), body)


def _checks(folder: Path, level: str) -> str:
    body = []
    for result in read_properties(folder, level):
        if result["kind"] != "check":
            continue
        body.append(
            _row(
                result["name"],
                f"{result['defect']} {_sign(result['charge'])}, {result['configuration']}, step {result['step']}",
                f"{result['energy_difference'] * 1000:.2f}",
                f"{result['force_difference_rms']:.4f}",
                f"{result['force_difference_max']:.4f}",
                "–" if result["s_squared"] is None else f"{result['s_squared']:.3f}",
            )
        )
    heading = ("changed", "frame", "energy difference (meV, whole cell)", "force difference, rms (eV/Å)", "largest (eV/Å)", "⟨S²⟩")
    return _table(heading, body)


def _bonds(minimum: Minimum) -> str:
    return ", ".join(f"{bond.element}–{bond.element} {bond.length:.2f}" for bond in minimum.bonds) or "none"


def _clusters(minimum: Minimum) -> str:
    angles = ", ".join(f"{angle:.0f}°" for angle in minimum.angles)
    return (", ".join(minimum.clusters) or "none") + (f" ({angles})" if angles else "")
