"""What a model that takes no charge looks at in a structure, so that a charge can be put there."""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType, ModuleType
from typing import Any

from ase import Atoms

OTHER_KEYS = frozenset(
    (
        *("spin", "Spin", "total_spin", "spin_multiplicity", "multiplicity", "magmom", "total_magmom", "uhf"),
        *("temperature", "elec_temp", "pressure", "external_pressure", "electric_field", "external_field"),
        *("head", "modal", "task", "task_name", "dataset", "dataset_id"),
    )
)
"""Keys of ``atoms.info`` that models read and that say no charge."""
_NAME = re.compile(r"[^\W\d_][\w .:-]{0,39}")
_CONTAINERS = (tuple, list, set, frozenset)
_MOST_ITEMS = 200
MOST_CALLS = 60
"""Calls that looking for the one name among many may take."""


@dataclass
class Seen:
    """What was asked of a structure.

    Attributes:
        keys: of its ``info``.
        attributes: that it does not have.
        whole: whether all of ``info`` was read at once, so that keys can have been looked up elsewhere.
        pausing: whether nothing is noted at the moment.
    """

    keys: set[Any] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    whole: bool = False
    pausing: bool = False

    def read(self, key: Any) -> None:
        """Notes a key."""
        if not self.pausing:
            self.keys.add(key)

    def read_whole(self) -> None:
        """Notes that all was read."""
        self.whole = self.whole or not self.pausing

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Notes nothing."""
        before, self.pausing = self.pausing, True
        try:
            yield
        finally:
            self.pausing = before


class _Info(dict[Any, Any]):
    """``info`` that notes what is read of it. Its copies do, too; where a plain mapping is made of it, all counts as read."""

    def __init__(self, content: dict[Any, Any], seen: Seen) -> None:
        super().__init__(dict.items(content))
        self.seen = seen

    def __contains__(self, key: Any) -> bool:
        self.seen.read(key)
        return super().__contains__(key)

    def __getitem__(self, key: Any) -> Any:
        self.seen.read(key)
        return super().__getitem__(key)

    def get(self, key: Any, default: Any = None) -> Any:
        self.seen.read(key)
        return super().get(key, default)

    def pop(self, key: Any, *default: Any) -> Any:
        self.seen.read(key)
        return super().pop(key, *default)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        self.seen.read(key)
        return super().setdefault(key, default)

    def copy(self) -> _Info:
        return _Info(self, self.seen)

    __copy__ = copy

    def __deepcopy__(self, _memo: Any) -> _Info:
        return self.copy()

    # what follows reads all; dict(info), {**info} and json ask for keys() or items()
    def __iter__(self) -> Iterator[Any]:
        self.seen.read_whole()
        return super().__iter__()

    def __reversed__(self) -> Iterator[Any]:
        self.seen.read_whole()
        return super().__reversed__()

    def keys(self) -> Any:
        self.seen.read_whole()
        return super().keys()

    def values(self) -> Any:
        self.seen.read_whole()
        return super().values()

    def items(self) -> Any:
        self.seen.read_whole()
        return super().items()

    def popitem(self) -> tuple[Any, Any]:
        self.seen.read_whole()
        return super().popitem()

    def __or__(self, other: Any) -> Any:
        return dict(self) | other

    def __ror__(self, other: Any) -> Any:
        return other | dict(self)

    def __eq__(self, other: object) -> bool:
        return dict(self) == other

    def __repr__(self) -> str:
        return repr(dict(self))

    def __reduce_ex__(self, _protocol: Any) -> Any:
        return dict, (dict(self),)


def watched(structure: Atoms) -> tuple[Atoms, Seen]:
    """A copy of a structure, and what is asked of it from now on, also of its own copies."""
    seen = Seen()

    class Watched(Atoms):
        @property
        def info(self) -> _Info:
            return self._own_info

        @info.setter
        def info(self, value: dict[Any, Any]) -> None:
            self._own_info = value if isinstance(value, _Info) else _Info(value, seen)

        def __getattr__(self, name: str) -> Any:
            if not name.startswith("_"):
                seen.attributes.add(name)
            raise AttributeError(f"'Atoms' object has no attribute '{name}'")

        def copy(self) -> Watched:
            with seen.paused():
                made: Watched = super().copy()  # type: ignore[no-untyped-call]  # of ASE
            return made

        __copy__ = copy

        def __deepcopy__(self, _memo: Any) -> Watched:
            return self.copy()

        def __getitem__(self, index: Any) -> Any:
            with seen.paused():
                return super().__getitem__(index)

        def __reduce_ex__(self, _protocol: Any) -> Any:
            return copy.copy, (Atoms(self),)

    with seen.paused():
        made = Watched(structure)
        made.info["step"] = 0  # of an empty mapping, json asks for nothing
    return made, seen


class names_in_code:  # noqa: N801  (a context manager that reads as a phrase)
    """Names that Python functions hold which return in the meantime: constants, and texts in their variables and those of their modules."""

    def __enter__(self) -> set[str]:
        self._found: set[str] = set()
        self._looked_at: set[Any] = set()
        self._before = sys.getprofile()
        sys.setprofile(self._see)
        return self._found

    def __exit__(self, *_error: object) -> None:
        sys.setprofile(self._before)

    def _see(self, frame: FrameType, event: str, _argument: Any) -> None:
        code = frame.f_code
        if event != "return" or code in self._looked_at:
            return
        self._looked_at.add(code)
        self._take(code.co_consts, 3)
        self._take(list(frame.f_locals.values()), 4)
        named = [frame.f_globals[name] for name in code.co_names if name in frame.f_globals]
        self._take(named, 3)
        for holder in named:  # constants of a module or class
            if isinstance(holder, ModuleType | type):
                self._take([vars(holder)[name] for name in code.co_names if name in vars(holder)], 3)

    def _take(self, value: Any, depth: int) -> None:
        if isinstance(value, str):
            if _NAME.fullmatch(value):
                self._found.add(str(value))
        elif depth == 0 or isinstance(value, ModuleType | type):
            return
        elif type(value) in _CONTAINERS:
            for item in list(value)[:_MOST_ITEMS]:
                self._take(item, depth - 1)
        elif type(value) is dict:
            for pair in list(value.items())[:_MOST_ITEMS]:
                self._take(pair, depth)
        elif type(held := getattr(value, "__dict__", None)) is dict:
            self._take(held, depth - 1)


Response = Mapping[str, float]


@dataclass(frozen=True)
class Search:
    """What responds among many names.

    Attributes:
        names: the fewest found; empty if none does.
        response: change of energy and forces with them.
        tried: how many names were looked at.
        untried: how many could not be: the model fails with them, or it would have taken too many calls.
    """

    names: tuple[str, ...]
    response: Response
    tried: int
    untried: int


def search(names: Iterable[str], change: Callable[[tuple[str, ...]], Response | None]) -> Search:
    """Looks for a name to which a model responds: all at once, then by halves.

    Args:
        names: to try.
        change: of energy and forces with some names at once; None if it is not worth a look. If it raises, one of them makes no sense.
    """
    calls = untried = 0

    def look(group: tuple[str, ...]) -> tuple[tuple[str, ...], Response] | None:
        nonlocal calls, untried
        if calls == MOST_CALLS:
            untried += len(group)
            return None
        calls += 1
        middle = len(group) // 2
        try:
            response = change(group)
        except Exception:  # noqa: BLE001  (a number where the model wants something else)
            if not middle:
                untried += 1
                return None
            return look(group[:middle]) or look(group[middle:])
        if response is None or not middle:
            return None if response is None else (group, response)
        return look(group[:middle]) or look(group[middle:]) or (group, response)

    everything = tuple(sorted(names))
    found, response = (look(everything) if everything else None) or ((), {})
    return Search(found, response, len(everything) - untried, untried)
