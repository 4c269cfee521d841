"""The model as a pre-screener: how many DFT relaxations does it save before the ground state gets lost?

A structure search relaxes N starts of a charge state with DFT. A pre-screener relaxes them with the model first and passes only its own
distinct minima on to DFT, lowest first (Mosquera-Lois et al. 2024, npj Comput. Mater. 10, 121: 88 % of the ground states found with 73 %
fewer DFT relaxations). Here that is replayed on starts whose DFT relaxations are known; only those are candidates.

What DFT would make of a structure that the model passes is not known, so it is judged by where it lies: in the basin of the
reference minimum that is nearest to it and within 0.1 Å (RMSD), once as it is and, where the model's own host relaxed, once with the
host's error taken off, since DFT undoes that by itself. A structure in no known basin finds nothing.

Nothing says that a start can be left out which the model did not relax to convergence: each costs a DFT relaxation before the model's
minima are looked at, and finds nothing, so that failing is never better than any answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np

from defectbench.base.states import bond_distortion
from defectbench.calculations.plan import PlanInput
from defectbench.scoring.host import model_host
from defectbench.scoring.intervals import bootstrap_interval, rounded
from defectbench.scoring.landscape import Placed, PlacedState, cluster, nearest_minimum, operations_of, place_all
from defectbench.scoring.soap import soap_clusters
from defectbench.scoring.task import MetricDefinition, MetricValue, ScoringInput, TaskResult
from defectbench.structures.host_reference import match_host_referenced
from defectbench.structures.lattice import MatchingError
from defectbench.structures.symmetry import Operations

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    from defectbench.calculations.requests import Calculation

    Floats = NDArray[np.float64]


MINIMUM_CANDIDATES = 3
"""A charge state with fewer DFT relaxations among the selected starts has nothing to choose from."""

METRICS = (
    MetricDefinition(
        "recall_area", "recall-cost area", "1", "higher", 1.0, 0.5,
        "Area under the fraction of ground states found against the fraction of DFT relaxations spent: 1 if the first one always finds it.",
    ),
    MetricDefinition(
        "lowest_recall", "found by the lowest", "1", "higher", 1.0, 0.0,
        "Fraction of charge states whose DFT ground state is the model's established ground state.",
    ),
    MetricDefinition(
        "unique_recall", "found by the unique minima", "1", "higher", 1.0, 0.0,
        "Fraction of charge states whose DFT ground state is among all distinct minima of the model.",
    ),
    MetricDefinition(
        "unique_saved", "saved by the unique minima", "1", "none", None, None,
        "DFT relaxations not needed if all its minima and failed starts are passed on, found or not: a collapsed landscape saves most.",
    ),
    MetricDefinition(
        "saved_at_full_recall", "DFT relaxations saved at full recall", "1", "higher", 1.0, 0.0,
        "Fraction of the avoidable DFT relaxations saved by the smallest number of them a charge state that loses no ground state.",
    ),
    MetricDefinition(
        "gain_over_random", "gain over random", "1", "none", None, None,
        "How far the area is on the way from that of random choice (0) to the best possible (1).",
    ),
)  # fmt: skip

DESCRIPTION = (
    "Replays a structure search in which the model relaxes all starts and only its n lowest distinct minima go on to DFT: in which "
    "fraction of charge states is the DFT ground state among them, and how many DFT relaxations are saved. Against random choice and "
    "against the plain order of ShakeNBreak. Only starts that DFT has relaxed are candidates."
)


def calculations(_plan: PlanInput) -> Sequence[Calculation]:
    """Nothing besides the relaxations of the starts and the host."""
    return ()


def shakenbreak_order(configuration: str) -> tuple[int, float, str]:
    """Sorts starts as ShakeNBreak writes them: Unperturbed, bond distortions by factor, Dimer, Rattled, the rest."""
    factor = bond_distortion(configuration)
    if factor is not None:
        return (1, factor, configuration)
    return ({"Unperturbed": 0, "Dimer": 2, "Rattled": 3}.get(configuration, 4), 0.0, configuration)


def random_recall(candidates: int, good: int, chosen: int) -> float:
    """Probability that ``chosen`` of ``candidates`` drawn without replacement hold one of ``good``: 1 − C(N−k, n)/C(N, n).

    Zero if none is good.
    """
    return 1.0 - comb(candidates - good, chosen) / comb(candidates, chosen) if good else 0.0


def area(first: int | None, candidates: int) -> float:
    """Mean over n = 1 … N of whether the ground state is among the first n: (N − r + 1)/N, with r the place of the first hit, 0 without."""
    return 0.0 if first is None else (candidates - first + 1) / candidates


@dataclass(frozen=True, eq=False)
class Search:
    """The replayed search in one charge state.

    Attributes:
        defect: name.
        charge: in units of +e.
        candidates: starts that DFT has relaxed, in ShakeNBreak's order.
        reference_hits: whether DFT's own relaxation of each candidate ends in the ground state.
        minima: the model's distinct minima by energy, each as its members' names, lowest first.
        hits: whether each of these lies in the ground state's basin.
        failed: number of candidates that the model did not relax to convergence.
        established: whether the lowest minimum may pass as the model's ground state (:attr:`PlacedState.established`).
    """

    defect: str
    charge: int
    candidates: tuple[str, ...]
    reference_hits: tuple[bool, ...]
    minima: tuple[tuple[str, ...], ...]
    hits: tuple[bool, ...]
    failed: int
    established: bool

    @property
    def first(self) -> int | None:
        """How many DFT relaxations find the ground state, failed candidates first, then minima from the lowest; None if all miss it."""
        return self.failed + self.hits.index(True) + 1 if True in self.hits else None

    @property
    def most(self) -> int:
        """DFT relaxations of all that is passed on: failed candidates and distinct minima."""
        return self.failed + len(self.minima)

    @property
    def found_by_lowest(self) -> bool:
        """Whether the model's ground state is DFT's."""
        return self.established and self.hits[:1] == (True,)

    @property
    def first_in_order(self) -> int | None:
        """How many DFT relaxations of the starts in ShakeNBreak's order find it; None if the ground state is not among them."""
        return self.reference_hits.index(True) + 1 if True in self.reference_hits else None

    def found(self, chosen: int) -> bool:
        """Whether the first ``chosen`` DFT relaxations find the ground state."""
        return self.first is not None and self.first <= chosen

    @property
    def random_area(self) -> float:
        """Expected area of random choice among the starts."""
        n, good = len(self.candidates), sum(self.reference_hits)
        return float(np.mean([random_recall(n, good, k) for k in range(1, n + 1)]))


