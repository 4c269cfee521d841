"""Reader of the Mg_O antisite in MgO from doped's examples: ShakeNBreak landscapes, and finals with forces, levels and corrections.

Two calculations must not be mixed: the landscapes (level ``PBEsol-gamma``; Γ only, cutoff not in any published file) and the finals
(``PBEsol``; 450 eV, 2×2×2), whose energies are 16 eV apart. ``*_High_Energy`` folders carry no energy and are left out.
"""

from __future__ import annotations

from pathlib import Path

from ase import Atoms

from defectbench.base.errors import DatasetError
from defectbench.base.files import plain_file
from defectbench.base.yaml import read_yaml
from defectbench.datasets import checks
from defectbench.datasets.dataset import Dataset, RelaxationKey, StateKey
from defectbench.datasets.doped_json import read_doped
from defectbench.datasets.extxyz import stored_results
from defectbench.datasets.folder import content_hash
from defectbench.datasets.importing.shakenbreak import configuration_of
from defectbench.datasets.readers.placing import CONFIGURATION, labelled, placed
from defectbench.datasets.remote import fetch_all
from defectbench.datasets.schema import Correction, DatasetFile, Defect
from defectbench.datasets.vasp import read_poscar

EXAMPLES = "examples/MgO"
HOST = f"{EXAMPLES}/Defects/Pre_Calculated_Results/MgO_bulk/vasp_std/POSCAR"
THERMODYNAMICS = f"{EXAMPLES}/MgO_thermo.json.gz"
MAX_OUTCAR = 200_000_000
"""Bytes of an OUTCAR, unpacked: the published ones take some MB."""
LANDSCAPE, FINALS = "PBEsol-gamma", "PBEsol"


def open_mgo_antisite_doped(folder: Path, metadata: DatasetFile) -> Dataset:
    """Fetches the files (into the cache, once) and puts the dataset together.

    Raises:
        DownloadError: a file is not in the cache and cannot be fetched.
        DatasetError: the folder or a fetched file is not what it should be.
    """
    remote = fetch_all(metadata)
    host = read_poscar(remote[HOST])
    checks.refuse(folder, checks.check_host(HOST, host, metadata))
    (defect,) = metadata.defects
    starts: dict[StateKey, dict[str, Atoms]] = {}
    relaxations: dict[RelaxationKey, Path | tuple[Atoms, ...]] = {}
    for charge in defect.charges:
        energies = _energies(remote, charge)
        for name, path in sorted(remote.items()):
            configuration = _configuration(name, charge)
            if configuration is None or configuration not in energies:
                continue
            start, order = placed(read_poscar(path), host, defect)
            relaxed, _ = placed(read_poscar(remote[name.removesuffix("POSCAR") + "CONTCAR"]), host, defect, order)
            starts.setdefault((defect.name, charge), {})[configuration] = start
            frame = labelled(relaxed, defect, charge, configuration, LANDSCAPE, energy=energies[configuration])
            relaxations[LANDSCAPE, defect.name, charge, configuration] = (frame,)
        outcar = f"{EXAMPLES}/Defects/Pre_Calculated_Results/Mg_O_{_signed(charge)}/vasp_std/OUTCAR.gz"
        relaxations[FINALS, defect.name, charge, CONFIGURATION] = _final(remote[outcar], host, defect, charge)
    corrections = tuple(
        Correction(defect=defect.name, charge=entry.charge, image_charge=entry.correction)
        for entry in read_doped(remote[THERMODYNAMICS]).entries
    )
    levels = tuple(level.model_copy(update={"corrections": corrections}) if level.name == FINALS else level for level in metadata.levels)
    return Dataset(folder, metadata.model_copy(update={"levels": levels}), content_hash(metadata), host, starts, relaxations)


def _signed(charge: int) -> str:
    return f"{charge:+d}" if charge else "0"


def _folders(charge: int) -> tuple[str, str]:
    results = f"{EXAMPLES}/SnB/Pre_Calculated_Results"
    return f"{results}/Mg_O_{_signed(charge)}/", f"{results}_Regenerate/Mg_O_{_signed(charge)}/"


def _configuration(name: str, charge: int) -> str | None:
    """The configuration whose start a file is; None for all other files and charges."""
    for folder in _folders(charge):
        rest = name.removeprefix(folder).split("/")
        if name.startswith(folder) and len(rest) == 2 and rest[1] == "POSCAR":
            return rest[0]
    return None


def _energies(remote: dict[str, Path], charge: int) -> dict[str, float]:
    """Configuration → energy (eV) from both energies files; those of the first are repeated in the second."""
    out: dict[str, float] = {}
    for folder in _folders(charge):
        for name, path in remote.items():
            if name.startswith(folder) and name.endswith(f"Mg_O_{_signed(charge)}.yaml"):
                content = read_yaml(path, DatasetError)
                pairs = {**content["distortions"], "Unperturbed": content["Unperturbed"]}
                out |= {configuration_of(key): float(value) for key, value in pairs.items()}
    return out


def _final(path: Path, host: Atoms, defect: Defect, charge: int) -> tuple[Atoms, ...]:
    from ase.io import read

    try:
        with plain_file(path, MAX_OUTCAR) as plain:
            images = read(plain, index=":", format="vasp-out")
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}", code="unreadable-file") from error
    if not isinstance(images, list):
        raise DatasetError(f"{path} contains no relaxation", code="bad-format")
    out, order = [], None
    for step, image in enumerate(images, start=1):
        results = stored_results(image)
        frame, order = placed(image, host, defect, order)
        last = step == len(images)
        out.append(
            labelled(
                frame, defect, charge, CONFIGURATION, FINALS,
                energy=float(results["energy"]), forces=results["forces"][order], step=step, converged=last,
            )
        )  # fmt: skip
    return tuple(out)
