"""Energies and forces on DFT frames: who knows the surface has no error, who gives nothing is at the baseline."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from ase.build import bulk
from framed_landscape import (
    BLIND,
    BROKEN,
    CHARGES,
    DATASET,
    DEFECT,
    FROZEN,
    HOST,
    NAMES,
    ORACLE,
    RANDOM,
    STEPS,
    ZERO,
    Model,
    geometry,
    make_dataset,
    scoring,
    start,
    surface,
    values,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from defectbench.base.states import is_relaxation
from defectbench.calculations.plan import SelectedState
from defectbench.calculations.results import Stored, parse
from defectbench.datasets.extxyz import attach_results
from defectbench.leaderboard.scores import score_metric
from defectbench.scoring.frames import LARGEST_FORCE, SAME_GEOMETRY, selected_frames, shared_geometries, spread, state_frames
from defectbench.scoring.task import FigureContext
from defectbench.tasks.parity import TASK as PARITY_TASK
from defectbench.tasks.parity import figure as parity_figure
from defectbench.tasks.parity import score as parity
from defectbench.tasks.pes import score as pes

ERRORS = ("force_rmse", "force_mae", "force_rmse_near", "force_rmse_far", "energy_rmse", "energy_rmse_all_charges", "energy_mae")


CONTEXT = FigureContext("toy", "framed", "Framed landscape", "full", "PBE", "charge-aware")


def score(model: Model, **changes):
    return parity.score(scoring(PARITY_TASK, model, **changes))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 60), max_size=15), st.integers(0, 60))
def test_frames_are_shared_evenly_and_end_with_the_last(lengths, cap):
    taken = spread(lengths, cap)
    counts = [len(t) for t in taken]
    assert sum(counts) == min(cap, sum(lengths))
    for indices, length in zip(taken, lengths, strict=True):
        assert indices == sorted(set(indices))
        assert all(0 <= i < length for i in indices)
        if indices:
            assert indices[-1] == length - 1
        if len(indices) > 1:
            assert indices[0] == 0
    open_ones = [c for c, n in zip(counts, lengths, strict=True) if c < n]
    if open_ones:
        assert max(counts) - min(open_ones) <= 1


def test_the_frames_of_a_state_are_capped_and_do_not_depend_on_the_selection():
    everything = state_frames(DATASET, DEFECT, 0, "PBE", 1000)
    assert len(everything) == len(NAMES) * STEPS
    some = state_frames(DATASET, DEFECT, 0, "PBE", 10)
    assert len(some) == 10
    assert {f.configuration for f in some} == set(NAMES)
    one = selected_frames(DATASET, [SelectedState(DEFECT, 0, ("Dimer",))])
    assert [(f.configuration, f.index) for f in one] == [
        (f.configuration, f.index) for f in selected_frames(DATASET, [SelectedState(DEFECT, 0, NAMES)])
    ]


def test_the_ideal_start_is_a_geometry_that_dft_has_at_every_charge():
    found = shared_geometries(DATASET, [SelectedState(DEFECT, q, NAMES) for q in CHARGES])
    assert len(found) == 1
    assert tuple(found[0].frames) == CHARGES
    assert found[0].configuration == "Unperturbed"


def extended(level="PBE", **configurations):
    """The dataset with further unconverged frames: configuration → (positions, energy offset in eV, charge) of each."""
    dataset = make_dataset()
    for name, items in configurations.items():
        frames = []
        for step, (positions, offset, charge) in enumerate(items):
            frame = start("Unperturbed", charge)
            frame.positions = positions
            frame.info.update(defect=DEFECT, charge=charge, configuration=name, level_of_theory=level, converged=False, step=step)
            energy, forces = surface(frame, charge)
            attach_results(frame, energy=energy + offset, forces=forces)
            frames.append(frame)
        dataset._relaxations[level, DEFECT, items[0][2], name] = tuple(frames)
    return dataset


def test_paths_and_unrelaxed_starts_are_no_relaxations():
    assert [is_relaxation(n) for n in ("Unperturbed", "Bond_Distortion_-40.0%", "Path_q+0_q+1_50", "Start_Dimer")] == [
        True,
        True,
        False,
        False,
    ]
    there = geometry(0).positions
    dataset = extended(Path_0=[(there + 0.01, 0.0, 0)], Start_Unperturbed=[(there + 0.02, 0.0, 0)])
    assert set(dataset.configurations(DEFECT, 0)) == {*NAMES, "Path_0", "Start_Unperturbed"}
    frames = state_frames(dataset, DEFECT, 0, "PBE", 1000)
    assert [(f.configuration, f.index) for f in frames] == [
        (f.configuration, f.index) for f in state_frames(DATASET, DEFECT, 0, "PBE", 1000)
    ]
    assert parity.score(scoring(PARITY_TASK, RANDOM, dataset)) == score(RANDOM)


def test_frames_with_huge_forces_are_not_put_to_the_model():
    """The first steps of a relaxation from a strongly compressed start: left out, and nothing else moves."""
    there = geometry(0).positions
    dataset = extended(Bond_Distortion_100=[(there + 0.01, 0.0, 0), (there + 0.02, 0.0, 0), (there + 0.03, 0.0, 0)])
    first, second, _ = dataset._relaxations["PBE", DEFECT, 0, "Bond_Distortion_100"]
    for frame, force in ((first, 150.0), (second, LARGEST_FORCE - 0.1)):
        forces = np.zeros((len(frame), 3))
        forces[3] = [0.6 * force, 0.0, -0.8 * force]
        attach_results(frame, energy=frame.get_potential_energy(), forces=forces)
    taken = [f.index for f in state_frames(dataset, DEFECT, 0, "PBE", 1000) if f.configuration == "Bond_Distortion_100"]
    assert taken == [1, 2]


@settings(deadline=None, max_examples=25)
@given(st.floats(-0.01, 0.01), st.floats(0.0, 0.0019), st.integers(0, 14), st.sampled_from([(0, 0, 0), (1, 0, 0), (0, -2, 1)]))
def test_geometries_are_compared_by_distance_not_by_rounding(offset, apart, atom, image):
    """Wherever the first lies, the second is the same up to 0.001 Å and another beyond, in any periodic image."""
    assume(abs(apart - SAME_GEOMETRY) > 1e-6)
    first = geometry(0).positions + 0.05 + offset
    second = first.copy()
    second[atom] += np.array([0.6, 0.0, 0.8]) * apart
    second[2] += np.array(image) @ HOST.cell.array
    dataset = extended(Start_here=[(first, 0.0, 0)], Start_there=[(second, 0.0, 1)])
    found = shared_geometries(dataset, [SelectedState(DEFECT, q, NAMES) for q in CHARGES])
    ours = [g for g in found if g.configuration.startswith("Start_")]
    assert len(found) - len(ours) == 1
    assert [tuple(g.frames) for g in ours] == ([(0, 1)] if apart < SAME_GEOMETRY else [])
    assert all(np.array_equal(g.atoms.positions, first) for g in ours)


def test_of_several_frames_near_a_geometry_the_nearest_counts():
    there = geometry(0).positions + 0.05
    dataset = extended(Start_here=[(there, 0.0, 0)], Start_there=[(there + by, 0.0, 1) for by in (0.0005, 0.0002, 0.0004)])
    (ours,) = [g for g in shared_geometries(dataset, [SelectedState(DEFECT, q, NAMES) for q in CHARGES]) if g.configuration == "Start_here"]
    assert ours.frames[1].index == 1


def test_every_level_of_theory_has_its_own_errors():
    """HSE06 has the same forces here and energies 3 eV lower; its frames are among those asked for."""
    names = ("Unperturbed", "Dimer")
    frames = {name: [f for f in state_frames(DATASET, DEFECT, 0, "PBE", 1000) if f.configuration == name] for name in names}
    plain = score(RANDOM)
    dataset = extended("HSE06", **{n: [(f.atoms.positions, -3.0 + 0.1 * i, 0) for i, f in enumerate(own)] for n, own in frames.items()})
    result = parity.score(scoring(PARITY_TASK, ORACLE, dataset))
    by_level = {row["level"]: row for row in result.tables["levels"]}
    assert list(by_level) == ["PBE", "HSE06"]
    assert [row["level"] for row in result.rows] == ["PBE"] * len(CHARGES) + ["HSE06"]
    hse, state = by_level["HSE06"], result.rows[-1]
    assert (hse["frames"], hse["relaxations"], hse["charge_states"]) == (2 * STEPS, 2, 1)
    assert {row["level"] for row in result.tables["frames"]} == {"PBE", "HSE06"}
    for name in ERRORS:
        assert by_level["PBE"][name] == pytest.approx(result.metric(name).value, abs=1e-6), name
        assert by_level["PBE"][name] == pytest.approx(0, abs=1e-6)
        assert hse[name] == pytest.approx(state[name], abs=1e-6), name
    assert hse["force_rmse"] == pytest.approx(0, abs=1e-6)
    # offsets of 0 … 0.5 eV in each of the two relaxations
    expected = np.std(np.arange(STEPS) * 0.1) / len(DATASET.starts(DEFECT, 0)["Dimer"])
    assert hse["energy_rmse"] == pytest.approx(expected, abs=1e-6)
    # charge states are drawn: several have an interval, one has none
    assert by_level["PBE"]["energy_rmse_low"] is not None
    assert hse["energy_rmse_low"] is None
    # one frame of a charge state has no energy error, as its own mean is all there is to take off: it neither counts as 0 nor dilutes
    lone = {name: own[-1] for name, own in frames.items()}
    single = extended("HSE06", **{n: [(f.atoms.positions, -3.0, q)] for q, (n, f) in zip(CHARGES, lone.items(), strict=False)})
    result_of_one = parity.score(scoring(PARITY_TASK, ORACLE, single))
    one = next(row for row in result_of_one.tables["levels"] if row["level"] == "HSE06")
    assert one["energy_rmse"] is None
    assert one["energy_mae"] is None
    assert one["energy_rmse_all_charges"] == pytest.approx(0, abs=1e-6)
    assert one["force_rmse"] == pytest.approx(0, abs=1e-6)
    assert [row["energy_rmse"] for row in result_of_one.rows if row["level"] == "HSE06"] == [None, None]
    # metrics, which are scored, are the reference level's
    assert parity.score(scoring(PARITY_TASK, RANDOM, dataset)).metrics == plain.metrics
    assert any("HSE06" in note or "other levels" in note for note in result.notes)


def test_the_slope_has_one_definition():
    model, dft = [0.0, 0.3, 0.5], [1.0, 1.5, 2.5]
    row = parity.slope_row(model, dft)
    assert parity.slope(row[None]) == pytest.approx(np.polyfit(dft, model, 1)[0])
    assert parity.slope_row([0.0], [1.0]) is None
    assert parity.slope_row([0.0, 1.0], [1.0, 1.009]) is None
    assert pes.slope is parity.slope


def test_who_knows_the_surface_has_no_error():
    result = score(ORACLE)
    got = values(result)
    for name in (*ERRORS, "force_softening", "energy_softening", "relative_energy_mae", "failed"):
        assert got[name] == pytest.approx(0, abs=1e-9), name
    assert got["force_slope"] == pytest.approx(1)
    assert got["energy_slope"] == pytest.approx(1)
    assert all(score_metric(d, result.metric(d.name)).score in (None, pytest.approx(1)) for d in parity.METRICS)
    assert len(result.rows) == len(CHARGES)
    assert all(row["failed"] == 0 for row in result.rows)


def test_who_gives_no_forces_is_at_the_baseline():
    result = score(FROZEN)
    got, baseline = values(result), result.baselines["no forces, one energy"]
    for name in (*ERRORS, "force_softening", "energy_softening", "relative_energy_mae"):
        assert got[name] == pytest.approx(baseline[name]), name
    assert got["force_softening"] == 1


def test_random_forces_are_below_the_baseline():
    result = score(RANDOM)
    for name in (*ERRORS, "relative_energy_mae"):
        assert result.metric(name).value >= result.baselines["no forces, one energy"][name] - 1e-9, name
    assert result.metric("force_softening").value > 0.8


def test_a_soft_model_has_the_slope_that_it_has():
    def soft(atoms, charge):
        energy, forces = surface(atoms, charge)
        return ZERO[charge] + 0.5 * (energy - ZERO[charge]), 0.5 * forces

    got = values(score(replace(ORACLE, point=soft)))
    assert got["force_slope"] == pytest.approx(0.5)
    assert got["force_softening"] == pytest.approx(0.5)
    assert got["energy_slope"] == pytest.approx(0.5)
    assert got["energy_softening"] == pytest.approx(0.5)
    assert got["relative_energy_mae"] == pytest.approx(0.2)


def test_a_constant_a_charge_is_forgiven_once_and_not_twice():
    def shifted(atoms, charge):
        energy, forces = surface(atoms, charge)
        return energy + 17.0 + 0.6 * charge, forces

    got = values(score(replace(ORACLE, point=shifted)))
    assert got["energy_rmse"] == pytest.approx(0, abs=1e-9)
    # equally many frames a charge: offsets -0.6, 0, 0.6 about their mean
    assert got["energy_rmse_all_charges"] == pytest.approx(0.6 * np.sqrt(2 / 3) / len(DATASET.starts(DEFECT, 0)["Dimer"]))
    assert got["relative_energy_mae"] == pytest.approx(0, abs=1e-9)


def test_a_charge_blind_model_is_found_without_charge_and_pays_for_the_electrons():
    result = score(BLIND)
    got = values(result)
    assert got["failed"] == 0
    assert got["energy_rmse_all_charges"] > 10 * got["energy_rmse"]
    assert any("takes no charge" in note for note in result.notes)
    by_charge = {row["charge"]: row for row in result.rows}
    assert by_charge[0]["force_rmse"] == pytest.approx(0, abs=1e-9)
    assert by_charge[1]["force_rmse"] > 0.05


def test_a_failed_frame_counts_as_a_miss():
    calls = iter(range(10**6))
    half = values(score(replace(ORACLE, point=lambda atoms, charge: None if next(calls) % 2 else surface(atoms, charge))))
    assert 0.4 < half["failed"] < 0.6
    assert half["force_rmse"] >= 0.6
    assert half["force_softening"] > 0.2
    nothing = score(BROKEN)
    got, baseline = values(nothing), nothing.baselines["no forces, one energy"]
    assert got["failed"] == 1
    for name in (*ERRORS, "relative_energy_mae"):
        assert got[name] >= baseline[name] - 1e-12, name
    assert got["energy_softening"] == 1
    slope = nothing.metric("energy_slope")
    assert slope.value is None
    assert "failed" in slope.reason


def test_failing_is_never_better_than_an_answer_far_off():
    """One frame of all, and one charge state whose energies and forces are too large throughout."""
    bad = DATASET.frames(DEFECT, -1, "Dimer")[0].positions

    def one(atoms, charge, answer):
        here = charge == -1 and np.abs(atoms.positions - bad).max() < 1e-6
        return answer(*surface(atoms, charge)) if here else surface(atoms, charge)

    def state(atoms, charge, answer):
        return answer(*surface(atoms, charge)) if charge == 1 else surface(atoms, charge)

    for where in (one, state):
        fails = values(score(replace(ORACLE, point=lambda a, q, w=where: w(a, q, lambda e, x: None))))
        for factor in (-2.0, 0.5, 50.0):
            wrong = values(score(replace(ORACLE, point=lambda a, q, f=factor, w=where: w(a, q, lambda e, x: (f * e, f * x)))))
            softening = ("force_softening", "energy_softening") if where is state else ()  # judged by whole states
            for name in (*ERRORS, *softening, "relative_energy_mae", "failed"):
                assert fails[name] >= wrong[name] - 1e-9, (where.__name__, factor, name)


@settings(deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=12), st.floats(0.05, 3), st.data())
def test_the_constant_is_the_mean_where_it_fits_and_leaves_out_what_it_does_not(values, cap, data):
    x = np.array(values)

    def cost(c):
        return np.minimum((x - c) ** 2, cap**2).sum()

    found = parity.fitted_constant(x, cap)
    assert cost(found) <= min(cost(c) for c in np.linspace(-6, 6, 121)) + 1e-6
    if np.abs(x - x.mean()).max() <= cap / 2:
        assert found == pytest.approx(x.mean(), abs=1e-9)
    kept = np.delete(x, data.draw(st.integers(0, len(x) - 1)))
    if len(kept):
        less = np.minimum((kept - parity.fitted_constant(kept, cap)) ** 2, cap**2).sum() + cap**2
        assert less >= cost(found) - 1e-9, "a value without an answer costs no less than any answer"


def test_near_is_around_the_place_of_the_defect_in_the_frame(monkeypatch):
    atoms = bulk("NaCl", "rocksalt", a=5.8, cubic=True).repeat(4)
    there = SimpleNamespace(atoms=atoms, defect="V_Na", charge=0)
    places = {True: atoms.positions[0], False: atoms.positions[300]}
    dataset = SimpleNamespace(defect_position=lambda _defect, relaxed=None: places[relaxed is atoms])
    monkeypatch.setattr(parity, "selected_frames", lambda *_: [there])
    answers = SimpleNamespace(energy_and_forces=lambda *_: "no answer")
    (pair,) = parity.pairs(SimpleNamespace(dataset=dataset, states=(), answers=answers))
    assert pair.near[0]
    assert not pair.near[300]


def test_near_and_far_share_all_atoms():
    for pair in parity.pairs(scoring(PARITY_TASK, BLIND))[:8]:
        assert np.allclose(parity.force_sums(pair), parity.force_sums(pair, pair.near) + parity.force_sums(pair, ~pair.near))
        assert 0 < pair.near.sum() < len(pair.near)


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(15)), st.integers(0, 5))
def test_sums_do_not_depend_on_the_order_of_atoms(order, number):
    pair = PAIRED[number]
    atoms = pair.frame.atoms[list(order)]
    attach_results(atoms, energy=pair.frame.energy, forces=pair.frame.forces[list(order)])
    moved = replace(pair, frame=replace(pair.frame, atoms=atoms), near=pair.near[list(order)], forces=pair.forces[list(order)])
    assert np.allclose(parity.force_sums(moved), parity.force_sums(pair))
    assert np.allclose(parity.force_sums(moved, moved.near), parity.force_sums(pair, pair.near))


PAIRED = parity.pairs(scoring(PARITY_TASK, RANDOM))[:6]


def test_the_order_of_states_does_not_matter():
    given_in = scoring(PARITY_TASK, RANDOM)
    turned = replace(given_in, states=given_in.states[::-1])
    assert parity.score(turned) == parity.score(given_in)


def test_a_little_noise_moves_no_metric_out_of_its_interval():
    def model(size):
        def noisy(atoms, charge):
            energy, forces = surface(atoms, charge)
            generator = np.random.default_rng(int(energy * 1e6) % 2**32)
            wrong = 0.9 * energy + 0.004 * len(atoms) * generator.normal(), 0.8 * forces + 0.05 * generator.normal(size=forces.shape)
            return wrong[0] + size * len(atoms) * generator.normal(), wrong[1]

        return replace(ORACLE, point=noisy)

    before, after = score(model(0.0)), score(model(0.001))
    for name in (*ERRORS, "energy_slope", "energy_softening", "relative_energy_mae"):
        low, high = before.metric(name).interval
        assert low <= after.metric(name).value <= high, name


def test_without_frames_it_does_not_apply_and_says_so():
    result = score(ORACLE, dataset=make_dataset(frames=False))
    for metric in result.metrics:
        if metric.name != "relative_energy_mae":
            assert metric.value is None
            assert not metric.applies
            assert metric.reason
    # minima with energies are enough for these
    assert result.metric("relative_energy_mae").value == pytest.approx(0, abs=1e-9)
    assert parity_figure.draw(result, CONTEXT, None) == []


def test_the_histogram_counts_every_force_component_once():
    given_in = scoring(PARITY_TASK, ORACLE)
    bins = parity.score(given_in).tables["force_histogram"]
    chosen = parity.pairs(given_in, given_in.dataset.level)
    assert sum(row["components"] for row in bins) == sum(3 * len(p.frame.atoms) for p in chosen)
    assert sum(row["components"] for row in bins if row["near"]) == sum(3 * int(p.near.sum()) for p in chosen)
    assert all(row["dft"] == row["model"] for row in bins)


def test_what_it_finds_is_json_and_is_drawn(tmp_path):
    given_in = scoring(PARITY_TASK, RANDOM)
    result = parity.score(given_in)
    for table in (result.rows, *result.tables.values()):
        json.dumps([dict(row) for row in table], allow_nan=False)
        assert len({tuple(row) for row in table}) == 1
    files = parity_figure.draw(result, CONTEXT, tmp_path)
    assert {f.suffix for f in files} == {".png", ".svg"}
    assert all(f.stat().st_size > 2000 for f in files)
    assert {m.name for m in result.metrics} == {m.name for m in parity.METRICS}


@pytest.mark.slow
def test_the_dft_data_themselves_score_1_on_the_embedded_dataset():
    from defectbench.calculations.plan import make_plan, select_states
    from defectbench.datasets.catalogue import load_dataset
    from defectbench.scoring.run import scoring_input
    from defectbench.tasks.charge_response import TASK as CHARGE_RESPONSE_TASK
    from defectbench.tasks.search import TASK as SEARCH_TASK

    dataset = load_dataset("sb2se3-vacancies")
    states, skipped = select_states(dataset)
    tasks = (PARITY_TASK, CHARGE_RESPONSE_TASK, SEARCH_TASK)
    plan = make_plan(dataset, states, skipped, tasks, takes_charge=True)
    truth = {}
    # the reference level first: it is what counts where another level has the same geometry
    for level in sorted((level.name for level in dataset.metadata.levels), key=lambda name: name != dataset.level):
        for state in dataset.states:
            frames = [atoms for name in dataset.configurations(*state, level) for atoms in dataset.frames(*state, name, level)]
            for atoms in (*frames, *(m.atoms for m in dataset.minima(*state, level).values())):
                truth.setdefault((_place(atoms), state[1]), atoms)
    relaxations = {c.content_hash for c in (*plan.host.values(), *plan.relaxations.values())}
    results = {}
    for calculation in plan.calculations:
        if calculation.content_hash not in relaxations:
            known = truth[_place(calculation.structure.to_atoms()), calculation.charge]
            results[calculation.content_hash] = {
                "status": "ok",
                "energy": known.get_potential_energy(),
                "forces": known.get_forces().tolist(),
            }
    for calculation in plan.host.values():
        results[calculation.content_hash] = _relaxed(dataset.host.positions, -1.0)
    for (defect, charge, name), calculation in plan.relaxations.items():
        minimum = dataset.minima(defect, charge).get(name, dataset.ground_state(defect, charge))
        results[calculation.content_hash] = _relaxed(minimum.atoms.positions, minimum.energy)
    stored = {c.content_hash: Stored(parse(c, results[c.content_hash])) for c in plan.calculations}
    given_in = scoring_input(dataset, plan, "charge-aware", stored)
    counted = 0
    for task in tasks:
        result = task.score(given_in)
        for definition in task.metrics:
            scored = score_metric(definition, result.metric(definition.name))
            if scored.score is not None:
                # DFT's own relaxations share its ground state and end up to 0.1 Å apart; metrics that count leave room for it
                room = 1e-6 if definition.weight else 0.02
                assert scored.score == pytest.approx(1, abs=room), (task.name, definition.name, scored)
                counted += 1
    assert counted >= 15


def _place(atoms) -> bytes:
    return (np.round(atoms.positions, 6) + 0.0).tobytes()


def _relaxed(positions, energy):
    return {
        "status": "converged", "positions": positions.tolist(), "energy": energy, "forces": [[0.0, 0.0, 0.0] for _ in positions],
        "energies": [energy], "fmax": [0.0], "steps": 1,
        "wall_s": 1.0, "cpu_s": 1.0, "peak_memory_mb": 1.0, "failure": None, "failure_kind": None,
    }  # fmt: skip
