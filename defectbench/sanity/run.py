"""Runs the suite with a model: relax → path → answer → write. Finished calculations are stored; the same call resumes."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from defectbench.base.errors import DefectbenchError, UnknownNameError
from defectbench.base.files import contained, write_text
from defectbench.base.redaction import redact
from defectbench.base.version import VERSION
from defectbench.calculations.asking import Ask
from defectbench.calculations.results import OwnLatticeResult, PathResult, Stored
from defectbench.sanity.checks import findings
from defectbench.sanity.record import ModelUsed, Outcome, Pathway, SanityRecord, write_record
from defectbench.sanity.structures import point_group, vacant_sites
from defectbench.sanity.suite import BARRIER, HOST, SPLIT, SUITE, TETRAHEDRAL, System, barrier, relaxations, systems

if TYPE_CHECKING:
    from defectbench.calculations.executors import Executor
    from defectbench.calculations.preparation import ModelOptions, Prepared
    from defectbench.calculations.requests import Calculation
    from defectbench.calculations.store import ResultStore

Say = Callable[[str], None]

DEFAULT_OUTPUT = Path("defectbench-results")


def chosen_systems(names: Sequence[str] | None) -> tuple[System, ...]:
    """Systems by name (``Si 64``) or element (``Si``); None for all.

    Example:
        >>> [system.name for system in chosen_systems(["Si", "W 128"])]
        ['Si 64', 'Si 216', 'W 128']

    Raises:
        UnknownNameError: no such system; names the nearest.
        DefectbenchError: the list is empty.
    """
    known = systems()
    if names is None:
        return tuple(known.values())
    if not names:
        raise DefectbenchError("systems is an empty list; omit it for all, or name some", code="empty-value")
    out: dict[str, System] = {}
    for name in names:
        mine = {key: system for key, system in known.items() if name in (key, key.split()[0])}
        if not mine:
            raise UnknownNameError("system", name, list(known))
        out |= mine
    return tuple(out.values())


def run_sanity(
    model: Any,
    options: ModelOptions | None = None,
    *,
    only: Sequence[str] | None = None,
    output: str | Path | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    say: Say = lambda _line: None,
) -> tuple[SanityRecord, Path]:
    """Asks a model about defects without a charge.

    Args:
        model: the name of a registered model, the path of a model YAML, a definition, or an ASE calculator.
        options: what else is said of the model, as in :func:`defectbench.evaluate`.
        only: systems by name or element; None for all.
        output: the folder that the results go to; by default one per model below ``defectbench-results``.
        workers: worker processes; by default one per core.
        executor: runs the calculations instead of local worker processes.
        say: called with a line on what is done.

    Returns:
        The record, and the folder that it was written to, as ``sanity.json`` with ``structures.extxyz`` beside it.

    Raises:
        DefectbenchError: bad input (unknown names, code or weights that are not trusted).
        RunError: the folder is in use, the disk is full, or the model cannot start.

    Example:
        >>> import tempfile
        >>> from ase.calculators.emt import EMT
        >>> record, _ = run_sanity(EMT(), only=["W"], output=tempfile.mkdtemp())  # EMT knows no tungsten
        >>> record.passed, record.judged
        (0, 3)
    """
    from defectbench.calculations.preparation import ModelOptions, choose_model
    from defectbench.calculations.store import ResultStore
    from defectbench.entries.run_folder import locked
    from defectbench.runs.selection import refuse_numbers

    refuse_numbers(workers, None)
    chosen = choose_model(model, options or ModelOptions())
    wanted = chosen_systems(only)
    ask = Ask(takes_charge=chosen.definition.charge.how != "none")
    planned = relaxations(wanted, ask)
    folder = Path(output) if output is not None else DEFAULT_OUTPUT / chosen.definition.id / "neutral-sanity"
    with locked(folder):
        ready = chosen.prepare(say)
        running = ready.executor(executor, workers=workers, at_most=len(planned))
        with ResultStore(contained(folder, "calculations.db")) as store:
            labels = {calculation.content_hash: f"{system}, {start}" for (system, start), calculation in planned.items()}
            stored = _calculated(list(planned.values()), labels, store, ready, running, say, first=True)
            outcomes = tuple(_outcome(system, planned, stored, start) for system in wanted for start in (HOST, *system.starts))
            paths = _paths(wanted, planned, stored, outcomes, ask, lambda todo, names: _calculated(todo, names, store, ready, running, say))
        record = SanityRecord(
            suite=SUITE,
            model=_model_used(ready, chosen.embedded),
            findings=findings(outcomes, paths),
            outcomes=outcomes,
            paths=paths,
            **_provenance(ready, stored),
        )
        write_record(folder, record)
        write_text(contained(folder, "structures.extxyz"), _structures(planned, stored))
    return record, folder


def _calculated(
    calculations: Sequence[Calculation],
    labels: Mapping[str, str],
    store: ResultStore,
    ready: Prepared,
    executor: Executor,
    say: Say,
    *,
    first: bool = False,
) -> dict[str, Stored]:
    """Content hash → result: what is stored, and what is missing calculated now and stored as it finishes.

    The first time it is said whether the model's code could reach the network.
    """
    from defectbench.calculations.preparation import network_note

    identity = ready.resolved.identity
    todo = [c for c in calculations if store.get(c.key(identity), c) is None]
    done = len(calculations) - len(todo)
    told = not first or ready.hand is not None
    for finished in executor.run(todo) if todo else ():
        if not told and (note := network_note(ready.resolved.definition, getattr(executor, "network", None))):
            say(f"note: {note}")
        told = True
        store.put(finished.calculation.key(identity), finished.calculation, Stored(finished.result, finished.machine))
        done += 1
        said = finished.result.failure or finished.result.status
        say(f"{done} of {len(calculations)}: {labels[finished.calculation.content_hash]}: {said}")
    return {c.content_hash: found for c in calculations if (found := store.get(c.key(identity), c)) is not None}


def _relaxed(calculation: Calculation, stored: Stored) -> tuple[OwnLatticeResult, Atoms | None]:
    """A relaxation, and where it ended, in the model's own lattice; None if it failed."""
    result = stored.result
    assert isinstance(result, OwnLatticeResult)
    if result.status == "failed" or result.cell is None:
        return result, None
    atoms = calculation.structure.to_atoms()
    atoms.positions = np.array(result.positions)
    atoms.set_cell(np.array(result.cell), scale_atoms=True)
    return result, atoms


