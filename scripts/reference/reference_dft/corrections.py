"""Finite-size corrections of charged cells: extended Freysoldt–Neugebauer–Van de Walle (eFNV)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from defectbench.datasets.dataset import Dataset, StateKey
from defectbench.datasets.schema import Correction
from defectbench.structures.ewald import ewald_potential
from defectbench.structures.lattice import minimum_image

METHOD = (
    "eFNV (Kumagai and Oba, Phys. Rev. B 89, 195205 (2014)) with the static dielectric tensor of this file and a converged Ewald sum; "
    "site potentials averaged over spheres; far sites are farther from the defect than half the longest distance between faces of the cell"
)


@dataclass(frozen=True)
class Efnv:
    """An eFNV correction.

    Attributes:
        point_charge: interaction of a point charge with its images and the background, subtracted again, eV.
        alignment: −q times the mean potential difference that is left far from the defect, eV.
        spread: standard deviation of that difference over the far sites, V: how flat the plateau is.
        sites: number of far sites.
        radius: Å; sites farther than this from the defect are far.
    """

    point_charge: float
    alignment: float
    spread: float
    sites: int
    radius: float

    @property
    def total(self) -> float:
        """What is added to the energy of the charged cell, eV."""
        return self.point_charge + self.alignment


def efnv(
    host_potentials: ArrayLike,
    defect: Atoms,
    potentials: ArrayLike,
    sites: ArrayLike,
    position: Sequence[float],
    charge: int,
    dielectric: ArrayLike,
) -> Efnv:
    """The eFNV correction of one relaxed charged defect.

    Args:
        host_potentials: (M,) electrostatic potentials at the host's sites, V, for a positive test charge.
        defect: N atoms in the host's cell.
        potentials: (N,) the same at the defect cell's sites.
        sites: (N,) index of the host site of each atom; −1 for an atom that has none.
        position: of the defect, Cartesian, Å.
        charge: units of +e.
        dielectric: (3, 3) static dielectric tensor.
    """
    host_sites = np.asarray(sites)
    has_site = host_sites >= 0
    relative = minimum_image(defect.positions - np.asarray(position, dtype=float), defect.cell)
    cell = defect.cell.array
    radius = float(max(abs(np.linalg.det(cell)) / np.linalg.norm(np.cross(cell[i - 2], cell[i - 1])) for i in range(3)) / 2)
    far = has_site & (np.linalg.norm(relative, axis=1) > radius)
    of_charge = charge * ewald_potential(cell, dielectric, relative[far])
    left = np.asarray(potentials, dtype=float)[far] - np.asarray(host_potentials, dtype=float)[host_sites[far]] - of_charge
    madelung = float(ewald_potential(cell, dielectric, [[0.0, 0.0, 0.0]])[0])
    return Efnv(-(charge**2) * madelung / 2, -charge * float(left.mean()), float(left.std()), int(far.sum()), radius)


def corrections_of(
    dataset: Dataset, relaxed_at: str, results: Iterable[Mapping[str, Any]]
) -> tuple[tuple[Correction, ...], dict[StateKey, Efnv]]:
    """Corrections of all defects for which everything that they need is there.

    A defect gets them when each of its charge states with a ground state has the potential of that ground state: levels between
    corrected and uncorrected charges would be wrong.

    Args:
        dataset: with a dielectric tensor.
        relaxed_at: level of theory whose ground states the potentials are of.
        results: results of the potentials' level that are not frames.

    Returns:
        Corrections, and by (defect, charge) what stands behind each; both empty without host potential or dielectric tensor.
    """
    results = list(results)
    host = next((r for r in results if r["kind"] == "host" and "site_potentials" in r), None)
    dielectric = dataset.metadata.dielectric
    if host is None or dielectric is None:
        return (), {}
    corrections: list[Correction] = []
    details: dict[StateKey, Efnv] = {}
    for defect in dataset.defects:
        grounds = {q: ground for q in dataset.charges(defect) if (ground := dataset.ground_state(defect, q, relaxed_at)) is not None}
        found = {
            r["charge"]: r
            for r in results
            if r["kind"] == "potential"
            and r["defect"] == defect
            and r["charge"] in grounds
            and r["configuration"] == grounds[r["charge"]].configuration
        }
        if not grounds or set(grounds) != set(found):
            continue
        site = dataset.defect(defect).site
        place = dataset.defect_position(defect) if site is None else dataset.host_at(relaxed_at).positions[site]
        for charge, ground in sorted(grounds.items()):
            if charge == 0:
                corrections.append(Correction(defect=defect, charge=0))
                continue
            value = efnv(
                host["site_potentials"],
                ground.atoms,
                found[charge]["site_potentials"],
                dataset.host_indices(defect),
                [float(x) for x in place],
                charge,
                dielectric.tensor,
            )
            details[defect, charge] = value
            corrections.append(
                Correction(
                    defect=defect, charge=charge, potential_alignment=round(value.alignment, 6), image_charge=round(value.point_charge, 6)
                )
            )
    return tuple(corrections), details
