"""What every task keeps: its metrics are declared in data, each gets a value or a reason, and other packages can add tasks."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from refusals import raises_code

from defectbench.base.errors import DefectbenchError, UnknownNameError
from defectbench.entries.figures import draw_entry
from defectbench.entries.folder import read_entry
from defectbench.scoring.intervals import bootstrap_interval, grouped_interval, mean_interval
from defectbench.scoring.metrics import Metrics, NotAvailable
from defectbench.scoring.task import MetricDefinition, read_metrics
from defectbench.tasks import get_tasks

ERROR = MetricDefinition("error", "error", "Å", "lower", 0.0, 0.2, "How far off.")
GONE = NotAvailable("the model failed", applies=True)

METRICS_FILE = """
weight: 2
metrics:
  error:
    label: error
    unit: Å
    direction: lower
    good: 0.0
    bad: 0.2
    weight: 1
    level_of_theory: dataset
    tooltip: How far off.
  steps: {label: steps, unit: "1", direction: none, level_of_theory: none, tooltip: How long.}
"""


def test_what_counts_says_how_it_is_calculated_and_where_it_comes_from():
    counted = [(task.name, metric) for task in get_tasks() for metric in task.metrics if metric.weight > 0]
    assert len(counted) > 20
    assert [(name, metric.name) for name, metric in counted if not (metric.formula and metric.source)] == []


def test_metrics_are_read_in_the_order_of_the_file(tmp_path):
    (tmp_path / "metrics.yaml").write_text(METRICS_FILE)
    metrics, weight = read_metrics(tmp_path / "metrics.yaml")
    assert [m.name for m in metrics] == ["error", "steps"]
    assert (weight, metrics[0].weight, metrics[1].weight, metrics[1].good) == (2.0, 1.0, 0.0, None)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("weight: 2", "weight: -1"),
        ("    bad: 0.2\n", ""),
        ("direction: lower", "direction: higher"),
        ("direction: lower", "direction: none"),
        ("unit: Å", "units: Å"),
        ("  steps:", "  error:"),
        ("weight: 2", "weight: ["),
    ],
    ids=["negative weight", "no anchor", "anchors against the direction", "anchors without a direction", "unknown key", "twice", "no YAML"],
)
def test_a_metrics_file_is_a_closed_schema(tmp_path, old, new):
    (tmp_path / "metrics.yaml").write_text(METRICS_FILE.replace(old, new, 1))
    with pytest.raises(DefectbenchError):
        read_metrics(tmp_path / "metrics.yaml")


def collected(add):
    metrics = Metrics([ERROR])
    add(metrics)
    (value,) = metrics.done()
    return value


def test_a_mean_counts_misses_and_large_values_as_the_cap():
    value = collected(lambda m: m.mean("error", [0.1, None, 7.0], cap=1.0))
    assert value.value == pytest.approx(0.7)
    assert value.interval == mean_interval(np.array([0.1, 1.0, 1.0]))


def test_a_mean_over_groups_draws_each_group_together():
    value = collected(lambda m: m.mean("error", [1.0, 2.0, 6.0], labels=["a", "a", "b"]))
    table = np.array([[1.0, 1.0], [2.0, 1.0], [6.0, 1.0]])
    assert value.value == pytest.approx(3.0)
    assert value.interval == grouped_interval(table, ["a", "a", "b"], lambda t: float(t[:, 0].sum() / t[:, 1].sum()))[1]


def test_a_median_has_an_interval():
    value = collected(lambda m: m.median("error", [1.0, 5.0, 9.0]))
    assert value.value == 5.0
    assert value.interval == bootstrap_interval(np.array([1.0, 5.0, 9.0]), lambda v: float(np.median(v)))


@pytest.mark.parametrize(
    ("add", "reason", "applies"),
    [
        (lambda m: m.mean("error", []), "no charge state with a reference was selected", False),
        (lambda m: m.mean("error", [], empty=GONE), GONE.reason, True),
        (lambda m: m.mean("error", [1.0], lacking=GONE), GONE.reason, True),
        (lambda m: m.median("error", [], empty=GONE), GONE.reason, True),
        (lambda m: m.statistic("error", np.zeros((0, 2)), np.mean, labels=[], summed=True, empty=GONE), GONE.reason, True),
        (lambda m: m.lacking("error", GONE), GONE.reason, True),
    ],
)
def test_without_a_value_there_is_a_reason(add, reason, applies):
    value = collected(add)
    assert (value.value, value.interval, value.reason, value.applies) == (None, None, reason, applies)


def test_every_metric_gets_one_value_and_no_other_gets_any():
    metrics = Metrics([ERROR])
    with pytest.raises(LookupError):
        metrics.done()
    with pytest.raises(LookupError):
        metrics.value("mistake", 1.0)
    metrics.value("error", 1.0)
    with pytest.raises(LookupError):
        metrics.value("error", 2.0)


PLUGIN = """
from defectbench.scoring.task import Task, TaskResult

TASK = Task({name!r}, "Elsewhere", "", (), lambda _: (), lambda _: TaskResult("elsewhere", (), ()), lambda *_: [], weight=5.0)
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Installs a distribution that offers a task by an entry point."""

    def install(code, point="elsewhere"):
        (tmp_path / "elsewhere_task.py").write_text(code)
        info = tmp_path / "elsewhere_task-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere-task\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[defectbench.tasks]\n{point} = elsewhere_task:TASK\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "elsewhere_task", raising=False)

    yield install
    sys.modules.pop("elsewhere_task", None)


def test_another_package_adds_a_task(plugin):
    before = get_tasks()
    plugin(PLUGIN.format(name="elsewhere"))
    assert [t.name for t in get_tasks()] == [*(t.name for t in before), "elsewhere"]
    assert [t.name for t in get_tasks(["elsewhere", "relax"])] == ["elsewhere", "relax"]


def test_a_task_from_elsewhere_does_not_change_the_overall_score(plugin):
    plugin(PLUGIN.format(name="elsewhere"))
    assert get_tasks(["elsewhere"])[0].weight == 0.0


@pytest.mark.parametrize(
    ("code", "point"),
    [("raise RuntimeError('broken')", "elsewhere"), ("TASK = 1", "elsewhere"), (PLUGIN.format(name="relax"), "relax"), ("", "elsewhere")],
    ids=["raises", "not a task", "a name that is taken", "no TASK"],
)
def test_a_task_that_cannot_be_used_is_refused(plugin, code, point):
    plugin(code, point)
    with raises_code("bad-task", "elsewhere-task"):
        get_tasks()
    assert get_tasks(["relax"])[0].name == "relax"  # the tasks that ship do not depend on it


def test_an_unknown_task_is_refused():
    with pytest.raises(UnknownNameError):
        get_tasks(["relaxed"])


def test_all_figures_of_an_entry_are_drawn_again_from_its_folder_alone(tmp_path):
    source = Path(__file__).parents[2] / "leaderboards" / "sb2se3-vacancies" / "chgnet-0.3.0"
    entry = read_entry(source)
    kept = entry.model_copy(update={"tasks": {name: entry.tasks[name] for name in ("search", "cost")}})
    (tmp_path / "entry.json").write_text(kept.model_dump_json())
    drawn = {path.relative_to(tmp_path).as_posix() for path in draw_entry(tmp_path)}
    assert drawn == {f"figures/{stem}.{kind}" for stem in ("search", "cost") for kind in ("png", "svg")}
