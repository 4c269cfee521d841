"""Transition levels on a landscape that is known exactly, with models whose errors are put in on purpose."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from hypothesis import assume, given
from hypothesis import strategies as st
from known_landscape import DEFECT, HOST, IDEAL, dataset, geometry, score

from defectbench.scoring.intervals import bootstrap_interval
from defectbench.scoring.task import FigureContext, TaskResult
from defectbench.tasks.transition_levels import TASK
from defectbench.tasks.transition_levels.score import LEVEL_CAP, METRICS
from defectbench.thermodynamics import effective_u, stability_depths
from defectbench.thermodynamics.comparison import DECISION_MARGIN, compare, negative_u_right, sequence_right

ENERGIES = {1: -100.6, 0: -100.0, -1: -99.8, -2: -98.9}
"""Levels +1/0 0.6, 0/−1 0.2 (reversed: 0 is never stable, U(0) = −0.4), −1/−2 0.9; +1/−1 0.4."""

SECOND = {0: 0.3, -1: 0.25}

FULL_LEVEL = {
    "host_energy": -108.0,
    "band_edges": {"vbm": 0.1, "cbm": 1.6},
    "chemical_potentials": [{"name": "Na-rich", "potentials": {"Na": -6.0, "Cl": -1.0}}],
    "corrections": [{"defect": DEFECT, "charge": q, "image_charge": 0.02 * q * q} for q in ENERGIES],
}


class Model:
    """Relaxes into a well of the reference; energies are the reference's plus what is put in."""

    def __init__(self, energies: dict[int, float] | None = None, wells: dict[int, int] | None = None, fails: tuple[int, ...] = ()) -> None:
        self.energies, self.wells, self.fails = dict(ENERGIES) | (energies or {}), wells or {}, fails

    def relax(self, _defect: str, charge: int, _configuration: str, _start: Atoms) -> tuple[Atoms, float] | None:
        if charge in self.fails:
            return None
        return geometry(charge, self.wells.get(charge, 0)), self.energies[charge]

    def energy(self, atoms: Atoms, charge: int | None) -> float:
        """At the reference ground state's geometry: the reference energy plus the model's error of that charge."""
        if len(atoms) == len(HOST):
            return -107.5
        return self.energies[charge or 0]

    def scored(self, charge_class: str = "charge-aware", **level: Any) -> TaskResult:
        data = dataset(ENERGIES, SECOND, level)
        return TASK.score(score(TASK, data, self.relax, self.energy, charge_class))


def value(result: TaskResult, name: str) -> float | None:
    return result.metric(name).value


def levels(result: TaskResult) -> dict[tuple[int, int], dict[str, Any]]:
    return {(row["upper"], row["lower"]): dict(row) for row in result.tables["levels"]}


def test_the_reference_itself_is_perfect() -> None:
    result = Model().scored()
    assert [m.name for m in result.metrics] == [m.name for m in METRICS]
    for metric in METRICS:
        got = value(result, metric.name)
        if metric.name == "formation_energy_mae":
            assert got is None
        elif metric.name in ("level_shift", "energy_part_mae", "geometry_part_mae", "basin_level_max_error"):
            assert got == pytest.approx(0.0, abs=1e-9)
        elif metric.good is not None:
            assert (got <= metric.good) if metric.direction == "lower" else (got >= metric.good)
    rows = levels(result)
    assert len(rows) == 6, "all pairs of four charges"
    assert {pair for pair, row in rows.items() if row["successive"]} == {(1, 0), (0, -1), (-1, -2)}
    assert {pair for pair, row in rows.items() if row["stable_reference"]} == {(1, -1), (-1, -2)}
    assert all(row["stable_own"] == row["stable_basin"] == row["stable_reference"] for row in rows.values())
    assert {row["charge"]: row["u_reference_ev"] for row in result.rows} == {-2: None, -1: 0.7, 0: -0.4, 1: None}
    json.dumps([result.rows, result.tables, result.baselines, result.notes])


def test_energies_without_a_common_zero_are_compared_as_levels() -> None:
    """Any constant over all charges, whatever the composition's zero is, changes nothing."""
    plain, moved = Model().scored(), Model({q: e + 512.5 for q, e in ENERGIES.items()}).scored()
    assert [m.value for m in moved.metrics] == pytest.approx([m.value for m in plain.metrics], abs=1e-9, nan_ok=True)


