"""Structures to look at: a model's ground state over DFT's, and DFT's own minima. Plain numbers for the viewer of the pages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from defectbench.base.errors import DefectbenchError
from defectbench.base.files import contained
from defectbench.base.states import ChargeState, format_charge

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    from defectbench.datasets.dataset import Dataset
    from defectbench.leaderboard.entry_view import EntryView
    from defectbench.scoring.landscape import ReferenceState
    from defectbench.structures.matching import Match
    from defectbench.structures.symmetry import Operations
    from defectbench.tasks.relax.rows import StateRow

    Floats = NDArray[np.float64]

MOST_FRAMES = 15
"""Of a DFT relaxation; longer ones are thinned evenly, first and last kept."""


@dataclass(frozen=True)
class Layer:
    """A structure, or one after another, in the order of the scene's atoms.

    Attributes:
        label: what it is.
        frames: (frames, 3 n): Cartesian positions in Å, rounded to 1 mÅ.
        notes: a text per frame.
        between: whether the way between the frames is unknown, so that the viewer joins them by a straight line.
    """

    label: str
    frames: tuple[tuple[float, ...], ...]
    notes: tuple[str, ...]
    between: bool = False


@dataclass(frozen=True)
class Scene:
    """What the viewer shows of a charge state.

    Attributes:
        name: for files and addresses.
        title: for people.
        symbols: (n,) chemical symbols.
        cell: rows are lattice vectors, Å.
        centre: of the defect, Å; in the frame of the layers.
        radii: covalent radius per element, Å: atoms nearer than 1.2 times the sum are drawn as bonded.
        reference: what stands in grey, and what displacements start from; None if there is nothing to compare with.
        layers: the structures to choose from, the first is shown first.
        text: the scene in words, for those who do not see it.
    """

    name: str
    title: str
    symbols: tuple[str, ...]
    cell: tuple[tuple[float, ...], ...]
    centre: tuple[float, ...]
    radii: dict[str, float]
    reference: Layer | None
    layers: tuple[Layer, ...]
    text: str


def scene_name(defect: str, charge: int) -> str:
    """The name of a charge state's scene: safe as a file and in an address."""
    return re.sub(r"[^A-Za-z0-9_.+-]", "_", ChargeState(defect, charge).label)


def model_scenes(entry: EntryView, dataset: Dataset | None) -> list[Scene]:
    """A model's ground state of each charge state, from its start to where it relaxed, over DFT's ground state.

    The model's structure is laid onto DFT's by the host's symmetry, as for the RMSD. Without DFT (another dataset than the entry's,
    one whose files are fetched from elsewhere, or a charge state without a minimum) it stands over the model's own perfect host.

    Args:
        entry: with ``structures.extxyz`` in its folder.
        dataset: that the entry was made on; None if its structures cannot be shown.

    Returns:
        A scene per charge state that has a ground state; empty without structures.

    Raises:
        DatasetError: ``structures.extxyz`` cannot be read.
        DefectbenchError: it is a link out of the folder.
    """
    from defectbench.datasets.extxyz import read_extxyz
    from defectbench.tasks.relax.rows import StateRow

    path = contained(entry.folder, "structures.extxyz")
    if not path.is_file() or "relax" not in entry.record.tasks:
        return []
    rows = entry.record.table("relax", "states", StateRow)
    shown = {(row["defect"], str(row["charge"]), str(row["configuration"])) for row in rows}

    def shows(info: Mapping[str, str]) -> bool:
        return info.get("defect") == "host" or (info.get("defect"), info.get("charge"), info.get("configuration")) in shown

    frames = read_extxyz(path, shows)
    found = {(a.info.get("defect"), a.info.get("charge"), str(a.info.get("configuration"))): a for a in frames}
    host = next((a for name, a in found.items() if name[0] == "host"), None)
    if dataset is not None and dataset.sha256 != entry.record.dataset.sha256:
        dataset = None
    scenes = []
    for row in rows:
        atoms = found.get((row["defect"], row["charge"], str(row["configuration"])))
        if atoms is None:
            continue
        scene = _over_dft(entry.record.model.name, row, atoms, dataset) if dataset is not None else None
        scene = scene or (_over_host(entry.record.model.name, row, atoms, host) if host is not None else None)
        scenes += [scene] if scene is not None else []
    return scenes


def dft_scenes(dataset: Dataset) -> list[Scene]:
    """DFT's relaxed structures of each charge state, lowest first, each with its relaxation, laid onto the lowest."""
    from defectbench.scoring.landscape import operations_of
    from defectbench.structures.matching import match

    scenes, operations = [], operations_of(dataset)
    for defect, charge in dataset.states:
        minima = sorted(dataset.minima(defect, charge).values(), key=lambda m: m.energy)
        if not minima:
            continue
        lowest = minima[0]
        layers = []
        for minimum in minima:
            frames = _thinned(dataset.frames(defect, charge, minimum.configuration)) or [minimum.atoms]
            above = [float(a.get_potential_energy()) - lowest.energy for a in frames]
            notes = tuple(f"{energy:+.3f} eV".replace("-", "\N{MINUS SIGN}") for energy in above)
            label = f"{minimum.configuration}, {minimum.energy - lowest.energy:.3f} eV above the lowest"
            found = match(minimum.atoms, lowest.atoms, operations)
            layers.append(Layer(label, tuple(_flat(_laid(a, found, lowest.atoms, operations)) for a in frames), notes))
        text = f"{len(minima)} relaxed structures of {ChargeState(defect, charge)} at {dataset.level}: " + "; ".join(
            x.label for x in layers
        )
        ground = Layer(f"lowest minimum ({lowest.configuration})", (_flat(lowest.atoms.positions),), ("",))
        scenes.append(_scene(defect, charge, lowest.atoms, dataset.defect_position(defect, lowest.atoms), ground, layers, text))
    return scenes


