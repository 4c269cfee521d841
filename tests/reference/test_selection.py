"""The stratified selection of frames is pure, covers what it must, and grows without throwing anything away."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from reference_dft.selection import Candidate, distinct_minima, select_frames


def relaxation(charge: int, name: str, depth: float, steps: int = 12, start: float = 2.0, same: str | None = None) -> list[Candidate]:
    """Frames that fall from ``start`` above the minimum to it; the minimum lies ``depth`` above the ground state, and may equal another."""
    frames = []
    for step in range(steps):
        rest = 0.6**step if step < steps - 1 else 0.0
        frames.append(Candidate(charge, name, step, depth + start * rest, 0.5 * rest**0.5, None if step < steps - 1 else same or name))
    return frames


ALL = [
    *relaxation(-1, "Unperturbed", 0.4),
    *relaxation(-1, "Bond_Distortion_-40.0%", 0.0),
    *relaxation(-1, "Bond_Distortion_-60.0%", 0.005, same="Bond_Distortion_-40.0%"),
    *relaxation(0, "Unperturbed", 0.0),
    *relaxation(0, "Dimer", 0.1, start=10.0),
    *relaxation(1, "Unperturbed", 0.0),
]


def test_ground_states_come_first_then_other_distinct_minima() -> None:
    selected = select_frames(ALL, 5)
    assert [(c.charge, c.configuration) for c in selected] == [
        (-1, "Bond_Distortion_-40.0%"),
        (0, "Unperturbed"),
        (1, "Unperturbed"),
        (0, "Dimer"),
        (-1, "Unperturbed"),
    ]
    assert all(c.minimum == c.configuration for c in selected)


def test_equal_minima_are_one() -> None:
    names = [c.configuration for c in distinct_minima(ALL) if c.charge == -1]
    assert names == ["Bond_Distortion_-40.0%", "Unperturbed"]


def test_a_minimum_is_taken_once_though_another_relaxation_into_it_is_there() -> None:
    trimer, dimer, same = (
        Candidate(0, name, 9, energy, 0.0, of) for name, energy, of in (("A", 0.0, "A"), ("B", 0.01, "B"), ("C", 0.015, "B"))
    )
    assert distinct_minima([trimer, dimer, same]) == [trimer, dimer]
    assert select_frames([trimer, dimer, same], 1, already=[trimer.key]) == [trimer, dimer]
    assert select_frames([trimer, dimer, same], 1, already=[same.key]) == [same, trimer]


def test_charges_energies_and_distances_are_covered() -> None:
    selected = select_frames(ALL, 24)
    per_charge = Counter(c.charge for c in selected)
    assert len(selected) == 24
    assert max(per_charge.values()) - min(per_charge.values()) <= 1
    for charge in (-1, 0, 1):
        energies = sorted(c.energy for c in selected if c.charge == charge)
        assert energies[0] == 0.0
        assert energies[-1] > 0.7
        assert max(c.distance for c in selected if c.charge == charge) > 0.2


def test_frames_far_above_the_ground_state_are_left_out() -> None:
    assert all(c.energy <= 1.0 for c in select_frames(ALL, 40, max_energy=1.0))
    assert any(c.energy > 1.0 for c in select_frames(ALL, 40))


def test_no_more_than_there_are() -> None:
    assert len(select_frames(ALL, 10_000, max_energy=100.0)) == len(ALL)
    assert select_frames([], 5) == []


keys = st.lists(st.integers(0, len(ALL) - 1), unique=True, max_size=10)


@settings(deadline=None)
@given(st.permutations(ALL), st.integers(0, 30))
def test_the_order_of_the_input_does_not_matter(shuffled: list[Candidate], frames: int) -> None:
    assert select_frames(shuffled, frames) == select_frames(ALL, frames)


@settings(deadline=None)
@given(keys, st.integers(0, 30))
def test_what_is_calculated_stays_and_is_never_selected_twice(chosen: list[int], frames: int) -> None:
    already = [ALL[i].key for i in chosen]
    selected = select_frames(ALL, frames, already=already)
    found = [c.key for c in selected]
    assert found[: len(already)] == already
    assert len(found) == len(set(found))
    for charge in (-1, 0, 1):
        assert any(c.minimum and c.charge == charge and c.energy < 0.02 for c in selected)


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(0, 10))
def test_a_selection_grows(frames: int, more: int) -> None:
    first = select_frames(ALL, frames)
    second = select_frames(ALL, frames + more, already=[c.key for c in first])
    assert second[: len(first)] == first
