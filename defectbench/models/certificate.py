"""The charge-response certificate: what a model does when only the charge changes, and whether its forces are sound.

The worker measures (``defectbench.worker.certificate``); here the numbers are judged. Thresholds and their reasons: ``docs/models.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from defectbench.base.errors import ModelError
from defectbench.base.states import format_charge
from defectbench.models.pairs import DefectResponse, Pair, Slope, lost_pairs, pairs_of, response_of
from defectbench.models.pairs import slope as energy_slope
from defectbench.models.schema import ChargeClass, ModelDefinition

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Thresholds:
    """Where one class ends and the next begins, and what a check lets pass.

    Attributes:
        blind_energy: total energies closer than this (eV) at all charges count as equal.
        blind_force: forces closer than this (eV/Å) at all charges count as equal.
        noise_factor: a response must exceed this many times the model's own repeatability noise.
        aware_force: largest change of the force on an atom per unit charge (eV/Å) that makes a model charge-aware: the convergence
            criterion of ``protocol v2``. Less cannot move an atom that was relaxed at another charge.
        aware_relative: the same change relative to the largest force of the geometry.
        energy_per_atom: tolerance of repeated and symmetry-related energies, eV/atom.
        force: tolerance of repeated and symmetry-related force components, eV/Å.
        gradient_absolute: tolerance of analytic against numerical forces, eV/Å …
        gradient_relative: … plus this fraction of the force.
        extensivity: tolerance of E(2x, q) − E(2x, 0) over E(x, q) − E(x, 0), which is 1 for a charge response that does not grow
            with the cell.
    """

    blind_energy: float = 1e-3
    blind_force: float = 1e-3
    noise_factor: float = 10.0
    aware_force: float = 0.03
    aware_relative: float = 0.03
    energy_per_atom: float = 1e-5
    force: float = 1e-3
    gradient_absolute: float = 3e-3
    gradient_relative: float = 0.02
    extensivity: float = 0.25


THRESHOLDS = {
    "float32": Thresholds(),
    "float64": Thresholds(energy_per_atom=1e-6, force=1e-4, gradient_absolute=1e-3, gradient_relative=0.01),
}
"""By precision of the model."""


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: snake_case.
        passed: whether it holds.
        value: the number that decides.
        limit: what it may be at most.
        unit: of both.
        reason: one line.
    """

    name: str
    passed: bool
    value: float
    limit: float
    unit: str
    reason: str


