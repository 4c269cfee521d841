"""Comparison of two entries, for a regression gate: is the candidate worse than the baseline, beyond what chance explains?

Both are scored again, by this version and on the configurations that both have, and each metric is resampled in both together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from defectbench.base.errors import DefectbenchError, UnknownNameError
from defectbench.calculations.plan import SelectedState
from defectbench.calculations.requests import PROTOCOL
from defectbench.leaderboard.changes import Changes, changes_of
from defectbench.leaderboard.entry_view import EntryView, load_entry
from defectbench.leaderboard.scores import Score, score_results
from defectbench.scoring.paired import CONFIDENCE, Difference, paired_difference

if TYPE_CHECKING:
    import pandas as pd

    from defectbench.datasets.dataset import Dataset
    from defectbench.entries.schema import Entry
    from defectbench.scoring.task import MetricDefinition, MetricValue, Task, TaskResult

Verdict = Literal["better", "worse", "same", "not judged"]

NEGLIGIBLE = 0.01
"""A change of less than this fraction of the distance between a metric's anchors is none, whatever its interval."""

CHARGE_CLASSES = ("charge-blind", "energy-only", "charge-aware")
"""Worst first."""

CERTIFICATE = "certificate"
"""Stands for the charge class among the names of metrics."""


@dataclass(frozen=True, repr=False)
class Change:
    """One metric in two entries.

    Attributes:
        task: name.
        metric: its definition.
        baseline: value in the baseline; None if there is none.
        candidate: value in the candidate.
        interval: of candidate − baseline; None if nothing can be resampled.
        paired: whether both were resampled together; else the interval is wider than necessary.
        tolerance: a change up to this counts as none, in the metric's unit.
        verdict: ``worse`` and ``better`` exceed the tolerance with an interval that excludes 0; ``not judged`` has no interval.
        gates: whether ``worse`` is a regression: the metric counts in the score, or was chosen by name.
        reason: for what cannot be told from the numbers.

    Example:
        >>> from defectbench.leaderboard.comparison import Change
        >>> from defectbench.tasks import get_tasks
        >>> rmsd = get_tasks(["relax"])[0].metric("rmsd")
        >>> change = Change("relax", rmsd, 0.25, 0.5, (0.125, 0.375), paired=True, tolerance=0.004, verdict="worse", gates=True)
        >>> change, change.difference, change.regression
        (<relax.rmsd: 0.25 → 0.5 Å, worse>, 0.25, True)
        >>> change.name
        'relax.rmsd'
    """

    task: str
    metric: MetricDefinition
    baseline: float | None
    candidate: float | None
    interval: tuple[float, float] | None
    paired: bool
    tolerance: float
    verdict: Verdict
    gates: bool
    reason: str | None = None

    @property
    def name(self) -> str:
        """``task.metric``."""
        return f"{self.task}.{self.metric.name}"

    @property
    def difference(self) -> float | None:
        """candidate − baseline, in the metric's unit."""
        return None if self.baseline is None or self.candidate is None else self.candidate - self.baseline

    @property
    def regression(self) -> bool:
        """Whether it fails the gate."""
        return self.gates and self.verdict == "worse"

    def __repr__(self) -> str:
        old, new = ("–" if v is None else format(v, ".3g") for v in (self.baseline, self.candidate))
        unit = "" if self.metric.unit == "1" else f" {self.metric.unit}"
        return f"<{self.name}: {old} → {new}{unit}, {self.verdict}>"


@dataclass(frozen=True)
class Side:
    """One of the two entries.

    Attributes:
        model: id.
        name: of the model.
        configurations: how many it has.
        score: on what both have.
    """

    model: str
    name: str
    configurations: int
    score: Score


