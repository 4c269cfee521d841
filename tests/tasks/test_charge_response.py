"""Response to charge: DFT's own scores 1, none at all 0, too much or elsewhere less, and symmetry does not matter."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from framed_landscape import (
    BLIND,
    BROKEN,
    CHARGES,
    DEFECT,
    FROZEN,
    HOST,
    ORACLE,
    RANDOM,
    Model,
    geometry,
    make_dataset,
    relaxed,
    scoring,
    start,
    surface,
    values,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from defectbench.datasets.extxyz import attach_results
from defectbench.leaderboard.scores import score_metric
from defectbench.scoring.intervals import bootstrap_interval
from defectbench.scoring.task import FigureContext
from defectbench.structures.symmetry import host_operations
from defectbench.tasks.charge_response import TASK as CHARGE_RESPONSE_TASK
from defectbench.tasks.charge_response import figure as charge_response_figure
from defectbench.tasks.charge_response import score as charge_response
from defectbench.tasks.charge_response.score import Response, _sums, aligned_response, correlation, projection, reproduced

OPERATIONS = host_operations(HOST)
FRACTIONS = ("reproduced", "same_start_reproduced", "force_reproduced")


def score(model: Model, **changes):
    return charge_response.score(scoring(CHARGE_RESPONSE_TASK, model, **changes))


def responding(amount: float, aside: float = 0.0) -> Model:
    """The true surface with another charge response, in size and direction."""

    def point(atoms, charge):
        # at a fixed geometry the forces of the true surface are linear in where its minimum is
        energy, forces = surface(atoms, 0)
        return energy, forces + 2.0 * (geometry(charge, response=amount, aside=aside).positions - geometry(0).positions)

    return Model(point, lambda charge, name: relaxed(charge, name, response=amount, aside=aside))


def test_who_knows_the_surface_reproduces_everything():
    result = score(ORACLE)
    got = values(result)
    for name in (*FRACTIONS, "correlation", "projection", "force_correlation"):
        assert got[name] == pytest.approx(1, abs=1e-6), name
    assert {(r["look"], r["charge"], r["other_charge"]) for r in result.rows} == {
        (look, q, q + 1) for look in ("ground states", "one start", "forces") for q in CHARGES[:-1]
    }
    assert all(r["dft_response"] == pytest.approx(0.12, abs=1e-4) for r in result.rows if r["look"] == "ground states")
    assert all(score_metric(d, result.metric(d.name)).score in (None, pytest.approx(1)) for d in charge_response.METRICS)


def test_a_charge_blind_model_reproduces_nothing_even_if_its_starts_end_apart():
    apart = replace(BLIND, relax=lambda charge, name: relaxed(charge, name))
    for model in (BLIND, apart):
        got = values(score(model))
        for name in (*FRACTIONS, "correlation", "projection", "force_correlation"):
            assert got[name] == 0, name
        assert got["size_deviation"] is None


@pytest.mark.parametrize("look", ["ground states", "one start"])
def test_an_energy_only_model_does_not_respond_though_its_starts_end_apart(look):
    """It relaxes to DFT's minima of each charge, which one surface cannot give: only different starts can."""
    given_in = scoring(CHARGE_RESPONSE_TASK, replace(ORACLE, charge_class="energy-only"))
    result = charge_response.score(given_in)
    rows = [r for r in result.rows if r["look"] == look]
    assert rows
    assert all(r["model_response"] == r["reproduced"] == 0 and r["reason"] is None for r in rows)
    got = values(result)
    assert got["reproduced"] == got["same_start_reproduced"] == got["correlation"] == got["projection"] == 0
    assert result.notes


def test_the_forces_of_an_energy_only_model_are_taken_as_they_are():
    weak = replace(responding(0.02), charge_class="energy-only")
    got = values(score(weak))
    assert got["force_reproduced"] == pytest.approx(0.02, abs=1e-6)
    assert got["force_correlation"] == pytest.approx(1, abs=1e-6)
    assert got["reproduced"] == 0


def test_geometries_of_one_relaxation_are_drawn_together():
    """Two pairs of charges with many shared geometries each: the interval is that of pairs, not of geometries."""
    dataset = make_dataset()
    for charge in CHARGES:
        frames = [_single_point(geometry(1, aside=0.1 * k), charge) for k in range(1, 6)]
        dataset._relaxations["PBE", DEFECT, charge, "Path_+1_+0"] = tuple(frames)
    generator = np.random.default_rng(4)
    noise = {q: 0.1 * generator.normal(size=(len(geometry(0)), 3)) for q in CHARGES}

    def point(atoms, charge):
        energy, forces = surface(atoms, charge)
        return energy, forces + noise[charge]

    given_in = scoring(CHARGE_RESPONSE_TASK, replace(ORACLE, point=point), dataset=dataset)
    found = [r for r in charge_response.responses(given_in)[0] if r.kind == "forces"]
    assert len([r for r in found if r.configuration.startswith("Path")]) == 10
    groups: dict[object, np.ndarray] = {}
    for r in found:
        key = str((r.defect, r.charges, r.configuration))
        groups[key] = groups.get(key, 0) + r.sums
    expected = bootstrap_interval(np.array([groups[k] for k in sorted(groups)]), reproduced)
    assert len(groups) < len(found)
    assert charge_response.score(given_in).metric("force_reproduced").interval == pytest.approx(expected)


