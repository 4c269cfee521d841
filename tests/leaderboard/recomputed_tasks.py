"""The tasks' metrics from the recomputed charge states: see ``recomputation``."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from math import comb
from statistics import median

import numpy as np
from ase import Atoms
from recomputation import (
    MATCH,
    SAME_ENERGY,
    SHARED,
    Recomputation,
    State,
    closeness,
    energy_reproduced,
    minimum_shares,
    separate,
)
from scipy.stats import rankdata

Values = dict[str, float | None]
MARGIN = 0.01  # eV: of stability and of the sign of U


def mean(values: list[float]) -> float:
    return float(np.mean(values))


def relax(entry: Recomputation) -> Values:
    found, referenced = [], []
    lists: dict[str, list[float]] = {name: [] for name in ("rmsd", "local", "largest", "h_rmsd", "h_local", "above", "unrelaxed")}
    flags: dict[str, list[bool]] = {name: [] for name in ("success", "strict", "h_success", "minimum")}
    spurious = []
    for state in entry.states:
        shares = state.shares
        found.append(sum(w * c.found for w, c in shares))
        referenced.append(sum(w * c.host_found for w, c in shares))
        for name, kind, i, cap in (
            ("rmsd", "plain", 0, 1.0),
            ("local", "plain", 1, 1.0),
            ("largest", "plain", 2, 3.0),
            ("h_rmsd", "referenced", 0, 1.0),
            ("h_local", "referenced", 1, 1.0),
        ):
            lists[name].append(
                sum(w * min(cap, nearest(getattr(c, kind), state.ground)[i]) for w, c in shares) if shares else cap
            )
        lists["unrelaxed"].append(
            min(state.matcher.match(state.start, state.distinct[i].positions, state.numbers)[0] for i in state.ground)
        )
        distinct = separate([c for c in state.converged], state.matcher, state.numbers)
        spurious.append(sum(min(m[0] for m in c.plain) > MATCH for c in distinct))
        if not shares:
            lists["above"].append(1.0)
            for flag in flags.values():
                flag.append(False)
            continue
        lowest = shares[0][1]
        own = nearest(lowest.plain, state.ground)
        nearer = min(m[0] for m in lowest.plain) < own[0]
        flags["success"].append(own[0] <= MATCH and not nearer)
        flags["strict"].append(own[0] <= MATCH and not nearer and own[1] <= MATCH and own[2] <= 0.2)
        host = nearest(lowest.referenced, state.ground)
        flags["h_success"].append(host[0] <= MATCH and min(m[0] for m in lowest.referenced) >= host[0])
        inside = basin(lowest.plain)
        if inside is None:
            inside = basin(lowest.referenced)  # the drift of the host aside
        flags["minimum"].append(inside is not None)
        energies = [m.energy for m in state.distinct]
        lists["above"].append(1.0 if inside is None else 0.0 if inside in state.ground else min(1.0, energies[inside] - energies[0]))
    everything = [c for s in entry.states for c in s.candidates]
    numbers, matcher = entry.host.numbers, next(iter(entry.matchers.values()))
    drifts = {
        start: min(
            matcher.settle(image, entry.host.positions, numbers)[0]
            for image in matcher.images(np.array(entry.host_relaxation(start)["positions"]))
        )
        for start in ("Unperturbed", "Rattled")
    }
    return {
        "ground_state_found": mean(found),
        "rmsd": mean(lists["rmsd"]),
        "local_rmsd": mean(lists["local"]),
        "energy_above_ground_state": mean(lists["above"]),
        "max_displacement": mean(lists["largest"]),
        "success": mean(flags["success"]),
        "strict_success": mean(flags["strict"]),
        "relative_rmsd": sum(lists["rmsd"]) / sum(lists["unrelaxed"]),
        "host_referenced_found": mean(referenced),
        "host_referenced_rmsd": mean(lists["h_rmsd"]),
        "host_referenced_local_rmsd": mean(lists["h_local"]),
        "host_referenced_success": mean(flags["h_success"]),
        "reference_minimum_found": mean(flags["minimum"]),
        "spurious_minima": mean(spurious),
        "converged": mean([c.status == "converged" for c in everything]),
        "host_drift": drifts["Unperturbed"],
        "host_drift_rattled": drifts["Rattled"],
        "steps": median(c.result["steps"] for c in everything if c.status == "converged"),
        "wall_s": median(c.result["wall_s"] for c in everything),
    }


def nearest(matches: list, ground: list[int]) -> tuple[float, float, float]:
    """What a structure is off the nearest ground state."""
    return min(matches[i] for i in ground)


def basin(matches: list) -> int | None:
    rmsds = [m[0] for m in matches]
    return int(np.argmin(rmsds)) if min(rmsds) <= MATCH else None


def tied(energies: list[float]) -> list[float]:
    """Ranks in which energies within 10 meV of the lowest of a tie are equal."""
    values = np.array(energies)
    out = np.empty(len(values))
    base = None
    for i in np.argsort(values):
        if base is None or values[i] - base > SHARED:
            base = values[i]
        out[i] = base
    return list(rankdata(out))


def pes(entry: Recomputation) -> Values:
    reproduced, errors, same, found, ranks, products, squares = [], [], [], [], [], 0.0, 0.0
    for state in entry.states:
        compared = [c for c in state.candidates if c.configuration in state.dft]
        found += [c.found for c in state.candidates]
        done = [c for c in compared if c.status == "converged"]
        if len(compared) < 3:
            continue
        dft = {c.configuration: state.dft[c.configuration].energy for c in compared}
        zero = min(dft.values())
        own = min(
            [c.energy for c in done]
            + [c.energy for c in compared if c not in done and c.energy is not None and c.energy < min(d.energy for d in done) - SAME_ENERGY]
        ) if done else None
        for c in compared:
            near = 0.0
            if c.status == "converged":
                index = state.index(c.configuration)
                distances = [max(m[0], m[1]) for m in c.plain]
                near = closeness(distances[index]) * float(minimum_shares(distances)[index])
            same.append(near)
            error = abs(c.energy - own - dft[c.configuration] + zero) if c.status == "converged" else None
            errors.append(1.0 if error is None else min(1.0, error))
            reproduced.append(-1.0 if error is None else energy_reproduced(error, near))
        if len(compared) >= 5 and max(dft.values()) - zero >= SHARED:
            if len(done) < 3:
                ranks.append(-1.0)
            else:
                highest = max(c.energy for c in done) + 1.0
                model = tied([c.energy if c.status == "converged" else highest for c in compared])
                ranks.append(float(np.corrcoef(model, tied(list(dft.values())))[0, 1]) if len(set(model)) > 1 else 0.0)
        if len(done) >= 2:
            x = np.array([dft[c.configuration] for c in done])
            y = np.array([c.energy for c in done])
            products += float(((x - x.mean()) * (y - y.mean())).sum())
            squares += float(((x - x.mean()) ** 2).sum())
    return {
        "curve_reproduced": mean(reproduced),
        "curve_error": mean(errors),
        "rank_correlation": mean(ranks),
        "ground_state_fraction": mean(found),
        "same_minimum": mean(same),
        "energy_slope": products / squares,
    }


def search(entry: Recomputation) -> Values:
    areas, lowest, anywhere, random, counts = [], [], [], [], []
    spent, lost = [], False
    for state in entry.states:
        candidates = [c for c in state.candidates if c.configuration in state.dft]
        k = sum(state.index(c.configuration) in state.ground for c in candidates)
        n = len(candidates)
        if n < 3 or k == 0:
            continue
        done = sorted((c for c in candidates if c.status == "converged"), key=lambda c: c.energy)
        failed = n - len(done)
        same = np.eye(len(done))
        for i, one in enumerate(done):
            for j in range(i):
                rmsd, local, _ = state.matcher.match(one.positions, done[j].positions, state.numbers)
                alike = closeness(max(rmsd, local)) / (1 + (abs(one.energy - done[j].energy) / SAME_ENERGY) ** 3)
                same[i, j] = same[j, i] = alike
        gains = []
        for i, one in enumerate(done):
            place = 1.0 + failed
            for j, other in enumerate(done):
                if i != j:
                    below = 1 / (1 + np.exp((other.energy - one.energy) / SHARED))
                    place += (1 - same[i, j]) * below / same[j].sum()
            gains.append(max(one.found, one.host_found) * (n - place + 1) / n)
        areas.append(max(gains, default=0.0))
        anywhere.append(max((max(c.found, c.host_found) for c in done), default=0.0))
        lowest.append(sum(w * c.found for w, c in state.shares))
        random.append(mean([1 - comb(n - k, m) / comb(n, m) for m in range(1, n + 1)]))
        minima = separate(list(done), state.matcher, state.numbers)
        counts.append((n, failed + len(minima)))
        first = next((i for i, c in enumerate(minima) if max(c.found, c.host_found) > 0.5), None)
        lost = lost or first is None
        spent.append(failed + (first or 0) + 1)
    total, unique = sum(n for n, _ in counts), sum(u for _, u in counts)
    at_most = max(spent)
    return {
        "recall_area": mean(areas),
        "lowest_recall": mean(lowest),
        "unique_recall": mean(anywhere),
        "unique_saved": 1 - unique / total,
        "saved_at_full_recall": 0.0 if lost else (total - sum(min(at_most, u) for _, u in counts)) / (total - len(counts)),
        "gain_over_random": (mean(areas) - mean(random)) / (1 - mean(random)),
    }


def fitted(errors: np.ndarray, cap: float) -> np.ndarray:
    """Errors after the constant that minimises the capped squared error: the mean of some run of the sorted errors."""
    values = np.sort(errors)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    first, last = np.triu_indices(len(values))
    constants = (sums[last + 1] - sums[first]) / (last + 1 - first)
    costs = (np.minimum(np.abs(values[None] - constants[:, None]), cap) ** 2).sum(1)
    return np.minimum(np.abs(errors - constants[costs.argmin()]), cap)


def parity_frames(entry: Recomputation, state: State) -> list[Atoms]:
    """At most 24, shared evenly among the relaxations and spread evenly over their steps, first and last included."""
    relaxations = {}
    for name, frames in entry.frames(state.defect, state.charge).items():
        if not name.startswith(("Path_", "Start_")):
            relaxations[name] = [f for f in frames if np.linalg.norm(f.get_forces(), axis=1).max() <= 10]
    out = []
    left, waiting = 24, sorted(relaxations.values(), key=len)
    while waiting:
        frames = waiting.pop(0)
        share = min(len(frames), left // (len(waiting) + 1))
        left -= share
        out += [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, share).round().astype(int))]
    return out


def parity(entry: Recomputation) -> Values:
    parts: dict[str, list] = {name: [] for name in ("all", "near", "far", "soft", "energies", "deviations", "relative")}
    products = squares = failed = count = e_products = e_squares = 0.0
    by_defect: dict[str, list[tuple[float, float]]] = {}
    for state in entry.states:
        pairs, force_products, force_squares = [], 0.0, 0.0
        for frame in parity_frames(entry, state):
            count += 1
            answer = entry.single_point(frame, state.charge)
            if answer is None:
                failed += 1
                continue
            dft, own = frame.get_forces(), np.array(answer["forces"])
            near = np.sqrt((state.matcher.image(frame.positions - state.matcher.site) ** 2).sum(-1)) <= 5.0
            error = np.abs(own - dft)
            parts["all"].append(error.ravel())
            parts["near"].append(error[near].ravel())
            parts["far"].append(error[~near].ravel())
            force_products += float((own * dft).sum())
            force_squares += float((dft**2).sum())
            pairs.append((answer["energy"] / len(frame), frame.get_potential_energy() / len(frame)))
        products, squares = products + force_products, squares + force_squares
        parts["soft"].append(min(1.0, abs(1 - force_products / force_squares)))
        own, dft = np.array(pairs).T
        by_defect.setdefault(state.defect, []).extend(pairs)
        parts["energies"].append(fitted(own - dft, max(0.1, np.abs(dft - dft.mean()).max())))
        x, y = dft - dft.mean(), own - own.mean()
        if np.ptp(dft) * len(state.numbers) >= 0.01:
            e_products, e_squares = e_products + float((x * y).sum()), e_squares + float((x**2).sum())
            parts["deviations"].append(min(1.0, abs(1 - float((x * y).sum() / (x**2).sum()))))
        at = [entry.single_point(entry.frames(state.defect, state.charge)[m.configuration][-1], state.charge) for m in state.distinct]
        for minimum, answer in list(zip(state.distinct, at, strict=True))[1:]:
            error = 1.0 if answer is None or at[0] is None else abs(
                answer["energy"] - at[0]["energy"] - minimum.energy + state.distinct[0].energy
            )
            parts["relative"].append(min(1.0, error))
    cap = 1.0
    everything = np.minimum(np.concatenate(parts["all"]), cap)
    energies = np.concatenate(parts["energies"])
    alls = []
    for pairs in by_defect.values():
        own, dft = np.array(pairs).T
        alls.append(fitted(own - dft, max(0.1, np.abs(dft - dft.mean()).max())))

    def rms(values: np.ndarray) -> float:
        return float(np.sqrt((values**2).mean()))

    return {
        "force_rmse": rms(everything),
        "force_mae": float(everything.mean()),
        "force_rmse_near": rms(np.minimum(np.concatenate(parts["near"]), cap)),
        "force_rmse_far": rms(np.minimum(np.concatenate(parts["far"]), cap)),
        "force_slope": products / squares,
        "force_softening": mean(parts["soft"]),
        "energy_rmse": rms(energies),
        "energy_rmse_all_charges": rms(np.concatenate(alls)),
        "energy_mae": float(energies.mean()),
        "energy_slope": e_products / e_squares,
        "energy_softening": mean(parts["deviations"]),
        "relative_energy_mae": mean(parts["relative"]),
        "failed": failed / count,
    }


def charge_response(entry: Recomputation) -> Values:
    """Of models whose structures do not depend on the charge: their displacements are zero by definition."""
    assert entry.charge_class in ("charge-blind", "energy-only"), "displacements of a charge-aware model are not recomputed here"
    zero = dict.fromkeys(("reproduced", "correlation", "projection", "same_start_reproduced"), 0.0)
    off = size = dot = own_squares = dft_squares = 0.0
    charges: dict[str, list[int]] = {}
    for state in entry.states:
        charges.setdefault(state.defect, []).append(state.charge)
    for defect, list_ in charges.items():
        for low, high in pairwise(sorted(list_)):
            if high != low + 1:
                continue
            pool = [
                (one, other)
                for one in flat(entry.frames(defect, low))
                for other in flat(entry.frames(defect, high))
                if np.abs(one.positions - other.positions).max() < 0.001
            ]
            for one, other in pool:
                d = other.get_forces() - one.get_forces()
                if norm(d) < 0.005:
                    continue
                if entry.charge_class == "charge-blind":
                    m = np.zeros_like(d)
                else:
                    answers = [entry.single_point(one, low), entry.single_point(other, high)]
                    if None in answers:
                        continue
                    m = np.array(answers[1]["forces"]) - np.array(answers[0]["forces"])
                off += min(norm(m - d), 2 * norm(d))
                size += norm(d)
                dot += float((m * d).sum())
                own_squares += float((m * m).sum())
                dft_squares += float((d * d).sum())
    ratio = entry.entry["certificate"]["size_ratio"]
    return {
        **zero,
        "force_reproduced": 1 - off / size,
        "force_correlation": dot / np.sqrt(own_squares * dft_squares) if own_squares else 0.0,
        "size_deviation": None if ratio is None else abs(2 * ratio - 1) if ratio < 0.75 else abs(ratio - 1),
    }


def flat(frames: dict[str, list[Atoms]]) -> list[Atoms]:
    return [f for one in frames.values() for f in one]


def norm(vectors: np.ndarray) -> float:
    return float(np.sqrt((vectors**2).sum(-1).mean()))


def transition_levels(entry: Recomputation) -> Values:
    corrections = {(c["defect"], c["charge"]): c for c in entry.level["corrections"]}
    edges = entry.level["band_edges"]
    rows = []
    parts: dict[str, list[float]] = {"energy": [], "geometry": [], "formation": [], "found": []}
    defects: dict[str, list[State]] = {}
    for state in entry.states:
        defects.setdefault(state.defect, []).append(state)
    out: dict[str, list] = {name: [] for name in ("own", "basin", "nearness", "spread", "sequence", "gap", "u", "b_sequence", "b_gap")}
    for defect, states in defects.items():
        if len(states) < 2:
            continue
        states = sorted(states, key=lambda s: s.charge)
        dft, own, at, basins = {}, {}, {}, {}
        for state in states:
            q = state.charge
            entries = corrections.get((defect, q))
            shift = q * edges["vbm"] + (
                sum(entries[k] for k in ("potential_alignment", "band_filling", "image_charge")) if entries else 0.0
            )
            dft[q] = state.distinct[0].energy + shift
            inside = None
            if state.shares:
                lowest = state.shares[0][1]
                own[q] = lowest.energy + shift
                inside = basin(lowest.plain)
                if inside is not None:
                    basins[q] = state.distinct[inside].energy + shift
            parts["found"].append(float(inside is not None))
            answer = entry.single_point(entry.frames(defect, q)[state.distinct[0].configuration][-1], q)
            if answer:
                at[q] = answer["energy"] + shift
            if q in own and entry.drift is not None:
                host = min(
                    h["energy"] for h in map(entry.host_relaxation, ("Unperturbed", "Rattled")) if h["status"] == "converged"
                )
                parts["formation"].append(own[q] - host - dft[q] + entry.level["host_energy"])
        charges = [s.charge for s in states]
        for low, high in pairwise(states):
            q, p = low.charge, high.charge
            reference = (dft[q] - dft[p]) / (p - q)
            error = (own[q] - own[p]) / (p - q) - reference if q in own and p in own else None
            found = [sum(w * c.found for w, c in s.shares) for s in (low, high)]
            rows.append((error, found))
            out["own"].append(error)
            out["basin"].append((basins[q] - basins[p]) / (p - q) - reference if q in basins and p in basins else None)
            if q in at and p in at:
                parts["energy"].append(abs((at[q] - at[p]) / (p - q) - reference))
            if out["basin"][-1] is not None:
                parts["geometry"].append(abs(out["basin"][-1]))
        axis = (-np.inf, np.inf)
        gap = (0.0, edges["cbm"] - edges["vbm"])
        for name, energies, window in (
            ("sequence", own, axis), ("gap", own, gap), ("b_sequence", basins, axis), ("b_gap", basins, gap)
        ):
            out[name].append(len(energies) == len(charges) and same_sequence(dft, energies, window))
        for a, b, c in zip(charges, charges[1:], charges[2:], strict=False):
            u = dft[c] + dft[a] - 2 * dft[b]
            if abs(u) < MARGIN:
                continue
            mine = own[c] + own[a] - 2 * own[b] if all(x in own for x in (a, b, c)) else None
            out["u"].append(mine is not None and mine * np.sign(u) >= MARGIN)
    errors = out["own"]
    shift = float(np.median([e for e in errors if e is not None]))

    def capped(values: list[float | None], less: float = 0.0) -> float:
        return mean([1.0 if e is None else min(1.0, abs(e - less)) for e in values])

    def reproduced(less: float) -> float:
        return mean([-1.0 if e is None else energy_reproduced(e - less, found[0] * found[1]) for e, found in rows])

    def right(values: list[float | None]) -> float:
        return mean([e is not None and abs(e) <= 0.1 for e in values])

    def largest(values: list[float | None]) -> float:
        known = [abs(e) for e in values if e is not None]
        return max([*known, 1.0] if None in values else known)

    return {
        "levels_reproduced": reproduced(0.0),
        "aligned_levels_reproduced": reproduced(shift),
        "level_mae": capped(errors),
        "level_max_error": largest(errors),
        "levels_right": right(errors),
        "level_aligned_mae": capped(errors, shift),
        "level_shift": shift,
        "sequence_right": mean(out["sequence"]),
        "negative_u_right": mean(out["u"]),
        "gap_sequence_right": mean(out["gap"]),
        "energy_part_mae": mean(parts["energy"]),
        "geometry_part_mae": mean(parts["geometry"]) if parts["geometry"] else None,
        "basin_level_mae": capped(out["basin"]),
        "basin_level_max_error": largest(out["basin"]),
        "basin_levels_right": right(out["basin"]),
        "basin_sequence_right": mean(out["b_sequence"]),
        "basin_gap_sequence_right": mean(out["b_gap"]),
        "basins_found": mean(parts["found"]),
    }


def depth(energies: dict[int, float], q: int, window: tuple[float, float]) -> float:
    """The largest, over Fermi levels in a window, of how far a charge lies below all others; at a crossing of two others or an end."""
    others = {p: e for p, e in energies.items() if p != q}
    if (q == max(energies) and window[0] == -np.inf) or (q == min(energies) and window[1] == np.inf):
        return float("inf")
    crossings = [
        (e - f) / (p - o) for o, e in others.items() for p, f in others.items() if p > o and window[0] <= (e - f) / (p - o) <= window[1]
    ] + [w for w in window if np.isfinite(w)]
    return max(min(e + p * level for p, e in others.items()) - energies[q] - q * level for level in crossings)


def same_sequence(dft: dict[int, float], own: dict[int, float], window: tuple[float, float]) -> bool:
    for q in dft:
        reference, value = depth(dft, q, window), depth(own, q, window)
        if abs(reference) >= MARGIN and (value < MARGIN if reference > 0 else value > -MARGIN):
            return False
    return True


def cost(entry: Recomputation) -> Values:
    """Of the distinct relaxations of defects on the machine that ran most."""
    hashes = {row["content_hash"] for row in entry.entry["configurations"]}
    stored = [entry.results[h] for h in hashes]
    names = [json.dumps(s["machine"], sort_keys=True) for s in stored]
    most = max(set(names), key=names.count)
    here = [(s["result"]["cpu_s"], s["result"]["steps"] + 1, len(s["result"]["positions"]), s["result"]["peak_memory_mb"])
            for s, name in zip(stored, names, strict=True) if name == most]
    return {
        "seconds_per_call": median(t / n for t, n, _, _ in here),
        "milliseconds_per_atom": median(1000 * t / n / a for t, n, a, _ in here),
        "seconds_per_relaxation": median(t for t, *_ in here),
        "force_calls_per_relaxation": median(n for _, n, *_ in here),
        "hours_in_all": sum(t for t, *_ in here) / 3600 if len(here) == len(stored) else None,
        "peak_memory": max(m for *_, m in here),
    }


def descriptors(entry: Recomputation) -> Values:
    host = stored_descriptor(entry, entry.ideal, 0)
    groups: dict[str, list[tuple[int, np.ndarray, np.ndarray]]] = {}
    for state in entry.states:
        for frames in entry.frames(state.defect, state.charge).values():
            for frame in frames:
                own, neutral = stored_descriptor(entry, frame, state.charge), stored_descriptor(entry, frame, 0)
                if own is not None and neutral is not None:
                    groups.setdefault(state.defect, []).append((state.charge, own - host, neutral - host))
    two, everything, flat_, explained = [], [], [], []
    for rows in groups.values():
        charges = np.array([q for q, _, _ in rows])
        if len(set(charges.tolist())) < 2:
            continue
        charged, neutral = np.array([a for _, a, _ in rows]), np.array([b for _, _, b in rows])
        first, share = principal(charged)
        two += silhouettes(first, charges)
        everything += silhouettes(charged, charges)
        flat_ += silhouettes(principal(neutral)[0], charges)
        explained += [share] * len(rows)
    return {
        "silhouette_gain": mean(two) - mean(flat_),
        "silhouette": mean(two),
        "silhouette_all": mean(everything),
        "explained_variance": mean(explained),
    }


def stored_descriptor(entry: Recomputation, atoms: Atoms, charge: int) -> np.ndarray | None:
    name = entry.content("descriptors", atoms, charge)
    stored = entry.results.get(name)
    return None if stored is None else np.array(stored["result"]["descriptors"]).mean(0)


def principal(rows: np.ndarray) -> tuple[np.ndarray, float]:
    centred = rows - rows.mean(0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    return left[:, :2] * values[:2], float((values[:2] ** 2).sum() / (values**2).sum())


def silhouettes(points: np.ndarray, labels: np.ndarray) -> list[float]:
    distances = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))
    out = []
    for i, label in enumerate(labels):
        own = labels == label
        if own.sum() < 2:
            out.append(0.0)
            continue
        a = distances[i, own].sum() / (own.sum() - 1)
        b = min(distances[i, labels == other].mean() for other in set(labels.tolist()) - {label})
        out.append((b - a) / max(a, b) if max(a, b) else 0.0)
    return out


def ccd(entry: Recomputation) -> Values:
    """Of a reference without energies along its paths: the offset of the curves' minima and whether they are bound."""
    offsets, bound, deltas = [], [], []
    fractions = (-0.3, -0.15, 0.0, 0.25, 0.5, 0.75, 1.0, 1.15, 1.3)
    by_charge = {(s.defect, s.charge): s for s in entry.states}
    for (defect, low), one in sorted(by_charge.items()):
        other = by_charge.get((defect, low + 1))
        if other is None:
            continue
        # the path is in the frame of the more positive charge's ground state
        for curve in path_curves(entry, other, one, fractions):
            if curve is None:
                offsets.append(1.0)
                bound.append(False)
                continue
            i = int(np.argmin(curve))
            own = 0.0
            vertex = fractions[i]
            if 0 < i < len(curve) - 1:
                a, b, _ = np.polyfit(fractions[i - 1 : i + 2], curve[i - 1 : i + 2], 2)
                vertex = -b / (2 * a)
            offsets.append(min(1.0, abs(vertex - own)))
        deltas.append(1.0)
    return {"delta_q_error": mean(deltas), "minimum_offset": mean(offsets), "curves_bound": mean(bound) if bound else None}


def path_curves(entry: Recomputation, one: State, other: State, fractions: tuple[float, ...]) -> list:
    raise NotImplementedError


__all__ = ["hashlib"]
