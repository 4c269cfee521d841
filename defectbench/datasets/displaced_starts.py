"""Start structures stored as displacements from host sites, for datasets whose host is not stored with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ase import Atoms

from defectbench.base.errors import DatasetError
from defectbench.base.files import read_bytes, write_text
from defectbench.base.states import ChargeState, sort_key
from defectbench.datasets import checks
from defectbench.datasets.alignment import ideal_structure
from defectbench.datasets.dataset import StateKey
from defectbench.datasets.extxyz import MAX_BYTES
from defectbench.datasets.schema import DatasetFile, Defect
from defectbench.structures.lattice import minimum_image


def read_displaced_starts(folder: Path, metadata: DatasetFile, host: Atoms) -> dict[StateKey, dict[str, Atoms]]:
    """All start structures of ``starts/<defect>.json``: the ideal defect in the host plus stored displacements.

    A file is ``{"defect": …, "starts": [{"charge": …, "configuration": …, "displacements": [[x, y, z], …]}, …]}`` with
    displacements in Å, one per atom, in the order of :func:`~defectbench.datasets.alignment.ideal_structure`.

    Raises:
        DatasetError: a file is unreadable or contradicts the metadata.
    """
    out: dict[StateKey, dict[str, Atoms]] = {}
    for defect in metadata.defects:
        file = f"starts/{defect.name}.json"
        if file not in metadata.files:
            continue
        ideal = ideal_structure(host, defect)
        starts = []
        try:
            content = json.loads(read_bytes(folder / file, MAX_BYTES))
            for entry in content["starts"]:
                atoms = ideal.copy()
                atoms.positions += np.array(entry["displacements"], dtype=float)
                atoms.info = {
                    "defect": content["defect"],
                    "charge": int(entry["charge"]),
                    "configuration": str(entry["configuration"]),
                }
                starts.append(atoms)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise DatasetError(f"{folder / file} does not hold displacements of {defect.name}: {error}", code="bad-format") from error
        checks.refuse(folder, checks.check_starts(file, starts, host, defect))
        for atoms in starts:
            charge, configuration = atoms.info["charge"], atoms.info["configuration"]
            atoms.info = {}
            out.setdefault((defect.name, charge), {})[configuration] = atoms
    return out


def write_displaced_starts(path: Path, host: Atoms, defect: Defect, starts: Mapping[int, Mapping[str, Atoms]]) -> None:
    """Writes start structures of one defect as displacements (Å, 5 decimals) from the ideal structure.

    Args:
        path: ``starts/<defect>.json``.
        host: perfect supercell.
        defect: the defect.
        starts: charge → configuration → structure, atoms in the order of the ideal structure.

    Raises:
        DatasetError: the elements are in another order, or the file cannot be written.
    """
    ideal = ideal_structure(host, defect)
    lines = []
    for charge, named in sorted(starts.items()):
        for configuration, atoms in sorted(named.items(), key=lambda item: sort_key(item[0])):
            if atoms.get_chemical_symbols() != ideal.get_chemical_symbols():
                raise DatasetError(
                    f"{ChargeState(defect.name, charge)} {configuration}: the elements are not in the order of the host", code="bad-frame"
                )
            vectors = np.round(minimum_image(atoms.positions - ideal.positions, host.cell), 5) + 0.0
            entry = {"charge": charge, "configuration": configuration, "displacements": vectors.tolist()}
            lines.append(json.dumps(entry, separators=(",", ":")))
    text = f'{{"defect":{json.dumps(defect.name)},"unit":"Å","starts":[\n' + ",\n".join(lines) + "\n]}\n"
    write_text(path, text)
