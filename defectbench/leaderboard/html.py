"""The published leaderboard as a static site: one folder for any web host that also works from the disk, without a network."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from defectbench.base.errors import DefectbenchError
from defectbench.base.files import read_bytes, write_bytes, write_text
from defectbench.base.states import format_charge
from defectbench.leaderboard.entry_view import EntryView
from defectbench.leaderboard.figures import draw_leaderboard
from defectbench.leaderboard.groups import Group, Ranked, find_entries, group_entries
from defectbench.leaderboard.publication import published_files
from defectbench.leaderboard.report import Report, report, templates
from defectbench.leaderboard.view import Board, ModelPage, Site, site_view

DATA_FILE = "leaderboard.json"
FORMAT = "defectbench-leaderboard-1"
"""Marks a folder as a site of ours, which may be written again."""

PAGES = ("models", "tasks", "datasets", "figures", "entries")
MAX_FIGURE = 20_000_000
"""Bytes of a figure."""
_PNG = b"\x89PNG\r\n\x1a\n"


def build_site(folder: Path, output: Path, *, address: str | None = None) -> list[Path]:
    """Builds the site of all entries at or below a folder.

    Args:
        folder: with entries, e.g. ``leaderboards``.
        output: is made; a site that an earlier call wrote there is replaced.
        address: of the site on the web, for links of its feed.

    Returns:
        The files written.

    Raises:
        DefectbenchError: no entries, one that cannot be read, or ``output`` holds something else (code ``bad-output``).
        RunError: a file cannot be written.
    """
    _ours(output)
    # a site inside the folder holds no entry.json, so that it never becomes its own input
    groups = group_entries(find_entries(folder))
    site = site_view(groups, folder)
    written: list[Path] = []

    def write(name: str, content: str | bytes) -> None:
        path = output / name
        if isinstance(content, str):
            write_text(path, content)
        else:
            write_bytes(path, content)
        written.append(path)

    for name, content in _static(files("defectbench.leaderboard") / "static", "static"):
        write(name, content)
    drawn = draw_leaderboard(groups, output / "figures")
    written += drawn
    entries = [one for group in groups for one in group.entries]
    for page, one in zip(site.models, entries, strict=True):
        found, figures = _report(page, one)
        for name, content in figures:
            write(name, content)
        write(page.page, _page("site_model", site=site, p=page, r=found))
    for task in site.tasks:
        write(task.page, _page("site_task", site=site, t=task))
    for dataset in site.datasets:
        write(dataset.page, _page("site_dataset", site=site, d=dataset))
    write("leaderboard.csv", to_csv(site))
    write("index.html", _page("site_index", site=site, data=_interactive(site), figures=list(_pareto(groups, site.boards, drawn))))
    for name, published in published_files(site, entries, address):
        write(name, published)
    write(DATA_FILE, to_json(site))
    _remove_others(output, written)
    return written


def to_json(site: Site) -> str:
    """All values of the site, with ``format`` in front."""
    return json.dumps({"format": FORMAT, **asdict(site)}, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def to_csv(site: Site) -> str:
    """The boards as one table, a line per row and board; texts that a spreadsheet would run as a formula start with an apostrophe."""
    tasks = list(dict.fromkeys(task for board in site.boards for task in board.tasks))
    about = ("charge_class", "gain", "coverage", "parameters", "training_data", "in_domain", "level_of_theory", "package")
    cost = ("seconds_per_call", "hardware", "not_converged", "relaxations", "date", "page")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    scores = [f"{task}{end}" for task in ("overall", *tasks) for end in ("", "_low", "_high")]
    writer.writerow(["dataset", "level", "suite", "board", "kind", "rank", "model", "name", *about, *cost, *scores])
    for board in site.boards:
        for row in board.rows:
            cells = [row.overall, *(row.tasks.get(task) for task in tasks)]
            numbers = [value for c in cells for value in ((c.score, c.low, c.high) if c else (None, None, None))]
            first = [board.dataset, board.level, board.suite, board.id, row.kind, row.rank, row.model, row.name]
            values = [*first, *(getattr(row, name) for name in (*about, *cost)), *numbers]
            writer.writerow([f"'{v}" if isinstance(v, str) and v[:1] in tuple("=+-@\t\r") and v else v for v in values])
    return text.getvalue()


def _page(template: str, **values: object) -> str:
    return templates().get_template(f"{template}.html.j2").render(charge=format_charge, **values)


def _interactive(site: Site) -> dict[str, object]:
    """What the table on the first page works with."""
    tasks = [{"task": task.task, "title": task.title, "weight": task.weight} for task in site.tasks]
    return {"boards": [asdict(board) for board in site.boards], "tasks": tasks, "presets": site.presets}


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
        source = one.folder / "figures" / f"{section.name}.png"
        content = read_bytes(source, MAX_FIGURE) if source.is_file() else b""
        name = f"figures/{stem}/{section.name}.png" if content.startswith(_PNG) else None
        if name is not None:
            figures.append((name, content))
        sections.append(replace(section, figure=None if name is None else f"../{name}"))
    return replace(found, folder=page.folder, tasks=tuple(sections)), figures


def _pareto(groups: list[Group], boards: tuple[Board, ...], drawn: list[Path]) -> Iterable[tuple[str, str]]:
    from defectbench.leaderboard.pareto import stem

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
        mine = json.loads((output / DATA_FILE).read_text(encoding="utf-8")).get("format") == FORMAT
    except (OSError, ValueError, AttributeError):
        mine = False
    if not mine:
        raise DefectbenchError(f"{output} is not empty and not a site of 'leaderboard build'; choose another --output", code="bad-output")


def _remove_others(output: Path, written: list[Path]) -> None:
    """Pages and figures of entries that are gone."""
    kept = set(written)
    for part in PAGES:
        for path in (output / part).rglob("*"):
            if path.is_file() and path not in kept:
                path.unlink()
