"""What stored results must hold among themselves, whoever calculated them. Each function yields one line per contradiction."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from defectbench.base.states import format_charge
from defectbench.calculations.results import (
    CertificateResult,
    DescriptorsResult,
    EchoMismatch,
    RelaxationResult,
    SinglePointResult,
    Stored,
    check_echo,
)
from defectbench.models.certificate import THRESHOLDS
from defectbench.structures.lattice import minimum_image

if TYPE_CHECKING:
    from defectbench.calculations.plan import Plan
    from defectbench.calculations.requests import Calculation, Structure
    from defectbench.datasets.dataset import Dataset

ROUNDING = 2e-6
"""Stored numbers are rounded to 1e-7; a force is the root of three of them."""
MAX_STEP = 0.2
"""Å: the most that ASE's FIRE moves all atoms together (norm over all coordinates) in one step."""
DFT_MINIMUM = 1e-4
"""Å: a model's relaxation, converged to 0.03 eV/Å, does not meet DFT's own positions this closely."""
MAX_ENERGY = 1e5
"""eV/atom."""
MAX_FORCE = 1e4
"""eV/Å."""
NET_FORCE = 0.05
"""eV/Å: the sum of all forces of a model whose energy does not change under translation stays below."""

SAME_MODEL, SAME_MODEL_ROUGHLY = 0.02, 0.5
"""eV: what the energy of the certificate's structure may be off from that of the start which was rattled by 0.02 Å."""

Numbers = NDArray[np.float64]


def result_problems(label: str, calculation: Calculation, stored: Stored, *, translation_invariant: bool) -> Iterator[str]:
    """Contradictions within one result.

    Args:
        label: names it for people.
        calculation: that it answers.
        stored: the result.
        translation_invariant: whether the model's certificate found it so: then its forces sum to zero.
    """
    result = stored.result
    if result.echo is not None:
        try:
            check_echo(calculation, result)
        except EchoMismatch as error:
            yield f"{label}: {str(error).split(';')[0]}"
    if (result.status in ("failed", "unsupported")) != (result.failure is not None):
        yield f"{label}: status {result.status} {'without a failure' if result.failure is None else 'with the failure ' + result.failure}"
    if isinstance(result, DescriptorsResult):
        return
    assert isinstance(result, RelaxationResult | SinglePointResult)
    count = len(calculation.structure.symbols)
    if result.status != "failed":
        assert result.energy is not None
        if abs(result.energy) > MAX_ENERGY * count:
            yield f"{label}: an energy of {result.energy:.4g} eV"
        forces = np.array(result.forces, dtype=np.float64)
        if np.abs(forces).max(initial=0.0) > MAX_FORCE:
            yield f"{label}: a force of {np.abs(forces).max():.4g} eV/Å"
        net = float(np.linalg.norm(forces.sum(axis=0)))
        if translation_invariant and net > NET_FORCE:
            yield f"{label}: the forces sum to {net:.3g} eV/Å, those of this model to zero"
    if isinstance(result, RelaxationResult):
        yield from (f"{label}: {line}" for line in _relaxation_problems(calculation, result))


def _relaxation_problems(calculation: Calculation, result: RelaxationResult) -> Iterator[str]:
    protocol, steps = calculation.protocol, result.steps
    start, end = np.array(calculation.structure.positions), np.array(result.positions)
    if steps > protocol.max_steps:
        yield f"{steps} steps, more than the protocol's {protocol.max_steps}"
    if result.energies and result.energy != result.energies[-1]:
        yield f"the energy {result.energy} eV is not the last of the relaxation, {result.energies[-1]} eV"
    if result.forces is not None and result.fmax:
        largest = float(np.linalg.norm(np.array(result.forces), axis=1).max())
        if abs(largest - result.fmax[-1]) > ROUNDING * max(1.0, largest):
            yield f"the largest force is {largest:.7g} eV/Å, that of the last step {result.fmax[-1]:.7g} eV/Å"
    moved = float(np.linalg.norm(end - start))
    if moved > MAX_STEP * steps + 1e-3:
        yield f"the atoms moved {moved:.3g} Å in {steps} steps, which the optimiser cannot"
    if result.status == "failed":
        return
    if len(result.energies) != steps + 1:
        yield f"{len(result.energies)} energies for {steps} steps"
    converged = result.fmax[-1] < protocol.fmax
    if result.status == "converged" and not result.fmax[-1] < protocol.fmax + ROUNDING:
        yield f"converged with a largest force of {result.fmax[-1]:.4g} eV/Å; the protocol asks for {protocol.fmax} eV/Å"
    if result.status == "unconverged" and (converged or steps < protocol.max_steps):
        yield f"unconverged after {steps} steps with a largest force of {result.fmax[-1]:.4g} eV/Å"
    if any(force < protocol.fmax - ROUNDING for force in result.fmax[:-1]):
        yield "it continued after it had converged"
    if steps and moved < ROUNDING:
        yield f"no atom moved in {steps} steps"
    change = max(abs(energy - result.energies[0]) for energy in result.energies) / len(start)
    if change > protocol.max_energy_change:
        yield f"{result.status} though the energy moved by {change:.1f} eV/atom, which ends a relaxation as failed"
    far = float(np.linalg.norm(end - start, axis=1).max())
    if far > protocol.max_displacement:
        yield f"{result.status} though an atom moved {far:.1f} Å, which ends a relaxation as failed"
    first, second = np.triu_indices(len(end), 1)
    apart = np.linalg.norm(minimum_image(end[second] - end[first], calculation.structure.cell), axis=1)
    if len(apart) and apart.min() < protocol.min_distance - ROUNDING:
        yield f"{result.status} though two atoms are {apart.min():.2f} Å apart, which ends a relaxation as failed"


