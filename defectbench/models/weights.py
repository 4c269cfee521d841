"""Weights files: downloaded, also ahead, and compared with what is published about them."""

from __future__ import annotations

import hashlib
import tarfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from defectbench.base.downloads import RemoteFile, cache_folder, fetch, mirror
from defectbench.base.errors import DownloadError, ModelError
from defectbench.base.files import contained, copy_file, making_folder, open_file, sha256_of
from defectbench.base.paths import user_path
from defectbench.models.schema import ModelDefinition, WeightsFileDefinition
from defectbench.models.trust import known_wrong, require_trust


def fetch_weights(definition: ModelDefinition, *, trust_weights: bool = False) -> list[Path]:
    """Downloads a model's weights into the cache, where a run on a machine without a network finds them.

    Args:
        definition: of the model.
        trust_weights: also download files of unknown SHA-256.

    Returns:
        Where the files lie; empty where nothing is downloaded (the weights lie in the package, or are the user's own).

    Raises:
        ModelError: a file of unknown SHA-256 is not trusted.
        DownloadError: a download failed, or has another SHA-256.
    """
    if definition.weights.source != "url":
        return []
    require_trust(definition, trust_code=True, trust_weights=trust_weights)  # no code runs here
    return [download(file) for file in definition.weights.files]


def missing_weights(definition: ModelDefinition) -> list[tuple[WeightsFileDefinition, Path]]:
    """The files that :func:`fetch_weights` would download, and where to; nothing is downloaded and no hash computed."""
    if definition.weights.source != "url":
        return []
    places = [(file, _place(definition, file, None, None)) for file in definition.weights.files]
    return [(file, place) for file, place in places if not place.is_file()]


@dataclass(frozen=True)
class Witness:
    """One thing that is published about a weights file, and whether the file here agrees.

    Attributes:
        what: ``SHA-256``, ``size`` or ``git blob``.
        published: as the definition states it.
        found: of the file here.
        records: independent public records that state it; None where nobody counted.
    """

    what: str
    published: str
    found: str
    records: int | None = None

    @property
    def agrees(self) -> bool:
        """Whether the file here is as published."""
        return self.published == self.found


@dataclass(frozen=True)
class VerifiedFile:
    """A weights file here beside what is published about it.

    Attributes:
        name: path in the definition.
        path: where it lies.
        sha256: of the file here.
        witnesses: what is published about it; empty where nothing is.
        refused: why this very file is refused; None if it is not known to be wrong.
    """

    name: str
    path: Path
    sha256: str
    witnesses: tuple[Witness, ...]
    refused: str | None = None

    @property
    def passed(self) -> bool:
        """Whether something is published about the file, and all of it agrees."""
        return self.refused is None and bool(self.witnesses) and all(witness.agrees for witness in self.witnesses)


def verify_weights(definition: ModelDefinition, *, given: Path | None = None, folder: Path | None = None) -> list[VerifiedFile]:
    """Compares weights on this machine with what is published about them; nothing is downloaded, loaded or run.

    Args:
        definition: of the model.
        given: a file to compare instead of the one in the cache (of a model with one weights file), or a folder that holds all of them
            under their names.
        folder: of the definition's YAML, for its relative paths.

    Raises:
        ModelError: a file is not on this machine.
        DefectbenchError: a definition's path leads out of the cache or of its folder.
    """
    found = []
    for file in definition.weights.files:
        path = _place(definition, file, given, folder)
        if not path.is_file():
            hint = "give its path"
            if given is None and definition.weights.source == "url":
                hint = f"'defectbench models fetch {definition.id}' downloads it"
            elif given is None and definition.weights.source == "package":
                hint = f"'defectbench environments create {definition.environment}' installs it"
            raise ModelError(f"there is no weights file {path}; {hint}", code="no-weights")
        sha256 = sha256_of(path)
        witnesses = []
        if file.sha256 is not None:
            witnesses.append(Witness("SHA-256", file.sha256, sha256, file.witnesses))
        if file.size is not None:
            witnesses.append(Witness("size", f"{file.size} bytes", f"{path.stat().st_size} bytes"))
        if file.git_blob is not None:
            witnesses.append(Witness("git blob", file.git_blob, git_blob_of(path)))
        found.append(VerifiedFile(file.path, path, sha256, tuple(witnesses), known_wrong().get(sha256)))
    return found


