"""What the minima of a dataset look like: energy differences and the bonds that the host does not have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii
from numpy.typing import NDArray

from defectbench.base.states import sort_key
from defectbench.datasets.dataset import Dataset, ReferenceMinimum
from defectbench.scoring.landscape import cluster
from defectbench.structures.lattice import minimum_image
from defectbench.structures.symmetry import Operations

BOND_FACTOR = 1.15
"""Two atoms are bonded if they are closer than this times the sum of their covalent radii (Cordero et al. 2008, doi:10.1039/b801115j)."""


@dataclass(frozen=True)
class Bond:
    """Two atoms of one element that are bonded.

    Attributes:
        atoms: their indices, ascending.
        element: of both.
        length: Å.
    """

    atoms: tuple[int, int]
    element: str
    length: float


@dataclass(frozen=True)
class Minimum:
    """A minimum as the data page describes it.

    Attributes:
        defect: its name.
        charge: units of +e.
        configuration: start it was relaxed from.
        energy: above the ground state of its charge state, eV.
        frames: relaxation frames.
        bonds: homonuclear bonds, shortest first.
        clusters: what they join, e.g. ``("Se3",)``; largest first.
        angles: between two of these bonds that share an atom, degrees, ascending.
        neighbours: distances of the atoms that surround the vacancy from its site, Å, ascending.
        shortest: shortest distance between two of these atoms, Å.
        s_squared: ⟨S²⟩ of the determinant; None if restricted or unknown.
        multiplicity: spin multiplicity; None if unknown.
    """

    defect: str
    charge: int
    configuration: str
    energy: float
    frames: int
    bonds: tuple[Bond, ...]
    clusters: tuple[str, ...]
    angles: tuple[float, ...]
    neighbours: tuple[float, ...]
    shortest: float
    s_squared: float | None
    multiplicity: int | None


def distances(atoms: Atoms) -> NDArray[np.float64]:
    """All distances by the shortest periodic image, (N, N), Å."""
    return np.asarray(np.linalg.norm(minimum_image(atoms.positions[None] - atoms.positions[:, None], atoms.cell), axis=2))


def homonuclear_bonds(atoms: Atoms, factor: float = BOND_FACTOR) -> tuple[Bond, ...]:
    """Bonds between atoms of one element, shortest first."""
    found = distances(atoms)
    symbols = atoms.get_chemical_symbols()
    out = []
    for i in range(len(atoms)):
        for j in range(i + 1, len(atoms)):
            if symbols[i] == symbols[j] and found[i, j] < factor * 2 * covalent_radii[atomic_numbers[symbols[i]]]:
                out.append(Bond((i, j), symbols[i], float(found[i, j])))
    return tuple(sorted(out, key=lambda bond: bond.length))


def clusters(bonds: Iterable[Bond]) -> tuple[str, ...]:
    """Connected groups of bonded atoms, written like ``Se3``; largest first."""
    groups: list[tuple[str, set[int]]] = []
    for bond in bonds:
        joined = set(bond.atoms)
        rest = []
        for element, members in groups:
            if members & joined:
                joined |= members
            else:
                rest.append((element, members))
        groups = [*rest, (bond.element, joined)]
    return tuple(f"{element}{len(members)}" for element, members in sorted(groups, key=lambda group: (-len(group[1]), group[0])))


def angles(atoms: Atoms, bonds: Sequence[Bond]) -> tuple[float, ...]:
    """Angles at atoms that two of the bonds share, degrees, ascending."""
    out = []
    for first, second in combinations(bonds, 2):
        for middle in set(first.atoms) & set(second.atoms):
            ends = [next(i for i in bond.atoms if i != middle) for bond in (first, second)]
            one, other = minimum_image(atoms.positions[ends] - atoms.positions[middle], atoms.cell)
            cosine = one @ other / (np.linalg.norm(one) * np.linalg.norm(other))
            out.append(float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))))
    return tuple(sorted(out))


def describe_state(dataset: Dataset, defect: str, charge: int, level: str | None = None, shell: float = 3.6) -> list[Minimum]:
    """The minima of one charge state, lowest first.

    Args:
        dataset: the dataset.
        defect: its name.
        charge: units of +e.
        level: level of theory (default: the reference level).
        shell: atoms whose host sites are nearer than this (Å) to the vacancy site count as its surroundings.
    """
    minima = sorted(dataset.minima(defect, charge, level).values(), key=lambda m: m.energy)
    site = dataset.defect_position(defect)
    indices = dataset.host_indices(defect)
    host = dataset.host
    away = from_site(host, site)
    around = [i for i, index in enumerate(indices) if index >= 0 and away[index] < shell]
    out = []
    for minimum in minima:
        atoms = minimum.atoms
        bonds = homonuclear_bonds(atoms)
        between = distances(atoms)[np.ix_(around, around)]
        frames = dataset.frames(defect, charge, minimum.configuration, level)
        last = frames[-1].info if frames else {}
        out.append(
            Minimum(
                defect,
                charge,
                minimum.configuration,
                minimum.energy - minima[0].energy,
                len(frames),
                bonds,
                clusters(bonds),
                angles(atoms, bonds),
                tuple(sorted(float(d) for d in from_site(atoms, site)[around])),
                float(between[np.triu_indices(len(around), 1)].min()) if len(around) > 1 else float("inf"),
                _number(last.get("s_squared")),
                last.get("spin_multiplicity"),
            )
        )
    return out


def same_minima(minima: Mapping[str, ReferenceMinimum], operations: Operations) -> dict[str, str]:
    """Start of each minimum of a charge state → start of the lowest one that it equals, or its own.

    By the benchmark's definition of one minimum, structure and energy (:func:`defectbench.scoring.landscape.cluster`).
    """
    named = sorted(minima.values(), key=lambda m: (m.energy, sort_key(m.configuration)))
    lowest = cluster([(m.energy, m.atoms) for m in named], operations)
    return {m.configuration: named[i].configuration for m, i in zip(named, lowest, strict=True)}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def from_site(atoms: Atoms, site: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(minimum_image(atoms.positions - site, atoms.cell), axis=1))
