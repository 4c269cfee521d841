"""Model definitions by name or YAML file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from defectbench.base.errors import ModelError, UnknownNameError
from defectbench.base.listing import Listing
from defectbench.base.paths import full_path, user_path
from defectbench.base.schema import problems
from defectbench.base.yaml import read_yaml
from defectbench.models.schema import ModelDefinition


def _entries() -> dict[str, Path]:
    folder = Path(str(resources.files("defectbench.models") / "definitions"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _read(path: Path) -> ModelDefinition:
    from pydantic import ValidationError

    content = read_yaml(path, ModelError)
    if not isinstance(content, dict):
        raise ModelError(f"{path}: a model definition is a mapping with id, name, adapter, level_of_theory, …", code="bad-model-yaml")
    try:
        return ModelDefinition.model_validate(content)
    except ValidationError as error:
        (field, message), *rest = problems(error, ModelDefinition)
        more = f" (and {len(rest)} more)" if rest else ""
        raise ModelError(f"{path}: field {field}: {message}{more}", code="bad-model-yaml") from error


def list_models() -> Listing[ModelDefinition]:
    """All registered models, by id.

    Returns:
        A list that a prompt or notebook shows as a table; ``to_frame()`` gives it to pandas.

    Example:
        >>> import defectbench
        >>> [model.id for model in defectbench.list_models() if model.charge.how != "none" and model.package == "matgl"]
        ['qet-matq']
    """
    return Listing(
        (_read(path) for path in _entries().values()),
        lambda m: {
            "name": m.id,
            "level": m.level_of_theory,
            "charge": m.charge.how,
            "parameters": f"{m.weights.parameters:,}" if m.weights.parameters else None,
            "weights": {
                "package": "in the package",
                "shipped": "with defectbench",
                "url": "downloaded",
                "path": "own file",
                "none": "none",
            }[m.weights.source],
            "trust": "--trust-weights" if m.requires_trust else None,
        },
    )


def load_model(name: str | Path) -> ModelDefinition:
    """A registered model by id, or a definition from a YAML file.

    Args:
        name: an id (``sevennet-0``), or a path that ends in ``.yaml`` or ``.yml``.

    Raises:
        UnknownNameError: no such id; names the nearest.
        ModelError: the YAML is unreadable or breaks the schema; the message names file and field.
        DefectbenchError: no home folder is known for a leading ``~name``.

    Example:
        >>> import defectbench
        >>> defectbench.load_model("qet-matq").charge.how
        'total_charge'
    """
    text = str(name)
    if text.endswith((".yaml", ".yml")):
        return _read(user_path(text))
    entries = _entries()
    if text not in entries:
        raise UnknownNameError("model", text, entries)
    return _read(entries[text])


def is_registered(definition: ModelDefinition) -> bool:
    """Whether a definition ships with defectbench, word for word."""
    return definition.id in _entries() and definition == load_model(definition.id)


def definition_folder(name: str | Path) -> Path | None:
    """The folder of a definition given as a YAML file (relative weights and modules lie there); None for an id."""
    text = str(name)
    return full_path(text).parent if text.endswith((".yaml", ".yml")) else None