def _outcome(system: System, planned: Mapping[tuple[str, str], Calculation], stored: Mapping[str, Stored], start: str) -> Outcome:
    calculation = planned[system.name, start]
    found = stored[calculation.content_hash]
    result, atoms = _relaxed(calculation, found)
    edges = (calculation.structure.to_atoms().cell.volume, atoms.cell.volume) if atoms is not None else None
    whole = atoms is not None and len(atoms) >= len(system.host) and start != HOST
    return Outcome(
        system=system.name,
        start=start,
        atoms=len(calculation.structure.symbols),
        status=result.status,
        failure=None if result.failure is None else redact(result.failure),
        energy=None if result.energy is None else round(result.energy, 5),
        steps=result.steps,
        seconds=round(result.cpu_s or result.wall_s, 1),
        lattice=None if edges is None else round(float((edges[1] / edges[0]) ** (1 / 3)), 5),
        vacant_sites=vacant_sites(atoms, system.host) if atoms is not None and whole else None,
        point_group=point_group(atoms) if atoms is not None and whole else None,
    )


def _paths(
    wanted: Sequence[System],
    planned: Mapping[tuple[str, str], Calculation],
    stored: Mapping[str, Stored],
    outcomes: Sequence[Outcome],
    ask: Ask,
    calculated: Callable[[Sequence[Calculation], Mapping[str, str]], Mapping[str, Stored]],
) -> tuple[Pathway, ...]:
    """The path between silicon's two interstitials, if both are the minima that they began as."""
    system = next((one for one in wanted if one.name == "Si 64"), None)
    found = {o.start: o for o in outcomes if system is not None and o.system == system.name and o.status == "converged"}
    if system is None or [found[s].vacant_sites if s in found else None for s in (TETRAHEDRAL, SPLIT)] != [0, 1]:
        return ()
    ends = []
    for start in (TETRAHEDRAL, SPLIT):
        calculation = planned[system.name, start]
        _, atoms = _relaxed(calculation, stored[calculation.content_hash])
        assert atoms is not None
        ends.append(atoms)
    ends[1].set_cell(ends[0].cell, scale_atoms=True)  # two workers may find cells that differ by less than their tolerance
    asked = barrier(ends[0], ends[1], ask)
    result = calculated([asked], {asked.content_hash: f"{system.name}, {BARRIER}"})[asked.content_hash].result
    assert isinstance(result, PathResult)
    return (
        Pathway(
            system=system.name,
            name=BARRIER,
            status=result.status,
            failure=None if result.failure is None else redact(result.failure),
            energies=tuple(round(energy - result.energies[0], 4) for energy in result.energies),
            steps=result.steps,
            seconds=round(result.cpu_s or result.wall_s, 1),
        ),
    )


def _model_used(ready: Prepared, embedded: bool) -> ModelUsed:
    definition = ready.resolved.definition
    return ModelUsed(
        id=definition.id,
        name=definition.name,
        package=definition.package,
        identity=ready.resolved.identity,
        level_of_theory=definition.level_of_theory,
        weights_sha256={redact(name): sha256 for name, sha256 in ready.resolved.weights_sha256.items()},
        embedded=embedded,
    )


def _provenance(ready: Prepared, stored: Mapping[str, Stored]) -> dict[str, Any]:

    named = {"ase", "numpy", "torch", "tensorflow", ready.resolved.definition.package.lower().replace("_", "-")}
    machines = dict.fromkeys(found.machine for found in stored.values() if found.machine is not None)
    return {
        "defectbench": VERSION,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "packages": {name: version for name, version in ready.python.packages.items() if name in named},
        "machines": tuple(machines),
    }


def _structures(planned: Mapping[tuple[str, str], Calculation], stored: Mapping[str, Stored]) -> str:
    """The relaxed structures in the model's own lattice, as extxyz."""
    import io

    from ase.io import write

    images = []
    for (system, start), calculation in planned.items():
        result, atoms = _relaxed(calculation, stored[calculation.content_hash])
        if atoms is not None:
            atoms.info = {"system": system, "start": start, "status": result.status, "model_energy": result.energy}
            images.append(atoms)
    text = io.StringIO()
    if images:
        write(text, images, format="extxyz")
    return text.getvalue()
