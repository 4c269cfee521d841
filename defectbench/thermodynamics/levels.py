"""Charge transition levels, stable charge states along the Fermi level, and negative-U behaviour.

Everything here works on one number per charge state: the energy E(q) of its lowest configuration at E_F = 0, eV. The
thermodynamic level between two charge states is the Fermi level at which their formation energies are equal
(Freysoldt et al., Rev. Mod. Phys. 86, 253 (2014), doi:10.1103/RevModPhys.86.253):

    ε(q/q′) = [E(q) − E(q′)] / (q′ − q).

A constant added to all E(q) changes no level; a term λ·q moves every level by −λ. Stability is decided on the lower convex
hull of the points (q, E(q)) in exact rational arithmetic: there is no Fermi level grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, pairwise

from defectbench.base.states import format_charge
from defectbench.thermodynamics.formation import ThermodynamicsError

TIE = 1e-9
"""A charge state that is lower than its neighbours' common line by no more than this (eV) is stable at one Fermi level only: not stable."""


@dataclass(frozen=True)
class TransitionLevel:
    """A charge transition level ε(q/q′).

    Attributes:
        upper: the more positive charge q, stable below the level.
        lower: the more negative charge q′, stable above it.
        fermi_level: eV above the valence band maximum.
    """

    upper: int
    lower: int
    fermi_level: float

    @property
    def label(self) -> str:
        """``ε(+1/0)``; ``ε(0/−3)`` with a true minus sign."""
        return f"ε({format_charge(self.upper)}/{format_charge(self.lower)})"


@dataclass(frozen=True)
class LevelDiagram:
    """All levels of one defect.

    Attributes:
        charges: charge states with an energy, descending (as they follow each other with rising Fermi level).
        levels: every pairwise level, sorted by (q, q′) descending.
        stable: the thermodynamically stable charges with rising Fermi level: strictly descending charges.
        stable_levels: levels between successive stable charges, strictly ascending.
    """

    charges: tuple[int, ...]
    levels: tuple[TransitionLevel, ...]
    stable: tuple[int, ...]
    stable_levels: tuple[TransitionLevel, ...]

    def level(self, upper: int, lower: int) -> TransitionLevel | None:
        """The pairwise level of two charges, None if either is missing."""
        for level in self.levels:
            if (level.upper, level.lower) == (upper, lower):
                return level
        return None

    def stable_within(self, low: float, high: float) -> tuple[int, ...]:
        """Stable charges whose range of Fermi levels overlaps the open interval (low, high), e.g. the band gap; eV above the VBM.

        Raises:
            ThermodynamicsError: the interval is empty.
        """
        if not low < high:
            raise ThermodynamicsError(f"the Fermi level range {low} … {high} eV is empty", code="empty-range")
        edges = [-math.inf, *(level.fermi_level for level in self.stable_levels), math.inf]
        return tuple(charge for charge, (start, end) in zip(self.stable, pairwise(edges), strict=True) if start < high and end > low)


def pairwise_level(upper: int, lower: int, energies: Mapping[int, float]) -> TransitionLevel:
    """ε(q/q′) of two charge states (equation of the module).

    >>> print(pairwise_level(0, -1, {0: 1.0, -1: 1.25}).label)
    ε(0/−1)

    Args:
        upper: the more positive charge.
        lower: the more negative charge.
        energies: charge → energy at E_F = 0, eV.

    Raises:
        ThermodynamicsError: the charges are equal or in the wrong order, or an energy is missing or not finite.
    """
    if upper <= lower:
        given = f"{format_charge(upper)} and {format_charge(lower)}"
        raise ThermodynamicsError(f"a level lies between a more positive and a more negative charge, not {given}")
    _check({q: energies[q] for q in (upper, lower) if q in energies}, needed=(upper, lower))
    return TransitionLevel(upper, lower, (energies[upper] - energies[lower]) / (lower - upper))


def stable_charges(energies: Mapping[int, float], tie: float = TIE) -> tuple[int, ...]:
    """Charges that are the most stable one over a range of Fermi levels, with rising Fermi level (descending charges).

    >>> stable_charges({1: 0.4, 0: 1.0, -1: 1.3})  # +1/0 at 0.6 eV lies above 0/−1 at 0.3 eV: negative U
    (1, -1)

    They are the vertices of the lower convex hull of (q, E(q)), found exactly; a vertex that lies no more than ``tie``
    below the line through its neighbours on the hull is then dropped, flattest first.

    Args:
        energies: charge → energy at E_F = 0, eV.
        tie: eV.

    Raises:
        ThermodynamicsError: no energies, or one is not finite.
    """
    _check(energies)
    points = [(charge, Fraction(energy)) for charge, energy in sorted(energies.items())]
    hull: list[tuple[int, Fraction]] = []
    for point in points:
        while len(hull) > 1 and _depth(hull[-2], hull[-1], point) <= 0:
            hull.pop()
        hull.append(point)
    while len(hull) > 2:
        depth, at = min((_depth(hull[i - 1], hull[i], hull[i + 1]), i) for i in range(1, len(hull) - 1))
        if depth > Fraction(tie):
            break
        del hull[at]
    return tuple(charge for charge, _ in reversed(hull))


