"""Configuration coordinates between two relaxed charge states: mapped end points, mass-weighted distance, paths, parabolas.

One-dimensional configuration-coordinate diagrams after Alkauskas, Yan, Van de Walle, Phys. Rev. B 90, 075202 (2014),
doi:10.1103/PhysRevB.90.075202: with R₁ and R₂ the relaxed geometries of two charge states and m the atomic masses,

    ΔQ² = Σᵢ mᵢ |R₂ᵢ − R₁ᵢ|²,    R(Q) = R₁ + (Q/ΔQ)(R₂ − R₁),    E(Q) ≈ E₀ + ½ Ω² (Q − Q₀)²,    S = ΔE_relax / ħΩ.

The supercell is fixed. The second end point is first brought onto the first by the host's symmetry operations, permutations
within each species and minimum images, and the rigid translation that makes ΔQ smallest is subtracted: none of these changes a
structure's energy, and left in they would count as displacement. ΔQ in amu^½ Å, energies eV.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from defectbench.base.errors import DefectbenchError
from defectbench.structures.lattice import minimum_image
from defectbench.structures.matching import match

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import ArrayLike, NDArray

    from defectbench.structures.symmetry import Operations

    Floats = NDArray[np.float64]

SAME_FRAME = 1e-4
"""Å: where the identity is this near to the best operation (in RMSD), it is taken: the end point keeps its frame and its order."""

_GRID = 1e-6
_GRID_OFFSET = 0.318309886
"""Path structures lie on a grid of 1e-6 Å with an odd offset: rounding errors of another machine then give the same structure."""


class ConfigurationCoordinateError(DefectbenchError):
    """End points or energies from which no configuration coordinate can be made."""

    code = "no-coordinate"


@dataclass(frozen=True, eq=False)
class ConfigurationPath:
    """The straight path from one relaxed structure to another.

    Attributes:
        start: N atoms: fraction 0.
        end: the other end point as it lies on ``start``, atoms in the order of ``start``: fraction 1.
        displacements: (N, 3), Å, end minus start, minimum image, without mass-weighted mean.
        delta_q: mass-weighted distance, amu^½ Å.
        permutation: (N,), the atom of the end point as it was given that lies on atom i of ``start``.
        identity: whether the end point kept its frame and order.
    """

    start: Atoms
    end: Atoms
    displacements: Floats
    delta_q: float
    permutation: NDArray[np.intp]
    identity: bool

    def structure(self, fraction: float) -> Atoms:
        """The structure at a fraction of the path (N atoms); negative and above 1 beyond the end points. No calculator."""
        atoms: Atoms = self.start.copy()
        atoms.calc = None
        if fraction == 0.0:
            return atoms
        if fraction == 1.0 and self.identity:
            atoms.positions = self.end.positions
            return atoms
        positions = self.start.positions + fraction * self.displacements
        atoms.positions = np.floor(positions / _GRID + 0.5 + _GRID_OFFSET) * _GRID
        return atoms

    def project(self, atoms: Atoms) -> tuple[float, float]:
        """Where a structure lies: (fraction along the path, mass-weighted distance from the path in amu^½ Å).

        Args:
            atoms: N atoms in the frame and the order of ``start``.

        Raises:
            ConfigurationCoordinateError: other atoms, or a path without length.
        """
        if self.delta_q <= 0.0:
            raise ConfigurationCoordinateError(
                "the two end points are the same structure: there is no path between them", code="same-structure"
            )
        masses = self.start.get_masses()[:, None]
        moved = mass_weighted_displacements(atoms, self.start)
        fraction = float(np.sum(masses * moved * self.displacements) / self.delta_q**2)
        rest = moved - fraction * self.displacements
        return fraction, float(np.sqrt(np.sum(masses * rest**2)))


@dataclass(frozen=True)
class Parabola:
    """E(Q) = ``energy`` + ½ ``curvature`` (Q − ``q0``)².

    Attributes:
        curvature: Ω², eV amu⁻¹ Å⁻²; not positive where the points describe no minimum.
        q0: position of the extremum, amu^½ Å.
        energy: its energy, eV.
        rms: root mean square residual of the fit, eV.
    """

    curvature: float
    q0: float
    energy: float
    rms: float

    @property
    def hbar_omega(self) -> float | None:
        """The effective vibrational quantum ħΩ, eV; None without a minimum."""
        return hbar_omega(self.curvature) if self.curvature > 0.0 else None


def mass_weighted_displacements(candidate: Atoms, reference: Atoms) -> Floats:
    """Minimum-image displacements (N, 3) in Å atom by atom, without the rigid translation that minimises Σ m |d|² (the centre of mass).

    Raises:
        ConfigurationCoordinateError: the structures list different atoms or have different cells.
    """
    if not np.array_equal(candidate.numbers, reference.numbers):
        raise ConfigurationCoordinateError(
            "the two structures list different atoms or another order; map one onto the other first", code="other-composition"
        )
    if np.max(np.abs(candidate.cell.array - reference.cell.array)) > 1e-3:
        raise ConfigurationCoordinateError(
            "the two structures have different cells; a configuration coordinate keeps the cell fixed", code="other-cell"
        )
    out = minimum_image(candidate.positions - reference.positions, reference.cell.array)
    masses = reference.get_masses()[:, None]
    return np.asarray(out - np.sum(masses * out, axis=0) / np.sum(masses))


def map_onto(candidate: Atoms, reference: Atoms, operations: Operations) -> tuple[Atoms, NDArray[np.intp], bool]:
    """The candidate as it lies nearest to the reference: operation, permutation, translation and minimum images applied.

    Args:
        candidate: N atoms.
        reference: N atoms of the same composition in the same cell.
        operations: of the host (:func:`defectbench.structures.symmetry.host_operations`).

    Returns:
        The mapped structure (N atoms in the reference's order), the permutation applied (N,), and whether the candidate kept
        its frame and order (then its positions are untouched except for whole lattice vectors and a rigid translation).

    Raises:
        MatchingError: composition or cell differ.
    """
    from defectbench.structures.matching import displacement_rmsd

    found = match(candidate, reference, operations)
    order = np.arange(len(reference), dtype=np.intp)
    identity = (
        bool(np.array_equal(candidate.numbers, reference.numbers)) and displacement_rmsd(candidate, reference) <= found.rmsd + SAME_FRAME
    )
    mapped: Atoms = reference.copy()
    mapped.calc = None
    if identity:
        mapped.positions = candidate.positions
        return mapped, order, True
    mapped.positions = reference.positions + found.displacements
    return mapped, found.permutation, False


def configuration_path(start: Atoms, end: Atoms, operations: Operations) -> ConfigurationPath:
    """The straight path between two relaxed structures, the second mapped onto the first.

    Args:
        start: N atoms, fraction 0.
        end: N atoms of the same composition in the same cell, in any equivalent frame and order.
        operations: of the host.

    Raises:
        MatchingError: composition or cell differ.
    """
    mapped, permutation, identity = map_onto(end, start, operations)
    displacements = mass_weighted_displacements(mapped, start)
    first: Atoms = start.copy()
    first.calc = None
    delta_q = float(np.sqrt(np.sum(first.get_masses()[:, None] * displacements**2)))
    return ConfigurationPath(first, mapped, displacements, delta_q, permutation, identity)


def path_structures(path: ConfigurationPath, fractions: Sequence[float]) -> list[Atoms]:
    """The structures at given fractions of a path, N atoms each."""
    return [path.structure(fraction) for fraction in fractions]


def hbar_omega(curvature: float) -> float:
    """ħΩ in eV of a curvature Ω² in eV amu⁻¹ Å⁻² (1 eV amu⁻¹ Å⁻² ↔ 64.65 meV).

    Raises:
        ConfigurationCoordinateError: the curvature is not positive.
    """
    from ase import units

    if not curvature > 0.0:
        raise ConfigurationCoordinateError(f"a curvature of {curvature} eV/(amu Å²) cannot be that of a vibration")
    # ASE's units: Å, eV and amu are its base; time is Å √(amu/eV), and ħ in eV seconds times `second` is in them
    return float(units._hbar / units._e * units.second * np.sqrt(curvature))


def huang_rhys_factor(relaxation_energy: float, quantum: float) -> float:
    """S = ΔE_relax / ħΩ (Alkauskas et al. 2014, see the module); both in eV.

    Raises:
        ConfigurationCoordinateError: a negative relaxation energy or a quantum that is not positive.
    """
    if relaxation_energy < 0.0 or not quantum > 0.0:
        raise ConfigurationCoordinateError(f"no Huang–Rhys factor of a relaxation energy {relaxation_energy} eV and a quantum {quantum} eV")
    return relaxation_energy / quantum


def fit_parabola(coordinates: ArrayLike, energies: ArrayLike) -> Parabola:
    """Least-squares parabola through points of a path.

    Args:
        coordinates: (n,), Q in amu^½ Å.
        energies: (n,), eV.

    Raises:
        ConfigurationCoordinateError: fewer than three different points, or numbers that are not finite.
    """
    q, e = np.asarray(coordinates, dtype=float), np.asarray(energies, dtype=float)
    if q.shape != e.shape or q.ndim != 1 or not (np.all(np.isfinite(q)) and np.all(np.isfinite(e))):
        raise ConfigurationCoordinateError("a parabola needs as many coordinates as energies, all finite")
    if (different := len(np.unique(q))) < 3:
        raise ConfigurationCoordinateError(f"a parabola needs at least 3 different points, not {different}")
    origin, scale = float(q.mean()), float(np.ptp(q))
    x = (q - origin) / scale
    columns = np.stack([np.ones_like(x), x, x**2], axis=1)
    (constant, slope, square), *_ = np.linalg.lstsq(columns, e, rcond=None)
    fitted = columns @ np.array([constant, slope, square])
    curvature = 2.0 * float(square) / scale**2
    at = origin - scale * float(slope) / (2.0 * float(square)) if square != 0.0 else origin
    bottom = float(constant - slope**2 / (4.0 * square)) if square != 0.0 else float(constant)
    return Parabola(curvature, at, bottom, float(np.sqrt(np.mean((e - fitted) ** 2))))


def sampled_minimum(coordinates: ArrayLike, energies: ArrayLike) -> float:
    """Where a sampled curve is lowest: the vertex of the parabola through the lowest point and its two neighbours, or the edge.

    Args:
        coordinates: (n,), ascending.
        energies: (n,).

    Raises:
        ConfigurationCoordinateError: no points, or not ascending.
    """
    q, e = np.asarray(coordinates, dtype=float), np.asarray(energies, dtype=float)
    if len(q) == 0 or len(q) != len(e) or np.any(np.diff(q) <= 0.0) or not np.all(np.isfinite(e)):
        raise ConfigurationCoordinateError("a sampled curve needs finite energies at ascending coordinates")
    lowest = int(e.argmin())
    if lowest in (0, len(q) - 1):
        return float(q[lowest])
    near = slice(lowest - 1, lowest + 2)
    found = fit_parabola(q[near], e[near])
    return float(np.clip(found.q0, q[lowest - 1], q[lowest + 1])) if found.curvature > 0.0 else float(q[lowest])
