"""Figures as values, from the tables of an entry alone: what the pages draw interactively. Nothing is computed again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from defectbench.base.states import ChargeState, format_charge
from defectbench.scoring.landscape import SUCCESS_RMSD

if TYPE_CHECKING:
    from defectbench.entries.schema import Entry

Value = float | str | None
Row = Mapping[str, Any]
Colour = Literal["model", "reference", "other_charge", "host_referenced", "good", "miss", "muted"]

OWN_ENERGIES_APART = 5.0
"""eV: formation energies of a model that lie farther from DFT's than this are another zero, not a result, and are not drawn."""


@dataclass(frozen=True)
class Series:
    """Points that belong together.

    Attributes:
        label: for the legend.
        x, y: of the points; None is a gap.
        mode: how they are drawn.
        colour: by meaning, as in the figures of the entries; None takes the next colour of the palette.
        symbol: of a point: ``circle``, ``square``, ``diamond``, ``cross``, ``line-ew`` …
        texts: what a point says when it is pointed at.
        values: of the colour scale, if the chart has one.
        size: of the points.
        dash, step: whether a line is dashed, or goes in steps.
        named: whether the texts stand beside the points, too.
    """

    label: str
    x: tuple[Value, ...]
    y: tuple[Value, ...]
    mode: Literal["markers", "lines", "lines+markers"] = "markers"
    colour: Colour | None = None
    symbol: str = "circle"
    texts: tuple[str, ...] = ()
    values: tuple[float | None, ...] = ()
    size: int = 9
    dash: bool = False
    step: bool = False
    named: bool = False


@dataclass(frozen=True)
class Panel:
    """One pair of axes; a chart of several lets the reader choose.

    Attributes:
        label: to choose it by.
        x_label, y_label: of the axes, with units.
        series: what is drawn.
        x_log: whether x is logarithmic.
        square: whether both axes have one scale and a diagonal.
        scale: label of the colour scale, if the series have values.
        scale_top: value at its upper end; None takes the largest.
        limit: y below which something is good (a band).
        marks, lines: (place, text) of vertical and horizontal lines.
        categories: order of the texts on x.
        bottom, top: of the y axis; None leaves it to the data.
    """

    label: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    x_log: bool = False
    square: bool = False
    scale: str | None = None
    scale_top: float | None = None
    limit: float | None = None
    marks: tuple[tuple[float, str], ...] = ()
    lines: tuple[tuple[float, str], ...] = ()
    categories: tuple[str, ...] = ()
    bottom: float | None = None
    top: float | None = None


@dataclass(frozen=True)
class Chart:
    """A figure with one or more panels; ``note`` says what a reader must know."""

    name: str
    title: str
    panels: tuple[Panel, ...]
    note: str = ""


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _numbers(rows: Iterable[Row], column: str) -> tuple[float | None, ...]:
    return tuple(_number(row.get(column)) for row in rows)


def _table(entry: Entry, task: str, table: str) -> list[Row]:
    record = entry.tasks.get(task)
    return list(record.tables.get(table, ())) if record else []


def _state(row: Row) -> str:
    return str(ChargeState(str(row["defect"]), int(row["charge"])))


def _known(series: Iterable[Series]) -> tuple[Series, ...]:
    """Those with at least one point."""
    return tuple(s for s in series if any(x is not None and y is not None for x, y in zip(s.x, s.y, strict=True)))


def entry_charts(entry: Entry) -> dict[str, tuple[Chart, ...]]:
    """The interactive figures of an entry, by task; a task without something to draw is left out.

    Example:
        >>> import defectbench
        >>> entry = defectbench.load_entry("leaderboards/sb2se3-vacancies/chgnet-0.3.0")
        >>> charts = entry_charts(entry.record)
        >>> [chart.title for chart in charts["relax"]]
        ['RMSD of the ground states against charge']
    """
    drawn: dict[str, tuple[Callable[[Entry], Chart | None], ...]] = {
        "relax": (rmsd_chart,),
        "pes": (landscape_chart,),
        "ccd": (coordinate_chart,),
        "transition_levels": (formation_chart, level_chart),
        "parity": (parity_chart,),
        "descriptors": (descriptor_chart,),
        "search": (recall_chart,),
    }
    charts = {task: tuple(c for make in makes if task in entry.tasks and (c := make(entry)) is not None) for task, makes in drawn.items()}
    return {task: found for task, found in charts.items() if found}


