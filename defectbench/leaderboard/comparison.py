"""Comparison of two entries of one model family: is the new one worse, beyond what the intervals allow?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from defectbench.base.errors import DefectbenchError
from defectbench.base.states import ChargeState
from defectbench.leaderboard.scores import Score, score_results

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from defectbench.entries.schema import Entry, MetricRecord
    from defectbench.leaderboard.entry_view import EntryView
    from defectbench.scoring.task import MetricDefinition

Verdict = Literal["better", "worse", "same", "not judged"]

NEGLIGIBLE = 0.01
"""A change of less than this fraction of the distance between a metric's anchors is none, whatever its interval."""

CHARGE_CLASSES = ("charge-blind", "energy-only", "charge-aware")
"""Worst first."""


@dataclass(frozen=True)
class Change:
    """One metric in two entries.

    Attributes:
        task: name.
        metric: its definition.
        old: value in the old entry; None if there is none.
        new: value in the new entry.
        allowed: how far the new value may lie on the worse side of the old one and still be called the same, in the metric's unit.
        verdict: ``worse`` and ``better`` lie beyond what is allowed.
        reason: for what cannot be told from the numbers.
    """

    task: str
    metric: MetricDefinition
    old: float | None
    new: float | None
    allowed: float | None
    verdict: Verdict
    reason: str | None = None

    @property
    def difference(self) -> float | None:
        """new − old, in the metric's unit."""
        return None if self.old is None or self.new is None else self.new - self.old


