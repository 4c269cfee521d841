"""What is wrong with a file against its schema, in words: misspelt keys name the key that was meant."""

from __future__ import annotations

import difflib
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from defectbench.base.text import one_line


def problems(error: ValidationError, schema: type[BaseModel]) -> list[tuple[str, str]]:
    """(field, what is wrong) for each problem of a pydantic error; the field is written like ``levels.0.code``.

    Unknown keys come first: a misspelt key is the cause, and the required key that is missing for it only the consequence.

    Args:
        error: from validating against ``schema``.
        schema: the whole file's.

    Example:
        >>> from pydantic import BaseModel, ConfigDict, ValidationError
        >>> class Model(BaseModel, extra="forbid"):
        ...     charge: int = 0
        >>> try:
        ...     Model.model_validate({"chrage": 1})
        ... except ValidationError as error:
        ...     problems(error, Model)
        [('chrage', 'unknown key; did you mean charge?')]
    """
    out = []
    for item in sorted(error.errors(include_url=False), key=lambda item: item["type"] != "extra_forbidden"):
        where = item["loc"]
        field = one_line(".".join(str(part) for part in where), 200) or "(top level)"
        message = one_line(item["msg"].removeprefix("Value error, "), 300)
        out.append((field, _unknown(where, schema) if item["type"] == "extra_forbidden" else message))
    return out


def _unknown(where: tuple[int | str, ...], schema: type[BaseModel]) -> str:
    known = _keys(schema, where[:-1])
    near = difflib.get_close_matches(str(where[-1]), known, n=1, cutoff=0.5)
    if near:
        return f"unknown key; did you mean {near[0]}?"
    return f"unknown key; known: {', '.join(known)}" if known else "unknown key"


def _keys(schema: Any, where: tuple[int | str, ...]) -> list[str]:
    """Keys of the model at a place in the file; empty if there is no one model."""
    models = [schema]
    for part in where:
        inner = []
        for model in models:
            fields = model.model_fields
            if part in fields:
                inner += _models(fields[part].annotation)
        # indices of lists and keys of mappings lead to the models that they hold, which _models has found already
        models = inner or models
    return sorted({name for model in models for name in model.model_fields})


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]
