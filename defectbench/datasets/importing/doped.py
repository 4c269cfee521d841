"""Imports what doped has parsed: structures, energies, corrections, band edges and chemical potentials."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ase import Atoms

from defectbench.base.errors import DatasetError
from defectbench.base.paths import full_path, user_path
from defectbench.base.states import format_charge
from defectbench.datasets.alignment import find_defect, in_host_cell
from defectbench.datasets.doped_json import read_doped
from defectbench.datasets.extxyz import attach_results
from defectbench.datasets.importing.assemble import ImportReport, _assemble, _check_destination, _Findings, _Item, _Options
from defectbench.datasets.readers.placing import CONFIGURATION, moved_to_site
from defectbench.datasets.schema import MAX_CHARGE, Correction, Defect, LevelOfTheory


def import_doped(
    files: Sequence[str | Path],
    destination: str | Path,
    *,
    host: str | Path | Atoms | None = None,
    dataset_id: str | None = None,
    title: str | None = None,
    level: str = "DFT",
    functional: str | None = None,
    code: str | None = None,
    licence: str = "unspecified",
    overwrite: bool = False,
) -> ImportReport:
    """Makes a dataset of doped's ``DefectThermodynamics`` or ``DefectEntry`` files (JSON, also gzipped).

    Each entry is one minimum, named ``Published``; its start is the unrelaxed defect. Entries of one defect on different equivalent sites
    are carried to the site of the first by a host operation. Total energies, the sums of the corrections, the host's energy, band edges
    and chemical potentials become those of the level of theory.

    Args:
        files: JSON files.
        destination: the dataset folder to make.
        host: the perfect supercell; default: the one in the files.
        dataset_id: default: the destination's name.
        title: default: names the first file.
        level: name of the level of theory.
        functional: default: the level's name.
        code: program and version.
        licence: of the data.
        overwrite: replace a dataset that exists.

    Raises:
        DatasetError: nothing there can be used, or the destination cannot be written; one line.
    """
    if not files:
        raise DatasetError("there are no files to import", code="import-nothing")
    _check_destination(destination, overwrite, list(files), host if host is not None else Atoms())
    contents = [read_doped(user_path(file)) for file in files]
    entries = [entry for content in contents for entry in content.entries]
    perfect = host if host is not None else next((entry.host for entry in entries if entry.host is not None), None)
    if perfect is None:
        raise DatasetError("the files contain no host; name it with --host", code="import-host")
    atoms = perfect if isinstance(perfect, Atoms) else _host(perfect)
    found, corrections = _Findings(), []
    sites: dict[str, Defect] = {}
    for entry in entries:
        item = _Item(entry.defect, entry.charge, CONFIGURATION, entry.name)
        if abs(entry.charge) > MAX_CHARGE:
            found.drop(entry.name, None, f"its charge {format_charge(entry.charge)} is outside ±{MAX_CHARGE}")
            continue
        start, relaxed = entry.start, entry.relaxed
        try:
            if start is not None:
                if entry.defect not in sites:
                    sites[entry.defect] = find_defect(entry.defect, in_host_cell(start, atoms), atoms, (entry.charge,))[0]
                start, relaxed = moved_to_site(start, relaxed, atoms, sites[entry.defect])
        except (DatasetError, ValueError) as error:
            found.drop(entry.name, None, error)
            continue
        relaxed.info = {"step": 1, "converged": True}
        item.start, item.frames = start, [attach_results(relaxed, energy=entry.energy)]
        if any((other.defect, other.charge) == (item.defect, item.charge) for other in found.items):
            found.drop(entry.name, None, "the same defect and charge as another entry")
            continue
        found.items.append(item)
        if entry.correction or entry.charge == 0:
            corrections.append(Correction(defect=entry.defect, charge=entry.charge, image_charge=entry.correction))
        else:
            found.notes.append(f"{entry.name} has no finite-size correction; its levels have none either")
    edges = next((content.band_edges for content in contents if content.band_edges), None)
    theory = LevelOfTheory(
        name=level,
        functional=level,
        host_energy=next((entry.host_energy for entry in entries if entry.host_energy is not None), None),
        band_edges=edges or next((entry.band_edges for entry in entries if entry.band_edges is not None), None),
        chemical_potentials=next((content.chemical_potentials for content in contents if content.chemical_potentials), ()),
        corrections=tuple(corrections),
        correction_method="sum of the corrections of the doped object, under image_charge",
    )
    default = f"doped results from {Path(files[0]).name}"
    options = _Options(destination, dataset_id, title or default, level, functional, code, licence, overwrite, theory)
    return _assemble(found, atoms, options)


def _host(path: str | Path) -> Atoms:
    from defectbench.datasets.importing.assemble import read_host_file

    return read_host_file(full_path(path))
