"""The figure of the task ``ccd``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from defectbench.base.states import format_charge
from defectbench.scoring.task import FigureContext, TaskResult
from defectbench.tasks.ccd.rows import DiagramRow, PointRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FARTHEST = 0.5
"""eV: a model whose two minima are apart by this much more or less than DFT's is drawn at DFT's distance, and the figure says so."""

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Curve:
    """One charge of a diagram: Q in amu^½ Å, energies in eV.

    Attributes:
        charge: in units of +e.
        model: (Q, energy) of the model; empty where it has no curve.
        reference: (Q, energy) of the reference on the path.
        minimum: (Q, energy) of the reference's ground state.
    """

    charge: int
    model: Points
    reference: Points
    minimum: tuple[float, float]


def draw(result: TaskResult, context: FigureContext, folder: Path) -> list[Path]:
    """Draws ``ccd.png`` and ``.svg``: energy against Q, a panel per pair of charges, both minima at their energies.

    Raises:
        RunError: the folder cannot be written.
    """
    points, diagrams = result.table("points", PointRow), result.table("diagrams", DiagramRow)
    if not points or not diagrams:
        return []
    from defectbench.plotting import style

    columns = min(4, len(diagrams))
    lines = -(-len(diagrams) // columns)
    blind = context.charge_class == "charge-blind"
    with style.figure(max(style.COLUMN_WIDTH, 1.75 * columns), 1.0 + 1.8 * lines) as made:
        panels = made.subplots(lines, columns, squeeze=False)
        for axes in panels.flat[len(diagrams) :]:
            axes.set_axis_off()
        for axes, diagram in zip(panels.flat, diagrams, strict=False):
            _panel(axes, diagram, points, blind=blind)
            charges = f"{format_charge(diagram['upper'])}/{format_charge(diagram['lower'])}"
            axes.set_title(f"{style.defect_text(diagram['defect'])} {charges}")
        made.supxlabel("$Q$ (amu$^{1/2}$ Å)", size=7.5)
        made.supylabel("energy (eV)", size=7.5)
        shown = panels.flat[0]
        handles = [
            *shown.plot([], [], "o-", ms=2.2, color=style.COLOURS["muted"] if blind else "0.25", label=context.model),
            *shown.plot([], [], "s", ms=3.6, mfc="none", mew=0.8, color="0.25", label=f"{context.level} minimum"),
        ]
        if any(d["reference_on_path"] for d in diagrams):
            handles += shown.plot([], [], "s--", ms=1.8, lw=0.7, color="0.25", label=f"{context.level} on the path")
        made.legend(handles=handles, loc="outside lower left", ncols=3)
        style.headline(made, sentence(result, context), context.source)
        return style.save(made, folder, "ccd")


def _moved(diagram: DiagramRow) -> bool:
    reference, model = diagram["separation_reference_ev"], diagram["separation_model_ev"]
    return reference is not None and model is not None and abs(model - reference) > FARTHEST


def curves(diagram: DiagramRow, points: Sequence[PointRow], *, blind: bool) -> tuple[Curve, ...]:
    """The curves of a diagram, first the more positive charge's, at a Fermi level at the valence band maximum.

    Energies are above the reference's minimum of the more positive charge. The model's curves stand at its own distance, except where that
    is not known or more than :data:`FARTHEST` from the reference's.

    Args:
        diagram: a row of the table ``diagrams``.
        points: rows of the table ``points``, of any diagrams.
        blind: whether the model is charge-blind: it has one curve, which stands with the more positive charge.
    """
    upper, lower = diagram["upper"], diagram["lower"]
    pair = (diagram["defect"], upper, lower)
    apart = diagram["separation_reference_ev"] or 0.0
    separation = diagram["separation_model_ev"]
    own = apart if separation is None or _moved(diagram) else separation
    found = []
    for charge, end, above, model_above in ((upper, 0.0, 0.0, 0.0), (lower, diagram["delta_q_reference"], apart, own)):
        here = [p for p in points if (p["defect"], p["upper"], p["lower"]) == pair and p["charge"] == charge]
        model = [(p["q_amu_angstrom"], energy + model_above) for p in here if (energy := p["model_ev"]) is not None]
        known = [(p["q_amu_angstrom"], energy + above) for p in here if (energy := p["reference_ev"]) is not None]
        found.append(Curve(charge, () if blind and charge == lower else tuple(model), tuple(known), (end, above)))
    return tuple(found)


def _panel(axes: Axes, diagram: DiagramRow, points: Sequence[PointRow], *, blind: bool) -> None:
    from defectbench.plotting import style

    heights: list[float] = []
    for curve, name in zip(curves(diagram, points, blind=blind), ("miss", "model"), strict=True):
        colour = style.COLOURS[name]
        if curve.model:
            axes.plot(*zip(*curve.model, strict=True), "o-", ms=2.2, color=style.COLOURS["muted"] if blind else colour, zorder=2)
        if len(curve.reference) > 1:
            axes.plot(*zip(*curve.reference, strict=True), "s--", ms=1.8, lw=0.7, color=colour, zorder=3)
        axes.plot(*([at] for at in curve.minimum), "s", ms=3.6, mfc="none", mew=0.8, color=colour, zorder=4)
        axes.annotate(
            format_charge(curve.charge), curve.minimum, (0, -5), textcoords="offset points", ha="center", va="top", color=colour, zorder=4
        )
        heights += [height for _, height in (*curve.model, *curve.reference, curve.minimum)]
    low, high = min(heights), max(heights)
    axes.set_ylim(low - 0.22 * (high - low) - 0.001, high + 0.06 * (high - low) + 0.001)


def sentence(result: TaskResult, context: FigureContext) -> str:
    """The finding: how far the minima of the curves are off, and what a reader of the curves must know."""
    diagrams = result.table("diagrams", DiagramRow)
    offset = result.metric("minimum_offset").value
    where = "" if offset is None else f"the minima of its curves are off by {offset:.0%} of ΔQ on average"
    if context.charge_class == "charge-blind":
        text = f"{context.model} takes no charge: it has one curve for both charges" + (f", and {where}." if where else ".")
    else:
        text = f"{context.model}: {where or 'no minimum is known'}."
    if not any(d["reference_on_path"] for d in diagrams):
        text += f" {context.level} has no energies along the paths, only the two minima."
    if any(d["separation_reference_ev"] is None for d in diagrams):
        text += " Without a band edge each curve starts from its own minimum."
    elif any(_moved(d) for d in diagrams):
        text += f" Its charges are drawn at {context.level}'s distance: by its own energies they are farther apart or nearer."
    return text
