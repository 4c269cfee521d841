"""The tasks: one module each, found by its ``TASK``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from defectbench.scoring.task import Task

_FIRST = ("relax", "pes")


def get_tasks(names: Sequence[str] | None = None) -> tuple[Task, ...]:
    """The tasks of those names in the order given, or all of them (``relax`` and ``pes`` first, then by name).

    Every module of this package that offers a :class:`~defectbench.scoring.task.Task` named ``TASK`` is a task.

    Raises:
        UnknownNameError: no such task; names the nearest.
    """
    import importlib
    import pkgutil

    from defectbench.base.errors import UnknownNameError
    from defectbench.scoring.task import Task

    modules = [module.name for module in pkgutil.iter_modules(__path__)]
    # a task has its module's name, so that asking for some does not import the others
    wanted = modules if names is None or not set(names) <= set(modules) else list(dict.fromkeys(names))
    found: dict[str, Task] = {}
    for name in wanted:
        task = getattr(importlib.import_module(f"{__name__}.{name}"), "TASK", None)
        if isinstance(task, Task):
            found[task.name] = task
    ordered = sorted(found, key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name))
    for name in names or ():
        if name not in found:
            raise UnknownNameError("task", name, ordered or [t.name for t in get_tasks()])
    return tuple(found[name] for name in (ordered if names is None else dict.fromkeys(names)))
