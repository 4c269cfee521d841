"""The tables of the data page, from the dataset alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from defectbench.base.errors import DatasetError
from defectbench.base.files import write_text
from defectbench.base.states import format_charge, is_relaxation
from defectbench.datasets.catalogue import load_dataset
from defectbench.datasets.dataset import Dataset, ReferenceMinimum, StateKey
from defectbench.scoring.landscape import operations_of
from defectbench.structures.lattice import minimum_image
from defectbench.thermodynamics import find_corrections, formation_energy, level_diagram

from .analysis import Minimum, describe_state, same_minima
from .comparison import compared_states
from .corrections import METHOD, Efnv, corrections_of
from .properties import read_properties
from .reference_data import relaxed_at, same_geometry

BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
COMPARISON = ("<!-- comparison: begin -->", "<!-- comparison: end -->")


def tables(folder: Path, level: str | None = None) -> str:
    """All tables, as Markdown.

    Raises:
        DatasetError: no valid dataset.
        UnknownNameError: no such level.
    """
    dataset = load_dataset(folder)
    name = level or dataset.level
    dataset.level_of_theory(name)
    parts = []
    for relaxed in [name, *(other for other in _others(dataset, name) if dataset.level_of_theory(other).convergence is not None)]:
        parts += [
            (f"Extent ({relaxed})", _extent(dataset, relaxed)),
            (f"Ground states ({relaxed})", _ground_states(dataset, relaxed)),
            (f"Minima ({relaxed})", _minima(dataset, relaxed)),
            (f"Relaxations ({relaxed})", _relaxations(dataset, relaxed)),
        ]
    parts += [
        ("The same minima at two levels", _same_at_two_levels(dataset, name)),
        ("Single points", _single_points(dataset)),
        ("Minima at other levels", _minima_elsewhere(dataset, name)),
        ("Forces at other levels", _forces_elsewhere(dataset, name)),
        ("Host and elements", _host(dataset, name)),
        ("Finite-size corrections", _corrections(dataset, name)),
        ("Transition levels", _levels(dataset)),
        ("Force check", _force_check(dataset, name)),
        ("Other settings", _checks(dataset, name)),
    ]
    state = f"Content of the dataset: `{dataset.sha256[:16]}`.\n"
    return "\n".join([state, *(f"### {title}\n\n{text}\n" for title, text in parts)])


def comparison(folder: Path, other: str, level: str | None = None) -> str:
    """The ground states beside those of another dataset of the same host, as a Markdown table.

    Args:
        folder: of the dataset.
        other: name or folder of the other.
        level: level of theory here (default: the reference level).

    Raises:
        DefectbenchError: one of them cannot be loaded.
    """
    dataset, there = load_dataset(folder), load_dataset(other)
    body = []
    for minima, published in compared_states(dataset, there, level):
        ground = minima[0]
        plain = next((m for m in minima if m.configuration == "Unperturbed"), None)
        body.append(
            _row(
                ground.defect,
                format_charge(ground.charge),
                f"{_bonds(ground)}; {ground.shortest:.2f}",
                "–" if plain is None else f"{_bonds(plain)}; {plain.shortest:.2f}",
                f"{_bonds(published)}; {published.shortest:.2f}",
            )
        )
    heading = ("defect", "charge", f"ground state, {level or dataset.level}", "`Unperturbed`", f"`{there.id}`, {there.level}")
    return _table(heading, body)


def update_page(page: Path, text: str, marks: tuple[str, str] = (BEGIN, END)) -> None:
    """Replaces what stands between two marks of a Markdown page.

    Raises:
        DatasetError: the page cannot be read or written, or has no marks.
    """
    try:
        content = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"cannot read {page}: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from error
    before, begin, rest = content.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise DatasetError(f"{page} has no lines '{marks[0]}' and '{marks[1]}' for the tables to go between")
    write_text(page, f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}")


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _table(heading: tuple[str, ...], body: list[str]) -> str:
    if not body:
        return "Nothing yet."
    return "\n".join([_row(*heading), _row(*["---"] * len(heading)), *body])


def _extent(dataset: Dataset, level: str) -> str:
    body, total = [], 0
    for defect, charge in dataset.states:
        names = filter(is_relaxation, dataset.configurations(defect, charge, level))
        found = {name: dataset.frames(defect, charge, name, level) for name in names}
        found = {name: frames for name, frames in found.items() if frames}
        if not found:
            continue
        done = dataset.minima(defect, charge, level)
        frames = sum(len(each) for each in found.values())
        total += frames
        body.append(_row(defect, format_charge(charge), len(dataset.starts(defect, charge)), len(done), len(found) - len(done), frames))
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
                format_charge(charge),
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
    operations = operations_of(dataset)
    for defect, charge in dataset.states:
        minima = describe_state(dataset, defect, charge, level)
        like = same_minima(dataset.minima(defect, charge, level), operations)
        for m in minima:
            mark = "" if like[m.configuration] == m.configuration else f" (as {like[m.configuration]})"
            cells = (m.configuration, f"{m.energy:.3f}{mark}", _bonds(m), _clusters(m), f"{m.shortest:.2f}", m.frames)
            body.append(_row(defect, format_charge(charge), *cells))
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
        for name in filter(is_relaxation, dataset.configurations(defect, charge, level)):
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
                    format_charge(charge),
                    name,
                    len(frames),
                    f"{energies[-1]:.4f}",
                    f"{np.abs(forces).max():.4f}",
                    f"{np.sqrt((forces**2).mean()):.4f}",
                    f"{max(rise, 0.0) * 1000:.1f}",
                    retries,
                    _largest_spin(frames),
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
            "largest ⟨S²⟩",
            "converged",
        ),
        body,
    )


def _single_points(dataset: Dataset) -> str:
    body = []
    for level in dataset.levels:
        for defect, charge in dataset.states:
            for name in dataset.configurations(defect, charge, level):
                if dataset.level_of_theory(level).convergence is not None and is_relaxation(name):
                    continue
                frames = dataset.frames(defect, charge, name, level)
                if frames:
                    body.append(_row(level, defect, format_charge(charge), name, len(frames), _largest_spin(frames)))
    return _table(("level", "defect", "charge", "of", "frames", "largest ⟨S²⟩"), body)


def _largest_spin(frames: Sequence[Atoms]) -> str:
    """The largest ⟨S²⟩ of frames; none where all are closed shells or have none."""
    found = [float(a.info["s_squared"]) for a in frames if "s_squared" in a.info]
    return f"{max(found):.3f}" if found else "–"


def _minima_elsewhere(dataset: Dataset, name: str) -> str:
    """Energies of other levels of theory at the minima of one, above that at its ground state."""
    body = []
    for level in _others(dataset, name):
        for defect, charge in dataset.states:
            minima = sorted(dataset.minima(defect, charge, name).values(), key=lambda m: m.energy)
            found = [(m, atoms) for m in minima if (atoms := _frame_at(dataset, m, level)) is not None]
            # without the ground state among them their energies have nothing to stand above
            if not found or found[0][0] is not minima[0]:
                continue
            zero = float(found[0][1].get_potential_energy())
            for m, atoms in found:
                forces = np.asarray(atoms.get_forces())
                here, there = m.energy - minima[0].energy, float(atoms.get_potential_energy()) - zero
                size = (f"{np.abs(forces).max():.3f}", f"{np.sqrt((forces**2).mean()):.3f}")
                body.append(_row(f"{level}//{name}", defect, format_charge(charge), m.configuration, f"{here:.3f}", f"{there:.3f}", *size))
    return _table(
        (
            "level of theory",
            "defect",
            "charge",
            f"minimum at {name}",
            f"above the ground state at {name} (eV)",
            "above the same structure at this level (eV)",
            "largest force component at this level (eV/Å)",
            "rms",
        ),
        body,
    )


def _forces_elsewhere(dataset: Dataset, name: str) -> str:
    """How far the forces of other levels of theory are from those of one, on the same frames."""
    body = []
    for level in _others(dataset, name):
        for defect, charge in dataset.states:
            here, there = [], []
            for configuration in dataset.configurations(defect, charge, level):
                parents = {int(a.info["step"]): a for a in dataset.frames(defect, charge, configuration, name)}
                for atoms in dataset.frames(defect, charge, configuration, level):
                    parent = parents.get(int(atoms.info["step"]))
                    if parent is not None and same_geometry(atoms, parent):
                        here.append(np.asarray(parent.get_forces()))
                        there.append(np.asarray(atoms.get_forces()))
            if here:
                difference = np.array(there) - np.array(here)
                size = [float(np.sqrt((values**2).mean())) for values in (np.array(here), np.array(there), difference)]
                largest = f"{np.abs(difference).max():.3f}"
                body.append(_row(level, defect, format_charge(charge), len(here), *(f"{value:.3f}" for value in size), largest))
    return _table(
        (
            "level of theory",
            "defect",
            "charge",
            "frames",
            f"rms force at {name} (eV/Å)",
            "at this level",
            "rms difference (eV/Å)",
            "largest (eV/Å)",
        ),
        body,
    )


def _same_at_two_levels(dataset: Dataset, name: str) -> str:
    """How far the minimum of one start moves from level to level, and what becomes of the order."""
    body = []
    for level in _others(dataset, name):
        for defect, charge in dataset.states:
            here, there = dataset.minima(defect, charge, name), dataset.minima(defect, charge, level)
            shared = [configuration for configuration in here if configuration in there]
            lowest = [min((minima[c].energy for c in shared), default=0.0) for minima in (here, there)]
            for configuration in shared:
                a, b = here[configuration].atoms, there[configuration].atoms
                moved = minimum_image(b.positions - a.positions, a.cell)
                distance = np.linalg.norm(moved - moved.mean(axis=0), axis=1)
                above = (f"{minima[configuration].energy - zero:.3f}" for minima, zero in zip((here, there), lowest, strict=True))
                rms = f"{float(np.sqrt((distance**2).mean())):.3f}"
                body.append(
                    _row(defect, format_charge(charge), configuration, f"{name}, {level}", *above, rms, f"{float(distance.max()):.3f}")
                )
    heading = (
        *("defect", "charge", "start", "levels", "above the lowest shared one, first level (eV)", "second level (eV)"),
        *("rms displacement (Å)", "largest (Å)"),
    )
    return _table(heading, body)


def _others(dataset: Dataset, name: str) -> list[str]:
    return [level for level in dataset.levels if level != name]


def _host(dataset: Dataset, name: str) -> str:
    body = []
    for level in [name, *_others(dataset, name)]:
        found = dataset.level_of_theory(level)
        edges = found.band_edges
        gap = "–" if edges is None or edges.cbm is None else f"{edges.cbm - edges.vbm:.3f}"
        cells = ["–" if found.host_energy is None else f"{found.host_energy:.4f}", "–" if edges is None else f"{edges.vbm:.4f}", gap]
        rich = [
            f"{condition.name}: " + ", ".join(f"{element} {value:.4f}" for element, value in sorted(condition.potentials.items()))
            for condition in found.chemical_potentials
        ]
        body.append(_row(level, *cells, "; ".join(rich) or "–"))
    return _table(
        ("level", "host energy (eV)", "valence band maximum (eV)", "gap at Γ of the supercell (eV)", "chemical potentials (eV)"), body
    )


def _corrections(dataset: Dataset, name: str) -> str:
    body = []
    for level in (name, *_others(dataset, name)):
        entry = dataset.level_of_theory(level)
        details: Mapping[StateKey, Efnv] = {}
        if entry.correction_method == METHOD:
            _, details = corrections_of(dataset, relaxed_at(dataset, level), read_properties(dataset.path, level))
        for item in entry.corrections:
            if item.charge == 0:
                continue
            ground = dataset.ground_state(item.defect, item.charge, relaxed_at(dataset, level))
            configuration = "–" if ground is None else ground.configuration
            numbers = (f"{item.image_charge:.3f}", f"{item.potential_alignment:+.3f}", f"{item.total:+.3f}")
            found = details.get((item.defect, item.charge))
            more = ("–", "–") if found is None else (f"{found.spread:.3f}", found.sites)
            body.append(_row(level, item.defect, format_charge(item.charge), configuration, *numbers, *more))
    heading = (
        "level of theory",
        "defect",
        "charge",
        "ground state",
        "point charge (eV)",
        "alignment (eV)",
        "sum (eV)",
        "spread of the far potential (V)",
        "far sites",
    )
    return _table(heading, body)


def _levels(dataset: Dataset) -> str:
    """ε(q/q′) above the valence band maximum of every level of theory that has band edges.

    At its own ground states where it has relaxations, else at those of the reference level.
    """
    body = []
    for level in dataset.levels:
        found = dataset.level_of_theory(level)
        edges = found.band_edges
        for defect in dataset.defects if edges is not None else ():
            own_minima = {q: g for q in dataset.charges(defect) if (g := dataset.ground_state(defect, q, level)) is not None}
            grounds = {q: g for q in dataset.charges(defect) if (g := dataset.ground_state(defect, q)) is not None}
            there = own_minima or grounds
            energies = {q: e for q, g in there.items() if (e := _energy_at(dataset, g, level)) is not None}
            if len(energies) < 2 or edges is None:
                continue
            own = find_corrections(found, defect, sorted(energies))
            lines = {q: formation_energy(q, energy, 0.0, 0.0, edges.vbm, own.of(q)) for q, energy in energies.items()}
            diagram = level_diagram(lines)
            name = level if own_minima else f"{level}//{dataset.level}"
            for item in diagram.levels:
                if item.upper - item.lower == 1 or item in diagram.stable_levels:
                    between = f"({format_charge(item.upper)}/{format_charge(item.lower)})"
                    stable = "yes" if item in diagram.stable_levels else "no"
                    body.append(_row(name, defect, between, f"{item.fermi_level:+.3f}", stable, own.status))
    return _table(
        ("level of theory", "defect", "level", "above the valence band maximum (eV)", "between stable charges", "finite size"), body
    )


def _energy_at(dataset: Dataset, ground: ReferenceMinimum, level: str) -> float | None:
    """The energy of a level of theory at the geometry of a ground state of the reference level; None if it was not calculated."""
    if level == ground.level:
        return ground.energy
    atoms = _frame_at(dataset, ground, level)
    return None if atoms is None else float(atoms.get_potential_energy())


def _frame_at(dataset: Dataset, minimum: ReferenceMinimum, level: str) -> Atoms | None:
    """The frame of another level of theory at the geometry of a minimum; None if it was not calculated."""
    frames = dataset.frames(minimum.defect, minimum.charge, minimum.configuration, level)
    return next((atoms for atoms in frames if same_geometry(atoms, minimum.atoms)), None)


def _results(dataset: Dataset, name: str) -> list[dict[str, Any]]:
    """Results that are not frames, of a level and then of the others."""
    return [result for level in (name, *_others(dataset, name)) for result in read_properties(dataset.path, level)]


def _force_check(dataset: Dataset, name: str) -> str:
    body = []
    for result in _results(dataset, name):
        if result["kind"] == "finite_difference":
            body.append(
                _row(
                    result["level"],
                    result["defect"],
                    format_charge(result["charge"]),
                    f"{result['configuration']}, step {result['step']}",
                    f"{result['atom']} {'xyz'[result['axis']]}",
                    f"{result['force']:.5f}",
                    f"{result['force_by_difference']:.5f}",
                )
            )
    heading = ("level of theory", "defect", "charge", "frame", "component", "force (eV/Å)", "minus energy difference quotient (eV/Å)")
    return _table(heading, body)


def _checks(dataset: Dataset, name: str) -> str:
    body = []
    for result in _results(dataset, name):
        if result["kind"] != "check":
            continue
        body.append(
            _row(
                result["level"],
                result["name"],
                f"{result['defect']} {format_charge(result['charge'])}, {result['configuration']}, step {result['step']}",
                f"{result['energy_difference'] * 1000:.2f}",
                f"{result['force_difference_rms']:.4f}",
                f"{result['force_difference_max']:.4f}",
                "–" if result["s_squared"] is None else f"{result['s_squared']:.3f}",
            )
        )
    heading = (
        "level of theory",
        "changed",
        "frame",
        "energy difference (meV, whole cell)",
        "force difference, rms (eV/Å)",
        "largest (eV/Å)",
        "⟨S²⟩",
    )
    return _table(heading, body)


def _bonds(minimum: Minimum) -> str:
    return ", ".join(f"{bond.element}–{bond.element} {bond.length:.2f}" for bond in minimum.bonds) or "none"


def _clusters(minimum: Minimum) -> str:
    angles = ", ".join(f"{angle:.0f}°" for angle in minimum.angles)
    return (", ".join(minimum.clusters) or "none") + (f" ({angles})" if angles else "")