def shared_problems(labels: Mapping[str, str], plan: Plan, results: Mapping[str, Stored], certificate: Mapping[str, Any]) -> Iterator[str]:
    """Contradictions between results: one structure, one charge, two energies; two charges, one energy; one answer to two starts.

    Args:
        labels: content hash → name for people.
        plan: what was calculated.
        results: content hash → result.
        certificate: the entry's; its energies, too, are of a structure that the plan may hold.
    """
    limits = THRESHOLDS[certificate["precision"]]
    measured = dict(zip(certificate["charges"], certificate["energies"], strict=True))
    at_start: dict[tuple[Any, ...], dict[int | None, list[tuple[float, str]]]] = defaultdict(lambda: defaultdict(list))
    ends: dict[bytes, list[tuple[float, Any, str]]] = defaultdict(list)
    for calculation in plan.calculations:
        found = results.get(calculation.content_hash)
        if found is None:
            continue
        label, structure, energy = labels[calculation.content_hash], calculation.structure, _first_energy(found)
        if energy is not None:
            at_start[structure.symbols, structure.positions, structure.cell][calculation.charge].append((energy, label))
        if isinstance(found.result, RelaxationResult) and found.result.steps and found.result.energy is not None:
            ends[np.array(found.result.positions).tobytes()].append((found.result.energy, structure, label))
    for (symbols, *_), by_charge in at_start.items():
        allowed = limits.energy_per_atom * len(symbols) + ROUNDING
        for values in by_charge.values():
            for energy, label in values[1:]:
                if abs(energy - values[0][0]) > allowed:
                    yield f"{label}: {energy:.6f} eV for the structure that {values[0][1]} has at {values[0][0]:.6f} eV"
        first = [(q, *values[0]) for q, values in by_charge.items() if q is not None]
        for n, (q, energy, label) in enumerate(first):
            for other, same, other_label in first[:n]:
                differ = q in measured and other in measured and abs(measured[q] - measured[other]) > limits.blind_energy
                if differ and energy == same:
                    yield f"{label}: the energy of {other_label}, at another charge; the certificate has others for these charges"
    for answers in ends.values():
        for energy, structure, label in answers[1:]:
            if energy == answers[0][0] and structure != answers[0][1]:
                yield f"{label}: structure and energy are those of {answers[0][2]}, which starts elsewhere"


def _first_energy(stored: Stored) -> float | None:
    result = stored.result
    if isinstance(result, RelaxationResult):
        return result.energies[0] if result.energies else None
    return result.energy if isinstance(result, SinglePointResult) else None


def certificate_start_problems(
    labels: Mapping[str, str], plan: Plan, results: Mapping[str, Stored], raw: CertificateResult, start: Structure
) -> Iterator[str]:
    """Results of the structure on which the certificate was measured, with another energy: those of another model.

    The certificate's structure is rattled by a known displacement d. Where forces are known on both sides, the energies differ by the mean
    force times d; with those of the certificate alone half a curvature is missing, and more is allowed.

    Args:
        labels: content hash → name for people.
        plan: what was calculated.
        results: content hash → result.
        raw: the certificate's measurements.
        start: the structure of the certificate, before it was rattled.
    """
    from defectbench.worker.certificate import rattle

    displacements = rattle(np.random.default_rng(0), len(start.symbols))
    measured = {q: (e, np.array(f)) for q, e, f in zip(raw.charges, raw.energies, raw.forces, strict=True)}
    for calculation in plan.calculations:
        if calculation.structure != start or (found := results.get(calculation.content_hash)) is None:
            continue
        charge, energy = raw.charges[0] if calculation.charge is None else calculation.charge, _first_energy(found)
        if energy is None or charge not in measured:
            continue
        at_rattled, forces = measured[charge]
        own = found.result.forces if isinstance(found.result, SinglePointResult) else None
        both = own is not None
        mean = forces if own is None else (forces + np.array(own)) / 2
        expected = at_rattled + float((mean * displacements).sum())
        if abs(energy - expected) > (SAME_MODEL if both else SAME_MODEL_ROUGHLY):
            yield (
                f"{labels[calculation.content_hash]}: {energy:.4f} eV where the certificate leads to {expected:.4f} eV: "
                "not the model of the certificate"
            )


