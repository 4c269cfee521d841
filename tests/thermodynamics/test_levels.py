"""Transition levels and stable charges: by hand, by properties, against a brute-force grid, and against doped."""

from __future__ import annotations

import math
import random
import warnings
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from refusals import raises_code

from defectbench.thermodynamics import (
    effective_u,
    exchange_energy,
    formation_energy,
    level_diagram,
    pairwise_level,
    stability_depths,
    stable_charges,
)

energies = st.dictionaries(st.integers(-5, 5), st.floats(-20, 20), min_size=1, max_size=8)
consecutive = st.builds(
    lambda first, values: {first + i: value for i, value in enumerate(values)},
    st.integers(-4, 1),
    st.lists(st.floats(-20, 20), min_size=1, max_size=7),
)

VBM, BULK, POTENTIALS = 4.314, -350.57071, {"Sb": -5.40690, "Se": -6.13340}
ATOMS_ADDED = {"v_Sb": {"Sb": -1}, "v_Se": {"Se": -1}, "Sb_Se": {"Sb": 1, "Se": -1}, "Se_Sb": {"Se": 1, "Sb": -1}}
ATOMS_ADDED |= {"Sb_i": {"Sb": 1}, "Se_i": {"Se": 1}}


def published(folder: Path) -> dict[str, dict[int, tuple[float, float, float]]]:
    """Defect → charge → (total energy, correction, published formation energy at the VBM, Sb-rich) of doi:10.1039/C9TA02022E."""
    out: dict[str, dict[int, tuple[float, float, float]]] = {}
    for row in (folder / "mirror" / "savory-2019" / "defect_data").read_text().splitlines()[2:]:
        name, *numbers = row.split()
        total, potential, filling, image, sb_rich, _ = map(float, numbers)
        out.setdefault(name[:-2], {})[int(name[-2:])] = (total, potential + filling + image, sb_rich)
    return out


def line_energies(states: dict[int, tuple[float, float, float]], species: str) -> dict[int, float]:
    exchanged = exchange_energy(ATOMS_ADDED[species.split(",")[0]], POTENTIALS)
    return {q: formation_energy(q, total, BULK, exchanged, VBM, corr) for q, (total, corr, _) in states.items()}


def test_three_charges_by_hand() -> None:
    diagram = level_diagram({0: 1.0, -1: 1.3, 1: 0.4})
    assert [(level.upper, level.lower) for level in diagram.levels] == [(1, 0), (1, -1), (0, -1)]
    assert [level.fermi_level for level in diagram.levels] == pytest.approx([0.6, 0.45, 0.3])
    assert diagram.stable == (1, -1)
    assert [level.label for level in diagram.stable_levels] == ["ε(+1/−1)"]
    assert effective_u({0: 1.0, -1: 1.3, 1: 0.4}) == pytest.approx({0: -0.3})
    assert diagram.level(0, -1).fermi_level == pytest.approx(0.3)
    assert diagram.level(2, 0) is None


def test_ties_and_degenerate_sets() -> None:
    assert stable_charges({0: 5.0}) == (0,)
    assert level_diagram({0: 5.0}).levels == ()
    assert stable_charges({1: 0.1, 0: 0.2, -1: 0.3}) == (1, -1), "collinear to rounding: stable at one Fermi level only"
    assert stable_charges({2: 0.0, 1: 1e-7, 0: 1.0, -1: 3.0}) == (2, 1, 0, -1)
    assert stable_charges({1: 0.0, 0: 0.0, -1: 0.0}) == (1, -1)
    assert stable_charges({3: -1.0, -2: 4.0}) == (3, -2)


def test_bad_numbers_are_refused_in_one_line() -> None:
    with raises_code("no-energy"):
        stable_charges({})
    with raises_code("not-finite", "−1", "nan"):
        level_diagram({0: 0.0, -1: math.nan})
    with raises_code("no-energy", "−2"):
        pairwise_level(0, -2, {0: 0.0})
    with raises_code("no-levels"):
        pairwise_level(-1, 0, {0: 0.0, -1: 0.0})
    with raises_code("empty-range"):
        level_diagram({0: 0.0}).stable_within(1.0, 1.0)
    with raises_code("empty-range"):
        stability_depths({0: 0.0}, 1.0, 0.0)


