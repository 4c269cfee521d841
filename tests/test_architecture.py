"""The house: packages import downwards only, no circle, no hall of more than 600 lines, and a worker that stands alone."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import defectbench

ROOT = Path(defectbench.__file__).parent

FLOORS = (
    {"base"},
    {"structures", "plotting"},
    {"datasets", "models"},
    {"thermodynamics", "calculations"},
    {"scoring"},
    {"tasks"},
    {"entries", "training"},
    {"leaderboard"},
    {"runs"},
    {"sanity"},
    {"evaluation"},
    {"cli"},
    {"__init__", "__main__"},
)
"""Lowest first. A package imports from lower floors and its own."""

ADAPTERS = {
    "mace": {"mace", "torch"},
    "sevennet": {"sevenn", "torch"},
    "chgnet": {"chgnet", "torch"},
    "matgl": {"matgl", "torch"},
    "grace": {"tensorpotential"},
    "mattersim": {"mattersim", "torch"},
    "nequix": {"jax"},
    "orb": {"orb_models", "torch"},
    "upet": {"upet", "torch"},
    "ase_calculator": set(),
    "base": {"torch"},
}

LONGEST = 600


def modules() -> dict[str, Path]:
    return {".".join(("defectbench", *path.relative_to(ROOT).with_suffix("").parts)): path for path in sorted(ROOT.rglob("*.py"))}


def imported(path: Path) -> Iterator[str]:
    """Absolute names that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            yield node.module


def at_run_time(module: str, path: Path) -> Iterator[tuple[str, str | None]]:
    """(module, name taken from it) of what a module imports when it runs, in functions too: all but imports for type checking only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    unused = {below for block in blocks for statement in block.body for below in ast.walk(statement)}
    for node in ast.walk(tree):
        if node in unused:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            name = ".".join([*above, *filter(None, [node.module])])
            yield from ((name, alias.name) for alias in node.names)


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def floor(name: str) -> int | None:
    return next((number for number, rooms in enumerate(FLOORS) if name in rooms), None)


def test_every_package_has_a_floor():
    rooms = {room(module) for module in modules()} - {"worker"}
    assert not {name for name in rooms if floor(name) is None}


def test_imports_go_downwards():
    wrong = []
    for module, path in modules().items():
        here = floor(room(module))
        for name in imported(path):
            if name == "defectbench" and room(module) != "cli":
                wrong.append(f"{module} imports the package")
            if not name.startswith("defectbench.") or room(module) in (room(name), "worker"):
                continue
            there = floor(room(name))
            if here is not None and there is not None and there >= here:
                wrong.append(f"{module} imports {name}")
    assert wrong == []


def test_no_circle_not_even_of_imports_in_functions():
    known = modules()

    def of_name(name: str) -> str | None:
        return next((m for m in (name, f"{name}.__init__") if m in known), None)

    # the package itself imports only what is asked of it: its name stands for no module
    graph = {
        module: {found for name, within in at_run_time(module, path) if (found := of_name(f"{name}.{within}") or of_name(name))}
        - {module, "defectbench.__init__"}
        for module, path in known.items()
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " → ".join((*trail[trail.index(module) :], module))
        if module in done:
            return
        for below in graph[module] - {module}:
            visit(below, (*trail, module))
        done.add(module)

    for module in graph:
        visit(module, ())


def test_no_module_is_a_hall():
    lengths = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in modules().items()}
    assert {module: length for module, length in lengths.items() if length > LONGEST} == {}


def test_a_worker_stands_alone():
    wrong = []
    for path in sorted((ROOT / "worker").rglob("*.py")):
        allowed = {"ase", "numpy", "defectbench_worker", *sys.stdlib_module_names, *ADAPTERS.get(path.stem, ())}
        wrong += [f"{path.name} imports {name}" for name in imported(path) if name.split(".")[0] not in allowed]
    assert wrong == []