def rmsd_chart(entry: Entry) -> Chart | None:
    """RMSD of each charge state's ground state, beside what needs no model."""
    rows, starts = _table(entry, "relax", "states"), _table(entry, "relax", "configurations")
    others = [r for r in starts if r.get("status") == "converged" and not r.get("ground_state")]
    x, name = tuple(_state(r) for r in rows), entry.model.name
    texts = tuple(f"from {r.get('configuration') or '–'}; {r.get('reason') or ''}".rstrip("; ") for r in rows)
    panels = []
    for column, label in (("rmsd", "RMSD (Å)"), ("local_rmsd", "RMSD within 5 Å of the defect (Å)")):
        series = _known(
            [
                Series(f"{name}: ground state", x, _numbers(rows, column), colour="model", texts=texts, size=11),
                Series(
                    "host drift subtracted", x, _numbers(rows, f"host_referenced_{column}"), colour="host_referenced", symbol="diamond-open"
                ),
                Series("unrelaxed start", x, _numbers(rows, f"unrelaxed_{column}"), colour="reference", symbol="line-ew", size=16),
                Series(
                    "DFT at another charge", x, _numbers(rows, f"other_charge_{column}"), colour="other_charge", symbol="y-down", size=12
                ),
                Series(
                    "other relaxed starts",
                    tuple(_state(r) for r in others),
                    _numbers(others, column),
                    colour="muted",
                    size=5,
                    texts=tuple(str(r.get("configuration")) for r in others),
                ),
            ]
        )
        if series:
            missed = [r for r in rows if _number(r.get(column)) is None]
            none = Series(
                "no ground state",
                tuple(_state(r) for r in missed),
                (0.0,) * len(missed),
                colour="miss",
                symbol="x",
                texts=tuple(str(r.get("reason") or "no value") for r in missed),
            )
            panels.append(Panel(label, "charge state", label, (*series, *_known([none])), limit=SUCCESS_RMSD, bottom=0.0))
    return Chart("rmsd", "RMSD of the ground states against charge", tuple(panels)) if panels else None


def landscape_chart(entry: Entry) -> Chart | None:
    """Energy against distortion, coloured by RMSD, for the model and DFT."""
    rows, panels = _table(entry, "pes", "configurations"), []
    level = entry.dataset.level_of_theory
    for state in dict.fromkeys(_state(r) for r in rows):
        here = [r for r in rows if _state(r) == state]
        here.sort(key=lambda r: (r.get("distortion") is None, _number(r.get("distortion")) or 0.0))
        series, order = [], tuple(str(r["configuration"]).replace("Bond_Distortion_", "") for r in here)
        for energy, rmsd, label, symbol, colour in (
            ("dft_relative_energy", "dft_rmsd", level, "square", "reference"),
            ("relative_energy", "rmsd", entry.model.name, "circle", "model"),
        ):
            have = [r for r in here if _number(r.get(energy)) is not None]
            series.append(
                Series(
                    label,
                    tuple(str(r["configuration"]).replace("Bond_Distortion_", "") for r in have),
                    _numbers(have, energy),
                    mode="lines+markers",
                    colour="reference" if colour == "reference" else "model",
                    symbol=symbol,
                    dash=colour == "reference",
                    size=12 if colour == "reference" else 10,
                    values=_numbers(have, rmsd),
                    texts=tuple(f"{r['configuration']}: RMSD {_three(r.get(rmsd))} Å, {r.get('status')}" for r in have),
                )
            )
        if known := _known(series):
            scale = f"RMSD to {level}'s ground state (Å)"
            panels.append(
                Panel(state, "start (bond distortions in %)", "relative energy (eV)", known, scale=scale, scale_top=0.4, categories=order)
            )
    return Chart("landscape", "Relaxed energies, coloured by RMSD", tuple(panels)) if panels else None


def _three(value: object) -> str:
    known = _number(value)
    return "–" if known is None else f"{known:.3f}"


def coordinate_chart(entry: Entry) -> Chart | None:
    """Configuration coordinate diagrams: energy along the path between the ground states of two charges."""
    points, panels = _table(entry, "ccd", "points"), []
    for diagram in _table(entry, "ccd", "diagrams"):
        pair = (diagram["defect"], diagram["upper"], diagram["lower"])
        above, series = _number(diagram.get("separation_reference_ev")) or 0.0, []
        for charge in pair[1:]:
            curve = [p for p in points if (p["defect"], p["upper"], p["lower"]) == pair and p["charge"] == charge]
            shift = above if charge == pair[2] else 0.0
            colour: Colour = "model" if charge == pair[2] else "miss"
            for column, label, dash in (("model_ev", entry.model.name, False), ("reference_ev", entry.dataset.level_of_theory, True)):
                y = tuple(None if (value := _number(p.get(column))) is None else value + shift for p in curve)
                series.append(
                    Series(
                        f"{label}, charge {format_charge(charge)}",
                        _numbers(curve, "q_amu_angstrom"),
                        y,
                        mode="lines+markers",
                        colour=colour,
                        symbol="square-open" if dash else "circle",
                        dash=dash,
                        size=13 if dash else 7,
                    )
                )
        if known := _known(series):
            label = f"{pair[0]} {format_charge(pair[1])}/{format_charge(pair[2])}"
            panels.append(Panel(label, "Q (amu<sup>1/2</sup> Å)", "energy (eV)", known))
    note = f"The two charges stand at {entry.dataset.level_of_theory}'s distance, with the Fermi level at the valence band maximum."
    return Chart("coordinate", "Configuration coordinate diagrams", tuple(panels), note) if panels else None