@dataclass(frozen=True)
class ChargeCertificate:
    """What a model does with a charge.

    Attributes:
        charge_class: ``charge-blind``, ``energy-only`` (the energy moves with charge, the forces too little to move atoms) or
            ``charge-aware``.
        charges: at which it was asked.
        energies: total energies there at one geometry, eV.
        energy_per_charge: largest change of the energy between neighbouring charges per unit charge, eV.
        force_change: largest change of the force on an atom between neighbouring charges per unit charge, eV/Å.
        force_change_relative: the same, relative to the largest force.
        noise_energy: change of the energy when a call is repeated, eV.
        noise_force: change of the largest force component then, eV/Å.
        descriptor_change: largest relative change of the descriptors with charge; None where the model exposes none.
        size_ratio: [E(2x, q) − E(2x, 0)] / [E(x, q) − E(x, 0)] of the cell and its double; None for a charge-blind model.
        seconds_per_call: one energy and forces of this structure, s.
        atoms: number of atoms of the structure.
        precision: ``float32`` or ``float64``.
        checks: repeatability, stale results, forces against finite differences, invariances.
        thresholds: what the classification used.
        calls: of the model that it took; None, as the fields below, if an earlier version measured: it asked at one defect only.
        responses: per defect what the charge does.
        energy_slope: ``rising``, ``falling`` or ``mixed`` with the charge; also None where the energy does not change with it.
        reference_slope: the same of DFT's energies; None where the dataset does not tell.
        reference_forces: correlation of the forces' change with charge with DFT's at the same structure; None where it is not known.
        warnings: what is odd and no error: a slope that changes sign, a sign that is not DFT's.
    """

    charge_class: ChargeClass
    charges: tuple[int, ...]
    energies: tuple[float, ...]
    energy_per_charge: float
    force_change: float
    force_change_relative: float
    noise_energy: float
    noise_force: float
    descriptor_change: float | None
    size_ratio: float | None
    seconds_per_call: float
    atoms: int
    precision: str
    checks: tuple[Check, ...]
    thresholds: Thresholds
    calls: int | None = None
    responses: tuple[DefectResponse, ...] | None = None
    energy_slope: Slope | None = None
    reference_slope: Slope | None = None
    reference_forces: float | None = None
    warnings: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        return f"<charge-response certificate: {self.charge_class}; {len(self.failed)} of {len(self.checks)} checks failed>"

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that do not hold."""
        return tuple(check for check in self.checks if not check.passed)

    @property
    def doubts(self) -> tuple[str, ...]:
        """What speaks against the charge response, for everybody who reads the class: warnings, and what a run's audit found."""
        return (*(self.warnings or ()), *(check.reason for check in self.failed if check.name in DOUBTS))

    def to_json(self) -> dict[str, Any]:
        """All fields, JSON values only; without those that an earlier version did not measure."""
        out: dict[str, Any] = _as_lists(asdict(self))
        if self.calls is None:
            for name in ("calls", "responses", "energy_slope", "reference_slope", "reference_forces", "warnings"):
                del out[name]
        return out

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ChargeCertificate:
        """The inverse of :meth:`to_json`."""
        fields = dict(content)
        fields["charges"], fields["energies"] = tuple(fields["charges"]), tuple(fields["energies"])
        fields["checks"] = tuple(Check(**check) for check in fields["checks"])
        fields["thresholds"] = Thresholds(**fields["thresholds"])
        if fields.get("calls") is not None:
            fields["responses"] = tuple(DefectResponse.from_json(response) for response in fields["responses"])
            fields["warnings"] = tuple(fields["warnings"])
        return cls(**fields)


def _as_lists(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _as_lists(item) for key, item in value.items()}
    return [_as_lists(item) for item in value] if isinstance(value, list | tuple) else value


def classify(raw: Mapping[str, Any], defect: str = "") -> ChargeCertificate:
    """Judges the worker's raw certificate; pure.

    Args:
        raw: a result of kind ``certificate``.
        defect: whose structure it was measured on, for the messages.

    Raises:
        ModelError: the model failed while it was measured.
    """
    if raw["status"] != "ok":
        raise ModelError(f"the model failed in its charge-response certificate: {raw['failure']}", code="model-failed")
    limits = THRESHOLDS[raw["precision"]]
    order = np.argsort(raw["charges"])
    charges = np.array(raw["charges"], dtype=int)[order]
    energies = np.array(raw["energies"], dtype=float)[order]
    forces = np.array(raw["forces"], dtype=float)[order]
    gaps = np.diff(charges)
    largest_force = float(np.linalg.norm(forces, axis=2).max())
    energy_per_charge = float((np.abs(np.diff(energies)) / gaps).max())
    force_change = float((np.linalg.norm(np.diff(forces, axis=0), axis=2).max(axis=1) / gaps).max())
    noise_energy = max(raw["repeat"]["energy"], raw["order"]["energy"])
    noise_force = max(raw["repeat"]["forces"], raw["order"]["forces"])
    relative = force_change / largest_force if largest_force > 0 else 0.0
    pairs, responses = _responses(raw, defect, charges, energies, forces)

    blind = max(p.energy for p in pairs) <= max(limits.blind_energy, limits.noise_factor * noise_energy) and max(
        p.forces for p in pairs
    ) <= max(limits.blind_force, limits.noise_factor * noise_force)
    aware = (
        force_change > limits.aware_force
        and relative > limits.aware_relative
        and float(np.abs(forces - forces[0]).max()) > limits.noise_factor * noise_force
        and not blind
    )
    charge_class: ChargeClass = "charge-blind" if blind else "charge-aware" if aware else "energy-only"
    ratio = _size_ratio(raw["doubling"], limits) if not blind else None
    changes = (raw.get("descriptors") or {}).get("relative_change")
    measured = raw.get("calls") is not None
    slope = energy_slope((r.energies for r in responses), limits.blind_energy) if measured else None
    return ChargeCertificate(
        charge_class=charge_class,
        charges=tuple(int(q) for q in charges),
        energies=tuple(float(e) for e in energies),
        energy_per_charge=energy_per_charge,
        force_change=force_change,
        force_change_relative=relative,
        noise_energy=noise_energy,
        noise_force=noise_force,
        descriptor_change=max(changes.values()) if changes else None,
        size_ratio=ratio,
        seconds_per_call=raw["seconds_per_call"],
        atoms=raw["atoms"],
        precision=raw["precision"],
        checks=(*_checks(raw, limits, ratio), *(_charge_checks(raw, limits, pairs, noise_energy, noise_force) if measured else ())),
        thresholds=limits,
        calls=raw.get("calls"),
        responses=responses if measured else None,
        energy_slope=slope,
        warnings=((MIXED,) if slope == "mixed" else ()) if measured else None,
    )


