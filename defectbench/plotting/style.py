"""One look for all figures: sizes, colours, saving. Object-oriented matplotlib only, no global state."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectbench.base.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure

COLUMN_WIDTH = 3.39
"""Inches: one column of a journal page (86 mm)."""

PAGE_WIDTH = 7.01
"""Inches: two columns (178 mm)."""

DPI = 200

COLOURS = {
    "model": "#0072B2",
    "reference": "#000000",
    "unrelaxed": "#000000",
    "other_charge": "#CC79A7",
    "host_referenced": "#E69F00",
    "good": "#009E73",
    "miss": "#D55E00",
    "muted": "#8A8A8A",
}
"""Okabe and Ito's palette (2008), distinguishable with the common kinds of colour vision."""

RMSD_MAXIMUM = 0.4
"""Å: top of the RMSD colour scale."""

_RC: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 7,
    "axes.labelsize": 7.5,
    "axes.titlesize": 7.5,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "legend.handletextpad": 0.5,
    "legend.columnspacing": 1.2,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 0.9,
    "savefig.dpi": DPI,
    "svg.hashsalt": "defectbench",
    "svg.fonttype": "path",
}


@contextmanager
def figure(width: float, height: float) -> Iterator[Figure]:
    """A figure of ``width`` × ``height`` inches in the project's style, with constrained layout and an Agg canvas."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(_RC):
        made = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(made)
        yield made


def headline(made: Figure, sentence: str, source: str) -> None:
    """Writes a figure's title, a sentence, and below it in grey where the data are from; the sentence is broken to the figure's width.

    Legends go below the panels (``loc="outside lower left"``): the layout does not keep one above apart from the title.
    """
    from textwrap import wrap

    from matplotlib.text import Annotation

    # a number and its unit stay on one line
    joined = re.sub(r"(\d) (Å|eV|s|h|%|meV)\b", "\\1\N{NO-BREAK SPACE}\\2", sentence)
    lines = wrap(plain(joined), int(made.get_figwidth() * 16.5))
    # the last line, a blank, keeps room for the source
    title = made.suptitle("\n".join([*lines, " "]), x=0.01, ha="left", size=7.5, linespacing=1.3)
    line = Annotation(
        plain(source), (0, 0), xycoords=title, ha="left", va="bottom", size=6.5, color=COLOURS["muted"], annotation_clip=False
    )
    line.set_in_layout(False)
    made.add_artist(line)


def save(made: Figure, folder: Path, stem: str) -> list[Path]:
    """Writes ``<stem>.png`` (200 dpi) and ``<stem>.svg``, the same bytes for the same data; returns both paths.

    Raises:
        RunError: the folder cannot be written.
    """
    paths = [folder / f"{stem}.png", folder / f"{stem}.svg"]
    drawn = io.BytesIO(), io.BytesIO()
    made.savefig(drawn[0], format="png", dpi=DPI, metadata={"Software": None})
    made.savefig(drawn[1], format="svg", metadata={"Date": None})
    for path, content in zip(paths, drawn, strict=True):
        write_bytes(path, content.getvalue())
    return paths


def rmsd_colours() -> tuple[Colormap, Normalize]:
    """Colour map and scale for RMSDs: 0 to 0.4 Å, even in lightness (viridis without its palest end), larger ones at the top."""
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    colours = colormaps["viridis"](np.linspace(0.0, 0.88, 256))
    return LinearSegmentedColormap.from_list("rmsd", colours), Normalize(0.0, RMSD_MAXIMUM, clip=True)


def plain(text: str) -> str:
    r"""A name as somebody else may have written it, to be drawn as it is: a ``$`` begins no formula.

    >>> plain("a $x$"), plain(plain("$"))
    ('a \\$x\\$', '\\$')
    """
    return re.sub(r"(?<!\\)\$", r"\\$", text)


def defect_text(defect: str) -> str:
    """``V_Sb1`` → V with subscript Sb1, in mathtext; other names as they are."""
    head, separator, tail = defect.partition("_")
    if not separator or not head.isalnum() or not tail.replace("_", "").isalnum():
        return plain(defect)
    return f"$\\mathrm{{{head}}}_{{\\mathrm{{{tail.replace('_', ',')}}}}}$"
