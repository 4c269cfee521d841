"""Ids of models with weights of one's own, or of another head: never the released model's."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from pydantic import ValidationError

from defectbench.base.errors import DefectbenchError, ModelError
from defectbench.base.files import sha256_of
from defectbench.models.registry import is_registered, list_models
from defectbench.models.schema import ModelDefinition


def with_own_weights(definition: ModelDefinition, weights: Path | None, name: str | None) -> ModelDefinition:
    """The definition under an id of its own, if weights replace its own; else as it is.

    Args:
        definition: of the released model.
        weights: a file or folder; None for the released weights.
        name: the id wanted; None for that of the model and the first eight letters of the weights' hash.

    Raises:
        DefectbenchError: a name without weights, that of a registered model, or one that no model can have.
        ModelError: there are no such weights.
    """
    if weights is None:
        if name is not None:
            raise DefectbenchError("--name names a model with weights of your own; give them with --model-weights")
        return definition
    wanted = name if name is not None else f"{definition.id}-{_hash(weights)[:8]}"
    if wanted in {model.id for model in list_models()}:
        raise DefectbenchError(
            f"'{wanted}' is a registered model, and these weights are not its own; choose another --name", code="name-taken"
        )
    try:
        return ModelDefinition.model_validate({**definition.model_dump(), "id": wanted, "name": f"{definition.name} ({wanted})"})
    except ValidationError as error:
        raise DefectbenchError(
            f"'{wanted}' cannot be the id of a model; use lower-case letters, digits, and . + _ -", code="bad-name"
        ) from error


def with_head(definition: ModelDefinition, head: str | None) -> ModelDefinition:
    """The definition with another of its model's heads, under an id of its own.

    Args:
        definition: of a model with one head per level of theory.
        head: its name; None for that of the definition.

    Raises:
        ModelError: the model has no heads to choose from. Whether it has this one shows when it is loaded.
    """
    if head is None or definition.arguments.get("head") == head:
        return definition
    if "head" not in definition.arguments:
        raise ModelError(f"{definition.id} has no heads to choose from; leave out --head", code="bad-head")
    wanted = f"{definition.id}-{re.sub('[^a-z0-9.+_-]', '-', head.lower())}"
    if is_registered(definition) and (own := next((model for model in list_models() if model.id == wanted), None)) is not None:
        return own
    arguments = {**definition.arguments, "head": head}
    changed = {"id": wanted, "name": f"{definition.name} (head {head})", "arguments": arguments, "level_of_theory": head}
    return ModelDefinition.model_validate({**definition.model_dump(), **changed})


def _hash(weights: Path) -> str:
    files = sorted(p for p in weights.rglob("*") if p.is_file()) if weights.is_dir() else [weights]
    try:
        hashes = [sha256_of(path) for path in files]
    except OSError as error:
        raise ModelError(f"there are no weights at {weights}", code="no-weights") from error
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
