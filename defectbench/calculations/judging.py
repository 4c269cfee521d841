"""A charge-response certificate judged with the dataset: does the charge act in the direction in which it acts in DFT?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from defectbench.calculations.plan import certificate_start
from defectbench.models.certificate import MIXED, ChargeCertificate, classify
from defectbench.models.pairs import Slope, slope
from defectbench.structures.lattice import minimum_image

if TYPE_CHECKING:
    from ase import Atoms

    from defectbench.datasets.dataset import Dataset

SAME_PLACE = 0.05
"""Å: DFT's first frame counts as the certificate's structure (itself rattled by 0.02 Å) if no atom is farther off."""
AGAINST = -0.3
"""Correlation with DFT's change of forces below which a model's forces change against it, whatever its energy does."""

Vectors = NDArray[np.float64]


def judge(raw: Mapping[str, Any], dataset: Dataset, states: Iterable[tuple[str, int]]) -> ChargeCertificate:
    """The certificate of a model on a dataset.

    Args:
        raw: a result of kind ``certificate``, measured as :func:`defectbench.calculations.plan.certificate_of` asks for it.
        dataset: whose structures they are; its DFT says in which direction the charge acts.
        states: (defect, charge) of the selection: only their references are looked at.

    Raises:
        ModelError: the model failed while it was measured.
    """
    first = dataset.defects[0]
    found = classify(raw, first)
    if found.calls is None or found.energy_slope is None:
        return found
    states = list(states)
    reference = _slope(dataset, states)
    forces = _correlation(raw, found, dataset, [charge for defect, charge in states if defect == first])
    warnings = tuple(_warnings(found.energy_slope, reference, forces))
    return replace(found, reference_slope=reference, reference_forces=forces, warnings=warnings)


def _warnings(model: Slope, reference: Slope | None, forces: float | None) -> Iterable[str]:
    if model == "mixed" and reference != "mixed":
        yield MIXED
    opposite = {model, reference} == {"rising", "falling"}
    if forces is not None and forces < (0.0 if opposite else AGAINST):
        also = f"the energy is {model} with the charge, DFT's {reference}, and " if opposite else ""
        yield f"sign inverted? {also}the forces change with the charge against DFT's (correlation {forces:.2f})"
    elif opposite and forces is None:
        yield f"sign inverted? the energy is {model} with the charge, DFT's {reference}; or its zero of the electrons' energy is another"


def _slope(dataset: Dataset, states: Iterable[tuple[str, int]]) -> Slope | None:
    """Whether DFT's ground states rise or fall with the charge."""
    energies: dict[str, dict[int, float]] = {}
    for defect, charge in states:
        if (ground := dataset.ground_state(defect, charge)) is not None:
            energies.setdefault(defect, {})[charge] = ground.energy
    return slope([by_charge[charge] for charge in sorted(by_charge)] for by_charge in energies.values())


def _correlation(raw: Mapping[str, Any], found: ChargeCertificate, dataset: Dataset, charges: Iterable[int]) -> float | None:
    """Of the change of forces between the charges that both have, at one structure."""
    if found.force_change <= 10.0 * max(found.thresholds.force, found.noise_force):
        return None
    start = certificate_start(dataset)[0]
    dft = {charge: forces for charge in charges if (forces := _forces_at(dataset, charge, start)) is not None}
    own = {charge: np.array(forces) for charge, forces in zip(raw["charges"], raw["forces"], strict=True)}
    shared = sorted(dft.keys() & own.keys())
    if len(shared) < 2:
        return None
    one, other = (np.diff([by_charge[charge] for charge in shared], axis=0).ravel() for by_charge in (own, dft))
    size = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / size if size > 0 else None


def _forces_at(dataset: Dataset, charge: int, start: Atoms) -> Vectors | None:
    """DFT's forces (N, 3) at a start of the first defect, where it calculated that very structure."""
    for configuration in dataset.configurations(dataset.defects[0], charge):
        for frame in dataset.frames(dataset.defects[0], charge, configuration)[:1]:
            if frame.get_chemical_symbols() != start.get_chemical_symbols():
                continue
            if np.abs(minimum_image(frame.positions - start.positions, start.cell.array)).max() < SAME_PLACE:
                return np.asarray(frame.get_forces(), dtype=np.float64)
    return None
