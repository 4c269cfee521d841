"""Entries that can be ranked together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from defectbench.base.errors import DefectbenchError
from defectbench.base.files import files_below
from defectbench.entries.folder import read_entry
from defectbench.entries.schema import Entry
from defectbench.entries.versions import read_versions
from defectbench.leaderboard.scores import Score, score_results

GroupKey = tuple[str, str, str, bool, str, str, tuple[tuple[str, int, tuple[str, ...]], ...], tuple[str, ...]]


@dataclass(frozen=True)
class Ranked:
    """An entry with its score.

    Attributes:
        folder: where it lies.
        entry: its content.
        score: computed now.
    """

    folder: Path
    entry: Entry
    score: Score

    @cached_property
    def versions(self) -> tuple[Entry, ...]:
        """Earlier versions that the entry's folder keeps, oldest first.

        Raises:
            DefectbenchError: one cannot be read.
        """
        return read_versions(self.folder)

    @property
    def created(self) -> str:
        """When the entry was made, ISO 8601 in UTC: sorts by time."""
        return self.entry.provenance.created

    def __repr__(self) -> str:
        return f"<{self.entry.model.id}: {self.score!r}>"


@dataclass(frozen=True)
class Group:
    """Entries that compare: same data, level, protocol, suite, configurations and tasks; best overall score first.

    Models that were trained on the data are in groups of their own.
    """

    entries: tuple[Ranked, ...]

    @property
    def first(self) -> Entry:
        """An entry that stands for what all have in common."""
        return self.entries[0].entry

    def __repr__(self) -> str:
        d, models = self.first.dataset, ", ".join(one.entry.model.id for one in self.entries)
        return f"<group on {d.id} ({d.level_of_theory}, {self.first.selection.suite}): {models}>"


def find_entries(folder: Path) -> list[Path]:
    """All folders with an ``entry.json`` at or below a folder, sorted.

    Raises:
        DefectbenchError: there is no such folder, or no entry in it.
    """
    if not folder.is_dir():
        raise DefectbenchError(f"no folder {folder}; give one that holds entries of 'defectbench evaluate'", code="no-entry")
    found = sorted(path.parent for path in files_below(folder, "entry.json"))
    if not found:
        raise DefectbenchError(f"no entry.json in or below {folder}; 'defectbench evaluate --output' writes one", code="no-entry")
    return found


def group_key(entry: Entry) -> GroupKey:
    """What entries must have in common to stand in one table; tasks that run only where they are named make no difference."""
    from defectbench.tasks import get_tasks

    on_request = {task.name for task in get_tasks() if task.on_request}
    states = tuple(sorted((s.defect, s.charge, tuple(sorted(s.configurations))) for s in entry.selection.states))
    protocol = str(sorted(entry.provenance.protocol.items()))
    return (
        entry.dataset.id,
        entry.dataset.sha256,
        entry.dataset.level_of_theory,
        entry.in_domain,
        protocol,
        entry.selection.suite,
        states,
        tuple(sorted(entry.tasks.keys() - on_request)),
    )


def group_entries(folders: Iterable[Path]) -> list[Group]:
    """Reads entries and sorts them into groups: by dataset, full before quick before custom, larger selections first,
    in-domain models last.

    Raises:
        DefectbenchError: an entry cannot be read, or two of one group are of the same model.
    """
    grouped: dict[GroupKey, list[Ranked]] = {}
    for folder in folders:
        entry = read_entry(folder)
        grouped.setdefault(group_key(entry), []).append(Ranked(folder, entry, score_results(entry.tasks)))
    order = {"full": 0, "quick": 1, "custom": 2}

    def place(item: tuple[GroupKey, list[Ranked]]) -> tuple[str, int, int, bool, str]:
        key, ranked = item
        first = ranked[0].entry
        return key[0], order[first.selection.suite], -len(first.configurations), first.in_domain, str(key)

    groups = []
    for _, ranked in sorted(grouped.items(), key=place):
        by_model: dict[str, Ranked] = {}
        for one in ranked:
            other = by_model.setdefault(one.entry.model.identity, one)
            if other is not one:
                raise DefectbenchError(
                    f"{other.folder} and {one.folder} are the same model on the same data; remove one of them", code="duplicate-entry"
                )
        ranked.sort(key=lambda r: (-(r.score.overall if r.score.overall is not None else -1.0), r.entry.model.id))
        groups.append(Group(tuple(ranked)))
    return groups
