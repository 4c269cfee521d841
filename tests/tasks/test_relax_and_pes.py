"""Tasks relax and pes against a landscape with known answers: who knows it scores 1, who does not scores at the baselines."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_landscape import (
    CONFIGURATIONS,
    DATASET,
    IN_GROUND_STATE,
    STATES,
    OracleDataset,
    failing,
    frozen,
    nearest_other_charge,
    oracle,
    random_forces,
    relaxation,
    scoring_input,
)
from refusals import raises_code

from defectbench.base.errors import RunError
from defectbench.calculations.plan import SelectedState
from defectbench.datasets.catalogue import load_dataset
from defectbench.scoring.intervals import bootstrap_interval, mean_interval
from defectbench.scoring.landscape import RMSD_CAP, cluster, reference_state
from defectbench.scoring.task import ConfigurationResult, FigureContext, ScoringInput
from defectbench.structures.matching import match
from defectbench.structures.symmetry import host_operations
from defectbench.tasks import get_tasks
from defectbench.tasks.pes import score as pes
from defectbench.tasks.relax import score as relax

OPERATIONS = host_operations(DATASET.host)


def values(result) -> dict[str, float | None]:
    return {m.name: m.value for m in result.metrics}


# Oracles


def test_who_knows_the_reference_scores_perfectly():
    result = relax.score(scoring_input(oracle))
    got = values(result)
    for name in ("rmsd", "local_rmsd", "max_displacement", "relative_rmsd", "host_referenced_rmsd", "host_drift", "spurious_minima"):
        assert got[name] == pytest.approx(0, abs=1e-9), name
    for name in ("success", "strict_success", "host_referenced_success", "reference_minimum_found", "converged"):
        assert got[name] == 1, name
    assert {row["verdict"] for row in result.rows} == {"none"}
    assert all(row["configuration"] == row["dft_configuration"] == "Dimer" for row in result.rows)
    assert all(row["dft_minima"] == 2 for row in result.rows)
    curves = pes.score(scoring_input(oracle))
    got = values(curves)
    assert got["curve_error"] == pytest.approx(0, abs=1e-9)
    assert got["rank_correlation"] == pytest.approx(1)
    assert got["same_minimum"] == 1
    assert got["ground_state_fraction"] == pytest.approx(len(IN_GROUND_STATE) / len(CONFIGURATIONS))
    assert curves.baselines["DFT"]["ground_state_fraction"] == pytest.approx(got["ground_state_fraction"])


def test_who_does_not_move_scores_the_unrelaxed_baseline():
    def still(defect, charge, configuration):
        return replace(frozen(defect, charge, configuration), energy=-2.0 if configuration == "Unperturbed" else -1.0)

    result = relax.score(scoring_input(still))
    got = values(result)
    for name, value in result.baselines["unrelaxed"].items():
        assert got[name] == pytest.approx(value, abs=1e-9), name
    assert got["relative_rmsd"] == pytest.approx(1)
    start = DATASET.starts("V_Ge1", -1)["Unperturbed"]
    expected = match(start, DATASET.ground_state("V_Ge1", -1).atoms, OPERATIONS).rmsd
    assert result.rows[1]["unrelaxed_rmsd"] == pytest.approx(expected, abs=1e-5)
    curves = pes.score(scoring_input(frozen))
    for name, value in curves.baselines["flat or unrelaxed"].items():
        assert values(curves)[name] == pytest.approx(value, abs=1e-5), name


def test_who_gives_another_charge_scores_that_baseline():
    result = relax.score(scoring_input(nearest_other_charge))
    got = values(result)
    for name, value in result.baselines["other_charge"].items():
        assert got[name] == pytest.approx(value, abs=1e-9), name
    for prefix in ("", "local_"):
        assert result.baselines["other_charge"][f"host_referenced_{prefix}rmsd"] == result.baselines["other_charge"][f"{prefix}rmsd"]
    assert result.rows[4]["other_charge"] == 0


def test_a_wild_start_counts_in_the_baseline_as_in_the_model():
    dataset = OracleDataset()
    for state in STATES:
        start = dataset._starts[state]["Unperturbed"]
        start.positions += np.random.default_rng(1).normal(size=start.positions.shape) * 1.5
    result = relax.score(scoring_input(lambda d, q, c: relaxation(dataset.starts(d, q)[c].positions, -1.0), dataset=dataset))
    assert all(row["unrelaxed_rmsd"] > RMSD_CAP for row in result.rows)
    ratio = len(STATES) * RMSD_CAP / sum(row["unrelaxed_rmsd"] for row in result.rows)
    assert result.baselines["unrelaxed"]["relative_rmsd"] == pytest.approx(ratio)
    assert set(result.baselines["unrelaxed"]) == set(relax.BASELINE_METRICS)


@pytest.mark.parametrize("parity", [0, 1])
def test_who_fails_half_does_not_beat_the_baseline(parity: int):
    model = failing(oracle, lambda k: k % 2 == parity)
    result = relax.score(scoring_input(model))
    got, baseline = values(result), result.baselines["unrelaxed"]
    for name in ("rmsd", "local_rmsd", "max_displacement", "relative_rmsd"):
        assert got[name] >= baseline[name], name
    for name in ("success", "strict_success"):
        assert got[name] <= baseline[name], name
    assert got["converged"] == pytest.approx((4 if parity else 3) / 7)
    row = result.rows[0]
    assert row["rmsd"] is None
    assert row["verdict"] == "no ground state"
    assert "converged" in row["reason"]
    assert not row["success"]
    curves = pes.score(scoring_input(model))
    assert values(curves)["rank_correlation"] <= curves.baselines["flat or unrelaxed"]["rank_correlation"] + 0.2
    assert values(curves)["curve_error"] >= curves.baselines["flat or unrelaxed"]["curve_error"]


def test_who_kicks_atoms_at_random_does_not_beat_the_baseline():
    result = relax.score(scoring_input(random_forces))
    got, baseline = values(result), result.baselines["unrelaxed"]
    assert got["rmsd"] > baseline["rmsd"]
    assert got["success"] <= baseline["success"]
    assert got["spurious_minima"] == pytest.approx(len(CONFIGURATIONS))
    assert values(pes.score(scoring_input(random_forces)))["same_minimum"] < 0.05


def test_everything_failing_is_the_worst_and_not_a_gap():
    model = failing(oracle, lambda _k: True)
    got = values(relax.score(scoring_input(model, host=relaxation(DATASET.host.positions, None, "failed", "atoms fly away"))))
    assert got["rmsd"] == RMSD_CAP
    assert got["success"] == got["converged"] == got["reference_minimum_found"] == 0
    assert got["host_drift"] is None
    assert got["host_referenced_rmsd"] is None
    result = pes.score(scoring_input(model))
    curves = values(result)
    assert curves.pop("energy_slope") is None
    assert curves == {
        "curve_reproduced": -1.0,
        "curve_error": 1.0,
        "rank_correlation": -1.0,
        "ground_state_fraction": 0.0,
        "same_minimum": 0.0,
    }
    assert all("only 0 of the 7" in row["reason"] for row in result.rows)
    assert "the model both relaxed" in result.metric("energy_slope").reason


def test_a_failed_host_is_held_against_the_model():
    result = relax.score(scoring_input(oracle, host=relaxation(DATASET.host.positions, None, "failed", "atoms fly away")))
    for name in ("host_drift", "host_referenced_rmsd", "host_referenced_success"):
        metric = result.metric(name)
        assert metric.value is None
        assert metric.applies
        assert "atoms fly away" in metric.reason
    assert result.rows[0]["host_referenced_success"] is None


# What counts as a miss


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(
    failed=st.sets(st.sampled_from(CONFIGURATIONS), min_size=1, max_size=7),
    seed=st.integers(0, 100),
    status=st.sampled_from(["failed", "unconverged"]),
)
def test_failing_never_improves_a_score(failed: set[str], seed: int, status: str):
    energies = dict(zip(CONFIGURATIONS, np.random.default_rng(seed).permutation(len(CONFIGURATIONS)) * 0.1, strict=True))

    def model(defect, charge, configuration):
        return replace(oracle(defect, charge, configuration), energy=energies[configuration])

    def broken(defect, charge, configuration):
        found = model(defect, charge, configuration)
        return replace(found, status=status, failure="no") if configuration in failed else found

    before, after = values(relax.score(scoring_input(model))), values(relax.score(scoring_input(broken)))
    for name in ("rmsd", "local_rmsd", "max_displacement", "relative_rmsd", "host_referenced_rmsd"):
        assert after[name] >= before[name] - 1e-9, name
    for name in ("success", "strict_success", "converged", "reference_minimum_found"):
        assert after[name] <= before[name] + 1e-9, name
    before, after = values(pes.score(scoring_input(model))), values(pes.score(scoring_input(broken)))
    assert after["same_minimum"] <= before["same_minimum"]
    assert after["ground_state_fraction"] <= before["ground_state_fraction"]


def test_an_unconverged_configuration_below_the_lowest_converged_one_is_a_miss():
    def model(defect, charge, configuration):
        found = oracle(defect, charge, configuration)
        return replace(found, status="unconverged", energy=-999.0) if configuration == "Unperturbed" else found

    row = relax.score(scoring_input(model)).rows[0]
    assert row["rmsd"] is None
    assert row["reason"].startswith("Unperturbed is lower in energy")


def test_a_result_that_is_not_there_is_a_miss():
    scoring = scoring_input(oracle)
    without = replace(scoring, configurations=tuple(c for c in scoring.configurations if c.configuration not in IN_GROUND_STATE))
    result = relax.score(without)
    assert {row["rmsd"] for row in result.rows} == {None}
    assert values(result)["converged"] == pytest.approx(4 / 7)


def test_positions_that_are_not_numbers_are_a_miss():
    def model(defect, charge, configuration):
        found = oracle(defect, charge, configuration)
        return replace(found, positions=found.positions * np.nan)

    result = relax.score(scoring_input(model))
    assert values(result)["success"] == 0
    assert "finite" in result.tables["configurations"][0]["reason"]


def test_an_energy_that_is_not_a_number_is_a_miss():
    result = relax.score(scoring_input(lambda d, q, c: replace(oracle(d, q, c), energy=float("nan"))))
    assert values(result)["success"] == 0
    json.dumps([dict(r) for r in result.rows], allow_nan=False)


# Host


def drifted(amplitude: float, seed: int = 5):
    field = np.random.default_rng(seed).normal(size=(len(DATASET.host), 3)) * amplitude / np.sqrt(3)
    field -= field.mean(axis=0)

    def model(defect, charge, configuration):
        found = oracle(defect, charge, configuration)
        return replace(found, positions=found.positions + field[DATASET.host_indices(defect)])

    return model, DATASET.host.positions + field


@pytest.mark.slow
def test_a_drifting_host_is_told_from_a_wrong_defect():
    model, host = drifted(0.3)
    result = relax.score(scoring_input(model, host))
    assert {row["verdict"] for row in result.rows} == {"host"}
    got = values(result)
    assert got["host_referenced_rmsd"] == pytest.approx(0, abs=1e-4)
    assert got["host_referenced_success"] == 1
    assert got["success"] == 0
    assert got["host_drift"] == pytest.approx(0.3, abs=0.05)
    wrong = relax.score(scoring_input(frozen))
    assert {row["verdict"] for row in wrong.rows} == {"defect"}
    both = relax.score(scoring_input(frozen, host))
    assert {row["verdict"] for row in both.rows} == {"host and defect"}
    cancelling = relax.score(scoring_input(oracle, host))
    assert {row["verdict"] for row in cancelling.rows} == {"cancelling"}


def test_one_run_of_the_host_has_no_interval_and_more_have_one():
    scoring = scoring_input(oracle, drifted(0.3)[1])
    result = relax.score(scoring)
    assert result.metric("host_drift").interval is None
    again = replace(scoring.host[1], relaxation=relaxation(drifted(0.1)[1], -200.0))
    more = relax.score(replace(scoring, host=(*scoring.host, again)))
    drift = more.metric("host_drift_rattled")
    low, high = drift.interval
    assert low < drift.value < high
    assert drift.value == pytest.approx(np.mean([r["drift"] for r in more.tables["host"] if r["start"] == "Rattled"]))
    broken = replace(again, relaxation=relaxation(DATASET.host.positions, None, "failed", "atoms fly away"))
    missed = relax.score(replace(scoring, host=(*scoring.host, broken))).metric("host_drift_rattled")
    assert (missed.value, missed.applies) == (None, True)


# Invariance


@pytest.mark.slow
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 10**6), operation=st.integers(0, 23), host_operation=st.integers(0, 23))
def test_scores_do_not_depend_on_how_structures_are_written(seed: int, operation: int, host_operation: int):
    generator = np.random.default_rng(seed)
    model, host = drifted(0.15)
    everything = scoring_input(model, host)
    plain = replace(everything, states=everything.states[1:4:2])

    def rewritten(numbers, positions, index):
        order = np.arange(len(numbers))
        for number in np.unique(numbers):
            own = np.flatnonzero(numbers == number)
            order[own] = generator.permutation(own)
        return (OPERATIONS.apply(index, positions) + generator.uniform(-9, 9, 3))[order]

    configurations = []
    for c in plain.configurations:
        numbers = DATASET.starts(c.defect, c.charge)[c.configuration].numbers
        positions = rewritten(numbers, c.relaxation.positions, operation)
        configurations.append(replace(c, relaxation=replace(c.relaxation, positions=positions)))
    hosts = tuple(
        replace(h, relaxation=replace(h.relaxation, positions=rewritten(DATASET.host.numbers, h.relaxation.positions, host_operation)))
        for h in plain.host
    )
    shuffled = [configurations[i] for i in generator.permutation(len(configurations))]
    states = tuple(SelectedState(s.defect, s.charge, s.configurations[::-1]) for s in plain.states[::-1])
    other = replace(plain, configurations=tuple(shuffled), host=hosts, states=states)
    for score in (relax.score, pes.score):
        first, second = score(plain), score(other)
        for a, b in zip(first.metrics, second.metrics, strict=True):
            assert a.value == pytest.approx(b.value, abs=2e-5), a.name
        assert [r["verdict"] for r in first.rows if "verdict" in r] == [r["verdict"] for r in second.rows if "verdict" in r]


def test_scoring_twice_gives_the_same():
    assert relax.score(scoring_input(random_forces)) == relax.score(scoring_input(random_forces))


# Pieces


def test_reference_minima_are_told_apart():
    state = reference_state(DATASET, "V_Ge1", 0, OPERATIONS)
    assert len(state.distinct) == 2
    assert [name for name, i in state.membership.items() if i == 0] == sorted(IN_GROUND_STATE, key=lambda n: state.minima[n].energy)
    assert state.ground.configuration == "Dimer"


def test_clusters_need_structure_and_energy():
    atoms = DATASET.ground_state("V_Ge1", 0).atoms
    other = DATASET.minima("V_Ge1", 0)["Unperturbed"].atoms
    assert cluster([(0.0, atoms), (0.01, atoms.copy()), (0.5, atoms.copy()), (0.0, other)], OPERATIONS) == [0, 0, 2, 3]


def test_basin_is_the_nearest_minimum_or_none():
    def model(defect, charge, configuration):
        return replace(oracle(defect, charge, "Unperturbed"), energy=-1.0)

    result = relax.score(scoring_input(model))
    assert {row["minimum"] for row in result.rows} == {"Unperturbed"}
    assert all(row["energy_above_ground_state"] == pytest.approx(0.299, abs=1e-6) for row in result.rows)
    assert {row["verdict"] for row in result.rows} == {"wrong minimum"}
    assert result.metric("success").value == 0
    assert result.metric("ground_state_found").value == pytest.approx(0, abs=1e-6)
    assert {row["spurious_minima"] for row in result.rows} == {0}


def test_mean_interval_is_the_bootstrap_of_the_mean():
    data = np.random.default_rng(3).normal(size=7)
    assert mean_interval(data) == pytest.approx(bootstrap_interval(data, lambda v: float(v.mean())))
    assert mean_interval(data[:1]) is None
    low, high = mean_interval(data)
    assert low < data.mean() < high


def test_rank_correlation():
    assert pes.rank_correlation([0.0, 0.1, 0.2], [1.0, 1.5, 9.0]) == pytest.approx(1)
    assert pes.rank_correlation([0.2, 0.1, 0.0], [1.0, 1.5, 9.0]) == pytest.approx(-1)
    assert pes.rank_correlation([0.2, 0.1, 0.0], [1.0, 1.001, 1.002]) is None
    assert pes.rank_correlation([0.2, 0.2, 0.2], [1.0, 2.0, 3.0]) == 0
    # what is a tie does not depend on the zero of energy
    for zero in (0.0, 0.0049, 0.005, 0.0051):
        assert pes.rank_correlation([0.0, 0.1, 0.2], [zero, zero + 0.004, zero + 0.3]) == pytest.approx(np.sqrt(0.75))
        assert pes.rank_correlation([0.0, 0.1, 0.2], [zero, zero + 0.002, zero + 0.004]) is None
    scipy_stats = pytest.importorskip("scipy.stats")
    a, b = np.random.default_rng(0).normal(size=(2, 12)).round(2)
    assert pes.rank_correlation(a, b) == pytest.approx(scipy_stats.spearmanr(a, b).statistic)


def test_a_curve_with_little_dft_says_so():
    dataset = OracleDataset()
    for state in STATES:
        dataset._minima[state] = {n: m for n, m in dataset._minima[state].items() if n in ("Dimer", "Unperturbed")}
    result = pes.score(scoring_input(oracle, dataset=dataset))
    for name in ("curve_error", "rank_correlation", "energy_slope"):
        metric = result.metric(name)
        assert metric.value is None
        assert not metric.applies
        assert metric.reason
    assert result.rows[0]["reason"]
    assert result.metric("same_minimum").value == 1


def with_minima(chosen, energy=lambda _defect, _charge, _name, minimum: minimum.energy) -> OracleDataset:
    """The dataset with some of its minima, their energies changed."""
    dataset = OracleDataset()
    for (defect, charge), minima in dataset._minima.items():
        dataset._minima[defect, charge] = {
            n: replace(m, energy=energy(defect, charge, n, m)) for n, m in minima.items() if chosen(defect, charge, n)
        }
    return dataset


def test_three_configurations_make_a_curve_and_no_rank():
    for number, ranked in ((3, False), (4, False), (5, True)):
        dataset = with_minima(lambda _d, _q, name, number=number: name in CONFIGURATIONS[:number])
        result = pes.score(scoring_input(oracle, dataset=dataset))
        assert result.metric("curve_error").value == pytest.approx(0, abs=1e-9)
        assert result.metric("energy_slope").value == pytest.approx(1)
        rank = result.metric("rank_correlation")
        if ranked:
            assert rank.value == pytest.approx(1)
            assert result.rows[0]["reason"] is None
        else:
            assert rank.value is None
            assert not rank.applies
            assert result.rows[0]["reason"] == f"DFT has relaxed {number} of the selected configurations; a rank needs 5"


def test_energies_that_agree_are_no_order_and_the_reason_says_so():
    dataset = with_minima(lambda *_: True, lambda _d, _q, name, _m: -100.0 + 0.0014 * CONFIGURATIONS.index(name))
    result = pes.score(scoring_input(oracle, dataset=dataset))
    rank = result.metric("rank_correlation")
    assert rank.value is None
    assert not rank.applies
    assert "agree within 10 meV" in rank.reason
    assert "agree within 10 meV" in result.rows[0]["reason"]
    assert result.metric("energy_slope").value is None
    assert "10 meV apart" in result.metric("energy_slope").reason


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(st.permutations(range(6)), st.lists(st.integers(0, 5), min_size=6, max_size=6), st.integers(1, 4))
def test_an_energy_that_is_lacking_takes_the_worst_place(reference, model, lacking):
    dft = {str(i): float(e) for i, e in enumerate(reference)}
    known = {str(i): float(e) for i, e in enumerate(model) if i >= lacking}
    found = pes.worst_rank_correlation(known, dft)
    answers = (
        product(np.arange(-0.5, 6.0, 0.5), repeat=lacking) if lacking < 3 else permutations([-2.0, -1.0, 0.25, 2.5, 6.0, 7.0, 8.0], lacking)
    )
    for answer in answers:
        energies = known | {str(i): e for i, e in enumerate(answer)}
        assert found <= pes.rank_correlation([energies[n] for n in dft], list(dft.values())) + 1e-9


def test_many_lacking_energies_go_to_the_two_ends():
    dft = {str(i): float(i) for i in range(40)}
    known = {str(i): float(i) for i in range(0, 40, 2)}
    found = pes.worst_rank_correlation(known, dft)
    last, first = ({name: sign * (100.0 - dft[name]) for name in dft if name not in known} for sign in (1, -1))
    for answer in (last, first):
        energies = known | answer
        assert found <= pes.rank_correlation([energies[name] for name in dft], list(dft.values())) + 1e-9
    assert -1 < found < 0.2


def test_a_relaxation_on_its_way_far_below_spoils_the_whole_curve():
    """Were it left out, stopping it would cost one configuration, and finishing it all of them."""

    def collapsing(status):
        def model(defect, charge, configuration):
            right = oracle(defect, charge, configuration)
            return replace(right, energy=right.energy - 9.0, status=status) if configuration == "Dimer" else right

        return model

    finished, stopped = (values(pes.score(scoring_input(collapsing(s)))) for s in ("converged", "unconverged"))
    assert stopped["curve_error"] >= finished["curve_error"] > 0.8


@pytest.mark.parametrize(("failed", "rank"), [(1, 0.25), (4, -6 / 7), (5, -1.0), (7, -1.0)])
def test_failures_are_held_against_the_rank_and_too_many_are_a_miss(failed: int, rank: float):
    """DFT has seven. The first ones fail; those left are ordered as DFT orders them."""
    dataset = with_minima(lambda *_: True, lambda _d, _q, name, _m: -0.1 * CONFIGURATIONS.index(name))

    def model(defect, charge, configuration):
        return relaxation(oracle(defect, charge, configuration).positions, -0.1 * CONFIGURATIONS.index(configuration))

    result = pes.score(scoring_input(failing(model, lambda k: k < failed), dataset=dataset))
    assert result.metric("rank_correlation").value == pytest.approx(rank)
    assert all(row["rank_correlation"] == pytest.approx(rank, abs=1e-5) for row in result.rows)
    if rank == -1:
        assert f"only {7 - failed} of the 7 configurations with DFT converged" in result.rows[0]["reason"]


def test_a_soft_surface_has_the_slope_that_it_has():
    def soft(defect, charge, configuration):
        found = oracle(defect, charge, configuration)
        return replace(found, energy=7.0 + 0.4 * found.energy)

    result = pes.score(scoring_input(soft))
    assert result.metric("energy_slope").value == pytest.approx(0.4)
    assert all(row["energy_slope"] == pytest.approx(0.4) for row in result.rows)
    low, high = result.metric("energy_slope").interval
    assert low == pytest.approx(high)
    definition = next(d for d in pes.METRICS if d.name == "energy_slope")
    assert definition.direction == "none"
    assert any("parity" in note for note in result.notes)


# Baselines of pes


def test_who_gives_another_charge_s_minima_scores_that_baseline():
    """Charge 0 looks like charge -1, energies and structures; what DFT lacks at the other charge is a miss."""
    dataset = OracleDataset()
    lacking = "Bond_Distortion_20.0%"
    for charge, number in ((-1, 0), (0, 1)):
        dataset._minima["V_Ge1", charge] = {
            n: replace(m, charge=charge, energy=m.energy + 17.0 * number)
            for n, m in dataset._minima["V_Ge1", -2].items()
            if charge == 0 or n != lacking
        }

    def neighbour(defect, charge, configuration):
        other = {("V_Ge1", 0): -1}.get((defect, charge))
        minimum = dataset.minima(defect, charge if other is None else other).get(configuration)
        if minimum is None:
            return relaxation(dataset.starts(defect, charge)[configuration].positions, None, "failed", "DFT has none")
        return relaxation(minimum.atoms.positions, minimum.energy)

    scoring = scoring_input(neighbour, dataset=dataset)
    only = replace(scoring, states=tuple(s for s in scoring.states if (s.defect, s.charge) == ("V_Ge1", 0)))
    # charge -2 has all of them and is as good a guess otherwise
    result = pes.score(only)
    assert result.rows[0]["other_charge"] == -2
    assert result.baselines["other_charge"]["curve_error"] == pytest.approx(0, abs=1e-9)
    assert result.baselines["other_charge"]["same_minimum"] == 1
    dataset._minima["V_Ge1", -2] = {}
    result = pes.score(only)
    got, baseline = values(result), result.baselines["other_charge"]
    assert result.rows[0]["other_charge"] == -1
    assert baseline["curve_error"] == pytest.approx(1 / 7)
    assert baseline["same_minimum"] == pytest.approx(6 / 7)
    assert baseline["rank_correlation"] < 6 / 7
    for name, value in baseline.items():
        assert got[name] == pytest.approx(value, abs=1e-9), name


def test_unrelaxed_starts_are_matched_with_the_minimum_of_the_same_configuration():
    dataset = OracleDataset()
    for state in STATES:
        # two starts lie in their own second minimum, one of the others in the ground state that it does not lead to
        dataset._starts[state]["Unperturbed"] = dataset._minima[state]["Unperturbed"].atoms.copy()
        dataset._starts[state]["Bond_Distortion_40.0%"] = dataset._minima[state]["Bond_Distortion_40.0%"].atoms.copy()
        dataset._starts[state]["Bond_Distortion_20.0%"] = dataset._minima[state]["Dimer"].atoms.copy()
    baseline = pes.score(scoring_input(oracle, dataset=dataset)).baselines["flat or unrelaxed"]
    # the other starts are too far from any minimum to count
    assert baseline["same_minimum"] == pytest.approx(2 / 7)
    assert baseline["ground_state_fraction"] == pytest.approx(1 / 7)


def test_a_defect_with_one_charge_has_no_other_charge_s_curve():
    dataset = with_minima(lambda d, q, _n: d == "V_S1" or q == 0)
    result = pes.score(scoring_input(oracle, dataset=dataset))
    row = next(r for r in result.rows if r["defect"] == "V_Ge1")
    assert row["other_charge"] is None
    assert row["other_charge_curve_error"] is None
    assert any("V_Ge1 0" in note for note in result.notes)


def test_a_lone_charge_state_has_no_other_charge_baseline():
    dataset = OracleDataset()
    for state in STATES[1:3]:
        dataset._minima[state] = {}
    result = relax.score(scoring_input(oracle, dataset=dataset))
    row = next(r for r in result.rows if r["defect"] == "V_Ge1")
    assert row["other_charge"] is None
    assert any("other charge" in note for note in result.notes)


def test_nothing_selected_is_no_score():
    empty = ScoringInput(DATASET, (), (), (), "charge-blind")
    for task in get_tasks(["relax", "pes"]):
        result = task.score(empty)
        assert all(m.value is None and m.reason and not m.applies for m in result.metrics), task.name


def test_tables_are_flat_json_with_the_same_columns():
    for task in get_tasks(["relax", "pes"]):
        result = task.score(scoring_input(failing(random_forces, lambda k: k == 3)))
        assert {m.name for m in result.metrics} == {d.name for d in task.metrics}
        for rows in (result.rows, *result.tables.values()):
            assert len({tuple(row) for row in rows}) == 1
            json.dumps([dict(row) for row in rows], allow_nan=False)


def test_the_registry():
    names = [task.name for task in get_tasks()]
    assert names[:2] == ["relax", "pes"]
    assert [t.name for t in get_tasks(["pes", "relax", "pes"])] == ["pes", "relax"]
    with raises_code("unknown-task", "relax"):
        get_tasks(["relaks"])
    for task in get_tasks(["relax", "pes"]):
        for metric in task.metrics:
            assert (metric.good is None) == (metric.bad is None) == (metric.direction == "none")


def test_the_documented_example_is_a_task(tmp_path, monkeypatch):
    text = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    Path("metrics.yaml").write_text(text.split("```yaml")[1].split("```")[0])
    namespace: dict = {}
    exec(text.split("```python")[1].split("```")[0], namespace)
    task = namespace["TASK"]
    assert task.score(scoring_input(oracle)).metric("steps").value == 10
    assert task.score(scoring_input(failing(oracle, lambda _k: True))).metric("steps").value == 1000


def test_baselines_of_the_published_vacancies(shared, monkeypatch):
    """The unrelaxed vacancy passes 0.1 Å in 6 of 17 charge states, another charge's geometry in 15 of 17; locally hardly any does."""
    monkeypatch.setenv("DEFECTBENCH_MIRROR", str(shared / "mirror"))
    dataset = load_dataset("sb2se3-savory-2019")
    vacancies = [(d, q) for d, q in dataset.states if d.startswith("V_") and dataset.has_reference(d, q)]
    states = tuple(SelectedState(d, q, ("Unperturbed",)) for d, q in vacancies)
    starts = {(d, q): dataset.starts(d, q)["Unperturbed"] for d, q in vacancies}
    results = tuple(ConfigurationResult(d, q, "Unperturbed", relaxation(starts[d, q].positions, -1.0)) for d, q in vacancies)
    result = relax.score(ScoringInput(dataset, states, results, (), "charge-blind"))
    baselines = result.baselines
    assert len(result.rows) == 17
    assert (round(baselines["unrelaxed"]["success"] * 17), round(baselines["other_charge"]["success"] * 17)) == (6, 15)
    assert baselines["unrelaxed"]["strict_success"] == 0
    assert round(baselines["other_charge"]["strict_success"] * 17) == 7
    assert result.metric("rmsd").value == pytest.approx(baselines["unrelaxed"]["rmsd"])


