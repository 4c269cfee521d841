"""Runs on a Dask cluster: workers that die lose nothing, a scheduler that goes and comes back neither."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import pytest
from refusals import check_refusal, raises_code
from toy_runs import SMALL
from typer.testing import CliRunner

import defectbench
from defectbench.base.errors import DefectbenchError
from defectbench.calculations.run import Reporter
from defectbench.cli import app
from defectbench.entries.folder import read_entry

distributed = pytest.importorskip("distributed")
from defectbench.calculations.executors.dask import JobQueue, OnDask  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning"), pytest.mark.filterwarnings("ignore::ResourceWarning")]


@pytest.fixture
def cluster():
    """Two Dask workers, each a process of its own, without dashboard."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, worker_dashboard_address=None
    ) as made:
        yield made


def run_there(model, output, place, **changes):
    settings = {**SMALL, "output": output, "executor": place.executor, "figures": False, "environment": sys.executable, **changes}
    return defectbench.evaluate(model, trust_code=True, **settings)


def values(entry) -> dict[str, object]:
    return {f"{t}.{m.name}": m.value for t, record in entry.tasks.items() for m in record.metrics if m.name != "wall_s"}


def test_a_calculation_that_dask_gives_up_is_recorded_without_addresses(monkeypatch):
    from types import SimpleNamespace

    from ase import Atoms

    from defectbench.calculations.executors.dask import DaskExecutor
    from defectbench.calculations.requests import Calculation, Structure

    asked = Calculation("single_point", Structure.from_atoms(Atoms("Ar2", [[0, 0, 0], [0, 0, 3]])), None)
    error = distributed.KilledWorker("task", SimpleNamespace(address="tcp://10.1.2.3:4567"), 3)
    monkeypatch.setattr(DaskExecutor, "_answers", lambda *_a: iter([((asked.content_hash,), error)]))
    (done,) = DaskExecutor(SimpleNamespace(device="cpu"), OnDask("tcp://10.0.0.1:8786"), 1).run([asked])
    assert done.result.failure_kind == "worker_died"
    assert "10.1.2.3" not in done.result.failure


def test_a_run_on_dask_is_the_run_here_though_workers_are_killed(cluster, toy, finished, tmp_path):
    model = toy(sleep=0.005)
    killed: list[int] = []

    def finished_one(_calculation, _result):
        if len(killed) < 2:
            pid = next(iter(distributed.Client(cluster).run(os.getpid).values()))
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    with OnDask(cluster.scheduler_address) as place:
        done = run_there(model, tmp_path / "run", place, reporter=Reporter(finished=finished_one))
    assert len(killed) == 2
    assert values(done.record if hasattr(done, "record") else read_entry(tmp_path / "run")) == values(read_entry(finished.folder))
    machines = read_entry(tmp_path / "run").provenance.machines
    assert sum(share.calculations for share in machines) == read_entry(tmp_path / "run").provenance.calculations


def test_a_model_that_cannot_be_loaded_is_told_as_by_a_worker_here(cluster, toy, tmp_path):
    with OnDask(cluster.scheduler_address) as place, pytest.raises(DefectbenchError) as refused:
        run_there(toy(unknown_argument=1), tmp_path / "run", place)
    assert refused.value.code in ("bad-model", "bad-adapter")


def test_a_scheduler_that_comes_back_loses_nothing(toy, finished, tmp_path):
    file = tmp_path / "scheduler.json"
    variables = os.environ | {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s"}
    start = partial(subprocess.Popen, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=variables, start_new_session=True)

    def begin():
        file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--scheduler-file", str(file), "--port", "0", "--no-dashboard"]
        processes = [start(command)]
        while not file.exists():
            time.sleep(0.1)
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(file), "--nworkers", "1", "--nthreads", "1"]
        processes.append(start([*worker, "--no-dashboard", "--local-directory", str(tmp_path)]))
        return processes

    def end(processes):
        for process in processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    running = [begin()]
    again: list[threading.Thread] = []

    def restart():
        end(running.pop())
        running.append(begin())

    def finished_one(_calculation, _result):
        if not again:
            again.append(threading.Thread(target=restart))
            again[0].start()

    try:
        with OnDask(str(file)) as place:
            run_there(toy(sleep=0.005), tmp_path / "run", place, reporter=Reporter(finished=finished_one))
    finally:
        again[0].join()
        end(running.pop())
    assert values(read_entry(tmp_path / "run")) == values(read_entry(finished.folder))


def test_a_scheduler_that_is_not_there_is_told():
    with OnDask("tcp://127.0.0.1:9", patience_s=0) as place, raises_code("no-scheduler", "127.0.0.1:9"):
        place.connect()


@pytest.mark.parametrize(
    "content", ["cluster: slurm\n", "cluster: cloud\njobs: 2\n", "cluster: slurm\njobs: 0\n", "cluster: slurm\njobs: 1\nqueue: a\n", "[]\n"]
)
def test_files_of_job_queues_that_are_wrong(tmp_path, content):
    (tmp_path / "queue.yaml").write_text(content)
    with raises_code("bad-jobqueue", "queue.yaml"):
        JobQueue.read(tmp_path / "queue.yaml")


def test_the_script_of_a_slurm_job(tmp_path):
    pytest.importorskip("dask_jobqueue")
    path = tmp_path / "queue.yaml"
    path.write_text("cluster: slurm\njobs: 2\noptions: {queue: gpu, cores: 4, processes: 4, memory: 16GB, walltime: '02:00:00'}\n")
    import dask_jobqueue

    queue = JobQueue.read(path)
    with dask_jobqueue.SLURMCluster(**queue.options) as made:
        script = made.job_script()
    assert "#SBATCH -p gpu" in script
    assert "--nworkers 4" in script


@pytest.mark.parametrize("options", [["--scheduler", "tcp://a:1"], ["--executor", "dask"], ["--executor", "dask", "--workers", "2"]])
def test_options_that_do_not_go_together(options, tmp_path):
    arguments = ["evaluate", "--model", "chgnet-0.3.0", "--output", str(tmp_path / "run"), *options]
    check_refusal(CliRunner().invoke(app, arguments).exception, "bad-input")
    assert not (tmp_path / "run").exists()