def _single_point(atoms, charge):
    frame = atoms.copy()
    frame.info.update(defect=DEFECT, charge=charge, configuration="Path_+1_+0", level_of_theory="PBE", converged=False, step=0)
    energy, forces = surface(frame, charge)
    attach_results(frame, energy=energy, forces=forces)
    return frame


def test_a_model_that_takes_the_charge_and_ignores_it_reproduces_nothing():
    got = values(score(replace(BLIND, charge_class="energy-only")))
    for name in (*FRACTIONS, "correlation", "projection", "force_correlation"):
        assert got[name] == pytest.approx(0, abs=1e-6), name


@pytest.mark.parametrize(("amount", "fraction"), [(0.5, 0.5), (0.8, 0.8), (1.5, 0.5), (2.0, 0.0), (3.0, -1.0)])
def test_too_little_and_too_much_are_both_wrong(amount, fraction):
    result = score(responding(amount))
    got = values(result)
    for name in FRACTIONS:
        assert got[name] == pytest.approx(fraction, abs=1e-4), name
    assert got["projection"] == pytest.approx(amount, abs=1e-4)
    assert got["correlation"] == pytest.approx(np.sign(amount), abs=1e-4)
    definition = next(m for m in charge_response.METRICS if m.name == "reproduced")
    assert score_metric(definition, result.metric("reproduced")).score == pytest.approx(
        min(max(fraction, 0.0) / definition.good, 1.0), abs=1e-3
    )


def test_the_opposite_response_is_worse_than_none():
    got = values(score(responding(-0.5)))
    assert got["force_reproduced"] == pytest.approx(-0.5)
    assert got["force_correlation"] == pytest.approx(-1)
    # the ideal vacancy of the neutral state is symmetric: the opposite displacement is partly an image of the right one
    assert -0.5 <= got["reproduced"] < 0.3


def test_a_response_in_another_direction_is_worse_than_none_though_the_projection_does_not_see_it():
    got = values(score(responding(0.5, aside=1.0)))
    assert got["projection"] == pytest.approx(0.5, abs=0.2)
    assert got["reproduced"] < 0
    assert 0 < got["correlation"] < 0.8


def test_frozen_and_random_models_do_not_beat_the_charge_blind_one():
    for model in (FROZEN, RANDOM):
        result = score(model)
        for name in FRACTIONS:
            assert result.metric(name).value <= result.baselines["charge-blind"][name] + 1e-9, name


def test_a_miss_counts_as_the_opposite_response():
    result = score(BROKEN)
    assert all(values(result)[name] == pytest.approx(-1) for name in (*FRACTIONS, "correlation", "projection"))
    assert all(r["reason"] and r["model_response"] is r["reproduced"] is None for r in result.rows)
    one = replace(ORACLE, relax=lambda charge, name: None if charge == 1 else relaxed(charge, name))
    half = score(one)
    assert -0.2 < half.metric("reproduced").value < 0.2, "one of two pairs"
    assert any("0/+1" in note for note in half.notes)


@pytest.mark.slow
def test_failing_at_a_charge_is_never_better_than_answering():
    fails = values(score(replace(ORACLE, relax=lambda q, name: None if q == 1 else relaxed(q, name))))
    for amount in (-3.0, -1.0, 0.0, 3.0, 20.0):
        model = replace(ORACLE, relax=lambda q, name, r=amount: relaxed(q, name, response=r) if q == 1 else relaxed(q, name))
        wrong = values(score(model))
        for name in ("reproduced", "same_start_reproduced"):
            assert fails[name] <= wrong[name] + 1e-9, (amount, name)


def test_the_fraction_is_worked_by_hand():
    d = np.zeros((4, 3))
    d[0, 0] = 2.0
    m = np.zeros((4, 3))
    m[0, 0], m[1, 1] = 1.0, 1.0
    table = Response("forces", "V", (0, 1), "x", d, m, None).sums[None]
    # |m - d| = sqrt(1 + 1), |d| = 2, m.d = 2, d.d = 4, m.m = 2
    assert reproduced(table) == pytest.approx(1 - np.sqrt(2) / 2)
    assert projection(table) == pytest.approx(0.5)
    assert correlation(table) == pytest.approx(2 / np.sqrt(8))
    assert correlation(np.array([[1.0, 1.0, 0.0, 0.0, 1.0]])) == 0


