"""How every YAML file that a user may write is read: datasets, queues, models."""

from __future__ import annotations

import re
from typing import Any

import yaml


class StrictLoader(yaml.SafeLoader):
    """Refuses repeated keys, says where a value cannot be what it looks like, and reads ``1e-5`` as a number (YAML 1.1: ``1.0e-5``).

    Raises:
        yaml.YAMLError: of each of these, with the place in ``problem_mark``.
    """

    def construct_object(self, node: Any, deep: bool = False) -> Any:  # the base class is untyped
        """A value; what cannot be read as what it looks like is an error with its place."""
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
            kind = str(node.tag).rsplit(":", 1)[-1]
            text = f"'{node.value[:40]}'" if isinstance(node.value, str) else "this"
            raise yaml.constructor.ConstructorError(None, None, f"{text} cannot be read as {kind}", node.start_mark) from error

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:  # the base class is untyped
        """A mapping, each key once."""
        pairs = node.value if isinstance(node, yaml.MappingNode) else []  # what is none the base class refuses
        keys = [self.construct_object(key, deep=True) for key, _ in pairs]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' appears twice", node.start_mark)
        return dict(super().construct_mapping(node, deep=deep))


StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.\d*|\.\d+|\d+)([eE][-+]?\d+)$"), list("-+0123456789.")
)
StrictLoader.add_constructor("tag:yaml.org,2002:merge", lambda _, node: node.value)  # "<<" among the keys, before the base class merges
