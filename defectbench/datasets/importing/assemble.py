"""Turns what an importer has read into a dataset folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from ase import Atoms
from pydantic import ValidationError

from defectbench.base.errors import DatasetError
from defectbench.base.files import plain_file
from defectbench.base.paths import full_path, user_path
from defectbench.base.states import ChargeState, configuration_problem, name_problem, sort_key
from defectbench.datasets import checks
from defectbench.datasets.alignment import Placement, apply, find_defect, ideal_structure, in_host_cell, order_on_host, place
from defectbench.datasets.dataset import RelaxationKey, StateKey
from defectbench.datasets.extxyz import attach_results, frame_file_name, read_extxyz, stored_results
from defectbench.datasets.schema import MAX_CHARGE, DatasetFile, Defect, Host, LevelOfTheory, explain
from defectbench.datasets.validation import validate_folder
from defectbench.datasets.vasp import MAX_BYTES, read_poscar
from defectbench.datasets.writing import destination_folder, write_dataset
from defectbench.structures.lattice import minimum_image
from defectbench.structures.symmetry import host_operations

NO_START = "no POSCAR: no start structure"
"""Why a configuration has no start."""
_DEFECT_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.,-]*$")
_CONVERGED_BY_DEFAULT = 0.03
"""eV/Å; the largest force below which an extxyz relaxation without a ``converged`` label counts as converged."""


@dataclass(frozen=True)
class Dropped:
    """Something that was not imported.

    Attributes:
        file: which file or folder.
        frame: index of the frame, from 0; None if it is the whole file.
        reason: why.
    """

    file: str
    frame: int | None
    reason: str

    def __str__(self) -> str:
        return f"{self.file}{'' if self.frame is None else f', frame {self.frame}'}: {self.reason}"


@dataclass(frozen=True)
class ImportReport:
    """What an import made.

    Attributes:
        path: the new dataset folder.
        metadata: its metadata.
        starts: number of start structures.
        relaxations: number of relaxations with a relaxed structure or frames.
        minima: number of those that count as converged.
        high_energy: number of ``*_High_Energy`` folders that were skipped.
        dropped: what was not imported, with reasons.
        notes: what was assumed.

    Example:
        >>> import tempfile, defectbench
        >>> dataset = defectbench.load_dataset("sb2se3-vacancies")
        >>> frames = dataset.path / "frames" / "PBE" / "V_Se2_q+2_Unperturbed.extxyz"
        >>> defectbench.import_dataset(frames, dataset.path / "host.extxyz", tempfile.mkdtemp() + "/mine", level="PBE")
        <import into .../mine: ... starts, 1 relaxations, 1 minima; 0 dropped, ... notes>
    """

    path: Path
    metadata: DatasetFile
    starts: int
    relaxations: int
    minima: int
    high_energy: int
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        made = f"{self.starts} starts, {self.relaxations} relaxations, {self.minima} minima"
        return f"<import into {self.path}: {made}; {len(self.dropped)} dropped, {len(self.notes)} notes>"


@dataclass
class _Item:
    """One configuration of one charge state, as found."""

    defect: str
    charge: int
    configuration: str
    source: str
    start: Atoms | None = None
    frames: list[Atoms] = field(default_factory=list)


@dataclass
class _Findings:
    items: list[_Item] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    high_energy: int = 0

    def drop(self, file: object, frame: int | None, reason: object) -> None:
        self.dropped.append(Dropped(str(file), frame, " ".join(str(reason).split())))


def read_host_file(path: str | Path) -> Atoms:
    """The perfect supercell from a POSCAR/CONTCAR, extxyz or any other file that ASE reads.

    Raises:
        DatasetError: no such file, or no periodic structure.
        DefectbenchError: no home folder is known for a leading ``~name``.
    """
    file = user_path(path)
    if not file.is_file():
        raise DatasetError(f"there is no host file {file}", code="no-file")
    if file.name.upper().startswith(("POSCAR", "CONTCAR", "SPOSCAR")) or file.suffix in (".vasp", ".poscar"):
        return read_poscar(file)
    if file.suffix in (".xyz", ".extxyz"):
        frames = read_extxyz(file)
        if abs(frames[-1].cell.volume) < 1.0:
            raise DatasetError(f"{file} contains no periodic structure", code="import-host")
        return Atoms(frames[-1].get_chemical_symbols(), positions=frames[-1].positions, cell=frames[-1].cell, pbc=True)
    from ase.io import read

    try:
        if file.suffix in (".bz2", ".xz"):  # ASE would unpack them, however large
            raise ValueError("unpack it first")
        with plain_file(file, MAX_BYTES) as plain:
            atoms = read(plain)
    except Exception as error:  # ASE raises anything on malformed text
        try:
            return read_poscar(file)  # under whatever name
        except DatasetError:
            pass
        raise DatasetError(
            f"cannot read a structure from {file}: {str(error).splitlines()[0] if str(error) else type(error).__name__}", code="bad-format"
        ) from error
    if isinstance(atoms, list) or not len(atoms) or abs(atoms.cell.volume) < 1.0:
        raise DatasetError(f"{file} contains no periodic structure", code="import-host")
    return Atoms(atoms.get_chemical_symbols(), positions=atoms.positions, cell=atoms.cell, pbc=True)


@dataclass(frozen=True)
class _Keys:
    charge: str
    energy: str
    forces: str
    defect: str
    configuration: str
    step: str
    converged: str
    default_defect: str | None


@dataclass(frozen=True)
class _Options:
    destination: str | Path
    dataset_id: str | None
    title: str
    level: str
    functional: str | None
    code: str | None
    licence: str
    overwrite: bool
    theory: LevelOfTheory | None = None
    """What the source says of the level besides its name."""


def _frames_of(path: Path, found: _Findings) -> list[Atoms]:
    try:
        return read_extxyz(user_path(path))
    except DatasetError as error:
        found.drop(path, None, error)
        return []


def _labels(atoms: Atoms, file: Path, index: int, keys: _Keys, found: _Findings) -> tuple[str, int, str] | None:
    name = atoms.info.get(keys.defect, keys.default_defect)
    if name is None:
        found.drop(file, index, f"has no info '{keys.defect}', and no name was given for all frames")
        return None
    value = atoms.info.get(keys.charge)
    if value is None:
        found.drop(file, index, f"has no info '{keys.charge}' (total charge)")
        return None
    try:
        charge = float("nan") if isinstance(value, bool | np.bool_) else float(value)
        if charge != round(charge):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        found.drop(file, index, f"info '{keys.charge}' is '{_text(value)}', no whole charge")
        return None
    if abs(charge) > MAX_CHARGE:
        found.drop(file, index, f"info '{keys.charge}' is '{_text(value)}', not from -{MAX_CHARGE} to {MAX_CHARGE}")
        return None
    return _text(name), round(charge), _text(atoms.info.get(keys.configuration, file.stem))


def _text(value: object) -> str:
    """A label as it was written, as far as labels read as numbers or truth values can be restored."""
    return " ".join(map(str, np.ravel(value))) if isinstance(value, np.ndarray | list) else str(value)


def _with_results(atoms: Atoms, file: object, index: int, keys: _Keys, found: _Findings) -> Atoms | None:
    """The bare frame with its energy and forces under the given keys; None if it has no energy."""
    stored = stored_results(atoms)  # ASE moves labels that it knows (energy, free_energy, forces) there
    energy = atoms.info.get(keys.energy, stored.get(keys.energy))
    forces = atoms.arrays.get(keys.forces, stored.get(keys.forces))
    unused = None if forces is not None else _other_forces(atoms)
    try:
        number = float(energy)  # type: ignore[arg-type]  # None and text are what the except clause is for
    except (TypeError, ValueError, OverflowError):
        found.drop(file, index, f"has no energy under '{keys.energy}'")
        return None
    if not np.isfinite(number):
        found.drop(file, index, "its energy is not finite")
        return None
    if forces is not None and (np.shape(forces) != atoms.positions.shape or np.asarray(forces).dtype.kind not in "iuf"):
        found.drop(file, index, f"'{keys.forces}' are not three numbers for each atom")
        return None
    if forces is not None and not np.isfinite(forces).all():
        found.drop(file, index, "its forces are not finite")
        return None
    frame = Atoms(atoms.get_chemical_symbols(), positions=atoms.positions, cell=atoms.cell, pbc=True)
    frame.info = {"_index": index, **{k: atoms.info[k] for k in (keys.step, keys.converged, "spin_multiplicity") if k in atoms.info}}
    if unused is not None:
        frame.info["_unused"] = unused
    return attach_results(frame, energy=number, forces=forces)


def _other_forces(atoms: Atoms) -> str | None:
    """The name of an array that looks like forces under another key; None if there is none."""
    arrays = {**atoms.arrays, **stored_results(atoms)}
    return next((name for name, value in arrays.items() if "force" in name.lower() and np.asarray(value).shape == (len(atoms), 3)), None)


def _settle_relaxation(item: _Item, keys: _Keys, max_force: float) -> int:
    """Gives every frame ``step`` and ``converged``; 1 if that the last one is converged had to be assumed."""
    if not item.frames:
        return 0
    steps = [frame.info.get(keys.step) for frame in item.frames]
    numbers = [step for step in steps if isinstance(step, int) and not isinstance(step, bool) and step >= 0]
    numbered = len(numbers) == len(steps) and numbers == sorted(set(numbers))
    last = item.frames[-1]
    label = last.info.get(keys.converged)
    forces = stored_results(last).get("forces")
    assumed = 0
    if label is not None:
        converged = str(label).lower() in ("true", "t", "1")
    elif forces is not None:
        converged = float(np.linalg.norm(forces, axis=1).max()) <= max_force
    elif "_unused" in last.info:
        converged = False  # there are forces, only not under this key
    else:
        converged, assumed = True, 1
    first = 0 if len(item.frames) > 1 and item.start is None else 1
    for index, frame in enumerate(item.frames):
        multiplicity = frame.info.get("spin_multiplicity")
        frame.info = {"_index": frame.info["_index"], "step": numbers[index] if numbered else index + first, "converged": False}
        if isinstance(multiplicity, int) and not isinstance(multiplicity, bool):
            frame.info["spin_multiplicity"] = multiplicity
    last.info["converged"] = converged
    return assumed


def _assemble(found: _Findings, host: str | Path | Atoms, options: _Options) -> ImportReport:
    perfect = host if isinstance(host, Atoms) else read_host_file(host)
    perfect = Atoms(perfect.get_chemical_symbols(), positions=np.round(perfect.positions, 8), cell=perfect.cell, pbc=True)
    destination = full_path(options.destination)
    try:
        known = {} if options.theory is None else options.theory.model_dump(exclude={"name", "functional", "code"})
        level = LevelOfTheory(name=options.level, functional=options.functional or options.level, code=options.code, **known)
    except ValidationError as error:
        raise DatasetError(f"the level of theory '{options.level}': {explain(error)[0][1]}", code="import-option") from error
    groups: dict[str, list[_Item]] = {}
    for item in found.items:
        if _DEFECT_NAME.match(item.defect) is None:
            found.drop(item.source, None, f"invalid defect name '{item.defect}': use letters, digits and _ . , - only")
        elif (problem := name_problem(item.defect)) is not None:
            found.drop(item.source, None, f"invalid defect name '{item.defect}': it {problem}; rename it")
        elif (problem := configuration_problem(item.configuration)) is not None:
            found.drop(
                item.source,
                None,
                f"invalid configuration name '{item.configuration}': it {problem}; rename the file, or label its frames otherwise",
            )
        else:
            groups.setdefault(item.defect, []).append(item)
    defects: list[Defect] = []
    starts: dict[StateKey, dict[str, Atoms]] = {}
    relaxations: dict[RelaxationKey, list[Atoms]] = {}
    moved = 0
    for name, items in groups.items():
        defect = _defect_of(name, items, perfect, found)
        if defect is None:
            continue
        kept: set[int] = set()
        for item in sorted(items, key=lambda i: (i.charge, sort_key(i.configuration))):
            start, frames, shifted = _place_item(item, perfect, defect, level, found)
            moved += shifted
            if start is not None:
                starts.setdefault((name, item.charge), {})[item.configuration] = start
            if frames:
                relaxations[level.name, name, item.charge, item.configuration] = frames
            if start is not None or frames:
                kept.add(item.charge)
            if frames and (away := _moved_defect(frames[-1], perfect, defect)) is not None:
                found.notes.append(
                    f"{ChargeState(name, item.charge)} {item.configuration}: the defect has moved {away:.2f} Å to another site; the local "
                    "RMSD is centred there if this is the ground state"
                )
        if not kept:
            continue
        defect = defect.model_copy(update={"charges": tuple(sorted(kept))})
        defects.append(defect)
        for charge in defect.charges:
            if (name, charge) not in starts:
                starts[name, charge] = {"Unperturbed": ideal_structure(perfect, defect)}
                found.notes.append(f"{ChargeState(name, charge)} has no start of its own; the ideal structure is its Unperturbed start")
    if moved:
        found.notes.append(f"{moved} structures had another origin than the host and were moved onto it")
    if not defects:
        dropped = sorted(found.dropped, key=lambda item: item.reason == NO_START)  # that is seldom why
        reasons = "; ".join(str(item) for item in dropped[:3])
        raise DatasetError(f"nothing could be imported: {reasons or 'no configurations were found'}", code="import-nothing")
    metadata = _metadata(options, destination, level, tuple(defects))
    written = write_dataset(
        destination, metadata, perfect, starts, relaxations, overwrite=options.overwrite, check=partial(_refuse_invalid, notes=found.notes)
    )
    return ImportReport(
        path=destination,
        metadata=written,
        starts=sum(len(named) for named in starts.values()),
        relaxations=len(relaxations),
        minima=sum(bool(frames[-1].info["converged"]) for frames in relaxations.values()),
        high_energy=found.high_energy,
        dropped=tuple(found.dropped),
        notes=tuple(found.notes),
    )


def _refuse_invalid(folder: Path, notes: list[str]) -> None:
    """Refuses what contradicts itself; numbers that cannot be true together are the user's own, and named in a note."""
    report = validate_folder(folder)
    if len(report.problems) > len(report.doubts):
        raise DatasetError(f"the imported data would not be a valid dataset: {report.problems[0]}", code=report.problems[0].code)
    notes += [f"cannot be right, please check: {doubt}" for doubt in report.doubts]


