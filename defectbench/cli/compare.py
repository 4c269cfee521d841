"""``defectbench compare``, and the gate at the end of ``evaluate``."""

from __future__ import annotations

import io
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from defectbench.cli.arguments import EntryDataset, path_of, several, text_of, writable_below

if TYPE_CHECKING:
    from defectbench.datasets.dataset import Dataset
    from defectbench.leaderboard.comparison import Comparison
    from defectbench.leaderboard.entry_view import EntryView


class FormatName(StrEnum):
    """How a comparison is written."""

    text = "text"
    markdown = "markdown"
    json = "json"
    junit = "junit"
    github = "github"


EntriesOption = Annotated[
    str | None,
    typer.Option(
        "--entries",
        parser=text_of("--entries"),
        metavar="FOLDER_OR_URL",
        help="Where published entries are found by name: a folder of entries, or a built site. Default: DEFECTBENCH_ENTRIES_MIRROR, "
        "else ./leaderboards.",
    ),
]
ToleranceOption = Annotated[
    Path | None,
    typer.Option(
        "--tolerance", parser=path_of("--tolerance"), metavar="FILE", help="YAML: changes per metric that count as none, in its unit."
    ),
]
FormatOption = Annotated[FormatName, typer.Option("--format", help="Format of what is printed.")]
ENDINGS = {".md": FormatName.markdown, ".json": FormatName.json, ".xml": FormatName.junit, ".txt": FormatName.text}


def compare(
    baseline: Annotated[
        str,
        typer.Argument(parser=text_of("BASELINE"), metavar="BASELINE", help="Entry folder, or the name of a model with a published entry."),
    ],
    candidate: Annotated[Path, typer.Argument(parser=path_of("CANDIDATE"), metavar="CANDIDATE", help="Entry that may be worse.")],
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric", help="Only these metrics, e.g. relax.local_rmsd; they can fail the gate whatever their weight. Repeatable."
        ),
    ] = None,
    task: Annotated[list[str] | None, typer.Option("--task", "-t", help="Only these tasks. Repeatable.")] = None,
    tolerance: ToleranceOption = None,
    confidence: Annotated[float, typer.Option("--confidence", help="Of the intervals; 0.99 gives fewer false alarms.")] = 0.95,
    dataset: EntryDataset = None,
    entries: EntriesOption = None,
    form: FormatOption = FormatName.text,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            parser=path_of("--output"),
            metavar="FILE",
            help="Write it there, too, as .md, .json, .xml (JUnit) or .txt. Repeatable.",
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show unchanged metrics too.")] = False,
) -> None:
    """Compare two entries metric by metric: a regression gate for CI.

    Exit code 0: no regression; 1: a metric that counts is worse, and the interval of the paired difference excludes zero; 2: the two do
    not compare.
    """
    import defectbench

    gate(
        baseline,
        defectbench.load_entry(candidate),
        dataset,
        metrics=several(metric, "--metric"),
        tasks=several(task, "--task"),
        tolerance=tolerance,
        confidence=confidence,
        entries=entries,
        form=form,
        output=output or (),
        everything=everything,
    )


def prepare_gate(baseline: str, dataset: str, tolerance: Path | None, entries: str | None, output: Sequence[Path]) -> tuple[Dataset, str]:
    """What can be found out before a run: the dataset, and the folder of a baseline that fits it.

    Raises:
        DefectbenchError: the two do not compare, or something cannot be read or written.
    """
    import defectbench
    from defectbench.base.errors import DefectbenchError
    from defectbench.entries.published import find_baseline
    from defectbench.leaderboard.gate import read_tolerances

    for path in output:
        _form(path)
        writable_below(path.parent)
    if tolerance is not None:
        read_tolerances(tolerance)
    data = defectbench.load_dataset(dataset)
    folder = find_baseline(baseline, (data.id, data.sha256), entries)
    old = defectbench.load_entry(folder).record.dataset
    if old.sha256 != data.sha256:
        raise DefectbenchError(
            f"{folder} does not compare: made on {old.id} {old.sha256[:12]}…, the run is on {data.id} {data.sha256[:12]}…; "
            "evaluate the baseline again",
            code="not-comparable",
        )
    return data, str(folder)


def gate(
    baseline: str,
    candidate: EntryView,
    dataset: str | Dataset | None = None,
    *,
    metrics: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    tolerance: Path | None = None,
    confidence: float = 0.95,
    entries: str | None = None,
    form: FormatName = FormatName.text,
    output: Sequence[Path] = (),
    everything: bool = False,
) -> None:
    """Compares, prints, writes, and fails if there is a regression.

    Raises:
        RunError: there is one (code ``worse``).
        DefectbenchError: the two do not compare, or something cannot be read or written.
    """
    import defectbench
    from defectbench.base.errors import RunError
    from defectbench.base.files import write_text
    from defectbench.cli import render
    from defectbench.entries.published import find_baseline
    from defectbench.leaderboard.gate import read_tolerances, verdict_line

    for path in output:
        writable_below(path.parent)
    forms = [_form(path) for path in output]
    tolerances = None if tolerance is None else read_tolerances(tolerance)
    record = candidate.record.dataset
    folder = find_baseline(baseline, (record.id, record.sha256), entries)
    found = defectbench.compare(folder, candidate, dataset, metrics=metrics, tasks=tasks, tolerances=tolerances, confidence=confidence)
    for path, wanted in zip(output, forms, strict=True):
        write_text(path, _text(found, wanted, everything))
    if form is FormatName.text:
        render.comparison(render.make_console(), found, everything)
    else:
        typer.echo(_text(found, form, everything), nl=False)
    if not found.passed:
        raise RunError(f"{found.candidate.model} is worse than {found.baseline.model}: {verdict_line(found)}", code="worse")


def _form(path: Path) -> FormatName:
    from defectbench.base.errors import DefectbenchError

    if path.suffix.lower() not in ENDINGS:
        raise DefectbenchError(f"--output {path}: the ending says the format; give one of {', '.join(ENDINGS)}", code="bad-output")
    return ENDINGS[path.suffix.lower()]


def _text(found: Comparison, form: FormatName, everything: bool) -> str:
    from defectbench.cli import render
    from defectbench.leaderboard.gate import FORMATS

    if form is not FormatName.text:
        return FORMATS[form.value](found, everything)
    text = io.StringIO()
    render.comparison(render.make_console(file=text, width=80), found, everything)
    return text.getvalue()
