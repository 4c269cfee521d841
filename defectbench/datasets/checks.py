"""The checks that loading and validation share: each problem names file, frame and field."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from numpy.typing import NDArray

from defectbench.base.errors import DatasetError, DefectbenchError
from defectbench.base.files import contained, sha256_of
from defectbench.base.states import configuration_problem, format_charge
from defectbench.datasets.extxyz import formula, parse_frame_file_name, stored_results
from defectbench.datasets.schema import METADATA_FILE, Convergence, DatasetFile, Defect
from defectbench.structures.lattice import minimum_image, shortest_distance

CELL_TOLERANCE = 1e-4
"""Å; cells that differ by less are equal."""
START_TOLERANCE = 1e-3
"""Å; step 0 of a relaxation and its start differ by less."""
FORCE_TOLERANCE = 0.03
"""Relative; how far the largest force may exceed the criterion of a frame marked as converged (unit conversion, rounding)."""
MIN_DISTANCE = 0.5
"""Å; closer atoms are a mistake."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a dataset.

    Attributes:
        file: path inside the dataset folder.
        frame: index of the frame, from 0; None if it concerns the whole file.
        field: of ``dataset.yaml``, or of the frame (``energy``, ``forces``, ``positions``, ``cell``, ``info.charge``, …).
        message: what is wrong.
    """

    file: str
    frame: int | None
    field: str
    message: str

    @property
    def code(self) -> str:
        """Of the error that loading the dataset ends with because of this problem."""
        if self.field == "sha256":
            return "hash-mismatch"
        if self.field == "files":
            return "bad-file-list"
        return "bad-metadata" if self.file.endswith(".yaml") else "bad-frame"

    def __str__(self) -> str:
        where = self.file if self.frame is None else f"{self.file}, frame {self.frame}"
        return f"{where}, {self.field}: {self.message}"


def refuse(folder: Path, problems: Iterable[Problem]) -> None:
    """Raises one line for the first problem, if there is any.

    Raises:
        DatasetError: names the dataset folder, file, frame and field.
    """
    found = list(problems)
    if found:
        more = f" (and {len(found) - 1} more; see 'defectbench datasets validate')" if len(found) > 1 else ""
        raise DatasetError(f"dataset {folder}: {found[0]}{more}", code=found[0].code)


def check_files(folder: Path, metadata: DatasetFile) -> Iterator[Problem]:
    """Every listed file is there and has its hash; file names are of the known forms."""
    names = {defect.name for defect in metadata.defects}
    levels = {level.name for level in metadata.levels}
    for name, digest in metadata.files.items():
        try:
            path = contained(folder, name)
        except DefectbenchError as error:
            yield Problem(name, None, "files", str(error))
            continue
        if not path.is_file():
            yield Problem(name, None, "files", f"listed in {METADATA_FILE} but not there")
            continue
        if sha256_of(path) != digest:
            yield Problem(name, None, "sha256", f"the content is not what {METADATA_FILE} lists (changed or damaged file)")
        parts = name.split("/")
        if parts[0] == "starts" and (len(parts) != 2 or parts[1].rsplit(".", 1)[0] not in names):
            yield Problem(name, None, "files", "no defect of the dataset has this name")
        elif parts[0] == "frames":
            key = parse_frame_file_name(parts[-1])
            if len(parts) != 3 or key is None:
                yield Problem(name, None, "files", "is not of the form frames/<level>/<defect>_q<charge>_<configuration>.extxyz")
            elif parts[1] not in levels:
                yield Problem(name, None, "files", f"'{parts[1]}' is not a level of theory of the dataset ({', '.join(sorted(levels))})")
            elif (problem := configuration_problem(key[2])) is not None:
                yield Problem(name, None, "files", f"the configuration '{key[2]}' {problem}")
            elif key[0] not in names or key[1] not in metadata.defect(key[0]).charges:
                yield Problem(name, None, "files", "is not a charge state of the dataset")


def check_host(file: str, host: Atoms, metadata: DatasetFile) -> Iterator[Problem]:
    """The host is a periodic structure of finite numbers, and the defects' sites are where the metadata say."""
    if not np.isfinite(host.positions).all() or not np.isfinite(host.cell.array).all():
        yield Problem(file, 0, "positions", "not finite")
        return
    if abs(host.cell.volume) < 1.0:
        yield Problem(file, 0, "cell", "has no volume; the host must be periodic in three dimensions")
        return
    if (short := shortest_distance(host)) < MIN_DISTANCE:
        yield Problem(file, 0, "positions", f"two atoms are {short:.3f} Å apart")
    symbols = host.get_chemical_symbols()
    for index, defect in enumerate(metadata.defects):
        field = f"defects.{index}.site"
        if defect.site is None:
            continue
        if defect.site >= len(host):
            yield Problem(METADATA_FILE, None, field, f"{defect.name}: the host has only {len(host)} atoms")
        elif symbols[defect.site] != defect.removed:
            yield Problem(
                METADATA_FILE, None, field, f"{defect.name}: the host has {symbols[defect.site]} at {defect.site}, not {defect.removed}"
            )
        elif defect.position is not None:
            shift = minimum_image(np.asarray([defect.position]) - host.positions[[defect.site]], host.cell)
            if (away := float(np.linalg.norm(shift))) > 0.01:
                field = f"defects.{index}.position"
                yield Problem(METADATA_FILE, None, field, f"{defect.name}: {away:.2f} Å from its host atom {defect.site}")


