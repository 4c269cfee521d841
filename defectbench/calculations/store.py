"""Results on disk, in an ASE SQLite database: each is committed as it finishes, so that a kill loses nothing finished."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from defectbench.base.errors import RunError
from defectbench.calculations.requests import Calculation
from defectbench.calculations.results import hardware_problem, problem

_DAMAGED = (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError)
"""What reading a damaged row may raise in ASE: it takes its content as it comes."""

_MACHINE: dict[str, type] = {"device": str, "hardware": dict, "workers": int, "threads_per_worker": int}


class ResultStore:
    """The calculations of one run directory, by key.

    A row is the last structure with its energy and forces (readable with ``ase db``), the key-value pairs ``key``,
    ``kind``, ``status``, ``total_charge`` and the labels given, and as data the whole result as the worker sent it and the
    machine that it was calculated on.

    Raises:
        RunError: the file cannot be opened or is no database.
    """

    def __init__(self, path: Path) -> None:
        from ase.db import connect

        self.path = path
        try:
            # the run directory is locked by the caller: ASE's own lock file would outlive a kill
            self._database = connect(path, type="db", use_lock_file=False)
            self._rows: dict[str, int] = {row.key_value_pairs["key"][1:]: row.id for row in self._database.select(include_data=False)}
        except (sqlite3.DatabaseError, OSError, *_DAMAGED) as error:
            raise self.unusable(_words(error)) from error

    def unusable(self, why: str) -> RunError:
        """The error that says that this database cannot be used."""
        return RunError(f"cannot use the result database {self.path}: {why}; move it away to begin anew")

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def get(self, key: str, calculation: Calculation | None = None) -> dict[str, Any] | None:
        """The result stored under a key, as the worker sent it; None if there is none.

        Args:
            calculation: checks that the result has the form of one of this calculation.

        Raises:
            RunError: what is stored there is damaged.
        """
        if key not in self._rows:
            return None
        result = self._data(key).get("result")
        if not isinstance(result, dict):
            raise self.unusable(f"row {self._rows[key]} holds no result")
        if calculation is not None and (found := problem(calculation, result)) is not None:
            raise self.unusable(f"the result in row {self._rows[key]} {found}")
        return dict(result)

    def machine(self, key: str) -> dict[str, Any] | None:
        """The machine that a stored result was calculated on; None if that is not recorded.

        Raises:
            KeyError: nothing is stored under the key.
            RunError: what is stored there is damaged.
        """
        found = self._data(key).get("machine")
        if found is None:
            return None
        if not isinstance(found, dict) or any(not isinstance(found.get(name), form) for name, form in _MACHINE.items()):
            raise self.unusable(f"row {self._rows[key]} holds no machine")
        if (wrong := hardware_problem(found["hardware"])) is not None:
            raise self.unusable(f"the machine in row {self._rows[key]}: {wrong}")
        return dict(found)

    def _data(self, key: str) -> dict[str, Any]:
        row_id = self._rows[key]
        try:
            data = self._database.get(id=row_id).data
        except (sqlite3.Error, OSError, *_DAMAGED) as error:
            raise self.unusable(f"row {row_id}: {_words(error)}") from error
        if not isinstance(data, dict):
            raise self.unusable(f"row {row_id} holds no result")
        return dict(data)

    def put(
        self,
        key: str,
        calculation: Calculation,
        result: Mapping[str, Any],
        labels: Mapping[str, str] | None = None,
        machine: Mapping[str, Any] | None = None,
    ) -> None:
        """Stores a result, replacing an earlier one under the same key. On return it is on disk.

        Args:
            machine: what it was calculated on (JSON values).

        Raises:
            RunError: the disk is full, the database cannot be written, or takes no such label (one that reads as a number).
        """
        from ase.calculators.singlepoint import SinglePointCalculator

        atoms = calculation.structure.to_atoms()
        if result.get("positions") is not None:
            atoms.positions = np.asarray(result["positions"], dtype=float)
        energy, forces = result.get("energy"), result.get("forces")
        if energy is not None and forces is not None and len(forces) == len(atoms):
            atoms.calc = SinglePointCalculator(atoms, energy=float(energy), forces=np.asarray(forces, dtype=float))
        pairs: dict[str, Any] = {"key": "k" + key, "kind": calculation.kind, "status": str(result.get("status", "done"))}
        if calculation.charge is not None:
            pairs["total_charge"] = int(calculation.charge)
        pairs.update(labels or {})
        data: dict[str, Any] = {"result": dict(result)}
        if machine is not None:
            data["machine"] = dict(machine)
        try:
            old = self._rows.get(key)
            self._rows[key] = self._database.write(atoms, key_value_pairs=pairs, data=data)
            if old is not None:
                self._database.delete([old])
        except ValueError as error:
            named = ", ".join(f"{name} '{value}'" for name, value in (labels or {}).items())
            raise RunError(f"{self.path} takes no result of {named}: {str(error).splitlines()[0]}") from error
        except (sqlite3.Error, OSError) as error:
            raise RunError(f"cannot write to {self.path}: {error}; free some space and run the same command, nothing is lost") from error


def _words(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__
