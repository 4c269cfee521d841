"""A loaded reference dataset: host, start structures, DFT frames and minima. Read-only; hands out copies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from defectbench.base.errors import DatasetError, UnknownNameError
from defectbench.base.states import configuration_problem, format_charge, sort_key
from defectbench.datasets import checks
from defectbench.datasets.alignment import find_defect, ideal_structure
from defectbench.datasets.extxyz import attach_results, copy_with_results, read_extxyz, read_host, stored_results
from defectbench.datasets.schema import Correction, DatasetFile, Defect, LevelOfTheory
from defectbench.structures.lattice import minimum_image

if TYPE_CHECKING:
    import pandas as pd

StateKey = tuple[str, int]
"""(defect, charge)."""
RelaxationKey = tuple[str, str, int, str]
"""(level of theory, defect, charge, configuration)."""


@dataclass(frozen=True, repr=False)
class ReferenceMinimum:
    """A configuration relaxed to convergence at one level of theory.

    Attributes:
        defect: e.g. ``V_Sb1``.
        charge: in units of +e.
        configuration: the start it was relaxed from.
        level: level of theory.
        atoms: relaxed structure, atoms in the order of the start; energy and, where the dataset has them, forces are attached.
        energy: total energy, eV.

    Example:
        >>> import defectbench
        >>> minimum = defectbench.load_dataset("sb2se3-vacancies").ground_state("V_Sb1", -3)
        >>> minimum, minimum.has_forces
        (<minimum of V_Sb1 −3 from ... at PBE: -12... eV>, True)
    """

    defect: str
    charge: int
    configuration: str
    level: str
    atoms: Atoms
    energy: float

    @property
    def has_forces(self) -> bool:
        """Whether ``atoms.get_forces()`` works."""
        return "forces" in stored_results(self.atoms)

    def __repr__(self) -> str:
        return f"<minimum of {self.defect} {format_charge(self.charge)} from {self.configuration} at {self.level}: {self.energy:.3f} eV>"


class Dataset:
    """A reference dataset, as :func:`~defectbench.datasets.catalogue.load_dataset` gives it.

    Relaxation frames are read from disk when they are asked for, and checked then.

    Attributes:
        id: its name.
        path: the dataset folder.
        metadata: content of ``dataset.yaml``; for a remote dataset completed by what its files hold (corrections, positions).
        sha256: identifies the content: over the canonical ``dataset.yaml`` and all files' hashes, wherever the folder lies.
        level: the level of theory whose ground states are the reference.
        defects: names of the defects.
        states: all (defect, charge), whether DFT exists or not.

    Example:
        >>> import defectbench
        >>> dataset = defectbench.load_dataset("sb2se3-vacancies")
        >>> dataset
        <dataset sb2se3-vacancies: PBE, 5 defects, 25 charge states>
        >>> dataset.defects
        ('V_Sb1', 'V_Sb2', 'V_Se1', 'V_Se2', 'V_Se3')
        >>> dataset.levels[0] == dataset.level, len(dataset.host)
        (True, 60)
    """

    def __init__(
        self,
        path: Path,
        metadata: DatasetFile,
        sha256: str,
        host: Atoms,
        starts: Mapping[StateKey, Mapping[str, Atoms]],
        relaxations: Mapping[RelaxationKey, Path | tuple[Atoms, ...]],
    ) -> None:
        """Called by the loader.

        Args:
            path: the dataset folder.
            metadata: complete metadata.
            sha256: see :func:`content_hash`.
            host: perfect supercell.
            starts: start structures by state and configuration.
            relaxations: frames, or the file that holds them, by level, state and configuration.

        Raises:
            DatasetError: a configuration has a name that would not come back as text from a file.
        """
        for configuration in sorted({name for named in starts.values() for name in named} | {key[3] for key in relaxations}):
            if (problem := configuration_problem(configuration)) is not None:
                raise DatasetError(f"dataset {path}: the configuration '{configuration}' {problem}", code="bad-name")
        self.id = metadata.id
        self.path = path
        self.metadata = metadata
        self.sha256 = sha256
        self.level = metadata.reference_level
        self.defects = tuple(defect.name for defect in metadata.defects)
        self.states: tuple[StateKey, ...] = tuple((defect.name, charge) for defect in metadata.defects for charge in defect.charges)
        self._host = host
        self._starts = {state: dict(sorted(named.items(), key=lambda item: sort_key(item[0]))) for state, named in starts.items()}
        self._relaxations = dict(relaxations)
        self._frames: dict[RelaxationKey, tuple[Atoms, ...]] = {}
        self._lasts: dict[tuple[str, int, str], dict[str, Atoms]] = {}
        self._host_indices: dict[str, NDArray[np.int64]] = {}

    def __repr__(self) -> str:
        return f"<dataset {self.id}: {self.level}, {len(self.defects)} defects, {len(self.states)} charge states>"

    def _repr_html_(self) -> str:
        from html import escape

        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{', '.join(map(format_charge, self.charges(name)))}</td>"
            f"<td>{sum(len(self._starts.get((name, charge), ())) for charge in self.charges(name))}</td></tr>"
            for name in self.defects
        )
        heading = f"<b>{escape(self.id)}</b> ({escape(self.level)}): {escape(self.metadata.title)}"
        return f"{heading}<table><tr><th>defect</th><th>charges</th><th>starts</th></tr>{rows}</table>"

    def to_frame(self, level: str | None = None) -> pd.DataFrame:
        """One row per charge state: defect, charge, starts, minima, ground_state (configuration) and its energy (eV).

        Args:
            level: of theory; default: the reference level.

        Raises:
            UnknownNameError: no such level.
            DatasetError: a file contradicts the dataset.

        Example:
            >>> import defectbench
            >>> dataset = defectbench.load_dataset("sb2se3-vacancies")
            >>> frame = dataset.to_frame("HSE06")
            >>> len(frame) == len(dataset.states), list(frame)[:3]
            (True, ['defect', 'charge', 'starts'])
        """
        import pandas as pd

        rows = []
        for defect, charge in self.states:
            minima, lowest = self.minima(defect, charge, level), self.ground_state(defect, charge, level)
            found = (None, None) if lowest is None else (lowest.configuration, lowest.energy)
            rows.append((defect, charge, len(self._starts.get((defect, charge), ())), len(minima), *found))
        return pd.DataFrame(rows, columns=["defect", "charge", "starts", "minima", "ground_state", "energy"])

    @property
    def host(self) -> Atoms:
        """A copy of the perfect supercell (reference level)."""
        host: Atoms = self._host.copy()
        return host

    def host_at(self, level: str | None = None) -> Atoms:
        """A copy of the perfect supercell as relaxed at a level of theory, or of :attr:`host` if the level has none of its own.

        Raises:
            UnknownNameError: no such level.
            DatasetError: its file is unreadable or contradicts the host.

        Example:
            >>> import defectbench
            >>> dataset = defectbench.load_dataset("sb2se3-vacancies")
            >>> dataset.host_at("HSE06").get_chemical_formula()
            'Sb24Se36'
        """
        file = self.metadata.level(level).relaxed_host
        if file is None:
            return self.host
        relaxed = read_host(self.path / file)
        checks.refuse(self.path, checks.check_relaxed_host(file, relaxed, self._host))
        return relaxed

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of all levels of theory, the reference level first."""
        others = [level.name for level in self.metadata.levels if level.name != self.level]
        return (self.level, *others)

    def defect(self, name: str) -> Defect:
        """What the metadata say of a defect.

        Raises:
            UnknownNameError: no such defect.

        Example:
            >>> import defectbench
            >>> dataset = defectbench.load_dataset("sb2se3-vacancies")
            >>> dataset.defect("V_Se2").kind
            'vacancy'
        """
        return self.metadata.defect(name)

    def level_of_theory(self, level: str | None = None) -> LevelOfTheory:
        """What the metadata say of a level of theory (default: the reference level).

        Raises:
            UnknownNameError: no such level.

        Example:
            >>> import defectbench
            >>> dataset = defectbench.load_dataset("sb2se3-vacancies")
            >>> dataset.level_of_theory().functional
            'PBE'
        """
        return self.metadata.level(level)

    def charges(self, defect: str) -> tuple[int, ...]:
        """Charge states of a defect, ascending.

        Raises:
            UnknownNameError: no such defect.

        Example:
            >>> import defectbench
            >>> dataset = defectbench.load_dataset("sb2se3-vacancies")
            >>> dataset.charges("V_Sb1")
            (-3, -2, -1, 0, 1)
        """
        return self.metadata.defect(defect).charges

    def correction(self, defect: str, charge: int, level: str | None = None) -> Correction | None:
        """Finite-size corrections of a charge state; None if they are not known.

        Raises:
            UnknownNameError: no such state or level.

        Example:
            >>> import defectbench
            >>> dataset = defectbench.load_dataset("sb2se3-vacancies")
            >>> dataset.correction("V_Sb1", -3).total > 0.0
            True
        """
        self._state(defect, charge)
        for correction in self.metadata.level(level).corrections:
            if (correction.defect, correction.charge) == (defect, charge):
                return correction
        return None

    def defect_position(self, defect: str, atoms: Atoms | None = None) -> NDArray[np.float64]:
        """Where the defect is: Cartesian position (3,) in the host's frame, Å. For a vacancy the empty host site.

        Args:
            defect: name.
            atoms: a relaxed structure, in which a vacancy or substitution may have moved to another site. Default: the starts.

        Raises:
            UnknownNameError: no such defect.

        Example:
            >>> import defectbench
            >>> dataset = defectbench.load_dataset("sb2se3-vacancies")
            >>> dataset.defect_position("V_Se2").shape
            (3,)
        """
        entry = self.metadata.defect(defect)
        if atoms is not None and entry.site is not None:
            with suppress(DatasetError):  # too far from the host to tell
                entry = find_defect(defect, atoms, self._host, entry.charges)[0]
        if entry.position is not None:
            return np.array(entry.position, dtype=float)
        if entry.site is None:
            raise DatasetError(f"dataset {self.path}: interstitial {defect} has no position", code="bad-metadata")
        return np.array(self._host.positions[entry.site], dtype=float)

    def host_indices(self, defect: str) -> NDArray[np.int64]:
        """For each atom of a start: the index of its host site, or −1 for an interstitial atom; shape (N,).

        The atom of a substitution has the index of the site it took. Sites are assigned by the least sum of squared distances
        within each element, from the ``Unperturbed`` start where there is one.

        Raises:
            UnknownNameError: no such defect.

        Example:
            >>> import defectbench
            >>> dataset = defectbench.load_dataset("sb2se3-vacancies")
            >>> len(dataset.host_indices("V_Se2")), 37 in dataset.host_indices("V_Se2")  # the empty site
            (59, False)
        """
        entry = self.metadata.defect(defect)
        if defect not in self._host_indices:
            self._host_indices[defect] = assign_host_sites(self._representative(defect), self._host, entry)
        return self._host_indices[defect].copy()

    def starts(self, defect: str, charge: int) -> dict[str, Atoms]:
        """Start structures by configuration, in plotting order; empty if the dataset has none.

        Raises:
            UnknownNameError: no such state.

        Example:
            >>> import defectbench
            >>> dataset = defectbench.load_dataset("sb2se3-vacancies")
            >>> list(dataset.starts("V_Sb1", -3))[:2]
            ['Unperturbed', 'Rattled']
        """
        self._state(defect, charge)
        return {name: atoms.copy() for name, atoms in self._starts.get((defect, charge), {}).items()}

    def configurations(self, defect: str, charge: int, level: str | None = None) -> tuple[str, ...]:
        """Configurations with frames or a minimum at a level of theory, finished or not, in plotting order.

        Raises:
            UnknownNameError: no such state or level.

        Example:
            >>> import defectbench
            >>> dataset = defectbench.load_dataset("sb2se3-vacancies")
            >>> dataset.configurations("V_Se2", 2)
            ('Unperturbed',)
        """
        self._state(defect, charge)
        name = self.metadata.level(level).name
        found = {key[3] for key in self._relaxations if key[:3] == (name, defect, charge)}
        return tuple(sorted(found, key=sort_key))

    def frames(self, defect: str, charge: int, configuration: str, level: str | None = None) -> list[Atoms]:
        """Frames of a relaxation that have energy and forces, step by step; of unfinished relaxations too.

        Empty if there is no such relaxation, or if the dataset has no forces for it.

        Raises:
            UnknownNameError: no such state or level.
            DatasetError: the file contradicts the dataset.

        Example:
            >>> import defectbench
            >>> dataset = defectbench.load_dataset("sb2se3-vacancies")
            >>> frames = dataset.frames("V_Se2", 2, "Unperturbed")
            >>> frames[0].get_forces().shape
            (59, 3)
        """
        self._state(defect, charge)
        key = (self.metadata.level(level).name, defect, charge, configuration)
        return [copy_with_results(atoms) for atoms in self._read(key) if {"energy", "forces"} <= set(stored_results(atoms))]

    def minima(self, defect: str, charge: int, level: str | None = None) -> dict[str, ReferenceMinimum]:
        """Converged minima by configuration, in plotting order.

        Raises:
            UnknownNameError: no such state or level.
            DatasetError: a file contradicts the dataset.

        Example:
            >>> import defectbench
            >>> dataset = defectbench.load_dataset("sb2se3-vacancies")
            >>> list(dataset.minima("V_Se2", 2))
            ['Unperturbed']
        """
        name = self.metadata.level(level).name
        lasts = self._converged(defect, charge, name)
        return {
            configuration: ReferenceMinimum(defect, charge, configuration, name, copy_with_results(last), _energy(last))
            for configuration, last in lasts.items()
        }

    def ground_state(self, defect: str, charge: int, level: str | None = None) -> ReferenceMinimum | None:
        """The lowest minimum of a charge state; None if there is none yet.

        Raises:
            UnknownNameError: no such state or level.
            DatasetError: a file contradicts the dataset.

        Example:
            >>> import defectbench
            >>> dataset = defectbench.load_dataset("sb2se3-vacancies")
            >>> dataset.ground_state("V_Se2", 2)
            <minimum of V_Se2 +2 from Unperturbed at PBE: ... eV>
        """
        name = self.metadata.level(level).name
        lasts = self._converged(defect, charge, name)
        if not lasts:
            return None
        configuration = min(lasts, key=lambda one: _energy(lasts[one]))
        last = lasts[configuration]
        return ReferenceMinimum(defect, charge, configuration, name, copy_with_results(last), _energy(last))

    def has_reference(self, defect: str, charge: int, level: str | None = None) -> bool:
        """Whether a charge state has a minimum at a level of theory (default: the reference level).

        Raises:
            UnknownNameError: no such state or level.

        Example:
            >>> import defectbench
            >>> dataset = defectbench.load_dataset("sb2se3-vacancies")
            >>> dataset.has_reference("V_Sb1", -3)
            True
        """
        return bool(self._converged(defect, charge, self.metadata.level(level).name))

    def states_without_reference(self, level: str | None = None) -> tuple[StateKey, ...]:
        """Charge states for which a level of theory has no minimum yet.

        Raises:
            UnknownNameError: no such level.

        Example:
            >>> import defectbench
            >>> dataset = defectbench.load_dataset("sb2se3-vacancies")
            >>> ("V_Sb1", -3) in dataset.states_without_reference("HSE06")
            True
        """
        return tuple(state for state in self.states if not self.has_reference(*state, level))

    def _converged(self, defect: str, charge: int, level: str) -> dict[str, Atoms]:
        """Last frames of converged relaxations by configuration, in plotting order: not copies."""
        key = (defect, charge, level)
        if key not in self._lasts:
            lasts = {c: self._last((level, defect, charge, c)) for c in self.configurations(defect, charge, level)}
            self._lasts[key] = {c: last for c, last in lasts.items() if last.info["converged"]}
        return self._lasts[key]

    def _state(self, defect: str, charge: int) -> None:
        charges = self.metadata.defect(defect).charges
        if charge not in charges:
            raise UnknownNameError(f"charge of {defect}", format_charge(charge), [format_charge(c) for c in charges])

    def _representative(self, defect: str) -> Atoms:
        """A structure whose atoms are in the order that all structures of the defect have, as near to the host as there is one."""
        states = [state for state in self.states if state[0] == defect]
        named = [self._starts.get(state, {}) for state in states]
        for starts in named:
            if "Unperturbed" in starts:
                return starts["Unperturbed"]
        for starts in named:
            for atoms in starts.values():
                return atoms
        for key in self._relaxations:
            if key[1] == defect:
                return self._read(key)[0]
        return ideal_structure(self._host, self.metadata.defect(defect), self.defect_position(defect))

    def _read(self, key: RelaxationKey) -> tuple[Atoms, ...]:
        if key not in self._frames:
            source = self._relaxations.get(key)
            if source is None:
                return ()
            frames = source if isinstance(source, tuple) else self._read_file(key, source)
            self._frames[key] = frames
        return self._frames[key]

    def _last(self, key: RelaxationKey) -> Atoms:
        """The last frame, alone where that can be checked alone: a relaxation has dozens, and most who ask want its end."""
        source = self._relaxations[key]
        if key not in self._frames and isinstance(source, Path) and self._start(key) is not None:
            frames = read_extxyz(source, last=True)
            if next(self._problems(key, source, frames), None) is None:
                return frames[0]
        return self._read(key)[-1]

    def _read_file(self, key: RelaxationKey, path: Path) -> tuple[Atoms, ...]:
        frames = read_extxyz(path)
        checks.refuse(self.path, self._problems(key, path, frames))
        return tuple(frames)

    def _start(self, key: RelaxationKey) -> Atoms | None:
        _, defect, charge, configuration = key
        return self._starts.get((defect, charge), {}).get(configuration)

    def _problems(self, key: RelaxationKey, path: Path, frames: Sequence[Atoms]) -> Iterator[checks.Problem]:
        level, defect, charge, configuration = key
        entry, theory = self.metadata.defect(defect), self.metadata.level(level)
        file = path.relative_to(self.path).as_posix()
        return checks.check_frames(file, frames, self._host, entry, charge, configuration, level, theory.convergence, self._start(key))