def in_ground_state(placed: Placed, state: PlacedState, host: Atoms | None, scoring: ScoringInput, operations: Operations) -> bool:
    """Whether a configuration lies in the basin of the DFT ground state, as it is or with the host's error taken off."""
    if placed.minimum == 0:
        return True
    if host is None or placed.atoms is None:
        return False
    reference = state.reference
    try:
        _, corrected = match_host_referenced(placed.atoms, reference.ground.atoms, host, scoring.dataset.host, operations)
        return nearest_minimum(corrected, reference, operations)[0] == 0
    except MatchingError:
        return False


def _group(placed: Sequence[Placed], leader: Sequence[int]) -> list[list[Placed]]:
    """Members of each minimum, minima by lowest energy; equal energies in ShakeNBreak's order, so that no name order helps a flat model."""
    groups: dict[int, list[Placed]] = {}
    for item, first in zip(placed, leader, strict=True):
        groups.setdefault(first, []).append(item)
    ordered = [sorted(g, key=lambda p: (_energy(p), shakenbreak_order(p.configuration))) for g in groups.values()]
    return sorted(ordered, key=lambda g: (_energy(g[0]), shakenbreak_order(g[0].configuration)))


def _energy(placed: Placed) -> float:
    return np.inf if placed.energy is None else round(placed.energy, 6)


TellApart = Callable[[Sequence[tuple[float, "Atoms"]], "Floats"], list[int]]
"""From (energy, structure) and the defect's position to the index of the first lower structure that each one equals, or its own."""


def replay(
    state: PlacedState, host: Atoms | None, scoring: ScoringInput, operations: Operations, tell_apart: TellApart | None = None
) -> Search | str:
    """Replays the search in one charge state, or says why it cannot be.

    Args:
        state: reference and model.
        host: the model's relaxed host, if it has one.
        scoring: what may be looked at.
        operations: of the host.
        tell_apart: what makes two of the model's relaxed structures one minimum; default: the matching (structure and energy agree).
    """
    reference = state.reference
    candidates = sorted((p for p in state.placed if p.configuration in reference.minima), key=lambda p: shakenbreak_order(p.configuration))
    if len(candidates) < MINIMUM_CANDIDATES:
        return f"DFT has relaxed {len(candidates)} of the selected starts; a search needs {MINIMUM_CANDIDATES}"
    reference_hits = tuple(reference.membership[p.configuration] == 0 for p in candidates)
    if not any(reference_hits):
        return "none of the selected starts leads DFT to the ground state"
    usable = [p for p in candidates if p.converged and p.atoms is not None]
    structures = [(_energy(p), p.atoms) for p in usable if p.atoms is not None]
    groups = _group(usable, tell_apart(structures, reference.centre) if tell_apart else cluster(structures, operations))
    return Search(
        defect=reference.defect,
        charge=reference.charge,
        candidates=tuple(p.configuration for p in candidates),
        reference_hits=reference_hits,
        minima=tuple(tuple(p.configuration for p in g) for g in groups),
        # one structure of each minimum is passed on: the lowest
        hits=tuple(in_ground_state(g[0], state, host, scoring, operations) for g in groups),
        failed=len(candidates) - len(usable),
        established=state.established,
    )


