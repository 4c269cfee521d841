"""Entries of earlier schema versions, read as today's. Nothing is invented: what was not recorded is marked as such."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from defectbench.base.hardware import Machine

_MACHINE = ("device", "hardware", "workers", "threads_per_worker")


def current_entry(content: dict[str, Any]) -> dict[str, Any]:
    """The content of an ``entry.json`` of any known version as that of version 2.

    Version 1 had the first machine's fields in the provenance and the others in ``other_machines``.
    """
    provenance = content.get("provenance")
    if content.get("schema_version") != 1 or not isinstance(provenance, dict):
        return content
    kept = dict(provenance)
    first = {name: kept.pop(name, None) for name in _MACHINE}
    others = kept.pop("other_machines", [])
    relaxations = {r.get("content_hash") for part in ("host", "configurations") for r in content.get(part, ()) if isinstance(r, dict)}
    try:
        first["calculations"] = provenance["calculations"] - sum(m["calculations"] for m in others)
        first["relaxations"] = len(relaxations) - sum(m["relaxations"] for m in others)
    except (KeyError, TypeError):
        return content  # not an entry; the schema says what is wrong
    return {**content, "schema_version": 2, "provenance": {**kept, "machines": [first, *others]}}


def current_calculations(content: Mapping[str, Any], machines: Sequence[Machine]) -> dict[str, Any]:
    """The content of a ``calculations.json.gz`` of any known version as that of version 2: content hash → result and machine.

    Version 1 held the bare results, whose ``machine: i`` was the i-th of the entry's (the first, if left out). They do not say at which
    charge and for which request they were calculated: ``echo`` is null.
    """
    if content.get("schema_version") == 2:
        return content["results"] if isinstance(content.get("results"), dict) else {}
    return {content_hash: _with_machine(result, machines) for content_hash, result in content.items()}


def _with_machine(result: Any, machines: Sequence[Machine]) -> dict[str, Any]:
    if not isinstance(result, dict):
        return {"result": result, "machine": None}
    kept = {"echo": None, **result}
    number = kept.pop("machine", 0)
    known = isinstance(number, int) and not isinstance(number, bool) and 0 <= number < len(machines)
    return {
        "result": kept,
        "machine": machines[number].model_dump(mode="json") if known else f"number {number}, which the entry does not have",
    }
