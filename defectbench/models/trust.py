"""What a model would run that does not come with defectbench, and whether the user trusts it.

Definitions that ship with the package are trusted, and so are weights whose SHA-256 one of them states. A definition from anywhere else
is data from a stranger: the code, the interpreter and the weights that it names are used only if the user says so.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path

from defectbench.base.errors import ModelError
from defectbench.models.environment import is_managed
from defectbench.models.registry import is_registered, list_models
from defectbench.models.schema import ModelDefinition

_WITHOUT_CODE = (".npz", ".safetensors")


@functools.cache
def known_hashes() -> frozenset[str]:
    """SHA-256 of the weights files that the registered models state."""
    return frozenset(file.sha256 for model in list_models() for file in model.weights.files if file.sha256 is not None)


@functools.cache
def known_wrong() -> dict[str, str]:
    """SHA-256 of files that circulate under the name of a registered model and are not that model → what is wrong with them."""
    return {
        sha256: f"{model.name}: {reason}"
        for model in list_models()
        for file in model.weights.files
        for sha256, reason in file.refused.items()
    }


def refuse_known_wrong(files: Mapping[str, str]) -> None:
    """Refuses weights that are known to be another model than their name says, whatever the user trusts.

    Args:
        files: name → SHA-256.

    Raises:
        ModelError: names the file and says what is wrong with it.
    """
    for name, sha256 in files.items():
        if (reason := known_wrong().get(sha256)) is not None:
            raise ModelError(f"{name} has SHA-256 {sha256}; it is refused: {reason}", code="wrong-weights")


def foreign_code(definition: ModelDefinition, folder: Path | None, environment: str | Path | None) -> list[str]:
    """Which code of the user or of a stranger a definition runs, a phrase for each; nothing for one that ships with defectbench.

    Args:
        definition: of the model.
        folder: of its YAML; None for a definition that comes from none.
        environment: what the user chose instead of the definition's; that is not the definition's choice.
    """
    if is_registered(definition):
        return []
    found = []
    if definition.adapter == "ase_calculator":
        module = str(definition.arguments["factory"]).partition(":")[0]
        beside = folder / f"{module.replace('.', '/')}.py" if folder is not None else None
        place = f"the file {beside}" if beside is not None and beside.is_file() else f"the module '{module}'"
        found.append(f"{place} (factory {definition.arguments['factory']})")
    if definition.adapter.startswith("plugin:"):
        found.append(f"the adapter {definition.adapter} of an installed package")
    if environment is None and not is_managed(definition.environment) and definition.environment != "current":
        found.append(f"the Python in {definition.environment} (environment)")
    return found


def foreign_weights(definition: ModelDefinition, files: Iterable[tuple[str, str | None]]) -> list[str]:
    """Names of weights files that could run code when they are loaded, and that defectbench does not know.

    The formats that cannot hold code count only where the user's own code reads them: the packages unpickle whatever they are given.

    Args:
        definition: of the model.
        files: (name, SHA-256 or None) of each file.
    """
    harmless = _WITHOUT_CODE if definition.adapter == "ase_calculator" else ()
    return [name for name, sha256 in files if sha256 not in known_hashes() and not name.lower().endswith(harmless)]


def require_trust(
    definition: ModelDefinition,
    *,
    folder: Path | None = None,
    environment: str | Path | None = None,
    own_weights: bool = False,
    trust_code: bool = False,
    trust_weights: bool = False,
) -> None:
    """Refuses a model that the user has not said to trust; to be asked before anything is built, downloaded or run for it.

    Args:
        definition: of the model.
        folder: of its YAML; None for a definition that comes from none.
        environment: what the user chose instead of the definition's.
        own_weights: whether the user's own weights replace the definition's: those are checked by their content.
        trust_code: the user trusts the code that the definition names.
        trust_weights: the user trusts the weights.

    Raises:
        ModelError: says what would run, and which option allows it.
    """
    code = [] if trust_code else foreign_code(definition, folder, environment)
    named = [] if trust_weights or own_weights else [(file.path, file.sha256) for file in definition.weights.files]
    weights = foreign_weights(definition, named)
    if not code and not weights:
        return
    runs = [f"run {item}" for item in code]
    if weights:
        runs.append(f"load the weights {', '.join(weights)}, whose SHA-256 is unknown to defectbench (weight files can execute code)")
    options = " ".join(option for option, wanted in (("--trust-code", code), ("--trust-weights", weights)) if wanted)
    raise ModelError(f"{definition.id} would {' and '.join(runs)}; if you trust its source, pass {options}", code="untrusted-model")
