"""The command line: ``defectbench …``. Small functions over the library; every mistake of the user is one line and exit code 2."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

import typer

from defectbench.base.errors import DefectbenchError, Interrupted
from defectbench.base.text import one_line
from defectbench.cli import cache, datasets, entries, environments, models, sanity, tasks
from defectbench.cli.compare import compare
from defectbench.cli.evaluate import evaluate
from defectbench.cli.groups import group
from defectbench.cli.train import train

app = group(
    "Can a machine-learning interatomic potential be trusted for charged point defects?",
    name="defectbench",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(datasets.app, name="datasets")
app.add_typer(models.app, name="models")
app.add_typer(environments.app, name="environments")
app.add_typer(cache.app, name="cache")
app.command("evaluate")(evaluate)
app.command("train")(train)
app.command("rescore")(entries.rescore)
app.command("compare")(compare)
app.add_typer(entries.entries_app, name="entries")
app.add_typer(entries.score_app, name="score")
app.add_typer(entries.leaderboard_app, name="leaderboard")
app.add_typer(tasks.app, name="tasks")
app.add_typer(sanity.app, name="sanity")


def _version(value: bool) -> None:
    if value:
        from defectbench import __version__

        typer.echo(f"defectbench {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version and exit."),
) -> None:
    pass


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """The first Ctrl-C ends the command in order; a second one at once: what is stored is whole, and workers end with their parent."""
    signal.signal(signal.SIGINT, _give_up)
    raise KeyboardInterrupt


def _give_up(_number: int, _frame: FrameType | None) -> None:
    os.write(2, (b"\x1b[?25h" if os.isatty(2) else b"") + b"error[interrupted]: interrupted; the same command resumes\n")
    os._exit(130)


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 the run went wrong, 2 bad input, 130 interrupted."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else Ctrl-C is ignored here, as in a background job
        signal.signal(signal.SIGINT, _interrupt)
    try:
        app()
    except DefectbenchError as error:
        if isinstance(error, Interrupted):  # a further Ctrl-C would end the interpreter as it shuts down, with another exit code
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        print(f"error[{error.code}]: {one_line(error, 4000)}", file=sys.stderr)
        if error.exit_code == 130:  # a further Ctrl-C would kill the interpreter while it ends, with another exit code
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
