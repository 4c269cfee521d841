"""What the suite relaxes, and what it asks of the results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from ase import Atoms

from defectbench.calculations.asking import Ask
from defectbench.calculations.requests import Calculation, Structure
from defectbench.sanity.structures import crystal, nearest_atom, split, tetrahedral_site, vacancy, with_interstitials

SUITE = "neutral-sanity-1"
"""Name and version: a change of starts or checks makes another suite, and records of two do not compare."""

METALS = ("W", "Mo", "Nb")
RATTLE, SEED = 0.02, 0
"""Å: silicon's starts lose their symmetry by this, so that what only symmetry holds in place falls apart."""

HOST, TETRAHEDRAL, SPLIT, APART = "host", "T", "split <110>", "T + T apart"
BOUND = ("T + T together", "split <110> + T", "two splits <110>", "three on one site")
VACANCY, DUMBBELLS = "vacancy", {"<111>": (1, 1, 1), "<110>": (1, 1, 0), "<100>": (1, 0, 0)}
BARRIER = "T to split <110>"

PATH_OPTIONS = {"images": 5, "fmax": 0.1, "max_steps": 200}
"""Of the path: images between its ends, largest force across it (eV/Å), most steps."""

RAISED = (0.0, 0.0, 0.8)
"""Å: the atoms of silicon's split interstitial stand off their site along [001]."""


@dataclass(frozen=True)
class System:
    """A crystal and the defects in it.

    Attributes:
        name: e.g. ``Si 64``.
        host: the perfect crystal.
        starts: name → structure with a defect.
    """

    name: str
    host: Atoms
    starts: Mapping[str, Atoms]


def _rattled(atoms: Atoms) -> Atoms:
    out: Atoms = atoms.copy()
    out.rattle(RATTLE, seed=SEED)
    return out


def _silicon_64() -> System:
    host = crystal("Si", 2)
    place = tetrahedral_site(host, 2)
    site = nearest_atom(host, place)
    starts = {TETRAHEDRAL: with_interstitials(host, [place]), SPLIT: split(host, site, (1, 1, 0), 2.4, RAISED)}
    return System("Si 64", host, {name: _rattled(atoms) for name, atoms in starts.items()})


def _silicon_216() -> System:
    """Two interstitials; all but those apart lie in one mirror plane, as in the ground state of symmetry C1h."""
    host = crystal("Si", 3)
    place = tetrahedral_site(host, 3)
    lattice = host.cell.array[0, 0] / 3
    site = nearest_atom(host, place)
    neighbour = nearest_atom(host, host.positions[site] + 0.25 * lattice * np.array((1, 1, -1)))
    below = tuple(-value for value in RAISED)
    one = split(host, site, (1, 1, 0), 2.4, RAISED)
    two = split(one, neighbour, (1, 1, 0), 2.4, below)
    three = with_interstitials(split(host, site, (1, 1, 0), 2.4, (0.0, 0.0, 0.5)), [host.positions[site] - (0.0, 0.0, 1.2)])
    starts = {
        APART: with_interstitials(host, [place, tetrahedral_site(host, 3, (1.5, 1.5, 1.0))]),
        BOUND[0]: with_interstitials(host, [place, tetrahedral_site(host, 3, (0.25, 0.25, 0.25))]),
        BOUND[1]: with_interstitials(one, [tetrahedral_site(host, 3, (-0.25, -0.25, 0.25))]),
        BOUND[2]: two,
        BOUND[3]: three,
    }
    return System("Si 216", host, {name: _rattled(atoms) for name, atoms in starts.items()})


def _metal(element: str) -> System:
    """Dumbbells keep their symmetry: what is compared are the energies of the three directions."""
    host = crystal(element, 4)
    edge = host.cell.array[0, 0] / 4
    dumbbells = {name: split(host, 0, direction, 0.7 * edge) for name, direction in DUMBBELLS.items()}
    return System(f"{element} 128", host, {VACANCY: vacancy(host), **dumbbells})


@cache
def systems() -> dict[str, System]:
    """All systems by name.

    Example:
        >>> {name: len(system.starts) for name, system in systems().items()}
        {'Si 64': 2, 'Si 216': 5, 'W 128': 4, 'Mo 128': 4, 'Nb 128': 4}
    """
    made = (_silicon_64(), _silicon_216(), *map(_metal, METALS))
    return {system.name: system for system in made}


def relaxations(chosen: Iterable[System], ask: Ask) -> dict[tuple[str, str], Calculation]:
    """(system, start) → its relaxation in the model's own lattice; the host's is one of them."""
    return {
        (system.name, name): ask.own_lattice(atoms, 0, system.host)
        for system in chosen
        for name, atoms in {HOST: system.host, **system.starts}.items()
    }


def barrier(first: Atoms, last: Atoms, ask: Ask) -> Calculation:
    """The minimum-energy path from one relaxed structure to another, in one cell and with one order of atoms."""
    options = {**PATH_OPTIONS, "last": Structure.from_atoms(last).to_json()}
    return Calculation("path", Structure.from_atoms(first), 0 if ask.takes_charge else None, options=options)
