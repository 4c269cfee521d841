"""How the score falls with errors of a known size: synthetic models go through plan, results and scoring like any other.

``python scripts/score_under_noise.py`` prints the table of ``docs/scores.md`` and draws its figure. A synthetic model is DFT itself with
errors of one kind, or of several:

* geometry: every relaxed structure is displaced at random, by a given RMSD;
* energy: every structure has its own error, normally distributed, the same whenever it is asked for;
* forces: every component has its own error, normally distributed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import defectbench
from defectbench.calculations.plan import Plan, make_plan, select_states
from defectbench.calculations.requests import Calculation
from defectbench.calculations.results import RelaxationResult, Result, SinglePointResult, Stored
from defectbench.leaderboard.scores import Score, score_results
from defectbench.scoring.landscape import operations_of, reference_state
from defectbench.scoring.run import scoring_input
from defectbench.structures.matching import match
from defectbench.tasks import get_tasks

if TYPE_CHECKING:
    from ase import Atoms

    from defectbench.datasets.dataset import Dataset
    from defectbench.scoring.task import ScoringInput, Task

FIGURE = Path(__file__).parents[1] / "docs" / "images" / "score-under-noise"
SPRING = 4.0
"""eV/Å², holds structures that DFT has not calculated to the ground state: points of paths that are only asked for their minimum."""


@dataclass(frozen=True)
class Noise:
    """The errors of a synthetic model.

    Attributes:
        geometry: RMSD of relaxed structures, Å.
        energy: standard deviation, eV per cell.
        force: standard deviation of a component, eV/Å.
        seed: of the random numbers.
    """

    geometry: float = 0.0
    energy: float = 0.0
    force: float = 0.0
    seed: int = 0

    def generator(self, *key: object) -> np.random.Generator:
        """Random numbers that belong to a key: scaling the noise keeps its directions."""
        digest = hashlib.sha256(repr((self.seed, *key)).encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "little"))


PAPER = Noise(geometry=0.04, energy=0.01, force=0.02)
"""About what multi-fidelity potentials trained on such defects reach."""


@dataclass(frozen=True)
class Answer:
    """What DFT says of a structure: energy (eV), forces (N, 3), and which minimum it is, if it is one."""

    energy: float
    forces: np.ndarray
    minimum: str


class Bench:
    """A dataset, a selection of it, and DFT's answers to all that the tasks ask for.

    Args:
        defects: of the dataset ``sb2se3-vacancies``; all by default.
        tasks: by name; by default all that count.
        configurations: starts; by default all that DFT has relaxed.
    """

    def __init__(self, defects: list[str] | None = None, tasks: list[str] | None = None, configurations: list[str] | None = None) -> None:
        self.dataset: Dataset = defectbench.load_dataset("sb2se3-vacancies")
        self.tasks: tuple[Task, ...] = tuple(t for t in get_tasks(tasks) if t.weight > 0)
        wanted = set(configurations or ())
        states, skipped = select_states(self.dataset, defects=defects)
        relaxed = (
            replace(
                s,
                configurations=tuple(
                    c for c in s.configurations if c in self.dataset.minima(s.defect, s.charge) and (not wanted or c in wanted)
                ),
            )
            for s in states
        )
        self.plan: Plan = make_plan(self.dataset, tuple(s for s in relaxed if s.configurations), skipped, self.tasks, takes_charge=True)

    @cached_property
    def answers(self) -> dict[str, Answer]:
        """Content hash of a single point → DFT's answer."""
        known: dict[tuple[str, int], list[tuple[np.ndarray, Answer]]] = {}
        grounds: dict[tuple[str, int], tuple[Atoms, float]] = {}
        operations = operations_of(self.dataset)
        for defect, charge in self.dataset.states:
            found = reference_state(self.dataset, defect, charge, operations)
            if found is None:
                continue
            grounds[defect, charge] = (found.ground.atoms, found.ground.energy)
            here = known.setdefault((str(found.ground.atoms.symbols), charge), [])
            for name, minimum in found.minima.items():
                leader = found.distinct[found.membership[name]].configuration
                forces = minimum.atoms.get_forces() if minimum.has_forces else np.zeros((len(minimum.atoms), 3))
                here.append((minimum.atoms.positions, Answer(minimum.energy, forces, f"{defect} {charge} {leader}")))
            for level in self.dataset.levels[:1]:
                for name in self.dataset.configurations(defect, charge, level):
                    for i, frame in enumerate(self.dataset.frames(defect, charge, name, level)):
                        answer = Answer(frame.get_potential_energy(), frame.get_forces(), f"{defect} {charge} {name} {i}")
                        here.append((frame.positions, answer))
        out = {}
        for calculation in self.plan.calculations:
            if calculation.kind == "single_point":
                out[calculation.content_hash] = self._answer(calculation, known, grounds)
        return out

    def _answer(self, calculation: Calculation, known: Any, grounds: Any) -> Answer:
        atoms, charge = calculation.structure.to_atoms(), calculation.charge
        symbols = str(atoms.symbols)
        for positions, answer in known.get((symbols, charge), ()):
            if np.abs(positions - atoms.positions).max() < 1e-5:
                return answer
        operations = operations_of(self.dataset)
        candidates = [
            (match(atoms, ground, operations), energy)
            for (_, q), (ground, energy) in grounds.items()
            if q == charge and str(ground.symbols) == symbols
        ]
        found, energy = min(candidates, key=lambda item: item[0].rmsd)
        apart = found.displacements
        return Answer(energy + 0.5 * SPRING * float((apart**2).sum()), np.zeros_like(apart), calculation.content_hash)

    def scoring(self, noise: Noise) -> ScoringInput:
        """What the tasks score of a synthetic model."""
        results: dict[str, Stored] = {}
        for (defect, charge, name), calculation in self.plan.relaxations.items():
            found = self._reference(defect, charge)
            minimum = found.minima[name]
            leader = found.distinct[found.membership[name]].configuration
            energy = minimum.energy + noise.energy * noise.generator("energy", f"{defect} {charge} {leader}").normal()
            positions = minimum.atoms.positions
            if noise.geometry:
                direction = noise.generator("geometry", defect, charge, name).normal(size=positions.shape)
                direction -= direction.mean(axis=0)
                positions = positions + noise.geometry * direction / np.sqrt((direction**2).sum() / len(direction))
            results[calculation.content_hash] = Stored(_relaxation(positions, energy))
        for calculation in self.plan.host.values():
            results[calculation.content_hash] = Stored(_relaxation(self.dataset.host.positions, 0.0))
        for calculation in self.plan.calculations:
            if calculation.kind == "single_point":
                answer = self.answers[calculation.content_hash]
                forces = answer.forces + noise.force * noise.generator("forces", calculation.content_hash).normal(size=answer.forces.shape)
                energy = answer.energy + noise.energy * noise.generator("energy", answer.minimum).normal()
                results[calculation.content_hash] = Stored(SinglePointResult(status="ok", energy=energy, forces=forces.tolist()))
        return scoring_input(
            self.dataset, self.plan, "charge-aware", results, certificate={"charge_class": "charge-aware", "size_ratio": 1.0}
        )

    @cache  # noqa: B019  (one bench lives as long as the process)
    def _reference(self, defect: str, charge: int) -> Any:
        return reference_state(self.dataset, defect, charge, operations_of(self.dataset))

    @cache  # noqa: B019
    def _scored(self, task: str, noise: Noise) -> Any:
        return next(t for t in self.tasks if t.name == task).score(self.scoring(noise))

    def score(self, noise: Noise) -> Score:
        """The score of a synthetic model; a task whose answers a kind of noise does not change is scored once."""
        return score_results({task.name: self._scored(task.name, _seen(task.name, noise)) for task in self.tasks})


