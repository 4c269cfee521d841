"""The questions of the suite and their answers, from what relaxed where: pure functions of outcomes and paths."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from defectbench.sanity.record import Finding, Outcome, Pathway
from defectbench.sanity.suite import APART, BARRIER, BOUND, DUMBBELLS, HOST, METALS, SPLIT, TETRAHEDRAL, VACANCY

BARRIER_PUBLISHED, BARRIER_TOLERANCE = 0.6, 0.5
"""eV, and the fraction of it that a barrier may be off; the fraction is that of the paper's summary of interstitials in metals."""

SAME_ENERGY = 0.001
"""eV: a dumbbell that turns into <111> ends at its energy, to this."""

Found = Mapping[tuple[str, str], Outcome]


@dataclass(frozen=True)
class _Answer:
    """Value, judgement and remark; the last says why where there is no value."""

    value: float | None = None
    passed: bool | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Check:
    """A question.

    Attributes:
        name: of the check.
        system: that it is asked of.
        question: in words.
        unit: of the value.
        published: what the literature says; None where it gives nothing to compare with.
        answer: from outcomes and paths.
    """

    name: str
    system: str
    question: str
    unit: str
    published: str | None
    answer: Callable[[Found, Mapping[str, Pathway]], _Answer]


def _energies(found: Found, system: str, starts: Iterable[str]) -> dict[str, float] | _Answer:
    """Energies (eV) of relaxations that all must have converged; else the answer that says which did not."""
    energies: dict[str, float] = {}
    for start in starts:
        outcome = found[system, start]
        if outcome.status != "converged" or outcome.energy is None:
            return _Answer(None, False, f"{start} is {outcome.status}: {outcome.failure or f'{outcome.steps} steps'}")
        energies[start] = outcome.energy
    return energies


def _minima(found: Found, _paths: Mapping[str, Pathway]) -> _Answer:
    energies = _energies(found, "Si 64", (TETRAHEDRAL, SPLIT))
    if isinstance(energies, _Answer):
        return energies
    vacant = {start: found["Si 64", start].vacant_sites for start in (TETRAHEDRAL, SPLIT)}
    wrong = [start for start, wanted in ((TETRAHEDRAL, 0), (SPLIT, 1)) if vacant[start] != wanted]
    return _Answer(None, not wrong, f"{' and '.join(wrong)} relaxed to something else" if wrong else None)


def _ordering(found: Found, paths: Mapping[str, Pathway]) -> _Answer:
    both = _minima(found, paths)
    energies = _energies(found, "Si 64", (TETRAHEDRAL, SPLIT))
    if isinstance(energies, _Answer) or not both.passed:
        return _Answer(None, None, both.reason)
    return _Answer(energies[SPLIT] - energies[TETRAHEDRAL])


def _barrier(_found: Found, paths: Mapping[str, Pathway]) -> _Answer:
    path = paths.get(BARRIER)
    if path is None:
        return _Answer(None, False, "its ends are not both minima")
    if path.barrier is None:
        return _Answer(None, False, path.failure or f"the path did not converge in {path.steps} steps")
    return _Answer(path.barrier, abs(path.barrier - BARRIER_PUBLISHED) <= BARRIER_TOLERANCE * BARRIER_PUBLISHED)


def _lowest_pair(found: Found) -> Outcome | None:
    """The lowest converged pair that began together."""
    pairs = [outcome for start in BOUND if (outcome := found["Si 216", start]).status == "converged" and outcome.energy is not None]
    return min(pairs, key=lambda outcome: outcome.energy or 0.0, default=None)


def _binding(found: Found, _paths: Mapping[str, Pathway]) -> _Answer:
    apart, pair = _energies(found, "Si 216", (APART,)), _lowest_pair(found)
    if isinstance(apart, _Answer):
        return apart
    if pair is None or pair.energy is None:
        return _Answer(None, False, "no pair of interstitials converged")
    value = apart[APART] - pair.energy
    return _Answer(value, value > 0, f"the lowest pair began as {pair.start}")