def test_stability_depths_by_hand() -> None:
    """Levels +1/0 0.6 and 0/−1 0.3: 0 is above the line from +1 to −1 by 0.15 = −U/2, least so at their crossing, 0.45."""
    three = {0: 1.0, -1: 1.3, 1: 0.4}
    assert stability_depths(three) == pytest.approx({-1: math.inf, 0: -0.15, 1: math.inf})
    assert stability_depths(three, 0.0, 1.0) == pytest.approx({-1: 0.7, 0: -0.15, 1: 0.6}), "at the ends, below 0"
    assert stability_depths(three, 0.5, 1.0) == pytest.approx({-1: 0.7, 0: -0.2, 1: -0.1}), "+1 is stable below 0.45 only"
    assert stability_depths({1: 0.0, 0: 0.5, -1: 1.2})[0] == pytest.approx(0.1)
    assert stability_depths({1: 0.0, 0: 0.5, -1: 1.0})[0] == pytest.approx(0.0)
    assert stability_depths({2: 1.0}) == {2: math.inf}
    assert stability_depths({2: 1.0}, 0.0, 1.0) == {2: math.inf}
    assert list(stability_depths({1: 0.0, -1: 0.0, 0: 0.0})) == [-1, 0, 1]


@given(energies, st.floats(-100, 100))
def test_a_common_shift_changes_nothing(given_energies: dict[int, float], shift: float) -> None:
    before = level_diagram(given_energies)
    after = level_diagram({q: e + shift for q, e in given_energies.items()})
    assert [level.fermi_level for level in after.levels] == pytest.approx([level.fermi_level for level in before.levels], abs=1e-10)
    assert after.stable == before.stable or _nearly_flat(given_energies)


@given(energies, st.floats(-10, 10))
def test_a_shift_of_the_band_edge_shifts_every_level_the_other_way(given_energies: dict[int, float], shift: float) -> None:
    before = level_diagram(given_energies)
    after = level_diagram({q: e + q * shift for q, e in given_energies.items()})
    assert [level.fermi_level for level in after.levels] == pytest.approx([level.fermi_level - shift for level in before.levels], abs=1e-10)
    assert after.stable == before.stable or _nearly_flat(given_energies)


@given(energies)
def test_stable_charges_descend_and_their_levels_ascend(given_energies: dict[int, float]) -> None:
    diagram = level_diagram(given_energies)
    assert all(first > second for first, second in pairwise(diagram.stable))
    assert all(first.fermi_level < second.fermi_level for first, second in pairwise(diagram.stable_levels))
    assert diagram.stable[0] == max(given_energies)
    assert diagram.stable[-1] == min(given_energies)


@given(energies)
def test_stable_charges_are_those_that_win_between_their_levels(given_energies: dict[int, float]) -> None:
    """The hull against the definition: in the middle of each range the stable charge has the lowest energy, and at a level both have."""
    diagram = level_diagram(given_energies)
    edges = [level.fermi_level for level in diagram.stable_levels]
    middles = [(low + high) / 2 for low, high in pairwise([(edges or [0.0])[0] - 1.0, *edges, (edges or [0.0])[-1] + 1.0])]
    for charge, fermi_level in zip(diagram.stable, middles, strict=True):
        values = {q: e + q * fermi_level for q, e in given_energies.items()}
        assert values[charge] <= min(values.values()) + 1e-8
    for level in diagram.stable_levels:
        values = {q: e + q * level.fermi_level for q, e in given_energies.items()}
        assert values[level.upper] == pytest.approx(values[level.lower], abs=1e-9)
        assert values[level.upper] <= min(values.values()) + 1e-8


@given(energies)
def test_depths_over_the_whole_axis_are_distances_from_the_hull_of_the_others(given_energies: dict[int, float]) -> None:
    """Against the dual: interpolation between all pairs of charges on either side."""
    for charge, depth in stability_depths(given_energies).items():
        lines = [
            given_energies[a] + (charge - a) / (b - a) * (given_energies[b] - given_energies[a])
            for a in given_energies
            for b in given_energies
            if a < charge < b
        ]
        assert depth == pytest.approx(min(lines) - given_energies[charge] if lines else math.inf, abs=1e-9)


