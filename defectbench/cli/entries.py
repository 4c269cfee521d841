"""``defectbench rescore``, ``score`` and ``leaderboard``: what entries say, computed when it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from defectbench.cli.arguments import (
    DeviceName,
    DeviceOption,
    EntryArgument,
    EntryDataset,
    EnvironmentOption,
    FolderArgument,
    TrustCode,
    TrustWeights,
    WeightsOption,
    path_of,
    several,
    text_of,
    writable_below,
)
from defectbench.cli.groups import group

if TYPE_CHECKING:
    from defectbench.leaderboard.entry_view import EntryView
    from defectbench.tasks.search.rows import SoapRow

entries_app = group("Entries of runs that were calculated in parts.")
score_app = group("Scores, computed from an entry's metrics.")
leaderboard_app = group("Leaderboard tables, figures and site.")


@entries_app.callback()
def _entries() -> None:
    pass


@score_app.callback()
def _score() -> None:
    pass


@leaderboard_app.callback()
def _leaderboard() -> None:
    pass


def rescore(
    entry: EntryArgument,
    dataset: EntryDataset = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if the stored metrics differ.")] = False,
    soap: Annotated[
        bool,
        typer.Option("--soap", help="Repeat the search task with minima distinguished by SOAP (needs dscribe). Metrics do not change."),
    ] = False,
    figures: Annotated[bool, typer.Option("--figures", help="Draw the figures and write the report again, too.")] = False,
) -> None:
    """Score a finished entry again, without running the model."""
    import defectbench
    from defectbench.base.errors import RunError
    from defectbench.cli import render

    console = render.make_console()
    by_soap = _search_by_soap(entry, dataset) if soap else None
    found = defectbench.rescore(entry, dataset, write=not check)
    if check and found.differences:
        raise RunError(
            f"{entry}: {len(found.differences)} metrics differ from those stored, first {found.differences[0]}", code="not-reproduced"
        )
    if check:
        typer.echo(f"{entry}: every metric is reproduced")
    else:
        render.entry(console, found.now)
    if figures and not check:
        _draw(found.now, dataset)
    if by_soap is not None:
        render.search_by_soap(console, by_soap)
        if by_soap and not check:
            from defectbench.base.files import contained
            from defectbench.entries.folder import write_csv

            typer.echo(f"written to {write_csv(contained(found.now.folder, 'tables/search_soap.csv'), by_soap)}")


def _draw(entry: EntryView, dataset: str | None) -> None:
    """Figures and report of an entry, from what it holds."""
    from defectbench.entries.figures import draw_entry
    from defectbench.entries.rescoring import dataset_of
    from defectbench.leaderboard.report import write_report

    draw_entry(entry.folder)
    write_report(entry, dataset_of(dataset, entry.record.dataset.id))


def _search_by_soap(entry: Path, dataset: str | None) -> list[SoapRow]:
    from defectbench.entries.rescoring import stored_scoring
    from defectbench.tasks.search.score import soap_table

    return soap_table(stored_scoring(entry, dataset)[1])


@entries_app.command("merge")
def merge(
    shards: Annotated[
        list[Path], typer.Argument(parser=path_of("SHARD"), metavar="SHARD...", help="Folders that 'defectbench evaluate --shard' wrote.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", parser=path_of("--output"), metavar="FOLDER", help="Run folder to write to.")],
    dataset: EntryDataset = None,
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="Draw figures.")] = True,
) -> None:
    """Merge the shards of one run into the entry that the run would have given in one piece. No model runs."""
    from defectbench.cli import render
    from defectbench.evaluation import Evaluation
    from defectbench.runs.shards import merge_shards

    done = merge_shards(shards, output, dataset, figures=figures)
    render.evaluation(render.make_console(), Evaluation(done.entry, output, done.outcomes, done.files))


@score_app.command("explain")
def explain(
    entry: EntryArgument,
    task: Annotated[list[str] | None, typer.Option("--task", "-t", help="Only these tasks. Repeatable.")] = None,
) -> None:
    """Show how an entry's score is computed: value, anchors, score and weight of each metric, task by task."""
    import defectbench
    from defectbench.cli import render

    render.score(render.make_console(), defectbench.load_entry(entry), several(task, "--task"))


