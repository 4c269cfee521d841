"""The energies that the levels of each defect are made of: the reference's, the model's, and the reference's of the model's basins."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from defectbench.base.errors import DatasetError
from defectbench.base.states import ChargeState, format_charge
from defectbench.scoring.landscape import MatchedState, match_states, nearest_minimum, operations_of
from defectbench.thermodynamics import (
    DefectCorrections,
    LevelDiagram,
    ThermodynamicReference,
    exchange_energy,
    exchanged_atoms,
    find_corrections,
    formation_energy,
    level_diagram,
    thermodynamic_reference,
)

if TYPE_CHECKING:
    from defectbench.datasets.dataset import Dataset
    from defectbench.scoring.task import ScoringInput


@dataclass(frozen=True)
class ChargeStateEnergies:
    """The formation energies of one charge state at E_F = 0, eV; without host energy or chemical potentials up to a constant per defect.

    Attributes:
        reference: of the reference ground state.
        own: of the model's ground state by the model; None for a charge-blind model or a miss.
        basin: of the reference minimum that the model's ground state falls into; None if it falls into none.
        at_reference: of the reference ground state's geometry by the model; None like ``own``.
        lies_at: of the reference minima among which the model's ground state lies, without a threshold; None for a miss.
        known: closeness of the model's ground state to a reference minimum, 0 to 1.
        found: how much the model's ground state is the reference's, 0 to 1.
    """

    reference: float
    own: float | None
    basin: float | None
    at_reference: float | None
    lies_at: float | None
    known: float
    found: float


@dataclass(frozen=True)
class DefectThermodynamics:
    """One defect's charge states with everything that their levels need.

    Attributes:
        defect: name.
        states: charge → energies, by ascending charge; at least two.
        matched: charge → the model's configurations, matched to the reference.
        corrections: the finite-size corrections in use.
        zero: what E_F = 0 is on the scale of the total energies, eV (:class:`DefectSet`).
        constant: host energy and exchanged atoms of the reference, eV; (0, 0) without them.
        absolute: whether ``reference`` (first) and ``own`` (second) are formation energies, not only up to a constant.
        reasons: charge → why the model has no ground state or basin.
    """

    defect: str
    states: Mapping[int, ChargeStateEnergies]
    matched: Mapping[int, MatchedState]
    corrections: DefectCorrections
    zero: float
    constant: tuple[float, float]
    absolute: tuple[bool, bool]
    reasons: Mapping[int, str]

    def energies(self, which: str) -> dict[int, float | None]:
        """Charge → energy of one kind: ``reference``, ``own``, ``basin``, ``at_reference`` or ``lies_at``."""
        return {charge: getattr(state, which) for charge, state in self.states.items()}

    @property
    def reference_energies(self) -> dict[int, float]:
        """Charge → energy of the reference."""
        return {charge: state.reference for charge, state in self.states.items()}

    @property
    def reference(self) -> LevelDiagram:
        """The reference's levels."""
        return level_diagram(self.reference_energies)

    def of_minimum(self, charge: int, energy: float) -> float:
        """The formation energy of a reference minimum from its total energy, eV."""
        return formation_energy(charge, energy, *self.constant, self.zero, self.corrections.of(charge))

    def ideal_start_only(self) -> dict[int, float | None]:
        """Charge → energy of the minimum that DFT reaches from ``Unperturbed``: no structure searching."""
        starts = {charge: matched.reference.minima.get("Unperturbed") for charge, matched in self.matched.items()}
        return {charge: None if minimum is None else self.of_minimum(charge, minimum.energy) for charge, minimum in starts.items()}

    def another_charges_geometry(self, dataset: Dataset) -> dict[int, float | None]:
        """Charge → energy of the basin that the ground state of the next charge (of the highest one: the one before) falls into."""
        operations = operations_of(dataset)
        charges = sorted(self.matched)
        out: dict[int, float | None] = {}
        for index, charge in enumerate(charges):
            other = charges[index + 1] if index + 1 < len(charges) else charges[index - 1]
            reference = self.matched[charge].reference
            basin, _ = nearest_minimum(self.matched[other].reference.ground.atoms, reference, operations)
            out[charge] = None if basin is None else self.of_minimum(charge, reference.ground.energy + reference.above_ground(basin))
        return out


@dataclass(frozen=True)
class DefectSet:
    """All defects of a scoring, and what must be said about them.

    Attributes:
        defects: those with at least two charge states.
        reference: band edges, host energy and chemical potentials of the reference level.
        notes: sentences.
    """

    defects: tuple[DefectThermodynamics, ...]
    reference: ThermodynamicReference
    notes: tuple[str, ...]


