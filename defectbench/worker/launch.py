"""Start of the worker process: ``PYTHON launch.py``. Puts only the worker's own folder on ``sys.path``."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    sys.path[0] = str(here.parent)
    from defectbench_worker.main import main  # type: ignore[import-not-found]  # the name it is copied under

    main()