@dataclass(frozen=True, repr=False)
class Comparison:
    """Two entries, metric by metric, on what both have.

    Attributes:
        baseline: what is compared with.
        candidate: what may be worse.
        dataset: id.
        states: how many charge states both have.
        configurations: how many configurations both have.
        changes: in the tasks' order.
        charge_class: verdict on the certificate's class.
        classes: (baseline's, candidate's) class.
        found: charge states, basins, levels and speed.
        confidence: of the intervals.
        notes: what a reader must know.

    Example:
        >>> import defectbench
        >>> entry = defectbench.load_entry("leaderboards/sb2se3-vacancies/qet-matq")
        >>> found = defectbench.compare(entry, entry, tasks=["cost"])
        >>> found.passed, found.regressions, found.classes
        (True, (), ('energy-only', 'energy-only'))
        >>> found.candidate.model, found.candidate.configurations == found.configurations
        ('qet-matq', True)
    """

    baseline: Side
    candidate: Side
    dataset: str
    states: int
    configurations: int
    changes: tuple[Change, ...]
    charge_class: Verdict
    classes: tuple[str, str]
    found: Changes
    confidence: float
    notes: tuple[str, ...]

    @property
    def regressions(self) -> tuple[str, ...]:
        """What fails the gate, as ``task.metric``, and ``certificate`` for a lower charge class."""
        lost = (CERTIFICATE,) if self.charge_class == "worse" else ()
        return (*lost, *(c.name for c in self.changes if c.regression))

    @property
    def passed(self) -> bool:
        """Whether there is no regression."""
        return not self.regressions

    def count(self, verdict: Verdict) -> int:
        """How many metrics are of that verdict.

        Example:
            >>> import defectbench
            >>> entry = defectbench.load_entry("leaderboards/sb2se3-vacancies/qet-matq")
            >>> defectbench.compare(entry, entry, tasks=["cost"]).count("worse")
            0
        """
        return sum(c.verdict == verdict for c in self.changes)

    def to_frame(self) -> pd.DataFrame:
        """One row per metric: task, metric, baseline, candidate, change, low and high (all in ``unit``), verdict, regression.

        Example:
            >>> import defectbench
            >>> entry = defectbench.load_entry("leaderboards/sb2se3-vacancies/qet-matq")
            >>> bool(defectbench.compare(entry, entry, tasks=["cost"]).to_frame()["regression"].any())
            False
        """
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "task": c.task,
                    "metric": c.metric.name,
                    "baseline": c.baseline,
                    "candidate": c.candidate,
                    "change": c.difference,
                    "low": c.interval[0] if c.interval else None,
                    "high": c.interval[1] if c.interval else None,
                    "unit": c.metric.unit,
                    "verdict": c.verdict,
                    "regression": c.regression,
                }
                for c in self.changes
            ]
        )

    def __repr__(self) -> str:
        counts = ", ".join(f"{self.count(v)} {v}" for v in ("better", "worse", "same", "not judged"))
        found = "no regression" if self.passed else f"{len(self.regressions)} regressions"
        return f"<comparison: {found}; {counts}; charge response {self.classes[0]} → {self.classes[1]}>"

    def _repr_html_(self) -> str:
        from html import escape

        frame = self.to_frame()
        shown = frame[frame["verdict"].isin(["better", "worse"])]
        return f"<p>{escape(repr(self)[1:-1])}</p>" + shown.to_html(index=False, float_format="{:.3g}".format, na_rep="–")


