"""Toy calculators that the tests evaluate as a user's own models: they run in a worker process, from a YAML beside this file's copy."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.io import read

BLUR = 0.05
"""eV; how softly one well goes over into the next, so that every relaxation converges."""


class Einstein(Calculator):
    """Every atom on a spring to the host sites nearby, in an orthorhombic cell; optionally counts, sleeps, breaks.

    ``fault`` is one of ``nan``, ``raise``, ``explode``, ``exit``; with ``hears``, ``info["charge"]`` moves the equilibrium sites,
    for as many calls per structure as it ``keeps`` it (0: always). ``log``
    names the folder of the file ``.calls``: the content of a folder is part of the model's identity, but for hidden files, and this one
    grows.
    """

    implemented_properties = ("energy", "forces")

    def __init__(
        self, host: str, *, spring: float = 2.0, fault: str = "", log: str = "", sleep: float = 0.0, hears: bool = False, keeps: int = 0
    ) -> None:
        super().__init__()
        atoms = read(host)
        self.sites = atoms.positions
        self.box = atoms.cell.lengths()
        self.keeps, self.asked = keeps, 0
        self.spring, self.fault, self.log, self.sleep, self.hears = spring, fault, log, sleep, hears

    def reset(self):
        super().reset()
        self.asked = 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.asked += 1
        if self.log:
            with (Path(self.log) / ".calls").open("a") as handle:
                handle.write("call\n")
        time.sleep(self.sleep)
        if self.fault == "exit":
            os._exit(7)
        if self.fault == "raise":
            raise ValueError("the toy is broken\nand says so on two lines")
        charge = int(atoms.info.get("charge", 0)) if self.hears and not 0 < self.keeps < self.asked else 0
        sites = self.sites + 0.1 * charge * np.cos(self.sites)
        apart = atoms.positions[:, None, :] - sites[None, :, :]
        apart -= self.box * np.round(apart / self.box)
        wells = -0.5 * self.spring * (apart**2).sum(axis=2) / BLUR
        lowest = wells.max(axis=1, keepdims=True)
        weights = np.exp(wells - lowest)
        total = weights.sum(axis=1, keepdims=True)
        energy = -BLUR * float((lowest + np.log(total)).sum()) + 0.3 * charge
        forces = -self.spring * np.einsum("ij,ijk->ik", weights / total, apart)
        if self.fault == "nan":
            energy = float("nan")
        if self.fault == "explode":
            forces = forces + 1e6
        self.results = {"energy": energy, "forces": forces}


def einstein(**arguments):
    return Einstein(**arguments)