def collect(scoring: ScoringInput) -> DefectSet:
    """Reference, own, basin and at-reference energies of every defect with two or more charge states.

    E_F = 0 is the valence band maximum, or without one the reference's lowest stable level.
    """
    level = scoring.dataset.level_of_theory()
    reference = thermodynamic_reference(level)
    notes: list[str] = []
    grouped: dict[str, list[MatchedState]] = {}
    for matched in match_states(scoring):
        grouped.setdefault(matched.reference.defect, []).append(matched)
    corrections: dict[str, DefectCorrections] = {}
    for defect in list(grouped):
        charges = [p.reference.charge for p in grouped[defect]]
        if len(charges) < 2:
            only = ChargeState(defect, charges[0])
            notes.append(f"{defect}: a level needs two charge states; only {only} is selected and has a reference.")
            del grouped[defect]
            continue
        try:
            corrections[defect] = find_corrections(level, defect, charges)
        except DatasetError as error:
            notes.append(f"No levels of {defect}: {error}.")
            del grouped[defect]
    uncorrected = [defect for defect in grouped if corrections[defect].status == "uncorrected"]
    if uncorrected:
        notes.append(
            f"Uncorrected: the dataset stores no finite-size corrections for {', '.join(uncorrected)}. Errors do not depend on them. "
            "Levels, stable charges and the sign of U do."
        )
    zero = reference.vbm
    if zero is None:
        zero = min((level for defect, states in grouped.items() for level in _stable_levels(states, corrections[defect])), default=0.0)
        notes.append(
            "The dataset has no valence band maximum: levels are relative to the reference's lowest stable level. "
            "Differences between levels and all errors are meaningful; positions in the gap are not."
        )
    if reference.missing:
        notes.append(f"No formation energies: the dataset has no {', no '.join(reference.missing)}.")
    defects = tuple(_one_defect(scoring, defect, states, corrections[defect], reference, zero) for defect, states in grouped.items())
    return DefectSet(defects, reference, tuple(notes))


def _stable_levels(states: Sequence[MatchedState], corrections: DefectCorrections) -> Iterable[float]:
    grounds = {s.reference.charge: s.reference.ground.energy for s in states}
    lines = {charge: formation_energy(charge, energy, 0.0, 0.0, 0.0, corrections.of(charge)) for charge, energy in grounds.items()}
    return (level.fermi_level for level in level_diagram(lines).stable_levels)


def _one_defect(
    scoring: ScoringInput,
    defect: str,
    states: Sequence[MatchedState],
    corrections: DefectCorrections,
    reference: ThermodynamicReference,
    zero: float,
) -> DefectThermodynamics:
    constant = (0.0, 0.0)
    host = None
    if reference.host_energy is not None and not reference.missing:
        exchanged = exchange_energy(exchanged_atoms(scoring.dataset.defect(defect)), reference.conditions[0].potentials)
        constant = (reference.host_energy, exchanged)
        host = model_host_energy(scoring)
    # without a host of its own the model's energies are formation energies up to a constant; levels do not change by it
    own_constant = (host, constant[1]) if host is not None else (0.0, 0.0)
    blind = scoring.charge_class == "charge-blind"
    found: dict[int, ChargeStateEnergies] = {}
    reasons: dict[int, str] = {}
    for state in sorted(states, key=lambda s: s.reference.charge):
        charge, ground = state.reference.charge, state.ground

        def line(energy: float | None, of: tuple[float, float], charge: int = charge) -> float | None:
            return None if energy is None else formation_energy(charge, energy, *of, zero, corrections.of(charge))

        basin: float | None = None
        if ground is None:
            reasons[charge] = state.reason or "no ground state"
        elif ground.minimum is None:
            reasons[charge] = "the model's ground state lies in no reference minimum's basin"
        else:
            basin = state.reference.distinct[ground.minimum].energy
        # DFT cannot tell minima within its uncertainty apart, so that all of them have the ground state's energy
        if basin is not None and ground is not None and ground.minimum is not None:
            basin = state.reference.ground.energy + state.reference.above_ground(ground.minimum)
        places = {c.configuration: c.place for c in state.converged}
        shared = [(share, here) for name, share in state.shares.items() if (here := places[name]) is not None]
        lies_at = state.reference.ground.energy + sum(share * here.energy for share, here in shared) if shared else None
        single: float | None = None
        if not blind:
            single, why = scoring.answers.energy(state.reference.ground.atoms, charge)
            if why is not None:
                reasons[charge] = "; ".join(filter(None, (reasons.get(charge), f"reference geometry: {why}")))
        found[charge] = ChargeStateEnergies(
            reference=formation_energy(charge, state.reference.ground.energy, *constant, zero, corrections.of(charge)),
            own=line(ground.energy, own_constant) if not blind and ground is not None else None,
            basin=line(basin, constant),
            at_reference=line(single, own_constant),
            lies_at=line(lies_at, constant),
            known=sum(share * here.known for share, here in shared),
            found=state.found,
        )
    return DefectThermodynamics(
        defect=defect,
        states=found,
        matched={state.reference.charge: state for state in states},
        corrections=corrections,
        zero=zero,
        constant=constant,
        absolute=(not reference.missing, host is not None),
        reasons=reasons,
    )


def model_host_energy(scoring: ScoringInput) -> float | None:
    """The lowest energy of the model's own relaxed hosts, eV; None if none converged."""
    energies = [h.relaxation.energy for h in scoring.host if h.relaxation.status == "converged" and h.relaxation.energy is not None]
    return min(filter(math.isfinite, energies), default=None)


def why_missing(defect: DefectThermodynamics, charges: Iterable[int]) -> str | None:
    """Why charges of a defect lack an energy, in one line."""
    return "; ".join(f"{format_charge(q)}: {defect.reasons[q]}" for q in charges if q in defect.reasons) or None
