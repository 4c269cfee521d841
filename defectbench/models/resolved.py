"""A model definition with its weights on this machine, checked by hash: what a worker needs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectbench.base.errors import ModelError
from defectbench.base.files import sha256_of
from defectbench.base.paths import full_path
from defectbench.models.own_code import own_code_sha256
from defectbench.models.schema import ModelDefinition
from defectbench.models.trust import foreign_weights, refuse_known_wrong, require_trust
from defectbench.models.weights import download, own_file, shipped, unpack_folder, unpacked

if TYPE_CHECKING:
    from defectbench.models.environment import PythonEnvironment


_ADAPTER_REVISION = {"matgl": 2}
"""Raised where an adapter's results change for the same model (default 1), so that stored ones are not mistaken for current ones."""


@dataclass(frozen=True)
class ResolvedModel:
    """A definition with its weights on this machine: all that a worker needs.

    Attributes:
        definition: the model's definition.
        weights_paths: name in the definition → path; files inside packages are found and hashed by the worker and are not in here.
        weights_sha256: name → hex digest, of every weights file whose digest is known before loading.
        device: ``cpu``, ``cuda`` or ``cuda:<n>``.
        pins_sha256: identifies the packages it runs with.
        trust_weights: whether files of unknown hash may be loaded.
        folder: on ``sys.path`` of an ``ase_calculator``'s worker.
        own_weights: whether the user's own weights replace the definition's.
        code_sha256: hash of an ``ase_calculator``'s code and of the files that its arguments name; see :mod:`defectbench.models.own_code`.
    """

    definition: ModelDefinition
    weights_paths: Mapping[str, Path]
    weights_sha256: Mapping[str, str]
    device: str = "cpu"
    pins_sha256: str = ""
    trust_weights: bool = False
    folder: Path | None = None
    own_weights: bool = False
    code_sha256: str | None = None

    @cached_property
    def identity(self) -> str:
        """SHA-256 over adapter, arguments, charge handling (with the range, where one is declared), weights, packages and code.

        Results are stored under it. The device is not in it: the same model on a GPU resumes a run begun on a CPU.
        """
        content: dict[str, Any] = {
            "adapter": f"{self.definition.adapter} {_ADAPTER_REVISION.get(self.definition.adapter, 1)}",
            "arguments": self.definition.arguments,
            "charge": self.definition.charge.how,
            "weights": dict(self.weights_sha256),
            "packages": self.pins_sha256,
            "code": self.code_sha256,
        }
        if (bounds := self.definition.charge.range) is not None:  # charges outside fail
            content["charge_range"] = list(bounds)
        if charges := self.weights_charges:  # one model per charge
            content["weights_charges"] = charges
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def weights_charges(self) -> dict[str, int]:
        """Path in the definition → the one charge that a weights file is for."""
        return {file.path: file.charge for file in self.definition.weights.files if file.charge is not None}

    def worker_spec(self) -> dict[str, Any]:
        """The ``spec`` of the worker's hello message, JSON values only."""
        entries: list[dict[str, Any]]
        if self.definition.weights.source == "package" and not self.own_weights:
            entries = [
                {"name": file.path, "path": None, "sha256": file.sha256, "trusted": self.trust_weights}
                for file in self.definition.weights.files
            ]
        else:
            entries = [
                {"name": name, "path": str(path), "sha256": self.weights_sha256[name], "trusted": self.trust_weights}
                for name, path in self.weights_paths.items()
            ]
        charge = self.definition.charge
        if charges := self.weights_charges:
            for entry in entries:  # of a folder or an archive each file has the charge of the whole
                entry["charge"] = next((q for path, q in charges.items() if re.match(re.escape(path) + "($|[/!])", entry["name"])), None)
        return {
            "id": self.definition.id,
            "package": self.definition.package,
            "adapter": self.definition.adapter,
            "arguments": self.definition.arguments,
            "weights": entries,
            "parameters": None if self.own_weights else self.definition.weights.parameters,
            "charge": {"how": charge.how, "range": list(charge.range) if charge.range else None},
            "device": self.device,
            "folder": str(self.folder) if self.folder else None,
        }


