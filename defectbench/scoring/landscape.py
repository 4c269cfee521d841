"""What several tasks see in the same stored relaxations: reference minima, and the model's configurations matched to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from defectbench.base.states import bond_distortion, sort_key
from defectbench.calculations.plan import SelectedState
from defectbench.scoring.agreement import Place, boltzmann_shares, place
from defectbench.scoring.task import ConfigurationResult, ScoringInput
from defectbench.structures.lattice import MatchingError
from defectbench.structures.matching import Match, match, match_within
from defectbench.structures.symmetry import Operations, host_operations

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    from defectbench.calculations.requests import Relaxation
    from defectbench.datasets.dataset import Dataset, ReferenceMinimum


SUCCESS_RMSD = 0.1
"""Å, global: the usual threshold for having found a structure (multi-fidelity potentials for charged point defects, Fig. 1)."""

STRICT_LOCAL_RMSD = 0.1
"""Å: the same threshold on the atoms around the defect only, where a reconstruction happens."""

STRICT_MAX_DISPLACEMENT = 0.2
"""Å: no atom may be farther off than this; a broken or made bond moves one by 0.3 Å and more."""

SAME_MINIMUM_RMSD = 0.1
"""Å: two relaxed configurations this close, and closer in energy than ``SAME_MINIMUM_ENERGY``, are one minimum.

As wide as ``SUCCESS_RMSD``: on a flat surface, relaxations to 0.03 eV/Å stop up to 0.1 Å apart in what is one basin.
"""

SAME_MINIMUM_ENERGY = 0.02
"""eV, of the whole supercell."""

GROUND_TOLERANCE = 0.02
"""eV, of the whole supercell: minima this near to the lowest are ground states too, unless the level of theory states its uncertainty."""

RMSD_CAP = 1.0
"""Å: RMSDs count up to this in averages, and a miss counts as this."""

DISPLACEMENT_CAP = 3.0
"""Å: the same for largest displacements."""

ESTABLISHED_FRACTION = 2 / 3
"""A model's ground state is established only if at least this fraction of the selected configurations converged.

Else a model that fails on most starts would be judged by the few easy ones.
"""

Outcome = Literal["converged", "unconverged", "failed", "missing"]


@dataclass(frozen=True)
class ReferenceState:
    """The reference minima of one charge state.

    Attributes:
        defect: name.
        charge: in units of +e.
        ground: the lowest minimum.
        minima: all converged ones by configuration.
        distinct: one minimum for each structure, lowest energy first; ``distinct[0]`` is the ground state.
        grounds: how many of ``distinct``, the first ones, are ground states: those within the data's uncertainty of the lowest.
        membership: configuration → index into ``distinct``.
        centre: position of the defect (3,), Å.
    """

    defect: str
    charge: int
    ground: ReferenceMinimum
    minima: Mapping[str, ReferenceMinimum]
    distinct: tuple[ReferenceMinimum, ...]
    grounds: int
    membership: Mapping[str, int]
    centre: NDArray[np.float64]

    @property
    def energies(self) -> tuple[float, ...]:
        """Of the distinct minima, eV above the lowest."""
        return tuple(m.energy - self.ground.energy for m in self.distinct)

    def above_ground(self, index: int) -> float:
        """How far a distinct minimum lies above the ground state, eV; 0 for all that count as ground states."""
        return 0.0 if index < self.grounds else self.energies[index]


@dataclass(frozen=True)
class MatchedConfiguration:
    """One of the model's configurations, matched to the reference.

    Attributes:
        configuration: name of the start.
        outcome: ``missing`` if there is no result at all.
        reason: why it is not converged, one line; None if it is.
        energy: eV, the last one known, converged or not; None without a result.
        atoms: the relaxed (or last) structure; None if it cannot be compared.
        fit: match to the nearest reference ground state; None if it cannot be compared.
        minimum: index of the nearest distinct reference minimum within ``SUCCESS_RMSD``; None if none is that near.
        minimum_rmsd: Å, to that minimum.
        place: where it lies among the reference minima, without a threshold; None if it cannot be compared.
        steps: optimiser steps.
        wall_s: seconds.
    """

    configuration: str
    outcome: Outcome
    reason: str | None
    energy: float | None
    atoms: Atoms | None
    fit: Match | None
    minimum: int | None
    minimum_rmsd: float | None
    place: Place | None
    steps: int | None
    wall_s: float | None

    @property
    def converged(self) -> bool:
        """Whether it counts: relaxed to convergence, with an energy, and comparable."""
        return self.outcome == "converged" and self.energy is not None and self.fit is not None


@dataclass(frozen=True)
class MatchedState:
    """One charge state: the reference and all selected configurations of the model.

    Attributes:
        reference: the reference minima.
        configurations: in plotting order, one per selected configuration.
    """

    reference: ReferenceState
    configurations: tuple[MatchedConfiguration, ...]

    @property
    def converged(self) -> tuple[MatchedConfiguration, ...]:
        """Those that count."""
        return tuple(p for p in self.configurations if p.converged)

    @property
    def lowest(self) -> MatchedConfiguration | None:
        """The lowest converged configuration (equal energies: the first in plotting order)."""
        found = [(p.energy, sort_key(p.configuration), p) for p in self.converged if p.energy is not None]
        return min(found, key=lambda item: item[:2])[2] if found else None

    @property
    def below(self) -> MatchedConfiguration | None:
        """A configuration that did not converge though its last energy is clearly below all converged ones, if there is one."""
        lowest = self.lowest
        if lowest is None or lowest.energy is None:
            return None
        lower = [
            p for p in self.configurations if not p.converged and p.energy is not None and p.energy < lowest.energy - SAME_MINIMUM_ENERGY
        ]
        return min(lower, key=lambda p: (p.energy or 0.0, sort_key(p.configuration))) if lower else None

    @property
    def established(self) -> bool:
        """Whether the lowest converged configuration may pass as the model's ground state.

        At least ``ESTABLISHED_FRACTION`` of the selected configurations converged, and none of the others was on its way below it.
        """
        enough = len(self.converged) >= ESTABLISHED_FRACTION * len(self.configurations) - 1e-9
        return bool(self.converged) and enough and self.below is None

    @property
    def ground(self) -> MatchedConfiguration | None:
        """The model's ground state: its lowest converged configuration; None unless :attr:`established`."""
        return self.lowest if self.established else None

    @property
    def shares(self) -> dict[str, float]:
        """Configuration → how much it is the model's ground state (:func:`boltzmann_shares`); empty unless :attr:`established`."""
        energies = {c.configuration: c.energy for c in self.converged if c.energy is not None}
        return boltzmann_shares(energies) if self.established else {}

    @property
    def found(self) -> float:
        """How much the model's ground state is DFT's, 0 to 1; 0 without one."""
        places = {c.configuration: c.place for c in self.converged}
        return sum(share * here.ground for name, share in self.shares.items() if (here := places[name]) is not None)

    @property
    def reason(self) -> str | None:
        """Why there is no ground state; None if there is one."""
        if self.established:
            return None
        below = self.below
        if below is not None:
            why = f"did not converge ({below.steps} steps)" if below.outcome == "unconverged" else f"failed: {below.reason}"
            return f"{below.configuration} is lower in energy than every converged configuration but {why}"
        total, good = len(self.configurations), len(self.converged)
        causes = [p.reason for p in self.configurations if p.reason]
        return f"only {good} of {total} configurations converged" + (f" ({causes[0]})" if causes else "")


