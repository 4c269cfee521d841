"""What an input file must contain, whatever its layout."""

from __future__ import annotations

import re

import numpy as np
import pytest
from ase import Atoms
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from reference_dft.cp2k_input import LAST_ATTEMPT, RunOptions, electrons, multiplicity, safer_scf, write_input
from reference_dft.cp2k_schema import Cp2kMethod
from refusals import raises_code
from tiny_dataset import HYBRID, MESH, METHOD

PBE = Cp2kMethod.model_validate(METHOD)
HSE = Cp2kMethod.model_validate(HYBRID)
KPOINTS = Cp2kMethod.model_validate(MESH)
H2 = Atoms("H2", positions=[[0.0, 0.0, 0.0], [0.74, 0.0, 0.0]], cell=[[5.0, 0.0, 0.0], [1.0, 6.0, 0.0], [0.0, 0.5, 7.0]], pbc=True)


def sections(text: str) -> dict[str, dict[str, list[str]]]:
    """Path of section names (with parameters) → keyword → values; fails on sections that are not closed."""
    out: dict[str, dict[str, list[str]]] = {}
    path: list[str] = []
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "&END":
            assert path.pop().split()[0] == rest
        elif word.startswith("&"):
            path.append(f"{word[1:]} {rest}".strip())
            out.setdefault("/".join(path), {})
        else:
            out["/".join(path)].setdefault(word, []).append(rest)
    assert not path
    return out


def test_closed_shell_relaxation() -> None:
    found = sections(write_input(PBE, H2, 0, RunOptions()))
    dft = found["FORCE_EVAL/DFT"]
    assert (dft["CHARGE"], dft["MULTIPLICITY"], dft["UKS"]) == (["0"], ["1"], ["F"])
    assert found["GLOBAL"]["RUN_TYPE"] == ["GEO_OPT"]
    assert found["FORCE_EVAL/DFT/SCF/OT"]["MINIMIZER"] == ["DIIS"]
    assert found["FORCE_EVAL/DFT/SCF"]["SCF_GUESS"] == ["ATOMIC"]
    assert float(found["MOTION/GEO_OPT"]["MAX_FORCE"][0]) == 2e-3
    assert float(found["FORCE_EVAL/DFT/QS"]["EPS_DEFAULT"][0]) == 1e-10
    assert float(found["FORCE_EVAL/DFT/MGRID"]["CUTOFF"][0]) == 250
    assert found["FORCE_EVAL/SUBSYS/KIND H"] == {"BASIS_SET": ["SZV-MOLOPT-SR-GTH"], "POTENTIAL": ["GTH-PBE-q1"]}
    assert "FORCE_EVAL/DFT/XC/XC_FUNCTIONAL PBE" in found
    assert "MOTION/GEO_OPT/BFGS" in found
    assert "FORCE_EVAL/PRINT/FORCES ON" in found


def test_open_shell() -> None:
    found = sections(write_input(PBE, H2, 1, RunOptions()))
    dft = found["FORCE_EVAL/DFT"]
    assert (dft["CHARGE"], dft["MULTIPLICITY"], dft["UKS"]) == (["1"], ["2"], ["T"])
    assert found["FORCE_EVAL/DFT/SCF/OT"]["MINIMIZER"] == ["CG"]


@given(st.integers(-3, 3), st.integers(1, 5))
def test_multiplicity_is_the_lowest_that_fits_the_electrons(charge: int, atoms: int) -> None:
    count = electrons(PBE, ["H"] * atoms, charge)
    assert count == atoms - charge
    assert multiplicity(count) == (1 if count % 2 == 0 else 2)


def test_impossible_multiplicity_is_refused() -> None:
    with raises_code("bad-dataset", "multiplicity 2"):
        write_input(PBE, H2, 0, RunOptions(multiplicity=2))
    assert "UKS T" in write_input(PBE, H2, 0, RunOptions(multiplicity=3))


def test_cell_and_positions_survive() -> None:
    found = sections(write_input(PBE, H2, 0, RunOptions()))
    cell = [[float(x) for x in found["FORCE_EVAL/SUBSYS/CELL"][axis][0].split()] for axis in "ABC"]
    np.testing.assert_allclose(cell, H2.cell.array)
    rows = [[float(x) for x in row.split()] for row in found["FORCE_EVAL/SUBSYS/COORD"]["H"]]
    np.testing.assert_allclose(rows, H2.positions, atol=1e-9)


