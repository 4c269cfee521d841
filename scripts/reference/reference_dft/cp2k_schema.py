"""The method block of a level of theory (``settings.cp2k`` in ``dataset.yaml``) as CP2K needs it: a closed schema."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from defectbench.base.errors import DatasetError
from defectbench.datasets.schema import Element, LevelName, LevelOfTheory, explain

KPoints = tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]
"""A Monkhorst–Pack mesh."""


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Cp2kKind(_Closed):
    """Basis set and pseudopotential of an element, by CP2K's names.

    Attributes:
        basis_set: orbital basis.
        potential: pseudopotential.
        valence_electrons: electrons it leaves.
        auxiliary_basis_set: for the auxiliary density matrix method (ADMM).
    """

    basis_set: str
    potential: str
    valence_electrons: Annotated[int, Field(gt=0)]
    auxiliary_basis_set: str | None = None


class Cp2kScf(_Closed):
    """Self-consistency by orbital transformation; names and units as in CP2K's input reference.

    Attributes:
        minimizer: of OT.
        preconditioner: of OT.
        energy_gap: lower bound of the gap that the preconditioner assumes, Ha.
        eps_scf: convergence criterion.
        max_scf: steps of an inner loop.
        outer_max_scf: outer loops.
    """

    minimizer: Literal["DIIS", "CG", "BROYDEN", "SD"]
    preconditioner: str = "FULL_ALL"
    energy_gap: float
    eps_scf: float
    max_scf: Annotated[int, Field(gt=0)]
    outer_max_scf: Annotated[int, Field(gt=0)]


class Cp2kDiagonalisation(_Closed):
    """Self-consistency by diagonalisation and Broyden mixing, which k-points need; names and units as in CP2K's input reference.

    Attributes:
        alpha: fraction of the new density that is mixed in.
        nbroyden: number of earlier steps that Broyden mixing uses.
        eps_scf: convergence criterion.
        max_scf: steps.
        smearing_kelvin: electronic temperature of Fermi–Dirac smearing; None for fixed occupations.
        added_mos: empty orbitals per k-point and spin; smearing needs some.
    """

    alpha: Annotated[float, Field(gt=0, le=1)]
    nbroyden: Annotated[int, Field(gt=0)] = 8
    eps_scf: float
    max_scf: Annotated[int, Field(gt=0)]
    smearing_kelvin: Annotated[float, Field(gt=0)] | None = None
    added_mos: Annotated[int, Field(ge=0)] = 0


class Cp2kOptimizer(_Closed):
    """Relaxation by CP2K's GEO_OPT at fixed cell; names and units as in CP2K's input reference.

    Attributes:
        name: of the optimiser.
        trust_radius_angstrom: of BFGS.
        max_force_hartree_bohr: largest force component at convergence.
        rms_force_hartree_bohr: root mean square force component at convergence.
        max_dr_bohr: largest displacement component at convergence.
        rms_dr_bohr: root mean square displacement component at convergence.
        max_steps: relaxation steps.
    """

    name: Literal["BFGS", "LBFGS", "CG"]
    trust_radius_angstrom: float | None = None
    max_force_hartree_bohr: float
    rms_force_hartree_bohr: float
    max_dr_bohr: float
    rms_dr_bohr: float
    max_steps: Annotated[int, Field(gt=0)] = 200


class Cp2kHybrid(_Closed):
    """A screened hybrid functional with the auxiliary density matrix method; names as in CP2K's input reference.

    Attributes:
        pbe_scale_x: weight of full PBE exchange.
        pbe_scale_c: weight of PBE correlation.
        xwpbe_scale_x: weight of short-range PBE exchange.
        xwpbe_scale_x0: weight of its ω = 0 limit.
        omega: screening parameter, 1/bohr.
        hf_fraction: fraction of exact exchange.
        interaction: potential of the exact exchange.
        eps_schwarz: integral screening.
        eps_schwarz_forces: integral screening of forces; None for CP2K's default.
        screen_on_initial_p: screening with the initial density matrix.
        number_of_shells: of periodic images within which exchange is summed; None for as many as the range of the interaction needs.
        admm_method: projection.
        admm_purification: purification.
        admm_exchange_correction: functional of the ADMM exchange correction.
        start_from: level of theory whose wave function starts the calculation.
        added_to: level with k-points to whose energies and forces the difference between this method and ``start_from`` is added: CP2K
            2023.1 has no hybrid functionals with k-points. None: the method's own numbers are the level's.
    """

    pbe_scale_x: float
    pbe_scale_c: float
    xwpbe_scale_x: float
    xwpbe_scale_x0: float
    omega: float
    hf_fraction: float
    interaction: str
    eps_schwarz: float
    eps_schwarz_forces: float | None = None
    screen_on_initial_p: bool = False
    number_of_shells: Annotated[int, Field(gt=0)] | None = None
    admm_method: str
    admm_purification: str
    admm_exchange_correction: str
    start_from: LevelName | None = None
    added_to: LevelName | None = None

    @model_validator(mode="after")
    def _difference(self) -> Cp2kHybrid:
        if self.added_to is not None and self.start_from is None:
            raise ValueError("added_to needs start_from: the difference between both methods is what is added")
        return self


class Cp2kMethod(_Closed):
    """A CP2K Quickstep (GPW) method, complete enough to write an input file from.

    Attributes:
        basis_set_files: BASIS_SET_FILE_NAME entries.
        potential_file: POTENTIAL_FILE_NAME.
        kinds: per element.
        cutoff_ry: plane-wave cutoff, Ry.
        rel_cutoff_ry: relative cutoff, Ry.
        eps_default: EPS_DEFAULT.
        functional: of the XC section; with ``hybrid`` its parent.
        hybrid: None for a semilocal functional.
        extrapolation: of the wave function along a relaxation.
        extrapolation_order: its order.
        kpoints: sampling of the Brillouin zone of the supercell: ``gamma``, with self-consistency by orbital transformation, or a
            Monkhorst–Pack mesh such as ``[2, 2, 2]``, with self-consistency by diagonalisation.
        spin_rule: ``lowest``: multiplicity 1, restricted, for an even number of electrons; 2, unrestricted, for an odd one.
        charge_treatment: ``total_charge``: CHARGE of the whole cell, compensated by a uniform background.
        scf_restricted: for even electron counts.
        scf_unrestricted: for odd electron counts.
        optimizer: relaxation; None where only single points are planned.
    """

    basis_set_files: tuple[str, ...]
    potential_file: str
    kinds: dict[Element, Cp2kKind]
    cutoff_ry: float
    rel_cutoff_ry: float
    eps_default: float
    functional: str
    hybrid: Cp2kHybrid | None = None
    extrapolation: str
    extrapolation_order: int
    kpoints: Literal["gamma"] | KPoints = "gamma"
    spin_rule: Literal["lowest"] = "lowest"
    charge_treatment: Literal["total_charge"] = "total_charge"
    scf_restricted: Cp2kScf | Cp2kDiagonalisation
    scf_unrestricted: Cp2kScf | Cp2kDiagonalisation
    optimizer: Cp2kOptimizer | None = None

    @model_validator(mode="after")
    def _fitting_scf(self) -> Cp2kMethod:
        wanted = Cp2kScf if self.kpoints == "gamma" else Cp2kDiagonalisation
        for name, scf in (("scf_restricted", self.scf_restricted), ("scf_unrestricted", self.scf_unrestricted)):
            if not isinstance(scf, wanted):
                how = "orbital transformation (minimizer, …)" if wanted is Cp2kScf else "diagonalisation (alpha, …)"
                raise ValueError(f"kpoints {self.kpoints} need a {name} of {how}")
        if self.hybrid is not None and self.kpoints != "gamma":
            raise ValueError("CP2K has no k-points for hybrid functionals")
        return self


def method_of(level: LevelOfTheory) -> Cp2kMethod | None:
    """The CP2K method of a level of theory; None if it has no ``settings.cp2k``.

    Raises:
        DatasetError: what it has is not a CP2K method.
    """
    if level.settings.cp2k is None:
        return None
    try:
        return Cp2kMethod.model_validate(level.settings.cp2k)
    except ValidationError as error:
        field, message = explain(error)[0]
        raise DatasetError(f"settings.cp2k of level {level.name} is not a CP2K method: {field}: {message}") from error