@settings(max_examples=12, deadline=None)
@given(st.integers(0, len(OPERATIONS) - 1), st.integers(0, len(OPERATIONS) - 1), st.integers(0, 2**31), st.booleans())
def test_images_permutations_and_origins_do_not_change_the_response(first, second, seed, broken):
    generator = np.random.default_rng(seed)
    reference = (geometry(0), geometry(1))
    model = (geometry(0, aside=0.5), geometry(1, response=0.7, aside=0.3, well=int(broken)))
    moved = []
    for atoms, operation in zip(model, (first, second), strict=True):
        image = atoms.copy()
        image.positions = OPERATIONS.apply(operation, atoms.positions) + generator.uniform(-0.3, 0.3, size=3)
        moved.append(image[generator.permutation(len(image))])
    wanted, expected = aligned_response(reference, model, OPERATIONS)
    again, found = aligned_response(reference, (moved[0], moved[1]), OPERATIONS)
    assert np.allclose(again, wanted)
    assert np.linalg.norm(found - wanted) == pytest.approx(np.linalg.norm(expected - wanted), abs=1e-6)


def test_equal_structures_in_different_images_are_no_response():
    broken = geometry(1)
    image = broken.copy()
    image.positions = OPERATIONS.apply(3, broken.positions)
    _, found = aligned_response((geometry(0), geometry(1)), (broken, image), OPERATIONS)
    assert np.abs(found).max() < 1e-9


def test_a_symmetric_structure_leaves_a_choice_that_is_taken_in_the_models_favour():
    ideal = start("Unperturbed", 0)
    broken = geometry(1)
    stabiliser = [
        i for i in range(len(OPERATIONS)) if np.allclose(HOST.positions[0], _wrapped(OPERATIONS.apply(i, HOST.positions[:1]))[0], atol=1e-6)
    ]
    assert len(stabiliser) > 1
    for operation in stabiliser:
        image = broken.copy()
        image.positions = OPERATIONS.apply(operation, broken.positions)
        wanted, found = aligned_response((ideal, broken), (ideal, image), OPERATIONS)
        assert np.allclose(found, wanted, atol=1e-6)


def _wrapped(positions):
    fractional = positions @ np.linalg.inv(HOST.cell.array)
    return (fractional - np.floor(fractional + 1e-9)) @ HOST.cell.array


def test_states_in_another_order_give_the_same():
    given_in = scoring(CHARGE_RESPONSE_TASK, responding(0.7))
    assert charge_response.score(replace(given_in, states=given_in.states[::-1])) == charge_response.score(given_in)


def test_size_consistency_comes_from_the_certificate():
    assert (
        score(
            ORACLE,
        )
        .metric("size_deviation")
        .reason
        == "no charge-response certificate"
    )
    flawed = charge_response.score(scoring(CHARGE_RESPONSE_TASK, ORACLE, certificate={"size_ratio": 2.0}))
    assert flawed.metric("size_deviation").value == pytest.approx(1.0)
    blind = charge_response.score(scoring(CHARGE_RESPONSE_TASK, BLIND, certificate={"size_ratio": None}))
    assert not blind.metric("size_deviation").applies
    assert blind.metric("size_deviation").reason


def test_without_frames_or_a_second_charge_it_says_what_is_missing():
    no_frames = score(ORACLE, dataset=make_dataset(frames=False))
    assert no_frames.metric("force_reproduced").value is None
    assert not no_frames.metric("force_reproduced").applies
    assert no_frames.metric("reproduced").value == pytest.approx(1, abs=1e-6)
    alone = score(ORACLE, dataset=make_dataset(charges=(0,)))
    assert all(m.value is None and not m.applies and m.reason for m in alone.metrics)
    assert alone.rows == ()


CONTEXT = FigureContext("toy", "framed", "Framed landscape", "full", "PBE", "charge-aware")


def test_what_it_finds_is_json_and_is_drawn(tmp_path):
    result = score(responding(0.6))
    json.dumps([dict(row) for row in result.rows], allow_nan=False)
    files = charge_response_figure.draw(result, CONTEXT, tmp_path)
    assert {f.suffix for f in files} == {".png", ".svg"}


def test_the_figure_shows_misses_too(tmp_path):
    result = score(responding(0.6))
    missed = [{**row, "reproduced": None} for row in result.rows]
    assert charge_response_figure.draw(replace(result, rows=tuple(missed)), CONTEXT, tmp_path)


def test_a_charge_blind_model_has_no_figure(tmp_path):
    result = score(responding(0.0))
    assert charge_response_figure.draw(result, replace(CONTEXT, charge_class="charge-blind"), tmp_path) == []
    assert charge_response_figure.draw(result, replace(CONTEXT, charge_class="energy-only"), tmp_path)


def test_no_response_is_exactly_nothing_however_the_numbers_lie_in_memory():
    generator = np.random.default_rng(1)
    given = [np.array(generator.normal(size=(59, 3)), order=order) for order in ("C", "F") for _ in range(50)]
    assert {reproduced(_sums(forces, np.zeros((59, 3)))[None]) for forces in given} == {0.0}