def _place(definition: ModelDefinition, file: WeightsFileDefinition, given: Path | None, folder: Path | None) -> Path:
    """Where a weights file lies or would lie on this machine."""
    if given is not None and given.is_dir():
        return next((p for p in (given / file.path, given / Path(file.path).name) if p.is_file()), given / file.path)
    if given is not None:
        return given
    if definition.weights.source == "url":
        assert file.url is not None
        return RemoteFile(file.url, file.sha256, file.path, "weights").cached if file.sha256 else _unhashed_place(file.url, file.path)
    if definition.weights.source == "package":
        from defectbench.models.environment import environment_folder

        site_packages = environment_folder(definition.environment)
        return next(site_packages.glob(f"[Ll]ib/**/site-packages/{file.path}"), site_packages / file.path)
    return shipped(file.path) if definition.weights.source == "shipped" else own_file(folder, file.path, trusted=True)


def own_file(folder: Path | None, path: str, *, trusted: bool) -> Path:
    """Where a weights file or folder lies that a definition names: below the definition's folder, also after all links are followed.

    Args:
        folder: of the definition's YAML; None is the working directory.
        path: as the definition names it.
        trusted: whether the path may be absolute: a definition from anywhere must not reach for other files of the user's.

    Raises:
        ModelError: it is absolute, and the weights are not trusted.
        DefectbenchError: it leads out of the folder, or no home folder is known for a leading ``~name``.
    """
    given = user_path(path)
    if not given.is_absolute():
        return contained(folder or Path.cwd(), given.as_posix()).resolve()
    if not trusted:
        raise ModelError(
            f"the weights {given} do not lie below the folder of the definition that names them; pass --trust-weights if you trust it",
            code="untrusted-model",
        )
    return given


def shipped(path: str) -> Path:
    """Where a weights file lies that comes with defectbench."""
    return Path(str(resources.files("defectbench.models"))) / "shipped" / path


def git_blob_of(path: Path) -> str:
    """The SHA-1 under which git stores a file's content.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     empty = Path(folder) / "empty"
    ...     empty.touch()
    ...     git_blob_of(empty)
    'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391'
    """
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with open_file(path) as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _unhashed_place(url: str, path: str) -> Path:
    return contained(cache_folder() / "weights" / "unhashed" / hashlib.sha256(url.encode()).hexdigest()[:16], path)


def download(file: WeightsFileDefinition) -> Path:
    """A file with a URL, from the cache, the mirror or that URL."""
    assert file.url is not None
    if file.sha256 is not None:
        return fetch(RemoteFile(file.url, file.sha256, file.path, "weights"))
    return _fetch_unhashed(file.url, file.path)


def _fetch_unhashed(url: str, path: str) -> Path:
    """A trusted file without a known hash: from the cache, the mirror or its URL. Nothing but the URL says which file it is."""
    import pooch

    target = _unhashed_place(url, path)
    if target.is_file():
        return target
    place = mirror("DEFECTBENCH_WEIGHTS_MIRROR")
    try:
        if isinstance(place, Path):
            source = place / path
            if not source.is_file():
                raise DownloadError(f"DEFECTBENCH_WEIGHTS_MIRROR has no file {source}; it should be a copy of {url}", code="not-in-mirror")
            copy_file(source, target)
        else:
            pooch.retrieve(f"{place}/{path}" if place else url, known_hash=None, fname=target.name, path=target.parent)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise DownloadError(f"cannot download {url} ({reason}); connect to the network, or put the file at {target} yourself") from error
    return target


def unpack_folder(archive: Path) -> Path:
    """Where an archive's files lie once they are unpacked."""
    return archive.parent / f"{archive.name}.unpacked-{sha256_of(archive)[:12]}"


def unpacked(archive: Path) -> list[Path]:
    """The files of a tar archive, unpacked beside it once; refuses members that point outside."""
    folder = unpack_folder(archive)
    if not folder.is_dir():
        try:
            with making_folder(folder) as partial, tarfile.open(archive) as content:
                content.extractall(partial, filter="data")
        except (OSError, tarfile.TarError) as error:
            raise ModelError(f"cannot unpack {archive}: {error}", code="bad-format") from error
    return sorted(path for path in folder.rglob("*") if path.is_file())
