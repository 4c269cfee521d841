"""DFT frames that several tasks put to the model: which are taken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from defectbench.base.states import is_relaxation, sort_key
from defectbench.structures.lattice import Lattice

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    from defectbench.calculations.plan import SelectedState
    from defectbench.datasets.dataset import Dataset

    Floats = NDArray[np.float64]


REFERENCE_FRAMES = 24
"""Frames of one charge state at the dataset's own level of theory that are put to the model."""

OTHER_FRAMES = 12
"""The same at each further level of theory."""

LARGEST_FORCE = 10.0
"""eV/Å: frames with a larger force on an atom are not put to the model. The first steps from strongly compressed starts have up to
150 eV/Å; a few of them would decide every root mean square alone, and no relaxed landscape is near them."""

SAME_GEOMETRY = 0.001
"""Å: two frames are one geometry if no atom is farther off than this (minimum image)."""


@dataclass(frozen=True, eq=False)
class ReferenceFrame:
    """One DFT frame with energy and forces.

    Attributes:
        level: level of theory.
        defect: name.
        charge: in units of +e.
        configuration: the start of the relaxation that it belongs to.
        index: its place among the relaxation's frames.
        atoms: N atoms, energy and forces attached.
    """

    level: str
    defect: str
    charge: int
    configuration: str
    index: int
    atoms: Atoms

    @property
    def relaxation(self) -> tuple[str, str, int, str]:
        """Which relaxation it belongs to: frames of one are not independent, so intervals are drawn over relaxations."""
        return (self.level, self.defect, self.charge, self.configuration)

    @property
    def energy(self) -> float:
        """DFT energy, eV."""
        return float(self.atoms.calc.results["energy"])  # get_potential_energy would compare all atoms first

    @property
    def forces(self) -> Floats:
        """DFT forces (N, 3), eV/Å."""
        return np.asarray(self.atoms.calc.results["forces"], dtype=float)


def spread(lengths: Sequence[int], cap: int) -> list[list[int]]:
    """Shares ``cap`` frames among relaxations and spreads each share evenly over its steps.

    Every relaxation gets one more in turn until the cap or its length is reached; a share of one takes the last frame, a larger one
    the first and the last and evenly spaced ones between.

    Args:
        lengths: number of frames of each relaxation.
        cap: of all together.

    Returns:
        For each relaxation the indices taken, ascending.
    """
    shares = [0] * len(lengths)
    left = cap
    while left > 0 and any(share < length for share, length in zip(shares, lengths, strict=True)):
        for i, length in enumerate(lengths):
            if shares[i] < length and left > 0:
                shares[i] += 1
                left -= 1
    out = []
    for share, length in zip(shares, lengths, strict=True):
        if share <= 1:
            out.append([length - 1][:share])
        else:
            out.append(sorted({int(i) for i in np.floor(np.linspace(0, length - 1, share) + 0.5)}))
    return out


def state_frames(dataset: Dataset, defect: str, charge: int, level: str, cap: int) -> list[ReferenceFrame]:
    """The frames of one charge state at one level that are put to the model: the same for every model and every selection of starts.

    Frames of relaxations only (:func:`~defectbench.base.states.is_relaxation`): points of paths and unrelaxed starts would change the mix.
    Frames with forces above :data:`LARGEST_FORCE` are left out.
    """
    names = sorted(filter(is_relaxation, dataset.configurations(defect, charge, level)), key=sort_key)
    relaxations = []
    for name in names:
        frames = [ReferenceFrame(level, defect, charge, name, i, a) for i, a in enumerate(dataset.frames(defect, charge, name, level))]
        frames = [frame for frame in frames if float(np.linalg.norm(frame.forces, axis=1).max()) <= LARGEST_FORCE]
        if frames:
            relaxations.append(frames)
    taken = spread([len(frames) for frames in relaxations], cap)
    return [frames[i] for frames, indices in zip(relaxations, taken, strict=True) for i in indices]


