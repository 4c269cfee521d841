"""To and from pymatgen, for those who work with it; defectbench itself uses ASE. pymatgen is imported when a function is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from defectbench.base.errors import DefectbenchError

if TYPE_CHECKING:
    from pymatgen.core.structure import Structure


def _pymatgen() -> type[Structure]:
    try:
        from pymatgen.core.structure import Structure
    except ImportError as error:
        raise DefectbenchError("pymatgen is not installed; run pip install 'defectbench[pymatgen]'", code="missing-package") from error
    return Structure


def to_pymatgen(atoms: Atoms, charge: int | None = None) -> Structure:
    """A pymatgen structure of periodic atoms: same order, cell and Cartesian positions (Å).

    Args:
        atoms: N atoms. Their ``info``, except for the charge, becomes the structure's ``properties``.
        charge: of the structure, units of +e; default: ``atoms.info["charge"]``, where there is one.

    Raises:
        DefectbenchError: pymatgen is not installed (code ``missing-package``).

    Example:
        >>> import defectbench
        >>> start = defectbench.load_dataset("sb2se3-vacancies").starts("V_Sb1", -3)["Unperturbed"]
        >>> structure = defectbench.to_pymatgen(start, charge=-3)
        >>> structure.composition.reduced_formula, structure.charge
        ('Sb23Se36', -3)
    """
    structure_class = _pymatgen()
    rest = {key: value for key, value in atoms.info.items() if key != "charge"}
    charge = atoms.info.get("charge") if charge is None else charge
    return structure_class(
        atoms.cell.array,
        atoms.get_chemical_symbols(),
        atoms.positions,
        coords_are_cartesian=True,
        charge=None if charge is None else int(charge),
        properties=rest,
    )


def from_pymatgen(structure: Structure) -> Atoms:
    """Fully periodic ASE atoms of a pymatgen structure: same order, cell and Cartesian positions (Å).

    A charge that the structure was given (units of +e) goes to ``atoms.info["charge"]``, its ``properties`` to ``atoms.info``.

    Args:
        structure: N ordered sites.

    Raises:
        DefectbenchError: pymatgen is not installed, or a site is disordered.

    Example:
        >>> import defectbench
        >>> host = defectbench.load_dataset("sb2se3-vacancies").host
        >>> defectbench.from_pymatgen(defectbench.to_pymatgen(host)).get_chemical_formula()
        'Sb24Se36'
    """
    _pymatgen()
    if not structure.is_ordered:
        raise DefectbenchError("the structure has disordered sites; give each site one species", code="disordered-structure")
    symbols = [site.specie.symbol for site in structure]
    atoms = Atoms(symbols, positions=np.array(structure.cart_coords), cell=np.array(structure.lattice.matrix), pbc=True)
    atoms.info.update(structure.properties or {})
    if structure._charge is not None:  # .charge would sum up oxidation states, which is a guess
        atoms.info["charge"] = int(structure._charge)
    return atoms
