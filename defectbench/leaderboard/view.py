"""The published leaderboard as values: what the site shows, and what ``leaderboard.json`` holds. Nothing here is markup."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from defectbench.entries.staleness import stale
from defectbench.leaderboard.groups import Group, Ranked, group_key
from defectbench.leaderboard.history import Version, history
from defectbench.leaderboard.hosts import AcrossHosts, across_hosts
from defectbench.leaderboard.pareto import hardware_of, stem
from defectbench.leaderboard.scores import TaskScore, best_baselines, gains, mean_gain, score_baselines, score_results
from defectbench.leaderboard.states import ChargeStateResult, state_results
from defectbench.leaderboard.tables import content_note

if TYPE_CHECKING:
    from defectbench.datasets.schema import DatasetFile, LevelOfTheory
    from defectbench.entries.schema import Entry
    from defectbench.models.schema import ModelDefinition
    from defectbench.scoring.task import Task

Kind = Literal["model", "best baselines", "baseline"]

PRESETS: Mapping[str, tuple[str, ...]] = {
    "structures": ("relax", "pes", "charge_response", "ccd"),
    "levels": ("transition_levels", "parity", "ccd"),
    "search": ("search", "pes"),
}
"""Questions of a reader, and the tasks that answer them. A preset keeps the declared weights of its tasks and sets all others to 0."""


@dataclass(frozen=True)
class Cell:
    """A score, 0 … 1, with the same at the ends of its metrics' intervals; without one the reason."""

    score: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Row:
    """A line of a board.

    Attributes:
        kind: baselines are shown among the models and have no rank.
        name: of the model or the baseline.
        rank: 1 is best; None for baselines and for what has no overall score.
        page: of the model on this board, relative to the site; None for baselines.
        model: id.
        charge_class: what the certificate found.
        overall: weighted mean of the tasks.
        gain: mean distance to the best baselines, like with like.
        coverage: share of the declared weight that could be scored.
        tasks: task → its score.
        in_domain: whether the model was trained on this dataset, as its entry says; None in the row of a baseline.
        seconds_per_call: median time per force call on ``hardware``.
        not_converged: relaxations that failed or did not converge, of ``relaxations``.
        date: on which the entry was made.
        superseded_by: page of a later entry of the same model; such a row has no rank, and no page if only its record is kept.
    """

    kind: Kind
    name: str
    rank: int | None
    page: str | None
    model: str | None
    charge_class: str | None
    overall: Cell
    gain: float | None
    coverage: float | None
    tasks: dict[str, Cell]
    parameters: int | None = None
    training_data: str | None = None
    in_domain: bool | None = None
    level_of_theory: str | None = None
    package: str | None = None
    seconds_per_call: float | None = None
    hardware: str | None = None
    not_converged: int | None = None
    relaxations: int | None = None
    date: str | None = None
    superseded_by: str | None = None


@dataclass(frozen=True)
class Board:
    """Entries that can be ranked together.

    Attributes:
        id: for files and addresses.
        title: for headings.
        tasks: those with weight, in their order.
        rows: best overall score first, baselines among the models.
        note: on which content of the dataset the entries rest.
        stale: why all of its entries are stale; None if they are not.
        charge_states: (defect, charge) that were run.
    """

    id: str
    title: str
    dataset: str
    level: str
    suite: str
    protocol: str
    states: int
    configurations: int
    tasks: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str
    charge_states: tuple[tuple[str, int], ...]
    stale: str | None = None


@dataclass(frozen=True)
class ModelPage:
    """What is shown of a model on a board besides the report of its entry.

    Attributes:
        page: its address, relative to the site.
        folder: of the entry, below the folder that the site was built from.
        states: charge state by charge state.
        reproduce: command that runs the model on the same selection.
        elsewhere: pages of the same model on other boards, with their titles.
        facts: what the definition says, label → text.
        url: of the model.
        versions: the model's history here, oldest first, itself among them; see :mod:`defectbench.leaderboard.history`.
    """

    page: str
    board: str
    model: str
    name: str
    folder: str
    row: Row
    states: tuple[ChargeStateResult, ...]
    reproduce: str
    elsewhere: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str], ...]
    url: str | None
    versions: tuple[Version, ...] = ()