def check_relaxed_host(file: str, relaxed: Atoms, host: Atoms) -> Iterator[Problem]:
    """The host at another level has the host's cell and its atoms in its order."""
    if relaxed.get_chemical_symbols() != host.get_chemical_symbols():
        yield Problem(file, 0, "species", "are not those of the host in its order")
    elif not np.abs(relaxed.cell.array - host.cell.array).max() <= CELL_TOLERANCE:
        yield Problem(file, 0, "cell", "is not the host's")
    elif (far := float(np.linalg.norm(minimum_image(relaxed.positions - host.positions, host.cell), axis=1).max())) > 1.0:
        yield Problem(file, 0, "positions", f"an atom is {far:.2f} Å from its place in the host: are the atoms in another order?")


def expected_composition(host: Atoms, defect: Defect) -> Counter[str]:
    """Element counts of the host with the defect in it."""
    counts = Counter(host.get_chemical_symbols())
    if defect.removed:
        counts[defect.removed] -= 1
    if defect.added:
        counts[defect.added] += 1
    return +counts


def check_structure(file: str, frame: int, atoms: Atoms, host: Atoms, defect: Defect) -> Iterator[Problem]:
    """Composition, cell and positions of a start or a relaxation frame."""
    expected = expected_composition(host, defect)
    if Counter(atoms.get_chemical_symbols()) != expected:
        yield Problem(
            file, frame, "species", f"{formula(atoms.get_chemical_symbols())} instead of {formula(expected.elements())} for {defect.name}"
        )
    periodic = bool(np.isfinite(atoms.cell.array).all()) and abs(atoms.cell.volume) >= 1.0
    difference = np.abs(atoms.cell.array - host.cell.array).max()
    if not periodic:
        yield Problem(file, frame, "cell", "is missing or has no volume; it must be the host's")
    elif not difference <= CELL_TOLERANCE:
        yield Problem(file, frame, "cell", f"differs from the host's by up to {difference:.4g} Å")
    if not np.isfinite(atoms.positions).all():
        yield Problem(file, frame, "positions", "not finite")
    elif periodic and (short := shortest_distance(atoms)) < MIN_DISTANCE:
        yield Problem(file, frame, "positions", f"two atoms are {short:.3f} Å apart")


def check_starts(file: str, starts: Sequence[Atoms], host: Atoms, defect: Defect) -> Iterator[Problem]:
    """The start structures of one defect."""
    seen: dict[tuple[int, str], int] = {}
    order = starts[0].get_chemical_symbols() if starts else []
    for frame, atoms in enumerate(starts):
        yield from check_labels(file, frame, atoms, {"defect": defect.name})
        charge, configuration = atoms.info.get("charge"), atoms.info.get("configuration")
        if _is_whole(charge) and charge not in defect.charges:
            yield Problem(file, frame, "info.charge", f"{format_charge(charge)} is not a charge state of {defect.name}")
        if _is_whole(charge) and isinstance(configuration, str):
            if (charge, configuration) in seen:
                yield Problem(file, frame, "info.configuration", f"repeats frame {seen[charge, configuration]}")
            seen.setdefault((charge, configuration), frame)
        yield from check_structure(file, frame, atoms, host, defect)
        if len(atoms) == len(order) and atoms.get_chemical_symbols() != order:
            yield Problem(file, frame, "species", "atoms are in another order than in frame 0")


