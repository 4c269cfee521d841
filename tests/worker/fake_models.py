"""Small calculators for the worker's tests; the worker imports this file from the folder of a model YAML."""

from __future__ import annotations

import itertools
import os
import pathlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

SPRING = 2.0


class Springs(Calculator):
    """Every pair closer than 4 Å is a spring of rest length 2.9 Å; a charge q adds energy and, if asked to, stiffens the springs.

    The calculator is honest: energy and forces belong together, are float64, and are recalculated whenever ASE asks.
    """

    implemented_properties = ("energy", "forces")

    def __init__(self, key="charge", energy_per_charge=0.0, stiffening=0.0, charge=None, per_atom=False, noisy=False):
        super().__init__()
        self.key, self.energy_per_charge, self.stiffening = key, energy_per_charge, stiffening
        self.charge, self.per_atom, self.noisy = charge, per_atom, noisy
        self.total_charge = None
        self.calls = 0
        self.parameters_count = 3

    def hears(self, atoms):
        if self.charge is not None:
            return self.charge
        if self.total_charge is not None:
            return self.total_charge
        return atoms.info.get(self.key, 0)

    def evaluate(self, atoms, charge):
        k = SPRING * (1.0 + self.stiffening * charge)
        cell = atoms.cell.array
        reach = list(itertools.product((-1, 0, 1), repeat=3))
        vectors = atoms.positions[None, :, :] - atoms.positions[:, None, :]
        energy, forces = 0.0, np.zeros((len(atoms), 3))
        for image in reach:
            shifted = vectors + np.array(image) @ cell
            length = np.sqrt((shifted**2).sum(-1))
            near = (length > 1e-9) & (length < 4.0)
            switch = np.where(near, (1 - (length / 4.0) ** 2) ** 2, 0.0)
            slope = np.where(near, -4 * (1 - (length / 4.0) ** 2) * length / 16.0, 0.0)
            stretch = length - 2.9
            energy += 0.25 * k * (switch * stretch**2).sum()
            pull = 0.5 * k * np.where(near, slope * stretch**2 + 2 * switch * stretch, 0.0)
            unit = np.divide(shifted, length[..., None], out=np.zeros_like(shifted), where=near[..., None])
            forces += (pull[..., None] * unit).sum(axis=1)
        energy += self.energy_per_charge * charge * (len(atoms) if self.per_atom else 1)
        return energy, forces

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        energy, forces = self.evaluate(atoms, self.hears(atoms))
        self.results = {"energy": float(energy), "forces": forces}

    def get_descriptors(self, atoms):
        distances = atoms.get_all_distances(mic=True) + 10 * np.eye(len(atoms))
        return np.stack([np.exp(-(distances**2)).sum(1), np.full(len(atoms), float(self.hears(atoms)))], axis=1)


class Stale(Springs):
    """Keeps its last result as long as the positions are the same: the charge is lost."""

    last = None

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        if self.last is not None and len(self.last[0]) == len(atoms) and np.array_equal(self.last[0], atoms.positions):
            self.results = dict(self.last[1])
            return
        super().calculate(atoms, properties, system_changes)
        self.last = (atoms.positions.copy(), dict(self.results))


class Lossy(Springs):
    """Loses its charge in one of some ways."""

    def __init__(self, way, **arguments):
        super().__init__(**arguments)
        self.way = way

    def reset(self):
        super().reset()
        self.calls = 0

    def hears(self, atoms):
        charge = super().hears(atoms)
        if self.way == "clamp":
            return min(max(charge, -1), 1)
        if self.way == "steps":
            return charge if self.calls <= 1 else 0
        return atoms.info.pop(self.key, 0)


class Misbehaving(Springs):
    """Does as usual a few times a structure, then misbehaves in the way that the charge stands for: one worker serves all tests."""

    WAYS = ("nan_energy", "nan_forces", "raise", "explode", "scatter", "collapse", "die", "exit", "hang")

    def __init__(self, after=2):
        super().__init__()
        self.after = after

    def reset(self):
        super().reset()
        self.calls = 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        calls = self.calls
        super().calculate(atoms, properties, system_changes)
        self.calls = calls + 1
        if self.calls <= self.after:
            return
        how = self.WAYS[atoms.info["charge"]]
        if how == "nan_energy":
            self.results["energy"] = float("nan")
        elif how == "nan_forces":
            self.results["forces"] = np.full((len(atoms), 3), np.nan)
        elif how == "raise":
            raise RuntimeError("out of cheese\nredo from start")
        elif how == "explode":
            self.results["energy"] = 1e6
        elif how == "scatter":
            self.results["forces"] = 1e3 * np.tile([1.0, 0.0, 0.0], (len(atoms), 1))
        elif how == "collapse":
            toward = atoms.positions[1] - atoms.positions[0]
            forces = np.zeros((len(atoms), 3))
            forces[0], forces[1] = toward * 100, -toward * 100
            self.results["forces"] = forces
        elif how == "die":
            print("last words before the crash", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
        elif how == "exit":
            os._exit(7)
        elif how == "hang":
            time.sleep(60)


class WrongForces(Springs):
    """Forces half as large as the gradient, and not the same in all directions."""

    def evaluate(self, atoms, charge):
        energy, forces = super().evaluate(atoms, charge)
        return energy, forces * np.array([0.5, 0.5, 2.0])


class Chatty(Springs):
    """Prints to stdout, from Python and below it."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        print('{"type": "result", "id": 1, "result": {}}', flush=True)
        os.write(1, b"written to file descriptor 1\n")
        super().calculate(atoms, properties, system_changes)


def springs(**arguments):
    return Springs(**arguments)


def stale(**arguments):
    return Stale(**arguments)


def lossy(**arguments):
    return Lossy(**arguments)


def misbehaving(**arguments):
    return Misbehaving(**arguments)


def wrong_forces():
    return WrongForces()


def chatty():
    print("hello from the factory", flush=True)
    return Chatty()


def with_weights(weights):
    return Springs(energy_per_charge=float(pathlib.Path(weights).read_text()))


def broken():
    raise ValueError("no such model")


def not_a_calculator():
    return object()


def with_child(note, **arguments):
    """Starts a process that holds all that it inherits, and notes its number."""
    child = subprocess.Popen(["sleep", "600"])
    Path(note).write_text(str(child.pid))
    return Misbehaving(**arguments)