@dataclass(frozen=True)
class MetricInfo:
    """A metric as its task declares it."""

    name: str
    label: str
    unit: str
    direction: str
    bad: float | None
    good: float | None
    weight: float
    meaning: str
    formula: str
    source: str


@dataclass(frozen=True)
class TaskPage:
    """What a task measures."""

    task: str
    page: str
    title: str
    description: str
    weight: float
    metrics: tuple[MetricInfo, ...]


@dataclass(frozen=True)
class LevelInfo:
    """A level of theory of a dataset."""

    name: str
    functional: str
    code: str
    uncertainty: str


@dataclass(frozen=True)
class DatasetPage:
    """What is known of a dataset; without ``licence`` it does not come with this version and only entries speak of it."""

    id: str
    page: str
    title: str
    description: str
    licence: str | None
    citations: tuple[tuple[str, str | None], ...]
    host: str
    defects: tuple[tuple[str, str, tuple[int, ...]], ...]
    levels: tuple[LevelInfo, ...]
    boards: tuple[str, ...]


@dataclass(frozen=True)
class NotRun:
    """A registered model without an entry. It has no score and no rank."""

    model: str
    name: str
    level_of_theory: str
    training_data: str
    reason: str


@dataclass(frozen=True)
class Site:
    """All that the site shows.

    Attributes:
        boards: full suites first, then by the number of models.
        documentation: a page beside the site's own, which they link.
    """

    boards: tuple[Board, ...]
    models: tuple[ModelPage, ...]
    tasks: tuple[TaskPage, ...]
    datasets: tuple[DatasetPage, ...]
    not_run: tuple[NotRun, ...]
    presets: dict[str, tuple[str, ...]]
    hosts: AcrossHosts
    documentation: str | None = None


def site_view(groups: Iterable[Group], folder: Path, documentation: str | None = None) -> Site:
    """The site of these groups.

    Args:
        groups: of :func:`~defectbench.leaderboard.groups.group_entries`.
        folder: that they were found in; entries are named relative to it.
        documentation: of :class:`Site`.

    Raises:
        ModelError: a model definition that ships cannot be read.
        DatasetError: the same of a dataset.
    """
    from defectbench.models.registry import list_models
    from defectbench.tasks import get_tasks

    groups = list(groups)
    definitions = {m.id: m for m in list_models()}
    tasks = get_tasks()
    boards, pages = [], []
    for group in groups:
        board, made = _board(stem(group, groups).removeprefix("pareto-"), group, tasks, definitions, folder)
        boards.append(board)
        pages += made
    titles = {board.id: board.title for board in boards}
    versions = _histories([one for group in groups for one in group.entries], pages, tasks)
    return Site(
        boards=tuple(
            sorted(boards, key=lambda b: (b.suite != "full", -sum(row.kind == "model" and row.superseded_by is None for row in b.rows)))
        ),
        models=tuple(replace(_with_others(page, pages, titles), versions=versions[page.page]) for page in pages),
        tasks=tuple(_task_page(task) for task in tasks if any(task.name in one.entry.tasks for group in groups for one in group.entries)),
        datasets=tuple(_dataset_pages(groups, boards)),
        not_run=tuple(_not_run(definitions.values(), {page.model for page in pages})),
        presets=dict(PRESETS),
        hosts=across_hosts(groups),
        documentation=documentation,
    )


