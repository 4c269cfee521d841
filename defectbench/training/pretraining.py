"""The optional first stage: distorted structures of the training set, labelled by a model that is cheap to run and knows no charge."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from defectbench.base.errors import RunError
from defectbench.base.files import write_text
from defectbench.base.yaml import to_yaml
from defectbench.calculations.client import WorkerClient, WorkerSpec
from defectbench.calculations.requests import Calculation, Structure
from defectbench.calculations.results import SinglePointResult
from defectbench.datasets.extxyz import attach_results, read_extxyz
from defectbench.models.environment import ensure_environment
from defectbench.models.registry import load_model
from defectbench.models.resolved import resolve_model
from defectbench.models.trust import require_trust
from defectbench.structures.lattice import shortest_distance
from defectbench.training.export import CHARGE_KEY, ENERGY_KEY, FORCES_KEY, TrainingFiles, atomic_energies, extxyz
from defectbench.training.mace_files import configuration
from defectbench.training.splits import Frame, Selection

if TYPE_CHECKING:
    from defectbench.datasets.dataset import Dataset
    from defectbench.training.recipe import Pretraining, Recipe

LABELS_FILE = "labels.xyz"
_MIN_DISTANCE = 1.6
"""Å: closer pairs than in any solid; their forces would rule the training."""
_EVERY = 20
"""One structure in this many validates."""


def distorted_structures(host: Atoms, frames: tuple[Frame, ...], settings: Pretraining, seed: int) -> list[tuple[Atoms, int]]:
    """Structures to label, with the charge under which their labels are trained: a charge-blind model's labels hold for every charge.

    One in four begins at the host, the others at training frames. Every atom is displaced at random, and the cell strained.

    Args:
        host: perfect supercell.
        frames: of the training set; none that validates or tests.
        settings: how many and how far.
        seed: the same seed gives the same structures.
    """
    random = np.random.default_rng(seed)
    out: list[tuple[Atoms, int]] = []
    while len(out) < settings.structures:
        frame = None if len(out) % 4 == 0 else frames[random.integers(len(frames))]
        base = host if frame is None else frame.atoms
        atoms = Atoms(base.get_chemical_symbols(), positions=base.positions, cell=base.cell, pbc=True)
        strain = random.uniform(-settings.strain, settings.strain, (3, 3))
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
        atoms.positions += random.normal(0.0, random.uniform(*settings.rattle), (len(atoms), 3))
        if shortest_distance(atoms) > _MIN_DISTANCE:
            out.append((atoms, 0 if frame is None else frame.charge))
    return out


def pretraining_files(
    dataset: Dataset, recipe: Recipe, selection: Selection, files: TrainingFiles, folder: Path, tell: Callable[[str], None]
) -> TrainingFiles:
    """Labels the structures, if that is not done yet, and writes the stage's training files.

    Args:
        dataset: for its host.
        recipe: with a pretraining.
        selection: frames of the main stage.
        files: of the main stage.
        folder: of the stage.
        tell: called with what is being done.

    Raises:
        ModelError: the model is not trusted.
        RunError: the model gave no label, or a file cannot be written.
    """
    settings = recipe.pretraining
    assert settings is not None
    place = folder / LABELS_FILE
    if not place.is_file():
        write_text(place, extxyz(_label(dataset, recipe, settings, selection, tell)))
    level = selection.levels[0]
    frames = []
    for atoms in read_extxyz(place):
        attach_results(atoms, energy=atoms.info[ENERGY_KEY], forces=atoms.arrays[FORCES_KEY])
        if np.abs(atoms.arrays[FORCES_KEY]).max() <= recipe.max_force:
            frames.append(Frame(atoms, level, "", atoms.info[CHARGE_KEY], ""))
    parts = {"train": [f for i, f in enumerate(frames) if i % _EVERY], "validation": frames[::_EVERY]}
    names = {use: f"{use}-{level}.xyz" for use in parts}
    digest = hashlib.sha256()
    for use, chosen in parts.items():
        text = extxyz([frame.atoms.copy() for frame in chosen])  # the labels are in info and arrays
        write_text(folder / names[use], text)
        digest.update(f"{names[use]}\0{text}\0".encode())
    # charge-blind labels: one constant for all charges
    neutral = tuple(Frame(frame.atoms, level, "", 0, "") for frame in parts["train"])
    energies = atomic_energies(Selection(neutral, (), (), selection.left_out, selection.splits), {level: None})[level]
    made = TrainingFiles(
        {level: names["train"]},
        {level: names["validation"]},
        digest.hexdigest(),
        {(level, use, 0): len(chosen) for use, chosen in parts.items()},
        {level: energies},
        files.charges,
    )
    write_text(folder / "mace.yaml", to_yaml(configuration(recipe, made, f"{recipe.id}-pretraining")))
    return made


def _label(dataset: Dataset, recipe: Recipe, settings: Pretraining, selection: Selection, tell: Callable[[str], None]) -> list[Atoms]:
    definition = load_model(settings.model)
    require_trust(definition)
    environment = ensure_environment(definition.environment, progress=tell)
    labelled = []
    with WorkerClient(WorkerSpec.of(environment, resolve_model(definition, environment=environment))) as worker:
        structures = distorted_structures(dataset.host, selection.train, settings, recipe.seed)
        for number, (atoms, charge) in enumerate(structures, 1):
            result = worker.calculate(Calculation("single_point", Structure.from_atoms(atoms), None))
            if not isinstance(result, SinglePointResult) or result.energy is None:
                continue
            atoms.info = {ENERGY_KEY: result.energy, CHARGE_KEY: int(charge)}
            atoms.arrays[FORCES_KEY] = np.array(result.forces, dtype=float)
            labelled.append(atoms)
            if number % 20 == 0:
                tell(f"labels of {settings.model}: {number} of {len(structures)}")
    if not labelled:
        raise RunError(f"{settings.model} gave no label for the pretraining; choose another model, or leave the pretraining out")
    return labelled