def _thinned(frames: Sequence[Atoms]) -> list[Atoms]:
    if len(frames) <= MOST_FRAMES:
        return list(frames)
    return [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, MOST_FRAMES).round().astype(int))]


def _laid(atoms: Atoms, found: Match, reference: Atoms, operations: Operations) -> Floats:
    """Another structure of a matched candidate's relaxation, in the place of the match: (n, 3), Å."""
    from defectbench.structures.lattice import minimum_image

    end = reference.positions + found.displacements
    image = (operations.apply(found.operation, atoms.positions) + found.translation)[found.permutation]
    return np.asarray(end + minimum_image(image - end, reference.cell.array))


@lru_cache(maxsize=100)
def _reference(dataset: Dataset, defect: str, charge: int) -> ReferenceState | None:
    """DFT's minima of a charge state, distinguished once and not for every model."""
    from defectbench.scoring.landscape import operations_of, reference_state

    return reference_state(dataset, defect, charge, operations_of(dataset))


def _over_dft(model: str, row: StateRow, atoms: Atoms, dataset: Dataset) -> Scene | None:
    """Over the nearest of DFT's ground states, as its distances in the entry are."""
    from defectbench.scoring.landscape import operations_of
    from defectbench.structures.matching import match

    defect, charge = row["defect"], row["charge"]
    operations = operations_of(dataset)
    state = _reference(dataset, defect, charge)
    if state is None or sorted(state.ground.atoms.numbers) != sorted(atoms.numbers):
        return None
    centre = state.centre
    matches = [(match(atoms, one.atoms, operations, centre), one) for one in state.distinct[: state.grounds]]
    found, ground = min(matches, key=lambda item: item[0].rmsd)
    reference = ground.atoms
    end = np.asarray(reference.positions + found.displacements)
    frames, notes = [end], ["relaxed"]
    start = dataset.starts(defect, charge).get(str(row["configuration"]))
    if start is not None and len(start) == len(atoms):
        frames.insert(0, _laid(start, found, reference, operations))
        notes.insert(0, "start")
    layer = Layer(f"{model}: ground state, from {row['configuration']}", tuple(_flat(f) for f in frames), tuple(notes), between=True)
    local = "" if found.local_rmsd is None else f", {found.local_rmsd:.3f} Å within 5 Å of the defect"
    text = (
        f"{model}'s ground state of {ChargeState(defect, charge)} (from {row['configuration']}) over {dataset.level}'s "
        f"({ground.configuration}): "
        f"RMSD {found.rmsd:.3f} Å{local}; largest displacement {found.max_displacement:.3f} Å"
    )
    grey = Layer(f"{dataset.level} ground state ({ground.configuration})", (_flat(reference.positions),), ("",))
    return _scene(defect, charge, reference, centre, grey, [layer], text)


def _over_host(model: str, row: StateRow, atoms: Atoms, host: Atoms) -> Scene | None:
    """Each atom over the nearest site of the perfect host; the defect is where a site or an atom is left over."""
    from scipy.optimize import linear_sum_assignment

    from defectbench.structures.lattice import minimum_image

    if not np.allclose(atoms.cell.array, host.cell.array, atol=1e-3):
        return None
    apart = minimum_image(atoms.positions[:, None] - host.positions[None], host.cell.array)
    far = np.linalg.norm(apart, axis=2) + 100.0 * (np.asarray(atoms.numbers)[:, None] != np.asarray(host.numbers)[None])
    rows, columns = linear_sum_assignment(far)
    paired = far[rows, columns] < 50.0
    base = np.array(atoms.positions, dtype=float)
    base[rows[paired]] = atoms.positions[rows[paired]] - apart[rows[paired], columns[paired]]
    empty = np.setdiff1d(np.arange(len(host)), columns[paired])
    added = np.setdiff1d(np.arange(len(atoms)), rows[paired])
    points = [*host.positions[empty], *atoms.positions[added]]
    centre = np.array(points[0] if points else host.positions[0], dtype=float)
    label = f"{model}: ground state, from {row['configuration']}"
    grey = Layer(f"{model}'s perfect host", (_flat(base),), ("",))
    state = ChargeState(row["defect"], row["charge"])
    farthest = float(np.linalg.norm(atoms.positions - base, axis=1).max())
    text = (
        f"{model}'s ground state of {state} over its own perfect host: largest displacement {farthest:.3f} Å. "
        "DFT's structure is not part of this site"
    )
    return _scene(
        *state, atoms, centre, grey, [Layer(label, (_flat(base), _flat(atoms.positions)), ("host", "relaxed"), between=True)], text
    )


def _scene(defect: str, charge: int, atoms: Atoms, centre: Floats, reference: Layer | None, layers: Iterable[Layer], text: str) -> Scene:
    from ase.data import covalent_radii

    numbers = {str(a.symbol): int(a.number) for a in atoms}
    return Scene(
        name=scene_name(defect, charge),
        title=f"{defect}, charge {format_charge(charge)}",
        symbols=tuple(atoms.get_chemical_symbols()),
        cell=tuple(tuple(float(x) for x in row) for row in atoms.cell.array.round(5)),
        centre=tuple(float(x) for x in np.asarray(centre).round(3)),
        radii={symbol: round(float(covalent_radii[number]), 3) for symbol, number in sorted(numbers.items())},
        reference=reference,
        layers=tuple(layers),
        text=text,
    )


def _flat(positions: Floats) -> tuple[float, ...]:
    flat = np.asarray(positions, dtype=float).round(3).ravel()
    if not np.all(np.isfinite(flat)):
        raise DefectbenchError("a structure has positions that are not numbers", code="bad-entry")
    return tuple(float(x) for x in flat)
