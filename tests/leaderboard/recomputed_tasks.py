"""The tasks' metrics from the recomputed charge states: see ``recomputation``."""

from __future__ import annotations

import json
from itertools import pairwise, product
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
            lists[name].append(sum(w * min(cap, nearest(getattr(c, kind), state.ground)[i]) for w, c in shares) if shares else cap)
        lists["unrelaxed"].append(
            min(state.matcher.match(state.start, state.distinct[i].positions, state.numbers)[0] for i in state.ground)
        )
        distinct = separate(list(state.converged), state.matcher, state.numbers)
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


def worst_rank(compared: list, dft: list[float]) -> float:
    """Spearman's correlation; a relaxation that did not converge takes the place in the order that makes it smallest."""
    known = {i: c.energy for i, c in enumerate(compared) if c.status == "converged"}
    ranks = dict(zip(known, tied(list(known.values())), strict=True))
    levels = sorted({r + d for r in ranks.values() for d in (-0.25, 0.0, 0.25)})
    lacking = [i for i in range(len(compared)) if i not in known]
    own = rankdata(tied(dft))
    out = []
    for places in product(levels, repeat=len(lacking)):
        all_ = rankdata([{**ranks, **dict(zip(lacking, places, strict=True))}[i] for i in range(len(compared))])
        out.append(float(np.corrcoef(all_, own)[0, 1]) if np.ptp(all_) else 0.0)
    return min(out)


def pes(entry: Recomputation) -> Values:
    reproduced, errors, same, found, ranks, products, squares = [], [], [], [], [], 0.0, 0.0
    for state in entry.states:
        compared = [c for c in state.candidates if c.configuration in state.dft]
        found += [c.found for c in state.candidates]
        done = [c for c in compared if c.status == "converged"]
        dft = {c.configuration: state.dft[c.configuration].energy for c in compared}
        zero = min(dft.values())
        own = (
            min(
                [c.energy for c in done]
                + [
                    c.energy
                    for c in compared
                    if c not in done and c.energy is not None and c.energy < min(d.energy for d in done) - SAME_ENERGY
                ]
            )
            if done
            else None
        )
        for c in compared:
            near = 0.0
            if c.status == "converged":
                rmsd, local, _ = state.matcher.match(c.positions, state.dft[c.configuration].positions, state.numbers)
                near = closeness(max(rmsd, local))
            same.append(near)
            if len(compared) < 3:
                continue
            error = abs(c.energy - own - dft[c.configuration] + zero) if c.status == "converged" else None
            errors.append(1.0 if error is None else min(1.0, error))
            reproduced.append(-1.0 if error is None else energy_reproduced(error, near))
        if len(compared) >= 5 and max(dft.values()) - zero >= SHARED:
            if len(done) < 3:
                ranks.append(-1.0)
            else:
                ranks.append(worst_rank(compared, [dft[c.configuration] for c in compared]))
        if len(compared) >= 3 and done and np.ptp([dft[c.configuration] for c in done]) >= SHARED:
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


def order(name: str) -> tuple:
    fixed = {"Unperturbed": 0, "Rattled": 1, "Dimer": 2}
    factor = name.removeprefix("Bond_Distortion_").removesuffix("%")
    return (fixed[name], 0.0) if name in fixed else (3, float(factor))


def parity_frames(entry: Recomputation, state: State, cap: int = 24) -> list[Atoms]:
    """At most 24 (or another cap), shared evenly among the relaxations and spread evenly over their steps, first and last included."""
    relaxations = []
    all_ = entry.frames(state.defect, state.charge)
    for name in sorted((n for n in all_ if not n.startswith(("Path_", "Start_"))), key=order):
        relaxations.append([f for f in all_[name] if np.linalg.norm(f.get_forces(), axis=1).max() <= 10])
    shares = [0] * len(relaxations)
    turn = 0
    while sum(shares) < min(cap, sum(map(len, relaxations))):
        if shares[turn % len(shares)] < len(relaxations[turn % len(shares)]):
            shares[turn % len(shares)] += 1
        turn += 1
    out = []
    for frames, share in zip(relaxations, shares, strict=True):
        last = len(frames) - 1
        out += [frames[int(i * last / (share - 1) + 0.5)] for i in range(share)] if share > 1 else frames[last:][:share]
    return out


