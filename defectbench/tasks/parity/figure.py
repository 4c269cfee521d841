"""The figure of the task ``parity``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from defectbench.base.states import format_charge
from defectbench.plotting.charges import charge_colours
from defectbench.scoring.task import FigureContext, TaskResult
from defectbench.tasks.parity.rows import ForceBin, FrameRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORCE_TOP = 20.0
"""eV/Å: axes reach no farther, however wild a model is; what is beyond is drawn at the edge."""

ENERGY_TOP = 1000.0
"""meV/atom: the same for energies."""


def draw(result: TaskResult, context: FigureContext, folder: Path) -> list[Path]:
    """Draws force components, model against DFT, near and far, and energies after one constant per charge state.

    Raises:
        RunError: the folder cannot be written.
    """
    from defectbench.plotting import style

    bins = result.table("force_histogram", ForceBin)
    frames = [r for r in result.table("frames", FrameRow) if r["level"] == context.level and r["energy"] is not None and "atoms" in r]
    if not bins or not frames:
        return []
    with style.figure(style.PAGE_WIDTH, 3.3) as made:
        panels = made.subplots(1, 3)
        for axes, near, name in ((panels[0], True, "within 5 Å of the defect"), (panels[1], False, "beyond 5 Å")):
            _forces(axes, [r for r in bins if r["near"] is near], context.level)
            axes.set_title(f"forces {name}{_error(result, 'force_rmse_near' if near else 'force_rmse_far', 1, 'eV/Å')}")
        _energies(panels[2], frames, context.level)
        panels[2].set_title(f"energies less their mean{_error(result, 'energy_rmse', 1000, 'meV/atom')}")
        handles, labels = panels[2].get_legend_handles_labels()
        made.legend(handles, labels, loc="outside lower right", ncols=len(labels), title="charge (e)", title_fontsize=6.5, markerscale=2)
        style.headline(made, sentence(result, context), context.source)
        return style.save(made, folder, "parity")


def _error(result: TaskResult, name: str, factor: float, unit: str) -> str:
    value = result.metric(name).value
    return "" if value is None else f"\nRMSE {factor * value:.3g} {unit}"


def _diagonal(axes: Axes, low: float, high: float, level: str, unit: str) -> None:
    from defectbench.plotting import style

    axes.plot((low, high), (low, high), "-", color=style.COLOURS["muted"], linewidth=0.6, zorder=1)
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_box_aspect(1)
    axes.set_xlabel(f"{level} ({unit})")
    axes.set_ylabel(f"model ({unit})")


def _forces(axes: Axes, bins: Sequence[ForceBin], level: str) -> None:
    """One square per bin of the histogram, darker with more force components; the axes are even in asinh(F / 0.1 eV/Å)."""
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import FixedLocator, FuncFormatter

    x, y = (np.clip(values, -FORCE_TOP, FORCE_TOP) for values in ([r["dft"] for r in bins], [r["model"] for r in bins]))
    counts = np.array([r["components"] for r in bins], dtype=float)
    limit = 1.3 * max([0.1, *np.abs(x), *np.abs(y)])
    order = np.argsort(counts)
    axes.set_xscale("asinh", linear_width=0.1)
    axes.set_yscale("asinh", linear_width=0.1)
    norm = LogNorm(1, max(2.0, float(counts.max(initial=2.0))))
    axes.scatter(x[order], y[order], c=counts[order], s=8, marker="s", linewidth=0, cmap="viridis_r", norm=norm, zorder=2)
    _diagonal(axes, -limit, limit, level, "eV/Å")
    ticks = [sign * size for size in (1.0, 10.0) if size < limit for sign in (-1, 1)]
    for side in (axes.xaxis, axes.yaxis):
        side.set_major_locator(FixedLocator([0.0, *ticks]))
        side.set_minor_locator(FixedLocator([-0.1, 0.1]))
        side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "\N{MINUS SIGN}")))


def _energies(axes: Axes, frames: Sequence[FrameRow], level: str) -> None:
    """Energies of frames per atom, less their mean over each charge state."""
    from matplotlib.ticker import MaxNLocator

    colours = charge_colours(sorted({r["charge"] for r in frames}))
    drawn: list[float] = [0.0]
    for charge, colour in colours.items():
        pairs: list[tuple[float, float]] = []
        for defect in sorted({r["defect"] for r in frames}):
            here = [r for r in frames if (r["defect"], r["charge"]) == (defect, charge)]
            known = [(r["dft_energy"], energy, r["atoms"]) for r in here if (energy := r["energy"]) is not None]
            values = np.array([[1000.0 * dft / atoms, 1000.0 * model / atoms] for dft, model, atoms in known]).reshape(-1, 2)
            if len(values):
                pairs += np.clip(values - values.mean(axis=0), -ENERGY_TOP, ENERGY_TOP).tolist()
        x, y = zip(*pairs, strict=True)
        axes.scatter(x, y, s=5, color=colour, linewidth=0, alpha=0.8, label=format_charge(charge), zorder=2)
        drawn += [value for pair in pairs for value in pair]
    margin = 0.06 * (max(drawn) - min(drawn)) or 1.0
    _diagonal(axes, min(drawn) - margin, max(drawn) + margin, level, "meV/atom")
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(4))


def sentence(result: TaskResult, context: FigureContext) -> str:
    """The finding: how far forces are off, and how steep they are."""
    force, slope = result.metric("force_rmse").value, result.metric("force_slope").value
    text = f"{context.model}: force components are off by {force or 0.0:.3g} eV/Å (RMSE)"
    if slope is not None:
        text += f", and their slope against DFT's is {slope:.2f}"
    if context.charge_class == "charge-blind":
        text += ". It takes no charge, so it has one energy surface for all charge states"
    return f"{text}."
