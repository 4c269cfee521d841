"""Colours of charge states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def charge_colours(charges: Sequence[int]) -> dict[int, Any]:
    """A colour a charge, even in lightness (viridis without its palest end), by ascending charge."""
    from matplotlib import colormaps

    places = np.linspace(0.0, 0.88, max(len(charges), 2))
    return {charge: colormaps["viridis"](place) for charge, place in zip(sorted(charges), places, strict=False)}
