from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from refusals import raises_code

from defectbench.models import environment as module
from defectbench.models.environment import ensure_environment, list_environments, pins_sha256, remove_environment

FAKE_UV = """#!{python}
import os, pathlib, sys, time
log = pathlib.Path({log!r})
with log.open("a") as handle:
    handle.write(" ".join(sys.argv[1:]) + "\\n")
if sys.argv[1] == "venv":
    folder = pathlib.Path(sys.argv[-1])
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to({python!r})
    sys.exit(0)
time.sleep({delay})
for number in range(30):
    print("line", number)
print({message!r})
sys.exit({code})
"""


class FakeUv:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.log, self._monkeypatch = folder, folder / "log", monkeypatch

    def install(self, *, code: int = 0, message: str = "done", delay: float = 0.0) -> None:
        path = self.folder / "uv"
        path.write_text(FAKE_UV.format(python=sys.executable, log=str(self.log), code=code, message=message, delay=delay))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        self._monkeypatch.setattr(module, "find_uv", lambda: str(path))

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def fake_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> FakeUv:
    folder = tmp_path / "bin"
    folder.mkdir()
    return FakeUv(folder, monkeypatch)


def test_it_is_built_once(fake_uv: FakeUv, cache: Path) -> None:
    fake_uv.install()
    seen: list[str] = []
    first = ensure_environment("ase", progress=seen.append)
    assert first.python == cache / "environments" / f"ase-{pins_sha256('ase')[:12]}" / "bin" / "python"
    assert first.pins_sha256 == pins_sha256("ase")
    assert first.packages["numpy"]
    assert any("building the environment 'ase'" in line for line in seen)
    assert [call.split()[0] for call in fake_uv.calls] == ["venv", "pip"]
    assert ensure_environment("ase") == first
    assert len(fake_uv.calls) == 2


