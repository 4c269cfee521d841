"""Workflows, the action and the templates: each parses, and each command in them exists with those options."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from defectbench.base.yaml import parse_yaml
from defectbench.cli import app

ROOT = Path(__file__).parents[1]
FILES = sorted([*(ROOT / ".github").rglob("*.yml"), *(ROOT / "templates").glob("*.yml"), ROOT / "action.yml", ROOT / ".gitlab-ci.yml"])


def documents(path: Path) -> list[Any]:
    return [parse_yaml(text) for text in re.split(r"(?m)^---$", path.read_text(encoding="utf-8"))]


def scripts(content: Any) -> list[str]:
    """What shells run: the values of ``run`` and ``script``."""
    found = []
    if isinstance(content, dict):
        for key, value in content.items():
            if key in ("run", "script") and not isinstance(value, dict):
                found += value if isinstance(value, list) else [value]
            else:
                found += scripts(value)
    elif isinstance(content, list):
        for item in content:
            found += scripts(item)
    return found


def commands(script: str) -> list[list[str]]:
    """The words of each call of defectbench."""
    lines = script.replace("\\\n", " ").splitlines()
    calls = [re.split(r"\s*(?:;|\|\||&&|>|2>)\s*", call)[0] for line in lines for call in re.findall(r"\bdefectbench [a-z].*", line)]
    return [shlex.split(call)[1:] for call in calls]


SCRIPTS = [(path, script) for path in FILES for document in documents(path) for script in scripts(document)]
SCRIPTS.append((ROOT / ".ci" / "run", (ROOT / ".ci" / "run").read_text(encoding="utf-8")))
CALLS = [(path, words) for path, script in SCRIPTS for words in commands(script)]


def test_there_are_commands_to_check():
    assert len(CALLS) >= 6
    assert {words[0] for _, words in CALLS} >= {"evaluate", "leaderboard", "models"}


@pytest.mark.parametrize(("path", "words"), CALLS, ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else value.name)
def test_commands_exist_with_these_options(path, words):
    command = typer.main.get_command(app)
    words = list(words)
    while hasattr(command, "commands"):
        name = words.pop(0)
        assert name in command.commands, f"{path}: no command {name}"
        command = command.commands[name]
    known = {option: parameter for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        if word.startswith("-"):
            assert word in known, f"{path}: {command.name} has no {word}"


@pytest.mark.parametrize(("path", "script"), SCRIPTS, ids=lambda value: value.name if isinstance(value, Path) else value[:20])
def test_scripts_are_scripts(path, script):
    assert "${{" not in script, "GitHub puts the value of an expression into a script before the shell reads it"
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_options_of_the_action_exist():
    (content,) = documents(ROOT / "action.yml")
    (script,) = [s for s in scripts(content) if "defectbench evaluate" in s]
    known = {option for parameter in typer.main.get_command(app).commands["evaluate"].params for option in parameter.opts}
    assert set(re.findall(r"\((--[a-z-]+)", script)) | set(re.findall(r" (--[a-z-]+)", script)) <= known | {"--no-figures"}
    used = set(re.findall(r"inputs\.([a-z-]+)", (ROOT / "action.yml").read_text()))
    assert used == set(content["inputs"])


def test_a_workflow_that_may_write_runs_nothing_of_a_pull_request():
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        (content,) = documents(path)
        triggers = content["on"]
        assert "pull_request_target" not in triggers
        if "pull_request" in triggers:
            assert content["permissions"] == {"contents": "read"}
        if "workflow_run" in triggers:
            assert not any("checkout" in str(step) for job in content["jobs"].values() for step in job["steps"])
