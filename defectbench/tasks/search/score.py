"""The model as a pre-screener: how many DFT relaxations does it save before a ground state is lost?

A structure search relaxes N starts of a charge state with DFT. A pre-screener relaxes them with the model first and hands only its own
distinct minima to DFT, lowest first (Mosquera-Lois et al. 2024, npj Comput. Mater. 10, 121: 88 % of the ground states found with 73 %
fewer DFT relaxations). This task replays that on starts whose DFT relaxations are known; only those are candidates.

What DFT would make of a structure that the model passes on is not known. It is judged by how near it lies to the ground state, 0 to 1
(:func:`~defectbench.scoring.agreement.place`), as it is or, where the model's own host relaxed, after the host's drift is subtracted,
since DFT undoes that by itself. In the tables one that is nearer than ½ counts as the ground state.

The score has no such step. Every candidate has a place in the queue, which is the number of other structures before it: each counts by
how clearly it is lower in energy, and shared with those that it equals. So neither two nearly equal energies nor two structures on the
border of being one decide anything.

A start that the model did not relax to convergence cannot be left out: nothing shows that DFT could skip it. Each costs a DFT relaxation
before the model's minima are tried, and finds nothing, so failing is never better than any answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from defectbench.base.states import ChargeState, bond_distortion
from defectbench.calculations.plan import PlanInput
from defectbench.scoring.agreement import RESOLVED, closeness
from defectbench.scoring.host import model_host
from defectbench.scoring.intervals import rounded
from defectbench.scoring.landscape import (
    SAME_MINIMUM_ENERGY,
    MatchedConfiguration,
    MatchedState,
    cluster,
    distance,
    fits,
    match_states,
    operations_of,
    place_of,
)
from defectbench.scoring.metrics import NO_STATES, Metrics, NotAvailable
from defectbench.scoring.soap import soap_clusters
from defectbench.scoring.task import MetricValue, ScoringInput, TaskResult, read_metrics
from defectbench.structures.host_reference import match_host_referenced
from defectbench.structures.lattice import MatchingError
from defectbench.structures.matching import match
from defectbench.structures.symmetry import Operations
from defectbench.tasks.search.rows import CurveRow, MinimumRow, SoapRow, StateRow

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    from defectbench.calculations.requests import Calculation

    Floats = NDArray[np.float64]


MINIMUM_CANDIDATES = 3
"""A charge state with fewer DFT relaxations among the selected starts has nothing to choose from."""

METRICS, WEIGHT = read_metrics(Path(__file__).with_name("metrics.yaml"))

DESCRIPTION = (
    "Replays a structure search: the model relaxes all starts, and only its n lowest distinct minima go to DFT. Counted are the ground "
    "states that are found and the DFT relaxations that are saved, against random choice and against the order of ShakeNBreak. Candidates "
    "are the starts that DFT has relaxed."
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
        hits: whether each of these lies nearer than ½ to the ground state.
        soft_area: recall–cost area without steps (:func:`soft_area`).
        nearest: how near the nearest of the model's structures lies to the ground state, 0 to 1.
        lowest: how near the model's ground state lies to DFT's, 0 to 1 (:attr:`MatchedState.found`).
        failed: number of candidates that the model did not relax to convergence.
    """

    defect: str
    charge: int
    candidates: tuple[str, ...]
    reference_hits: tuple[bool, ...]
    minima: tuple[tuple[str, ...], ...]
    hits: tuple[bool, ...]
    soft_area: float
    nearest: float
    lowest: float
    failed: int

    @property
    def first(self) -> int | None:
        """How many DFT relaxations find the ground state, failed candidates first, then minima from the lowest; None if all miss it."""
        return self.failed + self.hits.index(True) + 1 if True in self.hits else None

    @property
    def most(self) -> int:
        """DFT relaxations of all that is passed on: failed candidates and distinct minima."""
        return self.failed + len(self.minima)

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


def in_ground_state(
    relaxed: MatchedConfiguration, state: MatchedState, host: Atoms | None, scoring: ScoringInput, operations: Operations
) -> float:
    """How near a configuration lies to the DFT ground state, 0 to 1, as it is or after the host's drift is subtracted."""
    if relaxed.place is None or relaxed.atoms is None:
        return 0.0
    if host is None:
        return relaxed.place.ground
    reference = state.reference
    try:
        _, corrected = match_host_referenced(relaxed.atoms, reference.ground.atoms, host, scoring.dataset.host, operations)
        return max(relaxed.place.ground, place_of(fits(corrected, reference, operations), reference).ground)
    except MatchingError:
        return relaxed.place.ground