def check_frames(
    file: str,
    frames: Sequence[Atoms],
    host: Atoms,
    defect: Defect,
    charge: int,
    configuration: str,
    level: str,
    convergence: Convergence | None,
    start: Atoms | None,
) -> Iterator[Problem]:
    """The frames of one relaxation."""
    expected = {"defect": defect.name, "charge": charge, "configuration": configuration, "level_of_theory": level}
    last_step = -1
    seen: dict[bytes, int] = {}
    for index, atoms in enumerate(frames):
        yield from check_labels(file, index, atoms, expected)
        yield from check_structure(file, index, atoms, host, defect)
        yield from _check_spin(file, index, atoms, charge)
        yield from _check_results(file, index, atoms, convergence)
        step = atoms.info.get("step")
        if not _is_whole(step):
            yield Problem(file, index, "info.step", "is missing or not a whole number")
        elif step <= last_step:
            yield Problem(file, index, "info.step", f"{step} does not follow {last_step}; steps must ascend from 0")
        else:
            last_step = step
        if not isinstance(atoms.info.get("converged"), bool):
            yield Problem(file, index, "info.converged", "is missing or neither T nor F")
        elif atoms.info["converged"] and index < len(frames) - 1:
            yield Problem(file, index, "info.converged", "only the last frame of a relaxation can be converged")
        reference = start if start is not None else frames[0]
        if len(atoms) == len(reference) and atoms.get_chemical_symbols() != reference.get_chemical_symbols():
            yield Problem(file, index, "species", f"atoms are in another order than in {'the start' if start is not None else 'frame 0'}")
        elif index == 0 and _is_whole(step) and step == 0 and start is not None and len(atoms) == len(start):
            moved = float(np.linalg.norm(minimum_image(atoms.positions - start.positions, host.cell), axis=1).max())
            if moved > START_TOLERANCE:
                yield Problem(file, index, "positions", f"step 0 is {moved:.3f} Å from the start of this configuration")
        content = np.round(atoms.positions, 7).tobytes()
        if content in seen:
            yield Problem(file, index, "positions", f"the same structure as frame {seen[content]}")
        seen.setdefault(content, index)


def check_labels(file: str, frame: int, atoms: Atoms, expected: Mapping[str, Any]) -> Iterator[Problem]:
    """Defect, charge and configuration of a frame, and whatever else is expected of it: there, of the right type, and as expected."""
    for key in dict.fromkeys(("defect", "charge", "configuration", *expected)):
        value, field = atoms.info.get(key), f"info.{key}"
        if value is None:
            yield Problem(file, frame, field, "is missing")
        elif key == "charge" and not _is_whole(value):
            yield Problem(file, frame, field, f"'{_shown(value)}' is not a whole number")
        elif key != "charge" and not isinstance(value, str):
            yield Problem(file, frame, field, f"'{_shown(value)}' would be parsed as a number or a truth value; rename it")
        elif key == "configuration" and (problem := configuration_problem(value)) is not None:
            yield Problem(file, frame, field, f"'{_shown(value)}' {problem}")
        elif key in expected and value != expected[key]:
            yield Problem(file, frame, field, f"'{_shown(value)}' instead of '{expected[key]}'")


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: object) -> bool:
    """Whether a value is one finite number; what a file has for one may be text, a truth value or a list."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _shown(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:60]}…"


def _check_spin(file: str, frame: int, atoms: Atoms, charge: int) -> Iterator[Problem]:
    multiplicity = atoms.info.get("spin_multiplicity")
    if multiplicity is None:
        return
    electrons = int(sum(atomic_numbers[s] for s in atoms.get_chemical_symbols())) - charge
    if not _is_whole(multiplicity) or multiplicity < 1:
        yield Problem(file, frame, "info.spin_multiplicity", f"'{_shown(multiplicity)}' is not a positive whole number")
    elif (electrons + multiplicity) % 2 == 0:
        parity = "even" if electrons % 2 == 0 else "odd"
        yield Problem(file, frame, "info.spin_multiplicity", f"{multiplicity} is impossible for an {parity} number of electrons")


def _check_results(file: str, frame: int, atoms: Atoms, convergence: Convergence | None) -> Iterator[Problem]:
    results = stored_results(atoms)
    if "energy" not in results:
        yield Problem(file, frame, "energy", "is missing")
    elif not _is_finite(results["energy"]):
        yield Problem(file, frame, "energy", f"'{_shown(results['energy'])}' is not finite or not a number")
    if "forces" not in results:
        if convergence is not None:
            yield Problem(file, frame, "forces", "are missing, though the level of theory has a force criterion")
        return
    forces = np.asarray(results["forces"])
    if forces.shape != atoms.positions.shape or forces.dtype.kind not in "iuf":
        yield Problem(file, frame, "forces", "are not three numbers for each atom")
    elif not np.isfinite(forces).all():
        yield Problem(file, frame, "forces", "not finite")
    elif not len(forces):
        return  # the missing atoms are a problem of their own
    elif convergence is not None and atoms.info.get("converged") is True:
        largest = largest_force(forces, convergence)
        if largest > convergence.max_force * (1.0 + FORCE_TOLERANCE):
            yield Problem(
                file,
                frame,
                "info.converged",
                f"the largest force {convergence.quantity} is {largest:.4f} eV/Å, above the level's {convergence.max_force:g}",
            )


def largest_force(forces: NDArray[np.float64], convergence: Convergence) -> float:
    """The number that a convergence criterion is compared with, eV/Å."""
    return float(np.abs(forces).max() if convergence.quantity == "component" else np.linalg.norm(forces, axis=1).max())
