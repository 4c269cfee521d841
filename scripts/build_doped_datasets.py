"""Writes ``dataset.yaml`` of mgo-antisite-doped and cdte-doped: what the fetched files do not say, and the files' hashes.

    python scripts/build_doped_datasets.py MIRROR

MIRROR holds ``doped-93c8b99b`` and ``shakenbreak-30ba2e83``, each with the raw files of its repository and ``SHA256SUMS``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ase import Atoms

from defectbench.datasets.alignment import find_defect
from defectbench.datasets.doped_json import DopedFile, read_doped
from defectbench.datasets.readers import cdte_doped, mgo_antisite_doped
from defectbench.datasets.schema import (
    BandEdges,
    Citation,
    Convergence,
    DatasetFile,
    Defect,
    DielectricTensor,
    Host,
    LevelOfTheory,
    Remote,
    Settings,
    Source,
    metadata_to_yaml,
)
from defectbench.datasets.vasp import read_poscar

DOPED, SHAKENBREAK = "93c8b99b70b7a4e59b46da4870f23b885d0a6991", "30ba2e838e435322e1e68ce2014609b2ff8f6269"
RAW = "https://raw.githubusercontent.com/SMTG-Bham"
CITATIONS = (
    Citation(
        text="Kavanagh, Squires, Nicolson, Mosquera-Lois, Ganose, Zhu, Brlec, Walsh and Scanlon, doped: Python toolkit for robust and "
        "repeatable charged defect supercell calculations, J. Open Source Softw. 9, 6433 (2024)",
        doi="10.21105/joss.06433",
    ),
    Citation(
        text="Mosquera-Lois, Kavanagh, Walsh and Scanlon, ShakeNBreak, J. Open Source Softw. 7, 4817 (2022)", doi="10.21105/joss.04817"
    ),
)


def hashes(folder: Path, wanted: str | tuple[str, ...]) -> dict[str, str]:
    """Files of ``SHA256SUMS`` whose path begins with one of the given texts."""
    lines = [line.split(maxsplit=1) for line in (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines() if line.strip()]
    named = {name.strip().lstrip("*").removeprefix("./"): digest for digest, name in lines}
    return {name: digest for name, digest in sorted(named.items()) if name.startswith(wanted)}


def mgo(mirror: Path) -> DatasetFile:
    """The antisite in MgO."""
    folder = mirror / "doped-93c8b99b"
    examples = mgo_antisite_doped.EXAMPLES
    files = hashes(folder, (f"{examples}/SnB/", f"{examples}/Defects/", mgo_antisite_doped.THERMODYNAMICS))
    skipped = ("INCAR", "KPOINTS", "distortion_metadata.json", "groundstate_POSCAR", "MgO_bulk/vasp_std/OUTCAR.gz")
    files = {name: digest for name, digest in files.items() if not name.endswith(skipped) and "_High_Energy" not in name}
    doped = read_doped(folder / mgo_antisite_doped.THERMODYNAMICS)
    host = read_poscar(folder / mgo_antisite_doped.HOST)
    start = read_poscar(folder / f"{examples}/SnB/Pre_Calculated_Results/Mg_O_0/Unperturbed/POSCAR")
    defect = find_defect("Mg_O", start, host, (0, 1, 2, 3, 4))[0]
    return DatasetFile(
        schema_version=1,
        id="mgo-antisite-doped",
        title="Mg_O antisite in MgO by PBEsol (doped's tutorial data), fetched at run time",
        description="ShakeNBreak landscapes of the Mg_O antisite in a 216-atom cell, charges 0 to +4, with starts, relaxed structures and "
        "energies; finals of each charge with forces, corrections, chemical potentials and levels at a second setting. Unperturbed misses "
        "the ground state in every charge by 1.0 to 1.4 eV.",
        licence="MIT (fetched files); CC-BY-4.0 (dataset.yaml)",
        citations=CITATIONS,
        host=Host(file=None, supercell=(3, 3, 3), description="rock salt, 216 atoms, a cube of 12.5998 Å (PBEsol)"),
        reference_level=mgo_antisite_doped.LANDSCAPE,
        levels=(
            LevelOfTheory(
                name=mgo_antisite_doped.LANDSCAPE,
                functional="PBEsol",
                code="VASP",
                accuracy="Not stated by the authors. Symmetry images of one minimum differ by 4 to 10 meV.",
                settings=Settings(
                    parameters={"kpoints": "Γ"},
                    notes=(
                        "The cutoff is in no published file; energies must not be mixed with those of level PBEsol.",
                        "+3 Bond_Distortion_-40.0% ended 8 eV above the other starts. *_High_Energy has no energy and is left out.",
                    ),
                ),
            ),
            LevelOfTheory(
                name=mgo_antisite_doped.FINALS,
                functional="PBEsol",
                code="VASP",
                accuracy="Not stated by the authors, but for the correction: 2 to 18 meV.",
                convergence=Convergence(max_force=0.01),
                settings=Settings(parameters={"ENCUT_eV": 450, "kpoints": "2×2×2, Γ-centred", "EDIFF_eV": 4e-5, "EDIFFG_eV_per_A": -0.01}),
                host_energy=doped.entries[0].host_energy,
                band_edges=doped.band_edges,
                chemical_potentials=doped.chemical_potentials,
                correction_method="extended FNV (Kumagai and Oba), as in the doped object; one number per charge, here under image_charge",
            ),
        ),
        defects=(defect,),
        remote=Remote(
            reader="mgo-antisite-doped",
            base_url=f"{RAW}/doped/{DOPED}",
            commit=DOPED,
            mirror_folder=folder.name,
            licence="MIT",
            files=files,
        ),
    )


def cdte(mirror: Path) -> DatasetFile:
    """All intrinsic defects of CdTe."""
    folder, other = mirror / "doped-93c8b99b", mirror / "shakenbreak-30ba2e83"
    thermodynamics = "examples/CdTe/CdTe_thermo_wout_meta.json.gz"
    doped = read_doped(folder / thermodynamics)
    local = cdte_doped.CDTE.removeprefix(f"{cdte_doped.SHAKENBREAK}/")
    host = read_poscar(other / local / "CdTe_Bulk_Supercell_POSCAR")
    skipped = ("default_INCAR", "fake_vac_1_Cd_0.yaml", "distortion_metadata.json")
    landscape = {name: digest for name, digest in hashes(other, f"{local}/").items() if not name.endswith(skipped)}
    edges = doped.band_edges
    return DatasetFile(
        schema_version=1,
        id="cdte-doped",
        title="All intrinsic point defects of CdTe by HSE06 with spin-orbit coupling (doped's test data), fetched at run time",
        description="49 minima of the vacancies, antisites and interstitials in a 64-atom cell, charges -2 to +2, with corrections and "
        "levels; and ShakeNBreak's landscape of 26 starts of the neutral cadmium vacancy in the same cell at a second setting. No forces.",
        licence="MIT (fetched files); CC-BY-4.0 (dataset.yaml)",
        citations=CITATIONS,
        host=Host(file=None, supercell=(2, 2, 2), description="zinc blende, 64 atoms, a cube of 13.0868 Å"),
        reference_level=cdte_doped.MINIMA,
        levels=(
            LevelOfTheory(
                name=cdte_doped.MINIMA,
                functional="HSE06 with 34.5 % exact exchange and spin-orbit coupling",
                code="VASP",
                accuracy="Not stated by the authors. The file unperturbed of v_Te -2 lies 6 meV below the minimum that they used.",
                settings=Settings(parameters={"ENCUT_eV": 450, "AEXX": 0.345, "HFSCREEN_per_A": 0.2, "LSORBIT": True}),
                host_energy=doped.entries[0].host_energy,
                band_edges=None if edges is None else BandEdges(vbm=edges.vbm, cbm=edges.cbm, source=edges.source),
                chemical_potentials=doped.chemical_potentials,
                correction_method="Freysoldt or, where doped chose it, Kumagai-Oba; one number per charge state, here under image_charge",
            ),
            LevelOfTheory(
                name=cdte_doped.LANDSCAPE_LEVEL,
                functional="HSE06 with 25 % exact exchange",
                code="VASP",
                accuracy=(
                    "Not stated by the authors. "
                    "Against the level HSE06+SOC the Te-Te dimer of neutral v_Cd has the same length (2.746 and 2.753 Å) "
                    "and another energy below the symmetric vacancy (0.75 and 0.52 eV)."
                ),
                convergence=None,
                settings=Settings(
                    parameters={"ENCUT_eV": 300, "AEXX": 0.25, "kpoints": "Γ", "EDIFFG_eV_per_A": -0.01},
                    notes=("Only neutral v_Cd: energies of other charges and codes in that repository are invented for its tests.",),
                ),
            ),
        ),
        dielectric=DielectricTensor(
            tensor=((9.13, 0.0, 0.0), (0.0, 9.13, 0.0), (0.0, 0.0, 9.13)), citation=Citation(text="as in the doped objects")
        ),
        defects=tuple(_cdte_defects(doped, host)),
        remote=Remote(
            reader="cdte-doped",
            base_url=f"{RAW}/doped/{DOPED}",
            commit=DOPED,
            mirror_folder=folder.name,
            licence="MIT",
            files=hashes(folder, cdte_doped.ENTRIES),
            further=(
                Source(
                    base_url=f"{RAW}/ShakeNBreak/{SHAKENBREAK}",
                    commit=SHAKENBREAK,
                    mirror_folder=other.name,
                    licence="MIT",
                    files=landscape,
                ),
            ),
        ),
    )


def _cdte_defects(doped: DopedFile, host: Atoms) -> list[Defect]:
    """Name, kind and site of each defect; vacancies and antisites on one site of each element, interstitials where the neutral one is."""
    names = {"v_Cd": 0, "v_Te": 32, "Cd_Te": 32, "Te_Cd": 0, "Cd_i_Cd": None, "Cd_i_Te": None, "Te_i": None}
    blank = {name: Defect(name=name, kind="interstitial", added="Te", charges=(0,)) for name in names}
    out = []
    for name, site in names.items():
        mine = [entry for entry in doped.entries if cdte_doped.parse_name(entry, blank)[0] == name]
        neutral = next(entry for entry in mine if entry.charge == 0)
        assert neutral.start is not None
        found = find_defect(name, neutral.start, host, tuple(sorted(entry.charge for entry in mine)))[0]
        if site is not None:
            found = found.model_copy(update={"site": site, "position": tuple(float(x) for x in host.positions[site])})
        out.append(found)
    return out


def main() -> None:
    """Writes both files."""
    mirror = Path(sys.argv[1])
    for metadata in (mgo(mirror), cdte(mirror)):
        folder = Path(__file__).resolve().parents[1] / "datasets" / metadata.id
        folder.mkdir(exist_ok=True)
        (folder / "dataset.yaml").write_text(metadata_to_yaml(metadata), encoding="utf-8")


if __name__ == "__main__":
    main()
