"""Scores: computed whenever they are shown, from an entry's metrics and the anchors and weights that the tasks declare; never stored.

A metric's score is linear between its bad anchor (0) and its good anchor (1) and clamped. A task's score is the weighted mean of its
metrics' scores, the overall score that of the tasks' scores. See ``docs/scores.md``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from defectbench.entries.schema import MetricRecord, TaskRecord
    from defectbench.scoring.task import Aspect, MetricDefinition, MetricValue, Task, TaskResult

Interval = tuple[float, float]
Status = Literal["scored", "failed", "left out", "information"]


@dataclass(frozen=True, repr=False)
class MetricScore:
    """How a metric counts.

    Attributes:
        definition: name, unit, direction and anchors.
        value: in the metric's unit; None if there is none.
        interval: bootstrap 95 % interval of the value.
        status: ``scored``; ``failed`` (no value though the metric applies: scores 0); ``left out`` (does not apply);
            ``information`` (nothing is better or worse about it).
        score: 0 … 1; None if left out or information.
        bounds: score at the ends of the interval; (score, score) without one.
        weight: in the task's score.
        reason: why there is no value.

    Example:
        >>> import defectbench
        >>> score = defectbench.load_entry("leaderboards/sb2se3-vacancies/chgnet-0.3.0").score
        >>> rmsd = score.task("relax").metric("rmsd")
        >>> rmsd.counts, rmsd.definition.unit
        (True, 'Å')
    """

    definition: MetricDefinition
    value: float | None
    interval: Interval | None
    status: Status
    score: float | None
    bounds: Interval | None
    weight: float
    reason: str | None

    @property
    def counts(self) -> bool:
        """Whether it enters the task's score."""
        return self.score is not None and self.weight > 0

    def __repr__(self) -> str:
        return f"<score of {self.definition.name}: {_in_words(self.score, self.bounds)}; {self.status}>"


@dataclass(frozen=True, repr=False)
class TaskScore:
    """A task's score.

    Attributes:
        task: name.
        title: for headings.
        metrics: all of the task's metrics, in its order.
        weight: in the overall score.
        score: weighted mean of the metrics that count; None if none does.
        bounds: the same mean of the metrics' bounds: all at their worse end, all at their better end.
        coverage: share of the metrics' weight that counts.
        reason: why there is no score.

    Example:
        >>> import defectbench
        >>> score = defectbench.load_entry("leaderboards/sb2se3-vacancies/chgnet-0.3.0").score
        >>> [(one.task, one.counts) for one in score.tasks if one.task in ("relax", "cost")]
        [('relax', True), ('cost', False)]
    """

    task: str
    title: str
    metrics: tuple[MetricScore, ...]
    weight: float
    score: float | None
    bounds: Interval | None
    coverage: float
    reason: str | None

    @property
    def counts(self) -> bool:
        """Whether it enters the overall score."""
        return self.score is not None and self.weight > 0

    def metric(self, name: str) -> MetricScore:
        """The metric of that name; KeyError if the task has none.

        Example:
            >>> import defectbench
            >>> score = defectbench.load_entry("leaderboards/sb2se3-vacancies/chgnet-0.3.0").score
            >>> score.task("relax").metric("rmsd").status
            'scored'
        """
        for item in self.metrics:
            if item.definition.name == name:
                return item
        raise KeyError(name)

    def __repr__(self) -> str:
        counting = sum(m.counts for m in self.metrics)
        return f"<score of {self.task}: {_in_words(self.score, self.bounds)}; {counting} of {len(self.metrics)} metrics count>"


@dataclass(frozen=True, repr=False)
class Score:
    """An overall score.

    Attributes:
        tasks: every task that ran, in the tasks' order.
        overall: weighted mean of the tasks that count; None if none does.
        bounds: the same mean of the tasks' bounds.
        coverage: share of the declared weight that counts; what is left out or did not run is missing from it.

    Example:
        >>> import defectbench
        >>> score = defectbench.load_entry("leaderboards/sb2se3-vacancies/chgnet-0.3.0").score
        >>> low, high = score.bounds
        >>> 0.0 <= low <= score.overall <= high <= 1.0
        True
    """

    tasks: tuple[TaskScore, ...]
    overall: float | None
    bounds: Interval | None
    coverage: float

    def task(self, name: str) -> TaskScore | None:
        """The task of that name; None if it did not run.

        Example:
            >>> import defectbench
            >>> score = defectbench.load_entry("leaderboards/sb2se3-vacancies/chgnet-0.3.0").score
            >>> score.task("relax").title
            'Ground-state structures'
        """
        return next((t for t in self.tasks if t.task == name), None)

    def __repr__(self) -> str:
        tasks = ", ".join(f"{t.task} {_in_words(t.score)}" for t in self.tasks)
        return f"<score {_in_words(self.overall, self.bounds)}; tasks: {tasks}>"


