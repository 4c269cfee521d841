"""Runs the part of a plan that is not stored yet, and gathers what is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from defectbench.base.errors import RunError
from defectbench.calculations.plan import longest_first
from defectbench.calculations.results import CertificateResult, Result, Stored

if TYPE_CHECKING:
    from defectbench.calculations.executors import Executor
    from defectbench.calculations.plan import Plan
    from defectbench.calculations.requests import Calculation
    from defectbench.calculations.store import ResultStore


@dataclass(frozen=True)
class Reporter:
    """What a caller may want to know during a run. Every hook may be left out.

    Attributes:
        stage: a sentence about what begins now.
        planned: the plan, and the part of it that is not stored yet.
        added: what is calculated besides, after the plan.
        progress: a running relaxation's step, energy (eV) and largest force (eV/Å).
        finished: a calculation is stored: calculation and result.
        note: a sentence that the user should still see when the run is over.
    """

    stage: Callable[[str], None] = lambda _text: None
    planned: Callable[[Plan, Sequence[Calculation]], None] = lambda _plan, _todo: None
    added: Callable[[Sequence[Calculation]], None] = lambda _todo: None
    progress: Callable[[int, float, float], None] = lambda _step, _energy, _fmax: None
    finished: Callable[[Calculation, Result], None] = lambda _calculation, _result: None
    note: Callable[[str], None] = lambda _text: None


def certify(certificate: Calculation, store: ResultStore, identity: str, executor: Executor, reporter: Reporter) -> CertificateResult:
    """The raw charge-response certificate: the stored one, or measured now and stored.

    One that was stored by a run without batches says nothing of batches: it is measured again where the executor makes some, so that
    charges that get mixed up within a batch are found before anything is calculated.

    Args:
        certificate: its calculation.
        store: of the run.
        identity: of the model.
        executor: measures it.
        reporter: is told what begins.

    Raises:
        RunError: the model failed.
    """
    key = certificate.key(identity)
    stored = store.get(key, certificate)
    found = stored.result if stored is not None else None
    says_enough = getattr(executor, "batch", 1) == 1 or (isinstance(found, CertificateResult) and found.batched is not None)
    if isinstance(found, CertificateResult) and found.status == "ok" and says_enough:
        return found
    reporter.stage("checking how the model responds to charge")
    (done,) = executor.run([certificate])
    if done.result.status == "failed":
        raise RunError(f"the model failed its first check: {done.result.failure}", code="model-failed")
    assert isinstance(done.result, CertificateResult)
    store.put(key, certificate, Stored(done.result, done.machine))
    return done.result


def calculate(
    plan: Plan,
    store: ResultStore,
    identity: str,
    executor: Executor,
    *,
    retry_failed: bool,
    reporter: Reporter,
    at_the_end: Sequence[Calculation] = (),
) -> Mapping[str, Stored]:
    """Everything of a plan: what is stored, and what is missing calculated now and stored as it finishes.

    Args:
        plan: what is wanted.
        store: of the run.
        identity: of the model.
        executor: runs what is missing.
        retry_failed: failed ones count as missing.
        reporter: receives the plan and each result.
        at_the_end: if anything is calculated now, so is this, after all else and by the same workers.

    Returns:
        Content hash → result, in the plan's order.

    Raises:
        RunError: every relaxation failed, or a result cannot be stored.
    """

    def missing(calculation: Calculation) -> bool:
        found = store.get(calculation.key(identity), calculation)
        return found is None or (retry_failed and found.result.status == "failed")

    todo = longest_first(c for c in plan.calculations if missing(c))
    if todo:
        todo += [c for c in at_the_end if missing(c)]
    tell_losses(store, reporter)
    reporter.planned(plan, todo)
    _run(todo, store, identity, executor, reporter.finished)
    results = {c.content_hash: found for c in plan.calculations if (found := store.get(c.key(identity), c)) is not None}
    if left := len(plan.calculations) - len(results):
        raise RunError(f"{left} of {len(plan.calculations)} calculations have no result; run the same command again", code="unfinished")
    relaxed = [results[c.content_hash].result for c in plan.calculations if c.kind == "relaxation"]
    # of a shard nothing follows from a few failures
    if relaxed and plan.shard is None and all(result.status == "failed" for result in relaxed):
        raise RunError(
            f"all {len(relaxed)} relaxations failed, the first with: {relaxed[0].failure}; their records are kept", code="model-failed"
        )
    return results


def _run(
    todo: Sequence[Calculation], store: ResultStore, identity: str, executor: Executor, finished: Callable[[Calculation, Result], None]
) -> None:
    if not todo:
        return
    running = executor.run(todo)
    try:
        for done in running:
            store.put(done.calculation.key(identity), done.calculation, Stored(done.result, done.machine))
            finished(done.calculation, done.result)
    finally:  # now, and not when the traceback of an error is forgotten
        if (close := getattr(running, "close", None)) is not None:
            close()


def calculate_again(
    calculations: Sequence[Calculation], store: ResultStore, identity: str, executor: Executor, reporter: Reporter
) -> dict[str, Stored]:
    """What an audit of a run compares with: stored, or calculated now by workers that did nothing before.

    Args:
        calculations: to have.
        store: of the run.
        identity: of the model.
        executor: runs what is missing.
        reporter: is told what begins, and receives each result.

    Returns:
        Content hash → result.
    """
    todo = [c for c in {c.content_hash: c for c in calculations}.values() if store.get(c.key(identity), c) is None]
    if todo:
        reporter.stage("calculating some results again")
        reporter.added(todo)
    _run(todo, store, identity, executor, reporter.finished)
    return {c.content_hash: found for c in calculations if (found := store.get(c.key(identity), c)) is not None}


def tell_losses(store: ResultStore, reporter: Reporter) -> None:
    """Says, once, which part of the store could not be read."""
    for loss in store.losses:
        reporter.note(loss)
    store.losses.clear()