@leaderboard_app.command("table")
def table(
    folder: FolderArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            parser=path_of("--output"),
            metavar="FILE",
            help="Write the Markdown page (and its figures) to this file instead of printing it.",
        ),
    ] = None,
) -> None:
    """Write a Markdown leaderboard of all entries below a folder. Baselines are rows; datasets and suites are never mixed."""
    from defectbench.base.errors import DefectbenchError
    from defectbench.leaderboard.board import load_leaderboard

    board = load_leaderboard(folder)
    if output is None:
        typer.echo(board.markdown(), nl=False)
        return
    if output.is_dir():
        raise DefectbenchError(f"{output} is a folder; give the page's file, e.g. {output / 'README.md'}", code="bad-output")
    writable_below(output.parent)
    drawn = board.write(output)
    typer.echo(f"written to {output}" + (f", with {len(drawn)} files in {drawn[0].parent}" if drawn else ""))


@leaderboard_app.command("figure")
def figure(
    folder: FolderArgument,
    output: Annotated[Path, typer.Option("--output", "-o", parser=path_of("--output"), metavar="FOLDER", help="Folder to draw into.")],
) -> None:
    """Draw accuracy against speed, with the Pareto front, for each group of comparable entries, as PNG and SVG."""
    from defectbench.base.errors import DefectbenchError
    from defectbench.leaderboard.board import load_leaderboard

    if output.exists() and not output.is_dir():
        raise DefectbenchError(f"{output} is a file; give a folder to draw into", code="bad-output")
    writable_below(output)
    drawn = load_leaderboard(folder).draw(output)
    if not drawn:
        raise DefectbenchError(
            f"nothing to draw in {folder}: no entry has an overall score and a time; evaluate with --task cost", code="nothing-to-draw"
        )
    typer.echo(f"written to {output}: {', '.join(path.name for path in drawn)}")


@leaderboard_app.command("build")
def build(
    folder: Annotated[Path, typer.Argument(parser=path_of("FOLDER"), metavar="[FOLDER]", help="Folder with entries, at any depth.")] = Path(
        "leaderboards"
    ),
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            parser=path_of("--output"),
            metavar="SITE",
            help="Folder of the site; an earlier site is replaced. Default: 'site' in FOLDER.",
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option("--url", parser=text_of("--url"), metavar="ADDRESS", help="Address of the site on the web, for links of its feed."),
    ] = None,
    parquet: Annotated[bool, typer.Option("--parquet", help="Write the tables as Parquet, too. Needs pyarrow.")] = False,
    docs: Annotated[
        str | None,
        typer.Option(
            "--docs",
            parser=text_of("--docs"),
            metavar="PAGE",
            help="Page of the documentation in SITE, e.g. docs/index.html; every page links it.",
        ),
    ] = None,
) -> None:
    """Build the leaderboard as a static site, which works on any web host and from the disk."""
    from defectbench.leaderboard.html import build_site

    output = output or folder / "site"
    writable_below(output)
    written = build_site(folder, output, address=address, parquet=parquet, documentation=docs)
    typer.echo(f"written to {output}: {len(written)} files; open {output / 'index.html'} or run 'defectbench leaderboard serve {output}'")


@leaderboard_app.command("serve")
def serve(
    site: Annotated[Path, typer.Argument(parser=path_of("SITE"), metavar="SITE", help="Folder that 'leaderboard build' made.")],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port on this machine; 0 takes a free one.")] = 8000,
) -> None:
    """Show a built site in the browser, for this machine only. Ctrl+C stops it."""
    from defectbench.leaderboard.serving import server

    with server(site, port) as running:
        typer.echo(f"http://127.0.0.1:{running.server_port}/ shows {site}; Ctrl+C stops it")
        try:
            running.serve_forever()
        except KeyboardInterrupt:
            typer.echo("stopped")