def formation_chart(entry: Entry) -> Chart | None:
    """Formation energies of the charge states along the Fermi level."""
    rows, axis = _table(entry, "transition_levels", "states"), next(iter(_table(entry, "transition_levels", "axis")), None)
    gap = _number(axis.get("gap_ev")) if axis else None
    if gap is None:
        return None
    level, name, panels, left_out = entry.dataset.level_of_theory, entry.model.name, [], False
    sources = (
        ("formation_energy_reference_ev", level, "reference", False),
        ("basin_energy_ev", f"{name}: {level} energies of its basins", "miss", True),
        ("formation_energy_own_ev", f"{name}: own energies", "model", False),
    )
    for defect in dict.fromkeys(str(r["defect"]) for r in rows):
        here, series = [r for r in rows if r["defect"] == defect], []
        reference = _numbers(here, "formation_energy_reference_ev")
        for column, label, colour, dash in sources:
            values = _numbers(here, column)
            apart = [abs(v - d) for v, d in zip(values, reference, strict=True) if v is not None and d is not None]
            if apart and min(apart) > OWN_ENERGIES_APART:
                left_out = True
                continue
            for row, energy in zip(here, values, strict=True):
                if energy is not None:
                    charge = int(row["charge"])
                    text = format_charge(charge)
                    x, y = (0.0, gap), (energy, energy + charge * gap)
                    shown: Colour = "reference" if colour == "reference" else "miss" if colour == "miss" else "model"
                    series.append(Series(label, x, y, "lines+markers", shown, dash=dash, texts=(text, text), size=4, named=True))
        if series:
            panels.append(
                Panel(
                    defect,
                    "Fermi level above the valence band maximum (eV)",
                    "formation energy (eV)",
                    tuple(series),
                    marks=((0.0, "VBM"), (gap, "CBM")),
                )
            )
    note = "A line per charge state; its slope is the charge."
    if left_out:
        note += f" Energies more than {OWN_ENERGIES_APART:g} eV from {level}'s are not drawn: the model has another zero of energy."
    return Chart("formation", "Formation energies", tuple(panels), note) if panels else None


def level_chart(entry: Entry) -> Chart | None:
    """Stable transition levels, per defect: DFT, the model's own energies, its basins."""
    rows = _table(entry, "transition_levels", "levels")
    axis = next(iter(_table(entry, "transition_levels", "axis")), {})
    level, name, series = entry.dataset.level_of_theory, entry.model.name, []
    looks: tuple[tuple[str, str, Colour], ...] = (
        ("reference", level, "reference"),
        ("basin", f"{name}: {level} energies of its basins", "miss"),
        ("own", f"{name}: own energies", "model"),
    )
    left_out = False
    for which, label, colour in looks:
        have = [r for r in rows if r.get(f"stable_{which}") and _number(r.get(f"{which}_ev")) is not None]
        near = [r for r in have if abs((_number(r.get(f"{which}_error_ev")) or 0.0) if which != "reference" else 0.0) <= OWN_ENERGIES_APART]
        left_out |= len(near) < len(have)
        texts = tuple(f"{r['level']} {_three(r.get(f'{which}_ev'))} eV" for r in near)
        series.append(
            Series(
                label, tuple(str(r["defect"]) for r in near), _numbers(near, f"{which}_ev"), "markers", colour, "line-ew", texts, size=26
            )
        )
    known = _known(series)
    zero = "valence band maximum" if axis.get("zero") == "valence band maximum" else "lowest DFT level"
    gap = _number(axis.get("gap_ev"))
    edges = ((0.0, "VBM"), *(((gap, "CBM"),) if gap is not None else ())) if zero == "valence band maximum" else ()
    panel = Panel("levels", "defect", f"Fermi level above the {zero} (eV)", known, lines=edges)
    note = f"Levels more than {OWN_ENERGIES_APART:g} eV from {level}'s are not drawn." if left_out else ""
    return Chart("levels", "Stable transition levels", (panel,), note) if known else None