def sameness(structures: Sequence[tuple[float, Atoms]], centre: Floats, operations: Operations) -> Floats:
    """How far any two of (energy, structure) are one minimum, (n, n), 0 to 1: near in structure and in energy."""
    out = np.eye(len(structures))
    for i, (first, one) in enumerate(structures):
        for j, (second, other) in enumerate(structures[:i]):
            near = closeness(distance(match(one, other, operations, centre)))
            out[i, j] = out[j, i] = near / (1.0 + (abs(first - second) / SAME_MINIMUM_ENERGY) ** 3)
    return out


def soft_area(nearness: Sequence[float], energies: Sequence[float], same: Floats, failed: int, candidates: int) -> float:
    """:func:`area` without steps: the best of how near each structure is to the ground state, times what its place in the queue saves.

    The place of a structure is 1, the failed candidates, and all others before it: each counts by 1/(1 + exp(ΔE/10 meV)), and shared
    among those that are one minimum.

    Args:
        nearness: to the ground state, 0 to 1, of n structures.
        energies: of these, eV.
        same: (n, n), how far any two are one minimum.
        failed: candidates that come before all of them.
        candidates: N.
    """
    if not len(nearness):
        return 0.0
    e = np.asarray(energies, dtype=float)
    before = 1.0 / (1.0 + np.exp(np.clip((e[None] - e[:, None]) / RESOLVED, -50.0, 50.0)))
    places = 1.0 + failed + ((1.0 - same) * before / same.sum(axis=1)[None]).sum(axis=1)
    saves = np.maximum(0.0, (candidates - places + 1.0) / candidates)
    return float((np.asarray(nearness) * saves).max())


def _group(relaxed: Sequence[MatchedConfiguration], leader: Sequence[int]) -> list[list[MatchedConfiguration]]:
    """Members of each minimum, minima by lowest energy; equal energies in ShakeNBreak's order, so that no name order helps a flat model."""
    groups: dict[int, list[MatchedConfiguration]] = {}
    for item, first in zip(relaxed, leader, strict=True):
        groups.setdefault(first, []).append(item)
    ordered = [sorted(g, key=lambda p: (_energy(p), shakenbreak_order(p.configuration))) for g in groups.values()]
    return sorted(ordered, key=lambda g: (_energy(g[0]), shakenbreak_order(g[0].configuration)))


def _energy(relaxed: MatchedConfiguration) -> float:
    """Rounded, so that noise in the last digits does not change the order."""
    return np.inf if relaxed.energy is None else round(relaxed.energy, 6)


TellApart = Callable[[Sequence[tuple[float, "Atoms"]], "Floats"], list[int]]
"""From (energy, structure) and the defect's position to the index of the first lower structure that each one equals, or its own."""


