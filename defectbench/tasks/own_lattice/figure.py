"""The figure of the task ``own_lattice``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from defectbench.base.states import format_charge
from defectbench.scoring.landscape import RMSD_CAP
from defectbench.scoring.task import FigureContext, TaskResult
from defectbench.tasks.own_lattice.rows import StateRow

if TYPE_CHECKING:
    from pathlib import Path


def draw(result: TaskResult, context: FigureContext, folder: Path) -> list[Path]:
    """Draws each charge state's RMSD in the model's own lattice over that in the reference cell; a miss stands at the cap."""
    from defectbench.plotting import style
    from defectbench.plotting.labels import place_labels

    gained, volume = result.metric("rmsd_gained").value, result.metric("volume_change").value
    rows = result.table("states", StateRow)
    if not rows or gained is None or volume is None:
        return []
    with style.figure(style.COLUMN_WIDTH, 3.0) as made:
        axes = made.subplots()
        axes.plot([0, RMSD_CAP], [0, RMSD_CAP], "--", color=style.COLOURS["muted"], linewidth=0.8)
        top, labels = 0.0, []
        for row in rows:
            x, y = (RMSD_CAP if rmsd is None else rmsd for rmsd in (row["fixed_rmsd"], row["rmsd"]))
            miss = row["rmsd"] is None or row["fixed_rmsd"] is None
            axes.scatter([x], [y], s=14, marker="X" if miss else "o", color=style.COLOURS["miss" if miss else "model"], linewidth=0)
            label = f"{style.defect_text(row['defect'])} {format_charge(row['charge'])}"
            labels.append(axes.text(x, y, label, fontsize=6))
            top = max(top, x, y)
        axes.set_xlim(0, 1.15 * top)
        axes.set_ylim(0, 1.15 * top)
        axes.set_xlabel("RMSD in the reference cell (Å)")
        axes.set_ylabel("RMSD in the own lattice (Å)")
        nearer = f"{abs(gained):.2f} Å {'nearer to' if gained >= 0 else 'farther from'} DFT"
        change = f"{volume:+.1f} %".replace("-", "\N{MINUS SIGN}")
        sentence = f"In its own lattice ({change} in volume) {context.model} comes {nearer} on average."
        style.headline(made, sentence, context.source)
        made.draw_without_rendering()
        made.set_layout_engine("none")
        place_labels(axes, labels)
        return style.save(made, folder, "own_lattice")