def test_another_zero_of_the_potential_moves_all_levels_alike() -> None:
    result = Model({q: e + 2.5 * q for q, e in ENERGIES.items()}).scored()
    assert value(result, "level_mae") == pytest.approx(LEVEL_CAP)
    assert value(result, "level_max_error") == pytest.approx(2.5)
    assert value(result, "level_shift") == pytest.approx(-2.5)
    assert value(result, "level_aligned_mae") == pytest.approx(0.0, abs=1e-9)
    assert value(result, "sequence_right") == 1.0
    assert value(result, "negative_u_right") == 1.0
    assert all(row["own_aligned_error_ev"] == pytest.approx(0.0, abs=1e-9) for row in levels(result).values())


def test_a_charge_state_without_ground_state_is_a_miss_and_no_gap() -> None:
    result = Model(fails=(-1,)).scored()
    assert value(result, "level_mae") == pytest.approx((0.0 + 2 * LEVEL_CAP) / 3)
    assert value(result, "levels_right") == pytest.approx(1 / 3)
    assert value(result, "level_max_error") == pytest.approx(LEVEL_CAP)
    assert value(result, "sequence_right") == 0.0
    assert value(result, "negative_u_right") == 0.0
    assert value(result, "basins_found") == pytest.approx(3 / 4)
    row = levels(result)[-1, -2]
    assert row["own_ev"] is None
    assert row["stable_own"] is None
    assert "it fell apart" in row["reason"]


def test_a_charge_blind_model_has_basin_levels_only() -> None:
    result = Model().scored("charge-blind")
    for name in ("level_mae", "level_aligned_mae", "sequence_right", "negative_u_right", "energy_part_mae"):
        metric = result.metric(name)
        assert metric.value is None
        assert metric.applies, "it is the model that fails to answer, not the question that cannot be put"
    assert value(result, "basin_level_mae") == pytest.approx(0.0, abs=1e-9)
    for row in result.tables["levels"]:
        assert row["basin_ev"] is not None
        assert row["own_ev"] is row["energy_part_ev"] is row["geometry_part_ev"] is row["at_reference_geometry_ev"] is None


def test_an_energy_only_model_is_scored_by_its_energies_and_flagged() -> None:
    result = Model().scored("energy-only")
    assert value(result, "level_mae") == pytest.approx(0.0, abs=1e-9)


def test_the_budget_of_a_wrong_basin_is_geometry() -> None:
    """The model takes the second well at q = −1 and gives it its right energy; its energies at the reference geometries are right."""
    model = Model(wells={-1: 1})
    data = dataset(ENERGIES, SECOND)

    def relax(defect: str, charge: int, configuration: str, start: Atoms) -> tuple[Atoms, float]:
        return geometry(charge, model.wells.get(charge, 0)), ENERGIES[charge] + (SECOND[-1] if charge == -1 else 0.0)

    row = levels(TASK.score(score(TASK, data, relax, model.energy)))[0, -1]
    assert row["own_error_ev"] == pytest.approx(0.25)
    assert row["geometry_part_ev"] == pytest.approx(0.25)
    assert row["energy_part_ev"] == pytest.approx(0.0, abs=1e-9)
    assert row["coupling_part_ev"] == pytest.approx(0.0, abs=1e-9)


def test_the_budget_of_a_wrong_energy_at_the_right_geometry_is_energy() -> None:
    result = Model({0: ENERGIES[0] + 0.15}).scored()
    row = levels(result)[0, -1]
    assert row["own_error_ev"] == pytest.approx(-0.15)
    assert row["energy_part_ev"] == pytest.approx(-0.15)
    assert row["geometry_part_ev"] == pytest.approx(0.0, abs=1e-9)
    assert value(result, "geometry_part_mae") == pytest.approx(0.0, abs=1e-9)
    assert value(result, "energy_part_mae") == pytest.approx((0.15 + 0.15 + 0.0) / 3)
    assert value(result, "levels_right") == pytest.approx(1 / 3)


def test_a_missed_negative_u_is_counted() -> None:
    result = Model({0: ENERGIES[0] - 0.5}).scored()
    assert value(result, "negative_u_right") == pytest.approx(1 / 2)
    assert value(result, "sequence_right") == 0.0


def test_a_model_linear_in_the_charge_has_no_right_sequence_and_no_sign_of_u() -> None:
    """All its levels are in one place: relaxation noise would decide, and was right by chance."""
    for seed in range(20):
        noise = np.random.default_rng(seed).uniform(-0.002, 0.002, size=len(ENERGIES))
        result = Model({q: -50.0 + 0.7 * q + x for q, x in zip(ENERGIES, noise, strict=True)}).scored()
        assert value(result, "sequence_right") == 0.0
        assert value(result, "negative_u_right") == 0.0