def stability_depths(energies: Mapping[int, float], low: float = -math.inf, high: float = math.inf) -> dict[int, float]:
    """How far each charge is stable, or how far it is from being so, over a range of Fermi levels.

    The depth of q is the largest amount, over the Fermi levels of the range, by which its formation energy lies below that of all others:

        d(q) = max over E_F of min over q′ ≠ q of [E(q′) + q′ E_F] − [E(q) + q E_F].

    It is positive for a stable charge and negative for one that is not. Over the whole axis it is the distance of (q, E(q)) from the
    lower convex hull of the other points (by duality; for three neighbouring charges U_eff/2), and infinite for the two extreme charges.

    Args:
        energies: charge → energy at E_F = 0, eV.
        low: lower end of the range, eV.
        high: upper end of the range, eV.

    Returns:
        Charge → depth in eV, by ascending charge.

    Raises:
        ThermodynamicsError: no energies, one is not finite, or the range is empty.
    """
    _check(energies)
    if not low < high:
        raise ThermodynamicsError(f"the Fermi level range {low} … {high} eV is empty", code="empty-range")
    out: dict[int, float] = {}
    for charge, energy in sorted(energies.items()):
        # the lines of the others, seen from that of this charge: slope and value at E_F = 0
        others = [(other - charge, value - energy) for other, value in energies.items() if other != charge]
        falling, rising = [x for x in others if x[0] < 0], [x for x in others if x[0] > 0]
        if not others or (not falling and high == math.inf) or (not rising and low == -math.inf):
            out[charge] = math.inf
            continue
        # their minimum is concave in E_F, so it is highest at an end of the range or where a rising line meets a falling one
        crossings = [(down[1] - up[1]) / (up[0] - down[0]) for down in falling for up in rising]
        where = [level for level in (low, high, *crossings) if low <= level <= high and math.isfinite(level)]
        out[charge] = max(min(slope * level + value for slope, value in others) for level in where)
    return out


def effective_u(energies: Mapping[int, float]) -> dict[int, float]:
    """U_eff(q) = E(q+1) + E(q−1) − 2 E(q) = ε(q/q−1) − ε(q+1/q) in eV, for each charge with both neighbours; by ascending charge.

    Negative where the two levels stand in reversed order (Watkins & Troxell, Phys. Rev. Lett. 44, 593 (1980),
    doi:10.1103/PhysRevLett.44.593).

    Raises:
        ThermodynamicsError: no energies, or one is not finite.
    """
    _check(energies)
    return {
        charge: math.fsum([energies[charge + 1], energies[charge - 1], -2.0 * energies[charge]])
        for charge in sorted(energies)
        if charge + 1 in energies and charge - 1 in energies
    }


def level_diagram(energies: Mapping[int, float], tie: float = TIE) -> LevelDiagram:
    """All levels and the stable charges of one defect.

    Args:
        energies: charge → energy of its lowest configuration at E_F = 0, eV (with corrections and q·E_VBM where known).
        tie: see :func:`stable_charges`.

    Raises:
        ThermodynamicsError: no energies, or one is not finite.
    """
    stable = stable_charges(energies, tie)
    charges = tuple(sorted(energies, reverse=True))
    return LevelDiagram(
        charges=charges,
        levels=tuple(pairwise_level(upper, lower, energies) for upper, lower in combinations(charges, 2)),
        stable=stable,
        stable_levels=tuple(pairwise_level(upper, lower, energies) for upper, lower in pairwise(stable)),
    )


def _depth(left: tuple[int, Fraction], middle: tuple[int, Fraction], right: tuple[int, Fraction]) -> Fraction:
    """How far ``middle`` lies below the line through its neighbours, exactly."""
    weight = Fraction(middle[0] - left[0], right[0] - left[0])
    return left[1] + weight * (right[1] - left[1]) - middle[1]


def _check(energies: Mapping[int, float], needed: tuple[int, ...] = ()) -> None:
    missing = [charge for charge in needed if charge not in energies]
    if missing:
        raise ThermodynamicsError(f"there is no energy of charge {', '.join(map(format_charge, missing))}", code="no-energy")
    if not energies:
        raise ThermodynamicsError("there is no energy of any charge state", code="no-energy")
    for charge, energy in energies.items():
        if not math.isfinite(energy):
            raise ThermodynamicsError(f"the energy of charge {format_charge(charge)} is {energy}", code="not-finite")
