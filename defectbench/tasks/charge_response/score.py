"""Does the model move atoms differently for different charges, as DFT does?

Three looks at one question, for neighbouring charges q < q′ of one defect:

* *ground states*: displacement from the ground state of q to that of q′, model against DFT;
* *one start*: the same between the minima that both charges reach from one and the same start (no search in between);
* *forces*: F(q′) − F(q) at one fixed geometry, where DFT has it at several charges.

The one number, the **reproduced fraction** of DFT's response d by the model's response m (vectors over all atoms), is

    f = 1 − Σ ‖m − d‖ / Σ ‖d‖

with both sums over the pairs of charges. It is 0 for a model that does not respond (m = 0) and 1 only for m = d. Along DFT's direction it
is what its name says: m = x·d gives f = x for 0 ≤ x ≤ 1. The plainer choice, the projection p = Σ m·d / Σ d·d, is given beside it but is
not the number, because it cannot see two ways of being wrong: over-response (x = 1.5 gives p = 1.5, which clipped would pass as perfect;
f = 0.5) and response in other directions (noise of any size leaves p unchanged; it lowers f). f cannot exceed 1. It has no lower
bound of its own: below 0 the model's response is farther from DFT's than no response at all would be, and each pair counts down to -1.
Only the score is clipped at the charge-blind 0.

A pair in which the model has no ground state or no forces is a miss: it counts as if the model responded as strongly as DFT the other way
(f = -1), and no answer counts as less, so that failing is never better than any answer.

Which of several structures that the model cannot distinguish in energy is its ground state is chance. All pairs of them count, each by how
much its two structures are ground states (:func:`~defectbench.scoring.agreement.boltzmann_shares`); the tables name the lowest.

A *charge-blind* model has one energy surface for all charges, so one ground state: its response is 0 by definition, and the different
starts of different charges cannot make it look like one. An *energy-only* model (its certificate says that the energy responds to charge,
and that the forces change by less than what ends a relaxation) has one surface as well, shifted from charge to charge: one set of minima,
in one order. What its ground states of two charges differ by can only come from their different starts, so its displacements are 0 by
definition too. Its changes of forces are small, not nothing: that look is computed as for any model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from defectbench.base.states import format_charge
from defectbench.calculations.plan import PlanInput
from defectbench.scoring.frames import shared_geometries
from defectbench.scoring.intervals import rounded
from defectbench.scoring.landscape import MatchedConfiguration, MatchedState, match_states, operations_of
from defectbench.scoring.metrics import Metrics, NotAvailable
from defectbench.scoring.task import MetricValue, ScoringInput, TaskResult, read_metrics
from defectbench.structures.lattice import MatchingError
from defectbench.structures.matching import Match, match, matches_within
from defectbench.structures.symmetry import Operations
from defectbench.tasks.charge_response.rows import Kind, ResponseRow

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    from defectbench.calculations.requests import Calculation
    from defectbench.datasets.dataset import ReferenceMinimum

    Floats = NDArray[np.float64]


NEAR_TIE = 0.01
"""Å: symmetry images of a structure whose RMSDs differ by less are equally good; relaxations end this far from perfect symmetry."""

NEGLIGIBLE = 0.01
"""A response below this fraction of DFT's is none: it has no direction to correlate."""

NO_RESPONSE = 1e-3
"""Å, rms: two structures this near to each other are one; which of their symmetry images is meant is then no question."""

LEAST_RESPONSE = {"ground states": 0.01, "one start": 0.01, "forces": 0.005}
"""Å or eV/Å, rms: pairs in which DFT itself responds less are left out; they would compare its convergence."""

ONE_SURFACE = ("charge-blind", "energy-only")
"""Classes of the certificate whose forces, and hence minima, do not depend on the charge."""

METRICS, WEIGHT = read_metrics(Path(__file__).with_name("metrics.yaml"))

DESCRIPTION = (
    "How much of DFT's response to charge the model reproduces: displacements between the ground states of neighbouring charges, between "
    "minima from one start, and changes of forces at a fixed geometry; and whether the energy of a charge grows with the cell. 1 is DFT's "
    "response, 0 no response, below 0 worse than no response."
)