def test_safer_settings_by_attempt() -> None:
    inputs = [sections(write_input(PBE, H2, 0, RunOptions(attempt=attempt))) for attempt in range(LAST_ATTEMPT + 1)]
    assert [found["FORCE_EVAL/DFT/SCF/OT"]["MINIMIZER"][0] for found in inputs] == ["DIIS", "CG", "CG"]
    outer = [int(found["FORCE_EVAL/DFT/SCF/OUTER_SCF"]["MAX_SCF"][0]) for found in inputs]
    gaps = [float(found["FORCE_EVAL/DFT/SCF/OT"]["ENERGY_GAP"][0]) for found in inputs]
    radii = [float(found["MOTION/GEO_OPT/BFGS"]["TRUST_RADIUS"][0].split()[-1]) for found in inputs]
    assert outer == sorted(set(outer))
    assert gaps == sorted(gaps, reverse=True)
    assert radii == [0.06, 0.03, 0.015]
    assert safer_scf(PBE.scf_restricted, 0) == PBE.scf_restricted
    criteria = {found["FORCE_EVAL/DFT/SCF"]["EPS_SCF"][0] for found in inputs}
    assert len(criteria) == 1, "a retry never loosens the criterion"


def test_restart_uses_wave_function_and_hessian() -> None:
    found = sections(write_input(PBE, H2, 0, RunOptions(restart=True, restart_hessian=True)))
    assert found["FORCE_EVAL/DFT/SCF"]["SCF_GUESS"] == ["RESTART"]
    assert found["FORCE_EVAL/DFT"]["WFN_RESTART_FILE_NAME"] == ["relax-RESTART.wfn"]
    assert found["MOTION/GEO_OPT/BFGS"]["RESTART_HESSIAN"] == ["T"]


def test_hybrid_single_point() -> None:
    found = sections(write_input(HSE, H2, 0, RunOptions("ENERGY_FORCE", restart=True)))
    assert not any(path.startswith("MOTION") for path in found)
    functional = "FORCE_EVAL/DFT/XC/XC_FUNCTIONAL"
    assert {k: float(v[0]) for k, v in found[f"{functional}/PBE"].items()} == {"SCALE_X": 0, "SCALE_C": 1}
    assert {k: float(v[0]) for k, v in found[f"{functional}/XWPBE"].items()} == {"SCALE_X": -0.25, "SCALE_X0": 1, "OMEGA": 0.11}
    assert float(found["FORCE_EVAL/DFT/XC/HF"]["FRACTION"][0]) == 0.25
    assert found["FORCE_EVAL/DFT/XC/HF/INTERACTION_POTENTIAL"]["POTENTIAL_TYPE"] == ["SHORTRANGE"]
    assert float(found["FORCE_EVAL/DFT/XC/HF/SCREENING"]["EPS_SCHWARZ"][0]) == 1e-6
    assert "EPS_SCHWARZ_FORCES" not in found["FORCE_EVAL/DFT/XC/HF/SCREENING"]
    assert "FORCE_EVAL/DFT/XC/HF/PERIODIC" not in found, "as many images as CP2K finds necessary"
    assert found["FORCE_EVAL/DFT/AUXILIARY_DENSITY_MATRIX_METHOD"]["EXCH_CORRECTION_FUNC"] == ["PBEX"]
    assert found["FORCE_EVAL/SUBSYS/KIND H"]["BASIS_SET"] == ["SZV-MOLOPT-SR-GTH", "AUX_FIT admm-dz-q1"]
    assert found["FORCE_EVAL/DFT"]["BASIS_SET_FILE_NAME"] == ["BASIS_MOLOPT", "BASIS_ADMM_UZH"]


def test_limits_of_the_exchange() -> None:
    assert HSE.hybrid is not None
    limits = {"eps_schwarz_forces": 1e-4, "screen_on_initial_p": True, "number_of_shells": 2}
    method = HSE.model_copy(update={"hybrid": HSE.hybrid.model_copy(update=limits)})
    found = sections(write_input(method, H2, 0, RunOptions("ENERGY_FORCE", restart=True)))
    screening = found["FORCE_EVAL/DFT/XC/HF/SCREENING"]
    assert float(screening["EPS_SCHWARZ_FORCES"][0]) == 1e-4
    assert screening["SCREEN_ON_INITIAL_P"] == ["T"]
    assert found["FORCE_EVAL/DFT/XC/HF/PERIODIC"]["NUMBER_OF_SHELLS"] == ["2"]


