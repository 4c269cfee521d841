"""A folder with every kind of file that a command reads, and ways to spoil one of them."""

from __future__ import annotations

import gzip
import json
import os
import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml
from ase.calculators.lj import LennardJones
from ase.io import write
from datasets_helpers import build_tiny, make_host, make_relaxation
from test_dataset_import import shakenbreak_folder
from test_dataset_import_formats import IDEAL, doped_entry

import defectbench
from defectbench.base.errors import ModelError
from defectbench.calculations.client import WorkerSpec
from defectbench.calculations.executors import Finished
from defectbench.calculations.executors.in_process import InProcessExecutor
from defectbench.calculations.requests import Calculation
from defectbench.datasets.extxyz import write_extxyz
from defectbench.leaderboard.html import build_site
from defectbench.worker.main import load

ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        0,
        -1,
        3,
        1e308,
        -1e-320,
        2**63,
        10**30,
        float("nan"),
        float("inf"),
        "",
        " ",
        "x" * 5000,
        "\x1b[31m",
        "a\nb",
        "−3",
        "1e400",
    ),
    *("../..", "/", "{}", "$x_1$", "ä", "nan", "yes", "PBE", "V_Sb", [], {}, [[]], [None], {"a": {"b": []}}, [1, 2, 3], {"a": 1}, "\ud800"),
)

SPLITS = {
    "schema_version": 1,
    "seed": 1,
    "validation": 0.3,
    "test": 0.2,
    "rules": [{"part": "held_out", "name": "held-out", "defects": ["Se_i"]}, {"part": "train", "name": "all", "defects": ["V_Sb"]}],
}
RECIPE = {
    "id": "small",
    "kind": "mace",
    "levels": [{"name": "PBE"}],
    "architecture": {"num_channels": 4},
    "phases": [{"epochs": 1, "learning_rate": [0.02, 0.005], "energy_weight": 1.0, "forces_weight": 30.0}],
    "presets": {"tiny": {"batch_size": 2}},
}
MODEL = {
    "id": "toy",
    "name": "Lennard-Jones",
    "adapter": "ase_calculator",
    "arguments": {"factory": "ase.calculators.lj:LennardJones", "sigma": 1.0, "epsilon": 0.01, "rc": 3.0},
    "level_of_theory": "PBE",
    "charge": {"how": "none"},
}


def build_world(root: Path) -> Path:
    """One small file or folder of each kind, all valid."""
    root.mkdir()
    tiny = build_tiny(root / "dataset")
    (tiny / "splits.yaml").write_text(yaml.safe_dump(SPLITS))
    (root / "model.yaml").write_text(yaml.safe_dump(MODEL, sort_keys=False))
    (root / "recipe.yaml").write_text(yaml.safe_dump(RECIPE, sort_keys=False))
    (root / "tolerance.yaml").write_text("relax.rmsd: 0.01\nrelax.success: 0.1\n")
    write(root / "host.extxyz", make_host(), format="extxyz")
    frames = make_relaxation(IDEAL, 0)
    for frame in frames:
        frame.info |= {"charge": 0, "defect": "V_Sb", "configuration": "Rattled"}
    write_extxyz(root / "relax.extxyz", frames)
    shakenbreak_folder(root / "results")
    thermo = {"@class": "DefectThermodynamics", "defect_entries": {"v_Sb_0": doped_entry(0, -55.0, {})}, "vbm": 1.5, "band_gap": 1.2}
    (root / "doped.json").write_text(json.dumps(thermo))
    for name, epsilon in (("entry", 0.01), ("other", 0.02)):
        defectbench.evaluate(
            LennardJones(sigma=1.0, epsilon=epsilon, rc=3.0),
            tiny,
            tasks=["relax", "cost"],
            name=name,
            figures=False,
            output=root / "entries" / name,
        )
    build_site(root / "entries", root / "site")
    return root


def run_in_process(executor: Any, calculations: Sequence[Calculation]) -> Iterator[Finished]:
    """In place of worker processes: the worker's code, here. What cannot be loaded is the error that a worker would send."""
    spec: WorkerSpec = executor.spec
    try:
        model, _ = load(dict(spec.hello))
    except Exception as error:
        raise ModelError(f"{spec.model}: {type(error).__name__}") from error
    yield from InProcessExecutor(model).run(calculations)


