"""Grids: which evaluations a file stands for, what happens to each, and that none is made twice or lost."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest
import yaml

from segstream.cli.jobs.eval_grid import plan, read_grid, run_jobs
from segstream.cli.jobs.eval_job import EvalJob, JobOutcome, read_job
from segstream.cli.jobs.runners import array_script, run_locally, run_on_ray, run_on_slurm, slurm_executor
from segstream.shards.errors import DataError
from tests.commands import wait_until


@pytest.fixture
def grid(place, tmp_path):
    """Writes a grid of one real model and, if asked for, one that is no checkpoint, on one set."""

    def write(*, broken=False, **changes):
        (tmp_path / "broken.pt").write_bytes(b"no checkpoint")
        models = {"real": str(place / "runs/recipe/final.pt")}
        models |= {"broken": str(tmp_path / "broken.pt")} if broken else {}
        values = {"models": models, "data": [str(place / "shards/camvid-11/val")]} | changes
        (tmp_path / "grid.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
        return tmp_path / "grid.yaml"

    return write


def test_jobs_are_all_combinations(grid, place, tmp_path):
    data = [str(place / "shards/camvid-11/val"), str(place / "shards/ade20k-150/val")]
    options = {"crop": 49, "flip": False, "rule": "hmsa"}
    path = grid(broken=True, data=data, short_sides=[48, "native"], scales=["multi", [0.5, 1]], options=options)
    jobs = plan(read_grid(path), tmp_path / "out")
    assert len(jobs) == 16
    job = next(job for job in jobs if job.name == "real camvid-11-val native 0.5,1.0")
    how = ("--short-side", "native", "--scales", "0.5,1.0", "--crop", "49", "--no-flip", "--rule", "hmsa")
    assert job.args == ("eval", str(place / "runs/recipe/final.pt"), "--data", data[0], *how)
    assert job.result == tmp_path / "out/real/camvid-11-val/native/0.5-1.0.json"
    assert len({job.result for job in jobs}) == len({json.dumps([job.model, job.identity]) for job in jobs}) == 16
    (job,) = plan(read_grid(grid()), tmp_path)  # what the recipe says is not named in the command
    assert job.args[2:] == ("--data", data[0])
    assert job.result == tmp_path / "real/camvid-11-val/recipe/recipe.json"


BAD = {
    "unknown key": ({"model": {}}, "did you mean 'models'"),
    "no models": ({"models": {}}, "models: empty"),
    "no checkpoint": ({"models": {"a": "nowhere.pt"}}, r"nowhere\.pt: cannot be read"),
    "a name that is a path": ({"models": {"../a": "x.pt"}}, "becomes a file name"),
    "no shards": ({"data": ["nowhere"]}, "nowhere"),
    "a set twice": ({"data": ["{shards}/camvid-11/val"] * 2}, "twice"),
    "option of the grid's own": ({"options": {"short_side": 3}}, "options.short_side: set by the grid"),
    "wrong kind": ({"short_sides": 360}, "short_sides: expected a list"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_a_grid_file_may_not_say(grid, place, tmp_path, case):
    change, reason = BAD[case]
    path = grid(**change)
    path.write_text(path.read_text().replace("{shards}", str(place / "shards")))
    with pytest.raises(DataError, match=reason):
        plan(read_grid(path), tmp_path)


def jobs_of(folder, *names):
    rest = {"dataset": "d", "short_side": "", "scales": "", "args": ()}
    places = {name: folder / f"{name}/d/recipe/recipe.json" for name in names}
    return [EvalJob(model=name, identity={"checkpoint": name}, result=path, **rest) for name, path in places.items()]


class Moody:
    """A runner whose jobs fail as often as they are told to."""

    def __init__(self, **failures):
        self.failures, self.ran = failures, []

    def __call__(self, jobs):
        for job in reversed(jobs):
            self.ran.append(job.model)
            self.failures[job.model] = self.failures.get(job.model, 0) - 1
            error = "bad luck" if self.failures[job.model] >= 0 else None
            if error is None:
                job.result.parent.mkdir(parents=True, exist_ok=True)
                job.result.write_text("[]")
                job.beside(".id").write_text(json.dumps(job.identity))
            yield JobOutcome(job=job, error=error, hopeless=job.model == "hopeless")


def test_failed_jobs_are_tried_again_after_all_others(tmp_path, capsys):
    jobs = jobs_of(tmp_path, "good", "once", "always", "hopeless")
    runner = Moody(once=1, always=9, hopeless=9)
    seen = []
    outcomes = run_jobs(jobs, runner, retries=2, report=lambda done, total: seen.append((done, total)))
    ended = [(o.job.model, o.state, o.tries) for o in outcomes]
    assert ended[:2] == [("good", "done", 1), ("once", "done", 2)]
    assert ended[2:] == [("always", "failed", 3), ("hopeless", "failed", 1)]
    assert runner.ran == ["hopeless", "always", "once", "good", "always", "once", "always"]
    assert seen[-1] == (2, 4)
    assert "always d: failed (bad luck); will be tried again" in capsys.readouterr().err
    again = Moody()
    jobs[0].identity["checkpoint"] = "trained longer"
    outcomes = run_jobs(jobs, again, retries=0, report=lambda done, total: None)
    assert [o.state for o in outcomes] == ["done", "kept", "done", "done"]
    assert again.ran == ["hopeless", "always", "good"]
    assert "good d: was evaluated with another checkpoint; again" in capsys.readouterr().err


def test_a_job_that_fails_does_not_stop_the_others(here, grid, tmp_path):
    path = grid(broken=True)
    done = here("eval", "--grid", path, "--out", tmp_path / "out", "--jobs", 2, "--retries", 0, "--json")
    assert done.code == 1
    real, broken = json.loads(done.out)
    assert (real["state"], broken["state"], broken["tries"]) == ("done", "failed", 1)
    assert "broken.pt" in broken["error"]
    assert "Traceback" not in done.err
    rows = json.loads((tmp_path / "out/real.json").read_text())
    assert [row["miou"] for row in rows] == list(real["miou"].values())
    again = here("eval", "--grid", path, "--out", tmp_path / "out", "--retries", 0)
    assert again.code == 1
    assert [line.split()[-1] for line in again.out.splitlines()[1:]] == ["kept", "failed"]


def test_a_killed_grid_goes_on_where_it_was(grid, tmp_path, here):
    path = grid(short_sides=[40, 48])
    command = [sys.executable, "-m", "segstream.cli.main", "eval", "--grid", str(path), "--out", str(tmp_path / "out")]
    first = tmp_path / "out/real/camvid-11-val/40/recipe.json"
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        wait_until(first.exists, process)
        os.killpg(process.pid, signal.SIGKILL)
    made = first.stat().st_mtime_ns
    done = here("eval", "--grid", path, "--out", tmp_path / "out", "--json")
    assert done.code == 0, done.err
    assert [row["state"] for row in json.loads(done.out)] == ["kept", "done"]
    assert first.stat().st_mtime_ns == made


def test_the_array_script_runs_the_jobs_that_are_left(here, grid, tmp_path):
    path = grid(broken=True, slurm={"partition": "gpu", "time": 90, "gpus_per_node": 1})
    done = here("eval", "--grid", path, "--out", tmp_path / "out", "--jobs", 4, "--print")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "#!/bin/bash"
    assert {"#SBATCH --array=0-1%4", "#SBATCH --partition=gpu", "#SBATCH --time=90"} <= set(lines)
    assert "#SBATCH --gpus-per-node=1" in lines
    env = os.environ | {"SLURM_ARRAY_TASK_ID": "1"}
    ran = subprocess.run(["bash"], input=done.out, env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: broken camvid-11-val: exit code 1")
    assert read_job(tmp_path / "out/.grid/cells.json", 0).model == "real"
    assert "'\"'\"'" in array_script(tmp_path / "a folder's name/cells.json", 3, 3, {})  # quoted for the shell


def test_slurm_tasks_go_through_submitit(grid, tmp_path):
    submitit = pytest.importorskip("submitit")
    with pytest.raises(DataError, match="--print shows a script"):
        slurm_executor(tmp_path / "none", None, {})  # without SLURM
    (job,) = plan(read_grid(grid()), tmp_path / "out")
    (outcome,) = run_on_slurm([job], submitit.LocalExecutor(tmp_path / "jobs"))
    assert (outcome.job, outcome.error) == (job, None)
    assert job.finished()


def test_closing_a_local_run_stops_its_processes(grid, tmp_path):
    jobs = plan(read_grid(grid(short_sides=[40, 200, 201])), tmp_path / "out")
    outcomes = run_locally(jobs, 1)
    assert next(outcomes).error is None
    outcomes.close()
    for thread in threading.enumerate():
        if thread.name.startswith("eval-job"):
            thread.join()
    assert [job.finished() for job in jobs] == [True, False, False]


@pytest.fixture
def cluster(monkeypatch):
    """A Ray cluster of one node on this machine, to which a test may add more."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    on_term = signal.getsignal(signal.SIGTERM)
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 80 << 20})
    ray.init(address=found.address, log_to_driver=False)
    yield found
    ray.shutdown()
    found.shutdown()
    signal.signal(signal.SIGTERM, on_term)  # Ray leaves its own behind


@pytest.mark.soak
def test_a_ray_node_that_dies_loses_nothing(cluster, grid, tmp_path):
    node = cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
    jobs = plan(read_grid(grid(short_sides=[40, 48, 56, 64, 72])), tmp_path / "out")
    outcomes = run_on_ray(jobs, {"num_cpus": 1, "scheduling_strategy": "SPREAD"})
    ended = [next(outcomes)]
    cluster.remove_node(node, allow_graceful=False)
    ended += outcomes
    assert sorted((outcome.job.short_side, outcome.error) for outcome in ended) == [
        (side, None) for side in ("40", "48", "56", "64", "72")
    ]
    assert all(job.finished() for job in jobs)


def test_jobs_run_on_ray(cluster, grid, tmp_path):
    jobs = plan(read_grid(grid(broken=True)), tmp_path / "out")
    outcomes = {outcome.job.model: outcome.error for outcome in run_on_ray(jobs, {"num_cpus": 1})}
    assert outcomes["real"] is None
    assert "broken.pt" in str(outcomes["broken"])
