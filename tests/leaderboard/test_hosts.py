"""Hosts side by side: equal weights, agreement on the order of models, and what is said of it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from defectbench.leaderboard.groups import find_entries, group_entries
from defectbench.leaderboard.hosts import across_hosts, chance_correlation, host_of
from defectbench.leaderboard.tables import hosts_section, leaderboard

pytestmark = pytest.mark.usefixtures("small_tasks")

HOST = """{count}
Lattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3 {info} pbc="T T T"
{atoms}
"""


def write_host(folder, symbols, info="defect=host configuration=Unperturbed"):
    atoms = "\n".join(f"{symbol} 0.0 0.0 {place}.0" for place, symbol in enumerate(symbols))
    (folder / "structures.extxyz").write_text(HOST.format(count=len(symbols), info=info, atoms=atoms), encoding="utf-8")


@pytest.fixture
def write(write_entry, tmp_path):
    """Writes an entry: a score by the RMSD, and a host."""

    def make(dataset, symbols, model, rmsd, **changes):
        place = f"{dataset}/{model}{''.join(str(v) for v in changes.values())}"
        write_entry(place, dataset=dataset, model=model, rmsd=(rmsd, None), success=(0.0, None), **changes)
        write_host(tmp_path / place, symbols)

    return make


def found(tmp_path):
    return across_hosts(group_entries(find_entries(tmp_path)))


MODELS = {"a": 0.02, "b": 0.06, "c": 0.1, "d": 0.14, "e": 0.18}


def test_hosts_weigh_equally_whatever_their_number_of_datasets_and_states(write, tmp_path):
    for model, rmsd in MODELS.items():
        write("sesb", ["Sb", "Sb", "Se", "Se", "Se"], model, rmsd)
        write("mgo", ["Mg", "O"], model, rmsd / 2)
    write("sesb-too", ["Sb", "Sb", "Se", "Se", "Se"], "a", 0.2)
    got = found(tmp_path)
    assert [(h.name, h.dataset, h.left_out) for h in got.hosts] == [("MgO", "mgo", ()), ("Sb2Se3", "sesb", ("sesb-too",))]
    assert [m.model for m in got.models] == list(MODELS)
    for m in got.models:
        assert m.score == pytest.approx((m.scores["MgO"] + m.scores["Sb2Se3"]) / 2)
        assert m.interval is not None
    (agreement,) = got.agreements
    assert (agreement.models, agreement.rank_correlation, agreement.by_chance) == (5, pytest.approx(1.0), pytest.approx(0.9))
    assert "beyond chance" in got.statement
    assert "not tested" in got.statement


def test_the_interval_over_hosts_is_student_s(write, tmp_path):
    for dataset, symbols, rmsd in (("a", ["Mg", "O"], 0.098), ("b", ["Cd", "Te"], 0.1), ("c", ["Si"], 0.102)):
        write(dataset, symbols, "m", rmsd)
    (model,) = found(tmp_path).models
    scores = list(model.scores.values())
    half = 4.302652729749 * np.std(scores, ddof=1) / np.sqrt(3)
    assert model.interval == pytest.approx((model.score - half, model.score + half))
    assert 0.0 < model.interval[0] < model.interval[1] < 1.0


def test_hosts_that_disagree_do_not_generalise(write, tmp_path):
    for (model, rmsd), other in zip(MODELS.items(), reversed(MODELS.values()), strict=True):
        write("one", ["Mg", "O"], model, rmsd)
        write("two", ["Cd", "Te"], model, other)
    got = found(tmp_path)
    assert got.agreements[0].rank_correlation == pytest.approx(-1.0)
    assert "does not tell" in got.statement


def test_a_model_without_an_entry_on_every_host_has_no_mean(write, tmp_path):
    for model in ("a", "b"):
        write("one", ["Mg", "O"], model, MODELS[model])
    write("two", ["Cd", "Te"], "b", 0.1)
    got = found(tmp_path)
    assert [(m.model, m.score is None, set(m.scores)) for m in got.models] == [("b", False, {"MgO", "CdTe"}), ("a", True, {"MgO"})]
    assert got.agreements[0].rank_correlation is None
    assert "not known" in got.statement


def test_one_host_says_nothing_of_others_and_selections_of_ones_own_stand_for_none(write, tmp_path):
    for model in "abc":
        write("one", ["Mg", "O"], model, MODELS[model])
    write("two", ["Cd", "Te"], "a", 0.1, suite="custom")
    got = found(tmp_path)
    assert [h.name for h in got.hosts] == ["MgO"]
    assert got.agreements == ()
    assert len(hosts_section(got)) == 2


def test_the_page_holds_both_tables(write, tmp_path):
    for model, rmsd in MODELS.items():
        write("one", ["Mg", "O"], model, rmsd)
        write("two", ["Cd", "Te"], model, rmsd)
    section = leaderboard(tmp_path).split("## Across hosts")[1]
    assert section.count("|---|") == 2
    assert "MgO (one, full" in section


@pytest.mark.parametrize(
    "text", [None, "", "x\n", "2\nno host\nMg\nO", "9\ndefect=host\nMg", "1\ndefect=host\n", "1\ndefect=host\n?? 0 0 0"]
)
def test_without_a_readable_host_the_dataset_gives_the_name(write_entry, tmp_path, text):
    write_entry("one", dataset="data")
    if text is not None:
        (tmp_path / "one" / "structures.extxyz").write_text(text)
    (group,) = group_entries(find_entries(tmp_path))
    assert host_of(group.entries[0]) == "data"


@pytest.mark.parametrize("count", [4, 5, 6])
def test_what_chance_reaches_is_counted(count):
    ranks = np.arange(count)
    all_orders = [np.corrcoef(ranks, order)[0, 1] for order in itertools.permutations(ranks)]
    limit = chance_correlation(count)
    assert np.mean([value >= limit - 1e-9 for value in all_orders]) <= 0.05
