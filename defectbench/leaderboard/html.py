"""The published leaderboard as a static site: one folder for any web host that also works from the disk, without a network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache, cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectbench.base.errors import DefectbenchError
from defectbench.base.files import contained, read_bytes, sha256_of, write_bytes, write_text
from defectbench.base.states import format_charge
from defectbench.entries.folder import read_figure
from defectbench.leaderboard.charts import Chart, entry_charts
from defectbench.leaderboard.entry_view import EntryView
from defectbench.leaderboard.exports import FORMAT, board_rows, state_rows, to_csv, to_json, to_parquet
from defectbench.leaderboard.figures import draw_pareto
from defectbench.leaderboard.group_charts import group_charts
from defectbench.leaderboard.groups import Group, Ranked, find_entries, group_entries
from defectbench.leaderboard.overlays import Scene, dft_scenes, model_scenes, scene_name
from defectbench.leaderboard.pareto import points_of, stem
from defectbench.leaderboard.publication import published_files
from defectbench.leaderboard.report import Report, report, templates
from defectbench.leaderboard.states import COUNTED, ChargeStateResult
from defectbench.leaderboard.view import Board, ModelPage, Site, site_view

if TYPE_CHECKING:
    from defectbench.datasets.dataset import Dataset

DATA_FILE = "leaderboard.json"
BUILD_FILE = "build.json"
"""What each part of the site was made from, and its files: an unchanged part is not made again."""

MAX_DATA = 200_000_000
"""Bytes of either: some hundred times what hundreds of entries take."""
PAGES = ("models", "tasks", "datasets", "figures", "structures", "data", "static", "entries")


class _Output:
    """The folder that is written, part by part."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: list[Path] = []
        self.parts: dict[str, dict[str, Any]] = {}
        try:
            self.before: Mapping[str, Any] = json.loads(read_bytes(folder / BUILD_FILE, MAX_DATA))
        except (OSError, ValueError):
            self.before = {}

    def write(self, name: str, content: str | bytes) -> None:
        path = contained(self.folder, name)
        if isinstance(content, str):
            write_text(path, content)
        else:
            write_bytes(path, content)
        self.written.append(path)

    def kept(self, part: str, key: str) -> bool:
        """Whether an earlier build made this part of the same; its files stay."""
        old = self.before.get(part)
        if not isinstance(old, dict) or old.get("key") != key:
            return False
        paths = [self.folder / name for name in old["files"]]
        if not all(path.is_file() for path in paths):
            return False
        self.written += paths
        self.parts[part] = old
        return True

    def made(self, part: str, key: str, since: int) -> None:
        """Remembers the files of a part: those written since."""
        names = [path.relative_to(self.folder).as_posix() for path in self.written[since:]]
        self.parts[part] = {"key": key, "files": names}


class _Reference:
    """A dataset whose structures may be shown: one that ships whole. What is fetched from elsewhere is not ours to publish."""

    def __init__(self, name: str) -> None:
        from defectbench.datasets.catalogue import embedded_folder, embedded_names
        from defectbench.datasets.folder import content_hash
        from defectbench.datasets.schema import METADATA_FILE, parse_metadata

        self.name = name
        self.sha256: str | None = None
        if name in embedded_names():
            metadata = parse_metadata(embedded_folder() / name / METADATA_FILE)
            self.sha256 = content_hash(metadata) if metadata.remote is None else None

    @cached_property
    def dataset(self) -> Dataset | None:
        """Loaded when it is needed: an unchanged site needs none."""
        from defectbench.datasets.catalogue import load_named_dataset

        return load_named_dataset(self.name) if self.sha256 is not None else None


