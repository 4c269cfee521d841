"""Results on disk, in SQLite: each is committed as it finishes, so that a kill loses nothing finished."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from defectbench.base.errors import RunError
from defectbench.base.files import copy_file, write_bytes
from defectbench.base.hardware import Machine
from defectbench.calculations.requests import Calculation
from defectbench.calculations.results import Stored, check_echo, parse

_SCHEMA = """CREATE TABLE results (
    key TEXT PRIMARY KEY, request TEXT NOT NULL, result TEXT NOT NULL, machine TEXT, checksum TEXT NOT NULL
)"""

_READ = "SELECT key, request, result, machine, checksum FROM results"
_WRITE = "INSERT OR REPLACE INTO results (key, request, result, machine, checksum) VALUES (?, ?, ?, ?, ?)"

Row = tuple[str, str, str, str | None]


class ResultStore:
    """The calculations of one run folder, by key: one row each, with request, result and machine as JSON and a checksum of them.

    A damaged row is left out: its calculation counts as not done. A damaged file is set aside, and what can be read of it is kept.
    The folder must be locked by the caller: two processes on one file are not meant.

    Attributes:
        path: of the file.
        losses: what was lost, one sentence each; empty if nothing was.

    Raises:
        RunError: the file cannot be opened or made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.losses: list[str] = []
        try:
            if not path.exists():
                _create(path, [])
            self._connection, self._keys = self._open()
            self._inode = path.stat().st_ino
        except (OSError, sqlite3.Error) as error:
            raise RunError(f"cannot use the result database {path}: {error}; check its permissions, or choose another --output") from error

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __enter__(self) -> ResultStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; safe to call twice."""
        self._connection.close()

    def get(self, key: str, calculation: Calculation) -> Stored | None:
        """What is stored under a key; None if nothing is, or nothing that could be a result of this calculation.

        Raises:
            RunError: the file cannot be read any more.
        """
        if key not in self._keys:
            return None
        try:
            row = self._connection.execute("SELECT result, machine FROM results WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            raise self._broken(error) from error
        try:
            return Stored(parse(calculation, row[0]), Machine.model_validate_json(row[1]) if row[1] else None)
        except ValueError as error:
            self._keys.discard(key)
            self.losses.append(f"a result in {self.path} is not of its calculation ({error}); it is calculated again")
            return None

    def put(self, key: str, calculation: Calculation, stored: Stored) -> None:
        """Stores a fresh result, replacing an earlier one under the same key. On return it is on disk.

        Raises:
            EchoMismatch: the result does not say that it answers this calculation.
            RunError: it cannot be written: the disk is full, or the file was removed.
        """
        check_echo(calculation, stored.result)
        self._write(key, calculation, stored)

    def take_over(self, key: str, calculation: Calculation, stored: Stored) -> None:
        """As :meth:`put`, for a result of an earlier entry, whose workers may not have said what they calculated.

        Raises:
            EchoMismatch: it says that it answers another calculation.
            RunError: it cannot be written.
        """
        if stored.result.echo is not None:
            check_echo(calculation, stored.result)
        self._write(key, calculation, stored)

    def _write(self, key: str, calculation: Calculation, stored: Stored) -> None:
        row = (
            key,
            json.dumps(calculation.to_json(), sort_keys=True),
            stored.result.model_dump_json(),
            None if stored.machine is None else stored.machine.model_dump_json(),
        )
        try:
            if self.path.stat().st_ino != self._inode:
                raise FileNotFoundError
            with self._connection:
                self._connection.execute(_WRITE, (*row, _checksum(row)))
        except (sqlite3.Error, OSError) as error:
            raise self._broken(error) from error
        self._keys.add(key)

    def _broken(self, error: Exception) -> RunError:
        if not self.path.exists() or self.path.stat().st_ino != self._inode:
            return RunError(
                f"{self.path} was removed or replaced during the run, and the results in it are gone; "
                "run the same command again, and leave the folder alone while it runs"
            )
        return RunError(f"cannot write to {self.path}: {error}; free some space and run the same command, nothing finished is lost")

    def _open(self) -> tuple[sqlite3.Connection, set[str]]:
        """The connection and the keys of the sound rows; a file that SQLite cannot read is replaced by what could be read of it."""
        try:
            connection = _connect(self.path)
            try:
                rows = [tuple(row) for row in connection.execute(_READ)]
                # an index that does not fit its table would find rows that are not there
                if connection.execute("PRAGMA quick_check").fetchone() != ("ok",):
                    raise sqlite3.DatabaseError("its pages do not fit together")
            except BaseException:
                connection.close()
                raise
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            return self._salvaged(error)
        sound = {row[0] for row in rows if _sound(row)}
        if lost := len(rows) - len(sound):
            self.losses.append(f"{lost} of {len(rows)} results in {self.path} are damaged; they are calculated again")
        return connection, sound

    def _salvaged(self, why: Exception) -> tuple[sqlite3.Connection, set[str]]:
        aside = _free_name(self.path)
        copy_file(self.path, aside)
        rows = _readable(self.path)
        _create(self.path, rows)  # in one step: a kill leaves the damaged file or the new one
        self.losses.append(
            f"{self.path} is damaged ({why}): {len(rows)} results could be read and are kept, the others are calculated again; "
            f"the damaged file is now {aside.name}"
        )
        return _connect(self.path), {row[0] for row in rows}


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    # A rollback journal and not WAL, which does not work on network file systems; every commit is on disk when it returns.
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _create(path: Path, rows: list[Row]) -> None:
    """Writes a database in one step: made in memory, so that a kill or a full disk leaves no half of one."""
    path.with_name(f"{path.name}-journal").unlink(missing_ok=True)  # of an earlier file; SQLite would play it back into this one
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(_SCHEMA)
        connection.executemany(_WRITE, [(*row, _checksum(row)) for row in rows])
        connection.commit()
        content = connection.serialize()
    write_bytes(path, content)


def _checksum(row: Row) -> str:
    return hashlib.sha256(json.dumps(row).encode()).hexdigest()


def _sound(row: tuple[object, ...]) -> bool:
    *content, checksum = row
    texts = all(isinstance(value, str) for value in content[:3]) and isinstance(content[3], str | None)
    return texts and hashlib.sha256(json.dumps(content).encode()).hexdigest() == checksum


def _readable(path: Path) -> list[Row]:
    """The sound rows of a damaged file, row by row."""
    found: list[Row] = []
    with suppress(sqlite3.Error, OSError), closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as connection:
        connection.text_factory = lambda text: text.decode(errors="replace")
        # a row takes more than 64 bytes, whatever the header says
        for number in range(1, path.stat().st_size // 64 + 1):
            with suppress(sqlite3.DatabaseError):
                row = connection.execute(f"{_READ} WHERE rowid = ?", (number,)).fetchone()
                if row is not None and _sound(row):
                    found.append(row[:4])
    return found


def _free_name(path: Path) -> Path:
    number = 1
    # a link that leads nowhere is taken, too
    while os.path.lexists(aside := path.with_name(f"{path.stem}.damaged-{number}{path.suffix}")):
        number += 1
    return aside