def _seen(task: str, noise: Noise) -> Noise:
    """The noise as far as a task's calculations have it."""
    seen = replace(
        noise,
        geometry=0.0 if task in ("parity", "ccd") else noise.geometry,
        force=noise.force if task in ("parity", "charge_response") else 0.0,
    )
    return Noise() if (seen.geometry, seen.energy, seen.force) == (0.0, 0.0, 0.0) else seen


def _relaxation(positions: np.ndarray, energy: float) -> Result:
    return RelaxationResult(
        status="converged",
        positions=positions.tolist(),
        energy=energy,
        forces=np.zeros_like(positions).tolist(),
        energies=[energy],
        fmax=[0.0],
        steps=0,
    )


TARGETS: tuple[tuple[str, tuple[Noise, ...], str, float], ...] = (
    ("none", (Noise(),), "at least", 0.97),
    ("0.04 Å, 10 meV per cell, 0.02 eV/Å", (PAPER,), "at least", 0.9),
    ("geometry 0.2 Å", (Noise(geometry=0.2),), "at most", 0.4),
    ("energy 100 meV per cell", tuple(Noise(energy=0.1, seed=seed) for seed in range(5)), "at most", 0.6),
    ("forces 0.3 eV/Å", (Noise(force=0.3),), "at most", 0.8),
)
"""What synthetic models must score: label, noise (the mean over several), and the bound."""

