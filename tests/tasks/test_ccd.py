"""Configuration-coordinate diagrams on harmonic landscapes, where ħΩ, ΔE_relax and S are known exactly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from known_landscape import DEFECT, Energy, dataset, geometry, score

from defectbench.leaderboard.scores import score_metric
from defectbench.scoring.intervals import bootstrap_interval
from defectbench.scoring.task import FigureContext, TaskResult
from defectbench.structures.configuration_coordinate import configuration_path, hbar_omega, mass_weighted_displacements, path_structures
from defectbench.structures.symmetry import host_operations
from defectbench.tasks.ccd import TASK
from defectbench.tasks.ccd.score import FRACTIONS, METRICS, diagrams, reference_points
from defectbench.thermodynamics.curves import curve_properties

DFT_FRACTIONS = (-0.15, 0.0, 0.25, 0.5, 0.75, 1.0, 1.15)
"""Where the reference calculations of the project's own dataset are: fewer points than models are asked for."""

COMPARED = ("curve_mae", "relaxation_energy_mae", "frequency_error", "huang_rhys_error")

ENERGIES = {1: -100.6, 0: -100.0, -1: -99.2}
QUANTA = {1: 0.020, 0: 0.025, -1: 0.032}
"""ħΩ of each charge, eV."""


def harmonic(atoms: Atoms, charge: int, centre: Atoms, quantum: float | None = None) -> float:
    """E_q + ½ Ω² Q², the same in all directions of mass-weighted space."""
    q = mass_weighted_displacements(atoms, centre)
    curvature = ((QUANTA[charge] if quantum is None else quantum) / hbar_omega(1.0)) ** 2
    return ENERGIES[charge] + 0.5 * curvature * float(np.sum(atoms.get_masses()[:, None] * q**2))


def truth(atoms: Atoms, charge: int | None) -> float:
    if len(atoms) != len(geometry(0)) or charge is None:
        return 0.0
    return harmonic(atoms, charge, geometry(charge))


def relax(_defect: str, charge: int, _configuration: str, _start: Atoms) -> tuple[Atoms, float]:
    return geometry(charge), ENERGIES[charge]


def anharmonic(atoms: Atoms, charge: int | None) -> float:
    """The harmonic surface, softer towards more positive charges' geometries and steeper the other way, along the line they lie on."""
    if len(atoms) != len(geometry(0)) or charge is None:
        return 0.0
    line = mass_weighted_displacements(geometry(1), geometry(0))
    moved = mass_weighted_displacements(atoms, geometry(charge))
    masses = atoms.get_masses()[:, None]
    along = float(np.sum(masses * moved * line) / np.sum(masses * line**2))
    return ENERGIES[charge] + (harmonic(atoms, charge, geometry(charge)) - ENERGIES[charge]) * float(np.exp(-0.5 * along))


def path_frames(fractions: tuple[float, ...] = FRACTIONS, energy: Energy = truth) -> dict[tuple[int, str], list[tuple[Atoms, float]]]:
    """Reference energies on every path, as a dataset stores them: single points of both charges as an unconverged configuration.

    A charge's own end point is its ground state and not stored again.
    """
    data = dataset(ENERGIES)
    out: dict[tuple[int, str], list[tuple[Atoms, float]]] = {}
    for diagram in diagrams(data, data.states):
        for fraction, atoms in zip(fractions, path_structures(diagram.path, fractions), strict=True):
            for charge in (diagram.upper, diagram.lower):
                if fraction != diagram.own_end(charge):
                    frames = out.setdefault((charge, f"Path_q{diagram.upper:+d}_q{diagram.lower:+d}"), [])
                    frames.append((atoms, energy(atoms, charge)))
    return out


def scored(
    energy: Energy = truth,
    charge_class: str = "charge-aware",
    with_path: bool = True,
    reference: Energy = truth,
    fractions: tuple[float, ...] = FRACTIONS,
) -> TaskResult:
    data = dataset(ENERGIES, path_frames=path_frames(fractions, reference) if with_path else None)
    return TASK.score(score(TASK, data, relax, energy, charge_class))


def value(result: TaskResult, name: str) -> float | None:
    return result.metric(name).value


