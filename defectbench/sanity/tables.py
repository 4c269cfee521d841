"""Records of the suite side by side, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from defectbench.base.tables import markdown_table
from defectbench.base.text import markdown
from defectbench.sanity.checks import CHECKS
from defectbench.sanity.record import Finding, SanityRecord


def answer(found: Finding) -> str:
    """Value and judgement of an answer in a few words.

    Example:
        >>> answer(Finding(check="c", system="s", question="", value=0.61, unit="eV", published=None, passed=True, reason=None))
        '0.61, right'
    """
    judged = {True: "right", False: "wrong", None: ""}[found.passed]
    value = "" if found.value is None else f"{found.value:.2f}".replace("-", "\N{MINUS SIGN}")
    return ", ".join(part for part in (value, judged) if part) or "–"


def comparison(records: Sequence[SanityRecord]) -> str:
    """A Markdown table with a row per question and a column per model; the last row counts."""
    heading = ["system", "question", "published", *(markdown(record.model.id) for record in records)]
    rows = []
    by_model = [{found.check: found for found in record.findings} for record in records]
    for check in CHECKS:
        unit = f" ({check.unit})" if check.unit else ""
        cells = [answer(found[check.name]) if check.name in found else "–" for found in by_model]
        rows.append([check.system, markdown(check.question) + unit, markdown(check.published or "–"), *cells])
    totals = [f"**{record.passed} of {record.judged}**" for record in records]
    return markdown_table(heading, [*rows, ["", "**right**", "", *totals]])
