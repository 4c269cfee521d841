"""Charge states and configurations: their values, and the one way each is written."""

from __future__ import annotations

import re
from typing import NamedTuple

_CONFIGURATION = re.compile(r"^Bond_Distortion_(-?\d+(?:\.\d+)?)%(?:_from_([+-]?\d+))?$")
_SINGLE_POINTS = ("Path_", "Start_")
_TRUTH_VALUES = frozenset({"T", "F", "true", "false", "True", "False", "TRUE", "FALSE"})


class ChargeState(NamedTuple):
    """One charge state of a defect; sorts by defect, then by charge, and equals the plain tuple.

    >>> state = ChargeState("V_Sb1", -3)
    >>> print(state, state.label)
    V_Sb1 −3 V_Sb1_q-3

    Attributes:
        defect: name.
        charge: in units of +e.
    """

    defect: str
    charge: int

    @property
    def label(self) -> str:
        """For file names: ``V_Sb1_q-3``."""
        return f"{self.defect}_{charge_label(self.charge)}"

    def __str__(self) -> str:
        return f"{self.defect} {format_charge(self.charge)}"


def format_charge(charge: int) -> str:
    """A charge as people read it, with a true minus sign.

    >>> [format_charge(charge) for charge in (1, 0, -3)]
    ['+1', '0', '−3']
    """
    return f"{charge:+d}".replace("-", "\N{MINUS SIGN}") if charge else "0"


def charge_label(charge: int) -> str:
    """A charge as file names hold it.

    >>> [charge_label(charge) for charge in (1, 0, -3)]
    ['q+1', 'q+0', 'q-3']
    """
    return f"q{charge:+d}"


def name_problem(name: str) -> str | None:
    """Why a text cannot name a defect, a configuration or a level of theory; None if it can.

    Names are written into extxyz files; readers parse some as numbers or truth values: ``1``, ``1e3``, ``nan``, ``1,2``, ``F``.

    Returns:
        What the name does wrong, to follow "it": ``would be parsed as a number …``.
    """
    words = re.findall(r"[^\s,]+", name)
    if not words:
        return "is empty"
    if not name.isprintable():
        return "holds a character that cannot be printed"
    if all(word in _TRUTH_VALUES for word in words):
        return f"would be parsed as a truth value (x_{name} would not)"
    if all(_is_number(word) for word in words):
        return f"would be parsed as a number (x_{name} would not)"
    return "would be parsed as JSON" if name.startswith("_JSON ") else None


def configuration_problem(name: str) -> str | None:
    """As :func:`name_problem`, for configurations: they are a part of file names."""
    if len(name) > 100:
        return "is longer than 100 characters"
    if found := re.search(r"[/\\$]", name):
        return f"holds a {found.group()}"
    return name_problem(name)


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
