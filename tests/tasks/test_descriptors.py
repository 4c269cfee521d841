"""Descriptors: principal components and silhouettes against hand-worked and independent results, and what the charge adds."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from framed_landscape import BLIND, DATASET, HOST, NAMES, ORACLE, Model, make_dataset, scoring, values
from hypothesis import given, settings
from hypothesis import strategies as st

from defectbench.scoring.task import FigureContext
from defectbench.tasks.descriptors import TASK
from defectbench.tasks.descriptors import figure as descriptors_figure
from defectbench.tasks.descriptors import score as descriptors
from defectbench.tasks.descriptors.score import principal_components, silhouettes
from defectbench.worker import relaxation as worker

CONTEXT = FigureContext("toy", "framed", "Framed landscape", "full", "PBE", "charge-aware")


def score(model: Model, **changes):
    return descriptors.score(scoring(TASK, model, **changes))


def structure_vector(atoms) -> np.ndarray:
    """Knows the atoms only: moments of the sorted distances to the first atom of the host; any order of atoms."""
    apart = np.sort(np.linalg.norm(atoms.positions - HOST.positions[0], axis=1))
    return np.array([apart.mean(), (apart**2).mean(), np.sqrt(apart).mean(), apart.min()])


def hears(atoms, charge):
    """Structure, and the charge written in clearly."""
    return np.append(structure_vector(atoms), [10.0 * (charge or 0), 5.0 * (charge or 0) ** 2])


HEARING = replace(ORACLE, describe=hears)
DEAF = replace(BLIND, describe=lambda atoms, charge: structure_vector(atoms))


def test_components_of_points_on_a_line():
    points = np.outer([-3.0, -1.0, 0.0, 4.0], [0.6, 0.8, 0.0]) + 7.0
    found = principal_components(points)
    assert found.explained == pytest.approx([1, 0, 0])
    assert found.coordinates[:, 0] == pytest.approx([-3, -1, 0, 4])
    assert found.varies


@settings(deadline=None)
@given(st.integers(3, 12), st.integers(1, 6), st.integers(0, 2**31))
def test_components_diagonalise_the_covariance(n, dimension, seed):
    points = np.random.default_rng(seed).normal(size=(n, dimension)) * np.arange(1, dimension + 1)
    found = principal_components(points)
    eigenvalues = np.sort(np.atleast_1d(np.linalg.eigvalsh(np.atleast_2d(np.cov(points, rowvar=False)))))[::-1]
    k = min(len(eigenvalues), len(found.explained))
    assert found.explained[:k] == pytest.approx(eigenvalues[:k] / eigenvalues.sum(), abs=1e-9)
    covariance = found.coordinates.T @ found.coordinates
    assert np.allclose(covariance, np.diag(np.diag(covariance)), atol=1e-8 * np.trace(covariance))


def test_points_that_are_all_the_same_do_not_vary():
    assert not principal_components(np.full((5, 3), 2.7)).varies
    assert not principal_components(np.zeros((5, 3))).varies


def test_silhouettes_are_worked_by_hand():
    points = np.array([[0.0], [1.0], [4.0], [6.0], [20.0]])
    # a: 1, 1, 2, 2; b: (4+6)/2, (3+5)/2, (4+3)/2, (6+5)/2; the last is alone
    expected = [1 - 1 / 5, 1 - 1 / 4, 1 - 2 / 3.5, 1 - 2 / 5.5, 0.0]
    assert silhouettes(points, ["a", "a", "b", "b", "c"]) == pytest.approx(expected)
    assert silhouettes(np.zeros((4, 2)), [0, 0, 1, 1]) == pytest.approx(np.zeros(4))
    with pytest.raises(ValueError, match="label"):
        silhouettes(points, [1] * 5)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.integers(2, 4))
def test_silhouettes_are_those_of_scikit_learn(seed, kinds):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    generator = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(kinds), generator.integers(0, kinds, 12)])
    points = generator.normal(size=(len(labels), 3)) + labels[:, None]
    assert silhouettes(points, list(labels)) == pytest.approx(metrics.silhouette_samples(points, labels), abs=1e-9)


@settings(deadline=None)
@given(st.permutations(range(9)), st.floats(-5, 5), st.integers(0, 1000))
def test_silhouettes_do_not_depend_on_order_or_origin(order, shift, seed):
    generator = np.random.default_rng(seed)
    points, labels = generator.normal(size=(9, 2)), [0, 0, 0, 1, 1, 1, 2, 2, 2]
    found = silhouettes(points, labels)
    again = silhouettes(points[list(order)] + shift, [labels[i] for i in order])
    assert again == pytest.approx(found[list(order)], abs=1e-9)


def test_a_model_that_writes_the_charge_in_separates_it():
    result = score(HEARING)
    got = values(result)
    assert got["silhouette"] > 0.9
    assert got["silhouette_gain"] > 0.8
    assert 0.9 < got["explained_variance"] <= 1
    assert result.baselines["charge-blind"]["silhouette_gain"] == 0
    assert {row["charge"] for row in result.rows} == {-1, 0, 1}
    assert all(row["dimension"] == 6 for row in result.rows)


def test_a_charge_blind_model_gains_exactly_nothing():
    result = score(DEAF)
    assert result.metric("silhouette_gain").value == 0
    assert result.metric("silhouette").value is not None
    assert any("takes no charge" in note for note in result.notes)


def test_a_model_that_takes_the_charge_and_ignores_it_gains_nothing():
    assert values(score(replace(DEAF, charge_class="energy-only")))["silhouette_gain"] == 0


def test_descriptors_that_do_not_vary_are_not_separated():
    result = score(replace(ORACLE, describe=lambda atoms, charge: np.ones(3)))
    assert values(result)["silhouette"] == 0
    assert result.notes


def test_a_model_without_descriptors_says_so():
    result = score(ORACLE)
    for metric in result.metrics:
        assert metric.value is None
        assert not metric.applies
        assert metric.reason == "this model exposes no descriptors"
    assert result.rows == ()
    assert descriptors_figure.draw(result, CONTEXT, None) == []


def test_a_model_that_fails_to_describe_has_failed():
    result = score(replace(ORACLE, describe=lambda atoms, charge: "out of memory"))
    assert all(m.value is None and m.applies and m.reason == "out of memory" for m in result.metrics)
    neutral = score(
        replace(HEARING, describe=lambda atoms, charge: "no" if charge == 0 and len(atoms) < len(HOST) else hears(atoms, charge))
    )
    assert neutral.metric("silhouette_gain").value is None
    assert neutral.metric("silhouette_gain").applies


def test_frames_without_a_descriptor_are_held_against_the_separation():
    calls = iter(range(10**6))
    some = score(replace(HEARING, describe=lambda atoms, charge: "no" if charge == 1 and next(calls) % 2 else hears(atoms, charge)))
    lost = 3 * descriptors.FRAMES - len(some.tables["frames"])
    assert 0 < lost < descriptors.FRAMES
    gains = [row["silhouette"] - row["silhouette_neutral"] for row in some.tables["frames"]]
    assert values(some)["silhouette_gain"] == pytest.approx((sum(gains) - lost) / (len(gains) + lost), abs=1e-4)
    one_charge = score(replace(HEARING, describe=lambda atoms, charge: "no" if charge not in (0, None) else hears(atoms, charge)))
    assert one_charge.metric("silhouette_gain").applies, "DFT has frames at other charges"


def test_without_frames_or_other_charges_it_does_not_apply():
    for dataset in (make_dataset(frames=False), make_dataset(charges=(0,))):
        metric = score(HEARING, dataset=dataset).metric("silhouette_gain")
        assert metric.value is None
        assert not metric.applies
        assert metric.reason


def test_states_in_another_order_give_the_same():
    given_in = scoring(TASK, HEARING)
    assert descriptors.score(replace(given_in, states=given_in.states[::-1])) == descriptors.score(given_in)


def test_frames_are_few_and_from_every_relaxation():
    chosen = descriptors.frames(scoring(TASK, ORACLE))
    assert len(chosen) == 3 * descriptors.FRAMES
    assert {f.configuration for f in chosen} == set(NAMES)


def test_what_it_finds_is_json_and_is_drawn(tmp_path):
    given_in = scoring(TASK, HEARING)
    result = descriptors.score(given_in)
    for table in (result.rows, *result.tables.values()):
        json.dumps([dict(row) for row in table], allow_nan=False)
    files = descriptors_figure.draw(result, CONTEXT, tmp_path)
    assert {f.suffix for f in files} == {".png", ".svg"}


class _Loaded:
    has_descriptors = True

    def prepare(self, atoms: Any, charge: int | None) -> None:
        pass

    def descriptors(self, atoms: Any) -> np.ndarray:
        return np.arange(2.0 * len(atoms)).reshape(len(atoms), 2)


def test_the_worker_averages_over_atoms_when_asked():
    loaded: Any = _Loaded()
    atoms = DATASET.host
    request: dict[str, Any] = {
        "structure": {"symbols": list(atoms.symbols), "positions": atoms.positions.tolist(), "cell": atoms.cell.array.tolist()},
        "charge": None,
    }
    assert np.shape(worker.descriptors(loaded, request)["descriptors"]) == (len(atoms), 2)
    averaged = worker.descriptors(loaded, {**request, "options": {"average": True}})["descriptors"]
    assert averaged == [[len(atoms) - 1.0, float(len(atoms))]]
