"""Runs calculations of an entry again with its model: the only thing that tells invented results from calculated ones."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np

from defectbench.base.states import format_charge
from defectbench.base.text import one_line
from defectbench.calculations.plan import certificate_of
from defectbench.calculations.preparation import MakeExecutor, ModelOptions, Prepared, choose_model, network_note
from defectbench.calculations.requests import Calculation, Structure
from defectbench.calculations.results import (
    CertificateResult,
    DescriptorsResult,
    OwnLatticeResult,
    RelaxationResult,
    Result,
    SinglePointResult,
    Stored,
)
from defectbench.models.certificate import THRESHOLDS, Thresholds, classify

if TYPE_CHECKING:
    from defectbench.calculations.executors import Executor
    from defectbench.calculations.plan import Plan
    from defectbench.datasets.dataset import Dataset
    from defectbench.entries.schema import Entry


@dataclass(frozen=True)
class SampleOptions:
    """How the model of a sample runs.

    Attributes:
        model: device, environment, weights and trust, as :func:`defectbench.evaluate` takes them.
        workers: worker processes; by default one per core, or one per GPU.
        executor: runs the calculations instead of local worker processes, or makes what does.
        seed: of the choice; by default none that the entry's maker could know.
    """

    model: ModelOptions = field(default_factory=ModelOptions)
    workers: int | None = None
    executor: Executor | MakeExecutor | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Sample:
    """What running calculations again found.

    Attributes:
        problems: one line per difference.
        repeated: how many calculations were run again.
        note: that the model's code could reach the network; None where it could not, or ships with defectbench.
    """

    problems: tuple[str, ...]
    repeated: int
    note: str | None


@dataclass(frozen=True)
class Tolerance:
    """What two calculations of one model may differ by, by its precision.

    Attributes:
        limits: energy per atom and force component at one structure: those of the certificate for repeated calls.
        energy: at the end of a relaxation, eV.
        displacement: of any atom at the end of a relaxation, Å. Relaxations amplify rounding, and end within a force, not a place.
    """

    limits: Thresholds
    energy: float
    displacement: float


TOLERANCES = {"float32": Tolerance(THRESHOLDS["float32"], 0.01, 0.1), "float64": Tolerance(THRESHOLDS["float64"], 0.002, 0.05)}
"""By precision of the model."""


def run_sample(
    entry: Entry,
    dataset: Dataset,
    plan: Plan,
    results: Mapping[str, Stored],
    labels: Mapping[str, str],
    count: int,
    model: Any,
    options: SampleOptions,
) -> Sample:
    """Runs the certificate and ``count`` random calculations again, of each kind in turn, relaxations first.

    Of a relaxation the stored end is calculated again, too: whatever way led there, energy and forces are the model's or not.

    Args:
        entry: that is examined.
        dataset: it was made on.
        plan: of the entry.
        results: content hash → stored result.
        labels: content hash → name for people.
        count: how many.
        model: as the user gave it; None for the registered model of the entry.
        options: how it runs.

    Raises:
        DefectbenchError: the model is not found, not trusted, or cannot start.
    """
    from dataclasses import replace

    from defectbench.models.in_hand import is_calculator

    chosen_options = options.model
    if model is not None and is_calculator(model):  # the entry says how it was called
        chosen_options = replace(
            chosen_options, name=entry.model.name, charge=entry.model.charge, precision=entry.certificate.get("precision", "float64")
        )
    chosen = choose_model(entry.model.id if model is None else model, chosen_options)
    ready = chosen.prepare(lambda _line: None)
    problems = list(_weights_problems(entry, ready))
    picked = _pick(plan, results, count, Random(secrets.randbits(64) if options.seed is None else options.seed))
    ends = {c.content_hash: end for c in picked if (end := _end(c, results[c.content_hash])) is not None}
    certificate = certificate_of(chosen.definition, dataset, dict.fromkeys(s.defect for s in plan.states))
    asked = {c.content_hash: c for c in (certificate, *picked, *ends.values())}
    executor = ready.executor(options.executor, workers=options.workers, at_most=len(asked))
    fresh = {done.calculation.content_hash: done.result for done in executor.run(list(asked.values()))}
    tolerance = TOLERANCES[entry.certificate.get("precision", "float64")]
    measured = fresh[certificate.content_hash]
    assert isinstance(measured, CertificateResult)
    problems += _certificate_problems(entry, measured, tolerance)
    for calculation in picked:
        key = calculation.content_hash
        stored = results[key].result
        lines = list(_compare(stored, fresh[key], tolerance))
        if key in ends:
            lines += [f"at its stored end: {line}" for line in _compare(_as_single_point(stored), fresh[ends[key].content_hash], tolerance)]
        problems += [f"{labels[key]}, calculated again: {line}" for line in lines]
    network = measured.worker.network if measured.worker is not None and ready.hand is None else None
    return Sample(tuple(problems), len(picked), network_note(chosen.definition, network))


def _pick(plan: Plan, results: Mapping[str, Stored], count: int, random: Random) -> list[Calculation]:
    by_kind: dict[str, list[Calculation]] = {"relaxation": [], "own_lattice": [], "single_point": [], "descriptors": []}
    for calculation in plan.calculations:
        if calculation.content_hash in results:
            by_kind[calculation.kind].append(calculation)
    for calculations in by_kind.values():
        random.shuffle(calculations)
    return [c for c in chain.from_iterable(zip_longest(*by_kind.values())) if c is not None][:count]


def _end(calculation: Calculation, stored: Stored) -> Calculation | None:
    result = stored.result
    if not isinstance(result, RelaxationResult) or result.energy is None or result.forces is None:
        return None
    start = calculation.structure
    return Calculation("single_point", Structure(start.symbols, result.positions, start.cell), calculation.charge)


def _as_single_point(result: Result) -> SinglePointResult:
    assert isinstance(result, RelaxationResult)
    return SinglePointResult(status="ok", energy=result.energy, forces=result.forces)


def _weights_problems(entry: Entry, ready: Prepared) -> Iterator[str]:
    said = entry.model.weights_sha256
    for name, sha256 in ready.resolved.weights_sha256.items():
        if name in said and said[name] != sha256:
            yield f"model.weights_sha256: {name} is {said[name]}, the model that was run again has {sha256}"


def _certificate_problems(entry: Entry, fresh: CertificateResult, tolerance: Tolerance) -> Iterator[str]:
    if fresh.status != "ok":
        yield f"certificate, measured again: {one_line(fresh.failure or 'it failed', 200)}"
        return
    found, said = classify(fresh.model_dump(mode="json")), entry.certificate
    if found.charge_class != said["charge_class"]:
        yield f"certificate.charge_class, measured again: {said['charge_class']} stored, {found.charge_class} now"
    now = dict(zip(found.charges, found.energies, strict=True))
    allowed = tolerance.limits.energy_per_atom * found.atoms
    for charge, energy in zip(said.get("charges", ()), said.get("energies", ()), strict=False):
        if charge in now and abs(energy - now[charge]) > allowed:
            stored = f"{energy:.6f} eV stored at charge {format_charge(charge)}"
            yield f"certificate.energies, measured again: {stored}, {now[charge]:.6f} eV now"


def _compare(stored: Result, fresh: Result, tolerance: Tolerance) -> Iterator[str]:
    if isinstance(stored, RelaxationResult | OwnLatticeResult) and isinstance(fresh, RelaxationResult | OwnLatticeResult):
        yield from _compare_relaxations(stored, fresh, tolerance)
        return
    if stored.status != fresh.status:
        yield f"{stored.status} stored, {fresh.status} now"
        return
    if isinstance(stored, DescriptorsResult) and isinstance(fresh, DescriptorsResult) and stored.descriptors and fresh.descriptors:
        a, b = np.array(stored.descriptors), np.array(fresh.descriptors)
        if a.shape != b.shape or np.abs(a - b).max() > 1e-2 * max(1.0, float(np.abs(b).max())):
            yield "other descriptors"
    if isinstance(stored, SinglePointResult) and isinstance(fresh, SinglePointResult) and stored.forces and fresh.forces:
        assert stored.energy is not None
        assert fresh.energy is not None
        yield from _compare_energies(stored.energy, fresh.energy, len(stored.forces), tolerance)
        off = float(np.abs(np.array(stored.forces) - np.array(fresh.forces)).max())
        if off > tolerance.limits.force:
            yield f"a force component differs by {off:.3g} eV/Å"


def _compare_relaxations(
    stored: RelaxationResult | OwnLatticeResult, fresh: RelaxationResult | OwnLatticeResult, tolerance: Tolerance
) -> Iterator[str]:
    count = len(stored.positions)
    if stored.energies and fresh.energies:
        yield from (f"at the start: {line}" for line in _compare_energies(stored.energies[0], fresh.energies[0], count, tolerance))
    if stored.status != fresh.status:
        yield f"{stored.status} stored, {fresh.status} now"
    elif stored.status == "converged":
        assert stored.energy is not None
        assert fresh.energy is not None
        if abs(stored.energy - fresh.energy) > tolerance.energy:
            yield f"ends at {stored.energy:.4f} eV stored, {fresh.energy:.4f} eV now"
        far = float(np.linalg.norm(np.array(stored.positions) - np.array(fresh.positions), axis=1).max())
        if far > tolerance.displacement:
            yield f"an atom ends {far:.2f} Å from where it is stored"


def _compare_energies(stored: float, fresh: float, count: int, tolerance: Tolerance) -> Sequence[str]:
    # stored positions are rounded to 1e-7 Å, which moves energies by less than 1e-6 eV
    differ = abs(stored - fresh) > tolerance.limits.energy_per_atom * count + 1e-6
    return [f"{stored:.6f} eV stored, {fresh:.6f} eV now"] if differ else []
