"""Finite-size corrections of charged cells: extended Freysoldt–Neugebauer–Van de Walle (eFNV), by pymatgen-analysis-defects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from defectbench.base.errors import RunError
from defectbench.datasets.dataset import Dataset, StateKey
from defectbench.datasets.schema import Correction

METHOD = (
    "eFNV (Kumagai and Oba, Phys. Rev. B 89, 195205 (2014)) with the static dielectric tensor of this file; "
    "site potentials averaged over spheres, far sites as pydefect chooses them"
)


@dataclass(frozen=True)
class Efnv:
    """An eFNV correction.

    Attributes:
        point_charge: interaction of a point charge with its images and the background, taken off again, eV.
        alignment: −q times the mean potential difference that is left far from the defect, eV.
        spread: standard deviation of that difference over the far sites, V: how flat the plateau is.
        sites: number of far sites.
        radius: Å; sites farther than this from the defect are far.
    """

    point_charge: float
    alignment: float
    spread: float
    sites: int
    radius: float

    @property
    def total(self) -> float:
        """What is added to the energy of the charged cell, eV."""
        return self.point_charge + self.alignment


def efnv(
    host: Atoms,
    host_potentials: ArrayLike,
    defect: Atoms,
    potentials: ArrayLike,
    position: Sequence[float],
    charge: int,
    dielectric: ArrayLike,
) -> Efnv:
    """The eFNV correction of one relaxed charged defect.

    Args:
        host: M atoms.
        host_potentials: (M,) electrostatic potentials at the host's sites, V, for a positive test charge.
        defect: N atoms in the host's cell.
        potentials: (N,) the same at the defect cell's sites.
        position: of the defect, Cartesian, Å.
        charge: units of +e.
        dielectric: (3, 3) static dielectric tensor.

    Raises:
        RunError: pymatgen-analysis-defects or pydefect is not installed.
    """
    try:
        from pymatgen.analysis.defects.corrections.kumagai import get_efnv_correction
        from pymatgen.core.structure import Structure
    except ImportError as error:
        raise RunError(
            "finite-size corrections need pymatgen-analysis-defects and pydefect: pip install 'defectbench[reference]'"
        ) from error

    def structure(atoms: Atoms, values: ArrayLike) -> Any:
        return Structure(
            atoms.cell.array,
            atoms.get_chemical_symbols(),
            atoms.get_scaled_positions(),
            site_properties={"potential": [float(v) for v in np.asarray(values)]},
        )

    try:
        found = get_efnv_correction(
            charge,
            structure(defect, potentials),
            structure(host, host_potentials),
            [[float(x) for x in row] for row in np.asarray(dielectric)],
            defect_coords=[float(x) for x in np.linalg.solve(host.cell.array.T, np.asarray(position, dtype=float))],
        ).metadata["efnv_corr"]
    except ModuleNotFoundError as error:
        raise RunError("finite-size corrections need pydefect: pip install 'defectbench[reference]'") from error
    far = [site.diff_pot for site in found.sites if site.distance > found.defect_region_radius]
    return Efnv(
        float(found.point_charge_correction),
        float(found.alignment_correction),
        float(np.std(far)),
        len(far),
        float(found.defect_region_radius),
    )


def corrections_of(dataset: Dataset, results: Iterable[Mapping[str, Any]]) -> tuple[tuple[Correction, ...], dict[StateKey, Efnv]]:
    """Corrections of all defects for which everything that they need is there.

    A defect gets them when each of its charge states with a ground state at the reference level has the potential of that ground
    state: levels between corrected and uncorrected charges would be wrong.

    Args:
        dataset: with a dielectric tensor.
        results: a level's results that are no frames.

    Returns:
        Corrections, and by (defect, charge) what stands behind each; both empty without host potential or dielectric tensor.
    """
    results = list(results)
    host = next((r for r in results if r["kind"] == "host" and "site_potentials" in r), None)
    dielectric = dataset.metadata.dielectric
    if host is None or dielectric is None:
        return (), {}
    corrections: list[Correction] = []
    details: dict[StateKey, Efnv] = {}
    for defect in dataset.defects:
        grounds = {q: ground for q in dataset.charges(defect) if (ground := dataset.ground_state(defect, q)) is not None}
        found = {
            r["charge"]: r
            for r in results
            if r["kind"] == "potential"
            and r["defect"] == defect
            and r["charge"] in grounds
            and r["configuration"] == grounds[r["charge"]].configuration
        }
        if not grounds or set(grounds) != set(found):
            continue
        for charge, ground in sorted(grounds.items()):
            if charge == 0:
                corrections.append(Correction(defect=defect, charge=0))
                continue
            value = efnv(
                dataset.host,
                host["site_potentials"],
                ground.atoms,
                found[charge]["site_potentials"],
                [float(x) for x in dataset.defect_position(defect)],
                charge,
                dielectric.tensor,
            )
            details[defect, charge] = value
            corrections.append(
                Correction(
                    defect=defect, charge=charge, potential_alignment=round(value.alignment, 6), image_charge=round(value.point_charge, 6)
                )
            )
    return tuple(corrections), details