def compare(
    baseline: str | Path | EntryView,
    candidate: str | Path | EntryView,
    dataset: str | Path | Dataset | None = None,
    *,
    metrics: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    tolerances: Mapping[str, float] | None = None,
    confidence: float = CONFIDENCE,
) -> Comparison:
    """Compares two entries metric by metric, e.g. two versions of a model, on the configurations that both have.

    A metric is worse (better) if the interval of the paired difference excludes 0 on that side, and the difference exceeds the tolerance.
    It is a regression if the metric counts in the score. So is a value that the candidate fails to give, and a lower charge class.

    Args:
        baseline: a folder that ``evaluate`` wrote, or a loaded entry.
        candidate: what may be worse.
        dataset: the dataset of both, if it is not found by its name.
        metrics: only these, by name or as ``task.metric``; what is named can fail the gate whatever its weight.
        tasks: only these.
        tolerances: ``task.metric`` → what counts as no change, in the metric's unit; by default 1 % of the distance between its anchors.
        confidence: of the intervals.

    Raises:
        DefectbenchError: the entries share nothing, are of other data or protocols (code ``not-comparable``), or cannot be scored again.
        UnknownNameError: a metric or task that both do not have.

    Example:
        >>> import defectbench
        >>> entries = "leaderboards/sb2se3-vacancies"
        >>> found = defectbench.compare(f"{entries}/qet-matq", f"{entries}/chgnet-0.3.0", tasks=["cost"])
        >>> found.regressions  # it does not respond to charge
        ('certificate',)
    """
    from defectbench.entries.rescoring import dataset_of

    views = [one if isinstance(one, EntryView) else load_entry(one) for one in (baseline, candidate)]
    old, new = (view.record for view in views)
    if not 0.5 <= confidence < 1:
        raise DefectbenchError(f"a confidence of {confidence:g} makes no interval; give one from 0.5 to below 1, e.g. 0.95")
    _check_comparable(old, new)
    states = shared_states(old, new)
    chosen, notes = _shared_tasks(old, new, tasks)
    check_names(chosen, metrics, tolerances)
    names = [task.name for task in chosen]
    data = dataset_of(dataset, old.dataset.id)  # once for both
    before, after = (_results(view, data, states, names) for view in views)
    judged = judge(chosen, before, after, metrics=metrics, tolerances=tolerances or {}, confidence=confidence)
    classes = (str(old.certificate["charge_class"]), str(new.certificate["charge_class"]))
    sides = [_side(view, found) for view, found in zip(views, (before, after), strict=True)]
    count = sum(len(s.configurations) for s in states)
    for side, what in zip(sides, ("baseline", "candidate"), strict=True):
        if side.configurations > count:
            notes.append(f"{side.configurations - count} of {side.configurations} configurations of the {what} are not in the other entry")
    return Comparison(
        baseline=sides[0],
        candidate=sides[1],
        dataset=old.dataset.id,
        states=len(states),
        configurations=count,
        changes=judged,
        charge_class=_judge_class(*classes),
        classes=classes,
        found=changes_of(before, after, same_hardware=_same_hardware(old, new)),
        confidence=confidence,
        notes=tuple(notes),
    )


def shared_states(first: Entry, second: Entry) -> tuple[SelectedState, ...]:
    """The charge states and configurations that both entries have.

    Raises:
        DefectbenchError: there are none (code ``not-comparable``).
    """
    other = {(s.defect, s.charge): set(s.configurations) for s in second.selection.states}
    both = [
        SelectedState(s.defect, s.charge, tuple(c for c in s.configurations if c in other.get((s.defect, s.charge), ())))
        for s in first.selection.states
    ]
    found = tuple(s for s in both if s.configurations)
    if not found:
        raise DefectbenchError(
            "these entries do not compare: no configuration is in both; evaluate both with the same --suite, --defect and --charge",
            code="not-comparable",
        )
    return found


def judge(
    tasks: Sequence[Task],
    baseline: Mapping[str, TaskResult],
    candidate: Mapping[str, TaskResult],
    *,
    metrics: Sequence[str] | None = None,
    tolerances: Mapping[str, float] | None = None,
    confidence: float = CONFIDENCE,
) -> tuple[Change, ...]:
    """Compares what two models reach in some tasks, scored on the same configurations; arguments as of :func:`compare`.

    Raises:
        UnknownNameError: a metric that no task has.
    """
    check_names(tasks, metrics, tolerances)
    out = []
    for task, metric, name in _named(tasks):
        if metrics and name not in metrics and metric.name not in metrics:
            continue
        first, second = (next((m for m in found[task.name].metrics if m.name == metric.name), None) for found in (baseline, candidate))
        gates = bool(metrics) or (metric.weight > 0 and task.weight > 0)
        out.append(_judge(task.name, metric, first, second, gates, (tolerances or {}).get(name), confidence))
    return tuple(out)


def _named(tasks: Sequence[Task]) -> list[tuple[Task, MetricDefinition, str]]:
    return [(task, metric, f"{task.name}.{metric.name}") for task in tasks for metric in task.metrics]


def check_names(tasks: Sequence[Task], metrics: Sequence[str] | None, tolerances: Mapping[str, float] | None) -> None:
    """Refuses metrics that no task has, before anything is scored; arguments as of :func:`compare`.

    Raises:
        UnknownNameError: there is one.
    """
    known = [name for _, _, name in _named(tasks)]
    short = {metric.name for _, metric, _ in _named(tasks)}
    for name in metrics or ():
        if name not in known and name not in short:
            raise UnknownNameError("metric", name, [*known, *sorted(short)])
    for name in tolerances or {}:
        if name not in known:
            raise UnknownNameError("metric", name, known)


