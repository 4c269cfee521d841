"""Fetching the files of a remote dataset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from defectbench.base.downloads import RemoteFile, fetch
from defectbench.datasets.schema import DatasetFile


def remote_files(metadata: DatasetFile) -> dict[str, RemoteFile]:
    """Relative path → remote file; empty for a dataset that is wholly embedded.

    Files of further sources have their mirror folder in front of their path.
    """
    remote = metadata.remote
    if remote is None:
        return {}
    sources = [("", remote), *((f"{source.mirror_folder}/", source) for source in remote.further)]
    return {
        prefix + name: RemoteFile(
            url=f"{source.base_url.rstrip('/')}/{quote(name)}", sha256=digest, path=f"{source.mirror_folder}/{name}", kind="dataset"
        )
        for prefix, source in sources
        for name, digest in source.files.items()
    }


def fetch_all(metadata: DatasetFile, progress: Callable[[int, int], None] | None = None) -> dict[str, Path]:
    """Relative path → path in the cache of every remote file, downloaded where it is not there yet.

    Args:
        metadata: of the dataset.
        progress: called with (files done, files in all) after each file.

    Raises:
        DownloadError: a file is not in the cache and cannot be fetched.
    """
    files = remote_files(metadata)
    if missing_files(metadata):
        import pooch

        pooch.get_logger().setLevel("WARNING")  # not two lines per file
    out = {}
    for number, (name, remote) in enumerate(files.items(), start=1):
        out[name] = fetch(remote)
        if progress is not None:
            progress(number, len(files))
    return out


def missing_files(metadata: DatasetFile) -> tuple[str, ...]:
    """Remote files that are not in the cache; nothing is downloaded and no hash computed."""
    return tuple(name for name, remote in remote_files(metadata).items() if not remote.cached.is_file())
