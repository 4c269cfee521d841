"""Sites and ground states of two datasets of one host."""

from __future__ import annotations

from pathlib import Path

import pytest
from reference_dft.comparison import compared_states, matching_defects
from reference_dft.describe import COMPARISON, comparison, update_page

from defectbench.datasets.catalogue import embedded_folder, load_dataset

pytestmark = pytest.mark.slow


def test_every_vacancy_matches_itself() -> None:
    dataset = load_dataset("sb2se3-vacancies")
    assert matching_defects(dataset, dataset) == {name: name for name in dataset.defects}


def test_sites_match_across_lattices_and_settings(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFECTBENCH_MIRROR", str(shared / "mirror"))
    here, there = load_dataset("sb2se3-vacancies"), load_dataset("sb2se3-savory-2019")
    # both name the sites after the same paper, with and without an underscore
    assert matching_defects(here, there) == {name: f"{name[:4]}_{name[4:]}" for name in here.defects}
    assert matching_defects(there, here) == {f"{name[:4]}_{name[4:]}": name for name in here.defects}
    states = {(minima[0].defect, minima[0].charge): (minima, published) for minima, published in compared_states(here, there)}
    assert ("V_Sb1", 1) not in states, "there is no published one"
    for charge in (-3, -2, -1, 0):
        minima, published = states["V_Sb1", charge]
        plain = next(m for m in minima if m.configuration == "Unperturbed")
        assert plain.bonds == published.bonds == ()
        assert plain.shortest == pytest.approx(published.shortest, abs=0.15)


def test_the_table_goes_between_its_own_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{COMPARISON[0]}\nold\n{COMPARISON[1]}\nafter\n")
    folder = embedded_folder() / "sb2se3-vacancies"
    update_page(page, comparison(folder, "sb2se3-vacancies"), COMPARISON)
    text = page.read_text()
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| V_Sb1 | −3 | none; 3.7" in text
