"""Putting a user's structures into the host's frame and atom order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from defectbench.base.errors import DatasetError
from defectbench.datasets.schema import Defect
from defectbench.structures.lattice import minimum_image


def ideal_structure(host: Atoms, defect: Defect, position: NDArray[np.float64] | None = None) -> Atoms:
    """The defect in the unrelaxed host: host order with the site removed, or its element changed, or the new atom at the end."""
    atoms: Atoms = host.copy()
    if defect.kind == "vacancy":
        del atoms[defect.site]
    elif defect.kind == "substitution":
        atoms.symbols[defect.site] = defect.added
    else:
        atoms += Atoms([defect.added], positions=[defect.position if position is None else position])
    return atoms


CELL_DIFFERENCE = 0.01
"""Å; a cell that differs by no more counts as the host's (files with few decimals)."""
_CAP = 1.0
"""Å²; no atom counts for more when two translations are compared, so that the defect itself does not decide."""
_SHIFTED = 0.5
"""Å; a median distance from the sites above this means another origin."""
_FAR_OFF = 1.0
"""Å; a median distance above this after alignment means another structure."""
_SITE_RADIUS = 2.5
"""Å; how far the foreign atom of a substitution may be from its site."""


@dataclass(frozen=True)
class Placement:
    """How a structure lies on the host.

    Attributes:
        shift: translation that was added to its positions, (3,), Å.
        order: index of its atom for each atom of the ideal defective structure.
    """

    shift: NDArray[np.float64]
    order: NDArray[np.int64]


def in_host_cell(atoms: Atoms, host: Atoms) -> Atoms:
    """The structure in exactly the host's cell, at the same fractional positions, without labels and calculator.

    Raises:
        DatasetError: the cells differ by more than 0.01 Å.
    """
    difference = float(np.abs(atoms.cell.array - host.cell.array).max())
    if not difference <= CELL_DIFFERENCE:
        raise DatasetError(f"its cell differs from the host's by up to {difference:.3g} Å (the cell must be the host's)", code="other-cell")
    positions = atoms.cell.scaled_positions(atoms.positions) @ host.cell.array
    if not np.isfinite(positions).all():
        raise DatasetError("its positions are not finite", code="not-finite")
    return Atoms(atoms.get_chemical_symbols(), positions=positions, cell=host.cell, pbc=True)


def find_defect(name: str, atoms: Atoms, host: Atoms, charges: tuple[int, ...]) -> tuple[Defect, Placement]:
    """Which point defect a structure has, from its composition and the sites that its atoms leave.

    Args:
        name: of the defect.
        atoms: in the host's cell; any origin, any atom order.
        host: perfect supercell.
        charges: for the result.

    Returns:
        The defect, and how this structure lies on the host.

    Raises:
        DatasetError: not one vacancy, substitution or interstitial in this host.
    """
    have, want = _counts(atoms), _counts(host)
    more = {e: n - want.get(e, 0) for e, n in have.items() if n > want.get(e, 0)}
    less = {e: n - have.get(e, 0) for e, n in want.items() if n > have.get(e, 0)}
    if sum(more.values()) > 1 or sum(less.values()) > 1 or not (more or less):
        difference = ", ".join([*(f"+{n} {e}" for e, n in more.items()), *(f"-{n} {e}" for e, n in less.items())])
        raise DatasetError(
            f"it is not the host with one vacancy, substitution or interstitial ({difference or 'same composition'})", code="not-a-defect"
        )
    added, removed = next(iter(more), None), next(iter(less), None)
    kind = "vacancy" if added is None else "interstitial" if removed is None else "substitution"
    shift = _best_shift(atoms, host, prefer_zero=True)
    moved = atoms.positions + shift
    sites, median = _assign(atoms, moved, host)
    if median > _FAR_OFF:
        raise DatasetError(
            f"its atoms are {median:.2f} Å (median) from the host's sites; is it a distortion of this host?", code="not-a-defect"
        )
    position: tuple[float, float, float] | None = None
    site: int | None = None
    if removed is not None:
        free = set(np.flatnonzero(np.array(host.get_chemical_symbols()) == removed)) - set(sites)
        site = int(next(iter(free)))
        position = _triple(host.positions[site])
    if added is not None:
        extra = int(np.flatnonzero(sites == -1)[0])
        if site is None:
            position = _triple(moved[extra])
        elif (away := float(np.linalg.norm(minimum_image(moved[[extra]] - host.positions[[site]], host.cell)))) > _SITE_RADIUS:
            raise DatasetError(
                f"its {added} atom is {away:.2f} Å from the empty {removed} site; that is not a substitution", code="not-a-defect"
            )
    defect = Defect.model_validate(
        {"name": name, "kind": kind, "site": site, "position": position, "removed": removed, "added": added, "charges": charges}
    )
    return defect, Placement(shift, order_on_host(moved, atoms, host, defect))


