"""Recomputes everything an entry says from its calculations and the dataset, and names what differs.

What can be found without the model is found here; :mod:`defectbench.entries.sampling` runs calculations again.
"""

from __future__ import annotations

import datetime
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectbench.base.errors import DefectbenchError, UnknownNameError
from defectbench.base.files import contained, read_bytes, read_gzip
from defectbench.base.states import format_charge
from defectbench.base.text import one_line
from defectbench.calculations.audit import asked_again, audit, first_questions, with_audit
from defectbench.calculations.judging import judge
from defectbench.calculations.plan import Plan, SelectedState, certificate_start, make_plan, select_states
from defectbench.calculations.requests import PROTOCOL, Calculation, Structure
from defectbench.calculations.results import CertificateResult, Stored
from defectbench.entries.evidence import (
    certificate_start_problems,
    differences,
    reference_problems,
    result_problems,
    shared_problems,
    text_difference,
)
from defectbench.entries.folder import (
    BUNDLE_FILE,
    MAX_CALCULATIONS,
    MAX_ENTRY,
    entry_folder,
    outcome,
    read_calculations,
    read_entry,
    stored_result,
    structures_text,
    task_record,
    write_tables,
)
from defectbench.entries.versions import version_problems

if TYPE_CHECKING:
    from defectbench.datasets.dataset import Dataset
    from defectbench.entries.sampling import SampleOptions
    from defectbench.entries.schema import Entry
    from defectbench.models.certificate import ChargeCertificate
    from defectbench.scoring.task import ScoringInput

MAX_FILE = 100_000_000
"""Bytes of a table, figure or structure file."""