def build_site(
    folder: Path, output: Path, *, address: str | None = None, parquet: bool = False, documentation: str | None = None
) -> list[Path]:
    """Builds the site of all entries at or below a folder.

    Args:
        folder: with entries, e.g. ``leaderboards``.
        output: is made; a site that an earlier call wrote there is replaced, and what has not changed since is not made again.
        address: of the site on the web, for links of its feed.
        parquet: write the tables as Parquet, too.
        documentation: a page in ``output`` that another program writes there; every page links it.

    Returns:
        The files of the site.

    Raises:
        DefectbenchError: no entries, one that cannot be read, ``output`` holds something else (code ``bad-output``), or Parquet is asked
            for without pyarrow (``no-parquet``), or a link leads out of an entry or of ``output`` (``link-outside``).
        RunError: a file cannot be written.
    """
    _ours(output)
    # a site inside the folder contains no entry.json, so that it never becomes its own input
    groups = group_entries(find_entries(folder))
    site = site_view(groups, folder, documentation)
    out = _Output(output)
    for name, content in _static(files("defectbench.leaderboard") / "static", "static"):
        out.write(name, content)
    drawn = _draw(groups, out)
    references = {name: _Reference(name) for name in dict.fromkeys(group.first.dataset.id for group in groups)}
    entries = [one for group in groups for one in group.entries]
    pages = list(zip(site.models, entries, strict=True))
    for page, one in pages:
        _write_model(out, site, page, one, references[one.entry.dataset.id])
    charts = {board.id: _write_board(out, board, [pair for pair in pages if pair[0].board == board.id]) for board in site.boards}
    for task in site.tasks:
        out.write(task.page, _page("site_task", site=site, t=task, charts=charts))
    for dataset in site.datasets:
        scenes = _write_dft(out, references[dataset.id])
        out.write(dataset.page, _page("site_dataset", site=site, d=dataset, charts=charts, scenes=scenes))
    for name, rows in (("leaderboard", board_rows(site)), ("states", state_rows(site))):
        out.write(f"{name}.csv", to_csv(rows))
        if parquet:
            out.write(f"{name}.parquet", to_parquet(rows))
    out.write("data/states.js", _script("states", _states(site)))
    out.write("index.html", _page("site_index", site=site, data=_interactive(site), figures=list(_pareto(groups, site.boards, drawn))))
    for name, published in published_files(site, entries, address):
        out.write(name, published)
    out.write(DATA_FILE, to_json(site))
    out.write(BUILD_FILE, json.dumps(out.parts, indent=1) + "\n")
    _remove_others(output, out.written)
    return out.written


def _write_model(out: _Output, site: Site, page: ModelPage, one: Ranked, reference: _Reference) -> None:
    key = _key(page, one, reference, site.documentation)
    if out.kept(page.page, key):
        return
    since, name = len(out.written), Path(page.page).stem
    found, figures = _report(page, one)
    for file, content in figures:
        out.write(file, content)
    charts = entry_charts(one.entry)
    if charts:
        out.write(f"data/{name}.js", _script("charts", name, _flat(charts)))
    scenes = _write_scenes(out, name, model_scenes(EntryView(one.entry, one.folder), reference.dataset))
    out.write(page.page, _page("site_model", site=site, p=page, r=found, charts=charts, key=name, scenes=scenes, root="../", scripts=""))
    out.made(page.page, key, since)


def _write_board(out: _Output, board: Board, pages: Sequence[tuple[ModelPage, Ranked]]) -> dict[str, tuple[Chart, ...]]:
    """The figures over all models of a board, by task."""
    baseline = next((row.overall.score for row in board.rows if row.kind == "best baselines"), None)
    current = [(page, one) for page, one in pages if page.row.superseded_by is None]
    charts = group_charts([(one.entry, one.score.overall, page.row.training_data) for page, one in current], baseline)
    if charts:
        out.write(f"data/board-{board.id}.js", _script("charts", f"board-{board.id}", _flat(charts)))
    return charts


def _write_dft(out: _Output, reference: _Reference) -> list[dict[str, str]]:
    """The scenes of a dataset's own minima."""
    part, key = f"structures/{reference.name}", f"{_program()} {reference.sha256}"
    if out.kept(part, key):
        links: list[dict[str, str]] = out.parts[part]["links"]
        return links
    since = len(out.written)
    links = _write_scenes(out, reference.name, dft_scenes(reference.dataset) if reference.dataset is not None else [])
    out.made(part, key, since)
    out.parts[part]["links"] = links
    return links


def _write_scenes(out: _Output, name: str, scenes: Sequence[Scene]) -> list[dict[str, str]]:
    """A file per scene; what the viewer needs to find them."""
    links = []
    for scene in scenes:
        key, file = f"{name}/{scene.name}", f"structures/{name}/{scene.name}.js"
        out.write(file, _script("scene", key, scene))
        links.append({"name": scene.name, "title": scene.title, "key": key, "file": file})
    return links


def _flat(charts: Mapping[str, tuple[Chart, ...]]) -> dict[str, Chart]:
    return {chart.name: chart for found in charts.values() for chart in found}


def _script(function: str, *values: object) -> str:
    """Data as a script, because pages on a disk may not read files; ASCII, so that no text ends it."""
    # dataclasses as they are: asdict would copy every coordinate
    arguments = ", ".join(json.dumps(value, separators=(",", ":"), allow_nan=False, default=vars) for value in values)
    return f"defectbench.{function}({arguments});\n"


@cache
def _program() -> str:
    """Hash of this version's code, templates and model and task descriptions."""
    found = hashlib.sha256()

    def add(folder: Traversable) -> None:
        for item in sorted(folder.iterdir(), key=lambda one: one.name):
            if item.is_dir():
                if item.name not in ("__pycache__", "data", "static"):
                    add(item)
            elif item.name.endswith((".py", ".yaml", ".j2")):
                found.update(item.name.encode() + item.read_bytes())

    add(files("defectbench"))
    return found.hexdigest()