def parity_chart(entry: Entry) -> Chart | None:
    """Relative energies of minima and force components, model against DFT."""
    level, panels = entry.dataset.level_of_theory, []
    rows = [r for r in _table(entry, "parity", "relative_energies") if _number(r.get("relative_energy")) is not None]
    if rows:
        series = []
        for charge in sorted({int(r["charge"]) for r in rows}):
            here = [r for r in rows if r["charge"] == charge]
            texts = tuple(f"{_state(r)} {r.get('configuration')}" for r in here)
            label = f"charge {format_charge(charge)}"
            series.append(Series(label, _numbers(here, "dft_relative_energy"), _numbers(here, "relative_energy"), texts=texts))
        axes = (f"{level}: energy above the ground state (eV)", "model: the same (eV)")
        panels.append(Panel("energies of minima", *axes, _known(series), square=True))
    for near, label in ((True, "forces within 5 Å of the defect"), (False, "forces beyond 5 Å")):
        bins = sorted((r for r in _table(entry, "parity", "force_histogram") if r.get("near") is near), key=lambda r: int(r["components"]))
        counts = _numbers(bins, "components")
        if bins:
            texts = tuple(f"{int(r['components'])} components" for r in bins)
            one = Series(label, _numbers(bins, "dft"), _numbers(bins, "model"), symbol="square", texts=texts, values=counts, size=6)
            panels.append(Panel(label, f"{level} (eV/Å)", "model (eV/Å)", (one,), square=True, scale="force components"))
    return Chart("parity", "Model against DFT", tuple(panels)) if panels else None


def descriptor_chart(entry: Entry) -> Chart | None:
    """First two principal components of the descriptors, by charge."""
    rows, shares = _table(entry, "descriptors", "frames"), _table(entry, "descriptors", "states")
    panels = []
    for defect in dict.fromkeys(str(r["defect"]) for r in rows):
        here = [r for r in rows if r["defect"] == defect]
        share: Row = next((r for r in shares if r["defect"] == defect), {})
        series = []
        for charge in sorted({int(r["charge"]) for r in here}):
            own = [r for r in here if r["charge"] == charge]
            texts = tuple(f"{r.get('configuration')}, frame {r.get('frame')}" for r in own)
            series.append(
                Series(f"charge {format_charge(charge)}", _numbers(own, "component_1"), _numbers(own, "component_2"), texts=texts)
            )
        if known := _known(series):
            panels.append(Panel(defect, _component(share, 1), _component(share, 2), known))
    return Chart("descriptors", "Principal components of the descriptors", tuple(panels)) if panels else None


def _component(share: Row, number: int) -> str:
    known = _number(share.get(f"explained_{number}"))
    return f"component {number}" + ("" if known is None else f" ({100 * known:.0f} %)")


def recall_chart(entry: Entry) -> Chart | None:
    """Ground states found against DFT relaxations spent."""
    rows = _table(entry, "search", "curve")
    x = _numbers(rows, "relaxations")
    series = _known(
        [
            Series(entry.model.name, x, _numbers(rows, "recall"), "lines+markers", "model", step=True),
            Series("ShakeNBreak order", x, _numbers(rows, "order_recall"), "lines", "reference", dash=True, step=True),
            Series("random choice (expected)", x, _numbers(rows, "random_recall"), "lines", "muted", dash=True),
        ]
    )
    panel = Panel("recall", "DFT relaxations per charge state", "fraction of ground states found", series, bottom=0.0, top=1.05)
    return Chart("recall", "Recall against cost", (panel,)) if series else None


Scored = tuple["Entry", float | None, str | None]
"""An entry, its overall score and its training data."""

MOST_SERIES = 12
"""Models that get a colour of their own; with more a figure shows the best."""


def group_charts(entries: Sequence[Scored], baseline: float | None) -> dict[str, tuple[Chart, ...]]:
    """The figures over all models of a board, by task; what is not of one task stands under the empty name.

    Args:
        entries: best first.
        baseline: overall score of the best baselines.
    """
    lines = ((baseline, "best baselines"),) if baseline is not None else ()
    best, note = entries[:MOST_SERIES], f"The {MOST_SERIES} best models." if len(entries) > MOST_SERIES else ""
    found = {
        "relax": (_rmsd_of_all(best, note),),
        "search": (_recall_of_all(best, note),),
        "": (_speed(entries, lines), _data(entries, lines)),
    }
    kept = {task: tuple(c for c in charts if c is not None) for task, charts in found.items()}
    return {task: charts for task, charts in kept.items() if charts}


