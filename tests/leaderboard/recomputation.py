"""Every published metric a second time, from an entry's stored calculations and the files of its dataset.

Written from the definitions in ``docs/metrics.md``, ``docs/thermodynamics.md`` and the ``metrics.yaml`` of the tasks, and sharing no code
with the package: numpy, scipy, ase and spglib only. Plain loops instead of speed.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import spglib
import yaml
from ase import Atoms
from ase.io import read
from scipy.optimize import linear_sum_assignment

MATCH = 0.1  # Å: one minimum, one basin
SAME_ENERGY = 0.02  # eV: one minimum; what a failed relaxation may lie below; ground states, where a dataset states no uncertainty
SHARED = 0.01  # eV: shares of a model's ground state; ties
LOCAL = 5.0  # Å


# ---------------------------------------------------------------------------------------------------------------- distances


class Matcher:
    """RMSDs as defined: the least over host operations, permutations within species and translations."""

    def __init__(self, host: Atoms, site: np.ndarray) -> None:
        self.host, self.site = host, site
        self.cell = host.cell.array
        symmetry = spglib.get_symmetry((self.cell, host.get_scaled_positions(), host.numbers), symprec=0.01)
        self.operations = list(zip(symmetry["rotations"], symmetry["translations"], strict=True))
        assert np.allclose(self.cell, np.diag(self.cell.diagonal())), "an orthorhombic cell: minimum images axis by axis"
        self.lengths = self.cell.diagonal()

    def image(self, vectors: np.ndarray) -> np.ndarray:
        return vectors - self.lengths * np.round(vectors / self.lengths)

    def images(self, positions: np.ndarray) -> list[np.ndarray]:
        """The structure under every operation of the host."""
        scaled = positions / self.lengths
        return [(scaled @ rotation.T + shift) * self.lengths for rotation, shift in self.operations]

    def assign(self, x: np.ndarray, y: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """For each atom of y the index of its atom of x."""
        out = np.empty(len(y), dtype=int)
        for number in set(numbers.tolist()):
            own = np.flatnonzero(numbers == number)
            squares = (self.image(x[own][None] - y[own][:, None]) ** 2).sum(-1)
            rows, columns = linear_sum_assignment(squares)
            out[own[rows]] = own[columns]
        return out

    def settle(self, x: np.ndarray, y: np.ndarray, numbers: np.ndarray) -> tuple[float, np.ndarray]:
        """Permutation and translation by turns until neither changes; the RMSD and the differences of the atoms of y."""
        shift, last = np.zeros(3), np.inf
        while True:
            order = self.assign(x + shift, y, numbers)
            difference = self.image(x[order] + shift - y)
            mean = difference.mean(0)
            difference, shift = difference - mean, shift - mean
            rmsd = float(np.sqrt((difference**2).sum(-1).mean()))
            if rmsd > last - 1e-9:
                return rmsd, difference
            last = rmsd

    def near_operations(self, x: np.ndarray, y: np.ndarray, numbers: np.ndarray) -> list[np.ndarray]:
        """The images of x that a permutation may bring nearest to y, the most promising first."""
        images = np.array(self.images(x))
        total = np.zeros(len(images))
        for number in set(numbers.tolist()):
            own = numbers == number
            squares = (self.image(images[:, own][:, None] - y[own][None, :, None]) ** 2).sum(-1)
            total += squares.min(2).sum(1)
        # no permutation is better than every atom's nearest neighbour; the translation still to come gains little
        bounds = np.sqrt(total / len(y))
        return [images[i] for i in np.argsort(bounds) if bounds[i] <= bounds.min() + 0.1]

    def match(self, x: np.ndarray, y: np.ndarray, numbers: np.ndarray) -> tuple[float, float, float]:
        """RMSD, local RMSD and largest displacement of candidate x and reference y."""
        results = [(*self.settle(image, y, numbers), image) for image in self.near_operations(x, y, numbers)]
        best = min(results, key=lambda result: result[0])
        if best[0] > MATCH:  # an atom that is assigned to another image shifts the best translation by a lattice vector over N
            for axis in range(3):
                for sign in (1, -1):
                    shift = sign * np.eye(3)[axis] * self.lengths[axis] / len(y)
                    best = min(best, (*self.settle(best[2] + shift, y, numbers), best[2]), key=lambda result: result[0])
        return self.measures(best[1], y)

    def measures(self, difference: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
        lengths = np.sqrt((difference**2).sum(-1))
        near = np.sqrt((self.image(y - self.site) ** 2).sum(-1)) <= LOCAL
        return float(np.sqrt((lengths**2).mean())), float(np.sqrt((lengths[near] ** 2).mean())), float(lengths.max())


def closeness(distance: float) -> float:
    return min(max((0.18 - distance) / 0.16, 0.0), 1.0)


def energy_reproduced(error: float, near: float) -> float:
    value = max(1 - abs(error) / 0.05, -1.0)
    return value * near if value > 0 else value


# --------------------------------------------------------------------------------------------------------------------- data


@dataclass
class Minimum:
    """A DFT minimum, or a converged relaxation of a model."""

    configuration: str
    energy: float
    positions: np.ndarray


@dataclass
class Candidate:
    """What the model made of one start."""

    configuration: str
    status: str
    energy: float | None
    positions: np.ndarray
    result: dict
    found: float = 0.0
    """How near DFT's ground state, plain."""
    host_found: float = 0.0
    """The same with the drift of the model's host subtracted."""
    plain: list[tuple[float, float, float]] = field(default_factory=list)
    """RMSD, local RMSD and largest displacement to each distinct DFT minimum."""
    referenced: list[tuple[float, float, float]] = field(default_factory=list)


