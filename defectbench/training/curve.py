"""The figure of a learning curve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from defectbench.plotting.style import COLOURS, PAGE_WIDTH, figure, headline, save

if TYPE_CHECKING:
    from defectbench.training.run import Epoch

_COLOURS = ("model", "miss", "good", "other_charge", "host_referenced", "muted")


def draw(history: Sequence[Epoch], source: str, folder: Path, stem: str = "curve") -> list[Path]:
    """Validation errors against epochs, energies left and forces right, one line per level; returns the files written.

    Args:
        history: of one stage.
        source: what it was trained on, in a few words.
        folder: where to.
        stem: of the files.

    Raises:
        RunError: the folder cannot be written.
    """
    best = [epoch for epoch in history if epoch.improved][-1].epoch
    with figure(PAGE_WIDTH, 2.4) as made:
        left, right = made.subplots(1, 2)
        for axes, what, label in ((left, "energy", "energy error (eV per cell)"), (right, "forces", "force error (eV/Å)")):
            for level, colour in zip(history[0].errors, _COLOURS, strict=False):
                values = [epoch.errors[level][what] for epoch in history]
                axes.plot([epoch.epoch for epoch in history], values, label=level, color=COLOURS[colour])
            axes.axvline(best, color=COLOURS["muted"], linestyle=":", linewidth=0.8)
            axes.set_yscale("log")
            axes.set_xlabel("epoch")
            axes.set_ylabel(label)
        headline(made, f"Epoch {best} of {len(history)} was kept: it has the lowest validation error.", source)
        right.legend()
        return save(made, folder, stem)