def _key(page: ModelPage, one: Ranked, reference: _Reference, documentation: str | None) -> str:
    """Of all that a model's page is made from."""
    names = ("entry.json", "structures.extxyz", *(f"figures/{task}.png" for task in one.entry.tasks))
    parts = [sha256_of(path) if (path := contained(one.folder, name)).is_file() else "" for name in names]
    values = json.dumps([_program(), asdict(page), reference.sha256, documentation, names, parts])
    return hashlib.sha256(values.encode()).hexdigest()


def _draw(groups: Sequence[Group], out: _Output) -> list[Path]:
    """Accuracy against speed, per board."""
    drawn: list[Path] = []
    for group in groups:
        if not points_of(group)[0]:
            continue
        name = stem(group, groups)
        key = hashlib.sha256(repr((_program(), name, points_of(group), group.first.tasks)).encode()).hexdigest()
        since = len(out.written)
        if not out.kept(f"figures/{name}", key):
            out.written += draw_pareto(group, contained(out.folder, "figures"), name)
            out.made(f"figures/{name}", key, since)
        drawn += out.written[since:]
    return drawn


def _page(template: str, **values: object) -> str:
    return templates().get_template(f"{template}.html.j2").render(charge=format_charge, scene_name=scene_name, **values)


def _interactive(site: Site) -> dict[str, object]:
    """What the table on the first page works with."""
    tasks = [
        {"task": t.task, "title": t.title, "weight": t.weight, "counted": [m.label for m in t.metrics if m.weight > 0]} for t in site.tasks
    ]
    relax = next((t.metrics for t in site.tasks if t.task == "relax"), ())
    counted = [[m.bad, m.good, m.weight] for name in COUNTED for m in relax if m.name == name]
    return {"boards": [_short(asdict(board)) for board in site.boards], "tasks": tasks, "presets": site.presets, "counted": counted}


def _short(value: object) -> object:
    """Numbers to five decimals, and scores as lists: of hundreds of models, names and digits would be half of the page."""
    if isinstance(value, dict):
        if value.keys() == {"score", "low", "high", "reason"}:
            return [_short(value[key]) for key in ("score", "low", "high", "reason")]
        return {key: _short(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_short(one) for one in value]
    return round(value, 5) if isinstance(value, float) else value


def _states(site: Site) -> dict[str, list[list[object]]]:
    """Page → its charge states, short: for the columns of chosen charge states on the first page."""

    def short(s: ChargeStateResult) -> list[object]:
        counted = [s.counted.get(metric) for metric in COUNTED]
        return [s.defect, s.charge, s.minimum, s.after_host, s.energy_above, s.rmsd, s.configuration, s.reason, counted]

    return {page.page: [short(s) for s in page.states] for page in site.models}


def _static(folder: Traversable, name: str) -> Iterable[tuple[str, bytes]]:
    for item in sorted(folder.iterdir(), key=lambda one: one.name):
        if item.is_dir():
            yield from _static(item, f"{name}/{item.name}")
        else:
            yield f"{name}/{item.name}", item.read_bytes()


def _report(page: ModelPage, one: Ranked) -> tuple[Report, list[tuple[str, bytes]]]:
    """The report of an entry with its figures as files. Only PNG: an SVG of somebody else could hold a script."""
    found = report(EntryView(one.entry, one.folder))
    stem = Path(page.page).stem
    figures, sections = [], []
    for section in found.tasks:
        content = read_figure(one.folder, f"{section.name}.png")
        name = f"figures/{stem}/{section.name}.png" if content is not None else None
        if name is not None and content is not None:
            figures.append((name, content))
        sections.append(replace(section, figure=None if name is None else f"../{name}"))
    return replace(found, folder=page.folder, tasks=tuple(sections)), figures


def _pareto(groups: list[Group], boards: tuple[Board, ...], drawn: list[Path]) -> Iterable[tuple[str, str]]:
    there = {path.name for path in drawn}
    titles = {board.id: board.title for board in boards}
    for group in groups:
        name = stem(group, groups)
        if f"{name}.svg" in there:
            yield titles[name.removeprefix("pareto-")], f"figures/{name}.svg"


def _ours(output: Path) -> None:
    """Refuses a folder that holds something else than a site of ours."""
    if output.exists() and not output.is_dir():
        raise DefectbenchError(f"{output} is a file; give a folder for the site", code="bad-output")
    if not output.is_dir() or not any(output.iterdir()):
        return
    try:
        mine = json.loads(read_bytes(output / DATA_FILE, MAX_DATA)).get("format") == FORMAT
    except (OSError, ValueError, AttributeError):
        mine = False
    if not mine:
        raise DefectbenchError(f"{output} is not empty and not a site of 'leaderboard build'; choose another --output", code="bad-output")


def _remove_others(output: Path, written: list[Path]) -> None:
    """Pages and figures of entries that are gone."""
    kept = set(written)
    for part in PAGES:
        for path in () if (output / part).is_symlink() else (output / part).rglob("*"):
            if path.is_file() and path not in kept:
                path.unlink()
