"""What the pages say is so."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import numpy as np
import pytest
import typer

import defectbench
from defectbench.cli import app
from defectbench.models.registry import load_model

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()).replace(" ", "-") for heading in headings}


def commands() -> list[tuple[str, str]]:
    """Page and command of every ``defectbench …`` in a block or in backticks; comments and what follows a pipe or ``&&`` are left out."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        fenced = [block.split("\n", 1)[1] for block in text.split("```")[1::2] if block.split("\n", 1)[0] in ("", "bash")]
        blocks = "\n".join(fenced + re.findall(r"^    (.*)$", text, flags=re.MULTILINE))
        lines = re.findall(r"(?:^|/)(defectbench [a-z].*)$", blocks, flags=re.MULTILINE)
        lines += re.findall(r"`(defectbench [a-z][^`]*)`", text)
        found += [(page.name, re.split(r"\s+#|&&|\|", line)[0].strip()) for line in lines]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        there = page.parent / target if target else page
        assert there.exists(), f"{page.name} links to {target}, which does not exist"
        assert not anchor or anchor in anchors(there), f"{page.name} links to {target}#{anchor}, which does not exist"


HOSTS = {"3dmol.org", "arxiv.org", "docs.astral.sh", "doi.org", "github.com", "jobqueue.dask.org", "keepachangelog.com", "plotly.com"}
HOSTS |= {"pytorch.org", "tabulator.info", "www.cp2k.org", "www.sigstore.dev"}


def test_external_links_are_https_and_lead_to_known_hosts():
    """No network is needed: a link that leads elsewhere is a mistake, or belongs in the list."""
    definitions = sorted((ROOT / "defectbench" / "models" / "definitions").glob("*.yaml"))
    links = [(page.name, link) for page in PAGES for link in re.findall(r"\]\((\w+://[^)\s]+)\)", page.read_text(encoding="utf-8"))]
    links += [(path.name, load_model(str(path)).url or "https://github.com/") for path in definitions]
    assert len(links) > len(definitions) + 10
    for name, link in links:
        found = urlsplit(link)
        assert (found.scheme, found.hostname in HOSTS) == ("https", True), f"{name}: {link}"
        assert found.hostname != "doi.org" or re.fullmatch(r"/10\.\d{4,9}/\S+", found.path), f"{name}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_exists(page):
    for path in re.findall(r"`((?:\.ci|datasets|defectbench|docs|leaderboards|scripts|tests)/[^`\s]*)`", page.read_text(encoding="utf-8")):
        if not re.search(r"[<>*{…]|NAME", path):
            assert (ROOT / path).exists(), f"{page.name} names {path}, which does not exist"


def test_every_command_exists_with_its_options():
    assert len(commands()) > 40
    for page, line in commands():
        command = typer.main.get_command(app)
        words = shlex.split(line)[1:]
        while words and hasattr(command, "commands") and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        options = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
        unknown = [word for word in words if re.match(r"--?[a-zA-Z]", word) and word.split("=")[0] not in options]
        assert not unknown, f"{page}: {line}: {unknown}"
        assert not hasattr(command, "commands") or not words, f"{page}: {line}: there is no such command"


def test_the_executor_of_the_example_answers_each_calculation():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    namespace: dict = {}
    exec(text.split("```python")[1].split("```")[0], namespace)

    class Worker:
        def __init__(self, spec):
            self.calculate = str

        def __enter__(self):
            return self

        def __exit__(self, *ended):
            pass

    namespace["WorkerClient"] = Worker
    done = list(namespace["OneWorker"](SimpleNamespace(device="cpu")).run(["a", "b"]))
    assert [(finished.calculation, finished.result) for finished in done] == [("a", "a"), ("b", "b")]
    assert done[0].machine.device == "cpu"


def test_the_tables_of_metrics_are_those_that_the_tasks_declare():
    script = ROOT / "scripts" / "generate_docs.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_response_of_dft_forces_to_charge_that_the_classes_are_measured_by():
    dataset = defectbench.load_dataset("sb2se3-vacancies")
    frames = {q: dataset.frames("V_Sb1", q, "Start_Unperturbed")[0] for q in dataset.charges("V_Sb1")}
    forces = [frame.get_forces() for _, frame in sorted(frames.items())]
    changes = [float(np.linalg.norm(b - a, axis=1).max()) for a, b in pairwise(forces)]
    largest = [float(np.linalg.norm([a, b], axis=2).max()) for a, b in pairwise(forces)]
    shares = [100.0 * change / force for change, force in zip(changes, largest, strict=True)]
    text = " ".join((DOCS / "models.md").read_text(encoding="utf-8").split())
    assert f"changes by {min(changes):.2f} to {max(changes):.2f} eV/Å per charge" in text
    assert f"{min(shares):.0f} to {max(shares):.0f} % of the largest force" in text
