"""Which frames get a calculation at a dearer level: a stratified selection, a pure function of the frames' coordinates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, order=True)
class Candidate:
    """A frame that can be selected.

    Attributes:
        charge: units of +e.
        configuration: name of the start.
        step: of its relaxation.
        energy: above the lowest minimum of its charge state, eV.
        distance: from the minimum its own relaxation ends in: root mean square displacement, Å.
        minimum: for a converged minimum, the start of the lowest one of its charge state that it equals, or its own; else None.
    """

    charge: int
    configuration: str
    step: int
    energy: float
    distance: float
    minimum: str | None = None

    @property
    def key(self) -> tuple[int, str, int]:
        return (self.charge, self.configuration, self.step)


def distinct_minima(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The lowest candidate of each distinct minimum; ground states first, then by energy."""
    by_charge: dict[int, list[Candidate]] = {}
    for candidate in sorted((c for c in candidates if c.minimum is not None), key=lambda c: (c.energy, c.key)):
        taken = by_charge.setdefault(candidate.charge, [])
        if candidate.minimum not in [other.minimum for other in taken]:
            taken.append(candidate)
    ranked = [(rank, c) for taken in by_charge.values() for rank, c in enumerate(taken)]
    return [c for _, c in sorted(ranked, key=lambda item: (item[0] > 0, item[1].energy if item[0] else 0.0, item[1].key))]


def select_frames(
    candidates: Sequence[Candidate],
    frames: int,
    *,
    max_energy: float = 3.0,
    already: Iterable[tuple[int, str, int]] = (),
    bins: int = 3,
) -> list[Candidate]:
    """Selects frames: every ground state, every other distinct minimum, then evenly over charge, energy and distance from the minimum.

    Within a charge state the other frames are sorted into ``bins`` × ``bins`` cells by the ranks of energy and distance; the cells
    are visited in turn (fewest taken first), and from a cell the frame nearest to the middle of its ranks is taken.
    Charges take turns, those with the fewest taken first. The same input gives the same output, in the order of priority, and what
    is in ``already`` counts as taken, so that a selection grows without throwing away what is calculated.

    Args:
        candidates: all frames.
        frames: how many in all, minima included; minima are selected even if there are more of them.
        max_energy: frames further (eV) above their ground state are left out.
        already: keys of frames that are calculated.
        bins: cells along each coordinate.

    Returns:
        The selection, those of ``already`` first.
    """
    by_key = {candidate.key: candidate for candidate in sorted(candidates)}
    selected = [by_key[key] for key in dict.fromkeys(already) if key in by_key]
    chosen = {candidate.key for candidate in selected}
    for candidate in distinct_minima(by_key.values()):
        if (candidate.charge, candidate.minimum) not in {(c.charge, c.minimum) for c in selected}:
            selected.append(candidate)
            chosen.add(candidate.key)
    near = [c for c in by_key.values() if c.energy <= max_energy]
    pools = {charge: _cells([c for c in near if c.charge == charge], bins) for charge in {c.charge for c in near}}
    while len(selected) < frames:
        open_charges = [charge for charge, cells in pools.items() if any(c.key not in chosen for cell in cells.values() for c in cell)]
        if not open_charges:
            break
        charge = min(open_charges, key=lambda q: (sum(c.charge == q for c in selected), q))
        cells = {
            name: [c for c in cell if c.key not in chosen] for name, cell in pools[charge].items() if any(c.key not in chosen for c in cell)
        }
        taken = {name: sum(c.key in chosen for c in pools[charge][name]) for name in cells}
        name = min(cells, key=lambda cell: (taken[cell], cell))
        free = cells[name]
        pick = free[len(free) // 2]
        selected.append(pick)
        chosen.add(pick.key)
    return selected


def _cells(candidates: Sequence[Candidate], bins: int) -> dict[tuple[int, int], list[Candidate]]:
    """Frames by the ranks of energy and distance; each cell sorted by energy."""
    if not candidates:
        return {}
    energy = _ranks([c.energy for c in candidates], bins)
    distance = _ranks([c.distance for c in candidates], bins)
    cells: dict[tuple[int, int], list[Candidate]] = {}
    for candidate, row, column in zip(candidates, energy, distance, strict=True):
        cells.setdefault((row, column), []).append(candidate)
    return {name: sorted(cell, key=lambda c: (c.energy, c.key)) for name, cell in cells.items()}


def _ranks(values: Sequence[float], bins: int) -> list[int]:
    order = np.argsort(np.argsort(np.asarray(values), kind="stable"), kind="stable")
    return [int(rank * bins // len(values)) for rank in order]
