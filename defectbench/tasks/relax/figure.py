"""The figure of the task ``relax``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from defectbench.base.states import ChargeState, format_charge
from defectbench.base.tables import number_in, numbers
from defectbench.scoring.landscape import RMSD_CAP, SUCCESS_RMSD
from defectbench.scoring.task import FigureContext, TaskResult
from defectbench.tasks.relax.rows import ConfigurationRow, StateRow

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

LEAST_TOP = 0.35
"""Å: an axis reaches at least this far, so that small errors look small."""

_BESIDE = -0.36
"""The configurations that are not the ground state stand this far beside it."""


def draw(result: TaskResult, context: FigureContext, folder: Path) -> list[Path]:
    """Draws the RMSD of each charge state, global above and local below, with threshold, baselines and misses."""
    from defectbench.plotting import style

    rows, configurations = result.table("states", StateRow), result.table("configurations", ConfigurationRow)
    if not rows:
        return []
    places = _places(rows)
    right = max(places.values())
    width = min(max(style.COLUMN_WIDTH, 1.2 + 0.3 * right), 2 * style.PAGE_WIDTH)
    with style.figure(width, 4.6) as made:
        panels = made.subplots(2, 1, sharex=True)
        kinds: tuple[tuple[Literal["rmsd", "local_rmsd"], str], ...] = (("rmsd", "RMSD (Å)"), ("local_rmsd", "RMSD within 5 Å (Å)"))
        for axes, (column, name) in zip(panels, kinds, strict=True):
            _panel(axes, column, rows, configurations, places, context.model)
            axes.set_ylabel(name)
        defects: dict[str, list[float]] = {}
        for state, x in places.items():
            defects.setdefault(state.defect, []).append(x)
        for defect, group in defects.items():
            above = panels[0].get_xaxis_transform()
            panels[0].text((group[0] + group[-1]) / 2, 1.02, style.defect_text(defect), transform=above, ha="center", va="bottom")
            if group[0] > 0:
                for axes in panels:
                    axes.axvline(group[0] - 0.85, color=style.COLOURS["muted"], linewidth=0.5)
        panels[1].set_xticks(list(places.values()), [format_charge(state.charge) for state in places])
        panels[1].set_xlim(-0.6, right + 0.6)
        panels[1].set_xlabel("charge state (e)")
        handles = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        made.legend(handles.values(), handles.keys(), loc="outside lower left", ncols=2 if width < 5 else 4)
        style.headline(made, sentence(result, context), context.source)
        return style.save(made, folder, "relax")


def _places(rows: Sequence[StateRow]) -> dict[ChargeState, float]:
    """x of each charge state; defects stand apart."""
    places: dict[ChargeState, float] = {}
    at, previous = 0.0, rows[0]["defect"]
    for row in rows:
        at += 0.7 if row["defect"] != previous else 0.0
        places[ChargeState(row["defect"], row["charge"])] = at
        at, previous = at + 1.0, row["defect"]
    return places


def _panel(
    axes: Axes,
    column: Literal["rmsd", "local_rmsd"],
    rows: Sequence[StateRow],
    configurations: Sequence[ConfigurationRow],
    places: Mapping[ChargeState, float],
    model: str,
) -> None:
    """One kind of RMSD; what lies beyond the axis is an arrow at its top."""
    from defectbench.plotting import style

    def x(row: StateRow | ConfigurationRow, shift: float = 0.0) -> float:
        return places[ChargeState(row["defect"], row["charge"])] + shift

    relaxed = [c for c in configurations if c["status"] == "converged" and c[column] is not None and not c["ground_state"]]
    keys = [column, f"unrelaxed_{column}", f"other_charge_{column}", f"host_referenced_{column}"]
    shown = [v for v in (*(v for k in keys for v in numbers(rows, k)), *numbers(relaxed, column)) if v is not None]
    top = min(max([LEAST_TOP, *(1.12 * v for v in shown)]), 1.15 * RMSD_CAP)

    def points(chosen: Iterable[StateRow | ConfigurationRow], key: str, shift: float, colour: str, **look: Any) -> None:
        have = [(x(r, shift), value) for r in chosen if (value := number_in(r, key)) is not None]
        inside = [(at, value) for at, value in have if value <= top]
        if have:
            axes.scatter([at for at, _ in inside], [value for _, value in inside], **look)
        beyond = [at for at, value in have if value > top]
        axes.scatter(beyond, [0.97 * top] * len(beyond), s=14, marker="^", color=colour, linewidth=0, zorder=4)

    colours = style.COLOURS
    axes.axhspan(0, SUCCESS_RMSD, color=colours["good"], alpha=0.16, linewidth=0, label=f"at most {SUCCESS_RMSD:g} Å")
    points(rows, column, 0.0, colours["model"], s=24, color=colours["model"], label=f"{model}: ground state", zorder=4)
    points(
        rows, f"host_referenced_{column}", 0.22, colours["host_referenced"],
        s=15, marker="D", facecolor="none", edgecolor=colours["host_referenced"], linewidth=0.9, label="host drift subtracted", zorder=3,
    )  # fmt: skip
    points(
        relaxed, column, _BESIDE, colours["muted"],
        s=5, color=colours["muted"], alpha=0.55, linewidth=0, label="other relaxed starts",
    )  # fmt: skip
    points(
        rows, f"unrelaxed_{column}", 0.0, colours["unrelaxed"],
        s=100, marker="_", color=colours["unrelaxed"], linewidth=1.2, label="unrelaxed start", zorder=3,
    )  # fmt: skip
    points(
        rows, f"other_charge_{column}", -0.2, colours["other_charge"],
        s=45, marker="1", color=colours["other_charge"], linewidth=1.2, label="DFT at another charge", zorder=3,
    )  # fmt: skip
    missed = [x(r) for r in rows if r["rmsd"] is None]
    if missed:
        axes.scatter(
            missed, [0.93 * top] * len(missed), s=30, marker="X", color=colours["miss"], linewidth=0, label="no ground state", zorder=4
        )
    axes.set_ylim(0, top)


def sentence(result: TaskResult, context: FigureContext) -> str:
    """The finding: how many ground states the model finds, beside the starts that are as near."""
    rows = result.table("states", StateRow)
    found = sum(r["success"] for r in rows)
    unrelaxed = [success for r in rows if (success := r["unrelaxed_success"]) is not None]
    states = f"{len(rows)} {context.level} ground state{'s' if len(rows) > 1 else ''}"
    near = sum(unrelaxed)
    baseline = f"; {near} unrelaxed start{' is' if near == 1 else 's are'} as near" if unrelaxed else ""
    return f"{context.model} finds {found} of {states} to an RMSD of {SUCCESS_RMSD:g} Å{baseline}."
