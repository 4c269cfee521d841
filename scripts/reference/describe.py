"""Prints the tables of docs/reference-data.md: ``python scripts/reference/describe.py DATASET_FOLDER [--level PBE]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from reference_dft.describe import tables

from defectbench.errors import DefectbenchError


def main() -> int:
    """Prints, returns the exit code."""
    parser = argparse.ArgumentParser(description="Describes the minima, frames and checks of a dataset in Markdown tables.")
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--level", help="level of theory (default: the reference level)")
    options = parser.parse_args()
    try:
        print(tables(options.dataset, options.level))
    except DefectbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