def test_two_charges_have_no_sequence_that_could_be_wrong() -> None:
    data = dataset({1: -100.6, 0: -100.0})
    metric = TASK.score(score(TASK, data, Model().relax, Model().energy)).metric("sequence_right")
    assert metric.value is None
    assert not metric.applies


def test_stable_charges_in_the_gap_depend_on_where_the_levels_are() -> None:
    """Another zero of the potential keeps the order of the levels and moves them out of the gap."""
    for shift, right in ((0.0, 1.0), (2.5, 0.0)):
        result = Model({q: e + shift * q for q, e in ENERGIES.items()}).scored(**FULL_LEVEL)
        assert value(result, "sequence_right") == 1.0
        assert value(result, "gap_sequence_right") == right
        assert value(result, "basin_gap_sequence_right") == 1.0
    without = Model().scored(**FULL_LEVEL | {"band_edges": {"vbm": 0.1}})
    for name in ("gap_sequence_right", "basin_gap_sequence_right"):
        assert without.metric(name).value is None
        assert not without.metric(name).applies
    assert all(row["stable_in_gap_reference"] is None for row in without.rows)


curves = st.lists(st.floats(-3, 3), min_size=3, max_size=6).map(lambda values: {q - 2: e for q, e in enumerate(values)})


@given(curves)
def test_the_reference_is_right_about_itself(reference: dict[int, float]) -> None:
    found = compare(reference, dict(reference), 1.0)
    assert found.sequence_right is not False
    assert found.gap_sequence_right is not False
    assert all(found.negative_u_right)


@given(curves, st.floats(-5, 5), st.floats(-5, 5), st.lists(st.floats(-0.002, 0.002), min_size=6, max_size=6))
def test_noise_on_a_straight_line_decides_nothing(reference: dict[int, float], constant: float, slope: float, noise: list[float]) -> None:
    found = compare(reference, {q: constant + slope * q + x for q, x in zip(reference, noise, strict=False)})
    assert found.sequence_right is not True
    assert all(abs(u) < DECISION_MARGIN for u, right in zip(effective_u(reference).values(), found.negative_u_right, strict=True) if right)


@given(curves, curves, st.floats(-20, 20), st.floats(-5, 5))
def test_a_common_zero_and_a_zero_of_the_potential_decide_nothing(
    reference: dict[int, float], predicted: dict[int, float], constant: float, slope: float
) -> None:
    depths = [d for e in (reference, predicted) for d in (*stability_depths(e).values(), *effective_u(e).values())]
    assume(all(abs(abs(depth) - DECISION_MARGIN) > 1e-6 for depth in depths))
    first = compare(reference, predicted)
    second = compare(reference, {q: e + constant + slope * q for q, e in predicted.items()})
    assert (first.sequence_right, first.negative_u_right) == (second.sequence_right, second.negative_u_right)


@given(curves, st.data())
def test_errors_below_the_margin_do_not_make_a_clear_sequence_wrong(reference: dict[int, float], data: st.DataObject) -> None:
    """Depths move by at most twice the largest error, U by four times."""
    assume(all(abs(d) > 2 * DECISION_MARGIN for d in stability_depths(reference).values()))
    assume(all(abs(u) > 2 * DECISION_MARGIN for u in effective_u(reference).values()))
    errors = data.draw(st.lists(st.floats(-0.24 * DECISION_MARGIN, 0.24 * DECISION_MARGIN), min_size=6, max_size=6))
    found = compare(reference, {q: e + x for (q, e), x in zip(reference.items(), errors, strict=False)})
    assert found.sequence_right
    assert all(found.negative_u_right)


@pytest.mark.parametrize(
    ("reference", "predicted", "right"),
    [
        (0.5, 0.02, True), (0.5, 0.0, False), (0.5, 0.009, False), (0.5, -0.02, False), (0.5, None, False), (-0.5, -0.02, True),
        (-0.5, -0.009, False), (-0.5, 0.3, False), (0.009, -0.3, True), (-0.009, 0.0, True), (0.0, None, False),
    ],
)  # fmt: skip
def test_signs_of_u_by_hand(reference: float, predicted: float | None, right: bool) -> None:
    assert negative_u_right(reference, predicted) is right