def _in_words(score: float | None, bounds: Interval | None = None) -> str:
    """A score to two digits, ``–`` for none; with its bounds where there are some."""
    between = f" ({bounds[0]:.2f} to {bounds[1]:.2f})" if bounds else ""
    return "–" if score is None else f"{score:.2f}{between}"


def anchored(value: float, bad: float, good: float) -> float:
    """(value − bad) / (good − bad), clamped to [0, 1]; a value that is not a number scores 0.

    Raises:
        ValueError: the anchors are equal.
    """
    if good == bad:
        raise ValueError("good and bad anchor are equal")
    if math.isnan(value):
        return 0.0
    return min(1.0, max(0.0, (value - bad) / (good - bad)))


def score_metric(definition: MetricDefinition, found: MetricValue | MetricRecord | None) -> MetricScore:
    """Scores one metric; ``found`` is None if the result does not hold it (an entry of an older version): left out."""
    weight = definition.weight
    value, interval, reason, applies = (
        (None, None, None, False) if found is None else (found.value, found.interval, found.reason, found.applies)
    )
    if definition.direction == "none" or definition.good is None or definition.bad is None:
        return MetricScore(definition, value, interval, "information", None, None, 0.0, reason)
    if value is None and not applies:
        reason = reason or ("not in this entry: score it again with 'defectbench rescore'" if found is None else "does not apply")
        return MetricScore(definition, None, None, "left out", None, None, weight, reason)
    if value is None or not math.isfinite(value):
        return MetricScore(definition, None, None, "failed", 0.0, (0.0, 0.0), weight, reason or "no value")
    bad, good = definition.bad, definition.good
    point = anchored(value, bad, good)
    ends = (point, point) if interval is None else (anchored(interval[0], bad, good), anchored(interval[1], bad, good))
    # a percentile interval need not hold the value itself
    return MetricScore(definition, value, interval, "scored", point, (min(point, *ends), max(point, *ends)), weight, reason)


def _mean(items: Iterable[tuple[float, float]]) -> float | None:
    pairs = list(items)
    total = sum(w for w, _ in pairs)
    return sum(w * x for w, x in pairs) / total if total > 0 else None


def _combine(items: Sequence[tuple[float, float | None, Interval | None]], declared: float) -> tuple[float | None, Interval | None, float]:
    """Weighted mean, mean bounds and coverage of (weight, score, bounds)."""
    have = [(w, s, b) for w, s, b in items if w > 0 and s is not None and b is not None]
    score = _mean((w, s) for w, s, _ in have)
    low, high = _mean((w, b[0]) for w, _, b in have), _mean((w, b[1]) for w, _, b in have)
    coverage = sum(w for w, _, _ in have) / declared if declared > 0 else 0.0
    return score, None if low is None or high is None else (low, high), coverage


def score_task(task: Task, result: TaskResult | TaskRecord, only: Iterable[str] | None = None) -> TaskScore:
    """Scores one task's outcome.

    Args:
        task: its definition.
        result: the metrics.
        only: leave out all other metrics (for comparison with a baseline that has only these).
    """
    found = {m.name: m for m in result.metrics}
    names = None if only is None else set(only)
    metrics = tuple(score_metric(d, found.get(d.name)) for d in task.metrics if names is None or d.name in names)
    score, bounds, coverage = _combine([(m.weight, m.score, m.bounds) for m in metrics], sum(d.weight for d in task.metrics))
    reason = None
    if score is None:
        reason = next((m.reason for m in metrics if m.status == "left out" and m.weight > 0), "none of its metrics counts")
    return TaskScore(task.name, task.title, metrics, task.weight, score, bounds, coverage, reason)


def _overall(tasks: Sequence[TaskScore]) -> Score:
    from defectbench.tasks import get_tasks

    declared = sum(task.weight for task in get_tasks())
    score, bounds, _ = _combine([(t.weight, t.score, t.bounds) for t in tasks], declared)
    coverage = sum(t.weight * t.coverage for t in tasks if t.counts) / declared if declared > 0 else 0.0
    return Score(tuple(tasks), score, bounds, coverage)


def _tasks_of(results: Mapping[str, TaskResult | TaskRecord]) -> list[Task]:
    from defectbench.tasks import get_tasks

    return [task for task in get_tasks(None) if task.name in results]


def score_results(results: Mapping[str, TaskResult | TaskRecord]) -> Score:
    """Scores an entry's ``tasks``, or the results of :class:`~defectbench.evaluation.Evaluation`.

    Args:
        results: task name → outcome. Tasks that this version does not know are ignored.
    """
    return _overall([score_task(task, results[task.name]) for task in _tasks_of(results)])


