"""What a run would do, before anything is written, built or downloaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectbench.base.errors import DefectbenchError
from defectbench.calculations.plan import WORK, work
from defectbench.datasets.catalogue import dataset_folder
from defectbench.datasets.remote import missing_files
from defectbench.datasets.schema import METADATA_FILE, parse_metadata
from defectbench.entries.folder import read_entry
from defectbench.entries.run_folder import neighbours
from defectbench.models.environment import environment_folder, is_managed, list_environments
from defectbench.models.weights import missing_weights
from defectbench.runs.selection import select

if TYPE_CHECKING:
    from defectbench.calculations.plan import Plan, Shard
    from defectbench.calculations.preparation import ChosenModel, ModelOptions
    from defectbench.runs.selection import Selected

PUBLISHED = Path("leaderboards")


@dataclass(frozen=True)
class Timing:
    """What a force call of a model takes, as an entry measured it.

    Attributes:
        ms_per_atom: milliseconds per force call and atom, on one core or GPU.
        entry: folder of the entry.
        processor: that it was measured on; None where that is not recorded.
    """

    ms_per_atom: float
    entry: Path
    processor: str | None


@dataclass(frozen=True)
class Preview:
    """What a run would do.

    Attributes:
        model: id.
        dataset: id.
        folder: that results would go to; None for a dataset that must be downloaded first.
        plan: what would be calculated, of a shard its part; None likewise.
        kinds: kind → calculations of the plan, the certificate with them.
        force_calls: about how many they take.
        timing: of the model; None where no entry of it is found.
        core_hours: about how long that takes on one core or GPU; None without a timing.
        needs: what would be built or downloaded, one sentence each.
    """

    model: str
    dataset: str
    folder: Path | None
    plan: Plan | None
    kinds: Mapping[str, int]
    force_calls: float
    timing: Timing | None
    core_hours: float | None
    needs: tuple[str, ...]


def preview(model: Any, dataset: str | Path, options: ModelOptions, shard: Shard | None = None, **selection: Any) -> Preview:
    """What a run would do; nothing is written, built or downloaded.

    Force calls are estimated with the weights of the progress display, their time from an entry of the same model: in the run folder,
    beside it, or in ``leaderboards``.

    Args:
        model: as for :func:`defectbench.evaluate`.
        dataset: name or folder.
        options: what else is said of the model.
        shard: only this part of the run.
        selection: ``defects``, ``charges``, ``configurations``, ``tasks``, ``suite``, ``output`` of :func:`defectbench.evaluate`.

    Raises:
        DefectbenchError: bad input, as the run itself would refuse it.
    """
    from defectbench.calculations.preparation import choose_model

    metadata = parse_metadata(dataset_folder(dataset) / METADATA_FILE)
    if missing := missing_files(metadata):
        chosen = choose_model(model, options)
        needs = (f"download: {len(missing)} files of the dataset {metadata.id}; the plan is known after 'datasets fetch'",)
        return Preview(chosen.definition.id, metadata.id, None, None, {}, 0.0, None, None, (*_needs(chosen), *needs))
    selected = select(model, dataset, options, **selection)
    plan = selected.plan() if shard is None else selected.plan().part(shard)
    kinds = Counter[str](c.kind for c in plan.calculations)
    calls = work(plan.calculations)
    if shard is None or shard.number == 1:
        kinds["certificate"] += 1
        calls += WORK["certificate"]
    timing = _timing(selected)
    hours = None if timing is None else calls * timing.ms_per_atom / 1000 * len(selected.data.host) / 3600
    return Preview(
        selected.chosen.definition.id, selected.data.id, selected.folder, plan, kinds, calls, timing, hours, _needs(selected.chosen)
    )


def _needs(chosen: ChosenModel) -> tuple[str, ...]:
    definition, options = chosen.definition, chosen.options
    needs = []
    name = str(options.environment) if options.environment is not None else definition.environment
    if chosen.hand is None and is_managed(name):
        status = next(s for s in list_environments() if s.name == name)
        if not status.built:
            needs.append(f"build: the environment '{name}', {status.packages} packages, in {environment_folder(name)}")
    if not options.model_weights:
        for file, place in missing_weights(definition):
            size = f", {file.size / 1e6:.0f} MB" if file.size else ""
            needs.append(f"download: the weights {file.path}{size}, from {file.url} to {place}")
    return tuple(needs)


def _timing(selected: Selected) -> Timing | None:
    model = selected.owner.model
    places = [selected.folder, *neighbours(selected.folder, selected.owner), *sorted(PUBLISHED.glob(f"*/{model}"))]
    for place in places:
        with suppress(DefectbenchError):
            entry = read_entry(place)
            cost = entry.tasks.get("cost")
            values = [m.value for m in cost.metrics if m.name == "milliseconds_per_atom"] if cost is not None else []
            if entry.model.id == model and values and values[0] is not None:
                machines = entry.provenance.machines
                return Timing(values[0], place, machines[0].hardware.processor if machines else None)
    return None