def place(atoms: Atoms, host: Atoms, defect: Defect) -> Placement:
    """How a structure with a known defect lies on the host: its origin is moved if it has to be.

    Raises:
        DatasetError: other composition, or no translation puts it onto the host with the defect on its site.
    """
    ideal = ideal_structure(host, defect)
    if _counts(atoms) != _counts(ideal):
        raise DatasetError(f"its composition is not that of {defect.name}", code="other-composition")
    shift = _best_shift(atoms, ideal, prefer_zero=False)
    moved = atoms.positions + shift
    order = order_on_host(moved, atoms, host, defect)
    distances = np.linalg.norm(minimum_image(moved[order] - ideal.positions, host.cell), axis=1)
    if float(np.median(distances)) > _FAR_OFF:
        raise DatasetError(
            f"its atoms are {np.median(distances):.2f} Å (median) from the host's sites; is it a distortion of this host?",
            code="not-a-defect",
        )
    if defect.site is not None:
        free, _ = _assign(atoms, moved, host)
        left = set(np.flatnonzero(np.array(host.get_chemical_symbols()) == defect.removed)) - set(free)
        if left != {defect.site} and float(np.sort(distances)[-2]) > _SITE_RADIUS:
            raise DatasetError(
                f"its defect is on host site {min(left)}, that of {defect.name} on {defect.site}; name the two differently",
                code="not-a-defect",
            )
    return Placement(shift, order)


def apply(placement: Placement, atoms: Atoms, host: Atoms, defect: Defect) -> Atoms:
    """The structure in the host's frame and order, each atom in the periodic image nearest to its site."""
    ideal = ideal_structure(host, defect)
    moved = (atoms.positions + placement.shift)[placement.order]
    return Atoms(
        ideal.get_chemical_symbols(),
        positions=ideal.positions + minimum_image(moved - ideal.positions, host.cell),
        cell=host.cell,
        pbc=True,
    )


def _counts(atoms: Atoms) -> dict[str, int]:
    symbols, numbers = np.unique(atoms.get_chemical_symbols(), return_counts=True)
    return {str(symbol): int(number) for symbol, number in zip(symbols, numbers, strict=True)}


