"""Labels beside points, off each other and off what is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

ITERATIONS = 500
"""Of the placing: a number, not a time, so that the same entry gives the same figure."""

PIECE = 20.0
"""Pixels: about the height of a label."""


def place_labels(axes: Axes, texts: Sequence[Text], lines: Sequence[Bbox] = (), others: Sequence[Bbox] = ()) -> None:
    """Moves labels from their points to where they cover as little as possible, and joins them by thin lines.

    Args:
        axes: whose limits and layout are final.
        texts: each at its point.
        lines: from one end to the other, each along an axis, in pixels.
        others: boxes to keep off, in pixels.
    """
    from adjustText import adjust_text

    from defectbench.plotting import style

    # what is repelled by a box is repelled by its middle, so lines are cut up
    pieces = [piece for line in lines for piece in _pieces(line)]
    adjust_text(
        texts, objects=[*pieces, *others] or None, ax=axes, iter_lim=ITERATIONS, expand=(1.1, 1.8), force_static=(0.1, 0.7),
        arrowprops={"arrowstyle": "-", "color": style.COLOURS["muted"], "linewidth": 0.4},
    )  # fmt: skip


def _pieces(line: Bbox) -> list[Bbox]:
    """Boxes of two pixels' width."""
    from matplotlib.transforms import Bbox

    (x0, y0), (x1, y1) = line.min, line.max
    count = max(1, round(max(x1 - x0, y1 - y0) / PIECE))
    xs, ys = np.linspace(x0, x1, count + 1), np.linspace(y0, y1, count + 1)
    return [Bbox.from_extents(xs[i] - 1, ys[i] - 1, xs[i + 1] + 1, ys[i + 1] + 1) for i in range(count)]