def selected_frames(dataset: Dataset, states: Iterable[SelectedState], levels: Sequence[str] | None = None) -> list[ReferenceFrame]:
    """The frames of all selected charge states, level by level (the dataset's own first)."""
    wanted = dataset.levels if levels is None else levels
    states = sorted(states, key=lambda s: (s.defect, s.charge))
    return [
        frame
        for level in wanted
        for state in states
        for frame in state_frames(dataset, state.defect, state.charge, level, REFERENCE_FRAMES if level == dataset.level else OTHER_FRAMES)
    ]


@dataclass(frozen=True, eq=False)
class SharedGeometry:
    """One geometry of one defect that DFT has at several charges.

    Attributes:
        defect: name.
        configuration: of the frame at the lowest charge.
        atoms: N atoms: the frame at the lowest charge; the model is asked for this one at every charge.
        frames: charge → DFT frame, by ascending charge.
    """

    defect: str
    configuration: str
    atoms: Atoms
    frames: Mapping[int, ReferenceFrame]


def shared_geometries(dataset: Dataset, states: Iterable[SelectedState]) -> list[SharedGeometry]:
    """All geometries that DFT has at two or more of the selected charges of a defect, at the dataset's own level.

    The ideal start ``Unperturbed`` is one structure for all charges; where its relaxations keep their first frame, or DFT has single
    points of it, it is such a geometry. A frame belongs to the nearest geometry that has each atom within :data:`SAME_GEOMETRY`; of each
    charge the nearest frame counts.
    """
    lattice = Lattice.of(dataset.host.cell.array)
    found: dict[tuple[str, tuple[int, ...]], _Geometries] = {}
    for state in sorted(states, key=lambda s: (s.defect, s.charge)):
        for name in sorted(dataset.configurations(state.defect, state.charge), key=sort_key):
            for i, atoms in enumerate(dataset.frames(state.defect, state.charge, name)):
                frame = ReferenceFrame(dataset.level, state.defect, state.charge, name, i, atoms)
                known = found.setdefault((state.defect, tuple(int(z) for z in atoms.numbers)), _Geometries(lattice))
                known.add(frame)
    return [
        SharedGeometry(defect, frames[min(frames)].configuration, frames[min(frames)].atoms, dict(sorted(frames.items())))
        for (defect, _), known in found.items()
        for frames in known.frames()
        if len(frames) > 1
    ]


class _Geometries:
    """Distinct geometries of equal composition and order, each with the nearest frame of each charge."""

    def __init__(self, lattice: Lattice) -> None:
        self._lattice = lattice
        self._places: list[Floats] = []
        self._firsts = np.empty((64, 3))
        self._frames: list[dict[int, tuple[float, ReferenceFrame]]] = []

    def add(self, frame: ReferenceFrame) -> None:
        """Puts a frame to the nearest geometry within the tolerance, or opens a new one."""
        here = np.asarray(frame.atoms.positions, dtype=float)
        # one atom tells most of them apart
        one = self._lattice.minimum_image(self._firsts[: len(self._places)] - here[0])
        near = np.flatnonzero((one**2).sum(axis=1) <= SAME_GEOMETRY**2)
        farthest = np.zeros(0)
        if len(near):
            apart = np.array([self._places[k] for k in near]) - here
            vectors = self._lattice.minimum_image(apart.reshape(-1, 3)).reshape(apart.shape)
            farthest = np.sqrt((vectors**2).sum(axis=2)).max(axis=1)
            near, farthest = near[farthest <= SAME_GEOMETRY], farthest[farthest <= SAME_GEOMETRY]
        if not len(near):
            if len(self._places) == len(self._firsts):
                self._firsts = np.concatenate([self._firsts, self._firsts])
            self._firsts[len(self._places)] = here[0]
            self._places.append(here)
            self._frames.append({frame.charge: (0.0, frame)})
            return
        k = int(farthest.argmin())
        known = self._frames[int(near[k])]
        if frame.charge not in known or farthest[k] < known[frame.charge][0]:
            known[frame.charge] = (float(farthest[k]), frame)

    def frames(self) -> list[dict[int, ReferenceFrame]]:
        """Charge → frame, of each geometry in the order found."""
        return [{charge: frame for charge, (_, frame) in known.items()} for known in self._frames]