def _as_result(task: str, baseline: Mapping[str, float | None]) -> TaskResult:
    """A baseline as if a model had given it; what it has not does not apply."""
    from defectbench.scoring.task import MetricValue, TaskResult

    reason = "a baseline without a model has no such value"
    values = [(name, value) for name, value in baseline.items() if value is not None]
    return TaskResult(task, tuple(MetricValue(name, value, None, reason, False) for name, value in values), ())


def aspects(score: Score) -> dict[Aspect, tuple[float, float | None]]:
    """The parts of the score about structures, energies and forces: share of the counted weight, and mean score.

    Shares are of the weights that count in this score, so that they add up to 1 if every metric that counts has an aspect.
    """
    total = sum(t.weight for t in score.tasks if t.counts)
    items: dict[Aspect, list[tuple[float, float]]] = {"geometry": [], "energies": [], "forces": []}
    for task in score.tasks:
        counted = [m for m in task.metrics if m.counts] if task.counts else []
        within = sum(m.weight for m in counted)
        for metric in counted:
            if metric.definition.aspect is not None and metric.score is not None:
                items[metric.definition.aspect].append((task.weight * metric.weight / within / total, metric.score))
    return {aspect: (sum(w for w, _ in found), _mean(found)) for aspect, found in items.items()}


def uninformed(task: str, result: TaskResult | TaskRecord) -> dict[str, Mapping[str, float | None]]:
    """The baselines of a task's outcome that use no DFT of the answer or of another charge."""
    from defectbench.tasks import get_tasks

    informed = next((t.informed for t in get_tasks() if t.name == task), ())
    return {label: values for label, values in result.baselines.items() if label not in informed}


def score_baselines(results: Mapping[str, TaskResult | TaskRecord], *, informed: bool = False) -> dict[str, Score]:
    """Scores each baseline on the metrics that it has; label → score, in the order in which tasks name them.

    Args:
        results: task name → outcome.
        informed: those that use DFT of the answer or of another charge, instead of those that use none.
    """
    by_label: dict[str, list[TaskScore]] = {}
    for task in _tasks_of(results):
        for label, values in results[task.name].baselines.items():
            if (label in task.informed) != informed:
                continue
            scored = score_task(task, _as_result(task.name, values))
            if scored.score is not None:
                by_label.setdefault(label, []).append(scored)
    return {label: _overall(tasks) for label, tasks in by_label.items()}


def best_baselines(results: Mapping[str, TaskResult | TaskRecord], *, informed: bool = False) -> tuple[dict[str, float], float | None]:
    """What one gets without a model who takes the best baseline of each task.

    Args:
        results: task name → outcome.
        informed: the best of those that use DFT of the answer or of another charge, instead of those that use none.

    Returns:
        task → its best baseline's score, and their weighted mean over the tasks that count in these results' own overall score, in which
        a task without a baseline gives 0; None if no task counts.
    """
    best: dict[str, float] = {}
    for score in score_baselines(results, informed=informed).values():
        for task in score.tasks:
            best[task.task] = max(best.get(task.task, 0.0), task.score or 0.0)
    counted = [t for t in score_results(results).tasks if t.counts]
    return best, _mean((t.weight, best.get(t.task, 0.0)) for t in counted)


@dataclass(frozen=True)
class Gain:
    """What a model adds to the best baseline of a task, like with like: both on the metrics that the baseline has.

    Attributes:
        task: name.
        baseline: label of the baseline that leaves the model the least.
        model: the model's score on those metrics.
        score: the baseline's.
        weight: the task's, in the overall score.
    """

    task: str
    baseline: str
    model: float
    score: float
    weight: float

    @property
    def value(self) -> float:
        """Model minus baseline."""
        return self.model - self.score


def gains(results: Mapping[str, TaskResult | TaskRecord]) -> dict[str, Gain]:
    """Task → gain over its best uninformed baseline; tasks without a scored one, and those that do not count, are left out."""
    out: dict[str, Gain] = {}
    for task in _tasks_of(results):
        found: list[Gain] = []
        for label, values in results[task.name].baselines.items():
            if label in task.informed:
                continue
            alone = _as_result(task.name, values)
            baseline = score_task(task, alone)
            model = score_task(task, results[task.name], only=[m.name for m in alone.metrics])
            if baseline.score is not None and model.score is not None and baseline.weight > 0:
                found.append(Gain(task.name, label, model.score, baseline.score, task.weight))
        if found:
            out[task.name] = min(found, key=lambda g: (g.value, g.baseline))
    return out


def mean_gain(found: Mapping[str, Gain]) -> float | None:
    """Mean gain over the tasks that have one, by the tasks' weights; None if there is none."""
    return _mean((gain.weight, gain.value) for gain in found.values())
