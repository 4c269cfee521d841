"""Writes the tables of metrics into the pages, from each task's ``metrics.yaml``.

A table stands between ``<!-- metrics: TASK -->`` and ``<!-- end -->``; what is between them is replaced.

    python scripts/generate_docs.py           # writes
    python scripts/generate_docs.py --check   # exit code 1 if a page is out of date
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from defectbench.base.tables import markdown_table
from defectbench.scoring.task import MetricDefinition, Task
from defectbench.tasks import get_tasks

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"<!-- metrics: (\w+) -->\n.*?<!-- end -->", re.DOTALL)


def anchors(metric: MetricDefinition) -> str:
    """Good and bad with the unit; metrics without a direction are for information."""
    if metric.direction == "none":
        return "information"
    unit = "" if metric.unit == "1" else f" {metric.unit}"
    return f"{metric.good:g} → {metric.bad:g}{unit}"


def table(task: Task) -> str:
    """The metrics of a task as a Markdown table."""
    rows = [[f"`{m.name}`", m.label, anchors(m), "–" if m.direction == "none" else f"{m.weight:g}", m.tooltip] for m in task.metrics]
    return markdown_table(["metric", "label", "good → bad", "weight", "meaning"], rows, [3])


def generated(text: str, tasks: dict[str, Task]) -> str:
    """A page with its tables as they should be."""
    return BLOCK.sub(lambda block: f"<!-- metrics: {block[1]} -->\n{table(tasks[block[1]])}\n<!-- end -->", text)


def main(check: bool) -> int:
    """Writes the pages, or says which are out of date."""
    tasks = {task.name: task for task in get_tasks()}
    outdated, found = [], set()
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        found |= set(BLOCK.findall(text))
        new = generated(text, tasks)
        if new != text:
            outdated.append(page.name)
            if not check:
                page.write_text(new, encoding="utf-8")
    if missing := sorted(set(tasks) - found):
        print(f"no page has a table for {', '.join(missing)}")
    if outdated:
        print(f"{'out of date' if check else 'written'}: {', '.join(outdated)}")
    return int(bool(missing) or (check and bool(outdated)))


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