def capped_errors(error: np.ndarray, dft: np.ndarray) -> tuple[float, float, int]:
    """Mean square and mean absolute error of the components of one frame, at most what no result counts, and their number."""
    cap = max(1.0, float(np.sqrt((dft**2).mean())))
    return min(cap**2, float((error**2).mean())), min(cap, float(np.abs(error).mean())), error.size


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
            for name, part in (("all", near | ~near), ("near", near), ("far", ~near)):
                parts[name].append(capped_errors(own[part] - dft[part], dft[part]))
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
            error = (
                1.0
                if answer is None or at[0] is None
                else abs(answer["energy"] - at[0]["energy"] - minimum.energy + state.distinct[0].energy)
            )
            parts["relative"].append(min(1.0, error))
    energies = np.concatenate(parts["energies"])
    every = []
    for pairs in by_defect.values():
        own, dft = np.array(pairs).T
        every.append(fitted(own - dft, max(0.1, np.abs(dft - dft.mean()).max())))

    def forces(part: str, which: int) -> float:
        return sum(p[which] * p[2] for p in parts[part]) / sum(p[2] for p in parts[part])

    def rms(values: np.ndarray) -> float:
        return float(np.sqrt((values**2).mean()))

    return {
        "force_rmse": forces("all", 0) ** 0.5,
        "force_mae": forces("all", 1),
        "force_rmse_near": forces("near", 0) ** 0.5,
        "force_rmse_far": forces("far", 0) ** 0.5,
        "force_slope": products / squares,
        "force_softening": mean(parts["soft"]),
        "energy_rmse": rms(energies),
        "energy_rmse_all_charges": rms(np.concatenate(every)),
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
        geometries: list[dict[int, Atoms]] = []
        for charge in sorted(list_):
            for frame in flat(entry.frames(defect, charge)):
                same = next((g for g in geometries if np.abs(next(iter(g.values())).positions - frame.positions).max() < 0.001), None)
                if same is None:
                    geometries.append({charge: frame})
                else:
                    same.setdefault(charge, frame)
        for geometry in geometries:
            for low, high in pairwise(sorted(geometry)):
                one, other = geometry[low], geometry[high]
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
        "size_deviation": None if ratio is None else abs(ratio - 1),
    }


def flat(frames: dict[str, list[Atoms]]) -> list[Atoms]:
    return [f for one in frames.values() for f in one]


def norm(vectors: np.ndarray) -> float:
    return float(np.sqrt((vectors**2).sum(-1).mean()))