@given(energies, st.floats(-30, 30), st.floats(0.01, 30))
def test_the_charges_of_positive_depth_are_the_stable_ones(given_energies: dict[int, float], low: float, width: float) -> None:
    for ends in ((-math.inf, math.inf), (low, low + width)):
        depths = stability_depths(given_energies, *ends)
        if min(abs(depth) for depth in depths.values()) > 1e-6:
            assert {charge for charge, depth in depths.items() if depth > 0} == set(level_diagram(given_energies).stable_within(*ends))


@given(energies, st.floats(-50, 50), st.floats(-5, 5), st.floats(-10, 10), st.floats(0.01, 10))
def test_depths_keep_their_value_under_a_common_shift_and_move_with_the_band_edge(
    given_energies: dict[int, float], constant: float, per_charge: float, low: float, width: float
) -> None:
    moved = {q: e + constant + per_charge * q for q, e in given_energies.items()}
    assert stability_depths(moved) == pytest.approx(stability_depths(given_energies), abs=1e-9)
    here = stability_depths(given_energies, low, low + width)
    assert stability_depths(moved, low - per_charge, low - per_charge + width) == pytest.approx(here, abs=1e-9)


@given(consecutive)
def test_negative_u_exactly_where_two_levels_stand_in_reversed_order(given_energies: dict[int, float]) -> None:
    assume(all(abs(u) > 1e-8 for u in effective_u(given_energies).values()))
    diagram = level_diagram(given_energies)
    reversed_at = {
        q
        for q in given_energies
        if diagram.level(q + 1, q) and diagram.level(q, q - 1) and diagram.level(q, q - 1).fermi_level < diagram.level(q + 1, q).fermi_level
    }
    assert {charge for charge, u in effective_u(given_energies).items() if u < 0} == reversed_at
    assert (diagram.stable != diagram.charges) == bool(reversed_at), "a charge is skipped exactly if some U is negative"


@given(st.integers(-4, 1), st.lists(st.floats(0.001, 3), min_size=1, max_size=6), st.floats(-5, 5))
def test_levels_of_a_convex_set_are_the_successive_ones_in_order(first: int, gaps: list[float], start: float) -> None:
    """E(q) built from ascending successive levels: every charge is stable, and the stable levels are the ones put in."""
    levels = [start]
    for gap in gaps:
        levels.append(levels[-1] + gap)
    charge, energy = first + len(levels), 0.0
    given_energies = {charge: energy}
    for level in levels:
        energy += level
        charge -= 1
        given_energies[charge] = energy
    diagram = level_diagram(given_energies)
    assert diagram.stable == diagram.charges
    assert [level.fermi_level for level in diagram.stable_levels] == pytest.approx(levels, abs=1e-9)
    assert diagram.stable_within(levels[0] - 1, levels[0]) == (first + len(levels),)


def _nearly_flat(given_energies: dict[int, float]) -> bool:
    """Whether rounding may decide the stability of some charge: a hull that changes when ties are judged less strictly."""
    return stable_charges(given_energies, 1e-6) != stable_charges(given_energies, 0.0)


# --- published numbers -------------------------------------------------------------------------------------------------

PUBLISHED = {
    "v_Sb,1": ({(0, -1): 0.180, (-1, -2): 0.047, (-2, -3): 0.069}, {(0, -3): 0.099}),
    "v_Sb,2": ({(0, -1): 0.041, (-1, -2): 0.096, (-2, -3): 0.141}, {(0, -1): 0.041, (-1, -2): 0.096, (-2, -3): 0.141}),
    "v_Se,1": ({(2, 1): 0.212, (1, 0): 0.626}, {(2, 1): 0.212, (1, 0): 0.626}),
    "v_Se,2": ({(2, 1): 0.927, (1, 0): 0.782}, {(2, 0): 0.854}),
    "v_Se,3": ({(2, 1): 0.404, (1, 0): 0.537}, {(2, 1): 0.404, (1, 0): 0.537}),
}