def calculations(plan: PlanInput) -> list[Calculation]:
    """Single points at every geometry that DFT has at several charges, at each of these."""
    return [plan.ask.single_point(g.atoms, q) for g in shared_geometries(plan.dataset, plan.states) for q in g.frames]


@dataclass(frozen=True, eq=False)
class Response:
    """DFT's and the model's response between two charges.

    Attributes:
        kind: which look.
        defect: name.
        charges: (lower, higher).
        configuration: the start, or the geometry's; for ground states DFT's two.
        reference: (N, 3), Å or eV/Å, higher charge minus lower.
        model: (N, 3), in the order of ``reference``; None for a miss.
        reason: why the model has none; None if it has.
        shared: (share, DFT's, the model's) of each pair of structures that count as the model's ground states; empty for one pair.
    """

    kind: Kind
    defect: str
    charges: tuple[int, int]
    configuration: str
    reference: Floats
    model: Floats | None
    reason: str | None
    shared: tuple[tuple[float, Floats, Floats], ...] = ()

    @property
    def size(self) -> float:
        """DFT's response, rms over atoms."""
        return float(np.sqrt((self.reference**2).sum() / len(self.reference)))

    @property
    def sums(self) -> Floats:
        """(‖m − d‖, ‖d‖, m·d, m·m, d·d), norms as rms over atoms; for a miss m = −d, and ‖m − d‖ counts up to 2 ‖d‖, as for that."""
        pairs = self.shared or ((1.0, self.reference, -self.reference if self.model is None else self.model),)
        return np.asarray(sum(share * _sums(d, m) for share, d, m in pairs))


def _sums(d: Floats, m: Floats) -> Floats:
    d, m, n = np.ascontiguousarray(d), np.ascontiguousarray(m), len(d)  # summed in one order, so that no response is exactly 0
    residual, size = np.sqrt(np.array([((m - d) ** 2).sum(), (d**2).sum()]) / n)
    return np.array([min(residual, 2.0 * size), size, (m * d).sum() / n, (m * m).sum() / n, (d * d).sum() / n])


def reproduced(table: Floats) -> float:
    """1 − Σ ‖m − d‖ / Σ ‖d‖ over pairs (:attr:`Response.sums`); see the module's text."""
    total = table.sum(axis=0)
    return float(1.0 - total[0] / total[1])


def projection(table: Floats) -> float:
    """Σ m·d / Σ d·d over pairs."""
    total = table.sum(axis=0)
    return float(total[2] / total[4])


def correlation(table: Floats) -> float:
    """Σ m·d / √(Σ m·m Σ d·d) over pairs; 0 for a model that does not respond (rms below a hundredth of DFT's)."""
    total = table.sum(axis=0)
    return float(total[2] / np.sqrt(total[3] * total[4])) if total[3] > NEGLIGIBLE**2 * total[4] else 0.0


def _images(candidate: Atoms, reference: Atoms, operations: Operations) -> list[Match]:
    """How a structure lies on a reference by each host operation that is as good as the best one, the best first."""
    best = match(candidate, reference, operations)
    if best.rmsd < NO_RESPONSE:
        return [best]
    near = matches_within(candidate, reference, operations, best.rmsd + NEAR_TIE)
    return [best, *(one for one in near if one.operation != best.operation)]


def _without_shift(vectors: Floats) -> Floats:
    return np.asarray(vectors - vectors.mean(axis=0))


def _turned(displacements: Floats, start: Match, operations: Operations) -> Floats:
    """A displacement of each atom of the candidate of a match as it is after the match: in the reference's frame and order."""
    turned = operations.apply(start.operation, displacements) - operations.apply(start.operation, np.zeros((1, 3)))
    return np.asarray(turned[start.permutation])