def operations_of(dataset: Dataset) -> Operations:
    """The host operations that a dataset's structures are matched with."""
    return host_operations(dataset.host)


def same_minimum(first: Atoms, second: Atoms, energy_difference: float, operations: Operations) -> bool:
    """Whether two relaxed configurations of one charge state are one minimum (structure and energy agree)."""
    return abs(energy_difference) <= SAME_MINIMUM_ENERGY and match_within(first, second, operations, SAME_MINIMUM_RMSD) is not None


def cluster(structures: Sequence[tuple[float, Atoms]], operations: Operations) -> list[int]:
    """Sorts (energy, structure) into minima: for each, the index of the first lower one it equals, or its own."""
    order = sorted(range(len(structures)), key=lambda i: structures[i][0])
    out = list(range(len(structures)))
    leaders: list[int] = []
    for i in order:
        energy, atoms = structures[i]
        for leader in leaders:
            if same_minimum(atoms, structures[leader][1], energy - structures[leader][0], operations):
                out[i] = leader
                break
        else:
            leaders.append(i)
    return out


def reference_state(dataset: Dataset, defect: str, charge: int, operations: Operations) -> ReferenceState | None:
    """The reference minima of a charge state; None if it has none."""
    minima = dataset.minima(defect, charge)
    if not minima:
        return None
    named = sorted(minima.values(), key=lambda m: (m.energy, sort_key(m.configuration)))
    leader = cluster([(m.energy, m.atoms) for m in named], operations)
    kept = sorted(set(leader))
    tolerance = ground_tolerance(dataset)
    return ReferenceState(
        defect=defect,
        charge=charge,
        ground=named[0],
        minima=minima,
        distinct=tuple(named[i] for i in kept),
        grounds=sum(named[i].energy - named[0].energy <= tolerance for i in kept),
        membership={m.configuration: kept.index(leader[i]) for i, m in enumerate(named)},
        centre=np.asarray(dataset.defect_position(defect, named[0].atoms), dtype=float),
    )


def ground_tolerance(dataset: Dataset) -> float:
    """eV per cell: minima this near to the lowest count as ground states.

    The uncertainty of energy differences that the dataset states for its level of theory, or without one :data:`GROUND_TOLERANCE`.
    """
    stated = dataset.level_of_theory().uncertainty
    return GROUND_TOLERANCE if stated is None else stated.energy