def test_the_reference_itself_is_perfect_and_its_numbers_are_the_known_ones() -> None:
    result = scored()
    assert [m.name for m in result.metrics] == [m.name for m in METRICS]
    for metric in METRICS:
        assert value(result, metric.name) == pytest.approx(1.0 if metric.direction == "higher" else 0.0, abs=1e-4), metric.name
    assert [(row["upper"], row["lower"], row["charge"]) for row in result.rows] == [(1, 0, 1), (1, 0, 0), (0, -1, 0), (0, -1, -1)]
    for row in result.rows:
        quantum, delta_q = QUANTA[row["charge"]], row["delta_q_reference"]
        relaxation = 0.5 * (quantum / hbar_omega(1.0)) ** 2 * delta_q**2
        assert row["hbar_omega_mev"] == pytest.approx(1000 * quantum, rel=1e-3)
        assert row["relaxation_energy_ev"] == pytest.approx(relaxation, rel=1e-3)
        assert row["huang_rhys"] == pytest.approx(relaxation / quantum, rel=1e-3)
        assert row["huang_rhys_reference"] == pytest.approx(row["huang_rhys"], rel=1e-3)
        assert row["minimum_at"] == pytest.approx(row["minimum_reference"], abs=1e-4)
        assert row["delta_q_own"] == pytest.approx(delta_q, rel=1e-4)
        assert row["points"] == row["reference_points"] == len(FRACTIONS)
    json.dumps([result.rows, result.tables, result.baselines, result.notes])


def test_a_softer_model_is_wrong_by_what_was_put_in() -> None:
    """ħΩ of 0.9 of the reference: ΔE_relax falls by 19 %, S by 10 %."""
    result = scored(lambda atoms, q: 0.0 if q is None or len(atoms) > 15 else harmonic(atoms, q, geometry(q), 0.9 * QUANTA[q]))
    assert value(result, "frequency_error") == pytest.approx(0.1, abs=1e-3)
    assert value(result, "huang_rhys_error") == pytest.approx(0.1, abs=2e-3)
    relaxations = [row["relaxation_energy_reference_ev"] for row in result.rows]
    assert value(result, "relaxation_energy_mae") == pytest.approx(0.19 * np.mean(relaxations), rel=2e-3)
    assert value(result, "minimum_offset") == pytest.approx(0.0, abs=1e-4)
    assert value(result, "curve_mae") > 0.0


def test_without_energies_on_the_path_only_the_ends_are_compared() -> None:
    result = scored(with_path=False)
    assert value(result, "minimum_offset") == pytest.approx(0.0, abs=1e-4)
    assert value(result, "delta_q_error") == pytest.approx(0.0, abs=1e-6)
    assert value(result, "curves_bound") == 1.0
    for name in ("curve_mae", "relaxation_energy_mae", "frequency_error", "huang_rhys_error"):
        metric = result.metric(name)
        assert metric.value is None
        assert not metric.applies
        assert metric.reason
    assert all(row["hbar_omega_mev"] is not None and row["hbar_omega_reference_mev"] is None for row in result.rows)
    assert any("no energies along the paths" in note for note in result.notes)


@pytest.mark.parametrize("charge_class", ["charge-blind", "energy-only"])
def test_different_starts_do_not_make_a_change_with_charge(charge_class: str) -> None:
    """Its relaxations end where DFT's do, each from the start of its charge: one surface has one set of minima all the same."""
    result = scored(truth, charge_class)
    assert all(row["delta_q_own"] == 0 and row["delta_q_error"] == 1 for row in result.rows)
    assert value(result, "delta_q_error") == 1


def test_a_charge_blind_model_has_one_curve_and_no_better_scores_than_the_baseline() -> None:
    """It knows the neutral surface exactly and is asked for +1, 0 and −1: for one of two charges of each pair it is right."""
    asked: list[int | None] = []

    def blind(atoms: Atoms, charge: int | None) -> float:
        asked.append(charge)
        return 0.0 if len(atoms) > 15 else harmonic(atoms, 0, geometry(0))

    data = dataset(ENERGIES)
    scoring = score(TASK, data, lambda *a: (geometry(0), ENERGIES[0]), blind, "charge-blind")
    result = TASK.score(scoring)
    assert set(asked) == {None}
    assert sum(s.result.kind == "single_point" for s in scoring.answers.stored.values()) == 2 * len(FRACTIONS) - 1, (
        "one curve a pair, one shared end"
    )
    base = result.baselines["one curve for both charges"]
    assert value(result, "minimum_offset") == pytest.approx(base["minimum_offset"], abs=1e-3)
    assert value(result, "curves_bound") == pytest.approx(base["curves_bound"])
    assert value(result, "delta_q_error") == pytest.approx(base["delta_q_error"])
    assert all(row["one_curve"] for row in result.rows)
    assert any("charge-blind" in note for note in result.notes)
    falling = [row for row in result.rows if row["charge"] != 0]
    assert all("falls towards the other end" in row["reason"] and row["huang_rhys"] is None for row in falling)


