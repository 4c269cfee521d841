"""Calculators that know the reference data, or cheat: the benchmark is run on them to see whether it can be fooled.

They run in the test's own process and, from a YAML beside a copy of this file, in a worker like any user's model.
"""

from __future__ import annotations

import zlib

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

import defectbench
from defectbench.structures.lattice import MatchingError
from defectbench.structures.matching import match
from defectbench.structures.symmetry import host_operations

SPRING = 4.0
"""eV/Å², towards the minimum that the oracle has in mind."""


def minimum_image(vectors, cell):
    fractional = vectors @ np.linalg.inv(cell)
    return (fractional - np.round(fractional)) @ cell


class _Base(Calculator):
    implemented_properties = ("energy", "forces")
    asked = False

    def get_property(self, *arguments, **options):
        self.asked = True
        try:
            return super().get_property(*arguments, **options)
        finally:
            self.asked = False

    def reset(self):
        super().reset()
        if not self.asked:  # ASE resets at every step, the worker before every calculation
            self.begin()

    def begin(self):
        """A new calculation begins."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        energy, forces = self.answer(atoms)
        self.results = {"energy": float(energy), "forces": np.asarray(forces, float)}


class Oracle(_Base):
    """Knows the reference data: DFT's energy and forces on its frames, and from every start DFT's way to where DFT ends.

    A start that DFT has not relaxed ends in the ground state. Off the frames a spring holds each atom to the minimum.

    ``charges`` maps a charge to another one whose data are given out instead.
    """

    def __init__(self, dataset="sb2se3-vacancies", charges=None):
        super().__init__()
        self.data = defectbench.load_dataset(dataset)
        self.charges = {int(k): int(v) for k, v in (charges or {}).items()}
        self.frames: dict[tuple, list] = {}
        self.starts: dict[tuple, list] = {}
        self.grounds: dict[tuple, list] = {}
        for defect, charge in self.data.states:
            if not self.data.has_reference(defect, charge):
                continue
            minima = self.data.minima(defect, charge)
            ground = self.data.ground_state(defect, charge)
            key = (tuple(ground.atoms.get_chemical_symbols()), charge)
            self.grounds.setdefault(key, []).append((ground.atoms.positions, ground.energy))
            for m in minima.values():
                forces = m.atoms.get_forces() if m.has_forces else np.zeros((len(m.atoms), 3))
                self.frames.setdefault(key, []).append((m.atoms.positions, m.energy, forces))
            for name in self.data.configurations(defect, charge):
                for frame in self.data.frames(defect, charge, name):
                    self.frames[key].append((frame.positions, frame.get_potential_energy(), frame.get_forces()))
            for name, start in self.data.starts(defect, charge).items():
                end = minima.get(name, ground)
                self.starts.setdefault(key, []).append((start.positions, (end.atoms.positions, end.energy)))
        self.operations = host_operations(self.data.host)
        self.target = None

    def begin(self):
        self.target = None

    def charge_of(self, atoms):
        charge = int(atoms.info.get("charge", 0))
        return self.charges.get(charge, charge)

    def answer(self, atoms):
        host = self.data.host
        if len(atoms) == len(host):
            apart = minimum_image(atoms.positions - host.positions, atoms.cell.array)
            return self._spring(self._host_energy(), apart)
        key = (tuple(atoms.get_chemical_symbols()), self.charge_of(atoms))
        doubled = atoms[: len(atoms) // 2]
        if key not in self.grounds and (tuple(doubled.get_chemical_symbols()), 0) in self.grounds:
            return self._doubled(atoms)
        cell = atoms.cell.array
        if self.target is None:
            ends = [end for start, end in self.starts.get(key, ()) if self._equal(start, atoms)]
            self.target = ends[0] if ends else self._nearest(atoms, key)
        for positions, energy, forces in self.frames.get(key, ()):
            if self._equal(positions, atoms):
                return energy, forces
        return self._spring(self.target[1], minimum_image(atoms.positions - self.target[0], cell))

    def _nearest(self, atoms, key):
        """The ground state (of any defect of this composition) that lies nearest, in the image and order that lie on these atoms."""
        best = (np.inf, (atoms.positions, 0.0))
        for positions, energy in self.grounds.get(key, ()):
            ground = atoms.copy()
            ground.positions = positions
            try:
                found = match(ground, atoms, self.operations)
            except MatchingError:
                continue
            if found.rmsd < best[0]:
                best = (found.rmsd, (atoms.positions + found.displacements, energy))
        return best[1]

    def _host_energy(self):
        energy = getattr(self.data.level_of_theory(), "host_energy", None)
        return 0.0 if energy is None else energy

    def _doubled(self, atoms):
        """One cell with the charge beside a neutral one, as far apart as the oracle cares."""
        n = len(atoms) // 2
        energy, forces = 0.0, []
        box = atoms.cell.array.copy()
        axis = int(np.argmax(atoms.cell.lengths() / self.data.host.cell.lengths()))
        box[axis] /= 2
        for part, charge in ((atoms[:n], self.charge_of(atoms)), (atoms[n:], 0)):
            part.set_cell(box)
            part.info["charge"] = charge
            self.target = None
            e, f = Oracle.answer(self, part)
            energy += e
            forces.append(f)
        return energy, np.vstack(forces)

    @staticmethod
    def _spring(energy, apart):
        return energy + 0.5 * SPRING * float((apart**2).sum()), -SPRING * apart

    @staticmethod
    def _equal(positions, atoms):
        return bool(np.abs(minimum_image(atoms.positions - positions, atoms.cell.array)).max() < 2e-5)


class HalfFails(Oracle):
    """An oracle whose relaxations fail for every second start, at their second step; the host's do not, and single points neither.

    With ``everything`` single points fail for every second structure too. Nothing fails before :meth:`certified` is called: a model
    that fails its certificate is not scored at all.
    """

    def __init__(self, everything=False, **arguments):
        self.started, self.count, self.first, self.everything = None, 0, None, everything
        super().__init__(**arguments)

    def certified(self):
        self.first = 1 if self.everything else 2

    def begin(self):
        super().begin()
        self.started, self.count = None, 0

    def answer(self, atoms):
        self.count += 1
        if self.started is None:
            self.started = atoms.positions.copy()
        unlucky = zlib.crc32(np.round(self.started, 4).tobytes()) % 2
        if unlucky and self.count == self.first and len(atoms) != len(self.data.host):
            raise RuntimeError("this one fails")
        return super().answer(atoms)


class Frozen(_Base):
    """No forces: every start is a minimum. With ``per_charge`` the energy moves with the charge, to look as if it heard it."""

    def __init__(self, per_charge=0.0, noise=0.0):
        super().__init__()
        self.per_charge, self.noise = per_charge, noise

    def answer(self, atoms):
        energy = self.per_charge * int(atoms.info.get("charge", 0))
        if self.noise:
            seed = zlib.crc32(np.round(atoms.positions, 4).tobytes())
            energy += np.random.default_rng(seed).normal(scale=self.noise)
        return energy, np.zeros((len(atoms), 3))


class RandomForces(_Base):
    """Forces and energies out of a hat. With ``calls`` it rests after so many, so that its relaxations converge anywhere."""

    def __init__(self, calls=0):
        super().__init__()
        self.calls, self.count = calls, 0
        self.generator = np.random.default_rng(1)

    def begin(self):
        self.count = 0

    def answer(self, atoms):
        self.count += 1
        rest = self.calls and self.count > self.calls
        scale = 0.0 if rest else 1.0
        return self.generator.normal(scale=0.3), scale * self.generator.normal(size=(len(atoms), 3))


def oracle(**arguments):
    return Oracle(**arguments)


def half_fails(**arguments):
    return HalfFails(**arguments)


def frozen(**arguments):
    return Frozen(**arguments)


def random_forces(**arguments):
    return RandomForces(**arguments)