def searches(scoring: ScoringInput, tell_apart: TellApart | None = None) -> tuple[list[Search], list[str]]:
    """The replayed searches of all selected charge states, and why others are left out; see :func:`replay`."""
    host, _ = model_host(scoring)
    operations = operations_of(scoring.dataset)
    found: list[Search] = []
    left_out: list[str] = []
    for state in place_all(scoring):
        done = replay(state, host, scoring, operations, tell_apart)
        if isinstance(done, str):
            left_out.append(f"{state.reference.defect} {state.reference.charge:+d}: {done}")
        else:
            found.append(done)
    return found, left_out


def smallest_full(found: Sequence[Search]) -> int | None:
    """The smallest number of DFT relaxations a charge state with which no ground state is lost; None if some always is."""
    needed = [s.first for s in found]
    return None if not needed or None in needed else max(n for n in needed if n is not None)


def saved(found: Sequence[Search], chosen: int | None) -> float:
    """Fraction of the avoidable DFT relaxations that stopping after the first ``chosen`` of every state saves; 0 for None.

    One relaxation a charge state cannot be avoided, so the best is 1: (Σ N − Σ min(n, F + U)) / (Σ N − S) with F failed candidates and U
    distinct minima.
    """
    total = sum(len(s.candidates) for s in found)
    if chosen is None or total <= len(found):
        return 0.0
    used = sum(min(chosen, s.most) for s in found)
    return (total - used) / (total - len(found))


def score(scoring: ScoringInput) -> TaskResult:
    """Recall against cost; see ``docs/metrics.md`` for every definition."""
    found, left_out = searches(scoring)
    rows = tuple(
        {
            "defect": s.defect,
            "charge": s.charge,
            "candidates": len(s.candidates),
            "leading_to_ground_state": sum(s.reference_hits),
            "failed": s.failed,
            "unique_minima": len(s.minima),
            "needed": s.first,
            "found_by_lowest": s.found_by_lowest,
            "found_by_unique": s.first is not None,
            "area": rounded(area(s.first, len(s.candidates))),
            "random_area": rounded(s.random_area),
            "needed_in_order": s.first_in_order,
            "order_area": rounded(area(s.first_in_order, len(s.candidates))),
        }
        for s in found
    )
    return TaskResult(
        task="search",
        metrics=_metrics(found, left_out),
        rows=rows,
        baselines=_baselines(found),
        notes=tuple(_notes(found, left_out)),
        tables={
            "minima": tuple(_minimum_row(s, i) for s in found for i in range(len(s.minima))),
            "curve": tuple(curve(found)),
        },
    )


def soap_table(scoring: ScoringInput) -> list[dict[str, Any]]:
    """The search with minima told apart by SOAP, beside the matching's: one row a charge state (``defectbench rescore ENTRY --soap``).

    Not part of :func:`score`, whose result must be the same with and without the optional package.

    Args:
        scoring: of a finished run, e.g. from :func:`defectbench.entries.rescoring.stored_scoring`.

    Raises:
        DefectbenchError: the package dscribe is not installed.
    """
    return [
        {
            "defect": one.defect,
            "charge": one.charge,
            "candidates": len(one.candidates),
            "unique_minima": len(one.minima),
            "soap_minima": len(other.minima),
            "found_by_unique": one.first is not None,
            "found_by_soap": other.first is not None,
            "needed": one.first,
            "needed_by_soap": other.first,
        }
        for one, other in zip(searches(scoring)[0], searches(scoring, soap_clusters)[0], strict=True)
    ]


def _minimum_row(search: Search, index: int) -> dict[str, Any]:
    return {
        "defect": search.defect,
        "charge": search.charge,
        "place": index + 1,
        "passed": search.minima[index][0],
        "members": " ".join(search.minima[index]),
        "in_ground_state": search.hits[index],
    }


def curve(found: Sequence[Search]) -> list[dict[str, Any]]:
    """Recall by the number of DFT relaxations spent a charge state: the model's minima, ShakeNBreak's order, random choice."""
    if not found:
        return []
    out = []
    for n in range(max(len(s.candidates) for s in found) + 1):
        order = [s.first_in_order is not None and s.first_in_order <= n for s in found]
        chance = [random_recall(len(s.candidates), sum(s.reference_hits), min(n, len(s.candidates))) for s in found]
        out.append(
            {
                "relaxations": n,
                "recall": rounded(float(np.mean([s.found(n) for s in found]))),
                "order_recall": rounded(float(np.mean(order))),
                "random_recall": rounded(float(np.mean(chance))),
                "saved": rounded(saved(found, n)) if n else None,
            }
        )
    return out


