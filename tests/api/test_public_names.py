"""What ``import defectbench`` offers."""

from __future__ import annotations

import inspect
import re
import runpy
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import defectbench

PUBLIC = [name for name in defectbench.__all__ if name != "__version__"]


def test_names_are_visible_before_they_are_used():
    script = "import defectbench, sys; assert set(defectbench.__all__) <= set(dir(defectbench)); print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "False\n"


def test_only_public_names_are_listed():
    assert [name for name in dir(defectbench) if not name.startswith("__")] == PUBLIC


def classes() -> list[type]:
    """The classes of what the public functions give, as the API page lists them."""
    script = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "from_code.py"))
    return [getattr(import_module(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in script["CLASSES"]]


def examples(documented: object) -> str:
    """The example of a docstring; one that does not run is none."""
    found = inspect.getdoc(documented) or ""
    return "" if "+SKIP" in found else "\n".join(line for line in found.splitlines() if line.lstrip().startswith((">>> ", "... ")))


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_an_example_that_runs(name):
    assert examples(getattr(defectbench, name))


@pytest.mark.parametrize("shown", classes(), ids=lambda shown: shown.__name__)
def test_every_public_class_and_method_has_an_example_that_runs(shown):
    own = [c for c in shown.__mro__ if c.__module__.startswith("defectbench.")]
    shown_by_class = "\n".join(examples(c) for c in own)
    assert examples(shown)
    for name, member in ((n, m) for c in own for n, m in vars(c).items() if not n.startswith("_")):
        if isinstance(member, property):  # its class may show it
            assert f".{name}" in shown_by_class or examples(member), name
        elif inspect.isfunction(member):
            assert examples(member), name


def test_the_api_page_lists_what_the_functions_give():
    listed = {shown.__name__ for shown in classes()}
    functions = [f for name in PUBLIC if inspect.isfunction(f := getattr(defectbench, name))]
    given = {name for f in functions for name in re.findall(r"\w+", f.__annotations__["return"])}
    assert given - listed == {"Atoms", "Structure"}  # of ASE and of pymatgen


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError):
        _ = defectbench.evalute