def reference_problems(labels: Mapping[str, str], dataset: Dataset, plan: Plan, results: Mapping[str, Stored]) -> Iterator[str]:
    """Relaxations that end exactly in a minimum of DFT: copied, not calculated.

    Args:
        labels: content hash → name for people.
        dataset: with the minima.
        plan: what was calculated.
        results: content hash → result.
    """
    seen: set[str] = set()
    for (defect, _, _), calculation in plan.relaxations.items():
        found = results.get(calculation.content_hash)
        if calculation.content_hash in seen or found is None or not isinstance(found.result, RelaxationResult):
            continue
        seen.add(calculation.content_hash)
        end = np.array(found.result.positions)
        if np.abs(end - np.array(calculation.structure.positions)).max() < DFT_MINIMUM:
            continue
        for charge in dataset.charges(defect):
            if not dataset.has_reference(defect, charge):
                continue
            for name, minimum in dataset.minima(defect, charge).items():
                positions = minimum.atoms.positions
                if positions.shape == end.shape and _apart(end, positions, np.array(calculation.structure.cell)) < DFT_MINIMUM:
                    yield f"{labels[calculation.content_hash]}: the positions are DFT's own, of {defect} {format_charge(charge)} {name}"


def _apart(one: Numbers, other: Numbers, cell: Numbers) -> float:
    return float(np.abs(minimum_image(one - other, cell)).max())


def differences(place: str, said: Any, found: Any, tolerance: float = 1e-6) -> Iterator[str]:
    """Where two JSON values differ, one line each; numbers may differ by a tolerance, relative or absolute.

    Args:
        place: what the values are of.
        said: as stored.
        found: as recomputed.
        tolerance: of numbers.

    >>> list(differences("relax", {"rmsd": 0.1, "notes": ["a"]}, {"rmsd": 0.2, "notes": ["a"]}))
    ['relax.rmsd: 0.1 stored, 0.2 recomputed']
    """
    if isinstance(said, Mapping) and isinstance(found, Mapping):
        for key in dict.fromkeys((*said, *found)):
            if key not in said or key not in found:
                yield f"{place}.{key}: {'not stored' if key not in said else 'stored, but nothing gives it'}"
            else:
                yield from differences(f"{place}.{key}", said[key], found[key], tolerance)
    elif _is_list(said) and _is_list(found):
        if len(said) != len(found):
            yield f"{place}: {len(said)} stored, {len(found)} recomputed"
        for n, (a, b) in enumerate(zip(said, found, strict=False)):
            yield from differences(f"{place}[{_name(b, n)}]", a, b, tolerance)
    elif _is_number(said) and _is_number(found):
        if abs(said - found) > tolerance * max(1.0, abs(said), abs(found)):
            yield f"{place}: {said:.10g} stored, {found:.10g} recomputed"
    elif said != found or isinstance(said, bool) != isinstance(found, bool):
        yield f"{place}: {_short(said)} stored, {_short(found)} recomputed"


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _name(item: Any, number: int) -> str:
    if not isinstance(item, Mapping):
        return str(number)
    named = [str(item[key]) for key in ("name", "defect", "charge", "configuration", "start") if item.get(key) is not None]
    return " ".join(named) or str(number)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 120 else f"{text[:117]}…"


_TOKEN = re.compile(r"[\s\",=()<>/;:]+")
_DRAWN_ID = re.compile(r"\b[a-zA-Z]{0,3}[0-9a-f]{10}\b")


def text_difference(said: str, found: str, tolerance: float = 1e-6, *, drawn: bool = False) -> int | None:
    """Number of the first line in which two texts differ, numbers to a tolerance; None if they do not.

    Args:
        said: as stored.
        found: as recomputed.
        tolerance: of numbers, relative or absolute.
        drawn: ignore the identifiers that matplotlib makes of what it draws.

    >>> text_difference("a 1.0000001\\nb 2", "a 1.0\\nb 3")
    2
    """
    if said == found:
        return None
    if drawn:
        said, found = _DRAWN_ID.sub("id", said), _DRAWN_ID.sub("id", found)
    one, other = said.splitlines(), found.splitlines()
    for n, (a, b) in enumerate(zip(one, other, strict=False), 1):
        if a != b and not _same_tokens(a, b, tolerance):
            return n
    return None if len(one) == len(other) else min(len(one), len(other)) + 1


def _same_tokens(one: str, other: str, tolerance: float) -> bool:
    a, b = _TOKEN.split(one), _TOKEN.split(other)
    return len(a) == len(b) and all(x == y or _close(x, y, tolerance) for x, y in zip(a, b, strict=True))


def _close(one: str, other: str, tolerance: float) -> bool:
    try:
        a, b = float(one), float(other)
    except ValueError:
        return False
    return abs(a - b) <= tolerance * max(1.0, abs(a), abs(b))