def _files(board: str, entries: Sequence[Ranked]) -> list[str]:
    """Names of the entries' pages, whatever their ranks: the newest entry of a model has the plain one, older ones have their dates."""
    names: dict[int, str] = {}
    taken: set[str] = set()
    for place, one in sorted(enumerate(entries), key=lambda item: item[1].created, reverse=True):
        name = f"{one.entry.model.id}--{board}"
        if name.lower() in taken:
            name += f"--{one.created[:10]}"
        while name.lower() in taken:
            name += "-2"
        taken.add(name.lower())
        names[place] = name
    return [names[place] for place in range(len(entries))]


def _board(
    name: str, group: Group, tasks: tuple[Task, ...], definitions: Mapping[str, ModelDefinition], folder: Path
) -> tuple[Board, list[ModelPage]]:
    first = group.first
    shown = [task.name for task in tasks if task.weight > 0 and task.name in first.tasks]
    files = _files(name, group.entries)
    old = stale(first)
    mark = ", stale" if old is not None else ""
    title = f"{first.dataset.id} ({first.dataset.level_of_theory}), {first.selection.suite} suite{mark}"
    newest = {one.entry.model.id: file for one, file in sorted(zip(group.entries, files, strict=True), key=lambda x: x[0].created)}
    rows: list[Row] = []
    pages = []
    for one, file in zip(group.entries, files, strict=True):
        definition = definitions.get(one.entry.model.id) if one.entry.model.embedded else None
        later = newest[one.entry.model.id]
        place = 1 + sum(row.superseded_by is None for row in rows)
        row = _row(one, place, f"models/{file}.html", shown)
        if later != file:
            row = replace(row, rank=None, superseded_by=f"models/{later}.html")
        rows += [row, *_kept_rows(one, row.superseded_by or row.page, shown)]
        pages.append(_model_page(one, row, name, definition, folder))
    rows += _baseline_rows(first, shown)
    rows.sort(key=lambda row: -1.0 if row.overall.score is None else row.overall.score, reverse=True)
    board = Board(
        id=name,
        title=title,
        dataset=first.dataset.id,
        level=first.dataset.level_of_theory,
        suite=first.selection.suite,
        protocol=str(first.provenance.protocol.get("name")),
        states=len(first.selection.states),
        configurations=len(first.configurations),
        tasks=tuple(shown),
        rows=tuple(rows),
        note=" ".join(filter(None, [old and f"Stale: {old}.", content_note(first).replace("`", "").replace("**", "")])),
        stale=old,
        charge_states=tuple(sorted((s.defect, s.charge) for s in first.selection.states)),
    )
    return board, pages


def _cell(scored: TaskScore | None) -> Cell:
    if scored is None:
        return Cell(None, reason="did not run")
    low, high = scored.bounds or (None, None)
    return Cell(scored.score, low, high, scored.reason)


def _row(one: Ranked, place: int, page: str | None, tasks: list[str]) -> Row:
    entry, score = one.entry, one.score
    low, high = score.bounds or (None, None)
    cost = entry.tasks.get("cost")
    return Row(
        kind="model",
        name=entry.model.name,
        rank=place if score.overall is not None else None,
        page=page,
        model=entry.model.id,
        charge_class=str(entry.certificate["charge_class"]),
        overall=Cell(score.overall, low, high, None if score.overall is not None else "no task could be scored"),
        gain=mean_gain(gains(entry.tasks)),
        coverage=score.coverage,
        tasks={task: _cell(score.task(task)) for task in tasks},
        parameters=entry.model.parameters,
        training_data=entry.model.training.statement,
        in_domain=entry.in_domain,
        level_of_theory=entry.model.level_of_theory,
        package=entry.model.package or None,
        seconds_per_call=next((m.value for m in cost.metrics if m.name == "seconds_per_call"), None) if cost else None,
        hardware=hardware_of(entry).text,
        not_converged=sum(c.status != "converged" for c in entry.configurations),
        relaxations=len(entry.configurations),
        date=entry.provenance.created[:10],
    )


def _current(row: Row) -> bool:
    return row.kind == "model" and row.superseded_by is None


