"""Figures as values, from the tables of an entry alone: what the pages draw interactively. Nothing is computed again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from defectbench.base.states import ChargeState, format_charge
from defectbench.base.tables import number_in, numbers
from defectbench.entries.figures import figure_context, task_result
from defectbench.scoring.landscape import SUCCESS_RMSD
from defectbench.tasks.ccd import figure as ccd
from defectbench.tasks.ccd import rows as ccd_rows
from defectbench.tasks.descriptors import figure as descriptors
from defectbench.tasks.descriptors import rows as descriptor_rows
from defectbench.tasks.parity import figure as parity
from defectbench.tasks.parity import rows as parity_rows
from defectbench.tasks.pes import figure as pes
from defectbench.tasks.pes import rows as pes_rows
from defectbench.tasks.relax import figure as relax
from defectbench.tasks.relax import rows as relax_rows
from defectbench.tasks.search import figure as search
from defectbench.tasks.search import rows as search_rows
from defectbench.tasks.transition_levels import figure as transition_levels
from defectbench.tasks.transition_levels import rows as level_rows

if TYPE_CHECKING:
    from defectbench.entries.schema import Entry
    from defectbench.scoring.task import FigureContext, TaskResult

Value = float | str | None
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
        placed: whether y is only a place to be seen at, and no value.
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
    placed: bool = False


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
        note: what is not drawn, above the axes.
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
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """A figure with one or more panels.

    Attributes:
        name: for files.
        title: the finding, a sentence.
        source: dataset, level of theory and suite.
        panels: at least one.
        note: what a reader must know.
    """

    name: str
    title: str
    source: str
    panels: tuple[Panel, ...]
    note: str = ""


def state_name(row: relax_rows.StateRow | relax_rows.ConfigurationRow | pes_rows.ConfigurationRow | parity_rows.RelativeEnergyRow) -> str:
    """A row's charge state, for the axis."""
    return str(ChargeState(row["defect"], row["charge"]))


def drawable(series: Iterable[Series]) -> tuple[Series, ...]:
    """Series with at least one point."""
    return tuple(s for s in series if any(x is not None and y is not None for x, y in zip(s.x, s.y, strict=True)))


def entry_charts(entry: Entry) -> dict[str, tuple[Chart, ...]]:
    """The interactive figures of an entry, by task; a task without something to draw is left out.

    Example:
        >>> import defectbench
        >>> entry = defectbench.load_entry("leaderboards/sb2se3-vacancies/chgnet-0.3.0")
        >>> charts = entry_charts(entry.record)
        >>> charts["relax"][0].title
        'CHGNet 0.3.0 finds 0 of 7 PBE ground states to an RMSD of 0.1 Å; 1 unrelaxed start is as near.'
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


def _chart(
    entry: Entry, name: str, task: str, sentence: Callable[[TaskResult, FigureContext], str], panels: Sequence[Panel], note: str = ""
) -> Chart | None:
    """A chart under the sentence of the task's figure; None without panels."""
    if not panels:
        return None
    # the name as it is: on a page a $ begins no formula
    context = replace(figure_context(entry), model=entry.model.name)
    return Chart(name, sentence(task_result(task, entry.tasks[task]), context), context.source, tuple(panels), note)


def rmsd_chart(entry: Entry) -> Chart | None:
    """RMSD of each charge state's ground state, beside what needs no model."""
    rows, starts = (
        entry.table("relax", "states", relax_rows.StateRow),
        entry.table("relax", "configurations", relax_rows.ConfigurationRow),
    )
    others = [r for r in starts if r["status"] == "converged" and not r["ground_state"]]
    x, name = tuple(state_name(r) for r in rows), entry.model.name
    texts = tuple(f"from {r['configuration'] or '–'}; {r['reason'] or ''}".rstrip("; ") for r in rows)
    panels = []
    for column, label in (("rmsd", "RMSD (Å)"), ("local_rmsd", "RMSD within 5 Å of the defect (Å)")):
        series = drawable(
            [
                Series(f"{name}: ground state", x, numbers(rows, column), colour="model", texts=texts, size=11),
                Series(
                    "host drift subtracted", x, numbers(rows, f"host_referenced_{column}"), colour="host_referenced", symbol="diamond-open"
                ),
                Series("unrelaxed start", x, numbers(rows, f"unrelaxed_{column}"), colour="reference", symbol="line-ew", size=16),
                Series(
                    "DFT at another charge", x, numbers(rows, f"other_charge_{column}"), colour="other_charge", symbol="y-down", size=12
                ),
                Series(
                    "other relaxed starts",
                    tuple(state_name(r) for r in others),
                    numbers(others, column),
                    colour="muted",
                    size=5,
                    texts=tuple(str(r["configuration"]) for r in others),
                ),
            ]
        )
        if series:
            # above all values, as in the report's figure: at the bottom a miss would look perfect
            top = 1.08 * max([relax.LEAST_TOP, *(y for s in series for y in s.y if isinstance(y, float))])
            missed = [r for r in rows if r["rmsd"] is None]
            none = Series(
                "no ground state",
                tuple(state_name(r) for r in missed),
                (top,) * len(missed),
                colour="miss",
                symbol="x",
                texts=tuple(str(r["reason"] or "no value") for r in missed),
                placed=True,
            )
            panels.append(Panel(label, "charge state", label, (*series, *drawable([none])), limit=SUCCESS_RMSD, bottom=0.0))
    return _chart(entry, "rmsd", "relax", relax.sentence, panels)