def spoil(path: Path, chance: random.Random) -> str:
    """Damages a file in one way; says how."""
    content = path.read_bytes()
    if path.suffix == ".db" and chance.random() < 0.7:
        return _spoil_database(path, chance)
    if path.suffix in (".yaml", ".json", ".gz") and chance.random() < 0.7:
        packed = path.suffix == ".gz"
        try:
            text = (gzip.decompress(content) if packed else content).decode()
            found = yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text)
        except (OSError, EOFError, ValueError, yaml.YAMLError):  # spoilt before
            return _spoil_bytes(path, content, chance)
        tree, how = _spoil_tree(found, chance)
        text = yaml.dump(tree, allow_unicode=True) if path.suffix == ".yaml" else json.dumps(tree)
        raw = text.encode(errors="surrogatepass")
        path.write_bytes(gzip.compress(raw) if packed else raw)
        return how
    return _spoil_bytes(path, content, chance)


def _spoil_bytes(path: Path, content: bytes, chance: random.Random) -> str:
    lines = content.splitlines(keepends=True) or [b""]
    at, where = chance.randrange(len(lines)), chance.randrange(len(content) + 1)
    how = chance.choice(
        ["cut", "flip", "empty", "drop line", "repeat line", "odd number", "mark", "latin-1", "folder", "link", "pipe", "gone", "insert"]
    )
    if how == "cut":
        path.write_bytes(content[:where])
    elif how == "flip":
        path.write_bytes(content[:where] + bytes([chance.randrange(256)]) + content[where + 1 :])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "drop line":
        path.write_bytes(b"".join(lines[:at] + lines[at + 1 :]))
    elif how == "repeat line":
        path.write_bytes(b"".join(lines[: at + 1] + lines[at:]))
    elif how == "odd number":
        words = lines[at].split(b" ")
        words[chance.randrange(len(words))] = chance.choice([b"nan", b"1e400", b"-", b"inf", b"0", b"-1", b"9" * 400, b"x", b"1.0.0"])
        path.write_bytes(b"".join([*lines[:at], b" ".join(words), b"\n", *lines[at + 1 :]]))
    elif how == "mark":
        path.write_bytes(b"\xef\xbb\xbf" + content)
    elif how == "latin-1":
        path.write_bytes(content[:where] + "äö".encode("latin-1") + content[where:])
    elif how == "insert":
        path.write_bytes(content[:where] + bytes(chance.randrange(256) for _ in range(8)) + content[where:])
    else:
        path.unlink()
        if how == "folder":
            path.mkdir()
        elif how == "link":
            path.symlink_to(path.name)
        elif how == "pipe":
            os.mkfifo(path)
    return f"{how} at line {at} or byte {where}"


def _nodes(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, child in children:
        yield from _nodes(child, (*path, key))


def _spoil_tree(tree: Any, chance: random.Random) -> tuple[Any, str]:
    nodes = list(_nodes(tree))
    # a place near the top as often as one deep down, of which there are many more
    depth = chance.choice(sorted({len(node) for node in nodes}))
    path = chance.choice([node for node in nodes if len(node) == depth])
    odd = chance.choice(ODD)
    if not path:
        return odd, f"all is {odd!r:.50}"
    parent = tree
    for key in path[:-1]:
        parent = parent[key]
    how = chance.choice(["replace", "replace", "replace", "delete", "wrap", "add"])
    if how == "replace":
        parent[path[-1]] = odd
    elif how == "delete":
        del parent[path[-1]]
    elif how == "wrap":
        parent[path[-1]] = [parent[path[-1]]]
    elif isinstance(parent, dict):
        parent[str(odd)] = odd
    else:
        parent.append(parent[path[-1]])
    return tree, f"{how} {'.'.join(map(str, path))}: {odd!r:.50}"


def _spoil_database(path: Path, chance: random.Random) -> str:
    column, odd = chance.choice(["key", "request", "result", "machine", "checksum"]), chance.choice([None, b"\xff", "{}", "x", 7, "[]"])
    command = chance.choice(
        [f"UPDATE OR IGNORE results SET {column} = ifnull(?, 5) WHERE rowid = 2", "DROP TABLE results", "DELETE FROM results"]
    )
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(command, (odd,) if "?" in command else ())
        connection.commit()
    return f"{command} ({odd!r})"
