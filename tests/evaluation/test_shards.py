"""Parts of a run, merged to the entry that one run gives; and what a run would do before it is begun."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from refusals import check_refusal, raises_code
from toy_runs import SMALL, InProcess, run_here, write_toy
from typer.testing import CliRunner

from defectbench.calculations.plan import Shard
from defectbench.calculations.preparation import ModelOptions
from defectbench.calculations.run import Reporter
from defectbench.calculations.store import ResultStore
from defectbench.cli import app
from defectbench.entries.folder import read_entry
from defectbench.runs.preview import preview
from defectbench.runs.selection import select
from defectbench.runs.shards import evaluate_shard, merge_shards, shard_folder

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning")]

OF = 3
TRUSTED = ModelOptions(trust_code=True)


def run_shard(model: Path, output: Path, shard: Shard, **changes: object):
    selected = select(model, options=TRUSTED, **{**SMALL, "output": output, **changes})
    return evaluate_shard(shard, selected, executor=InProcess, reporter=Reporter())


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> tuple[Path, Path]:
    """A charge-aware model, and a run folder with all shards of a run."""
    home = tmp_path_factory.mktemp("parts")
    model = write_toy(home, "aware", charge="info:charge", hears=True)
    for number in range(1, OF + 1):
        run_shard(model, home / "run", Shard(number, OF))
    return model, home / "run"


def timeless(record) -> list:
    return [metric for metric in record.metrics if metric.name != "wall_s"]


def folders(run: Path) -> list[Path]:
    return [shard_folder(run, Shard(number, OF)) for number in range(1, OF + 1)]


def test_shards_are_the_plan_dealt_out_evenly(parts):
    model, run = parts
    plan = select(model, options=TRUSTED, **SMALL, output=run).plan()
    dealt = [plan.part(Shard(number, OF)).calculations for number in range(1, OF + 1)]
    assert sorted(c.content_hash for part in dealt for c in part) == sorted(c.content_hash for c in plan.calculations)
    relaxations = [sum(c.kind == "relaxation" for c in part) for part in dealt]
    assert max(relaxations) - min(relaxations) <= 1


def test_merged_shards_are_one_run(parts, tmp_path):
    model, run = parts
    run_here(model, tmp_path / "whole")
    merged = merge_shards(list(reversed(folders(run))), tmp_path / "merged", figures=False).entry
    whole = read_entry(tmp_path / "whole")
    for task, record in whole.tasks.items():
        assert timeless(merged.tasks[task]) == timeless(record), task  # to the last bit
        assert merged.tasks[task].baselines == record.baselines, task
    assert merged.selection == whole.selection
    assert merged.certificate.keys() == whole.certificate.keys()
    assert merged.certificate["checks"] == whole.certificate["checks"]
    assert merged.model == whole.model
    assert merged.dataset == whole.dataset
    assert merged.provenance.calculations == whole.provenance.calculations
    assert [c.content_hash for c in merged.configurations] == [c.content_hash for c in whole.configurations]
    assert [c.energy for c in merged.configurations] == [c.energy for c in whole.configurations]
    assert read_entry(tmp_path / "merged") == merged


def test_a_shard_resumes_and_writes_no_entry(parts):
    model, run = parts
    run_shard(model, run, Shard(2, OF))
    assert InProcess.last.done == []
    assert not list(run.rglob("entry.json"))


def test_what_is_missing_is_named_by_shard(parts, tmp_path):
    _, run = parts
    with raises_code("unfinished", f"1/{OF} (", f"3/{OF} (") as refused:
        merge_shards([shard_folder(run, Shard(2, OF))], tmp_path / "merged", figures=False)
    assert f"2/{OF} (" not in str(refused.value)


def test_only_shards_of_one_run_are_merged(parts, tmp_path):
    model, run = parts
    other = tmp_path / "other"
    other.mkdir()
    run_shard(write_toy(other, "aware", charge="info:charge", hears=True, spring=3.0), other / "run", Shard(1, OF))
    with raises_code("other-run", other):
        merge_shards([*folders(run), shard_folder(other / "run", Shard(1, OF))], tmp_path / "merged")
    run_shard(model, other / "small", Shard(1, OF), charges=[-3])
    with raises_code("other-run", "selection"):
        merge_shards([*folders(run), shard_folder(other / "small", Shard(1, OF))], tmp_path / "merged")
    with raises_code("no-shard", other):
        merge_shards([*folders(run), other], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_success_replaces_a_failure_of_another_attempt(parts, tmp_path):
    model, run = parts
    from defectbench.calculations.results import Stored, failed_result
    from defectbench.runs.shards import STORE, read_record

    copied = tmp_path / "shards" / "broken"
    shutil.copytree(folders(run)[0], copied)
    plan = select(model, options=TRUSTED, **SMALL, output=run).plan()
    first = plan.part(Shard(1, OF)).calculations[0]
    with ResultStore(copied / STORE) as store:
        store.put(first.key(read_record(copied).identity), first, Stored(failed_result(first, "broken", "exception")))
    merged = merge_shards([copied, *folders(run)], tmp_path / "merged", figures=False).entry
    assert all(c.status != "failed" for c in (*merged.configurations, *merged.host))


@pytest.mark.parametrize("wrong", ["0/3", "4/3", "1", "a/b", "1/3/5", "-1/3"])
def test_shards_that_cannot_be_are_refused(wrong):
    with raises_code("bad-shard"):
        Shard.parse(wrong)


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(toy, tmp_path, monkeypatch):
    model = toy()
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    arguments = ["evaluate", "--model", str(model), "--trust-code", "--suite", "quick", "--dry-run"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert "toy on sb2se3-vacancies" in done.stdout
    assert "sb2se3-vacancies-quick" in done.stdout
    assert sorted(tmp_path.rglob("*")) == before
    found = preview(model, "sb2se3-vacancies", TRUSTED, suite="quick")
    assert found.core_hours is None
    assert found.kinds["relaxation"] >= len(found.plan.states)
    assert found.kinds["certificate"] == 1
    shard = preview(model, "sb2se3-vacancies", TRUSTED, Shard(2, 4), suite="quick")
    assert shard.force_calls < found.force_calls / 2
    check_refusal(CliRunner().invoke(app, [*arguments, "--defect", "V_X"]).exception, "unknown-defect")


def test_a_dry_run_knows_the_cost_from_an_earlier_entry_and_what_is_downloaded(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("DEFECTBENCH_CACHE", str(tmp_path / "cache"))
    model = toy()
    run_here(model, tmp_path / "run", tasks=["relax", "cost"])
    found = preview(model, "sb2se3-vacancies", TRUSTED, **{**SMALL, "tasks": ["relax", "cost"], "output": tmp_path / "run"})
    assert found.timing.entry == tmp_path / "run"
    assert found.core_hours == pytest.approx(found.force_calls * found.timing.ms_per_atom * 60 / 3.6e6)
    assert found.needs == ()
    remote = preview("mace-mpa-0", "sb2se3-savory-2019", ModelOptions())
    assert remote.plan is None
    assert [need.split(":")[0] for need in remote.needs] == ["build", "download", "download"]
    assert not (tmp_path / "cache").exists()