def test_failures_count_as_misses() -> None:
    data = dataset(ENERGIES, path_frames=path_frames())

    def fails(defect: str, charge: int, configuration: str, start: Atoms) -> tuple[Atoms, float] | None:
        return None if charge == 1 else relax(defect, charge, configuration, start)

    result = TASK.score(score(TASK, data, fails, lambda atoms, q: float("nan") if q == 1 else truth(atoms, q)))
    assert value(result, "delta_q_error") == pytest.approx(0.5)
    for name in ("curve_mae", "frequency_error", "huang_rhys_error", "minimum_offset", "relaxation_energy_mae"):
        assert value(result, name) == pytest.approx(0.25, abs=1e-3), name
    assert value(result, "curves_bound") == 0.75
    first = result.rows[0]
    assert "single point failed" in first["reason"]
    assert "it fell apart" in first["reason"]


def test_an_oracle_of_an_anharmonic_curve_is_perfect_though_the_reference_has_fewer_points() -> None:
    """Parabolas of model and reference go through the same points; over all its own the model's would be another one."""
    result = scored(anharmonic, reference=anharmonic, fractions=DFT_FRACTIONS)
    for name in COMPARED:
        assert value(result, name) == pytest.approx(0.0, abs=1e-6), name
    for metric in METRICS:
        if metric.direction != "none":
            assert score_metric(metric, result.metric(metric.name)).score == pytest.approx(1.0), metric.name
    for row in result.rows:
        assert row["reference_points"] == len(DFT_FRACTIONS)
        assert row["points"] == len(FRACTIONS)
        assert row["hbar_omega_mev"] == row["hbar_omega_reference_mev"]
        assert row["huang_rhys"] == row["huang_rhys_reference"]
    elsewhere = scored(anharmonic, with_path=False)
    difference = [abs(a["hbar_omega_mev"] / b["hbar_omega_mev"] - 1) for a, b in zip(elsewhere.rows, result.rows, strict=True)]
    assert max(difference) > 0.02, "else the curve is too harmonic to show the difference"


def test_a_reference_with_too_few_points_has_no_frequency_to_compare() -> None:
    result = scored(fractions=(0.0, 0.5, 1.0))
    assert value(result, "curve_mae") == pytest.approx(0.0, abs=1e-6)
    assert value(result, "relaxation_energy_mae") == pytest.approx(0.0, abs=1e-6)
    for name in ("frequency_error", "huang_rhys_error"):
        assert value(result, name) is None
        assert not result.metric(name).applies
    assert all(row["hbar_omega_mev"] is not None for row in result.rows), "the model's own is shown"


def test_curves_without_reference_points_enter_no_comparison_and_the_note_says_so() -> None:
    frames = {key: found for key, found in path_frames(DFT_FRACTIONS).items() if key[0] == 1}
    data = dataset(ENERGIES, path_frames=frames)
    result = TASK.score(score(TASK, data, relax, truth))
    assert value(result, "curve_mae") == pytest.approx(0.0, abs=1e-6)
    assert any("1 of 4 curves" in note for note in result.notes)
    assert "curve_mae" not in result.baselines["one curve for both charges"], "of that path the reference has one charge only"


def test_frames_that_are_nearly_on_the_path_but_at_another_fraction_are_no_points_of_it() -> None:
    data = dataset(ENERGIES)
    diagram = diagrams(data, data.states)[0]
    off = [(diagram.path.structure(f), -50.0) for f in (0.26, 0.51)]
    aside = diagram.path.structure(0.75)
    aside.positions += 0.1 * np.random.default_rng(3).normal(size=aside.positions.shape)
    data = dataset(ENERGIES, path_frames={(1, "Rattled"): [*off, (aside, -50.0), (diagram.path.structure(0.25), -60.0)]})
    assert reference_points(data, diagram, 1) == {0.0: ENERGIES[1], 0.25: -60.0}


