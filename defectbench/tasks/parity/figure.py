"""The figure of the task ``parity``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from defectbench.plotting.charges import charge_colours
from defectbench.scoring.task import ScoringInput, TaskResult
from defectbench.tasks.parity.score import Pair, pairs

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def draw(scoring: ScoringInput, result: TaskResult, model: str, folder: Path) -> list[Path]:
    """Draws forces, model against DFT, and energies after one constant per charge state, coloured by charge (reference level)."""
    from defectbench.plotting import style

    chosen = [p for p in pairs(scoring, scoring.dataset.level) if p.forces is not None]
    if not chosen:
        return []
    by_charge = sorted({p.frame.charge for p in chosen})
    colours = charge_colours(by_charge)
    values = {m.name: m.value for m in result.metrics}
    level = scoring.dataset.level
    with style.figure(style.PAGE_WIDTH, 2.95) as made:
        panels = made.subplots(1, 3)
        for axes, near, title in ((panels[0], True, "forces within 5 Å of the defect"), (panels[1], False, "forces beyond 5 Å")):
            drawn: list[tuple[int, Floats, Floats]] = []
            for charge in by_charge:
                mine = [p for p in chosen if p.frame.charge == charge]
                masks = [p.near if near else ~p.near for p in mine]
                x = np.concatenate([p.frame.forces[m].ravel() for p, m in zip(mine, masks, strict=True)])
                y = np.concatenate([p.forces[m].ravel() for p, m in zip(mine, masks, strict=True) if p.forces is not None])
                drawn.append((charge, x, y))
            limit = 1.08 * max([0.1, *(_largest(values, _FORCE_TOP) for _, x, y in drawn for values in (x, y))])
            error = values["force_rmse_near" if near else "force_rmse_far"]
            text = "" if error is None else f"RMSE {error:.3f} eV/Å"
            _panel(axes, drawn, colours, (-limit, limit), title, text)
            axes.set_xlabel(f"{level} (eV/Å)")
            axes.set_ylabel("model (eV/Å)")
        shifted = [(charge, *_shifted_energies([p for p in chosen if p.frame.charge == charge])) for charge in by_charge]
        everything = np.concatenate([np.clip(values, -_ENERGY_TOP, _ENERGY_TOP) for _, x, y in shifted for values in (x, y)])
        low, high = float(everything.min()), float(everything.max())
        margin = 0.06 * (high - low) or 1.0
        error = values["energy_rmse"]
        text = "" if error is None else f"RMSE {1000 * error:.1f} meV/atom"
        _panel(panels[2], shifted, colours, (low - margin, high + margin), "energies less their mean", text)
        panels[2].set_xlabel(f"{level} (meV/atom)")
        panels[2].set_ylabel("model (meV/atom)")
        handles, labels = panels[2].get_legend_handles_labels()
        made.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=len(labels),
            title=f"{model}: charge (e)",
            title_fontsize=6.5,
            markerscale=2,
        )
        return style.save(made, folder, "parity")


_FORCE_TOP = 20.0
"""eV/Å: axes reach no farther, however wild a model is."""

_ENERGY_TOP = 1000.0
"""meV/atom: the same for energies."""


def _largest(values: Floats, top: float) -> float:
    return float(np.abs(np.clip(values, -top, top)).max()) if len(values) else 0.0


def _panel(
    axes: Axes,
    drawn: Sequence[tuple[int, Floats, Floats]],
    colours: Mapping[int, Any],
    limits: tuple[float, float],
    title: str,
    text: str,
) -> None:
    """One square parity panel: (charge, DFT, model) triples, the diagonal, and a line of text."""
    from matplotlib.ticker import MaxNLocator

    from defectbench.plotting import style

    axes.plot(limits, limits, "-", color=style.COLOURS["muted"], linewidth=0.6, zorder=1)
    for charge, x, y in drawn:
        label = style.charge_text(charge)
        axes.scatter(x, y, s=4, color=colours[charge], linewidth=0, alpha=0.75, label=label, rasterized=True, zorder=2)
    axes.set_xlim(*limits)
    axes.set_ylim(*limits)
    axes.set_box_aspect(1)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_title(title)
    axes.text(0.04, 0.96, text, transform=axes.transAxes, va="top")


def _shifted_energies(chosen: Sequence[Pair]) -> tuple[Floats, Floats]:
    """DFT and model energies of frames of one charge, meV/atom, less their mean over each defect."""
    x: list[float] = []
    y: list[float] = []
    for defect in sorted({p.frame.defect for p in chosen}):
        mine = [p for p in chosen if p.frame.defect == defect]
        atoms = np.array([len(p.frame.atoms) for p in mine])
        for out, values in ((x, [p.frame.energy for p in mine]), (y, [p.energy or 0.0 for p in mine])):
            per_atom = 1000.0 * np.array(values) / atoms
            out += [float(v) for v in per_atom - per_atom.mean()]
    return np.array(x), np.array(y)
