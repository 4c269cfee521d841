"""A leaderboard in hand: all entries below a folder, ranked, for a notebook or script."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from defectbench.leaderboard.groups import Group, find_entries, group_entries
from defectbench.leaderboard.hosts import AcrossHosts, across_hosts
from defectbench.leaderboard.scores import best_baselines, gains, mean_gain

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Leaderboard:
    """Entries in groups that can be ranked together: same data, level of theory, protocol, configurations and tasks.

    Attributes:
        folder: where the entries lie.
        groups: best entry first in each.

    Example:
        >>> import defectbench
        >>> board = defectbench.load_leaderboard("leaderboards/cdte-doped")
        >>> len(board) == sum(len(group.entries) for group in board.groups)
        True
    """

    folder: Path
    groups: tuple[Group, ...]

    def to_frame(self) -> pd.DataFrame:
        """One row per entry: dataset, suite, model, charge class, overall score with bounds, gain over baselines, task scores.

        Example:
            >>> import defectbench
            >>> board = defectbench.load_leaderboard("leaderboards/cdte-doped")
            >>> set(board.to_frame()["charge_class"])
            {'charge-blind'}
        """
        import pandas as pd

        rows = []
        for number, group in enumerate(self.groups):
            without = best_baselines(group.first.tasks)[1]
            for one in group.entries:
                e, s = one.entry, one.score
                low, high = s.bounds or (None, None)
                rows.append(
                    {
                        "group": number,
                        "dataset": e.dataset.id,
                        "suite": e.selection.suite,
                        "in_domain": e.in_domain,
                        "model": e.model.id,
                        "charge_class": e.certificate["charge_class"],
                        "overall": s.overall,
                        "low": low,
                        "high": high,
                        "best_baselines": without,
                        "above_baseline": mean_gain(gains(e.tasks)),
                        "counted": s.coverage,
                        **{t.task: t.score for t in s.tasks if t.weight > 0},
                    }
                )
        return pd.DataFrame(rows)

    def across_hosts(self) -> AcrossHosts:
        """Scores over hosts, each host with the same weight, and how well the hosts agree on the order of models.

        Example:
            >>> import defectbench
            >>> board = defectbench.load_leaderboard("leaderboards/cdte-doped")
            >>> [host.name for host in board.across_hosts().hosts]
            ['CdTe']
        """
        return across_hosts(self.groups)

    def markdown(self) -> str:
        """The page that ``defectbench leaderboard table`` prints.

        Example:
            >>> import defectbench
            >>> board = defectbench.load_leaderboard("leaderboards/cdte-doped")
            >>> board.markdown().splitlines()[0]
            '# Leaderboard'
        """
        from defectbench.leaderboard.tables import leaderboard

        return leaderboard(self.folder)

    def draw(self, folder: str | Path) -> list[Path]:
        """Draws accuracy against speed for each group; returns the files, none if no entry has both.

        Raises:
            RunError: a file cannot be written.

        Example:
            >>> import tempfile, defectbench
            >>> board = defectbench.load_leaderboard("leaderboards/cdte-doped")
            >>> [path.name for path in board.draw(tempfile.mkdtemp())]
            ['pareto-cdte-doped-hse06-soc-full.png', 'pareto-cdte-doped-hse06-soc-full.svg']
        """
        from defectbench.base.paths import user_path
        from defectbench.leaderboard.figures import draw_leaderboard

        return draw_leaderboard(list(self.groups), user_path(folder))

    def write(self, page: str | Path) -> list[Path]:
        """Writes the Markdown page, with links, and its figures beside it; returns the figures' files.

        Raises:
            RunError: a file cannot be written.

        Example:
            >>> import tempfile, defectbench
            >>> board = defectbench.load_leaderboard("leaderboards/cdte-doped")
            >>> len(board.write(tempfile.mkdtemp() + "/README.md"))
            2
        """
        from defectbench.base.files import write_text
        from defectbench.base.paths import user_path
        from defectbench.leaderboard.figures import FIGURE_FOLDER
        from defectbench.leaderboard.tables import leaderboard

        page = user_path(page)
        figures = page.parent / FIGURE_FOLDER
        text = leaderboard(self.folder, page.parent, figures)
        drawn = self.draw(figures)
        write_text(page, text)
        return drawn

    def __len__(self) -> int:
        return sum(len(group.entries) for group in self.groups)

    def __repr__(self) -> str:
        return f"<leaderboard {self.folder}: {len(self)} entries in {len(self.groups)} groups>"

    def _repr_html_(self) -> str:
        columns = ["model", "charge_class", "overall", "above_baseline", "counted"]
        parts = []
        for number, frame in self.to_frame().groupby("group"):
            first = self.groups[int(str(number))].first
            parts.append(f"<b>{first.dataset.id}</b> ({first.dataset.level_of_theory}, {first.selection.suite})")
            parts.append(frame[columns].to_html(index=False, float_format="{:.2f}".format, na_rep="–"))
        return "".join(parts)


def load_leaderboard(folder: str | Path = "leaderboards") -> Leaderboard:
    """All entries at or below a folder, ranked where they compare.

    Args:
        folder: e.g. the ``leaderboards`` of a checkout, or a folder of your own runs.

    Raises:
        DefectbenchError: no entries, or one that cannot be read.

    Example:
        >>> import defectbench
        >>> board = defectbench.load_leaderboard("leaderboards/sb2se3-vacancies")
        >>> frame = board.to_frame()
        >>> bool(frame.groupby("group")["overall"].apply(lambda s: s.is_monotonic_decreasing).all())
        True
    """
    from defectbench.base.paths import user_path

    place = user_path(folder)
    return Leaderboard(place, tuple(group_entries(find_entries(place))))