@dataclass
class State:
    """One charge state: DFT's minima and the model's."""

    defect: str
    charge: int
    numbers: np.ndarray
    matcher: Matcher
    dft: dict[str, Minimum]
    """Converged DFT relaxations by configuration."""
    distinct: list[Minimum]
    """Distinct minima, lowest first."""
    ground: list[int]
    """Which of them count as ground states."""
    candidates: list[Candidate]
    start: np.ndarray

    @property
    def converged(self) -> list[Candidate]:
        return sorted((c for c in self.candidates if c.status == "converged"), key=lambda c: c.energy or 0)

    @property
    def established(self) -> bool:
        done = self.converged
        lost = [c for c in self.candidates if c.status != "converged"]
        if not done or len(done) < 2 / 3 * len(self.candidates):
            return False
        return all(c.energy is None or c.energy >= done[0].energy - SAME_ENERGY for c in lost)

    @property
    def shares(self) -> list[tuple[float, Candidate]]:
        """The configurations that share the model's ground state; none if it is not established."""
        if not self.established:
            return []
        done = self.converged
        weights = {c.configuration: float(np.exp(-(c.energy - done[0].energy) / SHARED)) for c in done}
        kept = [c for c in done if weights[c.configuration] > 1e-3]
        return [(weights[c.configuration] / sum(weights[k.configuration] for k in kept), c) for c in kept]

    def index(self, configuration: str) -> int:
        """The distinct minimum that DFT reaches from a start."""
        own = self.dft[configuration]
        rmsds = [0.0 if own is m else self.matcher.match(own.positions, m.positions, self.numbers)[0] for m in self.distinct]
        same = [i for i, m in enumerate(self.distinct) if rmsds[i] <= MATCH and abs(m.energy - own.energy) <= SAME_ENERGY]
        return same[0]


def minimum_shares(distances: list[float]) -> np.ndarray:
    """Of a structure among the DFT minima at these distances: by distance to the power -4."""
    d = np.maximum(np.array(distances), 1e-9)
    weights = (d.min() / d) ** 4
    return weights / weights.sum()