def aligned_response(reference: tuple[Atoms, Atoms], model: tuple[Atoms, Atoms], operations: Operations) -> tuple[Floats, Floats]:
    """DFT's and the model's displacements from a first to a second structure, atom by atom in one frame.

    DFT's second structure is laid onto its first, the model's first onto DFT's first, and the model's second onto the model's first, so
    that equal structures of the model give no response whatever their symmetry. Where symmetry leaves a choice between images, the one
    that comes nearest to DFT's response is taken: images of one structure are one structure.

    Args:
        reference: DFT's two structures, N atoms each.
        model: the model's two.
        operations: of the host.

    Returns:
        DFT's and the model's displacements, (N, 3) each, Å, without rigid translation.

    Raises:
        MatchingError: structures that cannot be compared.
    """
    first, second = reference
    wanted = _without_shift(match(second, first, operations).displacements)
    best: Floats | None = None
    ends = [_without_shift(end.displacements) for end in _images(model[1], model[0], operations)]
    for start in _images(model[0], first, operations):
        for end in ends:
            response = _turned(end, start, operations)
            if best is None or ((response - wanted) ** 2).sum() < ((best - wanted) ** 2).sum() - 1e-12:
                best = response
    assert best is not None
    return wanted, best


def ground_state_responses(scoring: ScoringInput, states: Sequence[MatchedState], operations: Operations) -> list[Response]:
    """Displacements between the ground states of neighbouring charges of each defect."""
    out = []
    for lower, higher in _neighbours(states):
        lowest = _between((lower, lower.ground), (higher, higher.ground), scoring, operations)
        if scoring.charge_class in ONE_SURFACE:
            out.append(lowest)
            continue
        shared = []
        for (share, one), (other_share, other) in product(_shares(lower), _shares(higher)):
            found = _between((lower, one), (higher, other), scoring, operations)
            shared.append((share * other_share, found.reference, -found.reference if found.model is None else found.model))
        out.append(replace(lowest, shared=tuple(shared)))
    return out


Found = tuple[MatchedState, MatchedConfiguration | None]
"""A charge state, and which of the model's configurations is taken as its ground state."""


def _between(lower: Found, higher: Found, scoring: ScoringInput, operations: Operations) -> Response:
    (first, one), (second, other) = lower, higher
    a, b = _nearest_ground(first, one, operations), _nearest_ground(second, other, operations)
    name = a.configuration if a.configuration == b.configuration else f"{a.configuration} → {b.configuration}"
    mine = None if one is None or other is None else (one.atoms, other.atoms)
    reason = first.reason or second.reason
    return _displacement("ground states", first, second, name, (a.atoms, b.atoms), mine, reason, scoring, operations)


def _shares(state: MatchedState) -> list[tuple[float, MatchedConfiguration]]:
    """How much each configuration is the model's ground state; those that are."""
    return [(state.shares[c.configuration], c) for c in state.converged if c.configuration in state.shares]


def _nearest_ground(state: MatchedState, found: MatchedConfiguration | None, operations: Operations) -> ReferenceMinimum:
    """The DFT ground state; where several minima count as one, that which is nearest to what the model found."""
    reference, atoms = state.reference, found.atoms if found is not None else None
    if atoms is None or reference.grounds == 1:
        return reference.ground
    return min(reference.distinct[: reference.grounds], key=lambda m: match(atoms, m.atoms, operations, reference.centre).rmsd)


def same_start_responses(scoring: ScoringInput, states: Sequence[MatchedState], operations: Operations) -> list[Response]:
    """Displacements between the minima of neighbouring charges from one start that both have, DFT and model."""
    out = []
    for lower, higher in _neighbours(states):
        starts = [scoring.dataset.starts(s.reference.defect, s.reference.charge) for s in (lower, higher)]
        placed = [{p.configuration: p for p in s.configurations} for s in (lower, higher)]
        for name in sorted(set(lower.reference.minima) & set(higher.reference.minima) & set(placed[0]) & set(placed[1])):
            if name not in starts[0] or name not in starts[1] or not _same(starts[0][name], starts[1][name]):
                continue
            mine = [p[name] for p in placed]
            pair = (mine[0].atoms, mine[1].atoms) if all(p.converged for p in mine) else None
            minima = (lower.reference.minima[name].atoms, higher.reference.minima[name].atoms)
            reason = mine[0].reason or mine[1].reason
            out.append(_displacement("one start", lower, higher, name, minima, pair, reason, scoring, operations))
    return out


