"""Writes CP2K input files from a dataset's method block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ase import Atoms

from defectbench.base.errors import DatasetError

from .cp2k_schema import Cp2kDiagonalisation, Cp2kHybrid, Cp2kMethod, Cp2kScf

PROJECT = "relax"
WAVE_FUNCTION = f"{PROJECT}-RESTART.wfn"
DENSITY = f"{PROJECT}-RESTART.kp"
BANDS = "bands.bs"
HESSIAN = f"{PROJECT}-BFGS.Hessian"
LAST_ATTEMPT = 2

ZONE = (
    *(("G", "0 0 0"), ("X", "0.5 0 0"), ("S", "0.5 0.5 0"), ("Y", "0 0.5 0"), ("G", "0 0 0")),
    *(("Z", "0 0 0.5"), ("U", "0.5 0 0.5"), ("R", "0.5 0.5 0.5"), ("T", "0 0.5 0.5"), ("Z", "0 0 0.5")),
)
"""Centre, corners and middles of faces and edges of the supercell's zone, and the line through them."""

Entry = tuple[str, "str | Sequence[Entry]"]


@dataclass(frozen=True)
class RunOptions:
    """What differs from run to run under one method.

    Attributes:
        run_type: relaxation, or one energy with or without forces.
        attempt: 0 for the method's own settings; 1 and 2 are ever safer ones, see :func:`safer_scf`.
        restart: start from the wave function in the run's folder.
        restart_hessian: start BFGS from the Hessian in the run's folder.
        band_edges: print the highest occupied and lowest unoccupied eigenvalues; with k-points, all eigenvalues on lines through the
            zone into :data:`BANDS`.
        potential: write the electrostatic potential as a cube file.
        kpoints: Monkhorst–Pack mesh instead of the method's; for a method at Γ with diagonalisation instead of OT.
        metal: with k-points, smear the occupations (300 K): elemental solids may be metals.
        multiplicity: forces a spin multiplicity; by default the method's rule decides.
        max_steps: of the optimiser, instead of the method's.
    """

    run_type: Literal["GEO_OPT", "ENERGY_FORCE", "ENERGY"] = "GEO_OPT"
    attempt: int = 0
    restart: bool = False
    restart_hessian: bool = False
    band_edges: bool = False
    potential: bool = False
    kpoints: tuple[int, int, int] | None = None
    metal: bool = False
    multiplicity: int | None = None
    max_steps: int | None = None


def electrons(method: Cp2kMethod, symbols: Sequence[str], charge: int) -> int:
    """Number of valence electrons of a cell.

    Args:
        method: gives the valence electrons of each element.
        symbols: N chemical symbols.
        charge: total charge, units of +e.

    Raises:
        DatasetError: an element without basis and pseudopotential.
    """
    missing = sorted(set(symbols) - set(method.kinds))
    if missing:
        raise DatasetError(f"the method block has no basis set and potential for {', '.join(missing)}; add them under settings.cp2k.kinds")
    return sum(method.kinds[symbol].valence_electrons for symbol in symbols) - charge


def multiplicity(n_electrons: int) -> int:
    """The lowest spin multiplicity: 1 for an even number of electrons, 2 for an odd one."""
    return 2 if n_electrons % 2 else 1


def restart_file(method: Cp2kMethod, kpoints: tuple[int, int, int] | None = None) -> str:
    """Name of the file from which a later run can start its self-consistency: orbitals at Γ, the density matrix with k-points."""
    return WAVE_FUNCTION if kpoints is None and method.kpoints == "gamma" else DENSITY


def scf_of(method: Cp2kMethod, *, unrestricted: bool, options: RunOptions) -> Cp2kScf | Cp2kDiagonalisation:
    """The SCF settings of a run, after as many failures as its ``attempt`` says."""
    scf = method.scf_unrestricted if unrestricted else method.scf_restricted
    if isinstance(scf, Cp2kScf) and options.kpoints is not None:
        scf = Cp2kDiagonalisation(alpha=0.2, eps_scf=scf.eps_scf, max_scf=max(scf.max_scf, 100))
    if isinstance(scf, Cp2kDiagonalisation) and options.metal:
        scf = _smeared(scf)
    return safer_scf(scf, options.attempt) if isinstance(scf, Cp2kScf) else safer_diagonalisation(scf, options.attempt)