def landscape_chart(entry: Entry) -> Chart | None:
    """Energy against distortion, coloured by RMSD, for the model and DFT; a curve has at least two starts, as in the report's figure."""
    rows, panels = entry.table("pes", "configurations", pes_rows.ConfigurationRow), []
    level = entry.dataset.level_of_theory
    for state in dict.fromkeys(state_name(r) for r in rows):
        here = [r for r in rows if state_name(r) == state]
        here.sort(key=lambda r: (r["distortion"] is None, r["distortion"] or 0.0))
        series, few = [], []
        of_dft, of_model = {r["configuration"]: r["dft_rmsd"] for r in here}, {r["configuration"]: r["rmsd"] for r in here}
        kinds: tuple[tuple[pes.Energy, dict[str, float | None], str, str, Colour], ...] = (
            ("dft_energy", of_dft, level, level, "reference"),
            ("energy", of_model, entry.model.name, "model", "model"),
        )
        for key, rmsd, label, short, colour in kinds:
            energies = pes.relative_energies(here, key)
            have = [r for r in here if r["configuration"] in energies]
            if len(have) < pes.FEWEST_STARTS:
                few.append(pes.no_curve(short, len(have)))
                continue
            series.append(
                Series(
                    label,
                    tuple(_start(r) for r in have),
                    tuple(round(energies[r["configuration"]], 6) for r in have),
                    mode="lines+markers",
                    colour=colour,
                    symbol="square" if colour == "reference" else "circle",
                    dash=colour == "reference",
                    size=12 if colour == "reference" else 10,
                    values=tuple(rmsd[r["configuration"]] for r in have),
                    texts=tuple(f"{r['configuration']}: RMSD {_three(rmsd[r['configuration']])} Å, {r['status']}" for r in have),
                )
            )
        heights = [y for s in series for y in s.y if isinstance(y, float)]
        top, bottom = max([pes.LEAST_TOP, *(1.06 * y for y in heights)]), min([0.0, *heights])
        panels.append(
            Panel(
                state,
                "start (bond distortions in %)",
                "relative energy (eV)",
                tuple(series),
                scale=f"RMSD to {level}'s ground state (Å)",
                scale_top=0.4,
                categories=tuple(_start(r) for r in here),
                bottom=bottom - 0.06 * (top - bottom),
                top=top,
                note="; ".join(few),
            )
        )
    return _chart(entry, "landscape", "pes", pes.sentence, panels)


def _start(row: pes_rows.ConfigurationRow) -> str:
    return row["configuration"].replace("Bond_Distortion_", "")