def test_band_edges_and_potential_are_printed_on_request() -> None:
    found = sections(write_input(PBE, H2, 0, RunOptions("ENERGY_FORCE", band_edges=True, potential=True)))
    assert found["FORCE_EVAL/DFT/PRINT/MO_CUBES"]["WRITE_CUBE"] == ["F"]
    assert int(found["FORCE_EVAL/DFT/SCF"]["MAX_ITER_LUMO"][0]) > 299, "the default was too few for a real host"
    assert found["FORCE_EVAL/DFT/PRINT/V_HARTREE_CUBE"]["STRIDE"] == ["1 1 1"]
    plain = sections(write_input(PBE, H2, 0, RunOptions("ENERGY_FORCE")))
    assert "FORCE_EVAL/DFT/PRINT" not in plain


def test_kpoints_replace_orbital_transformation() -> None:
    text = write_input(PBE, H2, 0, RunOptions("ENERGY_FORCE", kpoints=(4, 4, 2), metal=True))
    found = sections(text)
    assert found["FORCE_EVAL/DFT/KPOINTS"]["SCHEME"] == ["MONKHORST-PACK 4 4 2"]
    assert "FORCE_EVAL/DFT/SCF/OT" not in found
    assert re.search(r"&SMEAR ON", text)
    with raises_code("bad-dataset", "k-points"):
        write_input(HSE, H2, 0, RunOptions("ENERGY_FORCE", kpoints=(2, 2, 2)))


def test_what_the_method_lacks_is_said() -> None:
    with raises_code("bad-dataset", "He"):
        write_input(PBE, Atoms("He", cell=[5, 5, 5], pbc=True), 0, RunOptions())
    with raises_code("bad-dataset", "optimizer"):
        write_input(HSE, H2, 0, RunOptions())
    bare = HSE.model_copy(update={"kinds": PBE.kinds})
    with raises_code("bad-dataset", "auxiliary_basis_set", "H"):
        write_input(bare, H2, 0, RunOptions("ENERGY_FORCE"))


def test_mesh_of_a_level() -> None:
    found = sections(write_input(KPOINTS, H2, 1, RunOptions(restart=True)))
    assert found["FORCE_EVAL/DFT/KPOINTS"]["SCHEME"] == ["MONKHORST-PACK 2 2 1"]
    assert found["FORCE_EVAL/DFT/QS"]["EXTRAPOLATION"] == ["USE_PREV_P"]
    assert "EXTRAPOLATION_ORDER" not in found["FORCE_EVAL/DFT/QS"]
    assert found["FORCE_EVAL/DFT"]["WFN_RESTART_FILE_NAME"] == ["relax-RESTART.kp"]
    assert found["FORCE_EVAL/DFT/SCF/MIXING"] == {"METHOD": ["BROYDEN_MIXING"], "ALPHA": ["0.3"], "NBROYDEN": ["8"]}
    assert "FORCE_EVAL/DFT/SCF/SMEAR ON" not in found
    finer = sections(write_input(KPOINTS, H2, 1, RunOptions("ENERGY_FORCE", kpoints=(3, 3, 3))))
    assert finer["FORCE_EVAL/DFT/KPOINTS"]["SCHEME"] == ["MONKHORST-PACK 3 3 3"]
    assert finer["FORCE_EVAL/DFT/SCF/MIXING"]["ALPHA"] == ["0.3"]


def test_safer_diagonalisation_by_attempt() -> None:
    inputs = [sections(write_input(KPOINTS, H2, 1, RunOptions(attempt=attempt))) for attempt in range(LAST_ATTEMPT + 1)]
    scf = "FORCE_EVAL/DFT/SCF"
    assert [float(found[f"{scf}/MIXING"]["ALPHA"][0]) for found in inputs] == [0.3, 0.1, 0.05]
    steps = [int(found[scf]["MAX_SCF"][0]) for found in inputs]
    assert steps == sorted(set(steps))
    assert [f"{scf}/SMEAR ON" in found for found in inputs] == [False, False, True]
    assert inputs[-1][scf]["ADDED_MOS"] == ["20 20"]
    assert len({found[scf]["EPS_SCF"][0] for found in inputs}) == 1, "a retry never loosens the criterion"


def test_mesh_and_self_consistency_must_fit() -> None:
    for method in (
        {**METHOD, "scf_restricted": MESH["scf_restricted"]},
        {**MESH, "scf_unrestricted": METHOD["scf_unrestricted"]},
        {**MESH, "hybrid": HYBRID["hybrid"]},
    ):
        with pytest.raises(ValidationError) as refused:
            Cp2kMethod.model_validate(method)
        assert [(error["type"], error["loc"]) for error in refused.value.errors()] == [("value_error", ())]
