"""The command line of the reference workflow."""

from __future__ import annotations

import argparse
import math
import re
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from defectbench.base.errors import DatasetError, DefectbenchError


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"a whole number from 1 to 1024, not '{text}'")
    return int(text)


def _niceness(text: str) -> int:
    if not text.isdigit() or int(text) > 19:
        raise argparse.ArgumentTypeError(f"a whole number from 0 to 19, not '{text}'")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"a positive number, not '{text}'")
    return value


def _word(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not a regular expression: {error}") from error
    return text


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    out = argparse.ArgumentParser(
        prog="run.py",
        description="Works through the queue.yaml of a dataset folder with CP2K and adds the results to the dataset.",
    )
    out.add_argument("dataset", type=Path, help="dataset folder with dataset.yaml and queue.yaml")
    out.add_argument("--workers", type=_count, default=2, help="CP2K processes at a time, one core each (default: 2)")
    out.add_argument("--status", action="store_true", help="show what is done, running and waiting, and end")
    out.add_argument("--add", action="store_true", help="put what the work folder holds into the dataset, unfinished too, and end")
    out.add_argument(
        "--only",
        action="append",
        type=_word,
        default=[],
        metavar="WORD",
        help="only tasks whose label contains this or matches it as a regular expression (may be repeated)",
    )
    out.add_argument("--level", help="only tasks at this level of theory")
    out.add_argument("--work", type=Path, help="folder for the runs (default: reference-work/<dataset id>)")
    out.add_argument("--cp2k", help="CP2K program (default: cp2k.psmp or the like on the PATH)")
    out.add_argument(
        "--vector-kernels", action="store_true", help="with Debian's CP2K on a processor with AVX2: faster code for its busiest loops"
    )
    out.add_argument("--hessian", metavar="MODEL", help="begin relaxations with the Hessian of this model")
    out.add_argument("--no-add", action="store_true", help="leave finished results in the work folder; --add puts them into the dataset")
    out.add_argument("--retry-failed", action="store_true", help="begin tasks that were given up again")
    out.add_argument("--nice", type=_niceness, default=19, help="niceness of the CP2K processes (default: 19, the lowest priority)")
    out.add_argument("--poll", type=_seconds, default=5.0, help="seconds between looks at the running jobs (default: 5)")
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    options = parser().parse_args(arguments)
    try:
        _run(options)
    except DefectbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; the same command resumes from here", file=sys.stderr)
        return 130
    return 0


def _run(options: argparse.Namespace) -> None:
    from .manager import Manager, default_work_folder, exclusive, find_cp2k
    from .reference_data import ReferenceData

    data = ReferenceData(options.dataset)
    work: Path = options.work or default_work_folder(data)
    if options.level is not None:
        data.dataset.level_of_theory(options.level)
    manager = Manager(data, work, options.only, options.level)
    if (options.only or options.level) and not manager.tasks():
        chosen = " and ".join([*options.only, *([f"level {options.level}"] if options.level else [])])
        raise DatasetError(f"no runnable task matches {chosen}; --status alone lists all")
    if options.status:
        from rich.console import Console

        from .status import rows, table

        console = Console()
        if not console.is_terminal:
            console = Console(width=180)
        console.print(table(rows(manager), options.workers))
        return
    if options.add:
        added = manager.add()
        print(f"{len(added)} added to {data.folder}" if added else "nothing new to add")
        return
    command = find_cp2k(options.cp2k)
    if options.vector_kernels:
        from .vector_kernels import with_vector_kernels

        command = with_vector_kernels(command, work)

    guess = None
    if options.hessian:
        from .hessian import model_hessian

        guess = model_hessian(options.hessian)

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with exclusive(data.folder):
        previous = signal.signal(signal.SIGTERM, stop)
        try:
            manager.run(
                command,
                options.workers,
                add=not options.no_add,
                poll=options.poll,
                report=_report,
                retry_failed=options.retry_failed,
                niceness=options.nice,
                guess=guess,
            )
        finally:
            signal.signal(signal.SIGTERM, previous)


def _report(line: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}", flush=True)