@leaderboard_app.command("add")
def add(
    entry: EntryArgument,
    leaderboards: Annotated[
        Path, typer.Option("--leaderboards", parser=path_of("--leaderboards"), metavar="FOLDER", help="Folder of the published entries.")
    ] = Path("leaderboards"),
    replace: Annotated[bool, typer.Option("--replace", help="Replace an entry that is verified, too.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Check only; write nothing to the leaderboards.")] = False,
    comment: Annotated[
        Path | None,
        typer.Option(
            "--comment", parser=path_of("--comment"), metavar="FILE", help="Write the resulting row and the checks there, as Markdown."
        ),
    ] = None,
    dataset: EntryDataset = None,
    sample: Annotated[int, typer.Option("--sample", min=0, metavar="N", help="Run N calculations again with the model and compare.")] = 0,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", parser=text_of("--model"), metavar="YAML", help="With --sample: the model, if it is not a registered one."
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="With --sample: number of worker processes.")] = None,
) -> None:
    """Check an entry for publication, and file it as LEADERBOARDS/DATASET/MODEL."""
    from defectbench.base.errors import RunError
    from defectbench.base.files import write_text
    from defectbench.calculations.preparation import ModelOptions
    from defectbench.cli import render
    from defectbench.entries import submission
    from defectbench.entries.sampling import SampleOptions
    from defectbench.leaderboard.submitted import comment as written

    if comment is not None:
        writable_below(comment.parent)
    found = submission.check_submission(entry, dataset, sample=sample, model=model, options=SampleOptions(ModelOptions("cpu"), workers))
    if comment is not None:
        write_text(comment, written(found, leaderboards))
    render.submission(render.make_console(), found)
    if not check:
        typer.echo(f"added as {submission.add(found, leaderboards, replace=replace)}; next: defectbench leaderboard build {leaderboards}")
    elif found.problems:
        raise RunError(f"{found.folder} cannot be added: {len(found.problems)} problems, first: {found.problems[0]}", code="not-verified")


@leaderboard_app.command("sign")
def sign(entry: EntryArgument) -> None:
    """Sign an entry with Sigstore (extra 'sign'). Your address becomes part of a public log."""
    from defectbench.entries.signing import sign as signed

    typer.echo(f"written to {signed(entry)}")


@leaderboard_app.command("verify")
def verify(
    entries: Annotated[
        list[Path], typer.Argument(parser=path_of("ENTRY"), metavar="ENTRY...", help="Folders that 'defectbench evaluate' wrote.")
    ],
    dataset: EntryDataset = None,
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="Draw figures again and compare them.")] = True,
    sample: Annotated[int, typer.Option("--sample", min=0, metavar="N", help="Run N calculations again with the model and compare.")] = 0,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", parser=text_of("--model"), metavar="YAML", help="With --sample: the model, if it is not a registered one."
        ),
    ] = None,
    device: DeviceOption = DeviceName.cpu,
    workers: Annotated[int | None, typer.Option(min=1, help="With --sample: number of worker processes.")] = None,
    environment: EnvironmentOption = None,
    model_weights: WeightsOption = None,
    trust_code: TrustCode = False,
    trust_weights: TrustWeights = False,
) -> None:
    """Recompute everything that entries say, and name each difference. Exit code 1 if there is one."""
    import defectbench
    from defectbench.base.errors import RunError
    from defectbench.calculations.preparation import ModelOptions
    from defectbench.cli import render
    from defectbench.entries.sampling import SampleOptions

    chosen = ModelOptions(device.value, environment, model_weights, trust_code=trust_code, trust_weights=trust_weights)
    console = render.make_console()
    differ = 0
    for entry in entries:
        found = defectbench.verify(entry, dataset, figures=figures, sample=sample, model=model, options=SampleOptions(chosen, workers))
        render.verification(console, found)
        differ += not found.passed
    if differ:
        raise RunError(f"{differ} of {len(entries)} entries are not what their calculations and datasets give", code="not-verified")
