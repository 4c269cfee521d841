"""Accuracy against speed: who is on the front, and the figure."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from defectbench.base.errors import DefectbenchError
from defectbench.leaderboard.figures import draw_leaderboard
from defectbench.leaderboard.groups import find_entries, group_entries
from defectbench.leaderboard.pareto import Hardware, Point, dominates, front, hardware_of, in_words, points_of
from defectbench.leaderboard.tables import leaderboard

HARDWARE = (Hardware("cpu", "one", 1, 1, "processor"), Hardware("cpu", "two", 1, 1, "processor"))


def point(seconds, score, hardware=HARDWARE[0], name="x"):
    return Point(name, seconds, None, score, None, hardware, None)


some_points = st.lists(
    st.builds(point, st.sampled_from([0.1, 0.2, 0.5, 1.0, 3.0]), st.sampled_from([0.0, 0.1, 0.5, 0.9]), st.sampled_from(HARDWARE)),
    max_size=12,
)


@given(some_points)
def test_nothing_beats_the_front_and_the_front_beats_all_else(points):
    found = front(points)
    for p in points:
        beaten_by_brute_force = any(
            q.hardware == p.hardware and q.seconds <= p.seconds and q.score >= p.score and (q.seconds, q.score) != (p.seconds, p.score)
            for q in points
        )
        assert (p in found) is not beaten_by_brute_force
        if p not in found:
            assert any(dominates(q, p) for q in found)
    assert {p.hardware for p in found} == {p.hardware for p in points}, "each hardware has a front of its own"


@settings(max_examples=30)
@given(some_points, st.randoms(use_true_random=False))
def test_the_order_of_models_does_not_matter(points, random):
    mixed = list(points)
    random.shuffle(mixed)
    assert sorted(map(str, front(mixed))) == sorted(map(str, front(points)))


def test_by_hand():
    fast, slow, worse, equal = point(0.1, 0.2), point(1.0, 0.5), point(1.0, 0.2), point(0.1, 0.2, name="y")
    assert front([fast, slow, worse, equal]) == (fast, slow, equal)
    assert front([slow, point(0.1, 0.9, HARDWARE[1])]) == (slow, point(0.1, 0.9, HARDWARE[1])), "times of two machines do not compare"


@pytest.fixture
def three(write_entry):
    """The fast and the good model are on the front, the third is beaten by both; rmsd 0.2 … 0 scores 0 … 1, at a third of the weight."""
    write_entry("b/fast", model="fast", seconds=0.1, rmsd=(0.1, (0.09, 0.11)))
    write_entry("b/good", model="good", seconds=0.3, rmsd=(0.02, (0.01, 0.03)))
    return write_entry("b/beaten", model="beaten", seconds=0.5, rmsd=(0.15, (0.1, 0.2))).parent


@pytest.mark.usefixtures("small_tasks")
class TestEntries:
    def test_the_front_is_said_in_words(self, three):
        (group,) = group_entries(find_entries(three))
        lines = in_words(group, 0.55)
        assert lines[0] == "On the front (one (cpu), 1 worker, 1 thread, processor seconds): Fast (0.1 s, 0.50), Good (0.3 s, 0.63)."
        assert lines[1].endswith("Beaten (0.5 s, 0.42) by Fast and Good.")
        assert lines[2] == "Above the best baselines (0.55, no time at all): Good."
        assert len(lines) == 3
        assert points_of(group)[0][0].atoms == (59, 59)

    def test_other_hardware_is_apart_and_named_everywhere(self, three, write_entry):
        write_entry("b/gpu", model="gpu", seconds=0.001, device="cuda", gpus=("Big", "Big"), rmsd=(0.2, (0.2, 0.2)), workers=2)
        (group,) = group_entries(find_entries(three))
        assert str(hardware_of(group.entries[-1].entry)) == str(Hardware("cuda", "Big", 2, 1, "wall-clock"))
        lines = in_words(group, None)
        assert sum(line.startswith("On the front") for line in lines) == 2
        text = leaderboard(three)
        assert "Measured on different hardware, so times compare only within one of: one (cpu), 1 worker" in text
        assert "| Gpu | cuda | Big | 2 workers, 1 thread each | wall-clock | 0.001 |" in text
        assert "| Fast | cpu | one | 1 worker, 1 thread | processor | 0.1 |" in text

    def test_who_cannot_be_drawn_is_named(self, three, write_entry):
        write_entry("b/timeless", model="timeless", seconds=None)
        write_entry("b/scoreless", model="scoreless", rmsd=(None, None, "no", False), success=(None, None, "no", False))
        (group,) = group_entries(find_entries(three))
        points, missing = points_of(group)
        assert len(points) == 3
        assert sorted(missing) == ["Scoreless (no overall score: no task counts)", "Timeless (no time per force call)"]
        assert in_words(group, None)[-1].startswith("Not in the figure: ")

    def test_the_same_entries_give_the_same_files(self, three, tmp_path):
        files = [draw_leaderboard(group_entries(find_entries(three)), tmp_path / name) for name in ("one", "two")]
        assert [f.name for f in files[0]] == ["pareto-data-pbe-full.png", "pareto-data-pbe-full.svg"]
        for one, two in zip(*files, strict=True):
            assert one.read_bytes() == two.read_bytes()

    def test_every_model_is_named_once_and_no_label_covers_another(self, write_entry, tmp_path, monkeypatch):
        from defectbench.plotting import style

        for i in range(12):
            change = {"device": "cuda", "gpus": ("Big",)} if i % 3 == 0 else {}
            write_entry(f"{i}", model=f"model-with-a-name-{i}", seconds=0.1 + 0.01 * i, rmsd=(0.05 + 0.007 * (i % 5), None), **change)
        made = []
        monkeypatch.setattr(style, "save", lambda figure, folder, stem: made.append(figure) or [])
        (group,) = group_entries(find_entries(tmp_path))
        draw_leaderboard([group], tmp_path)
        axes = made[0].axes[0]
        texts = [t for t in axes.texts if t.get_text()]
        assert {t.get_text() for t in texts} == {r.entry.model.name for r in group.entries}
        assert axes.get_xscale() == "log"
        boxes = [t.get_window_extent() for t in texts]
        assert not [(a, b) for a, b in itertools.combinations(boxes, 2) if a.padded(-1).overlaps(b.padded(-1))]
        frame = axes.get_window_extent()
        assert all(frame.x0 <= b.x0 and b.x1 <= frame.x1 and frame.y0 <= b.y0 and b.y1 <= frame.y1 for b in boxes)
        legend = [t.get_text() for t in axes.get_legend().get_texts()]
        assert sum("on the front" in t for t in legend) == 2
        assert "Big (cuda)" in " ".join(legend)
        assert legend[-1] == "best baselines, without a model: 0.13"

    def test_two_groups_of_one_name_have_two_files(self, three, write_entry, tmp_path):
        write_entry("b/other", model="fast", sha256="b" * 64)
        files = draw_leaderboard(group_entries(find_entries(three)), tmp_path / "f")
        assert [f.name for f in files if f.suffix == ".svg"] == ["pareto-data-pbe-full.svg", "pareto-data-pbe-full-2.svg"]

    def test_one_command_makes_page_and_figures(self, three, tmp_path):
        from defectbench.cli import app

        page = tmp_path / "b" / "README.md"
        done = CliRunner().invoke(app, ["leaderboard", "table", str(three), "-o", str(page)])
        assert done.exit_code == 0, done.output
        text = page.read_text()
        for name in ("figures/pareto-data-pbe-full.png", "figures/pareto-data-pbe-full.svg"):
            assert f"({name})" in text
            assert (page.parent / name).is_file()
        assert "On the front" in text
        assert CliRunner().invoke(app, ["leaderboard", "table", str(three)]).stdout.count("figures/") == 0, "printed text links nothing"

    def test_the_figure_alone(self, three, tmp_path, write_entry):
        from defectbench.cli import app

        done = CliRunner().invoke(app, ["leaderboard", "figure", str(three), "-o", str(tmp_path / "figures")])
        assert done.exit_code == 0, done.output
        assert len(done.output.splitlines()) == 1
        assert (tmp_path / "figures" / "pareto-data-pbe-full.png").is_file()

        def refused(*arguments: object) -> str:
            error = CliRunner().invoke(app, ["leaderboard", *map(str, arguments)]).exception
            assert isinstance(error, DefectbenchError)
            return error.code

        file = tmp_path / "file"
        file.touch()
        assert refused("figure", three, "-o", file) == "bad-output"
        assert refused("table", three, "-o", tmp_path) == "bad-output"
        assert refused("figure", tmp_path / "nowhere", "-o", tmp_path / "f") == "no-entry"
        alone = write_entry("without", cost=False)
        assert refused("figure", alone, "-o", tmp_path / "f") == "nothing-to-draw"
        assert not Path(tmp_path / "f").exists()
        assert "the cost task was not run" in leaderboard(alone)