def _energy(atoms: Atoms) -> float:
    return float(stored_results(atoms)["energy"])


def assign_host_sites(atoms: Atoms, host: Atoms, defect: Defect) -> NDArray[np.int64]:
    """For each atom of a defective structure the index of its host site, −1 for an interstitial atom; shape (N,).

    Args:
        atoms: N atoms in the host's cell and frame.
        host: perfect supercell.
        defect: which site is empty or taken.

    Raises:
        DatasetError: the elements do not match.
    """
    from scipy.optimize import linear_sum_assignment

    sites = ideal_structure(host, defect, np.zeros(3) if defect.kind == "interstitial" else None)
    index = np.arange(len(host))
    if defect.kind == "vacancy":
        index = index[index != defect.site]
    elif defect.kind == "interstitial":
        sites = sites[: len(host)]
    symbols, site_symbols = np.array(atoms.get_chemical_symbols()), np.array(sites.get_chemical_symbols())
    out = np.full(len(atoms), -1, dtype=np.int64)
    for element in sorted(set(symbols)):
        mine, theirs = np.flatnonzero(symbols == element), np.flatnonzero(site_symbols == element)
        vectors = atoms.positions[mine][:, None, :] - sites.positions[theirs][None, :, :]
        cost = (minimum_image(vectors.reshape(-1, 3), host.cell) ** 2).sum(axis=1).reshape(len(mine), len(theirs))
        rows, columns = linear_sum_assignment(cost)
        out[mine[rows]] = index[theirs[columns]]
        extra = len(mine) - len(theirs)
        if extra != (1 if defect.kind == "interstitial" and element == defect.added else 0):
            raise DatasetError(f"{defect.name}: {len(mine)} {element} atoms cannot be placed on {len(theirs)} host sites")
    return out


__all__ = [
    "Dataset",
    "ReferenceMinimum",
    "assign_host_sites",
    "attach_results",
]