def _triple(vector: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = (round(float(value), 8) for value in vector)
    return x, y, z


def _squares(positions: NDArray[np.float64], symbols: NDArray[np.int64], target: Atoms) -> NDArray[np.float64]:
    """Squared distances (N, M), capped; different elements cost the cap and a bit."""
    vectors = minimum_image((positions[:, None, :] - target.positions[None, :, :]).reshape(-1, 3), target.cell)
    squares = np.minimum((vectors**2).sum(axis=1).reshape(len(positions), len(target)), _CAP)
    return np.asarray(np.where(symbols[:, None] == target.numbers[None, :], squares, 1.01 * _CAP))


def _cost(positions: NDArray[np.float64], symbols: NDArray[np.int64], target: Atoms) -> float:
    from scipy.optimize import linear_sum_assignment

    squares = _squares(positions, symbols, target)
    rows, columns = linear_sum_assignment(squares)
    return float(squares[rows, columns].sum())


def _best_shift(atoms: Atoms, target: Atoms, *, prefer_zero: bool) -> NDArray[np.float64]:
    """The rigid translation that puts atoms onto the target's sites, (3,), Å; zero if the origin is right already.

    Candidates bring one atom of the rarest element onto each target site of that element. With ``prefer_zero`` (where the defect's
    site is not fixed yet) no translation is searched for when the atoms are near sites as they are.
    """
    zero = np.zeros(3)
    nearest = np.sqrt(_squares(atoms.positions, atoms.numbers, target).min(axis=1))
    near = float(np.median(nearest)) < _SHIFTED
    if near and prefer_zero:
        return zero
    here = _cost(atoms.positions, atoms.numbers, target)
    elements = [e for e in np.unique(atoms.numbers) if e in target.numbers]
    if not elements:
        return zero
    rarest = min(elements, key=lambda e: int((target.numbers == e).sum()))
    scored: list[tuple[float, NDArray[np.float64]]] = []
    for anchor in np.flatnonzero(atoms.numbers == rarest)[:3]:
        for site in np.flatnonzero(target.numbers == rarest):
            shift = target.positions[site] - atoms.positions[anchor]
            scored.append((float(_squares(atoms.positions + shift, atoms.numbers, target).min(axis=1).sum()), shift))
    scored.sort(key=lambda item: item[0])
    best, lowest = zero, here
    for _, shift in scored[:8]:
        for _ in range(2):  # the anchor itself may be displaced: remove the median of what is left
            squares = _squares(atoms.positions + shift, atoms.numbers, target)
            partner = squares.argmin(axis=1)
            left = minimum_image(atoms.positions + shift - target.positions[partner], target.cell)
            shift = shift - np.median(left, axis=0)
        cost = _cost(atoms.positions + shift, atoms.numbers, target)
        if cost < lowest - (0.5 * _CAP if best is zero else 1e-9):
            best, lowest = shift, cost
    return best


def _assign(atoms: Atoms, positions: NDArray[np.float64], host: Atoms) -> tuple[NDArray[np.int64], float]:
    """Host site of each atom by least squares within elements (−1 for those left over), and the median distance, Å."""
    from scipy.optimize import linear_sum_assignment

    out = np.full(len(atoms), -1, dtype=np.int64)
    distances = []
    for element in np.unique(atoms.numbers):
        mine, theirs = np.flatnonzero(atoms.numbers == element), np.flatnonzero(host.numbers == element)
        if len(theirs) == 0:
            continue
        vectors = minimum_image((positions[mine][:, None, :] - host.positions[theirs][None, :, :]).reshape(-1, 3), host.cell)
        squares = (vectors**2).sum(axis=1).reshape(len(mine), len(theirs))
        rows, columns = linear_sum_assignment(squares)
        out[mine[rows]] = theirs[columns]
        distances.append(np.sqrt(squares[rows, columns]))
    return out, float(np.median(np.concatenate(distances))) if distances else float("inf")


def order_on_host(positions: NDArray[np.float64], atoms: Atoms, host: Atoms, defect: Defect) -> NDArray[np.int64]:
    """For each atom of the ideal defective structure the index of the atom that takes its place."""
    from scipy.optimize import linear_sum_assignment

    ideal = ideal_structure(host, defect)
    out = np.empty(len(ideal), dtype=np.int64)
    for element in np.unique(ideal.numbers):
        mine, theirs = np.flatnonzero(ideal.numbers == element), np.flatnonzero(atoms.numbers == element)
        vectors = minimum_image((ideal.positions[mine][:, None, :] - positions[theirs][None, :, :]).reshape(-1, 3), host.cell)
        rows, columns = linear_sum_assignment((vectors**2).sum(axis=1).reshape(len(mine), len(theirs)))
        out[mine[rows]] = theirs[columns]
    return out