@pytest.mark.parametrize(
    ("reference", "predicted", "right"),
    [
        # 0 stable by 0.1
        ({1: 0.0, 0: 0.5, -1: 1.2}, {1: 0.0, 0: 0.5, -1: 1.03}, True),
        ({1: 0.0, 0: 0.5, -1: 1.2}, {1: 0.0, 0: 0.5, -1: 1.01}, False),
        ({1: 0.0, 0: 0.5, -1: 1.2}, {1: 0.0, 0: 0.5}, False),
        # 0 unstable by 0.1
        ({1: 0.0, 0: 0.5, -1: 0.8}, {1: 0.0, 0: 0.5, -1: 0.97}, True),
        ({1: 0.0, 0: 0.5, -1: 0.8}, {1: 0.0, 0: 0.5, -1: 0.99}, False),
        # undecided in the reference itself
        ({1: 0.0, 0: 0.5, -1: 1.01}, {1: 0.0, 0: 0.5, -1: 0.0}, None),
    ],
)
def test_sequences_by_hand(reference: dict[int, float], predicted: dict[int, float], right: bool | None) -> None:
    assert sequence_right(reference, predicted) is right


def test_the_shift_is_found_again_in_every_resample() -> None:
    """By hand: the interval of the aligned error is that of errors each aligned within its resample, not to the shift of all."""
    found = [0.0, 0.3, 0.9]
    model = {1: ENERGIES[1]}
    for upper, error in zip((1, 0, -1), found, strict=True):
        model[upper - 1] = model[upper] + (ENERGIES[upper - 1] - ENERGIES[upper]) + error
    result = Model(model).scored()
    metric, shift = result.metric("level_aligned_mae"), result.metric("level_shift")
    assert metric.value == pytest.approx(0.9 / 3)
    assert shift.value == pytest.approx(0.3)
    errors = np.array(found)
    expected = bootstrap_interval(errors, lambda e: float(np.mean(np.abs(e - np.median(e)))))
    assert metric.interval == pytest.approx(expected)
    assert metric.interval != pytest.approx(bootstrap_interval(errors, lambda e: float(np.mean(np.abs(e - 0.3)))))
    assert shift.interval == pytest.approx(bootstrap_interval(errors, lambda e: float(np.median(e))))
    assert result.metric("level_max_error").interval is None, "a resample's maximum is never above the sample's"


def test_a_missing_level_stays_a_miss_in_every_resample() -> None:
    metric = Model(fails=(-2,)).scored().metric("level_aligned_mae")
    assert metric.value == pytest.approx(LEVEL_CAP / 3)
    assert metric.interval == pytest.approx((0.0, LEVEL_CAP))


def test_levels_and_formation_energies_with_band_edges_and_corrections() -> None:
    result = Model().scored(**FULL_LEVEL)
    rows = levels(result)
    assert rows[1, 0]["reference_ev"] == pytest.approx(0.6 - 0.1 - 0.02)
    assert rows[0, -1]["reference_ev"] == pytest.approx(0.2 - 0.1 + 0.02)
    assert all(row["zero"] == "valence band maximum" and row["corrections"] == "corrected" for row in rows.values())
    by_charge = {row["charge"]: row for row in result.rows}
    for charge, energy in ENERGIES.items():
        expected = energy - (-108.0) - (-1) * (-6.0) + charge * 0.1 + 0.02 * charge**2
        assert by_charge[charge]["formation_energy_reference_ev"] == pytest.approx(expected)
        assert by_charge[charge]["formation_energy_own_ev"] == pytest.approx(expected - 0.5), "the model's own host is 0.5 eV higher"
    assert value(result, "formation_energy_mae") == pytest.approx(0.5)


def test_without_a_band_edge_levels_are_relative_and_no_formation_energy_is_given() -> None:
    result = Model().scored()
    stable = [row for row in result.tables["levels"] if row["stable_reference"]]
    assert min(row["reference_ev"] for row in stable) == pytest.approx(0.0, abs=1e-9)
    assert levels(result)[-1, -2]["reference_ev"] == pytest.approx(0.9 - 0.4)
    assert all(row["formation_energy_reference_ev"] is None and row["formation_energy_own_ev"] is None for row in result.rows)
    assert {row["corrections"] for row in result.rows} == {"uncorrected"}
    metric = result.metric("formation_energy_mae")
    assert not metric.applies
    assert result.tables["axis"][0]["gap_ev"] is None


def test_corrections_of_some_charges_only_give_no_levels() -> None:
    result = Model().scored(corrections=FULL_LEVEL["corrections"][:2])
    assert result.rows == ()
    assert any(DEFECT in note and "−2, −1" in note for note in result.notes)
    assert all(m.value is None and not m.applies for m in result.metrics)