def separate(minima: list, matcher: Matcher, numbers: np.ndarray) -> list:
    """Distinct minima, lowest first: one minimum is an RMSD of at most 0.1 Å and energies within 0.02 eV."""
    out: list = []
    for one in sorted(minima, key=lambda m: m.energy):
        if not any(
            abs(one.energy - other.energy) <= SAME_ENERGY and matcher.match(one.positions, other.positions, numbers)[0] <= MATCH
            for other in out
        ):
            out.append(one)
    return out


class Recomputation:
    """The metrics of one entry. Every public method gives those of the task of its name."""

    def __init__(self, entry: Path, dataset: Path) -> None:
        self.entry = json.loads((entry / "entry.json").read_text())
        with gzip.open(entry / "calculations.json.gz", "rt") as file:
            self.results = json.load(file)["results"]
        self.dataset = dataset
        self.meta = yaml.safe_load((dataset / "dataset.yaml").read_text())
        self.level = next(level for level in self.meta["levels"] if level["name"] == self.meta["reference_level"])
        self.defects = {d["name"]: d for d in self.meta["defects"]}
        self.host: Atoms = read(dataset / (self.level.get("relaxed_host") or self.meta["host"]["file"]))
        self.ideal: Atoms = read(dataset / self.meta["host"]["file"])
        self.takes_charge = self.entry["model"]["charge"] != "none"
        self.charge_class = self.entry["certificate"]["charge_class"]

    # -- stored calculations

    def content(self, kind: str, atoms: Atoms, charge: int, options: dict | None = None) -> str:
        """The name under which a calculation is stored: the SHA-256 of what was asked."""
        structure = {
            "symbols": atoms.get_chemical_symbols(),
            "positions": np.round(atoms.positions, 10).tolist(),
            "cell": np.round(atoms.cell.array, 10).tolist(),
        }
        request = {"kind": kind, "structure": structure, "charge": charge if self.takes_charge else None}
        if options:
            request["options"] = options
        return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()

    def single_point(self, atoms: Atoms, charge: int) -> dict | None:
        stored = self.results.get(self.content("single_point", atoms, charge))
        return stored["result"] if stored and stored["result"]["status"] == "ok" else None

    def frames(self, defect: str, charge: int, level: str | None = None) -> dict[str, list[Atoms]]:
        folder = self.dataset / "frames" / (level or self.level["name"])
        paths = sorted(folder.glob(f"{defect}_q{charge:+d}_*.extxyz"))
        return {p.stem.split(f"q{charge:+d}_", 1)[1]: read(p, ":") for p in paths}

    def energy_uncertainty(self) -> float:
        stated = (self.level.get("uncertainty") or {}).get("energy")
        return SAME_ENERGY if stated is None else float(stated)

    @cached_property
    def starts(self) -> dict[tuple[str, int, str], Atoms]:
        out = {}
        for path in sorted((self.dataset / "starts").glob("*.extxyz")):
            for atoms in read(path, ":"):
                out[str(atoms.info["defect"]), int(atoms.info["charge"]), str(atoms.info["configuration"])] = atoms
        return out

    # -- charge states

    @cached_property
    def matchers(self) -> dict[str, Matcher]:
        return {name: Matcher(self.ideal, np.array(d["position"])) for name, d in self.defects.items()}

    def host_relaxation(self, start: str) -> dict:
        row = next(h for h in self.entry["host"] if h["start"] == start)
        return self.results[row["content_hash"]]["result"]

    @cached_property
    def drift(self) -> np.ndarray | None:
        """How the model's own host lies off DFT's, atom by atom, without its mean; None if it did not converge."""
        own_host = self.host_relaxation("Unperturbed")
        if own_host["status"] != "converged":
            return None
        own = np.array(own_host["positions"])
        matcher = next(iter(self.matchers.values()))
        best = min(
            (matcher.settle(image, self.host.positions, self.host.numbers) for image in matcher.images(own)), key=lambda pair: pair[0]
        )
        return best[1]

    def without_drift(self, positions: np.ndarray, numbers: np.ndarray, matcher: Matcher) -> list[np.ndarray]:
        """The structure less the drift at each atom's nearest displaced host site, for each orientation of the drift."""
        assert self.drift is not None
        out: list[np.ndarray] = []
        seen: list[np.ndarray] = []
        for rotation, shift in matcher.operations:
            sites = (self.host.positions / matcher.lengths @ rotation.T + shift) * matcher.lengths
            order = matcher.assign(sites, self.host.positions, self.host.numbers)
            turned = (self.drift / matcher.lengths @ rotation.T * matcher.lengths)[order]
            if any(np.abs(turned - other).max() < 1e-3 for other in seen):
                continue
            seen.append(turned)
            displaced = self.host.positions + turned
            # the origin of the structure is not that of the host: lay it there first
            shifted = positions - self.offset(positions, numbers, displaced, matcher)
            nearest = (matcher.image(shifted[:, None] - displaced[None]) ** 2).sum(-1).argmin(1)
            out.append(positions - turned[nearest])
        return out

    def offset(self, positions: np.ndarray, numbers: np.ndarray, sites: np.ndarray, matcher: Matcher) -> np.ndarray:
        """The mean difference of the atoms and their sites."""
        shift = np.zeros(3)
        for _ in range(5):
            differences = []
            for number in set(numbers.tolist()):
                x, y = positions[numbers == number] - shift, sites[self.host.numbers == number]
                rows, columns = linear_sum_assignment((matcher.image(x[:, None] - y[None]) ** 2).sum(-1))
                differences.append(matcher.image(x[rows] - y[columns]))
            step = np.concatenate(differences).mean(0)
            shift = shift + step
            if np.abs(step).max() < 1e-9:
                break
        return shift

    @cached_property
    def states(self) -> list[State]:
        out = []
        for chosen in self.entry["selection"]["states"]:
            defect, charge = chosen["defect"], chosen["charge"]
            matcher = self.matchers[defect]
            dft = {}
            for name, frames in self.frames(defect, charge).items():
                if frames[-1].info["converged"] and not name.startswith(("Path_", "Start_")):
                    dft[name] = Minimum(name, frames[-1].get_potential_energy(), frames[-1].positions)
                    numbers = frames[-1].numbers
            distinct = separate(list(dft.values()), matcher, numbers)
            ground = [i for i, m in enumerate(distinct) if m.energy - distinct[0].energy <= self.energy_uncertainty()]
            candidates = []
            for row in self.entry["configurations"]:
                if (row["defect"], row["charge"]) == (defect, charge) and row["configuration"] in chosen["configurations"]:
                    result = self.results[row["content_hash"]]["result"]
                    energy = result["energy"]
                    candidates.append(Candidate(row["configuration"], result["status"], energy, np.array(result["positions"]), result))
            start = self.starts[defect, charge, "Unperturbed"].positions
            state = State(defect, charge, numbers, matcher, dft, distinct, ground, candidates, start)
            for candidate in candidates:
                self.place(state, candidate)
            out.append(state)
        return out

    def place(self, state: State, candidate: Candidate) -> None:
        """Distances of one relaxed structure to all DFT minima, and how far it is the ground state."""
        if candidate.status != "converged":
            return
        numbers, matcher = state.numbers, state.matcher
        references = [] if self.drift is None else self.without_drift(candidate.positions, numbers, matcher)
        for minimum in state.distinct:
            candidate.plain.append(matcher.match(candidate.positions, minimum.positions, numbers))
            if references:
                candidate.referenced.append(min(matcher.match(image, minimum.positions, numbers) for image in references))
        candidate.found = ground_state_found(candidate.plain, state.ground)
        if candidate.referenced:
            candidate.host_found = ground_state_found(candidate.referenced, state.ground)


def ground_state_found(matches: list[tuple[float, float, float]], ground: list[int]) -> float:
    distances = [max(m[0], m[1]) for m in matches]
    return closeness(min(distances)) * float(minimum_shares(distances)[ground].sum())
