"""The electrostatic potential of a periodic point charge in a dielectric: what a charged cell feels of its images."""

from __future__ import annotations

import numpy as np
from ase.units import Bohr, Hartree
from numpy.typing import ArrayLike, NDArray
from scipy.special import erfc

from defectbench.structures.lattice import minimum_image

COULOMB = Hartree * Bohr
"""e²/(4πε₀), eV Å."""
EWALD_RANGE = 6.5
"""Terms of the Ewald sum are left out from erfc(x) and exp(−x²) on, x this number: below 1e-18 of the first."""


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
    wrapped = minimum_image(centre, lattice)

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
