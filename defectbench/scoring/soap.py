"""Minima distinguished by SOAP descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from defectbench.base.errors import DefectbenchError

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


SOAP_DISTANCE = 0.001
"""Cosine distance of SOAP vectors below which two minima count as one.

With Gaussians of 1 Å the vector at an empty site is a blurred picture: for V_Sb1 q−1 the minima from ``Unperturbed`` and ``Dimer``, 0.21 eV
apart, are 0.0005 from each other, and ``Bond_Distortion_-40.0%`` 0.007 from both.
"""


def soap_clusters(structures: Sequence[tuple[float, Atoms]], centre: Floats) -> list[int]:
    """Sorts (energy, structure) into minima by the SOAP vector (doi:10.1103/PhysRevB.87.184115) at the defect site.

    Parameters of the paper (Mosquera-Lois et al. 2024): cutoff 5 Å, 10 radial functions, angular momenta up to 10, Gaussians of 1 Å,
    cosine distance. It gives no threshold; here two minima are one below :data:`SOAP_DISTANCE`.

    Returns:
        For each structure the index of the first lower one that it equals, or its own.

    Raises:
        DefectbenchError: dscribe is not installed (code ``missing-package``).
    """
    try:
        from dscribe.descriptors import SOAP
    except ImportError:
        raise DefectbenchError("dscribe is not installed; run pip install 'defectbench[soap]'", code="missing-package") from None
    if not structures:
        return []
    species = sorted({symbol for _, atoms in structures for symbol in atoms.get_chemical_symbols()})
    soap = SOAP(species=species, r_cut=5.0, n_max=10, l_max=10, sigma=1.0, periodic=True)
    vectors = [np.asarray(soap.create(atoms, centers=[centre]), dtype=float)[0] for _, atoms in structures]
    unit = [v / np.linalg.norm(v) for v in vectors]
    out = list(range(len(structures)))
    leaders: list[int] = []
    for i in sorted(out, key=lambda k: structures[k][0]):
        same = next((j for j in leaders if 1.0 - float(unit[i] @ unit[j]) < SOAP_DISTANCE), None)
        if same is None:
            leaders.append(i)
        else:
            out[i] = same
    return out