MIXED = "the energy neither rises nor falls with the charge throughout"


def _responses(
    raw: Mapping[str, Any], defect: str, charges: Numbers, energies: Numbers, forces: Numbers
) -> tuple[list[Pair], tuple[DefectResponse, ...]]:
    """All pairs of charges of all defects, and the least that changes between those of each."""
    changes = [float(np.abs(a - b).max()) for a, b in combinations(forces, 2)]
    found = [(defect, charges.tolist(), energies.tolist(), changes)]
    found += [(o["defect"], o["charges"], o["energies"], o["force_changes"]) for o in raw.get("others") or ()]
    pairs: list[Pair] = []
    responses = []
    for name, its_charges, its_energies, its_changes in found:
        own = pairs_of(name, its_charges, its_energies, its_changes)
        responses.append(response_of(name, its_charges, its_energies, own))
        pairs += own
    return pairs, tuple(responses)


def _charge_checks(
    raw: Mapping[str, Any], limits: Thresholds, pairs: Sequence[Pair], noise_energy: float, noise_force: float
) -> Iterator[Check]:
    """What a charge must do everywhere and always; of a model that takes none, that it does nothing."""
    noise = {
        "energy": max(limits.energy_per_atom * raw["atoms"], limits.noise_factor * noise_energy),
        "forces": max(limits.force, limits.noise_factor * noise_force),
    }

    def unchanged(name: str, numbers: Mapping[str, float], good: str, bad: str) -> Check:
        worst = max(("energy", "forces"), key=lambda kind: numbers[kind] / noise[kind])
        unit = "eV" if worst == "energy" else "eV/Å"
        passed = numbers[worst] <= noise[worst]
        return Check(name, passed, numbers[worst], noise[worst], unit, good if passed else f"{bad}: {worst} by {numbers[worst]:.2g} {unit}")

    yield unchanged(
        "lasting", raw["again"], "the first questions get the same answers at the end", "the first questions get others at the end"
    )
    if raw.get("batched") is not None:
        yield unchanged(
            "batched", raw["batched"], "a batch of all charges gives what single calls give", "a batch of all charges gives other results"
        )
    if raw.get("hidden") is not None:
        yield _hidden_charge(raw["hidden"], raw.get("hidden_names"), limits, noise)
        return
    yield unchanged(
        "after_steps",
        raw["after_steps"],
        "optimiser steps end with what a fresh call gives",
        "optimiser steps end with another result than a fresh call gives",
    )
    lost = lost_pairs(pairs, noise["energy"], noise["forces"], limits.aware_force)
    count = len(lost.altogether)
    line = (
        "the model responds to charge between every pair of charges" if not count else f"(almost) nothing changes {_first(lost.altogether)}"
    )
    yield Check("every_pair", not count, float(count), 0.0, "1", line)
    if not count:
        count = len(lost.in_forces)
        line = "where forces respond, they do between every pair" if not count else f"the forces do not change {_first(lost.in_forces)}"
        yield Check("every_pair_forces", not count, float(count), 0.0, "1", line)
    rounding = 8.0 * float(np.finfo(raw["precision"]).eps) * max(abs(energy) for energy in raw["energies"])
    yield _response_gradient(raw["finite_difference"], limits, rounding + limits.noise_factor * noise_energy)


