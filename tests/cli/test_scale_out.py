"""Training by torchrun on one machine, by a job script that is stopped and queued again, and on two hosts."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest

from segstream.cli.jobs.scripts import slurm_script
from segstream.model.checkpoint import load_final
from tests.cli.cluster import cluster
from tests.cli.jobs.test_scripts import NOTHING, job
from tests.commands import wait_until
from tests.model.processes import free_port
from tests.model.training.test_kills import assert_same

STEPS = 24
SETTINGS = ("loader.batch=4", f"train.steps={STEPS}", "train.checkpoint_every=4", "train.log_every=4")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run")
CAN_NAME_SPACES = os.geteuid() == 0 and shutil.which("ip") is not None


def training(place, run):
    """Arguments of `train`: two ranks, each with two of the four crops of a step."""
    return (str(place / "recipe.yaml"), *SETTINGS, "--run", str(run))


def begin(command, **environment):
    pipe, env = subprocess.PIPE, os.environ | environment
    return subprocess.Popen(command, env=env, stdout=pipe, stderr=subprocess.STDOUT, text=True)


@pytest.fixture(scope="module")
def undisturbed(place, tmp_path_factory):
    """The run folder of two processes on one machine that nobody disturbed."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    command = [*TORCHRUN, "--standalone", "--nproc-per-node=2", "-m", "--", "segstream.cli.main", "train"]
    command += training(place, run)
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(rf"step {STEPS} of {STEPS}", done.stderr)) == 1  # one process speaks
    return run


def test_a_job_told_to_stop_is_queued_again_and_ends_in_the_same_weights(place, undisturbed, tmp_path):
    run = tmp_path / "run"
    made = job(train=training(place, run), processes=2, port=free_port(), max_restarts=0)
    script = tmp_path / "job.sh"
    script.write_text(slurm_script(made, **NOTHING))
    environment = cluster(tmp_path / "cluster")
    first = begin(["bash", str(script)], **environment)
    wait_until((run / "checkpoints" / "step-00000004.pt").exists, first)
    first.send_signal(signal.SIGUSR1)  # to the script alone, as `--signal=B:` says
    out, _ = first.communicate(timeout=200)
    assert first.returncode == 0, out
    assert "stopped before its end (exit code 75): requeued" in out
    assert out.count("told to stop") == 1  # by one process
    assert (tmp_path / "cluster" / "asked").read_text() == "requeue 42\n"
    assert not (run / "final.pt").exists()

    second = begin(["bash", str(script)], **environment)
    out, _ = second.communicate(timeout=280)
    assert second.returncode == 0, out
    assert "going on from" in out
    assert (tmp_path / "cluster" / "asked").read_text() == "requeue 42\n"  # not once more
    assert_same(run, undisturbed)


@pytest.fixture
def two_hosts():
    """Two network name spaces joined by a cable: (name, address) of each."""
    names = [f"segt{os.getpid()}{side}" for side in "ab"]
    addresses = ["10.203.77.1", "10.203.77.2"]

    def ip(*words):
        subprocess.run(["ip", *words], check=True, capture_output=True)

    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "cable", "netns", names[0], "type", "veth", "peer", "name", "cable", "netns", names[1])
        for name, address in zip(names, addresses, strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "cable")
            ip("-n", name, "link", "set", "cable", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield tuple(zip(names, addresses, strict=True))
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def host_command(host, master, nodes, train):
    """torchrun on one of the hosts. They share this machine's name, so each is told its address."""
    name, address = host
    meeting = (f"--rdzv-endpoint={master}:29400", f"--rdzv-conf=is_host={int(address == master)},last_call_timeout=2")
    options = (f"--nnodes={nodes}", "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=test", *meeting)
    more = ("--max-restarts=3", "--monitor-interval=0.1", f"--local-addr={address}")
    return ["ip", "netns", "exec", name, *TORCHRUN, *options, *more, "-m", "--", "segstream.cli.main", "train", *train]


@pytest.mark.skipif(not CAN_NAME_SPACES, reason="needs root and ip (iproute2) to make network name spaces")
def test_two_hosts_are_as_one_with_two_processes(place, undisturbed, tmp_path, two_hosts):
    """Though these two look at their weights in between, each at a share of the images."""
    run = tmp_path / "run"
    looking = ("train.validate_every=12", f"validate.data=[{place}/shards/camvid-11/val]")
    train = (*training(place, run), *looking)
    commands = [host_command(host, two_hosts[0][1], "2", train) for host in two_hosts]
    processes = [begin(command, GLOO_SOCKET_IFNAME="cable") for command in commands]
    outputs = [process.communicate(timeout=280)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    assert sum(f"step {STEPS} of {STEPS}" in out for out in outputs) == 1
    assert_same(run, undisturbed)
    rows = json.loads((run / "validation.json").read_text())
    assert [(row["step"], row["sets"]["camvid-11"]["images"]) for row in rows] == [(12, 2), (24, 2)]


@pytest.mark.soak
@pytest.mark.skipif(not CAN_NAME_SPACES, reason="needs root and ip (iproute2) to make network name spaces")
def test_when_a_host_is_lost_the_other_goes_on_with_the_same_global_batches(place, undisturbed, tmp_path, two_hosts):
    """What it makes is that of two processes up to a checkpoint, and of one from there: rounding differs, no sample."""
    run = tmp_path / "run"
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "cable"}
    survivor, lost = (
        subprocess.Popen(
            host_command(host, two_hosts[0][1], "1:2", training(place, run)),
            env=environment,
            stdout=(tmp_path / host[0]).open("w"),
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        for host in two_hosts
    )
    wait_until((run / "checkpoints" / "step-00000008.pt").exists, survivor)
    inside = subprocess.run(["ip", "netns", "pids", two_hosts[1][0]], check=True, capture_output=True, text=True)
    for pid in inside.stdout.split():  # all at once, as when a machine dies
        os.kill(int(pid), signal.SIGKILL)
    assert survivor.wait(timeout=280) == 0, (tmp_path / two_hosts[0][0]).read_text()
    lost.wait(timeout=10)
    starts = re.findall(r'"world_size": (\d)', (run / "run.json").read_text())
    assert starts == ["2", "1"]
    assert "going on from" in (tmp_path / two_hosts[0][0]).read_text()
    final = load_final(run / "final.pt")
    assert final.step == STEPS
    expected = load_final(undisturbed / "final.pt")
    assert final.identity == expected.identity  # the same samples in the same steps