def _metrics(found: Sequence[Search], left_out: Sequence[str]) -> tuple[MetricValue, ...]:
    if not found:
        why = "no charge state can be searched: " + left_out[0] if left_out else "no charge state with a reference was selected"
        return tuple(MetricValue(m.name, None, None, why, applies=False) for m in METRICS)
    table = np.array(
        [[area(s.first, len(s.candidates)), s.random_area, s.found_by_lowest, s.first is not None] for s in found], dtype=float
    )
    places = np.arange(len(found))

    def mean(column: int) -> tuple[float, tuple[float, float] | None]:
        return float(table[:, column].mean()), bootstrap_interval(table[:, column], lambda v: float(v.mean()))

    def drawn(statistic: Any) -> tuple[float, tuple[float, float] | None]:
        def of(indices: Floats) -> float:
            return float(statistic([found[int(i)] for i in indices]))

        return of(places.astype(float)), bootstrap_interval(places.astype(float), of)

    values = {
        "recall_area": mean(0),
        "lowest_recall": mean(2),
        "unique_recall": mean(3),
        "unique_saved": drawn(lambda chosen: 1.0 - sum(s.most for s in chosen) / sum(len(s.candidates) for s in chosen)),
        "saved_at_full_recall": drawn(lambda chosen: saved(chosen, smallest_full(chosen))),
        "gain_over_random": (_gain(table), bootstrap_interval(table, _gain)),
    }
    return tuple(MetricValue(m.name, *values[m.name]) for m in METRICS)


def _gain(table: Floats) -> float:
    mine, chance = float(table[:, 0].mean()), float(table[:, 1].mean())
    return (mine - chance) / (1.0 - chance) if chance < 1.0 else 0.0


def _baselines(found: Sequence[Search]) -> dict[str, dict[str, float | None]]:
    """Random choice among the starts (exact expectation), and ShakeNBreak's order, each followed by DFT from the start itself."""
    if not found:
        return {}
    total = sum(len(s.candidates) for s in found)
    chance = float(np.mean([s.random_area for s in found]))
    order = [s.first_in_order or len(s.candidates) for s in found]
    order_area = float(np.mean([area(s.first_in_order, len(s.candidates)) for s in found]))
    used = sum(min(max(order), len(s.candidates)) for s in found)
    certain = [len(s.candidates) - sum(s.reference_hits) + 1 for s in found]
    surely = sum(min(max(certain), len(s.candidates)) for s in found)
    avoidable = total - len(found)
    return {
        "random choice": {
            "recall_area": chance,
            "lowest_recall": float(np.mean([sum(s.reference_hits) / len(s.candidates) for s in found])),
            "unique_recall": 1.0,
            "unique_saved": 0.0,
            # what is saved for certain, whatever the draw
            "saved_at_full_recall": (total - surely) / avoidable,
            "gain_over_random": 0.0,
        },
        "ShakeNBreak order": {
            "recall_area": order_area,
            "lowest_recall": float(np.mean([n == 1 for n in order])),
            "unique_recall": 1.0,
            "unique_saved": 0.0,
            "saved_at_full_recall": (total - used) / avoidable,
            "gain_over_random": (order_area - chance) / (1.0 - chance) if chance < 1.0 else 0.0,
        },
    }


def _notes(found: Sequence[Search], left_out: Sequence[str]) -> list[str]:
    notes = [f"{text}." for text in left_out]
    if found:
        total = sum(len(s.candidates) for s in found)
        number = smallest_full(found)
        if number is None:
            lost = ", ".join(f"{s.defect} {s.charge:+d}" for s in found if s.first is None)
            notes.append(f"No number of this model's minima finds every ground state, so it saves nothing at full recall; lost: {lost}.")
        else:
            used = sum(min(number, s.most) for s in found)
            notes.append(f"At most {number} DFT relaxations a charge state find every ground state: {used} instead of {total}.")
        failed = sum(s.failed for s in found)
        if failed:
            notes.append(
                f"{failed} of {total} candidates did not relax with the model; each costs a DFT relaxation first and finds nothing."
            )
        notes.append(
            "Minima told apart by SOAP instead of the matching: 'defectbench rescore ENTRY --soap' (needs dscribe); it is never scored."
        )
        notes.append("Candidates are the starts that DFT has relaxed so far; a ground state that only other starts reach is not asked for.")
    return notes
