"""How every YAML file that somebody may write is read and written: YAML 1.2, with limits on what a small file may unfold to."""

from __future__ import annotations

import io
import re
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.nodes import Node, ScalarNode
from ruamel.yaml.representer import SafeRepresenter

from defectbench.base.errors import DefectbenchError
from defectbench.base.files import read_bytes
from defectbench.base.text import one_line

MAX_BYTES = 4_000_000
MAX_VALUES = 10_000
"""Keys and values together. Reading takes about 0.1 ms each."""


def read_yaml(path: Path, error: type[DefectbenchError], max_values: int = MAX_VALUES) -> Any:
    """The content of a YAML file: plain mappings, lists, texts, numbers, truth values, dates and None.

    Refused are repeated keys, keys that are not single values, what contains itself, whole numbers that no 64 bits hold, and files beyond
    the limits. An alias (``*name``) counts as much as what it stands for: a few lines of them can unfold to gigabytes.

    Args:
        path: the file.
        error: what is raised.
        max_values: how many keys and values it may hold.

    Raises:
        DefectbenchError: of the given kind, in one line with file and line number: it cannot be read or is refused.
    """
    try:
        return parse_yaml(read_bytes(path, MAX_BYTES).decode("utf-8"), max_values)
    except FileNotFoundError as wrong:
        raise error(f"there is no file {path}", code="no-file") from wrong
    except OSError as wrong:
        raise error(f"cannot read {path}: {wrong.strerror}", code="unreadable-file") from wrong
    except UnicodeDecodeError as wrong:
        raise error(f"cannot read {path}: not UTF-8 at byte {wrong.start}", code="bad-yaml") from wrong
    except RecursionError as wrong:
        raise error(f"{path}: not a YAML file that can be read (lists or mappings are nested too deeply)", code="bad-yaml") from wrong
    except (YAMLError, ValueError) as wrong:
        mark = getattr(wrong, "problem_mark", None) or getattr(wrong, "context_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        said = (wrong.problem or wrong.context) if isinstance(wrong, MarkedYAMLError) else None
        raise error(f"{path}{line}: not a YAML file that can be read ({one_line(said or wrong, 200)})", code="bad-yaml") from wrong


def parse_yaml(text: str, max_values: int = MAX_VALUES) -> Any:
    """As :func:`read_yaml`, of a text.

    >>> parse_yaml("a: 1e-5\\nb: [yes, 010]")
    {'a': 1e-05, 'b': ['yes', 10]}

    Raises:
        YAMLError: it is not YAML, or is refused.
        RecursionError: it is nested too deeply.
    """

    return deepcopy(_parsed(text, max_values))


@lru_cache(maxsize=32)
def _parsed(text: str, max_values: int) -> Any:
    """A dataset's metadata takes a second, and one command reads them several times."""

    class Limited(_Composer):
        limit = max_values

    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = Limited
    yaml.Constructor = _Constructor
    return yaml.load(text)


class _Composer(Composer):
    """Counts what a document unfolds to: an alias as much as what it stands for."""

    limit: int

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader)
        self.values = 0
        self.sizes: dict[str, int] = {}
        self.warn_double_anchors = False

    def compose_node(self, parent: Any, index: Any) -> Any:
        event, before = self.parser.peek_event(), self.values
        alias = isinstance(event, AliasEvent)
        if alias and event.anchor in self.anchors and event.anchor not in self.sizes:
            raise ConstructorError(None, None, f"'{event.anchor}' contains itself", event.start_mark)
        self.values += self.sizes.get(event.anchor, 0) if alias else 1
        if self.values > self.limit:
            raise ConstructorError(None, None, f"more than {self.limit:,} keys and values", event.start_mark)
        if alias:
            return super().compose_node(parent, index)
        self.sizes.pop(event.anchor, None)  # an anchor may be used again
        node = super().compose_node(parent, index)
        if event.anchor is not None:
            self.sizes[event.anchor] = self.values - before
        return node


class _Constructor(SafeConstructor):
    def construct_object(self, node: Node, deep: bool = False) -> Any:
        """A value; what cannot be read as what it looks like is an error with its place."""
        try:
            value = super().construct_object(node, deep=deep)
            if isinstance(value, str):
                value.encode()  # half of a surrogate pair could not be written anywhere
        except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
            kind = str(node.tag).rsplit(":", 1)[-1]
            text = f"'{node.value[:40]}'" if isinstance(node.value, str) else "this"
            raise ConstructorError(None, None, f"{text} cannot be read as {kind}", node.start_mark) from error
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ConstructorError(None, None, f"the number {str(node.value)[:20]}… has too many digits", node.start_mark)
        return value

    def check_mapping_key(self, _node: Any, key_node: Any, mapping: Any, key: Any, _value: Any) -> bool:
        """Refuses a repeated key, which the base class would name by its value too, however long."""
        if not isinstance(key_node, ScalarNode):
            raise ConstructorError(None, None, "a key is a single value, not a list or mapping", key_node.start_mark)
        if key in mapping:
            raise ConstructorError(None, None, f"key '{str(key)[:80]}' appears twice", key_node.start_mark)
        return True


class _Representer(SafeRepresenter):
    """Short lists of numbers on one line; no aliases for repeated values."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  signature of the base class
        return True

    def represent_sequence(self, tag: Any, sequence: Any, flow_style: bool | None = None) -> Any:
        flat = all(isinstance(item, int | float) for item in sequence)
        return super().represent_sequence(tag, sequence, flow_style=True if flat else flow_style)


def to_yaml(content: Any) -> str:
    """The text of a YAML file; :func:`parse_yaml` gives the content back."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # documented, but not in the library's annotation
    yaml.width = 140
    text = io.StringIO()
    yaml.dump(content, text)
    return re.sub(r" +\n", "\n", text.getvalue())  # the library leaves a space where it breaks a line
