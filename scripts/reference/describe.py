"""The tables of docs/reference-data.md: ``python scripts/reference/describe.py DATASET_FOLDER [--compare OTHER] [--page PAGE]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from reference_dft.describe import BEGIN, COMPARISON, END, comparison, tables, update_page

from defectbench.base.errors import DefectbenchError


def main() -> int:
    """Prints, returns the exit code."""
    parser = argparse.ArgumentParser(description="Describes the minima, frames and checks of a dataset in Markdown tables.")
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--level", help="level of theory (default: the reference level)")
    parser.add_argument("--compare", metavar="OTHER", help="its ground states beside those of another dataset of the same host as well")
    parser.add_argument("--page", type=Path, help="put the tables between the marks of this Markdown page instead of printing them")
    options = parser.parse_args()
    try:
        texts = [(tables(options.dataset, options.level), (BEGIN, END))]
        if options.compare:
            texts.append((comparison(options.dataset, options.compare, options.level), COMPARISON))
        for text, marks in texts:
            if options.page is None:
                print(text)
            else:
                update_page(options.page, text, marks)
    except DefectbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