@dataclass(frozen=True)
class Verification:
    """What was found.

    Attributes:
        folder: of the entry.
        problems: what differs from what the calculations and the dataset give, one line each.
        unchecked: what could not be checked here, and why, one line each.
        calculations: how many stored results were checked.
        repeated: how many of them were calculated again.
        signed_by: who signed the entry; None if nobody did, or if that could not be checked.
        notes: what else is to be known of the calculations that were run again, one line each.

    Example:
        >>> from pathlib import Path
        >>> from defectbench.entries.verification import Verification
        >>> found = Verification(Path("entry"), ("metrics: relax.rmsd: 0.10, recomputed 0.31",), (), calculations=71)
        >>> found.passed, found
        (False, <verification of entry: 1 problems in 71 calculations; 0 things unchecked>)
    """

    folder: Path
    problems: tuple[str, ...]
    unchecked: tuple[str, ...]
    calculations: int
    repeated: int = 0
    signed_by: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing differs."""
        return not self.problems

    def __repr__(self) -> str:
        found = f"{len(self.problems)} problems in {self.calculations} calculations; {len(self.unchecked)} things unchecked"
        return f"<verification of {self.folder}: {found}>"


def verify(
    entry: str | Path,
    dataset: str | Path | Dataset | None = None,
    *,
    figures: bool = True,
    sample: int = 0,
    model: Any = None,
    options: SampleOptions | None = None,
) -> Verification:
    """Recomputes everything an entry says, and names each difference.

    Metrics, intervals, baselines, tables, notes, certificate, configurations, structures, selection, provenance and figures are derived
    again from the stored calculations and the dataset; the calculations are checked against their requests, against each other and
    against DFT. An entry invented as a whole, consistently, passes: only ``sample`` finds it. See ``docs/verification.md``.

    Args:
        entry: an entry folder, or the path of its ``entry.json``.
        dataset: the dataset it was made on, if it is not found by its name.
        figures: whether figures are drawn again and compared.
        sample: number of calculations that are run again with the model and compared.
        model: for ``sample``, the model if it is not registered: a YAML, a definition or an ASE calculator.
        options: for ``sample``, how the model runs.

    Raises:
        DefectbenchError: the entry cannot be read, the dataset or (for ``sample``) the model is not found.
        RunError: the model cannot start.

    Example:
        >>> import tempfile, defectbench
        >>> from ase.calculators.lj import LennardJones
        >>> calculator, folder = LennardJones(sigma=1.0, epsilon=0.01, rc=3.0), tempfile.mkdtemp()
        >>> chosen = {"defects": ["V_Se2"], "charges": [2], "configurations": ["Unperturbed"], "tasks": ["relax"]}
        >>> _ = defectbench.evaluate(calculator, **chosen, figures=False, output=folder)
        >>> defectbench.verify(folder, sample=1, model=calculator).problems
        ()
    """
    from defectbench.datasets.dataset import Dataset
    from defectbench.entries.rescoring import dataset_of

    folder = entry_folder(Path(entry))
    said = read_entry(folder)
    data = dataset if isinstance(dataset, Dataset) else dataset_of(dataset, said.dataset.id)
    checks = _Checks(folder, said, data)
    checks.run(figures)
    repeated, notes = 0, tuple[str, ...]()
    if sample and checks.plan is not None:
        from defectbench.entries.sampling import SampleOptions, run_sample

        found = run_sample(said, data, checks.plan, checks.results, checks.labels, sample, model, options or SampleOptions())
        checks.problems += found.problems
        repeated, notes = found.repeated, () if found.note is None else (found.note,)
    problems, unchecked = tuple(dict.fromkeys(checks.problems)), tuple(checks.unchecked)
    return Verification(folder, problems, unchecked, len(checks.results), repeated, checks.signed_by, notes)


def judge_again(entry: Path, dataset: Dataset | None = None) -> ChargeCertificate | None:
    """What an entry's stored measurements and results say of the charge, without the model.

    Args:
        entry: its folder.
        dataset: it was made on, if it is not found by its name.

    Returns:
        The certificate with the audit of the run; None if the entry has no measurements.

    Raises:
        DefectbenchError: the entry cannot be read, or the dataset is not found.
    """
    from defectbench.entries.rescoring import dataset_of

    said = read_entry(entry)
    checks = _Checks(entry, said, dataset or dataset_of(None, said.dataset.id))
    plan = checks._plan()
    checks._read(plan)
    return checks.judged(plan)


class _Checks:
    """One entry under examination; each method looks at one part of it."""

    def __init__(self, folder: Path, entry: Entry, data: Dataset) -> None:
        self.folder, self.entry, self.data = folder, entry, data
        self.problems: list[str] = []
        self.unchecked: list[str] = []
        self.results: dict[str, Stored] = {}
        self.labels: dict[str, str] = {}
        self.plan: Plan | None = None
        self.raw: CertificateResult | None = None
        self.asked: Calculation | None = None
        self.repeated: dict[str, Stored] = {}
        self.recomputed = entry
        self.signed_by: str | None = None

    def run(self, figures: bool) -> None:
        """Looks at everything. Without exactly this dataset nothing can be recomputed."""
        self._twice()
        self._signature()
        self.problems += version_problems(self.folder, self.entry)
        self.problems += self._dataset()
        if self.entry.dataset.id != self.data.id or self.entry.dataset.sha256 != self.data.sha256:
            self.unchecked.append("everything that rests on the dataset: it is another one, or another version of it")
            return
        self.problems += self._selection()
        self.problems += differences("provenance.protocol", self.entry.provenance.protocol, PROTOCOL.to_json())
        try:
            self.plan = self._plan()
        except UnknownNameError as error:
            self.problems.append(f"selection: {error}")
            return
        self._read(self.plan)
        self.problems += self._model()
        self.problems += self._certificate(self.plan)
        self._evidence(self.plan)
        scored = self._score(self.plan)
        self.problems += self._provenance(self.plan)
        if scored is not None:
            self._files(scored, self.plan, figures)

    def _twice(self) -> None:
        for name, text in (
            ("entry.json", read_bytes(contained(self.folder, "entry.json"), MAX_ENTRY)),
            ("calculations.json.gz", self._packed()),
        ):
            self.problems += [f"{name}: {key} appears twice" for key in _repeated_keys(text)]

    def _signature(self) -> None:
        from defectbench.entries.signing import BadSignature, signature_of

        try:
            found = signature_of(self.folder)
        except BadSignature as error:
            self.problems.append(f"{BUNDLE_FILE}: {error}")
        except DefectbenchError as error:
            self.unchecked.append(f"{BUNDLE_FILE}: {error}")
        else:
            self.signed_by = None if found is None else str(found)

    def _packed(self) -> bytes:
        path = contained(self.folder, "calculations.json.gz")
        try:
            return read_gzip(path, MAX_CALCULATIONS)
        except (OSError, ValueError) as error:
            raise DefectbenchError(f"cannot read {path}: {error}; an entry needs it to be verified", code="bad-entry") from error

    def _dataset(self) -> Iterator[str]:
        from defectbench.datasets.catalogue import embedded_names

        said, data = self.entry.dataset, self.data
        if said.id == data.id and said.sha256 != data.sha256:
            yield f"dataset.sha256: of another version of {said.id} ({said.sha256[:12]}…, here {data.sha256[:12]}…): the entry is stale"
        found = {"id": data.id, "title": data.metadata.title, "level_of_theory": data.level}
        yield from differences("dataset", {name: getattr(said, name) for name in found}, found)
        if said.embedded and said.id not in embedded_names():
            yield f"dataset.embedded: {said.id} does not come with defectbench"

    def _selection(self) -> Iterator[str]:
        """A selection is a product of defects, charges and configurations: it can be made again from what it holds."""
        chosen = self.entry.selection
        pairs = [*((s.defect, s.charge) for s in chosen.states), *((s.defect, s.charge) for s in chosen.skipped)]
        custom = chosen.suite == "custom"
        try:
            states, skipped = select_states(
                self.data,
                sorted({defect for defect, _ in pairs}) if custom else None,
                sorted({charge for _, charge in pairs}) if custom else None,
                sorted({name for s in chosen.states for name in s.configurations}) if custom else None,
                "quick" if chosen.suite == "quick" else "full",
            )
        except DefectbenchError as error:
            yield f"selection: {error}"
            return
        found = {
            "states": [{"defect": s.defect, "charge": s.charge, "configurations": list(s.configurations)} for s in states],
            "skipped": [{"defect": d, "charge": q, "reason": r} for d, q, r in skipped],
        }
        said = chosen.model_dump()
        yield from differences("selection", {name: said[name] for name in found}, found)
        yield from differences("selection.tasks", list(chosen.tasks), list(self.entry.tasks))

    def _plan(self) -> Plan:
        from defectbench.tasks import get_tasks

        chosen = self.entry.selection
        states = tuple(
            SelectedState(s.defect, s.charge, tuple(s.configurations))
            for s in chosen.states
            if s.defect in self.data.defects and s.charge in self.data.charges(s.defect)
        )
        skipped = tuple((s.defect, s.charge, s.reason) for s in chosen.skipped)
        return make_plan(self.data, states, skipped, get_tasks(chosen.tasks), takes_charge=self.entry.model.charge != "none")

    def _read(self, plan: Plan) -> None:
        content = read_calculations(self.folder, self.entry)
        self.labels = _labels(plan)
        missing = [c.content_hash for c in plan.calculations if c.content_hash not in content]
        if missing:
            self.problems.append(
                f"calculations: {len(missing)} of {len(plan.calculations)} missing, first {self.labels[missing[0]]} ({missing[0][:12]}…)"
            )
        planned = {c.content_hash: c for c in plan.calculations}
        for key, found in content.items():
            if key in planned:
                try:
                    self.results[key] = stored_result(planned[key], found)
                except ValueError as error:
                    self.problems.append(f"{self.labels[key]}: {one_line(error, 300)}")
        unknown = [key for key in content if key not in planned and not self._take_certificate(key, content[key])]
        again = self._asked_again(plan)
        for key in unknown:
            if key not in again:
                self.problems.append(f"calculations: {key[:12]}… belongs to nothing that was planned")
                continue
            try:
                self.repeated[key] = stored_result(again[key], content[key])
            except ValueError as error:
                self.problems.append(f"calculations: {key[:12]}…: {one_line(error, 300)}")
        if missing := [key for key in again if key not in self.repeated and key not in self.results]:
            self.problems.append(f"calculations: {len(missing)} that the audit of the run needs are missing ({missing[0][:12]}…)")
        silent = sum(stored.result.echo is None for stored in self.results.values())
        if silent:
            self.unchecked.append(f"charge and request of {silent} results: an earlier version made them, which did not record it")
        if self.raw is None:
            self.unchecked.append("certificate: its measurements are not stored (an earlier version made the entry)")

    def _asked_again(self, plan: Plan) -> dict[str, Calculation]:
        """What the audit of a run calculates again; nothing of an entry of an earlier version."""
        if self.asked is None or self.raw is None or self.raw.calls is None:
            return {}
        again = (*first_questions(self.asked, plan.ask.takes_charge), *asked_again(plan, self.results))
        return {c.content_hash: c for c in again}

    def _take_certificate(self, key: str, found: Any) -> bool:
        """Whether a result that is not of the plan is the certificate's."""
        try:
            content = found["result"]
            options: dict[str, Any] = {"charges": [int(q) for q in content["charges"]], "seed": 0}
            others = [
                {
                    "defect": other["defect"],
                    "structure": Structure.from_atoms(certificate_start(self.data, other["defect"])[0]).to_json(),
                    "charges": [int(q) for q in other["charges"]],
                }
                for other in content.get("others", ())
                if other["defect"] in self.data.defects
            ]
            if others:
                options["others"] = others
            asked = Calculation("certificate", Structure.from_atoms(certificate_start(self.data)[0]), None, options=options)
            if asked.content_hash != key:
                return False
            result = stored_result(asked, found).result
        except (KeyError, TypeError, ValueError):
            return False
        assert isinstance(result, CertificateResult)
        self.raw, self.asked = result, asked
        return True

    def judged(self, plan: Plan) -> ChargeCertificate | None:
        """The certificate from its stored measurements, with the audit of the stored results; None without measurements."""
        if self.raw is None or self.raw.status != "ok":
            return None
        assert self.asked is not None
        found = judge(self.raw.model_dump(mode="json"), self.data, [(s.defect, s.charge) for s in plan.states])
        if found.calls is None:
            return found
        return with_audit(found, audit(plan, {**self.repeated, **self.results}, found, self.raw, self.asked))

    def _certificate(self, plan: Plan) -> Iterator[str]:
        said, how = dict(self.entry.certificate), self.entry.model.charge
        if (found := self.judged(plan)) is not None:
            yield from differences("certificate", said, found.to_json(), 1e-9)
        else:
            yield from _certificate_in_itself(said)
        if how == "none" and said["charge_class"] != "charge-blind":
            yield f"certificate.charge_class: {said['charge_class']} of a model that takes no charge"
        if how != "none" and said["charge_class"] == "charge-blind":
            yield f"certificate.charge_class: charge-blind, of a model that takes the charge as {how}"

    def _model(self) -> Iterator[str]:
        from defectbench.entries.claims import registered_problems

        model, provenance = self.entry.model, self.entry.provenance
        yield from registered_problems(self.entry, self.data, self.unchecked)
        if self.raw is not None and self.raw.worker is not None:
            worker = self.raw.worker
            yield from differences("provenance.packages", provenance.packages, worker.versions)
            yield from differences("model.parameters", model.parameters, worker.parameters)
            yield from differences("model.weights_sha256", model.weights_sha256, {w.name: w.sha256 for w in worker.weights})
            yield from differences("provenance.network", provenance.network, worker.network)

    def _evidence(self, plan: Plan) -> None:
        certificate = self.entry.certificate
        invariant = any(c.get("name") == "translation" and c["passed"] for c in certificate.get("checks", ()))
        for calculation in plan.calculations:
            if (stored := self.results.get(calculation.content_hash)) is not None:
                label = self.labels[calculation.content_hash]
                self.problems += result_problems(label, calculation, stored, translation_invariant=invariant)
        self.problems += reference_problems(self.labels, self.data, plan, self.results)
        if {"precision", "charges", "energies"} <= certificate.keys():
            self.problems += shared_problems(self.labels, plan, self.results, certificate)
        if self.raw is not None and self.raw.status == "ok":
            start = Structure.from_atoms(certificate_start(self.data)[0])
            self.problems += certificate_start_problems(self.labels, plan, self.results, self.raw, start)

    def _score(self, plan: Plan) -> ScoringInput | None:
        """Compares what the tasks and records say with what the results give; None if the results cannot be scored."""
        from defectbench.scoring.run import scoring_input
        from defectbench.tasks import get_tasks

        entry = self.entry
        try:
            scored = scoring_input(self.data, plan, entry.certificate["charge_class"], self.results, certificate=entry.certificate)
            records = {task.name: task_record(task.score(scored)) for task in get_tasks(entry.selection.tasks)}
        except DefectbenchError as error:
            self.problems.append(f"cannot be scored: {one_line(error, 300)}")
            return None
        hosts = [{"start": h.start, "content_hash": h.content_hash, **outcome(h.relaxation)} for h in scored.host]
        configurations = [
            {
                "defect": c.defect,
                "charge": c.charge,
                "configuration": c.configuration,
                "content_hash": c.content_hash,
                **outcome(c.relaxation),
            }
            for c in scored.configurations
        ]
        self.problems += differences("host", [h.model_dump() for h in entry.host], hosts)
        self.problems += differences("configurations", [c.model_dump() for c in entry.configurations], configurations)
        for task, record in records.items():
            said = entry.tasks[task].model_dump() if task in entry.tasks else {}
            self.problems += differences(task, said, record.model_dump())
        self.recomputed = entry.model_copy(update={"tasks": records})
        return scored

    def _provenance(self, plan: Plan) -> Iterator[str]:
        from defectbench.entries.building import calculation_seconds, machine_shares

        said = self.entry.provenance
        yield from differences("provenance.calculations", said.calculations, len(plan.calculations))
        if len(self.results) == len(plan.calculations):
            machines = [share.model_dump(mode="json") for share in machine_shares(plan, self.results)]
            yield from differences("provenance.machines", [share.model_dump(mode="json") for share in said.machines], machines)
            seconds = sum(calculation_seconds(stored) for stored in self.results.values())
            if abs(seconds - said.calculation_s) > 0.1:
                yield f"provenance.calculation_s: {said.calculation_s} s stored, {seconds:.1f} s recomputed"
        try:
            created = datetime.datetime.fromisoformat(said.created)
            if created.tzinfo is None or created > datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1):
                raise ValueError("a date in the future, or without a time zone")
        except ValueError as error:
            yield f"provenance.created: {one_line(error, 200)}"

    def _files(self, scored: ScoringInput, plan: Plan, figures: bool) -> None:
        from tempfile import TemporaryDirectory

        self.problems += self._same_text("structures.extxyz", structures_text(scored, plan))
        with TemporaryDirectory() as place:
            for path in write_tables(Path(place), self.recomputed):
                self.problems += self._same_text(f"tables/{path.name}", path.read_text(encoding="utf-8"))
        if not figures:
            self.unchecked.append("figures: left out")
        elif not (self.folder / "figures").is_dir():
            self.unchecked.append("figures: there are none")
        else:
            from defectbench.entries.claims import figure_problems

            self.problems += figure_problems(self.folder, self.recomputed, self.unchecked)

    def _same_text(self, name: str, wanted: str) -> Iterator[str]:
        try:
            text = read_bytes(contained(self.folder, name), MAX_FILE).decode("utf-8")
        except (OSError, ValueError) as error:
            yield f"{name}: cannot be read ({getattr(error, 'strerror', None) or one_line(error, 100)})"
            return
        if (line := text_difference(text, wanted)) is not None:
            yield f"{name}: line {line} is not what the calculations give"