def _failing_at(lost: float, charge: int = 1) -> Energy:
    """The truth, but for one point of the path between +1 and 0."""
    data = dataset(ENERGIES)
    gone = diagrams(data, data.states)[0].path.structure(lost).positions

    def energy(atoms: Atoms, q: int | None) -> float:
        return float("nan") if q == charge and np.allclose(atoms.positions, gone, atol=1e-9) else truth(atoms, q)

    return energy


@pytest.mark.parametrize("lost", [f for f in FRACTIONS if f not in (0.0, 1.0)])
def test_a_curve_with_one_missing_point_is_a_miss(lost: float) -> None:
    """The lowest of the remaining points need not be the minimum, nor is the curve's error known."""
    result = scored(_failing_at(lost))
    for name in ("minimum_offset", "curve_mae", "frequency_error", "huang_rhys_error"):
        assert value(result, name) == pytest.approx(0.25, abs=1e-3), name
    assert value(result, "curves_bound") == 0.75
    assert value(result, "relaxation_energy_mae") == pytest.approx(0.0, abs=1e-6), "both ends are there"
    row = next(row for row in result.rows if row["upper"] == 1 and row["charge"] == 1)
    assert row["minimum_at"] is row["hbar_omega_mev"] is row["curve_error_ev"] is None
    assert row["points"] == len(FRACTIONS) - 1
    assert row["reason"]
    assert any("1 of 4 curves" in note for note in result.notes)


def test_a_missing_own_end_is_a_miss_and_not_the_next_lowest_point() -> None:
    result = scored(_failing_at(0.0))
    assert value(result, "minimum_offset") == pytest.approx(0.25, abs=1e-3)
    assert value(result, "relaxation_energy_mae") == pytest.approx(0.25, abs=1e-3)


def test_the_baseline_is_the_references_curve_of_one_charge_for_both() -> None:
    """By hand: perfect for the charge whose curve it is; for the other charge no bound curve, and the error of the relaxation energy."""
    result = scored(fractions=DFT_FRACTIONS)
    base = result.baselines["one curve for both charges"]
    assert set(base) == {"delta_q_error", "minimum_offset", "curves_bound", *COMPARED}
    assert base["frequency_error"] < 0.5 + 1e-9
    assert base["huang_rhys_error"] == pytest.approx(0.5)
    data = dataset(ENERGIES)
    curve, relaxation = [], []
    for diagram in diagrams(data, data.states):
        at = {q: {f: truth(diagram.path.structure(f), q) for f in DFT_FRACTIONS} for q in (diagram.upper, diagram.lower)}
        options = []
        for mine, other in ((diagram.upper, diagram.lower), (diagram.lower, diagram.upper)):
            own, far = diagram.own_end(other), 1.0 - diagram.own_end(other)
            wrong = [abs(at[mine][f] - at[mine][own] - at[other][f] + at[other][own]) for f in DFT_FRACTIONS if f != own]
            options.append((np.mean(wrong), abs(at[mine][far] - at[mine][own] - at[other][far] + at[other][own])))
        best = min(options)
        curve.append(min(best[0], 1.0) / 2)
        relaxation.append(min(best[1], 1.0) / 2)
    assert base["curve_mae"] == pytest.approx(np.mean(curve))
    assert base["relaxation_energy_mae"] == pytest.approx(np.mean(relaxation))


def test_no_charge_blind_model_made_of_the_references_curves_is_better_than_the_baseline() -> None:
    base = scored(fractions=DFT_FRACTIONS).baselines["one curve for both charges"]
    for charge in ENERGIES:
        blind = scored(lambda atoms, _, q=charge: truth(atoms, q), "charge-blind", fractions=DFT_FRACTIONS)
        assert value(blind, "curve_mae") >= base["curve_mae"] - 1e-9
        assert blind.baselines["one curve for both charges"] == base, "it comes from the dataset alone"


def test_without_energies_on_the_path_the_baseline_has_none_of_the_compared_metrics() -> None:
    base = scored(with_path=False).baselines["one curve for both charges"]
    assert set(base) == {"delta_q_error", "minimum_offset", "curves_bound"}


