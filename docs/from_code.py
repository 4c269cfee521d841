"""Sphinx extension: what the code says goes into pages, and links between files of the repository become links between pages.

``<!-- generated: commands -->`` in a page is replaced by a reference of all commands, ``api`` by one of the Python functions, ``files`` by
the schemas of all files. ``<!-- page: FILE -->`` is replaced by a file of the repository.
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel

import defectbench
from defectbench.calculations.executors.dask import JobQueue
from defectbench.calculations.results import CertificateResult, DescriptorsResult, RelaxationResult, SinglePointResult
from defectbench.cli import app as command_line
from defectbench.datasets.schema import DatasetFile
from defectbench.datasets.splits import Splits
from defectbench.entries.published import Index
from defectbench.entries.schema import Entry
from defectbench.leaderboard.gate import _Tolerances
from defectbench.leaderboard.view import Site
from defectbench.models.schema import ModelDefinition
from defectbench.scoring.task import MetricDefinition, _Metric, _MetricsFile
from defectbench.training.recipe import Recipe

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
LEADERBOARD = ROOT / "leaderboards" / "README.md"
"""Where this is linked to, the site has the interactive leaderboard, one folder above the documentation."""
PAGES = {ROOT / "CONTRIBUTING.md": DOCS / "contributing.md", ROOT / "CHANGELOG.md": DOCS / "changelog.md"}
PAGES[ROOT / "reference-models" / "README.md"] = DOCS / "reference-models.md"
LINK = re.compile(r"(?<!!)\[([^\[\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def relink(text: str, source: Path, page: Path) -> str:
    """Markdown of ``source`` as it must be in ``page``: what is a page is linked, other files of the repository are only named."""

    def link(found: re.Match[str]) -> str:
        label, target, anchor = found[1], found[2], found[3] or ""
        if ":" in target:
            return found[0]
        path = (source.parent / target).resolve()
        if path == LEADERBOARD:
            return f'<a href="{os.path.relpath(DOCS.parent / "index.html", page.parent)}">{label}</a>'
        path = PAGES.get(path, path)
        return f"[{label}]({os.path.relpath(path, page.parent)}{anchor})" if path.is_relative_to(DOCS) else label

    return LINK.sub(link, text)


def cell(text: str) -> str:
    """Text inside a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