@dataclass(frozen=True, repr=False)
class Comparison:
    """Two entries, metric by metric.

    Attributes:
        changes: in the tasks' order.
        charge_class: verdict on the certificate's class.
        classes: (old, new) class.
        old: score of the old entry.
        new: score of the new entry.
        notes: what a reader must know.
    """

    changes: tuple[Change, ...]
    charge_class: Verdict
    classes: tuple[str, str]
    old: Score
    new: Score
    notes: tuple[str, ...]

    @property
    def worse(self) -> tuple[str, ...]:
        """What is worse, as ``task.metric`` (and ``certificate``)."""
        out = [f"{c.task}.{c.metric.name}" for c in self.changes if c.verdict == "worse"]
        return (*(("certificate",) if self.charge_class == "worse" else ()), *out)

    def count(self, verdict: Verdict) -> int:
        """How many metrics are of that verdict."""
        return sum(c.verdict == verdict for c in self.changes)

    def to_frame(self) -> pd.DataFrame:
        """One row per metric: task, metric, old, new, change, allowed (all in ``unit``), verdict."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "task": c.task,
                    "metric": c.metric.name,
                    "old": c.old,
                    "new": c.new,
                    "change": c.difference,
                    "allowed": c.allowed,
                    "unit": c.metric.unit,
                    "verdict": c.verdict,
                }
                for c in self.changes
            ]
        )

    def __repr__(self) -> str:
        counts = ", ".join(f"{self.count(v)} {v}" for v in ("better", "worse", "same", "not judged"))
        return f"<comparison: {counts}; charge response {self.classes[0]} → {self.classes[1]}>"

    def _repr_html_(self) -> str:
        frame = self.to_frame()
        shown = frame[frame["verdict"].isin(["better", "worse"])]
        return f"<p>{repr(self)[1:-1]}</p>" + shown.to_html(index=False, float_format="{:.3g}".format, na_rep="–")


def joint_half_width(old: MetricRecord, new: MetricRecord, definition: MetricDefinition) -> tuple[float, float]:
    """Half-widths (towards worse, towards better) of the 95 % interval of new − old, in the metric's unit.

    The half-widths of two independent estimates add in quadrature (Zou and Donner 2008, doi:10.1002/sim.3095): for a change towards
    smaller values the old value's lower and the new value's upper one, for a change towards larger values the others. Both entries
    have the same configurations, so their errors are correlated and the true interval is narrower: this errs towards "the same".
    """

    def sides(found: MetricRecord) -> tuple[float, float]:
        if found.value is None or found.interval is None:
            return 0.0, 0.0
        return max(0.0, found.value - found.interval[0]), max(0.0, found.interval[1] - found.value)

    (old_low, old_high), (new_low, new_high) = sides(old), sides(new)
    down, up = math.hypot(old_low, new_high), math.hypot(old_high, new_low)
    return (up, down) if definition.direction == "lower" else (down, up)


def _judge(task: str, definition: MetricDefinition, old: MetricRecord | None, new: MetricRecord | None) -> Change:
    def change(verdict: Verdict, reason: str | None = None, allowed: float | None = None) -> Change:
        return Change(task, definition, old.value if old else None, new.value if new else None, allowed, verdict, reason)

    if definition.direction == "none" or definition.good is None or definition.bad is None:
        return change("not judged", "information")
    if old is None:
        return change("not judged", "only in the new entry")
    if new is None:
        return change("worse", "missing in the new entry")
    if old.value is None:
        return change("better" if new.value is not None and old.applies else "not judged", old.reason)
    if new.value is None:
        # a metric that no longer applies has not become worse, but nothing says that it has not: it fails a comparison
        return change("worse", new.reason or "no value any more")
    towards_worse, towards_better = (
        max(width, NEGLIGIBLE * abs(definition.good - definition.bad)) for width in joint_half_width(old, new, definition)
    )
    worsening = (new.value - old.value) * (1.0 if definition.direction == "lower" else -1.0)
    if worsening > towards_worse:
        return change("worse", allowed=towards_worse)
    if -worsening > towards_better:
        return change("better", allowed=towards_better)
    return change("same", allowed=towards_worse if worsening >= 0 else towards_better)


def _states(entry: Entry) -> set[tuple[str, int, str]]:
    return {(s.defect, s.charge, c) for s in entry.selection.states for c in s.configurations}


def _check_comparable(old: Entry, new: Entry) -> None:
    if old.dataset.sha256 != new.dataset.sha256 or old.dataset.level_of_theory != new.dataset.level_of_theory:
        raise DefectbenchError(
            f"these entries do not compare: made on {old.dataset.id} {old.dataset.sha256[:12]}… ({old.dataset.level_of_theory}) and "
            f"{new.dataset.id} {new.dataset.sha256[:12]}… ({new.dataset.level_of_theory}); evaluate both on one dataset",
            code="not-comparable",
        )
    if old.provenance.protocol != new.provenance.protocol:
        raise DefectbenchError(
            f"these entries do not compare: relaxed with protocols {old.provenance.protocol.get('name')} and "
            f"{new.provenance.protocol.get('name')}",
            code="not-comparable",
        )
    differing = sorted(_states(old) ^ _states(new))
    if differing:
        defect, charge, configuration = differing[0]
        raise DefectbenchError(
            f"these entries do not compare: {len(differing)} configurations are in one of them only, "
            f"first {ChargeState(defect, charge)} {configuration}; "
            "evaluate both with the same --defect, --charge, --configurations and --suite",
            code="not-comparable",
        )


def compare(old: str | Path | Entry | EntryView, new: str | Path | Entry | EntryView) -> Comparison:
    """Compares two entries metric by metric, e.g. two versions of a model.

    A metric is worse (better) if it lies beyond the old value by more than the joint interval of both, and by more than
    ``NEGLIGIBLE`` of the distance between its anchors. A value that is gone is worse; so is a task that is gone, and a lower class in
    the certificate.

    Args:
        old: the baseline: a folder that ``evaluate`` wrote, or a loaded entry.
        new: the candidate.

    Raises:
        DefectbenchError: they were made on different data, configurations or protocols (code ``not-comparable``).

    Example:
        >>> import defectbench
        >>> folder = "leaderboards/sb2se3-vacancies"
        >>> found = defectbench.compare(f"{folder}/sevennet-0", f"{folder}/sevennet-0")
        >>> found.worse, found.charge_class
        ((), 'same')
    """
    from defectbench.leaderboard.entry_view import record_of
    from defectbench.tasks import get_tasks

    old, new = record_of(old), record_of(new)
    _check_comparable(old, new)
    notes: list[str] = []
    if old.provenance.defectbench != new.provenance.defectbench:
        notes.append(
            f"made with defectbench {old.provenance.defectbench} and {new.provenance.defectbench}: metrics may be defined differently; "
            "'defectbench rescore' brings both to one version"
        )
    changes: list[Change] = []
    known = get_tasks(None)
    unknown = sorted((old.tasks.keys() | new.tasks.keys()) - {t.name for t in known})
    if unknown:
        notes.append(f"tasks that this version does not know are not compared: {', '.join(unknown)}")
    for task in known:
        if task.name not in old.tasks and task.name not in new.tasks:
            continue
        first, second = ({m.name: m for m in e.tasks[task.name].metrics} if task.name in e.tasks else {} for e in (old, new))
        for definition in task.metrics:
            if definition.name not in first and definition.name not in second:
                continue
            changes.append(_judge(task.name, definition, first.get(definition.name), second.get(definition.name)))
    classes = (str(old.certificate["charge_class"]), str(new.certificate["charge_class"]))
    return Comparison(tuple(changes), _judge_class(*classes), classes, score_results(old.tasks), score_results(new.tasks), tuple(notes))


def _judge_class(old: str, new: str) -> Verdict:
    ranks: Sequence[str] = CHARGE_CLASSES
    if old == new:
        return "same"
    if old not in ranks or new not in ranks:
        return "not judged"
    return "better" if ranks.index(new) > ranks.index(old) else "worse"
