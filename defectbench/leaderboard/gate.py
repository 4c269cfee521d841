"""The regression gate for programs: tolerances from a file, and a comparison as Markdown, JSON, JUnit XML and GitHub annotations."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from xml.etree import ElementTree

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from defectbench.base.errors import DefectbenchError
from defectbench.base.schema import problems
from defectbench.base.tables import markdown_table
from defectbench.base.text import markdown as safe
from defectbench.base.text import one_line
from defectbench.base.yaml import read_yaml
from defectbench.leaderboard.comparison import CERTIFICATE

if TYPE_CHECKING:
    from defectbench.leaderboard.changes import GroundState, StateChange
    from defectbench.leaderboard.comparison import Change, Comparison

FORMAT = "defectbench-comparison-1"


class _Tolerances(BaseModel):
    """A tolerance file: ``task.metric`` → what counts as no change, in the metric's unit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metrics: dict[str, Annotated[float, Field(ge=0.0, allow_inf_nan=False)]]


def read_tolerances(path: Path) -> dict[str, float]:
    """Reads a tolerance file (YAML): ``metrics:`` with a line ``task.metric: number`` for each.

    Raises:
        DefectbenchError: it cannot be read or does not fit the schema; the message names the field.
    """
    try:
        return dict(_Tolerances.model_validate(read_yaml(path, DefectbenchError)).metrics)
    except ValidationError as error:
        field, wrong = problems(error, _Tolerances)[0]
        raise DefectbenchError(f"{path}: {field}: {wrong}", code="bad-tolerance") from error


def number(value: float | None, sign: bool = False) -> str:
    """Three significant digits; ``–`` for none.

    >>> number(0.01234, sign=True)
    '+0.0123'
    """
    return "–" if value is None else f"{value:{'+' if sign else ''}.3g}"


def verdict_line(found: Comparison) -> str:
    """What came out, in one line."""
    if found.passed:
        return "no regression"
    count = len(found.regressions)
    return f"{count} regression{'s' if count > 1 else ''}: {', '.join(found.regressions)}"


def facts(found: Comparison) -> list[str]:
    """What is said besides the tables: the scope, charge class, scores, speed, notes; one line each."""
    lines = [
        f"compared on {found.states} charge states and {found.configurations} configurations of {found.dataset}, "
        f"{found.confidence:.0%} intervals of the paired difference",
        f"charge response: {found.classes[0]} → {found.classes[1]} ({found.charge_class})",
        f"overall score: {_score(found.baseline.score.overall)} → {_score(found.candidate.score.overall)}",
    ]
    if (ratio := found.found.speed_ratio) is not None:
        times = " → ".join(f"{number(s)} s" for s in found.found.seconds)
        where = "" if found.found.same_hardware else "; measured on different machines, which do not compare"
        lines.append(f"time per force call: {times} (× {ratio:.2f}){where}")
    unpaired = [c.name for c in found.changes if c.interval is not None and not c.paired and c.gates]
    if unpaired:
        lines.append(
            f"resampled independently, so with a wider interval, because the two have different numbers of values: {', '.join(unpaired)}"
        )
    return [*lines, *(f"note: {note}" for note in found.notes)]