def resolve_model(
    definition: ModelDefinition,
    *,
    weights: Path | None = None,
    trust_code: bool = False,
    trust_weights: bool = False,
    device: str = "cpu",
    folder: Path | None = None,
    environment: PythonEnvironment | None = None,
) -> ResolvedModel:
    """Finds (downloads, if needed) and checks a model's weights.

    Args:
        definition: from :func:`load_model`.
        weights: the user's own weights, a file or a folder, instead of the definition's.
        trust_code: run the code that a definition names which does not ship with defectbench; see :mod:`defectbench.models.trust`.
        trust_weights: load files whose hash no registered model states; they are hashed and the hash is recorded.
        device: ``cpu``, ``cuda``, ``cuda:<n>``.
        folder: of the definition's YAML, for relative paths; see :func:`definition_folder`.
        environment: what it will run in; by default the definition's managed environment stands for the packages in the identity, and
            the code of a calculator that does not lie in ``folder`` is not looked for.

    Raises:
        ModelError: code or weights are not trusted; weights are missing or have another hash than the definition says; or a file that
            the arguments name cannot be read.
        DownloadError: a download failed.
        DefectbenchError: a weights file of the definition lies outside its folder, or no home folder is known for a leading ``~name``.
    """
    from defectbench.models.environment import pins_sha256

    require_trust(
        definition,
        folder=folder,
        environment=environment.name if environment is not None else None,
        own_weights=weights is not None,
        trust_code=trust_code,
        trust_weights=trust_weights,
    )

    if environment is not None:
        pins = environment.pins_sha256
    elif definition.environment == "current":
        pins = "current"
    else:
        pins = pins_sha256(definition.environment)
    known: dict[str, str] = {}
    paths: dict[str, Path] = {}
    if weights is not None and definition.charges_of_weights:
        raise ModelError(f"{definition.id} has weights of its own for each charge; write your own in a YAML, not as --model-weights")
    if weights is not None:
        paths, known = _own_weights(definition, full_path(weights), trust_weights)
    elif definition.weights.source == "package":
        known = {file.path: file.sha256 for file in definition.weights.files if file.sha256 is not None}
    elif definition.weights.source in ("path", "shipped"):
        for file in definition.weights.files:
            own = definition.weights.source == "path"
            place = own_file(folder, file.path, trusted=trust_weights) if own else shipped(file.path)
            members = sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else [place]
            for member in members:
                name = f"{file.path}/{member.relative_to(place).as_posix()}" if place.is_dir() else file.path
                paths[name] = _checked(own_file(folder, name, trusted=trust_weights) if own else member, file.sha256)
                known[name] = sha256_of(member)
    elif definition.weights.source == "url":
        for file in definition.weights.files:
            found = download(file)
            if file.unpack:
                for member in unpacked(found):
                    name = f"{file.path}!{member.relative_to(unpack_folder(found)).as_posix()}"
                    paths[name], known[name] = member, sha256_of(member)
            else:
                paths[file.path], known[file.path] = found, sha256_of(found)
    refuse_known_wrong(known)
    return ResolvedModel(
        definition,
        paths,
        known,
        device=device,
        pins_sha256=pins,
        trust_weights=trust_weights,
        folder=folder,
        own_weights=weights is not None,
        code_sha256=own_code_sha256(definition.arguments, folder, environment) if definition.adapter == "ase_calculator" else None,
    )


def _checked(path: Path, sha256: str | None) -> Path:
    if not path.is_file():
        raise ModelError(f"there is no weights file {path}", code="no-weights")
    if sha256 is not None and (found := sha256_of(path)) != sha256:
        raise ModelError(f"{path} has SHA-256 {found}, its definition says {sha256}; it is not loaded", code="wrong-weights")
    return path


def _own_weights(definition: ModelDefinition, given: Path, trusted: bool) -> tuple[dict[str, Path], dict[str, str]]:
    if not given.exists():
        raise ModelError(f"there are no weights at {given}", code="no-weights")
    if given.is_dir():
        files = {path.relative_to(given).as_posix(): path for path in sorted(given.rglob("*")) if path.is_file()}
    else:
        files = {given.name: given}
    if not files:
        raise ModelError(f"the weights folder {given} is empty", code="no-weights")
    hashes = {name: sha256_of(path) for name, path in files.items()}
    if (unknown := foreign_weights(definition, hashes.items())) and not trusted:
        first = unknown[0]
        raise ModelError(
            f"{files[first]} has the unknown SHA-256 {hashes[first]}, and model files can execute code; "
            "pass --trust-weights if you trust its source",
            code="untrusted-model",
        )
    return files, hashes


def check_against_definition(resolved: ResolvedModel, ready: Mapping[str, Any]) -> None:
    """Compares what a worker loaded with the definition: hashes of the files, number of parameters.

    Args:
        resolved: the model.
        ready: what the worker says of itself: ``weights`` with name and sha256, and ``parameters``.

    Raises:
        ModelError: they differ.
    """
    name = resolved.definition.id
    for entry in ready["weights"]:
        wanted = resolved.weights_sha256.get(entry["name"])
        if wanted is not None and entry["sha256"] != wanted:
            raise ModelError(
                f"{name}: the worker loaded {entry['name']} with SHA-256 {entry['sha256']}, expected {wanted}", code="wrong-weights"
            )
    expected = None if resolved.own_weights else resolved.definition.weights.parameters
    if expected is not None and ready["parameters"] is not None and ready["parameters"] != expected:
        raise ModelError(
            f"{name}: the loaded model has {ready['parameters']} parameters, its definition says {expected}", code="wrong-weights"
        )