def _judge(
    task: str,
    metric: MetricDefinition,
    old: MetricValue | None,
    new: MetricValue | None,
    gates: bool,
    allowed: float | None,
    confidence: float,
) -> Change:
    if allowed is None:
        allowed = 0.0 if metric.good is None or metric.bad is None else NEGLIGIBLE * abs(metric.good - metric.bad)
    tolerance = allowed

    def change(verdict: Verdict, reason: str | None = None, found: Difference | None = None) -> Change:
        first, second = old.value if old else None, new.value if new else None
        interval, paired = (found.interval, found.paired) if found else (None, False)
        return Change(task, metric, first, second, interval, paired, tolerance, verdict, gates, reason)

    if old is None or new is None or (old.value is None and new.value is None):
        return change("not judged", next((m.reason for m in (new, old) if m is not None and m.reason), "no value"))
    if new.value is None:
        return change("worse" if new.applies and metric.direction != "none" else "not judged", new.reason or "no value")
    if old.value is None:
        return change("better" if old.applies and metric.direction != "none" else "not judged", f"baseline: {old.reason or 'no value'}")
    found = None if old.sample is None or new.sample is None else paired_difference(old.sample, new.sample, confidence)
    if metric.direction == "none":
        return change("not judged", "information", found)
    if found is None or found.interval is None:
        return change("not judged", "no interval: one value", found)
    low, high = found.interval if metric.direction == "lower" else (-found.interval[1], -found.interval[0])
    if low > 0 and abs(found.value) > tolerance:
        return change("worse", found=found)
    if high < 0 and abs(found.value) > tolerance:
        return change("better", found=found)
    return change("same", found=found)


def _check_comparable(old: Entry, new: Entry) -> None:
    if old.dataset.sha256 != new.dataset.sha256 or old.dataset.level_of_theory != new.dataset.level_of_theory:
        raise DefectbenchError(
            f"these entries do not compare: made on {old.dataset.id} {old.dataset.sha256[:12]}… ({old.dataset.level_of_theory}) and "
            f"{new.dataset.id} {new.dataset.sha256[:12]}… ({new.dataset.level_of_theory}); evaluate both on one dataset",
            code="not-comparable",
        )
    settings = [{**PROTOCOL.to_json(), **entry.provenance.protocol} for entry in (old, new)]
    # its name also says how an entry is scored, and both are scored again
    differing = sorted(name for name in settings[0] if name != "name" and settings[0][name] != settings[1][name])
    if differing:
        said = ", ".join(f"{name} {settings[0][name]} and {settings[1][name]}" for name in differing)
        raise DefectbenchError(
            f"these entries do not compare: relaxed with other settings ({said}); evaluate both with one version", code="not-comparable"
        )


def _shared_tasks(old: Entry, new: Entry, wanted: Sequence[str] | None) -> tuple[tuple[Task, ...], list[str]]:
    from defectbench.tasks import get_tasks

    known = {task.name: task for task in get_tasks()}
    both = [name for name in known if name in old.tasks and name in new.tasks]
    for name in wanted or ():
        if name not in both:
            raise UnknownNameError("task of both entries", name, both)
    if not both:
        raise DefectbenchError("these entries do not compare: no task is in both", code="not-comparable")
    alone = sorted(old.tasks.keys() ^ new.tasks.keys())
    notes = [f"only in one entry, not compared: {', '.join(alone)}"] if alone and not wanted else []
    return tuple(known[name] for name in both if not wanted or name in wanted), notes


def _results(view: EntryView, data: Dataset, states: Sequence[SelectedState], tasks: Sequence[str]) -> dict[str, TaskResult]:
    from defectbench.entries.rescoring import stored_scoring

    _, scored, chosen = stored_scoring(view.folder, data, states=states, tasks=tasks)
    return {task.name: task.score(scored) for task in chosen}


def _side(view: EntryView, results: Mapping[str, TaskResult]) -> Side:
    model = view.record.model
    return Side(model.id, model.name, len(view.record.configurations), score_results(results))


def _same_hardware(old: Entry, new: Entry) -> bool:
    from defectbench.leaderboard.pareto import hardware_of

    return hardware_of(old) == hardware_of(new)


def _judge_class(old: str, new: str) -> Verdict:
    if old == new:
        return "same"
    if old not in CHARGE_CLASSES or new not in CHARGE_CLASSES:
        return "not judged"
    return "better" if CHARGE_CLASSES.index(new) > CHARGE_CLASSES.index(old) else "worse"