def replay(
    state: MatchedState, host: Atoms | None, scoring: ScoringInput, operations: Operations, tell_apart: TellApart | None = None
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
    known = [c for c in state.configurations if c.configuration in reference.minima]
    candidates = sorted(known, key=lambda c: shakenbreak_order(c.configuration))
    if len(candidates) < MINIMUM_CANDIDATES:
        return f"DFT has relaxed {len(candidates)} of the selected starts; a search needs {MINIMUM_CANDIDATES}"
    reference_hits = tuple(reference.membership[p.configuration] < reference.grounds for p in candidates)
    if not any(reference_hits):
        return "none of the selected starts leads DFT to the ground state"
    usable = [p for p in candidates if p.converged and p.atoms is not None]
    structures = [(_energy(p), p.atoms) for p in usable if p.atoms is not None]
    groups = _group(usable, tell_apart(structures, reference.centre) if tell_apart else cluster(structures, operations))
    nearness = {p.configuration: in_ground_state(p, state, host, scoring, operations) for p in usable}
    same = sameness(structures, reference.centre, operations)
    failed = len(candidates) - len(usable)
    return Search(
        defect=reference.defect,
        charge=reference.charge,
        candidates=tuple(p.configuration for p in candidates),
        reference_hits=reference_hits,
        minima=tuple(tuple(p.configuration for p in g) for g in groups),
        # one structure of each minimum is passed on: the lowest
        hits=tuple(nearness[g[0].configuration] >= 0.5 for g in groups),
        soft_area=soft_area(list(nearness.values()), [e for e, _ in structures], same, failed, len(candidates)),
        nearest=max(nearness.values(), default=0.0),
        lowest=state.found,
        failed=failed,
    )


def searches(scoring: ScoringInput, tell_apart: TellApart | None = None) -> tuple[list[Search], list[str]]:
    """The replayed searches of all selected charge states, and why others are left out; see :func:`replay`."""
    host, _ = model_host(scoring)
    operations = operations_of(scoring.dataset)
    found: list[Search] = []
    left_out: list[str] = []
    for state in match_states(scoring):
        done = replay(state, host, scoring, operations, tell_apart)
        if isinstance(done, str):
            left_out.append(f"{ChargeState(state.reference.defect, state.reference.charge)}: {done}")
        else:
            found.append(done)
    return found, left_out


def smallest_full(found: Sequence[Search]) -> int | None:
    """The smallest number of DFT relaxations a charge state with which no ground state is lost; None if some always is."""
    needed = [s.first for s in found]
    return None if not needed or None in needed else max(n for n in needed if n is not None)


def saved(found: Sequence[Search], chosen: int | None) -> float:
    """Fraction of the avoidable DFT relaxations that stopping after the first ``chosen`` of every state saves; 0 for None.

    One relaxation per charge state cannot be avoided, so the best is 1: (Σ N − Σ min(n, F + U)) / (Σ N − S) with F failed candidates and U
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
    return TaskResult(
        task="search",
        metrics=_metrics(found, left_out),
        rows=tuple(_state_row(s) for s in found),
        baselines=_baselines(found),
        notes=tuple(_notes(found, left_out)),
        tables={
            "minima": tuple(_minimum_row(s, i) for s in found for i in range(len(s.minima))),
            "curve": tuple(curve(found)),
        },
    )


def _state_row(search: Search) -> StateRow:
    return {
        "defect": search.defect,
        "charge": search.charge,
        "candidates": len(search.candidates),
        "leading_to_ground_state": sum(search.reference_hits),
        "failed": search.failed,
        "unique_minima": len(search.minima),
        "needed": search.first,
        "found_by_lowest": rounded(search.lowest),
        "found_by_unique": search.first is not None,
        "nearest": rounded(search.nearest),
        "area": rounded(search.soft_area),
        "random_area": rounded(search.random_area),
        "needed_in_order": search.first_in_order,
        "order_area": rounded(area(search.first_in_order, len(search.candidates))),
    }


def soap_table(scoring: ScoringInput) -> list[SoapRow]:
    """The search with minima distinguished by SOAP, beside the matching's: one row per charge state (``defectbench rescore ENTRY --soap``).

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


def _minimum_row(search: Search, index: int) -> MinimumRow:
    return {
        "defect": search.defect,
        "charge": search.charge,
        "place": index + 1,
        "passed": search.minima[index][0],
        "members": " ".join(search.minima[index]),
        "in_ground_state": search.hits[index],
    }


def curve(found: Sequence[Search]) -> list[CurveRow]:
    """Recall by the number of DFT relaxations spent a charge state: the model's minima, ShakeNBreak's order, random choice."""
    if not found:
        return []
    out: list[CurveRow] = []
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
    """Values with intervals over charge states."""
    empty = NotAvailable("no charge state can be searched: " + left_out[0], applies=False) if left_out else NO_STATES
    out = Metrics(METRICS, empty)
    areas = np.array([[s.soft_area, s.random_area] for s in found]).reshape(-1, 2)
    labels = [(s.defect, s.charge) for s in found]
    places = np.arange(len(found), dtype=float)

    def resampled(name: str, statistic: Callable[[Sequence[Search]], float]) -> None:
        """A statistic that needs the searches themselves: their places are drawn."""
        out.statistic(name, places, lambda drawn: statistic([found[int(i)] for i in drawn]), labels=labels)

    out.mean("recall_area", areas[:, 0], labels=labels)
    out.mean("lowest_recall", (s.lowest for s in found), labels=labels)
    out.mean("unique_recall", (s.nearest for s in found), labels=labels)
    resampled("unique_saved", lambda chosen: 1.0 - sum(s.most for s in chosen) / sum(len(s.candidates) for s in chosen))
    resampled("saved_at_full_recall", lambda chosen: saved(chosen, smallest_full(chosen)))
    out.statistic("gain_over_random", areas, _gain, labels=labels)
    return out.done()


def _gain(areas: Floats) -> float:
    """How far the mean of the first column lies from the mean of the second towards 1."""
    mine, chance = float(areas[:, 0].mean()), float(areas[:, 1].mean())
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
    if not found:
        return notes
    total = sum(len(s.candidates) for s in found)
    number = smallest_full(found)
    if number is None:
        lost = ", ".join(str(ChargeState(s.defect, s.charge)) for s in found if s.first is None)
        notes.append(f"The model's minima do not contain every ground state, so nothing is saved at full recall. Lost: {lost}.")
    else:
        used = sum(min(number, s.most) for s in found)
        notes.append(f"{number} DFT relaxations per charge state find every ground state: {used} in total instead of {total}.")
    if failed := sum(s.failed for s in found):
        notes.append(f"{failed} of {total} candidates did not relax with the model. Each costs one DFT relaxation first and finds nothing.")
    notes.append("'defectbench rescore ENTRY --soap' separates minima by SOAP instead of by matching (needs dscribe; not scored).")
    notes.append("Candidates are the starts that DFT has relaxed. A ground state that only other starts reach is not searched for.")
    return notes
