"""Start of the worker process: ``PYTHON launch.py OFFLINE [FOLDER …]``; OFFLINE is 1 to cut the network, FOLDERs are imported from."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(path for path in sys.path if path and Path(path).resolve() != here)]
    from defectbench_worker.isolation import cut_network, see_paths  # type: ignore[import-not-found]  # the name it is copied under
    from defectbench_worker.main import main  # type: ignore[import-not-found]

    see_paths(sys.argv[2:])
    main(network="none" if sys.argv[1] == "1" and cut_network() else "open")
