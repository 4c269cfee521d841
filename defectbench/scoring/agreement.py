"""How near an answer is to the right one, without steps: a millimetre of an ångström more or less never decides.

Distances count by a linear ramp, which is ½ at the usual threshold; energies by their share of a tolerance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOUND, LOST = 0.02, 0.18
"""Å: up to the first a structure counts as found, from the second on as not found. The usual threshold, 0.1 Å, lies halfway.

Of all curves between these ends a straight line has the smallest slope: it is as far from a step as can be.
"""

SHARPNESS = 4
"""Power of the distance by which a structure is shared among the minima near it."""

ENERGY_TOLERANCE = 0.05
"""eV per cell: an energy difference, or a level, that is off by this is worth nothing."""

RESOLVED = 0.01
"""eV per cell: relaxations to 0.03 eV/Å leave this much, so that a model cannot tell energies that are nearer than this."""


def closeness(distance: float) -> float:
    """1 up to :data:`FOUND`, 0 from :data:`LOST` on, linear between; a distance in Å.

    Example:
        >>> [round(closeness(d), 2) for d in (0.0, 0.06, 0.1, 0.2)]
        [1.0, 0.75, 0.5, 0.0]
    """
    return min(max((LOST - distance) / (LOST - FOUND), 0.0), 1.0)


def energy_reproduced(error: float | None, weight: float = 1.0) -> float:
    """1 for the right energy, 0 for one off by :data:`ENERGY_TOLERANCE`, −1 for one off by twice that and for a miss (None).

    Args:
        error: eV.
        weight: closeness of the structures that the energy is of: a right energy of a wrong structure is an accident, a wrong one is wrong.

    Example:
        >>> energy_reproduced(0.0), energy_reproduced(0.05), energy_reproduced(None), energy_reproduced(0.0, weight=0.2)
        (1.0, 0.0, -1.0, 0.2)
    """
    if error is None:
        return -1.0
    value = 1.0 - min(abs(error), 2.0 * ENERGY_TOLERANCE) / ENERGY_TOLERANCE
    return weight * value if value > 0.0 else value


@dataclass(frozen=True)
class Place:
    """Where a structure lies among the reference minima of its charge state.

    Attributes:
        known: closeness to the nearest minimum, whichever it is.
        ground: closeness to a ground state; less where another minimum is nearer.
        energy: eV above the ground state of the minima it lies among, nearer ones counting more.
    """

    known: float
    ground: float
    energy: float


def place(distances: Sequence[float], energies: Sequence[float], grounds: int) -> Place:
    """Where a structure lies, from its distance to each reference minimum.

    It is shared among the minima by their distances to the power −:data:`SHARPNESS` (inverse distance weighting, Shepard 1968,
    doi:10.1145/800186.810616): the nearest one has nearly all, and halfway between two each has half.

    Args:
        distances: Å, to each distinct minimum; at least one.
        energies: of these, eV above the lowest.
        grounds: how many of them, the first ones, are ground states.

    Example:
        >>> place([0.3, 0.0], [0.0, 0.9], grounds=1)  # exactly a minimum 0.9 eV up
        Place(known=1.0, ground=0.0, energy=0.9)
    """
    apart = np.asarray(distances, dtype=float)
    nearest = float(apart.min())
    shares = (apart == 0.0).astype(float) if nearest == 0.0 else (nearest / apart) ** SHARPNESS
    shares /= shares.sum()
    above = np.asarray(energies, dtype=float).copy()
    above[:grounds] = 0.0
    known = closeness(nearest)
    return Place(known, known * float(shares[:grounds].sum()), float(shares @ above))


def boltzmann_shares(energies: Mapping[str, float]) -> dict[str, float]:
    """How much each configuration is the model's ground state: exp(−ΔE / :data:`RESOLVED`), normalised.

    Configurations that the model cannot distinguish in energy share the place of its ground state; which of them is lowest is chance.

    Args:
        energies: configuration → eV; at least one.

    Returns:
        Configuration → share, those below one in a thousand left out.
    """
    lowest = min(energies.values())
    weights = {name: float(np.exp(-(energy - lowest) / RESOLVED)) for name, energy in energies.items()}
    kept = {name: weight for name, weight in weights.items() if weight > 1e-3}
    total = sum(kept.values())
    return {name: weight / total for name, weight in kept.items()}


def average_ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """The ranks of values along the last axis, from 1, equal values with the mean of theirs.

    Example:
        >>> average_ranks(np.array([0.3, 0.1, 0.3])).tolist()
        [2.5, 1.0, 2.5]
    """
    mine, others = values[..., :, None], values[..., None, :]
    return np.asarray((mine > others).sum(axis=-1) + ((mine == others).sum(axis=-1) + 1) / 2)