def _symmetry(found: Found, _paths: Mapping[str, Pathway]) -> _Answer:
    pair = _lowest_pair(found)
    if pair is None:
        return _Answer(None, False, "no pair of interstitials converged")
    return _Answer(None, pair.point_group == "m", f"its point group is {pair.point_group}")


def _formation(found: Found, system: str, start: str) -> _Answer:
    """E(defect) − (n/N) E(host), eV; it must be positive."""
    energies = _energies(found, system, (HOST, start))
    if isinstance(energies, _Answer):
        return energies
    value = energies[start] - found[system, start].atoms / found[system, HOST].atoms * energies[HOST]
    return _Answer(value, value > 0)


def _dumbbells(found: Found, system: str) -> _Answer:
    energies = _energies(found, system, DUMBBELLS)
    if isinstance(energies, _Answer):
        return energies
    second = min(energies["<110>"], energies["<100>"])
    value = second - energies["<111>"]
    lowest = min(energies, key=energies.__getitem__)
    right = value > -SAME_ENERGY
    return _Answer(value, right, None if right else f"{lowest} is lower")


def _of_metal(element: str) -> tuple[Check, ...]:
    system, name = f"{element} 128", element.lower()

    def vacancy(found: Found, _paths: Mapping[str, Pathway]) -> _Answer:
        return _formation(found, system, VACANCY)

    def interstitial(found: Found, _paths: Mapping[str, Pathway]) -> _Answer:
        return _formation(found, system, "<111>")

    def ordering(found: Found, _paths: Mapping[str, Pathway]) -> _Answer:
        return _dumbbells(found, system)

    return (
        Check(f"{name}-vacancy", system, "formation energy of the vacancy, above 0", "eV", None, vacancy),
        Check(f"{name}-interstitial", system, "formation energy of the ⟨111⟩ dumbbell, above 0", "eV", None, interstitial),
        Check(f"{name}-ordering", system, "energy of the next dumbbell above ⟨111⟩", "eV", "⟨111⟩ is the lowest (DFT)", ordering),
    )


LDA = "0.6 (MACE-MP-0; its 0.53 ± 0.06 from dynamics agrees with LDA)"

CHECKS: tuple[Check, ...] = (
    Check("si-minima", "Si 64", "T and the ⟨110⟩ split are minima", "", "both are expected", _minima),
    Check("si-ordering", "Si 64", "energy of the ⟨110⟩ split above T", "eV", None, _ordering),
    Check("si-barrier", "Si 64", "barrier from T to the ⟨110⟩ split", "eV", LDA, _barrier),
    Check("si-pair", "Si 216", "energy of T + T apart above the lowest pair", "eV", "0.3 (MACE-MP-0)", _binding),
    Check("si-symmetry", "Si 216", "the lowest pair has the symmetry C1h", "", "C1h", _symmetry),
    *(check for element in METALS for check in _of_metal(element)),
)
"""All questions, in their order."""


def findings(outcomes: Sequence[Outcome], paths: Sequence[Pathway]) -> tuple[Finding, ...]:
    """The answers to the questions about the systems that ran.

    Args:
        outcomes: of all relaxations of these systems.
        paths: the minimum-energy paths that could be asked for.
    """
    found = {(outcome.system, outcome.start): outcome for outcome in outcomes}
    ran = {outcome.system for outcome in outcomes}
    by_name = {path.name: path for path in paths}
    out = []
    for check in CHECKS:
        if check.system in ran:
            answer = check.answer(found, by_name)
            value = None if answer.value is None else round(answer.value, 4)
            out.append(
                Finding(
                    check=check.name,
                    system=check.system,
                    question=check.question,
                    value=value,
                    unit=check.unit,
                    published=check.published,
                    passed=answer.passed,
                    reason=answer.reason,
                )
            )
    return tuple(out)
