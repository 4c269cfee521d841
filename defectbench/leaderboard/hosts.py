"""Scores over several hosts, each host with the same weight, and how well the hosts agree on the order of models."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from defectbench.base.errors import DefectbenchError
from defectbench.base.files import contained, open_file
from defectbench.entries.staleness import stale
from defectbench.leaderboard.groups import Group, Ranked
from defectbench.scoring.paired import student

if TYPE_CHECKING:
    import pandas as pd

FEWEST_MODELS = 3
"""Two models have only two orders: a rank correlation of them says nothing."""

MOST_HOST_BYTES = 200_000
"""Of ``structures.extxyz``: its first structure is the host."""

CHANCE = 0.05


@dataclass(frozen=True)
class Host:
    """A host, and the entries that stand for it.

    Attributes:
        name: its formula; the dataset's name where an entry has no structures.
        dataset: of the entries.
        level: of theory of the reference.
        suite: of the entries.
        states: number of charge states, which count as one cluster: more of them do not make the host count more.
        left_out: other datasets of the same host.
    """

    name: str
    dataset: str
    level: str
    suite: str
    states: int
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelOverHosts:
    """A model on the hosts.

    Attributes:
        model: id.
        name: as its authors write it.
        scores: host → overall score there; hosts without an entry of the model are missing.
        score: mean over all hosts, each with the same weight; None unless the model has an entry on each.
        interval: of the score at 95 %, for hosts like these: Student's t with a host as the unit, within 0 and 1. None for one host.
    """

    model: str
    name: str
    scores: Mapping[str, float]
    score: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Agreement:
    """How well two hosts agree on the order of the models that both have.

    Attributes:
        hosts: names.
        models: how many.
        rank_correlation: Spearman's; None for fewer than three models, or where a host gives equal scores to all.
        by_chance: the correlation that only one in twenty random orders of as many models reaches; None for fewer than three.
    """

    hosts: tuple[str, str]
    models: int
    rank_correlation: float | None
    by_chance: float | None


@dataclass(frozen=True, repr=False)
class AcrossHosts:
    """All hosts side by side.

    Attributes:
        hosts: by name.
        models: best mean first; those without one below, by name.
        agreements: of every pair of hosts.
        statement: how far the ranking generalises, in words.

    Example:
        >>> import defectbench
        >>> found = defectbench.load_leaderboard("leaderboards/cdte-doped").across_hosts()
        >>> found
        <scores over 1 hosts: ... models>
    """

    hosts: tuple[Host, ...]
    models: tuple[ModelOverHosts, ...]
    agreements: tuple[Agreement, ...]
    statement: str

    def to_frame(self) -> pd.DataFrame:
        """One row per model: its mean score with bounds, and its score on each host.

        Example:
            >>> import defectbench
            >>> found = defectbench.load_leaderboard("leaderboards/cdte-doped").across_hosts()
            >>> list(found.to_frame())
            ['model', 'score', 'low', 'high', 'CdTe']
        """
        import pandas as pd

        rows = []
        for m in self.models:
            low, high = m.interval or (None, None)
            rows.append(
                {"model": m.model, "score": m.score, "low": low, "high": high, **{h.name: m.scores.get(h.name) for h in self.hosts}}
            )
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        return f"<scores over {len(self.hosts)} hosts: {len(self.models)} models>"

    def _repr_html_(self) -> str:
        return f"<p>{escape(self.statement)}</p>" + self.to_frame().to_html(index=False, float_format="{:.2f}".format, na_rep="–")


def host_of(one: Ranked) -> str:
    """The reduced formula of an entry's host, from the first of its structures; without one the dataset's name."""
    from ase.formula import Formula

    try:
        with open_file(contained(one.folder, "structures.extxyz")) as file:
            lines = file.read(MOST_HOST_BYTES).decode("utf-8", "replace").splitlines()
        symbols = [line.split()[0] for line in lines[2 : 2 + int(lines[0])]]
        if "defect=host" not in lines[1] or len(symbols) != int(lines[0]):
            raise ValueError("its first structure is not a host")
        return str(Formula("".join(symbols)).reduce()[0].format("metal"))
    except (OSError, ValueError, IndexError, KeyError, DefectbenchError):
        return one.entry.dataset.id


def _represent(groups: Sequence[Group]) -> Group:
    """The group that stands for a host: one that is not stale, then the one with most models, then a full suite, then most starts."""
    return max(
        groups,
        key=lambda g: (
            stale(g.first) is None,
            len({one.entry.model.id for one in g.entries}),
            g.first.selection.suite == "full",
            len(g.first.configurations),
        ),
    )


def across_hosts(groups: Iterable[Group]) -> AcrossHosts:
    """Scores over hosts, from the groups of a leaderboard.

    One group stands for each host, so that a host with several datasets does not count more. Models that were trained on the data, and
    selections of one's own, are left out: neither tests transfer.
    """
    by_host: dict[str, list[Group]] = {}
    for group in groups:
        if not group.first.in_domain and group.first.selection.suite != "custom":
            by_host.setdefault(host_of(group.entries[0]), []).append(group)
    chosen = {name: _represent(mine) for name, mine in sorted(by_host.items())}
    hosts = tuple(
        Host(
            name=name,
            dataset=group.first.dataset.id,
            level=group.first.dataset.level_of_theory,
            suite=group.first.selection.suite,
            states=len(group.first.selection.states),
            left_out=tuple(sorted({g.first.dataset.id for g in by_host[name]} - {group.first.dataset.id})),
        )
        for name, group in chosen.items()
    )
    scores: dict[str, dict[str, float]] = {}
    names: dict[str, str] = {}
    for host, group in chosen.items():
        for one in sorted(group.entries, key=lambda r: r.created):  # of several entries of a model the newest counts
            if one.score.overall is not None:
                scores.setdefault(one.entry.model.id, {})[host] = one.score.overall
                names[one.entry.model.id] = one.entry.model.name
    rows = [ModelOverHosts(model, names[model], found, *_mean(list(found.values()), len(hosts))) for model, found in scores.items()]
    rows.sort(key=lambda row: (row.score is None, -(row.score or 0.0), row.model))
    agreements = tuple(_agreement(pair, scores) for pair in itertools.combinations(chosen, 2))
    return AcrossHosts(hosts, tuple(rows), agreements, _statement(hosts, agreements))


def _mean(scores: Sequence[float], hosts: int) -> tuple[float | None, tuple[float, float] | None]:
    """The mean over hosts and its interval; charge states of one host are right or wrong together, so that a host is one value."""
    if len(scores) < hosts:
        return None, None
    mean = float(np.mean(scores))
    if hosts < 2:
        return mean, None
    half = student(0.95, hosts - 1) * float(np.std(scores, ddof=1)) / math.sqrt(hosts)
    return mean, (max(mean - half, 0.0), min(mean + half, 1.0))


def _agreement(hosts: tuple[str, str], scores: Mapping[str, Mapping[str, float]]) -> Agreement:
    from scipy.stats import spearmanr

    both = [tuple(found[host] for host in hosts) for found in scores.values() if all(host in found for host in hosts)]
    count = len(both)
    if count < FEWEST_MODELS:
        return Agreement(hosts, count, None, None)
    table = np.array(both)
    varies = all(len(set(column)) > 1 for column in table.T)
    correlation = float(spearmanr(table).statistic) if varies else None
    return Agreement(hosts, count, correlation, chance_correlation(count))


@cache
def chance_correlation(count: int) -> float:
    """The smallest rank correlation that at most one in twenty random orders reaches; above 1 where even the same order is not that rare.

    Exact up to seven items, else the normal approximation.

    Example:
        >>> round(chance_correlation(5), 2), round(chance_correlation(7), 3), round(chance_correlation(20), 2), chance_correlation(3) > 1
        (0.9, 0.714, 0.38, True)
    """
    if count > 7:
        return 1.645 / math.sqrt(count - 1)
    ranks = np.arange(count)
    orders = np.array(list(itertools.permutations(ranks)))
    found = np.sort(1.0 - 6.0 * ((orders - ranks) ** 2).sum(axis=1) / (count * (count**2 - 1)))[::-1]
    reached = {value: float((found >= value - 1e-9).mean()) for value in set(found.round(9).tolist())}
    return min((value for value, share in reached.items() if share <= CHANCE), default=math.nextafter(1.0, 2.0))


def _statement(hosts: Sequence[Host], agreements: Sequence[Agreement]) -> str:
    """How far a ranking generalises."""
    if not hosts:
        return "No entry can be ranked over hosts."
    if len(hosts) == 1:
        return f"All entries are of one host ({hosts[0].name}). How models rank on other hosts is not known."
    known = [a for a in agreements if a.rank_correlation is not None and a.by_chance is not None]
    if not known:
        return f"No two of the {len(hosts)} hosts have {FEWEST_MODELS} models in common: whether hosts agree on the ranking is not known."
    beyond = sum((a.rank_correlation or 0.0) >= (a.by_chance or 0.0) for a in known)
    mean = sum(a.rank_correlation or 0.0 for a in known) / len(known)
    pairs = f"{beyond} of {len(known)} pairs of hosts" if len(known) > 1 else "The two hosts" if beyond else "No two hosts"
    said = f"{pairs} agree on the order of models beyond chance (mean rank correlation {mean:.2f})."
    if beyond < len(known):
        return f"{said} A ranking on one host does not tell that on another."
    return f"{said} That holds for hosts like these {len(hosts)}; others are not tested."