# Figures


CONTEXT = FigureContext("a model", "toy-data", "Toy data", "full", "PBE", "charge-aware")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["relax", "pes"])
def test_a_figure_is_drawn_from_a_result_alone_and_is_the_same_each_time(name: str, tmp_path):
    (task,) = get_tasks([name])
    result = task.score(scoring_input(failing(random_forces, lambda k: k in (1, 2, 4))))
    paths = task.draw(result, CONTEXT, tmp_path / "figures")
    assert [p.name for p in paths] == [f"{name}.png", f"{name}.svg"]
    first = paths[1].read_bytes()
    task.draw(result, CONTEXT, tmp_path / "figures")
    assert paths[1].read_bytes() == first
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(RunError):
        task.draw(result, CONTEXT, file)


@pytest.mark.parametrize("name", ["relax", "pes"])
def test_figure_of_nothing(name: str, tmp_path):
    (task,) = get_tasks([name])
    assert task.draw(task.score(ScoringInput(DATASET, (), (), (), "charge-blind")), CONTEXT, tmp_path) == []


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """The figure of a result, before it is written."""
    kept = []
    monkeypatch.setattr("defectbench.plotting.style.save", lambda made, *_: kept.append(made) or [])

    def draw(task, result, **context):
        task.draw(result, replace(CONTEXT, **context), tmp_path)
        return kept.pop()

    return draw