def _check_destination(destination: str | Path, overwrite: bool, sources: Sequence[str | Path], host: str | Path | Atoms) -> None:
    """Before anything is read: the dataset can be written, and what it is made of does not lie where it is written.

    Raises:
        DatasetError: not so.
    """
    folder = full_path(destination)
    given = [(path, "what is imported") for path in sources] + ([] if isinstance(host, Atoms) else [(host, "the host")])
    for path, what in given:
        if full_path(path).is_relative_to(folder):
            raise DatasetError(f"{path} ({what}) lies in the output folder {folder}; choose another output folder", code="would-lose-data")
    destination_folder(folder, overwrite=overwrite)


def _metadata(options: _Options, destination: Path, level: LevelOfTheory, defects: tuple[Defect, ...]) -> DatasetFile:
    name = options.dataset_id or re.sub(r"[^a-z0-9._-]+", "-", destination.name.lower()).strip("-._") or "imported"
    try:
        return DatasetFile(
            schema_version=1,
            id=name,
            title=options.title,
            licence=options.licence,
            host=Host(file="host.extxyz"),
            reference_level=level.name,
            levels=(level,),
            defects=defects,
            files={"host.extxyz": "0" * 64},
        )
    except ValidationError as error:
        where, message = explain(error)[0]
        raise DatasetError(f"{where}: {message}", code="import-option") from error


