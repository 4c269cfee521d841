"""A trained model becomes a model like any other: weights with a hash, a definition per level, a charge-response certificate."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectbench.base.errors import DefectbenchError
from defectbench.base.files import sha256_of, write_text
from defectbench.base.states import format_charge
from defectbench.base.yaml import to_yaml
from defectbench.calculations.client import WorkerClient, WorkerSpec
from defectbench.calculations.plan import certificate_of
from defectbench.calculations.results import CertificateResult
from defectbench.models.certificate import ChargeCertificate, classify
from defectbench.models.environment import ensure_environment
from defectbench.models.registry import load_model
from defectbench.models.resolved import resolve_model
from defectbench.training.export import CHARGE_KEY
from defectbench.training.run import ENVIRONMENTS, MODEL_FILE, Training

if TYPE_CHECKING:
    from defectbench.datasets.dataset import Dataset
    from defectbench.training.recipe import Recipe

CERTIFICATE_FILE = "certificate.json"


@dataclass(frozen=True)
class Registered:
    """A trained model, ready for ``defectbench evaluate``.

    Attributes:
        definitions: level of theory → model YAML; the first is the default.
        certificate: of the first.
    """

    definitions: dict[str, Path]
    certificate: ChargeCertificate


def default_name(recipe: Recipe, dataset: Dataset) -> str:
    """``mace-mf-sb2se3-vacancies``."""
    return f"{recipe.id}-{dataset.id}"


def register(
    training: Training, dataset: Dataset, recipe: Recipe, *, name: str | None = None, environment: str | None = None
) -> Registered:
    """Writes a model YAML per level beside the weights, and certifies the first.

    Args:
        training: finished.
        dataset: it was trained on.
        recipe: that was followed.
        name: id of the model.
        environment: instead of the managed one.

    Raises:
        DefectbenchError: the name cannot be a model's.
        ModelError: the model cannot be loaded, or fails in its certificate.
    """
    stem = name or default_name(recipe, dataset)
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+_-]*", stem) or len(stem) > 80:
        raise DefectbenchError(f"'{stem}' cannot name a model; use lower-case letters, digits, '.', '_' and '-'", code="bad-input")
    weights = training.folder / MODEL_FILE
    sha256 = sha256_of(weights)
    definitions: dict[str, Path] = {}
    for level in training.selection.levels:
        model_id = stem if not definitions else f"{stem}-{re.sub('[^a-z0-9.+_-]', '-', level.lower())}"
        path = training.folder / f"{model_id}.yaml"
        write_text(path, to_yaml(_definition(training, dataset, recipe, model_id, level, sha256)))
        definitions[level] = path
    first = next(iter(definitions.values()))
    definition = load_model(first)
    python = ensure_environment(environment or ENVIRONMENTS[recipe.kind])
    # this run wrote the file, whatever lay there before
    resolved = resolve_model(definition, folder=training.folder, environment=python, trust_weights=True)
    with WorkerClient(WorkerSpec.of(python, resolved)) as worker:
        result = worker.calculate(certificate_of(definition, dataset))
    assert isinstance(result, CertificateResult)
    certificate = classify(result.model_dump(mode="json"))
    write_text(training.folder / CERTIFICATE_FILE, json.dumps(certificate.to_json(), indent=1) + "\n")
    return Registered(definitions, certificate)


def _definition(training: Training, dataset: Dataset, recipe: Recipe, model_id: str, level: str, sha256: str) -> dict[str, Any]:
    best, charges = training.best, training.files.charges
    frames = sum(count for (_, use, _), count in training.files.counts.items() if use == "train")
    from_to = f"{format_charge(charges[0])} to {format_charge(charges[1])}"
    arguments: dict[str, Any] = {"head": level, "dtype": "float64"}
    charge: dict[str, Any] = {"how": "none"}
    if recipe.architecture.charge:
        arguments["charge_embedding"] = CHARGE_KEY
        charge = {"how": "total_charge", "range": list(charges)}
    return {
        "id": model_id,
        "name": f"{recipe.id} trained on {dataset.id} ({level})",
        "package": "mace-torch",
        "environment": ENVIRONMENTS[recipe.kind],
        "adapter": "mace",
        "arguments": arguments,
        "weights": {"source": "path", "parameters": training.parameters, "files": [{"path": MODEL_FILE, "sha256": sha256}]},
        "charge": charge,
        "level_of_theory": level,
        "training_data": f"{frames} frames of {dataset.id} ({', '.join(training.selection.levels)}), {from_to}",
        "trained_on": [
            {
                "dataset": dataset.id,
                "dataset_sha256": dataset.sha256,
                "files_sha256": training.files.sha256,
                "levels": list(training.selection.levels),
            }
        ],
        "notes": f"Epoch {best.epoch} of {len(training.history)}, chosen by the validation frames. Recipe {recipe.id}, seed {recipe.seed}.",
    }