def _first(pairs: Sequence[Pair]) -> str:
    return f"{pairs[0]}{f' and {len(pairs) - 1} other pairs' if len(pairs) > 1 else ''}"


def _hidden_charge(
    hidden: Sequence[Mapping[str, Any]], names: Mapping[str, int] | None, limits: Thresholds, noise: Mapping[str, float]
) -> Check:
    allowed = {"energy": max(limits.blind_energy, noise["energy"]), "forces": max(limits.blind_force, noise["forces"])}
    responses = [h for h in hidden if any(h[kind] > allowed[kind] for kind in allowed)]
    worst = max(hidden, key=lambda h: float(h["energy"]))
    where = ", ".join(h["where"] for h in responses if h["where"])
    line = "no other way to say a charge changes anything" if not responses else f"it responds to a charge in {where or 'the structure'}"
    if names is not None and not responses:
        line += f"; it reads all of atoms.info, so {names['tried']} names in its code were tried"
        line += f", and {names['untried']} could not be" if names["untried"] else ""
    return Check("no_hidden_charge", not responses, float(worst["energy"]), allowed["energy"], "eV", line)


def _response_gradient(measured: Sequence[Mapping[str, Any]], limits: Thresholds, noise_energy: float) -> Check:
    """What the charge does to forces, against what it does to the gradient of the energy, at the outermost charges."""
    reference = measured[0]["charge"]
    at = {(m["charge"], m["direction"]): m for m in measured}
    worst = (0.0, 0.0, 1.0, reference)
    for (charge, direction), m in at.items():
        if charge == reference:
            continue
        base = at[reference, direction]
        analytic = m["analytic"] - base["analytic"]
        found = []
        for width, a, b in zip(m["steps"], m["numerical"], base["numerical"], strict=True):
            off, allowed = abs((a - b) - analytic), max(limits.gradient_absolute, noise_energy / (2 * width)) + 0.05 * abs(analytic)
            found.append((off / allowed, off, allowed, charge))
        worst = max(worst, min(found))
    excess, off, allowed, charge = worst
    passed = excess <= 1.0
    line = (
        "the charge changes forces as it changes the gradient of the energy"
        if passed
        else f"at charge {format_charge(charge)} the charge does not reach the forces as it does the energy"
    )
    return Check("charge_response_is_gradient", passed, off, allowed, "eV/Å", line)


def _size_ratio(doubling: Mapping[str, Any], limits: Thresholds) -> float | None:
    single = doubling["single"][1] - doubling["single"][0]
    if abs(single) <= limits.blind_energy:
        return None
    return float((doubling["double"][1] - doubling["double"][0]) / single)


def _checks(raw: Mapping[str, Any], limits: Thresholds, ratio: float | None) -> tuple[Check, ...]:
    energy_limit = limits.energy_per_atom * raw["atoms"]

    def pair(name: str, numbers: Mapping[str, float], good: str, bad: str) -> Check:
        excess = max(numbers["energy"] / energy_limit, numbers["forces"] / limits.force)
        worst = "energy" if numbers["energy"] / energy_limit >= numbers["forces"] / limits.force else "forces"
        limit, unit = (energy_limit, "eV") if worst == "energy" else (limits.force, "eV/Å")
        passed = excess <= 1.0
        return Check(name, passed, numbers[worst], limit, unit, good if passed else f"{bad}: {worst} by {numbers[worst]:.2g} {unit}")

    checks = [
        pair(
            "repeatable",
            raw["repeat"],
            "the same call gives the same result after a call at another charge",
            "the same call gives another result",
        ),
        pair(
            "no_stale_results",
            raw["stale"],
            "a new charge at an unchanged geometry is calculated anew",
            "a cached result came back after the charge changed",
        ),
        pair(
            "order_independent",
            raw["order"],
            "results do not depend on the order of the charges",
            "results depend on the order of the charges",
        ),
        _gradient(raw["finite_difference"], limits),
        pair("translation", raw["translation"], "invariant under translation", "not invariant under translation"),
        pair("permutation", raw["permutation"], "invariant under permutation of atoms", "not invariant under permutation of atoms"),
        pair("rotation", raw["rotation"], "energy invariant and forces equivariant under rotation", "not equivariant under rotation"),
    ]
    doubling = raw["doubling"]
    # Twice the cell is summed in another order: its rounding grows with the energies themselves.
    extensive = abs(doubling["double"][0] - 2.0 * doubling["single"][0])
    limit = 4.0 * energy_limit
    passed = extensive <= limit
    line = "the doubled cell has twice the energy" if passed else f"the doubled cell misses twice the energy by {extensive:.2g} eV"
    checks.append(Check("extensive", passed, extensive, limit, "eV", line))
    if ratio is not None:
        off = abs(ratio - 1.0)
        passed = off <= limits.extensivity
        line = (
            "the charge response does not grow with the cell"
            if passed
            else f"the charge response of the doubled cell is {ratio:.2f} times that of the cell"
        )
        checks.append(Check("charge_response_size_consistent", passed, off, limits.extensivity, "1", line))
    return tuple(checks)


