"""Reader of the intrinsic defects of CdTe from doped's and ShakeNBreak's test data: minima, levels, and one landscape.

doped's entries (level ``HSE06+SOC``: α 0.345 with spin-orbit coupling) are 49 minima in charges −2…+2. Charge states of one defect sit on
different equivalent sites there; a host operation carries all to one. ShakeNBreak's landscape of neutral v_Cd (``HSE06-gamma``: α 0.25, Γ,
300 eV) is of the same cell.
"""

from __future__ import annotations

import re
from pathlib import Path

from ase import Atoms

from defectbench.base.errors import DatasetError
from defectbench.base.yaml import read_yaml
from defectbench.datasets import checks
from defectbench.datasets.alignment import ideal_structure
from defectbench.datasets.dataset import Dataset, RelaxationKey, StateKey
from defectbench.datasets.doped_json import DopedEntry, read_doped
from defectbench.datasets.folder import content_hash
from defectbench.datasets.importing.shakenbreak import configuration_of
from defectbench.datasets.readers.placing import CONFIGURATION, labelled, moved_to_site, placed
from defectbench.datasets.remote import fetch_all
from defectbench.datasets.schema import Correction, DatasetFile, Defect
from defectbench.datasets.vasp import read_poscar

SHAKENBREAK = "shakenbreak-30ba2e83"
ENTRIES = "tests/data/CdTe_defect_dict_v2.3.json.gz"
CDTE = f"{SHAKENBREAK}/tests/data/vasp/CdTe"
HOST = f"{CDTE}/CdTe_Bulk_Supercell_POSCAR"
LANDSCAPE = f"{CDTE}/vac_1_Cd_0"
LANDSCAPE_STATE: StateKey = ("v_Cd", 0)
MINIMA, LANDSCAPE_LEVEL = "HSE06+SOC", "HSE06-gamma"
_SITE_LABEL = re.compile(r"_i_Td_(Cd|Te)2\.83")


def open_cdte_doped(folder: Path, metadata: DatasetFile) -> Dataset:
    """Fetches the files (into the cache, once) and puts the dataset together.

    Raises:
        DownloadError: a file is not in the cache and cannot be fetched.
        DatasetError: the folder or a fetched file is not what it should be.
    """
    remote = fetch_all(metadata)
    host = read_poscar(remote[HOST])
    checks.refuse(folder, checks.check_host(HOST, host, metadata))
    defects = {defect.name: defect for defect in metadata.defects}
    starts: dict[StateKey, dict[str, Atoms]] = {
        (defect.name, charge): {"Unperturbed": ideal_structure(host, defect)} for defect in metadata.defects for charge in defect.charges
    }
    relaxations: dict[RelaxationKey, Path | tuple[Atoms, ...]] = {}
    corrections = []
    for entry in read_doped(remote[ENTRIES]).entries:
        name, configuration = parse_name(entry, defects)
        defect = defects[name]
        if entry.start is None:
            raise DatasetError(f"{remote[ENTRIES]}: {entry.name} has no unrelaxed structure", code="bad-format")
        start, relaxed = moved_to_site(entry.start, entry.relaxed, host, defect)
        _, order = placed(start, host, defect)
        frame, _ = placed(relaxed, host, defect, order)
        relaxations[MINIMA, name, entry.charge, configuration] = (
            labelled(frame, defect, entry.charge, configuration, MINIMA, energy=entry.energy),
        )
        if configuration == CONFIGURATION:
            corrections.append(Correction(defect=name, charge=entry.charge, image_charge=entry.correction))
    _read_landscape(remote, host, defects["v_Cd"], starts, relaxations)
    levels = tuple(
        level.model_copy(update={"corrections": tuple(corrections)}) if level.name == MINIMA else level for level in metadata.levels
    )
    return Dataset(folder, metadata.model_copy(update={"levels": levels}), content_hash(metadata), host, starts, relaxations)


def parse_name(entry: DopedEntry, defects: dict[str, Defect]) -> tuple[str, str]:
    """``v_Cd_C2v_Bipolaron_S0_0`` → (``v_Cd``, ``C2v_Bipolaron_S0``); without a label the configuration is ``Published``.

    Raises:
        DatasetError: no defect of the dataset.
    """
    label = entry.name.rsplit("_", 1)[0]
    label = _SITE_LABEL.sub(r"_i_\1", label) if label.startswith("Cd_i") else _SITE_LABEL.sub("_i", label)
    for name in sorted(defects, key=len, reverse=True):
        if label == name:
            return name, CONFIGURATION
        if label.startswith(f"{name}_"):
            return name, label.removeprefix(f"{name}_")
    raise DatasetError(f"doped's entry {entry.name} is not of a defect of the dataset ({', '.join(defects)})")


def _read_landscape(
    remote: dict[str, Path],
    host: Atoms,
    defect: Defect,
    starts: dict[StateKey, dict[str, Atoms]],
    relaxations: dict[RelaxationKey, Path | tuple[Atoms, ...]],
) -> None:
    charge = LANDSCAPE_STATE[1]
    content = read_yaml(remote[f"{LANDSCAPE}/vac_1_Cd_0.yaml"], DatasetError)
    for key, energy in {**content["distortions"], "Unperturbed": content["Unperturbed"]}.items():
        configuration = configuration_of(key)
        start, order = placed(read_poscar(remote[f"{LANDSCAPE}/{configuration}/POSCAR"]), host, defect)
        relaxed, _ = placed(read_poscar(remote[f"{LANDSCAPE}/{configuration}/CONTCAR"]), host, defect, order)
        starts[LANDSCAPE_STATE][configuration] = start
        frame = labelled(relaxed, defect, charge, configuration, LANDSCAPE_LEVEL, energy=float(energy))
        relaxations[LANDSCAPE_LEVEL, defect.name, charge, configuration] = (frame,)