def test_two_runs_build_it_once(fake_uv: FakeUv) -> None:
    fake_uv.install(delay=1.0)
    found = []
    threads = [threading.Thread(target=lambda: found.append(ensure_environment("ase"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(fake_uv.calls) == 2


def test_removing_while_another_process_builds_is_refused_and_a_second_build_says_that_it_waits(fake_uv: FakeUv) -> None:
    fake_uv.install(delay=1.0)
    first, waited = threading.Event(), []

    def tell(line: str) -> None:
        if line.startswith("building"):
            first.set()

    builder = threading.Thread(target=lambda: ensure_environment("ase", progress=tell))
    builder.start()
    assert first.wait(20)
    while not module.environment_folder("ase").is_dir():
        time.sleep(0.01)
    with raises_code("environment-in-use"):
        remove_environment("ase")
    ensure_environment("ase", progress=waited.append)
    builder.join()
    assert len(waited) == 1
    assert len(fake_uv.calls) == 2
    assert remove_environment("ase")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_uv_ends_when_a_build_is_interrupted(fake_uv: FakeUv) -> None:
    fake_uv.install(delay=300.0)
    script = fake_uv.folder / "uv"
    script.write_text(script.read_text().replace("time.sleep(", "print(os.getpid(), flush=True); time.sleep("))
    seen: list[int] = []

    def interrupt(line: str) -> None:
        if line.isdecimal():
            seen.append(int(line))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure_environment("ase", progress=interrupt)
    state = Path(f"/proc/{seen[0]}/stat")
    for _ in range(100):
        if not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("uv runs on")


def test_a_killed_build_is_not_taken_for_a_finished_one(fake_uv: FakeUv, cache: Path) -> None:
    half = cache / "environments" / f"ase-{pins_sha256('ase')[:12]}"
    (half / "bin").mkdir(parents=True)
    (half / "bin" / "python").symlink_to(sys.executable)
    fake_uv.install()
    ensure_environment("ase")
    assert len(fake_uv.calls) == 2


def test_a_failed_build_shows_the_end_of_uvs_output(fake_uv: FakeUv) -> None:
    fake_uv.install(code=2, message="because sevenn==9 does not exist")
    with raises_code("environment-failed", "ended with 2") as caught:
        ensure_environment("ase")
    message = str(caught.value)
    assert message.endswith("because sevenn==9 does not exist")
    assert "line 29" in message
    assert "line 3\n" not in message
    fake_uv.install()
    ensure_environment("ase")  # and it is not stuck


def test_no_network_says_so(fake_uv: FakeUv) -> None:
    fake_uv.install(code=1, message="error sending request for url: dns error: failed to lookup address information")
    with raises_code("download-failed", "UV_INDEX_URL"):
        ensure_environment("ase")


def test_a_missing_uv_says_what_to_do(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setitem(sys.modules, "uv", None)
    monkeypatch.setenv("PATH", "")
    with raises_code("no-uv", "pip install uv", "--environment PATH"):
        ensure_environment("ase")


def test_uvs_own_variables_go_through(fake_uv: FakeUv, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, str] = {}
    real = subprocess.Popen

    def spy(*arguments: object, **named: object) -> object:
        seen.update(named.get("env") or {})
        return real(*arguments, **named)

    fake_uv.install()
    monkeypatch.setenv("UV_FIND_LINKS", "/somewhere")
    monkeypatch.setenv("VIRTUAL_ENV", "/mine")
    monkeypatch.setattr(module.subprocess, "Popen", spy)
    ensure_environment("ase")
    assert seen["UV_FIND_LINKS"] == "/somewhere"
    assert "VIRTUAL_ENV" not in seen


def test_current_and_paths() -> None:
    current = ensure_environment("current")
    assert current.python == Path(sys.executable)
    assert current.packages["ase"]
    by_interpreter = ensure_environment(sys.executable)
    by_folder = ensure_environment(Path(sys.prefix))
    assert by_interpreter.pins_sha256 == by_folder.pins_sha256 == current.pins_sha256


def test_paths_that_are_no_python_are_one_line(tmp_path: Path) -> None:
    with raises_code("unknown-environment", "sevennet"):
        ensure_environment("sevenn")
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho nonsense\n")
    fake.chmod(0o755)
    with raises_code("bad-python", fake, "--environment") as refused:
        ensure_environment(fake)
    assert refused.value.exit_code == 2
    with raises_code("bad-python", "ls") as refused:
        ensure_environment("/bin/ls")
    assert "import json" not in str(refused.value)
    (tmp_path / "afile").write_text("")
    with raises_code("bad-python", "afile", "Permission denied"):
        ensure_environment(tmp_path / "afile")
    fake.write_text('#!/bin/sh\necho \'{"python": [3, 8, 1], "packages": {}}\'\n')
    with raises_code("bad-python", "3.8.1", "3.10"):
        ensure_environment(fake)


def test_list_and_remove(fake_uv: FakeUv, cache: Path) -> None:
    fake_uv.install()
    old = cache / "environments" / "ase-000000000000"
    old.mkdir(parents=True)
    ensure_environment("ase")
    status = {s.name: s for s in list_environments()}
    assert set(status) >= {"sevennet", "chgnet", "matgl", "mace", "grace", "mattersim", "ase"}
    assert status["ase"].built
    assert status["ase"].outdated == (old,)
    assert not status["mace"].built
    assert sorted(remove_environment("ase")) == sorted([status["ase"].path, old])
    assert not status["ase"].path.exists()
    assert remove_environment("ase") == []
    with raises_code("unknown-environment"):
        remove_environment("nonsense")


LISTS = Path(module.__file__).parent / "environments"


@pytest.mark.parametrize("path", sorted(LISTS.glob("*.txt")), ids=lambda p: p.stem)
def test_lists_pin_every_package_and_nothing_of_one_machine(path: Path) -> None:
    blocks = re.split(r"\n(?=\w)", path.read_text())[1:]
    pins = [block.split()[0] for block in blocks]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    assert all("--hash=sha256:" in block for block in blocks)
    assert all(";" in block for block in blocks if re.match("cuda-|triton|nvidia-(?!ml-py)", block))  # not on a Mac
    text = path.read_text()
    for banned in ("+cpu", "://", "file:", "/"):
        assert banned not in text.replace("scripts/lock_environments.py", "")
    wanted = [line.strip() for line in path.with_suffix(".in").read_text().splitlines() if line.strip()]
    assert set(wanted) <= set(pins)


def test_the_marker_is_readable(fake_uv: FakeUv) -> None:
    fake_uv.install()
    made = ensure_environment("ase")
    marker = json.loads((made.python.parent.parent / module.MARKER).read_text())
    assert marker["packages"] == made.packages
    assert os.access(made.python, os.X_OK)
