"""What ``import defectbench`` offers."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import defectbench

PUBLIC = [name for name in defectbench.__all__ if name != "__version__"]


def test_names_are_visible_before_they_are_used():
    script = "import defectbench, sys; assert set(defectbench.__all__) <= set(dir(defectbench)); print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "False\n"


def test_only_public_names_are_listed():
    assert [name for name in dir(defectbench) if not name.startswith("__")] == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_a_docstring_with_an_example(name):
    documented = getattr(defectbench, name)
    assert ">>> " in inspect.getdoc(documented)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError):
        _ = defectbench.evalute
