"""The minimum image in a periodic cell. It stands here because a model's environment has no other part of defectbench."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Reduced:
    """A lattice in a Minkowski-reduced basis.

    Attributes:
        cell: the reduced lattice vectors as rows, (3, 3), Å; they span the same lattice as the cell given.
        inverse: inverse of ``cell``.
        orthogonal: the reduced vectors are orthogonal, so that rounding fractional differences is exact.
        inradius: half the smallest distance between lattice planes, Å; a rounded difference shorter than this is minimal.
    """

    cell: NDArray[np.float64]
    inverse: NDArray[np.float64]
    orthogonal: bool
    inradius: float

    def minimum_image(self, differences: NDArray[np.float64]) -> NDArray[np.float64]:
        """The shortest equivalents of Cartesian differences (…, 3), Å."""
        fractional = differences @ self.inverse
        out = np.asarray((fractional - np.rint(fractional)) @ self.cell)
        if self.orthogonal:
            return out
        long = np.einsum("...k,...k->...", out, out) > self.inradius**2
        if np.any(long):
            shifts = np.array([(i, j, k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)], dtype=float) @ self.cell
            images = out[long][:, None, :] + shifts
            best = np.einsum("msk,msk->ms", images, images).argmin(axis=1)
            out[long] = images[np.arange(len(best)), best]
        return out


@lru_cache(maxsize=256)
def _reduced(cell: tuple[float, ...]) -> Reduced:
    from ase.geometry import minkowski_reduce

    reduced = np.asarray(minkowski_reduce(np.array(cell).reshape(3, 3))[0], dtype=float)
    gram = reduced @ reduced.T
    orthogonal = bool(np.all(np.abs(gram - np.diag(np.diag(gram))) < 1e-8 * np.max(np.diag(gram))))
    inverse = np.linalg.inv(reduced)
    spacing = 1.0 / np.linalg.norm(inverse, axis=0)
    return Reduced(reduced, inverse, orthogonal, float(spacing.min()) / 2.0)


def reduced(cell: NDArray[np.float64]) -> Reduced:
    """The lattice of a cell with a volume, given as rows in Å.

    Reducing a cell takes longer than all minimum images of a structure in it, and many structures share a cell: it is done once.
    """
    return _reduced(tuple(cell.ravel().tolist()))