def _kept_rows(one: Ranked, current: str | None, tasks: list[str]) -> Iterable[Row]:
    """The versions that an entry keeps, as far as they compare with it."""
    for version in one.versions:
        if group_key(version) == group_key(one.entry):
            row = _row(Ranked(one.folder, version, score_results(version.tasks)), 0, None, tasks)
            yield replace(row, rank=None, superseded_by=current)


def _baseline_rows(entry: Entry, tasks: list[str]) -> list[Row]:
    def row(kind: Kind, name: str, overall: float | None, cells: dict[str, Cell]) -> Row:
        reason = "covers only some tasks" if overall is None else None
        return Row(kind, name, None, None, None, None, Cell(overall, reason=reason), None, None, cells)

    absent = Cell(None, reason="no such baseline for this task")
    best, together = best_baselines(entry.tasks)
    rows = [row("best baselines", "best baselines", together, {t: Cell(best[t]) if t in best else absent for t in tasks})] if best else []
    for informed in (False, True):
        for label, score in score_baselines(entry.tasks, informed=informed).items():
            cells = {t: _cell(found) if (found := score.task(t)) else absent for t in tasks}
            if any(cell.score is not None for cell in cells.values()):
                rows.append(row("baseline", label.replace("_", " ") + (" (informed by DFT)" if informed else ""), None, cells))
    return rows


def _model_page(one: Ranked, row: Row, board: str, definition: ModelDefinition | None, folder: Path) -> ModelPage:
    facts = [("parameters", f"{row.parameters:,}" if row.parameters else "not stated"), ("level of theory", row.level_of_theory or "–")]
    if definition is not None:
        facts += [("training data", definition.training_data), ("licence", definition.licence)]
        if definition.citation is not None:
            facts.append(("citation", definition.citation.text))
        if definition.notes:
            facts.append(("notes", definition.notes))
    else:
        facts.append(("definition", "does not come with this version of defectbench"))
    facts.append(("signed by", _signer(one.folder)))
    return ModelPage(
        page=row.page or "",
        board=board,
        model=one.entry.model.id,
        name=one.entry.model.name,
        folder=one.folder.relative_to(folder).as_posix(),
        row=row,
        states=tuple(state_results(one.entry)),
        reproduce=reproduce(one.entry),
        elsewhere=(),
        facts=tuple(facts),
        url=_web(definition.url) if definition else None,
    )


def _signer(folder: Path) -> str:
    from defectbench.base.errors import DefectbenchError
    from defectbench.entries.signing import BadSignature, signature_of

    try:
        found = signature_of(folder)
    except BadSignature as error:
        return f"the signature {error}"
    except DefectbenchError:
        return "somebody; not checked when this site was built"
    return "nobody" if found is None else str(found)


def reproduce(entry: Entry) -> str:
    """The command that runs an entry's model on the entry's selection; a definition or dataset of the user's own stands for its file."""
    model = entry.model.id if entry.model.embedded else f"{entry.model.id}.yaml"
    dataset = entry.dataset.id if entry.dataset.embedded else f"./{entry.dataset.id}"
    words = ["defectbench", "evaluate", "--model", model, "--dataset", dataset]
    if entry.selection.suite == "custom":
        states = [*((s.defect, s.charge) for s in entry.selection.states), *((s.defect, s.charge) for s in entry.selection.skipped)]
        words += ["--defect", ",".join(sorted({defect for defect, _ in states}))]
        words.append("--charge=" + ",".join(str(q) for q in sorted({charge for _, charge in states})))
        words += ["--configurations", ",".join(sorted({c for s in entry.selection.states for c in s.configurations}))]
    else:
        words += ["--suite", entry.selection.suite]
    return shlex.join([*words, "--task", ",".join(entry.selection.tasks)])