def transition_levels(entry: Recomputation) -> Values:
    corrections = {(c["defect"], c["charge"]): c for c in entry.level["corrections"]}
    edges = entry.level["band_edges"]
    rows: list = []
    basin_rows: list = []
    parts: dict[str, list[float]] = {"energy": [], "geometry": [], "formation": [], "found": []}
    defects: dict[str, list[State]] = {}
    for state in entry.states:
        defects.setdefault(state.defect, []).append(state)
    out: dict[str, list] = {name: [] for name in ("own", "basin", "nearness", "spread", "sequence", "gap", "u", "b_sequence", "b_gap")}
    for defect, states in defects.items():
        if len(states) < 2:
            continue
        states = sorted(states, key=lambda s: s.charge)
        dft, own, at, basins, lying, known = {}, {}, {}, {}, {}, {}
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
                    basins[q] = state.distinct[0 if inside in state.ground else inside].energy + shift
                lying[q], known[q] = 0.0, 0.0
                for weight, c in state.shares:
                    distances = [max(m[0], m[1]) for m in c.plain]
                    above = [0.0 if i in state.ground else m.energy - state.distinct[0].energy for i, m in enumerate(state.distinct)]
                    lying[q] += weight * (dft[q] + float(minimum_shares(distances) @ above))
                    known[q] += weight * closeness(min(distances))
            parts["found"].append(float(inside is not None))
            answer = entry.single_point(entry.frames(defect, q)[state.distinct[0].configuration][-1], q)
            if answer:
                at[q] = answer["energy"] + shift
            if q in own and entry.drift is not None:
                hosts = map(entry.host_relaxation, ("Unperturbed", "Rattled"))
                host = min(h["energy"] for h in hosts if h["status"] == "converged")
                parts["formation"].append(abs(own[q] - host - dft[q] + entry.level["host_energy"]))
        charges = [s.charge for s in states]
        for low, high in pairwise(states):
            q, p = low.charge, high.charge
            reference = (dft[q] - dft[p]) / (p - q)
            error = (own[q] - own[p]) / (p - q) - reference if q in own and p in own else None
            found = [sum(w * c.found for w, c in s.shares) for s in (low, high)]
            rows.append((error, np.sqrt(found[0] * found[1])))
            off = (lying[q] - lying[p]) / (p - q) - reference if q in lying and p in lying else None
            basin_rows.append((off, np.sqrt(known[q] * known[p]) if off is not None else 0.0))
            out["own"].append(error)
            out["basin"].append((basins[q] - basins[p]) / (p - q) - reference if q in basins and p in basins else None)
            if q in at and p in at:
                parts["energy"].append(abs((at[q] - at[p]) / (p - q) - reference))
            if out["basin"][-1] is not None:
                parts["geometry"].append(abs(out["basin"][-1]))
        axis = (-np.inf, np.inf)
        gap = (0.0, edges["cbm"] - edges["vbm"])
        for name, energies, window in (("sequence", own, axis), ("gap", own, gap), ("b_sequence", basins, axis), ("b_gap", basins, gap)):
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

    def reproduced(less: float, pairs: list) -> float:
        return mean([-1.0 if e is None else energy_reproduced(e - less, near) for e, near in pairs])

    def right(values: list[float | None]) -> float:
        return mean([e is not None and abs(e) <= 0.1 for e in values])

    def largest(values: list[float | None]) -> float:
        known = [abs(e) for e in values if e is not None]
        return max([*known, 1.0] if None in values else known)

    own_levels = {
        "levels_reproduced": reproduced(0.0, rows),
        "aligned_levels_reproduced": reproduced(shift, rows),
        "level_mae": capped(errors),
        "level_max_error": largest(errors),
        "levels_right": right(errors),
        "level_aligned_mae": capped(errors, shift),
        "level_shift": shift,
        "sequence_right": mean(out["sequence"]),
        "negative_u_right": mean(out["u"]),
        "gap_sequence_right": mean(out["gap"]),
        "energy_part_mae": mean(parts["energy"]),
        "formation_energy_mae": mean(parts["formation"]),
    }
    if entry.charge_class == "charge-blind":  # one energy for all charges has no levels
        own_levels = dict.fromkeys(own_levels)
    return {
        **own_levels,
        "basin_levels_reproduced": reproduced(0.0, basin_rows),
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
    here = [
        (s["result"]["cpu_s"], s["result"]["steps"] + 1, len(s["result"]["positions"]), s["result"]["peak_memory_mb"])
        for s, name in zip(stored, names, strict=True)
        if name == most
    ]
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
        for frame in parity_frames(entry, state, 12):
            own, neutral = stored_descriptor(entry, frame, state.charge), stored_descriptor(entry, frame, 0)
            groups.setdefault(state.defect, []).append((state.charge, own - host, neutral - host))
    two, everything, flat_, explained = [], [], [], []
    for rows in groups.values():
        charges = np.array([q for q, _, _ in rows])
        charged, neutral = np.array([a for _, a, _ in rows]), np.array([b for _, _, b in rows])
        first, share = principal(charged)
        explained += [share] * len(rows)
        if len(set(charges.tolist())) < 2:
            continue
        two += silhouettes(first, charges)
        everything += silhouettes(charged, charges)
        flat_ += silhouettes(principal(neutral)[0], charges)
    return {
        "silhouette_gain": mean(two) - mean(flat_),
        "silhouette": mean(two),
        "silhouette_all": mean(everything),
        "explained_variance": mean(explained),
    }


def stored_descriptor(entry: Recomputation, atoms: Atoms, charge: int) -> np.ndarray | None:
    name = entry.content("descriptors", atoms, charge, {"average": True})
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


def ccd(points: list[dict]) -> Values:
    """Of a model with one curve for both charges and a reference without energies along its paths, from the model's energies there."""
    curves: dict[tuple, dict[float, float]] = {}
    for p in points:
        curves.setdefault((p["defect"], p["upper"], p["lower"], p["charge"]), {})[p["fraction"]] = p["model_ev"]
    offsets, bound = [], []
    for (_, upper, _, charge), curve in curves.items():
        fractions = sorted(curve)
        energies = [curve[f] for f in fractions]
        at, end = (0.0, 1.0) if charge == upper else (1.0, 0.0)
        i = int(np.argmin(energies))
        vertex = fractions[i]
        if 0 < i < len(energies) - 1:
            a, b, _ = np.polyfit(fractions[i - 1 : i + 2], energies[i - 1 : i + 2], 2)
            vertex = -b / (2 * a)
        offsets.append(min(1.0, abs(vertex - at)))
        own = [f for f in fractions if abs(f - at) <= 0.5]
        a, b, _ = np.polyfit(own, [curve[f] for f in own], 2)
        bound.append(bool(a > 0 and min(own) - 0.5 <= -b / (2 * a) <= max(own) + 0.5 and curve[end] > curve[at]))
    return {"delta_q_error": 1.0, "minimum_offset": mean(offsets), "curves_bound": mean(bound)}


TASKS = {
    "relax": relax,
    "pes": pes,
    "search": search,
    "parity": parity,
    "charge_response": charge_response,
    "transition_levels": transition_levels,
    "descriptors": descriptors,
    "cost": cost,
}
"""Those that need nothing but an entry's calculations; ``ccd`` takes the energies along its paths."""