def safer_scf(scf: Cp2kScf, attempt: int) -> Cp2kScf:
    """OT settings after ``attempt`` failures: first conjugate gradients with more and longer loops, then a smaller assumed gap besides."""
    if attempt <= 0:
        return scf
    return scf.model_copy(
        update={
            "minimizer": "CG",
            "energy_gap": min(scf.energy_gap, 0.005 if attempt == 1 else 0.001),
            "max_scf": max(scf.max_scf, 50),
            "outer_max_scf": max(scf.outer_max_scf, 20 * attempt),
        }
    )


def safer_diagonalisation(scf: Cp2kDiagonalisation, attempt: int) -> Cp2kDiagonalisation:
    """Diagonalisation settings after ``attempt`` failures: first slower mixing with more steps, then smearing (300 K) besides."""
    if attempt <= 0:
        return scf
    slower = scf.model_copy(update={"alpha": min(scf.alpha, 0.1 if attempt == 1 else 0.05), "max_scf": (1 + attempt) * scf.max_scf})
    return _smeared(slower) if attempt > 1 else slower


def _smeared(scf: Cp2kDiagonalisation) -> Cp2kDiagonalisation:
    return scf.model_copy(update={"smearing_kelvin": scf.smearing_kelvin or 300.0, "added_mos": max(scf.added_mos, 20)})


def safer_trust_radius(radius: float | None, attempt: int) -> float | None:
    """BFGS trust radius after ``attempt`` failures, halved each time; Å."""
    return None if radius is None else radius / 2**attempt


def write_input(method: Cp2kMethod, atoms: Atoms, charge: int, options: RunOptions) -> str:
    """The text of a CP2K input file.

    Args:
        method: the level of theory.
        atoms: N atoms in a periodic cell, Å.
        charge: total charge, units of +e.
        options: what kind of run.

    Raises:
        DatasetError: the method lacks something that the run needs.
    """
    count = electrons(method, atoms.get_chemical_symbols(), charge)
    spin = options.multiplicity or multiplicity(count)
    if (count - spin) % 2 == 0:
        raise DatasetError(f"{count} electrons cannot have spin multiplicity {spin}")
    unrestricted = spin != 1
    scf = scf_of(method, unrestricted=unrestricted, options=options)
    sections: list[Entry] = [
        (
            "&GLOBAL",
            [("PROJECT", PROJECT), ("RUN_TYPE", options.run_type), ("PRINT_LEVEL", "MEDIUM")],
        ),
        (
            "&FORCE_EVAL",
            [
                ("METHOD", "Quickstep"),
                ("&PRINT", [("&FORCES ON", [("NDIGITS", "10")])]),
                ("&DFT", _dft(method, charge, spin, scf, options)),
                ("&SUBSYS", _subsys(method, atoms)),
            ],
        ),
    ]
    if options.run_type == "GEO_OPT":
        sections.append(("&MOTION", _motion(method, options)))
    return "\n".join(_render(sections, 0)) + "\n"


def _render(entries: Sequence[Entry], depth: int) -> list[str]:
    lines: list[str] = []
    pad = "  " * depth
    for name, value in entries:
        if not name.startswith("&"):
            lines.append(f"{pad}{name} {value}".rstrip())
            continue
        lines.append(pad + name)
        lines += [pad + "  " + value] if isinstance(value, str) else _render(value, depth + 1)
        lines.append(f"{pad}&END {name[1:].split()[0]}")
    return lines


def _number(value: float) -> str:
    return f"{value:.6E}" if value != 0 and abs(value) < 1e-2 else f"{value:g}"


def _logical(value: bool) -> str:
    return "T" if value else "F"