def _same(first: Atoms, second: Atoms) -> bool:
    return np.array_equal(first.numbers, second.numbers) and bool(np.abs(first.positions - second.positions).max() < 1e-3)


def _neighbours(states: Sequence[MatchedState]) -> list[tuple[MatchedState, MatchedState]]:
    grouped: dict[str, list[MatchedState]] = {}
    for state in states:
        grouped.setdefault(state.reference.defect, []).append(state)
    return [pair for items in grouped.values() for pair in pairwise(sorted(items, key=lambda s: s.reference.charge))]


def _displacement(
    kind: Kind,
    lower: MatchedState,
    higher: MatchedState,
    name: str,
    reference: tuple[Atoms, Atoms],
    model: tuple[Atoms | None, Atoms | None] | None,
    reason: str | None,
    scoring: ScoringInput,
    operations: Operations,
) -> Response:
    charges = (lower.reference.charge, higher.reference.charge)
    wanted = _without_shift(match(reference[1], reference[0], operations).displacements)
    if scoring.charge_class in ONE_SURFACE:
        return Response(kind, lower.reference.defect, charges, name, wanted, np.zeros_like(wanted), None)
    if model is None or model[0] is None or model[1] is None:
        return Response(kind, lower.reference.defect, charges, name, wanted, None, reason or "no relaxed structure")
    try:
        wanted, found = aligned_response(reference, (model[0], model[1]), operations)
    except MatchingError as error:
        return Response(kind, lower.reference.defect, charges, name, wanted, None, f"cannot be compared: {error}")
    return Response(kind, lower.reference.defect, charges, name, wanted, found, None)


def force_responses(scoring: ScoringInput) -> list[Response]:
    """Changes of forces between neighbouring charges at every geometry that DFT has at several of them."""
    out = []
    for geometry in shared_geometries(scoring.dataset, scoring.states):
        for lower, higher in pairwise(geometry.frames):
            wanted = geometry.frames[higher].forces - geometry.frames[lower].forces
            results = [scoring.answers.energy_and_forces(geometry.atoms, q) for q in (lower, higher)]
            failures = [r for r in results if isinstance(r, str)]
            forces = [r[1] for r in results if not isinstance(r, str)]
            model = None if failures else forces[1] - forces[0]
            reason = failures[0] if failures else None
            out.append(Response("forces", geometry.defect, (lower, higher), geometry.configuration, wanted, model, reason))
    return out


def responses(scoring: ScoringInput) -> tuple[list[Response], list[Response]]:
    """All responses, and those left out because DFT itself hardly responds."""
    operations = operations_of(scoring.dataset)
    states = match_states(scoring)
    everything = [
        *ground_state_responses(scoring, states, operations),
        *same_start_responses(scoring, states, operations),
        *force_responses(scoring),
    ]
    kept = [r for r in everything if r.size >= LEAST_RESPONSE[r.kind]]
    return kept, [r for r in everything if r.size < LEAST_RESPONSE[r.kind]]


def score(scoring: ScoringInput) -> TaskResult:
    """Scores the responses; see the module's text and ``docs/metrics.md``."""
    found, small = responses(scoring)
    return TaskResult(
        task="charge_response",
        metrics=_metrics(scoring, found),
        rows=tuple(_row(r) for r in found),
        baselines=_baselines(found),
        notes=tuple(_notes(scoring, found, small)),
    )


def _row(response: Response) -> ResponseRow:
    table = None if response.model is None else response.sums[None]
    return {
        "look": response.kind,
        "defect": response.defect,
        "charge": response.charges[0],
        "other_charge": response.charges[1],
        "configuration": response.configuration,
        "dft_response": rounded(response.size),
        "model_response": None if table is None else rounded(float(np.sqrt(table[0, 3]))),
        "residual": None if table is None else rounded(float(table[0, 0])),
        "reproduced": None if table is None else rounded(reproduced(table)),
        "correlation": None if table is None else rounded(correlation(table)),
        "projection": None if table is None else rounded(projection(table)),
        "unit": "eV/Å" if response.kind == "forces" else "Å",
        "reason": response.reason,
    }