def test_published_formation_energies_of_all_58_states(shared: Path) -> None:
    states = published(shared)
    assert sum(len(charges) for charges in states.values()) == 58
    for species, charges in states.items():
        ours = line_energies(charges, species)
        assert ours == pytest.approx({q: sb_rich for q, (_, _, sb_rich) in charges.items()}, abs=2e-5), species


@pytest.mark.parametrize("species", sorted(PUBLISHED))
def test_published_levels_to_2_mev(shared: Path, species: str) -> None:
    pairs, stable = PUBLISHED[species]
    diagram = level_diagram(line_energies(published(shared)[species], species))
    for (upper, lower), value in pairs.items():
        assert diagram.level(upper, lower).fermi_level == pytest.approx(value, abs=2e-3)
    assert {(level.upper, level.lower): level.fermi_level for level in diagram.stable_levels} == pytest.approx(stable, abs=2e-3)


# --- doped ---------------------------------------------------------------------------------------------------------------


def doped_levels(
    states: dict[int, float],
) -> tuple[dict[int, float], dict[tuple[int, int], float]]:
    """Formation energies at the VBM and thermodynamic levels by doped, from the same plain numbers (energy, no corrections)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        core = pytest.importorskip("doped.core", reason="doped is not installed: it is the oracle of this test")
        from doped.thermodynamics import DefectThermodynamics
        from pymatgen.core import Lattice, PeriodicSite, Structure
        from pymatgen.entries.computed_entries import ComputedStructureEntry

        host = Structure(Lattice.cubic(12), ["Sb", "Se"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        defective = host.copy()
        defective.remove_sites([0])
        vacancy = core.Vacancy(host, PeriodicSite("Sb", [0, 0, 0], host.lattice))
        entries = [
            core.DefectEntry(
                defect=vacancy,
                charge_state=charge,
                sc_entry=ComputedStructureEntry(defective, energy),
                corrections={},
                bulk_entry=ComputedStructureEntry(host, BULK),
                name=f"V_Sb_{charge}",
                calculation_metadata={"vbm": VBM, "gap": 1.3},
                sc_defect_frac_coords=[0, 0, 0],
                defect_supercell=defective,
                bulk_supercell=host,
            )
            for charge, energy in states.items()
        ]
        found = DefectThermodynamics(entries, chempots=POTENTIALS, vbm=VBM, band_gap=1.3, check_compatibility=False, skip_dos_check=True)
        formation = {e.charge_state: float(found.get_formation_energy(e, chempots=POTENTIALS, fermi_level=0.0)) for e in entries}
        levels = {(max(pair), min(pair)): float(x) for name in found.transition_level_map.values() for x, pair in name.items()}
    return formation, levels


def ours(states: dict[int, float]) -> dict[int, float]:
    return {q: formation_energy(q, e, BULK, exchange_energy({"Sb": -1}, POTENTIALS), VBM, 0.0) for q, e in states.items()}


@pytest.mark.slow
def test_doped_agrees_on_the_published_antimony_vacancy(shared: Path) -> None:
    states = {q: total + corr for q, (total, corr, _) in published(shared)["v_Sb,1"].items()}
    formation, levels = doped_levels(states)
    assert ours(states) == pytest.approx(formation, abs=1e-6)
    assert {(x.upper, x.lower): x.fermi_level for x in level_diagram(ours(states)).stable_levels} == pytest.approx(levels, abs=1e-6)


@pytest.mark.parametrize("seed", range(12))
def test_doped_agrees_on_random_energies(seed: int) -> None:
    """doped looks at Fermi levels from 1 eV below the VBM to 1 eV above the CBM: compared there."""
    generator = random.Random(seed)
    states = {q: BULK + 9.0 - 4.9 * q + 0.25 * q * q + generator.uniform(-0.6, 0.6) for q in range(-3, 3)}
    formation, levels = doped_levels(states)
    assert ours(states) == pytest.approx(formation, abs=1e-6)
    here = {(x.upper, x.lower): x.fermi_level for x in level_diagram(ours(states)).stable_levels}
    inside = {pair: x for pair, x in here.items() if -0.9 < x < 2.2}
    assert inside, "nothing was compared"
    assert {pair: levels.get(pair) for pair in inside} == pytest.approx(inside, abs=1e-6)
    assert all(pair in here for pair, x in levels.items() if -0.9 < x < 2.2)
