"""The figure of the task ``pes``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Literal

from defectbench.base.states import format_charge
from defectbench.scoring.landscape import SUCCESS_RMSD
from defectbench.scoring.task import FigureContext, TaskResult
from defectbench.tasks.pes.rows import ConfigurationRow, StateRow

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

_SHORT = {"Unperturbed": "Unpert.", "Published": "Publ."}

Energy = Literal["dft_energy", "energy"]
"""Columns of energies, DFT's and the model's."""

_LINE = 32
"""Characters of a line of small print in a panel."""

_ENERGY_TOP = 3.0
"""eV: energies above this are drawn as arrows at the top."""

LEAST_TOP = 0.25
"""eV: an axis reaches at least this far, so that a flat curve looks flat."""

FEWEST_STARTS = 2
"""Of a curve: the energy of a single start is its own zero and says nothing."""

_FEWEST_DISTORTIONS = 3
"""With fewer bond distortions than this (a quick suite) the starts stand side by side: an axis of distortions would be empty."""

_ROOM = 3
"""Names of starts that stand side by side in a panel; more are turned."""

_BESIDE = 83.0, 21.0
"""Where starts without a distortion begin on the axis of distortions (per cent), and their spacing."""


def draw(result: TaskResult, context: FigureContext, folder: Path) -> list[Path]:
    """Draws energy against distortion, a panel per charge state; marks are coloured by the RMSD to the DFT ground state.

    A curve of a single start is not drawn; the panel says how many there are.
    """
    from matplotlib.cm import ScalarMappable

    from defectbench.plotting import style

    states = [(r["defect"], r["charge"]) for r in result.table("states", StateRow)]
    if not states:
        return []
    configurations = result.table("configurations", ConfigurationRow)
    columns = min(3, len(states))
    lines = -(-len(states) // columns)
    width = style.COLUMN_WIDTH if columns == 1 else style.PAGE_WIDTH
    colours, scale = style.rmsd_colours()
    with style.figure(width, 1.25 + 1.95 * lines) as made:
        grid = made.subplots(lines, columns, squeeze=False)
        for axes in grid.flat[len(states) :]:
            axes.set_axis_off()
        for number, ((defect, charge), axes) in enumerate(zip(states, grid.flat, strict=False)):
            rows = [r for r in configurations if r["defect"] == defect and r["charge"] == charge]
            on_axis = _panel(axes, rows, context)
            axes.set_title(f"{style.defect_text(defect)}, $q$ = {format_charge(charge)}", pad=3)
            if number % columns == 0:
                axes.set_ylabel("relative energy (eV)")
            if number + columns >= len(states):
                axes.set_xlabel("bond distortion (%)" if on_axis else "start")
        bar = made.colorbar(ScalarMappable(scale, colours), ax=grid, shrink=min(0.8, 1.7 / lines), aspect=25, pad=0.015, extend="max")
        bar.set_label(f"RMSD to the {context.level} ground state (Å)")
        bar.outline.set_linewidth(0.5)
        handles = _legend(result, context)
        made.legend(handles=handles, loc="outside lower left", ncols=1 if columns == 1 else 2 if len(handles) == 4 else 3)
        style.headline(made, sentence(result, context), context.source)
        return style.save(made, folder, "pes")


def _panel(axes: Axes, rows: Sequence[ConfigurationRow], context: FigureContext) -> bool:
    """One charge state; returns whether its axis is one of bond distortions."""
    from defectbench.plotting import style

    reference, model = relative_energies(rows, "dft_energy"), relative_energies(rows, "energy")
    if len(reference) < FEWEST_STARTS:  # not drawn, so a start that only DFT has needs no place
        rows = [r for r in rows if r["status"] != "not selected"]
    places, on_axis = _places(rows)
    drawn = [e for energies in (reference, model) if len(energies) >= FEWEST_STARTS for e in energies.values()]
    top = min(max([LEAST_TOP, *(1.2 * e for e in drawn)]), _ENERGY_TOP)
    bottom = min([0.0, *drawn])
    few = []
    for energies, label, distances, line, marks, edge, size in (
        (reference, context.level, {r["configuration"]: r["dft_rmsd"] for r in rows}, "--", ("s", "X"), style.COLOURS["reference"], 34),
        (model, "model", {r["configuration"]: r["rmsd"] for r in rows}, "-", ("o", "x"), style.COLOURS["model"], 18),
    ):
        rmsd = {name: distance for name, distance in distances.items() if distance is not None}
        if len(energies) < FEWEST_STARTS:
            few.append(no_curve(label, len(energies)))
            continue
        have = [r for r in rows if r["configuration"] in energies and r["configuration"] in rmsd]
        # the line joins what both had to relax; a start that this suite leaves out stands beside it
        curve = sorted((r for r in have if r["distortion"] is not None and r["status"] != "not selected"), key=_along)
        if on_axis:
            axes.plot(*_points(curve, places, energies), line, color=edge, linewidth=0.8, zorder=2)
        for alpha, selected in ((1.0, True), (0.35, False)):
            for good, mark in zip((True, False), marks, strict=True):
                chosen = [
                    r
                    for r in have
                    if (r["status"] != "not selected") == selected
                    and (rmsd[r["configuration"]] <= SUCCESS_RMSD) == good
                    and energies[r["configuration"]] <= top
                ]
                _scatter(axes, *_points(chosen, places, energies), [rmsd[r["configuration"]] for r in chosen], mark, edge, size, alpha)
        high = [places[r["configuration"]] for r in have if energies[r["configuration"]] > top]
        axes.scatter(high, [0.97 * top] * len(high), s=18, marker="^", color=edge, zorder=3)
    misses = [places[r["configuration"]] for r in rows if r["status"] not in ("converged", "not selected")]
    axes.scatter(misses, [0.97 * top] * len(misses), s=12, marker="v", color=style.COLOURS["miss"], zorder=3)
    if few:
        lines = [line for text in few for line in wrap(text, _LINE)]
        said = axes.text(0.03, 0.92, "\n".join(lines), transform=axes.transAxes, va="top", size=6, color=style.COLOURS["muted"])
        said.set_in_layout(False)
    axes.set_ylim(bottom - 0.06 * (top - bottom), top)
    _ticks(axes, rows, places, on_axis)
    return on_axis


def _along(row: ConfigurationRow) -> float:
    """Where a start stands on the axis of distortions: those without one after all others."""
    return math.inf if row["distortion"] is None else row["distortion"]


def _places(rows: Sequence[ConfigurationRow]) -> tuple[dict[str, float], bool]:
    """x of each configuration, and whether it is its distortion in per cent; starts without one stand to the right of that axis."""
    distorted = [r["configuration"] for r in rows if r["distortion"] is not None]
    if len(distorted) < _FEWEST_DISTORTIONS:
        return {r["configuration"]: float(number) for number, r in enumerate(rows)}, False
    first, spacing = _BESIDE
    beside = [r["configuration"] for r in rows if r["distortion"] is None]
    places = {name: first + spacing * number for number, name in enumerate(beside)}
    return places | {r["configuration"]: _along(r) for r in rows if r["distortion"] is not None}, True


def no_curve(label: str, starts: int) -> str:
    """Says why a curve is not drawn.

    >>> no_curve("PBE", 1)
    'PBE: 1 start, no curve'
    """
    return f"{label}: {starts} start{'' if starts == 1 else 's'}, no curve"


def relative_energies(rows: Sequence[ConfigurationRow], key: Energy) -> dict[str, float]:
    """Configuration → energy (eV) of one charge state; ``key`` is ``energy`` or ``dft_energy`` of the table ``configurations``.

    As in the curve error, zero is the lowest among the selected starts that DFT has relaxed.
    """
    energies = {r["configuration"]: energy for r in rows if (energy := r[key]) is not None}
    both = (r["configuration"] for r in rows if r["dft_energy"] is not None and r["status"] != "not selected")
    compared = [energies[name] for name in both if name in energies]
    zero = min(compared or energies.values(), default=0.0)
    return {name: energy - zero for name, energy in energies.items()}


def _points(
    rows: Sequence[ConfigurationRow], places: Mapping[str, float], energies: Mapping[str, float]
) -> tuple[list[float], list[float]]:
    return [places[r["configuration"]] for r in rows], [energies[r["configuration"]] for r in rows]


def _scatter(
    axes: Axes, x: Sequence[float], y: Sequence[float], rmsd: Sequence[float], mark: str, edge: str, size: int, alpha: float
) -> None:
    from defectbench.plotting import style

    colours, scale = style.rmsd_colours()
    outline: dict[str, Any] = {"linewidth": 1.3} if mark == "x" else {"edgecolor": edge, "linewidth": 0.6}
    axes.scatter(x, y, s=size, marker=mark, c=rmsd, cmap=colours, norm=scale, alpha=alpha, zorder=3, clip_on=False, **outline)


def _ticks(axes: Axes, rows: Sequence[ConfigurationRow], places: Mapping[str, float], on_axis: bool) -> None:
    """Distortions as numbers, other starts by name."""
    from defectbench.plotting import style

    named = [r for r in rows if r["distortion"] is None or not on_axis]
    numbers = [-60, -30, 0, 30, 60] if on_axis else []
    words = [
        style.plain(str(_SHORT.get(r["configuration"], r["configuration"])))
        if r["distortion"] is None
        else f"{format_charge(round(r['distortion']))} %"
        for r in named
    ]
    at = [*numbers, *(places[r["configuration"]] for r in named)]
    axes.set_xticks(at, [*(f"{n}".replace("-", "\N{MINUS SIGN}") for n in numbers), *words])
    for label in axes.get_xticklabels()[len(numbers) :]:
        label.set_fontsize(5.5)
        if on_axis or len(named) > _ROOM:
            label.set(rotation=50, rotation_mode="anchor", horizontalalignment="right")
    if on_axis:
        if named:
            axes.axvline(71, color=style.COLOURS["muted"], linewidth=0.5)
        axes.set_xlim(-68, max([68.0, *(x + 10 for x in at)]))
    else:
        axes.set_xlim(-0.6, len(rows) - 0.4)


def _legend(result: TaskResult, context: FigureContext) -> list[Any]:
    """Of what is drawn."""
    from matplotlib.lines import Line2D

    from defectbench.plotting import style

    def handle(label: str, marker: str, colour: str = "black", line: Literal["-", "--", ""] = "", **look: Any) -> Line2D:
        return Line2D([], [], color=colour, linestyle=line, marker=marker, markersize=4, label=label, **look)

    grey, blue = style.COLOURS["muted"], style.COLOURS["model"]
    near, far = f"RMSD ≤ {SUCCESS_RMSD:g} Å", f"RMSD > {SUCCESS_RMSD:g} Å"
    statuses = {r["status"] for r in result.table("configurations", ConfigurationRow)}
    with_dft = any(r["dft_configurations"] > 1 for r in result.table("states", StateRow))
    handles = [
        handle(f"{context.model}, {near}", "o", blue, "-", markerfacecolor=grey),
        handle(f"{context.model}, {far}", "x", blue, "-", markeredgecolor=grey),
    ]
    if with_dft:
        handles.append(handle(f"{context.level}, {near}", "s", line="--", markerfacecolor=grey))
        handles.append(handle(f"{context.level}, {far}", "X", line="--", markerfacecolor=grey))
    if statuses - {"converged", "not selected"}:
        handles.append(handle("failed or not converged", "v", style.COLOURS["miss"]))
    if "not selected" in statuses and with_dft:
        handles.append(handle("pale: start not in this suite", "s", alpha=0.35, markerfacecolor=grey))
    return handles


def sentence(result: TaskResult, context: FigureContext) -> str:
    """The finding: where relaxations end, and how far the curve is off."""
    configurations = result.table("configurations", ConfigurationRow)
    compared = [near for c in configurations if (near := c["same_minimum_as_dft"]) is not None]
    error = result.metric("curve_error").value
    if error is None:
        found = f"{context.level} has relaxed too few of the starts for a curve, so the energies of {context.model} cannot be compared."
    else:
        same = sum(near > 0.5 for near in compared)
        minima = f"{context.model} relaxes {same} of {len(compared)} starts to the minimum that {context.level} reaches"
        found = f"{minima}; its relative energies are off by {error:.2f} eV on average."
    if context.charge_class == "charge-blind" and len({r["charge"] for r in configurations}) > 1:
        found += " It takes no charge: its curves of one defect differ only in their starts."
    return found