def _defect_of(name: str, items: list[_Item], host: Atoms, found: _Findings) -> Defect | None:
    """The defect, from the Unperturbed start, else any start, else a relaxed structure; rather from one whose origin is the host's."""
    charges = tuple(sorted({item.charge for item in items}))
    ordered = sorted(items, key=lambda i: (i.start is None, sort_key(i.configuration), abs(i.charge)))
    first: DatasetError | None = None
    from_elsewhere: Defect | None = None
    for item in ordered:
        for atoms in ([item.start] if item.start is not None else []) + item.frames[-1:]:
            try:
                defect, placement = find_defect(name, in_host_cell(atoms, host), host, charges)
                if not placement.shift.any():
                    return defect
                from_elsewhere = from_elsewhere or defect
            except DatasetError as error:
                first = first or error
            except ValidationError as error:
                first = first or DatasetError("; ".join(message for _, message in explain(error)))
    if from_elsewhere is None:
        for item in items:
            found.drop(item.source, None, first or "no structure")
    return from_elsewhere


def _place_item(item: _Item, host: Atoms, defect: Defect, level: LevelOfTheory, found: _Findings) -> tuple[Atoms | None, list[Atoms], int]:
    """Start and frames in the host's frame and order, as far as they can be used; and how many had to be moved."""
    start: Atoms | None = None
    placement: Placement | None = None
    moved = 0
    try:
        if (site := _carry_to_site(item, host, defect)) is not None:
            state = ChargeState(defect.name, item.charge)
            found.notes.append(f"{state} {item.configuration} has its defect on the equivalent host site {site}; carried to {defect.site}")
    except DatasetError as error:
        found.drop(item.source, None, error)
        return None, [], 0
    if item.start is not None:
        try:
            bare = in_host_cell(item.start, host)
            placement = place(bare, host, defect)
            start = apply(placement, bare, host, defect)
            for problem in checks.check_structure("start", 0, start, host, defect):
                raise DatasetError(f"{problem.field}: {problem.message}")
            moved += bool(np.abs(placement.shift).max() > 0)
        except DatasetError as error:
            found.drop(item.source, None, f"start: {error}")
            start, placement = None, None
    symbols = None if item.start is None else item.start.get_chemical_symbols()
    frames: list[Atoms] = []
    for atoms in item.frames:
        index = atoms.info.pop("_index", None)
        try:
            bare = in_host_cell(atoms, host)
            if placement is None or atoms.get_chemical_symbols() != symbols or not _near(bare, placement, host, defect):
                own = place(bare, host, defect)
                if placement is not None and atoms.get_chemical_symbols() == symbols:
                    own = Placement(own.shift, placement.order)  # atoms keep who they are from the start on
                moved += bool(np.abs(own.shift).max() > 0)
            else:
                own = placement
            frame = apply(own, bare, host, defect)
            frame.info = {**atoms.info, "defect": defect.name, "charge": item.charge, "configuration": item.configuration}
            frame.info["level_of_theory"] = level.name
            for problem in checks.check_structure(item.source, 0, frame, host, defect):
                raise DatasetError(f"{problem.field}: {problem.message}")
            stored = stored_results(atoms)
            forces = stored.get("forces")
            attach_results(frame, energy=stored["energy"], forces=None if forces is None else forces[own.order])
            if any(np.allclose(frame.positions, other.positions, rtol=0.0, atol=1e-7) for other in frames):
                last = frames[-1]
                if frame.info["converged"] and np.allclose(frame.positions, last.positions, rtol=0.0, atol=1e-7):
                    last.info["converged"] = True
                found.drop(item.source, index, "the same structure as an earlier frame of this relaxation")
                continue
            frames.append(frame)
        except DatasetError as error:
            found.drop(item.source, index, error)
    if frames and start is not None and frames[0].info["step"] == 0:
        distance = np.linalg.norm(minimum_image(frames[0].positions - start.positions, host.cell), axis=1).max()
        if distance > checks.START_TOLERANCE:
            for frame in frames:
                frame.info["step"] += 1
    file = frame_file_name(defect.name, item.charge, item.configuration)
    problems = list(checks.check_frames(file, frames, host, defect, item.charge, item.configuration, level.name, None, start))
    if problems:
        found.drop(item.source, problems[0].frame, f"{problems[0].field}: {problems[0].message}")
        frames = []
    return start, frames, moved


