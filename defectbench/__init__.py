"""defectbench: can a machine-learning interatomic potential be trusted for charged point defects?

In a notebook::

    import defectbench

    defectbench.list_models()                                     # what can be evaluated by name
    entry = defectbench.evaluate("chgnet-0.3.0", suite="quick")   # or a YAML, or an ASE calculator:
    entry = defectbench.evaluate(my_calculator, name="mine", charge="info:charge")
    entry.verdict                                                 # what to think of it
    entry["relax"]["rmsd"]                                        # a metric with unit and interval
    entry["relax"].to_frame()                                     # a table as a pandas frame
    entry.plot("pes")                                             # a drawing: a notebook shows it
    defectbench.compare("old-entry", entry).regressions           # what got worse

Importing the package is cheap: each name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from defectbench.base.version import VERSION

if TYPE_CHECKING:
    from defectbench.base.errors import DefectbenchError
    from defectbench.calculations.checking import certify
    from defectbench.datasets.catalogue import list_datasets, load_dataset, validate_dataset
    from defectbench.datasets.importing.any_format import import_dataset
    from defectbench.entries.verification import verify
    from defectbench.evaluation import evaluate
    from defectbench.leaderboard.board import load_leaderboard
    from defectbench.leaderboard.comparison import compare
    from defectbench.leaderboard.entry_view import load_entry, rescore
    from defectbench.models.registry import list_models, load_model
    from defectbench.structures.pymatgen import from_pymatgen, to_pymatgen

__version__ = VERSION

_HOMES = {
    "DefectbenchError": "defectbench.base.errors",
    "certify": "defectbench.calculations.checking",
    "compare": "defectbench.leaderboard.comparison",
    "evaluate": "defectbench.evaluation",
    "from_pymatgen": "defectbench.structures.pymatgen",
    "import_dataset": "defectbench.datasets.importing.any_format",
    "list_datasets": "defectbench.datasets.catalogue",
    "list_models": "defectbench.models.registry",
    "load_dataset": "defectbench.datasets.catalogue",
    "load_entry": "defectbench.leaderboard.entry_view",
    "load_leaderboard": "defectbench.leaderboard.board",
    "load_model": "defectbench.models.registry",
    "rescore": "defectbench.leaderboard.entry_view",
    "to_pymatgen": "defectbench.structures.pymatgen",
    "validate_dataset": "defectbench.datasets.catalogue",
    "verify": "defectbench.entries.verification",
}

__all__ = [
    "DefectbenchError",
    "__version__",
    "certify",
    "compare",
    "evaluate",
    "from_pymatgen",
    "import_dataset",
    "list_datasets",
    "list_models",
    "load_dataset",
    "load_entry",
    "load_leaderboard",
    "load_model",
    "rescore",
    "to_pymatgen",
    "validate_dataset",
    "verify",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        from importlib import import_module

        found = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return found
    raise AttributeError(f"module 'defectbench' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
