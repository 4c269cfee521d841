"""A defect structure laid onto the sites of its host: where it lies, which sites are empty, which atoms stray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from defectbench.structures.lattice import _CACHE_SIZE, MatchingError, _Cache, _content
from defectbench.structures.symmetry import Operations, _fit_to_host, _species

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.intp]

ABSENT = 1e3
"""Å; the distance from a species that is not there."""

_cache = _Cache(_CACHE_SIZE)
_translation_cache = _Cache(_CACHE_SIZE)


def clear_caches() -> None:
    """Forgets what was laid onto a host."""
    _cache.clear()
    _translation_cache.clear()


def host_translation(numbers: NDArray[np.int64], positions: Floats, operations: Operations) -> Floats:
    """The translation (3,), Å, that lays a defect structure onto the host sites.

    The given origin is kept if the structure already fits (rms to host sites below 0.5 Å). Else starts come from the peaks of the
    cross-correlation of the two atomic densities (on a Fourier grid of about 1 Å), and the one that fits best is taken. Either way the mean
    displacement from the host sites is removed. Equivalent alignments differ by a host operation, which matching goes through anyway.
    """
    key = (operations.key, _content(numbers, positions))
    found = _translation_cache.get(key)
    if found is not None:
        return np.asarray(found)
    host_species = dict(operations.species)
    empty = np.zeros(0, dtype=np.intp)
    blocks = [(own, host_species.get(number, empty)) for number, own in _species(numbers)]
    blocks = [(own, sites) for own, sites in blocks if len(sites)]
    if not blocks:
        raise MatchingError("the structure shares no species with the host it is matched in", code="other-composition")
    value, best = _fit_to_host(positions, blocks, operations, np.zeros(3))
    if value > 0.5:
        for start in _correlation_peaks(positions, blocks, operations):
            now, translation = _fit_to_host(positions, blocks, operations, start)
            if now < value - 1e-9:
                value, best = now, translation
    best.setflags(write=False)
    _translation_cache.put(key, best)
    return best


def _correlation_peaks(
    positions: Floats, blocks: Sequence[tuple[Integers, Integers]], operations: Operations, count: int = 12, resolution: float = 2.0
) -> list[Floats]:
    """Translations at the highest peaks of the cross-correlation of structure and host, at least 0.6 Å apart."""
    lattice = operations.lattice
    lengths = np.linalg.norm(lattice.cell, axis=1)
    limits = [max(2, round(length / resolution)) for length in lengths]
    shape = [4 * limit for limit in limits]

    def factor(points: Floats) -> NDArray[np.complex128]:
        fractional = points @ lattice.inverse
        waves = [np.exp(2j * np.pi * fractional[:, k, None] * np.arange(-limits[k], limits[k] + 1)) for k in range(3)]
        first = (waves[0][:, :, None] * waves[1][:, None, :]).reshape(len(points), -1)
        return np.asarray((first.T @ waves[2]).reshape([2 * limit + 1 for limit in limits]))

    product = np.zeros([2 * limit + 1 for limit in limits], dtype=complex)
    for own, sites in blocks:
        product += np.conj(factor(operations.host_positions[sites])) * factor(positions[own])
    product[tuple(limits)] = 0.0
    grid = np.zeros(shape, dtype=complex)
    index = np.ix_(*[np.arange(-limit, limit + 1) % size for limit, size in zip(limits, shape, strict=True)])
    grid[index] = product
    # sum over G of conj(host) * own * exp(2 pi i G t) is largest where own + t lies on the host
    density = np.real(np.fft.ifftn(grid))
    order = np.argsort(density, axis=None)[::-1]
    chosen: list[Floats] = []
    for flat in order[: 60 * count]:
        triple = np.array(np.unravel_index(int(flat), density.shape), dtype=float) / np.array(shape, dtype=float)
        point = lattice.minimum_image(triple @ lattice.cell)
        if all(np.linalg.norm(lattice.minimum_image(point - other)) > 0.6 for other in chosen):
            chosen.append(point)
            if len(chosen) == count:
                break
    return chosen


@dataclass(frozen=True, eq=False)
class OnHost:
    """A structure laid onto the host, its atoms sorted by species.

    Attributes:
        order: (N,), which atom of the structure each one is.
        numbers: (N,), atomic numbers, ascending.
        shift: (3,), Å, that lays the structure onto the host.
        positions: (N, 3), Å, on the host.
        site: (N,), the host site of its species nearest to each atom; −1 where the host has none.
        stray: (N,), Å, how far that is; :data:`ABSENT` where the host has none.
        emptiness: (S,), Å, distance of each of the host's S sites from the nearest atom of its species; :data:`ABSENT` without any.
        occupant: (S,), the atom that belongs to each site, the nearest of several; −1 without any.
        offset: (S, 3), Å, that atom's place from the site; infinite without any.
        others: (S,), Å, distance of each site from the nearest atom of its species that is not its occupant.
        one_each: each atom has a site of its own.
    """

    order: Integers
    numbers: NDArray[np.int64]
    shift: Floats
    positions: Floats
    site: Integers
    stray: Floats
    emptiness: Floats
    occupant: Integers
    offset: Floats
    others: Floats
    one_each: bool


def on_host(atoms: Atoms, content: bytes, operations: Operations) -> OnHost:
    """Lays a structure onto the host; cached by ``content``, the hash of its numbers and positions."""
    key = (operations.key, content)
    found = _cache.get(key)
    if isinstance(found, OnHost):
        return found
    numbers = np.asarray(atoms.numbers, dtype=np.int64)
    order = np.argsort(numbers, kind="stable")
    shift = host_translation(numbers, np.array(atoms.positions), operations)
    numbers, positions = numbers[order], atoms.positions[order] + shift
    site, stray = np.full(len(numbers), -1), np.full(len(numbers), ABSENT)
    sites_count = len(operations.host_numbers)
    emptiness, others = np.full(sites_count, ABSENT), np.full(sites_count, ABSENT)
    occupant, offset = np.full(sites_count, -1), np.full((sites_count, 3), np.inf)
    host_species = dict(operations.species)
    for number, own in _species(numbers):
        if (sites := host_species.get(number)) is None:
            continue
        lengths = np.sqrt(operations.lattice.squared_distances(positions[own], operations.host_positions[sites]))
        nearest = lengths.argmin(axis=1)
        site[own], stray[own], emptiness[sites] = sites[nearest], lengths.min(axis=1), lengths.min(axis=0)
        order_of_stray = np.argsort(-stray[own], kind="stable")
        first = np.full(len(sites), -1)
        first[nearest[order_of_stray]] = order_of_stray  # the nearest comes last and stays
        taken = np.flatnonzero(first >= 0)
        lengths[first[taken], taken] = ABSENT
        others[sites] = lengths.min(axis=0)
        occupant[sites[taken]] = own[first[taken]]
    held = np.flatnonzero(occupant >= 0)
    offset[held] = operations.lattice.minimum_image(positions[occupant[held]] - operations.host_positions[held])
    one_each = len(held) == len(numbers)
    out = OnHost(order, numbers, shift, positions, site, stray, emptiness, occupant, offset, others, one_each)
    _cache.put(key, out)
    return out