def _carry_to_site(item: _Item, host: Atoms, defect: Defect) -> int | None:
    """Carries start and frames to the dataset's site by a host operation, if the start has its defect on another one; that one, or None.

    Raises:
        DatasetError: no operation carries the one site to the other.
    """
    if item.start is None or defect.site is None:
        return None
    try:
        start = in_host_cell(item.start, host)
        own, placement = find_defect(defect.name, start, host, defect.charges)
    except DatasetError:
        return None  # the next step says what is wrong with it
    if own.site is None or own.site == defect.site or placement.shift.any():
        return None
    # a distorted start may look so, too: there, no site makes all displacements small
    here, there = (_largest_displacement(start, host, one) for one in (own, defect))
    if not (there > 1.5 and here < 0.5 * there):
        return None
    operations = host_operations(host)
    images = operations.images(host.positions[[own.site]])[:, 0]
    away = np.sqrt(operations.lattice.squared_distances(images, host.positions[[defect.site]])[:, 0])
    if away.min() > 0.1:
        raise DatasetError(
            f"its defect is on host site {own.site}, that of {defect.name} on {defect.site}, and no symmetry operation of the host carries "
            "one to the other; name the two differently",
            code="not-a-defect",
        )
    chosen = int(away.argmin())
    for atoms in (item.start, *item.frames):
        stored = stored_results(atoms)
        atoms.positions = operations.apply(chosen, in_host_cell(atoms, host).positions)
        atoms.cell = host.cell
        if (forces := stored.get("forces")) is not None:
            attach_results(atoms, energy=stored["energy"], forces=operations.apply(chosen, forces) - operations.apply(chosen, 0.0 * forces))
    return own.site


def _largest_displacement(atoms: Atoms, host: Atoms, defect: Defect) -> float:
    ideal = ideal_structure(host, defect)
    order = order_on_host(atoms.positions, atoms, host, defect)
    return float(np.linalg.norm(minimum_image(atoms.positions[order] - ideal.positions, host.cell), axis=1).max())


def _moved_defect(atoms: Atoms, host: Atoms, defect: Defect) -> float | None:
    """How far a vacancy or substitution is from its site after relaxation, Å; None if it is there, or not told."""
    if defect.site is None:
        return None
    try:
        site = find_defect(defect.name, atoms, host, defect.charges)[0].site
    except DatasetError:
        return None
    if site is None or site == defect.site:
        return None
    return float(np.linalg.norm(minimum_image(host.positions[[site]] - host.positions[[defect.site]], host.cell)))


def _near(atoms: Atoms, placement: Placement, host: Atoms, defect: Defect) -> bool:
    """Whether the start's placement holds for a later structure too: its atoms are still on the host."""
    ideal = ideal_structure(host, defect)
    moved = (atoms.positions + placement.shift)[placement.order]
    return float(np.median(np.linalg.norm(minimum_image(moved - ideal.positions, host.cell), axis=1))) < 0.5