def _three(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def coordinate_chart(entry: Entry) -> Chart | None:
    """Configuration coordinate diagrams: energy along the path between the ground states of two charges, as in the report's figure."""
    points, panels = entry.table("ccd", "points", ccd_rows.PointRow), []
    level, name, blind = entry.dataset.level_of_theory, entry.model.name, entry.certificate["charge_class"] == "charge-blind"
    for diagram in entry.table("ccd", "diagrams", ccd_rows.DiagramRow) if points else ():
        series = []
        colours: tuple[Colour, ...] = ("miss", "model")
        for curve, colour in zip(ccd.curves(diagram, points, blind=blind), colours, strict=True):
            charge = f"charge {format_charge(curve.charge)}"
            label = f"{name}, both charges" if blind else f"{name}, {charge}"
            series.append(_line(label, curve.model, "muted" if blind else colour, size=7))
            if len(curve.reference) > 1:
                series.append(_line(f"{level} on the path, {charge}", curve.reference, colour, size=5, symbol="square", dash=True))
            minimum = _line(f"{level} minimum, {charge}", [curve.minimum], colour, size=13, symbol="square-open")
            series.append(replace(minimum, mode="markers"))
        charges = f"{format_charge(diagram['upper'])}/{format_charge(diagram['lower'])}"
        panels.append(Panel(f"{diagram['defect']} {charges}", "Q (amu<sup>1/2</sup> Å)", "energy (eV)", drawable(series)))
    note = f"Energies are above {level}'s minimum of the more positive charge, with the Fermi level at the valence band maximum."
    return _chart(entry, "coordinate", "ccd", ccd.sentence, panels, note)


def _line(
    label: str, points: Sequence[tuple[float, float]], colour: Colour, *, size: int, symbol: str = "circle", dash: bool = False
) -> Series:
    x, y = tuple(q for q, _ in points), tuple(round(energy, 6) for _, energy in points)
    return Series(label, x, y, "lines+markers", colour, symbol, size=size, dash=dash)


def formation_chart(entry: Entry) -> Chart | None:
    """Formation energies of the charge states along the Fermi level."""
    rows = entry.table("transition_levels", "states", level_rows.StateRow)
    axis = next(iter(entry.table("transition_levels", "axis", level_rows.AxisRow)), None)
    gap = axis["gap_ev"] if axis else None
    if gap is None:
        return None
    level, name, panels, left_out = entry.dataset.level_of_theory, entry.model.name, [], False
    sources: tuple[tuple[str, str, Colour, bool], ...] = (
        ("formation_energy_reference_ev", level, "reference", False),
        ("basin_energy_ev", f"{name}: {level} energies of its basins", "miss", True),
        ("formation_energy_own_ev", f"{name}: own energies", "model", False),
    )
    for defect in dict.fromkeys(r["defect"] for r in rows):
        here, series = [r for r in rows if r["defect"] == defect], []
        reference = numbers(here, "formation_energy_reference_ev")
        for column, label, colour, dash in sources:
            values = numbers(here, column)
            if column == "basin_energy_ev":  # stands in the table above DFT's ground state
                values = tuple(None if v is None or d is None else v + d for v, d in zip(values, reference, strict=True))
            apart = [abs(v - d) for v, d in zip(values, reference, strict=True) if v is not None and d is not None]
            if apart and min(apart) > OWN_ENERGIES_APART:
                left_out = True
                continue
            for row, energy in zip(here, values, strict=True):
                if energy is not None:
                    charge = row["charge"]
                    text = format_charge(charge)
                    x, y = (0.0, gap), (energy, energy + charge * gap)
                    series.append(Series(label, x, y, "lines+markers", colour, dash=dash, texts=(text, text), size=4, named=True))
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
    return _chart(entry, "formation", "transition_levels", _formation_sentence, panels, note)


def _formation_sentence(result: TaskResult, context: FigureContext) -> str:
    above = [e for e in numbers(result.rows, "basin_energy_ev") if e is not None]
    text = f"{context.model} relaxes {len(above)} of {len(result.rows)} charge states into a minimum of {context.level}"
    return f"{text}, {sum(above) / len(above):.2f} eV above its ground state on average." if above else f"{text}."


def level_chart(entry: Entry) -> Chart | None:
    """Stable transition levels, per defect: DFT, the model's own energies, its basins."""
    rows = entry.table("transition_levels", "levels", level_rows.LevelRow)
    axis = next(iter(entry.table("transition_levels", "axis", level_rows.AxisRow)), None)
    level, name, series = entry.dataset.level_of_theory, entry.model.name, []
    looks: tuple[tuple[str, str, Colour], ...] = (
        ("reference", level, "reference"),
        ("basin", f"{name}: {level} energies of its basins", "miss"),
        ("own", f"{name}: own energies", "model"),
    )
    left_out = False
    for which, label, colour in looks:
        have = [r for r in rows if transition_levels.stable_by(r, which) and number_in(r, f"{which}_ev") is not None]
        near = [r for r in have if abs(number_in(r, f"{which}_error_ev") or 0.0) <= OWN_ENERGIES_APART]  # DFT's own have no error
        left_out |= len(near) < len(have)
        texts = tuple(f"{r['level']} {_three(number_in(r, f'{which}_ev'))} eV" for r in near)
        series.append(
            Series(label, tuple(r["defect"] for r in near), numbers(near, f"{which}_ev"), "markers", colour, "line-ew", texts, size=26)
        )
    known = drawable(series)
    zero = "valence band maximum" if axis and axis["zero"] == "valence band maximum" else "lowest DFT level"
    gap = axis["gap_ev"] if axis else None
    edges = ((0.0, "VBM"), *(((gap, "CBM"),) if gap is not None else ())) if zero == "valence band maximum" else ()
    panel = Panel("levels", "defect", f"Fermi level above the {zero} (eV)", known, lines=edges)
    note = f"Levels more than {OWN_ENERGIES_APART:g} eV from {level}'s are not drawn." if left_out else ""
    return _chart(entry, "levels", "transition_levels", transition_levels.sentence, [panel] if known else [], note)


def parity_chart(entry: Entry) -> Chart | None:
    """Relative energies of minima and force components, model against DFT."""
    level, panels = entry.dataset.level_of_theory, []
    minima = entry.table("parity", "relative_energies", parity_rows.RelativeEnergyRow)
    rows = [r for r in minima if r["relative_energy"] is not None]
    if rows:
        series = []
        for charge in sorted({r["charge"] for r in rows}):
            here = [r for r in rows if r["charge"] == charge]
            texts = tuple(f"{state_name(r)} {r['configuration']}" for r in here)
            label = f"charge {format_charge(charge)}"
            series.append(Series(label, numbers(here, "dft_relative_energy"), numbers(here, "relative_energy"), texts=texts))
        axes = (f"{level}: energy above the ground state (eV)", "model: the same (eV)")
        panels.append(Panel("energies of minima", *axes, drawable(series), square=True))
    histogram = entry.table("parity", "force_histogram", parity_rows.ForceBin)
    for near, label in ((True, "forces within 5 Å of the defect"), (False, "forces beyond 5 Å")):
        bins = sorted((r for r in histogram if r["near"] is near), key=lambda r: r["components"])
        counts = numbers(bins, "components")
        if bins:
            texts = tuple(f"{r['components']} components" for r in bins)
            one = Series(label, numbers(bins, "dft"), numbers(bins, "model"), symbol="square", texts=texts, values=counts, size=6)
            panels.append(Panel(label, f"{level} (eV/Å)", "model (eV/Å)", (one,), square=True, scale="force components"))
    return _chart(entry, "parity", "parity", parity.sentence, panels)


def descriptor_chart(entry: Entry) -> Chart | None:
    """First two principal components of the descriptors, by charge."""
    rows = entry.table("descriptors", "frames", descriptor_rows.FrameRow)
    shares = {r["defect"]: (r["explained_1"], r["explained_2"]) for r in entry.table("descriptors", "states", descriptor_rows.StateRow)}
    panels = []
    for defect in dict.fromkeys(r["defect"] for r in rows):
        here = [r for r in rows if r["defect"] == defect]
        series = []
        for charge in sorted({r["charge"] for r in here}):
            own = [r for r in here if r["charge"] == charge]
            texts = tuple(f"{r['configuration']}, frame {r['frame']}" for r in own)
            series.append(Series(f"charge {format_charge(charge)}", numbers(own, "component_1"), numbers(own, "component_2"), texts=texts))
        if known := drawable(series):
            first, second = (f"component {number} ({100 * share:.0f} %)" for number, share in enumerate(shares[defect], 1))
            panels.append(Panel(defect, first, second, known))
    return _chart(entry, "descriptors", "descriptors", descriptors.sentence, panels)


def recall_chart(entry: Entry) -> Chart | None:
    """Ground states found against DFT relaxations spent."""
    rows = entry.table("search", "curve", search_rows.CurveRow)
    x = numbers(rows, "relaxations")
    series = drawable(
        [
            Series(entry.model.name, x, numbers(rows, "recall"), "lines+markers", "model", step=True),
            Series("ShakeNBreak order", x, numbers(rows, "order_recall"), "lines", "reference", dash=True, step=True),
            Series("random choice (expected)", x, numbers(rows, "random_recall"), "lines", "muted", dash=True),
        ]
    )
    panel = Panel("recall", "DFT relaxations per charge state", "fraction of ground states found", series, bottom=0.0, top=1.05)
    return _chart(entry, "recall", "search", search.sentence, [panel] if series else [])
