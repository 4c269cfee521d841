"""Renames levels of theory of a dataset and chooses its reference level.

    python scripts/reference/rename_levels.py DATASET OLD=NEW ... [--reference NEW]

Frames, properties, queue and ``dataset.yaml`` change together: a copy is made beside the dataset and takes its place when it is whole and
valid. A new reference level with a host of its own makes that the dataset's host; the host before becomes that of its level. Corrections
are calculated again by the present method at all levels that got theirs from potentials in the dataset. Run again, it changes nothing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from reference_dft.renaming import rename_levels

from defectbench.base.errors import DefectbenchError


def main() -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("names", nargs="*", metavar="OLD=NEW")
    parser.add_argument("--reference", metavar="LEVEL", help="new reference level, by its new name")
    options = parser.parse_args()
    names = dict(pair.split("=", 1) for pair in options.names if "=" in pair)
    if len(names) != len(options.names):
        parser.error("give pairs OLD=NEW, each old name once")
    try:
        changed = rename_levels(options.dataset, names, options.reference)
    except DefectbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{options.dataset}: {'levels renamed' if changed else 'nothing to change'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
