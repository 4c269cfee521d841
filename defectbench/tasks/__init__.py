"""The tasks: one package each, found by its ``TASK``; other distributions add theirs by entry points of the group ``defectbench.tasks``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from defectbench.scoring.task import Task

ENTRY_POINTS = "defectbench.tasks"
"""The group of entry points under which a distribution offers tasks: ``name = "package:TASK"``."""

_FIRST = ("relax", "pes")


def get_tasks(names: Sequence[str] | None = None) -> tuple[Task, ...]:
    """The tasks of those names in the order given, or all: ``relax`` and ``pes`` first, others by name, those of other packages last.

    Every package in this one that offers a :class:`~defectbench.scoring.task.Task` named ``TASK`` is a task, and so is every entry point of
    the group :data:`ENTRY_POINTS`. A task from elsewhere is scored and shown, but its weight in the overall score is 0: that score must not
    depend on what else is installed.

    Example:
        >>> [task.name for task in get_tasks(["pes", "relax"])]
        ['pes', 'relax']

    Raises:
        UnknownNameError: no such task; names the nearest.
        DefectbenchError: a task of another package cannot be loaded (code ``bad-task``).
    """
    from defectbench.base.errors import UnknownNameError

    own = _own_names()
    # a task has its package's name, so that asking for some does not import the others
    if names is not None and set(names) <= set(own):
        return tuple(_own_task(name) for name in dict.fromkeys(names))
    found = {name: _own_task(name) for name in sorted(own, key=lambda n: (_FIRST.index(n) if n in _FIRST else len(_FIRST), n))}
    found |= _tasks_from_elsewhere(tuple(found))
    for name in names or ():
        if name not in found:
            raise UnknownNameError("task", name, list(found))
    return tuple(found[name] for name in (found if names is None else dict.fromkeys(names)))


DEFAULT = "default"
"""Among the names of tasks it stands for all those that run by default."""


def default_tasks() -> tuple[Task, ...]:
    """The tasks that run where none are named."""
    return tuple(task for task in get_tasks() if not task.on_request)


def named_tasks(names: Sequence[str] | None) -> tuple[Task, ...]:
    """The tasks of a run: as :func:`get_tasks`, but None and the name :data:`DEFAULT` stand for :func:`default_tasks`.

    Example:
        >>> [task.name for task in named_tasks(["relax", "own_lattice"])]
        ['relax', 'own_lattice']

    Raises:
        UnknownNameError: no such task; names the nearest.
        DefectbenchError: a task of another package cannot be loaded (code ``bad-task``).
    """
    if names is None:
        return default_tasks()
    if DEFAULT in names:
        names = [*(task.name for task in default_tasks()), *(name for name in names if name != DEFAULT)]
    return get_tasks(names)


@lru_cache(maxsize=1)
def _own_names() -> tuple[str, ...]:
    """The packages in this one: a site asks for them some thousand times, and each look at the disk takes a millisecond."""
    import pkgutil

    return tuple(module.name for module in pkgutil.iter_modules(__path__))


def _own_task(name: str) -> Task:
    import importlib

    task: Task = importlib.import_module(f"{__name__}.{name}").TASK
    return task


def _tasks_from_elsewhere(taken: Sequence[str]) -> dict[str, Task]:
    """The tasks of other distributions, by name."""
    from dataclasses import replace

    from defectbench.base.errors import DefectbenchError
    from defectbench.scoring.task import Task

    found: dict[str, Task] = {}
    for point in _points(tuple(sys.path)):
        source = f"the task '{point.name}' ({point.value}) of {point.dist.name if point.dist else 'an installed package'}"
        try:
            task = point.load()
        except Exception as error:
            raise DefectbenchError(
                f"cannot load {source}: {type(error).__name__}: {error}; repair or uninstall that package", code="bad-task"
            ) from error
        if not isinstance(task, Task):
            raise DefectbenchError(f"{source} is not a defectbench.scoring.task.Task; repair or uninstall that package", code="bad-task")
        if task.name != point.name or task.name in taken or task.name in found:
            raise DefectbenchError(
                f"{source} is named '{task.name}'; give a task the name of its entry point, and one that no other task has", code="bad-task"
            )
        found[task.name] = replace(task, weight=0.0)
    return found


@lru_cache(maxsize=1)
def _points(path: tuple[str, ...]) -> tuple[EntryPoint, ...]:  # noqa: ARG001 (what is installed depends on it)
    """The entry points of other distributions, by name: reading what is installed takes longer than scoring an entry."""
    from importlib.metadata import entry_points

    return tuple(sorted(entry_points(group=ENTRY_POINTS), key=lambda p: p.name))
