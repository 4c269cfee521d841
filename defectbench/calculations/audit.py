"""The audit of a run: did the charge get lost on the way, after the certificate was measured?

Everything is found from stored results. Besides those that tasks ask for, a run stores two kinds of single points for it: the certificate's
first questions, asked again when all else is done, by the workers that did it; and the ends of some relaxations, by fresh workers, at
their own charge and at another.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from defectbench.base.states import format_charge
from defectbench.calculations.plan import Plan
from defectbench.calculations.requests import Calculation, Structure
from defectbench.calculations.results import CertificateResult, RelaxationResult, SinglePointResult, Stored
from defectbench.models.certificate import ChargeCertificate, Check
from defectbench.worker.certificate import rattle

ROUNDING = 2e-6
"""Stored numbers are rounded to 1e-7; a force is the root of three of them."""


@dataclass(frozen=True)
class Audit:
    """What the stored results say of the charge.

    Attributes:
        pairs: how many pairs of results of one structure at two charges were compared.
        points: how many single points were compared with an earlier result.
        lost: pairs of results that are the same at two charges, one line each.
        forces_lost: pairs whose forces are the same although their energies are not, of a model that is charge-aware.
        changed: results that a fresh calculation does not repeat.
    """

    pairs: int
    points: int
    lost: tuple[str, ...]
    forces_lost: tuple[str, ...]
    changed: tuple[str, ...]


def first_questions(certificate: Calculation, takes_charge: bool) -> list[Calculation]:
    """The structure of the certificate at its outermost charges, as single points."""
    structure, options = certificate.structure, certificate.options
    displaced = np.array(structure.positions) + rattle(np.random.default_rng(options["seed"]), len(structure.symbols))
    atoms = structure.to_atoms()
    atoms.positions = displaced
    charges = (options["charges"][0], options["charges"][-1]) if takes_charge else (None,)
    return [Calculation("single_point", Structure.from_atoms(atoms), charge) for charge in charges]


def ends(plan: Plan, results: Mapping[str, Stored]) -> dict[str, Calculation]:
    """Ends to calculate again at their charge: of the last relaxation at each charge; content hash of the relaxation → single point.

    Args:
        plan: of the run.
        results: content hash → result, as an entry holds them (rounded).
    """
    last: dict[int | None, tuple[str, Calculation]] = {}
    for calculation in (*plan.host.values(), *plan.relaxations.values()):
        found = results.get(calculation.content_hash)
        if found is None or not isinstance(found.result, RelaxationResult) or found.result.status == "failed":
            continue
        start = calculation.structure
        end = Calculation("single_point", Structure(start.symbols, found.result.positions, start.cell), calculation.charge)
        last[calculation.charge] = calculation.content_hash, end
    return dict(last.values())


def asked_again(plan: Plan, results: Mapping[str, Stored], charges: Iterable[int] | None = None) -> list[Calculation]:
    """What fresh workers calculate for the audit: the ends of :func:`ends`, each also at the charge that is farthest from its own.

    Args:
        plan: of the run.
        results: content hash → result, as an entry holds them (rounded).
        charges: of the run, where the results are of a part of it only; by default those of the ends.
    """
    own = list(ends(plan, results).values())
    found = [end.charge for end in own if end.charge is not None]
    others = found if charges is None else list(charges)
    farthest = {q: max(others, key=lambda other: abs(other - q)) for q in found}
    crossed = [replace(end, charge=farthest[end.charge]) for end in own if end.charge is not None and farthest[end.charge] != end.charge]
    return [*own, *crossed]


def audit(
    plan: Plan,
    results: Mapping[str, Stored],
    certificate: ChargeCertificate,
    raw: CertificateResult,
    asked: Calculation,
) -> Audit:
    """Looks for a charge that got lost; pure.

    Args:
        plan: of the run.
        results: content hash → result, of the plan and of the single points that were asked for the audit.
        certificate: of the model.
        raw: its measurements.
        asked: the calculation that they answer.
    """
    limits = certificate.thresholds
    noise = limits.noise_factor * np.array([certificate.noise_energy, certificate.noise_force])

    def tolerances(count: int) -> tuple[float, float]:
        return max(limits.energy_per_atom * count, noise[0]) + ROUNDING, max(limits.force, noise[1]) + ROUNDING

    looked_at = (*plan.calculations, *first_questions(asked, plan.ask.takes_charge), *asked_again(plan, results))
    distinct = {c.content_hash: c for c in looked_at}.values()
    pairs, lost, silent = _compare_charges(plan, distinct, results, tolerances, aware=certificate.charge_class == "charge-aware")
    points = list(_repeated(plan, results, raw, asked))
    changed = [
        line
        for label, one, other in points
        if (line := _difference(label, one, other, (limits.blind_energy, limits.blind_force), tolerances))
    ]
    return Audit(pairs, len(points), tuple(lost), tuple(silent), tuple(changed))


def with_audit(certificate: ChargeCertificate, found: Audit) -> ChargeCertificate:
    """A certificate with what the run's audit found; the class is what the stored results still support."""
    if certificate.calls is None:
        return certificate

    def check(name: str, lines: Sequence[str], good: str) -> Check:
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        return Check(name, not lines, float(len(lines)), 0.0, "1", f"{lines[0]}{more}" if lines else good)

    checks = [check("run_repeats", found.changed, f"{found.points} results of the run are the same when they are calculated again")]
    if found.pairs:
        lines = (*found.lost, *found.forces_lost)
        checks.append(check("run_keeps_charge", lines, f"{found.pairs} pairs of results differ between their two charges"))
    charge_class = certificate.charge_class
    if charge_class != "charge-blind" and (found.lost or found.changed):
        charge_class = "charge-blind"
    elif charge_class == "charge-aware" and found.forces_lost:
        charge_class = "energy-only"
    return replace(certificate, charge_class=charge_class, checks=(*certificate.checks, *checks))


