"""The ground states of two datasets of one host side by side."""

from __future__ import annotations

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from defectbench.datasets.dataset import Dataset

from .analysis import Minimum, describe_state, from_site

NEIGHBOURS = 12
"""Atoms of the host around a site that tell it from other sites of its element."""


def matching_defects(dataset: Dataset, other: Dataset) -> dict[str, str]:
    """Vacancies of a dataset and those of another that sit on the same kind of site: names here → names there.

    A site is recognised by the elements and distances of its neighbours in the relaxed host, which is the same in any setting and
    supercell; lattices may differ by a few per cent. A vacancy without a counterpart is left out.
    """
    here = {name: _surroundings(dataset, name) for name in _vacancies(dataset)}
    there = {name: _surroundings(other, name) for name in _vacancies(other)}
    out = {}
    for name, found in here.items():
        element = _removed(dataset, name)
        candidates = {n: _unlike(found, f) for n, f in there.items() if _removed(other, n) == element}
        best = min(candidates, key=lambda n: candidates[n], default=None)
        if best is None:
            continue
        # each the other's nearest: two sites here never share one there
        if candidates[best] == min(_unlike(f, there[best]) for n, f in here.items() if _removed(dataset, n) == element):
            out[name] = best
    return out


def compared_states(dataset: Dataset, other: Dataset, level: str | None = None) -> list[tuple[list[Minimum], Minimum]]:
    """Charge states of which both datasets have minima: all those here, lowest first, and the other's lowest at its reference level."""
    names = matching_defects(dataset, other)
    out = []
    for defect, charge in dataset.states:
        if (there := names.get(defect)) is None or charge not in other.charges(there):
            continue
        one, two = describe_state(dataset, defect, charge, level), describe_state(other, there, charge)
        if one and two:
            out.append((one, two[0]))
    return out


def _vacancies(dataset: Dataset) -> list[str]:
    return [d.name for d in dataset.metadata.defects if d.kind == "vacancy"]


def _removed(dataset: Dataset, name: str) -> str | None:
    return next(d.removed for d in dataset.metadata.defects if d.name == name)


def _surroundings(dataset: Dataset, name: str) -> NDArray[np.float64]:
    """(NEIGHBOURS, 2): distance in Å and atomic number of the host atoms around a defect's site, nearest first."""
    away = from_site(dataset.host, dataset.defect_position(name))
    order = [i for i in np.argsort(away) if away[i] > 0.5][:NEIGHBOURS]
    numbers = [atomic_numbers[s] for s in dataset.host.get_chemical_symbols()]
    return np.array([[away[i], numbers[i]] for i in order], dtype=float)


def _unlike(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Sum of squared differences of distances, element by element; a neighbour without a partner counts as one that is off by 0.5 Å."""
    total = 0.0
    for element in np.unique([*one[:, 1], *other[:, 1]]):
        a, b = np.sort(one[one[:, 1] == element, 0]), np.sort(other[other[:, 1] == element, 0])
        shared = min(len(a), len(b))
        total += float(((a[:shared] - b[:shared]) ** 2).sum()) + 0.25 * abs(len(a) - len(b))
    return total