def _score(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def ground_state(found: GroundState) -> str:
    """Where a ground state lies, in a few words."""
    if found.rmsd is None:
        return "none"
    place = "no DFT minimum" if found.minimum is None else found.minimum
    above = "" if not found.energy_above else f" (+{found.energy_above:.2f} eV)"
    return f"{place}{above}, {found.rmsd:.2f} Å"


def moved(found: Comparison) -> list[StateChange]:
    """The charge states of which there is something to say."""
    return [s for s in found.found.states if s.direction != "same" or s.lost or s.won]


def shown(found: Comparison, everything: bool = False) -> list[Change]:
    """The metrics that a table shows: those that changed, or all."""
    return [c for c in found.changes if everything or c.verdict in ("better", "worse")]


def mark(change: Change) -> str:
    """A metric's verdict in words."""
    if change.regression:
        return "regression"
    return f"{change.verdict} (not counted)" if change.verdict in ("better", "worse") and not change.gates else change.verdict


def to_markdown(found: Comparison, everything: bool = False) -> str:
    """For a comment on a pull request."""
    lines = [
        f"### {'✅' if found.passed else '❌'} {safe(found.candidate.name)} against {safe(found.baseline.name)}: "
        f"{'no regression' if found.passed else f'{len(found.regressions)} regression(s)'}",
        "",
    ]
    if rows := shown(found, everything):
        cells = []
        for c in rows:
            between = f"{number(c.interval[0], True)} … {number(c.interval[1], True)}" if c.interval else "–"
            unit = "" if c.metric.unit == "1" else f" ({safe(c.metric.unit)})"
            numbers = (number(c.baseline), number(c.candidate), number(c.difference, True))
            label = "**regression**" if c.regression else mark(c) + (f": {safe(c.reason)}" if c.reason else "")
            cells.append([f"`{c.name}`{unit}", *numbers, between, label])
        heading = ["metric", "baseline", "candidate", "change", "interval of the change", "verdict"]
        lines += [markdown_table(heading, cells, range(1, 4)), ""]
    if states := moved(found):
        cells = []
        for s in states:
            basins = [", ".join(map(safe, names)) or "–" for names in (s.lost, s.won)]
            grounds = [safe(ground_state(g)) for g in (s.baseline, s.candidate)]
            cells.append([safe(str(s.state)), *grounds, s.direction, *basins])
        heading = ["charge state", "baseline", "candidate", "ground state", "basins lost", "basins won"]
        lines += [markdown_table(heading, cells), ""]
    if found.found.levels:
        cells = [
            [f"{safe(v.defect)} {safe(v.level)}", v.by, *(number(x) for x in (v.reference, v.baseline, v.candidate))]
            for v in found.found.levels
        ]
        lines += [markdown_table(["level", "by", "DFT (eV)", "baseline (eV)", "candidate (eV)"], cells, range(2, 5)), ""]
    return "\n".join([*lines, *(f"- {safe(line)}" for line in facts(found))]) + "\n"


def to_json(found: Comparison) -> dict[str, Any]:
    """All of it as JSON values."""
    return {
        "format": FORMAT,
        "passed": found.passed,
        "regressions": list(found.regressions),
        "baseline": _side(found, "baseline"),
        "candidate": _side(found, "candidate"),
        "dataset": found.dataset,
        "charge_states": found.states,
        "configurations": found.configurations,
        "confidence": found.confidence,
        "charge_class": {"baseline": found.classes[0], "candidate": found.classes[1], "verdict": found.charge_class},
        "metrics": [
            {
                "metric": c.name,
                "unit": c.metric.unit,
                "direction": c.metric.direction,
                "baseline": c.baseline,
                "candidate": c.candidate,
                "difference": c.difference,
                "interval": list(c.interval) if c.interval else None,
                "paired": c.paired,
                "tolerance": c.tolerance,
                "verdict": c.verdict,
                "gates": c.gates,
                "regression": c.regression,
                "reason": c.reason,
            }
            for c in found.changes
        ],
        "states": [
            {
                "defect": s.state.defect,
                "charge": s.state.charge,
                "direction": s.direction,
                "baseline": vars(s.baseline),
                "candidate": vars(s.candidate),
                "basins_lost": list(s.lost),
                "basins_won": list(s.won),
            }
            for s in found.found.states
        ],
        "levels": [vars(level) for level in found.found.levels],
        "speed": {
            "seconds_per_call": list(found.found.seconds),
            "ratio": found.found.speed_ratio,
            "same_hardware": found.found.same_hardware,
        },
        "notes": list(found.notes),
    }


def _side(found: Comparison, which: str) -> dict[str, Any]:
    side = found.baseline if which == "baseline" else found.candidate
    return {"model": side.model, "name": side.name, "configurations": side.configurations, "score": side.score.overall}


def to_junit(found: Comparison) -> str:
    """JUnit XML: a test case per metric; a regression fails, what cannot be judged is skipped."""
    cases: list[tuple[str, str | None, str | None]] = []
    lower = f"{found.classes[0]} → {found.classes[1]}"
    cases.append((CERTIFICATE, lower if found.charge_class == "worse" else None, None))
    for c in found.changes:
        skipped = (c.reason or "not judged") if c.verdict == "not judged" else None if c.gates else "not counted"
        cases.append((c.name, _said(c) if c.regression else None, skipped))
    attributes = {
        "name": "defectbench compare",
        "tests": str(len(cases)),
        "failures": str(len(found.regressions)),
        "errors": "0",
        "skipped": str(sum(skipped is not None for _, _, skipped in cases)),
    }
    suite = ElementTree.Element("testsuite", attributes)
    for name, failure, skipped in cases:
        group, _, metric = name.rpartition(".")
        case = ElementTree.SubElement(suite, "testcase", {"classname": group or "defectbench", "name": metric, "time": "0"})
        if failure is not None:
            ElementTree.SubElement(case, "failure", {"message": one_line(failure)})
        elif skipped is not None:
            ElementTree.SubElement(case, "skipped", {"message": one_line(skipped)})
    ElementTree.SubElement(suite, "system-out").text = "\n".join(map(one_line, facts(found)))
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _said(c: Change) -> str:
    if c.interval is None:
        return f"{c.name}: {number(c.baseline)} → {number(c.candidate)}: {c.reason or 'worse'}"
    unit = "" if c.metric.unit == "1" else f" {c.metric.unit}"
    between = f"{number(c.interval[0], True)} to {number(c.interval[1], True)}"
    return f"{c.name}: {number(c.baseline)} → {number(c.candidate)}{unit} ({number(c.difference, True)}, interval {between})"


def to_github(found: Comparison) -> str:
    """GitHub's workflow commands: an error per regression, a notice with the verdict."""
    lines = []
    if found.charge_class == "worse":
        lines.append(_command("error", "charge response", f"{found.classes[0]} → {found.classes[1]}"))
    lines += [_command("error", c.name, _said(c)) for c in found.changes if c.regression]
    lines += [
        _command("warning", str(s.state), f"ground state: {ground_state(s.baseline)} → {ground_state(s.candidate)}")
        for s in found.found.of("worse")
    ]
    return "\n".join([*lines, _command("notice", "defectbench compare", verdict_line(found))]) + "\n"


def _command(kind: str, title: str, message: str) -> str:
    """One workflow command; nothing in the texts can end it or begin another."""

    def escaped(text: str, more: Mapping[str, str]) -> str:
        out = one_line(text).replace("%", "%25")
        for sign, code in more.items():
            out = out.replace(sign, code)
        return out

    return f"::{kind} title={escaped(title, {':': '%3A', ',': '%2C'})}::{escaped(message, {})}"


FORMATS: Mapping[str, Callable[[Comparison, bool], str]] = {
    "markdown": to_markdown,
    "json": lambda found, _: json.dumps(to_json(found), ensure_ascii=False, indent=1, allow_nan=False) + "\n",
    "junit": lambda found, _: to_junit(found),
    "github": lambda found, _: to_github(found),
}
"""Name → from a comparison, and whether unchanged metrics are listed, to a text."""