Tolerances = Callable[[int], tuple[float, float]]
"""Number of atoms → energy (eV) and force (eV/Å) up to which two results are the same."""


def _compare_charges(
    plan: Plan, calculations: Iterable[Calculation], results: Mapping[str, Stored], tolerances: Tolerances, *, aware: bool
) -> tuple[int, list[str], list[str]]:
    """Pairs of results of the same kind and structure at two charges: how many, those that are equal, those with equal forces."""
    groups: dict[tuple[str, Structure], list[Calculation]] = defaultdict(list)
    for calculation in calculations:
        if calculation.charge is not None and calculation.kind in ("relaxation", "single_point"):
            groups[calculation.kind, calculation.structure].append(calculation)
    names = {c.content_hash: f"{defect} {name}" for (defect, _, name), c in plan.relaxations.items()}
    pairs, lost, silent = 0, [], []
    for (kind, structure), group in groups.items():
        energy, force = tolerances(len(structure.symbols))
        for one, other in combinations(group, 2):
            numbers = [_numbers(results.get(c.content_hash)) for c in (one, other)]
            if numbers[0] is None or numbers[1] is None:
                continue
            pairs += 1
            (energies, forces), (other_energies, other_forces) = numbers[0], numbers[1]
            same_forces = _same(forces, other_forces, force)
            where = names.get(one.content_hash, "a single point" if kind == "single_point" else "a relaxation")
            assert one.charge is not None
            assert other.charge is not None
            between = f"between charges {format_charge(one.charge)} and {format_charge(other.charge)}"
            if same_forces and _same(energies, other_energies, energy):
                lost.append(f"{where}: energy and forces are the same {between}")
            elif same_forces and aware and (kind == "single_point" or len(energies) > 2):
                silent.append(f"{where}: the forces are the same {between}")
    return pairs, lost, silent


def _numbers(stored: Stored | None) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Energies and forces that stand for a result: of a relaxation those of all steps, largest forces only."""
    result = stored.result if stored is not None else None
    if isinstance(result, RelaxationResult) and result.energies:
        return np.array(result.energies), np.array(result.fmax)
    if isinstance(result, SinglePointResult) and result.energy is not None:
        return np.array([result.energy]), np.array(result.forces)
    return None


def _same(one: NDArray[np.float64], other: NDArray[np.float64], tolerance: float) -> bool:
    return one.shape == other.shape and bool(np.abs(one - other).max(initial=0.0) <= tolerance)


def _repeated(
    plan: Plan, results: Mapping[str, Stored], raw: CertificateResult, asked: Calculation
) -> Iterator[tuple[str, SinglePointResult, SinglePointResult]]:
    """What was calculated twice: label, the earlier result, the later one."""
    for question in first_questions(asked, plan.ask.takes_charge):
        found = results.get(question.content_hash)
        if found is not None and isinstance(found.result, SinglePointResult):
            at = 0 if question.charge is None else raw.charges.index(question.charge)
            earlier = SinglePointResult(status="ok", energy=raw.energies[at], forces=raw.forces[at])
            yield f"the certificate's structure{_at(question.charge)}, asked again at the end", earlier, found.result
    names = {c.content_hash: f"{defect} {name}" for (defect, _, name), c in plan.relaxations.items()}
    for content_hash, end in ends(plan, results).items():
        found, relaxed = results.get(end.content_hash), results[content_hash].result
        if found is not None and isinstance(found.result, SinglePointResult) and isinstance(relaxed, RelaxationResult):
            earlier = SinglePointResult(status="ok", energy=relaxed.energy, forces=relaxed.forces)
            yield f"the end of {names.get(content_hash, 'the host')}{_at(end.charge)}, calculated afresh", earlier, found.result


def _at(charge: int | None) -> str:
    return "" if charge is None else f" at charge {format_charge(charge)}"


def _difference(
    label: str, earlier: SinglePointResult, later: SinglePointResult, least: tuple[float, float], tolerances: Tolerances
) -> str | None:
    if later.status == "failed":
        return f"{label}, failed: {later.failure}"
    assert earlier.energy is not None
    assert later.energy is not None
    energy, force = tolerances(len(later.forces or ()))
    if (off := abs(earlier.energy - later.energy)) > max(energy, least[0]):
        return f"{label}, has another energy (by {off:.3g} eV)"
    if (off := float(np.abs(np.array(earlier.forces) - np.array(later.forces)).max())) > max(force, least[1]):
        return f"{label}, has other forces (by {off:.3g} eV/Å)"
    return None
