"""How defects, charges and configurations are written: one place, used everywhere."""

from __future__ import annotations

import re

_CONFIGURATION = re.compile(r"^Bond_Distortion_(-?\d+(?:\.\d+)?)%(?:_from_([+-]?\d+))?$")
_SINGLE_POINTS = ("Path_", "Start_")


def charge_label(charge: int) -> str:
    """``-3`` → ``q-3``, ``0`` → ``q+0``: a charge with its sign, as in file names."""
    return f"q{charge:+d}"


def state_label(defect: str, charge: int) -> str:
    """``("V_Sb1", -3)`` → ``V_Sb1_q-3``."""
    return f"{defect}_{charge_label(charge)}"


def bond_distortion(configuration: str) -> float | None:
    """The bond distortion factor of a configuration name, as a fraction: ``Bond_Distortion_-40.0%`` → ``-0.4``.

    Returns None for configurations that are not bond distortions (``Unperturbed``, ``Rattled``, ``Dimer``).
    """
    found = _CONFIGURATION.match(configuration)
    return float(found.group(1)) / 100.0 if found else None


def is_relaxation(configuration: str) -> bool:
    """Whether a configuration name is that of a relaxation: ``Path_…`` and ``Start_…`` are not.

    ``Path_…`` are points of a configuration-coordinate path and ``Start_…`` unrelaxed starts: single points with energy and forces, stored
    in a dataset as unconverged frames. They are DFT data like any other at a given geometry, but no step of a relaxation.
    """
    return not configuration.startswith(_SINGLE_POINTS)


def sort_key(configuration: str) -> tuple[int, float, str]:
    """Sorts configurations: Unperturbed, Rattled, Dimer, then bond distortions by factor, then the rest."""
    fixed = {"Unperturbed": 0, "Rattled": 1, "Dimer": 2}
    if configuration in fixed:
        return (fixed[configuration], 0.0, configuration)
    factor = bond_distortion(configuration)
    return (3, factor, configuration) if factor is not None else (4, 0.0, configuration)
