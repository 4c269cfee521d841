"""Whether an entry is *stale*: made on another content of its dataset than ships now, or with another protocol than runs now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from defectbench.calculations.requests import PROTOCOL

if TYPE_CHECKING:
    from defectbench.entries.schema import Entry


def shipped_content(dataset: str) -> str | None:
    """SHA-256 of the content of a dataset that comes with this version (see :func:`defectbench.datasets.folder.content_hash`); None if
    none of that name does. Downloads nothing.

    Raises:
        DatasetError: its ``dataset.yaml`` is wrong.
    """
    from defectbench.datasets.catalogue import embedded_folder, embedded_names
    from defectbench.datasets.folder import content_hash
    from defectbench.datasets.schema import METADATA_FILE, parse_metadata

    return content_hash(parse_metadata(embedded_folder() / dataset / METADATA_FILE)) if dataset in embedded_names() else None


def stale(entry: Entry) -> str | None:
    """Why an entry is stale, in one line; None if it is not. Nothing is known of a dataset that does not come with this version.

    Raises:
        DatasetError: the dataset's ``dataset.yaml`` is wrong.
    """
    reasons = []
    now = shipped_content(entry.dataset.id) if entry.dataset.embedded else None
    if now is not None and now != entry.dataset.sha256:
        reasons.append(f"{entry.dataset.id} has changed since ({entry.dataset.sha256[:12]}…, now {now[:12]}…)")
    current, used = PROTOCOL.to_json(), entry.provenance.protocol
    if {**current, **used} != current:
        again = " ('defectbench rescore' brings it there)" if {**current, **used, "name": PROTOCOL.name} == current else ""
        reasons.append(f"made with protocol {used.get('name')}, now {PROTOCOL.name}{again}")
    return "; ".join(reasons) or None
