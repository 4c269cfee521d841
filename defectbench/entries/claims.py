"""What an entry says of its model, against the registry; and its figures, against those that its numbers give."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from defectbench.base.errors import ModelError
from defectbench.base.files import contained, read_bytes
from defectbench.base.text import one_line
from defectbench.entries.evidence import differences, text_difference

if TYPE_CHECKING:
    from defectbench.datasets.dataset import Dataset
    from defectbench.entries.schema import Entry
    from defectbench.models.schema import ModelDefinition

PIXELS = 0.01
"""Mean difference of two pictures (white to black is 1): fonts drawn by another version of a library differ less."""


def registered_problems(entry: Entry, dataset: Dataset, unchecked: list[str]) -> Iterator[str]:
    """Where an entry contradicts the registered model whose id it has; says in ``unchecked`` if there is none.

    Args:
        entry: that says it.
        dataset: of the entry.
        unchecked: receives what cannot be checked.
    """
    from defectbench.base.redaction import redact_values
    from defectbench.calculations.plan import certificate_of
    from defectbench.entries.building import training_of
    from defectbench.models.certificate import ChargeCertificate, check_claim
    from defectbench.models.registry import list_models

    said = entry.model
    definition = next((model for model in list_models() if model.id == said.id), None)
    if definition is None:
        if said.embedded:
            yield f"model.id: {said.id} does not come with defectbench, though the entry says so"
        if near := next((model.id for model in list_models() if model.name == said.name), None):
            yield f"model.name: {said.name} is that of the registered {near}"
        unchecked.append(f"model: {said.id} is not registered; its name, weights and identity are as the entry says")
        return
    wanted = {
        "name": definition.name,
        "package": definition.package,
        "adapter": definition.adapter,
        "arguments": redact_values(definition.arguments),
        "level_of_theory": definition.level_of_theory,
        "charge": definition.charge.how,
        "training": training_of(definition),
        "weights_charges": {file.path: file.charge for file in definition.weights.files if file.charge is not None},
    }
    if definition.weights.parameters is not None:
        wanted["parameters"] = definition.weights.parameters
    yield from differences("model", {name: getattr(said, name) for name in wanted}, wanted)
    for file in definition.weights.files:
        if file.sha256 is not None and not file.unpack and said.weights_sha256.get(file.path) != file.sha256:
            yield f"model.weights_sha256: {file.path} is {said.weights_sha256.get(file.path, 'not there')}, registered {file.sha256}"
    yield from _identity(entry, definition, unchecked)
    yield from _packages(entry, definition, unchecked)
    wanted_certificate = certificate_of(definition, dataset, dict.fromkeys(state.defect for state in entry.selection.states)).options
    yield from differences("certificate.charges", entry.certificate.get("charges"), wanted_certificate["charges"])
    if entry.certificate.get("responses") is not None:
        asked = [(r["defect"], r["charges"]) for r in entry.certificate["responses"][1:]]
        wanted_others = [(other["defect"], other["charges"]) for other in wanted_certificate.get("others", ())]
        yield from differences("certificate.responses", asked, wanted_others)
    try:
        check_claim(ChargeCertificate.from_json(entry.certificate), definition)
    except ModelError as error:
        yield f"certificate: {error}"
    except (KeyError, TypeError) as error:
        yield f"certificate: {error} is missing"


def _identity(entry: Entry, definition: ModelDefinition, unchecked: list[str]) -> Iterator[str]:
    from defectbench.models.resolved import ResolvedModel

    said, pins = entry.model, entry.provenance.environment_pins_sha256
    files = definition.weights.files
    if definition.adapter == "ase_calculator" or pins is None or any(file.unpack or file.sha256 is None for file in files):
        unchecked.append("model.identity: it rests on files that are not here")
        return
    known = {file.path: file.sha256 for file in files if file.sha256 is not None}
    if ResolvedModel(definition, {}, known, pins_sha256=pins).identity != said.identity:
        yield "model.identity: not that of the registered model with these weights and packages"


def _packages(entry: Entry, definition: ModelDefinition, unchecked: list[str]) -> Iterator[str]:
    from defectbench.models.environment import is_managed, pinned_versions, pins_sha256

    said = entry.provenance
    if not is_managed(said.environment):
        unchecked.append(f"provenance.packages: the model ran in an environment of the user's own ({said.environment})")
        return
    if said.environment != definition.environment:
        yield f"provenance.environment: {said.environment}, registered {definition.environment}"
        return
    if said.environment_pins_sha256 != pins_sha256(said.environment):
        unchecked.append(f"provenance.packages: the environment {said.environment} has changed since")
        return
    pinned = pinned_versions(said.environment)
    for name, version in said.packages.items():
        wanted = pinned.get(name.lower().replace("_", "-"))
        if wanted is not None and version.split("+")[0] != wanted.split("+")[0]:
            yield f"provenance.packages.{name}: {version}, pinned {wanted}"


def figure_problems(folder: Path, entry: Entry, unchecked: list[str]) -> Iterator[str]:
    """Figures of a folder that are not those of the entry's numbers.

    They are drawn again. What another version of matplotlib drew cannot be compared, and is listed in ``unchecked``.

    Args:
        folder: of the entry.
        entry: with the recomputed numbers.
        unchecked: receives what cannot be checked.
    """
    from tempfile import TemporaryDirectory

    from defectbench.entries.figures import FIGURES, draw_figures
    from defectbench.entries.folder import MAX_FIGURE

    other: list[str] = []
    with TemporaryDirectory() as place:
        drawn = draw_figures(entry, Path(place))
        for path in drawn:
            if path.suffix != ".svg":
                continue
            name, wanted = f"{FIGURES}/{path.name}", path.read_text(encoding="utf-8")
            try:
                text = read_bytes(contained(folder, name), MAX_FIGURE).decode("utf-8")
                picture = read_bytes(contained(folder, f"{FIGURES}/{path.stem}.png"), MAX_FIGURE)
            except (OSError, ValueError) as error:
                yield f"{name}: it or its PNG cannot be read ({getattr(error, 'strerror', None) or one_line(error, 100)})"
                continue
            if _drawn_by(text) != _drawn_by(wanted):
                other.append(path.stem)
                continue
            if text_difference(text, wanted, 0.01, drawn=True) is not None:
                yield f"{name}: not what the entry's numbers give"
            if not _same_picture(picture, path.with_suffix(".png").read_bytes()):
                yield f"{FIGURES}/{path.stem}.png: not what the entry's numbers give"
        names = {path.name for path in drawn}
        for path in sorted((folder / FIGURES).iterdir()):
            if path.suffix in (".svg", ".png") and path.name not in names:
                yield f"{FIGURES}/{path.name}: no figure of this entry"
    if other:
        unchecked.append(f"figures: {', '.join(other)} (drawn by another version of matplotlib)")


def _drawn_by(svg: str) -> str | None:
    found = re.search(r"Matplotlib v[\w.+]+", svg[:3000])
    return found.group() if found else None


def _same_picture(one: bytes, other: bytes) -> bool:
    import numpy as np
    from matplotlib.image import imread

    if one == other:
        return True
    try:
        pictures = [imread(io.BytesIO(content), format="png") for content in (one, other)]
    except (OSError, SyntaxError, ValueError):  # Pillow calls a broken PNG a syntax error
        return False
    return pictures[0].shape == pictures[1].shape and float(np.abs(pictures[0] - pictures[1]).mean()) < PIXELS
