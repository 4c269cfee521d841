"""The figure of the task ``charge_response``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from defectbench.scoring.task import ScoringInput, TaskResult
from defectbench.tasks.charge_response.score import Kind, responses

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def draw(scoring: ScoringInput, result: TaskResult, model: str, folder: Path) -> list[Path]:
    """Draws the model's response against DFT's, component by component, a panel for each look that has data."""
    from matplotlib.ticker import MaxNLocator

    from defectbench.plotting import style

    found, _ = responses(scoring)
    names = {
        "ground states": "displacements between ground states",
        "one start": "displacements from one start",
        "forces": "change of forces",
    }
    kinds: list[Kind] = [k for k in ("ground states", "one start", "forces") if any(r.kind == k for r in found)]
    if not kinds:
        return []
    metric = {"ground states": "reproduced", "one start": "same_start_reproduced", "forces": "force_reproduced"}
    pairs = sorted({r.charges for r in found})
    from defectbench.plotting.charges import charge_colours

    colours = charge_colours(range(len(pairs)))
    width = style.COLUMN_WIDTH if len(kinds) == 1 else style.PAGE_WIDTH
    columns = min(5, len(pairs))
    legend_rows = -(-len(pairs) // columns)
    with style.figure(width, 0.6 + 0.15 * legend_rows + (2.55 if len(kinds) < 3 else 2.1)) as made:
        panels = made.subplots(1, len(kinds), squeeze=False)[0]
        handles: dict[tuple[int, int], Any] = {}
        for kind, axes in zip(kinds, panels, strict=True):
            unit = "eV/Å" if kind == "forces" else "Å"
            largest = 0.0
            for number, pair in enumerate(pairs):
                mine = [(r.reference, r.model) for r in found if r.kind == kind and r.charges == pair and r.model is not None]
                if not mine:
                    continue
                x = np.concatenate([reference.ravel() for reference, _ in mine])
                y = np.concatenate([answer.ravel() for _, answer in mine])
                handles[pair] = axes.scatter(x, y, s=5, color=colours[number], linewidth=0, alpha=0.8, zorder=2)
                largest = max(largest, float(np.abs(x).max()), float(np.abs(y).max()))
            limit = 1.08 * largest or 1.0
            axes.plot([-limit, limit], [-limit, limit], "-", color=style.COLOURS["muted"], linewidth=0.6, zorder=1)
            axes.axhline(0.0, color=style.COLOURS["muted"], linewidth=0.6, linestyle=":", zorder=1)
            axes.set_xlim(-limit, limit)
            axes.set_ylim(-limit, limit)
            axes.set_aspect("equal")
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.set_xlabel(f"{scoring.dataset.level} ({unit})")
            axes.set_ylabel(f"model ({unit})")
            value = result.metric(metric[kind]).value
            axes.set_title(names[kind] + ("" if value is None else f"\nreproduced {value:.2f}"))
        made.legend(
            [handles[pair] for pair in sorted(handles)],
            [f"{style.charge_text(first)} to {style.charge_text(second)}" for first, second in sorted(handles)],
            loc="outside lower center",
            ncols=columns,
            title=f"{model}: charges (e)",
            title_fontsize=6.5,
            markerscale=2,
        )
        return style.save(made, folder, "charge_response")
