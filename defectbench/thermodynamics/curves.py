"""Configuration-coordinate curves: relaxation energies, frequencies, Huang-Rhys factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from defectbench.structures.configuration_coordinate import (
    Parabola,
    fit_parabola,
    huang_rhys_factor,
    sampled_minimum,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


_END = 0.005


SHORTEST_PATH = 0.1
"""amu^½ Å: two ground states nearer than this are one structure, and there is no diagram between them."""

FIT_WINDOW = 0.5
"""Of the path: the parabola is fitted to points this near to the curve's own end."""

FIT_POINTS = 4
"""The least number of points of a parabola with a free minimum."""

ANHARMONIC = 0.05
"""Of the span of the fitted energies: with a larger rms residual the table says that ħΩ is a mere summary."""

FLAT = 1e-6
"""eV: a curve that spans less has no minimum, only rounding."""


@dataclass(frozen=True)
class CurveProperties:
    """What a sampled curve E(Q) of one charge says.

    Attributes:
        relaxation_energy: E(other end) − E(own end), eV; None if an end was not sampled.
        fit: parabola around the own end; None with too few points.
        hbar_omega: eV; None without a minimum there.
        huang_rhys: S; None without a minimum, or if the curve falls towards the other end.
        minimum: fraction of the lowest point; None with fewer than three points or if the sampled range is too short to tell.
        reason: what is missing or doubtful and why, one line; None if nothing is.
    """

    relaxation_energy: float | None
    fit: Parabola | None
    hbar_omega: float | None
    huang_rhys: float | None
    minimum: float | None
    reason: str | None

    @property
    def bound(self) -> bool:
        """Whether the curve has a minimum near its own end and rises to the other."""
        return self.huang_rhys is not None and self.huang_rhys > 0.0


def curve_properties(fractions: Sequence[float], energies: Sequence[float], own_end: float, delta_q: float) -> CurveProperties:
    """Relaxation energy, effective frequency, Huang–Rhys factor and position of the minimum of a sampled curve.

    Args:
        fractions: (n,), ascending.
        energies: (n,), eV.
        own_end: 0 or 1: where the charge has its reference minimum.
        delta_q: length of the path, amu^½ Å.
    """
    points = dict(zip(fractions, energies, strict=True))
    ends = [next((e for f, e in points.items() if abs(f - end) <= _END), None) for end in (own_end, 1.0 - own_end)]
    missing = []
    relaxation: float | None = None
    if ends[0] is None or ends[1] is None:
        missing.append("no energies at both end points")
    else:
        relaxation = ends[1] - ends[0]
    near = [(f, e) for f, e in points.items() if abs(f - own_end) <= FIT_WINDOW + _END]
    fit: Parabola | None = None
    quantum: float | None = None
    if len(near) < FIT_POINTS:
        missing.append(f"{len(near)} points near the own end, {FIT_POINTS} are needed for a parabola")
    else:
        fit = fit_parabola([f * delta_q for f, _ in near], [e for _, e in near])
        at = fit.q0 / delta_q
        span = float(np.ptp([e for _, e in near]))
        if span < FLAT or fit.hbar_omega is None or not min(f for f, _ in near) - FIT_WINDOW <= at <= max(f for f, _ in near) + FIT_WINDOW:
            missing.append("no minimum near the own end")
        else:
            quantum = fit.hbar_omega
            if fit.rms > ANHARMONIC * span:
                missing.append(f"strongly anharmonic: the parabola is off by {fit.rms / span:.0%} of the energies' span")
    factor: float | None = None
    if relaxation is not None and relaxation < 0.0:
        missing.append("the curve falls towards the other end")
    elif relaxation is not None and quantum is not None:
        factor = huang_rhys_factor(relaxation, quantum)
    spans = len(points) >= 3 and min(fractions) <= own_end - _END and max(fractions) >= own_end + _END
    minimum = sampled_minimum(list(points), list(points.values())) if spans else None
    return CurveProperties(relaxation, fit, quantum, factor, minimum, "; ".join(missing) or None)