def distance(found: Match) -> float:
    """Å: the larger of RMSD and local RMSD, so that no part of a structure pays for another."""
    return max(found.rmsd, found.local_rmsd or 0.0)


def fits(atoms: Atoms, reference: ReferenceState, operations: Operations) -> tuple[Match, ...]:
    """The matches of a structure to each distinct reference minimum."""
    return tuple(match(atoms, minimum.atoms, operations, reference.centre) for minimum in reference.distinct)


def place_of(found: Sequence[Match], reference: ReferenceState) -> Place:
    """Where a structure lies, from its matches to the distinct minima."""
    return place([distance(f) for f in found], reference.energies, reference.grounds)


def to_ground(found: Sequence[Match], reference: ReferenceState) -> Match:
    """The match to the nearest ground state, from the matches to the distinct minima."""
    return min(found[: reference.grounds], key=lambda f: f.rmsd)


def nearest(found: Sequence[Match]) -> tuple[int | None, float | None]:
    """Index and RMSD (Å) of the nearest distinct minimum within ``SUCCESS_RMSD``, from the matches; (None, None) if none is that near."""
    index = min(range(len(found)), key=lambda i: found[i].rmsd)
    return (index, found[index].rmsd) if found[index].rmsd <= SUCCESS_RMSD else (None, None)


def relaxed_atoms(start: Atoms, relaxation: Relaxation) -> Atoms:
    """The start with the positions of a relaxation."""
    atoms: Atoms = start.copy()
    atoms.calc = None
    atoms.positions = np.asarray(relaxation.positions, dtype=float)
    return atoms


def nearest_minimum(atoms: Atoms, reference: ReferenceState, operations: Operations) -> tuple[int | None, float | None]:
    """Index and RMSD (Å) of the nearest distinct reference minimum within ``SUCCESS_RMSD``; (None, None) if none is that near."""
    return nearest(fits(atoms, reference, operations))


def _matched(
    name: str, result: ConfigurationResult | None, start: Atoms | None, reference: ReferenceState, operations: Operations
) -> MatchedConfiguration:
    if result is None or start is None:
        return MatchedConfiguration(name, "missing", "not calculated", None, None, None, None, None, None, None, None)
    relaxation = result.relaxation
    outcome: Outcome = relaxation.status
    reason = {
        "converged": None,
        "unconverged": f"not converged after {relaxation.steps} steps",
        "failed": relaxation.failure or relaxation.failure_kind or "failed",
    }[relaxation.status]
    energy = relaxation.energy if relaxation.energy is not None and np.isfinite(relaxation.energy) else None
    atoms: Atoms | None = None
    fit: Match | None = None
    minimum: int | None = None
    minimum_rmsd: float | None = None
    here: Place | None = None
    if outcome != "failed":
        try:
            atoms = relaxed_atoms(start, relaxation)
            found = fits(atoms, reference, operations)
            fit, here = to_ground(found, reference), place_of(found, reference)
            minimum, minimum_rmsd = nearest(found)
        except (MatchingError, ValueError) as error:
            outcome, reason, atoms = "failed", f"cannot be compared: {error}", None
    if outcome == "converged" and energy is None:
        outcome, reason = "failed", "no energy"
    return MatchedConfiguration(name, outcome, reason, energy, atoms, fit, minimum, minimum_rmsd, here, relaxation.steps, relaxation.wall_s)


def match_state(scoring: ScoringInput, state: SelectedState, operations: Operations) -> MatchedState | None:
    """Matches all selected configurations of a charge state to the reference; None if the state has no reference."""
    reference = reference_state(scoring.dataset, state.defect, state.charge, operations)
    if reference is None:
        return None
    starts = scoring.dataset.starts(state.defect, state.charge)
    results = {c.configuration: c for c in scoring.of(state.defect, state.charge)}
    names = sorted(state.configurations, key=sort_key)
    return MatchedState(reference, tuple(_matched(n, results.get(n), starts.get(n), reference, operations) for n in names))


def match_states(scoring: ScoringInput) -> tuple[MatchedState, ...]:
    """All selected states that have a reference, by defect (in the dataset's order) and charge."""
    operations = operations_of(scoring.dataset)
    order = {defect: i for i, defect in enumerate(scoring.dataset.defects)}
    states = sorted(scoring.states, key=lambda s: (order.get(s.defect, len(order)), s.charge))
    return tuple(p for p in (match_state(scoring, s, operations) for s in states) if p is not None)


def distortion_of(configuration: str) -> float | None:
    """Bond distortion of a configuration in per cent, or None (Unperturbed, Rattled, Dimer)."""
    value = bond_distortion(configuration)
    return None if value is None else 100.0 * value