def _dft(method: Cp2kMethod, charge: int, spin: int, scf: Cp2kScf | Cp2kDiagonalisation, options: RunOptions) -> list[Entry]:
    mesh = options.kpoints or (None if method.kpoints == "gamma" else method.kpoints)
    # CP2K extrapolates orbitals at Γ only; with k-points it can take the last density matrix
    extrapolation: list[Entry] = [("EXTRAPOLATION", "USE_PREV_P")]
    if mesh is None:
        extrapolation = [("EXTRAPOLATION", method.extrapolation), ("EXTRAPOLATION_ORDER", str(method.extrapolation_order))]
    out: list[Entry] = [("BASIS_SET_FILE_NAME", name) for name in method.basis_set_files]
    out += [
        ("POTENTIAL_FILE_NAME", method.potential_file),
        ("CHARGE", str(charge)),
        ("MULTIPLICITY", str(spin)),
        ("UKS", _logical(spin != 1)),
        ("WFN_RESTART_FILE_NAME", restart_file(method, options.kpoints)),
        ("&MGRID", [("CUTOFF", _number(method.cutoff_ry)), ("REL_CUTOFF", _number(method.rel_cutoff_ry))]),
        ("&QS", [("EPS_DEFAULT", _number(method.eps_default)), *extrapolation]),
    ]
    if mesh is not None:
        if method.hybrid is not None:
            raise DatasetError("CP2K has no k-points for hybrid functionals: use a supercell at Γ")
        points = " ".join(str(n) for n in mesh)
        out.append(("&KPOINTS", [("SCHEME", f"MONKHORST-PACK {points}"), ("FULL_GRID", "F"), ("SYMMETRY", "F")]))
    out.append(("&SCF", _orbital_transformation(scf, options) if isinstance(scf, Cp2kScf) else _diagonalisation(scf, options)))
    out.append(("&XC", _functional(method)))
    if method.hybrid is not None:
        out.append(
            (
                "&AUXILIARY_DENSITY_MATRIX_METHOD",
                [
                    ("METHOD", method.hybrid.admm_method),
                    ("ADMM_PURIFICATION_METHOD", method.hybrid.admm_purification),
                    ("EXCH_CORRECTION_FUNC", method.hybrid.admm_exchange_correction),
                ],
            )
        )
    printing: list[Entry] = []
    if options.band_edges and mesh is None:
        printing.append(("&MO_CUBES", [("NHOMO", "1"), ("NLUMO", "1"), ("WRITE_CUBE", "F")]))
    elif options.band_edges:
        corners: list[Entry] = [("SPECIAL_POINT", f"{name} {coordinates}") for name, coordinates in ZONE]
        lines: list[Entry] = [("UNITS", "B_VECTOR"), ("NPOINTS", "2"), *corners]
        printing.append(("&BAND_STRUCTURE", [("ADDED_MOS", "4"), ("FILE_NAME", BANDS), ("&KPOINT_SET", lines)]))
    if options.potential:
        printing.append(("&V_HARTREE_CUBE", [("STRIDE", "1 1 1")]))
    if printing:
        out.append(("&PRINT", printing))
    return out


def _orbital_transformation(scf: Cp2kScf, options: RunOptions) -> list[Entry]:
    return [
        ("SCF_GUESS", "RESTART" if options.restart else "ATOMIC"),
        ("MAX_SCF", str(scf.max_scf)),
        ("EPS_SCF", _number(scf.eps_scf)),
        *([("MAX_ITER_LUMO", "2000")] if options.band_edges else []),
        (
            "&OT",
            [
                ("PRECONDITIONER", scf.preconditioner),
                ("MINIMIZER", scf.minimizer),
                ("ENERGY_GAP", _number(scf.energy_gap)),
            ],
        ),
        ("&OUTER_SCF", [("MAX_SCF", str(scf.outer_max_scf)), ("EPS_SCF", _number(scf.eps_scf))]),
        ("&PRINT", [("&RESTART", [("BACKUP_COPIES", "1")])]),
    ]


def _diagonalisation(scf: Cp2kDiagonalisation, options: RunOptions) -> list[Entry]:
    smearing: list[Entry] = []
    if scf.smearing_kelvin is not None:
        smearing = [("&SMEAR ON", [("METHOD", "FERMI_DIRAC"), ("ELECTRONIC_TEMPERATURE", f"[K] {_number(scf.smearing_kelvin)}")])]
    return [
        ("SCF_GUESS", "RESTART" if options.restart else "ATOMIC"),
        ("MAX_SCF", str(scf.max_scf)),
        ("EPS_SCF", _number(scf.eps_scf)),
        *([("ADDED_MOS", f"{scf.added_mos} {scf.added_mos}")] if scf.added_mos else []),
        ("&DIAGONALIZATION", [("ALGORITHM", "STANDARD")]),
        ("&MIXING", [("METHOD", "BROYDEN_MIXING"), ("ALPHA", _number(scf.alpha)), ("NBROYDEN", str(scf.nbroyden))]),
        *smearing,
        ("&PRINT", [("&RESTART", [("BACKUP_COPIES", "1")])]),
    ]