_WANTED: tuple[tuple[str, Kind, Callable[[Floats], float]], ...] = (
    ("reproduced", "ground states", reproduced),
    ("correlation", "ground states", correlation),
    ("projection", "ground states", projection),
    ("same_start_reproduced", "one start", reproduced),
    ("force_reproduced", "forces", reproduced),
    ("force_correlation", "forces", correlation),
)

_LACKING: Mapping[Kind, str] = {
    "ground states": "no defect with DFT ground states of two selected charges that differ",
    "one start": "no start that DFT has relaxed at two selected charges, or none where it responds",
    "forces": "DFT has no geometry at two selected charges",
}


def _metrics(scoring: ScoringInput, found: Sequence[Response]) -> tuple[MetricValue, ...]:
    """Values with intervals over pairs of charges; all starts and geometries of one pair stay together, they are not independent."""
    metrics = Metrics(METRICS)
    for name, kind, statistic in _WANTED:
        mine = [r for r in found if r.kind == kind]
        rows = np.array([r.sums for r in mine])
        labels = [(r.defect, r.charges) for r in mine]
        metrics.statistic(name, rows, statistic, labels=labels, summed=True, empty=NotAvailable(_LACKING[kind], applies=False))
    _add_size_deviation(metrics, scoring)
    return metrics.done()


def _add_size_deviation(metrics: Metrics, scoring: ScoringInput) -> None:
    """|ratio − 1| of the certificate's E(2x, q) − E(2x, 0) over E(x, q) − E(x, 0): one geometry, so no interval.

    Taken as it is even for a finite cell, in which a true ratio differs from 1 by interactions between images of the charge; these
    are of the order of 0.1 eV per charge, energies of a charge several eV.
    """
    ratio = scoring.certificate.get("size_ratio")
    if ratio is not None:
        metrics.value("size_deviation", abs(float(ratio) - 1.0))
        return
    if scoring.charge_class == "charge-blind":
        why = "a charge-blind model has no energy of a charge that could grow with the cell"
    elif not scoring.certificate:
        why = "no charge-response certificate"
    else:
        why = "the energy changes too little with charge at the certificate's geometry for a ratio"
    metrics.lacking("size_deviation", NotAvailable(why, applies=False))


def _baselines(found: Sequence[Response]) -> dict[str, dict[str, float | None]]:
    """A model that does not respond to charge."""
    names = {name for name, kind, _ in _WANTED if any(r.kind == kind for r in found)}
    return {"charge-blind": {name: 0.0 for name, _, _ in _WANTED if name in names}} if names else {}


def _notes(scoring: ScoringInput, found: Sequence[Response], small: Sequence[Response]) -> list[str]:
    notes = []
    if scoring.charge_class == "charge-blind":
        notes.append("Charge-blind model: it has one energy surface for all charge states, so its response is zero by definition.")
    elif scoring.charge_class == "energy-only":
        notes.append(
            "Energy-only model: charge changes the energy but not the forces, so all charge states share the same minima and displacements "
            "are zero by definition. The change of forces is as calculated."
        )
    missed = [r for r in found if r.reason is not None]
    if missed:
        pairs = ", ".join(f"{r.defect} {'/'.join(map(format_charge, r.charges))} ({r.kind})" for r in missed[:6])
        more = f" and {len(missed) - 6} more" if len(missed) > 6 else ""
        notes.append(f"Misses (no structure or no result), counted as the opposite of DFT's response: {pairs}{more}.")
    if small:
        notes.append(f"Left out: {len(small)} pairs in which DFT itself hardly responds.")
    if not any(r.kind == "forces" for r in found):
        notes.append(f"No change of forces: {_LACKING['forces']}.")
    opposite = [r for r in found if r.reason is None and reproduced(r.sums[None]) < -0.05]
    if opposite:
        notes.append(f"In {len(opposite)} of {len(found)} pairs the model's response is worse than no response.")
    return notes