def _with_others(page: ModelPage, pages: list[ModelPage], titles: Mapping[str, str]) -> ModelPage:
    others = [(other.page, titles[other.board]) for other in pages if other.model == page.model and other.page != page.page]
    return replace(page, elsewhere=tuple(others))


def _histories(entries: list[Ranked], pages: list[ModelPage], tasks: tuple[Task, ...]) -> dict[str, tuple[Version, ...]]:
    """Page → the entries of its model on its dataset, level of theory and suite, and the versions that they keep."""
    together: dict[tuple[str, str, str, str], list[tuple[Entry, str | None]]] = {}
    mine = {}
    for one, page in zip(entries, pages, strict=True):
        e = one.entry
        mine[page.page] = (e.model.id, e.dataset.id, e.dataset.level_of_theory, e.selection.suite)
        found = together.setdefault(mine[page.page], [])
        found += [(e, page.page), *((version, None) for version in one.versions)]
    histories = {key: history(found, tasks) for key, found in together.items()}
    return {page: histories[key] for page, key in mine.items()}


def _task_page(task: Task) -> TaskPage:
    metrics = tuple(
        MetricInfo(m.name, m.label, m.unit, m.direction, m.bad, m.good, m.weight, m.tooltip, m.formula, m.source) for m in task.metrics
    )
    return TaskPage(task.name, f"tasks/{task.name}.html", task.title, task.description, task.weight, metrics)


def _dataset_pages(groups: list[Group], boards: list[Board]) -> Iterable[DatasetPage]:
    from defectbench.datasets.catalogue import embedded_folder, embedded_names
    from defectbench.datasets.schema import METADATA_FILE, parse_metadata

    for dataset in dict.fromkeys(group.first.dataset.id for group in groups):
        record = next(group.first.dataset for group in groups if group.first.dataset.id == dataset)
        mine = tuple(board.id for board in boards if board.dataset == dataset)
        page = f"datasets/{dataset}.html"
        if record.embedded and dataset in embedded_names():
            yield _dataset_page(parse_metadata(embedded_folder() / dataset / METADATA_FILE), page, mine)
        else:
            level = LevelInfo(record.level_of_theory, record.level_of_theory, "not stated", "not stated")
            yield DatasetPage(dataset, page, record.title, "", None, (), "", (), (level,), mine)


def _dataset_page(d: DatasetFile, page: str, boards: tuple[str, ...]) -> DatasetPage:
    def uncertain(level: LevelOfTheory) -> str:
        found = level.uncertainty
        measured = None if found is None else f"{found.energy * 1000:g} meV, {found.force * 1000:g} meV/Å ({found.source})"
        return " ".join(filter(None, [measured, level.accuracy])) or "not stated"

    return DatasetPage(
        id=d.id,
        page=page,
        title=d.title,
        description=d.description,
        licence=d.licence,
        citations=tuple((c.text, _web(f"https://doi.org/{c.doi}" if c.doi else c.url)) for c in d.citations),
        host=d.host.description,
        defects=tuple((one.name, one.description, tuple(sorted(one.charges))) for one in d.defects),
        levels=tuple(LevelInfo(one.name, one.functional, one.code or "not stated", uncertain(one)) for one in d.levels),
        boards=boards,
    )


def _web(address: str | None) -> str | None:
    """An address that a page may link to: never a script."""
    return address if address is not None and address.startswith(("https://", "http://")) else None


def _not_run(definitions: Iterable[ModelDefinition], ran: set[str]) -> Iterable[NotRun]:
    for m in definitions:
        if m.id not in ran:
            yield NotRun(m.id, m.name, m.level_of_theory, m.training_data, _WEIGHTS[m.weights.source])


_WEIGHTS = {
    "package": "no entry yet; the weights come with the package",
    "shipped": "no entry yet; the weights come with defectbench",
    "url": "no entry yet; the weights have to be downloaded",
    "path": "no entry yet; needs a weights file of your own",
    "none": "no entry yet",
}