def _functional(method: Cp2kMethod) -> list[Entry]:
    if method.hybrid is None:
        return [(f"&XC_FUNCTIONAL {method.functional}", [])]
    hybrid: Cp2kHybrid = method.hybrid
    screening: list[Entry] = [
        ("EPS_SCHWARZ", _number(hybrid.eps_schwarz)),
        ("SCREEN_ON_INITIAL_P", _logical(hybrid.screen_on_initial_p)),
    ]
    if hybrid.eps_schwarz_forces is not None:
        screening.append(("EPS_SCHWARZ_FORCES", _number(hybrid.eps_schwarz_forces)))
    periodic: list[Entry] = []
    if hybrid.number_of_shells is not None:
        periodic.append(("&PERIODIC", [("NUMBER_OF_SHELLS", str(hybrid.number_of_shells))]))
    return [
        (
            "&XC_FUNCTIONAL",
            [
                ("&PBE", [("SCALE_X", _number(hybrid.pbe_scale_x)), ("SCALE_C", _number(hybrid.pbe_scale_c))]),
                (
                    "&XWPBE",
                    [
                        ("SCALE_X", _number(hybrid.xwpbe_scale_x)),
                        ("SCALE_X0", _number(hybrid.xwpbe_scale_x0)),
                        ("OMEGA", _number(hybrid.omega)),
                    ],
                ),
            ],
        ),
        (
            "&HF",
            [
                ("FRACTION", _number(hybrid.hf_fraction)),
                ("&SCREENING", screening),
                ("&INTERACTION_POTENTIAL", [("POTENTIAL_TYPE", hybrid.interaction), ("OMEGA", _number(hybrid.omega))]),
                *periodic,
                ("&MEMORY", [("MAX_MEMORY", "6000")]),
            ],
        ),
    ]


def _subsys(method: Cp2kMethod, atoms: Atoms) -> list[Entry]:
    cell: list[Entry] = [(axis, " ".join(f"{x:.10f}" for x in row)) for axis, row in zip("ABC", atoms.cell.array, strict=True)]
    coordinates: list[Entry] = [
        (symbol, f"{x:.10f} {y:.10f} {z:.10f}") for symbol, (x, y, z) in zip(atoms.get_chemical_symbols(), atoms.positions, strict=True)
    ]
    out: list[Entry] = [("&CELL", cell), ("&COORD", coordinates)]
    for symbol in sorted(set(atoms.get_chemical_symbols())):
        kind = method.kinds[symbol]
        entries: list[Entry] = [("BASIS_SET", kind.basis_set), ("POTENTIAL", kind.potential)]
        if method.hybrid is not None:
            if kind.auxiliary_basis_set is None:
                raise DatasetError(f"the hybrid method block has no auxiliary_basis_set for {symbol}")
            entries.append(("BASIS_SET AUX_FIT", kind.auxiliary_basis_set))
        out.append((f"&KIND {symbol}", entries))
    return out


def _motion(method: Cp2kMethod, options: RunOptions) -> list[Entry]:
    optimizer = method.optimizer
    if optimizer is None:
        raise DatasetError("this level of theory has no optimizer block, so nothing can be relaxed at it")
    out: list[Entry] = [
        ("OPTIMIZER", optimizer.name),
        ("MAX_ITER", str(options.max_steps or optimizer.max_steps)),
        ("MAX_FORCE", _number(optimizer.max_force_hartree_bohr)),
        ("RMS_FORCE", _number(optimizer.rms_force_hartree_bohr)),
        ("MAX_DR", _number(optimizer.max_dr_bohr)),
        ("RMS_DR", _number(optimizer.rms_dr_bohr)),
    ]
    if optimizer.name == "BFGS":
        bfgs: list[Entry] = []
        radius = safer_trust_radius(optimizer.trust_radius_angstrom, options.attempt)
        if radius is not None:
            bfgs.append(("TRUST_RADIUS", f"[angstrom] {_number(radius)}"))
        if options.restart_hessian:
            bfgs += [("RESTART_HESSIAN", "T"), ("RESTART_FILE_NAME", HESSIAN)]
        out.append(("&BFGS", bfgs))
    every: list[Entry] = [("&EACH", [("GEO_OPT", "1")])]
    return [
        ("&GEO_OPT", out),
        ("&PRINT", [("&TRAJECTORY", [("FORMAT", "XYZ"), *every]), ("&FORCES", every), ("&RESTART_HISTORY OFF", [])]),
    ]