def marks(axes) -> int:
    """Coloured marks of a panel: those of the curves."""
    return sum(len(c.get_offsets()) for c in axes.collections if c.get_array() is not None)


def test_a_curve_of_one_point_is_not_drawn(drawn):
    (task,) = get_tasks(["pes"])
    dataset = with_minima(lambda _d, _q, name: name == "Unperturbed")
    panel = drawn(task, task.score(scoring_input(oracle, dataset=dataset))).axes[0]
    assert marks(panel) == len(CONFIGURATIONS)  # the model's alone
    assert any("PBE: 1 start" in text.get_text() for text in panel.texts)


def test_a_quick_suite_shows_the_points_it_has(drawn):
    (task,) = get_tasks(["pes"])
    plain = scoring_input(oracle)
    few = ("Unperturbed", "Dimer")
    states = tuple(replace(s, configurations=few) for s in plain.states)
    panel = drawn(task, task.score(replace(plain, states=states)), suite="quick").axes[0]
    assert marks(panel) == len(few) + len(CONFIGURATIONS)  # DFT's other starts are there, too, but pale
    pale = [c for c in panel.collections if c.get_array() is not None and c.get_alpha() != 1.0]
    assert sum(len(c.get_offsets()) for c in pale) == len(CONFIGURATIONS) - len(few)


def test_a_figure_names_its_data_and_its_title_is_a_sentence(drawn):
    for task in get_tasks(["relax", "pes"]):
        made = drawn(task, task.score(scoring_input(oracle)))
        assert made.get_suptitle().strip().endswith(".")
        assert any(CONTEXT.source in getattr(artist, "get_text", str)() for artist in made.artists)
