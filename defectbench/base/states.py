"""How defects, charges and configurations are written: one place, used everywhere."""

from __future__ import annotations

import re

_CONFIGURATION = re.compile(r"^Bond_Distortion_(-?\d+(?:\.\d+)?)%(?:_from_([+-]?\d+))?$")
_SINGLE_POINTS = ("Path_", "Start_")
_TRUTH_VALUES = frozenset({"T", "F", "true", "false", "True", "False", "TRUE", "FALSE"})


def charge_label(charge: int) -> str:
    """``-3`` → ``q-3``, ``0`` → ``q+0``: a charge with its sign, as in file names."""
    return f"q{charge:+d}"


def state_label(defect: str, charge: int) -> str:
    """``("V_Sb1", -3)`` → ``V_Sb1_q-3``."""
    return f"{defect}_{charge_label(charge)}"


def name_problem(name: str) -> str | None:
    """Why a text cannot name a defect, a configuration or a level of theory; None if it can.

    Names are written into extxyz files and the database of results, which take whatever reads as numbers or truth values for such:
    ``1``, ``1e3``, ``nan``, ``1,2``, ``F``.

    Returns:
        What the name does wrong, to follow "it": ``reads as a number …``.
    """
    words = re.findall(r"[^\s,]+", name)
    if not words:
        return "is empty"
    if not name.isprintable():
        return "holds a character that cannot be printed"
    if all(word in _TRUTH_VALUES for word in words):
        return f"reads as a truth value, not as text (x_{name} would not)"
    if all(_is_number(word) for word in words):
        return f"reads as a number, not as text (x_{name} would not)"
    return "reads as JSON, not as text" if name.startswith("_JSON ") else None


def configuration_problem(name: str) -> str | None:
    """As :func:`name_problem`, for configurations: they are a part of file names."""
    return "holds a /" if "/" in name else name_problem(name)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


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


def relaxation_group(configuration: str) -> str:
    """The start that a configuration comes from: a repetition at another level (``Direct_…``) and the start itself belong to one.

    Example:
        >>> relaxation_group("Direct_Dimer"), relaxation_group("Start_Unperturbed"), relaxation_group("Path_+1_+0")
        ('Dimer', 'Unperturbed', 'Path_+1_+0')
    """
    return configuration.removeprefix("Direct_").removeprefix("Start_")


def sort_key(configuration: str) -> tuple[int, float, str]:
    """Sorts configurations: Unperturbed, Rattled, Dimer, then bond distortions by factor, then the rest."""
    fixed = {"Unperturbed": 0, "Rattled": 1, "Dimer": 2}
    if configuration in fixed:
        return (fixed[configuration], 0.0, configuration)
    factor = bond_distortion(configuration)
    return (3, factor, configuration) if factor is not None else (4, 0.0, configuration)