def test_a_selection_of_the_corrected_charges_has_levels() -> None:
    data = dataset(ENERGIES, SECOND, FULL_LEVEL | {"corrections": FULL_LEVEL["corrections"][:2]})
    scoring = score(TASK, data, Model().relax, Model().energy)
    result = TASK.score(replace(scoring, states=tuple(s for s in scoring.states if s.charge in (0, 1))))
    assert {(row["charge"], row["corrections"]) for row in result.rows} == {(1, "corrected"), (0, "corrected")}


def test_both_terms_of_a_correction_and_both_band_edges_are_read() -> None:
    """Potential alignment (times charge) and image charge; the gap from VBM to CBM."""
    terms = {1: (0.03, 0.02), 0: (0.0, 0.0), -1: (-0.05, 0.02), -2: (-0.11, 0.08)}
    stored = [
        {"defect": DEFECT, "charge": q, "potential_alignment": alignment, "image_charge": image} for q, (alignment, image) in terms.items()
    ]
    result = Model().scored(**FULL_LEVEL | {"corrections": stored})
    line = {q: ENERGIES[q] + sum(terms[q]) + 0.1 * q for q in ENERGIES}
    rows = levels(result)
    for upper, lower in rows:
        assert rows[upper, lower]["reference_ev"] == pytest.approx((line[upper] - line[lower]) / (lower - upper), abs=1e-5)
        assert rows[upper, lower]["own_error_ev"] == pytest.approx(0.0, abs=1e-5)
    assert {row["charge"] for row in result.rows if row["stable_in_gap_reference"]} == {1, -1, -2}
    narrow = Model().scored(**FULL_LEVEL | {"corrections": stored, "band_edges": {"vbm": 0.1, "cbm": 0.3}})
    assert {row["charge"] for row in narrow.rows if row["stable_in_gap_reference"]} == {1}, "+1/−1 at 0.26 eV is in the conduction band"


def test_baselines_come_from_the_dataset_alone() -> None:
    data = dataset(ENERGIES, {0: -0.3})
    result = TASK.score(score(TASK, data, Model().relax, Model().energy))
    other = TASK.score(score(TASK, data, Model(fails=(0, 1)).relax, Model({0: 3.0}).energy))
    assert result.baselines == other.baselines
    ideal = result.baselines["ideal start only"]
    assert ideal["basin_level_mae"] == pytest.approx(0.2), "0 is 0.3 eV too high: two of three levels are off by 0.3 eV"
    assert ideal["basin_levels_right"] == pytest.approx(1 / 3)
    by_level = [row["ideal_start_only_error_ev"] for row in result.tables["levels"] if row["successive"]]
    assert sorted(by_level) == pytest.approx([-0.3, 0.0, 0.3])
    assert all(row["another_charges_geometry_error_ev"] is None for row in result.tables["levels"] if row["successive"])
    assert result.baselines["another charge's geometry"]["basin_level_mae"] == pytest.approx(LEVEL_CAP), "0.12 Å from every minimum"
    truth = [0.3, 0.5, 0.9]
    spread = np.abs(np.array(truth) - np.mean(truth))
    mean = result.baselines["every level at their mean"]
    assert mean["level_mae"] == pytest.approx(spread.mean())
    assert mean["sequence_right"] == mean["negative_u_right"] == 0.0, "no tie is right"


def test_the_order_of_configurations_does_not_matter() -> None:
    data = dataset(ENERGIES, SECOND)
    scoring = score(TASK, data, Model({0: -99.9}).relax, Model({0: -99.9}).energy)
    shuffled = replace(scoring, configurations=scoring.configurations[::-1], states=scoring.states[::-1])
    assert TASK.score(shuffled) == TASK.score(scoring)


def test_single_points_that_failed_leave_the_budget_empty_and_say_why() -> None:
    data = dataset(ENERGIES)
    scoring = score(TASK, data, Model().relax, lambda atoms, charge: float("nan"))
    result = TASK.score(scoring)
    assert value(result, "energy_part_mae") is None
    assert value(result, "level_mae") == pytest.approx(0.0, abs=1e-9)
    assert all("single point failed" in row["reason"] for row in result.rows)


def test_one_charge_has_no_levels() -> None:
    data = dataset({0: -1.0})
    result = TASK.score(score(TASK, data, lambda *a: (IDEAL, -1.0), lambda *a: 0.0))
    assert result.rows == ()
    assert result.tables["levels"] == ()
    assert len(result.notes) >= 1
    assert TASK.draw(result, CONTEXT, Path("unused")) == []


