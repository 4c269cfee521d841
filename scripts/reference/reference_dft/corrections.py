"""Finite-size corrections of charged cells: extended Freysoldt–Neugebauer–Van de Walle (eFNV)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.units import Bohr, Hartree
from numpy.typing import ArrayLike, NDArray
from scipy.special import erfc

from defectbench.datasets.checks import minimum_image
from defectbench.datasets.dataset import Dataset, StateKey
from defectbench.datasets.schema import Correction

METHOD = (
    "eFNV (Kumagai and Oba, Phys. Rev. B 89, 195205 (2014)) with the static dielectric tensor of this file and a converged Ewald sum; "
    "site potentials averaged over spheres; far sites are farther from the defect than half the longest distance between faces of the cell"
)
COULOMB = Hartree * Bohr
"""e²/(4πε₀), eV Å."""
EWALD_RANGE = 6.5
"""Terms of the Ewald sum are left out from erfc(x) and exp(−x²) on, x this number: below 1e-18 of the first."""


@dataclass(frozen=True)
class Efnv:
    """An eFNV correction.

    Attributes:
        point_charge: interaction of a point charge with its images and the background, taken off again, eV.
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


def ewald_potential(cell: ArrayLike, dielectric: ArrayLike, points: ArrayLike, splitting: float | None = None) -> NDArray[np.float64]:
    """Potential of a unit point charge at the origin, its periodic images and a uniform background, in an anisotropic dielectric.

    Its average over the cell is zero. At the origin itself it is the potential of the images and the background alone. Sums as in
    Kumagai and Oba, Phys. Rev. B 89, 195205 (2014).

    Args:
        cell: (3, 3) lattice vectors as rows, Å.
        dielectric: (3, 3) tensor.
        points: (N, 3) Cartesian, Å.
        splitting: of the sum into a direct and a reciprocal part, 1/Å in the metric of the inverse dielectric tensor; the result does
            not depend on it. By default both parts take about as many terms.

    Returns:
        (N,) potentials, V.

    Example:
        >>> import numpy as np
        >>> value = ewald_potential(np.eye(3) * 10.0, np.eye(3), [[0.0, 0.0, 0.0]])[0]
        >>> round(float(-value * 10.0 / COULOMB), 6)  # the Madelung constant of a simple cubic lattice
        2.837297
    """
    lattice, epsilon = np.asarray(cell, dtype=float), np.asarray(dielectric, dtype=float)
    inverse, root = np.linalg.inv(epsilon), float(np.sqrt(np.linalg.det(epsilon)))
    reciprocal = 2 * np.pi * np.linalg.inv(lattice).T
    volume = abs(float(np.linalg.det(lattice)))
    # lengths in the metric of the inverse tensor, where the medium is isotropic
    stretched = np.linalg.cholesky(inverse).T
    eta = splitting or float(np.sqrt(np.pi) / (volume / root) ** (1 / 3))
    centre = np.asarray(points, dtype=float)
    fractional = centre @ np.linalg.inv(lattice)
    wrapped = (fractional - np.round(fractional)) @ lattice

    metric = lattice @ stretched.T
    vectors = _lattice_points(metric, EWALD_RANGE / eta + float(np.linalg.norm(metric, axis=1).sum()))
    direct = np.zeros(len(centre))
    for shift in vectors @ lattice:
        distance = np.linalg.norm((wrapped + shift) @ stretched.T, axis=1)
        here = distance < 1e-9
        with np.errstate(divide="ignore", invalid="ignore"):
            term = erfc(eta * distance) / distance
        direct += np.where(here, -2 * eta / np.sqrt(np.pi), term)

    waves = _lattice_points(reciprocal @ np.linalg.cholesky(epsilon), 2 * eta * EWALD_RANGE)
    waves = waves[np.any(waves != 0, axis=1)] @ reciprocal
    square = np.einsum("ij,jk,ik->i", waves, epsilon, waves)
    weights = np.exp(-square / (4 * eta**2)) / square
    series = 4 * np.pi / volume * (np.cos(centre @ waves.T) @ weights)
    return np.asarray(COULOMB * (direct / root + series - np.pi / (volume * eta**2)))


def _lattice_points(vectors: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """Integer coefficients of the points of a lattice (vectors as rows) within a radius of the origin."""
    reach = np.ceil(radius * np.linalg.norm(np.linalg.inv(vectors), axis=0)).astype(int)
    grid = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), axis=-1).reshape(-1, 3)
    return np.asarray(grid[np.linalg.norm(grid @ vectors, axis=1) <= radius], dtype=float)


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
    relative = minimum_image(defect.positions - np.asarray(position, dtype=float), defect)
    cell = defect.cell.array
    radius = float(max(abs(np.linalg.det(cell)) / np.linalg.norm(np.cross(cell[i - 2], cell[i - 1])) for i in range(3)) / 2)
    far = has_site & (np.linalg.norm(relative, axis=1) > radius)
    of_charge = charge * ewald_potential(cell, dielectric, relative[far])
    left = np.asarray(potentials, dtype=float)[far] - np.asarray(host_potentials, dtype=float)[host_sites[far]] - of_charge
    madelung = float(ewald_potential(cell, dielectric, [[0.0, 0.0, 0.0]])[0])
    return Efnv(-(charge**2) * madelung / 2, -charge * float(left.mean()), float(left.std()), int(far.sum()), radius)


def corrections_of(
    dataset: Dataset, level: str, results: Iterable[Mapping[str, Any]]
) -> tuple[tuple[Correction, ...], dict[StateKey, Efnv]]:
    """Corrections of all defects for which everything that they need is there.

    A defect gets them when each of its charge states with a ground state has the potential of that ground state: levels between
    corrected and uncorrected charges would be wrong. Ground states are the level's own where it has relaxations, else the reference's.

    Args:
        dataset: with a dielectric tensor.
        level: of theory.
        results: that level's results that are no frames.

    Returns:
        Corrections, and by (defect, charge) what stands behind each; both empty without host potential or dielectric tensor.
    """
    results = list(results)
    host = next((r for r in results if r["kind"] == "host" and "site_potentials" in r), None)
    dielectric = dataset.metadata.dielectric
    if host is None or dielectric is None:
        return (), {}
    relaxed_at = level if dataset.level_of_theory(level).convergence is not None else dataset.metadata.reference_level
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
        for charge, ground in sorted(grounds.items()):
            if charge == 0:
                corrections.append(Correction(defect=defect, charge=0))
                continue
            value = efnv(
                host["site_potentials"],
                ground.atoms,
                found[charge]["site_potentials"],
                dataset.host_indices(defect),
                [float(x) for x in dataset.defect_position(defect)],
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
