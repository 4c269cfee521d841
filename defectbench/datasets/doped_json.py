"""Reading what doped (https://github.com/SMTG-Bham/doped) writes: ``DefectEntry`` and ``DefectThermodynamics`` as JSON, also gzipped.

Only ``json`` is needed, neither doped nor pymatgen. Objects are recognised by their ``@class``; nothing in a file is executed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from defectbench.base.errors import DatasetError
from defectbench.base.files import read_maybe_gzip
from defectbench.datasets.schema import BandEdges, ChemicalPotentials

MAX_BYTES = 500_000_000
"""A file that unpacks to more is refused."""
_NAME = re.compile(r"^(?P<defect>.+)_(?P<charge>[+-]?\d+)$")


@dataclass(frozen=True)
class DopedEntry:
    """One charge state as doped describes it.

    Attributes:
        name: the entry's own, charge included: ``v_Cd_-1``.
        defect: the name without charge.
        charge: in units of +e.
        relaxed: relaxed structure.
        start: unrelaxed defect in the host's cell; None if the file has none.
        host: perfect supercell; None if the file has none.
        energy: total energy, eV.
        host_energy: total energy of the perfect supercell, eV; None if not given.
        correction: sum of the finite-size corrections, eV.
        band_edges: of the host; None if not given.
    """

    name: str
    defect: str
    charge: int
    relaxed: Atoms
    start: Atoms | None
    host: Atoms | None
    energy: float
    host_energy: float | None
    correction: float
    band_edges: BandEdges | None


@dataclass(frozen=True)
class DopedFile:
    """Content of a file.

    Attributes:
        entries: in the order of the file.
        chemical_potentials: growth conditions; empty if the file has none.
        band_edges: of the host; None if not given.
    """

    entries: tuple[DopedEntry, ...]
    chemical_potentials: tuple[ChemicalPotentials, ...]
    band_edges: BandEdges | None


def read_doped(path: Path) -> DopedFile:
    """Reads a ``DefectThermodynamics``, a ``DefectEntry``, or a mapping or list of entries.

    Raises:
        DatasetError: unreadable, no JSON, or no such objects; one line.
    """
    content = _json(path)
    if isinstance(content, dict) and content.get("@class") == "DefectEntry":
        entries: Any = [content]
    elif isinstance(content, dict):
        entries = content.get("defect_entries", content)
    else:
        entries = content
    named: list[tuple[str | None, Any]]
    if isinstance(entries, dict):
        named = [(str(key), value) for key, value in entries.items()]
    else:
        named = [(None, value) for value in (entries if isinstance(entries, list) else [])]
    found = []
    for index, (name, value) in enumerate(named):
        if not (isinstance(value, dict) and value.get("@class") == "DefectEntry"):
            raise DatasetError(
                f"{path}: '{name or index}' is not a DefectEntry; expected a DefectThermodynamics or DefectEntry of doped",
                code="bad-format",
            )
        try:
            found.append(_entry(name, value))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            raise DatasetError(
                f"{path}: entry '{name or index}' cannot be read ({type(error).__name__}: {error})", code="bad-format"
            ) from error
    if not found:
        raise DatasetError(f"{path} contains no DefectEntry of doped", code="bad-format")
    try:
        edges = _edges(content.get("vbm"), content.get("band_gap")) if isinstance(content, dict) else None
        potentials = _potentials(content.get("chempots")) if isinstance(content, dict) else ()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(f"{path}: band edges or chemical potentials cannot be read ({error})", code="bad-format") from error
    return DopedFile(tuple(found), potentials, edges)


def _json(path: Path) -> Any:
    if not path.is_file():
        raise DatasetError(f"there is no file {path}", code="no-file")
    try:
        return json.loads(read_maybe_gzip(path, MAX_BYTES).decode("utf-8-sig"))
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror or error}", code="unreadable-file") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is not JSON ({str(error).splitlines()[0][:100]})", code="bad-format") from error


def _entry(name: str | None, value: Mapping[str, Any]) -> DopedEntry:
    label = name or str(value.get("name") or "")
    charge = int(value["charge_state"])
    match = _NAME.match(label)
    metadata = value.get("calculation_metadata") or {}
    gap = None if metadata.get("gap") is None else float(metadata["gap"])
    start = metadata.get("unrelaxed_defect_structure")
    host = value.get("bulk_supercell") or (value.get("bulk_entry") or {}).get("structure")
    host_energy = (value.get("bulk_entry") or {}).get("energy")
    structure = value["sc_entry"]["structure"]
    energy = float(value["sc_entry"]["energy"])
    if not np.isfinite(energy):
        raise ValueError("its energy is not finite")
    return DopedEntry(
        name=label,
        defect=match["defect"] if match and int(match["charge"]) == charge else label,
        charge=charge,
        relaxed=_structure(structure),
        start=None if start is None else _structure(start),
        host=None if host is None else _structure(host),
        energy=energy,
        host_energy=None if host_energy is None else float(host_energy),
        correction=float(sum(float(number) for number in (value.get("corrections") or {}).values())),
        band_edges=_edges(metadata.get("vbm"), gap),
    )


def _structure(value: Mapping[str, Any]) -> Atoms:
    """A pymatgen ``Structure``; disordered sites are refused."""
    symbols = []
    for site in value["sites"]:
        (species,) = site["species"]
        if float(species["occu"]) != 1.0:
            raise ValueError("a site is partly occupied")
        symbols.append(re.sub(r"[^A-Za-z]", "", str(species["element"])))
    cell = np.array(value["lattice"]["matrix"], dtype=float)
    fractional = np.array([site["abc"] for site in value["sites"]], dtype=float)
    if not (np.isfinite(cell).all() and np.isfinite(fractional).all()):
        raise ValueError("positions or cell are not finite")
    return Atoms(symbols, scaled_positions=fractional, cell=cell, pbc=True)


def _edges(vbm: Any, gap: Any) -> BandEdges | None:
    if vbm is None:
        return None
    cbm = None if gap is None else round(float(vbm) + float(gap), 6)
    return BandEdges(vbm=float(vbm), cbm=cbm, source="as in the doped object")


def _potentials(value: Any) -> tuple[ChemicalPotentials, ...]:
    limits = (value or {}).get("limits") or {}
    return tuple(
        ChemicalPotentials(
            name=str(name),
            potentials={str(k): float(v) for k, v in numbers.items()},
            source="total energies per atom, as in the doped object",
        )
        for name, numbers in limits.items()
    )