def _labels(plan: Plan) -> dict[str, str]:
    """Content hash → what people call the calculation."""
    found = {c.content_hash: f"{c.kind} {c.content_hash[:12]}…" for c in plan.calculations}
    for (defect, charge, name), c in reversed(list(plan.relaxations.items())):
        found[c.content_hash] = f"{defect} {format_charge(charge)} {name}"
    return found | {c.content_hash: f"host {name}" for name, c in plan.host.items()}


def _repeated_keys(text: bytes) -> list[str]:
    """Keys that appear twice in one mapping of a JSON text, shortened."""
    repeated: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            repeated.extend(one_line(key, 40) for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        return content

    json.loads(text, object_pairs_hook=note)
    return repeated


def _certificate_in_itself(said: Mapping[str, Any]) -> Iterator[str]:
    """Contradictions within a certificate of which only the judgement is stored."""
    from defectbench.models.certificate import THRESHOLDS, ChargeCertificate, Thresholds

    try:
        certificate = ChargeCertificate.from_json(said)
        limits: Thresholds = THRESHOLDS[certificate.precision]
        steps = list(zip(certificate.charges, certificate.energies, strict=True))
        change = max(abs(b - a) / (q - p) for (p, a), (q, b) in itertools.pairwise(steps))
        spread = max(certificate.energies) - min(certificate.energies)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        yield f"certificate: {one_line(error, 200)}"
        return
    if certificate.thresholds != limits:
        yield from differences("certificate.thresholds", said["thresholds"], vars(limits))
    yield from differences("certificate.energy_per_charge", certificate.energy_per_charge, change)
    for check in certificate.checks:
        if check.passed != (check.value <= check.limit):
            said_so = "passed" if check.passed else "failed"
            yield f"certificate.checks[{check.name}]: {said_so} with {check.value:.3g}, allowed {check.limit:.3g}"
    aware = certificate.force_change > limits.aware_force and certificate.force_change_relative > limits.aware_relative
    responds = spread > max(limits.blind_energy, limits.noise_factor * certificate.noise_energy)
    if (certificate.charge_class == "charge-aware") != aware:
        yield f"certificate.charge_class: {certificate.charge_class} with a change of forces of {certificate.force_change:.3g} eV/Å"
    if certificate.charge_class == "charge-blind" and responds:
        yield f"certificate.charge_class: charge-blind though the energy changes by {spread:.3g} eV"
