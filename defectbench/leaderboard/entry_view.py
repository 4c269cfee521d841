"""An entry in hand: what a notebook or script reads, tabulates and draws."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from defectbench.base.errors import DefectbenchError, UnknownNameError
from defectbench.leaderboard.scores import MetricScore, Score, TaskScore, score_results
from defectbench.leaderboard.verdict import verdict

if TYPE_CHECKING:
    import pandas as pd
    from ase import Atoms

    from defectbench.datasets.dataset import Dataset
    from defectbench.entries.schema import Entry, TaskRecord


@dataclass(frozen=True)
class Metric:
    """One number of an entry.

    Attributes:
        name: as in the task's table of metrics.
        label: for headings.
        value: in ``unit``; None if there is none, and then ``reason`` says why.
        unit: ``Å``, ``eV``, …; ``1`` for a number without unit.
        interval: bootstrap 95 % interval; None where there is none.
        score: 0 (bad anchor or worse) to 1 (good anchor or better); None for what is not scored.
        baselines: label → what the baselines without a model reach.
        status: ``scored``, ``failed``, ``left out`` or ``information``.
        reason: why there is no value.

    Example:
        >>> import defectbench
        >>> rmsd = defectbench.load_entry("leaderboards/sb2se3-vacancies/chgnet-0.3.0")["relax"]["rmsd"]
        >>> rmsd.unit, rmsd.status, float(rmsd) == rmsd.value
        ('Å', 'scored', True)
        >>> sorted(rmsd.baselines)
        ['other_charge', 'unrelaxed']
    """

    name: str
    label: str
    value: float | None
    unit: str
    interval: tuple[float, float] | None
    score: float | None
    baselines: dict[str, float]
    status: str
    reason: str | None

    def __float__(self) -> float:
        if self.value is None:
            raise DefectbenchError(f"{self.name} has no value: {self.reason or self.status}", code="no-value")
        return self.value

    def __repr__(self) -> str:
        unit = "" if self.unit == "1" else f" {self.unit}"
        if self.value is None:
            return f"{self.name}: {self.status} ({self.reason})"
        between = f" ({self.interval[0]:.3g} to {self.interval[1]:.3g})" if self.interval else ""
        return f"{self.name}: {self.value:.3g}{unit}{between}"


class TaskView:
    """What one task found: metrics by name, tables as pandas frames.

    Example:
        >>> import defectbench
        >>> relax = defectbench.load_entry("leaderboards/sb2se3-vacancies/chgnet-0.3.0")["relax"]
        >>> relax.name, relax.title, 0.0 <= relax.score <= 1.0
        ('relax', 'Ground-state structures', True)
        >>> "rmsd" in relax.metrics, len(relax.notes) > 0
        (True, True)
        >>> relax.tables
        ('states', 'configurations', 'host')
    """

    def __init__(self, scored: TaskScore, record: TaskRecord) -> None:
        self.scored = scored
        self.record = record

    @property
    def name(self) -> str:
        """The task's name."""
        return self.scored.task

    @property
    def title(self) -> str:
        """The task's title."""
        return self.scored.title

    @property
    def score(self) -> float | None:
        """0 … 1; None if nothing of the task can be scored."""
        return self.scored.score

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics."""
        return tuple(m.definition.name for m in self.scored.metrics)

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables that :meth:`to_frame` gives."""
        return tuple(self.record.tables)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the tables must know."""
        return tuple(self.record.notes)

    def __getitem__(self, metric: str) -> Metric:
        """A metric by name.

        Raises:
            UnknownNameError: the task has none of that name.

        Example:
            >>> import defectbench
            >>> entry = defectbench.load_entry("leaderboards/sb2se3-vacancies/chgnet-0.3.0")
            >>> entry["relax"]["rmsd"].unit
            'Å'
        """
        for found in self.scored.metrics:
            if found.definition.name == metric:
                return self._metric(found)
        raise UnknownNameError("metric", metric, self.metrics)

    def __iter__(self) -> Iterator[Metric]:
        return (self._metric(m) for m in self.scored.metrics)

    def _metric(self, found: MetricScore) -> Metric:
        d = found.definition
        beside = {label: value for label, values in self.record.baselines.items() if (value := values.get(d.name)) is not None}
        return Metric(d.name, d.label, found.value, d.unit, found.interval, found.score, beside, found.status, found.reason)

    def to_frame(self, table: str = "states") -> pd.DataFrame:
        """A table as a pandas frame; lengths in Å, energies in eV, charges in units of +e.

        Args:
            table: one of :attr:`tables`, or ``metrics`` for the metrics.

        Raises:
            UnknownNameError: there is no such table.

        Example:
            >>> import defectbench
            >>> relax = defectbench.load_entry("leaderboards/sb2se3-vacancies/chgnet-0.3.0")["relax"]
            >>> list(relax.to_frame()["charge"])[:3]
            [-3, -2, -1]
            >>> list(relax.to_frame("metrics"))
            ['metric', 'value', 'unit', 'low', 'high', 'score', 'status']
        """
        import pandas as pd

        if table == "metrics":
            rows = [
                {
                    "metric": m.name,
                    "value": m.value,
                    "unit": m.unit,
                    "low": m.interval[0] if m.interval else None,
                    "high": m.interval[1] if m.interval else None,
                    "score": m.score,
                    "status": m.status,
                }
                for m in self
            ]
            return pd.DataFrame(rows)
        if table not in self.record.tables:
            raise UnknownNameError("table", table, (*self.tables, "metrics"))
        return pd.DataFrame(self.record.tables[table])

    def __repr__(self) -> str:
        found = "no score" if self.score is None else f"score {self.score:.2f}"
        return f"<task {self.name}: {found}; {', '.join(map(repr, [m for m in self if m.status == 'scored'][:3]))}>"

    def _repr_html_(self) -> str:
        found = "no score" if self.score is None else f"score {self.score:.2f}"
        heading = f"<b>{escape(self.title)}</b> ({escape(self.name)}): {found}"
        frame = self.to_frame("metrics").drop(columns="status")
        return heading + frame.to_html(index=False, float_format="{:.3g}".format, na_rep="–")


@dataclass(frozen=True, repr=False)
class Drawing:
    """A figure as files that a notebook shows.

    Attributes:
        files: name → content, PNG and SVG.

    Example:
        >>> from defectbench.leaderboard.entry_view import Drawing
        >>> Drawing({"pes.png": b"...", "pes.svg": b"..."})
        <figure pes.png, pes.svg>
    """

    files: dict[str, bytes]

    def save(self, folder: str | Path) -> list[Path]:
        """Writes the files into a folder, which is made if needed; returns their paths.

        Raises:
            RunError: a file cannot be written.

        Example:
            >>> import tempfile
            >>> from defectbench.leaderboard.entry_view import Drawing
            >>> [path.name for path in Drawing({"pes.svg": b"..."}).save(tempfile.mkdtemp())]
            ['pes.svg']
        """
        from defectbench.base.files import write_bytes
        from defectbench.base.paths import user_path

        paths = [user_path(folder) / name for name in self.files]
        for path, content in zip(paths, self.files.values(), strict=True):
            write_bytes(path, content)
        return paths

    def _repr_png_(self) -> bytes | None:
        return next((content for name, content in self.files.items() if name.endswith(".png")), None)

    def __repr__(self) -> str:
        return f"<figure {', '.join(self.files)}>"


@dataclass(frozen=True, repr=False)
class EntryView:
    """One model's results on one dataset: ``entry["relax"]``, ``entry.score``, ``entry.plot("pes")``.

    Attributes:
        record: all that ``entry.json`` holds.
        folder: where the entry lies.

    Example:
        >>> import defectbench
        >>> entry = defectbench.load_entry("leaderboards/sb2se3-vacancies/chgnet-0.3.0")
        >>> entry
        <entry CHGNet 0.3.0 on sb2se3-vacancies (full): charge-blind, score ...>
        >>> entry.charge_class
        'charge-blind'
        >>> "relax" in entry, len(entry) == len(entry.tasks)
        (True, True)
        >>> 0.0 <= entry.score.overall <= 1.0
        True
        >>> worth, worst = entry.verdict
        >>> worth.split(". ")[0]
        'CHGNet 0.3.0 does not respond to charge'
    """

    record: Entry
    folder: Path

    @property
    def score(self) -> Score:
        """Overall and task scores, computed now."""
        return score_results(self.record.tasks)

    @property
    def charge_class(self) -> str:
        """``charge-blind``, ``energy-only`` or ``charge-aware``: what the certificate found."""
        return str(self.record.certificate["charge_class"])

    @property
    def verdict(self) -> tuple[str, str]:
        """What to think of the entry: what the model is worth here, and where it fails worst."""
        return verdict(self.record)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return tuple(task.task for task in self.score.tasks)

    def __getitem__(self, task: str) -> TaskView:
        """What a task found.

        Raises:
            UnknownNameError: the entry has no task of that name.

        Example:
            >>> import defectbench
            >>> entry = defectbench.load_entry("leaderboards/sb2se3-vacancies/chgnet-0.3.0")
            >>> entry["pes"].tables
            ('states', 'configurations')
        """
        scored = self.score.task(task)
        if scored is None:
            raise UnknownNameError("task of this entry", task, self.tasks)
        return TaskView(scored, self.record.tasks[task])

    def __contains__(self, task: object) -> bool:
        return task in self.tasks

    def __iter__(self) -> Iterator[str]:
        return iter(self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)

    def to_frame(self) -> pd.DataFrame:
        """Every metric of every task, one row each, by task and metric.

        Example:
            >>> import defectbench
            >>> entry = defectbench.load_entry("leaderboards/sb2se3-vacancies/chgnet-0.3.0")
            >>> entry.to_frame().loc[("relax", "rmsd"), "unit"]
            'Å'
        """
        import pandas as pd

        return pd.concat([self[task].to_frame("metrics").assign(task=task) for task in self]).set_index(["task", "metric"])

    def structures(self) -> list[Atoms]:
        """The relaxed structures, with defect, charge, configuration, status and model_energy (eV) in ``info``.

        Raises:
            DefectbenchError: the folder holds none (code ``no-structures``), or they cannot be read.

        Example:
            >>> import defectbench
            >>> entry = defectbench.load_entry("leaderboards/sb2se3-vacancies/mace-mf-sb2se3")
            >>> {atoms.info["defect"] for atoms in entry.structures()}
            {...'V_Sb1'...}
        """
        from defectbench.base.files import contained
        from defectbench.datasets.extxyz import read_extxyz

        path = contained(self.folder, "structures.extxyz")
        if not path.is_file():
            raise DefectbenchError(f"no structures at {path}; run 'defectbench evaluate' with --output {self.folder}", code="no-structures")
        return read_extxyz(path)

    def plot(self, task: str) -> Drawing:
        """Draws a task's figure from what the entry holds.

        Args:
            task: its name.

        Returns:
            The drawing: a notebook shows it, ``entry.plot("pes").save("folder")`` writes it as PNG and SVG.

        Raises:
            UnknownNameError: the entry has no task of that name.
            DefectbenchError: the task has nothing to draw here (code ``nothing-to-draw``).

        Example:
            >>> import defectbench
            >>> entry = defectbench.load_entry("leaderboards/sb2se3-vacancies/chgnet-0.3.0")
            >>> sorted(entry.plot("relax").files)
            ['relax.png', 'relax.svg']
        """
        import tempfile

        from defectbench.entries.figures import figure_context, task_result
        from defectbench.tasks import get_tasks

        if task not in self:
            raise UnknownNameError("task of this entry", task, self.tasks)
        (drawing,) = get_tasks([task])
        with tempfile.TemporaryDirectory() as folder:
            paths = drawing.draw(task_result(task, self.record.tasks[task]), figure_context(self.record), Path(folder))
            if not paths:
                raise DefectbenchError(f"{task} has nothing to draw for this entry", code="nothing-to-draw")
            return Drawing({path.name: path.read_bytes() for path in paths})

    def __repr__(self) -> str:
        r, overall = self.record, self.score.overall
        score = "no score" if overall is None else f"score {overall:.2f}"
        return (
            f"<entry {r.model.name} on {r.dataset.id} ({r.selection.suite}): {self.charge_class}, {score}; tasks: {', '.join(self.tasks)}>"
        )

    def _repr_html_(self) -> str:
        r = self.record
        heading = (
            f"<b>{escape(r.model.name)}</b> on {escape(r.dataset.id)} ({escape(r.dataset.level_of_theory)}, {r.selection.suite} suite)"
        )
        rows = "".join(
            f"<tr><td>{escape(t.task)}</td><td>{escape(t.title)}</td><td>{'–' if t.score is None else format(t.score, '.2f')}</td></tr>"
            for t in self.score.tasks
        )
        said = "".join(f"<p>{escape(paragraph)}</p>" for paragraph in self.verdict)
        return f"{heading}{said}<table><tr><th>task</th><th></th><th>score</th></tr>{rows}</table>"


def load_entry(folder: str | Path) -> EntryView:
    """Reads an entry: a folder that ``evaluate`` wrote, or a published one.

    Args:
        folder: the folder, or the path of its ``entry.json``.

    Raises:
        DefectbenchError: there is no entry (code ``no-entry``), or it cannot be read (``bad-entry``).

    Example:
        >>> import defectbench
        >>> entry = defectbench.load_entry("leaderboards/sb2se3-vacancies/qet-matq")
        >>> entry.record.model.id, entry.charge_class
        ('qet-matq', 'energy-only')
    """
    from defectbench.base.paths import user_path
    from defectbench.entries.folder import entry_folder, read_entry

    place = entry_folder(user_path(folder))
    return EntryView(read_entry(place), place)


@dataclass(frozen=True, repr=False)
class Rescored:
    """An entry scored again.

    Attributes:
        stored: the entry as it was.
        now: the entry with every task scored by this version.
        differences: metrics (``task.metric``) that differ by more than a relative 1e-6; empty if all are reproduced.

    Example:
        >>> import defectbench
        >>> from defectbench.leaderboard.entry_view import Rescored
        >>> entry = defectbench.load_entry("leaderboards/sb2se3-vacancies/chgnet-0.3.0")
        >>> Rescored(stored=entry, now=entry, differences=())  # made by defectbench.rescore
        <rescored: every metric reproduced; ...>
    """

    stored: EntryView
    now: EntryView
    differences: tuple[str, ...]

    def __repr__(self) -> str:
        found = f"{len(self.differences)} metrics differ" if self.differences else "every metric reproduced"
        return f"<rescored: {found}; {self.now!r}>"


def rescore(entry: str | Path | EntryView, dataset: str | Path | Dataset | None = None, *, write: bool = False) -> Rescored:
    """Scores an entry again from its stored calculations: no model, no GPU, no network beyond the dataset.

    Args:
        entry: a folder with ``entry.json`` and ``calculations.json.gz``, or a loaded entry.
        dataset: the dataset it was made on, if it is not found by its name.
        write: replace the entry and its tables by the newly scored ones.

    Raises:
        DefectbenchError: the entry or its calculations cannot be read or are damaged, or the dataset is not the one it was made on.

    Example:
        >>> import tempfile, defectbench
        >>> from ase.calculators.lj import LennardJones
        >>> calculator, folder = LennardJones(sigma=1.0, epsilon=0.01, rc=3.0), tempfile.mkdtemp()
        >>> chosen = {"defects": ["V_Se2"], "charges": [2], "configurations": ["Unperturbed"], "tasks": ["relax"]}
        >>> _ = defectbench.evaluate(calculator, **chosen, figures=False, output=folder)
        >>> defectbench.rescore(folder).differences
        ()
    """
    from defectbench.base.paths import user_path
    from defectbench.entries.folder import entry_folder, write_rescored
    from defectbench.entries.rescoring import rescore as score_again
    from defectbench.entries.rescoring import same_metrics

    folder = entry.folder if isinstance(entry, EntryView) else entry_folder(user_path(entry))
    old, new = score_again(folder, dataset)
    if write:
        write_rescored(folder, new)
    return Rescored(EntryView(old, folder), EntryView(new, folder), tuple(same_metrics(old, new)))