GEOMETRY = tuple(round(0.02 * i, 3) for i in range(13))
ENERGY = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2)
FORCE = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)
SEEDS = 5
"""Of the energies, whose errors are few: one per minimum."""


def mean_score(bench: Bench, noises: tuple[Noise, ...]) -> float:
    """Mean overall score of synthetic models."""
    return float(np.mean([bench.score(noise).overall or 0.0 for noise in noises]))


def curves(bench: Bench) -> dict[str, tuple[tuple[float, ...], list[float]]]:
    """Kind of noise → sizes and mean scores."""
    return {
        "geometry noise (RMSD, Å)": (GEOMETRY, [mean_score(bench, (Noise(geometry=x),)) for x in GEOMETRY]),
        "energy noise (eV per cell)": (ENERGY, [mean_score(bench, tuple(Noise(energy=x, seed=s) for s in range(SEEDS))) for x in ENERGY]),
        "force noise (eV/Å)": (FORCE, [mean_score(bench, (Noise(force=x),)) for x in FORCE]),
    }


def draw(found: dict[str, tuple[tuple[float, ...], list[float]]], source: str, stem: Path) -> list[Path]:
    """Draws the curves side by side, with a line that says of what; returns the files."""
    from defectbench.plotting import style

    with style.figure(style.PAGE_WIDTH, 2.6) as made:
        panels = made.subplots(1, len(found), sharey=True)
        for axes, (label, (sizes, scores)) in zip(panels, found.items(), strict=True):
            axes.plot(sizes, scores, marker="o", markersize=3.0, color=style.COLOURS["model"])
            axes.set(xlabel=label, ylim=(0.0, 1.02))
            axes.grid(alpha=0.3)
        panels[0].set_ylabel("overall score")
        style.headline(made, "The score falls smoothly with each kind of error.", source)
        return style.save(made, stem.parent, stem.name)


def table(bench: Bench) -> str:
    """The table of targets, in Markdown."""
    rows = [f"| {label} | {mean_score(bench, noises):.2f} | {bound} {value:g} |" for label, noises, bound, value in TARGETS]
    return "\n".join(["| errors | score | must be |", "|---|---:|---|", *rows])


def steepest(bench: Bench) -> str:
    """Where between 0.02 and 0.18 Å of geometry noise the score falls fastest, on a grid of 5 mÅ."""
    sizes = [round(0.005 * i, 3) for i in range(4, 37)]
    scores = [mean_score(bench, (Noise(geometry=size),)) for size in sizes]
    fall, size = max((first - second, size) for size, first, second in zip(sizes, scores, scores[1:], strict=False))
    return f"The score falls fastest at {size:g} Å, by {fall:.3f} per 5 mÅ. The aim is at most 0.03."


def main() -> None:
    """Prints the table and the steepest fall, and draws the figure."""
    bench = Bench()
    print(table(bench), flush=True)
    print(steepest(bench), flush=True)
    source = f"{bench.dataset.id}, {bench.dataset.level}, synthetic models; each point of the energies is a mean over {SEEDS} seeds"
    for path in draw(curves(bench), source, FIGURE):
        print(path)


if __name__ == "__main__":
    main()