def _rmsd_of_all(entries: Sequence[Scored], note: str) -> Chart | None:
    panels = []
    for column, label in (("rmsd", "RMSD (Å)"), ("local_rmsd", "RMSD within 5 Å of the defect (Å)")):
        series = []
        for entry, _, _ in entries:
            rows = _table(entry, "relax", "states")
            texts = tuple(f"in {r['minimum']}" if r.get("minimum") else "in no DFT minimum" for r in rows)
            series.append(Series(entry.model.name, tuple(_state(r) for r in rows), _numbers(rows, column), texts=texts))
        rows = _table(entries[0][0], "relax", "states")
        for key, text, colour, symbol in (
            ("unrelaxed", "unrelaxed start", "reference", "line-ew"),
            ("other_charge", "DFT at another charge", "other_charge", "y-down"),
        ):
            shown: Colour = "reference" if colour == "reference" else "other_charge"
            series.append(
                Series(text, tuple(_state(r) for r in rows), _numbers(rows, f"{key}_{column}"), "markers", shown, symbol, size=15)
            )
        if known := _known(series):
            panels.append(Panel(label, "charge state", label, known, limit=SUCCESS_RMSD, bottom=0.0))
    return Chart("rmsd", "RMSD of the ground states against charge", tuple(panels), note) if panels else None


def _recall_of_all(entries: Sequence[Scored], note: str) -> Chart | None:
    series = []
    for entry, _, _ in entries:
        rows = _table(entry, "search", "curve")
        series.append(Series(entry.model.name, _numbers(rows, "relaxations"), _numbers(rows, "recall"), "lines", step=True))
    rows = _table(entries[0][0], "search", "curve")
    x = _numbers(rows, "relaxations")
    series.append(Series("ShakeNBreak order", x, _numbers(rows, "order_recall"), "lines", "reference", dash=True, step=True))
    series.append(Series("random choice (expected)", x, _numbers(rows, "random_recall"), "lines", "muted", dash=True))
    known = _known(series)
    panel = Panel("recall", "DFT relaxations per charge state", "fraction of ground states found", known, bottom=0.0, top=1.05)
    return Chart("recall", "Recall against cost", (panel,), note) if known else None


def _speed(entries: Sequence[Scored], lines: tuple[tuple[float, str], ...]) -> Chart | None:
    from defectbench.leaderboard.pareto import TIME_METRIC, hardware_of

    points: dict[str, list[tuple[str, float, float]]] = {}
    one_each = len(entries) <= MOST_SERIES
    for entry, overall, _ in entries:
        cost, hardware = entry.tasks.get("cost"), hardware_of(entry).text
        time = next((m.value for m in cost.metrics if m.name == TIME_METRIC), None) if cost else None
        if overall is not None and time is not None and time > 0:
            label, text = (entry.model.name, hardware) if one_each else (hardware, entry.model.name)
            points.setdefault(label, []).append((text, time, overall))
    series = [
        Series(label, tuple(p[1] for p in found), tuple(p[2] for p in found), texts=tuple(p[0] for p in found), size=11)
        for label, found in points.items()
    ]
    panel = Panel("speed", "seconds per force call", "overall score", tuple(series), x_log=True, bottom=0.0, lines=lines)
    return (
        Chart("speed", "Accuracy against speed", (panel,), "Times of different hardware do not compare; point at a model to see its own.")
        if series
        else None
    )


def _data(entries: Sequence[Scored], lines: tuple[tuple[float, str], ...]) -> Chart | None:
    have = [(e, score, data or "not stated") for e, score, data in entries if score is not None]
    if not have:
        return None
    names, scores = tuple(e.model.name for e, _, _ in have), tuple(score for _, score, _ in have)
    panels = [
        Panel(
            "training data",
            "training data",
            "overall score",
            (Series("models", tuple(d for _, _, d in have), scores, "markers", "model", texts=names, size=11),),
            bottom=0.0,
            lines=lines,
        )
    ]
    sized = [(e, score) for e, score, _ in have if e.model.parameters]
    if sized:
        one = Series(
            "models",
            tuple(e.model.parameters for e, _ in sized),
            tuple(s for _, s in sized),
            "markers",
            "model",
            texts=tuple(e.model.name for e, _ in sized),
            size=11,
        )
        panels.append(Panel("parameters", "number of parameters", "overall score", (one,), x_log=True, bottom=0.0, lines=lines))
    return Chart("data", "Score against training data and size", tuple(panels))
