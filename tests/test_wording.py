"""The English of the project: words that a reader stumbles over, and what to write instead."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WHOLE = "atom|batch|call|cell|charge|charge state|core|defect|entry|epoch|force call|frame|gpu|level|metric|minute|model"
WHOLE += "|pair|reason|relaxation|row|state|step|structure|task|thread|worker"
AVOID = {
    # "there is no X", "is no longer" and comparisons are fine
    r"(?<!there )\b(is|are|was|were) no (?!longer\b|more\b|better\b|worse\b|one\b|such\b|other\b)": "is not a",
    r"(?<!calculated )\banew\b": "again",  # a certificate's text is stored in entries, and compared with them
    r"\btak(e|es|en|ing) off\b": "subtracted",
    r"\btak(e|es|en|ing) for\b": "mistaken for, or counts as",
    r"\bhear[sd]?\b": "responds to charge",
    r"\ball the same\b": "anyway, or equal",
    r"\b(go|goes|went|going) on\b": "resumes, or continues",
    r"\b(tell|tells|telling|told) apart\b": "distinguish",
    r"\bat hand\b": "available, or leave it out",
    r"\bneed be\b": "if needed, or necessary",
    r"\bonce more\b": "again ",
    r"\bthe very (?!same\b)": "exactly the",
    r"\b(shall|mend(s|ed)?)\b": "must or should, and fix or repair",
    r"\bso many (?!that\b|times\b)": "the number of, or this many",
    r"(?<!all )(?<!authors, )\bbut for\b": "except for",  # the latter is hashed with a dataset
    r"\b(come|comes|came) about\b": "is computed",
    r"\bholds? no\b": "contains no",
    r"\bof no (use|defect)\b": "useless, or not of a defect",
    r"\bwhat of (a|the|it)\b": "the part of",
    r"\bsees? to it\b": "does that",
    rf"\b(one (?!with\b|when\b|is\b|that\b)\w+|meV|eV|hours|seconds?|[\d.]+ s) an? ({WHOLE})\b": "per",
}
FILES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FILES += [path for folder in ("defectbench", "scripts") for path in sorted((ROOT / folder).rglob("*.py"))]
FILES += sorted((ROOT / "defectbench" / "tasks").glob("*/metrics.yaml"))
FILES += sorted((ROOT / "defectbench" / "leaderboard" / "templates").glob("*.j2"))
FILES += sorted((ROOT / "defectbench" / "models" / "definitions").glob("*.yaml"))
FILES += [ROOT / "reference-models" / "README.md", ROOT / "action.yml"]


@pytest.mark.parametrize(("pattern", "instead"), AVOID.items(), ids=AVOID.values())
def test_plain_words(pattern: str, instead: str) -> None:
    avoid = re.compile(pattern, re.IGNORECASE)
    found = []
    for path in FILES:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if avoid.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:160]}")
    assert not found, f"write '{instead}':\n" + "\n".join(found)


WITH_ASCII_MINUS = {
    "base/states.py": 2,  # format_charge itself, and names of files
    "datasets/readers/mgo_antisite_doped.py": 1,  # names of files
    "datasets/splits.py": 1,  # what is hashed
    "worker/errors.py": 1,  # the worker's format_charge
}


def test_charges_are_written_by_format_charge() -> None:
    package = ROOT / "defectbench"
    found = {path.relative_to(package).as_posix(): path.read_text(encoding="utf-8").count(":+d}") for path in package.rglob("*.py")}
    assert {name: count for name, count in found.items() if count} == WITH_ASCII_MINUS