def _gradient(components: Sequence[Mapping[str, Any]], limits: Thresholds) -> Check:
    """Analytic forces against central differences, at the one step size that fits best over all components."""
    analytic = np.array([c["analytic"] for c in components])
    numerical = np.array([c["numerical"] for c in components])
    allowed = limits.gradient_absolute + limits.gradient_relative * np.abs(analytic)
    excess = (np.abs(numerical - analytic[:, None]) / allowed[:, None]).max(axis=0)
    best = int(np.argmin(excess))
    worst = int(np.argmax(np.abs(numerical[:, best] - analytic) / allowed))
    off = float(abs(numerical[worst, best] - analytic[worst]))
    passed = bool(excess[best] <= 1.0)
    line = (
        "forces are minus the gradient of the energy"
        if passed
        else f"forces are not minus the gradient of the energy (off by {off:.2g} eV/Å on a component of {analytic[worst]:.3g})"
    )
    return Check("forces_are_gradient", passed, off, float(allowed[worst]), "eV/Å", line)


def check_claim(certificate: ChargeCertificate, definition: ModelDefinition) -> None:
    """Refuses a model whose certificate contradicts its definition.

    Args:
        certificate: from :func:`classify`.
        definition: what the model claims.

    Raises:
        ModelError: it claims to take a charge and does not react to one, somewhere or some time (or the reverse), claims another class, or
            gives stale results.
    """
    found, how, claim = certificate.charge_class, definition.charge.how, definition.charge.claim
    failed = {check.name: check for check in certificate.failed}
    if (stale := failed.get("no_stale_results")) is not None:
        raise ModelError(
            f"{definition.id}: {stale.reason}; its results at different charges cannot be trusted", code="charge-contradiction"
        )
    if (batched := failed.get("batched")) is not None:
        raise ModelError(f"{definition.id}: {batched.reason}; pass --batch 1", code="charge-contradiction")
    if (hidden := failed.get("no_hidden_charge")) is not None:
        raise ModelError(
            f"{definition.id}: the definition says that it takes no charge, but {hidden.reason}; say in charge.how what it reads",
            code="charge-contradiction",
        )
    if how == "none" and found != "charge-blind":
        raise ModelError(
            f"{definition.id}: the definition says that it takes no charge, but it is {found}; say in charge.how what it reads",
            code="charge-contradiction",
        )
    if how != "none" and found == "charge-blind":
        raise ModelError(
            f"{definition.id}: the definition hands a charge over as {how}, but nothing changes with it; the charge gets lost",
            code="charge-contradiction",
        )
    if how != "none" and (lost := next((failed[name] for name in REFUSED if name in failed), None)) is not None:
        raise ModelError(f"{definition.id}: {lost.reason}; the charge gets lost", code="charge-contradiction")
    if claim is not None and claim != found:
        raise ModelError(f"{definition.id}: the definition claims {claim}, the certificate finds {found}", code="charge-contradiction")


DOUBTS = ("run_repeats", "run_keeps_charge")
"""Checks of a finished run; one that failed makes the class doubtful."""
REFUSED = ("every_pair", "every_pair_forces", "charge_response_is_gradient", "after_steps", "lasting")
"""Checks without which a model that takes a charge is not evaluated."""
