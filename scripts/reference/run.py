"""Works through a dataset's queue of reference calculations: ``python scripts/reference/run.py DATASET_FOLDER``."""

from __future__ import annotations

import sys

from reference_dft.cli import main

if __name__ == "__main__":
    sys.exit(main())
