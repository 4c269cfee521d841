"""defectbench: can a machine-learning interatomic potential be trusted for charged point defects?

The public API is :func:`evaluate`, :func:`load_dataset`, :func:`list_datasets` and :func:`list_models`. Importing the
package is cheap: everything heavy is imported when it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from defectbench.datasets.catalogue import list_datasets, load_dataset
    from defectbench.evaluation import evaluate
    from defectbench.models.registry import list_models

__version__ = "0.1.0"
__all__ = ["__version__", "evaluate", "list_datasets", "list_models", "load_dataset"]

_HOMES = {
    "evaluate": "defectbench.evaluation",
    "list_datasets": "defectbench.datasets.catalogue",
    "list_models": "defectbench.models.registry",
    "load_dataset": "defectbench.datasets.catalogue",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'defectbench' has no attribute '{name}'")
