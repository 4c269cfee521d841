"""The tables of docs/reference-data.md: ``python scripts/reference/describe.py DATASET_FOLDER [--level PBE] [--page PAGE]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from reference_dft.describe import tables, update_page

from defectbench.errors import DefectbenchError


def main() -> int:
    """Prints, returns the exit code."""
    parser = argparse.ArgumentParser(description="Describes the minima, frames and checks of a dataset in Markdown tables.")
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--level", help="level of theory (default: the reference level)")
    parser.add_argument("--page", type=Path, help="put the tables between the marks of this Markdown page instead of printing them")
    options = parser.parse_args()
    try:
        text = tables(options.dataset, options.level)
        if options.page is None:
            print(text)
        else:
            update_page(options.page, text)
    except DefectbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