def test_compare_needs_every_charge_for_a_right_sequence() -> None:
    reference = {1: 0.0, 0: 0.1, -1: 1.0}
    assert compare(reference, dict(reference)).sequence_right
    found = compare(reference, {1: 0.0, 0: 0.1, -1: None})
    assert not found.sequence_right
    assert found.errors == {(1, 0): pytest.approx(0.0), (0, -1): None}
    assert list(found.errors) == list(pairwise([1, 0, -1]))
    assert not compare(reference, {}).sequence_right


PUBLISHED = {
    "V_Sb_1": {(0, -1): 0.180, (-1, -2): 0.047, (-2, -3): 0.069, (0, -3): 0.099},
    "V_Sb_2": {(0, -1): 0.041, (-1, -2): 0.096, (-2, -3): 0.141},
    "V_Se_1": {(2, 1): 0.212, (1, 0): 0.626},
    "V_Se_2": {(2, 1): 0.927, (1, 0): 0.782, (2, 0): 0.854},
    "V_Se_3": {(2, 1): 0.404, (1, 0): 0.537},
}
"""Levels of doi:10.1039/C9TA02022E, eV above the valence band maximum."""

PUBLISHED_STABLE = {"V_Sb_1": {(0, -3)}, "V_Se_2": {(2, 0)}}
"""Where levels stand in reversed order; elsewhere every successive level is a stable one."""


def test_published_levels_to_2_mev_through_the_loaded_dataset(shared: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from defectbench.datasets.catalogue import load_dataset

    monkeypatch.setenv("DEFECTBENCH_MIRROR", str(shared / "mirror"))
    data = load_dataset("sb2se3-savory-2019")

    def oracle(defect: str, charge: int, _configuration: str, _start: Atoms) -> tuple[Atoms, float]:
        ground = data.ground_state(defect, charge)
        return ground.atoms, ground.energy

    energies = {ground.atoms.positions.tobytes(): ground.energy for d, q in data.states if (ground := data.ground_state(d, q)) is not None}
    scoring = score(TASK, data, oracle, lambda atoms, charge: energies.get(atoms.positions.tobytes(), -350.570711))
    result = TASK.score(scoring)
    found: dict[str, dict[tuple[int, int], dict[str, Any]]] = {}
    for row in result.tables["levels"]:
        found.setdefault(row["defect"], {})[row["upper"], row["lower"]] = dict(row)
    assert set(found) == set(PUBLISHED)
    for defect, expected in PUBLISHED.items():
        assert {pair: found[defect][pair]["reference_ev"] for pair in expected} == pytest.approx(expected, abs=2e-3)
        assert {pair: found[defect][pair]["own_ev"] for pair in expected} == pytest.approx(expected, abs=2e-3)
        stable = {pair for pair, row in found[defect].items() if row["stable_reference"]}
        assert stable == PUBLISHED_STABLE.get(defect, {pair for pair, row in found[defect].items() if row["successive"]})
    assert {row["corrections"] for row in result.rows} == {"corrected"}
    neutral = next(row for row in result.rows if (row["defect"], row["charge"]) == ("V_Sb_1", 0))
    assert neutral["formation_energy_reference_ev"] == pytest.approx(3.201409, abs=2e-5), "published column A"
    assert neutral["formation_energy_own_ev"] == pytest.approx(3.201409, abs=2e-5)
    assert value(result, "level_mae") == pytest.approx(0.0, abs=1e-9)
    assert value(result, "basin_levels_right") == 1.0


CONTEXT = FigureContext("toy", "known", "Known landscape", "full", "PBE", "charge-aware")


@pytest.mark.parametrize("charge_class", ["charge-aware", "charge-blind"])
def test_the_figure_is_written(tmp_path: Path, charge_class: str) -> None:
    data = dataset(ENERGIES, SECOND, FULL_LEVEL)
    model = Model({q: e + 2.5 * q + 0.05 * q**2 for q, e in ENERGIES.items()}, wells={0: 1})
    result = TASK.score(score(TASK, data, model.relax, model.energy, charge_class))
    paths = TASK.draw(result, replace(CONTEXT, charge_class=charge_class), tmp_path)
    assert [path.name for path in paths] == ["transition_levels.png", "transition_levels.svg"]
    assert all(path.stat().st_size > 5000 for path in paths)