def plain(text: str) -> str:
    """A docstring's markup as Markdown: roles become code."""
    return re.sub(r":\w+:`~?(?:[\w.]*\.)?([^`]+)`", r"`\1`", text).replace("``", "`")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *([cell(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def commands() -> str:
    """Every command with its arguments and options, as ``--help`` shows them."""
    return "\n\n".join(_commands(typer.main.get_command(command_line), "defectbench", None))


def _commands(command: Any, path: str, parent: typer.Context | None) -> Iterator[str]:
    context = command.context_class(command, info_name=path.rpartition(" ")[2], parent=parent)
    help_text = plain(inspect.cleandoc(command.help or ""))
    if hasattr(command, "commands"):
        if parent is not None:
            yield f"## {path}\n\n{help_text}"
        for name in command.list_commands(context):
            yield from _commands(command.get_command(context, name), f"{path} {name}", context)
        return
    yield f"##{'#' if path.count(' ') > 1 else ''} {path}\n\n{help_text}"
    yield f"```\n{command.get_usage(context).removeprefix('Usage: ')}\n```"
    rows = [record for parameter in command.params if (record := parameter.get_help_record(context)) is not None]
    if rows:
        yield table(("argument or option", "meaning"), [(f"`{name.strip()}`", text) for name, text in rows])


CLASSES = (
    "defectbench.evaluation.Evaluation",
    "defectbench.leaderboard.entry_view.EntryView",
    "defectbench.leaderboard.entry_view.TaskView",
    "defectbench.leaderboard.entry_view.Metric",
    "defectbench.leaderboard.entry_view.Drawing",
    "defectbench.leaderboard.entry_view.Rescored",
    "defectbench.leaderboard.scores.Score",
    "defectbench.leaderboard.scores.TaskScore",
    "defectbench.leaderboard.scores.MetricScore",
    "defectbench.leaderboard.comparison.Comparison",
    "defectbench.leaderboard.comparison.Change",
    "defectbench.leaderboard.board.Leaderboard",
    "defectbench.leaderboard.hosts.AcrossHosts",
    "defectbench.calculations.checking.Certified",
    "defectbench.entries.verification.Verification",
    "defectbench.datasets.dataset.Dataset",
    "defectbench.datasets.dataset.ReferenceMinimum",
    "defectbench.datasets.importing.assemble.ImportReport",
    "defectbench.datasets.validation.ValidationReport",
    "defectbench.datasets.catalogue.DatasetSummary",
    "defectbench.models.schema.ModelDefinition",
    "defectbench.base.listing.Listing",
)
"""What the public functions give, where a reader works with it."""


def api() -> str:
    """The public functions, then the classes of what they return."""
    functions = [name for name in defectbench.__all__ if inspect.isfunction(getattr(defectbench, name))]
    parts = ["## Functions", _rst(f".. autofunction:: defectbench.{name}" for name in functions)]
    parts += ["## What they return", _rst(f".. autoclass:: {name}\n   :members:" for name in CLASSES)]
    parts += ["## Errors", _rst([".. autoclass:: defectbench.DefectbenchError"])]
    return "\n\n".join(parts)


def _rst(directives: typing.Iterable[str]) -> str:
    return "```{eval-rst}\n" + "\n\n".join(directives) + "\n```"


@dataclass(frozen=True)
class File:
    """A kind of file: what it is called, what it is, and the classes of its content."""

    name: str
    about: str
    content: tuple[type, ...]


FILES = (
    File("MODEL.yaml", "A [model of your own](models.md#your-own-model).", (ModelDefinition,)),
    File("dataset.yaml", "A [dataset](datasets.md#the-format).", (DatasetFile,)),
    File("splits.yaml", "What of a dataset trains, validates and tests a model: [splits](datasets.md#splits).", (Splits,)),
    File("RECIPE.yaml", "How a model is [trained](training.md#recipes).", (Recipe,)),
    File("JOBQUEUE.yaml", "How jobs are submitted: `evaluate --jobqueue`, see [Dask](cluster.md#dask).", (JobQueue,)),
    File("TOLERANCES.yaml", "What counts as no change in the [gate](gate.md#options): `compare --tolerance`.", (_Tolerances,)),
    File("metrics.yaml", "The metrics of a [task](tasks.md#adding-a-task).", (_MetricsFile,)),
    File("entry.json", "What `defectbench evaluate` writes: one model's results on one dataset.", (Entry,)),
    File(
        "calculations.json.gz",
        "The calculations behind an entry, by kind.",
        (RelaxationResult, SinglePointResult, DescriptorsResult, CertificateResult),
    ),
    File("entries.json", "The index of a site, where [baselines are found by name](gate.md#published-baselines).", (Index,)),
    File("leaderboard.json", "Every value of a [site](leaderboard-site.md#the-same-values-as-data).", (Site,)),
)


def files() -> str:
    """The schema of each kind of file."""
    parts = []
    for file in FILES:
        parts.append(f"## {file.name}\n\n{file.about}")
        waiting, done = list(file.content), set()
        while waiting:
            model = waiting.pop(0)
            if model in done:
                continue
            done.add(model)
            if len(file.content) > 1 or model is not file.content[0]:
                parts.append(f"({_anchor(file, model)})=\n### {file.name}: {model.__name__.lstrip('_')}")
            about = docs_of(MetricDefinition if model is _Metric else model)
            nested: list[type] = []
            rows = [
                (f"`{name}`", kind(annotation, partial(_link, file), nested), default, about.get(name, ""))
                for name, annotation, default in contents(model)
            ]
            parts.append(table(("field", "type", "default", "meaning"), rows))
            waiting += nested
    return "\n\n".join(parts)


def _link(file: File, model: type) -> str:
    return f"[{model.__name__.lstrip('_')}](#{_anchor(file, model)})"


def _anchor(file: File, model: type) -> str:
    return f"{file.name}-{model.__name__}".lower().replace(".", "-")


def contents(model: type) -> list[tuple[str, Any, str]]:
    """Name, type and default of each field of a pydantic model or dataclass."""
    if issubclass(model, BaseModel):
        return [
            (name, field.annotation, "required" if field.is_required() else _default(field.get_default(call_default_factory=True)))
            for name, field in model.model_fields.items()
        ]
    assert is_dataclass(model)
    hints = typing.get_type_hints(model)
    return [(field.name, hints[field.name], "" if field.default is MISSING else _default(field.default)) for field in fields(model)]


def _default(value: object) -> str:
    if isinstance(value, BaseModel):
        return "its defaults"
    return f"`{json.dumps(value, default=str, ensure_ascii=False)}`"


WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "null", Any: "anything", Path: "path"}


def kind(annotation: Any, link: Callable[[type], str], nested: list[type]) -> str:
    """A type in words; models inside it are linked, and appended to ``nested``."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)

    def inner(one: Any) -> str:
        return kind(one, link, nested)

    if origin is typing.Annotated:
        return inner(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(inner(one) for one in arguments))
    if origin is typing.Literal:
        return " or ".join(f"`{one}`" for one in arguments)
    if origin is tuple and Ellipsis not in arguments:
        return "[" + ", ".join(inner(one) for one in arguments) + "]"
    if origin is not None and issubclass(origin, Mapping):
        return f"mapping: {inner(arguments[0])} → {inner(arguments[1])}"
    if origin is not None and issubclass(origin, Sequence):
        return f"list of: {inner(arguments[0])}"
    if isinstance(annotation, type) and (issubclass(annotation, BaseModel) or is_dataclass(annotation)):
        nested.append(annotation)
        return link(annotation)
    return WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def docs_of(model: type) -> dict[str, str]:
    """What is said of each field: under ``Attributes:`` of the class, or below the field."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if base.__module__.partition(".")[0] != "defectbench":
            continue
        section = re.search(r"^Attributes:\n((?: .*\n?|\n)*)", inspect.cleandoc(base.__doc__ or "") + "\n", re.MULTILINE)
        entries = textwrap.dedent(section[1]) if section else ""
        found |= {name: plain(text) for name, text in re.findall(r"^(\w+): ((?:.*\n?)(?:^ +.*\n?)*)", entries, re.MULTILINE)}
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(tree, ast.ClassDef)
        for field, below in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                found[ast.unparse(field.target)] = plain(inspect.cleandoc(str(below.value.value)))
    return found


GENERATED = {"commands": commands, "api": api, "files": files}


def page_text(text: str, page: Path) -> str:
    """A page's Markdown with what is generated, and with links that work on the site."""
    if included := re.search(r"<!-- page: (\S+) -->", text):
        source = ROOT / included[1]
        return relink(source.read_text(encoding="utf-8"), source, page)
    text = relink(text, page, page)
    return re.sub(r"<!-- generated: (\w+) -->", lambda found: GENERATED[found[1]](), text)


def notebook_text(text: str, page: Path) -> str:
    """A notebook's cells and stored outputs as Markdown; a test runs the cells, the site does not."""
    parts = []
    for part in json.loads(text)["cells"]:
        content = "".join(part["source"])
        if part["cell_type"] == "markdown":
            parts.append(relink(content, page, page))
        else:
            parts.append(f"```python\n{content}\n```")
            parts += [_output(found) for found in part["outputs"]]
    return "\n\n".join(parts) + f"\n\n{{download}}`This page as a notebook <{page.name}>`"


def _output(output: Mapping[str, Any]) -> str:
    data = output.get("data", {"text/plain": output.get("text", "")})
    if "image/png" in data:
        return f'<img alt="The figure that the cell above draws" src="data:image/png;base64,{"".join(data["image/png"]).strip()}">'
    if "text/html" in data:
        html = "".join(data["text/html"]).replace('border="1" class="dataframe"', 'class="docutils"')
        return f'```{{raw}} html\n<div class="table-wrapper">{html}</div>\n```'
    return f'```{{raw}} html\n<pre class="output">{escape("".join(data["text/plain"]).strip())}</pre>\n```'


def _read(sphinx: Any, name: str, source: list[str]) -> None:
    path = Path(sphinx.env.doc2path(name))
    source[0] = (notebook_text if path.suffix == ".ipynb" else page_text)(source[0], path)


def setup(sphinx: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    sphinx.connect("source-read", _read)
    return {"parallel_read_safe": True}