def test_intervals_are_drawn_over_paths_not_over_single_curves() -> None:
    """Two paths: a resample has both curves of a path or neither."""
    result = scored(_failing_at(0.5))
    by_path = np.array([[1.0, 2.0], [0.0, 2.0]])
    expected = bootstrap_interval(by_path, lambda t: float(t.sum(axis=0)[0] / t.sum(axis=0)[1]))
    assert result.metric("minimum_offset").interval == pytest.approx(expected, abs=1e-3)
    one = dataset({1: ENERGIES[1], 0: ENERGIES[0]})
    alone = TASK.score(score(TASK, one, relax, truth))
    assert len(alone.rows) == 2
    assert all(metric.interval is None for metric in alone.metrics), "one path says nothing of how paths differ"


def test_equal_ground_states_have_no_diagram() -> None:
    data = dataset({0: -1.0, -1: -2.0})
    data._relaxations["PBE", DEFECT, -1, "Unperturbed"][0].positions = data._relaxations["PBE", DEFECT, 0, "Unperturbed"][0].positions
    result = TASK.score(score(TASK, data, lambda d, q, c, s: (geometry(0), -1.0), lambda *a: 0.0))
    assert result.rows == ()
    assert any("the same structure" in note for note in result.notes)
    assert all(m.value is None and not m.applies for m in result.metrics)


def test_charges_that_are_not_neighbours_have_no_diagram() -> None:
    data = dataset({2: -1.0, 0: -2.0})
    result = TASK.score(score(TASK, data, lambda d, q, c, s: (geometry(q), -1.0), lambda *a: 0.0))
    assert result.rows == ()
    assert any("No two neighbouring charges" in note for note in result.notes)


def test_a_double_well_is_reported_as_it_is() -> None:
    """A curve with its maximum at its own end has no quantum there, and its lowest point lies elsewhere."""
    fractions = np.array(FRACTIONS)
    found = curve_properties(FRACTIONS, list(-(fractions**2) + 0.5 * fractions**4), 0.0, 5.0)
    assert found.hbar_omega is None
    assert not found.bound
    assert "no minimum near the own end" in found.reason
    assert found.minimum == pytest.approx(1.0, abs=0.03)
    assert "no energies at both end points" in curve_properties([0.0, 0.25, 0.5, 0.75], [0.0, 0.1, 0.4, 0.9], 0.0, 5.0).reason
    steep = curve_properties(FRACTIONS, list(np.exp(-12 * fractions) + 30 * fractions), 0.0, 5.0)
    assert "strongly anharmonic" in steep.reason
    few = curve_properties([0.0, 1.0], [0.0, 1.0], 0.0, 5.0)
    assert few.relaxation_energy == 1.0
    assert few.fit is None


def test_a_mapped_end_point_gives_the_same_curves() -> None:
    """The neutral minimum stored as a symmetry image (another frame): the path, and all numbers, stay."""
    operations = host_operations(dataset(ENERGIES).host)
    start, end = geometry(1), geometry(0)
    image = end.copy()
    image.positions = operations.apply(5, end.positions)
    plain, mapped = configuration_path(start, end, operations), configuration_path(start, image, operations)
    assert plain.identity
    assert not mapped.identity
    assert mapped.delta_q == pytest.approx(plain.delta_q, abs=1e-4)
    for fraction in FRACTIONS:
        first, second = truth(plain.structure(fraction), 1), truth(mapped.structure(fraction), 1)
        assert second == pytest.approx(first, abs=1e-4)


@pytest.mark.parametrize("charge_class", ["charge-aware", "charge-blind"])
def test_the_figure_is_written(tmp_path: Path, charge_class: str) -> None:
    data = dataset(ENERGIES, path_frames=path_frames() if charge_class == "charge-aware" else None)

    def energy(atoms: Atoms, q: int | None) -> float:
        charge = 0 if q is None else q
        return 0.0 if len(atoms) > 15 else harmonic(atoms, charge, geometry(charge), 0.85 * QUANTA[charge])

    scoring = score(TASK, data, relax, energy, charge_class)
    context = FigureContext("toy", "known", "Known landscape", "full", "PBE", charge_class)
    paths = TASK.draw(TASK.score(scoring), context, tmp_path)
    assert [path.name for path in paths] == ["ccd.png", "ccd.svg"]
    assert all(path.stat().st_size > 5000 for path in paths)
