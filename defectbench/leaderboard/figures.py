"""The leaderboard's figures: accuracy against speed for each group of comparable entries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectbench.entries.figures import figure_context
from defectbench.leaderboard.pareto import Hardware, Point, atoms_text, finding, front, points_of, stem
from defectbench.leaderboard.scores import best_baselines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

    from defectbench.leaderboard.groups import Group

_GROUND: Any = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.4}

FIGURE_FOLDER = "figures"
"""Beside the page."""

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_COLOURS = ("model", "host_referenced", "other_charge", "good", "miss")


def draw_leaderboard(groups: Sequence[Group], folder: Path) -> list[Path]:
    """Draws accuracy against speed for every group that has a point, as ``pareto-<dataset>-<level>-<suite>.png`` and ``.svg``.

    Args:
        groups: of :func:`~defectbench.leaderboard.groups.group_entries`.
        folder: is made if it is not there.

    Returns:
        The files, the same bytes for the same entries; empty if no group has a model with an overall score and a time.

    Raises:
        RunError: a file cannot be written.
    """
    files: list[Path] = []
    for group in groups:
        if points_of(group)[0]:
            files += draw_pareto(group, folder, stem(group, groups))
    return files


def draw_pareto(group: Group, folder: Path, name: str) -> list[Path]:
    """Draws one group's overall scores over the time per force call, with the Pareto front of each hardware and the best baselines.

    Args:
        group: entries that compare, at least one with a score and a time.
        folder: where to.
        name: of the files, without ending.

    Returns:
        (PNG, SVG).

    Raises:
        RunError: a file cannot be written.
        ValueError: no entry of the group has a score and a time.
    """
    from defectbench.plotting import style

    points, missing = points_of(group)
    if not points:
        raise ValueError("nothing to draw")
    baseline = best_baselines(group.first.tasks)[1]
    with style.figure(style.PAGE_WIDTH, 3.7) as made:
        made.set_dpi(style.DPI)  # text is measured as it will be drawn
        axes = made.add_subplot()
        axes.set_xscale("log")
        _limits(axes, points, baseline)
        axes.set_xlabel(_time_label(points))
        axes.set_ylabel("overall score")
        style.headline(made, finding(points, baseline), figure_context(group.first).source)
        made.supxlabel(_caption(points, missing), fontsize=6.5, parse_math=False)
        segments = _points_and_fronts(axes, points)
        if baseline is not None:
            axes.axhline(baseline, color=style.COLOURS["reference"], linestyle="--", linewidth=0.8, zorder=1)
            segments.append(((axes.get_xlim()[0], baseline), (axes.get_xlim()[1], baseline)))
        legend = _legend(axes, points, baseline)
        _labels(made, axes, points, segments, legend)
        return style.save(made, folder, name)


def _limits(axes: Axes, points: Sequence[Point], baseline: float | None) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ends = [x for p in points for x in (p.seconds, *(p.interval or ()))]
    low, high = min(x for x in ends if x > 0), max(ends)
    room = max(1.25, (high / low) ** 0.12)
    if high / low < 4:
        room = max(room, 2.0 / math.sqrt(high / low))
    axes.set_xlim(low / room, high * room)
    tops = [p.bounds[1] if p.bounds else p.score for p in points] + ([baseline] if baseline is not None else [])
    top = max(0.1, *tops)
    axes.set_ylim(-0.03 * top, min(1.16 * top, 1.05) if top < 1 else 1.05)
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 3.0, 5.0, 7.0) if high / low < 30 else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _time_label(points: Sequence[Point]) -> str:
    clocks = sorted({p.hardware.clock for p in points})
    clock = clocks[0] if len(clocks) == 1 else "processor or wall-clock"
    atoms = atoms_text(points)
    return f"{clock} time per force call" + (f", {atoms}" if atoms else "") + " (s)"


def _caption(points: Sequence[Point], missing: Sequence[str]) -> str:
    import textwrap

    hardware = sorted({p.hardware for p in points})
    measured = "; ".join(h.text for h in hardware)
    alone = " Fronts are drawn for each hardware by itself." if len(hardware) > 1 else ""
    bars = "Bars: all metrics at the worse and at the better end of their 95 % intervals; where they overlap, the front may be another."
    left = f" Not drawn: {'; '.join(missing)}." if missing else ""
    front_is = "Front: no other model is as fast and as accurate."
    return "\n".join(textwrap.wrap(f"Measured on {measured}. {front_is}{alone} {bars}{left}", 150))


def _looks(points: Sequence[Point]) -> dict[Hardware, tuple[str, str]]:
    from defectbench.plotting import style

    hardware = sorted({p.hardware for p in points})
    return {h: (_MARKERS[i % len(_MARKERS)], style.COLOURS[_COLOURS[i % len(_COLOURS)]]) for i, h in enumerate(hardware)}


_Segment = tuple[tuple[float, float], tuple[float, float]]


def _points_and_fronts(axes: Axes, points: Sequence[Point]) -> list[_Segment]:
    """Draws them; returns the lines that labels should keep off, in data coordinates."""
    from defectbench.plotting import style

    looks, best = _looks(points), set(front(points))
    muted = style.COLOURS["muted"]
    segments: list[_Segment] = []
    for p in points:
        marker, colour = looks[p.hardware]
        colour = colour if p in best else muted
        (low, high), (left, right) = p.bounds or (p.score, p.score), p.interval or (p.seconds, p.seconds)
        up = [[max(0.0, p.score - low)], [max(0.0, high - p.score)]]
        across = [[max(0.0, p.seconds - left)], [max(0.0, right - p.seconds)]]
        axes.errorbar(
            [p.seconds], [p.score], yerr=up, xerr=across, fmt=marker, markersize=5 if p in best else 4, color=colour,
            elinewidth=0.7, markeredgewidth=0, zorder=4 if p in best else 3,
        )  # fmt: skip
        segments += [((p.seconds, low), (p.seconds, high)), ((left, p.score), (right, p.score))]
    for hardware, (_, colour) in looks.items():
        line = sorted((p for p in best if p.hardware == hardware), key=lambda p: (p.seconds, p.score))
        xs = [*(p.seconds for p in line), axes.get_xlim()[1]]
        ys = [*(p.score for p in line), line[-1].score]
        axes.plot(xs, ys, drawstyle="steps-post", color=colour, linewidth=0.9, zorder=2)
        for i in range(len(xs) - 1):
            segments += [((xs[i], ys[i]), (xs[i + 1], ys[i])), ((xs[i + 1], ys[i]), (xs[i + 1], ys[i + 1]))]
    return segments


def _legend(axes: Axes, points: Sequence[Point], baseline: float | None) -> Legend:
    from matplotlib.lines import Line2D

    from defectbench.plotting import style

    looks = _looks(points)
    one = len(looks) == 1
    handles: list[Any] = []
    for hardware, (marker, colour) in looks.items():
        label = "on the front" if one else f"on the front, {hardware.name} ({hardware.device}), {hardware.load}"
        handles.append(Line2D([], [], color=colour, marker=marker, markersize=5, linewidth=0.9, label=label))
    if len(front(points)) < len(points):
        muted = style.COLOURS["muted"]
        handles.append(Line2D([], [], color=muted, marker="o" if one else "", markersize=4, linewidth=0.7, label="dominated (grey)"))
    if baseline is not None:
        label = f"best baselines, without a model: {baseline:.2f}"
        handles.append(Line2D([], [], color=style.COLOURS["reference"], linestyle="--", linewidth=0.8, label=label))
    legend = axes.legend(handles=handles, loc="upper left", ncols=len(handles) if one else 1)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return legend


def _labels(made: Figure, axes: Axes, points: Sequence[Point], segments: Sequence[_Segment], legend: Legend) -> None:
    """Writes the names beside the points, off each other, the markers and the lines."""
    from matplotlib.transforms import Bbox

    from defectbench.plotting import style
    from defectbench.plotting.labels import place_labels

    made.draw_without_rendering()  # fixes the layout, and with it where data lie in pixels
    made.set_layout_engine("none")
    best = set(front(points))
    texts = [
        axes.text(
            p.seconds, p.score, p.name, fontsize=6.5 if p in best else 6, parse_math=False, bbox=_GROUND, zorder=5,
            color=style.COLOURS["reference"] if p in best else style.COLOURS["muted"],
        )
        for p in points
    ]  # fmt: skip
    lines = [Bbox(axes.transData.transform(ends)) for ends in segments]
    place_labels(axes, texts, lines, [legend.get_window_extent()])
